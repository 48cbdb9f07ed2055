"""check_op passes right ops and fails each kind of wrong one."""

import numba
import numpy as np
import pytest

from nbkeras import KerasTensor, autodiff, layers, ops
from nbkeras.engine.tensor import Tensor, apply
from nbkeras.kernels.runtime import device
from nbkeras.testing import check_layer, check_op

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
    # launches are checked on the CPU
    with pytest.raises(AssertionError, match=on_cpu if device.gpu() is None else on_gpu):
        check_op(op_with(forward=forward), X)


@pytest.mark.cpu("NumPy cannot compute on arrays of a GPU")
def test_numpy_outside_a_launch():
    def forward(x):
        return x * 2, None

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


# -------------------- rules, for derivatives of higher order --------------------


def op_with_rule(forward, vjp, rule):
    """A function of tensors that applies an op with a rule; `forward` gets no other rule by it."""

    def own_op(*arrays):
        return forward(*arrays)

    autodiff.define(own_op, rule)
    return lambda *tensors: apply(own_op, vjp, tensors)


def squared(x):
    y = device.empty(x.shape, x.dtype)
    device.launch(np.multiply, x, x, y)
    return y, x


def squared_vjp(x, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(np.multiply, x, dy, dx)
    device.launch(np.multiply, dx, dx.dtype.type(2), dx)
    return (dx,)


def flipped(x):
    y = device.empty(x.shape, x.dtype)
    device.launch(device.copy, x[:, ::-1], y)
    return y, None


def flipped_vjp(saved, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(device.copy, dy[:, ::-1], dx)
    return (dx,)


def multiplied(x, y):
    z = device.empty(x.shape, x.dtype)
    device.launch(np.multiply, x, y, z)
    return z, (x, y)


def multiplied_vjp(saved, dy, needs):
    (x, y), (dx, dy_) = saved, (device.output(need, dy.shape, dy.dtype) for need in needs)
    device.launch(np.multiply, y, dy, dx)
    device.launch(np.multiply, x, dy, dy_)
    return tuple(None if need is False else found for need, found in zip(needs, (dx, dy_), strict=True))


def gradient_of_square(record, dys, needs):
    return (2 * record.call.inputs[0] * dys[0],)


SQUARE, FLIP, PRODUCT = (squared, squared_vjp), (flipped, flipped_vjp), (multiplied, multiplied_vjp)
RIGHT = {
    "slope": (SQUARE, autodiff.Elementwise(lambda x, y: 2 * x)),
    "linear": (FLIP, autodiff.Linear()),
    "transpose": (FLIP, autodiff.Linear(lambda call, dys, needs: (ops.flip(dys[0], 1),))),
    "multilinear": (PRODUCT, autodiff.Multilinear()),
    "composition": (SQUARE, autodiff.Composed(lambda x: x * x)),
    "explicit": (SQUARE, autodiff.Explicit(gradient_of_square)),
}
BY_RULES, FORWARDS = "the gradient of input 0 by rules differs", "the forward derivative along a random direction"
SECOND = "in the gradient: the gradient of input 0 is wrong"
WRONG = {
    "slope": (SQUARE, autodiff.Elementwise(lambda x, y: 2.001 * x), BY_RULES),
    "slope of a constant": (SQUARE, autodiff.Elementwise(lambda x, y: ops.stop_gradient(2 * x)), SECOND),
    "not linear": (SQUARE, autodiff.Linear(), FORWARDS),
    "transpose": (FLIP, autodiff.Linear(lambda call, dys, needs: dys), BY_RULES),
    "one transpose of two": (
        PRODUCT,
        autodiff.Multilinear(lambda call, dys, needs: [dys[0] * call.inputs[1], dys[0]]),
        "the gradient of input 1 by rules differs",
    ),
    "multilinear": (SQUARE, autodiff.Multilinear(), FORWARDS),
    "composition": (SQUARE, autodiff.Composed(lambda x: x * x + 1e-3 * x), BY_RULES),
    "explicit": (SQUARE, autodiff.Explicit(lambda *given: [-each for each in gradient_of_square(*given)]), BY_RULES),
    "tangent": (SQUARE, autodiff.Explicit(gradient_of_square, lambda record, tangents: tangents), FORWARDS),
    "gradient of a constant": (
        SQUARE,
        autodiff.Explicit(lambda *given: [ops.stop_gradient(each) for each in gradient_of_square(*given)]),
        FORWARDS,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_pass(name):
    (forward, vjp), rule = RIGHT[name]
    check_op(op_with_rule(forward, vjp, rule), *[X] * (1 + (forward is multiplied)), order=3)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_fail(name):
    (forward, vjp), rule, message = WRONG[name]
    with pytest.raises(AssertionError, match=message):
        check_op(op_with_rule(forward, vjp, rule), *[X] * (1 + (forward is multiplied)), order=2)


@pytest.mark.cpu("the kernel has no twin")
def test_a_kernel_of_numbas_decorator_is_refused():
    @numba.njit
    def twice(x, y):
        for i in range(x.size):
            y.flat[i] = x.flat[i] * 2

    def forward(x):
        y = device.empty(x.shape, x.dtype)
        device.launch(twice, x, y)
        return y, None

    with pytest.raises(
        AssertionError, match="'twice' .*is compiled by Numba's decorator: use @compiled of nbkeras.kernels"
    ):
        check_op(op_with(forward), X)


def test_without_a_rule_a_second_derivative_names_the_op():
    check_op(op_with(), X)
    with pytest.raises(NotImplementedError, match="the op 'doubled' has only a first derivative.* give it a rule"):
        check_op(op_with(), X, order=2)


class Doubles(layers.Layer):
    def call(self, x):
        return 2 * x


class OtherShape(Doubles):
    def compute_output_spec(self, x):
        return x

    def compute_output_shape(self, shape):
        return (*shape, 1)


class OtherSpec(Doubles):
    def compute_output_spec(self, x):
        return KerasTensor((None, 7), x.dtype)


class OtherWeights(layers.Dense):
    def get_config(self):
        return {**super().get_config(), "use_bias": False}


class OtherOutput(layers.Layer):
    """Its copy computes something else, since its name is another one."""

    def call(self, x):
        return x if self.name == "copy" else ops.expand_dims(x, 1)

    def get_config(self):
        return {**super().get_config(), "name": "copy"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (OtherShape, r"compute_output_shape gives \(None, 3, 1\), calling it \[\(None, 3\)\]"),
        (OtherSpec, r"the symbolic output is \(None, 7\) float32, the real one \(2, 3\) float32"),
        (lambda: OtherWeights(2), r"from_config gives weights \[\(3, 2\)\], not \[\(3, 2\), \(2,\)\]"),
        (lambda: OtherOutput(name="own"), r"from_config gives an output of shape \(2, 3\), not \(2, 1, 3\)"),
    ],
)
def test_wrong_layers_fail(make, message):
    known = {each.__name__: each for each in (OtherShape, OtherSpec, OtherWeights, OtherOutput)}
    with pytest.raises(AssertionError, match=message):
        check_layer(make, X[:2, :3], custom_objects=known)
