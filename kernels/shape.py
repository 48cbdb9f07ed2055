"""Ops that move elements: reshape, transpose, concatenate, split, tile, pad, flip, roll, slices.

A result is a view of the argument where that view is contiguous.
"""

from collections.abc import Iterator

import numpy as np

from nbkeras.kernels import reduce
from nbkeras.kernels.interpreter.chains import of_steps
from nbkeras.kernels.runtime import device

Array = np.ndarray
Shape = tuple[int, ...]


def _contiguous(view: Array, need=True) -> Array:
    """Returns a contiguous array of a view's elements: the view itself if it is contiguous and there is no destination."""
    if view.flags.c_contiguous and not isinstance(need, device.ARRAYS):
        return view
    out = device.output(need, view.shape, view.dtype)
    device.launch(device.copy, view, out)
    return out


def reshape(x: Array, shape: Shape):
    return x.reshape(shape), x.shape


def reshape_vjp(shape, dy, needs):
    return (dy.reshape(shape),)


def transpose(x: Array, axes: Shape):
    return _contiguous(x.transpose(axes)), axes


def transpose_vjp(axes, dy, needs):
    return (_contiguous(dy.transpose(np.argsort(axes)), needs[0]),)


# -------------------- joining and splitting --------------------


@of_steps
def concatenate_into(out: Array, axis: int, *arrays: Array) -> Iterator[tuple]:
    """Kernel: joins the arrays along an axis."""
    pieces = _pieces(out, [array.shape[axis] for array in arrays], axis)
    for array, piece in zip(arrays, pieces, strict=True):
        yield device.copy, array, piece


def concatenate(*arrays: Array, axis: int):
    sizes = [array.shape[axis] for array in arrays]
    shape = list(arrays[0].shape)
    shape[axis] = sum(sizes)
    y = device.empty(tuple(shape), arrays[0].dtype)
    device.launch(concatenate_into, y, axis, *arrays)
    return y, (sizes, axis)


def concatenate_vjp(saved, dy, needs):
    sizes, axis = saved
    return tuple(
        None if need is False else _contiguous(piece, need)
        for piece, need in zip(_pieces(dy, sizes, axis), needs, strict=True)
    )


def _pieces(x: Array, sizes: list[int], axis: int) -> list[Array]:
    """Returns views of consecutive parts along an axis."""
    views, start = [], 0
    for size in sizes:
        views.append(x[(slice(None),) * axis + (slice(start, start + size),)])
        start += size
    return views


def split(x: Array, sizes: list[int], axis: int):
    return tuple(_contiguous(piece) for piece in _pieces(x, sizes, axis)), (x.shape, sizes, axis)


def split_vjp(saved, dy, needs):
    shape, sizes, axis = saved
    return (_joined(dy, lambda dx: _pieces(dx, sizes, axis), shape, needs[0]),)


def _joined(dy, views, shape: Shape, need) -> Array:
    """Returns the gradient of an input that was cut into `views`: joins their gradients, with zeros for unused views."""
    parts = dy if isinstance(dy, tuple) else (dy,)
    dx = device.output(need, shape, next(part.dtype for part in parts if part is not None))
    for part, view in zip(parts, views(dx), strict=True):
        if part is None:
            device.launch(device.fill, view, 0)
        else:
            device.launch(device.copy, part, view)
    return dx


def stack(*arrays: Array, axis: int):
    shape = arrays[0].shape
    y = device.empty((*shape[:axis], len(arrays), *shape[axis:]), arrays[0].dtype)
    device.launch(concatenate_into, y, axis, *[np.expand_dims(array, axis) for array in arrays])
    return y, axis


def stack_vjp(axis, dy, needs):
    return tuple(
        None if need is False else _contiguous(layer, need)
        for layer, need in zip(_unstacked(dy, axis), needs, strict=True)
    )


def _unstacked(x: Array, axis: int) -> list[Array]:
    """Returns a view for each index along an axis, without that axis."""
    return [x[(slice(None),) * axis + (i, ...)] for i in range(x.shape[axis])]


