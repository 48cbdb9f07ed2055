"""Twins of implicit_gemm.py: its three functions, each a matrix product over windows that are gathered as they are needed.

    y[position, unit]   = sum over taps and channels of x[the position's window] * kernel[tap, channel, unit]
    dx[place, channel]  = sum over taps and units of dy[the windows on the place] * kernel[tap, channel, unit]
    dkernel[tap and channel, unit] = sum over positions of x[the position's window] * dy[position, unit]

The first two are one kernel, in cuda_convolve.py: dx is a convolution of dy with the kernel turned round. With strides, places
of dx with the same remainders lie under the same taps: each such kind of places is a convolution without strides, and
nothing is multiplied in vain. The third is in cuda_correlate.py. Where a result has too few tiles to fill a GPU, its sums are
cut into parts, which are added up in their order. Tiles and parts are chosen by shape, so results are the same on every GPU.

Limits: each group is a product of its own, so many groups are slow, as on the CPU; arrays of 2**31 elements are refused.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from nbkeras.kernels import cuda_convolve, cuda_correlate, device
from nbkeras.kernels.cuda_convolve import DEPTH, LARGE, MEDIUM, SMALL
from nbkeras.kernels.cuda_kernel import blocks, kernel, size, start
from nbkeras.kernels.cuda_walk import divided
from nbkeras.kernels.device_array import DeviceArray
from nbkeras.kernels.window import Window

_FILL = size(396, simulated=6)  # blocks that fill a GPU: three on each processor of the largest
_ENOUGH = size(132, simulated=4)  # blocks below which smaller tiles are better
_LEAST_TERMS = DEPTH * size(16, simulated=2)  # of a part of a sum
_MOST_PARTIAL = 1 << 25  # elements of all parts of a result together
_THREADS = size(256, simulated=8)  # of a block that adds parts
_MANY = size(16, simulated=4)  # parts that several rows of threads add
_ROWS = size(8, simulated=2)


class _Plan(NamedTuple):
    """How a product is cut."""

    tile: tuple[int, int, int, int]
    tiles_m: int
    tiles_n: int
    parts: int


def _plan(m: int, n: int, terms: int, copies: int, y: DeviceArray) -> _Plan:
    """For `copies` products of m x n numbers, each a sum of `terms`, that make up y."""
    sizes = (SMALL,) if n <= SMALL[3] or y.dtype == np.float64 else (MEDIUM,) if m <= MEDIUM[2] else (LARGE, MEDIUM)
    for tile in sizes:
        tiles_m, tiles_n = blocks(m, tile[2]), blocks(n, tile[3])
        count = max(1, tiles_m * tiles_n * copies)
        parts = max(1, min(_FILL // count, terms // _LEAST_TERMS, _MOST_PARTIAL // max(1, y.size)))
        if count * parts >= _ENOUGH:
            break
    return _Plan(tile, tiles_m, tiles_n, parts)


def _ints(*numbers: int) -> tuple:
    return tuple(map(np.int32, numbers))


def _scratch(name: str, count: int, dtype: np.dtype) -> DeviceArray:
    nbytes = count * dtype.itemsize
    return device.place().scratch(name, nbytes)[:nbytes].view(dtype)


def _flat(*arrays: DeviceArray) -> list[DeviceArray]:
    """Arrays as their kernels take them; ValueError for one whose offsets have more than 31 bits."""
    for array in arrays:
        if array.size >= 1 << 31:
            raise ValueError(
                f"a convolution on a GPU takes arrays of fewer than 2**31 elements, received one of shape {array.shape}: "
                "use smaller batches"
            )
    return [array.reshape(-1) for array in arrays]


def _quads(depth: int, *arrays: DeviceArray) -> bool:
    """Whether arrays whose last axis is cut into pieces of `depth` can be read by four neighbours at once."""
    return depth % 4 == 0 and all(array.address % 16 == 0 for array in arrays)


def _kernel_of(plan: _Plan, kernels: Any, name: str, dtype: np.dtype) -> Any:
    sizes = {LARGE: "large", MEDIUM: "medium", SMALL: "small"}
    return getattr(kernels, f"{name}_{'double' if dtype == np.float64 else sizes[plan.tile]}")


# -------------------- the three functions --------------------


def forward(
    x: DeviceArray, kernel: DeviceArray, bias: DeviceArray, y: DeviceArray, window: Window, groups: int, relu: bool
) -> None:
    """y = conv(x, kernel) + bias, then relu if asked; a bias of size 0 is none."""
    taps, channels = kernel.shape[0] * kernel.shape[1], kernel.shape[2]
    plan = _plan(y.size // y.shape[3], y.shape[3] // groups, taps * channels, groups, y)
    _convolve(x, kernel, bias, y, channels, (0, *window, 1, 1), plan, groups, 1, relu)


def input_gradient(dy: DeviceArray, kernel: DeviceArray, dx: DeviceArray, window: Window, groups: int) -> None:
    """dx = the gradient of conv(x, kernel) for the output's gradient dy."""
    (images, height, width, depth), units = dx.shape, kernel.shape[3] // groups
    row_period = window.row_stride // math.gcd(window.row_stride, window.row_dilation)
    column_period = window.column_stride // math.gcd(window.column_stride, window.column_dilation)
    rows, columns = blocks(window.height, row_period), blocks(window.width, column_period)  # most taps on a place
    slots = min(row_period, window.height) * min(column_period, window.width)
    turned = _scratch("turned kernel", slots * rows * columns * units * depth, kernel.dtype)
    tiles = blocks(units, cuda_convolve.SIDE) * blocks(kernel.shape[2], cuda_convolve.SIDE)
    start(
        cuda_convolve.turn,
        (window.height * window.width * tiles, groups),
        (cuda_convolve.SIDE, cuda_convolve.LINES),
        *_flat(kernel),
        turned,
        *_ints(depth, kernel.shape[2], kernel.shape[3], units),
        _ints(window.height, window.width, row_period, column_period),
    )
    kinds = window.row_stride * window.column_stride
    places = images * blocks(height, window.row_stride) * blocks(width, window.column_stride)
    plan = _plan(places, kernel.shape[2], rows * columns * units, groups * kinds, dx)
    nothing = turned[:0]
    _convolve(dy, turned, nothing, dx, units, (1, *window, row_period, column_period), plan, groups, kinds, False)


