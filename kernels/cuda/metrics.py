"""Twins of metrics.py: matches of classes, running sums, confusion counts.

Sums are float64, as on the CPU, in an order that depends only on the shape. For many numbers each block of threads sums a part,
and a second kernel adds the parts.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import (
    ADD,
    BLOCK,
    LANES,
    LARGEST,
    MAXIMUM,
    WARP,
    find_lanes,
    fold_lanes,
    load_four,
    row_and_lane,
    share_of_lane,
    start_rows,
)
from nbkeras.kernels.cuda.loops.walk import divided
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, start, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_BITS = BLOCK.bit_length() - 1  # all threads of a block are the lanes of one row
_PER_THREAD = 16  # minimum numbers per thread of a part
_MAX_PARTS = 128


def _parts(count: int) -> int:
    """Returns the number of parts for `count` numbers."""
    return max(1, min(_MAX_PARTS, count // (BLOCK * _PER_THREAD)))


def _scratch(count: int) -> DeviceArray:
    """Scratch memory for sums."""
    return device.gpu().scratch("metrics", (count,), np.float64)


# -------------------- matches --------------------


@device_function
def _argmax(x, row, rows, n, lane, bits, wide, values, indices):
    """Returns the first position of a row's largest number to each of its lanes. NaN counts only in the first position."""
    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)
    base, index, at = row * n, np.int64(0), first
    value = x[np.uint64(base if row < rows else 0)]
    filler = value
    while at < end:
        a, b, c, d = load_four(x, at, end, step, wide, filler)
        if a > value:
            value, index = a, at - base
        if b > value:
            value, index = b, at + step - base
        if c > value:
            value, index = c, at + 2 * step - base
        if d > value:
            value, index = d, at + 3 * step - base
        at += 4 << bits
    _, index = find_lanes(LARGEST, value, index, bits, values, indices)
    return index


@kernel(launch_bounds=LANES)
def _match_classes(classes, y_pred, out, rows, n, bits, wide):
    values, indices = cuda.shared.array(WARP, y_pred.dtype), cuda.shared.array(WARP, np.int64)
    row, lane = row_and_lane(bits)
    index = _argmax(y_pred, row, rows, n, lane, bits, wide, values, indices)
    if lane == 0 and row < rows:
        out[np.uint64(row)] = out.dtype.type(1) if classes[np.uint64(row)] == index else out.dtype.type(0)


def match_classes(classes, y_pred, out):
    """Computes 1 where a class is the position of the largest number of its row."""
    rows, n = y_pred.shape
    start_rows(_match_classes, n, rows, (classes, y_pred, out))


@kernel(launch_bounds=LANES)
def _match_one_hot(y_true, y_pred, out, rows, n, bits, wide):
    values, indices = cuda.shared.array(WARP, y_pred.dtype), cuda.shared.array(WARP, np.int64)
    row, lane = row_and_lane(bits)
    wanted = _argmax(y_true, row, rows, n, lane, bits, wide, values, indices)
    index = _argmax(y_pred, row, rows, n, lane, bits, wide, values, indices)
    if lane == 0 and row < rows:
        out[np.uint64(row)] = out.dtype.type(1) if wanted == index else out.dtype.type(0)


def match_one_hot(y_true, y_pred, out):
    """Computes 1 where the largest numbers of two rows are at the same position."""
    rows, n = y_pred.shape
    start_rows(_match_one_hot, n, rows, (y_true, y_pred, out))


@kernel
def _match_threshold(y_true, y_pred, limit, out):
    i = cuda.grid(1)
    if i < out.size:
        above = y_true.dtype.type(1) if y_pred[np.uint64(i)] > limit else y_true.dtype.type(0)
        out[np.uint64(i)] = out.dtype.type(1) if y_true[np.uint64(i)] == above else out.dtype.type(0)


def match_threshold(y_true, y_pred, threshold, out):
    """Computes 1 where y_true (0 or 1) equals y_pred > threshold."""
    limit = y_pred.dtype.type(threshold)
    start_each(_match_threshold, out.size, y_true, y_pred, limit, out)


# -------------------- running sums --------------------


@device_function
def _add_to_totals(scale, weighted, number, total, count):
    total[0] += scale * weighted
    if count.size > 0:
        count[0] += scale * number


