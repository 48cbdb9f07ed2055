"""Loops and choices of keras.ops, and gradients of your own."""

import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building.inputs import Input
from nbkeras.engine.tensor import Variable
from nbkeras.models import Model
from nbkeras.testing import check_op

RNG = np.random.default_rng(31)
X = RNG.standard_normal((5, 3))
Y = RNG.standard_normal((5, 3))


def pairs(left, right):
    """Composition of x -> a x + b, which is associative and not commutative."""
    (a, b), (c, d) = left, right
    return a * c, b * c + d


def test_choices_run_one_branch():
    x = Variable(2.0)
    for first in (True, False):
        with GradientTape() as tape:
            y = ops.cond(ops.convert_to_tensor(first), lambda: x * x, lambda: x * 5)
        assert y == (4 if first else 10) and tape.gradient(y, x) == (4 if first else 5)
    assert ops.cond(True, lambda: 1, lambda: 2) == 1
    for index, want in ((0, 3), (1, 2), (7, 2), (ops.convert_to_tensor(-1), 3)):
        assert ops.switch(index, [lambda a, b: a + b, lambda a, b: a * b], 1, 2) == want


def test_while_loop():
    values = ops.while_loop(
        lambda i, total: i < 5, lambda i, total: (i + 1, total * 2.0), (ops.convert_to_tensor(0), 1.0)
    )
    assert values[0] == 5 and values[1] == 32
    assert ops.while_loop(lambda x: x < 100, lambda x: x * 3, 1) == 243
    assert ops.while_loop(lambda x: True, lambda x: x * 3, 1, maximum_iterations=3) == 27
    symbol = Input((3,))
    # its shape is worked out; the loop does not run
    assert ops.while_loop(lambda x: True, lambda x: x * 3, symbol).shape == (None, 3)
    x = Variable(1.5)
    with GradientTape() as tape:
        y = ops.while_loop(lambda y: y < 50, lambda y: y * x, x)
    np.testing.assert_allclose(tape.gradient(y, x), 10 * 1.5**9, rtol=1e-6)


def test_loops_have_gradients():
    check_op(lambda x: ops.fori_loop(1, 4, lambda i, y: y * x + i, x), X)
    assert ops.fori_loop(ops.convert_to_tensor(0), 4, lambda i, y: y + i, 0) == 6

    def step(carry, x):
        return carry * 0.5 + x, {"y": carry * x}

    check_op(lambda x: ops.scan(step, x[0], x), X)
    check_op(lambda x: ops.scan(step, x[0], x, reverse=True), X)
    carry, ys = ops.scan(lambda c, _: (c + 1, c), ops.convert_to_tensor(0), length=4)
    assert carry == 4 and ys.numpy().tolist() == [0, 1, 2, 3]
    assert ops.scan(lambda c, x: (c + x, None), 0.0, np.ones(3))[1] is None
    carry, ys = ops.scan(lambda c, x: (c + x, c), 0, ops.convert_to_tensor([1, 2, 3]), reverse=True)
    assert ys.numpy().tolist() == [5, 3, 0]
    for loop in (ops.map, ops.vectorized_map):
        check_op(lambda x, y, loop=loop: loop(lambda pair: (pair[0] @ pair[1], pair[0] * 2), (x, y)), X, Y)
    np.testing.assert_allclose(ops.map(lambda x: ops.sum(x), X), X.sum(1))


def test_numbers_among_the_loop_variables_of_a_model():
    x = Input((3,))
    count, y = ops.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (0, x))
    count, y = Model(x, [count, y]).predict(np.ones((2, 3), "float32"), verbose=0)
    assert np.all(count == 3) and np.all(y == 8)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n, reverse):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, 2, n))
    wanted, order = [None] * n, range(n)[::-1] if reverse else range(n)
    total = None
    for i in order:
        this = (a[:, i], b[:, i])
        total = this if total is None else pairs(this, total) if reverse else pairs(total, this)
        wanted[i] = total
    received = ops.associative_scan(pairs, (ops.convert_to_tensor(a), ops.convert_to_tensor(b)), reverse, axis=1)
    np.testing.assert_allclose(received[0], np.stack([w[0] for w in wanted], 1))
    np.testing.assert_allclose(received[1], np.stack([w[1] for w in wanted], 1))
    check_op(lambda a, b: ops.associative_scan(pairs, (a, b), reverse, axis=1), a, b)


