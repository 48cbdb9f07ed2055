"""Twins of implicit_gemm.py: three functions. Each is a matrix product over windows, gathered during the multiplication.

    y[position, unit]   = sum over taps and channels of x[the position's window] * kernel[tap, channel, unit]
    dx[pixel, channel]  = sum over taps and units of dy[the windows over the pixel] * kernel[tap, channel, unit]
    dkernel[tap and channel, unit] = sum over positions of x[the position's window] * dy[position, unit]

The first two use one kernel, in convolve.py: dx is a convolution of dy with the kernel rotated by 180 degrees. With strides,
pixels of dx whose row and column have the same remainders (a phase) are under the same taps. Each phase is a convolution without
strides, so no product is wasted on zeros. The third uses the kernel in correlate.py. If a result has too few tiles to fill a GPU,
its sums are cut into parts, which are added in a fixed order. The shape determines tiles and parts, so results are the same on
every GPU.

Each group is a separate product; for groups of few channels or units grouped.py is faster. Limit: arrays of fewer than
2**31 elements.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from nbkeras.kernels.cuda.convolution import convolve, correlate, grouped
from nbkeras.kernels.cuda.convolution.convolve import DEPTH, LARGE, LINES, MEDIUM, SIDE, SMALL
from nbkeras.kernels.cuda.loops.sums import Target, add_parts, parts_of
from nbkeras.kernels.cuda.loops.walk import in_32_bits, ints
from nbkeras.kernels.cuda.machine.kernel import blocks, size, start, start_each
from nbkeras.kernels.loops.window import Window
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_TILES = {  # name: (the tile, the kernel of the first two functions, the kernel of the third)
    "large": (LARGE, convolve.convolve_large, correlate.correlate_large),
    "medium": (MEDIUM, convolve.convolve_medium, correlate.correlate_medium),
    "small": (SMALL, convolve.convolve_small, correlate.correlate_small),
    "double": (SMALL, convolve.convolve_double, correlate.correlate_double),
}
_FILL = size(396, simulated=6)  # enough blocks to fill a GPU: three per multiprocessor of the largest GPU
_ENOUGH = size(132, simulated=4)  # with fewer blocks than this, smaller tiles are faster
_MIN_TERMS = DEPTH * size(16, simulated=2)  # minimum terms of a part of a sum
_FEW = size(8, simulated=3)  # a group with fewer units (or channels) leaves tiles too empty
_MAX_PARTIAL = 1 << 25  # max elements of all parts of a result


class _Plan(NamedTuple):
    """The division of a product: the size of its tiles, their number, and the number of parts of each sum."""

    tile: str
    tiles_m: int
    tiles_n: int
    parts: int


def _plan(m: int, n: int, terms: int, copies: int, y: DeviceArray) -> _Plan:
    """Plans `copies` products of m x n numbers that together form y. Each number is a sum of `terms` products."""
    if y.dtype == np.float64:
        tiles = ["double"]
    elif n <= SMALL[3]:
        tiles = ["small"]
    else:
        tiles = ["medium"] if m <= MEDIUM[2] else ["large", "medium"]
    for tile in tiles:
        (_, _, high, wide), *_ = _TILES[tile]
        tiles_m, tiles_n = blocks(m, high), blocks(n, wide)
        count = max(1, tiles_m * tiles_n * copies)
        parts = max(1, min(_FILL // count, terms // _MIN_TERMS, _MAX_PARTIAL // max(1, y.size)))
        if count * parts >= _ENOUGH:
            break
    return _Plan(tile, tiles_m, tiles_n, parts)


_flat = functools.partial(in_32_bits, "a convolution")


def _quads(depth: int, *arrays: DeviceArray) -> bool:
    """True if arrays with a last axis that is cut into pieces of `depth` can be read four elements at a time."""
    return depth % 4 == 0 and all(array.address % 16 == 0 for array in arrays)


def _targets(y: DeviceArray, bias: DeviceArray, relu: bool, parts: int) -> tuple[Target, Target]:
    """Returns the target of the result, and the target that the kernel writes: the same, or memory for parts."""
    (flat,) = _flat(y)
    whole = Target(flat, 0, y.shape[3], 0, y.dtype.type(0), bias, int(relu))
    return whole, whole if parts == 1 else parts_of(whole, 1, parts, y.size // y.shape[3], y.shape[3])


def _finish(whole: Target, target: Target, parts: int) -> None:
    if parts > 1:
        add_parts(target, whole, 1, parts, whole.c.size // whole.ld, whole.ld)


# -------------------- the three functions --------------------


def forward(
    x: DeviceArray, kernel: DeviceArray, bias: DeviceArray, y: DeviceArray, window: Window, groups: int, relu: bool
) -> None:
    """Computes y = conv(x, kernel) + bias, then optional relu. A bias of size 0 means none."""
    taps, channels, units = kernel.shape[0] * kernel.shape[1], kernel.shape[2], y.shape[3] // groups
    if groups > 1 and units < _FEW:
        flat, sizes = _flat(x, kernel, bias, y), ints(*x.shape, channels, *y.shape[1:], units)
        start_each(grouped.convolve, y.size, *flat, sizes, ints(*window), int(relu))
        return
    plan = _plan(y.size // y.shape[3], units, taps * channels, groups, y)
    _convolve(x, kernel, bias, y, channels, (0, *window, 1, 1), plan, groups, 1, relu)


def input_gradient(dy: DeviceArray, kernel: DeviceArray, dx: DeviceArray, window: Window, groups: int) -> None:
    """Computes dx, the input's gradient of conv(x, kernel), from the output's gradient dy."""
    (images, height, width, depth), (_, _, channels, units) = dx.shape, kernel.shape
    units //= groups
    if groups > 1 and channels < _FEW:
        flat, sizes = _flat(dy, kernel, dx), ints(*dx.shape, channels, *dy.shape[1:], units)
        start_each(grouped.convolve_back, dx.size, *flat, sizes, ints(*window))
        return
    row_period = window.row_stride // math.gcd(window.row_stride, window.row_dilation)
    column_period = window.column_stride // math.gcd(window.column_stride, window.column_dilation)
    rows, columns = blocks(window.height, row_period), blocks(window.width, column_period)  # the most taps over a pixel
    slots = min(row_period, window.height) * min(column_period, window.width)
    count = slots * rows * columns * units * depth
    turned = device.gpu().scratch("turned kernel", (count,), dx.dtype)
    tiles = blocks(units, SIDE) * blocks(channels, SIDE)
    grid, numbers = (window.height * window.width * tiles, groups), ints(depth, channels, kernel.shape[3], units)
    taps = ints(window.height, window.width, row_period, column_period)
    start(convolve.turn, grid, (SIDE, LINES), *_flat(kernel), turned, *numbers, taps)
    phases = window.row_stride * window.column_stride
    positions = images * blocks(height, window.row_stride) * blocks(width, window.column_stride)
    plan = _plan(positions, channels, rows * columns * units, groups * phases, dx)
    nothing = turned[:0]
    _convolve(dy, turned, nothing, dx, units, (1, *window, row_period, column_period), plan, groups, phases, False)


def _convolve(x, kernel, bias, y, channels, window, plan, groups, phases, relu) -> None:
    units = y.shape[3] // groups
    whole, target = _targets(y, bias, relu, plan.parts)
    flags = (target.rectify, _quads(channels, x), _quads(units, kernel), _quads(units, target.c))
    tile, run, _ = _TILES[plan.tile]
    grid, arrays = (plan.tiles_m * plan.tiles_n * plan.parts * phases, groups), (*_flat(x, kernel), target.bias)
    sizes, how = ints(*x.shape, channels, *y.shape[1:], units), ints(plan.tiles_m, plan.tiles_n, plan.parts, *flags)
    start(run, grid, tile[0], *arrays, target.c, sizes, ints(*window), how)
    _finish(whole, target, plan.parts)


def kernel_gradient(x: DeviceArray, dy: DeviceArray, dkernel: DeviceArray, window: Window, groups: int) -> None:
    """Computes dkernel, the kernel's gradient of conv(x, kernel), from the output's gradient dy."""
    channels, units = dkernel.shape[2], dkernel.shape[3] // groups
    elements, flat = dkernel.size // dkernel.shape[3], _flat(x, dy)
    sizes, nothing = ints(*x.shape, channels, *dy.shape[1:], units), flat[0][:0]
    if groups > 1 and units < _FEW:
        tiles, positions = blocks(dkernel.shape[3], grouped.ACROSS), dy.size // dy.shape[3]
        parts = max(1, min(4 * _FILL // (tiles * elements), positions // (16 * grouped.ROWS)))
        whole, target = _targets(dkernel, nothing, False, parts)
        threads = grouped.ACROSS, grouped.ROWS
        grid, counts = (tiles * elements, parts), ints(tiles, elements, parts)
        start(grouped.correlate, grid, threads, *flat, target.c, sizes, ints(*window), counts)
        _finish(whole, target, parts)
        return
    plan = _plan(elements, units, dy.size // dy.shape[3], groups, dkernel)
    whole, target = _targets(dkernel, nothing, False, plan.parts)
    flags = (_quads(channels, x), _quads(units, dy), _quads(units, target.c))
    tile, _, run = _TILES[plan.tile]
    grid, how = (plan.tiles_m * plan.tiles_n * plan.parts, groups), ints(plan.tiles_m, plan.tiles_n, plan.parts, *flags)
    start(run, grid, tile[0], *flat, target.c, sizes, ints(*window), how)
    _finish(whole, target, plan.parts)
