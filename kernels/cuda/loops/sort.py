"""Stable merge sort along an axis on the GPU: in shared memory while a run fits into a block, then in global memory.

Numbers become *keys*: unsigned integers of the same size and in the same order, with -0 equal to 0 and NaN last. A merge of two
sorted runs needs no waiting: each element searches for its position among the elements of the other run.
"""

from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import dividers, index_of_one, seen_as, split, start_walk, unsigned_of
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, size, start, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_TILE = size(1024, simulated=8)  # the elements that a block sorts, one per thread: a power of two
_ROOM = 2 * _TILE
_UNSIGNED, _SIGNED, _FLOAT = range(3)


@kernel
def _keys(kind, sign, infinity, ones, flip, keys, count, sizes, multipliers, shifts, x, x_steps):
    n = cuda.grid(1)
    if n < count:
        bits = x[np.uint64(index_of_one(n, sizes, multipliers, shifts, x_steps))]
        if kind == _FLOAT:
            if bits & (sign ^ ones) > infinity:
                bits = ones
            elif bits & (sign ^ ones) == 0:
                bits = sign
            elif bits & sign:
                bits = bits ^ ones
            else:
                bits = bits ^ sign
        elif kind == _SIGNED:
            bits = bits ^ sign
        keys[n] = bits ^ flip


@device_function
def _smaller(keys, first, last, key, or_equal):
    """Counts the sorted keys from first to last that are smaller than a key, or equal to it if `or_equal`."""
    low = first
    while low < last:
        middle = (low + last) >> 1
        other = keys[np.uint64(middle)]
        if other < key or or_equal and other == key:
            low = middle + 1
        else:
            last = middle
    return low - first


@device_function
def _merged(keys, row, at, width, length):
    """Returns the new index of element `at` of a row after runs of one width are merged in pairs. row: the row's offset."""
    left = at & ~(2 * width - 1)
    key = keys[np.uint64(row + at)]
    if at & width:
        return at - width + _smaller(keys, row + left, row + left + width, key, True)
    right = min(left + width, length)
    return at + _smaller(keys, row + right, row + min(right + width, length), key, False)


@kernel
def _sort_tiles(keys, positions, numbered, length, chunks, multipliers, shifts, log, kept, keys_out, positions_out):
    """Sorts chunks of 2**log keys and keeps the first of each. A block has several chunks; a row has `chunks[1]`."""
    own_keys = cuda.shared.array(_ROOM, keys.dtype)
    own_positions = cuda.shared.array(_ROOM, np.int32)
    slot = cuda.threadIdx.x
    width = 1 << log
    at = slot & (width - 1)
    chunk = cuda.blockIdx.x * (_TILE >> log) + (slot >> log)
    row, in_row = split(chunk, chunks[1], multipliers[1], shifts[1])
    present = row < chunks[0]
    size = min(width, length - in_row * width) if present else 0
    if at < size:
        index = np.int64(row) * length + in_row * width + at
        own_keys[slot] = keys[index]
        own_positions[slot] = positions[index] if numbered else in_row * width + at
    cuda.syncthreads()
    source = 0
    for step in range(log):
        target = _TILE - source
        if at < size:
            first = slot - at
            to = target + first + _merged(own_keys, source + first, at, 1 << step, size)
            own_keys[to] = own_keys[source + slot]
            own_positions[to] = own_positions[source + slot]
        cuda.syncthreads()
        source = target
    if at < min(size, kept):
        row_length = (chunks[1] - 1) * kept + min(kept, length - (chunks[1] - 1) * width)
        index = np.int64(row) * row_length + in_row * kept + at
        keys_out[index] = own_keys[source + slot]
        positions_out[index] = own_positions[source + slot]


@kernel
def _merge(keys, positions, shape, multipliers, shifts, width, keys_out, positions_out):
    n = cuda.grid(1)
    row, at = split(n, shape[1], multipliers[1], shifts[1])
    if row < shape[0]:
        to = np.int64(row) * shape[1] + _merged(keys, np.int64(row) * shape[1], at, width, shape[1])
        keys_out[to] = keys[n]
        positions_out[to] = positions[n]


def sorted_positions(x: DeviceArray, descending: bool, count: int) -> DeviceArray:
    """Returns the positions of the first `count` or more elements in order along the last axis: int32 (rows, ...), in scratch.

    Equal elements keep their order, also in descending order.
    """
    length, rows = x.shape[-1], x.size // x.shape[-1]
    bits = unsigned_of(x.itemsize)
    keys, other_keys = device.gpu().scratch("sorted keys", (2, x.size), bits)
    positions, other_positions = device.gpu().scratch("sorted positions", (2, x.size), np.int32)
    _start_keys(x, descending, keys)
    numbered = False
    while True:
        log = min(length - 1, _TILE - 1).bit_length()
        chunks = blocks(length, 1 << log)
        few = 2 * count <= _TILE
        kept = min(count, 1 << log) if few or chunks == 1 else 1 << log
        path = dividers(rows, chunks)
        arrays = (keys, positions, numbered, length, *path, log, kept, other_keys, other_positions)
        start(_sort_tiles, blocks(rows * chunks, _TILE >> log), _TILE, *arrays)
        keys, positions, other_keys, other_positions = other_keys, other_positions, keys, positions
        length = (chunks - 1) * kept + min(kept, length - ((chunks - 1) << log))
        if chunks == 1:
            break
        if few:
            numbered = True
            continue
        path, width = dividers(rows, length), 1 << log
        while width < length:
            start_each(_merge, rows * length, keys, positions, *path, width, other_keys, other_positions)
            keys, positions, other_keys, other_positions = other_keys, other_positions, keys, positions
            width *= 2
        break
    return positions[: rows * length].reshape(rows, length)


def _start_keys(x: DeviceArray, descending: bool, keys: DeviceArray) -> None:
    number: Any = keys.dtype.type
    sign = number(1 << (8 * x.itemsize - 1))
    infinity = np.asarray(np.inf, x.dtype).view(number)[()] if x.dtype.kind == "f" else number(0)
    ones = ~number(0)
    kind = {"f": _FLOAT, "i": _SIGNED}.get(x.dtype.kind, _UNSIGNED)
    flip = ones if descending else number(0)
    start_walk(_keys, (seen_as(number, x),), kind, sign, infinity, ones, flip, keys)
