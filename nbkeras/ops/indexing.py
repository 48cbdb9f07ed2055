"""Ops that select elements: x[...], take, take_along_axis, pad, triangles, one_hot, sorting, top_k, nonzero.

Gradients flow to the selected elements and add up where an element is selected more than once. Positions are int32, as in
Keras.
"""

import math
import operator
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.dtypes import array_of, known_dtype
from nbkeras.engine.tensor import Tensor, Variable, apply, as_index, as_integer, as_tensor, op
from nbkeras.kernels import embedding as embedding_kernels
from nbkeras.kernels import indexing, scattering
from nbkeras.kernels import shape as shape_kernels
from nbkeras.ops import elementwise
from nbkeras.ops.arguments import axis_of, check_broadcast, check_int32, count_of, length_of, new_sizes, sizes_of
from nbkeras.ops.shape import (
    _one_axis,
    broadcast_to,
    moveaxis,
    reshape,
    stack,
    transpose,
)


@op
def getitem(x, key) -> Tensor:
    """The part `x[key]` of a tensor, as in NumPy.

    Args:
        x: A tensor of any dtype.
        key: An integer, a slice, None (a new axis), Ellipsis, an array or tensor of integers or booleans, or a tuple
            of these. The number of True booleans is read, so a step that indexes by booleans is not recorded.

    Returns:
        A tensor of x's dtype.

    Raises:
        TypeError: for a key that is none of these, such as a float or a single bool.
        IndexError: for an index out of range, too many indices, or a mask of another shape.

    Example:
        >>> x = ops.array([[1, 2, 3], [4, 5, 6]])
        >>> ops.getitem(x, (0, slice(None, None, 2))).numpy()
        array([1, 3], dtype=int32)
        >>> x[:, [2, 0]].numpy()
        array([[3, 1],
               [6, 4]], dtype=int32)
        >>> x[x > 4].numpy()
        array([5, 6], dtype=int32)
    """
    x = as_tensor(x)
    # TensorFlow and PyTorch take a list of slices as a tuple
    listed = isinstance(key, list) and any(part is None or isinstance(part, slice) for part in key)
    parts = _without_masks(x, list(key) if listed or isinstance(key, tuple) else [key])
    arrays = [i for i, part in enumerate(parts) if not _is_basic(part)]
    if not arrays:
        basic = tuple(part if part is None or isinstance(part, slice) or part is ... else int(part) for part in parts)
        try:
            return apply(shape_kernels.getitem, shape_kernels.getitem_vjp, [x], key=basic)
        except IndexError as error:
            raise IndexError(f"x[...] of a tensor of shape {x.shape}: {error}") from None
    chosen = [i for i, part in enumerate(parts) if part is not None and part is not ... and not isinstance(part, slice)]
    indices = [parts[i] for i in arrays]
    for i in arrays:
        parts[i] = slice(None)
    if any(part != slice(None) for part in parts):
        x = getitem(x, tuple(parts))
    axes = [_axis_at(parts, i, x.ndim) for i in arrays]
    if len(arrays) == 1:
        index, first = _indices("x[...]", indices[0]), axes[0]
        y = take(x, index, axis=first)
    else:
        index, first = _rows(x, axes, indices), 0
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        x = transpose(x, (*axes, *rest))
        y = take(reshape(x, (math.prod(x.shape[: len(axes)]), *x.shape[len(axes) :])), index, axis=0)
    # if the arrays are apart, their axes come first, as in NumPy
    apart = chosen != list(range(chosen[0], chosen[-1] + 1))
    place = 0 if apart else axes[0]
    return y if place == first else moveaxis(y, range(first, first + index.ndim), range(place, place + index.ndim))


