"""`unfold` copies windows along an axis; `fold` sums windows back into their positions. Each is the other's gradient.

    unfold: y[n, i, m, g, k, c] = x[n, i * stride + k * dilation - before, m, g, c], 0 outside of x
    fold:   x[n, j, m, g, c]    = the sum of y[n, i, m, g, k, c] over all i, k with i * stride + k * dilation - before = j

A convolution of volumes becomes one of images, which have the channels of neighbouring slices. A locally connected layer becomes
a product of windows.
"""

from typing import NamedTuple

import numpy as np

from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARES = 16
_SHARE_ELEMENTS = 50_000  # minimum elements of a share: with fewer, another share costs more than it saves


class Line(NamedTuple):
    """Windows of `size` taps along an axis: stride, dilation, padding, and number of windows."""

    size: int
    stride: int
    dilation: int
    before: int
    windows: int


def unfold(x: Array, line: Line):
    """Puts windows side by side: (n, length, between, groups, channels) -> (n, count, between, groups, size, channels)."""
    y = device.empty((x.shape[0], line.windows, *x.shape[2:4], line.size, x.shape[4]), x.dtype)
    unfold_into(x, y, line)
    return y, (x.shape, line)


def unfold_vjp(saved, dy, needs):
    shape, line = saved
    dx = device.output(needs[0], shape, dy.dtype)
    fold_into(dy, dx, line)
    return (dx,)


def unfold_into(x: Array, y: Array, line: Line) -> None:
    """Copies the windows of x to y."""
    shares = share_count(y.size, _SHARE_ELEMENTS, _SHARES, y.shape[0] * y.shape[1])
    launch_shares(unfold_rows, shares, x, y, *line[1:4])


def fold_into(y: Array, x: Array, line: Line) -> None:
    """Sums the windows y into their positions in x."""
    shares = share_count(y.size, _SHARE_ELEMENTS, _SHARES, x.shape[0] * x.shape[1])
    launch_shares(fold_rows, shares, y, x, *line[1:4])


@compiled
def unfold_rows(x, y, stride, dilation, before, share, shares):
    """Kernel: copies a share of the windows."""
    length, count, runs, size, channels = x.shape[1], y.shape[1], y.shape[2] * y.shape[3], y.shape[4], y.shape[5]
    rows, gap, zero = y.shape[0] * count, size * channels, y.dtype.type(0)
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        for k in range(size):
            position = r % count * stride + k * dilation - before
            at, to = (r // count * length + position) * runs * channels, (r * runs * size + k) * channels
            if position >= 0 and position < length:
                for run in range(runs):
                    for c in range(channels):
                        store(y, to + run * gap + c, load(x, at + run * channels + c))
            else:
                for run in range(runs):
                    for c in range(channels):
                        store(y, to + run * gap + c, zero)


@compiled
def fold_rows(y, x, stride, dilation, before, share, shares):
    """Kernel: computes a share of the sums of windows."""
    length, count, runs, size, channels = x.shape[1], y.shape[1], y.shape[2] * y.shape[3], y.shape[4], y.shape[5]
    rows, gap = x.shape[0] * length, size * channels
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        to = r * runs * channels
        for j in range(to, to + runs * channels):
            store(x, j, x.dtype.type(0))
        for k in range(size):
            reach = r % length + before - k * dilation
            if reach < 0 or reach % stride != 0 or reach // stride >= count:
                continue
            at = ((r // length * count + reach // stride) * runs * size + k) * channels
            for run in range(runs):
                for c in range(channels):
                    j = to + run * channels + c
                    store(x, j, load(x, j) + load(y, at + run * gap + c))
