"""Ops that rearrange elements, composed of those in shape.py and indexing.py: joins, splits, diagonals, blocks."""

import math
import re
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import shape as shape_kernels
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import axis_of, check_int32
from nbkeras.ops.indexing import getitem, pad
from nbkeras.ops.shape import _tensors_of, concatenate, expand_dims, flip, moveaxis, reshape, split, swapaxes, transpose
from nbkeras.ops.window import data_format_of

# -------------------- dtype, size, view --------------------


def dtype(x) -> str:
    """The name of the dtype.

    Args:
        x: A tensor, a symbolic tensor, or numbers.

    Returns:
        A string such as 'float32'.

    Example:
        >>> ops.dtype(ops.zeros(3)), ops.dtype([1, 2]), ops.dtype(np.zeros(3))
        ('float32', 'int32', 'float64')
    """
    return np.dtype(x.dtype if hasattr(x, "dtype") else as_tensor(x).dtype).name


@op
def size(x) -> Tensor:
    """The number of elements.

    Args:
        x: A tensor of any shape and dtype.

    Returns:
        An int32 tensor of shape ().

    Raises:
        ValueError: if the number does not fit in int32.

    Example:
        >>> int(ops.size([[1, 2, 3], [4, 5, 6]]))
        6
    """
    count = as_tensor(x).size
    check_int32("size", count)
    return as_tensor(np.array(count, np.int32))


@op
def view(x, dtype=None) -> Tensor:
    """The same bytes, read as another dtype. There is no gradient.

    Args:
        x: A tensor of any shape and dtype.
        dtype: The dtype to read as; None for x's own.

    Returns:
        A tensor of that dtype. If the dtypes' sizes differ, the last axis grows or shrinks.

    Raises:
        ValueError: if the last axis does not hold a whole number of elements of the dtype.

    Example:
        >>> ops.view(np.array([1, -1], "int8"), "uint8").numpy()
        array([  1, 255], dtype=uint8)
        >>> ops.view(np.zeros((2, 3), "float32"), "uint8").shape
        (2, 12)
    """
    x = as_tensor(x)
    target = x.dtype if dtype is None else known_dtype(dtype)
    if x.dtype.itemsize != target.itemsize and (x.ndim == 0 or x.shape[-1] * x.dtype.itemsize % target.itemsize):
        raise ValueError(
            f"view: the last axis of a tensor of shape {x.shape} and {x.dtype} does not hold a whole number of {target}"
        )
    return apply(shape_kernels.reread, None, [x], dtype=target)


# -------------------- joining and splitting --------------------


@op
def ravel(x) -> Tensor:
    """All elements along one axis.

    Args:
        x: A tensor of any shape and dtype.

    Returns:
        A tensor of shape (x.size,) and x's dtype.

    Example:
        >>> ops.ravel([[1, 2], [3, 4]]).numpy()
        array([1, 2, 3, 4], dtype=int32)
    """
    return reshape(x, (-1,))


@op
def append(x1, x2, axis: int | None = None) -> Tensor:
    """Put x2 after x1 along an axis.

    Args:
        x1: A tensor of any shape.
        x2: A tensor whose sizes agree with x1's, except along the axis.
        axis: The axis to join along; None flattens both.

    Returns:
        A tensor of the common dtype of both.

    Raises:
        ValueError: for shapes that do not agree, or an axis that x1 does not have.

    Example:
        >>> ops.append([[1, 2]], [[3, 4]], axis=0).numpy()
        array([[1, 2],
               [3, 4]], dtype=int32)
        >>> ops.append([[1, 2]], [3]).numpy()
        array([1, 2, 3], dtype=int32)
    """
    return concatenate([ravel(x1), ravel(x2)]) if axis is None else concatenate([x1, x2], axis)


@op
def hstack(xs) -> Tensor:
    """Join tensors side by side: along the second axis, or along the first axis for vectors.

    Args:
        xs: A list or tuple of tensors whose sizes agree, except along that axis; scalars count as vectors.

    Returns:
        A tensor of the common dtype of all.

    Raises:
        ValueError: for anything but a list of tensors, or shapes that do not agree.

    Example:
        >>> ops.hstack([[[1], [2]], [[3], [4]]]).numpy()
        array([[1, 3],
               [2, 4]], dtype=int32)
        >>> ops.hstack([[1, 2], [3]]).numpy()
        array([1, 2, 3], dtype=int32)
    """
    tensors = [x if x.ndim else reshape(x, (1,)) for x in _tensors_of("hstack", xs)]
    return concatenate(tensors, 0 if tensors[0].ndim == 1 else 1)


