"""Convolution, transposed convolution and pooling of volumes (n, depth, rows, columns, channels), by functions for images.

Convolution makes an image from each window of slices, with the channels of all these slices. The copy is as many times larger
than the volume as the kernel is deep; the vjp makes it again instead of keeping it. Kernels are (depth, rows, columns, ...).
Pooling pools each slice, then pools the slices as rows of an image.
"""

import math
from collections.abc import Callable

import numpy as np

from nbkeras.kernels import pool
from nbkeras.kernels.convolution import conv as images
from nbkeras.kernels.convolution.unfold import Line, fold_into, unfold_into
from nbkeras.kernels.loops.window import output_length, padding_before
from nbkeras.kernels.runtime import device

Array = np.ndarray


def conv(x: Array, kernel: Array, bias: Array | None, strides, dilation, padding: str, groups: int, relu: bool):
    """Convolution, as conv.conv with one more axis. padding: 'valid' or 'same'."""
    along = x.shape[1], kernel.shape[0], strides[0], dilation[0], padding
    line = Line(kernel.shape[0], strides[0], dilation[0], padding_before(*along), output_length(*along))
    slices = _slices(x, line, groups, True)
    y, saved = images.conv(slices, _flat(kernel), bias, strides[1:], dilation[1:], padding, groups, relu)
    return y.reshape(len(x), line.windows, *y.shape[1:]), (x, kernel.shape, line, saved[1:])


def conv_vjp(saved, dy, needs):
    x, shape, line, (flat, y, window, groups, chosen) = saved
    slices = _slices(x, line, groups, needs[1] is not False)
    wanted = needs[0] is not False, needs[1] is not False, needs[2]
    again = slices, flat, y, window, groups, chosen
    dslices, dflat, dbias = images.conv_vjp(again, dy.reshape(-1, *dy.shape[2:]), wanted)
    dx = None
    if needs[0] is not False:
        dx = device.output(needs[0], x.shape, x.dtype)
        apart = _apart(dx, groups)
        fold_into(dslices.reshape(len(x), line.windows, *apart.shape[2:4], line.size, apart.shape[4]), apart, line)
    return dx, _upright(dflat, shape, needs[1]), dbias


def conv_transpose(x: Array, kernel: Array, strides, dilation, before, lengths):
    """Transposed convolution, as conv.conv_transpose with one more axis."""
    batch, depth, units = *x.shape[:2], kernel.shape[3]
    line = Line(kernel.shape[0], strides[0], dilation[0], before[0], depth)
    flat = x.reshape(batch * depth, *x.shape[2:])
    slices, saved = images.conv_transpose(flat, _flat(kernel), strides[1:], dilation[1:], before[1:], lengths[1:])
    y = device.empty((batch, *lengths, units), x.dtype)
    fold_into(slices.reshape(batch, depth, math.prod(lengths[1:]), 1, line.size, units), _apart(y, 1), line)
    return y, (saved, x.shape, kernel.shape, line)


def conv_transpose_vjp(saved, dy, needs):
    flat, x_shape, shape, line = saved
    slices = _slices(dy, line, 1, True)
    wanted = needs[0].reshape(flat[0].shape) if isinstance(needs[0], device.ARRAYS) else needs[0], needs[1] is not False
    dx, dflat = images.conv_transpose_vjp(flat, slices, wanted)
    return None if dx is None else dx.reshape(x_shape), _upright(dflat, shape, needs[1])


def _apart(x: Array, groups: int) -> Array:
    """Reshapes a volume to the axes that `unfold` takes."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:4]), groups, x.shape[4] // groups)


def _slices(x: Array, line: Line, groups: int, filled: bool) -> Array:
    """Returns an image for each window of slices; their content is undefined unless `filled`."""
    if line[:4] == (1, 1, line.dilation, 0):  # a window is one slice
        return x.reshape(-1, *x.shape[2:])
    batch, _, rows, columns, channels = x.shape
    y = device.empty((batch * line.windows, rows, columns, line.size * channels), x.dtype)
    if filled:
        apart = _apart(x, groups)
        unfold_into(apart, y.reshape(batch, line.windows, *apart.shape[2:4], line.size, apart.shape[4]), line)
    return y


def _flat(kernel: Array) -> Array:
    """Reshapes the kernel for the images that `_slices` makes."""
    moved = device.contiguous(kernel.transpose(1, 2, 0, 3, 4))
    return moved.reshape(*moved.shape[:2], -1, moved.shape[4])


def _upright(flat: Array | None, shape: tuple, need) -> Array | None:
    """Returns the kernel's gradient, from the gradient of the result of `_flat`."""
    if flat is None:
        return None
    out = device.output(need, shape, flat.dtype)
    device.launch(device.copy, flat.reshape(*shape[1:3], shape[0], *shape[3:]).transpose(2, 0, 1, 3, 4), out)
    return out


# -------------------- pooling --------------------


def max_pool(x: Array, size, strides, padding: str):
    """Max pooling, as pool.max_pool with one more axis."""
    return _pooled(pool.max_pool, x, size, strides, padding)


def max_pool_vjp(saved, dy, needs):
    return _unpooled(pool.max_pool_vjp, saved, dy, needs)


def average_pool(x: Array, size, strides, padding: str):
    """Average pooling, as pool.average_pool with one more axis."""
    return _pooled(pool.average_pool, x, size, strides, padding)


def average_pool_vjp(saved, dy, needs):
    return _unpooled(pool.average_pool_vjp, saved, dy, needs)


def _pooled(op: Callable, x: Array, size, strides, padding: str):
    batch, depth, *rest = x.shape
    slices, first = op(x.reshape(batch * depth, *rest), size[1:], strides[1:], padding)
    _, rows, columns, channels = slices.shape
    whole = slices.reshape(batch, depth, rows * columns, channels)
    y, second = op(whole, (size[0], 1), (strides[0], 1), padding)
    return y.reshape(batch, y.shape[1], rows, columns, channels), (first, second, x.shape, slices.shape)


def _unpooled(vjp: Callable, saved, dy, needs):
    first, second, x_shape, slices_shape = saved
    batch, count, rows, columns, channels = dy.shape
    (dslices,) = vjp(second, dy.reshape(batch, count, rows * columns, channels), [True])
    need = needs[0]
    if isinstance(need, device.ARRAYS):
        need = need.reshape(x_shape[0] * x_shape[1], *x_shape[2:])
    (dx,) = vjp(first, dslices.reshape(slices_shape), [need])
    return (dx.reshape(x_shape),)
