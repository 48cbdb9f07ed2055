"""NHWC convolution in integers: the kernel is int8 with a factor for each unit; each image of the input is quantized.

An image becomes bytes, scaled by its largest absolute value, with zeros around it where windows cross its edge. So a result does
not depend on the other images of the batch. A kernel's bytes have the layout of `multiply_windows`: four neighbours of a window's
row are adjacent, for 16 units. Tables of offsets locate the windows, as in implicit_gemm.py. Sums are exact.
"""

import functools

import numpy as np

from nbkeras.kernels import normalization
from nbkeras.kernels.convolution import conv as float_convolution
from nbkeras.kernels.convolution.implicit_gemm import band_rows, upright
from nbkeras.kernels.loops.integer_gemm import COLUMNS, multiply_windows
from nbkeras.kernels.loops.noalias import load, store
from nbkeras.kernels.loops.window import Window, extent, slide
from nbkeras.kernels.quantized import largest_magnitude
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHARE = 16384  # minimum numbers that a share quantizes
_SHARE_WORK = 500_000  # min multiply-adds of a share: with fewer, another share costs more than it saves
_SHARES = 16
_PARTS = 16  # max parts that an image is cut into to find its largest number
_REST = 3  # unused bytes after the images, because windows are read four bytes at a time


def conv(
    x: Array,
    w: Array,
    factors: Array,
    bias: Array | None,
    strides,
    dilation,
    padding: str,
    inputs: tuple,
    relu: bool,
):
    """Convolution of x with w * factors, then optional bias and relu; see conv.conv.

    w: int8 (kh, kw, channels, units); factors, bias: (units,). inputs: the limits and the epsilon for quantizing x.
    """
    window, out_height, out_width = slide(x.shape, w.shape[:2], strides, dilation, padding)
    y = device.empty((x.shape[0], out_height, out_width, w.shape[3]), x.dtype)
    saved = x, w, factors, bias is not None, y if relu else None, window
    with device.prepared(w, bias):
        bias = normalization.filled(bias, w.shape[3], 0, x.dtype)
    if device.gpu() is None:
        convolve(x, w, factors, bias, y, window, inputs, relu)
    else:
        device.launch(convolve, x, w, factors, bias, y, tuple(window), inputs, relu)
    return y, saved


def conv_vjp(saved, dy, needs):
    """Returns the gradients of x (those of a convolution with the floats w * factors) and of the bias."""
    x, w, factors, has_bias, y, window = saved
    kernel = w
    if needs[0] is not False:
        kernel = device.empty(w.shape, x.dtype)
        device.launch(device.copy, w, kernel)
        device.launch(np.multiply, kernel, factors, kernel)
    chosen = float_convolution.algorithm(x.shape, w.shape, dy.shape, window, x.dtype)
    own = needs[0], False, needs[3] if has_bias else False
    dx, _, db = float_convolution.conv_vjp((x, kernel, y, window, 1, chosen), dy, own)
    return dx, None, None, db


