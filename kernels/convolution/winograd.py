"""Winograd's F(4x4, 3x3) for 3x3 convolutions of stride 1 in float32. It needs 36 products instead of 144.

The output is cut into tiles of 4x4. A tile's 6x6 input is transformed (B^T d B), multiplied by the transformed kernel
(G g G^T) element by element over the channels, and transformed back (A^T m A). For a block of tiles, each of the 36 elements is
one matrix product, tiles x channels by channels x units. The input's gradient is the same convolution of dy with the kernel
rotated by 180 degrees. The kernel's gradient is G^T [sum over tiles of (B^T d B) * (A dy A^T)] G.

Largest error against float64, relative to the largest element, on normally distributed data: 7e-6 with 64 channels and 1.4e-5
with 512 (direct float32: about 5e-7); of the kernel's gradient 4e-6. Tests check bounds.
Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (arXiv:1509.09308).
"""

from typing import NamedTuple

import numpy as np

from nbkeras.kernels.convolution.implicit_gemm import transpose_matrices
from nbkeras.kernels.loops.gemm import gemm
from nbkeras.kernels.loops.noalias import load, store
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_f = np.float32
_ZERO, _ONE, _TWO, _FOUR, _FIVE, _EIGHT = _f(0), _f(1), _f(2), _f(4), _f(5), _f(8)
_4TH, _6TH, _12TH, _24TH = _f(1 / 4), _f(1 / 6), _f(1 / 12), _f(1 / 24)
_SIX, _QUAD = np.int64(6), np.int64(4)  # Numba would compile `cut` again for a literal 6 or 4
_BUFFER = 50_000  # max elements of a block's transformed tiles: they fit into an L2 of 256 KiB
_MIN_TILES = 24  # minimum tiles of a block: with fewer, the products are too thin
_RUN = 512  # elements of a kernel that a share transforms
_SHARES = 16
_SHARE_WORK = 250_000  # min multiply-adds of a share, if there is only one block
_PARTIAL_ELEMENTS = 8_000_000  # max elements of the partial kernel gradients of all shares


# -------------------- transforms of one row or column of a tile, for all channels --------------------
# step: the distance between two elements of the row. at, to: the offset of the first element.


@compiled
def transform_input(source, at, step, target, to, to_step, channels):
    """target = B^T source: 6 elements to 6."""
    for c in range(at, at + channels):
        d0, d1, d2 = load(source, c), load(source, c + step), load(source, c + 2 * step)
        d3, d4, d5 = load(source, c + 3 * step), load(source, c + 4 * step), load(source, c + 5 * step)
        a, b, e, f = d4 - _FOUR * d2, d3 - _FOUR * d1, d4 - d2, _TWO * (d3 - d1)
        p = c - at + to
        store(target, p, _FOUR * d0 - _FIVE * d2 + d4)
        store(target, p + to_step, a + b)
        store(target, p + 2 * to_step, a - b)
        store(target, p + 3 * to_step, e + f)
        store(target, p + 4 * to_step, e - f)
        store(target, p + 5 * to_step, _FOUR * d1 - _FIVE * d3 + d5)


@compiled
def transform_output(source, at, step, target, to, to_step, channels):
    """target = A^T source: 6 elements to 4."""
    for c in range(at, at + channels):
        m0, m1, m2 = load(source, c), load(source, c + step), load(source, c + 2 * step)
        m3, m4, m5 = load(source, c + 3 * step), load(source, c + 4 * step), load(source, c + 5 * step)
        p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        to_c = c - at + to
        store(target, to_c, m0 + p + r)
        store(target, to_c + to_step, q + _TWO * s)
        store(target, to_c + 2 * to_step, p + _FOUR * r)
        store(target, to_c + 3 * to_step, q + _EIGHT * s + m5)


@compiled
def transform_gradient(source, at, step, target, to, to_step, channels):
    """target = A source: 4 elements to 6."""
    for c in range(at, at + channels):
        m0, m1, m2, m3 = load(source, c), load(source, c + step), load(source, c + 2 * step), load(source, c + 3 * step)
        a, b, e, f = m0 + m2, m1 + m3, m0 + _FOUR * m2, _TWO * m1 + _EIGHT * m3
        p = c - at + to
        store(target, p, m0)
        store(target, p + to_step, a + b)
        store(target, p + 2 * to_step, a - b)
        store(target, p + 3 * to_step, e + f)
        store(target, p + 4 * to_step, e - f)
        store(target, p + 5 * to_step, m3)


