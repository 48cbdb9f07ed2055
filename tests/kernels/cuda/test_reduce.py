"""Twins of reductions, extrema, running sums against NumPy and the CPU's kernels; in the simulator or on a GPU."""

import functools

import numpy as np
import pytest
import twins

from nbkeras.kernels import reduce
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

FLOATS = (np.float32, np.float64)
DTYPES = (*FLOATS, np.bool_, np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64)
# One element; rows of few and of many lanes; columns in whole rows and in tiles, several blocks, results by a thread each.
SHAPES = {
    (1,): [(0,), ()],
    (7, 3): [(0,), (1,), (0, 1)],
    (67, 3): [(0,), (1,), (0, 1)],
    (3, 61): [(0,), (1,)],
    (2, 5, 7): [(1,), (0, 2), (1, 2)],
    (2, 3, 11, 4): [(0, 2), (1, 3), (2,)],
    (13, 97): [(0,), (1,), (0, 1)],
    (300,): [(0,)],
    (0, 3): [(1,)],
}


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    x = rng.integers(0, 2 if dtype == np.bool_ else 100, shape).astype(dtype)
    if np.dtype(dtype).kind == "u" and x.size:
        x.flat[0] = np.iinfo(dtype).max - 5  # looks negative as a signed number
    return -x if np.dtype(dtype).kind == "i" and seed else x


def cases(names):
    return [(name, shape, axes) for name in names for shape in SHAPES for axes in SHAPES[shape]]


@pytest.mark.parametrize("name, shape, axes", cases(("sum", "mean", "max", "min", "prod", "var", "logsumexp")))
def test_reductions(name, shape, axes):
    if 0 in (shape[axis] for axis in axes):
        pytest.skip("the reduction of nothing is tested by test_nothing")
    vjp = reduce.extremum_vjp if name in ("max", "min") else getattr(reduce, f"{name}_vjp")
    for dtype in FLOATS:
        for keepdims in (False, True):
            twins.check(getattr(reduce, name), vjp, [numbers(shape, dtype)], {"axes": axes, "keepdims": keepdims})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "any", "all"])
def test_dtypes(name, dtype):
    for shape, axes in (((5, 6, 7), (1,)), ((5, 6, 7), (0, 2)), ((300,), (0,)), ((40, 3), (0,))):
        for seed in (0, 1):
            twins.check(getattr(reduce, name), None, [numbers(shape, dtype, seed)], {"axes": axes})


def test_nothing():
    for name in ("sum", "prod", "any", "all"):
        for axes in ((0,), (0, 1)):
            twins.check(getattr(reduce, name), None, [np.zeros((0, 3), np.float32)], {"axes": axes})


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinity(dtype):
    x = numbers((6, 40), dtype)
    x[0, 33], x[1, 5], x[2, 7], x[3], x[4] = np.nan, np.inf, -np.inf, -np.inf, np.nan
    for name in ("sum", "max", "min", "prod", "any", "all", "logsumexp"):
        vjp = reduce.logsumexp_vjp if name == "logsumexp" else None
        for axes in ((0,), (1,), (0, 1)):
            twins.check(getattr(reduce, name), vjp, [x], {"axes": axes})
    for name in ("argmax", "argmin"):
        for axis in (0, 1):
            twins.check(getattr(reduce, name), None, [x], {"axis": axis})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name, dtype):
    for shape, axis in (((1,), 0), ((300,), 0), ((5, 70), 1), ((70, 5), 0), ((2, 40, 3), 1), ((2, 3, 50), 1)):
        for x in (numbers(shape, dtype), numbers(shape, dtype, 1), np.ones(shape, dtype)):
            twins.check(getattr(reduce, name), None, [x], {"axis": axis})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running(name, dtype):
    vjp = getattr(reduce, f"{name}_vjp") if dtype in FLOATS else None
    for shape, axis in (
        *(((1,), 0), ((45,), 0), ((3, 29), 1), ((29, 3), 0)),
        *(((2, 5, 3), 1), ((3, 7, 17), 1), ((0, 4), 0)),
    ):
        x = numbers(shape, dtype)
        if x.size > 9 and name == "cumprod":
            x.flat[9] = 0
        twins.check(getattr(reduce, name), vjp, [x], {"axis": axis})


def test_products_with_zeros():
    x = numbers((3, 41), np.float64)
    x[0, 3] = x[1, 0] = x[1, 40] = 0
    for axes in ((0,), (1,), (0, 1)):
        twins.check(reduce.prod, reduce.prod_vjp, [x], {"axes": axes})


@pytest.mark.parametrize("shape", [(1, 700, 3), (2, 300, 7), (1, 257, 1), (3, 290, 29)])
def test_sums_of_many_rows(shape):
    """Each block of rows gives a partial sum, as for gradients of biases."""

    def sums(x):
        out = device.empty((shape[0], shape[2]), x.dtype)
        reduce.sum_rows(x, out)
        return out, None

    for dtype in (*FLOATS, np.int32):
        twins.check(sums, None, [numbers(shape, dtype)])


@pytest.mark.parametrize("shape, axis", [((20_000,), 0), ((5_000, 3), 0), ((2, 3000), 1)])
def test_float32_sums_are_accurate(shape, axis):
    """The error is a few units of rounding, as on the CPU: no chain of sums is long."""
    x = np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
    with device.on(twins.gpu()):
        y, _ = reduce.sum(twins.to(twins.gpu(), x), (axis,))
    np.testing.assert_allclose(y.copy(), x.astype(np.float64).sum(axis), rtol=3e-7)


def test_the_same_each_time():
    x = numbers((700, 5), np.float32)
    run = functools.partial(twins.run, twins.gpu(), reduce.sum, None, [x], {"axes": (0,)}, None)
    assert run()[0].tobytes() == run()[0].tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_sizes_that_take_every_way_on_a_gpu(dtype):
    """Parts of long rows, tiles of columns, results by a thread each, rows of a whole block."""
    for shape, axes in (((20_000,), (0,)), ((2, 8_500), (1,)), ((300, 130), (0,)), ((2, 2, 33_000), (1,))):
        twins.check(reduce.max, None, [numbers(shape, dtype)], {"axes": axes})
    twins.check(reduce.sum, None, [numbers((2, 300, 130), dtype)], {"axes": (1,)})
    for shape, axis in (((20_000,), 0), ((2, 8_500), 1), ((300, 130), 0)):
        twins.check(reduce.argmin, None, [numbers(shape, dtype)], {"axis": axis})
    for shape, axis in (((5_000,), 0), ((520, 40), 1), ((2, 5, 2_100), 1)):
        twins.check(reduce.cumsum, reduce.cumsum_vjp, [numbers(shape, dtype)], {"axis": axis}, rtol=1e-4)
