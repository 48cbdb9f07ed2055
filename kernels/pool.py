"""Max and average pooling of NHWC images, and their gradients.

Padding is ignored: a maximum or an average covers only pixels inside the image. The gradient of a maximum goes
to the first of the largest elements of its window, row by row, as in TensorFlow. Non-overlapping windows of 2x2 have separate
kernels, which process all channels at once.
"""

import numpy as np

from nbkeras.kernels.loops import noalias
from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.window import Window, slide
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARES = 16
_SHARE_ELEMENTS = 50_000  # minimum elements of a share: with fewer, another share costs more than it saves


def _is_halving(x: Array, y: Array, window: Window) -> bool:
    """True if windows are 2x2, adjacent and all inside the image."""
    inside = 2 * y.shape[1] <= x.shape[1] and 2 * y.shape[2] <= x.shape[2]
    return inside and window == (2, 2, 2, 2, 1, 1, 0, 0)


def max_pool(x: Array, size: tuple[int, int], strides: tuple[int, int], padding: str):
    """Returns the largest element of each window. padding: 'valid' or 'same'. The caller checks that a window fits."""
    window, out_height, out_width = slide(x.shape, size, strides, (1, 1), padding)
    y = device.empty((x.shape[0], out_height, out_width, x.shape[3]), x.dtype)
    if _is_halving(x, y, window):
        chosen = device.empty(y.shape, np.uint8)
        shares = share_count(x.size, _SHARE_ELEMENTS, _SHARES, x.shape[0] * out_height)
        launch_shares(halve_rows, shares, x, y, chosen)
        return y, (x.shape, chosen)
    _pool(x, y, window, False)
    return y, (x, y, window)


def max_pool_vjp(saved, dy, needs):
    if len(saved) == 2:
        shape, chosen = saved
        dx = device.output(needs[0], shape, dy.dtype)
        shares = share_count(dx.size, _SHARE_ELEMENTS, _SHARES, dy.shape[0] * dy.shape[1])
        launch_shares(unhalve_rows, shares, dy, chosen, dx)
    else:
        x, y, window = saved
        dx = device.output(needs[0], x.shape, x.dtype)
        _pool_gradient(dy, y, x, dx, window, False)
    return (dx,)


def average_pool(x: Array, size: tuple[int, int], strides: tuple[int, int], padding: str):
    """Returns the mean of each window. padding: 'valid' or 'same'. The caller checks that a window fits."""
    window, out_height, out_width = slide(x.shape, size, strides, (1, 1), padding)
    y = device.empty((x.shape[0], out_height, out_width, x.shape[3]), x.dtype)
    _pool(x, y, window, True)
    return y, (x.shape, window)


def average_pool_vjp(saved, dy, needs):
    shape, window = saved
    dx = device.output(needs[0], shape, dy.dtype)
    _pool_gradient(dy, dy, dy, dx, window, True)
    return (dx,)


def _pool(x: Array, y: Array, window: Window, average: bool) -> None:
    work = y.size * window.height * window.width
    shares = share_count(work, _SHARE_ELEMENTS, _SHARES, y.shape[0] * y.shape[1])
    launch_shares(pool_rows, shares, x, y, tuple(window), average)


def _pool_gradient(dy: Array, y: Array, x: Array, dx: Array, window: Window, average: bool) -> None:
    shares = share_count(y.size * window.height * window.width, _SHARE_ELEMENTS, _SHARES, dx.shape[0])
    rest = device.empty((shares, dx.shape[3]), dx.dtype)
    arrays = (dy, y, x, dx, rest)
    launch_shares(unpool_images, shares, *arrays, tuple(window), average)


# -------------------- any window --------------------


@compiled
def pool_rows(x, y, window, average, share, shares):
    """Kernel: computes a share of the rows of y: the largest element of each window, or with `average` the mean."""
    kh, kw, sh, sw, _, _, top, left = window
    height, width, channels, out_height, out_width = x.shape[1], x.shape[2], x.shape[3], y.shape[1], y.shape[2]
    rows = y.shape[0] * out_height
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        n, row0 = r // out_height, r % out_height * sh - top
        first_row, last_row = max(row0, 0), min(row0 + kh, height)
        for j in range(out_width):
            first, last = max(j * sw - left, 0), min(j * sw - left + kw, width)
            to = (r * out_width + j) * channels
            for row in range(first_row, last_row):
                for column in range(first, last):
                    at = ((n * height + row) * width + column) * channels
                    if row == first_row and column == first:
                        for c in range(channels):
                            store(y, to + c, load(x, at + c))
                    elif average:
                        for c in range(channels):
                            store(y, to + c, load(y, to + c) + load(x, at + c))
                    else:
                        for c in range(channels):
                            v, maximum = load(x, at + c), load(y, to + c)
                            store(y, to + c, v if v > maximum or v != v else maximum)  # a NaN replaces the maximum
            if average:
                count = x.dtype.type((last_row - first_row) * (last - first))
                for c in range(channels):
                    store(y, to + c, load(y, to + c) / count)