@kernel
def _accumulate(values, weights, per_weight, scale, sums, total, count):
    """Each block sums a part. If there is only one block, it adds its sums to the totals."""
    shared = cuda.shared.array(WARP, np.float64)
    i, weighted, number = cuda.grid(1), np.float64(0), np.float64(0)
    while i < values.size:
        value = np.float64(values[np.uint64(i)])
        if weights.size > 0:
            value *= np.float64(weights[np.uint64(divided(i, per_weight)[0])])
        weighted += value
        i += cuda.gridsize(1)
    i = cuda.grid(1)
    while i < weights.size:
        number += np.float64(weights[np.uint64(i)])
        i += cuda.gridsize(1)
    weighted, number = fold_lanes(ADD, weighted, _BITS, shared), fold_lanes(ADD, number, _BITS, shared) * per_weight
    if cuda.threadIdx.x == 0:
        if cuda.gridDim.x == 1:
            _add_to_totals(scale, weighted, number if weights.size > 0 else np.float64(values.size), total, count)
        else:
            sums[np.uint64(2 * cuda.blockIdx.x)] = weighted
            sums[np.uint64(2 * cuda.blockIdx.x + 1)] = number


@kernel
def _add_sums(sums, parts, number, scale, total, count):
    """Adds the parts' sums to the totals. number: the sum of weights, or -1 to take it from the sums."""
    shared = cuda.shared.array(WARP, np.float64)
    weighted, weight, i = np.float64(0), np.float64(0), cuda.threadIdx.x
    while i < parts:
        weighted += sums[np.uint64(2 * i)]
        weight += sums[np.uint64(2 * i + 1)]
        i += cuda.blockDim.x
    weighted, weight = fold_lanes(ADD, weighted, _BITS, shared), fold_lanes(ADD, weight, _BITS, shared)
    if cuda.threadIdx.x == 0:
        _add_to_totals(scale, weighted, weight if number < 0 else np.float64(number), total, count)


def accumulate(values, weights, scale, total, count):
    """total += scale * sum(values * weights), count += scale * sum(weights); see metrics.py."""
    parts, per_weight = _parts(values.size), values.size // max(1, weights.size)
    sums = _scratch(2 * parts)
    start(_accumulate, parts, BLOCK, values, weights, per_weight, scale, sums, total, count)
    if parts > 1:
        number = -1 if weights.size else values.size
        start(_add_sums, 1, BLOCK, sums, parts, number, scale, total, count)


# -------------------- confusion counts --------------------


@kernel
def _count(y_true, y_pred, weights, thresholds, sums, columns, rows):
    """A block has a threshold and column (blockIdx.x), and a part of the rows (blockIdx.y). sums: (parts, cells, 4)."""
    shared = cuda.shared.array(WARP, np.float64)
    cell, part = cuda.blockIdx.x, cuda.blockIdx.y
    t, c = divided(cell, columns)
    limit = y_pred.dtype.type(thresholds[np.uint64(t)])
    tp, fp, tn, fn = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
    row = part * cuda.blockDim.x + cuda.threadIdx.x
    while row < rows:
        at = np.uint64(row * columns + c)
        weight, above = np.float64(weights[at] if weights.size > 0 else 1), y_pred[at] > limit
        if y_true[at] != 0:
            if above:
                tp += weight
            else:
                fn += weight
        elif above:
            fp += weight
        else:
            tn += weight
        row += cuda.gridDim.y * cuda.blockDim.x
    tp, fp = fold_lanes(ADD, tp, _BITS, shared), fold_lanes(ADD, fp, _BITS, shared)
    tn, fn = fold_lanes(ADD, tn, _BITS, shared), fold_lanes(ADD, fn, _BITS, shared)
    if cuda.threadIdx.x == 0:
        at = np.uint64(4 * (part * cuda.gridDim.x + cell))
        sums[at], sums[at + np.uint64(1)] = tp, fp
        sums[at + np.uint64(2)], sums[at + np.uint64(3)] = tn, fn


@device_function
def _add_to(table, at, count):
    if table.size > 0:
        table[np.uint64(at)] += count


@kernel
def _add_counts(sums, parts, cells, tp, fp, tn, fn):
    cell = cuda.grid(1)
    if cell < cells:
        a, b, c, d = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
        for part in range(parts):
            at = 4 * (part * cells + cell)
            a += sums[np.uint64(at)]
            b += sums[np.uint64(at + 1)]
            c += sums[np.uint64(at + 2)]
            d += sums[np.uint64(at + 3)]
        _add_to(tp, cell, a)
        _add_to(fp, cell, b)
        _add_to(tn, cell, c)
        _add_to(fn, cell, d)


def _columns(y_pred: DeviceArray, tables: tuple[DeviceArray, ...]) -> tuple[int, int]:
    """Returns the number of columns of the tables, and of predictions per column."""
    columns = max(table.shape[1] for table in tables)
    return columns, y_pred.size // columns


