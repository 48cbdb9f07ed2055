"""Differentiable ops that move elements: reshape, transpose, join, split, repeat, flip, roll.

They keep the dtype. A reshape is a view of the same memory; most other ops copy.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import elementwise as broadcasting
from nbkeras.kernels import shape as shape_kernels
from nbkeras.ops.arguments import axes_of, axis_of, promote


def shape(x) -> tuple:
    """The shape as a tuple; None for the unknown sizes of a symbolic tensor."""
    return tuple(x.shape) if hasattr(x, "shape") else as_tensor(x).shape


def ndim(x) -> int:
    """The number of axes."""
    return len(shape(x))


def sizes_of(name: str, value: Any) -> tuple[int, ...]:
    """A shape argument as a tuple of integers; the values of a tensor are read. TypeError for anything but integers."""
    value = value.numpy() if isinstance(value, Tensor) and value.ndim else value
    sizes = value if isinstance(value, list | tuple) or getattr(value, "ndim", False) else (value,)
    try:
        return tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise TypeError(f"{name}: a shape must be made of integers, received {value!r}") from None


@op
def reshape(x, newshape) -> Tensor:
    """The same elements in another shape; one size may be -1, which is computed from the others."""
    x, new = as_tensor(x), sizes_of("reshape", newshape)
    known = math.prod(size for size in new if size != -1)
    if new.count(-1) == 1 and known and x.size % known == 0:
        new = tuple(x.size // known if size == -1 else size for size in new)
    if -1 in new or math.prod(new) != x.size or any(size < 0 for size in new):
        raise ValueError(f"reshape: cannot put {x.size} elements of shape {x.shape} into shape {new}")
    return x if new == x.shape else apply(shape_kernels.reshape, shape_kernels.reshape_vjp, [x], shape=new)


@op
def expand_dims(x, axis) -> Tensor:
    """Add an axis of size 1 at a position of the result, or several axes for a tuple of positions."""
    x = as_tensor(x)
    count = len(axis) if isinstance(axis, list | tuple) else 1
    new = axes_of("expand_dims", axis, x.ndim + count)
    sizes = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(sizes) for i in range(x.ndim + count)))


@op
def squeeze(x, axis=None) -> Tensor:
    """Remove axes of size 1: all of them, or the given ones."""
    x = as_tensor(x)
    removed = (
        axes_of("squeeze", axis, x.ndim) if axis is not None else tuple(i for i, n in enumerate(x.shape) if n == 1)
    )
    if any(x.shape[i] != 1 for i in removed):
        raise ValueError(f"squeeze: axis {axis} of a tensor of shape {x.shape} is not of size 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in removed))


@op
def transpose(x, axes=None) -> Tensor:
    """The axes in another order; reversed for None."""
    x = as_tensor(x)
    if axes is None:
        order = tuple(reversed(range(x.ndim)))
    else:
        order = tuple(axis_of("transpose", axis, x.ndim) for axis in axes)
        if sorted(order) != list(range(x.ndim)):
            raise ValueError(f"transpose: axes must name each of the {x.ndim} axes once, received {tuple(axes)}")
    return apply(shape_kernels.transpose, shape_kernels.transpose_vjp, [x], axes=order)


@op
def swapaxes(x, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    x = as_tensor(x)
    order = list(range(x.ndim))
    first, second = axis_of("swapaxes", axis1, x.ndim), axis_of("swapaxes", axis2, x.ndim)
    order[first], order[second] = second, first
    return transpose(x, order)


@op
def moveaxis(x, source, destination) -> Tensor:
    """Axes moved to other positions; the rest keep their order."""
    x = as_tensor(x)
    sources, targets = (
        [axis_of("moveaxis", axis, x.ndim) for axis in (given if isinstance(given, list | tuple | range) else [given])]
        for given in (source, destination)
    )
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise ValueError(f"moveaxis: source {source} and destination {destination} must name the same number of axes")
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return transpose(x, order)


def one_axis(name: str, x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """The tensor and the axis to work along; the flat tensor if axis is None."""
    return (reshape(x, (-1,)), 0) if axis is None else (x, axis_of(name, axis, x.ndim))


def over_axes(x: Tensor, axes: tuple[int, ...], function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to x as a matrix whose rows hold the elements of the given axes, and restore x's shape."""
    order = [*(i for i in range(x.ndim) if i not in axes), *axes]
    in_place = order == list(range(x.ndim))
    moved = x if in_place else transpose(x, order)
    y = reshape(function(reshape(moved, (-1, math.prod(x.shape[i] for i in axes)))), moved.shape)
    return y if in_place else transpose(y, [order.index(i) for i in range(x.ndim)])


# -------------------- joining and splitting --------------------


def tensors_of(name: str, xs: Any) -> list[Tensor]:
    """The tensors of a list or tuple in one dtype; ValueError if there is none."""
    if isinstance(xs, Tensor) or not isinstance(xs, list | tuple) or not xs:
        raise ValueError(f"{name}: expected a list of at least one tensor, received {type(xs).__name__} {xs!r}")
    return promote(*xs)


@op
def concatenate(xs, axis: int = 0) -> Tensor:
    """Join tensors along an axis; their other sizes must agree."""
    tensors = tensors_of("concatenate", xs)
    along = axis_of("concatenate", axis, tensors[0].ndim)
    rest = {(*x.shape[:along], *x.shape[along + 1 :]) if x.ndim == tensors[0].ndim else None for x in tensors}
    if len(rest) > 1:
        raise ValueError(
            f"concatenate: shapes must agree except along axis {axis}, received {[x.shape for x in tensors]}"
        )
    return apply(shape_kernels.concatenate, shape_kernels.concatenate_vjp, tensors, axis=along)


