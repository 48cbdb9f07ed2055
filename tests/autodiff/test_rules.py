"""Ops of a user's own, each made of two Numba loops, with each kind of rule; and what `define` and derivatives refuse."""

import numpy as np
import pytest

from nbkeras import GradientTape, autodiff, ops
from nbkeras.kernels import compiled, device
from nbkeras.tensor import apply, as_tensor
from nbkeras.testing import check_op

X = np.array([0.7, -1.3, 2.4])


@compiled
def wave_forward(x, y):
    """Kernel: x + sin(x)^2."""
    for i in range(x.size):
        s = np.sin(x[i])
        y[i] = x[i] + s * s


@compiled
def wave_backward(x, dy, dx):
    """Kernel: dy (1 + sin(2 x))."""
    one, two = x.dtype.type(1), x.dtype.type(2)
    for i in range(x.size):
        dx[i] = dy[i] * (one + np.sin(two * x[i]))


def wave_op(x):
    y = device.empty(x.shape, x.dtype)
    device.launch(wave_forward, x, y)
    return y, x


def wave_vjp(x, dy, needs):
    dx = device.output(needs[0], x.shape, x.dtype)
    device.launch(wave_backward, x, dy, dx)
    return (dx,)


@compiled
def differences_forward(x, y):
    """Kernel: y[i] = x[i + 1] - x[i]."""
    for i in range(y.size):
        y[i] = x[i + 1] - x[i]


@compiled
def differences_backward(dy, dx):
    """Kernel: the transposed map."""
    for i in range(dx.size):
        before = dy[i - 1] if i > 0 else dy.dtype.type(0)
        dx[i] = before - dy[i] if i < dy.size else before


def differences_op(x):
    y = device.empty((x.size - 1,), x.dtype)
    device.launch(differences_forward, x, y)
    return y, x.shape


def differences_vjp(shape, dy, needs):
    dx = device.output(needs[0], shape, dy.dtype)
    device.launch(differences_backward, dy, dx)
    return (dx,)


@compiled
def convolve_forward(x, w, y):
    """Kernel: y[i + j] += x[i] w[j]."""
    y.fill(0)
    for i in range(x.size):
        for j in range(w.size):
            y[i + j] += x[i] * w[j]


@compiled
def convolve_backward(dy, w, dx):
    """Kernel: dx[i] = sum of w[j] dy[i + j]."""
    dx.fill(0)
    for i in range(dx.size):
        for j in range(w.size):
            dx[i] += w[j] * dy[i + j]


def convolve_op(x, w):
    y = device.empty((x.size + w.size - 1,), x.dtype)
    device.launch(convolve_forward, x, w, y)
    return y, (x, w)


def convolve_vjp(saved, dy, needs):
    x, w = saved
    found = []
    for need, like, other in ((needs[0], x, w), (needs[1], w, x)):
        into = None if need is False else device.output(need, like.shape, like.dtype)
        if into is not None:
            device.launch(convolve_backward, dy, other, into)
        found.append(into)
    return tuple(found)


def with_rule(op, vjp, rule):
    """The op as a function of tensors, under another name with the rule."""

    def own_op(*arrays):
        return op(*arrays)

    if rule is not None:
        autodiff.define(own_op, rule)
    return lambda *tensors: apply(own_op, vjp, [as_tensor(x) for x in tensors])


def wave_gradient(record, dys, needs):
    (x,) = record.call.inputs
    return (dys[0] * (1 + ops.sin(2 * x)),)


WAVE, DIFFERENCES, CONVOLVE = (wave_op, wave_vjp), (differences_op, differences_vjp), (convolve_op, convolve_vjp)
KINDS = {
    "Elementwise": (WAVE, autodiff.Elementwise(lambda x, y: 1 + ops.sin(2 * x)), X),
    "Composed": (WAVE, autodiff.Composed(lambda x: x + ops.sin(x) ** 2), X),
    "Explicit": (WAVE, autodiff.Explicit(wave_gradient), X),
    "Linear": (DIFFERENCES, autodiff.Linear(), X),
    "Multilinear": (CONVOLVE, autodiff.Multilinear(), X, X[:2] + 1),
}