def count_at_thresholds(y_true, y_pred, weights, thresholds, *tables):
    """Adds counts of predictions above each threshold to tables tp, fp, tn, fn (thresholds, labels or 1); size 0: no table."""
    columns, rows = _columns(y_pred, tables)
    cells, parts = thresholds.size * columns, _parts(rows)
    sums = _scratch(parts * cells * 4)
    flat = (array.reshape(-1) for array in (y_true, y_pred, weights))
    start(_count, (cells, parts), BLOCK, *flat, thresholds, sums, columns, rows)
    tables = tuple(table.reshape(-1) for table in tables)
    start_each(_add_counts, cells, sums, parts, cells, *tables)


@kernel
def _fill_buckets(y_true, y_pred, weights, zero_counts, sums, buckets, columns, rows, part_rows):
    """A block has a part (blockIdx.x) and a column (blockIdx.y). sums: (parts, columns, buckets), first those of label 0.

    All threads find the buckets of rows; then each thread sums one bucket in the order of the rows.
    """
    marks, amounts = cuda.shared.array(BLOCK, np.int64), cuda.shared.array(BLOCK, np.float64)
    thread, part, c = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.y
    zero, one = y_pred.dtype.type(0), y_pred.dtype.type(1)
    half = buckets // 2
    last = min((part + 1) * part_rows, rows)
    mine = thread
    while mine - thread < buckets:
        total, first = np.float64(0), part * part_rows
        while first < last:
            row, mark = first + thread, np.int64(-1)
            cuda.syncthreads()
            if row < last:
                at = np.uint64(row * columns + c)
                clipped, mark = y_pred[at], np.int64(0)
                if clipped == clipped:
                    clipped = zero if clipped < zero else (one if clipped > one else clipped)
                    mark = np.int64(math.ceil(clipped * y_pred.dtype.type(half - 2)))
                    if zero_counts != 0 and mark < 1:
                        mark = np.int64(1)
                if y_true[at] != 0:
                    mark += half
                amounts[thread] = np.float64(weights[at] if weights.size > 0 else 1)
            marks[thread] = mark
            cuda.syncthreads()
            for other in range(cuda.blockDim.x):
                if marks[other] == mine:
                    total += amounts[other]
            first += cuda.blockDim.x
        if mine < buckets:
            sums[np.uint64((part * columns + c) * buckets + mine)] = total
        mine += cuda.blockDim.x


@kernel(launch_bounds=MAXIMUM)
def _add_buckets(sums, parts, buckets, size, columns, tp, fp, tn, fn):
    """A block sums the buckets of a column, then the counts above each threshold, from the highest bucket down."""
    thread, c, half = cuda.threadIdx.x, cuda.blockIdx.x, size // 2
    bucket = thread
    while bucket < size:
        total = np.float64(0)
        for part in range(parts):
            total += sums[np.uint64((part * columns + c) * size + bucket)]
        buckets[np.uint64(bucket * columns + c)] = total
        bucket += cuda.blockDim.x
    cuda.syncthreads()
    t = thread
    while t < half - 1:
        false, true, negatives, positives = np.float64(0), np.float64(0), np.float64(0), np.float64(0)
        for k in range(half):
            negatives += buckets[np.uint64(k * columns + c)]
            positives += buckets[np.uint64((half + k) * columns + c)]
        for k in range(half - 1, t, -1):
            false += buckets[np.uint64(k * columns + c)]
            true += buckets[np.uint64((half + k) * columns + c)]
        at = t * columns + c
        _add_to(tp, at, true)
        _add_to(fp, at, false)
        _add_to(tn, at, negatives - false)
        _add_to(fn, at, positives - true)
        t += cuda.blockDim.x


def count_at_even_thresholds(y_true, y_pred, weights, zero_counts, buckets, *tables):
    """Adds counts for the thresholds 0, 1/n, ..., 1 to the tables tp, fp, tn, fn (thresholds, labels or 1); size 0: no table."""
    (columns, rows), count = _columns(y_pred, tables), 2 * buckets.shape[1]
    parts = _parts(rows)
    sums = _scratch(parts * columns * count)
    flat = (array.reshape(-1) for array in (y_true, y_pred, weights))
    part_rows = blocks(rows, parts)
    start(_fill_buckets, (parts, columns), BLOCK, *flat, int(zero_counts), sums, count, columns, rows, part_rows)
    flat_tables = (table.reshape(-1) for table in tables)
    start(_add_buckets, columns, MAXIMUM, sums, parts, buckets.reshape(-1), count, columns, *flat_tables)