@op
def vstack(xs) -> Tensor:
    """Join tensors on top of each other, along the first axis.

    Args:
        xs: A list or tuple of tensors whose sizes agree, except along the first axis; vectors count as rows.

    Returns:
        A tensor of the common dtype of all, with at least two axes.

    Raises:
        ValueError: for anything but a list of tensors, or shapes that do not agree.

    Example:
        >>> ops.vstack([[1, 2], [[3, 4], [5, 6]]]).numpy()
        array([[1, 2],
               [3, 4],
               [5, 6]], dtype=int32)
    """
    return concatenate([x if x.ndim > 1 else reshape(x, (1, -1)) for x in _tensors_of("vstack", xs)], 0)


@op
def dstack(xs) -> Tensor:
    """Join tensors along the third axis.

    Args:
        xs: A list or tuple of tensors whose sizes agree, except along the third axis. Vectors count as rows of
            shape (1, n), and matrices get a third axis of size 1.

    Returns:
        A tensor of the common dtype of all, with at least three axes.

    Raises:
        ValueError: for anything but a list of tensors, or shapes that do not agree.

    Example:
        >>> ops.dstack([[[1, 2], [3, 4]], [[5, 6], [7, 8]]]).numpy()
        array([[[1, 5],
                [2, 6]],
               [[3, 7],
                [4, 8]]], dtype=int32)
    """
    rows = [x if x.ndim > 1 else reshape(x, (1, -1)) for x in _tensors_of("dstack", xs)]
    return concatenate([row if row.ndim > 2 else expand_dims(row, 2) for row in rows], 2)


