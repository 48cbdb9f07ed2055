"""Twins of softmax and of the cross-entropies against the CPU's kernels; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins

from nbkeras.kernels import losses, softmax

pytestmark = twins.needs_cuda

FLOATS = (np.float32, np.float64)
SHAPES = [(1, 1), (7, 2), (5, 4), (3, 7), (9, 8), (2, 12), (3, 17), (2, 61), (1, 131), (3, 64), (0, 3)]


def numbers(shape, dtype, seed=7):
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


def awkward(dtype):
    """Rows of large, infinite and undefined numbers."""
    x = numbers((9, 37), dtype)
    x[0] += 1e4
    x[1, 5], x[2, 20:], x[3] = np.inf, -np.inf, -np.inf
    x[4, 30], x[5], x[6, 0], x[7, :36] = np.nan, np.nan, -np.inf, -np.inf
    x[8, 3] = x[8, 20] = np.inf
    return x


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax(name, dtype):
    op, vjp = getattr(softmax, name), getattr(softmax, f"{name}_vjp")
    for shape in SHAPES:
        twins.check(op, vjp, [numbers(shape, dtype)], {"axis": 1})
    twins.check(op, vjp, [numbers((3, 5, 2), dtype)], {"axis": 1})
    twins.check(op, vjp, [numbers((11, 3), dtype)], {"axis": 0})
    twins.check(op, vjp, [awkward(dtype)], {"axis": 1})


def test_softmax_where_rows_are_not_aligned():
    """Rows of a multiple of four numbers are read in fours only if they start at a multiple of 16 bytes."""

    def shifted(x):
        return softmax.softmax(x[1:].reshape(4, 8), 1)

    twins.check(shifted, None, [numbers((33,), np.float32)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_crossentropy(dtype):
    op, vjp = losses.softmax_crossentropy, losses.softmax_crossentropy_vjp
    for shape in (*SHAPES, (2, 3, 5)):
        target = np.abs(numbers(shape, dtype, 1))
        for needs in ((True, True), (True, False), (False, True)):
            twins.check(op, vjp, [target, numbers(shape, dtype)], needs=needs)
    x = awkward(dtype)
    twins.check(op, vjp, [np.eye(*x.shape, dtype=dtype), x])


@pytest.mark.parametrize("dtype", FLOATS)
def test_sparse_softmax_crossentropy(dtype):
    op, vjp = losses.sparse_softmax_crossentropy, losses.sparse_softmax_crossentropy_vjp
    for shape in (*SHAPES, (2, 3, 5)):
        target = np.random.default_rng(2).integers(0, shape[-1], shape[:-1]).astype(np.int32)
        twins.check(op, vjp, [target, numbers(shape, dtype)], needs=(False, True))
    x = awkward(dtype)
    twins.check(op, vjp, [np.arange(len(x), dtype=np.int32), x], needs=(False, True))


def test_labels_out_of_range():
    target = np.array([0, -1, 5, 4, 2**31 - 1, -(2**31)], np.int32)
    op, vjp = losses.sparse_softmax_crossentropy, losses.sparse_softmax_crossentropy_vjp
    twins.check(op, vjp, [target, numbers((6, 5), np.float32)], needs=(False, True))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_crossentropy(dtype):
    op, vjp = losses.sigmoid_crossentropy, losses.sigmoid_crossentropy_vjp
    for shape in ((1,), (3, 7), (0, 2)):
        target = np.random.default_rng(3).uniform(0, 1, shape).astype(dtype)
        for needs in ((True, True), (False, True)):
            twins.check(op, vjp, [target, numbers(shape, dtype)], needs=needs)
    x = np.array([-1e4, -90, -1e-6, -0.0, 0, 1e-6, 90, 1e4, np.inf, -np.inf, np.nan], dtype)
    twins.check(op, vjp, [np.full(x.shape, 0.25, dtype), x])


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_of_every_number_of_lanes_on_a_gpu(dtype):
    for shape in ((300, 10), (70, 100), (9, 1000), (5, 1003), (3, 10_000), (2, 10_001)):
        target = np.random.default_rng(2).integers(0, shape[1], shape[0]).astype(np.int32)
        op, vjp = losses.sparse_softmax_crossentropy, losses.sparse_softmax_crossentropy_vjp
        twins.check(op, vjp, [target, numbers(shape, dtype)], needs=(False, True))
        dense = np.abs(numbers(shape, dtype, 1))
        twins.check(losses.softmax_crossentropy, losses.softmax_crossentropy_vjp, [dense, numbers(shape, dtype)])
        twins.check(softmax.log_softmax, softmax.log_softmax_vjp, [numbers(shape, dtype)], {"axis": 1})
