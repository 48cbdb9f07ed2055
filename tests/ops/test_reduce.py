"""Reductions: values against NumPy over axes and keepdims, gradients, accuracy, dtypes, messages."""

import itertools

import numpy as np
import pytest
import scipy.special
from in_threads import by_threads
from mistakes import mistakes

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.engine.tensor import Variable, as_tensor
from nbkeras.testing import check_op

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 3, 4))
AXES = [None, 0, 1, -1, (0, 2), [1, 2], (0, 1, 2)]

CASES = {
    **{name: getattr(np, name) for name in "sum mean max min prod var std any all".split()},
    "logsumexp": scipy.special.logsumexp,
    "norm": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_equal_numpys(name):
    x = X > 0.5 if name in ("any", "all") else X
    for axis, keepdims in itertools.product(AXES, (False, True)):
        expected = CASES[name](x, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
        received = getattr(ops, name)(x, axis=axis, keepdims=keepdims)
        np.testing.assert_allclose(received, expected, rtol=1e-12)
        assert received.shape == expected.shape


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("axis, keepdims", [(None, False), (1, True), ((0, 2), False)])
def test_gradients_equal_differences(name, axis, keepdims):
    wrt = [] if name in ("any", "all") else None
    check_op(lambda x: getattr(ops, name)(x, axis=axis, keepdims=keepdims), X, wrt=wrt)


@pytest.mark.parametrize("ord", [None, 1, 2, np.inf, -np.inf])
def test_norms_equal_numpys(ord):
    check_op(lambda x: ops.norm(x, ord=ord, axis=1), X)
    np.testing.assert_allclose(ops.norm(X, ord=ord, axis=1), np.linalg.norm(X, ord, axis=1), rtol=1e-14)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions_equal_numpys(name):
    for axis in (None, 0, 1, -1):
        for keepdims in (False, True):
            received = getattr(ops, name)(X, axis=axis, keepdims=keepdims)
            np.testing.assert_array_equal(received, getattr(np, name)(X, axis=axis, keepdims=keepdims))
            assert received.dtype == np.int32
    check_op(lambda x: getattr(ops, name)(x, axis=1), X, wrt=[])
    assert getattr(ops, name)([1.0, 1.0]).item() == 0


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_and_products_equal_numpys(name):
    for axis in (None, 0, 1, -1):
        np.testing.assert_allclose(getattr(ops, name)(X, axis=axis), getattr(np, name)(X, axis=axis), rtol=1e-13)
    check_op(lambda x: getattr(ops, name)(x, axis=1), X)
    check_op(lambda x: getattr(ops, name)(x), X)


def test_products_with_zeros():
    x = X.copy()
    x[0, 1, 2] = x[1, 0, 0] = x[1, 2, 0] = 0
    check_op(lambda x: ops.prod(x, axis=1), x)
    check_op(lambda x: ops.prod(x, axis=(0, 2)), x)
    check_op(lambda x: ops.cumprod(x, axis=1), x)
    for shape in ((2, 0), (0, 2)):  # the gradient of products of no elements, and of no products
        x = as_tensor(np.zeros(shape))
        with GradientTape() as tape:
            tape.watch(x)
            y = ops.sum(ops.prod(x, axis=1))
        assert tape.gradient(y, x).shape == shape


def test_logsumexp_of_large_and_infinite():
    np.testing.assert_allclose(ops.logsumexp(np.array([1000.0, 1000.0])), 1000 + np.log(2))
    assert ops.logsumexp(np.array([-np.inf, -np.inf])).item() == -np.inf
    assert ops.logsumexp(np.array([1.0, np.inf])).item() == np.inf


def test_ties_share_the_gradient():
    x = Variable(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]))
    with GradientTape() as tape:
        y = ops.max(x, axis=1)
    np.testing.assert_array_equal(tape.gradient(y, x), [[0, 0.5, 0.5], [1, 0, 0]])


@pytest.mark.parametrize("shape, axis", [((100_000,), 0), ((100_000, 3), 0), ((2, 50_000, 3), 1), ((50_000, 2, 1), 0)])
def test_float32_sums_are_accurate(shape, axis):
    x = RNG.uniform(0, 1, shape).astype(np.float32)
    expected = x.astype(np.float64).sum(axis)
    np.testing.assert_allclose(ops.sum(x, axis), expected, rtol=2e-6)
    np.testing.assert_allclose(ops.mean(x, axis), expected / shape[axis], rtol=2e-6)