def _convolve(
    x: DeviceArray,
    kernel: DeviceArray,
    bias: DeviceArray,
    y: DeviceArray,
    channels: int,
    window: tuple,
    plan: _Plan,
    groups: int,
    kinds: int,
    relu: bool,
) -> None:
    units, parts = y.shape[3] // groups, plan.parts
    target = y if parts == 1 else _scratch("parts of a convolution", parts * y.size, y.dtype)
    flags = (relu and parts == 1, _quads(channels, x), _quads(units, kernel), _quads(units, target))
    start(
        _kernel_of(plan, cuda_convolve, "convolve", y.dtype),
        (plan.tiles_m * plan.tiles_n * parts * kinds, groups),
        plan.tile[0],
        *_flat(x, kernel),
        bias if parts == 1 else bias[:0],
        *_flat(target),
        _ints(*x.shape, channels, *y.shape[1:], units),
        _ints(*window),
        _ints(plan.tiles_m, plan.tiles_n, parts, *flags),
    )
    if parts > 1:
        _add_parts(target, bias, y, parts, relu)


def kernel_gradient(x: DeviceArray, dy: DeviceArray, dkernel: DeviceArray, window: Window, groups: int) -> None:
    """dkernel = the gradient of conv(x, kernel) for the output's gradient dy."""
    channels, units = dkernel.shape[2], dkernel.shape[3] // groups
    plan = _plan(dkernel.size // dkernel.shape[3], units, dy.size // dy.shape[3], groups, dkernel)
    parts = plan.parts
    target = dkernel if parts == 1 else _scratch("parts of a convolution", parts * dkernel.size, dkernel.dtype)
    start(
        _kernel_of(plan, cuda_correlate, "correlate", dkernel.dtype),
        (plan.tiles_m * plan.tiles_n * parts, groups),
        plan.tile[0],
        *_flat(x, dy, target),
        _ints(*x.shape, channels, *dy.shape[1:], units),
        _ints(*window),
        _ints(plan.tiles_m, plan.tiles_n, parts, _quads(channels, x), _quads(units, dy), _quads(units, target)),
    )
    if parts > 1:
        _add_parts(target, target[:0], dkernel, parts, False)


# -------------------- parts --------------------


@kernel
def _sum_parts(parts, count, depth, bias, relu, y):
    """y = the sum of the parts + bias, then relu; rows of threads take every so many-th part each."""
    rows = cuda.blockDim.y
    sums = cuda.shared.array(_THREADS, y.dtype)
    column, row, width = cuda.threadIdx.x, cuda.threadIdx.y, cuda.blockDim.x
    i, zero = cuda.blockIdx.x * width + column, y.dtype.type(0)
    total = zero
    if i < y.size:
        for part in range(row, count, rows):
            total += parts[part * y.size + i]
    sums[row * width + column] = total
    cuda.syncthreads()
    if row == 0 and i < y.size:
        for other in range(1, rows):
            total += sums[other * width + column]
        if bias.size > 0:
            _, unit = divided(i, depth)
            total += bias[unit]
        if relu and total < zero:
            total = zero
        y[i] = total


def _add_parts(parts: DeviceArray, bias: DeviceArray, y: DeviceArray, count: int, relu: bool) -> None:
    rows = _ROWS if count >= _MANY else 1
    threads = _THREADS // rows, rows
    flat = y.reshape(-1)
    start(_sum_parts, blocks(y.size, threads[0]), threads, parts, count, np.int32(y.shape[3]), bias, bool(relu), flat)
