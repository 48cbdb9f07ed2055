"""Batch normalization (of columns) and layer normalization (of rows), forward and vjp, of matrices.

Batch normalization takes two passes over the data in each direction. Narrow matrices are *widened*: k rows are read as one
row of k * channels columns, so that loops over columns are long enough to vectorise. The k sets of sums are joined at the end.
Each block of rows has its own moments in the data's dtype, relative to the block's first row. They are joined in float64 (Chan,
Golub and LeVeque, 1983), so float32 statistics stay accurate for a large mean or many rows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras.kernels import formulas, reduce
from nbkeras.kernels.interpreter.chains import of_steps
from nbkeras.kernels.loops.row_passes import Rows
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count
from nbkeras.kernels.softmax import ANY_ORDER

Array = np.ndarray
BLOCK = 32768  # elements of a block of rows; each block has its own sums
SHARE = 16384  # minimum elements of a share in kernels without sums
_WIDE = 256  # widening makes at least this many columns, if there are enough rows
ALL_ROWS = np.ones(0, np.bool_)  # the mask that selects all rows
_NO_TOTAL = np.zeros(0)  # the `total` of `join_sums` if the statistics do not depend on x


def _block_count(rows: int, columns: int) -> int:
    """Returns the number of blocks of rows: one per BLOCK elements. Each block has at least 8 rows."""
    return min(-(-rows // 8), -(-rows * columns // BLOCK))


def filled(array: Array | None, count: int, value: float, dtype) -> Array:
    """Returns the array, or a constant array for None."""
    if array is None:
        array = device.empty((count,), dtype)
        device.launch(device.fill, array, value)
    return array


# -------------------- batch normalization --------------------


def _wide_shape(rows: int, channels: int, masked: bool) -> tuple[int, int]:
    """Returns (rows / k, k * channels) for some power of two k; k is 1 if there is a mask."""
    k = 1
    while not masked and k * channels < _WIDE and rows % (2 * k) == 0:
        k *= 2
    return rows // k, k * channels


def batch_normalization_training(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    moving_mean: Array,
    moving_variance: Array,
    mask: Array | None,
    momentum: float,
    epsilon: float,
    ranks: Any = None,
):
    """Computes (x - mean) / sqrt(variance + epsilon) * gamma + beta, with x's own column statistics (biased variance).

    Updates the moving statistics in place: moving = momentum * moving + (1 - momentum) * batch. x: (rows, channels). mask: bool
    (rows,), the rows that count in the statistics; all rows are normalized. ranks: an engine.sharding.Sums that extends the
    statistics to the rows of all ranks.
    """
    rows, channels = x.shape
    shape = _wide_shape(rows, channels, mask is not None)
    wide = x.reshape(shape)
    mask = ALL_ROWS if mask is None else mask
    gamma, beta = filled(gamma, channels, 1, x.dtype), filled(beta, channels, 0, x.dtype)
    blocks = _block_count(*shape)
    counts = device.empty((blocks,), np.int64)
    means, squares = device.empty((blocks, shape[1]), x.dtype), device.empty((blocks, shape[1]), x.dtype)
    launch_shares(block_moments, share_count(blocks, 1), wide, mask, counts, means, squares)
    total, joined = device.empty((1,), np.float64), device.empty((2, shape[1]), np.float64)
    center, inverse, scale, offset = (device.empty((shape[1],), x.dtype) for _ in range(4))
    moving = moving_mean, moving_variance, float(momentum)
    affine = gamma, beta, float(epsilon), center, inverse, scale, offset
    if ranks is None:
        device.launch(join_moments, counts, means, squares, joined, total, *moving, *affine)
    else:
        parts = device.empty((ranks.size, 1 + 2 * channels), np.float64)
        device.launch(place_moments, counts, means, squares, ranks.rank, ranks.has_rows, parts)
        ranks.launch_sum(parts)
        device.launch(join_parts, parts, total, *moving, *affine)
    y = device.empty(x.shape, x.dtype)
    launch_shares(scale_rows, share_count(x.size, SHARE), wide, center, scale, offset, y.reshape(shape))
    saved = wide, mask, total, center, inverse, scale, channels
    return y, saved if ranks is None else (ranks, saved)


batch_normalization_training.changes_inputs = (3, 4)  # type: ignore[attr-defined]  # their numbers: see engine/program.py


def batch_normalization_training_vjp(saved, dy, needs):
    ranks, saved = saved if len(saved) == 2 else (None, saved)
    dx, dgamma, dbeta = _batch_gradients(saved, dy, needs[0], needs[1], needs[2], ranks)
    return dx, dgamma, dbeta, None, None, None


def batch_normalization(
    x: Array, mean: Array, variance: Array, gamma: Array | None, beta: Array | None, epsilon: float
):
    """Computes (x - mean) / sqrt(variance + epsilon) * gamma + beta, with given statistics. x: (rows, channels)."""
    rows, channels = x.shape
    shape = _wide_shape(rows, channels, False)
    wide = x.reshape(shape)
    with device.prepared(mean, variance, gamma, beta):
        gamma, beta = filled(gamma, channels, 1, x.dtype), filled(beta, channels, 0, x.dtype)
        joined = device.empty((2, shape[1]), np.float64)
        center, inverse, scale, offset = (device.empty((shape[1],), x.dtype) for _ in range(4))
        affine = gamma, beta, float(epsilon), center, inverse, scale, offset
        device.launch(given_moments, mean, variance, joined, *affine)
    y = device.empty(x.shape, x.dtype)
    launch_shares(scale_rows, share_count(x.size, SHARE), wide, center, scale, offset, y.reshape(shape))
    return y, (wide, ALL_ROWS, _NO_TOTAL, center, inverse, scale, channels)


def folded(
    kernel: Array,
    bias: Array | None,
    mean: Array,
    variance: Array,
    gamma: Array | None,
    beta: Array | None,
    epsilon: float,
):
    """Folds `batch_normalization` into the product before it; returns (kernel, bias). Units are along the kernel's last axis."""
    units, dtype = mean.size, kernel.dtype
    gamma, beta = filled(gamma, units, 1, dtype), filled(beta, units, 0, dtype)
    scale, offset, scaled = (
        device.empty((units,), dtype),
        device.empty((units,), dtype),
        device.empty(kernel.shape, dtype),
    )
    device.launch(np.add, variance, float(epsilon), scale)
    device.launch(np.sqrt, scale, scale)
    device.launch(np.divide, gamma, scale, scale)
    device.launch(np.multiply, kernel, scale, scaled)
    device.launch(np.subtract, filled(bias, units, 0, dtype), mean, offset)
    device.launch(np.multiply, offset, scale, offset)
    device.launch(np.add, offset, beta, offset)
    return (scaled, offset), None


