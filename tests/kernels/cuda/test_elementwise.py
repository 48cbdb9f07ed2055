"""Twins of NumPy's loops, copies and casts against NumPy; in the simulator or on a GPU."""

import itertools

import numba
import numpy as np
import pytest
import twins

from nbkeras.engine.recorder import Recorder
from nbkeras.kernels import elementwise
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

FLOATS = (np.float32, np.float64)
DTYPES = (*FLOATS, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.bool_)


def on_gpu(array):
    return twins.to(twins.gpu(), array)


def launch(function, *args):
    with device.on(twins.gpu()):
        device.launch(function, *args)


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.standard_normal(shape) * 3).astype(dtype)
    return rng.integers(0, 2 if dtype == np.bool_ else 100, shape).astype(dtype)


def views(x):
    """Views of any strides of an array of shape (2, 6, 5, 4)."""
    return {
        "whole": x,
        "turned": x.transpose(3, 1, 0, 2),
        "backwards": x[::-1, :, ::-2, ::-1],
        "stepped": x[:, 1::2, 1:3, 2:],
        "matrix": x.reshape(12, 20).T,
        "column": x[1, :, 2, 3],
        "one": x[1, 2, 3, 1:2],
        "none": x[:, :0],
    }


@pytest.mark.parametrize("form", list(views(np.zeros((2, 6, 5, 4)))))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int16])
def test_copies_between_views(form, dtype):
    source, target = numbers((2, 6, 5, 4), dtype), numbers((2, 6, 5, 4), dtype, 1)
    there = on_gpu(target)
    launch(device.copy, views(on_gpu(source))[form], views(there)[form])
    views(target)[form][...] = views(source)[form]
    np.testing.assert_array_equal(there.copy(), target)


@pytest.mark.parametrize("dtype", DTYPES)
def test_casts(dtype):
    source = np.array([[0, 1, 2.75], [90, 3.5, 127]])
    source = source if np.dtype(dtype).kind != "i" else source * [[1], [-1]]
    for to in DTYPES:
        if np.dtype(to).kind == "u" and np.dtype(dtype).kind == "i":
            values = np.abs(source).astype(dtype)
        else:
            values = source.astype(dtype)
        target = on_gpu(np.zeros((2, 3), to))
        launch(device.copy, on_gpu(values), target)
        np.testing.assert_array_equal(target.copy(), values.astype(to), err_msg=str(np.dtype(to)))


