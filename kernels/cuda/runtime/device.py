"""The twins of `copy` and `fill` in device.py: copies and casts between arrays of any strides."""

import math
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import (
    ITEMS,
    dividers,
    index_of_one,
    indices_of_two,
    numeric,
    seen_as,
    span,
    split,
    strides_over,
    unsigned_of,
    walk,
    widened,
)
from nbkeras.kernels.cuda.machine.kernel import blocks, kernel, size, start, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_PLAIN, _TRUTH, _WHOLE = range(3)
_TILE = size(32, simulated=4)
_PITCH = _TILE + 1  # the distance between rows of a tile; it puts a column's numbers into different banks
_TILE_ROWS = size(8, simulated=2)  # the rows that a block's threads read at a time


@kernel
def _fill(count, sizes, multipliers, shifts, target, target_steps, value):
    first = np.int64(cuda.blockIdx.x) * (ITEMS * cuda.blockDim.x) + cuda.threadIdx.x
    for item in range(ITEMS):
        n = first + item * cuda.blockDim.x
        if n < count:
            target[np.uint64(index_of_one(n, sizes, multipliers, shifts, target_steps))] = value


@kernel
def _assign(how, limits, count, sizes, multipliers, shifts, source, source_steps, target, target_steps):
    """limits: see `_limits_of`."""
    first = np.int64(cuda.blockIdx.x) * (ITEMS * cuda.blockDim.x) + cuda.threadIdx.x
    values = cuda.local.array(ITEMS, source.dtype)
    at = cuda.local.array(ITEMS, np.int64)
    for item in range(ITEMS):  # do all loads before the first store, because the compiler moves no load before a store
        n = first + item * cuda.blockDim.x
        if n < count:
            i, at[item] = indices_of_two(n, sizes, multipliers, shifts, source_steps, target_steps)
            values[item] = source[np.uint64(i)]
    for item in range(ITEMS):
        if first + item * cuda.blockDim.x < count:
            value = values[item]
            j = np.uint64(at[item])
            if how == _TRUTH:
                target[j] = target.dtype.type(1) if value != source.dtype.type(0) else target.dtype.type(0)
            elif how == _WHOLE and not (limits[0] <= value < limits[1]):  # NaN becomes 0
                target[j] = (
                    limits[2] if value < limits[0] else limits[3] if value >= limits[1] else target.dtype.type(0)
                )
            else:
                target[j] = target.dtype.type(value)


@kernel
def _turn(
    tiles,
    tile_multipliers,
    tile_shifts,
    sizes,
    multipliers,
    shifts,
    source,
    source_steps,
    target,
    target_steps,
    shape,
    steps,
):
    """Copies a batch of matrices, which are stored by rows in the source and by columns in the target.

    tiles: the numbers of tiles from top to bottom and from left to right. shape: of a matrix. steps: the distance between rows in
    the source, and between columns in the target.
    """
    tile = cuda.shared.array((_TILE, _PITCH), source.dtype)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    n, top = split(cuda.blockIdx.x, tiles[0], tile_multipliers[0], tile_shifts[0])
    n, left = split(n, tiles[1], tile_multipliers[1], tile_shifts[1])
    i, j = indices_of_two(n, sizes, multipliers, shifts, source_steps, target_steps)
    top, left = top * _TILE, left * _TILE
    i += left + x
    for r in range(y, _TILE, _TILE_ROWS):
        if top + r < shape[0] and left + x < shape[1]:
            tile[r, x] = source[np.uint64(i + (top + r) * steps[0])]
    cuda.syncthreads()
    j += top + x
    for r in range(y, _TILE, _TILE_ROWS):
        if top + x < shape[0] and left + r < shape[1]:
            target[np.uint64(j + (left + r) * steps[1])] = tile[x, r]


def assign(source: Any, target: DeviceArray) -> None:
    """target[...] = source, with a cast. source: a number, or an array of any strides that broadcasts to target."""
    if not target.size:
        return
    if not isinstance(source, DeviceArray):
        bits = unsigned_of(target.itemsize)
        target, value = seen_as(bits, target), device.converted(np.asarray(source), target.dtype).view(bits)[()]
        if target.flags.c_contiguous:
            _, value, target = widened(target.size, value, target.reshape(-1))
        path = walk(target.shape, strides_over(target, target.shape))
        start_each(_fill, blocks(target.size, ITEMS), target.size, *path[:3], span(target), path[3], value)
        return
    how = _PLAIN
    if source.dtype == target.dtype:
        bits = unsigned_of(target.itemsize)
        source, target = seen_as(bits, source), seen_as(bits, target)
    elif target.dtype == np.bool_:
        how = _TRUTH
    elif source.dtype.kind == "f" and target.dtype.kind in "iu":
        how = _WHOLE
    path = walk(target.shape, strides_over(source, target.shape), strides_over(target, target.shape))
    count, source, target = target.size, span(numeric(source)), span(numeric(target))
    if how != _PLAIN or source.dtype != target.dtype or not _transposed(path, source, target):
        limits = _limits_of(how, source.dtype, target.dtype)
        start_each(_assign, blocks(count, ITEMS), how, limits, count, *path[:3], source, path[3], target, path[4])


def _limits_of(how: int, source: np.dtype, target: np.dtype) -> tuple:
    """Returns the least integer and the first one beyond the largest as numbers of the source; then the least and the largest."""
    minimum, maximum = (np.iinfo(target).min, np.iinfo(target).max) if how == _WHOLE else (0, 0)
    return source.type(minimum), source.type(maximum + 1), target.type(minimum), target.type(maximum)


def _transposed(path: tuple, source: DeviceArray, target: DeviceArray) -> bool:
    """Copies by tiles if neighbours in the source and in the target are along different axes. Returns True if it copied."""
    sizes, _, _, (source_offset, *source_steps), (target_offset, *target_steps) = path
    wide = [axis for axis, n in enumerate(sizes) if 2 * n >= _TILE]
    row = next((axis for axis in wide if target_steps[axis] == 1), None)
    column = next((axis for axis in wide if source_steps[axis] == 1), None)
    if row is None or column is None or row == column:
        return False
    rest = [axis for axis in range(len(sizes)) if axis not in (row, column)]
    shape = tuple(int(sizes[axis]) for axis in rest)
    batch_path = walk(shape, *(tuple(int(steps[axis]) for axis in rest) for steps in (source_steps, target_steps)))
    tiles = blocks(int(sizes[row]), _TILE), blocks(int(sizes[column]), _TILE)
    start(
        _turn,
        math.prod((*tiles, *shape)),
        (_TILE, _TILE_ROWS),
        *dividers(*tiles),
        *batch_path[:3],
        source,
        (source_offset, *map(type(source_offset), batch_path[3][1:])),
        target,
        (target_offset, *map(type(target_offset), batch_path[4][1:])),
        (sizes[row], sizes[column]),
        (source_steps[row], target_steps[column]),
    )
    return True


def copy(source: DeviceArray | np.ndarray, target: DeviceArray) -> None:
    """target[...] = source, any strides, with a cast where dtypes differ; source may be in the CPU's memory."""
    if isinstance(source, np.ndarray):
        target.gpu.write(target, source)
    elif (
        source.dtype == target.dtype
        and source.flags.c_contiguous
        and target.flags.c_contiguous
        and source.shape == target.shape
    ):
        target.gpu.move(source, target)
    else:
        assign(source, target)


def fill(target: DeviceArray, value: Any) -> None:
    """target[...] = value."""
    assign(value, target)
