"""Twins of quantized.py: rows in int8, products of int8 matrices (by tiles in shared memory), and rows of tables."""

import math

from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import (
    LARGEST,
    WARP,
    fold_lanes,
    load_four,
    row_and_lane,
    share_of_lane,
    start_rows,
)
from nbkeras.kernels.cuda.loops.rows import column_of_thread, counted, grid_of_rows, row_of_thread
from nbkeras.kernels.cuda.machine.kernel import blocks, kernel, size, start

_TILE = size(16, simulated=3)  # the rows and columns of a block's tile, and the terms of a step


@kernel
def _quantize(x, scale, low, high, epsilon, q, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, x.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    largest, zero, at = x.dtype.type(0), x.dtype.type(0), first
    while at < end:
        a, b, c, d = load_four(x, at, end, step, wide, zero)
        largest = max(largest, max(max(abs(a), abs(b)), max(abs(c), abs(d))))
        at += 4 << bits
    largest = fold_lanes(LARGEST, largest, bits, shared)
    minimum, maximum = x.dtype.type(low), x.dtype.type(high)
    factor = maximum / (largest + x.dtype.type(epsilon))
    if lane == 0 and row < rows:
        scale[row] = factor
    at = row * n + lane
    while at < end:
        number = x[at] * factor
        below = math.floor(number)
        rest = number - below
        half = x.dtype.type(0.5)
        odd = below - 2 * math.floor(below * half)
        if rest > half or (rest == half and odd != 0):
            below += 1
        q[at] = min(max(below, minimum), maximum)
        at += 1 << bits


def quantize_rows(x, q, scale, low, high, epsilon):
    """scale = high / (the row's largest absolute value + epsilon), q = x * scale, rounded to even."""
    start_rows(_quantize, x.shape[1], len(x), (x, scale), low, high, epsilon, q.reshape(-1))


@kernel
def _multiply(a, b, c, m, n, k):
    """A block computes a tile of C, and converts both operands to C's dtype."""
    kind = c.dtype.type
    left = cuda.shared.array((_TILE, _TILE), c.dtype)
    right = cuda.shared.array((_TILE, _TILE), c.dtype)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    i, j = cuda.blockIdx.x * _TILE + y, cuda.blockIdx.y * _TILE + x
    total = kind(0)
    for first in range(0, k, _TILE):
        left[y, x] = kind(a[i * k + first + x]) if i < m and first + x < k else kind(0)
        right[y, x] = kind(b[(first + y) * n + j]) if first + y < k and j < n else kind(0)
        cuda.syncthreads()
        for p in range(_TILE):
            total = kind(total + left[y, p] * right[p, x])
        cuda.syncthreads()
    if i < m and j < n:
        c[i * n + j] = total


def multiply_integers(a, b, c, m, n, k):
    """C = A @ B in int32, for flat int8 matrices."""
    start(_multiply, (blocks(m, _TILE), blocks(n, _TILE)), (_TILE, _TILE), a, b, c, m, n, k)


def multiply_converted(a, b, panels, c, m, n, k):
    """C = A @ B in floats, for flat A of floats and B of int8. Only the CPU uses `panels`."""
    start(_multiply, (blocks(m, _TILE), blocks(n, _TILE)), (_TILE, _TILE), a, b, c, m, n, k)


@kernel
def _rescale(sums, steps, scale, bias, y, rectify):
    i, j = row_of_thread(), column_of_thread()
    if i < y.shape[0] and j < y.shape[1]:
        kind = y.dtype.type
        divisor = scale[j] * steps[i] if steps.size > 0 else scale[j]
        number = kind(sums[i, j]) / divisor
        if bias.size > 0:
            number += bias[j]
        y[i, j] = kind(0) if rectify != 0 and number < kind(0) else number


def rescale(sums, steps, scale, bias, y, rectify):
    """y = sums / (scale * the row's step) + bias, or its positive part if rectify; steps, bias: size 0 for none."""
    start(_rescale, *grid_of_rows(*y.shape), sums, steps, scale, bias, y, rectify)


@kernel
def _gather(table, indices, scale, out):
    i = row_of_thread()
    if i < indices.size:
        row = counted(indices[i], table.shape[0])
        j = column_of_thread()
        if j < out.shape[1]:
            out[i, j] = out.dtype.type(table[row, j]) / scale[row] if row >= 0 else math.nan


def gather_scaled_rows(table, indices, scale, out):
    """out[i] = table[indices[i]] / scale[indices[i]], or NaN for an index out of range."""
    start(_gather, *grid_of_rows(indices.size, table.shape[1]), table, indices, scale, out)