@pytest.mark.cpu("its kernels have no twins")
@pytest.mark.parametrize("name", KINDS)
def test_own_loops_with_each_kind_of_rule(name):
    (op, vjp), rule, *arrays = KINDS[name]
    check_op(with_rule(op, vjp, rule), *arrays, order=3)


@pytest.mark.cpu("its kernels have no twins")
def test_own_loops_inside_other_ops():
    wave = with_rule(*KINDS["Elementwise"][0], KINDS["Elementwise"][1])
    convolve = with_rule(*KINDS["Multilinear"][0], KINDS["Multilinear"][1])
    check_op(lambda x, w: ops.sum(ops.exp(0.1 * convolve(wave(x), w))), X, X[:2] + 1, order=2)
    found = autodiff.hessian(lambda x: ops.sum(wave(x)))(X)
    np.testing.assert_allclose(found, np.diag(2 * np.cos(2 * X)), atol=1e-12)


@pytest.mark.cpu("its kernels have no twins")
def test_without_a_rule_the_first_derivative_works_and_the_second_names_the_op():
    wave = with_rule(*WAVE, None)
    np.testing.assert_allclose(autodiff.grad(lambda x: ops.sum(wave(x)))(X), 1 + np.sin(2 * X))
    message = "the op 'own_op' has only a first derivative.*autodiff.define"
    with pytest.raises(NotImplementedError, match=message):
        autodiff.grad(lambda x: ops.sum(autodiff.grad(lambda z: ops.sum(wave(z)))(x)))(X)
    with pytest.raises(NotImplementedError, match=message):
        autodiff.jvp(wave, (X,), (X,))
    x = as_tensor(X)
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(x)
            y = wave(x)
        with pytest.raises(NotImplementedError, match=message):
            inner.gradient(y, x)


@pytest.mark.cpu("its kernels have no twins")
def test_a_tape_around_an_op_without_a_rule_differentiates_once():
    """Where only one of two tapes goes through the op, no rule is needed."""
    x, w = as_tensor(X), as_tensor(2.0)
    wave = with_rule(*WAVE, None)
    with GradientTape() as outer:
        outer.watch(x)
        with GradientTape() as inner:
            inner.watch(w)
            y = w * w
        slope = inner.gradient(y, w)
        z = wave(x) * slope
    np.testing.assert_allclose(outer.gradient(z, x), 4 * (1 + np.sin(2 * X)))


def test_what_is_no_rule_is_refused():
    with pytest.raises(TypeError, match="define: expected a rule, such as .* received <function"):
        autodiff.define(wave_op, lambda x: x)


def test_a_function_of_tensors_gets_no_rule():
    with pytest.raises(TypeError, match="define: 'sinh' is a function of tensors. Pass the function of arrays"):
        autodiff.define(ops.sinh, autodiff.Linear())


@pytest.mark.cpu("its kernels have no twins")
@pytest.mark.parametrize(
    ("returned", "received"), [(lambda dy: dy, "Tensor of shape"), (lambda dy: (dy, dy), "2 in a tuple")]
)
def test_an_explicit_gradient_returns_one_entry_for_each_input(returned, received):
    wave = with_rule(*WAVE, autodiff.Explicit(lambda record, dys, needs: returned(dys[0])))
    with pytest.raises(
        TypeError, match=f"'own_op': .* a tuple with an entry for each of 1 inputs, received {received}"
    ):
        autodiff.hessian(lambda x: ops.sum(wave(x)))(X)


@pytest.mark.cpu("its kernels have no twins")
def test_an_explicit_gradient_of_the_result():
    def gradient(record, dys, needs):
        (x,), (y,) = record.call.inputs, record.call.results(record)
        return (dys[0] * (1 + ops.sin(2 * x)) + 0 * y,)

    check_op(with_rule(*WAVE, autodiff.Explicit(gradient)), X, order=3)