@pytest.mark.parametrize("source", ["f4", "f8"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_casts_out_of_range_as_on_the_cpu(dtype, source):
    values = np.array([-1.0, -0.5, 300.5, -129.0, 70000.0, 2.0**31, 2.0**64, -1e20, np.inf, -np.inf, np.nan], source)
    want, target = np.zeros(values.shape, dtype), on_gpu(np.zeros(values.shape, dtype))
    device.copy(values, want)
    launch(device.copy, on_gpu(values), target)
    np.testing.assert_array_equal(target.copy(), want)


def test_nan_is_true():
    target = on_gpu(np.zeros(3, np.bool_))
    launch(device.copy, on_gpu(np.array([np.nan, 0.0, -0.0])), target)
    np.testing.assert_array_equal(target.copy(), [True, False, False])


@pytest.mark.parametrize("dtype", DTYPES)
def test_fills(dtype):
    target = np.zeros((3, 5), dtype)
    there = on_gpu(target)
    launch(device.fill, there[:, ::-2], 7)
    target[:, ::-2] = 7
    np.testing.assert_array_equal(there.copy(), target)


def test_broadcast_copies():
    x, y = numbers((4, 1, 3), np.float32), on_gpu(np.zeros((2, 4, 5, 3), np.float32))
    launch(device.copy, on_gpu(x), y)
    np.testing.assert_array_equal(y.copy(), np.broadcast_to(x, (2, 4, 5, 3)))


@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (9, 5), (3, 7, 5), (2, 3, 9, 4), (5, 1, 6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_transposes(shape, dtype):
    x = numbers(shape, dtype)
    for axes in itertools.permutations(range(len(shape))):
        y = on_gpu(np.zeros([shape[axis] for axis in axes], dtype))
        launch(device.copy, on_gpu(x).transpose(axes), y)
        np.testing.assert_array_equal(y.copy(), x.transpose(axes), err_msg=str(axes))
        y = on_gpu(np.zeros(shape, dtype))
        launch(device.copy, on_gpu(np.ascontiguousarray(x.transpose(axes))), y.transpose(axes))
        np.testing.assert_array_equal(y.copy(), x, err_msg=str(axes))


def test_a_transpose_of_reversed_axes_and_a_cast():
    x = numbers((5, 9), np.float32)
    y, z = on_gpu(np.zeros((9, 5), np.float32)), on_gpu(np.zeros((9, 5), np.int32))
    launch(device.copy, on_gpu(x).T[::-1], y)
    launch(device.copy, on_gpu(x).T, z)
    np.testing.assert_array_equal(y.copy(), x.T[::-1])
    np.testing.assert_array_equal(z.copy(), x.T.astype(np.int32))


def test_eight_axes_are_walked_over_and_nine_refused():
    x = numbers((2,) * 9, np.float32)
    eight, nine = np.arange(8)[::-1], np.arange(9)[::-1]
    y = on_gpu(np.zeros((2,) * 8, np.float32))
    launch(device.copy, on_gpu(x[0]).transpose(eight), y)
    np.testing.assert_array_equal(y.copy(), x[0].transpose(eight))
    with pytest.raises(ValueError, match="a GPU kernel supports 8 at maximum"):
        launch(device.copy, on_gpu(x).transpose(nine), on_gpu(np.zeros((2,) * 9, np.float32)))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 641, 2**16 - 1, 2**20 + 7, 2**30, 2**31 - 2, 2**31 - 1])
def test_quotients_by_multiplication(n):
    from nbkeras.kernels.cuda.loops import walk

    multiplier, shift = walk.divider(n)
    assert multiplier < 2**32 and shift < 64
    for x in (0, 1, n - 1, n, n + 1, 2 * n - 1, 2 * n, 2**31 // n * n - 1, 2**31 - 2, 2**31 - 1):
        if x < 2**31:
            assert x * multiplier < 2**64 and x * multiplier >> shift == x // n


@pytest.mark.skipif(not twins.SIMULATED, reason="the simulator has functions of its own for them")
def test_quotients_of_compiled_code_are_those_of_the_simulator():
    from nbkeras.kernels.cuda.loops import walk

    split, divided = numba.njit(walk.split_on_a_gpu), numba.njit(walk.divided_on_a_gpu)
    for size in (1, 2, 3, 7, 641, 2**20 + 7, 2**31 - 1):
        multiplier, shift = map(np.uint32, walk.divider(size))
        for n in (0, 1, size - 1, size, 12345, 2**31 - 1):
            for found in (split, walk.split):
                assert found(np.int64(n), np.int32(size), multiplier, shift) == divmod(n, size)
            for found in (divided, walk.divided):
                assert found(np.int64(n), np.int32(size)) == divmod(n, size)


@pytest.mark.skipif(not twins.SIMULATED, reason="a GPU does not check offsets")
def test_products_in_the_simulator_refuse_quads_that_a_gpu_cannot_load():
    from nbkeras.kernels.cuda.loops import registers

    memory = np.arange(132, dtype=np.float32)
    start = -memory.__array_interface__["data"][0] // 4 % 4  # the first element at a multiple of 16 bytes
    a = memory[start : start + 128]
    block = registers.zero_block(a, (0,), (0, 8))

    def multiply(at, step):
        return registers.multiply_add(block, a, at, step, (0,), a, 0, 16, (0, 8), (0,) * 4)

    x, y = a[8:88].reshape(4, 20)[:, :4], a.reshape(-1, 16)[:4, [0, 1, 2, 3, 8, 9, 10, 11]]
    np.testing.assert_array_equal(multiply(np.int32(8), 20), x.T @ y)
    for at, step in ((2, 20), (8, 18), (68, 20), (-4, 20)):  # the least offset, a step, the end, the start
        with pytest.raises(ValueError, match="misaligned, or beyond the end"):
            multiply(np.int32(at), step)


def test_walks_join_axes_and_refuse_what_they_cannot_count():
    from nbkeras.kernels.cuda.loops import walk

    sizes, _, _, x, y = walk.walk((2, 1, 3, 4), (12, 7, 4, 1), (24, 7, 8, 2))
    assert (sizes, x, y) == ((24,), (0, 1), (0, 2))
    sizes, _, _, x, y = walk.walk((2, 3, 4), (12, 4, 1), (0, -1, 3))
    assert (sizes, x, y) == ((1, 2, 3, 4), (0, 0, 12, 4, 1), (2, 0, 0, -1, 3))
    assert type(walk.walk((4, 5), (2**29, 1))[3][0]) is np.int32
    assert type(walk.walk((5, 5), (2**29, 1))[3][0]) is np.int64
    assert walk.walk((2**20, 2**20), (2**20, 1))[0] == (2**40,)
    with pytest.raises(ValueError, match="fewer than 2,147,483,648 such elements"):
        walk.walk((2**16, 2**15), (1, 2**16))
    with pytest.raises(ValueError, match="supports fewer than"):
        walk.dividers(2**16, 2**15)


SHAPES = [
    *(((4, 5), (4, 5)), ((3, 4, 5), (5,)), ((3, 1, 5), (4, 1)), ((7,), (1,)), ((2, 3), ()), ((1,), (1,))),
    ((0, 3), (3,)),
]
TWO = (
    *(np.add, np.subtract, np.multiply, np.divide, np.floor_divide, np.mod, np.power),
    *(elementwise.larger, elementwise.smaller),
)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -3.0, np.inf, -np.inf, np.nan, 1e38, -1e-30, 3.0])


