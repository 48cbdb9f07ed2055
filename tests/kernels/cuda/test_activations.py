"""Twins of the activations against the CPU's kernels; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import activations
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

NONE = float("nan")
CASES = [
    *(("relu", {}), ("piecewise", {"negative_slope": 0.2, "threshold": 0.0, "max_value": NONE})),
    ("piecewise", {"negative_slope": 0.0, "threshold": -1.0, "max_value": 6.0}),
    ("piecewise", {"negative_slope": 0.1, "threshold": 1.0, "max_value": 2.0}),
    *(("elu", {"alpha": 1.0, "scale": 1.0}), ("elu", {"alpha": 1.6732632423543772, "scale": 1.0507009873554805})),
    *(("sigmoid", {}), ("tanh", {}), ("silu", {}), ("gelu", {}), ("gelu_tanh", {}), ("mish", {}), ("hard_silu", {})),
    ("softplus", {}),
]
FAR = [0.0, -0.0, 1.0, 2.0, 6.0, -1.0, 1e-6, -1e-6, 20.0, -20.0, 90.0, -90.0, 1000.0, -1000.0, 1e38, -1e38]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, constants", CASES)
def test_activations(name, constants, dtype):
    op, vjp = getattr(activations, name), getattr(activations, name + "_vjp")
    near = np.random.default_rng(0).standard_normal((5, 9)).astype(dtype) * 2
    for x in (near, np.array(FAR, dtype), near[:1, :1].copy(), near[:0].copy()):
        twins.check(op, vjp, [x], constants)
        twins.check(op, vjp, [np.array([np.nan, 1, np.inf, -np.inf], dtype)], constants)


@pytest.mark.parametrize("name, constants", CASES)
def test_what_begins_between_16_bytes(name, constants):
    """Rows of a matrix of 7 columns begin at any multiple of 4 bytes."""
    x = np.random.default_rng(0).standard_normal((4, 7)).astype(np.float32)
    op, vjp = getattr(activations, name), getattr(activations, name + "_vjp")
    with device.on(twins.gpu()):
        there, destination = device.persistent(x.copy()), device.persistent(np.zeros_like(x))
        y, saved = op(there[1], **constants)
        (dx,) = vjp(saved, there[2], (destination[3],))
    with device.on(None):
        want, saved = op(x[1], **constants)
        (want_dx,) = vjp(saved, x[2], (True,))
    np.testing.assert_allclose(y.copy(), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dx.copy(), want_dx, rtol=1e-5, atol=1e-6)
