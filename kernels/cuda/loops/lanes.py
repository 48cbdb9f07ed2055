"""Reductions by several threads: the *lanes* that share a row, and the threads of a block that share a column.

Lanes are 1, 2, 4, ... neighbouring threads of one block. Each takes four numbers of its row at a time: contiguous ones in one
load if rows allow it (`is_wide`), else four that are `lanes` apart, so that neighbouring lanes read neighbouring numbers. Results
are combined by shuffles within a warp, and in shared memory across warps. The threads of a column have the same threadIdx.x. The
order of combination depends only on the shape.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.registers import load_quad, store_quad
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, device_function, size, start
from nbkeras.kernels.runtime.device_array import DeviceArray

WARP = size(32, simulated=4)  # the lanes of a warp, which shuffle with each other
BLOCK = size(256, simulated=8)
LANES = size(512, simulated=16)  # max lanes that share a row; with twice as many, float64 had too few registers
MAXIMUM = size(1024, simulated=16)  # max threads of a block
_WHOLE = size(128, simulated=5)  # a block takes all columns up to this number
_TILE = size(32, simulated=3)  # otherwise it takes this many columns
_EVERYONE = 0xFFFFFFFF

ADD, MULTIPLY, LARGEST, SMALLEST, LARGEST_UNSIGNED, SMALLEST_UNSIGNED = range(6)


def lane_bits(count: int) -> int:
    """Returns log2 of the number of lanes for rows of `count` numbers: a lane has about four numbers; at most LANES lanes."""
    return min(max(0, -(-count // 4) - 1).bit_length(), LANES.bit_length() - 1)


def over_rows(rows: int, bits: int) -> tuple[int, int]:
    """Returns (blocks, threads) for rows of 2**bits lanes each."""
    threads = 1 << bits if 1 << bits > WARP else BLOCK
    return blocks(rows << bits, threads), threads


def is_wide(count: int, *arrays: DeviceArray) -> int:
    """Returns 1 if rows of `count` numbers may be read in contiguous fours, else 0."""
    return int(count % 4 == 0 and not any(array.address % 16 for array in arrays))


def start_rows(kernel: Kernel, n: int, rows: int, arrays: tuple[DeviceArray, ...], *args, maximum: int = LANES) -> None:
    """Starts a kernel(*arrays, *args, rows, n, bits, wide) over rows of n numbers. A row has 2**bits lanes, at most `maximum`.

    arrays: contiguous arrays; the kernel gets them as flat memory.
    """
    bits = min(lane_bits(n), maximum.bit_length() - 1)
    flat = (array.reshape(-1) for array in arrays)
    start(kernel, *over_rows(rows, bits), *flat, *args, rows, n, bits, is_wide(n, *arrays))


def over_columns(columns: int, maximum: int = BLOCK) -> tuple[int, tuple[int, int]]:
    """Returns the number of tiles of columns, and the threads per block (columns, rows), at most `maximum` in total."""
    width = max(columns, 1) if columns <= _WHOLE else _TILE
    return blocks(columns, width), (width, maximum // width)


@device_function
def better(op, a, b):
    """True if a is larger (or smaller, by `op`) than b; False for NaN."""
    if op == LARGEST:
        return a > b
    if op == SMALLEST:
        return a < b
    same = (a < 0) == (b < 0)  # a and b are unsigned numbers, seen as int64: negative ones are larger
    if op == LARGEST_UNSIGNED:
        return (a > b) == same
    return (a < b) == same


@device_function
def combine(op, a, b):
    """Returns the sum, product or extremum of two numbers; NaN stays NaN."""
    if op == ADD:
        return a + b
    if op == MULTIPLY:
        return a * b
    return a if better(op, a, b) or a != a else b


@device_function
def beats(op, a, i, b, j):
    """True if a at index i is before b at index j: NaN is before all, and of equal numbers the first."""
    if a != a:
        return b == b or i < j
    return b == b and (better(op, a, b) or (a == b and i < j))


# -------------------- rows --------------------


@device_function
def row_and_lane(bits):
    """Returns the row of this thread, and its index among the 2**bits lanes."""
    thread = cuda.grid(1)
    return thread >> bits, thread & ((1 << bits) - 1)


@device_function
def share_of_lane(row, rows, n, lane, bits, wide):
    """Returns (first, end, step) of a lane's numbers: four from `first` on, `step` apart, and again every 4 << bits.

    The range is empty for a row beyond the last.
    """
    base = row * n
    if row >= rows:
        return base, base, 1
    if wide != 0:
        return base + 4 * lane, base + n, 1
    return base + lane, base + n, 1 << bits


@device_function
def load_four(x, at, end, step, wide, filler):
    """Loads x[at], x[at + step] and the next two; `filler` from `end` on. wide: step is 1 and all four are before the end."""
    if wide != 0:
        return load_quad(x, at)
    a = x[np.uint64(at)]
    b = x[np.uint64(at + step)] if at + step < end else filler
    c = x[np.uint64(at + 2 * step)] if at + 2 * step < end else filler
    d = x[np.uint64(at + 3 * step)] if at + 3 * step < end else filler
    return a, b, c, d


@device_function
def store_four(x, at, end, step, wide, four):
    """Stores four numbers; the opposite of load_four."""
    if wide != 0:
        store_quad(x, at, four)
        return
    x[np.uint64(at)] = four[0]
    if at + step < end:
        x[np.uint64(at + step)] = four[1]
    if at + 2 * step < end:
        x[np.uint64(at + 2 * step)] = four[2]
    if at + 3 * step < end:
        x[np.uint64(at + 3 * step)] = four[3]


@device_function
def fold_lanes(op, value, bits, shared):
    """Combines the values of the lanes of a row; each lane gets the result. All threads of the block must call it.

    shared: WARP numbers of value's dtype. If a row has more lanes than a warp, all threads of the block must be its lanes.
    """
    step = min(1 << bits, WARP) >> 1
    while step > 0:
        value = combine(op, value, cuda.shfl_xor_sync(_EVERYONE, value, step))
        step >>= 1
    if 1 << bits > WARP:
        thread, warps = cuda.threadIdx.x, (1 << bits) // WARP
        cuda.syncthreads()  # the fold before may still be reading
        if thread % WARP == 0:
            shared[thread // WARP] = value
        cuda.syncthreads()
        value = shared[thread & (warps - 1)]
        step = warps >> 1
        while step > 0:
            value = combine(op, value, cuda.shfl_xor_sync(_EVERYONE, value, step))
            step >>= 1
    return value


@device_function
def find_lanes(op, value, index, bits, values, indices):
    """Returns (best value of a row's lanes, its index) to each lane of the row. All threads of the block must call it."""
    step = min(1 << bits, WARP) >> 1
    while step > 0:
        other = cuda.shfl_xor_sync(_EVERYONE, value, step)
        where = cuda.shfl_xor_sync(_EVERYONE, index, step)
        if beats(op, other, where, value, index):
            value, index = other, where
        step >>= 1
    if 1 << bits > WARP:
        thread, warps = cuda.threadIdx.x, (1 << bits) // WARP
        cuda.syncthreads()
        if thread % WARP == 0:
            values[thread // WARP], indices[thread // WARP] = value, index
        cuda.syncthreads()
        for warp in range(warps):
            if beats(op, values[warp], indices[warp], value, index):
                value, index = values[warp], indices[warp]
    return value, index


# -------------------- columns --------------------


@device_function
def fold_columns(op, value, shared):
    """Combines the values of a column's threads (one threadIdx.x); each gets the result. All threads must call it.

    shared: one number of value's dtype for each thread.
    """
    width, rows = cuda.blockDim.x, cuda.blockDim.y
    thread = cuda.threadIdx.y * width + cuda.threadIdx.x
    cuda.syncthreads()  # the fold before may still be reading
    shared[thread] = value
    cuda.syncthreads()
    while rows > 1:
        half = (rows + 1) >> 1
        if cuda.threadIdx.y < rows - half:
            shared[thread] = combine(op, shared[thread], shared[thread + half * width])
        rows = half
        cuda.syncthreads()
    return shared[cuda.threadIdx.x]