@compiled
def transform_kernel(source, at, step, target, to, to_step, channels):
    """target = G source: 3 elements to 6."""
    for c in range(at, at + channels):
        g0, g1, g2 = load(source, c), load(source, c + step), load(source, c + 2 * step)
        s, e = -(g0 + g2) * _6TH, g0 * _24TH + g2 * _6TH
        p = c - at + to
        store(target, p, g0 * _4TH)
        store(target, p + to_step, s - g1 * _6TH)
        store(target, p + 2 * to_step, s + g1 * _6TH)
        store(target, p + 3 * to_step, e + g1 * _12TH)
        store(target, p + 4 * to_step, e - g1 * _12TH)
        store(target, p + 5 * to_step, g2)


@compiled
def transform_kernel_back(source, at, step, target, to, to_step, channels):
    """target = G^T source: 6 elements to 3."""
    for c in range(at, at + channels):
        u0, u1, u2 = load(source, c), load(source, c + step), load(source, c + 2 * step)
        u3, u4, u5 = load(source, c + 3 * step), load(source, c + 4 * step), load(source, c + 5 * step)
        p = c - at + to
        store(target, p, _4TH * u0 - _6TH * (u1 + u2) + _24TH * (u3 + u4))
        store(target, p + to_step, _6TH * (u2 - u1) + _12TH * (u3 - u4))
        store(target, p + 2 * to_step, _6TH * (u3 + u4 - u1 - u2) + u5)


# -------------------- tiles --------------------


