"""Differentiable ops that move elements: reshape, transpose, join, split, repeat, flip, roll.

They keep the dtype. A reshape is a view of the same memory; most other ops copy.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import load_budget, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op, promote
from nbkeras.kernels import elementwise as broadcasting
from nbkeras.kernels import shape as shape_kernels
from nbkeras.ops.arguments import axes_of, axis_of, count_of, new_sizes, sizes_of


def shape(x) -> tuple:
    """The shape as a tuple.

    Args:
        x: A tensor, a symbolic tensor, or numbers.

    Returns:
        A tuple of integers; None for the unknown sizes of a symbolic tensor.

    Example:
        >>> ops.shape([[1, 2, 3], [4, 5, 6]])
        (2, 3)
        >>> ops.shape(keras.Input((28, 28, 1)))
        (None, 28, 28, 1)
    """
    return tuple(x.shape) if hasattr(x, "shape") and not isinstance(x, type) else as_tensor(x).shape


def ndim(x) -> int:
    """The number of axes.

    Args:
        x: A tensor, a symbolic tensor, or numbers.

    Returns:
        An int.

    Example:
        >>> ops.ndim([[1, 2, 3], [4, 5, 6]])
        2
    """
    return len(shape(x))


@op
def reshape(x, newshape) -> Tensor:
    """The same elements, in the same order, in another shape; a view of the same memory.

    Args:
        x: A tensor of any shape and dtype.
        newshape: A tuple of sizes, or one size. One of them may be -1: it is computed from the others.

    Returns:
        A tensor of shape newshape and x's dtype.

    Raises:
        TypeError: for sizes that are not integers.
        ValueError: for a shape with another number of elements.

    Example:
        >>> ops.reshape([1, 2, 3, 4, 5, 6], (2, -1)).numpy()
        array([[1, 2, 3],
               [4, 5, 6]], dtype=int32)
    """
    x, new = as_tensor(x), sizes_of("reshape", newshape)
    known = math.prod(size for size in new if size != -1)
    if new.count(-1) == 1 and known and x.size % known == 0:
        new = tuple(x.size // known if size == -1 else size for size in new)
    if -1 in new or math.prod(new) != x.size or any(size < 0 for size in new):
        raise ValueError(f"reshape: cannot put {x.size} elements of shape {x.shape} into shape {briefly(new)}")
    return x if new == x.shape else apply(shape_kernels.reshape, shape_kernels.reshape_vjp, [x], shape=new)


@op
def expand_dims(x, axis) -> Tensor:
    """Add axes of size 1.

    Args:
        x: A tensor of any shape and dtype.
        axis: The position of the new axis in the result, or a tuple of positions; negative ones count from the end.

    Returns:
        A tensor of x's dtype with more axes.

    Raises:
        ValueError: for a position out of range.

    Example:
        >>> ops.expand_dims([1, 2, 3], axis=0).shape
        (1, 3)
        >>> ops.expand_dims([1, 2, 3], axis=(0, -1)).shape
        (1, 3, 1)
    """
    x = as_tensor(x)
    count = len(axis) if isinstance(axis, list | tuple) else 1
    new = axes_of("expand_dims", axis, x.ndim + count)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(sizes) for i in range(x.ndim + count)))


@op
def squeeze(x, axis=None) -> Tensor:
    """Remove axes of size 1.

    Args:
        x: A tensor of any shape and dtype.
        axis: The axis or axes to remove; None for all of size 1.

    Returns:
        A tensor of x's dtype with fewer axes.

    Raises:
        ValueError: for an axis of another size, or one that x does not have.

    Example:
        >>> ops.squeeze(ops.zeros((1, 3, 1))).shape
        (3,)
        >>> ops.squeeze(ops.zeros((1, 3, 1)), axis=0).shape
        (3, 1)
    """
    x = as_tensor(x)
    removed = (
        axes_of("squeeze", axis, x.ndim) if axis is not None else tuple(i for i, n in enumerate(x.shape) if n == 1)
    )
    if any(x.shape[i] != 1 for i in removed):
        raise ValueError(f"squeeze: axis {axis} of a tensor of shape {x.shape} is not of size 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in removed))


@op
def transpose(x, axes=None) -> Tensor:
    """Put the axes in another order.

    Args:
        x: A tensor of any shape and dtype.
        axes: The source axis in x for each axis of the result; None reverses the order.

    Returns:
        A tensor of x's dtype.

    Raises:
        ValueError: for axes that do not name each axis of x once.

    Example:
        >>> ops.transpose([[1, 2, 3], [4, 5, 6]]).numpy()
        array([[1, 4],
               [2, 5],
               [3, 6]], dtype=int32)
        >>> ops.transpose(ops.zeros((2, 28, 28, 3)), (0, 3, 1, 2)).shape
        (2, 3, 28, 28)
    """
    x = as_tensor(x)
    if axes is None:
        order = tuple(reversed(range(x.ndim)))
    else:
        if not isinstance(axes := structures.listed(axes), tuple):
            raise TypeError(f"transpose: axes must name each of the {x.ndim} axes once, received {briefly(axes)}")
        order = tuple(axis_of("transpose", axis, x.ndim) for axis in axes)
        if sorted(order) != list(range(x.ndim)):
            raise ValueError(f"transpose: axes must name each of the {x.ndim} axes once, received {axes}")
    return apply(shape_kernels.transpose, shape_kernels.transpose_vjp, [x], axes=order)


@op
def swapaxes(x, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    Args:
        x: A tensor of any shape and dtype.
        axis1: One axis.
        axis2: The other axis.

    Returns:
        A tensor of x's dtype.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.swapaxes(ops.zeros((2, 3, 4)), 0, -1).shape
        (4, 3, 2)
    """
    x = as_tensor(x)
    order = list(range(x.ndim))
    first, second = axis_of("swapaxes", axis1, x.ndim), axis_of("swapaxes", axis2, x.ndim)
    order[first], order[second] = second, first
    return transpose(x, order)


