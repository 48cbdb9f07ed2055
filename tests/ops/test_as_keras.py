"""Ops are Keras's: all their names, symbolic calls, shapes. tests/parity compares their results."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.building.inputs import Input
from nbkeras.models import Model, load_model

# What is given no tensor, wraps a function, or gives NumPy arrays of complex numbers.
# All others make a node of a functional model of a symbolic tensor.
MADE_OF_NOTHING = set(
    (
        "arange bartlett blackman convert_to_numpy convert_to_tensor custom_gradient dtype empty eye hamming hanning "
        "identity is_tensor kaiser ndim ones shape tri vectorize zeros eig polar view_as_complex"
    ).split()
)


def test_all_of_keras_ops_is_there():
    known = json.loads((Path(__file__).parents[2] / "scripts" / "keras_3_names.json").read_text(encoding="utf-8"))[
        "names"
    ]
    names = {name for path in ("", ".nn", ".numpy", ".linalg") for name in known["keras.ops" + path]}
    assert {name for name in names if not callable(getattr(ops, name, None))} == set()
    assert {name for name in names if not hasattr(getattr(ops, name), "__wrapped__")} == MADE_OF_NOTHING
    assert all(hasattr(getattr(ops.image, name), "__wrapped__") for name in known["keras.ops.image"])
    assert ops.numpy.sum is ops.sum and ops.nn.relu is ops.relu and ops.linalg.det is ops.det
    with pytest.raises(AttributeError, match="'nbkeras.ops' has no attribute 'conv9d'"):
        _ = ops.nn.conv9d


SYMBOLIC = {  # one of each module that is loaded on demand
    "arctan2": lambda x: ops.arctan2(x, 2.0),
    "hypot": lambda x: ops.hypot(2.0, x),
    "rot90": lambda x: ops.rot90(x, axes=(1, 2)),
    "linspace": lambda x: ops.linspace(0.0, x, 3, axis=-1),
    "cumulative": lambda x: ops.nancumsum(x, 1),
    "segment_sum": lambda x: ops.segment_sum(ops.transpose(x, (1, 0, 2)), [0, 1, 0], 2),
    "cross": lambda x: ops.cross(x, x[:, ::-1]),
    "qr": lambda x: ops.qr(x)[1],
    "rfft": lambda x: ops.rfft(x)[0],
    "bitwise": lambda x: ops.bitwise_and(ops.cast(x * 10, "int32"), 6),
    "unfold": lambda x: ops.unfold(ops.expand_dims(x, 1), 2),
    "indices": lambda x: x[:, [0, 2], [1, 1]],
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_in_a_functional_model_and_its_file(name, tmp_path):
    inputs = Input((3, 3))
    outputs = SYMBOLIC[name](inputs)
    x = np.random.default_rng(1).standard_normal((2, 3, 3)).astype("float32")
    model = Model(inputs, outputs)
    expected = SYMBOLIC[name](ops.convert_to_tensor(x)).numpy()
    np.testing.assert_allclose(model(x), expected, rtol=1e-6)
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(load_model(tmp_path / "m.keras")(x), model(x))


@pytest.mark.process
def test_a_file_names_an_op_whose_module_was_not_imported(tmp_path):
    inputs = Input((4, 4, 3))
    path = tmp_path / "m.keras"
    Model(inputs, ops.image.resize(inputs, (2, 6))).save(path)
    program = f"from nbkeras.models import load_model; print(load_model({str(path)!r}).outputs[0].shape)"
    run = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=120)
    assert run.stdout == "(None, 2, 6, 3)\n", run.stderr