def _without_masks(x: Tensor, parts: list) -> list:
    """A key's parts; each array of booleans becomes the positions of its True elements, one part per axis."""
    parts = [part if _is_basic(part) else as_tensor(part) for part in parts]
    counts = [0 if p is None or p is ... else p.ndim if _is_mask(p) else 1 for p in parts]
    replaced: list[Any] = []
    for i, part in enumerate(parts):
        if not _is_mask(part):
            replaced.append(part)
            continue
        axis = x.ndim - sum(counts[i:]) if any(p is ... for p in parts[:i]) else sum(counts[:i])
        if part.shape != x.shape[axis : axis + part.ndim]:
            raise IndexError(f"x[...]: a mask of shape {part.shape} does not fit axis {axis} on of shape {x.shape}")
        replaced.extend(nonzero(part))
    return replaced


def _is_mask(part: Any) -> bool:
    return isinstance(part, Tensor) and part.dtype.kind == "b"


def _rows(x: Tensor, axes: list[int], indices: list) -> Tensor:
    """Combine the arrays of indices for several axes of x into row numbers of x with these axes joined as the first one."""
    tensors = [_indices("x[...]", index) for index in indices]
    check_broadcast("x[...]", *tensors)
    shape = np.broadcast_shapes(*(tensor.shape for tensor in tensors))
    places = stack([reshape(broadcast_to(tensor, shape), (-1,)) for tensor in tensors], -1)
    sizes = tuple(x.shape[axis] for axis in axes)
    return reshape(apply(scattering.row_numbers, None, [places], sizes=sizes), shape)


get_item = getitem


def _is_basic(part: Any) -> bool:
    if part is None or part is ... or isinstance(part, slice):
        return True
    if isinstance(part, Tensor | np.ndarray | list) or hasattr(part, "symbolic_op"):
        return False
    if isinstance(part, bool):
        raise TypeError(f"x[{part}] is not supported: use ops.where, or multiply by a mask")
    try:
        operator.index(part)
    except TypeError:
        raise TypeError(
            f"a tensor is indexed by integers, slices, None, ... or an array of integers, received {briefly(part)}"
        ) from None
    return True


def _axis_at(parts: list, at: int, ndim: int) -> int:
    """The axis, in the result of basic indexing, of the full slice `parts[at]`."""
    if any(part is ... for part in parts[:at]):  # after an Ellipsis, axes are counted from the end
        return ndim - sum(part is None or isinstance(part, slice) for part in parts[at:])
    return sum(part is None or isinstance(part, slice) for part in parts[:at])


def _indices(name: str, indices: Any) -> Tensor:
    tensor = as_tensor(indices)
    if tensor.dtype.kind == "b":
        raise TypeError(f"{name}: indices must be integers, received booleans: use x[mask] or ops.where")
    return as_integer(tensor, f"{name}: indices")


@op
def take(x, indices, axis: int | None = None) -> Tensor:
    """The elements at given positions along an axis.

    Gradients add up where an element is taken more than once.

    Args:
        x: A tensor of any dtype.
        indices: Integers of any shape; negative ones count from the end.
        axis: The axis to take from; None for the flat tensor.

    Returns:
        A tensor of x's dtype. The indices' shape replaces the axis: shape (a, n, b) and indices (i, j) give
        (a, i, j, b).

    Raises:
        TypeError: for indices that are not integers.
        IndexError: for an index out of range.
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.take([[1, 2], [3, 4], [5, 6]], [2, 0], axis=0).numpy()
        array([[5, 6],
               [1, 2]], dtype=int32)
        >>> ops.take([10, 20, 30], [[0, -1]]).numpy()
        array([[10, 30]], dtype=int32)
    """
    index = _indices("take", indices)
    x, along = _one_axis("take", as_tensor(x), axis)
    return apply(indexing.take, indexing.take_vjp, [x, index], axis=along)