def test_vectorize_maps_over_leading_axes():
    function = ops.vectorize(lambda x, y: x * y + 1)
    np.testing.assert_allclose(function(X[:, :1], Y[0]), X[:, :1] * Y[0] + 1)
    inner = ops.vectorize(lambda x, y: ops.sum(x * y), signature="(n),(n)->()")
    np.testing.assert_allclose(inner(X, Y[0]), X @ Y[0])
    check_op(inner, X, Y)
    scaled = ops.vectorize(lambda x, factor: x * factor, excluded={1})
    np.testing.assert_allclose(scaled(X[0], 3.0), X[0] * 3)


def test_custom_gradient():
    @ops.custom_gradient
    def log1pexp(x):
        e = ops.exp(x)

        def grad(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            return ops.multiply(upstream, 1.0 - 1.0 / ops.add(1, e))

        return ops.log(1 + e), grad

    check_op(log1pexp, X)

    @ops.custom_gradient
    def swapped(x, y):
        return (x * 2, y * 3), lambda dx, dy: (dx * 20, dy * 30)

    x, y = Variable(1.0), Variable(1.0)
    with GradientTape() as tape:
        first, _ = swapped(x, y)
    assert [g.item() for g in tape.gradient(first, [x, y])] == [20, 0]

    wrong = ops.custom_gradient(lambda x, y: (x * y, lambda dy: dy))
    with GradientTape() as tape:
        z = wrong(x, y)
    with pytest.raises(ValueError, match="a gradient for each of 2"):
        tape.gradient(z, x)


def test_in_a_model():
    inputs = Input((4, 3))
    steps = ops.moveaxis(inputs, 1, 0)
    summed = ops.scan(lambda c, x: (c + x, x), 0.0, steps)[0]
    grown = ops.while_loop(lambda x: ops.max(x) < 50, lambda x: x * 2, inputs)
    model = Model(inputs, [summed, grown])
    x = np.abs(RNG.standard_normal((2, 4, 3))).astype(np.float32)
    for inputs in (x, x * 3):  # the number of iterations differs
        received = model.predict(inputs, verbose=0)
        np.testing.assert_allclose(received[0], inputs.sum(1), rtol=1e-6)
        assert 50 <= received[1].max() < 100


def test_lists_within_lists_are_no_structure_of_tensors():
    deep: list = []
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(ValueError, match="a list is nested too deeply, or contains itself"):
        ops.jvp(ops.sum, deep, deep)


ERRORS = [
    (lambda: ops.switch(0, abs, 1), TypeError, "branches must be a list of functions, received <built-in function abs>"),
    (lambda: ops.switch(0, []), ValueError, "at least one branch"),
    (lambda: ops.map(lambda pair: pair[0], (X, Y[:2])), ValueError, "same first axis"),
    (lambda: ops.scan(3, X[0], X), TypeError, "scan: f must be a function, received 3"),
    (lambda: ops.scan(lambda c, x: (c, x), X[0]), ValueError, "give xs, or a length"),
    (lambda: ops.scan(lambda c, x: (c, x), X[0], length=-1), ValueError, "scan: length must be an integer of at least 0"),
    (lambda: ops.scan(lambda c, x: 0, 0, X), ValueError, r"scan: f must return a pair \(carry, result\), received 0"),
    (lambda: ops.scan(lambda c, x: (c, x), 0.0, X[:0]), ValueError, "scan: there is nothing along the first axis"),
    (
        lambda: ops.scan(lambda c, row: (c + row, None), np.zeros(3, "float32"), Input((3,))),
        TypeError,
        "must return tensors only, received None among its outputs",
    ),
    (lambda: ops.vectorize(len, excluded=1), TypeError, "vectorize: excluded must be a set of positions or names, received 1"),
    (lambda: ops.vectorize(abs, signature="n->n"), ValueError, "a signature looks like"),
    (lambda: ops.vectorize(len, signature="(n)->()")(X, Y), ValueError, r"'\(n\)->\(\)' is for 1 arguments, received 2"),
    (lambda: ops.associative_scan(pairs, [X, Y[:3]]), ValueError, r"must have the same size along axis 0, received \[3, 5\]"),
]  # fmt: skip

test_mistakes_are_explained = mistakes(ERRORS)