@op
def moveaxis(x, source, destination) -> Tensor:
    """Move axes to other positions; the rest keep their order.

    Args:
        x: A tensor of any shape and dtype.
        source: The axis to move, or a list or tuple of axes.
        destination: Its position in the result, or one for each axis.

    Returns:
        A tensor of x's dtype.

    Raises:
        ValueError: for an axis that x does not have or that is named twice, or if the numbers of sources
            and destinations differ.

    Example:
        >>> ops.moveaxis(ops.zeros((2, 28, 32, 3)), -1, 1).shape
        (2, 3, 28, 32)
    """
    x = as_tensor(x)
    sources, targets = (
        [axis_of("moveaxis", axis, x.ndim) for axis in (given if isinstance(given, list | tuple | range) else [given])]
        for given in (source, destination)
    )
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ValueError(
            f"moveaxis: source {source} and destination {destination} must name the same number of axes, each once"
        )
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return transpose(x, order)


def _one_axis(name: str, x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """The tensor and the axis to work along; the flat tensor if axis is None."""
    return (reshape(x, (-1,)), 0) if axis is None else (x, axis_of(name, axis, x.ndim))


def _over_axes(x: Tensor, axes: tuple[int, ...], function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to x as a matrix whose rows hold the elements of the given axes, and restore x's shape."""
    order, rest = [*(i for i in range(x.ndim) if i not in axes), *axes], x.ndim - len(axes)
    in_place = order == list(range(x.ndim))
    moved = x if in_place else transpose(x, order)
    sizes = math.prod(moved.shape[:rest]), math.prod(moved.shape[rest:])
    y = reshape(function(reshape(moved, sizes)), moved.shape)
    return y if in_place else transpose(y, [order.index(i) for i in range(x.ndim)])


# -------------------- joining and splitting --------------------


def _tensors_of(name: str, xs: Any) -> list[Tensor]:
    """The tensors of a list or tuple in one dtype; ValueError if there is none."""
    if isinstance(xs, Tensor) or not isinstance(xs, list | tuple) or not xs:
        raise ValueError(f"{name}: expected a list of at least one tensor, received {type(xs).__name__} {briefly(xs)}")
    return promote(*xs)


@op
def concatenate(xs, axis: int = 0) -> Tensor:
    """Join tensors along an axis.

    Args:
        xs: A list or tuple of tensors whose sizes agree, except along the axis.
        axis: The axis to join along.

    Returns:
        A tensor of the common dtype of all, with the sum of their sizes along the axis.

    Raises:
        ValueError: for anything but a list of tensors, or shapes that do not agree.

    Example:
        >>> ops.concatenate([[[1, 2]], [[3, 4], [5, 6]]], axis=0).numpy()
        array([[1, 2],
               [3, 4],
               [5, 6]], dtype=int32)
    """
    tensors = _tensors_of("concatenate", xs)
    along = axis_of("concatenate", axis, tensors[0].ndim)
    rest = {(*x.shape[:along], *x.shape[along + 1 :]) if x.ndim == tensors[0].ndim else None for x in tensors}
    if len(rest) > 1:
        raise ValueError(
            f"concatenate: shapes must agree except along axis {axis}, received {[x.shape for x in tensors]}"
        )
    return apply(shape_kernels.concatenate, shape_kernels.concatenate_vjp, tensors, axis=along)


@op
def stack(x, axis: int = 0) -> Tensor:
    """Join tensors of the same shape along a new axis.

    Args:
        x: A list or tuple of tensors of the same shape.
        axis: The position of the new axis in the result.

    Returns:
        A tensor of the common dtype of all, with one axis more.

    Raises:
        ValueError: for anything but a list of tensors, or shapes that differ.

    Example:
        >>> ops.stack([[1, 2], [3, 4], [5, 6]], axis=1).numpy()
        array([[1, 3, 5],
               [2, 4, 6]], dtype=int32)
    """
    tensors = _tensors_of("stack", x)
    if len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(f"stack: all shapes must be the same, received {[tensor.shape for tensor in tensors]}")
    along = axis_of("stack", axis, tensors[0].ndim + 1)
    return apply(shape_kernels.stack, shape_kernels.stack_vjp, tensors, axis=along)


@op
def split(x, indices_or_sections, axis: int = 0) -> list[Tensor]:
    """Cut a tensor into parts along an axis.

    Args:
        x: A tensor of any shape and dtype.
        indices_or_sections: The number of equal parts, or a rising list of the positions at which to cut.
        axis: The axis to cut.

    Returns:
        A list of tensors of x's dtype.

    Raises:
        ValueError: for a number of parts that does not divide the size of the axis, or decreasing positions.

    Example:
        >>> [part.numpy().tolist() for part in ops.split([1, 2, 3, 4], 2)]
        [[1, 2], [3, 4]]
        >>> [part.numpy().tolist() for part in ops.split([1, 2, 3, 4], [1, 3])]
        [[1], [2, 3], [4]]
    """
    x = as_tensor(x)
    along = axis_of("split", axis, x.ndim)
    size = x.shape[along]
    if not isinstance(indices_or_sections, list | tuple | np.ndarray | Tensor):
        count = count_of("split", "indices_or_sections", indices_or_sections)
        if count < 1 or size % count:
            raise ValueError(f"split: axis {axis} of size {size} cannot be cut into {count} equal parts")
        load_budget.step(count)
        sizes = [size // count] * count
    else:
        cuts = [0, *(min(max(c + size if c < 0 else c, 0), size) for c in sizes_of("split", indices_or_sections)), size]
        sizes = [max(0, end - start) for start, end in zip(cuts, cuts[1:], strict=False)]
        if cuts != sorted(cuts):
            raise ValueError(f"split: positions must be in ascending order, received {briefly(indices_or_sections)}")
    return list(apply(shape_kernels.split, shape_kernels.split_vjp, [x], sizes=sizes, axis=along))


@op
def unstack(x, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """The tensors that lie along an axis, which is removed.

    Args:
        x: A tensor of any dtype with at least one axis.
        num: The size of the axis, which is checked; None for no check.
        axis: The axis to unstack.

    Returns:
        A list of tensors of x's dtype with one axis less.

    Raises:
        ValueError: if the axis does not have size num, or x does not have the axis.

    Example:
        >>> [column.numpy().tolist() for column in ops.unstack([[1, 2], [3, 4], [5, 6]], axis=1)]
        [[1, 3, 5], [2, 4, 6]]
    """
    x = as_tensor(x)
    along = axis_of("unstack", axis, x.ndim)
    if num is not None and num != x.shape[along]:
        raise ValueError(f"unstack: axis {axis} has size {x.shape[along]}, not num={briefly(num)}")
    load_budget.step(x.shape[along])
    return list(apply(shape_kernels.unstack, shape_kernels.unstack_vjp, [x], axis=along))


# -------------------- repeating --------------------


@op
def broadcast_to(x, shape) -> Tensor:
    """Repeat x along its axes of size 1, and along new axes in front, up to a shape.

    Args:
        x: A tensor of any shape and dtype.
        shape: The shape of the result.

    Returns:
        A tensor of that shape and x's dtype.

    Raises:
        ValueError: if a size other than 1 would have to change.

    Example:
        >>> ops.broadcast_to([1, 2, 3], (2, 3)).numpy()
        array([[1, 2, 3],
               [1, 2, 3]], dtype=int32)
    """
    x, new = as_tensor(x), new_sizes("broadcast_to", shape)
    if broadcasting.broadcast_shape(new, x.shape) != new:
        raise ValueError(f"broadcast_to: a tensor of shape {x.shape} does not fit into shape {new}")
    seen = (1,) * (len(new) - x.ndim) + x.shape
    return apply(shape_kernels.spread, shape_kernels.spread_vjp, [x], seen_as=seen, over=new, shape=new)


@op
def tile(x, repeats) -> Tensor:
    """Repeat the whole tensor along axes.

    Args:
        x: A tensor of any shape and dtype.
        repeats: The repetitions along each axis; one number is for the last axis. If it is shorter than x's shape, it gets
            leading ones; if it is longer, x gets leading axes of size 1.

    Returns:
        A tensor of x's dtype, with x's sizes times the repeats.

    Raises:
        ValueError: for a negative number.

    Example:
        >>> ops.tile([1, 2], 2).numpy()
        array([1, 2, 1, 2], dtype=int32)
        >>> ops.tile([1, 2], (2, 2)).numpy()
        array([[1, 2, 1, 2],
               [1, 2, 1, 2]], dtype=int32)
    """
    x, times = as_tensor(x), sizes_of("tile", repeats)
    if any(count < 0 for count in times):
        raise ValueError(f"tile: repeats must not be negative, received {briefly(repeats)}")
    length = max(x.ndim, len(times))
    sizes, times = (1,) * (length - x.ndim) + x.shape, (1,) * (length - len(times)) + times
    seen = tuple(n for size in sizes for n in (1, size))
    over = tuple(n for count, size in zip(times, sizes, strict=True) for n in (count, size))
    new = new_sizes("tile", tuple(count * size for count, size in zip(times, sizes, strict=True)))
    return apply(shape_kernels.spread, shape_kernels.spread_vjp, [x], seen_as=seen, over=over, shape=new)


@op
def repeat(x, repeats, axis: int | None = None) -> Tensor:
    """Repeat each element (or row, column, ...) along an axis.

    Args:
        x: A tensor of any shape and dtype.
        repeats: The repetitions: one number, or a list with one for each element of the axis. The values of a tensor are read.
        axis: The axis to repeat along; None for the flat tensor.

    Returns:
        A tensor of x's dtype.

    Raises:
        ValueError: for a negative number, or if the list and the axis differ in length.

    Example:
        >>> ops.repeat([1, 2], 3).numpy()
        array([1, 1, 1, 2, 2, 2], dtype=int32)
        >>> ops.repeat([[1, 2], [3, 4]], [1, 2], axis=0).numpy()
        array([[1, 2],
               [3, 4],
               [3, 4]], dtype=int32)
    """
    x, along = _one_axis("repeat", as_tensor(x), axis)
    before, size, after = x.shape[:along], x.shape[along], x.shape[along + 1 :]
    counts = sizes_of("repeat", np.asarray(repeats).reshape(-1) if hasattr(repeats, "shape") else repeats)
    if len(counts) not in (1, size) or min(counts, default=0) < 0:
        raise ValueError(
            f"repeat: repeats must be an integer of at least 0, or one for each of {size} elements, received {briefly(repeats)}"
        )
    if len(counts) > 1:
        return concatenate(
            [repeat(part, n, along) for part, n in zip(split(x, size, along), counts, strict=True)], along
        )
    (count,) = counts or (0,)
    over, new = (*before, size, count, *after), new_sizes("repeat", (*before, size * count, *after))
    return apply(
        shape_kernels.spread, shape_kernels.spread_vjp, [x], seen_as=(*before, size, 1, *after), over=over, shape=new
    )


# -------------------- flipping, rolling --------------------


@op
def flip(x, axis=None) -> Tensor:
    """Reverse the order of the elements along axes.

    Args:
        x: A tensor of any shape and dtype.
        axis: The axis or axes to reverse; None for all.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.flip([[1, 2], [3, 4]], axis=1).numpy()
        array([[2, 1],
               [4, 3]], dtype=int32)
    """
    x = as_tensor(x)
    return apply(shape_kernels.flip, shape_kernels.flip_vjp, [x], axes=axes_of("flip", axis, x.ndim))


@op
def roll(x, shift, axis=None) -> Tensor:
    """Shift elements along axes; those shifted past the end come in at the start.

    Args:
        x: A tensor of any shape and dtype.
        shift: The number of positions, or one number for each axis; negative numbers shift to the start.
        axis: The axis or axes to shift along; None for the flat tensor, whose shape is restored.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for an axis that x does not have, or if the numbers of shifts and axes differ.

    Example:
        >>> ops.roll([1, 2, 3, 4], 1).numpy()
        array([4, 1, 2, 3], dtype=int32)
        >>> ops.roll([[1, 2], [3, 4], [5, 6]], -1, axis=0).numpy()
        array([[3, 4],
               [5, 6],
               [1, 2]], dtype=int32)
    """
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(reshape(x, (-1,)), shift, 0), x.shape)
    axes = axis if isinstance(axis, list | tuple) else [axis]
    shifts = sizes_of("roll", shift)
    if len(shifts) not in (1, len(axes)):
        raise ValueError(f"roll: needs one shift, or one for each axis, received shift={shift} and axis={axis}")
    for number, distance in zip(axes, shifts * len(axes) if len(shifts) == 1 else shifts, strict=True):
        x = apply(shape_kernels.roll, shape_kernels.roll_vjp, [x], shift=distance, axis=axis_of("roll", number, x.ndim))
    return x