@op
def embedding(indices, table) -> Tensor:
    """Look up rows of a table: y[..., :] = table[indices[...], :].

    The gradient is added into the rows that were used, and is 0 elsewhere.

    Args:
        indices: Row numbers of any shape (...). Floats are truncated; a negative number counts from the end;
            a number outside the table gives a row of NaN and no gradient, as Keras on JAX does.
        table: Floats (rows, width), or such a table quantized by rows.

    Returns:
        A tensor (..., width) of table's dtype. Differentiable in table.

    Raises:
        ValueError: if the table is not a float matrix.

    Example:
        >>> table = np.array([[0.0, 0.0], [1.0, 1.5], [2.0, 2.5]])
        >>> ops.embedding([2, 0, 2], table).numpy()
        array([[2. , 2.5],
               [0. , 0. ],
               [2. , 2.5]])
    """
    if getattr(table, "is_quantized", False):
        return table.rows(indices)
    table = table if type(table) is Variable else as_tensor(table)
    if table.ndim != 2 or table.dtype.kind != "f":
        raise ValueError(
            f"embedding: the table must be a float matrix (rows, width), received shape {table.shape} of dtype "
            f"{table.dtype}"
        )
    return apply(embedding_kernels.gather, embedding_kernels.gather_vjp, [table, as_index(indices)])


@op
def take_along_axis(x, indices, axis: int | None = None) -> Tensor:
    """One element for each index along an axis: y[i, j] = x[i, indices[i, j]] for the last axis of two.

    Args:
        x: A tensor of any dtype.
        indices: Integers with as many axes as x; the other sizes broadcast with x's; negative ones count from the
            end.
        axis: The axis to take from; None flattens both.

    Returns:
        A tensor of x's dtype and the shape of indices, broadcast along the other axes.

    Raises:
        TypeError: for indices that are not integers.
        IndexError: for an index out of range.
        ValueError: if indices and x have different numbers of axes.

    Example:
        >>> x = ops.array([[30, 10, 20], [5, 7, 6]])
        >>> ops.take_along_axis(x, ops.argsort(x), axis=1).numpy()
        array([[10, 20, 30],
               [ 5,  6,  7]], dtype=int32)
    """
    index = _indices("take_along_axis", indices)
    x, along = _one_axis("take_along_axis", as_tensor(x), axis)
    index = reshape(index, (-1,)) if axis is None else index
    if index.ndim != x.ndim:
        raise ValueError(f"take_along_axis: indices must have x's number of axes, {x.ndim}, received {index.shape}")
    sizes = [1 if i == along else max(x.shape[i], index.shape[i]) for i in range(x.ndim)]
    x_shape, index_shape = (
        tuple(each.shape[along] if i == along else n for i, n in enumerate(sizes)) for each in (x, index)
    )
    if x.shape != x_shape:
        x = broadcast_to(x, x_shape)
    if index.shape != index_shape:
        index = broadcast_to(index, index_shape)
    return apply(indexing.take_along_axis, indexing.take_along_axis_vjp, [x, index], axis=along)


# -------------------- padding and triangles --------------------


@op
def pad(x, pad_width, mode: str = "constant", constant_values=None) -> Tensor:
    """Add elements at both ends of the axes.

    Args:
        x: A tensor of any dtype.
        pad_width: The numbers of elements to add: ((before, after), ...) for each axis, or one pair or one number for
            all axes.
        mode: 'constant' adds one value; 'edge' repeats the last element; 'reflect' mirrors without the last element,
            'symmetric' with it; 'wrap' continues with the elements at the other end.
        constant_values: The value for 'constant', a number; None for 0.

    Returns:
        A tensor of x's dtype with longer axes.

    Raises:
        ValueError: for negative or unsuitable widths, an unknown mode, or constant_values without mode
            'constant'.

    Example:
        >>> ops.pad([[1, 2]], ((1, 0), (0, 2))).numpy()
        array([[0, 0, 0, 0],
               [1, 2, 0, 0]], dtype=int32)
        >>> ops.pad([1, 2, 3], 2, mode="reflect").numpy()
        array([3, 2, 1, 2, 3, 2, 1], dtype=int32)
    """
    x = as_tensor(x)
    try:
        widths = tuple(sizes_of("pad", width.tolist()) for width in np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)))
    except (ValueError, TypeError):
        raise ValueError(
            f"pad: pad_width must hold (before, after) for each of the {x.ndim} axes, received {briefly(pad_width)}"
        ) from None
    if any(n < 0 for width in widths for n in width):
        raise ValueError(f"pad: pad_width must not be negative, received {briefly(pad_width)}")
    new_sizes("pad", tuple(size + sum(width) for size, width in zip(x.shape, widths, strict=True)))
    if mode == "constant":
        value = array_of(0 if constant_values is None else constant_values, x.dtype)
        if value.ndim:
            raise ValueError(f"pad: constant_values must be one number, received {briefly(constant_values)}")
        if not any(map(any, widths)):  # always for a number, which has no axes
            return x
        return apply(shape_kernels.pad, shape_kernels.pad_vjp, [x], widths=widths, value=value[()])
    one_of("pad", "mode", mode, ("constant", "edge", "reflect", "symmetric", "wrap"))
    if constant_values is not None:
        raise ValueError(
            f"pad: constant_values are for mode 'constant', received {briefly(constant_values)} with {briefly(mode)}"
        )
    for axis, width in enumerate(widths):
        if width != (0, 0) and not x.shape[axis]:
            raise ValueError(f"pad: axis {axis} of a tensor of shape {x.shape} has no element for mode {mode!r}")
        if width != (0, 0):
            load_budget.take_briefly(24 * (x.shape[axis] + sum(width)), f"padding of {width}")
            x = take(x, np.pad(np.arange(x.shape[axis]), width, mode=mode), axis=axis)  # type: ignore[call-overload]
    return x


