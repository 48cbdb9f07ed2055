"""Checking the arguments of ops: shapes that broadcast, axes, sizes, subscripts."""

import math
import operator
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.kernels.elementwise import broadcast_shape as broadcast_shape

_LARGEST = int(np.iinfo(np.int32).max)


def check_broadcast(name: str, *tensors: Any) -> None:
    """Raise ValueError unless the tensors' shapes broadcast together."""
    shape: tuple[int, ...] | None = tensors[0].shape
    for tensor in tensors[1:]:
        if tensor.shape != shape:
            shape = broadcast_shape(shape, tensor.shape)  # type: ignore[arg-type]
            if shape is None:
                raise ValueError(
                    f"{name}: shapes {', '.join(str(t.shape) for t in tensors)} do not broadcast together: counted from "
                    "the last axis, sizes must be equal or one of them 1 (ops.reshape and ops.expand_dims add axes of 1)"
                )


def _integers(values: Any) -> tuple[int, ...] | None:
    """The values as Python integers; None if one is not an integer. Booleans are not: the caller means another argument."""
    try:
        return None if bool in map(type, values) else tuple(map(operator.index, values))
    except TypeError:
        return None


def axis_of(name: str, axis: Any, ndim: int) -> int:
    """The axis as a non-negative number below `ndim`; TypeError or ValueError for an invalid one."""
    (index,) = _integers([axis]) or (None,)
    if index is None:
        raise TypeError(f"{name}: axis must be an integer, received {briefly(axis)}")
    if not -ndim <= index < ndim:
        raise ValueError(f"{name}: axis {briefly(axis)} is out of range for a tensor of {ndim} axes")
    return index % ndim


def axes_of(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes as non-negative numbers in rising order: all for None, one for an integer, several for a tuple or list."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, list | tuple) else [axis]
    axes = tuple(sorted(axis_of(name, number, ndim) for number in given))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis {axis} names an axis twice")
    return axes


def check_int32(name: str, largest: int) -> None:
    """Raise ValueError if a position or a count could exceed int32, its dtype as in Keras."""
    if largest > _LARGEST:
        raise ValueError(
            f"{name}: positions and counts are int32, at most {_LARGEST:,}, and here they could be {largest:,}: process parts of "
            "the tensor, cast their results to int64 (ops.cast) and join them"
        )


def length_of(name: str, axis: Any, x: Any) -> int:
    """The number of elements along an axis; of all elements for None."""
    return x.size if axis is None else x.shape[axis_of(name, axis, x.ndim)]


def sizes_of(name: str, value: Any) -> tuple[int, ...]:
    """A shape argument as a tuple of integers; the values of a tensor are read. TypeError for anything but integers."""
    if getattr(value, "ndim", False):
        given: Any = np.asarray(value)
    else:
        given = value if isinstance(value, list | tuple) else (value,)
    sizes = _integers(given)
    if sizes is None:
        raise TypeError(f"{name}: a shape must be made of integers, received {briefly(value)}")
    return sizes


def new_sizes(name: str, value: Any) -> tuple[int, ...]:
    """`sizes_of` for a new tensor: ValueError for a negative size, and for more elements than can exist."""
    sizes = sizes_of(name, value)
    if any(size < 0 for size in sizes):
        raise ValueError(f"{name}: sizes must not be negative, received shape {briefly(sizes)}")
    load_budget.check_exists(8 * max(math.prod(sizes), *sizes, 0), f"{name} of shape {briefly(sizes)}")
    return sizes


def count_of(name: str, what: str, value: Any) -> int:
    """One integer of at least 0; the error names the op and the argument."""
    sizes = _integers([value])
    if sizes is None or sizes[0] < 0:
        raise ValueError(f"{name}: {what} must be an integer of at least 0, received {briefly(value)}")
    load_budget.check_exists(8 * sizes[0], f"{name} with {what}={briefly(sizes[0])}")
    return sizes[0]


def pair_of(name: str, what: str, value: Any) -> tuple[Any, Any]:
    """A pair as a tuple, or a single value twice; ValueError for a list or tuple of another length."""
    given = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(given) != 2:
        raise ValueError(f"{name}: {what} must be one value or a pair, received {briefly(value)}")
    return given


def letters_of(subscripts: str, tensors: Sequence[Any]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the result, with unused letters for the axes of ellipses."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    plain = [part.replace("...", "", 1) for part in [*parts, right]]
    if not all(part.isascii() and (part.isalpha() or not part) for part in plain) or len(parts) != len(tensors):
        raise ValueError(
            f"einsum takes letters for axes, at most one '...' per operand, and one operand for each term; received "
            f"{briefly(subscripts)} and {len(tensors)} operands"
        )
    unused = [c for c in string.ascii_letters if c not in left]
    inputs, widest = [], 0
    for part, letters, tensor in zip(parts, plain, tensors, strict=False):
        extra = tensor.ndim - len(letters)
        if extra < 0 or (extra and "..." not in part):
            raise ValueError(f"einsum: {part!r} of {subscripts!r} does not fit a tensor of shape {tensor.shape}")
        widest = max(widest, extra)
        inputs.append((part, unused[len(unused) - extra :]))
    ellipsis = unused[len(unused) - widest :]

    def named(part: str, axes: list[str]) -> list[str]:
        before, dots, after = part.partition("...")
        return [*before, *(axes if dots else []), *after]

    if not arrow:
        right = "..." + "".join(sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1))
    result = named(right, ellipsis)
    known = set(ellipsis).union(*plain[:-1])
    if len(set(result)) != len(result) or not set(result) <= known or not set(ellipsis) <= set(result):
        raise ValueError(
            f"einsum: the result of {subscripts!r} must have letters of the operands, each once, and '...' where they have it"
        )
    return [named(part, axes) for part, axes in inputs], result
