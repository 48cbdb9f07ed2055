"""Weights of 8 bits: int8 integers and a scale per output channel; a weight is its integer divided by the scale.

The loops of the second product and of tables also take bfloat16 weights, as uint16 of their bits, with scales of 1.

There are two products, as in Keras. In the first, each row of the input is quantized too, by its largest absolute value, and the
product is one of integers. In the second, the input stays in floats, and the product converts the weights as it loads them. The
scales divide the finished product.
"""

import math

import numpy as np

from nbkeras.kernels import dense as dense_kernels
from nbkeras.kernels import half_weights
from nbkeras.kernels.half_weights import number
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.integer_gemm import add_product
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.lazy import overload, types
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 16384  # minimum numbers that a share quantizes or gathers
_SHARE_WORK = 500_000  # min multiply-adds of a share of a product
_ROW_SHARE = 131072  # minimum bytes of B in a share of a product with one row: reading B bounds it
_ROWS, _COLUMNS = 64, 128  # rows and columns of a product's tile
_ROW_COLUMNS = 512  # columns of a tile of a product with one row
_DEPTH = 256  # rows of B that are converted, or multiplied by all rows of A's tile, at a time: they stay in the cache


# -------------------- numbers --------------------


@overload(inline="always")
def _to_bits(x):
    """Returns a float's bits as an integer."""
    if x == types.float32:
        return lambda x: np.float32(x).view(np.int32)
    return lambda x: np.float64(x).view(np.int64)


@overload(inline="always")
def _from_bits(bits):
    """Returns the float that has these bits."""
    if bits == types.int32:
        return lambda bits: np.int32(bits).view(np.float32)
    return lambda bits: np.int64(bits).view(np.float64)


@compiled
def largest_magnitude(row):
    """Returns the largest absolute value, or NaN if there is one.

    The bits of positive numbers, as integers, have the order of the numbers, with NaN last. LLVM vectorises maxima of integers.
    """
    largest = _to_bits(row.dtype.type(0))
    for j in range(row.size):
        largest = max(largest, _to_bits(abs(row[j])))
    return _from_bits(largest)


def quantize(x: Array, low: int, high: int, epsilon: float):
    """Returns the rows of x (..., k) in int8, and the scale of each row: x is about q / scale."""
    rows, k = math.prod(x.shape[:-1]), x.shape[-1]
    q, scale = device.empty(x.shape, np.int8), device.empty((*x.shape[:-1], 1), x.dtype)
    if x.size:
        limits = low, high, float(epsilon)
        flat = x.reshape(rows, k), q.reshape(rows, k), scale.reshape(rows)
        launch_shares(quantize_rows, share_count(x.size, _SHARE, rows), *flat, *limits)
    return (q, scale), None


