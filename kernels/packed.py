"""Weights of 4 bits: two integers in a byte, with scales, and zero points if they are in groups.

A weight is a matrix (rows, columns) of bytes. Of two neighbours along the packed axis, the first one is in the lower half.
Without zero points a weight is its integer divided by a scale; else it is (integer - zero) * scale. Products read the bytes: a
product with one row makes floats of them in registers, one with more rows converts a part of the matrix at a time.
"""

import math

import numpy as np

from nbkeras.kernels import dense as dense_kernels
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.packed_rows import OFFSET, ROWS, UNIT, WORD, add_row, add_rows
from nbkeras.kernels.quantized import rescale
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 16384  # minimum numbers that a share converts
_SHARE_WORK = 500_000  # min multiply-adds of a share of a product
_ROW_SHARE = 65536  # minimum bytes of a share of a product with one row
_COLUMNS = 128  # columns of a product's tile, an even number
_ROW_COLUMNS = 1024  # those of a product with one row: 512 bytes side by side, or the memory is read too slowly
_DEPTH = 256  # rows that are converted at a time


# -------------------- numbers --------------------


def dequantize(packed: Array, scale: Array, zero: Array | None, groups: Array | None, shape: tuple, axis: int, by: int):
    """Returns the floats (rows, columns) of a packed matrix.

    packed: int8 for integers from -8 to 7, uint8 for 0 to 15. scale, zero: a vector for one of the two axes, or a matrix with the
    groups along axis `by`. zero: None for one scale that divides. groups: the group of each index along `by`. axis: the packed
    one; 2 if each byte holds one integer.
    """
    rows, columns = shape
    y = device.empty(shape, scale.dtype)
    if y.size:
        arrays = packed, *_matrices(scale, zero, groups, by), device.empty((0,), np.int64)
        launch_shares(unpack, share_count(y.size, _SHARE, rows), *arrays, y, axis, by)
    return y, None


def gather(packed: Array, indices: Array, scale: Array, zero: Array | None, groups: Array | None, columns: int):
    """Looks up rows of a table of int8, packed along its columns, with groups of columns: indices.shape + (columns,)."""
    y = device.empty((*indices.shape, columns), scale.dtype)
    if y.size:
        flat = indices.reshape(-1), y.reshape(indices.size, columns)
        launch_shares(
            unpack, share_count(y.size, _SHARE, indices.size), packed, *_matrices(scale, zero, groups, 1), *flat, 1, 1
        )
    return y, None


def _matrices(scale: Array, zero: Array | None, groups: Array | None, by: int) -> tuple[Array, Array, Array]:
    """The scale and the zero points as matrices, and the groups; arrays of size 0 for None."""
    if scale.ndim == 1:
        scale = scale.reshape((1, -1) if by == 0 else (-1, 1))
    nothing = device.empty((0,), scale.dtype)
    return scale, nothing.reshape(0, 0) if zero is None else zero, nothing if groups is None else groups


@compiled
def _group(groups, at, count):
    """Returns the group of an index, from 0 to count - 1 also for other numbers, which a file may have; 0 without groups."""
    if groups.size == 0:
        return np.int64(0)
    number = groups[at]
    return np.int64(min(number, groups.dtype.type(count - 1))) if number > 0 else np.int64(0)


