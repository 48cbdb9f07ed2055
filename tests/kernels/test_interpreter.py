"""Launches of NumPy's loops as programs of the interpreter: NumPy's bits, except for exp and its like and for sums."""

import functools
import subprocess
import sys
import weakref

import numpy as np
import pytest
from in_threads import at_once

from nbkeras.kernels import elementwise, metrics, normalization, random, reduce, shape
from nbkeras.kernels.convolution import implicit_gemm
from nbkeras.kernels.interpreter import chains, emitter, instruction_set, launches, programs
from nbkeras.kernels.runtime import compiler, device

FLOATS, INTEGERS = ["f4", "f8"], ["i4", "i8"]
SMALL = ["u1", "i1", "u2", "i2", "u4"]
SIZES = [0, 1, 15, 16, 17, 1023, 1024, 1025, 10000]
ODD = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 2.0**24 + 1]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def some(shape, dtype, seed=0, odd=True):
    """An array of random values, odd ones among them."""
    generator, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype.kind == "b":
        return generator.random(shape) < 0.5
    if dtype.kind != "f":
        low = 0 if dtype.kind == "u" else -20
        return generator.integers(low, 100, shape).astype(dtype)
    values = generator.normal(0, 3, shape).astype(dtype)
    if odd and values.size:
        places = generator.random(shape) < 0.2
        values[places] = generator.choice(np.array(ODD, dtype), int(places.sum()))
    return values


def check(function, args, want=None, shares=0, same=None):
    """Run a launch by NumPy and by the interpreter; its output, the last array, must have the same bits."""
    out = args[0] if function in (device.fill, shape.concatenate_into) else args[-1]
    before = out.copy()
    if want is None:
        function(*args)
        want = out.copy()
        out[...] = before
    assert launches.run(function, args, shares), "the interpreter cannot do it"
    (same or bits_equal)(out, want)
    return out


def bits_equal(got, want):
    """NaN equals NaN of any sign."""
    got, want = np.ascontiguousarray(got), np.ascontiguousarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    nan = np.isnan(want) if want.dtype.kind == "f" else np.zeros(want.shape, bool)
    if want.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(got), nan)
    bits = np.dtype(f"u{want.itemsize}")
    np.testing.assert_array_equal(got[~nan].view(bits), want[~nan].view(bits))


def equal(got, want):
    """Equal numbers: 0 and -0 are."""
    np.testing.assert_array_equal(got, want)


def near(got, want):
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(want.dtype).eps, atol=2 * np.finfo(want.dtype).tiny)


# -------------------- elementwise --------------------

BINARY = [np.add, np.subtract, np.multiply]
COMPARISONS = [np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *SMALL])
def test_two_operands(dtype, size):
    x, y = some(size, dtype), some(size, dtype, 1)
    for ufunc in [*BINARY, *([np.divide] if dtype in FLOATS else [])]:
        check(ufunc, (x, y, np.empty_like(x)))
    for function in (elementwise.larger, elementwise.smaller):
        check(function, (x, y, np.empty_like(x)), same=equal)
    for ufunc in COMPARISONS:
        check(ufunc, (x, y, np.empty(size, np.bool_)))
        if dtype in FLOATS:
            check(ufunc, (x, y, np.empty_like(x)))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "i1", "i2"])