@compiled
def quantize_rows(x, q, scale, low, high, epsilon, share, shares):
    """Kernel: q = x * scale, rounded; scale = high / (the row's largest absolute value + epsilon), for a share of the rows."""
    kind, rows = x.dtype.type, x.shape[0]
    for i in range(rows * share // shares, rows * (share + 1) // shares):
        row, out = x[i], q[i]
        factor = kind(high) / (largest_magnitude(row) + kind(epsilon))
        scale[i] = factor
        for j in range(row.size):
            out[j] = np.int8(min(max(np.rint(row[j] * factor), kind(low)), kind(high)))


def dequantize(values: Array, scale: Array):
    """Returns values / scale; scale broadcasts to the shape of values."""
    y, n = device.empty(values.shape, scale.dtype), values.shape[-1]
    if scale.size == scale.shape[-1] == n and y.size:
        rows = y.size // n
        shares = share_count(y.size, _SHARE, rows)
        nothing = device.empty((0,), scale.dtype)
        arrays = values.reshape(rows, n), nothing, scale.reshape(n), nothing, y.reshape(rows, n)
        launch_shares(rescale, shares, *arrays, 0)
        return y, None
    device.launch(device.copy, values, y)
    device.launch(np.divide, y, scale, y)
    return y, None


# -------------------- products --------------------


def multiply(a: Array, b: Array):
    """Computes A @ B in int32, for int8 arrays (..., k) and (k, n)."""
    rows, (k, n) = math.prod(a.shape[:-1]), b.shape
    c = device.empty((*a.shape[:-1], n), np.int32)
    if not c.size:
        return c, None
    if k == 0:
        device.launch(device.fill, c, 0)
        return c, None
    if rows == 1:
        shares = share_count(k * n, _ROW_SHARE, -(-n // _ROW_COLUMNS))
    else:
        shares = share_count(rows * n * k, _SHARE_WORK, -(-n // _COLUMNS) * -(-rows // _ROWS))
    launch_shares(multiply_integers, shares, a.reshape(-1), b.reshape(-1), c.reshape(-1), rows, n, k)
    return c, None


@compiled
def _columns(m):
    """The columns of a tile. They are more for a product with one row: reading B bounds it, and long rows are read faster."""
    return _COLUMNS if m > 1 else _ROW_COLUMNS


@compiled
def multiply_integers(a, b, c, m, n, k, share, shares):
    """Kernel: C = A @ B in int32, for flat int8 matrices (m, k) and (k, n); computes a share of C's tiles."""
    columns = _columns(m)
    across, down = (n + columns - 1) // columns, (m + _ROWS - 1) // _ROWS
    tiles = across * down
    for tile in range(tiles * share // shares, tiles * (share + 1) // shares):
        i, j = tile % down * _ROWS, tile // down * columns
        height, width = min(_ROWS, m - i), min(columns, n - j)
        _start(a, c, i, j, height, width, n, k)
        for p in range(0, k, _DEPTH):
            add_product(height, width, min(_DEPTH, k - p), a, i * k + p, k, b, p * n + j, n, c, i * n + j, n)


@compiled
def _start(a, c, i, j, height, width, n, k):
    """Sets a tile of C to -128 times the sum of A's row, which cancels the excess of `add_product`."""
    for r in range(i, i + height):
        total, row, out = np.int32(0), a[r * k : (r + 1) * k], c[r * n + j : r * n + j + width]
        for p in range(k):
            total += row[p]
        for q in range(width):
            out[q] = -128 * total


@compiled
def _convert(x, at, step, rows, columns, panel):
    """Converts a part of an int8 matrix with rows `step` apart into the first numbers of a panel."""
    for r in range(rows):
        row, out = x[at + r * step : at + r * step + columns], panel[r * columns : (r + 1) * columns]
        for q in range(columns):
            out[q] = number(panel.dtype.type, row[q])


@compiled
def multiply_converted(a, b, panels, c, m, n, k, share, shares):
    """Kernel: C = A @ B in floats, for flat A (m, k) and B (k, n) of int8; computes a share of C's columns.

    panels[share] holds a part of B, converted.
    """
    zero, one, panel = c.dtype.type(0), c.dtype.type(1), panels[share]
    columns = _columns(m)
    across = (n + columns - 1) // columns
    for tile in range(across * share // shares, across * (share + 1) // shares):
        j = tile * columns
        width = min(columns, n - j)
        if m == 1:
            _multiply_row(a, b, c, j, width, n, k)
            continue
        for p in range(0, k, _DEPTH):
            depth = min(_DEPTH, k - p)
            _convert(b, p * n + j, n, depth, width, panel)
            gemm(0, 0, m, width, depth, a, p, k, panel, 0, width, zero if p == 0 else one, c, j, n)


@compiled
def _multiply_row(x, w, c, j, width, n, k):
    """Computes columns of c = x @ w for one row x. It takes four rows of w at a time, as dense.multiply_row."""
    out, kind = c[j : j + width], c.dtype.type
    for q in range(width):
        out[q] = kind(0)
    fours = k // 4 * 4
    for p in range(0, fours, 4):
        x0, x1, x2, x3, at = x[p], x[p + 1], x[p + 2], x[p + 3], p * n + j
        w0, w1, w2, w3 = w[at : at + width], w[at + n :], w[at + 2 * n :], w[at + 3 * n :]
        for q in range(width):
            first = x0 * number(kind, w0[q]) + x1 * number(kind, w1[q])
            out[q] += first + (x2 * number(kind, w2[q]) + x3 * number(kind, w3[q]))
    for p in range(fours, k):
        row = w[p * n + j :]
        for q in range(width):
            out[q] += x[p] * number(kind, row[q])


def dense(x: Array, w: Array, scale: Array, b: Array | None, inputs: tuple | None, rectify: bool = False):
    """Computes y = x @ (w / scale) + b, or its positive part if rectify; x (..., k), w int8 (k, n), scale (n,), b (n,) or None.

    inputs: the limits and the epsilon for quantizing x; None to leave x in floats.
    """
    rows, n = math.prod(x.shape[:-1]), w.shape[1]
    y = device.empty((*x.shape[:-1], n), x.dtype)
    if not y.size:
        return y, (x, w, scale, b is not None, y if rectify else None)
    if inputs is None:
        sums, steps = y, device.empty((0,), x.dtype)
        _multiply_floats(x, w, sums)
    else:
        (q, steps), _ = quantize(x, *inputs)
        sums, _ = multiply(q, w)
    bias = device.empty((0,), x.dtype) if b is None else b
    shares = share_count(y.size, _SHARE, rows)
    launch_shares(
        rescale, shares, sums.reshape(rows, n), steps.reshape(-1), scale, bias, y.reshape(rows, n), int(rectify)
    )
    return y, (x, w, scale, b is not None, y if rectify else None)


@compiled
def rescale(sums, steps, scale, bias, y, rectify, share, shares):
    """Kernel: y = sums / (scale * the row's step) + bias, or its positive part if rectify; steps, bias: size 0 for none.

    sums and y may be the same array. Computes a share of the rows.
    """
    kind, rows = y.dtype.type, y.shape[0]
    zero = kind(0)
    for i in range(rows * share // shares, rows * (share + 1) // shares):
        row, out, step = sums[i], y[i], kind(1)
        if steps.size > 0:
            step = steps[i]
        for j in range(out.size):
            out[j] = number(kind, row[j]) / (scale[j] * step)
        for j in range(bias.size):
            out[j] += bias[j]
        if rectify != 0:
            for j in range(out.size):
                out[j] = zero if out[j] < zero else out[j]  # NaN stays NaN


def _multiply_floats(x: Array, w: Array, y: Array) -> None:
    rows, (k, n) = math.prod(x.shape[:-1]), w.shape
    if rows == 1 and w.dtype == np.uint16 and device.gpu() is None:
        half_weights.multiply_row(x.reshape(k), w, y.reshape(1, n))
        return
    if rows == 1:
        shares = share_count(k * n, _ROW_SHARE, -(-n // _ROW_COLUMNS))
    else:
        shares = share_count(rows * n * k, _SHARE_WORK, -(-n // _COLUMNS))
    panels = device.empty((shares if device.gpu() is None else 0, _DEPTH * _COLUMNS), x.dtype)
    launch_shares(multiply_converted, shares, x.reshape(-1), w.reshape(-1), panels, y.reshape(-1), rows, n, k)


def dense_vjp(saved, dy, needs):
    """Returns the gradients of x (those of a product with w / scale, as in Keras) and of b. w and scale have none."""
    x, w, scale, has_bias, y = saved
    kernel = dequantize(w, scale)[0] if needs[0] is not False else w
    own = needs[0], False, needs[3] if has_bias else False
    dx, _, db = dense_kernels.dense_vjp((x, kernel, has_bias, y), dy, own)
    return dx, None, None, db


# -------------------- tables --------------------


def gather(table: Array, indices: Array, scale: Array):
    """Looks up rows of an int8 table (rows, width) and divides each by its scale (rows,): indices.shape + (width,)."""
    width = table.shape[1]
    y = device.empty((*indices.shape, width), scale.dtype)
    flat = indices.reshape(-1)
    launch_shares(gather_scaled_rows, share_count(y.size, _SHARE), table, flat, scale, y.reshape(flat.size, width))
    return y, None


@compiled
def gather_scaled_rows(table, indices, scale, out, share, shares):
    """Kernel: out[i] = table[indices[i]] / scale[indices[i]], or NaN for an index out of range, for a share of the indices."""
    rows = table.shape[0]
    for i in range(indices.size * share // shares, indices.size * (share + 1) // shares):
        row, target = indices[i], out[i]
        row = row + rows if row < 0 else row
        if 0 <= row < rows:
            source, divisor = table[row], scale[row]
            for j in range(target.size):
                target[j] = number(out.dtype.type, source[j]) / divisor
        else:
            for j in range(target.size):
                target[j] = np.nan
