"""Group normalization of (samples, positions, channels), forward and vjp: two passes over the data for each, no copies.

Wu and He, 2018. Each channel and block of positions has its own moments, as in batch normalization; they are joined in float64.
On a GPU the op is a layer normalization of copies with the groups as leading axes (ops/normalization.py).
"""

import numpy as np

from nbkeras.kernels.normalization import ALL_ROWS, BLOCK, SHARE, block_moments, filled
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray


def group_normalization(x: Array, gamma: Array | None, beta: Array | None, groups: int, epsilon: float):
    """Computes (x - mean) / sqrt(variance + epsilon) * gamma + beta, with the moments of each group of channels of a sample.

    x: (samples, positions, channels), not empty; gamma, beta: (channels,).
    """
    samples, positions, channels = x.shape
    gamma, beta = filled(gamma, channels, 1, x.dtype), filled(beta, channels, 0, x.dtype)
    blocks = samples * max(1, positions * channels // BLOCK)
    counts = device.empty((blocks,), np.int64)
    means, squares = (device.empty((blocks, channels), x.dtype) for _ in range(2))
    rows = x.reshape(-1, channels)
    launch_shares(block_moments, share_count(blocks, 1), rows, ALL_ROWS, counts, means, squares)
    center, inverse, scale = (device.empty((samples, channels), x.dtype) for _ in range(3))
    device.launch(join_groups, counts, means, squares, gamma, groups, float(epsilon), center, inverse, scale)
    y = device.empty(x.shape, x.dtype)
    launch_shares(scale_samples, share_count(x.size, SHARE), x, center, scale, beta, y)
    return y, (x, gamma, groups, center, inverse, scale, blocks)


def group_normalization_vjp(saved, dy, needs):
    x, gamma, groups, center, inverse, scale, blocks = saved
    samples, positions, channels = x.shape
    sums, products = (device.empty((blocks, channels), x.dtype) for _ in range(2))
    launch_shares(sample_sums, share_count(blocks, 1), dy, x, center, sums, products)
    dgamma, dbeta = (device.output(need, (channels,), x.dtype) for need in needs[1:])
    slope, shift = (device.empty((samples, channels), x.dtype) for _ in range(2))
    device.launch(join_group_sums, sums, products, gamma, inverse, groups, positions, dgamma, dbeta, slope, shift)
    dx = None
    if needs[0] is not False:
        dx = device.output(needs[0], x.shape, x.dtype)
        launch_shares(sample_gradient, share_count(x.size, SHARE), dy, x, center, scale, slope, shift, dx)
    return dx, dgamma if needs[1] is not False else None, dbeta if needs[2] is not False else None


@compiled
def join_groups(counts, means, squares, gamma, groups, epsilon, center, inverse, scale):
    """Kernel: for each sample and channel, the mean and r = 1 / sqrt(variance + epsilon) of its group, and r * gamma."""
    samples, channels = center.shape
    parts, size = counts.size // samples, channels // groups
    for i in range(samples * groups):
        sample, first = i // groups, i % groups * size
        n, mean, deviation = 0, 0.0, 0.0
        for p in range(sample * parts, (sample + 1) * parts):
            n += counts[p] * size
            for c in range(first, first + size):
                mean += counts[p] * np.float64(means[p, c])
        mean /= n
        for p in range(sample * parts, (sample + 1) * parts):
            for c in range(first, first + size):
                d = means[p, c] - mean
                deviation += squares[p, c] + counts[p] * d * d
        factor = 1.0 / np.sqrt(deviation / n + epsilon)
        for c in range(first, first + size):
            center[sample, c] = mean
            inverse[sample, c] = factor
            scale[sample, c] = factor * gamma[c]


@compiled
def scale_samples(x, center, scale, beta, y, share, shares):
    """Kernel: y = (x - center) * scale + beta; computes a share of the rows (the samples' positions)."""
    samples, positions, channels = x.shape
    for r in range(samples * positions * share // shares, samples * positions * (share + 1) // shares):
        sample, position = r // positions, r % positions
        source, target, middle, factor = x[sample, position], y[sample, position], center[sample], scale[sample]
        for c in range(channels):
            target[c] = (source[c] - middle[c]) * factor[c] + beta[c]


@compiled
def sample_sums(dy, x, center, sums, products, share, shares):
    """Kernel: sums of dy and dy * (x - center) for each channel and block of a sample's positions; computes a share of blocks."""
    samples, positions, channels = x.shape
    blocks, parts = len(sums), len(sums) // samples
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        sample, part = block // parts, block % parts
        s, p, middle = sums[block], products[block], center[sample]
        for c in range(channels):
            s[c] = 0
            p[c] = 0
        for r in range(positions * part // parts, positions * (part + 1) // parts):
            gradient, row = dy[sample, r], x[sample, r]
            for c in range(channels):
                s[c] += gradient[c]
                p[c] += gradient[c] * (row[c] - middle[c])


@compiled
def join_group_sums(sums, products, gamma, inverse, groups, positions, dgamma, dbeta, slope, shift):
    """Kernel: dgamma, dbeta, and the slope and shift of dx = dy * scale + (x - center) * slope + shift."""
    samples, channels = inverse.shape
    parts, size = len(sums) // samples, channels // groups
    for c in range(channels):
        s, p = 0.0, 0.0
        for block in range(len(sums)):
            s += sums[block, c]
            p += np.float64(products[block, c]) * inverse[block // parts, c]
        dgamma[c] = p
        dbeta[c] = s
    for i in range(samples * groups):
        sample, first = i // groups, i % groups * size
        s, p, factor = 0.0, 0.0, np.float64(inverse[sample, first]) / (positions * size)
        for block in range(sample * parts, (sample + 1) * parts):
            for c in range(first, first + size):
                s += np.float64(sums[block, c]) * gamma[c]
                p += np.float64(products[block, c]) * gamma[c]
        for c in range(first, first + size):
            slope[sample, c] = -factor * p * np.float64(inverse[sample, c]) ** 2
            shift[sample, c] = -factor * s


@compiled
def sample_gradient(dy, x, center, scale, slope, shift, dx, share, shares):
    """Kernel: dx = dy * scale + (x - center) * slope + shift; computes a share of the rows."""
    samples, positions, channels = x.shape
    for r in range(samples * positions * share // shares, samples * positions * (share + 1) // shares):
        sample, position = r // positions, r % positions
        source, value, target = dy[sample, position], x[sample, position], dx[sample, position]
        middle, factor, tilt, constant = center[sample], scale[sample], slope[sample], shift[sample]
        for c in range(channels):
            target[c] = source[c] * factor[c] + ((value[c] - middle[c]) * tilt[c] + constant[c])
