"""Derivatives at zeros, in tails, at huge arguments and of nothing, by all modes: tapes, transforms, recorded and eager."""

import itertools
import math

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import autodiff, ops
from nbkeras.compat.tensorflow import math as tf_math
from nbkeras.engine.tensor import as_tensor
from nbkeras.tensor import formula


def backward(function):
    return autodiff.grad(lambda x: ops.sum(function(x)))


def forward(function):
    return lambda x: autodiff.jvp(function, (x,), (ops.ones_like(x),))[1]


def by_tapes(function, order):
    """The derivative by nested tapes."""

    def derivative(x):
        if not order:
            return function(x)
        with keras.GradientTape() as tape:
            tape.watch(x)
            y = by_tapes(function, order - 1)(x)
        return tape.gradient(y, x, unconnected_gradients="zero")

    return derivative


def ways(function, order):
    """The derivative of an elementwise function, computed in all ways."""
    yield by_tapes(function, order)
    yield keras.jit(by_tapes(function, order))
    for modes in [(backward,) * order, (forward,) * order, (forward, *(backward,) * (order - 1))]:
        found = function
        for mode in modes:
            found = mode(found)
        yield found


def check(function, x, order, expected, rtol=1e-12, dtype="float64"):
    for way in ways(function, order):
        received = np.asarray(way(as_tensor(np.asarray(x), dtype)))
        assert received.dtype == dtype
        np.testing.assert_allclose(received, np.broadcast_to(expected, np.shape(x)), rtol=rtol)


# -------------------- powers --------------------


def of_power(x, n, order):
    factor = np.prod([n - i for i in range(order)])
    with np.errstate(all="ignore"):
        return factor * x ** (n - order) if factor else 0 * x


@formula
def power_of(x, n):
    return x**n


EXPONENTS = [0, 1, 2, 3, 0.0, 1.0, 3.0, -1, -2.0, 0.5, 1.5]


@pytest.mark.parametrize("n", EXPONENTS, ids=lambda n: f"x to the {n!r}")
def test_derivatives_of_powers_at_zero(n):
    x = np.array([0.0, 1e-200, 2.0])
    for order in (1, 2, 3):
        expected = of_power(x, float(n), order)
        check(lambda x: x**n, x, order, expected)
        check(lambda x: ops.power(x, as_tensor(n)), x, order, expected)
        check(lambda x: power_of(x, as_tensor(n)), x[:1] + 1e-300 * (n < 0), order, expected[:1])


def test_the_polynomial_of_a_vector_of_exponents():
    q, n = np.array([0.0, 1.0]), np.arange(4.0)
    for order, expected in enumerate([[1, 4], [1, 6], [2, 8], [6, 6], [0, 0]][1:], 1):
        check(lambda q: ops.sum(ops.expand_dims(q, -1) ** n, -1), q, order, expected)