@op
def array_split(x, indices_or_sections, axis: int = 0) -> list[Tensor]:
    """Cut a tensor along an axis into parts whose sizes differ by at most one, the larger ones first.

    Args:
        x: A tensor of any shape and dtype.
        indices_or_sections: The number of parts, or an increasing list of positions to cut at.
        axis: The axis to cut.

    Returns:
        A list of tensors of x's dtype.

    Raises:
        ValueError: for less than one part, decreasing positions, or an axis that x does not have.

    Example:
        >>> [part.numpy().tolist() for part in ops.array_split([1, 2, 3, 4, 5], 3)]
        [[1, 2], [3, 4], [5]]
    """
    x = as_tensor(x)
    if not isinstance(indices_or_sections, int | np.integer):
        return split(x, indices_or_sections, axis)
    count, length = int(indices_or_sections), x.shape[axis_of("array_split", axis, x.ndim)]
    if count < 1:
        raise ValueError(f"array_split: expected at least one part, received {briefly(count)}")
    load_budget.step(count)
    sizes = [length // count + (i < length % count) for i in range(count)]
    return split(x, np.cumsum(sizes)[:-1], axis)


def _split_along(name: str, minimum: int, x: Any, indices_or_sections: Any, axis: int) -> list[Tensor]:
    x = as_tensor(x)
    if x.ndim < minimum:
        raise ValueError(f"{name}: expected at least {minimum} axes, received shape {x.shape}")
    return split(x, indices_or_sections, axis)


@op
def hsplit(x, indices_or_sections) -> list[Tensor]:
    """Cut a tensor along the second axis, or a vector along its axis; see `split`.

    Args:
        x: A tensor of any dtype with at least one axis.
        indices_or_sections: The number of equal parts, or an increasing list of positions to cut at.

    Returns:
        A list of tensors of x's dtype.

    Raises:
        ValueError: for a number of parts that does not divide the size, decreasing positions, or too few axes.

    Example:
        >>> [part.numpy().tolist() for part in ops.hsplit([[1, 2, 3], [4, 5, 6]], [1])]
        [[[1], [4]], [[2, 3], [5, 6]]]
    """
    x = as_tensor(x)
    return _split_along("hsplit", 1, x, indices_or_sections, 0 if x.ndim == 1 else 1)


@op
def vsplit(x, indices_or_sections) -> list[Tensor]:
    """Cut a tensor along the first axis; see `split`.

    Args:
        x: A tensor of any dtype with at least two axes.
        indices_or_sections: The number of equal parts, or an increasing list of positions to cut at.

    Returns:
        A list of tensors of x's dtype.

    Raises:
        ValueError: for a number of parts that does not divide the size, decreasing positions, or too few axes.

    Example:
        >>> [part.numpy().tolist() for part in ops.vsplit([[1, 2], [3, 4]], 2)]
        [[[1, 2]], [[3, 4]]]
    """
    return _split_along("vsplit", 2, x, indices_or_sections, 0)


@op
def dsplit(x, indices_or_sections) -> list[Tensor]:
    """Cut a tensor along the third axis; see `split`.

    Args:
        x: A tensor of any dtype with at least three axes.
        indices_or_sections: The number of equal parts, or an increasing list of positions to cut at.

    Returns:
        A list of tensors of x's dtype.

    Raises:
        ValueError: for a number of parts that does not divide the size, decreasing positions, or too few axes.

    Example:
        >>> [part.shape for part in ops.dsplit(ops.zeros((28, 28, 4)), [3])]
        [(28, 28, 3), (28, 28, 1)]
    """
    return _split_along("dsplit", 3, x, indices_or_sections, 2)


# -------------------- flips and rotations --------------------


@op
def flipud(x) -> Tensor:
    """Reverse the order of the rows ("up, down"), the first axis.

    Args:
        x: A tensor of any dtype with at least one axis.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for a scalar.

    Example:
        >>> ops.flipud([[1, 2], [3, 4]]).numpy()
        array([[3, 4],
               [1, 2]], dtype=int32)
    """
    return flip(x, 0)


@op
def fliplr(x) -> Tensor:
    """Reverse the order of the columns ("left, right"), the second axis.

    Args:
        x: A tensor of any dtype with at least two axes.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for fewer than two axes.

    Example:
        >>> ops.fliplr([[1, 2], [3, 4]]).numpy()
        array([[2, 1],
               [4, 3]], dtype=int32)
    """
    return flip(x, 1)


@op
def rot90(array, k: int = 1, axes: Any = (0, 1)) -> Tensor:
    """Rotate by steps of 90 degrees in the plane of two axes.

    Args:
        array: A tensor of any dtype with at least two axes.
        k: The number of steps; negative ones rotate the other way.
        axes: The two axes of the plane; the rotation is from the first one towards the second one, which is
            counterclockwise for a matrix.

    Returns:
        A tensor of the same dtype; an odd k swaps the two sizes.

    Raises:
        ValueError: for axes that are equal or that the tensor does not have.

    Example:
        >>> ops.rot90([[1, 2], [3, 4]]).numpy()
        array([[2, 4],
               [1, 3]], dtype=int32)
    """
    x = as_tensor(array)
    if not isinstance(axes, list | tuple) or len(axes) != 2:
        raise ValueError(f"rot90: axes must be two integers, received {briefly(axes)}")
    first, second = (axis_of("rot90", axis, x.ndim) for axis in axes)
    if first == second:
        raise ValueError(f"rot90: the two axes must differ, received {briefly(axes)}")
    quarters = k % 4
    if quarters == 1:
        return swapaxes(flip(x, second), first, second)
    if quarters == 3:
        return flip(swapaxes(x, first, second), second)
    return flip(x, (first, second)) if quarters == 2 else x


# -------------------- diagonals --------------------


@op
def diagonal(x, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements on a diagonal of two axes, along a new last axis.

    Args:
        x: A tensor of any dtype with at least two axes.
        offset: The distance above the main diagonal; negative below it.
        axis1: The axis of the rows.
        axis2: The axis of the columns.

    Returns:
        A tensor of x's dtype with one axis less: the other axes, then the diagonal.

    Raises:
        ValueError: for fewer than two axes, or equal axes.

    Example:
        >>> ops.diagonal([[1, 2, 3], [4, 5, 6]]).numpy()
        array([1, 5], dtype=int32)
        >>> ops.diagonal([[1, 2, 3], [4, 5, 6]], offset=1).numpy()
        array([2, 6], dtype=int32)
    """
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
    """The sum of a diagonal of two axes.

    Args:
        x: A tensor with at least two axes.
        offset: The distance above the main diagonal; negative below it.
        axis1: The axis of the rows.
        axis2: The axis of the columns.

    Returns:
        A tensor without the two axes, of x's dtype (bool and smaller integers become 32 bits).

    Raises:
        ValueError: for fewer than two axes, or equal axes.

    Example:
        >>> int(ops.trace([[1, 2], [3, 4]]))
        5
    """
    return reduce.sum(diagonal(x, offset, axis1, axis2), -1)


@op
def diagflat(x, k: int = 0) -> Tensor:
    """A square matrix with the elements of x on a diagonal, and zeros elsewhere.

    Args:
        x: A tensor of any shape and dtype, flattened first.
        k: The distance above the main diagonal; negative below it.

    Returns:
        A tensor of shape (n, n) and x's dtype, where n = x.size + |k|.

    Example:
        >>> ops.diagflat([1, 2], k=1).numpy()
        array([[0, 1, 0],
               [0, 0, 2],
               [0, 0, 0]], dtype=int32)
    """
    x = ravel(x)
    load_budget.take_briefly(2 * x.shape[0] ** 2, f"diagflat of {x.shape[0]} numbers")
    square = elementwise.where(np.eye(x.shape[0], dtype=np.bool_), expand_dims(x, 1), x.dtype.type(0))
    return pad(square, ((max(-k, 0), max(k, 0)), (max(k, 0), max(-k, 0))))


@op
def diag(x, k: int = 0) -> Tensor:
    """The diagonal of a matrix, or a matrix with a vector on its diagonal.

    Args:
        x: A matrix or a vector of any dtype.
        k: The distance above the main diagonal; negative below it.

    Returns:
        A tensor of x's dtype: a vector for a matrix, a square matrix for a vector.

    Raises:
        ValueError: unless x has 1 or 2 axes.

    Example:
        >>> ops.diag([1, 2]).numpy()
        array([[1, 0],
               [0, 2]], dtype=int32)
        >>> ops.diag([[1, 2], [3, 4]]).numpy()
        array([1, 4], dtype=int32)
    """
    x = as_tensor(x)
    if x.ndim not in (1, 2):
        raise ValueError(f"diag: expected a vector or a matrix, received shape {x.shape}")
    return diagonal(x, k) if x.ndim == 2 else diagflat(x, k)


# -------------------- blocks --------------------


@op
def rearrange(tensor, pattern: str, **axes_lengths: int) -> Tensor:
    """Split, move and join axes by a pattern of names.

    Args:
        tensor: A tensor of any shape and dtype.
        pattern: The names of the axes before and after, as "b h w -> b w h". Each name stands once on each side.
            Parentheses hold axes that are joined: on the left they split an axis, on the right they join axes.
        axes_lengths: The sizes of axes by name. One size in each pair of parentheses on the left may be omitted.

    Returns:
        A tensor of the same dtype with the axes on the right side of the pattern.

    Raises:
        ValueError: if the pattern does not fit the shape, or the sizes do not multiply to the axis's size.

    Example:
        >>> ops.rearrange([[1, 2, 3, 4]], "b (h w) -> b w h", h=2).numpy()
        array([[[1, 3],
                [2, 4]]], dtype=int32)
        >>> images = ops.zeros((8, 28, 28, 3))
        >>> ops.rearrange(images, "b (h y) (w x) c -> b (h w) (y x c)", y=7, x=7).shape  # patches of 7 x 7 pixels
        (8, 16, 147)
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
        raise ValueError(f"{name}: block_size must be at least 2, received {briefly(block_size)}")


@op
def depth_to_space(x, block_size: int, data_format: str | None = "channels_last") -> Tensor:
    """Rearrange channels into blocks of pixels, for a larger image: the inverse of `space_to_depth`.

    The order of the deep channels is (row, column, channel); (channel, row, column) for channels first.

    Args:
        x: Images of shape (n, h, w, b * b * c), where b is the block size; (n, b * b * c, h, w) for channels first.
        block_size: The height and width of a block, at least 2.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Returns:
        A tensor of shape (n, h * b, w * b, c), or (n, c, h * b, w * b), and x's dtype.

    Raises:
        ValueError: for a block size below 2, or channels that are not a multiple of its square.

    Example:
        >>> ops.depth_to_space(np.arange(4).reshape(1, 1, 1, 4), 2).numpy()[0, :, :, 0]
        array([[0, 1],
               [2, 3]])
        >>> ops.depth_to_space(ops.zeros((8, 14, 14, 12)), 2).shape
        (8, 28, 28, 3)
    """
    _check_block("depth_to_space", block_size)
    deep, wide = _BLOCKS[data_format_of("depth_to_space", data_format)]
    return rearrange(x, f"{deep} -> {wide}", a=block_size, b=block_size)


@op
def space_to_depth(x, block_size: int, data_format: str | None = "channels_last") -> Tensor:
    """Rearrange blocks of pixels into channels, for a smaller image: the inverse of `depth_to_space`.

    The order of the deep channels is (row, column, channel); (channel, row, column) for channels first.

    Args:
        x: Images of shape (n, h * b, w * b, c), where b is the block size; (n, c, h * b, w * b) for channels first.
        block_size: The height and width of a block, at least 2.
        data_format: 'channels_last' or 'channels_first'; None for `config.image_data_format()`.

    Returns:
        A tensor of shape (n, h, w, b * b * c), or (n, b * b * c, h, w), and x's dtype.

    Raises:
        ValueError: for a block size below 2, or a height or width that is not a multiple of it.

    Example:
        >>> ops.space_to_depth(np.arange(4).reshape(1, 2, 2, 1), 2).numpy()
        array([[[[0, 1, 2, 3]]]])
        >>> ops.space_to_depth(ops.zeros((8, 28, 28, 3)), 2).shape
        (8, 14, 14, 12)
    """
    _check_block("space_to_depth", block_size)
    deep, wide = _BLOCKS[data_format_of("space_to_depth", data_format)]
    return rearrange(x, f"{wide} -> {deep}", a=block_size, b=block_size)
