"""Convolution in groups of few channels or units, where a matrix product for each group would leave its tiles mostly empty.

A thread computes one number. Neighbouring threads have neighbouring units or channels, and mostly read neighbouring elements.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import divided
from nbkeras.kernels.cuda.machine.kernel import kernel, size

_i = np.int32
# threads of `correlate`, along the units and along the positions
ACROSS, ROWS = size(32, simulated=4), size(8, simulated=2)
_SUMS = ACROSS * ROWS


@kernel
def convolve(x, kernel, bias, y, sizes, window, relu):
    _, in_height, in_width, in_depth, channels, out_height, out_width, out_depth, units = sizes
    kernel_rows, kernel_columns, sh, sw, dh, dw, top, left = window
    i = cuda.grid(1)
    if i >= y.size:
        return
    rest, unit = divided(i, out_depth)
    rest, out_column = divided(rest, out_width)
    image, out_row = divided(rest, out_height)
    group, _ = divided(unit, units)
    zero = y.dtype.type(0)
    total = zero
    for ky in range(kernel_rows):
        row = _i(out_row * sh + ky * dh - top)
        if row >= 0 and row < in_height:
            for kx in range(kernel_columns):
                column = _i(out_column * sw + kx * dw - left)
                if column >= 0 and column < in_width:
                    at = _i(((image * in_height + row) * in_width + column) * in_depth + group * channels)
                    kernel_at = _i((ky * kernel_columns + kx) * channels * out_depth + unit)
                    for c in range(channels):
                        total += x[at + c] * kernel[kernel_at + c * out_depth]
    if bias.size > 0:
        total += bias[unit]
    if relu != 0 and total < zero:  # NaN stays NaN
        total = zero
    y[i] = total


@kernel
def convolve_back(dy, kernel, dx, sizes, window):
    """Computes dx, with the sizes and the window of the convolution."""
    _, in_height, in_width, in_depth, channels, out_height, out_width, out_depth, units = sizes
    kernel_rows, kernel_columns, sh, sw, dh, dw, top, left = window
    i = cuda.grid(1)
    if i >= dx.size:
        return
    rest, channel = divided(i, in_depth)
    rest, column = divided(rest, in_width)
    image, row = divided(rest, in_height)
    group, c = divided(channel, channels)
    total = dx.dtype.type(0)
    for ky in range(kernel_rows):
        reach = _i(row + top - ky * dh)
        out_row, rest = divided(max(reach, 0), sh)
        if reach >= 0 and rest == 0 and out_row < out_height:
            for kx in range(kernel_columns):
                reach = _i(column + left - kx * dw)
                out_column, rest = divided(max(reach, 0), sw)
                if reach >= 0 and rest == 0 and out_column < out_width:
                    at = _i(((image * out_height + out_row) * out_width + out_column) * out_depth + group * units)
                    kernel_at = _i(((ky * kernel_columns + kx) * channels + c) * out_depth + group * units)
                    for u in range(units):
                        total += dy[at + u] * kernel[kernel_at + u]
    dx[i] = total


@kernel
def correlate(x, dy, y, sizes, window, counts):
    """y[part, taps and channels, units] = the kernel's gradient over a part of the positions. A block has a tap and channel."""
    images, in_height, in_width, in_depth, channels, out_height, out_width, out_depth, units = sizes
    _, kernel_columns, sh, sw, dh, dw, top, left = window
    sums = cuda.shared.array(_SUMS, x.dtype)
    across, line = cuda.threadIdx.x, cuda.threadIdx.y
    tiles, elements, parts = counts
    element, tile = divided(cuda.blockIdx.x, tiles)
    unit, part = _i(tile * ACROSS + across), _i(cuda.blockIdx.y)
    positions = _i(images * out_height * out_width)
    length, _ = divided(positions + parts - 1, parts)
    first, last = _i(part * length + line), _i(min(positions, (part + 1) * length))
    total = x.dtype.type(0)
    if unit < out_depth:
        tap, channel = divided(element, channels)
        ky, kx = divided(tap, kernel_columns)
        group, _ = divided(unit, units)
        channel = _i(channel + group * channels)
        down, right = _i(ky * dh - top), _i(kx * dw - left)
        rest, out_column = divided(first, out_width)
        image, out_row = divided(rest, out_height)
        rest, more_columns = divided(ROWS, out_width)
        more_images, more_rows = divided(rest, out_height)
        for position in range(first, last, ROWS):
            row, column = _i(out_row * sh + down), _i(out_column * sw + right)
            if row >= 0 and row < in_height and column >= 0 and column < in_width:
                at = _i(((image * in_height + row) * in_width + column) * in_depth + channel)
                total += x[at] * dy[position * out_depth + unit]
            out_column, out_row, image = _i(out_column + more_columns), _i(out_row + more_rows), _i(image + more_images)
            if out_column >= out_width:
                out_column, out_row = _i(out_column - out_width), _i(out_row + 1)
            if out_row >= out_height:
                out_row, image = _i(out_row - out_height), _i(image + 1)
    sums[line * ACROSS + across] = total
    cuda.syncthreads()
    if line == 0 and unit < out_depth:
        for other in range(1, ROWS):
            total += sums[other * ACROSS + across]
        y[(part * elements + element) * out_depth + unit] = total