@pytest.mark.parametrize("power", [ops.power, power_of], ids=["op", "formula"])
def test_derivatives_by_base_and_exponent(power):
    """By the exponent they are those of e^(y log x) where the base is positive, else 0."""
    x, y = np.array([[2.0], [1e-30], [0.0], [0.0]]), np.array([[0.0], [1.0], [0.0], [2.0]])
    gradient = autodiff.grad(lambda x, y: ops.sum(power(x, y)), (0, 1))
    with np.errstate(divide="ignore"):
        log = np.where(x > 0, np.log(x), 0)
    for found, expected in zip(gradient(x, y), ([[0], [1], [0], [0]], x**y * log), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    (by_x, by_xy), (_, by_y) = (
        autodiff.grad(lambda x, y, i=i: ops.sum(gradient(x, y)[i]), (0, 1))(x, y) for i in (0, 1)
    )
    np.testing.assert_array_equal(by_x, [[0], [0], [0], [2]])
    np.testing.assert_allclose(by_xy, [[0.5], [1 + math.log(1e-30)], [0], [0]], rtol=1e-12)
    np.testing.assert_allclose(by_y, x**y * log**2, rtol=1e-12)


def test_derivatives_of_roots_at_zero():
    for order, expected in ((1, [math.inf, 1 / 3]), (2, [-math.inf, -2 / 9])):
        check(ops.cbrt, [0.0, 1.0], order, expected)
    for order, expected in ((1, [math.inf, 0.5]), (2, [-math.inf, -0.25])):
        check(ops.sqrt, [0.0, 1.0], order, expected)
    for order in (1, 2):  # as that of abs
        check(lambda x: ops.hypot(x, 0.0 * x), [0.0, 1.0, -1.0], order, [0, 1, -1] if order == 1 else 0)


@pytest.mark.parametrize("function, slope", [(tf_math.xlogy, math.log(2)), (tf_math.xdivy, 0.5)])
def test_products_that_are_zero_for_a_factor_zero(function, slope):
    gradient = autodiff.grad(lambda x, y: ops.sum(function(x, y)), (0, 1))
    x, y = np.array([0.0, 0.0, 3.0]), np.array([0.0, 2.0, 2.0])
    by_x, by_y = gradient(x, y)
    np.testing.assert_allclose(by_x, [0, 0, slope])
    assert by_y.numpy()[:2].tolist() == [0, 0]


# -------------------- sinc --------------------

# Derivatives by order at these points, computed with 60 digits by mpmath
SINC_AT = [0.0, 1e-12, 1e-4, 0.3, 0.5, 0.8]
# fmt: off
SINC = {
    1: [0.0, -3.289868133696453e-12, -0.0003289868101226756, -0.9020281301388888, -1.273239544735163, -1.303611644152634],
    2: [-3.289868133696453, -3.289868133696453, -3.289868036287362, -2.458485286266174, -1.190227128238936, 0.9508018222685143],
    3: [0.0, 1.948181820680049e-11, 0.00194818179778983, 5.24749315292437, 7.141362769433615, 6.415340276791905],
    4: [19.48181820680049, 19.48181820680049, 19.48181752009393, 13.64877384985568, 4.881651205130725, -9.295411182484207],
}
# fmt: on


@formula
def sinc_in_a_formula(x):
    return -ops.sinc(x)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivatives_of_sinc(order):
    check(ops.sinc, SINC_AT, order, SINC[order], rtol=1e-13)
    check(ops.sinc, SINC_AT, order, SINC[order], rtol=3e-6, dtype="float32")
    check(sinc_in_a_formula, SINC_AT, order, np.negative(SINC[order]), rtol=1e-13)


# -------------------- tails and huge arguments --------------------


def logistic(x):
    """The small one of s and 1 - s."""
    return np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))


TAIL = np.array([-80.0, -40.0, -16.0, -3.0])
HUGE = np.array([1e8, 1e15, 1e18])
LARGE = np.array([1e8, 1e10])

TAILS = {  # name: (function, points, derivatives of order 1 and 2)
    "expm1": (ops.expm1, TAIL, np.exp(TAIL), np.exp(TAIL)),
    "elu": (ops.elu, TAIL, np.exp(TAIL), np.exp(TAIL)),
    "elu_large": (ops.elu, -50 * TAIL, 1, 0),
    "selu_large": (ops.selu, -50 * TAIL, 1.0507009873554805, 0),
    "celu_large": (ops.celu, -50 * TAIL, 1, 0),
    "crossentropy_0": (
        lambda x: ops.binary_crossentropy(ops.zeros_like(x), x, from_logits=True),
        TAIL,
        logistic(TAIL),
        logistic(TAIL) * (1 - logistic(TAIL)),
    ),
    "crossentropy_1": (
        lambda x: ops.binary_crossentropy(ops.ones_like(x), x, from_logits=True),
        -TAIL,
        -logistic(TAIL),
        logistic(TAIL) * (1 - logistic(TAIL)),
    ),
    "arcsinh": (ops.arcsinh, HUGE, 1 / HUGE, -1 / HUGE**2),
    "arccosh": (ops.arccosh, HUGE, 1 / HUGE, -1 / HUGE**2),
    "softsign": (ops.softsign, -LARGE, (1 + LARGE) ** -2, 2 * (1 + LARGE) ** -3),
    "hypot": (lambda x: ops.hypot(x, 3.0), LARGE, 1, 9 / LARGE**3),
    "arctan2": (lambda x: ops.arctan2(1.0, x), LARGE, -1 / LARGE**2, 2 / LARGE**3),
}


@pytest.mark.parametrize("name", TAILS)
def test_derivatives_in_tails(name):
    function, x, *derivatives = TAILS[name]
    for order, expected in enumerate(derivatives, 1):
        check(function, x, order, expected, rtol=1e-12)
        check(function, x, order, expected, rtol=3e-6, dtype="float32")


