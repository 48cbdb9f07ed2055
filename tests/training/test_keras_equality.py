"""nbkeras equals real Keras on the same weights: outputs, gradients, training steps, evaluate, fit, for each layer family.

The numbers were stored by reference/make_models.py; reference/cases.py builds the same models here.
"""

import functools
from pathlib import Path

import numpy as np
import pytest
from cases import CASES
from protocol import grouped, measure, scales

import nbkeras

FOLDER = Path(__file__).parents[1] / "reference"


@functools.cache
def family(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"models_{name}.npz", allow_pickle=False) as file:
        return dict(file)


def stored(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The stored arrays of a case, by kind and name."""
    kinds: dict[str, dict[str, np.ndarray]] = {}
    for key, value in family(CASES[name].family).items():
        case, kind, rest = key.split("/", 2)
        if case == name:
            kinds.setdefault(kind, {})[rest] = value
    return kinds


def gradients(model, xs, seeds):
    inputs = [nbkeras.engine.tensor.as_tensor(x) for x in xs]
    floats = {str(i): x for i, x in enumerate(inputs) if x.dtype.kind == "f"}
    with nbkeras.GradientTape() as tape:
        tape.watch(list(floats.values()))
        outputs = model(inputs[0] if len(inputs) == 1 else inputs, training=True)
    targets = outputs if isinstance(outputs, list | tuple) else [outputs]
    found = tape.gradient(targets, [*model.trainable_weights, *floats.values()], output_gradients=seeds)
    found = [gradient.numpy() for gradient in found]
    count = len(model.trainable_weights)
    return found[:count], dict(zip(floats, found[count:], strict=True))


def tolerance(kind: str, differences: dict[str, np.ndarray]) -> float:
    """1e-5, and 1e-4 where Keras's own backends differ by more than 1e-5 but less than 1e-4.

    A larger difference is one of meaning (see the cases), not of rounding, and allows nothing.
    """
    return 1e-4 if 1e-5 < differences.get(kind, 0) < 1e-4 else 1e-5


def compare(expected: dict, found: dict, differences: dict) -> list[str]:
    """A line for each array that is missing, or further away than the tolerance times its largest element."""
    wrong = [f"{key} is missing" for key in expected.keys() - found.keys()]
    wrong += [f"{key} is not in Keras's result" for key in found.keys() - expected.keys()]
    scale = scales(expected)
    for key in sorted(expected.keys() & found.keys()):
        a, b = expected[key], found[key]
        if a.shape != b.shape:
            wrong.append(f"{key}: expected shape {a.shape}, received {b.shape}")
            continue
        allowed = tolerance(key.split("/")[0], differences)
        error = np.max(np.abs(a - b), initial=0) / scale[key]
        if not error <= allowed:
            wrong.append(f"{key}: relative difference {error:.1e} > {allowed:.0e}: {a.ravel()[:4]} {b.ravel()[:4]}")
    return wrong


LONG = {"stacked_cells"}  # seconds of unrolled steps


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.grid if n in LONG else []) for n in CASES])
def test_equals_keras(name):
    kinds = stored(name)
    data, differences = kinds.pop("data"), kinds.pop("difference", {})
    case = CASES[name]
    expected = {f"{kind}/{key}": value for kind, values in kinds.items() for key, value in values.items()}
    shapes = [weight.shape for weight in case.build(nbkeras).get_weights()]
    assert shapes == [weight.shape for weight in grouped(data, "w")]
    wrong = compare(expected, measure(nbkeras, case, data, gradients), differences)
    assert not wrong, "\n".join([f"{name} differs from Keras:", *wrong])


def test_the_comparison_notices_a_difference():
    expected = {"outputs/0": np.float32([1.0, 2.0]), "steps/loss 0": np.float32(1.0)}
    near = {"outputs/0": np.float32([1.0, 2.00001]), "steps/loss 0": np.float32(1.0)}
    far = {"outputs/0": np.float32([1.0, 2.0001]), "steps/loss 0": np.float32(1.0)}
    assert compare(expected, near, {}) == []
    assert len(compare(expected, far, {})) == 1
    assert compare(expected, far, {"outputs": np.float32(5e-5)}) == []
    assert len(compare(expected, far, {"outputs": np.float32(0.1)})) == 1
    assert len(compare(expected, {"outputs/0": near["outputs/0"]}, {})) == 1


def test_every_case_is_stored_and_small():
    files = list(FOLDER.glob("models_*.npz"))
    assert {path.stem for path in files} == {f"models_{case.family}" for case in CASES.values()}
    assert sum(path.stat().st_size for path in files) < 2_500_000
    for name in CASES:
        assert stored(name)["outputs"]