def _triangle(name: str, keep: Any, x: Any, k: int) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"{name}: expected at least two axes, received shape {x.shape}")
    load_budget.take_briefly(8 * x.shape[-2] * x.shape[-1], f"{name} of matrices of shape {x.shape[-2:]}")
    return elementwise.where(keep(np.ones(x.shape[-2:], np.bool_), k), x, x.dtype.type(0))


@op
def tril(x, k: int = 0) -> Tensor:
    """The lower triangles of matrices: zeros above a diagonal.

    Args:
        x: A tensor of shape (..., rows, columns).
        k: The distance above the main diagonal up to which elements stay; negative below it.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for fewer than two axes.

    Example:
        >>> ops.tril([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).numpy()
        array([[1, 0, 0],
               [4, 5, 0],
               [7, 8, 9]], dtype=int32)
    """
    return _triangle("tril", np.tril, x, k)


@op
def triu(x, k: int = 0) -> Tensor:
    """The upper triangles of matrices: zeros below a diagonal.

    Args:
        x: A tensor of shape (..., rows, columns).
        k: The distance above the main diagonal from which elements stay; negative below it.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for fewer than two axes.

    Example:
        >>> ops.triu([[1, 2, 3], [4, 5, 6], [7, 8, 9]], k=1).numpy()
        array([[0, 2, 3],
               [0, 0, 6],
               [0, 0, 0]], dtype=int32)
    """
    return _triangle("triu", np.triu, x, k)


# -------------------- one_hot, sorting --------------------


@op
def one_hot(x, num_classes: int, axis: int = -1, dtype=None, sparse: bool = False) -> Tensor:
    """Vectors with 1 at the class and 0 elsewhere.

    Args:
        x: Classes of any shape; floats are truncated. A class that is negative or too large gives zeros.
        num_classes: The number of classes.
        axis: The position of the new axis of the classes in the result.
        dtype: The dtype of the result; None for `config.floatx()`.
        sparse: Must be False: there are no sparse tensors.

    Returns:
        A tensor of x's shape with a new axis of size num_classes.

    Raises:
        ValueError: for sparse=True, or an axis that the result does not have.

    Example:
        >>> ops.one_hot([0, 2, 5], num_classes=3).numpy()
        array([[1., 0., 0.],
               [0., 0., 1.],
               [0., 0., 0.]], dtype=float32)
    """
    if sparse:
        raise ValueError("one_hot: sparse tensors are not supported, use sparse=False")
    x = as_index(x)  # float labels are allowed, as in Keras
    along, classes = axis_of("one_hot", axis, x.ndim + 1), count_of("one_hot", "num_classes", num_classes)
    return apply(indexing.one_hot, None, [x], classes=classes, axis=along, dtype=known_dtype(dtype))