@pytest.mark.parametrize("dtype, huge", [("float32", 1e30), ("float64", 1e300)])
def test_slopes_at_huge_arguments(dtype, huge):
    """Where the square of the argument is infinite."""
    rtol = 1e-6 if dtype == "float32" else 1e-14
    for x, sign in (([huge], 1), ([-huge], -1)):
        check(ops.arcsinh, x, 1, 1 / huge, rtol, dtype)
        check(lambda x: ops.hypot(x, huge), x, 1, sign * 0.5**0.5, rtol, dtype)
        check(lambda x: ops.arctan2(x, huge), x, 1, 0.5 / huge, rtol, dtype)
    for x in (huge, 1 / huge):  # also where the square is 0
        slopes = autodiff.grad(lambda y, x: ops.sum(ops.arctan2(y, x)), (0, 1))(
            *(as_tensor([x], dtype) for _ in range(2))
        )
        np.testing.assert_allclose([s.numpy() * x for s in slopes], [[0.5], [-0.5]], rtol)


# -------------------- determinants --------------------


def minors(x, order):
    """The derivatives of det(x) of an order: signed determinants without some rows and columns."""
    n = len(x)
    found = np.zeros((n, n) * order)
    parity = {p: round(np.linalg.det(np.eye(order)[np.argsort(p)])) for p in itertools.permutations(range(n), order)}
    for rows in itertools.permutations(range(n), order):
        for columns in itertools.permutations(range(n), order):
            rest = np.delete(np.delete(x, rows, 0), columns, 1)
            sign = (-1) ** (sum(rows) + sum(columns)) * parity[rows] * parity[columns]
            found[tuple(i for pair in zip(rows, columns, strict=True) for i in pair)] = sign * np.linalg.det(rest)
    return found


def of_rank(n, rank):
    random = np.random.default_rng(10 * n + rank)
    return random.normal(size=(n, rank)) @ random.normal(size=(rank, n))


@pytest.mark.parametrize(
    "n, rank", [(n, rank) for n in (1, 2, 3, 5, 6) for rank in {0, 1, n - 3, n - 2, n - 1, n} if rank >= 0]
)
def test_derivatives_of_the_determinant(n, rank):
    """Also where it is 0: the matrix of cofactors, and their derivatives."""
    x, direction = of_rank(n, rank), np.random.default_rng(2).normal(size=(n, n))
    first, second = (minors(x, order) for order in (1, 2))
    scale = 1e-12 * max(1, abs(x).max()) ** n
    gradient = autodiff.grad(ops.det)
    for found in (by_tapes(ops.det, 1)(as_tensor(x)), gradient(x), jit_twice(gradient)(x)):
        np.testing.assert_allclose(found, first, rtol=1e-11, atol=scale)
    slope = (first * direction).sum()
    np.testing.assert_allclose(autodiff.jvp(ops.det, (x,), (direction,))[1], slope, rtol=1e-11, atol=scale)
    product = (second * direction).sum((2, 3))
    squares = autodiff.grad(lambda x: ops.sum(gradient(x) * direction))
    by_hand = by_tapes(lambda x: ops.sum(by_tapes(ops.det, 1)(x) * direction), 1)
    hvp = autodiff.hvp(ops.det, (x,), (direction,))[1][0]
    for found in (hvp, squares(x), by_hand(as_tensor(x)), jit_twice(squares)(x)):
        np.testing.assert_allclose(found, product, rtol=1e-11, atol=scale)


def jit_twice(function):
    recorded = keras.jit(function)

    def call(x):
        recorded(np.eye(len(x)))
        return recorded(x)

    return call


@pytest.mark.parametrize("n, rank", [(3, 1), (5, 2), (5, 4)])
def test_third_derivatives_of_the_determinant(n, rank):
    x = of_rank(n, rank)
    u, v, w = np.random.default_rng(3).normal(size=(3, n, n))
    expected = np.einsum("abcdef,ab,cd,ef", minors(x, 3), u, v, w)

    def along(function, direction):
        return lambda x: autodiff.jvp(function, (x,), (direction,))[1]

    def backward_along(function, direction):
        return lambda x: ops.sum(autodiff.grad(function)(x) * direction)

    for way in (along, backward_along):
        function = ops.det
        for direction in (u, v, w):
            function = way(function, direction)
        np.testing.assert_allclose(function(x), expected, rtol=1e-10)


