"""Sums over the rows that a list of indices selects, on the GPU, in a fixed order of additions.

A stable sort orders the positions in the list by row. Then the positions of each row are contiguous: a *run*. A run is added in
the order of its positions, as on the CPU, except that pieces of PIECE positions of a long run are summed first. Otherwise a word
that fills half a batch would keep one thread busy for long. No order depends on the number of threads, and no sum uses atomics.

With NBKERAS_DETERMINISTIC=0 in the environment, `add_rows` adds in any order. This needs no sorting, but the last bits of sums
then differ between runs.
"""

import os

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.sort import sorted_positions
from nbkeras.kernels.cuda.machine.kernel import THREADS, blocks, device_function, kernel, start, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_deterministic = os.environ.get("NBKERAS_DETERMINISTIC", "1") != "0"
PIECE = 64
_MAX_BLOCKS = 65535  # CUDA's max blocks along a grid's second axis


def grid_of_rows(rows: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns blocks and threads for the elements of a matrix: threads (columns, rows), blocks (rows, columns)."""
    across = min(THREADS, 1 << max(width - 1, 0).bit_length())
    grid = blocks(rows, THREADS // across), blocks(width, across)
    if grid[1] > _MAX_BLOCKS:
        raise ValueError(
            f"a GPU kernel works on rows of up to {_MAX_BLOCKS * THREADS:,} columns, received {width:,}: use fewer columns"
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


@kernel
def _keys(indices, rows, keys):
    i = cuda.grid(1)
    if i < indices.size:
        row = counted(indices[i], rows)
        keys[i] = row if row >= 0 else rows


@kernel
def _in_order(keys, order, rows, positions):
    i = cuda.grid(1)
    if i < keys.size:
        positions[i] = order[i]
        rows[i] = keys[order[i]]


def by_row(indices: DeviceArray, rows: int, room: DeviceArray) -> None:
    """Sorts the positions in `indices` by row. room: int32 (3, n).

    Afterwards room[0] has the rows in ascending order (`rows` for an index out of range), and room[1] their positions.
    """
    n = indices.size
    start_each(_keys, n, indices, rows, room[2])
    if n:
        order = sorted_positions(room[2:], False, n)
        start_each(_in_order, n, room[2], order.reshape(-1), room[0], room[1])


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


@kernel
def _add_rows(dy, rows, positions, sums, table):
    k = row_of_thread()
    if begins_run(rows, k, table.shape[0]):
        row = rows[k]
        j = column_of_thread()
        if j < dy.shape[1]:
            table[row, j] = with_run(table[row, j], dy, rows, positions, sums, k, j)


@kernel
def _add_rows_in_any_order(dy, indices, table):
    i = row_of_thread()
    if i < indices.size:
        row = counted(indices[i], table.shape[0])
        if row >= 0:
            j = column_of_thread()
            if j < dy.shape[1]:
                cuda.atomic.add(table, (row, j), dy[i, j])


def add_rows(dy: DeviceArray, indices: DeviceArray, table: DeviceArray):
    """table[indices[i]] += dy[i]; indices out of range are ignored."""
    if not _deterministic:
        start(_add_rows_in_any_order, *grid_of_rows(*dy.shape), dy, indices, table)
        return
    room = device.gpu().scratch("add_rows", (3, indices.size), np.int32)
    by_row(indices, len(table), room)
    sums = sum_pieces(dy, room[0], room[1], len(table))
    start(_add_rows, *grid_of_rows(*dy.shape), dy, room[0], room[1], sums, table)
