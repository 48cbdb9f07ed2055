"""Convolution of any size, stride, dilation and grouping as matrix products over windows, NHWC.

The windows of a block of output positions are copied into a buffer that stays in L2: one row of kernel_height * kernel_width *
channels numbers per position. The product of that buffer and the kernel is the output. The gradients are computed in the same
way: windows^T @ dy is the kernel's gradient, and the rows of dy @ kernel^T are windows whose sum is the input's gradient. Each
share of the blocks has its own buffer. The shape determines shares and blocks. Limit: each group is a product of its own, so
many groups are slow.
"""

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.gemm import gemm
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
_SHARE_WORK = 1_000_000  # multiply-adds: with fewer, another share costs more than it saves


def _block_positions(positions: int, taps: int) -> int:
    """Output positions per block."""
    most = max(_LEAST_POSITIONS, _BUFFER // taps // 16 * 16)
    count = -(-positions // most)
    return -(-positions // count)


@compiled
def gather(x, n, first, count, window, out_width, channel, channels, windows):
    """Copy windows: windows[i, ky, kx, c] = channels [channel, channel + channels) of image n under output position first + i."""
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


@compiled
def finish(y, at, rows, width, bias, relu):
    """Add the bias (none if its size is 0) to `rows` rows of y from offset `at`, then take relu if asked."""
    zero = y.dtype.type(0)
    for i in range(rows):
        to = at + i * width
        if bias.size > 0:
            for j in range(width):
                store(y, to + j, load(y, to + j) + load(bias, j))
        if relu:
            for j in range(width):
                store(y, to + j, max(load(y, to + j), zero))


@compiled
def forward_blocks(x, kernel, bias, y, rooms, window, groups, relu, block, blocks, share, shares):
    """Compute a share of the output's blocks. block: positions per block; the last block of an image may have fewer."""
    window = Window(*window)
    first, last, windows = blocks * share // shares, blocks * (share + 1) // shares, rooms[share]
    out_width, units, channels = y.shape[2], y.shape[3], kernel.shape[2]
    positions, taps, width = y.shape[1] * y.shape[2], window.height * window.width * channels, units // groups
    per_image = -(-positions // block)
    for b in range(first, last):
        n, start = b // per_image, b % per_image * block
        count, at = min(block, positions - start), (n * positions + start) * units
        for g in range(groups):
            gather(x, n, start, count, window, out_width, g * channels, channels, windows)
            if units == 1:  # computed as a row, so that all vectors are full
                gemm(0, 1, 1, count, taps, kernel, 0, taps, windows, 0, taps, y.dtype.type(0), y, at, count)
                continue
            zero, left = y.dtype.type(0), g * width
            gemm(0, 0, count, width, taps, windows, 0, taps, kernel, left, units, zero, y, at + left, units)
        finish(y, at, count, units, bias, relu)


def forward(x: Array, kernel: Array, bias: Array, y: Array, window: Window, groups: int, relu: bool) -> None:
    """y = conv(x, kernel) + bias, then relu if asked; a bias of size 0 is none."""
    taps, positions = kernel.size // kernel.shape[3], y.shape[1] * y.shape[2]
    block = _block_positions(positions, taps)
    blocks = y.shape[0] * -(-positions // block)
    shares = share_count(y.size * taps, _SHARE_WORK, _SHARES, blocks)
    rooms = device.empty((shares, block * taps), x.dtype)
    arrays = (x, kernel, bias, y, rooms)
    launch_shares(forward_blocks, shares, *arrays, tuple(window), groups, relu, block, blocks)


@compiled
def kernel_gradient_blocks(x, dy, partials, rooms, window, groups, block, blocks, share, shares):
    """partials[share] = windows^T @ dy over a share of the blocks."""
    window = Window(*window)
    first, last, windows = blocks * share // shares, blocks * (share + 1) // shares, rooms[share]
    partial = partials[share]
    out_width, units, channels = dy.shape[2], dy.shape[3], x.shape[3] // groups
    positions, taps, width = dy.shape[1] * dy.shape[2], window.height * window.width * channels, units // groups
    per_image = -(-positions // block)
    for b in range(first, last):
        n, start = b // per_image, b % per_image * block
        count, at = min(block, positions - start), (n * positions + start) * units
        beta = dy.dtype.type(0) if b == first else dy.dtype.type(1)
        for g in range(groups):
            gather(x, n, start, count, window, out_width, g * channels, channels, windows)
            if units == 1:  # computed as a row
                gemm(0, 0, 1, taps, count, dy, at, count, windows, 0, taps, beta, partial, 0, taps)
                continue
            gemm(1, 0, taps, width, count, windows, 0, taps, dy, at + g * width, units, beta, partial, g * width, units)


def kernel_gradient(x: Array, dy: Array, dkernel: Array, window: Window, groups: int) -> None:
    """dkernel = the gradient of conv(x, kernel) for the output's gradient dy."""
    taps, positions = dkernel.size // dkernel.shape[3], dy.shape[1] * dy.shape[2]
    block = _block_positions(positions, taps)
    blocks = dy.shape[0] * -(-positions // block)
    shares = share_count(dy.size * taps, _SHARE_WORK, _SHARES, blocks, max(2, _PARTIAL_ELEMENTS // dkernel.size))
    rooms, flat = device.empty((shares, block * taps), x.dtype), dkernel.reshape(1, -1)
    partials = flat if shares == 1 else device.empty((shares, dkernel.size), x.dtype)
    arrays = (x, dy, partials, rooms)
    if blocks == 0:
        device.launch(device.fill, partials, 0)
    launch_shares(kernel_gradient_blocks, shares, *arrays, tuple(window), groups, block, blocks)
    if shares > 1:
        reduce.sum_rows(partials[None], flat)


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
    rows, units, batch = _tap_rows(kernel), kernel.shape[3], dx.shape[0]
    parts, taps = window.height // rows, rows * window.width * kernel.shape[2]
    shares = share_count(dy.size * taps * parts, _SHARE_WORK, _SHARES)
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
