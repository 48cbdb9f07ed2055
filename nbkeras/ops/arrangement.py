"""Ops that rearrange elements, composed of those in shape.py and indexing.py: joins, splits, diagonals, blocks."""

import math
import re
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import shape
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import axis_of
from nbkeras.ops.indexing import getitem, pad
from nbkeras.ops.shape import concatenate, expand_dims, flip, moveaxis, reshape, split, swapaxes, tensors_of, transpose
from nbkeras.ops.window import data_format_of

# -------------------- dtype, size, view --------------------


def dtype(x) -> str:
    """The name of the dtype."""
    return np.dtype(x.dtype if hasattr(x, "dtype") else as_tensor(x).dtype).name


@op
def size(x) -> Tensor:
    """The number of elements, int32."""
    return as_tensor(np.array(as_tensor(x).size, np.int32))


@op
def view(x, dtype=None) -> Tensor:
    """The same bytes read as another dtype; the last axis grows or shrinks if the dtypes' sizes differ. No gradient."""
    x = as_tensor(x)
    target = x.dtype if dtype is None else np.dtype(dtype)
    if x.dtype.itemsize != target.itemsize and (x.ndim == 0 or x.shape[-1] * x.dtype.itemsize % target.itemsize):
        raise ValueError(
            f"view: the last axis of a tensor of shape {x.shape} and {x.dtype} holds no whole number of {target}"
        )
    return apply(shape.reread, None, [x], dtype=target)


# -------------------- joining and splitting --------------------


@op
def ravel(x) -> Tensor:
    """All elements along one axis."""
    return reshape(x, (-1,))


@op
def append(x1, x2, axis: int | None = None) -> Tensor:
    """x2 after x1 along an axis; both are flattened for axis None."""
    return concatenate([ravel(x1), ravel(x2)]) if axis is None else concatenate([x1, x2], axis)


@op
def hstack(xs) -> Tensor:
    """Tensors joined along the second axis, or along the first axis for vectors."""
    tensors = [x if x.ndim else reshape(x, (1,)) for x in tensors_of("hstack", xs)]
    return concatenate(tensors, 0 if tensors[0].ndim == 1 else 1)


@op
def vstack(xs) -> Tensor:
    """Tensors joined along the first axis; vectors are rows."""
    return concatenate([x if x.ndim > 1 else reshape(x, (1, -1)) for x in tensors_of("vstack", xs)], 0)


@op
def dstack(xs) -> Tensor:
    """Tensors joined along the third axis; vectors are rows of matrices of depth 1."""
    rows = [x if x.ndim > 1 else reshape(x, (1, -1)) for x in tensors_of("dstack", xs)]
    return concatenate([row if row.ndim > 2 else expand_dims(row, 2) for row in rows], 2)