def batch_normalization_vjp(saved, dy, needs):
    inverse, scale, channels = saved[-3:]
    dx, dgamma, dbeta = _batch_gradients(saved, dy, needs[0], True, True)
    dmean, dvariance = (device.empty((channels,), dy.dtype) if need is not False else None for need in needs[1:3])
    if dmean is not None:
        device.launch(mean_gradient, dbeta, scale, dmean)
    if dvariance is not None:
        device.launch(variance_gradient, dgamma, inverse, scale, dvariance)
    return dx, dmean, dvariance, dgamma if needs[3] is not False else None, dbeta if needs[4] is not False else None


def _batch_gradients(saved, dy, need_x, need_gamma, need_beta, ranks=None):
    """Returns dx, dgamma, dbeta for both forward passes: they save the same arrays. dgamma and dbeta cover this rank's rows."""
    wide, mask, total, center, inverse, scale, channels = saved
    shape, dtype, given = wide.shape, wide.dtype, dy.shape
    dy = dy.reshape(shape)
    blocks = _block_count(*shape)
    sums, products = device.empty((blocks, shape[1]), dtype), device.empty((blocks, shape[1]), dtype)
    launch_shares(block_sums, share_count(blocks, 1), dy, wide, center, sums, products)
    dgamma, dbeta = device.output(need_gamma, (channels,), dtype), device.output(need_beta, (channels,), dtype)
    slope, shift = device.empty((shape[1],), dtype), device.empty((shape[1],), dtype)
    joined = device.empty((2, shape[1]), np.float64)
    device.launch(join_sums, sums, products, joined, total, inverse, scale, dgamma, dbeta, slope, shift)
    if ranks is not None:
        both = device.empty((2, channels), np.float64)
        device.launch(place_sums, sums, products, both)
        ranks.launch_gradient_sum(both)
        device.launch(slopes_of_sums, both, total if ranks.has_rows else _NO_TOTAL, inverse, scale, slope, shift)
    dx = None
    if need_x is not False:
        dx = device.output(need_x, given, dtype)
        args = (dy, wide, mask, center, scale, slope, shift, dx.reshape(shape))
        launch_shares(input_gradient, share_count(wide.size, SHARE), *args)
    return dx, dgamma if need_gamma is not False else None, dbeta if need_beta is not False else None