@op
def argsort(x, axis: int | None = -1) -> Tensor:
    """The positions that sort a tensor along an axis; equal elements keep their order, and NaN comes last.

    Args:
        x: A tensor of any shape.
        axis: The axis to sort; None for the flat tensor.

    Returns:
        An int32 tensor of x's shape, or of shape (x.size,) for axis None.

    Raises:
        ValueError: for an axis that x does not have, or for positions that do not fit in int32.

    Example:
        >>> ops.argsort([30, 10, 20]).numpy()
        array([1, 2, 0], dtype=int32)
    """
    x = as_tensor(x)
    check_int32("argsort", length_of("argsort", axis, x) - 1)
    x, along = _one_axis("argsort", x, axis)
    return apply(indexing.argsort, None, [x], axis=along)


@op
def sort(x, axis: int = -1) -> Tensor:
    """The elements in rising order along an axis; NaN comes last.

    Args:
        x: A tensor of any shape.
        axis: The axis to sort.

    Returns:
        A tensor of x's shape and dtype.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.sort([[3, 1, 2], [9, 7, 8]]).numpy()
        array([[1, 2, 3],
               [7, 8, 9]], dtype=int32)
    """
    x = as_tensor(x)
    return take_along_axis(x, argsort(x, axis), axis)


@op
def top_k(x, k: int, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest elements along the last axis, largest first, and their positions.

    Args:
        x: A tensor with at least one axis.
        k: The number of elements, from 0 to the size of the last axis.
        sorted: Ignored: the elements are always sorted.

    Returns:
        A tuple (values, positions) of shape (..., k), in x's dtype and int32.

    Raises:
        ValueError: for a k out of this range, or for positions that do not fit in int32.

    Example:
        >>> values, positions = ops.top_k([10, 50, 30], k=2)
        >>> values.numpy(), positions.numpy()
        (array([50, 30], dtype=int32), array([1, 2], dtype=int32))
    """
    x = as_tensor(x)
    if x.ndim == 0 or not 0 <= k <= x.shape[-1]:
        raise ValueError(
            f"top_k: k must be from 0 to the size of the last axis, received k={briefly(k)} and shape {x.shape}"
        )
    check_int32("top_k", x.shape[-1] - 1)
    positions = apply(indexing.largest, None, [x], count=k)
    return take_along_axis(x, positions, -1), positions


# -------------------- positions --------------------


@op
def unravel_index(indices, shape) -> tuple[Tensor, ...]:
    """The index on each axis of positions in a flat tensor.

    Args:
        indices: Positions, integers of any shape; negative ones count from the end.
        shape: The shape of the tensor.

    Returns:
        A tuple with a tensor for each axis, of the shape and dtype of indices. Positions out of range are not
        checked: they wrap around.

    Example:
        >>> rows, columns = ops.unravel_index([1, 5], (2, 3))
        >>> rows.numpy(), columns.numpy()
        (array([0, 1], dtype=int32), array([1, 2], dtype=int32))
    """
    index, sizes = as_tensor(indices), sizes_of("unravel_index", shape)
    by_axis: list[Tensor] = []
    for size in reversed(sizes):
        by_axis.append(elementwise.mod(index, size))
        index = elementwise.floor_divide(index, size)
    return tuple(reversed(by_axis))


@op
def nonzero(x) -> tuple[Tensor, ...]:
    """The positions of the elements that are not 0.

    Their number is read: the step is not recorded, and x must not be symbolic.

    Args:
        x: A tensor of any shape.

    Returns:
        A tuple with an int32 vector for each axis.

    Raises:
        ValueError: for more elements than int32 can count.

    Example:
        >>> rows, columns = ops.nonzero([[1, 0], [0, 2], [3, 0]])
        >>> rows.numpy(), columns.numpy()
        (array([0, 1, 2], dtype=int32), array([0, 1, 0], dtype=int32))
    """
    x = as_tensor(x)
    check_int32("nonzero", x.size)
    is_zero = reshape(elementwise.equal(x, as_tensor(0, x.dtype)), (x.size,))
    count = x.size - np.count_nonzero(is_zero.numpy())
    order = argsort(as_tensor(is_zero, np.int32), 0)
    return unravel_index(getitem(order, slice(count)), x.shape)
