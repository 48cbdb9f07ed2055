"""NHWC convolutions of any size, stride, dilation and grouping as matrix products over windows.

Windows are rows of a matrix, but their numbers stay in the image: the product gets tables of offsets, one of windows in the image
and one of taps in a window (the indirect convolution of M. Dukhan, arXiv:1907.02129, with two short tables instead of one long
table). The output is that matrix times the kernel, and the kernel's gradient is its transpose times dy. For stride 1, the input's
gradient is the same product over dy with the kernel turned. For other strides, it is a product for each phase of pixels, see
`input_gradient`. Padded images are copied band by band, with zeros around, into a buffer that stays in the cache. The shape
determines shares and bands. Limit: each group is a separate product, so many groups are slow.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import BIAS, PANELS, PLAIN, RECTIFIED, gemm_at, gemm_own
from nbkeras.kernels.loops.window import Window, extent
from nbkeras.kernels.panels import is_worth_panels, panels_of
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_BUFFER = 32768  # max elements of a buffer: it fits with the output's block into an L2 of 256 KiB
_SHARES = 16
_PARTIAL_ELEMENTS = 8_000_000  # max elements of the partial kernel gradients of all shares
_SHARE_WORK = 140_000  # min multiply-adds of a share, about 3 us: with fewer, another share costs more than it saves
_GRADIENT_WORK = 1_000_000  # the same for the kernel's gradient: it is more, because the shares' results must be summed
_BAND, _THIN = 128, 32  # positions of a band: enough for a fast product, and the minimum
_COLUMNS = 48  # minimum units of a part; units are cut into parts if there are fewer bands than shares
_DEPTHWISE_COST = 8  # the relative cost of a multiply-add if each channel has its own kernel
# If each channel has its own kernel, padded images are copied in parts of about _PART channels. A band of a part has more rows,
# so fewer rows are copied twice. Each pixel of a part starts at a cache line of _LINE floats; with 728 channels it would not.
_PART, _LINE = 64, 16


# -------------------- bands --------------------


@functools.lru_cache(maxsize=256)
def _tables(window: Window, rows: int, columns: int, across: int, depth: int, channels: int, turn: bool) -> Array:
    """Returns the offsets of the windows of rows x columns positions in an image of `across` columns, then of a window's taps.

    depth: channels of the image; channels: of a group. turn: True to reverse the order of the taps.
    """
    i, j = np.arange(rows)[:, None] * window.row_stride * across, np.arange(columns) * window.column_stride
    ky = np.arange(window.height)[:, None, None] * window.row_dilation * across
    kx = np.arange(window.width)[:, None] * window.column_dilation
    taps = ((ky + kx) * depth).reshape(-1, 1)
    taps = taps[::-1] if turn else taps
    return device.persistent(np.concatenate([((i + j) * depth).ravel(), (taps + np.arange(channels)).ravel()]))


def band_rows(height: int, width: int, images: int, shares: int, numbers: int) -> int:
    """Returns the rows of a band: the shares get enough bands, and no band exceeds the cache or is too thin.

    numbers: elements per position.
    """
    maximum = max(_BAND, _BUFFER // max(1, numbers))
    bands = max(1, -(-shares // max(1, images)), -(-height * width // maximum))
    minimum = -(-_THIN // max(1, width))
    return min(height, max(minimum, -(-height // bands)))


def has_own_kernels(channels: int, units: int, groups: int) -> bool:
    """Returns whether each channel of an image has its own kernel."""
    return 1 < groups == channels == units


def _part_of(depth: int) -> int:
    """Returns the channels of a part, about _PART, if each channel has its own kernel."""
    return min(depth, -(-depth // (-(-depth // _PART) * _LINE)) * _LINE)


def _whole_lines(elements: int) -> int:
    """Returns a buffer's size, so that the next share's buffer starts at a cache line."""
    return -(-elements // _LINE) * _LINE


class _Bands:
    """The cut of images' output positions into bands of rows, and the tables of offsets for a band's product.

    x_shape, y_shape: the shapes of the images under the windows, and of the positions. shares: the desired number.
    """

    def __init__(self, x_shape: tuple, y_shape: tuple, window: Window, groups: int, shares: int, turn: bool = False):
        (images, height, width, depth), (_, out_height, out_width, units) = x_shape, y_shape
        reach_down = (out_height - 1) * window.row_stride + extent(window.height, window.row_dilation)
        reach_right = (out_width - 1) * window.column_stride + extent(window.width, window.column_dilation)
        inside = window.top == window.left == 0 and reach_down <= height and reach_right <= width
        self.padded = not inside
        across = max(width + window.left, reach_right) if self.padded else width
        is_copied = self.padded and has_own_kernels(depth, units, groups)
        part = _part_of(depth) if is_copied else depth
        self.parts = -(-depth // part)
        numbers = extent(window.height, window.row_dilation) * depth
        if is_copied:  # as large as the copy, not as the windows
            numbers = part * window.row_stride * window.column_stride
        self.rows = band_rows(out_height, out_width, images * self.parts, shares, numbers)
        self.bands = -(-out_height // self.rows) if self.rows else 0
        self.count = images * self.bands * self.parts
        rows_in = (self.rows - 1) * window.row_stride + extent(window.height, window.row_dilation)
        self.buffer = _whole_lines(rows_in * across * part) if self.padded else 0
        self.tables = _tables(
            window, self.rows, out_width, across, part if self.padded else depth, depth // groups, turn
        )
        self.numbers = (self.rows, self.bands, across, int(self.padded), part)  # a plain tuple for launches

    def buffers(self, shares: int, dtype: np.dtype) -> Array:
        """Returns a buffer for each share."""
        return device.empty((shares, self.buffer), dtype)


def upright(window: Window, *arrays: Array) -> tuple:
    """Returns the window and the arrays, with rows and columns exchanged if there is only one row: bands are cut along rows."""
    if window.height != 1 or window.top != 0 or any(array.shape[1] != 1 for array in arrays):
        return window, *arrays
    turned = Window(window.width, 1, window.column_stride, 1, window.column_dilation, 1, window.left, 0)
    return turned, *(array.reshape(array.shape[0], array.shape[2], 1, array.shape[3]) for array in arrays)


@compiled
def pad_band(x, n, row0, rows, before, across, channel, part, buffer):
    """Copies `rows` rows of image n from row0 on to buffer, with zeros around: `before` before a row, `across` columns in total.

    A negative `before` skips columns at the start of a row. A band has `part` channels from `channel` on; the last part of an
    image may have fewer, and then leaves the rest of each pixel undefined.
    """
    height, width, depth = x.shape[1], x.shape[2], x.shape[3]
    zero, size, left, skipped = x.dtype.type(0), across * part, max(0, before) * part, max(0, -before)
    left = min(left, size)
    pixels = max(0, min(width - skipped, across - max(0, before)))
    run, count = pixels * part, min(part, depth - channel)
    for r in range(rows):
        row, to = row0 + r, r * size
        if row < 0 or row >= height:
            for j in range(size):
                store(buffer, to + j, zero)
            continue
        at = ((n * height + row) * width + skipped) * depth + channel
        for j in range(left):
            store(buffer, to + j, zero)
        if part == depth:
            for j in range(run):
                store(buffer, to + left + j, load(x, at + j))
        else:
            for i in range(pixels):
                for j in range(count):
                    store(buffer, to + left + i * part + j, load(x, at + i * depth + j))
        for j in range(left + run, size):
            store(buffer, to + j, zero)


@compiled
def band_of(b, channel, x, y, window, bands, buffer):
    """Returns (offset, count, position) of band b's windows: the first one's offset in x or buffer, and its position in y.

    channel: the first channel of the band.
    """
    band_rows, per_image, across, padded, part = bands
    n, top = b // per_image, b % per_image * band_rows
    rows, row0 = min(band_rows, y.shape[1] - top), top * window.row_stride - window.top
    start = (n * x.shape[1] + row0) * x.shape[2] * x.shape[3] + channel
    if padded != 0:
        start = 0
        reach = (rows - 1) * window.row_stride + (window.height - 1) * window.row_dilation + 1
        pad_band(x, n, row0, reach, window.left, across, channel, part, buffer)
    return start, rows * y.shape[2], (n * y.shape[1] + top) * y.shape[2]


@compiled
def forward_bands(x, flat, kernel, form, bias, y, buffers, tables, window, groups, ends, bands, parts, share, shares):
    """Kernel: computes a share of the output's bands. flat: x as flat memory. ends: see `gemm_ended`. bands: _Bands.numbers.

    kernel: the matrix (taps and channels of a group, units) in the form `form`, see `gemm`. With as many groups as channels and
    units, each channel has its own kernel. parts: the number of parts of the units; shares may compute parts of a band.
    """
    window, (band_rows, per_image, _, padded, depth) = Window(*window), bands
    units, channels = y.shape[3], x.shape[3] // groups
    width, buffer, zero = units // groups, buffers[share], y.dtype.type(0)
    is_own = groups > 1 and channels == width == 1
    taps, k0 = window.height * window.width * channels, band_rows * y.shape[2]
    a, ldb = buffer if padded != 0 else flat, kernel.shape[1]
    unit = ldb if form == PANELS else 1  # a part begins where a panel begins
    total = x.shape[0] * per_image * parts
    for task in range(total * share // shares, total * (share + 1) // shares):
        b, part = task // parts, task % parts
        j = part * depth if is_own else 0
        ao, count, position = band_of(b, j, x, y, window, bands, buffer)
        to = position * units
        if is_own:
            w = min(depth, units - j)
            gemm_own(count, w, taps, a, ao, tables, 0, k0, kernel, j, units, zero, y, to + j, units, bias, j, ends)
            continue
        first, last = width * part // parts // unit * unit, width * (part + 1) // parts // unit * unit
        last = width if part == parts - 1 else last
        for g in range(groups):
            j, a_g, w = g * width + first, ao + g * channels, last - first
            b_at = j * taps if form == PANELS else j
            gemm_at(
                form, count, w, taps, a, a_g, tables, 0, k0, kernel, b_at, ldb, zero, y, to + j, units, bias, j, ends
            )


def forward(x: Array, kernel: Array, bias: Array, y: Array, window: Window, groups: int, relu: bool) -> None:
    """Computes y = conv(x, kernel) + bias, then optional relu. A bias of size 0 means none."""
    _convolve(x, kernel, bias, y, window, groups, relu, False)


def _convolve(
    x: Array, kernel: Array, bias: Array, y: Array, window: Window, groups: int, relu: bool, turn: bool
) -> None:
    """Runs `forward`. turn: True to reverse the order of the kernel's taps."""
    window, x, y = upright(window, x, y)
    work = y.size * window.height * window.width * (x.shape[3] // groups if groups == 1 else _DEPTHWISE_COST)
    wanted = share_count(work, _SHARE_WORK, _SHARES)
    wanted = 1 << (wanted.bit_length() - 1)  # a power of two: with three shares, one of two threads would wait
    bands = _Bands(x.shape, y.shape, window, groups, wanted, turn)
    parts = max(1, min(-(-wanted // max(1, bands.count)), y.shape[3] // _COLUMNS)) if groups == 1 else 1
    shares, parts = min(wanted, max(1, bands.count * parts)), parts * bands.parts
    weights, form = kernel.reshape(-1, y.shape[3]), PLAIN
    if groups == 1 and is_worth_panels(weights):
        weights, form = panels_of(weights), PANELS
    arrays = (x, x.reshape(-1), weights, form, bias, y, bands.buffers(shares, x.dtype), bands.tables)
    ends = (BIAS if bias.size else 0) + (RECTIFIED if relu else 0)
    launch_shares(forward_bands, shares, *arrays, tuple(window), groups, ends, bands.numbers, parts)


@compiled
def kernel_gradient_bands(x, flat, dy, partials, buffers, tables, window, groups, bands, share, shares):
    """Kernel: partials[share] = windows^T @ dy over a share of the bands. flat: x as flat memory."""
    window, (band_rows, per_image, _, padded, depth) = Window(*window), bands
    units, channels = dy.shape[3], x.shape[3] // groups
    width, buffer, partial = units // groups, buffers[share], partials[share]
    taps, k0 = window.height * window.width * channels, band_rows * dy.shape[2]
    a, is_own = buffer if padded != 0 else flat, groups > 1 and channels == width == 1
    total = x.shape[0] * per_image
    first, parts = total * share // shares, -(-units // depth) if is_own else 1
    for task in range(first * parts, total * (share + 1) // shares * parts):
        b, j = task // parts, task % parts * depth
        ao, count, position = band_of(b, j, x, dy, window, bands, buffer)
        to, beta = position * units + j, dy.dtype.type(0) if b == first else dy.dtype.type(1)
        if is_own:
            w = min(depth, units - j)
            gemm_own(taps, w, count, a, ao, tables, k0, 0, dy, to, units, beta, partial, j, units, dy, 0, 0)
            continue
        for g in range(groups):
            j, a_g, b_g = g * width, ao + g * channels, to + g * width
            gemm_at(PLAIN, taps, width, count, a, a_g, tables, k0, 0, dy, b_g, units, beta, partial, j, units, dy, 0, 0)


def kernel_gradient(x: Array, dy: Array, dkernel: Array, window: Window, groups: int) -> None:
    """Computes dkernel, the kernel's gradient of conv(x, kernel), from the output's gradient dy."""
    window, x, dy = upright(window, x, dy)
    work, maximum = dy.size * (dkernel.size // dkernel.shape[3]), max(2, _PARTIAL_ELEMENTS // dkernel.size)
    bands = _Bands(x.shape, dy.shape, window, groups, share_count(work, _GRADIENT_WORK, _SHARES, maximum))
    shares = share_count(work, _GRADIENT_WORK, _SHARES, bands.count // bands.parts, maximum)
    flat = dkernel.reshape(1, -1)
    partials = flat if shares == 1 else device.empty((shares, dkernel.size), x.dtype)
    if bands.count == 0:
        device.launch(device.fill, partials, 0)
    arrays = (x, x.reshape(-1), dy, partials, bands.buffers(shares, x.dtype), bands.tables)
    launch_shares(kernel_gradient_bands, shares, *arrays, tuple(window), groups, bands.numbers)
    if shares > 1:
        reduce.sum_rows(partials[None], flat)


# -------------------- the input's gradient --------------------


def transpose_matrices(matrices: Array, out: Array) -> None:
    """Kernel: out[i] = matrices[i].T, by blocks of rows that stay in L1."""
    for i in range(len(matrices)):
        for row in range(0, matrices.shape[1], 64):
            np.copyto(out[i, :, row : row + 64], matrices[i, row : row + 64].T)


transpose_matrices.fuses_as = "transpose"  # type: ignore[attr-defined]


class _Phase(NamedTuple):
    """Pixels along an axis, a stride apart, that the same taps reach. Each tap reads a window at a fixed distance before them."""

    first: int  # the first pixel
    pixels: int  # the number of pixels
    window: int  # the first pixel's window, for a tap of distance 0
    taps: range
    distances: tuple[int, ...]  # the distance of each tap

    @staticmethod
    def all(length: int, size: int, stride: int, dilation: int, before: int) -> list["_Phase"]:
        """Returns the phases of an axis of `length` pixels."""
        found = []
        for phase in range(stride):
            first = (phase - before) % stride
            if first < length:
                start = next((k for k in range(size) if k * dilation % stride == phase), size)
                taps = range(start, size, stride // math.gcd(stride, dilation))
                distances = tuple((k * dilation - phase) // stride for k in taps)
                found.append(
                    _Phase(first, -(-(length - first) // stride), (first + before - phase) // stride, taps, distances)
                )
        return found


class _Phases:
    """The phases of an image (pairs of a phase of rows and a phase of columns), and the windows that they read."""

    def __init__(self, window: Window, height: int, width: int):
        down = _Phase.all(height, window.height, window.row_stride, window.row_dilation, window.top)
        right = _Phase.all(width, window.width, window.column_stride, window.column_dilation, window.left)
        self.pairs = [(row, column) for row in down for column in right]
        self.rows, self.columns = max(p.pixels for p in down), max(p.pixels for p in right)
        # bounds of the windows that a phase's first pixel reads
        self.low, self.left = (
            min((p.window - max(p.distances) for p in a if p.distances), default=0) for a in (down, right)
        )
        self.high, self.right = (
            max((p.window - min(p.distances) for p in a if p.distances), default=0) for a in (down, right)
        )

    def table(self, positions: int, across: int, units: int, group: int) -> Array:
        """Returns offsets in dy of `positions` windows and of taps, then eight numbers for each phase."""
        i = np.arange(positions)
        parts = [((i // self.columns * across) + i % self.columns) * units]
        numbers, first = [], 0
        for row, column in self.pairs:
            distances = np.add.outer(np.multiply(row.distances, across), column.distances).reshape(-1, 1)
            parts.append((-distances * units + np.arange(group)).ravel())
            starts = row.first, column.first, row.window - self.low, column.window - self.left
            numbers += [*starts, row.pixels, column.pixels, distances.size, first]
            first += distances.size
        return np.concatenate([*parts, np.array(numbers)]).astype(np.int64)


@functools.lru_cache(maxsize=256)
def _gradient_plan(window: Window, dy_shape: tuple, dx_shape: tuple, groups: int, shares: int) -> tuple:
    """Returns (phases, sizes for the kernel, elements of a buffer, table of offsets)."""
    (_, out_height, out_width, units), (images, height, width, _) = dy_shape, dx_shape
    phases, strides = _Phases(window, height, width), (window.row_stride, window.column_stride)
    high, right = phases.rows + phases.high, phases.columns + phases.right
    inside = phases.low >= 0 and phases.left >= 0 and high <= out_height and right <= out_width
    across, reach = out_width if inside else right - phases.left, phases.high - phases.low
    is_copied = not inside and has_own_kernels(dx_shape[3], units, groups)
    part = _part_of(units) if is_copied else units
    numbers = part if is_copied else (reach + 1) * units
    rows = band_rows(phases.rows, phases.columns, images * -(-units // part), shares, numbers)
    positions = (rows if strides == (1, 1) else 1) * phases.columns
    table = device.persistent(phases.table(positions, across, units if inside else part, units // groups))
    counts = positions, len(phases.pairs), len(table) - 8 * len(phases.pairs)
    bands = -(-phases.rows // rows)
    sizes = (rows, bands, across, int(not inside), phases.low, phases.left, reach, *strides, *counts, part)
    return phases.pairs, sizes, 0 if inside else _whole_lines((rows + reach) * across * part), table


@compiled
def input_gradient_bands(dy, flat, turned, dx, buffers, tables, sizes, groups, share, shares):
    """Kernel: computes a share of the bands of dx. flat: dy as flat memory. turned: a matrix units x channels per group and tap.

    tables: offsets of windows and of taps in dy, then the numbers of each phase, see input_gradient.
    """
    band_rows, per_image, across, padded, low, left, reach = sizes[:7]
    row_stride, column_stride, positions, phases, at_phases, part = sizes[7:]
    height, width, depth, units = dx.shape[1], dx.shape[2], dx.shape[3], dy.shape[3]
    channels, group, zero, buffer = depth // groups, units // groups, dx.dtype.type(0), buffers[share]
    a, all_taps = buffer if padded != 0 else flat, turned.size // (group * depth)
    parts = -(-units // part)  # more than one only if each channel has its own kernel
    total, pixel = dx.shape[0] * per_image * parts, part if padded != 0 else units
    for task in range(total * share // shares, total * (share + 1) // shares):
        b, channel = task // parts, task % parts * part
        n, top = b // per_image, b % per_image * band_rows
        base, own = ((n * dy.shape[1] + top + low) * dy.shape[2] + left) * units + channel, min(part, depth - channel)
        if padded != 0:
            base = 0
            pad_band(dy, n, top + low, band_rows + reach, -left, across, channel, part, buffer)
        for f in range(at_phases, at_phases + 8 * phases, 8):
            first_row, first_column = load(tables, f), load(tables, f + 1)
            row, column = load(tables, f + 2), load(tables, f + 3)
            rows, count = min(band_rows, load(tables, f + 4) - top), load(tables, f + 5)
            taps, first_tap = load(tables, f + 6), load(tables, f + 7)
            step = max(1, rows) if row_stride == 1 and column_stride == 1 else 1
            k0 = positions + first_tap * group
            for t in range(0, rows, step):
                to = ((n * height + first_row + (top + t) * row_stride) * width + first_column) * depth + channel
                ao, m, ldc = base + ((row + t) * across + column) * pixel, step * count, column_stride * depth
                if taps == 0:
                    for i in range(m):
                        for j in range(own if parts > 1 else depth):
                            store(dx, to + i * ldc + j, zero)
                elif groups > 1 and channels == group == 1:
                    w = first_tap * depth + channel
                    gemm_own(m, own, taps, a, ao, tables, 0, k0, turned, w, depth, zero, dx, to, ldc, dx, 0, 0)
                else:
                    for g in range(groups):
                        w, c_g, k, d = (
                            (g * all_taps + first_tap) * group * channels,
                            to + g * channels,
                            taps * group,
                            channels,
                        )
                        a_g = ao + g * group
                        gemm_at(PLAIN, m, d, k, a, a_g, tables, 0, k0, turned, w, d, zero, dx, c_g, ldc, dx, 0, 0)


def input_gradient(dy: Array, kernel: Array, dx: Array, window: Window, groups: int) -> None:
    """Computes dx, the input's gradient of conv(x, kernel), from the output's gradient dy, by products over windows of dy.

    With strides, different taps reach different pixels. A phase is the pixels, a stride apart, that the same taps reach.
    """
    if not dx.size:
        return
    window, dy, dx = upright(window, dy, dx)
    shares = share_count(dy.size * window.height * window.width * (dx.shape[3] // groups), _SHARE_WORK, _SHARES)
    phases, sizes, buffer, table = _gradient_plan(window, dy.shape, dx.shape, groups, shares)
    shares = max(1, min(shares, dx.shape[0] * sizes[1] * -(-dy.shape[3] // sizes[-1])))
    turned = _turned(kernel.reshape(window.height, window.width, *kernel.shape[2:]), phases, groups)
    arrays = (dy, dy.reshape(-1), turned, dx, device.empty((shares, buffer), dx.dtype), table)
    launch_shares(input_gradient_bands, shares, *arrays, sizes, groups)


def _turned(kernel: Array, phases: list, groups: int) -> Array:
    """Returns the kernel's matrices, transposed and phase by phase: groups x taps x units x channels of a group.

    If each channel has its own kernel, they are taps x channels.
    """
    height, width, channels, units = kernel.shape
    group = units // groups
    is_own, is_whole = (
        groups > 1 and channels == group == 1,
        len(phases[0][0].taps) * len(phases[0][1].taps) == height * width,
    )
    if is_own and is_whole:  # a single phase has all taps in order
        return kernel
    with device.prepared(kernel):
        if groups == 1 and is_whole:
            turned = device.empty((height * width, units, channels), kernel.dtype)
            device.launch(transpose_matrices, kernel.reshape(-1, channels, units), turned)
            return turned
        turned = device.empty(
            (1 if is_own else groups, height * width, units if is_own else group * channels), kernel.dtype
        )
        first = 0
        for rows, columns in phases:
            taps = len(rows.taps), len(columns.taps)
            part = kernel[rows.taps.start :: rows.taps.step, columns.taps.start :: columns.taps.step]
            target = turned[:, first : first + taps[0] * taps[1]]
            if is_own and part.size:
                device.launch(device.copy, part[:, :, 0], target[0].reshape(*taps, units))
            elif part.size:
                apart = part.reshape(*taps, channels, groups, group).transpose(3, 0, 1, 4, 2)
                device.launch(device.copy, apart, target.reshape(groups, *taps, group, channels))
            first += taps[0] * taps[1]
    return turned
