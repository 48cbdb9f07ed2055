"""Softmax and log-softmax along one axis, and their vjps."""

import numpy as np

from nbkeras.kernels import formulas
from nbkeras.kernels.loops.row_passes import Rows
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.lazy import emitted

Array = np.ndarray
# Flags for loops that only sum: they let LLVM vectorise the sum. These loops must not contain `exp`, because reassociation
# breaks its rounding trick.
ANY_ORDER = {"nsz", "contract", "reassoc"}


@compiled(fastmath=ANY_ORDER)
def total(x):
    """Returns the sum of a row."""
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i]
    return result


@compiled(fastmath=ANY_ORDER)
def dot(x, y):
    """Returns the sum of the products of two rows."""
    result = x.dtype.type(0)
    for i in range(x.size):
        result += x[i] * y[i]
    return result


@emitted(lambda x, y: x(x, x))
def larger(context, builder, signature, x, y):
    """The larger of two numbers. Without fast-math flags LLVM does not vectorise a select, and Numba sets none."""
    flags = ("nnan", "nsz")
    return builder.select(builder.fcmp_ordered(">", x, y, flags=flags), x, y, flags=flags)


@compiled
def largest(x):
    """Returns the largest element of a row, or any number if there are NaNs (NaN minus any number is NaN)."""
    result = x[0]
    for i in range(1, x.size):
        result = larger(x[i], result)
    return result


softmax_forward = Rows("softmax_forward", __name__, formulas.softmax, "y")
softmax_backward = Rows("softmax_backward", __name__, formulas.softmax_backward, "dx")
log_softmax_forward = Rows("log_softmax_forward", __name__, formulas.log_softmax, "y")
log_softmax_backward = Rows("log_softmax_backward", __name__, formulas.log_softmax_backward, "dx")


def _last(x: Array, axis: int) -> Array:
    """Returns x as (rows, n) with `axis` last; this is a copy if `axis` was not last."""
    x = device.contiguous(np.moveaxis(x, axis, -1))
    return x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 1)


def _back(y: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Undoes `_last`: returns an array of `shape`, with `axis` moved back."""
    moved = shape[:axis] + shape[axis + 1 :] + (shape[axis],)
    return device.contiguous(np.moveaxis(y.reshape(moved), -1, axis))


def _forward(kernel, x: Array, axis: int):
    rows = _last(x, axis)
    y = device.empty(rows.shape, x.dtype)
    kernel.launch(rows, y)
    return _back(y, x.shape, axis), (y, axis)


def _backward(kernel, saved, dy: Array, need):
    y, axis = saved
    if axis == dy.ndim - 1:
        dx = device.output(need, dy.shape, dy.dtype)
        kernel.launch(y, _last(dy, axis), dx.reshape(y.shape))
        return (dx,)
    rows = device.empty(y.shape, y.dtype)
    kernel.launch(y, _last(dy, axis), rows)
    return (_back(rows, dy.shape, axis),)


def softmax(x: Array, axis: int):
    """Computes e^x / sum(e^x) along a non-negative axis."""
    return _forward(softmax_forward, x, axis)


def softmax_vjp(saved, dy, needs):
    return _backward(softmax_backward, saved, dy, needs[0])


def log_softmax(x: Array, axis: int):
    """Computes x - log(sum(e^x)) along a non-negative axis."""
    return _forward(log_softmax_forward, x, axis)


def log_softmax_vjp(saved, dy, needs):
    return _backward(log_softmax_backward, saved, dy, needs[0])