def test_one_operand(dtype):
    x = some(3000, dtype)
    for ufunc in (np.negative, np.absolute, np.square, np.sign):
        check(ufunc, (x, np.empty_like(x)))
    if dtype in FLOATS:
        for ufunc in (np.reciprocal, np.sqrt, np.floor, np.ceil, np.trunc, np.rint):
            check(ufunc, (x, np.empty_like(x)))
        for ufunc in (np.isnan, np.isinf, np.isfinite):
            check(ufunc, (x, np.empty(x.shape, np.bool_)))
        check(reduce.keep_finite, (x, np.empty_like(x)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ufunc", [np.exp, np.expm1, np.log, np.log1p])
def test_exponentials_and_logarithms(ufunc, dtype):
    far = 90 if dtype == "f4" else 715
    parts = [
        some(100, dtype),
        np.linspace(-far - 20, far, 2001),
        np.linspace(-1, 2, 2001),
        np.geomspace(1e-44, 1e38, 501),
    ]
    x = np.concatenate(parts).astype(dtype)
    check(
        ufunc,
        (x, np.empty_like(x)),
        want=ufunc(x.astype("f8" if dtype == "f4" else np.longdouble)).astype(dtype),
        same=near,
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_the_c_library(dtype):
    x = np.random.default_rng(0).uniform(-1, 1, 500).astype(dtype)
    positive = abs(x) + x.dtype.type(0.1)
    for ufunc in (np.sin, np.cos, np.tan, np.tanh, np.arctan, np.arcsin, np.sinh, np.exp2, np.cbrt):
        check(ufunc, (x, np.empty_like(x)), same=near)
    for ufunc in (np.log2, np.log10):
        check(ufunc, (positive, np.empty_like(x)), same=near)
    for ufunc in (np.power, np.arctan2, np.hypot, np.fmod):
        check(ufunc, (positive, x, np.empty_like(x)), same=near)
        check(ufunc, (positive[::-1], x.dtype.type(0.3), np.empty_like(x)), same=near)


@pytest.mark.parametrize("dtype", [*INTEGERS, *SMALL])
def test_integers(dtype):
    x, y = some(1000, dtype), some(1000, dtype, 1)
    y[:4] = 0, 1, 2, -1 if dtype[0] == "i" else 5
    minimum = np.iinfo(dtype).min
    x[:8], y[8:12] = minimum, 0
    y[3] = 1 if dtype in ("i1", "i2") else y[3]  # NumPy's result is too large for it
    for ufunc in (np.floor_divide, np.remainder):
        check(ufunc, (x, y, np.empty_like(x)))
        check(ufunc, (x, 7, np.empty_like(x)))
    for ufunc in (np.bitwise_and, np.bitwise_or, np.bitwise_xor):
        check(ufunc, (x, y, np.empty_like(x)))


def test_booleans():
    x, y = some(2000, "b1"), some(2000, "b1", 1)
    for ufunc in (np.logical_and, np.logical_or, np.logical_xor, np.equal, np.not_equal, np.less, np.add, np.multiply):
        check(ufunc, (x, y, np.empty_like(x)))
    check(np.logical_not, (x, np.empty_like(x)))
    numbers = some(2000, "f4")
    check(np.logical_and, (numbers, numbers[::-1], np.empty_like(x)))
    check(np.logical_not, (numbers, np.empty_like(x)))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *SMALL, "b1"])
def test_select_and_clip(dtype):
    condition, x, y = some((20, 70), "b1"), some((20, 70), dtype), some((20, 1), dtype, 1)
    check(elementwise.select, (condition, x, y, np.empty_like(x)))
    check(elementwise.select, (condition, x.dtype.type(1), x, x))
    check(elementwise.select, (condition, x, x.dtype.type(0), np.empty_like(x)))
    if dtype != "b1":
        low, high = x.dtype.type(1), x.dtype.type(3)
        check(elementwise.clip_between, (x, low, high, np.empty_like(x)))
        check(elementwise.larger, (x, y, np.empty_like(x)), same=equal)
        check(elementwise.smaller, (x, y, np.empty_like(x)), same=equal)


CASTS = ["f4", "f8", "i4", "i8", *SMALL, "b1"]


@pytest.mark.parametrize("source", CASTS)
@pytest.mark.parametrize("target", CASTS)
def test_casts(source, target):
    x = some(1500, source, odd=False)
    if source in FLOATS and target[0] == "u":
        x = np.abs(x)
    check(device.copy, (x, np.empty(x.shape, target)))
    check(device.copy, (x[::3], np.empty((3, 500), target)))


@pytest.mark.parametrize("dtype", ["u8", "f2", "c8", "f4", "i2", "b1"])
def test_copies_of_any_dtype(dtype):
    x = np.arange(600).astype(dtype).reshape(20, 30)
    check(device.copy, (x, np.empty_like(x)))
    check(device.copy, (x.T, np.empty_like(x.T)))
    check(device.copy, (x[:, ::-2], np.empty((20, 15), dtype)))


def test_mixed_dtypes_and_numbers():
    x, y, n = some(50, "f4"), some(50, "f8"), some(50, "i4")
    check(np.add, (x, y, np.empty(50, "f8")))
    check(np.multiply, (x, np.float32(0.1), np.empty(50, "f4")))
    check(np.multiply, (x, 0.1, np.empty(50, "f4")))
    check(np.add, (n, x, np.empty(50, "f8")))
    check(np.divide, (n, 7, np.empty(50, "f8")))
    check(np.subtract, (1, n, np.empty(50, "i4")))
    counter = np.zeros((), "i8")
    for _ in range(3):
        launches.run(np.add, (counter, 1, counter))
    assert counter == 3


# -------------------- layouts --------------------


def layouts(dtype):
    """Arrays of (6, 35) elements, broadcast or with strides."""
    return {
        "contiguous": some((6, 35), dtype),
        "transposed": some((35, 6), dtype).T,
        "part": some((9, 50), dtype)[2:8, 3:38],
        "every second": some((12, 70), dtype)[::2, ::2],
        "backwards": some((6, 35), dtype)[::-1, ::-1],
        "row": some(35, dtype),
        "column": some((6, 1), dtype),
        "one": some((), dtype),
        "spread": np.broadcast_to(some((1, 35), dtype), (6, 35)),
    }


@pytest.mark.parametrize("dtype", [*FLOATS, "i8", "u1"])
@pytest.mark.parametrize("layout", list(layouts("f4")))
def test_layouts(layout, dtype):
    x, others = layouts(dtype)[layout], layouts(dtype)
    for other in others.values():
        check(np.add, (x, other, np.empty((6, 35), dtype)))
    check(np.add, (x, x, np.empty((35, 6), dtype).T))
    check(np.add, (x, x, np.zeros((9, 50), dtype)[2:8, 3:38]))
    check(np.add, (x, x, np.zeros((6, 35), dtype)[::-1]))
    check(device.copy, (x, np.empty((6, 35), dtype)))
    check(device.copy, (x, np.empty((35, 6), dtype).T))
    check(device.fill, (np.zeros((9, 50), dtype)[2:8, 3:38], 3))


@pytest.mark.parametrize("shape_", [(2, 3, 5, 7, 2), (1, 40, 1, 30, 3)])
def test_many_axes(shape_):
    x, y = some(shape_, "f4"), some((shape_[1], 1, shape_[3], 1), "f4")
    check(np.multiply, (x, y, np.empty_like(x)))
    for _ in range(5):
        order = np.random.default_rng(_).permutation(5)
        check(device.copy, (x.transpose(order), np.empty([shape_[i] for i in order], "f4")))


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
@pytest.mark.parametrize("shape_", [(1, 1), (16, 16), (17, 15), (8, 40), (100, 33), (256, 64), (300, 1025)])
def test_transposes(shape_, dtype):
    x = some(shape_, dtype)
    for shares in (0, 3):
        check(device.copy, (x.T, np.empty(shape_[::-1], dtype)), shares=shares)
    matrices = some((3, *shape_), dtype)
    check(implicit_gemm.transpose_matrices, (matrices, np.empty((3, *shape_[::-1]), dtype)))
    check(device.copy, (matrices.transpose(2, 0, 1), np.empty((shape_[1], 3, shape_[0]), dtype)))


@pytest.mark.parametrize("shape_", [(0,), (0, 5), (5, 0), (3, 0, 2)])
def test_nothing_to_do(shape_):
    x, row, one = some(shape_, "f4"), some(shape_[-1:], "f4"), some(1, "f4")
    for other in (x, row, one, np.float32(2)):
        check(np.add, (x, other, np.empty_like(x)))
    check(device.copy, (x.T, np.empty(shape_[::-1], "f4")))
    check(device.copy, (x, np.empty(shape_, "f8")))
    check(device.fill, (x, 1))
    assert programs.parts_of(np.add, (x, row, x)) == []


def test_concatenate():
    x, y, z = some((4, 3, 5), "f4"), some((4, 70, 5), "f4"), some((4, 1, 5), "f4")
    check(shape.concatenate_into, (np.empty((4, 74, 5), "f4"), 1, x, y, z))
    check(shape.concatenate_into, (np.empty((8, 3, 5), "f4"), 0, x, x))
    check(shape.concatenate_into, (np.empty((4, 3, 10), "f8"), 2, x, x))


def test_kernels_that_consist_of_steps():
    """Gradients of a batch normalization with given moments, ratios of metrics, random choices."""
    x, scale, inverse, words = some(5, "f4"), some(9, "f4", 1), some(9, "f4", 2), some(1000, "u4")
    check(normalization.mean_gradient, (x, scale, np.empty(5, "f4")))
    check(normalization.variance_gradient, (x, inverse, scale, np.empty(5, "f4")))
    check(random.below, (words, 50, np.empty(1000, "f4")))
    above = (random.below, (words, 2**32, np.empty(1000, "f4")))
    assert programs.parts_of(*above) is None, "the number is no uint32"
    total, count = some(100, "f8"), np.arange(100.0) % 3
    check(metrics.ratio, (total, count, np.empty(100, "f4")))


# -------------------- reductions --------------------


def about(terms):
    """A comparison of sums of many terms."""

    def same(got, want):
        eps = np.finfo(want.dtype).eps
        np.testing.assert_allclose(got, want, rtol=30 * eps, atol=12 * eps * np.sqrt(terms))

    return same


SHAPES = [
    *((1, 7), (40, 10), (3, 1000), (5, 1025), (2, 70000), (1000, 3), (300, 70), (5, 2000), (4, 300, 6), (2, 5, 3, 4)),
]


@pytest.mark.parametrize("shape_", SHAPES)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "u1", "b1"])
def test_reductions(shape_, dtype):
    x = some(shape_, dtype, odd=False)
    axes = [(0,), (len(shape_) - 1,), tuple(range(len(shape_))), (1,), (0, len(shape_) - 1)]
    for axis in dict.fromkeys(axes):
        rest = [n for i, n in enumerate(shape_) if i not in axis]
        for ufunc in (np.maximum, np.minimum, np.logical_or, np.logical_and):
            out = np.empty(rest, "b1" if ufunc.__name__.startswith("logical") else dtype)
            check(reduce.fold, (x, ufunc, axis, out))
        for ufunc in (np.add, np.multiply):
            out = np.empty(rest, "i4" if dtype in ("u1", "b1") else dtype)
            kind = out.dtype.kind
            values = x if kind == "i" or ufunc is np.add else (1 + x / 1e3).astype(dtype)
            want = ufunc.reduce(values.astype("f8" if kind == "f" else out.dtype), axis).astype(out.dtype)
            if kind == "f":
                check(reduce.fold, (values, ufunc, axis, out), want=want, same=about(x.size))
            else:
                check(reduce.fold, (values, ufunc, axis, out), want=want)