@compiled
def unpool_images(dy, y, x, dx, rest, window, average, share, shares):
    """Kernel: computes a share of the images of dx. rest: for each share, the gradients whose maximum is not found yet."""
    kh, kw, sh, sw, _, _, top, left = window
    height, width, channels, out_height, out_width = dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2]
    zero, wait = dx.dtype.type(0), share * channels
    for n in range(dx.shape[0] * share // shares, dx.shape[0] * (share + 1) // shares):
        for j in range(n * height * width * channels, (n + 1) * height * width * channels):
            store(dx, j, zero)
        for position in range(out_height * out_width):
            row0, column0 = position // out_width * sh - top, position % out_width * sw - left
            first_row, last_row = max(row0, 0), min(row0 + kh, height)
            first, last = max(column0, 0), min(column0 + kw, width)
            at = (n * out_height * out_width + position) * channels
            count = dx.dtype.type((last_row - first_row) * (last - first) if average else 1)
            for c in range(channels):
                store(rest, wait + c, load(dy, at + c) / count)
            for row in range(first_row, last_row):
                for column in range(first, last):
                    to = ((n * height + row) * width + column) * channels
                    if average:
                        for c in range(channels):
                            store(dx, to + c, load(dx, to + c) + load(rest, wait + c))
                    else:
                        for c in range(channels):
                            v, maximum = load(x, to + c), load(y, at + c)
                            here = v == maximum or (v != v and maximum != maximum)
                            left_over = load(rest, wait + c)
                            store(dx, to + c, load(dx, to + c) + (left_over if here else zero))
                            store(rest, wait + c, zero if here else left_over)


# -------------------- maxima of adjacent 2x2 windows --------------------


@compiled
def halve_row(x, at, below, y, chosen, to, out_width, channels):
    """Computes a row of y from two rows of x, and which of the four is each maximum, or the first NaN.

    below: distance to the next row of x.
    """
    for j in range(out_width):
        p, q = at + 2 * j * channels, to + j * channels
        for c in range(channels):
            maximum, which = noalias.load(x, p + c), np.uint8(0)
            v = noalias.load(x, p + channels + c)
            maximum, which = (v, np.uint8(1)) if maximum == maximum and not v <= maximum else (maximum, which)
            v = noalias.load(x, p + below + c)
            maximum, which = (v, np.uint8(2)) if maximum == maximum and not v <= maximum else (maximum, which)
            v = noalias.load(x, p + below + channels + c)
            maximum, which = (v, np.uint8(3)) if maximum == maximum and not v <= maximum else (maximum, which)
            noalias.store(y, q + c, maximum)
            noalias.store(chosen, q + c, which)


@compiled
def halve_rows(x, y, chosen, share, shares):
    """Kernel: computes a share of the rows of y, the largest element of each 2x2 window."""
    below, out_height, out_width = x.shape[2] * x.shape[3], y.shape[1], y.shape[2]
    rows = y.shape[0] * out_height
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        at = (r // out_height * x.shape[1] + r % out_height * 2) * below
        halve_row(x, at, below, y, chosen, r * out_width * x.shape[3], out_width, x.shape[3])


@compiled
def unhalve_row(dy, chosen, at, dx, to, below, out_width, channels):
    """Computes two rows of dx from one row of dy."""
    zero = dy.dtype.type(0)
    for j in range(out_width):
        p, q = to + 2 * j * channels, at + j * channels
        for c in range(channels):
            which, g = noalias.load(chosen, q + c), noalias.load(dy, q + c)
            noalias.store(dx, p + c, g if which == 0 else zero)
            noalias.store(dx, p + channels + c, g if which == 1 else zero)
            noalias.store(dx, p + below + c, g if which == 2 else zero)
            noalias.store(dx, p + below + channels + c, g if which == 3 else zero)


@compiled
def unhalve_rows(dy, chosen, dx, share, shares):
    """Kernel: writes each of a share of dy's rows into two rows of dx. An odd last row or column has no window and becomes 0."""
    height, width, channels, out_height, out_width = dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[1], dy.shape[2]
    below, zero, rows = width * channels, dx.dtype.type(0), dy.shape[0] * out_height
    for r in range(rows * share // shares, rows * (share + 1) // shares):
        n, i = r // out_height, r % out_height
        to = (n * height + 2 * i) * below
        unhalve_row(dy, chosen, r * out_width * channels, dx, to, below, out_width, channels)
        if 2 * out_width < width:
            for row in range(2):
                for c in range(to + row * below + 2 * out_width * channels, to + (row + 1) * below):
                    store(dx, c, zero)
        if i == out_height - 1:
            for c in range(to + 2 * below, (n + 1) * height * below):
                store(dx, c, zero)