def compare(ufunc, out_dtype, *args):
    """A ufunc on the GPU against NumPy's, bit by bit for integers and to 2 ulp for floats."""
    shape = np.broadcast_shapes(*(np.shape(arg) for arg in args))
    want, got = np.zeros(shape, out_dtype), on_gpu(np.zeros(shape, out_dtype))
    with np.errstate(all="ignore"):
        ufunc(*args, want) if not isinstance(ufunc, np.ufunc) else ufunc(*args, out=want, casting="unsafe")
    launch(ufunc, *(on_gpu(arg) for arg in args), got)
    name = getattr(ufunc, "__name__", "")
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got.copy(), want, rtol=4 * np.finfo(out_dtype).eps, err_msg=name)
        if ufunc not in (elementwise.larger, elementwise.smaller):  # NumPy gives either of 0 and -0
            np.testing.assert_array_equal(np.signbit(got.copy()[want == 0]), np.signbit(want[want == 0]), err_msg=name)
    else:
        np.testing.assert_array_equal(got.copy(), want, err_msg=name)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.uint8])
@pytest.mark.parametrize("shapes", SHAPES)
def test_arithmetic_broadcasts(dtype, shapes):
    x, y = (numbers(shape, dtype, seed) for seed, shape in enumerate(shapes))
    for ufunc in (np.add, np.multiply, elementwise.larger):
        compare(ufunc, dtype, x, y)
        compare(ufunc, dtype, y, x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_arithmetic_with_special_numbers(dtype):
    x, y = SPECIAL.astype(dtype)[:, None], SPECIAL.astype(dtype)
    for ufunc in TWO:
        compare(ufunc, dtype, x, y)
        compare(ufunc, dtype, x, dtype(-2))
        compare(ufunc, dtype, dtype(2), x)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32])
def test_whole_arithmetic(dtype):
    values = np.array([0, 1, 2, 3, 7, 100, 127] + ([-1, -2, -7, -128] if np.dtype(dtype).kind == "i" else [])).astype(
        dtype
    )
    for ufunc in TWO:
        if ufunc not in (np.divide, np.power):
            compare(ufunc, dtype, values[:, None], values)
            compare(ufunc, dtype, values, dtype(3))
    compare(np.power, dtype, values[:, None], np.abs(values[:5]))


def test_arithmetic_of_booleans():
    x, y = np.array([True, True, False, False]), np.array([True, False, True, False])
    for ufunc in (np.add, np.multiply, elementwise.larger, elementwise.smaller):
        compare(ufunc, np.bool_, x, y)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("out_dtype", [np.bool_, np.float32])