def test_reductions_keep_nan_infinity_and_the_sign_of_zero():
    x = some((50, 60), "f4", odd=False)
    x[3, 7], x[5, 9] = np.nan, np.inf
    for axis in ((0,), (1,)):
        for ufunc in (np.maximum, np.minimum, np.add):
            out = np.empty(50 if axis == (1,) else 60, "f4")
            want = ufunc.reduce(x, axis)
            check(reduce.fold, (x, ufunc, axis, out), want=want, same=about(3000))
    zeros = np.full((3, 5), -0.0, "f4")
    assert np.signbit(check(reduce.fold, (zeros, np.add, (1,), np.empty(3, "f4")), want=np.full(3, -0.0, "f4"))).all()


def test_reductions_of_views():
    x = some((30, 40, 5), "f4", odd=False).transpose(2, 0, 1)
    for axis in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 2)):
        out = np.empty([n for i, n in enumerate(x.shape) if i not in axis], "f4")
        check(reduce.fold, (x, np.maximum, axis, out))


@pytest.mark.parametrize("length", [100, 1000, 10**4, 10**5])
def test_sums_are_as_accurate_as_those_of_numpy(length):
    """Errors are of about one unit in the last place (NumPy's 0.6 to 1), those of columns too (NumPy's grow with the length)."""
    x = np.random.default_rng(length).random((10**6 // length, length), np.float32)
    for rows, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
        exact, out = rows.sum(axis, np.float64), np.empty(len(x), np.float32)
        assert launches.run(reduce.fold, (rows, np.add, (axis,), out))
        errors, numpys = (np.sqrt(np.mean((y / exact - 1) ** 2)) * 2**24 for y in (out, rows.sum(axis)))
        assert errors < max(1.3, 1.05 * numpys) if axis else errors < 1.05 * numpys


# -------------------- shares, aliases, refusals --------------------


def test_results_do_not_depend_on_the_number_of_shares():
    x, y = some((300, 700), "f4", odd=False), some(700, "f4", odd=False)
    cases = [
        (np.add, (x, y, np.empty_like(x))),
        (np.exp, (x, np.empty_like(x))),
        (device.copy, (x.T, np.empty((700, 300), "f4"))),
        (reduce.fold, (x, np.add, (0,), np.empty(700, "f4"))),
        (reduce.fold, (x, np.add, (1,), np.empty(300, "f4"))),
        (reduce.fold, (x, np.add, (0, 1), np.empty((), "f4"))),
    ]
    for function, args in cases:
        launches.run(function, args, 1)
        want = args[-1].copy()
        for shares in range(2, 6):
            args[-1][...] = 0
            check(function, args, want=want, shares=shares)


def test_an_output_may_be_an_input():
    for size in SIZES:
        x, y = some(size, "f4"), some(size, "f4", 1)
        check(np.add, (x, y, x))
        check(np.subtract, (y, x, x))
        check(np.square, (x, x))
        check(elementwise.select, (x > 0, np.float32(2), x, x))


def test_the_interpreter_refuses_what_it_cannot_do():
    x = some(100, "f4")
    refused = [
        (np.add, (x[1:], np.float32(1), x[:-1])),  # NumPy copies the input first
        (np.sin, (np.tile(x, 100), np.empty(10**4, "f4"))),  # NumPy's is faster
        (np.floor_divide, (x, x, np.empty_like(x))),
        (np.add, (x.astype("f2"), x.astype("f2"), np.empty(100, "f2"))),
        (np.add, (x, x, np.empty(100, "i4"))),
        (reduce.fold, (x[:0], np.maximum, (0,), np.empty((), "f4"))),
        (reduce.find_largest, (x, 0, np.empty((), "i8"))),
        (device.copy, (x, np.empty(7, "f4"))),
        (np.isfinite, (np.arange(9), np.empty(9, bool))),
        (np.modf, (x, np.empty_like(x), np.empty_like(x))),
        (reduce.fold, (x.astype("f2"), np.add, (0,), np.empty((), "f2"))),
        (elementwise.select, (x > 0, x, x.astype("f8"), np.empty_like(x))),
    ]
    for function, args in refused:
        before = args[-1].copy()
        assert programs.parts_of(function, args) is None
        assert not launches.run(function, args)
        np.testing.assert_array_equal(args[-1], before)


def test_what_a_chain_in_two_parts_writes_between_them_is_kept():
    """Else the memory would be free, and another array could be there, while a program uses it."""
    chain = chains.Chain.parsed(
        "float64:" + "a" * 8 + "|" + ";".join(f"square {i}" for i in range(8)) + ";add 8 9;"
        + ";".join(f"add {15 + i} {9 + i}" for i in range(1, 7)) + "||add 22 500"
    )  # fmt: skip
    arrays = [some((9, 500), "f8", seed, odd=False) for seed in range(8)]
    first, second, *_ = programs.parts_of(launches.Joined(chain), (*arrays, np.empty(9)))
    between = [x for at, x in first.addresses if at % instruction_set.WORDS == 2 and x.size == 9 * 500]
    assert [x.ctypes.data for x in between] == [second.code[0][4]]


def test_large_work_is_shared_and_small_work_is_not():
    x = np.zeros(10**6, "f4")
    (part,) = programs.parts_of(np.add, (x, x, x))
    assert part.shares > 4
    ones, total = np.ones(5000, "f4"), np.empty((), "f4")
    parts = programs.parts_of(reduce.fold, (ones, np.add, (0,), total))
    assert [part.shares for part in parts] == [1, 1]
    (part,) = programs.linked(parts)
    launches._entry()(part.frame.ctypes.data, 0, 1)
    assert total == 5000
    assert part.frame.dtype == np.int64
    assert part.frame.flags.c_contiguous


# -------------------- chains --------------------


def memory_of(x):
    """The array that owns the memory."""
    if not isinstance(x, np.ndarray):
        return None
    while isinstance(x.base, np.ndarray):
        x = x.base
    return id(x)


def random_launches(generator, dtype):
    """Launches over a few arrays of (rows, columns)."""
    rows, columns = generator.integers(1, 60), generator.integers(1, 50)
    full = [some((rows, columns), dtype, int(generator.integers(1000)), odd=False) for _ in range(5)]
    others = [some(n, dtype, 5, odd=False) for n in (columns, (rows, 1), 1)]
    masks = [some((rows, columns), "b1") for _ in range(2)]
    one = np.dtype(dtype).type

    def any_of(*lists):
        together = sum(lists, [])
        return together[generator.integers(len(together))]

    for _ in range(generator.integers(2, 25)):
        kind, out = generator.integers(7), full[generator.integers(5)]
        x = any_of(full, others)
        y = any_of(full, others, [one(generator.normal()), one(2)])
        if kind < 3:
            yield (np.add, np.subtract, np.multiply, np.divide)[generator.integers(4)], (x, y, out)
        elif kind == 3:
            yield (np.negative, np.absolute, np.square, np.sign)[generator.integers(4)], (any_of(full), out)
        elif kind == 4:
            yield COMPARISONS[generator.integers(6)], (any_of(full), y, any_of(masks, [out]))
        elif kind == 5:
            yield np.logical_or, (masks[0], masks[1], any_of(masks))
        else:
            yield elementwise.select, (any_of(masks), any_of([x for x in full if x is not out]), y, out)


@pytest.mark.parametrize("seed", range(40))
def test_random_chains(seed):
    generator = np.random.default_rng(seed)
    steps = list(random_launches(generator, generator.choice(FLOATS)))
    arrays = list({id(x): x for _, args in steps for x in args if isinstance(x, np.ndarray)}.values())
    before = [x.copy() for x in arrays]
    for function, args in steps:
        function(*args)
    want = [x.copy() for x in arrays]
    joined = launches.fuse(steps, memory_of, lambda array, step: True)
    assert len(joined) < len(steps) or len(steps) < 6
    for shares in (1, 3):
        for x, start in zip(arrays, before, strict=True):
            x[...] = start
        for function, args in joined:
            assert launches.run(function, args, shares)
        for x, result in zip(arrays, want, strict=True):
            bits_equal(x, result)


def test_a_chain_does_not_write_what_is_not_read():
    x = some(5000, "f4", odd=False)
    a, b, c = (np.zeros_like(x) for _ in range(3))
    steps = [(np.multiply, (x, np.float32(2), a)), (np.add, (a, x, b)), (np.exp, (b, b)), (np.sqrt, (b, c))]
    joined = launches.fuse(steps, memory_of, lambda array, step: array is c)
    ((function, args),) = joined
    assert function.__name__ == "float32:an|multiply 0 1;add 2 0;exp 3;sqrt 4|5"
    assert chains.Chain.parsed(function.__name__) == function.chain
    function(*args)
    np.testing.assert_allclose(c, np.sqrt(np.exp(x * 2 + x)), rtol=1e-6)
    assert not a.any()
    assert not b.any()


def test_a_chain_of_many_numbers_has_registers_enough():
    x, out = some(5000, "f8", odd=False), np.empty(5000)
    steps = [(np.add, (x, 0.0, out)), *((np.add, (out, float(i), out)) for i in range(60))]
    joined = launches.fuse(steps, memory_of, lambda array, step: True)
    for function, args in joined:
        assert launches.run(function, args)
    want = x.copy()
    for i in range(60):
        want += float(i)
    np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("shape_", [(1, 7), (300, 10), (5, 1024), (4, 3000), (1, 100_000)])
@pytest.mark.parametrize("ufunc", [np.add, np.maximum])
def test_a_chain_may_end_with_a_reduction(ufunc, shape_):
    """The sums have the same bits as those of a launch of their own, so a replay gives what an eager call gives."""
    x, y = some(shape_, "f4", odd=False), some(shape_[1:], "f4", odd=False)
    a, b, out = np.zeros_like(x), np.zeros_like(x), np.empty(shape_[0], "f4")
    steps = [(np.subtract, (x, y, a)), (np.square, (a, b)), (reduce.fold, (b, ufunc, (1,), out))]
    ((function, args),) = launches.fuse(steps, memory_of, lambda array, step: array is out)
    assert function.__name__ == f"float32:av|subtract 0 1;square 2||{ufunc.__name__} 3 {shape_[1]}" or shape_[0] == 1
    assert chains.Chain.parsed(function.__name__) == function.chain
    want = np.empty_like(out)
    assert launches.run(reduce.fold, (np.square(x - y), ufunc, (1,), want))
    for shares in (1, 3):
        out[:] = 0
        assert launches.run(function, args, shares)
        bits_equal(out, want)
    assert not a.any()


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.maximum, np.minimum])
def test_a_reduction_of_single_elements_is_no_op_of_a_chain(ufunc):
    """Its output is as large as its input, but its other arguments are no numbers to compute with."""
    x, y = some((7, 1), "f4", odd=False), some(7, "f4", odd=False)
    a, b, out = np.empty(7, "f4"), np.empty((7, 1), "f4"), np.empty(7, "f4")
    for steps in (
        [(reduce.fold, (x, ufunc, (1,), a)), (np.multiply, (a, y, out))],
        [(np.square, (x, b)), (reduce.fold, (b, ufunc, (1,), a)), (np.subtract, (a, y, out))],
    ):
        for function, args in steps:
            function(*args)
        want = out.copy()
        out[:] = np.nan
        for function, args in launches.fuse(steps, memory_of, lambda array, step: array is out or array is a):
            function(*args)
        bits_equal(out, want)