def unstack(x: Array, axis: int):
    return tuple(_contiguous(layer) for layer in _unstacked(x, axis)), (x.shape, axis)


def unstack_vjp(saved, dy, needs):
    shape, axis = saved
    return (_joined(dy, lambda dx: _unstacked(dx, axis), shape, needs[0]),)


# -------------------- repeating --------------------


def spread(x: Array, seen_as: Shape, over: Shape, shape: Shape):
    """Reshapes x to `seen_as`, broadcasts it to `over`, then reshapes it to `shape`, for broadcast_to, tile and repeat."""
    y = device.empty(over, x.dtype)
    device.launch(device.copy, x.reshape(seen_as), y)
    return y.reshape(shape), (x.shape, seen_as, over)


def spread_vjp(saved, dy, needs):
    shape, seen_as, over = saved
    axes = tuple(i for i, (before, after) in enumerate(zip(seen_as, over, strict=True)) if before != after)
    dx, _ = reduce.sum(dy.reshape(over), axes)
    return (dx.reshape(shape),)


# -------------------- padding, flipping, rolling, slicing --------------------


def pad(x: Array, widths: tuple[tuple[int, int], ...], value):
    inside = tuple(slice(before, before + size) for (before, _), size in zip(widths, x.shape, strict=True))
    y = device.empty(tuple(size + sum(width) for size, width in zip(x.shape, widths, strict=True)), x.dtype)
    device.launch(device.fill, y, value)
    device.launch(device.copy, x, y[inside])
    return y, inside


def pad_vjp(inside, dy, needs):
    return (_contiguous(dy[inside], needs[0]),)


def flip(x: Array, axes: Shape):
    backwards = _with_ellipsis(tuple(slice(None, None, -1 if axis in axes else 1) for axis in range(x.ndim)))
    return _contiguous(x[backwards]), backwards


def flip_vjp(backwards, dy, needs):
    return (_contiguous(dy[backwards], needs[0]),)


def roll(x: Array, shift: int, axis: int):
    y = device.empty(x.shape, x.dtype)
    shift %= max(1, x.shape[axis])
    before = (slice(None),) * axis
    device.launch(device.copy, x[(*before, slice(None, x.shape[axis] - shift))], y[(*before, slice(shift, None))])
    device.launch(device.copy, x[(*before, slice(x.shape[axis] - shift, None))], y[(*before, slice(None, shift))])
    return y, (shift, axis)


def roll_vjp(saved, dy, needs):
    shift, axis = saved
    return (roll(dy, -shift, axis)[0],)


def _with_ellipsis(key: tuple) -> tuple:
    """Appends an Ellipsis to the key, so that NumPy returns a view even for a single element."""
    return key if Ellipsis in key else (*key, Ellipsis)


def getitem(x: Array, key: tuple):
    """Returns x[key] for a key of integers, slices, None and Ellipsis."""
    return _contiguous(x[_with_ellipsis(key)]), (x.shape, key)


def getitem_vjp(saved, dy, needs):
    shape, key = saved
    dx = device.output(needs[0], shape, dy.dtype)
    device.launch(device.fill, dx, 0)
    device.launch(device.copy, dy, dx[_with_ellipsis(key)])
    return (dx,)


def set_slice(x: Array, updates: Array, key: tuple):
    """Returns a copy of x with `updates` at x[key]."""
    y = device.empty(x.shape, x.dtype)
    device.launch(device.copy, x, y)
    device.launch(device.copy, updates, y[_with_ellipsis(key)])
    return y, key


def set_slice_vjp(key, dy, needs):
    dx = None
    if needs[0] is not False:
        dx = device.output(needs[0], dy.shape, dy.dtype)
        device.launch(device.copy, dy, dx)
        device.launch(device.fill, dx[_with_ellipsis(key)], 0)
    return dx, None if needs[1] is False else _contiguous(dy[_with_ellipsis(key)], needs[1])


def reread(x: Array, dtype: np.dtype):
    """Returns the bytes of x as another dtype."""
    return _contiguous(x.view(dtype)), None
