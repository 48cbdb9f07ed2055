"""Convolution (cross-correlation, as usual in deep learning) of NHWC images, with bias and relu fused, and its gradients.

y[n, i, j, u] = b[u] + the sum over ky, kx, c of x[n, i*sh + ky*dh - top, j*sw + kx*dw - left, c] * k[ky, kx, c, u]

There are four algorithms. `algorithm` chooses one by the shapes only. A transposed convolution is the input's gradient of a
convolution, and vice versa.
"""

import math
from collections.abc import Callable

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.convolution import direct, implicit_gemm, winograd
from nbkeras.kernels.loops.flat_access import load, store
from nbkeras.kernels.loops.window import Window, slide
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
# Winograd's min channels, tiles and filled part of the tiles: with less, its transforms cost more than they save.
_MIN_CHANNELS, _MIN_TILES, _MIN_FILL = 16, 16, 0.5
_SHARES = 16
_SHARE_ELEMENTS = 50_000  # minimum elements of a share: with fewer, another share costs more than it saves


def algorithm(x_shape: tuple, kernel_shape: tuple, y_shape: tuple, window: Window, dtype: np.dtype) -> str:
    """Returns the algorithm for NHWC shapes: 'winograd', 'direct' or 'implicit_gemm'; on a GPU always the last.

    Winograd (twice as fast, ten times the rounding error) is for float32, 3x3, no stride, dilation or groups, at least 16
    channels and units, at least 16 tiles of 4x4, and an output that fills at least half of them. Direct is for float32 and
    windows of nine numbers, and only for the forward pass; its gradients are products of the implicit GEMM. Implicit GEMM is for
    everything else.
    """
    height, width, channels, units = kernel_shape
    if device.gpu() is not None or dtype != np.float32 or channels != x_shape[3]:
        return "implicit_gemm"
    if window[:6] == (3, 3, 1, 1, 1, 1) and min(channels, units) >= _MIN_CHANNELS:
        tiles = y_shape[0] * -(-y_shape[1] // 4) * -(-y_shape[2] // 4)
        if tiles >= _MIN_TILES and math.prod(y_shape[:3]) >= _MIN_FILL * 16 * tiles:
            return "winograd"
    return "direct" if height * width * channels == direct.TAPS else "implicit_gemm"


def conv(x: Array, kernel: Array, bias: Array | None, strides, dilation, padding: str, groups: int, relu: bool):
    """Convolution, then optional bias and relu.

    x: (n, height, width, channels); kernel: (kh, kw, channels / groups, units); bias: (units,); y: (n, oh, ow, units).
    strides, dilation: (rows, columns). padding: 'valid', 'same', or 'causal' (columns). The caller checks the shapes.
    """
    window, out_height, out_width = slide(x.shape, kernel.shape[:2], strides, dilation, padding)
    y = device.empty((x.shape[0], out_height, out_width, kernel.shape[3]), x.dtype)
    chosen = algorithm(x.shape, kernel.shape, y.shape, window, x.dtype)
    _forward(x, kernel, bias, y, window, groups, relu, chosen)
    return y, (x, kernel, y if relu else None, window, groups, chosen)


def conv_vjp(saved, dy, needs):
    x, kernel, y, window, groups, chosen = saved
    dbias = device.output(needs[2], (kernel.shape[3],), dy.dtype) if needs[2] is not False else None
    if y is not None:
        dz = device.empty(dy.shape, dy.dtype)
        _sum_positions(dy, y, dz, dbias, True)
        dy = dz
    elif dbias is not None:
        _sum_positions(dy, dy, dy, dbias, False)
    dx = dkernel = None
    if needs[1] is not False:
        dkernel = device.output(needs[1], kernel.shape, kernel.dtype)
        _kernel_gradient(x, dy, dkernel, window, groups, chosen)
    if needs[0] is not False:
        dx = device.output(needs[0], x.shape, x.dtype)
        _input_gradient(dy, kernel, dx, window, groups, chosen)
    return dx, dkernel, dbias


def conv_transpose(x: Array, kernel: Array, strides, dilation, before, lengths):
    """Transposed convolution: the gradient of a convolution's input, where x is the output's gradient.

    kernel: (kh, kw, units, channels). y: (n, *lengths, units). y[n, i*sh + ky*dh - before, ...] += x[n, i, ...] * k[ky, ...],
    where that position is inside y.
    """
    window = Window(*kernel.shape[:2], *strides, *dilation, *before)
    y = device.empty((x.shape[0], *lengths, kernel.shape[2]), x.dtype)
    chosen = algorithm(y.shape, kernel.shape, x.shape, window, x.dtype)
    _input_gradient(x, kernel, y, window, 1, chosen)
    return y, (x, kernel, window, chosen)


def conv_transpose_vjp(saved, dy, needs):
    x, kernel, window, chosen = saved
    dx = dkernel = None
    if needs[1] is not False:
        dkernel = device.output(needs[1], kernel.shape, kernel.dtype)
        _kernel_gradient(dy, x, dkernel, window, 1, chosen)
    if needs[0] is not False:
        dx = device.output(needs[0], x.shape, x.dtype)
        _forward(dy, kernel, None, dx, window, 1, False, chosen)
    return dx, dkernel


def _forward(
    x: Array, kernel: Array, bias: Array | None, y: Array, window: Window, groups: int, relu: bool, chosen: str
) -> None:
    summand = device.empty((0,), x.dtype) if bias is None else bias
    if chosen == "winograd":
        winograd.convolve(x, kernel, summand, y, window.top, window.left, relu=relu)
    elif chosen == "direct":
        direct.forward(x, kernel, summand, y, window, relu)
    else:
        _as_product(implicit_gemm.forward, x, kernel, summand, y, window, groups, relu)


def _kernel_gradient(x: Array, dy: Array, dkernel: Array, window: Window, groups: int, chosen: str) -> None:
    if chosen == "winograd":
        winograd.kernel_gradient(x, dy, dkernel, window.top, window.left)
    else:
        _as_product(implicit_gemm.kernel_gradient, x, dy, dkernel, window, groups)


def _input_gradient(dy: Array, kernel: Array, dx: Array, window: Window, groups: int, chosen: str) -> None:
    nothing = device.empty((0,), dx.dtype)
    if chosen == "winograd":
        winograd.convolve(dy, kernel, nothing, dx, 2 - window.top, 2 - window.left, turn=True)
    else:
        _as_product(implicit_gemm.input_gradient, dy, kernel, dx, window, groups)


def _as_product(function: Callable, *args) -> None:
    """Runs a function of implicit_gemm: several launches on the CPU, one launch of its twin on a GPU."""
    if device.gpu() is None:
        function(*args)
    else:
        device.launch(function, *args)


def _sum_positions(dy: Array, y: Array, dz: Array, dbias: Array | None, relu: bool) -> None:
    """Sums dy over all positions into dbias, in about sqrt(positions) blocks; with relu, also dz = dy where y > 0, else 0."""
    units = dy.shape[3]
    partials = device.empty((max(1, math.isqrt(dy.size // units)), units), dy.dtype)
    shares = share_count(dy.size, _SHARE_ELEMENTS, _SHARES, len(partials))
    arrays = (dy.reshape(-1), y.reshape(-1), dz.reshape(-1), partials.reshape(-1))
    launch_shares(sum_blocks, shares, *arrays, units, relu)
    if dbias is not None:
        reduce.sum_rows(partials[None], dbias[None])


@compiled
def sum_blocks(dy, y, dz, partials, units, relu, share, shares):
    """Kernel: partials[block] = the sum of a block of dy's rows; with relu, also dz = dy where y > 0, else 0. All are flat."""
    blocks, rows, zero = partials.size // units, dy.size // units, dy.dtype.type(0)
    for block in range(blocks * share // shares, blocks * (share + 1) // shares):
        first, last, total = rows * block // blocks * units, rows * (block + 1) // blocks * units, block * units
        if relu:  # the loop is over a whole block, because LLVM does not vectorise loops over few units
            for i in range(first, last):
                store(dz, i, load(dy, i) if load(y, i) > zero else zero)
        for j in range(units):
            store(partials, total + j, zero)
        fours = first + (last - first) // (4 * units) * 4 * units
        for at in range(first, fours, 4 * units):
            for j in range(units):
                i = at + j
                four = (load(dz, i) + load(dz, i + units)) + (load(dz, i + 2 * units) + load(dz, i + 3 * units))
                store(partials, total + j, load(partials, total + j) + four)
        for at in range(fours, last, units):
            for j in range(units):
                store(partials, total + j, load(partials, total + j) + load(dz, at + j))