@op
def stack(x, axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis."""
    tensors = tensors_of("stack", x)
    if len({tensor.shape for tensor in tensors}) > 1:
        raise ValueError(f"stack: all shapes must be the same, received {[tensor.shape for tensor in tensors]}")
    along = axis_of("stack", axis, tensors[0].ndim + 1)
    return apply(shape_kernels.stack, shape_kernels.stack_vjp, tensors, axis=along)


@op
def split(x, indices_or_sections, axis: int = 0) -> list[Tensor]:
    """A list of parts along an axis: equal parts for an integer (their number), otherwise cut at the given positions."""
    x = as_tensor(x)
    along = axis_of("split", axis, x.ndim)
    size = x.shape[along]
    if not isinstance(indices_or_sections, list | tuple | np.ndarray | Tensor):
        (count,) = sizes_of("split", indices_or_sections)
        if count < 1 or size % count:
            raise ValueError(f"split: axis {axis} of size {size} cannot be cut into {count} equal parts")
        load_budget.step(count)
        sizes = [size // count] * count
    else:
        cuts = [0, *(min(max(c + size if c < 0 else c, 0), size) for c in sizes_of("split", indices_or_sections)), size]
        sizes = [max(0, end - start) for start, end in zip(cuts, cuts[1:], strict=False)]
        if cuts != sorted(cuts):
            raise ValueError(f"split: positions must rise, received {indices_or_sections}")
    return list(apply(shape_kernels.split, shape_kernels.split_vjp, [x], sizes=sizes, axis=along))


@op
def unstack(x, num: int | None = None, axis: int = 0) -> list[Tensor]:
    """A list of the tensors along an axis, without that axis."""
    x = as_tensor(x)
    along = axis_of("unstack", axis, x.ndim)
    if num is not None and num != x.shape[along]:
        raise ValueError(f"unstack: axis {axis} has size {x.shape[along]}, not num={num}")
    load_budget.step(x.shape[along])
    return list(apply(shape_kernels.unstack, shape_kernels.unstack_vjp, [x], axis=along))


# -------------------- repeating --------------------


@op
def broadcast_to(x, shape) -> Tensor:
    """x repeated along axes of size 1 and along new leading axes to a shape."""
    x, new = as_tensor(x), sizes_of("broadcast_to", shape)
    if broadcasting.broadcast_shape(new, x.shape) != new:
        raise ValueError(f"broadcast_to: a tensor of shape {x.shape} does not fit into shape {new}")
    seen = (1,) * (len(new) - x.ndim) + x.shape
    return apply(shape_kernels.spread, shape_kernels.spread_vjp, [x], seen_as=seen, over=new, shape=new)


@op
def tile(x, repeats) -> Tensor:
    """x repeated as a whole along each axis; `repeats` and x's shape get leading ones until they have the same length."""
    x, times = as_tensor(x), sizes_of("tile", repeats)
    if any(count < 0 for count in times):
        raise ValueError(f"tile: repeats must not be negative, received {repeats}")
    length = max(x.ndim, len(times))
    sizes, times = (1,) * (length - x.ndim) + x.shape, (1,) * (length - len(times)) + times
    seen = tuple(n for size in sizes for n in (1, size))
    over = tuple(n for count, size in zip(times, sizes, strict=True) for n in (count, size))
    new = tuple(count * size for count, size in zip(times, sizes, strict=True))
    return apply(shape_kernels.spread, shape_kernels.spread_vjp, [x], seen_as=seen, over=over, shape=new)


@op
def repeat(x, repeats, axis: int | None = None) -> Tensor:
    """Repeat each element `repeats` times along an axis, or in the flat tensor for axis None.

    repeats: an integer, or a list or array with one integer for each element. The values of a tensor are read.
    """
    x, along = one_axis("repeat", as_tensor(x), axis)
    before, size, after = x.shape[:along], x.shape[along], x.shape[along + 1 :]
    counts = sizes_of("repeat", np.asarray(repeats).reshape(-1) if hasattr(repeats, "shape") else repeats)
    if len(counts) not in (1, size) or min(counts, default=0) < 0:
        raise ValueError(
            f"repeat: repeats must be an integer of at least 0, or one for each of {size} elements, received {repeats!r}"
        )
    if len(counts) > 1:
        return concatenate(
            [repeat(part, n, along) for part, n in zip(split(x, size, along), counts, strict=True)], along
        )
    (count,) = counts or (0,)
    over, new = (*before, size, count, *after), (*before, size * count, *after)
    return apply(
        shape_kernels.spread, shape_kernels.spread_vjp, [x], seen_as=(*before, size, 1, *after), over=over, shape=new
    )


# -------------------- flipping, rolling --------------------


@op
def flip(x, axis=None) -> Tensor:
    """The elements in reverse order along axes (all of them for None)."""
    x = as_tensor(x)
    return apply(shape_kernels.flip, shape_kernels.flip_vjp, [x], axes=axes_of("flip", axis, x.ndim))


@op
def roll(x, shift, axis=None) -> Tensor:
    """Shift elements by `shift` positions along an axis, or in the flat tensor for axis None; they wrap around at the end."""
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
