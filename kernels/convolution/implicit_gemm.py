"""Convolution of any size, stride, dilation and grouping as matrix products over windows, NHWC.

Windows are rows of a matrix whose numbers are read where they are: the product gets tables of offsets, of windows in the
image and of taps in a window (the indirect convolution of M. Dukhan, arXiv:1907.02129, with two short tables instead of a long
one). The output is that matrix times the kernel, the kernel's gradient its transpose times dy, and the input's gradient,
for stride 1, the same product over dy with the kernel turned. Padding is made by copying: a band of rows, with zeros around, is
copied into a buffer that stays in the cache. For other strides the rows of dy @ kernel^T are windows whose sum is the input's
gradient. The shape determines shares and bands. Limit: each group is a product of its own, so many groups are slow.
"""

import functools

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import BIAS, RECTIFIED, gemm, gemm_at
from nbkeras.kernels.loops.window import Window, extent
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_BUFFER = 65536  # elements of a buffer of windows: it should fit into 1 MiB of L2 together with the output's block
# taps and channels of a matrix of an input's gradient: with more, its rows lie on too many pages of memory
_COLUMNS = 640
_LEAST_POSITIONS = 16  # of a block: with fewer, the products are too thin
_SHARES = 16
_PARTIAL_ELEMENTS = 8_000_000  # of all shares' partial kernel gradients together
_SHARE_WORK = 250_000  # multiply-adds, about 5 us: with fewer, another share costs more than it saves
_GRADIENT_WORK = 1_000_000  # in a share of a gradient, whose results have to be added up
_BAND = 128  # positions of a band, at least: with fewer, a panel of the kernel is read too often


