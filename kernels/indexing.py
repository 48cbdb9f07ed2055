"""Selects elements by integer arrays: take, take_along_axis, one_hot, sorting orders.

Indices are int64; negative ones count from the end.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
Shape = tuple[int, ...]


def _around_axis(x: Array, shape: Shape, axis: int) -> Array:
    """Reshapes x to (before, n, after). x has the axes of `shape`, but others in place of `axis`; these become n."""
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    return x.reshape(before, x.size // max(1, before * after), after) if before * after else x.reshape(before, 0, after)


def _check_range(index: Array, size: int) -> None:
    """Raises IndexError for an index out of range, before it could access other memory."""
    if index.size and (index.min() < -size or index.max() >= size):
        raise IndexError(
            f"indices must lie in [-{size}, {size}) for an axis of size {size}, received {index.min()} to {index.max()}"
        )


@compiled
def _check_indices(index, size):
    """Does the check of `_check_range` in compiled code, where a message cannot contain numbers."""
    for i in range(index.size):
        if index[i] < -size or index[i] >= size:
            raise IndexError("an index is out of range")


# -------------------- converting numbers to indices --------------------


_limits_of = functools.cache(np.iinfo)


def whole(x: Array, dtype: np.dtype):
    """Truncates x to a signed dtype. NaN and numbers out of range become the dtype's smallest number, an invalid index.

    A cast would wrap around: 2**32 + 1 would be 1 in int32, and NaN would be 0 on some machines.
    """
    y, limits = device.empty(x.shape, dtype), _limits_of(dtype)
    low, past = 0 if x.dtype.kind == "u" else int(limits.min), int(limits.max) + 1
    device.launch(cut, x.reshape(-1), x.dtype.type(low), x.dtype.type(past), int(limits.min), y.reshape(-1))
    return y, None


@compiled
def cut(x, low, past, minimum, out):
    """Kernel: out = x where low <= x < past, else `minimum`."""
    for i in range(out.size):
        if low <= x[i] < past:
            out[i] = out.dtype.type(x[i])
        else:
            out[i] = minimum


# -------------------- take --------------------


def take(x: Array, index: Array, axis: int):
    """Returns the elements of x at `index` along an axis; the index's axes replace this axis."""
    y = device.empty(x.shape[:axis] + index.shape + x.shape[axis + 1 :], x.dtype)
    device.launch(gather, x, index, axis, y)
    return y, (x.shape, index, axis)


def take_vjp(saved, dy, needs):
    shape, index, axis = saved
    return _scattered(scatter_add, dy, index.reshape(-1), shape, axis, needs[0]), None


def _scattered(kernel: Any, dy: Array, index: Array, shape: Shape, axis: int, need: Any) -> Array:
    dx = device.output(need, shape, dy.dtype)
    device.launch(device.fill, dx, 0)
    if dy.size:
        device.launch(kernel, _around_axis(dy, shape, axis), index, _around_axis(dx, shape, axis))
    return dx


def gather(x: Array, index: Array, axis: int, out: Array) -> None:
    """Kernel: out = x[..., index, ...], where the index is at `axis`."""
    _check_range(index, x.shape[axis])
    np.take(x, index, axis=axis, out=out, mode="wrap")


@compiled
def _gather(x, index, out):
    """out[i, j, k] = x[i, index[j], k]."""
    for i in range(x.shape[0]):
        for j in range(index.size):
            at = index[j]
            if at < 0:
                at += x.shape[1]
            for k in range(x.shape[2]):
                out[i, j, k] = x[i, at, k]


def _gather_in_library(x: Array, index: Array, axis: int, out: Array) -> Iterator[tuple]:
    if x.flags.c_contiguous and index.flags.c_contiguous:
        yield _check_indices, index.reshape(-1), x.shape[axis]
        yield _gather, _around_axis(x, x.shape, axis), index.reshape(-1), _around_axis(out, x.shape, axis)


gather.in_library = _gather_in_library  # type: ignore[attr-defined]


@compiled
def scatter_add(dy, index, dx):
    """Kernel: dx[i, index[j], k] += dy[i, j, k]."""
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            at = index[j]
            if at < 0:
                at += dx.shape[1]
            for k in range(dy.shape[2]):
                dx[i, at, k] += dy[i, j, k]


# -------------------- take_along_axis --------------------


def take_along_axis(x: Array, index: Array, axis: int):
    """Computes y[.., j, ..] = x[.., index[.., j, ..], ..]. The shapes are equal except along the axis."""
    y = device.empty(index.shape, x.dtype)
    if y.size:
        device.launch(
            gather_along,
            _around_axis(x, x.shape, axis),
            _around_axis(index, x.shape, axis),
            _around_axis(y, x.shape, axis),
        )
    return y, (x.shape, index, axis)


def take_along_axis_vjp(saved, dy, needs):
    shape, index, axis = saved
    return _scattered(scatter_along, dy, _around_axis(index, shape, axis), shape, axis, needs[0]), None


def gather_along(x: Array, index: Array, out: Array) -> None:
    """Kernel: out[i, j, k] = x[i, index[i, j, k], k]."""
    _check_range(index, x.shape[1])
    _gather_along(x, index, out)


def _gather_along_in_library(x: Array, index: Array, out: Array) -> Iterator[tuple]:
    if index.flags.c_contiguous:
        yield _check_indices, index.reshape(-1), x.shape[1]
        yield _gather_along, x, index, out


gather_along.in_library = _gather_along_in_library  # type: ignore[attr-defined]


@compiled
def _gather_along(x, index, out):
    for i in range(index.shape[0]):
        for j in range(index.shape[1]):
            for k in range(index.shape[2]):
                at = index[i, j, k]
                if at < 0:
                    at += x.shape[1]
                out[i, j, k] = x[i, at, k]


@compiled
def scatter_along(dy, index, dx):
    """Kernel: dx[i, index[i, j, k], k] += dy[i, j, k]."""
    for i in range(index.shape[0]):
        for j in range(index.shape[1]):
            for k in range(index.shape[2]):
                at = index[i, j, k]
                if at < 0:
                    at += dx.shape[1]
                dx[i, at, k] += dy[i, j, k]


# -------------------- one_hot and sorting orders: no gradient --------------------


def one_hot(index: Array, classes: int, axis: int, dtype: np.dtype):
    """Returns 1 at the index and 0 elsewhere along a new axis of classes; an index out of range gives zeros."""
    y = device.empty((*index.shape[:axis], classes, *index.shape[axis:]), dtype)
    table = np.arange(classes, dtype=index.dtype).reshape((classes,) + (1,) * (y.ndim - axis - 1))
    device.launch(np.equal, np.expand_dims(index, axis), device.persistent(table), y)
    return y, None


def argsort(x: Array, axis: int):
    y = device.empty(x.shape, np.int32)  # positions are int32, as in Keras
    device.launch(order, x, axis, y)
    return y, None


def order(x: Array, axis: int, out: Array) -> None:
    """Kernel: computes the positions in x of its sorted elements along an axis; equal elements keep their order."""
    out[...] = np.argsort(x, axis=axis, kind="stable")


def largest(x: Array, count: int):
    """Returns the positions of the `count` largest elements along the last axis, largest first; ties keep their order."""
    y = device.empty((*x.shape[:-1], count), np.int32)
    device.launch(largest_first, x, y)
    return y, None


def largest_first(x: Array, out: Array) -> None:
    """Kernel: see `largest`."""
    rising = np.argsort(x[..., ::-1], axis=-1, kind="stable")
    np.subtract(x.shape[-1] - 1, rising[..., ::-1][..., : out.shape[-1]], out=out)