def test_gradients_of_determinants_of_a_batch():
    x = np.stack([of_rank(5, rank) for rank in (5, 4, 3)])
    expected = [minors(each, 1) for each in x]
    for found in (backward(ops.det)(x), autodiff.vmap(autodiff.grad(ops.det))(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(backward(ops.det)(np.float32(x)), expected, rtol=1e-3, atol=1e-4)
    product = autodiff.hvp(lambda x: ops.sum(ops.det(x)), (x,), (x,))[1][0]
    np.testing.assert_allclose(product, 4 * np.array(expected), rtol=1e-10, atol=1e-11)  # of degree 4 in x
    x[1, 2, 3] = np.nan
    for found in (backward(ops.det)(x), autodiff.hvp(lambda x: ops.sum(ops.det(x)), (x,), (x,))[1][0]):
        assert np.isnan(found).all((1, 2)).tolist() == [False, True, False]
    for empty in (np.zeros((2, 0, 0)), np.zeros((0, 3, 3)), np.zeros((0, 5, 5))):
        assert ops.det(empty).numpy().tolist() == [1.0] * len(empty)
        for found in (backward(ops.det)(empty), autodiff.hvp(lambda x: ops.sum(ops.det(x)), (empty,), (empty,))[1][0]):
            assert found.shape == empty.shape


# -------------------- products with zeros --------------------


def partial(x, removed):
    """The derivative of the product by the elements `removed`."""
    return 0 if len(set(removed)) < len(removed) else np.prod(np.delete(x, removed))


@pytest.mark.parametrize("x", [[2, 3, -1, 0.5], [2, 0, 3, 5], [0, 2, 3, 0], [0, 0, 0, 5]], ids=str)
def test_derivatives_of_products_with_zeros(x):
    """In all orders up to the third, by all elements at once: the derivatives are contracted with a direction."""
    x, direction = np.array(x, float), np.array([1.0, -2, 0.5, 3])
    weights = np.array([1.0, 2, -1, 0.5])
    places = range(x.size)
    for order in (1, 2, 3):
        expected, running = [], []
        for first in places:
            pairs = list(itertools.product(places, repeat=order - 1))
            factor = [np.prod(direction[list(rest)]) for rest in pairs]
            expected.append(sum(f * partial(x, (first, *rest)) for f, rest in zip(factor, pairs, strict=True)))
            running.append(
                sum(
                    weights[end] * f * partial(x[: end + 1], (first, *rest))
                    for end in places
                    for f, rest in zip(factor, pairs, strict=True)
                    if max(first, *rest, 0) <= end
                )
            )
        for function, wanted in ((ops.prod, expected), (lambda x: ops.sum(ops.cumprod(x) * weights), running)):
            for found in derivatives_along(function, direction, order):
                np.testing.assert_allclose(found(as_tensor(x)), wanted, rtol=1e-12, atol=1e-13)


def derivatives_along(function, direction, order):
    """The gradient of the derivative of order - 1 along a direction, by gradients of gradients, by tapes, by hvp, recorded."""
    transformed = taped = pushed = function
    for _ in range(order - 1):
        transformed = lambda x, f=transformed: ops.sum(autodiff.grad(f)(x) * direction)  # noqa: E731
        taped = lambda x, f=taped: ops.sum(by_tapes(f, 1)(x) * direction)  # noqa: E731
        pushed = lambda x, f=pushed: autodiff.jvp(f, (x,), (direction,))[1]  # noqa: E731
    yield autodiff.grad(transformed)
    yield by_tapes(taped, 1)
    yield autodiff.grad(pushed)
    yield keras.jit(autodiff.grad(transformed))


# -------------------- nothing --------------------

EMPTY = {  # name: (function, shape, the value as of Keras on JAX)
    "prod": (ops.prod, (0,), 1),
    "prod_of_rows": (lambda x: ops.prod(x, axis=1), (3, 0), [1, 1, 1]),
    "prod_of_columns": (lambda x: ops.prod(x, axis=0, keepdims=True), (0, 2), [[1, 1]]),
    "max": (lambda x: ops.max(x, initial=2.0), (0,), 2),
    "max_of_rows": (lambda x: ops.max(x, axis=1, keepdims=True, initial=-math.inf), (2, 0), [[-math.inf]] * 2),
    "min_of_columns": (lambda x: ops.min(x, axis=1, initial=2.0), (0, 3), []),
    "min_of_no_axis": (lambda x: ops.min(x, axis=(), initial=2.0), (0,), []),
    "sum": (ops.sum, (0,), 0),
    "mean": (lambda x: ops.mean(x, axis=0), (0, 2), [math.nan] * 2),
    "var": (ops.var, (0,), math.nan),
    "logsumexp": (lambda x: ops.logsumexp(x, axis=1), (2, 0), [-math.inf] * 2),
    "logsumexp_of_rows": (lambda x: ops.logsumexp(x, axis=1, keepdims=True), (0, 2), np.zeros((0, 1))),
    "cumprod": (ops.cumprod, (0,), []),
    "softmax": (ops.softmax, (2, 0), np.zeros((2, 0))),
    "softmax_over_axes": (lambda x: ops.softmax(x, axis=(1, 2)), (2, 0, 3), np.zeros((2, 0, 3))),
    "softmax_of_no_rows": (lambda x: ops.softmax(x, axis=(1, 2)), (0, 2, 3), np.zeros((0, 2, 3))),
    "log_softmax": (ops.log_softmax, (2, 0), np.zeros((2, 0))),
    "norm_inf": (lambda x: ops.norm(x, math.inf, axis=0), (0, 2), [0, 0]),
    "norm_1": (lambda x: ops.norm(x, 1), (3, 0), 0),
    "norm_2": (lambda x: ops.norm(x, 2), (0, 3), 0),
    "median": (lambda x: ops.median(x, axis=1), (0, 3), []),
    "quantile": (lambda x: ops.quantile(x, [0.2, 0.5], axis=0), (3, 0), np.zeros((2, 0))),
    "corrcoef": (ops.corrcoef, (2, 0), np.full((2, 2), math.nan)),
    "layer_normalization": (ops.layer_normalization, (3, 0), np.zeros((3, 0))),
    "matmul": (lambda x: ops.matmul(x, ops.ones((0, 2))), (2, 0), np.zeros((2, 2))),
    "two_indices": (lambda x: x[:, [0, 0], [1, 0]], (0, 2, 2), np.zeros((0, 2))),
    "two_empty_indices": (lambda x: x[..., np.zeros(0, int), np.zeros(0, int)], (3, 2, 2), np.zeros((3, 0))),
    "concatenate": (lambda x: ops.concatenate([x, ops.ones(2)]), (0,), [1, 1]),
    "pad": (lambda x: ops.pad(x, [(1, 1)], constant_values=2), (0,), [2, 2]),
    "segment_sum": (lambda x: ops.segment_sum(x, np.zeros(0, int), 2), (0, 1), [[0], [0]]),
    "vectorize": (lambda x: ops.vectorize(ops.sum, signature="(n)->()")(x), (3, 0), [0, 0, 0]),
    "det": (ops.det, (2, 0, 0), [1, 1]),
}


@pytest.mark.parametrize("name", EMPTY)
def test_derivatives_of_nothing(name):
    """The value is Keras's, and gradients of all orders are arrays of x's shape: never None."""
    function, shape, value = EMPTY[name]
    x = as_tensor(np.zeros(shape))
    for call in (function, keras.jit(function)):
        np.testing.assert_array_equal(call(x), value)

    def total(x):
        return ops.sum(function(x))

    def slope(x):
        with keras.GradientTape() as tape:
            tape.watch(x)
            y = total(x)
        return tape.gradient(y, x)

    def curvature(x):
        with keras.GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(slope(x) ** 2) + 0 * ops.sum(x)
        return tape.gradient(y, x)

    for way in (
        *(slope, keras.jit(slope), autodiff.grad(total), curvature, keras.jit(curvature)),
        autodiff.grad(lambda x: ops.sum(autodiff.grad(total)(x) ** 2)),
        lambda x: autodiff.hvp(total, (x,), (x,))[1][0],
    ):
        np.testing.assert_array_equal(way(x), np.zeros(shape))
    assert autodiff.jvp(function, (x,), (x,))[1].shape == np.shape(value)
    np.testing.assert_array_equal(autodiff.vmap(function)(np.zeros((2, *shape))), [value, value])