@pytest.mark.parametrize(
    "shape, axis", [((40, 3000), 0), ((3, 300, 400), 1), ((50_001, 3), 0), ((50_001, 3), 1), ((2, 500, 1100), (0, 1))]
)
def test_sums_of_rows_in_shares(shape, axis):
    """Each element is added once, in an order that does not depend on the number of threads."""
    whole = RNG.integers(-1000, 1000, shape).astype(np.int32)
    np.testing.assert_array_equal(ops.sum(whole, axis), whole.sum(axis))
    x = RNG.standard_normal(shape).astype(np.float32)
    found = by_threads(lambda: ops.sum(x, axis).numpy())
    np.testing.assert_array_equal(found[0], found[-1])


def test_many_rows_gradient():
    check_op(lambda x: ops.sum(x, axis=(0, 2)), RNG.standard_normal((300, 2, 3)))


DTYPES = [
    *(("sum", "bool", "int32"), ("sum", "int8", "int32"), ("sum", "uint8", "uint32"), ("sum", "int64", "int64")),
    *(("mean", "bool", "float32"), ("mean", "int32", "float32"), ("max", "int8", "int8"), ("max", "bool", "bool")),
    *(("prod", "bool", "int32"), ("cumsum", "bool", "int32"), ("cumsum", "uint8", "uint8")),
    *(("any", "float32", "bool"), ("argmax", "bool", "int32"), ("logsumexp", "int32", "float32")),
    ("count_nonzero", "float32", "int32"),
]


@pytest.mark.parametrize("name, given, expected", DTYPES)
def test_dtypes_of_results(name, given, expected):
    x = np.array([[1, 0], [1, 1]]).astype(given)
    assert getattr(ops, name)(x).dtype == expected
    assert getattr(ops, name)(x, axis=0).dtype == expected


def test_counts_and_sums_of_small_integers_do_not_overflow():
    np.testing.assert_array_equal(ops.count_nonzero(np.array([[1.0, 0.0], [2.0, 3.0]]), axis=1), [1, 2])
    assert ops.sum(np.full(300, 100, np.int8)).item() == 30000
    np.testing.assert_array_equal(ops.sum(np.full((300, 2), 200, np.uint8), axis=0), [60000, 60000])
    assert ops.prod(np.full(4, 100, np.int8)).item() == 100**4


def test_sum_over_no_axes_keeps_the_elements():
    np.testing.assert_array_equal(ops.sum(np.array([True, False]), axis=()), [1, 0])
    check_op(lambda x: ops.sum(x, axis=()), X)


def test_reductions_of_nothing():
    assert ops.sum(np.zeros((0, 3)), axis=0).shape == (3,)
    assert np.isnan(ops.mean(np.zeros(0)).item())
    x = as_tensor(np.zeros((2, 0)))
    with GradientTape() as tape:
        tape.watch(x)
        y = ops.std(x, axis=1)
    assert tape.gradient(y, x).shape == (2, 0)


MISTAKES = [
    (lambda: ops.sum(X, axis=3), ValueError, "sum: axis 3 is out of range for a tensor of 3 axes"),
    (lambda: ops.mean(X, axis=(0, -3)), ValueError, "mean: axis .* names an axis twice"),
    (lambda: ops.max(X, axis="rows"), TypeError, "max: axis must be an integer, received 'rows'"),
    (lambda: ops.max(np.zeros((0, 2)), axis=0), ValueError, "max of no elements"),
    (lambda: ops.argmax(np.zeros((0,))), ValueError, "argmax of no elements"),
    (lambda: ops.norm(X, ord=3), ValueError, "norm: ord 3 is not defined over 3 axes"),
    (lambda: ops.prod([1.0], dtype="text"), ValueError, "dtype must be a dtype of numbers or booleans, received 'text'"),
    (lambda: ops.norm(X, ord="fro", axis=1), ValueError, "'fro' is not defined over 1 axes"),
    (lambda: ops.cumsum([1.0], dtype="longdouble"), TypeError, "have 16, 32 or 64 bits, received"),
    (lambda: ops.cumprod(ops.ones(2), dtype="text"), ValueError, "dtype must be a dtype of numbers"),
]  # fmt: skip


test_mistakes_are_explained = mistakes(MISTAKES)


def test_initial_values_and_dtypes():
    check_op(lambda x: ops.max(x, axis=1, initial=0.3), X)
    check_op(lambda x: ops.min(x, axis=(0, 2), keepdims=True, initial=-0.3), X)
    np.testing.assert_array_equal(ops.max(np.zeros((0, 2)), axis=0, initial=-1.0), [-1, -1])
    assert ops.prod(np.int32([3, 4]), dtype="float64").dtype == np.float64
    assert ops.prod([3, 4], dtype="int8").dtype == np.int8