@compiled
def block_moments(x, mask, counts, means, squares, share, shares):
    """Kernel: computes count, mean and sum of squared deviations by column and block of rows; counts only rows in the mask."""
    rows, blocks, none = x.shape[0], counts.size, x.dtype.type(0)
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        first, last = rows * block // blocks, rows * (block + 1) // blocks
        s, q = means[block], squares[block]
        for c in range(s.size):
            s[c] = none
            q[c] = none
        while mask.size > 0 and first < last - 1 and not mask[first]:
            first += 1
        n, pivot = 0, x[first]
        for r in range(first, last):
            if mask.size == 0 or mask[r]:
                n += 1
                row = x[r]
                for c in range(s.size):
                    d = row[c] - pivot[c]
                    s[c] += d
                    q[c] += d * d
        counts[block] = n
        part = x.dtype.type(1.0 / max(n, 1))
        for c in range(s.size):
            mean = s[c] * part
            q[c] = max(q[c] - s[c] * mean, none)
            s[c] = pivot[c] + mean


@compiled
def coefficients(joined, gamma, beta, epsilon, center, inverse, scale, offset):
    """Compute the coefficients of `scale_rows` for each column."""
    for c in range(center.size):
        center[c] = joined[0, c]
        inverse[c] = 1.0 / np.sqrt(joined[1, c] + epsilon)
        scale[c] = inverse[c] * gamma[c % gamma.size]
        offset[c] = beta[c % gamma.size]