class Tiling(NamedTuple):
    """Sizes of a convolution, the padding before its input, and the cut of its output into tiles of 4x4.

    Launches take it as a plain tuple, see window.Window.
    """

    height: int
    width: int
    channels: int
    out_height: int
    out_width: int
    units: int
    top: int
    left: int
    columns: int  # tiles in a row
    per_image: int
    tiles: int  # tiles of all images
    block: int  # tiles that are multiplied together

    @staticmethod
    def of(x_shape: tuple[int, ...], y_shape: tuple[int, ...], top: int, left: int) -> "Tiling":
        """Returns the tiling for NHWC shapes."""
        (_, height, width, channels), (images, out_height, out_width, units) = x_shape, y_shape
        columns = -(-out_width // 4)
        per_image = -(-out_height // 4) * columns
        tiles = images * per_image
        maximum = max(_MIN_TILES, _BUFFER // (36 * (channels + units)))
        blocks = max(-(-tiles // maximum), min(tiles // 8, share_count(36 * tiles * channels * units, _SHARE_WORK)))
        sizes = height, width, channels, out_height, out_width, units
        block = -(-tiles // blocks)
        block += -block % 8 if blocks > 1 else 0  # a multiple of the rows that a product keeps in registers
        return Tiling(*sizes, top, left, columns, per_image, tiles, block)

    @property
    def blocks(self) -> int:
        return -(-self.tiles // self.block)

    def buffers(self, shares: int) -> Array:
        """Returns buffers for each share: for the transformed tiles before and after the products, and for one tile."""
        both = self.channels + self.units
        return device.empty((shares, 36 * self.block * both + 72 * max(self.channels, self.units)), _f)


@compiled
def cut(source, image, height, width, channels, row0, column0, size, patch, at):
    """Copies size x size pixels of an NHWC image from (row0, column0) on to patch, with zeros outside the image."""
    for row in range(row0, row0 + size):
        for column in range(column0, column0 + size):
            to = at + ((row - row0) * size + column - column0) * channels
            if row < 0 or row >= height or column < 0 or column >= width:
                for c in range(channels):
                    store(patch, to + c, _ZERO)
            else:
                put = to - ((image * height + row) * width + column) * channels
                for c in range(to - put, to - put + channels):
                    store(patch, c + put, load(source, c))


@compiled
def input_tiles(x, tiling, first, count, buffer, to, spare):
    """buffer[to:] = B^T d B for `count` tiles from `first` on, as elements x tiles x channels. spare: offset of free memory."""
    height, width, channels = tiling.height, tiling.width, tiling.channels
    patch = spare + 36 * channels
    for i in range(count):
        image, tile = (first + i) // tiling.per_image, (first + i) % tiling.per_image
        row, column = tile // tiling.columns * 4 - tiling.top, tile % tiling.columns * 4 - tiling.left
        if row >= 0 and row + 6 <= height and column >= 0 and column + 6 <= width:
            at = ((image * height + row) * width + column) * channels
            for k in range(6):
                transform_input(
                    x, at + k * width * channels, channels, buffer, spare + k * 6 * channels, channels, channels
                )
        else:
            cut(x, image, height, width, channels, row, column, _SIX, buffer, patch)
            for k in range(6):
                put = k * 6 * channels
                transform_input(buffer, patch + put, channels, buffer, spare + put, channels, channels)
        for k in range(6):
            put = to + (k * count + i) * channels
            transform_input(buffer, spare + k * channels, 6 * channels, buffer, put, 6 * count * channels, channels)


@compiled
def gradient_tiles(dy, tiling, first, count, buffer, to, spare):
    """buffer[to:] = A dy A^T for `count` tiles from `first` on, as elements x tiles x units."""
    height, width, units = tiling.out_height, tiling.out_width, tiling.units
    patch = spare + 24 * units
    for i in range(count):
        image, tile = (first + i) // tiling.per_image, (first + i) % tiling.per_image
        row, column = tile // tiling.columns * 4, tile % tiling.columns * 4
        if row + 4 <= height and column + 4 <= width:
            at = ((image * height + row) * width + column) * units
            for k in range(4):
                transform_gradient(dy, at + k * width * units, units, buffer, spare + k * 6 * units, units, units)
        else:
            cut(dy, image, height, width, units, row, column, _QUAD, buffer, patch)
            for k in range(4):
                transform_gradient(buffer, patch + k * 4 * units, units, buffer, spare + k * 6 * units, units, units)
        for k in range(6):
            put = to + (k * count + i) * units
            transform_gradient(buffer, spare + k * units, 6 * units, buffer, put, 6 * count * units, units)


@compiled
def finish(y, at, rows, width, bias, relu):
    """Adds the bias (none if its size is 0) to `rows` rows of y from offset `at` on, then applies optional relu."""
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
def output_tiles(buffer, at, y, tiling, first, count, spare, bias, relu):
    """y = A^T m A + bias, then optional relu, for `count` tiles from `first` on. m = buffer[at:], as elements x tiles x units."""
    height, width, units = tiling.out_height, tiling.out_width, tiling.units
    patch = spare + 24 * units
    for i in range(count):
        image, tile = (first + i) // tiling.per_image, (first + i) % tiling.per_image
        row, column = tile // tiling.columns * 4, tile % tiling.columns * 4
        for k in range(6):
            source = at + (k * count + i) * units
            transform_output(buffer, source, 6 * count * units, buffer, spare + k * units, 6 * units, units)
        rows, columns = min(4, height - row), min(4, width - column)
        for k in range(rows):
            to = ((image * height + row + k) * width + column) * units
            if columns == 4:
                transform_output(buffer, spare + k * 6 * units, units, y, to, units, units)
            else:
                transform_output(buffer, spare + k * 6 * units, units, buffer, patch, units, units)
                for c in range(columns * units):
                    y[to + c] = buffer[patch + c]
            finish(y, to, columns, units, bias, relu)


# -------------------- forward, and the input's gradient --------------------


@compiled
def transform_whole_kernel(kernel, size, turn, half, transformed, share, shares):
    """Kernel: computes a share of G g G^T; the kernel is rotated if `turn`. half: a buffer for the result of one direction."""
    first, last = size * share // shares, size * (share + 1) // shares
    count = last - first
    start, step = (8 * size + first, -size) if turn else (first, size)
    for kx in range(3):
        transform_kernel(kernel, start + kx * step, 3 * step, half, kx * size + first, 3 * size, count)
    for row in range(6):
        transform_kernel(half, row * 3 * size + first, size, transformed, row * 6 * size + first, size, count)


@compiled
def convolve_tiles(x, transformed, bias, y, buffers, tiling, relu, share, shares):
    """Kernel: computes a share of the output's tiles, in blocks; x and y are flat."""
    tiling = Tiling(*tiling)
    tiles, block, channels, units = tiling.tiles, tiling.block, tiling.channels, tiling.units
    first, last, buffer = tiles * share // shares, tiles * (share + 1) // shares, buffers[share]
    products = 36 * block * channels
    spare = products + 36 * block * units
    size = channels * units
    for start in range(first, last, block):
        count = min(block, last - start)
        input_tiles(x, tiling, start, count, buffer, 0, spare)
        for k in range(36):
            a, b, c = k * count * channels, k * size, products + k * count * units
            gemm(0, 0, count, units, channels, buffer, a, channels, transformed, b, units, _ZERO, buffer, c, units)
        output_tiles(buffer, products, y, tiling, start, count, spare, bias, relu)


def convolve(
    x: Array, kernel: Array, bias: Array, y: Array, top: int, left: int, turn: bool = False, relu: bool = False
) -> None:
    """Computes y = conv(x, kernel) + bias, then optional relu. A bias of size 0 means none.

    turn: True to rotate the kernel by 180 degrees and to swap its channels and units; this gives the input's gradient from dy.
    """
    tiling, channels, units = Tiling.of(x.shape, y.shape, top, left), x.shape[3], y.shape[3]
    size = channels * units
    with device.prepared(kernel):
        if turn:
            upright, kernel = kernel, device.empty((9, channels, units), _f)
            device.launch(transpose_matrices, upright.reshape(9, units, channels), kernel)
        transformed, half = device.empty((36 * size,), _f), device.empty((18 * size,), _f)
        runs = -(-size // _RUN)
        flat = kernel.reshape(-1)
        launch_shares(transform_whole_kernel, runs, flat, size, int(turn), half, transformed)
    buffers = tiling.buffers(min(_SHARES, tiling.blocks))
    arrays = (x.reshape(-1), transformed, bias, y.reshape(-1), buffers)
    launch_shares(convolve_tiles, len(buffers), *arrays, tuple(tiling), relu)


# -------------------- the kernel's gradient --------------------


@compiled
def kernel_gradient_tiles(x, dy, partials, buffers, tiling, share, shares):
    """Kernel: partials[share] = the sum of (B^T d B) * (A dy A^T) over a share of the tiles, as elements x channels x units."""
    tiling = Tiling(*tiling)
    tiles, block, channels, units = tiling.tiles, tiling.block, tiling.channels, tiling.units
    first, last = tiles * share // shares, tiles * (share + 1) // shares
    buffer, partial = buffers[share], partials[share]
    gradients = 36 * block * channels
    spare = gradients + 36 * block * units
    for start in range(first, last, block):
        count = min(block, last - start)
        input_tiles(x, tiling, start, count, buffer, 0, spare)
        gradient_tiles(dy, tiling, start, count, buffer, gradients, spare)
        beta = _ZERO if start == first else _ONE
        for k in range(36):
            a, b, c = k * count * channels, gradients + k * count * units, k * channels * units
            gemm(1, 0, channels, units, count, buffer, a, channels, buffer, b, units, beta, partial, c, units)


@compiled
def transform_back(partials, size, half, dkernel, share, shares):
    """Kernel: computes a share of G^T u G, where u is the sum of the partials in order. partials[0] then holds u."""
    first, last, total = size * share // shares, size * (share + 1) // shares, partials[0]
    count = last - first
    for p in range(1, partials.shape[0]):
        for element in range(36):
            for c in range(element * size + first, element * size + last):
                total[c] += partials[p, c]
    for row in range(6):
        at = row * 6 * size + first
        transform_kernel_back(total, at, size, half, row * 3 * size + first, size, count)
    for kx in range(3):
        at = kx * size + first
        transform_kernel_back(half, at, 3 * size, dkernel, at, 3 * size, count)


def kernel_gradient(x: Array, dy: Array, dkernel: Array, top: int, left: int) -> None:
    """Computes dkernel, the kernel's gradient of conv(x, kernel), from the output's gradient dy."""
    tiling, size = Tiling.of(x.shape, dy.shape, top, left), x.shape[3] * dy.shape[3]
    shares = min(_SHARES, tiling.blocks, max(2, _PARTIAL_ELEMENTS // (36 * size)))
    buffers, partials = tiling.buffers(shares), device.empty((shares, 36 * size), _f)
    arrays = (x.reshape(-1), dy.reshape(-1), partials, buffers)
    launch_shares(kernel_gradient_tiles, shares, *arrays, tuple(tiling))
    half, runs = device.empty((18 * size,), _f), -(-size // _RUN)
    launch_shares(transform_back, runs, partials, size, half, dkernel.reshape(-1))
