"""Sums over the rows that a list of indices selects, on the GPU, in a fixed order of additions.

A stable radix sort orders the positions in the list by row: for each digit it counts the keys of each tile, computes a prefix
sum, and moves the keys. Then the positions of each row are contiguous: a *run*. A run is added in the order of its positions, as
on the CPU, except that pieces of PIECE positions of a long run are summed first. Otherwise a word that fills half a batch would
keep one thread busy for long. No order depends on the number of threads, and no sum uses atomics.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import THREADS, blocks, device_function, kernel, size, start, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

PIECE = 64
_MOST_BLOCKS = 65535  # CUDA's most blocks along a grid's second axis
_BITS = size(8, simulated=6)
_DIGITS = 1 << _BITS  # also the threads of a block that counts digits; whole warps
_WARPS = _DIGITS // 32
_ROUNDS = size(4, simulated=2)  # keys per thread
_SCANNING = size(1024, simulated=64)
_ALL = 0xFFFFFFFF


def grid_of_rows(rows: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns blocks and threads for the elements of a matrix: threads (columns, rows), blocks (rows, columns)."""
    across = min(THREADS, 1 << max(width - 1, 0).bit_length())
    grid = blocks(rows, THREADS // across), blocks(width, across)
    if grid[1] > _MOST_BLOCKS:
        raise ValueError(
            f"a GPU kernel works on rows of up to {_MOST_BLOCKS * THREADS:,} columns, received {width:,}: use fewer columns"
        )
    return grid, (across, THREADS // across)


@device_function
def row_of_thread():
    return cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y


@device_function
def column_of_thread():
    return cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x


@device_function
def counted(at, length):
    """Returns an index as a non-negative number, or -1 if it is out of range."""
    at = at + length if at < 0 else at
    return at if 0 <= at < length else -1


# -------------------- sorting --------------------


@device_function
def _digit(key, shift):
    return (key >> shift) & (_DIGITS - 1)


@kernel
def _keys(indices, rows, keys, positions):
    i = cuda.grid(1)
    if i < indices.size:
        row = counted(indices[i], rows)
        keys[i] = row if row >= 0 else rows
        positions[i] = i


@kernel
def _count(keys, shift, counts):
    """Counts each digit in the block's tile: counts[digit * tiles + tile]."""
    found = cuda.shared.array(_DIGITS, np.int32)
    thread = cuda.threadIdx.x
    found[thread] = 0
    cuda.syncthreads()
    for turn in range(_ROUNDS):
        i = (cuda.blockIdx.x * _ROUNDS + turn) * _DIGITS + thread
        if i < keys.size:
            cuda.atomic.add(found, _digit(keys[i], shift), 1)
    cuda.syncthreads()
    counts[thread * cuda.gridDim.x + cuda.blockIdx.x] = found[thread]


@kernel
def _scan(counts):
    """Replaces each count by the sum of the counts before it. It needs a single block."""
    of_warps = cuda.shared.array(32, np.int32)
    thread, lane, warp = cuda.threadIdx.x, cuda.laneid, cuda.threadIdx.x // 32
    before = 0  # the total of earlier iterations
    for turn in range(0, counts.size, cuda.blockDim.x):
        i = turn + thread
        own = counts[i] if i < counts.size else np.int32(0)
        up_to_here, distance = own, 1  # the sum up to this thread in its warp
        while distance < 32:
            other = cuda.shfl_up_sync(_ALL, up_to_here, distance)
            if lane >= distance:
                up_to_here = np.int32(up_to_here + other)
            distance *= 2
        if lane == 31:
            of_warps[warp] = up_to_here
        cuda.syncthreads()
        first = before + up_to_here - own
        for other_warp in range(cuda.blockDim.x // 32):
            if other_warp < warp:
                first += of_warps[other_warp]
            before += of_warps[other_warp]
        if i < counts.size:
            counts[i] = first
        cuda.syncthreads()


@kernel
def _move(keys, positions, shift, counts, keys_out, positions_out):
    """Moves keys and positions of the block's tile to the range of their digit, in order."""
    of_warps = cuda.shared.array((_WARPS, _DIGITS), np.int32)  # first counts, later destinations
    stretches = cuda.shared.array(_DIGITS, np.int32)
    thread, lane, warp = cuda.threadIdx.x, cuda.laneid, cuda.threadIdx.x // 32
    stretches[thread] = counts[thread * cuda.gridDim.x + cuda.blockIdx.x]
    for turn in range(_ROUNDS):
        for other in range(_WARPS):
            of_warps[other, thread] = 0
        cuda.syncthreads()
        i = (cuda.blockIdx.x * _ROUNDS + turn) * _DIGITS + thread
        present = i < keys.size
        key = keys[i] if present else np.int32(0)
        digit = _digit(key, shift)
        same = np.uint32(cuda.ballot_sync(_ALL, present))  # lanes of the warp with this digit
        for bit in range(_BITS):
            one = (digit >> bit) & 1
            votes = np.uint32(cuda.ballot_sync(_ALL, one == 1))
            same = np.uint32(same & (votes if one == 1 else votes ^ np.uint32(_ALL)))
        rank = cuda.popc(np.uint32(same & np.uint32((1 << lane) - 1)))
        if present and rank == 0:
            of_warps[warp, digit] = cuda.popc(same)
        cuda.syncthreads()
        first = stretches[thread]
        for other in range(_WARPS):
            found = of_warps[other, thread]
            of_warps[other, thread] = first
            first = np.int32(first + found)
        stretches[thread] = first
        cuda.syncthreads()
        if present:
            target = of_warps[warp, digit] + rank
            keys_out[target] = key
            positions_out[target] = positions[i]
        cuda.syncthreads()


def by_row(indices: DeviceArray, rows: int, room: DeviceArray) -> None:
    """Sorts the positions in `indices` by row. room: int32 (4, n).

    Afterwards room[0] has the rows in ascending order (`rows` for an index out of range), and room[1] their positions.
    """
    n = indices.size
    tiles, passes = blocks(n, _DIGITS * _ROUNDS), -(-rows.bit_length() // _BITS)
    counts = device.gpu().scratch("by_row", (_DIGITS * tiles,), np.int32)
    source, target = (room[:2], room[2:]) if passes % 2 == 0 else (room[2:], room[:2])
    start_each(_keys, n, indices, rows, source[0], source[1])
    for shift in range(0, passes * _BITS, _BITS):
        start(_count, tiles, _DIGITS, source[0], shift, counts)
        start(_scan, min(tiles, 1), _SCANNING, counts)
        start(_move, tiles, _DIGITS, source[0], source[1], shift, counts, target[0], target[1])
        source, target = target, source


# -------------------- sums --------------------


@device_function
def begins_run(rows, k, table_rows):
    """True if k is the first position of a run whose row is in the table."""
    return k < rows.size and rows[k] < table_rows and (k == 0 or rows[k - 1] != rows[k])


@device_function
def _end(rows, row, low, high):
    """Finds the end of a run between `low` and `high`."""
    while low < high:
        middle = (low + high) // 2
        if rows[middle] == row:
            low = middle + 1
        else:
            high = middle
    return low


@device_function
def _start(rows, row, high):
    """Finds the start of the run that contains `high`."""
    low = np.int64(0)
    while low < high:
        middle = (low + high) // 2
        if rows[middle] == row:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def _sum_pieces(dy, rows, positions, table_rows, sums):
    """Computes sums[k] = the sum of the piece that begins at k, for runs of more than one piece."""
    k = row_of_thread()
    if k >= rows.size:
        return
    row = rows[k]
    goes_on = k + PIECE < rows.size and rows[k + PIECE] == row
    if row < table_rows and (goes_on or (k >= PIECE and rows[k - PIECE] == row)):
        if (k - _start(rows, row, k)) % PIECE == 0:
            end = _end(rows, row, k + 1, min(k + PIECE, rows.size))
            column = column_of_thread()
            if column < dy.shape[1]:
                total = dy[positions[k], column]
                for i in range(k + 1, end):
                    total += dy[positions[i], column]
                sums[k, column] = total


@device_function
def with_run(total, dy, rows, positions, sums, first, column):
    """Returns total + the sum of one column over the positions of the run that begins at `first`."""
    row = rows[first]
    if first + PIECE < rows.size and rows[first + PIECE] == row:
        end = _end(rows, row, first + PIECE, rows.size)
        for piece in range((end - first + PIECE - 1) // PIECE):
            total += sums[first + piece * PIECE, column]
    else:
        end = first + 1
        while end < rows.size and rows[end] == row:
            end += 1
        for i in range(first, end):
            total += dy[positions[i], column]
    return total


def sum_pieces(dy: DeviceArray, rows: DeviceArray, positions: DeviceArray, table_rows: int) -> DeviceArray:
    """Computes the sums of pieces that `with_run` needs. rows, positions: from `by_row`."""
    sums = device.gpu().scratch("sum_pieces", dy.shape, dy.dtype)
    if len(dy) > PIECE:
        start(_sum_pieces, *grid_of_rows(*dy.shape), dy, rows, positions, table_rows, sums)
    return sums