def _block_positions(positions: int, taps: int) -> int:
    """Output positions per block."""
    most = max(_LEAST_POSITIONS, _BUFFER // taps // 16 * 16)
    count = -(-positions // most)
    return -(-positions // count)


# -------------------- bands --------------------


@functools.lru_cache(maxsize=256)
def _tables(window: Window, rows: int, columns: int, across: int, depth: int, channels: int, turn: bool) -> Array:
    """Offsets of the windows of `rows` x `columns` positions in an image of `across` columns, then of the taps in a window.

    depth: channels of the image; channels: of a group. turn: the taps in reverse order.
    """
    i, j = np.arange(rows)[:, None] * window.row_stride * across, np.arange(columns) * window.column_stride
    ky = np.arange(window.height)[:, None, None] * window.row_dilation * across
    kx = np.arange(window.width)[:, None] * window.column_dilation
    taps = ((ky + kx) * depth).reshape(-1, 1)
    taps = taps[::-1] if turn else taps
    return device.persistent(np.concatenate([((i + j) * depth).ravel(), (taps + np.arange(channels)).ravel()]))


class _Bands:
    """How the output positions of images are cut into bands of rows, and the tables of offsets for a band's product.

    x_shape, y_shape: of the images that windows slide over, and of the positions. shares: how many are wanted.
    """

    def __init__(self, x_shape: tuple, y_shape: tuple, window: Window, groups: int, shares: int, turn: bool = False):
        (images, height, width, depth), (_, out_height, out_width, _) = x_shape, y_shape
        reach_down = (out_height - 1) * window.row_stride + extent(window.height, window.row_dilation)
        reach_right = (out_width - 1) * window.column_stride + extent(window.width, window.column_dilation)
        inside = window.top == window.left == 0 and reach_down <= height and reach_right <= width
        self.padded = not inside
        across = max(width + window.left, reach_right) if self.padded else width
        # enough bands for the shares, none larger than the cache, and none thin
        most = max(_BAND, _BUFFER // max(1, extent(window.height, window.row_dilation) * depth))
        wanted = max(-(-shares // max(1, images)), -(-out_height * out_width // most))
        least = -(-_BAND // (2 * max(1, out_width)))  # rows
        self.rows = min(out_height, max(least, -(-out_height // wanted))) if out_height else 0
        self.bands = -(-out_height // self.rows) if self.rows else 0
        self.count = images * self.bands
        rows_in = (self.rows - 1) * window.row_stride + extent(window.height, window.row_dilation)
        self.room = rows_in * across * depth if self.padded else 0
        self.tables = _tables(window, self.rows, out_width, across, depth, depth // groups, turn)
        self.numbers = (self.rows, self.bands, across, int(self.padded))  # as launches take them

    def rooms(self, shares: int, dtype: np.dtype) -> Array:
        """A buffer for each share."""
        return device.empty((shares, self.room), dtype)


def _upright(window: Window, *arrays: Array) -> tuple:
    """The window and the arrays with columns as rows, if there is one row only: bands are cut along rows."""
    if window.height != 1 or window.top != 0 or any(array.shape[1] != 1 for array in arrays):
        return window, *arrays
    turned = Window(window.width, 1, window.column_stride, 1, window.column_dilation, 1, window.left, 0)
    return turned, *(array.reshape(array.shape[0], array.shape[2], 1, array.shape[3]) for array in arrays)


@compiled
def pad_band(x, n, row0, rows, window, across, room):
    """room = rows [row0, row0 + rows) of image n, with zeros around: before its columns window.left, `across` in all."""
    height, width, depth = x.shape[1], x.shape[2], x.shape[3]
    zero, size, left = x.dtype.type(0), across * depth, window.left * depth
    run = min(width * depth, size - left)
    for r in range(rows):
        row, to = row0 + r, r * size
        if row < 0 or row >= height:
            for j in range(size):
                store(room, to + j, zero)
            continue
        at = (n * height + row) * width * depth
        for j in range(left):
            store(room, to + j, zero)
        for j in range(run):
            store(room, to + left + j, load(x, at + j))
        for j in range(left + run, size):
            store(room, to + j, zero)


@compiled
def forward_bands(x, kernel, bias, y, rooms, tables, window, groups, ends, bands, share, shares):
    """Compute a share of the output's bands. bands: see _Bands.numbers. kernel: (taps and channels, units) as flat memory."""
    window, (band_rows, per_image, across, padded) = Window(*window), bands
    out_height, out_width, units, depth = y.shape[1], y.shape[2], y.shape[3], x.shape[3]
    channels, width, room, zero = depth // groups, units // groups, rooms[share], y.dtype.type(0)
    taps, first_tap = window.height * window.width * channels, band_rows * out_width
    total = x.shape[0] * per_image
    for b in range(total * share // shares, total * (share + 1) // shares):
        n, top = b // per_image, b % per_image * band_rows
        rows = min(band_rows, out_height - top)
        row0, count, to = (
            top * window.row_stride - window.top,
            rows * out_width,
            (n * out_height + top) * out_width * units,
        )
        if padded != 0:
            reach = (rows - 1) * window.row_stride + (window.height - 1) * window.row_dilation + 1
            pad_band(x, n, row0, reach, window, across, room)
        for g in range(groups):
            at, left, k0 = g * channels, g * width, first_tap
            start = to + left
            if padded != 0:
                gemm_at(
                    count,
                    width,
                    taps,
                    room,
                    at,
                    tables,
                    0,
                    tables,
                    k0,
                    kernel,
                    left,
                    units,
                    zero,
                    y,
                    start,
                    units,
                    bias,
                    left,
                    ends,
                )
            else:
                at += (n * x.shape[1] + row0) * x.shape[2] * depth
                gemm_at(
                    count,
                    width,
                    taps,
                    x,
                    at,
                    tables,
                    0,
                    tables,
                    k0,
                    kernel,
                    left,
                    units,
                    zero,
                    y,
                    start,
                    units,
                    bias,
                    left,
                    ends,
                )


def forward(x: Array, kernel: Array, bias: Array, y: Array, window: Window, groups: int, relu: bool) -> None:
    """y = conv(x, kernel) + bias, then relu if asked; a bias of size 0 is none."""
    _convolve(x, kernel, bias, y, window, groups, relu, False)


def _convolve(
    x: Array, kernel: Array, bias: Array, y: Array, window: Window, groups: int, relu: bool, turn: bool
) -> None:
    """`forward`; turn: with the kernel's taps in reverse order."""
    window, x, y = _upright(window, x, y)
    work = y.size * window.height * window.width * (x.shape[3] // groups)
    bands = _Bands(x.shape, y.shape, window, groups, share_count(work, _SHARE_WORK, _SHARES), turn)
    shares = share_count(work, _SHARE_WORK, _SHARES, bands.count)
    arrays = (x, kernel, bias, y, bands.rooms(shares, x.dtype), bands.tables)
    ends = (BIAS if bias.size else 0) + (RECTIFIED if relu else 0)
    launch_shares(forward_bands, shares, *arrays, tuple(window), groups, ends, bands.numbers)


@compiled
def kernel_gradient_bands(x, dy, partials, rooms, tables, window, groups, bands, share, shares):
    """partials[share] = windows^T @ dy over a share of the bands."""
    window, (band_rows, per_image, across, padded) = Window(*window), bands
    out_height, out_width, units, depth = dy.shape[1], dy.shape[2], dy.shape[3], x.shape[3]
    channels, width, room, partial = depth // groups, units // groups, rooms[share], partials[share]
    taps, first_tap = window.height * window.width * channels, band_rows * out_width
    total = x.shape[0] * per_image
    first = total * share // shares
    for b in range(first, total * (share + 1) // shares):
        n, top = b // per_image, b % per_image * band_rows
        rows = min(band_rows, out_height - top)
        row0, count, to = (
            top * window.row_stride - window.top,
            rows * out_width,
            (n * out_height + top) * out_width * units,
        )
        beta = dy.dtype.type(0) if b == first else dy.dtype.type(1)
        if padded != 0:
            reach = (rows - 1) * window.row_stride + (window.height - 1) * window.row_dilation + 1
            pad_band(x, n, row0, reach, window, across, room)
        for g in range(groups):
            at, left, k0 = g * channels, g * width, first_tap
            start = to + left
            if padded != 0:
                gemm_at(
                    taps,
                    width,
                    count,
                    room,
                    at,
                    tables,
                    k0,
                    tables,
                    0,
                    dy,
                    start,
                    units,
                    beta,
                    partial,
                    left,
                    units,
                    dy,
                    0,
                    0,
                )
            else:
                at += (n * x.shape[1] + row0) * x.shape[2] * depth
                gemm_at(
                    taps,
                    width,
                    count,
                    x,
                    at,
                    tables,
                    k0,
                    tables,
                    0,
                    dy,
                    start,
                    units,
                    beta,
                    partial,
                    left,
                    units,
                    dy,
                    0,
                    0,
                )


def kernel_gradient(x: Array, dy: Array, dkernel: Array, window: Window, groups: int) -> None:
    """dkernel = the gradient of conv(x, kernel) for the output's gradient dy."""
    window, x, dy = _upright(window, x, dy)
    work, most = dy.size * (dkernel.size // dkernel.shape[3]), max(2, _PARTIAL_ELEMENTS // dkernel.size)
    bands = _Bands(x.shape, dy.shape, window, groups, share_count(work, _GRADIENT_WORK, _SHARES, most))
    shares = share_count(work, _GRADIENT_WORK, _SHARES, bands.count, most)
    flat = dkernel.reshape(1, -1)
    partials = flat if shares == 1 else device.empty((shares, dkernel.size), x.dtype)
    if bands.count == 0:
        device.launch(device.fill, partials, 0)
    arrays = (x, dy, partials, bands.rooms(shares, x.dtype), bands.tables)
    launch_shares(kernel_gradient_bands, shares, *arrays, tuple(window), groups, bands.numbers)
    if shares > 1:
        reduce.sum_rows(partials[None], flat)


# -------------------- the input's gradient --------------------


@compiled
def scatter(windows, n, first, count, window, out_width, dx, rows, taps, group):
    """Add windows to image n of dx, each number where `gather` reads it from.

    rows: (first, last) of dx. taps: (first, how many) of the windows' rows. group: (first, how many) of the channels.
    """
    (row_first, row_last), (tap_row, tap_rows), (channel, channels) = rows, taps, group
    height, width, depth = dx.shape[1], dx.shape[2], dx.shape[3]
    run = window.width * channels
    whole = window.column_dilation == 1 and channels == depth
    for i in range(count):
        row0 = (first + i) // out_width * window.row_stride - window.top
        column0 = (first + i) % out_width * window.column_stride - window.left
        inside = whole and column0 >= 0 and column0 + window.width <= width
        for tap in range(tap_rows):
            row, at = row0 + (tap_row + tap) * window.row_dilation, (i * tap_rows + tap) * run
            if row < row_first or row >= row_last:
                continue
            to = ((n * height + row) * width + column0) * depth + channel
            if inside:
                for j in range(run):
                    store(dx, to + j, load(dx, to + j) + load(windows, at + j))
                continue
            for kx in range(window.width):
                column = kx * window.column_dilation
                if column0 + column >= 0 and column0 + column < width:
                    put = to + column * depth
                    for j in range(channels):
                        store(dx, put + j, load(dx, put + j) + load(windows, at + kx * channels + j))


def transpose_matrices(matrices: Array, out: Array) -> None:
    """Kernel: out[i] = matrices[i].T, by blocks of rows that stay in L1."""
    for i in range(len(matrices)):
        for row in range(0, matrices.shape[1], 64):
            np.copyto(out[i, :, row : row + 64], matrices[i, row : row + 64].T)


transpose_matrices.fuses_as = "transpose"  # type: ignore[attr-defined]


@compiled
def input_gradient_bands(dy, transposed, dx, rooms, window, groups, block, bands, share, shares):
    """Compute a share of the bands of dx. A band is a run of rows of an image, and adds up all windows that touch them.

    transposed: matrices of units x (taps and channels), each of one row of the kernel or of several.
    """
    window = Window(*window)
    height, row_size = dx.shape[1], dx.shape[2] * dx.shape[3]
    out_width, units, channels = dy.shape[2], dy.shape[3], dx.shape[3] // groups
    parts, taps, width = transposed.shape[0], transposed.shape[2], units // groups
    tap_rows, reach = window.height // parts, (window.height - 1) * window.row_dilation
    zero, windows = dx.dtype.type(0), rooms[share]
    for b in range(dx.shape[0] * bands * share // shares, dx.shape[0] * bands * (share + 1) // shares):
        n, band = b // bands, b % bands
        first, last = height * band // bands, height * (band + 1) // bands
        for j in range((n * height + first) * row_size, (n * height + last) * row_size):
            store(dx, j, zero)
        # Output rows whose windows end at or below row `first` and begin above row `last`.
        out_top = max(0, -((reach - window.top - first) // window.row_stride))
        out_bottom = min(dy.shape[1], (last - 1 + window.top) // window.row_stride + 1)
        for start in range(out_top * out_width, out_bottom * out_width, block):
            count = min(block, out_bottom * out_width - start)
            at = (n * dy.shape[1] * out_width + start) * units
            for part in range(parts):
                for g in range(groups):
                    left, matrix = at + g * width, (part * units + g * width) * taps
                    gemm(0, 0, count, taps, width, dy, left, units, transposed, matrix, taps, zero, windows, 0, taps)
                    tap_range, group = (part * tap_rows, tap_rows), (g * channels, channels)
                    scatter(windows, n, start, count, window, out_width, dx, (first, last), tap_range, group)


def _tap_rows(kernel: Array) -> int:
    """Number of a kernel's rows in one matrix: a divisor of its height, the largest with at most _COLUMNS taps and channels."""
    height, width, channels, _ = kernel.shape
    return max(
        rows
        for rows in range(1, height + 1)
        if height % rows == 0 and (rows == 1 or rows * width * channels <= _COLUMNS)
    )


def input_gradient(dy: Array, kernel: Array, dx: Array, window: Window, groups: int) -> None:
    """dx = the gradient of conv(x, kernel) for the output's gradient dy."""
    if window.row_stride == window.column_stride == groups == 1:
        _as_convolution(dy, kernel, dx, window)
        return
    rows, units, batch = _tap_rows(kernel), kernel.shape[3], dx.shape[0]
    parts, taps = window.height // rows, rows * window.width * kernel.shape[2]
    shares = share_count(dy.size * taps * parts, _GRADIENT_WORK, _SHARES)
    # With fewer images than shares, images are cut into bands. A band is at least as high as two windows, because windows that
    # cross a border are computed on both sides.
    highest = max(1, dx.shape[1] // (2 * extent(window.height, window.row_dilation)))
    bands = min(highest, -(-shares // batch)) if 0 < batch < shares else 1
    shares = max(1, min(shares, batch * bands))
    block = _block_positions(dy.shape[1] * dy.shape[2], taps)
    rooms, transposed = device.empty((shares, block * taps), dx.dtype), device.empty((parts, units, taps), dx.dtype)
    device.launch(transpose_matrices, kernel.reshape(parts, taps, units), transposed)
    arrays = (dy, transposed, dx, rooms)
    launch_shares(input_gradient_bands, shares, *arrays, tuple(window), groups, block, bands)


def _as_convolution(dy: Array, kernel: Array, dx: Array, window: Window) -> None:
    """dx for stride 1: the windows of dy that cover a pixel, with the kernel turned by 180 degrees."""
    height, width, channels, units = kernel.shape
    with device.prepared(kernel):
        turned = device.empty((height * width, units, channels), kernel.dtype)
        device.launch(transpose_matrices, kernel.reshape(-1, channels, units), turned)
    top, left = (
        (window.height - 1) * window.row_dilation - window.top,
        (window.width - 1) * window.column_dilation - window.left,
    )
    back = window._replace(top=top, left=left)
    _convolve(dy, turned, device.empty((0,), dx.dtype), dx, back, 1, False, True)