def test_comparisons(dtype, out_dtype):
    values = SPECIAL.astype(dtype) if np.dtype(dtype).kind == "f" else np.array([0, 1, 2]).astype(dtype)
    for ufunc in (
        *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
        *(np.logical_and, np.logical_or, np.logical_xor),
    ):
        compare(ufunc, out_dtype, values[:, None], values)
        compare(ufunc, out_dtype, values, dtype(1))


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_of_one_float(dtype):
    near = np.linspace(-4, 4, 23).astype(dtype)
    for ufunc in (
        *(np.negative, np.absolute, np.square, np.sign, np.reciprocal, np.sqrt, np.floor, np.ceil),
        *(np.exp, np.expm1, np.log, np.log1p, np.log2, np.sin, np.cos, np.tan, np.arctan),
        *(np.arcsin, np.arccos, np.arcsinh, np.arccosh, np.arctanh, np.sinh, np.cosh, np.exp2, np.log10, np.trunc),
        *(np.deg2rad, np.rad2deg),
    ):
        for x in (near, SPECIAL.astype(dtype), near.reshape(23, 1)[::-2]):
            compare(ufunc, dtype, x)
    for ufunc in (np.isnan, np.isinf, np.isfinite, np.logical_not):
        compare(ufunc, np.bool_, SPECIAL.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_rare_functions_of_two_floats(dtype):
    values = np.append(SPECIAL, np.linspace(-4, 4, 11)).astype(dtype)
    for ufunc in (np.hypot, np.arctan2, np.fmod, np.logaddexp, np.fmax, np.fmin):
        if ufunc is np.fmax:  # from here on one kind of zero: nobody promises which of 0 and -0 is larger
            values = values + dtype(0)
        compare(ufunc, dtype, values[:, None], values)
        compare(ufunc, dtype, values, dtype(3))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8])
def test_functions_of_one_integer(dtype):
    values = np.array([0, 1, 2, 127] + ([-1, -128] if np.dtype(dtype).kind == "i" else [])).astype(dtype)
    for ufunc in (np.negative, np.absolute, np.square, np.sign):
        compare(ufunc, dtype, values)
    compare(np.logical_not, np.bool_, values)


@pytest.mark.parametrize("dtype", FLOATS)
def test_views_as_operands(dtype):
    """Columns, reversed rows, and rows that begin between 16 bytes."""
    x, y = numbers((5, 7), dtype), numbers((5, 7), dtype, 1)
    there = on_gpu(x), on_gpu(y)
    for part in (np.s_[:, 2:5], np.s_[::-2], np.s_[1], np.s_[2:4, ::-1]):
        for function in (np.negative, np.floor, np.sign, np.sin, np.add, np.divide, np.floor_divide):
            want, got = np.zeros((5, 7), dtype), on_gpu(np.zeros((5, 7), dtype))
            function(*(array[part] for array in (x, y)[: function.nin]), out=want[part])
            launch(function, *(array[part] for array in there[: function.nin]), got[part])
            name = f"{function.__name__} of {part}"
            np.testing.assert_allclose(got.copy(), want, rtol=4 * np.finfo(dtype).eps, err_msg=name)


@pytest.mark.parametrize("dtype", FLOATS)
def test_in_place(dtype):
    x, y = numbers((5, 7), dtype), numbers((7,), dtype, 1)
    there = on_gpu(x)
    launch(np.multiply, there, on_gpu(y), there)
    launch(np.exp, there, there)
    launch(np.subtract, there, on_gpu(y), there)
    launch(np.add, there, there, there)
    want = (np.exp(x * y) - y) * 2
    np.testing.assert_allclose(there.copy(), want, rtol=1e-5)


def test_what_ufuncs_do_not_take():
    x = on_gpu(np.ones(3, np.float32))
    whole = on_gpu(np.ones(3, np.int32))
    with pytest.raises(TypeError, match="cast to a float"):
        launch(np.exp, whole, x)
    with pytest.raises(TypeError, match="needs one dtype, received int32 and float32"):
        launch(np.add, whole, x, x)


