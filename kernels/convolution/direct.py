"""The forward pass of float32 convolutions with windows of nine numbers (3x3 over one channel: digits, grey images).

Copying windows costs too much for a matrix product of depth nine. These loops load the nine numbers from the image and keep them
in registers while they sum over the kernel's nine rows, for all units: twice as fast. With 27 numbers (3x3 over RGB) the matrix
product is faster.
"""

import functools

import numpy as np

from nbkeras.kernels.loops.noalias import load, store
from nbkeras.kernels.loops.window import Window
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
TAPS = 9
_ZERO, _ONE = np.int64(0), np.int64(1)  # Numba would compile the called kernel again for each literal
_SHARES = 16
_SHARE_WORK = 100_000  # min multiply-adds of a share: with fewer, another share costs more than it saves


@functools.lru_cache(maxsize=256)
def _offsets(window: Window, width: int, channels: int) -> Array:
    """Returns the offsets of a window's taps from its first one, in an image of `width` columns and in a copied window."""
    rows = np.arange(window.height)[:, None, None] * window.row_dilation * width
    columns = np.arange(window.width)[:, None] * window.column_dilation
    offsets = (rows + columns) * channels + np.arange(channels)
    return device.persistent(np.stack([offsets.ravel(), np.arange(TAPS)]))


@compiled
def gather(x, n, first, count, window, out_width, channel, channels, windows):
    """Copies windows: windows[i, ky, kx] = `channels` channels from `channel` on of image n, under output position first + i."""
    height, width, depth = x.shape[1], x.shape[2], x.shape[3]
    zero = x.dtype.type(0)
    run = window.width * channels
    whole = window.column_dilation == 1 and channels == depth
    for i in range(count):
        row0 = (first + i) // out_width * window.row_stride - window.top
        column0 = (first + i) % out_width * window.column_stride - window.left
        inside = whole and column0 >= 0 and column0 + window.width <= width
        for ky in range(window.height):
            row, to = row0 + ky * window.row_dilation, (i * window.height + ky) * run
            if row < 0 or row >= height:
                for j in range(run):
                    store(windows, to + j, zero)
                continue
            at = ((n * height + row) * width + column0) * depth + channel
            if inside:
                for j in range(run):
                    store(windows, to + j, load(x, at + j))
                continue
            for kx in range(window.width):
                column = kx * window.column_dilation
                if column0 + column < 0 or column0 + column >= width:
                    for j in range(channels):
                        store(windows, to + kx * channels + j, zero)
                else:
                    for j in range(channels):
                        store(windows, to + kx * channels + j, load(x, at + column * depth + j))


@compiled
def positions_by_nine(x, at, step, offsets, form, weights, units, y, to, count, minimum):
    """Computes `count` positions of y from offset `to` on. Their windows start at offset `at` in the flat x, `step` apart.

    form: the index of a row of `offsets`. weights: nine rows, then the bias. minimum: the lower bound of the results.
    """
    o0, o1, o2 = load(offsets, form * 9), load(offsets, form * 9 + 1), load(offsets, form * 9 + 2)
    o3, o4, o5 = load(offsets, form * 9 + 3), load(offsets, form * 9 + 4), load(offsets, form * 9 + 5)
    o6, o7, o8 = load(offsets, form * 9 + 6), load(offsets, form * 9 + 7), load(offsets, form * 9 + 8)
    for i in range(count):
        p, out = at + i * step, to + i * units
        a0, a1, a2 = load(x, p + o0), load(x, p + o1), load(x, p + o2)
        a3, a4, a5 = load(x, p + o3), load(x, p + o4), load(x, p + o5)
        a6, a7, a8 = load(x, p + o6), load(x, p + o7), load(x, p + o8)
        for j in range(units):
            v = a0 * load(weights, j) + a1 * load(weights, j + units) + a2 * load(weights, j + 2 * units)
            v += (
                a3 * load(weights, j + 3 * units)
                + a4 * load(weights, j + 4 * units)
                + a5 * load(weights, j + 5 * units)
            )
            v += (
                a6 * load(weights, j + 6 * units)
                + a7 * load(weights, j + 7 * units)
                + a8 * load(weights, j + 8 * units)
            )
            v += load(weights, j + 9 * units)
            store(y, out + j, minimum if v < minimum else v)


@compiled
def rows_by_nine(x, flat, weights, y, offsets, buffers, out_height, out_width, window, relu, share, shares):
    """Kernel: computes a share of the output's rows. flat: x as a flat array; y is flat too. buffers: for windows, by share."""
    window = Window(*window)
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    sw, left, reach = window.column_stride, window.left, (window.width - 1) * window.column_dilation
    units = weights.size // 10
    minimum = x.dtype.type(0) if relu else x.dtype.type(-np.inf)
    rows = x.shape[0] * out_height
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        n, row = r // out_height, r % out_height * window.row_stride - window.top
        inside = row >= 0 and row + (window.height - 1) * window.row_dilation < height
        # the first window inside the image, and the last one plus 1
        first = min(out_width, -(-left // sw)) if inside else out_width
        last = max(first, min(out_width, (width - 1 - reach + left) // sw + 1))
        if first < last:
            at, to = ((n * height + row) * width + first * sw - left) * channels, (r * out_width + first) * units
            positions_by_nine(flat, at, sw * channels, offsets, _ZERO, weights, units, y, to, last - first, minimum)
        for outside in range(out_width - last + first):
            column = outside if outside < first else outside + last - first
            gather(x, n, r % out_height * out_width + column, _ONE, window, out_width, _ZERO, channels, buffers[share])
            to = (r * out_width + column) * units
            positions_by_nine(buffers[share], _ZERO, _ZERO, offsets, _ONE, weights, units, y, to, _ONE, minimum)


def forward(x: Array, kernel: Array, bias: Array, y: Array, window: Window, relu: bool) -> None:
    """Computes y = conv(x, kernel) + bias, then optional relu. A bias of size 0 means none. A window must hold TAPS numbers."""
    units = kernel.shape[3]
    with device.prepared(kernel, bias):
        weights = device.empty((TAPS + 1, units), x.dtype)
        device.launch(device.copy, kernel.reshape(TAPS, units), weights[:TAPS])
        if bias.size:
            device.launch(device.copy, bias, weights[TAPS])
        else:
            device.launch(device.fill, weights[TAPS], 0)
    shares = share_count(y.size * TAPS, _SHARE_WORK, _SHARES)
    arrays = (x, x.reshape(-1), weights.reshape(-1), y.reshape(-1), _offsets(window, x.shape[2], x.shape[3]))
    buffers = device.empty((shares, TAPS), x.dtype)
    launch_shares(rows_by_nine, shares, *arrays, buffers, y.shape[1], y.shape[2], tuple(window), relu)
