"""Twins of pool.py. A thread computes an element; neighbouring threads have neighbouring channels.

The gradient is gathered: each pixel of dx sums the gradients of the windows that cover it, row by row as on the CPU. For maxima,
a first kernel records the pixel that each window took. Arrays of 2**31 elements or more are an error.
"""

import functools
import math
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import divided, in_32_bits, ints
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel, start_each
from nbkeras.kernels.runtime import device

_i = np.int32
_flat = functools.partial(in_32_bits, "pooling")


def _launch(kernel: Any, over: tuple[int, ...], *args: Any) -> None:
    """Starts a kernel on a shape (images, rows, columns, channels) with a thread for each element."""
    start_each(kernel, math.prod(over), ints(*over), *args)


@device_function
def _position(over):
    """Returns this thread's image (possibly beyond the last), row, column and channel."""
    _, height, width, channels = over
    rest, channel = divided(cuda.grid(1), channels)
    rest, column = divided(rest, width)
    image, row = divided(rest, height)
    return image, row, column, channel


@device_function
def _offset(shape, image, row, column, channel):
    """Returns the offset of an element in a flat array."""
    return _i(((image * shape[1] + row) * shape[2] + column) * shape[3] + channel)


# -------------------- any window --------------------


@kernel
def _pool(over, shape, x, y, window, average):
    kh, kw, sh, sw, _, _, top, left = window
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    total = x.dtype.type(0) if average else x.dtype.type(-np.inf)
    first_row, last_row = max(i * sh - top, 0), min(i * sh - top + kh, shape[1])
    first, last = max(j * sw - left, 0), min(j * sw - left + kw, shape[2])
    for row in range(first_row, last_row):
        for column in range(first, last):
            v = x[_offset(shape, n, row, column, c)]
            if average:
                total += v
            elif v > total or v != v:  # a NaN replaces the maximum
                total = v
    if average:
        total /= x.dtype.type((last_row - first_row) * (last - first))
    y[_offset(over, n, i, j, c)] = total


def pool_rows(x, y, window, average):
    """Computes y: the largest element of each window, or with `average` the mean."""
    _launch(_pool, y.shape, ints(*x.shape), *_flat(x, y), ints(*window), average)


@kernel
def _find(over, shape, x, y, found, window):
    """Finds the pixel from which each window took its maximum: the first equal one, or the first NaN."""
    kh, kw, sh, sw, _, _, top, left = window
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    to, pixel = _offset(over, n, i, j, c), _i(-1)
    largest = y[to]
    for row in range(max(i * sh - top, 0), min(i * sh - top + kh, shape[1])):
        for column in range(max(j * sw - left, 0), min(j * sw - left + kw, shape[2])):
            v = x[_offset(shape, n, row, column, c)]
            if pixel < 0 and (v == largest or (v != v and largest != largest)):
                pixel = _i(row * shape[2] + column)
    found[to] = pixel


@device_function
def _covering(pixel, size, stride, before, count):
    """Returns (first, last + 1) of the windows, out of `count`, that cover a pixel."""
    reach = pixel + before
    last, _ = divided(reach, stride)
    first, _ = divided(max(reach - size + stride, 0), stride)
    return first, min(last + 1, count)


@kernel
def _unpool(over, shape, dy, found, dx, window, average):
    kh, kw, sh, sw, _, _, top, left = window
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    total, pixel = dx.dtype.type(0), _i(i * over[2] + j)
    first_row, last_row = _covering(i, kh, sh, top, shape[1])
    first, last = _covering(j, kw, sw, left, shape[2])
    for row in range(first_row, last_row):
        for column in range(first, last):
            at = _offset(shape, n, row, column, c)
            if average:
                rows = min(row * sh - top + kh, over[1]) - max(row * sh - top, 0)
                columns = min(column * sw - left + kw, over[2]) - max(column * sw - left, 0)
                total += dy[at] / dx.dtype.type(rows * columns)
            elif found[at] == pixel:
                total += dy[at]
    dx[_offset(over, n, i, j, c)] = total


def unpool_images(dy, y, x, dx, rest, window, average):
    """dx = the gradient of pool_rows for dy; `rest` is not used here."""
    numbers = ints(*window)
    found = device.gpu().scratch("positions of maxima", (0 if average else y.size,), np.int32)
    if not average:
        _launch(_find, y.shape, ints(*x.shape), *_flat(x, y), found, numbers)
    _launch(_unpool, dx.shape, ints(*dy.shape), *_flat(dy), found, *_flat(dx), numbers, average)


# -------------------- maxima of adjacent 2x2 windows --------------------


@kernel
def _halve(over, shape, x, y, chosen):
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    at = _offset(over, n, i, j, c)
    largest, which = x[_offset(shape, n, 2 * i, 2 * j, c)], 0
    for k in range(1, 4):
        v = x[_offset(shape, n, 2 * i + k // 2, 2 * j + k % 2, c)]
        if largest == largest and not v <= largest:
            largest, which = v, k
    y[at], chosen[at] = largest, which


def halve_rows(x, y, chosen):
    """Computes y, the largest of each 2x2, and chosen, its index among the four (the first of equal numbers)."""
    _launch(_halve, y.shape, ints(*x.shape), *_flat(x, y, chosen))


@kernel
def _unhalve(over, shape, dy, chosen, dx):
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    value = dx.dtype.type(0)
    if i // 2 < shape[1] and j // 2 < shape[2]:  # an odd last row or column has no window
        at = _offset(shape, n, i // 2, j // 2, c)
        if chosen[at] == i % 2 * 2 + j % 2:
            value = dy[at]
    dx[_offset(over, n, i, j, c)] = value


def unhalve_rows(dy, chosen, dx):
    """Computes dx: dy at the chosen pixel, 0 at the others."""
    _launch(_unhalve, dx.shape, ints(*dy.shape), *_flat(dy, chosen, dx))
