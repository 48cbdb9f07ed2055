"""Twins of indexing.py. An index out of range (an IndexError on the CPU) reads NaN, or 0 for integers, and adds nothing."""

from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.rows import add_rows, by_row, counted
from nbkeras.kernels.cuda.loops.sort import sorted_positions
from nbkeras.kernels.cuda.loops.walk import dividers, split, unsigned_of, widened
from nbkeras.kernels.cuda.machine.kernel import kernel, size, start_each
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_FEW = size(128, simulated=8)  # up to this many additions, a thread adds sequentially and nothing is sorted
_MANY = 16384  # enough columns to fill a GPU


# -------------------- converting numbers to indices --------------------


@kernel
def _cut(x, low, past, minimum, out):
    n = cuda.grid(1)
    if n < out.size:
        value = x[n]
        out[n] = out.dtype.type(value) if low <= value and value < past else out.dtype.type(minimum)


def cut(x: DeviceArray, low: Any, past: Any, minimum: int, out: DeviceArray) -> None:
    """out = x where low <= x < past, else `minimum`."""
    start_each(_cut, out.size, x, low, past, minimum, out)


# -------------------- take --------------------


@kernel
def _gather(x, index, along, length, shape, multipliers, shifts, missing, out):
    """Gathers elements. along: True if each element of `out` has its own index."""
    n = cuda.grid(1)
    if n < out.size:
        row, k = split(n, shape[2], multipliers[2], shifts[2])
        i, j = split(row, shape[1], multipliers[1], shifts[1])
        at = counted(index[n if along else j], length)
        out[n] = x[(i * length + at) * shape[2] + k] if at >= 0 else missing


def gather(x: DeviceArray, index: DeviceArray, axis: int, out: DeviceArray) -> None:
    """out = x[..., index, ...] with the index at `axis`."""
    if not out.size:
        return
    length, before = x.shape[axis], int(np.prod(x.shape[:axis], dtype=np.int64))
    bits = unsigned_of(x.itemsize)
    flat = x.reshape(-1).view(bits), out.reshape(-1).view(bits)
    after, missing, source, target = widened(out.size // (before * index.size), _missing(x.dtype), *flat)
    path = dividers(before, index.size, after)
    start_each(_gather, target.size, source, index.reshape(-1), False, length, *path, missing, target)


def _missing(dtype: np.dtype) -> Any:
    """Returns the bits of the value that an index out of range reads."""
    return np.asarray(np.nan if dtype.kind == "f" else 0, dtype).view(unsigned_of(dtype.itemsize))[()]


@kernel
def _add_few(dy, index, shape, multipliers, shifts, dx):
    """The thread at the first occurrence of an index sums all its occurrences, for one column."""
    n = cuda.grid(1)
    row, k = split(n, shape[2], multipliers[2], shifts[2])
    i, j = split(row, shape[1], multipliers[1], shifts[1])
    if i < shape[0]:
        at = counted(index[j], dx.shape[1])
        first = at >= 0
        for other in range(j):
            first = first and counted(index[other], dx.shape[1]) != at
        if first:
            total = dx[i, at, k]
            for other in range(j, index.size):
                if counted(index[other], dx.shape[1]) == at:
                    total += dy[i, other, k]
            dx[i, at, k] = total


@kernel
def _add_runs(dy, rows, positions, shape, multipliers, shifts, dx):
    """The thread at the first position of a row sums all its positions, in order, for one column."""
    n = cuda.grid(1)
    row, k = split(n, shape[2], multipliers[2], shifts[2])
    i, at = split(row, shape[1], multipliers[1], shifts[1])
    if i < shape[0]:
        key = rows[at]
        if key < dx.shape[1] and (at == 0 or rows[at - 1] != key):
            total = dx[i, key, k]
            while at < rows.size and rows[at] == key:
                total += dy[i, positions[at], k]
                at += 1
            dx[i, key, k] = total


def scatter_add(dy: DeviceArray, index: DeviceArray, dx: DeviceArray) -> None:
    """dx[i, index[j], k] += dy[i, j, k], in the order described in loops/rows.py."""
    if index.size <= _FEW:
        start_each(_add_few, dy.size, dy, index, *dividers(*dy.shape), dx)
        return
    if len(dy) == 1:
        add_rows(dy[0], index, dx[0])
        return
    room = device.gpu().scratch("scatter_add", (3, index.size), np.int32)
    by_row(index, dx.shape[1], room)
    start_each(_add_runs, dy.size, dy, room[0], room[1], *dividers(*dy.shape), dx)


# -------------------- take_along_axis --------------------


def gather_along(x: DeviceArray, index: DeviceArray, out: DeviceArray) -> None:
    """out[i, j, k] = x[i, index[i, j, k], k]."""
    bits = unsigned_of(x.itemsize)
    arrays = (x.reshape(-1).view(bits), index.reshape(-1), True, x.shape[1], *dividers(*index.shape), _missing(x.dtype))
    start_each(_gather, out.size, *arrays, out.reshape(-1).view(bits))


@kernel
def _scatter_along(dy, index, dx):
    n = cuda.grid(1)
    if n < dy.shape[0] * dy.shape[2]:
        i, k = n // dy.shape[2], n % dy.shape[2]
        for j in range(dy.shape[1]):
            at = counted(index[i, j, k], dx.shape[1])
            if at >= 0:
                dx[i, at, k] += dy[i, j, k]


@kernel
def _flat_index(index, length, shape, multipliers, shifts, flat):
    """Returns the position of an element in the flattened dx, or a position out of range for an index out of range."""
    n = cuda.grid(1)
    if n < flat.size:
        row, k = split(n, shape[2], multipliers[2], shifts[2])
        i, _ = split(row, shape[1], multipliers[1], shifts[1])
        at = counted(index[n], length)
        flat[n] = (i * length + at) * shape[2] + k if at >= 0 else np.int64(shape[0]) * length * shape[2]


def scatter_along(dy: DeviceArray, index: DeviceArray, dx: DeviceArray) -> None:
    """dx[i, index[i, j, k], k] += dy[i, j, k], in the order described in loops/rows.py."""
    columns = dy.shape[0] * dy.shape[2]
    if dy.shape[1] <= _FEW or columns >= _MANY:
        start_each(_scatter_along, columns, dy, index, dx)
        return
    flat = device.gpu().scratch("scatter_along", (dy.size,), np.int64)
    path = dividers(*dy.shape)
    start_each(_flat_index, dy.size, index.reshape(-1), dx.shape[1], *path, flat)
    add_rows(dy.reshape(-1, 1), flat, dx.reshape(-1, 1))


# -------------------- sorting orders --------------------


def order(x: DeviceArray, axis: int, out: DeviceArray) -> None:
    """The positions in x of its sorted elements along an axis. Equal elements keep their order; NaN is last."""
    if out.size:
        target = np.moveaxis(out, axis, -1)  # type: ignore[call-overload]
        positions = sorted_positions(np.moveaxis(x, axis, -1), False, x.shape[axis])  # type: ignore[call-overload]
        device_cuda.copy(positions.reshape(target.shape), target)


def largest_first(x: DeviceArray, out: DeviceArray) -> None:
    """Positions of the largest elements along the last axis, NaN first, then the largest. Equal elements keep their order."""
    if out.size:
        positions = sorted_positions(x, True, out.shape[-1])
        device_cuda.copy(positions[:, : out.shape[-1]], out.reshape(-1, out.shape[-1]))