def test_a_chain_with_a_reduction_and_many_registers():
    arrays = [some((9, 500), "f8", seed, odd=False) for seed in range(8)]
    steps, before, values = [], arrays[0], []
    for x in arrays:
        values.append(np.empty_like(x))
        steps.append((np.square, (x, values[-1])))
    for value in values[::-1]:
        steps.append((np.add, (before, value, after := np.empty_like(value))))
        before = after
    out, want = np.empty(9), np.empty(9)
    steps.append((reduce.fold, (before, np.add, (1,), out)))
    for function, args in steps:
        function(*args)
    expected = before.copy()
    assert launches.run(reduce.fold, (before, np.add, (1,), want))
    for needed in ([out], [out, before]):

        def is_needed(array, step, needed=needed):
            return any(array is x for x in needed)

        joined = launches.fuse(steps, memory_of, is_needed)
        out[:] = 0
        for function, args in joined:
            assert launches.run(function, args)
        bits_equal(out, want)
        bits_equal(before, expected)


# -------------------- compilation --------------------


@pytest.mark.cpu("nbkeras on a GPU imports numba")
def test_modules_import_no_compiler():
    code = (
        "import sys, importlib.util, importlib.abc\n"
        "class No(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('numba', 'llvmlite'): raise ImportError(name)\n"
        "spec = importlib.util.spec_from_file_location('interpreter', sys.argv[1])\n"
        "sys.meta_path.insert(0, No())\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(module.OPCODES['add.f4'])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, instruction_set.__file__], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == instruction_set.OPCODES["add.f4"]


def test_the_code_has_vectors_and_needs_no_symbol():
    text = str(emitter.assembly(compiler.target_machine()))
    body = text[text.index("define internal void @add.f4(") :].partition("\n}")[0]
    assert "fadd <16 x float>" in body
    assert "fadd float" not in body
    declared = [line for line in text.splitlines() if line.startswith("declare")]
    assert [line for line in declared if "@llvm." not in line] == []


def test_a_plan_is_used_for_arrays_elsewhere():
    """Its key tells which arrays are the same, or overlap."""
    for seed in range(3):
        x, y = some(3000, "f4", seed), some(3000, "f4", seed + 9)
        check(np.exp, (x, np.empty_like(x)), same=near)
        check(np.add, (x, y, np.empty_like(x)))
        check(np.add, (x, y, x))
        check(np.add, (x, x, y))
        check(np.multiply, (x[: 1000 + seed], np.float32(seed), y[: 1000 + seed]))
        check(np.add, (x[1000:2000], y[:1000], x[:1000]))
        large = some(10**5, "f4", seed, odd=False)
        check(reduce.fold, (large, np.add, (0,), np.empty((), "f4")), same=about(10**5))
    assert not launches.run(np.add, (x[1:], y[1:], x[:-1]))


def test_a_plan_keeps_no_arrays():
    x, out = np.ones((300, 20), "f4"), np.empty(20, "f4")
    gone = [weakref.ref(array) for array in (x, out)]
    assert launches.run(reduce.fold, (x, np.add, (0,), out))
    assert launches.run(reduce.fold, (x[::2], np.add, (0,), out))
    assert launches.run(device.copy, (x.T, np.empty((20, 300), "f4")))
    del x, out
    assert [array() for array in gone] == [None] * 2


def test_threads_do_not_disturb_each_other():
    arrays = [some(50_000, "f4", seed, odd=False) for seed in range(4)]
    wants = [np.empty((), "f4") for _ in arrays]
    for x, want in zip(arrays, wants, strict=True):
        assert launches.run(reduce.fold, (x, np.add, (0,), want))

    def work(number):
        for _ in range(50):
            out = np.empty((), "f4")
            assert launches.run(reduce.fold, (arrays[number], np.add, (0,), out))
            assert out == wants[number]

    at_once(*(functools.partial(work, number) for number in range(4)))


def test_launches_of_which_numpy_gives_other_bits():
    x = some(10, "f4")
    assert launches.differs(np.exp, (x, x))
    assert launches.differs(reduce.fold, (x, np.add, (0,), np.empty((), "f4")))
    assert not launches.differs(reduce.fold, (x, np.maximum, (0,), np.empty((), "f4")))
    assert not launches.differs(np.add, (x, x, x))
    assert not launches.differs(device.copy, (x, x))
