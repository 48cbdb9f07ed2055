"""Layers, models and promotion in 16 bits against Keras 3 on JAX: scripts/make_precision_references.py wrote its results."""

from pathlib import Path

import numpy as np
import precision_cases as cases
import pytest
from made_models import compiled, reloaded

import nbkeras as keras
from nbkeras import layers, ops

FOLDER = Path(cases.__file__).parent
RESULTS = np.load(FOLDER / "precision.npz")
BITS = {"bfloat16": 8, "float16": 11}  # of the significand, with the hidden one


@pytest.fixture(autouse=True)
def policy_as_before():
    yield
    keras.config.set_dtype_policy(None)


def of(*path):
    """The stored results below a path, by name."""
    start = "/".join(path) + "/"
    return {key[len(start) :]: RESULTS[key] for key in RESULTS.files if key.startswith(start)}


def rounded(value, dtype):
    """An array in 16 bits, as float32."""
    return np.asarray(ops.cast(value, dtype), np.float32)


def check_units(what, got, expected, dtype, exact=None):
    """Fail if values differ by more than two units in the last place of the largest value.

    JAX also rounds inside of sums and of recurrences. So a larger difference is allowed if `exact`, nbkeras's results in float32,
    is given, and nbkeras is not further from it than Keras, or than one unit.
    """
    unit = 2.0 ** (np.floor(np.log2(np.abs(expected).max())) + 1 - BITS[dtype])
    difference = np.abs(np.asarray(got, np.float32) - expected).max()
    if difference > 2 * unit and exact is not None:
        ours, theirs = (np.abs(np.asarray(each, np.float32) - exact).max() for each in (got, expected))
        unit = max(unit, 2.0 ** (np.floor(np.log2(np.abs(exact).max())) + 1 - BITS[dtype]))
        assert ours <= max(theirs, unit), (
            f"{what}: {ours / unit:.2f} units from the exact values, Keras {theirs / unit:.2f}"
        )
        return
    assert difference <= 2 * unit, f"{what}: {difference / unit:.2f} units"


def computed(name, policy, dtype=None):
    """nbkeras's results for a layer, in the form of the stored ones. dtype: to which inputs and weights are rounded."""
    layer = cases.LAYERS[name][1](layers, policy)
    arrays = [a if dtype is None or a.dtype.kind == "i" else rounded(a, dtype) for a in cases.inputs_of(name)[:1]]
    given = [ops.convert_to_tensor(a) for a in arrays] * len(cases.inputs_of(name))
    layer(*given)
    weights = cases.weights_like(layer.get_weights())
    layer.set_weights(weights if dtype is None else [rounded(w, dtype) for w in weights])
    with keras.GradientTape() as tape:
        if arrays[0].dtype.kind == "f":
            tape.watch(given[0])
        y = layer(*given, training=True) if name == "batch_normalization" else layer(*given)
        loss = ops.sum(ops.cast(y, "float32") * cases.numbers(6, *y.shape))
    *by_weights, by_input = tape.gradient(loss, [*layer.trainable_weights, given[0]])
    found = {"y": y.numpy(), "dtypes": [y.dtype.name, *(v.dtype.name for v in layer.weights)]}
    found |= {f"dw{i}": np.asarray(g, np.float32) for i, g in enumerate(by_weights)}
    return found if by_input is None else {**found, "dx": np.asarray(by_input, np.float32)}


@pytest.mark.parametrize("policy", cases.POLICIES)
@pytest.mark.parametrize("name", cases.LAYERS)
def test_layer_as_keras(name, policy):
    dtype = policy.removeprefix("mixed_")
    expected, got, exact = of("layer", policy, name), computed(name, policy), computed(name, "float32", dtype)
    assert list(got.pop("dtypes")) == list(expected.pop("dtypes"))
    assert got.keys() == expected.keys()
    if (
        name == "attention"
    ):  # the gradient of the key's bias is 0: both compute roundings, of numbers like the kernel's gradient
        for results in (expected, got, exact):
            results["dw3"] = np.concatenate([results["dw3"].reshape(-1), results["dw2"].reshape(-1)])
    for key, value in expected.items():
        check_units(key, got[key], value, dtype, exact[key])


