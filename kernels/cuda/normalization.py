"""Twins of normalization.py: batch normalization here, layer normalization in layer_normalization.py.

Blocks of rows, and moments relative to a row of each block, are as in the CPU's kernels. The sets of sums of a widened matrix are
joined like further blocks. Only the joining uses float64: it is a few numbers per channel.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.layer_normalization import row_gradients as row_gradients
from nbkeras.kernels.cuda.loops.lanes import ADD, BLOCK, MAXIMUM, SMALLEST, fold_columns, load_four, over_columns
from nbkeras.kernels.cuda.loops.walk import divided
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, size, start
from nbkeras.kernels.runtime.device_array import DeviceArray

_CHANNELS = size(8, simulated=2)  # channels whose sums one block of threads joins
_THREADS = size(131072, simulated=16)  # with more threads than this, each scales several rows
_MAX_ROWS = 16  # max rows per thread


def _flat(*arrays: DeviceArray) -> list[DeviceArray]:
    return [array.reshape(-1) for array in arrays]


# -------------------- batch normalization: statistics --------------------


@kernel(launch_bounds=BLOCK)
def _moments(x, mask, counts, means, squares, rows, columns, each):
    sums, numbers = cuda.shared.array(BLOCK, x.dtype), cuda.shared.array(BLOCK, np.int64)
    c, lane, lanes, block = cuda.grid(1), cuda.threadIdx.y, cuda.blockDim.y, cuda.blockIdx.y
    first = block * each
    last, pivot_row, zero = min(first + each, rows), first, x.dtype.type(0)
    if mask.size > 0:  # skip to the first row in the mask, at most to the block's last row
        pivot_row, row = last - 1, first + lane
        while row < pivot_row:
            if mask[np.uint64(row)]:
                pivot_row = row
            row += lanes
        pivot_row = fold_columns(SMALLEST, pivot_row, numbers)
    pivot, s, q, n = zero, zero, zero, last - first
    if c < columns and first < last:
        pivot = x[np.uint64(pivot_row * columns + c)]
        at, end, step = (first + lane) * columns + c, last * columns, lanes * columns
        if mask.size == 0:
            while at < end:
                a, b, d, e = load_four(x, at, end, step, 0, pivot)
                a, b, d, e = a - pivot, b - pivot, d - pivot, e - pivot
                s += (a + b) + (d + e)
                q += (a * a + b * b) + (d * d + e * e)
                at += 4 * step
        else:
            n, row = 0, first + lane
            while row < last:
                if mask[np.uint64(row)]:
                    n += 1
                    a = x[np.uint64(at)] - pivot
                    s += a
                    q += a * a
                row += lanes
                at += step
    s, q = fold_columns(ADD, s, sums), fold_columns(ADD, q, sums)
    if mask.size > 0:
        n = fold_columns(ADD, n, numbers)
    if c < columns and lane == 0:
        n = max(n, 0)  # n is negative for a block beyond the last row
        mean = s / x.dtype.type(max(n, 1))
        q -= s * mean
        means[np.uint64(block * columns + c)] = pivot + mean
        squares[np.uint64(block * columns + c)] = zero if q < zero else q
        if c == 0:
            counts[np.uint64(block)] = n


def block_moments(x, mask, counts, means, squares):
    """Count, mean and sum of squared deviations of each column, for each block of rows; counts only rows in the mask."""
    (rows, columns), count = x.shape, counts.size
    tiles, threads = over_columns(columns)
    sizes = rows, columns, blocks(rows, max(1, count))
    start(_moments, (tiles, count), threads, *_flat(x, mask, counts, means, squares), *sizes)


@device_function
def _spread(c, channels, sets, mean, reciprocal, gamma, beta, center, inverse, scale, offset):
    """Writes the coefficients of a channel for each of its sets of columns, by the threads of one threadIdx.x.

    reciprocal: 1 / standard deviation.
    """
    lane = cuda.threadIdx.y
    value = inverse.dtype.type(reciprocal)
    while lane < sets:
        at = np.uint64(lane * channels + c)
        center[at], inverse[at] = mean, value
        scale[at], offset[at] = value * gamma[np.uint64(c)], beta[np.uint64(c)]
        lane += cuda.blockDim.y


@kernel(launch_bounds=(MAXIMUM, 1))
def _join_moments(
    counts, means, squares, total, moving_mean, moving_variance, momentum, gamma, beta, epsilon,
    center, inverse, scale, offset, bits,
):  # fmt: skip
    """Joins the moments. Each channel has 2**bits sets of columns, which means and squares hold as further rows."""
    shared = cuda.shared.array(MAXIMUM, np.float64)
    results = cuda.shared.array((2, _CHANNELS), np.float64)
    c, lane, channels = cuda.grid(1), cuda.threadIdx.y, gamma.size
    parts, number, mean, deviation = counts.size << bits, np.float64(0), np.float64(0), np.float64(0)
    part = lane if c < channels else parts
    while part < parts:
        n = np.float64(counts[np.uint64(part >> bits)])
        if n > 0:
            number += n
            mean += n * np.float64(means[np.uint64(part * channels + c)])
        part += cuda.blockDim.y
    number, mean = fold_columns(ADD, number, shared), fold_columns(ADD, mean, shared)
    number = number if number > 0 else np.float64(1)
    if lane == 0:  # divisions in float64 are slow on most GPUs
        results[0, cuda.threadIdx.x] = mean / number
    cuda.syncthreads()
    mean, part = results[0, cuda.threadIdx.x], lane if c < channels else parts
    while part < parts:
        n = np.float64(counts[np.uint64(part >> bits)])
        if n > 0:
            d = np.float64(means[np.uint64(part * channels + c)]) - mean
            deviation += np.float64(squares[np.uint64(part * channels + c)]) + n * d * d
        part += cuda.blockDim.y
    deviation = fold_columns(ADD, deviation, shared)
    if lane == 0 and c < channels:
        variance = deviation / number
        results[1, cuda.threadIdx.x] = np.float64(1) / math.sqrt(variance + epsilon)
        kept, at = np.float64(1) - momentum, np.uint64(c)
        moving_mean[at] = np.float64(moving_mean[at]) * momentum + mean * kept
        moving_variance[at] = np.float64(moving_variance[at]) * momentum + variance * kept
        if c == 0:
            total[0] = number
    cuda.syncthreads()
    if c < channels:
        reciprocal = results[1, cuda.threadIdx.x]
        _spread(c, channels, 1 << bits, mean, reciprocal, gamma, beta, center, inverse, scale, offset)


def _over_channels(channels: int, parts: int) -> tuple[int, tuple[int, int]]:
    """Returns the grid and the threads per block that join this number of parts of each channel's sums."""
    return blocks(channels, _CHANNELS), (_CHANNELS, (BLOCK if parts <= BLOCK else MAXIMUM) // _CHANNELS)


def join_moments(
    counts, means, squares, joined, total, moving_mean, moving_variance, momentum, gamma, beta, epsilon,
    center, inverse, scale, offset,
):  # fmt: skip
    """Computes mean and variance of each channel, the moving averages, and the coefficients of each column. Ignores `joined`."""
    sets = center.size // max(1, gamma.size)
    shape = _over_channels(gamma.size, counts.size * sets)
    moving = moving_mean, moving_variance, momentum
    affine = gamma, beta, epsilon, center, inverse, scale, offset
    start(_join_moments, *shape, counts, *_flat(means, squares), total, *moving, *affine, sets.bit_length() - 1)


@kernel
def _given_moments(means, variances, gamma, beta, epsilon, center, inverse, scale, offset, sets):
    c, channels = cuda.grid(1), gamma.size
    if c < channels:
        reciprocal = np.float64(1) / math.sqrt(np.float64(variances[np.uint64(c)]) + epsilon)
        _spread(c, channels, sets, means[np.uint64(c)], reciprocal, gamma, beta, center, inverse, scale, offset)


def given_moments(mean, variance, joined, gamma, beta, epsilon, center, inverse, scale, offset):
    """Computes the coefficients of each column from the given statistics. Ignores `joined`."""
    sets = center.size // max(1, gamma.size)
    affine = gamma, beta, epsilon, center, inverse, scale, offset
    threads = _CHANNELS, min(sets, BLOCK // _CHANNELS)
    start(_given_moments, blocks(gamma.size, _CHANNELS), threads, mean, variance, *affine, sets)


@kernel(launch_bounds=BLOCK)
def _sums(dy, x, center, sums, products, rows, columns, each):
    shared = cuda.shared.array(BLOCK, x.dtype)
    c, lane, lanes, block = cuda.grid(1), cuda.threadIdx.y, cuda.blockDim.y, cuda.blockIdx.y
    first, zero = block * each, x.dtype.type(0)
    total, product = zero, zero
    if c < columns:
        middle, step = center[np.uint64(c)], lanes * columns
        at, end = (first + lane) * columns + c, min(first + each, rows) * columns
        while at < end:
            a, b, d, e = load_four(dy, at, end, step, 0, zero)
            p, q, r, s = load_four(x, at, end, step, 0, middle)
            total += (a + b) + (d + e)
            product += (a * (p - middle) + b * (q - middle)) + (d * (r - middle) + e * (s - middle))
            at += 4 * step
    total, product = fold_columns(ADD, total, shared), fold_columns(ADD, product, shared)
    if c < columns and lane == 0:
        sums[np.uint64(block * columns + c)] = total
        products[np.uint64(block * columns + c)] = product


def block_sums(dy, x, center, sums, products):
    """Column sums of dy and dy * (x - center) over each block of rows."""
    (rows, columns), count = x.shape, len(sums)
    tiles, threads = over_columns(columns)
    sizes = rows, columns, blocks(rows, max(1, count))
    start(_sums, (tiles, count), threads, *_flat(dy, x, center, sums, products), *sizes)


@kernel(launch_bounds=MAXIMUM)
def _join_sums(sums, products, total, inverse, scale, dgamma, dbeta, slope, shift, parts, bits):
    shared = cuda.shared.array(MAXIMUM, np.float64)
    results = cuda.shared.array((2, _CHANNELS), np.float64)
    c, lane, channels = cuda.grid(1), cuda.threadIdx.y, dgamma.size
    s, p, part = np.float64(0), np.float64(0), lane if c < channels else parts
    while part < parts:
        s += np.float64(sums[np.uint64(part * channels + c)])
        p += np.float64(products[np.uint64(part * channels + c)])
        part += cuda.blockDim.y
    s, p = fold_columns(ADD, s, shared), fold_columns(ADD, p, shared)
    if lane == 0 and c < channels:
        count, at = total[0] if total.size > 0 else np.float64(math.inf), np.uint64(c)
        dbeta[at] = s
        dgamma[at] = p * np.float64(inverse[at])
        factor = -scale[at]
        results[0, cuda.threadIdx.x] = np.float64(factor * inverse[at] * inverse[at]) * (p / count)
        results[1, cuda.threadIdx.x] = np.float64(factor) * (s / count)
    cuda.syncthreads()
    while c < channels and lane < 1 << bits:
        slope[np.uint64(lane * channels + c)] = results[0, cuda.threadIdx.x]
        shift[np.uint64(lane * channels + c)] = results[1, cuda.threadIdx.x]
        lane += cuda.blockDim.y


def join_sums(sums, products, joined, total, inverse, scale, dgamma, dbeta, slope, shift):
    """dgamma, dbeta, and the slope and shift of dx = dy * scale + (x - center) * slope + shift. Ignores `joined`."""
    sets = slope.size // max(1, dgamma.size)
    parts = len(sums) * sets
    arrays = *_flat(sums, products), total, inverse, scale, dgamma, dbeta, slope, shift
    start(_join_sums, *_over_channels(dgamma.size, parts), *arrays, parts, sets.bit_length() - 1)


# -------------------- batch normalization: all numbers --------------------


def _over_rows(rows: int, columns: int) -> tuple[int, int, int]:
    """Returns a grid of threads with one column each, the number of rows per thread, and their distance."""
    each = min(_MAX_ROWS, max(1, rows * columns // _THREADS))
    stride = blocks(rows, each)
    return blocks(stride * columns, BLOCK), each, stride


@device_function
def _first_row_and_column(rows, columns, stride):
    """Returns this thread's first row and column; the row is `rows` if the thread has no work."""
    row, c = divided(cuda.grid(1), columns)
    return np.int64(row) if row < stride else rows, np.uint64(c)


@kernel
def _scale_rows(x, center, scale, offset, y, rows, columns, each, stride):
    row, c = _first_row_and_column(rows, columns, stride)
    middle, factor, added = center[c], scale[c], offset[c]
    for _ in range(each):
        if row < rows:
            at = np.uint64(row * columns) + c
            y[at] = (x[at] - middle) * factor + added
        row += stride


def scale_rows(x, center, scale, offset, y):
    """y = (x - center) * scale + offset."""
    rows, columns = x.shape
    count, each, stride = _over_rows(rows, columns)
    start(_scale_rows, count, BLOCK, *_flat(x, center, scale, offset, y), rows, columns, each, stride)


@kernel
def _input_gradient(dy, x, mask, center, scale, slope, shift, dx, rows, columns, each, stride):
    row, c = _first_row_and_column(rows, columns, stride)
    middle, factor, steep, added = center[c], scale[c], slope[c], shift[c]
    for _ in range(each):
        if row < rows:
            at = np.uint64(row * columns) + c
            a = dy[at] * factor
            if mask.size == 0 or mask[np.uint64(row)]:
                a += (x[at] - middle) * steep + added
            dx[at] = a
        row += stride


def input_gradient(dy, x, mask, center, scale, slope, shift, dx):
    """dx = dy * scale, plus (x - center) * slope + shift in rows of the mask."""
    rows, columns = x.shape
    count, each, stride = _over_rows(rows, columns)
    arrays = _flat(dy, x, mask, center, scale, slope, shift, dx)
    start(_input_gradient, count, BLOCK, *arrays, rows, columns, each, stride)
