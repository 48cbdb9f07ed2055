"""Twins of pool.py. A thread computes four neighbouring channels (or the remaining one to three) of one position.

The gradient is gathered: each pixel of dx sums the gradients of the windows that cover it, row by row as on the CPU. For maxima,
a first kernel records the pixel that each window took. Arrays of 2**31 elements or more are an error.
"""

import functools
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import is_wide, load_four, store_four
from nbkeras.kernels.cuda.loops.walk import divided, in_32_bits, ints
from nbkeras.kernels.cuda.machine.kernel import blocks, device_function, kernel, start_each
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_i = np.int32


def _launch(kernel: Any, over: tuple[int, ...], *args: Any) -> None:
    """Starts a kernel on a shape (images, rows, columns, channels); a thread has four channels of a position."""
    images, height, width, channels = over
    threads = images * height * width * blocks(channels, 4)
    start_each(kernel, threads, ints(*over), *args)


_flat = functools.partial(in_32_bits, "pooling")


@device_function
def _position(over):
    """Returns this thread's image (possibly beyond the last), row, column and first channel."""
    _, height, width, channels = over
    rest, four = divided(cuda.grid(1), (channels + 3) // 4)
    rest, column = divided(rest, width)
    image, row = divided(rest, height)
    return image, row, column, _i(four * 4)


@device_function
def _offset(shape, image, row, column, channel):
    """Returns the offset of an element in a flat array."""
    return _i(((image * shape[1] + row) * shape[2] + column) * shape[3] + channel)


@device_function
def _larger(v, most):
    return v if v > most or v != v else most  # a NaN replaces the maximum


# -------------------- any window --------------------


@kernel
def _pool(over, shape, x, y, window, average, wide):
    kh, kw, sh, sw, _, _, top, left = window
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    rest, zero = over[3] - c, x.dtype.type(0)
    a = zero if average else x.dtype.type(-np.inf)
    b, d, e = a, a, a
    first_row, last_row = max(i * sh - top, 0), min(i * sh - top + kh, shape[1])
    first, last = max(j * sw - left, 0), min(j * sw - left + kw, shape[2])
    for row in range(first_row, last_row):
        for column in range(first, last):
            at = _offset(shape, n, row, column, c)
            v0, v1, v2, v3 = load_four(x, at, at + rest, 1, wide, zero)
            if average:
                a, b, d, e = a + v0, b + v1, d + v2, e + v3
            else:
                a, b, d, e = _larger(v0, a), _larger(v1, b), _larger(v2, d), _larger(v3, e)
    if average:
        count = x.dtype.type((last_row - first_row) * (last - first))
        a, b, d, e = a / count, b / count, d / count, e / count
    at = _offset(over, n, i, j, c)
    store_four(y, at, at + rest, 1, wide, (a, b, d, e))


def pool_rows(x, y, window, average):
    """Computes y: the largest element of each window, or with `average` the mean."""
    wide = is_wide(x.shape[3], x, y)
    _launch(_pool, y.shape, ints(*x.shape), *_flat(x, y), ints(*window), average, wide)


@device_function
def _first(found, x, y, pixel):
    return pixel if found < 0 and (x == y or (x != x and y != y)) else found


@kernel
def _find(over, shape, x, y, found, window, wide):
    """Finds the pixel from which each window took its maximum: the first equal one, or the first NaN."""
    kh, kw, sh, sw, _, _, top, left = window
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    rest, zero, to = over[3] - c, x.dtype.type(0), _offset(over, n, i, j, c)
    y0, y1, y2, y3 = load_four(y, to, to + rest, 1, wide, zero)
    a, b, d, e = _i(-1), _i(-1), _i(-1), _i(-1)
    for row in range(max(i * sh - top, 0), min(i * sh - top + kh, shape[1])):
        for column in range(max(j * sw - left, 0), min(j * sw - left + kw, shape[2])):
            at, pixel = _offset(shape, n, row, column, c), _i(row * shape[2] + column)
            v0, v1, v2, v3 = load_four(x, at, at + rest, 1, wide, zero)
            a, b = _first(a, v0, y0, pixel), _first(b, v1, y1, pixel)
            d, e = _first(d, v2, y2, pixel), _first(e, v3, y3, pixel)
    store_four(found, to, to + rest, 1, wide, (a, b, d, e))


@device_function
def _covering(pixel, size, stride, before, count):
    """Returns (first, last + 1) of the windows, out of `count`, that cover a pixel."""
    reach = pixel + before
    last, _ = divided(reach, stride)
    first, _ = divided(max(reach - size + stride, 0), stride)
    return first, min(last + 1, count)


@kernel
def _unpool(over, shape, dy, found, dx, window, average, wide):
    kh, kw, sh, sw, _, _, top, left = window
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    rest, pixel, zero = over[3] - c, _i(i * over[2] + j), dx.dtype.type(0)
    a, b, d, e = zero, zero, zero, zero
    first_row, last_row = _covering(i, kh, sh, top, shape[1])
    first, last = _covering(j, kw, sw, left, shape[2])
    for row in range(first_row, last_row):
        for column in range(first, last):
            at = _offset(shape, n, row, column, c)
            v0, v1, v2, v3 = load_four(dy, at, at + rest, 1, wide, zero)
            if average:
                rows = min(row * sh - top + kh, over[1]) - max(row * sh - top, 0)
                columns = min(column * sw - left + kw, over[2]) - max(column * sw - left, 0)
                count = dx.dtype.type(rows * columns)
                a, b, d, e = a + v0 / count, b + v1 / count, d + v2 / count, e + v3 / count
            else:
                f0, f1, f2, f3 = load_four(found, at, at + rest, 1, wide, _i(-1))
                a, b = a + (v0 if f0 == pixel else zero), b + (v1 if f1 == pixel else zero)
                d, e = d + (v2 if f2 == pixel else zero), e + (v3 if f3 == pixel else zero)
    at = _offset(over, n, i, j, c)
    store_four(dx, at, at + rest, 1, wide, (a, b, d, e))


def unpool_images(dy, y, x, dx, rest, window, average):
    """dx = the gradient of pool_rows for dy; `rest` is not used here."""
    numbers = ints(*window)
    found = device.gpu().scratch("positions of maxima", (0 if average else y.size,), np.int32)
    if not average:
        wide = is_wide(x.shape[3], x, y)
        _launch(_find, y.shape, ints(*x.shape), *_flat(x, y), found, numbers, wide)
    wide = is_wide(x.shape[3], dy, dx)
    _launch(_unpool, dx.shape, ints(*dy.shape), *_flat(dy), found, *_flat(dx), numbers, average, wide)


# -------------------- maxima of adjacent 2x2 windows --------------------


@device_function
def _largest(v0, v1, v2, v3):
    """Returns the largest of four, and its index (the first of equal numbers)."""
    most, which = v0, _i(0)
    if most == most and not v1 <= most:
        most, which = v1, _i(1)
    if most == most and not v2 <= most:
        most, which = v2, _i(2)
    if most == most and not v3 <= most:
        most, which = v3, _i(3)
    return most, which


@kernel
def _halve(over, shape, x, y, chosen, wide):
    n, i, j, c = _position(over)
    if n >= over[0]:
        return
    rest, zero, right, below = over[3] - c, x.dtype.type(0), shape[3], shape[2] * shape[3]
    p, q = _offset(shape, n, 2 * i, 2 * j, c), _offset(over, n, i, j, c)
    a0, a1, a2, a3 = load_four(x, p, p + rest, 1, wide, zero)
    b0, b1, b2, b3 = load_four(x, p + right, p + right + rest, 1, wide, zero)
    c0, c1, c2, c3 = load_four(x, p + below, p + below + rest, 1, wide, zero)
    d0, d1, d2, d3 = load_four(x, p + below + right, p + below + right + rest, 1, wide, zero)
    m0, w0 = _largest(a0, b0, c0, d0)
    m1, w1 = _largest(a1, b1, c1, d1)
    m2, w2 = _largest(a2, b2, c2, d2)
    m3, w3 = _largest(a3, b3, c3, d3)
    store_four(y, q, q + rest, 1, wide, (m0, m1, m2, m3))
    if wide != 0:
        chosen[q // 4] = w0 | w1 << 8 | w2 << 16 | w3 << 24
    else:
        chosen[q] = w0
        if rest > 1:
            chosen[q + 1] = w1
        if rest > 2:
            chosen[q + 2] = w2
        if rest > 3:
            chosen[q + 3] = w3


def halve_rows(x, y, chosen):
    """Computes y, the largest of each 2x2, and chosen, its index among the four."""
    wide, chosen = _reads_words(chosen, x, y)
    _launch(_halve, y.shape, ints(*x.shape), *_flat(x, y), chosen, wide)


def _reads_words(chosen: DeviceArray, *arrays: DeviceArray) -> tuple[int, DeviceArray]:
    """True if threads read four channels at once; they then read `chosen` as words of four bytes."""
    wide = is_wide(chosen.shape[3], chosen, *arrays)
    (flat,) = _flat(chosen)
    return wide, flat.view(np.uint32) if wide else flat


@kernel
def _unhalve(cells, over, shape, dy, chosen, dx, wide):
    n, i, j, c = _position(cells)
    if n >= cells[0]:
        return
    rest, zero, right, below = over[3] - c, dx.dtype.type(0), over[3], over[2] * over[3]
    v0, v1, v2, v3 = zero, zero, zero, zero
    w0, w1, w2, w3 = _i(0), _i(0), _i(0), _i(0)
    if i < shape[1] and j < shape[2]:  # an odd last row or column has no window
        q = _offset(shape, n, i, j, c)
        v0, v1, v2, v3 = load_four(dy, q, q + rest, 1, wide, zero)
        if wide != 0:
            word = chosen[q // 4]
            w0, w1, w2, w3 = _i(word & 3), _i(word >> 8 & 3), _i(word >> 16 & 3), _i(word >> 24 & 3)
        else:
            w0, w1 = _i(chosen[q]), _i(chosen[q + 1]) if rest > 1 else _i(0)
            w2, w3 = _i(chosen[q + 2]) if rest > 2 else _i(0), _i(chosen[q + 3]) if rest > 3 else _i(0)
    p = _offset(over, n, 2 * i, 2 * j, c)
    for which in range(4):
        row, column = which // 2, which % 2
        if 2 * i + row < over[1] and 2 * j + column < over[2]:
            at = p + row * below + column * right
            u0, u1 = v0 if w0 == which else zero, v1 if w1 == which else zero
            u2, u3 = v2 if w2 == which else zero, v3 if w3 == which else zero
            store_four(dx, at, at + rest, 1, wide, (u0, u1, u2, u3))


def unhalve_rows(dy, chosen, dx):
    """Computes dx: dy at the chosen pixel, 0 at the others."""
    wide, chosen = _reads_words(chosen, dy, dx)
    images, height, width, channels = dx.shape
    cells = images, blocks(height, 2), blocks(width, 2), channels
    _launch(_unhalve, cells, ints(*dx.shape), ints(*dy.shape), *_flat(dy), chosen, *_flat(dx), wide)