@compiled
def unpack(packed, scale, zero, groups, at, y, axis, by, share, shares):
    """Kernel: y = (integers - zero) * scale, or integers / scale without zero points; computes a share of y's rows.

    at: the rows that y has, with NaN for one out of range; size 0 for all.
    """
    kind, signed, count = y.dtype.type, packed.dtype.type(-1) < 0, packed.shape[0]
    rows, columns = y.shape
    for number in range(rows * share // shares, rows * (share + 1) // shares):
        i, out = number, y[number]
        if at.size > 0:
            i = at[number] + count if at[number] < 0 else at[number]
            if i < 0 or i >= count:
                for j in range(columns):
                    out[j] = np.nan
                continue
        source = packed[i // 2 if axis == 0 else i]
        row = _group(groups, i, scale.shape[0]) if by == 0 else i
        for j in range(columns):
            byte = np.int32(source[j // 2 if axis == 1 else j])
            value = byte
            if axis != 2:
                value = ((byte >> 4) if (i if axis == 0 else j) % 2 else byte) & 15
                value = (value ^ 8) - 8 if signed else value
            column = j if by == 0 else _group(groups, j, scale.shape[1])
            if zero.size > 0:
                out[j] = (kind(value) - kind(zero[row, column])) * scale[row, column]
            else:
                out[j] = kind(value) / scale[row, column]


# -------------------- products --------------------


def dense(
    x: Array,
    packed: Array,
    scale: Array,
    zero: Array | None,
    groups: Array | None,
    b: Array | None,
    n: int,
    rectify: bool,
):
    """Computes y = x @ w + b, or its positive part if rectify, for w of int8, packed along its columns, in groups of rows.

    x: (..., k). packed: (k, ceil(n / 2)). scale: (n,) or (groups, n). b: (n,) or None.
    """
    rows, k = math.prod(x.shape[:-1]), packed.shape[0]
    y = device.empty((*x.shape[:-1], n), x.dtype)
    if y.size:
        factors = _matrices(scale, zero, groups, 0)
        is_row = rows == 1 and x.dtype == np.float32 and device.gpu() is None
        columns = _ROW_COLUMNS if is_row else _COLUMNS
        shares = share_count(rows * n * k, 2 * _ROW_SHARE if is_row else _SHARE_WORK, -(-n // columns))
        panels = device.empty((shares if device.gpu() is None else 0, _DEPTH * _COLUMNS), x.dtype)
        arrays = x.reshape(-1), packed.reshape(-1), *factors, panels, y.reshape(-1)
        if is_row:
            launch_shares(multiply_packed_row, shares, *arrays, n, k)
        else:
            launch_shares(multiply_packed, shares, *arrays, rows, n, k)
        if b is not None or rectify:
            one = device.empty((n,), x.dtype)
            device.launch(device.fill, one, 1)
            bias = device.empty((0,), x.dtype) if b is None else b
            flat = y.reshape(rows, n), device.empty((0,), x.dtype), one, bias, y.reshape(rows, n)
            launch_shares(rescale, share_count(y.size, _SHARE, rows), *flat, int(rectify))
    return y, (x, packed, scale, zero, groups, n, b is not None, y if rectify else None)


def dense_vjp(saved, dy, needs):
    """Returns the gradients of x and of b; the weight has none."""
    x, packed, scale, zero, groups, n, has_bias, y = saved
    kernel = device.empty((0, n), x.dtype)  # only its columns count
    if needs[0] is not False:
        kernel, _ = dequantize(packed, scale, zero, groups, (packed.shape[0], n), 1, 0)
    dx, _, db = dense_kernels.dense_vjp(
        (x, kernel, has_bias, y), dy, (needs[0], False, needs[5] if has_bias else False)
    )
    return dx, None, None, None, None, db


@compiled
def multiply_packed(x, w, scale, zero, groups, panels, c, m, n, k, share, shares):
    """Kernel: C = X @ W for flat X (m, k), and packed W (k, n) of int8; computes a share of C's columns.

    panels[share] holds a part of W, converted.
    """
    across = (n + _COLUMNS - 1) // _COLUMNS
    for tile in range(across * share // shares, across * (share + 1) // shares):
        j = tile * _COLUMNS
        _multiply_columns(x, w, scale, zero, groups, panels[share], c, j, min(_COLUMNS, n - j), m, n, k)


@compiled
def _multiply_columns(x, w, scale, zero, groups, panel, c, j, width, m, n, k):
    nothing, one = c.dtype.type(0), c.dtype.type(1)
    for p in range(0, k, _DEPTH):
        depth = min(_DEPTH, k - p)
        _convert(w, scale, zero, groups, p, j, depth, width, n, panel)
        gemm(0, 0, m, width, depth, x, p, k, panel, 0, width, nothing if p == 0 else one, c, j, n)


@compiled
def _convert(w, scale, zero, groups, first, j, depth, width, n, panel):
    """Converts a part of W into the first numbers of a panel."""
    kind, half, odd = panel.dtype.type, (n + 1) // 2, width % 2
    pairs = width // 2
    for r in range(depth):
        p = first + r
        g = _group(groups, p, scale.shape[0])
        row, out = w[p * half + j // 2 : p * half + j // 2 + pairs + odd], panel[r * width : (r + 1) * width]
        for t in range(pairs):
            byte = np.int32(row[t])
            out[2 * t] = kind(((byte & 15) ^ 8) - 8)
            out[2 * t + 1] = kind(byte >> 4)
        if odd:
            out[width - 1] = kind(((np.int32(row[pairs]) & 15) ^ 8) - 8)
        factor = scale[g, j : j + width]
        if zero.size > 0:
            point = zero[g, j : j + width]
            for q in range(width):
                out[q] = (out[q] - kind(point[q])) * factor[q]
        else:
            for q in range(width):
                out[q] /= factor[q]


@compiled
def multiply_packed_row(x, w, scale, zero, groups, panels, c, n, k, share, shares):
    """Kernel: c = x @ W for one row x of float32, as `multiply_packed`.

    panels[share] holds sums in the order of `packed_rows`: those of a few rows, which have the same group, and those of all rows.
    """
    panel, across = panels[share], (n + _ROW_COLUMNS - 1) // _ROW_COLUMNS
    for tile in range(across * share // shares, across * (share + 1) // shares):
        j = tile * _ROW_COLUMNS
        width = min(_ROW_COLUMNS, n - j)
        words = width // WORD
        whole = words * WORD
        if whole > 0:
            _multiply_words(x, w, scale, zero, groups, panel[:whole], panel[whole : 2 * whole], c, j, words, n, k)
        if whole < width:
            _multiply_columns(x, w, scale, zero, groups, panel, c, j + whole, width - whole, 1, n, k)


@compiled
def _multiply_words(x, w, scale, zero, groups, sums, totals, c, j, words, n, k):
    half, nothing, p = (n + 1) // 2, np.float32(0), 0
    for q in range(totals.size):
        totals[q] = nothing
    while p < k:
        g, end, total = _group(groups, p, scale.shape[0]), p, nothing
        while end < min(k, p + _DEPTH) and _group(groups, end, scale.shape[0]) == g:
            total += x[end]
            end += 1
        for q in range(sums.size):
            sums[q] = nothing
        last = p + (end - p) // ROWS * ROWS
        for r in range(p, last, ROWS):
            add_rows(x, r, w, r * half + j // 2, half, sums, words)
        for r in range(last, end):
            add_row(x, r, w, r * half + j // 2, half, sums, words)
        base = np.float32(OFFSET * UNIT) * total
        for q in range(WORD):
            for t in range(words):
                number, column = q * words + t, j + WORD * t + q
                value = np.float32(UNIT) * sums[number] - base
                if zero.size > 0:
                    totals[number] += (value - np.float32(zero[g, column]) * total) * scale[g, column]
                else:
                    totals[number] += value / scale[g, column]
        p = end
    for q in range(WORD):
        for t in range(words):
            c[j + WORD * t + q] = totals[q * words + t]