@compiled
def join_moments(
    counts,
    means,
    squares,
    joined,
    total,
    moving_mean,
    moving_variance,
    momentum,
    gamma,
    beta,
    epsilon,
    center,
    inverse,
    scale,
    offset,
):
    """Kernel: computes mean and variance of each channel, the moving averages, and the coefficients of each column.

    The k sets of channels of a wide row get the same mean and variance.
    """
    columns, channels = means.shape[1], moving_mean.size
    mean, deviation = joined[0], joined[1]
    n = 0
    for c in range(columns):
        mean[c] = 0.0
        deviation[c] = 0.0
    for p in range(counts.size):
        n += counts[p]
        if counts[p] > 0:
            for c in range(columns):
                mean[c] += counts[p] * np.float64(means[p, c])
    count = n * (columns // channels)
    total[0] = max(count, 1)
    for c in range(channels):
        s = 0.0
        for i in range(c, columns, channels):
            s += mean[i]
        for i in range(c, columns, channels):
            mean[i] = s / total[0]
    for p in range(counts.size):
        if counts[p] > 0:
            for c in range(columns):
                d = means[p, c] - mean[c]
                deviation[c] += squares[p, c] + counts[p] * d * d
    for c in range(channels):
        s = 0.0
        for i in range(c, columns, channels):
            s += deviation[i]
        for i in range(c, columns, channels):
            deviation[i] = s / total[0]
        moving_mean[c] = moving_mean[c] * momentum + mean[c] * (1.0 - momentum)
        moving_variance[c] = moving_variance[c] * momentum + deviation[c] * (1.0 - momentum)
    coefficients(joined, gamma, beta, epsilon, center, inverse, scale, offset)


@device.host
@compiled
def place_moments(counts, means, squares, rank, has_rows, parts):
    """Kernel: writes a row of `parts`: the number of this rank's rows, then mean and sum of squared deviations of each channel.

    The other rows are 0, so that a sum over ranks fills them. It runs on the CPU, where ranks exchange arrays.
    """
    channels, columns = (parts.shape[1] - 1) // 2, means.shape[1]
    parts[:] = 0.0
    n = 0
    for p in range(counts.size):
        n += counts[p] * (columns // channels)
    if n > 0 and has_rows:
        part = parts[rank]
        part[0] = n
        for c in range(channels):
            mean, deviation = 0.0, 0.0
            for p in range(counts.size):
                if counts[p] > 0:
                    for i in range(c, columns, channels):
                        mean += counts[p] * np.float64(means[p, i])
            mean /= n
            for p in range(counts.size):
                if counts[p] > 0:
                    for i in range(c, columns, channels):
                        d = means[p, i] - mean
                        deviation += squares[p, i] + counts[p] * d * d
            part[1 + c] = mean
            part[1 + channels + c] = deviation


@device.host
@compiled
def join_parts(
    parts, total, moving_mean, moving_variance, momentum, gamma, beta, epsilon, center, inverse, scale, offset
):
    """Kernel: computes the results of `join_moments` from the parts of all ranks."""
    channels = gamma.size
    n = 0.0
    for r in range(parts.shape[0]):
        n += parts[r, 0]
    total[0] = max(n, 1.0)
    for c in range(channels):
        mean, deviation = 0.0, 0.0
        for r in range(parts.shape[0]):
            mean += parts[r, 0] * parts[r, 1 + c]
        mean /= total[0]
        for r in range(parts.shape[0]):
            d = parts[r, 1 + c] - mean
            deviation += parts[r, 1 + channels + c] + parts[r, 0] * d * d
        variance = deviation / total[0]
        moving_mean[c] = moving_mean[c] * momentum + mean * (1.0 - momentum)
        moving_variance[c] = moving_variance[c] * momentum + variance * (1.0 - momentum)
        for i in range(c, center.size, channels):
            center[i] = mean
            inverse[i] = 1.0 / np.sqrt(variance + epsilon)
            scale[i] = inverse[i] * gamma[c]
            offset[i] = beta[c]


@device.host
@compiled
def place_sums(sums, products, both):
    """Kernel: computes the sums of this rank's dy and dy * (x - center) for each channel."""
    for c in range(both.shape[1]):
        s, p = 0.0, 0.0
        for part in range(sums.shape[0]):
            for i in range(c, sums.shape[1], both.shape[1]):
                s += sums[part, i]
                p += products[part, i]
        both[0, c] = s
        both[1, c] = p


@device.host
@compiled
def slopes_of_sums(both, total, inverse, scale, slope, shift):
    """Kernel: computes the slope and shift of `join_sums`, from the sums over the rows of all ranks."""
    channels = both.shape[1]
    count = total[0] if total.size > 0 else np.inf
    for i in range(slope.size):
        c = i % channels
        slope[i] = -scale[c] * inverse[c] * inverse[c] * (both[1, c] / count)
        shift[i] = -scale[c] * (both[0, c] / count)


@compiled
def given_moments(mean, variance, joined, gamma, beta, epsilon, center, inverse, scale, offset):
    """Kernel: computes the coefficients for each column, from the given statistics."""
    for c in range(joined.shape[1]):
        joined[0, c] = mean[c % mean.size]
        joined[1, c] = variance[c % mean.size]
    coefficients(joined, gamma, beta, epsilon, center, inverse, scale, offset)


@compiled
def scale_rows(x, center, scale, offset, y, share, shares):
    """Kernel: y = (x - center) * scale + offset; computes a share of the rows."""
    rows = x.shape[0]
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        source, target = x[r], y[r]
        for c in range(center.size):
            target[c] = (source[c] - center[c]) * scale[c] + offset[c]


@compiled
def block_sums(dy, x, center, sums, products, share, shares):
    """Kernel: computes column sums of dy and dy * (x - center) over each block of rows; computes a share of the blocks."""
    rows, blocks = x.shape[0], sums.shape[0]
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        s, p = sums[block], products[block]
        for c in range(s.size):
            s[c] = 0
            p[c] = 0
        for r in range(rows * block // blocks, rows * (block + 1) // blocks):
            gradient, row = dy[r], x[r]
            for c in range(s.size):
                s[c] += gradient[c]
                p[c] += gradient[c] * (row[c] - center[c])


@compiled
def join_sums(sums, products, joined, total, inverse, scale, dgamma, dbeta, slope, shift):
    """Kernel: dgamma, dbeta, and the slope and shift of dx = dy * scale + (x - center) * slope + shift.

    total: the number of rows in the statistics; of size 0 if the statistics were given.
    """
    columns, channels = sums.shape[1], dgamma.size
    count = total[0] if total.size > 0 else np.inf
    for c in range(columns):
        joined[0, c] = 0.0
        joined[1, c] = 0.0
    for p in range(sums.shape[0]):
        for c in range(columns):
            joined[0, c] += sums[p, c]
            joined[1, c] += products[p, c]
    for c in range(channels):
        s, p = 0.0, 0.0
        for i in range(c, columns, channels):
            s += joined[0, i]
            p += joined[1, i]
        dbeta[c] = s
        dgamma[c] = p * inverse[c]
        for i in range(c, columns, channels):
            slope[i] = -scale[c] * inverse[c] * inverse[c] * (p / count)
            shift[i] = -scale[c] * (s / count)


@compiled
def input_gradient(dy, x, mask, center, scale, slope, shift, dx, share, shares):
    """Kernel: dx = dy * scale, plus (x - center) * slope + shift in rows of the mask; computes a share of the rows."""
    rows = x.shape[0]
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        source, value, target = dy[r], x[r], dx[r]
        if mask.size == 0 or mask[r]:
            for c in range(center.size):
                target[c] = source[c] * scale[c] + ((value[c] - center[c]) * slope[c] + shift[c])
        else:
            for c in range(center.size):
                target[c] = source[c] * scale[c]


@of_steps
def mean_gradient(dbeta: Array, scale: Array, dmean: Array) -> Iterator[tuple]:
    """Kernel: dmean = -scale * sum(dy)."""
    yield np.multiply, dbeta, scale[: dmean.size], dmean
    yield np.negative, dmean, dmean


@of_steps
def variance_gradient(dgamma: Array, inverse: Array, scale: Array, dvariance: Array) -> Iterator[tuple]:
    """Kernel: dvariance = -scale / (2 (variance + epsilon)) * sum(dy * (x - mean))."""
    yield np.multiply, dgamma, inverse[: dvariance.size], dvariance
    yield np.multiply, dvariance, scale[: dvariance.size], dvariance
    yield np.multiply, dvariance, dvariance.dtype.type(-0.5), dvariance


# -------------------- layer normalization --------------------


layer_normalization_forward = Rows(
    "layer_normalization_forward", __name__, formulas.layer_normalization, "y means inverses"
)
rms_normalization_forward = Rows("rms_normalization_forward", __name__, formulas.rms_normalization, "y means inverses")


def layer_normalization(x: Array, gamma: Array | None, beta: Array | None, epsilon: float, centered: bool = True):
    """Computes (x - mean) / sqrt(variance + epsilon) * gamma + beta, with each row's own mean and biased variance.

    x: (rows, columns). If centered is False, the mean is 0 and the variance is the mean square (RMS normalization, Zhang and
    Sennrich, 2019).
    """
    rows, columns = x.shape
    gamma, beta = filled(gamma, columns, 1, x.dtype), filled(beta, columns, 0, x.dtype)
    y = device.empty(x.shape, x.dtype)
    means, inverses = device.empty((rows,), x.dtype), device.empty((rows,), x.dtype)
    kernel = layer_normalization_forward if centered else rms_normalization_forward
    kernel.launch(x, gamma, beta, y, means, inverses, float(epsilon))
    return y, (x, gamma, means, inverses, centered)


def layer_normalization_vjp(saved, dy, needs):
    x, gamma, means, inverses, centered = saved
    rows, columns = x.shape
    blocks = _block_count(rows, columns)
    products, sums = device.empty((blocks, columns), x.dtype), device.empty((blocks, columns), x.dtype)
    dx = device.output(needs[0], x.shape, x.dtype)
    args = (dy, x, gamma, means, inverses, centered, dx, products, sums)
    launch_shares(row_gradients, share_count(blocks, 1), *args)
    gradients = []
    for need, partial in zip(needs[1:], (products, sums), strict=True):
        total = device.output(need, (columns,), x.dtype) if need is not False else None
        if total is not None:
            reduce.sum_rows(partial[None], total[None])
        gradients.append(total)
    return dx if needs[0] is not False else None, *gradients


@compiled(fastmath=ANY_ORDER)
def _sums_of_gradient(dy, gamma, x, center):
    """Returns the sums of dy * gamma and of dy * gamma * (x - center)."""
    first, second = x.dtype.type(0), x.dtype.type(0)
    for i in range(x.size):
        g = dy[i] * gamma[i]
        first += g
        second += g * (x[i] - center)
    return first, second


@compiled
def row_gradients(dy, x, gamma, means, inverses, centered, dx, products, sums, share, shares):
    """Kernel: computes dx, and the part of dgamma and dbeta of each block of rows; computes a share of the blocks."""
    rows, blocks = x.shape[0], sums.shape[0]
    part = x.dtype.type(1.0 / max(x.shape[1], 1))
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        p, s = products[block], sums[block]
        for c in range(s.size):
            p[c] = 0
            s[c] = 0
        for r in range(rows * block // blocks, rows * (block + 1) // blocks):
            d, row, target = dy[r], x[r], dx[r]
            mean, inverse = means[r], inverses[r]
            first, second = _sums_of_gradient(d, gamma, row, mean)
            first = first * part if centered else x.dtype.type(0)
            second = second * part * inverse
            for c in range(s.size):
                normal = (row[c] - mean) * inverse
                p[c] += d[c] * normal
                s[c] += d[c]
                target[c] = inverse * (d[c] * gamma[c] - first - normal * second)