@pytest.mark.parametrize("name", cases.TRAININGS)
def test_training_as_keras(name):
    policy, factor = cases.TRAININGS[name]
    keras.config.set_dtype_policy(policy)
    model = cases.network(keras, policy)
    model.set_weights(cases.weights_like(model.get_weights()))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    losses = [model.train_on_batch(x, y) for x, y in cases.batches(factor)]
    expected = of("training", name)
    dtype = policy.removeprefix("mixed_")
    assert type(model.optimizer).__name__ == str(expected["optimizer"])
    if "scale" in expected:
        assert float(model.optimizer.dynamic_scale) == expected["scale"]
    check_units("losses", losses, expected["losses"], dtype)
    for i, weight in enumerate(model.get_weights()):
        check_units(f"w{i}", weight, expected[f"w{i}"], dtype)


@pytest.mark.parametrize("policy", cases.POLICIES)
def test_files_of_keras(policy, tmp_path):
    model = keras.saving.load_model(FOLDER / f"precision_{policy}.keras")
    x, expected = cases.numbers(40, 4, 6), of("file", policy)
    assert {layer.dtype_policy.name for layer in model.layers[1:]} == {policy}
    y = model.predict(x, verbose=0)
    assert y.dtype.name == str(expected["dtype"])
    plain = cases.network(keras, "float32")
    plain.set_weights([np.asarray(w, np.float32) for w in model.get_weights()])
    check_units("y", y, expected["y"], policy.removeprefix("mixed_"), plain.predict(x, verbose=0))
    again = reloaded(model, tmp_path / "again.keras")
    assert again.get_config() == model.get_config()
    assert all(
        (a == b).all() and a.dtype == b.dtype for a, b in zip(again.get_weights(), model.get_weights(), strict=True)
    )
    assert (again.predict(x, verbose=0) == y).all()


def test_promotion_as_keras():
    kinds = {"int": int, "float": float}
    found = [[keras.backend.result_type(kinds.get(a, a), kinds.get(b, b)) for b in cases.DTYPES] for a in cases.DTYPES]
    assert found == RESULTS["promotion"].tolist()


def test_the_optimizer_of_mixed_float16_is_wrapped():
    keras.config.set_dtype_policy("mixed_float16")
    model, own = cases.network(keras, "mixed_float16"), keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    for optimizer, options, expected in (
        ("sgd", {}, True),
        (own, {}, True),
        ("sgd", {"auto_scale_loss": False}, False),
    ):
        model.compile(optimizer, "mse", **options)
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == expected
    model.compile(own, "mse")
    assert model.optimizer is own
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = compiled(cases.network(keras, "mixed_bfloat16"))
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16"])
def test_training_goes_on_from_a_file(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = compiled(cases.network(keras, policy, last=policy), keras.optimizers.SGD(0.05, momentum=0.5))
    (x, y), *_ = cases.batches(1.0)
    model.fit(x, y, epochs=2, verbose=0)
    again = reloaded(model, tmp_path / "model.keras")
    for each in (model, again):
        each.fit(x, y, epochs=2, verbose=0, shuffle=False)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        assert one.dtype == other.dtype and (one == other).all()


def test_policies_that_files_must_not_name():
    config = cases.network(keras, "mixed_bfloat16").get_config()
    for name in ("mixed_float8", "int8_from_nothing", 3, ["bfloat16"], "mixed_bfloat16" * 1000):
        config["layers"][1]["config"]["dtype"] = {"class_name": "DTypePolicy", "config": {"name": name}}
        with pytest.raises(
            (ValueError, TypeError), match="must be a dtype of numbers|policy must be a string|is not offered here"
        ):
            keras.Model.from_config(config)