@op
def array_split(x, indices_or_sections, axis: int = 0) -> list[Tensor]:
    """`split` into a number of parts whose sizes differ by at most one, the larger ones first."""
    x = as_tensor(x)
    if not isinstance(indices_or_sections, int | np.integer):
        return split(x, indices_or_sections, axis)
    count, length = int(indices_or_sections), x.shape[axis_of("array_split", axis, x.ndim)]
    if count < 1:
        raise ValueError(f"array_split: expected at least one part, received {count}")
    load_budget.step(count)
    sizes = [length // count + (i < length % count) for i in range(count)]
    return split(x, np.cumsum(sizes)[:-1], axis)


def _split_along(name: str, least: int, x: Any, indices_or_sections: Any, axis: int) -> list[Tensor]:
    x = as_tensor(x)
    if x.ndim < least:
        raise ValueError(f"{name}: expected at least {least} axes, received shape {x.shape}")
    return split(x, indices_or_sections, axis)


@op
def hsplit(x, indices_or_sections) -> list[Tensor]:
    """`split` along the second axis, or along the first axis of a vector."""
    x = as_tensor(x)
    return _split_along("hsplit", 1, x, indices_or_sections, 0 if x.ndim == 1 else 1)


@op
def vsplit(x, indices_or_sections) -> list[Tensor]:
    """`split` along the first axis."""
    return _split_along("vsplit", 2, x, indices_or_sections, 0)


@op
def dsplit(x, indices_or_sections) -> list[Tensor]:
    """`split` along the third axis."""
    return _split_along("dsplit", 3, x, indices_or_sections, 2)


# -------------------- flips and rotations --------------------


@op
def flipud(x) -> Tensor:
    """The rows in reverse order."""
    return flip(x, 0)


@op
def fliplr(x) -> Tensor:
    """The columns in reverse order."""
    return flip(x, 1)


@op
def rot90(array, k: int = 1, axes=(0, 1)) -> Tensor:
    """The array rotated by k times 90 degrees, from the first of two axes towards the second."""
    x = as_tensor(array)
    first, second = (axis_of("rot90", axis, x.ndim) for axis in axes)
    if first == second:
        raise ValueError(f"rot90: the two axes must differ, received {axes}")
    quarters = k % 4
    if quarters == 1:
        return swapaxes(flip(x, second), first, second)
    if quarters == 3:
        return flip(swapaxes(x, first, second), second)
    return flip(x, (first, second)) if quarters == 2 else x


# -------------------- diagonals --------------------


@op
def diagonal(x, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal of two axes, along a new last axis; offset: its distance above the main diagonal."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"diagonal: expected at least two axes, received shape {x.shape}")
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    first = max(offset, 0) + max(-offset, 0) * columns
    last = first + max(count - 1, 0) * (columns + 1) + (count > 0)
    flat = reshape(x, (*x.shape[:-2], rows * columns))
    return getitem(flat, (..., slice(first, last, columns + 1)))


@op
def trace(x, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of a diagonal."""
    return reduce.sum(diagonal(x, offset, axis1, axis2), -1)


@op
def diagflat(x, k: int = 0) -> Tensor:
    """A square matrix with the elements on its k-th diagonal and zeros elsewhere."""
    x = ravel(x)
    load_budget.take_briefly(2 * x.shape[0] ** 2, f"diagflat of {x.shape[0]} numbers")
    square = elementwise.where(np.eye(x.shape[0], dtype=np.bool_), expand_dims(x, 1), x.dtype.type(0))
    return pad(square, ((max(-k, 0), max(k, 0)), (max(k, 0), max(-k, 0))))


@op
def diag(x, k: int = 0) -> Tensor:
    """The k-th diagonal of a matrix, or the matrix with a vector on its k-th diagonal."""
    x = as_tensor(x)
    if x.ndim not in (1, 2):
        raise ValueError(f"diag: expected a vector or a matrix, received shape {x.shape}")
    return diagonal(x, k) if x.ndim == 2 else diagflat(x, k)


# -------------------- blocks --------------------


@op
def rearrange(tensor, pattern: str, **axes_lengths: int) -> Tensor:
    """Split, move and join axes by a pattern: `rearrange(x, "b (h s) c -> b h (s c)", s=2)`.

    Each axis has a letter or a name; parentheses hold the axes that are joined. For each pair of parentheses on the left
    one size may be left out.
    """
    x = as_tensor(tensor)
    left, arrow, right = pattern.partition("->")
    groups = [[part.strip("()").split() for part in re.findall(r"\([^)]*\)|\w+", side)] for side in (left, right)]
    names, wanted = ([name for group in side for name in group] for side in groups)
    if not arrow or sorted(names) != sorted(wanted) or len(set(names)) != len(names) or len(groups[0]) != x.ndim:
        raise ValueError(
            f"rearrange: {pattern!r} must name each axis of shape {x.shape} once on the left and once on the right"
        )
    sizes = dict(axes_lengths)
    for group, length in zip(groups[0], x.shape, strict=True):
        known = math.prod(sizes[name] for name in group if name in sizes)
        free = [name for name in group if name not in sizes]
        if len(free) > 1 or known < 1 or length % known or (not free and known != length):
            raise ValueError(
                f"rearrange: an axis of size {length} cannot be split as {group} with sizes {axes_lengths}"
            )
        sizes.update({name: length // known for name in free})
    y = transpose(reshape(x, [sizes[name] for name in names]), [names.index(name) for name in wanted])
    return reshape(y, [math.prod(sizes[name] for name in group) for group in groups[1]])


_BLOCKS = {
    "channels_last": ("n h w (a b c)", "n (h a) (w b) c"),
    "channels_first": ("n (c a b) h w", "n c (h a) (w b)"),
}


def _check_block(name: str, block_size: int) -> None:
    if block_size < 2:
        raise ValueError(f"{name}: block_size must be at least 2, received {block_size}")


@op
def depth_to_space(x, block_size: int, data_format: str | None = "channels_last") -> Tensor:
    """Channels rearranged into blocks of pixels: (n, h, w, b b c) -> (n, h b, w b, c)."""
    _check_block("depth_to_space", block_size)
    deep, wide = _BLOCKS[data_format_of("depth_to_space", data_format)]
    return rearrange(x, f"{deep} -> {wide}", a=block_size, b=block_size)


@op
def space_to_depth(x, block_size: int, data_format: str | None = "channels_last") -> Tensor:
    """Blocks of pixels rearranged into channels: (n, h b, w b, c) -> (n, h, w, b b c)."""
    _check_block("space_to_depth", block_size)
    deep, wide = _BLOCKS[data_format_of("space_to_depth", data_format)]
    return rearrange(x, f"{wide} -> {deep}", a=block_size, b=block_size)
