"""Twins of indexing.py and shape.py against the CPU's kernels; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import indexing, shape
from nbkeras.kernels.runtime import device

pytestmark = twins.needs_cuda

FLOATS = (np.float32, np.float64)
DTYPES = (*FLOATS, np.int8, np.int64, np.uint16, np.bool_)


def numbers(shape, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(-(50 if np.dtype(dtype).kind == "i" else 0), 50, shape).astype(dtype)


def indices(shape, size, seed=0):
    return np.random.default_rng(seed).integers(-size, size, shape)


def on_gpu(array):
    return twins.to(twins.gpu(), array)


def gpu(function, *args, **constants):
    """The first result of an op on the GPU."""
    return twins.run(twins.gpu(), function, None, args, constants, None)[0]


# -------------------- numbers as indices --------------------


@pytest.mark.parametrize(
    ("given", "dtype"),
    [(given, dtype) for given in (*FLOATS, np.uint64) for dtype in (np.int32, np.int64)]
    + [(given, np.int32) for given in (np.int64, np.uint32)],
)
def test_whole_numbers(given, dtype):
    wide = [0, 1, 2**31 - 1, 2**31, 2**32 - 1] if given == np.uint32 else [0, 3, 2**31, 2**32 + 1, 2**62]
    extra = {"f": [-1.7, 2.9, np.nan, np.inf, -np.inf, 1e20], "i": [-1, -(2**31), -(2**40)], "u": []}[
        np.dtype(given).kind
    ]
    x = np.array([*wide, *extra], given)
    found = gpu(indexing.whole, x, dtype=np.dtype(dtype))
    limits = np.iinfo(dtype)
    held = [limits.min <= each <= limits.max for each in x.tolist()]
    assert found.tolist() == [int(each) if ok else limits.min for each, ok in zip(x.tolist(), held, strict=True)]
    twins.check(indexing.whole, None, [x], {"dtype": np.dtype(dtype)})


# -------------------- take --------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("of", "index", "axis"),
    [
        *(((5, 3), (7,), 0), ((5, 4), (2, 3), 0), ((3, 5, 2), (4,), 1), ((2, 7), (9,), 1), ((4,), (), 0)),
        ((2, 3, 4), (0,), 1),
    ],
)
def test_take(of, index, axis, dtype):
    arrays = [numbers(of, dtype), indices(index, of[axis])]
    twins.check(indexing.take, indexing.take_vjp, arrays, {"axis": axis}, needs=(True, False))


def test_take_adds_up_many_equal_indices():
    x, index = numbers((2, 3, 5)), np.repeat([1, 0, -1, 1], [3, 19, 40, 11])
    twins.check(indexing.take, indexing.take_vjp, [x, index], {"axis": 1}, needs=(True, False))
    twins.check(indexing.take, indexing.take_vjp, [x[0].copy(), index], {"axis": 0}, needs=(True, False))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
def test_take_moves_any_dtype(dtype, width):
    twins.check(indexing.take, None, [numbers((5, width), dtype), indices((6,), 5)], {"axis": 0})
    x = on_gpu(numbers((6, 5), dtype))
    with device.on(twins.gpu()):
        y, _ = indexing.take(x[1:], on_gpu(np.array([3, 0, 3])), 0)
    np.testing.assert_array_equal(y.copy(), numbers((6, 5), dtype)[[4, 1, 4]])


def test_indices_out_of_range_read_nothing_and_add_nothing():
    index = np.array([3, -4, 1, 2**40])
    x = numbers((3, 2))
    np.testing.assert_array_equal(
        gpu(indexing.take, x, index, axis=0), [[np.nan] * 2, [np.nan] * 2, x[1], [np.nan] * 2]
    )
    whole = gpu(indexing.take, np.array([[1], [2], [3]]), index, axis=0)
    np.testing.assert_array_equal(whole, [[0], [0], [2], [0]])
    along = gpu(indexing.take_along_axis, numbers((3,)), index, axis=0)
    np.testing.assert_array_equal(along, [np.nan, np.nan, numbers((3,))[1], np.nan])
    dy = numbers((4, 2), seed=1)
    for lead in (1, 2):
        with device.on(twins.gpu()):
            saved = ((lead, 3, 2), on_gpu(index), 1)
            dx, _ = indexing.take_vjp(saved, on_gpu(np.stack([dy] * lead)), (True, False))
        np.testing.assert_array_equal(dx.copy(), [[[0, 0], dy[2], [0, 0]]] * lead)
    for repeats in (1, 20):
        with device.on(twins.gpu()):
            saved = ((3,), on_gpu(np.tile(index, repeats)), 0)
            dx, _ = indexing.take_along_axis_vjp(saved, on_gpu(np.ones(4 * repeats, np.float32)), (True, False))
        np.testing.assert_array_equal(dx.copy(), [0, repeats, 0])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("of", "index", "axis"),
    [((5, 3), (4, 3), 0), ((2, 5), (2, 9), 1), ((2, 5, 3), (2, 4, 3), 1), ((6,), (200,), 0), ((2, 9), (2, 70), 1)],
)
def test_take_along_axis(of, index, axis, dtype):
    arrays = [numbers(of, dtype), indices(index, of[axis])]
    twins.check(indexing.take_along_axis, indexing.take_along_axis_vjp, arrays, {"axis": axis}, needs=(True, False))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_hot(dtype, axis):
    index = np.array([[0, 2, 4], [3, 7, 1]]).astype(dtype)
    twins.check(indexing.one_hot, None, [index], {"classes": 5, "axis": axis, "dtype": np.dtype(np.float32)})


# -------------------- orders --------------------


SPECIAL = [0.0, -0.0, np.nan, 1, -1, np.inf, -np.inf, 0.0, -np.nan, 1e-40, -0.0, -1e-40, 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 16, 17, 45])
def test_argsort(dtype, length):
    for x in (numbers((3, length), dtype), numbers((3, length), dtype) // 20 if dtype != np.bool_ else None):
        if x is not None:
            np.testing.assert_array_equal(gpu(indexing.argsort, x, axis=1), np.argsort(x, axis=1, kind="stable"))


@pytest.mark.parametrize("dtype", FLOATS)
def test_argsort_of_special_numbers(dtype):
    x = np.array(SPECIAL, dtype)
    np.testing.assert_array_equal(gpu(indexing.argsort, x, axis=0), np.argsort(x, kind="stable"))
    twins.check(indexing.largest, None, [x], {"count": 13})
    twins.check(indexing.largest, None, [x], {"count": 3})


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_argsort_along_axes(axis):
    x = numbers((3, 10, 4))
    np.testing.assert_array_equal(gpu(indexing.argsort, x, axis=axis), np.argsort(x, axis=axis, kind="stable"))
    x = numbers((4, 0, 2))
    np.testing.assert_array_equal(gpu(indexing.argsort, x, axis=axis), np.argsort(x, axis=axis))


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16])
@pytest.mark.parametrize("length", [1, 5, 8, 33, 70])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 20, 70])
def test_largest(dtype, length, count):
    for x in (numbers((3, length), dtype), np.ones((2, length), dtype)):
        twins.check(indexing.largest, None, [x], {"count": min(count, length)})


# -------------------- shape --------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_joining_and_cutting(dtype):
    x, y, z = numbers((3, 2, 5), dtype), numbers((3, 4, 5), dtype, 1), numbers((3, 1, 5), dtype, 2)
    twins.check(shape.concatenate, shape.concatenate_vjp, [x, y, z], {"axis": 1})
    twins.check(shape.concatenate, shape.concatenate_vjp, [x, x, x], {"axis": 0})
    twins.check(shape.concatenate, shape.concatenate_vjp, [x, x[..., :0].copy(), x], {"axis": 2})
    for axis in range(4):
        twins.check(shape.stack, shape.stack_vjp, [x, x * 2], {"axis": axis})
    twins.check(shape.split, shape.split_vjp, [y], {"sizes": [1, 3], "axis": 1})
    for axis in range(3):
        twins.check(shape.unstack, shape.unstack_vjp, [y], {"axis": axis})


@pytest.mark.parametrize("dtype", FLOATS)
def test_moving(dtype):
    x = numbers((3, 5, 4), dtype)
    for op, constants in (
        ("reshape", {"shape": (5, 12)}),
        ("transpose", {"axes": (2, 0, 1)}),
        ("pad", {"widths": ((1, 0), (0, 2), (3, 1)), "value": 2.5}),
        ("flip", {"axes": (0, 2)}),
        ("roll", {"shift": 2, "axis": 1}),
        ("roll", {"shift": -7, "axis": 2}),
        ("getitem", {"key": (slice(None, None, -2), 1, Ellipsis, slice(1, 3))}),
        ("getitem", {"key": (2, 3, 1)}),
        ("getitem", {"key": (None, slice(1, 1))}),
    ):
        twins.check(getattr(shape, op), getattr(shape, op + "_vjp"), [x], constants)
    twins.check(shape.spread, None, [x], {"seen_as": (3, 1, 20), "over": (3, 2, 20), "shape": (6, 20)})


def test_a_gradient_is_written_to_its_destination():
    """A part of a gradient goes where the tape says, though it is contiguous."""
    with device.on(twins.gpu()):
        destination = on_gpu(np.zeros((2, 3), np.float32))
        dy = on_gpu(numbers((4, 3)))
        pieces = shape.concatenate_vjp(([2, 2], 0), dy, (destination, False))
    assert pieces[0] is destination and pieces[1] is None
    np.testing.assert_array_equal(destination.copy(), numbers((4, 3))[:2])
