"""Twins of embedding.py: gathering rows, and adding gradients to them in a fixed order.

With NBKERAS_DETERMINISTIC=0 in the environment, gradients are added in any order. This needs no sorting, but the last bits of
sums then differ between runs.
"""

import math
import os

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.registers import load_quad, store_quad
from nbkeras.kernels.cuda.loops.rows import (
    begins_run,
    by_row,
    column_of_thread,
    counted,
    grid_of_rows,
    row_of_thread,
    sum_pieces,
    with_run,
)
from nbkeras.kernels.cuda.machine.kernel import kernel, start
from nbkeras.kernels.cuda.runtime import device as device_cuda
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_deterministic = os.environ.get("NBKERAS_DETERMINISTIC", "1") != "0"


@kernel
def _gather_rows(table, indices, out):
    i = row_of_thread()
    if i < indices.size:
        row = counted(indices[i], table.shape[0])
        j = column_of_thread()
        if j < out.shape[1]:
            out[i, j] = table[row, j] if row >= 0 else math.nan


@kernel
def _gather_quads(table, rows, quads, indices, out):
    """Looks up rows whose width is a multiple of four: a thread copies four numbers. table and out are flat."""
    i = row_of_thread()
    if i < indices.size:
        row = counted(indices[i], rows)
        nothing = out.dtype.type(math.nan)
        quad = column_of_thread()
        if quad < quads:
            if row >= 0:
                store_quad(out, (i * quads + quad) * 4, load_quad(table, (row * quads + quad) * 4))
            else:
                store_quad(out, (i * quads + quad) * 4, (nothing, nothing, nothing, nothing))


def gather_rows(table, indices, out):
    """out[i] = table[indices[i]], or NaN for an index out of range."""
    rows, width = table.shape
    if width % 4 == 0 and table.address % 16 == 0 and out.address % 16 == 0:
        grid = grid_of_rows(indices.size, width // 4)
        start(_gather_quads, *grid, table.reshape(-1), rows, width // 4, indices, out.reshape(-1))
    else:
        start(_gather_rows, *grid_of_rows(indices.size, width), table, indices, out)


def clear(x):
    """x = 0."""
    device_cuda.fill(x, 0)


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
    """table[indices[i]] += dy[i], in the order described in loops/rows.py; indices out of range are ignored."""
    if not _deterministic:
        start(_add_rows_in_any_order, *grid_of_rows(*dy.shape), dy, indices, table)
        return
    room = device.gpu().scratch("add_rows", (4, indices.size), np.int32)
    by_row(indices, len(table), room)
    sums = sum_pieces(dy, room[0], room[1], len(table))
    start(_add_rows, *grid_of_rows(*dy.shape), dy, room[0], room[1], sums, table)