def convolve(
    x: Array, w: Array, factors: Array, bias: Array, y: Array, window: Window, inputs: tuple, relu: bool
) -> None:
    """Computes y = conv(x, w * factors) + bias, then optional relu: several launches, or on a GPU one launch of its twin."""
    window, x, y = upright(window, x, y)
    if not y.size:
        return
    images, height, width, depth = x.shape
    _, out_height, out_width, units = y.shape
    reach = extent(window.height, window.row_dilation), extent(window.width, window.column_dilation)
    tall = max(height + window.top, (out_height - 1) * window.row_stride + reach[0])
    across = max(width + window.left, (out_width - 1) * window.column_stride + reach[1])
    runs, run = _runs(window, depth)
    quads = runs * -(-run // 4)
    with device.prepared(w):
        groups = -(-units // COLUMNS)
        packed, start = device.empty((groups, quads, COLUMNS, 4), np.int8), device.empty((units,), np.int32)
        shares = share_count(packed.size, _SHARE, groups)
        launch_shares(pack, shares, w.reshape(runs, run, units), packed, start)

    parts = max(1, min(_PARTS, x.size // images // _SHARE))
    largest, steps = device.empty((images, parts), x.dtype), device.empty((images,), x.dtype)
    memory = device.empty((images * tall * across * depth + _REST,), np.uint8)
    shares = share_count(x.size, _SHARE, images * parts)
    launch_shares(find_largest, shares, x.reshape(images, height * width * depth), largest)
    shares = share_count(memory.size, _SHARE, images * tall)
    rows = memory[:-_REST].reshape(images, tall, across * depth)
    flat = x.reshape(images, height, width * depth)
    launch_shares(quantize_images, shares, flat, largest, rows, steps, window.top, window.left * depth, *inputs)

    wanted = share_count(y.size * runs * run, _SHARE_WORK, _SHARES)
    wanted = 1 << (wanted.bit_length() - 1)  # a power of two: with three shares, one of two threads would wait
    high = band_rows(out_height, out_width, images, wanted, reach[0] * depth)
    count = images * -(-out_height // high)
    parts = max(1, min(-(-wanted // count), groups // 3))
    shares = min(wanted, count * parts)
    tables = _tables(window, high, out_width, across, depth)
    arrays = memory, packed.reshape(-1), start, factors, bias, steps, y, tables
    down = window.row_stride * across * depth
    launch_shares(multiply_bands, shares, *arrays, runs, run, high, tall * across * depth, down, parts, int(relu))


def _runs(window: Window, depth: int) -> tuple[int, int]:
    """Returns the number and the length of a window's runs of neighbouring numbers."""
    if window.column_dilation == 1:
        return window.height, window.width * depth
    return window.height * window.width, depth


@functools.lru_cache(maxsize=256)
def _tables(window: Window, rows: int, columns: int, across: int, depth: int) -> Array:
    """Returns the offsets of windows of rows x columns positions in an image of `across` columns, then of a window's quads."""
    i, j = np.arange(rows)[:, None] * window.row_stride * across, np.arange(columns) * window.column_stride
    runs, run = _runs(window, depth)
    starts = np.arange(window.height)[:, None] * window.row_dilation * across
    if runs > window.height:
        starts = starts + np.arange(window.width) * window.column_dilation
    quads = starts.reshape(-1, 1) * depth + np.arange(0, run, 4)
    return device.persistent(np.concatenate([((i + j) * depth).ravel(), quads.ravel()]))


@compiled
def pack(w, packed, start, share, shares):
    """Kernel: packed[group, quad, unit, 4] = the bytes of w (runs, run, units), with zeros after each run and the last unit.

    start = -128 times the sum of a unit's numbers, because an image's bytes have an offset of 128. Computes a share of the
    groups.
    """
    runs, run, units = w.shape
    quads = (run + 3) // 4
    for group in range(packed.shape[0] * share // shares, packed.shape[0] * (share + 1) // shares):
        for u in range(COLUMNS):
            j, total = group * COLUMNS + u, np.int32(0)
            for r in range(runs):
                for p in range(4 * quads):
                    value = w[r, p, j] if j < units and p < run else np.int8(0)
                    packed[group, r * quads + p // 4, u, p % 4] = value
                    total += np.int32(value)
            if j < units:
                start[j] = -128 * total


@compiled
def find_largest(x, largest, share, shares):
    """Kernel: largest[image, part] = the largest absolute value of a part of x (images, numbers), for a share of the parts."""
    parts, count = largest.shape[1], x.shape[1]
    for each in range(largest.size * share // shares, largest.size * (share + 1) // shares):
        image, part = each // parts, each % parts
        largest[image, part] = largest_magnitude(x[image, count * part // parts : count * (part + 1) // parts])


@compiled
def quantize_run(x, at, q, to, count, scale, low, high):
    """Computes `count` numbers q[to:] = 128 + x[at:] * scale, rounded and limited."""
    for j in range(count):
        number = np.int32(np.rint(load(x, at + j) * scale))
        store(q, to + j, np.uint8(min(max(number, low), high) + np.int32(128)))


@compiled
def fill_run(q, to, count):
    """Sets `count` bytes q[to:] to 128, which represents 0."""
    for j in range(count):
        store(q, to + j, np.uint8(128))


@compiled
def quantize_images(x, largest, q, steps, top, left, low, high, epsilon, share, shares):
    """Kernel: q = 128 + x * scale, rounded; scale = high / (the image's largest absolute value + epsilon); steps = 1 / scale.

    x: (images, height, row). q: (images, rows, row); it is 128 outside the image, which starts at (top, left). Computes a share
    of the rows.
    """
    kind, (images, height, width), (_, tall, across) = x.dtype.type, x.shape, q.shape
    count, scale = max(0, min(width, across - left)), kind(0)
    first, last = images * tall * share // shares, images * tall * (share + 1) // shares
    for each in range(first, last):
        image, row, to = each // tall, each % tall - top, each * across
        if each == first or row == -top:
            scale = kind(high) / (largest_magnitude(largest[image]) + kind(epsilon))
        if row == -top:
            steps[image] = kind(1) / scale
        if row < 0 or row >= height:
            fill_run(q, to, across)
            continue
        fill_run(q, to, left)
        quantize_run(x, (image * height + row) * width, q, to + left, count, scale, np.int32(low), np.int32(high))
        fill_run(q, to + left + count, across - left - count)


@compiled
def multiply_bands(
    images, packed, start, factors, bias, steps, y, tables, runs, run, high, image, down, parts, rectify, share, shares
):
    """Kernel: computes a share of the output's bands of `high` rows. images, packed: flat memory.

    runs, run: of a window. image: bytes per image. down: distance from the windows of a row of y to those of the next row. parts:
    the number of parts of the units; shares may compute parts of a band.
    """
    kind, (count, height, width, units) = y.dtype.type, y.shape
    bands, minimum = (height + high - 1) // high, kind(0) if rectify != 0 else kind(-np.inf)
    groups, quads = (units + COLUMNS - 1) // COLUMNS, runs * ((run + 3) // 4)
    total = count * bands * parts
    for each in range(total * share // shares, total * (share + 1) // shares):
        band, part = each // parts, each % parts
        n, top = band // bands, band % bands * high
        first, last = groups * part // parts * COLUMNS, min(units, groups * (part + 1) // parts * COLUMNS)
        m, ao, to = min(high, height - top) * width, n * image + top * down, (n * height + top) * width * units
        multiply_windows(
            m,
            last - first,
            quads,
            images,
            ao,
            tables,
            0,
            high * width,
            packed,
            first * 4 * quads,
            start,
            factors,
            steps[n],
            bias,
            minimum,
            first,
            y,
            to + first,
            units,
        )