# -------------------- the family's ops --------------------

UNARY = [
    *("negative", "absolute", "square", "sqrt", "reciprocal", "rsqrt", "exp", "expm1", "log", "log1p", "log2"),
    *("sin", "cos", "tan", "arctan", "erf"),
]
BINARY = ["add", "subtract", "multiply", "divide", "mod", "power", "maximum", "minimum"]


def op(name):
    return getattr(elementwise, name), getattr(elementwise, name + "_vjp")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_ops_of_one(name, dtype):
    x = np.linspace(0.1, 3, 21).astype(dtype).reshape(3, 7)
    x = x if name in ("sqrt", "rsqrt", "log", "log1p", "log2") else x * np.where(np.arange(7) % 2, -1, 1).astype(dtype)
    twins.check(*op(name), [x])
    twins.check(*op(name), [x.reshape(-1)[:20].copy()])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_ops_of_two(name, dtype):
    x, y = np.abs(numbers((3, 5), dtype)) + dtype(0.1), numbers((3, 5), dtype, 1)
    y[0, :2] = x[0, :2]  # ties
    y[1, 0] = 0
    twins.check(*op(name), [x, y], needs=(True, True))
    twins.check(*op(name), [x, y], needs=(False, True))
    twins.check(*op(name), [x, y], needs=(True, False))


@pytest.mark.parametrize("dtype", FLOATS)
def test_where(dtype):
    condition = numbers((3, 1, 5), np.bool_)
    twins.check(elementwise.where, None, [condition, numbers((4, 1), dtype), numbers((5,), dtype, 1)])
    dense = numbers((3, 5), np.bool_)
    twins.check(*op("where"), [dense, numbers((3, 5), dtype), numbers((3, 5), dtype, 1)])


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.bool_])
def test_select_takes_numbers_and_its_own_output(dtype):
    condition, x = numbers((4, 5), np.bool_), numbers((4, 5), dtype, 1)
    for first, second in ((x, dtype(1)), (dtype(1), x), (dtype(1), dtype(0))):
        there = on_gpu(np.zeros((4, 5), dtype))
        launch(elementwise.select, on_gpu(condition), on_gpu(first), on_gpu(second), there)
        np.testing.assert_array_equal(there.copy(), np.where(condition, first, second))
    there = on_gpu(x)
    launch(elementwise.select, on_gpu(condition[:1]), dtype(0), there, there)
    np.testing.assert_array_equal(there.copy(), np.where(condition[:1], dtype(0), x))


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32])
def test_clip(dtype):
    x = numbers((3, 7), dtype)
    if np.dtype(dtype).kind == "f":
        x[0, 0], x[1, 1] = np.nan, 1
        twins.check(*op("clip"), [x], {"low": dtype(-1), "high": dtype(1)})
    twins.check(elementwise.clip, None, [x], {"low": dtype(2), "high": dtype(5)})


@pytest.mark.parametrize("dtype", [*FLOATS, np.int32, np.uint8])
@pytest.mark.parametrize("decimals", [0, 1, -1])
def test_round(dtype, decimals):
    x = np.array([0, 5, 15, 25, 35, 99]).astype(dtype)
    if np.dtype(dtype).kind == "f":
        x = np.concatenate([x / 10, -x / 10, x / 100, np.array([np.nan, np.inf, -0.0, 1e30, 2**23 + 1], dtype)])
    twins.check(elementwise.round, None, [x], {"decimals": decimals})
    got = twins.run(twins.gpu(), elementwise.round, None, [x], {"decimals": decimals}, None)[0]
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.round(x, decimals)))


def test_an_array_is_printed_each_time_a_program_runs(capsys):
    x = on_gpu(np.arange(3, dtype=np.float32))
    recorder = Recorder()
    with device.on(twins.gpu()), device.record(recorder):
        elementwise.show(x, "x is")
    with device.on(twins.gpu()):
        program = recorder.sealed([]).bind()
        device.write(x, np.ones(3, np.float32))
        program.run()
    assert capsys.readouterr().out == "x is [0. 1. 2.]\nx is [1. 1. 1.]\n"
