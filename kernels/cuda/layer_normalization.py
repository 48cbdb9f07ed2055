"""Twins of normalization.py's kernels for layer normalization.

The vjp has two kernels: one by rows for dx, one by columns for dgamma and dbeta. In a single kernel a block would process its
rows sequentially, so there would be too few blocks to fill a GPU. It would only save a second read, which caches serve.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import (
    ADD,
    BLOCK,
    LANES,
    WARP,
    fold_columns,
    fold_lanes,
    load_four,
    over_columns,
    row_and_lane,
    share_of_lane,
    start_rows,
    store_four,
)
from nbkeras.kernels.cuda.machine.kernel import blocks, kernel, start


@kernel(launch_bounds=LANES)
def _row_slopes(dy, x, gamma, means, inverses, dx, centered, part, rows, n, bits, wide):
    shared = cuda.shared.array(WARP, x.dtype)
    row, lane = row_and_lane(bits)
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    zero, base = x.dtype.type(0), row * n
    mean, inverse = zero, zero
    if row < rows:
        mean, inverse = means[np.uint64(row)], inverses[np.uint64(row)]
    total, product, at = zero, zero, first
    while at < end:
        a, b, c, d = load_four(dy, at, end, step, wide, zero)
        p, q, r, s = load_four(gamma, at - base, n, step, wide, zero)
        a, b, c, d = a * p, b * q, c * r, d * s
        total += (a + b) + (c + d)
        p, q, r, s = load_four(x, at, end, step, wide, mean)
        product += (a * (p - mean) + b * (q - mean)) + (c * (r - mean) + d * (s - mean))
        at += 4 << bits
    shift = zero
    if centered != 0:
        shift = fold_lanes(ADD, total, bits, shared) * part
    slope, at = fold_lanes(ADD, product, bits, shared) * part * inverse, first
    while at < end:
        a, b, c, d = load_four(dy, at, end, step, wide, zero)
        p, q, r, s = load_four(gamma, at - base, n, step, wide, zero)
        a, b, c, d = a * p - shift, b * q - shift, c * r - shift, d * s - shift
        p, q, r, s = load_four(x, at, end, step, wide, mean)
        p, q, r, s = (p - mean) * inverse, (q - mean) * inverse, (r - mean) * inverse, (s - mean) * inverse
        a, b, c, d = (
            inverse * (a - p * slope),
            inverse * (b - q * slope),
            inverse * (c - r * slope),
            inverse * (d - s * slope),
        )
        store_four(dx, at, end, step, wide, (a, b, c, d))
        at += 4 << bits


@kernel(launch_bounds=BLOCK)
def _row_sums(dy, x, means, inverses, products, sums, rows, columns, each):
    """Computes `products` and `sums` for each block of rows: the sums of dy times the normalized rows, and of dy."""
    shared = cuda.shared.array(BLOCK, x.dtype)
    column, lane, lanes, block = cuda.grid(1), cuda.threadIdx.y, cuda.blockDim.y, cuda.blockIdx.y
    row, last, zero = block * each + lane, min(block * each + each, rows), x.dtype.type(0)
    total, product = zero, zero
    if column < columns:
        at, end, step = row * columns + column, last * columns, lanes * columns
        while at < end:
            a, b, c, d = load_four(dy, at, end, step, 0, zero)
            total += (a + b) + (c + d)
            p, q, r, s = load_four(inverses, row, last, lanes, 0, zero)
            a, b, c, d = a * p, b * q, c * r, d * s
            p, q, r, s = load_four(means, row, last, lanes, 0, zero)
            e, f, g, h = load_four(x, at, end, step, 0, zero)
            product += (a * (e - p) + b * (f - q)) + (c * (g - r) + d * (h - s))
            at += 4 * step
            row += 4 * lanes
    total, product = fold_columns(ADD, total, shared), fold_columns(ADD, product, shared)
    if column < columns and lane == 0:
        sums[np.uint64(block * columns + column)] = total
        products[np.uint64(block * columns + column)] = product


def row_gradients(dy, x, gamma, means, inverses, centered, dx, products, sums):
    """Computes dx, and the part of dgamma and dbeta of each block of rows."""
    (rows, n), count = x.shape, len(sums)
    part = x.dtype.type(1 / max(n, 1))
    start_rows(_row_slopes, n, rows, (dy, x, gamma, means, inverses, dx), int(centered), part)
    tiles, threads = over_columns(n)
    flat = (array.reshape(-1) for array in (dy, x, means, inverses, products, sums))
    start(_row_sums, (tiles, count), threads, *flat, rows, n, blocks(rows, max(1, count)))
