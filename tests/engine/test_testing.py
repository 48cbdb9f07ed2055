"""check_op passes right ops and fails each kind of wrong one."""

import numpy as np
import pytest

from nbkeras import ops
from nbkeras.engine.tensor import Tensor, apply
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_op

X = np.array([[0.5, -1.25, 2.0], [1.5, 0.75, -0.5]])


def doubled(x):
    y = device.empty(x.shape, x.dtype)
    device.launch(np.multiply, x, x.dtype.type(2), y)
    return y, None


def doubled_vjp(saved, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(np.multiply, dy, dy.dtype.type(2), dx)
    return (dx,)


def op_with(forward=doubled, vjp=doubled_vjp):
    return lambda x: apply(forward, vjp, [x])


def test_right_op_passes():
    check_op(op_with(), X)


def test_several_inputs_and_outputs_and_integers():
    check_op(lambda x, i, y: {"a": ops.take(x, i, axis=1), "b": [x * y, i]}, X, np.array([2, 0, 2]), np.array([3.0]))


def test_wrong_gradient():
    def vjp(saved, dy, needs):
        (dx,) = doubled_vjp(saved, dy, needs)
        device.launch(np.multiply, dx, dx.dtype.type(1.001), dx)
        return (dx,)

    with pytest.raises(AssertionError, match="gradient of input 0 is wrong"):
        check_op(op_with(vjp=vjp), X)


def test_missing_gradient():
    with pytest.raises(AssertionError, match="gradient of input 0 is wrong"):
        check_op(op_with(vjp=None), X)


def test_gradient_of_the_second_input_only_when_alone():
    def vjp(saved, dy, needs):
        return dy, dy if needs[0] else device.persistent(np.zeros(dy.shape))

    def forward(x, y):
        z = device.empty(x.shape, x.dtype)
        device.launch(np.add, x, y, z)
        return z, None

    with pytest.raises(AssertionError, match="the gradient of input 1 alone differs"):
        check_op(lambda x, y: apply(forward, vjp, [x, y]), X, X)


def test_destination_ignored_halfway():
    def vjp(saved, dy, needs):
        if isinstance(needs[0], device.ARRAYS):
            device.launch(device.fill, needs[0], 7)
            return (needs[0],)
        return doubled_vjp(saved, dy, needs)

    with pytest.raises(AssertionError, match="the gradient of input 0, written to a destination, differs"):
        check_op(op_with(vjp=vjp), X)


def test_input_changed():
    def forward(x):
        y, _ = doubled(x)
        device.launch(np.add, x, x.dtype.type(1e-9), x)
        return y, None

    on_cpu, on_gpu = "the kernel 'add' changed input 0 of 'forward'", "output 0 of a second call differs"
    with pytest.raises(
        AssertionError, match=on_cpu if device.gpu() is None else on_gpu
    ):  # launches are checked on the CPU
        check_op(op_with(forward=forward), X)


@pytest.mark.cpu("NumPy cannot compute on arrays of a GPU")
def test_numpy_outside_a_launch():
    def forward(x):
        return x * 2, None

    with pytest.raises(AssertionError, match="used numpy.multiply on an array while a step is recorded"):
        check_op(op_with(forward=forward), X)


@pytest.mark.cpu("NumPy cannot compute on arrays of a GPU")
def test_stale_on_replay():
    def forward(x):
        y = device.empty(x.shape, x.dtype)
        np.multiply(x, 2, out=y)
        return y, None

    with pytest.raises(AssertionError, match="used numpy.multiply on an array while a step is recorded"):
        check_op(op_with(forward=forward), X)


def test_value_read():
    with pytest.raises(AssertionError, match="cannot be recorded"):
        check_op(lambda x: x * float(ops.sum(x)), X, wrt=[])


def test_float64_creep():
    def forward(x):
        y = device.empty(x.shape, np.float64)
        device.launch(np.multiply, x, 2.0, y)
        return y, None

    with pytest.raises(AssertionError, match="output 0 of float32 inputs has dtype float64"):
        check_op(op_with(forward=forward), X)


def test_not_the_same_twice():
    calls = []

    def forward(x):
        calls.append(1)
        y = device.empty(x.shape, x.dtype)
        device.launch(np.multiply, x, x.dtype.type(len(calls)), y)
        return y, None

    with pytest.raises(AssertionError, match="output 0 of a second call differs"):
        check_op(op_with(forward=forward), X, wrt=[])


def test_no_float_output():
    check_op(lambda x: ops.greater(x, 0), X, wrt=[])
    with pytest.raises(AssertionError, match="no float output"):
        check_op(lambda x: Tensor(ops.greater(x, 0).data), X)
