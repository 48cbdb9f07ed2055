"""Ops that write at integer positions, and ops that find such positions: scatter, slices, segments, sorted values.

Ops with a shape that depends on values (`unique` without a size, `bincount`) read these values, so a step that uses
one of them is not recorded. They do not accept symbolic tensors.
"""

import builtins
import math
from typing import Any, Literal, overload

import numpy as np

from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, apply, as_integer, as_tensor, op, promote
from nbkeras.kernels import scattering
from nbkeras.kernels import shape as shape_kernels
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, indexing, reduce
from nbkeras.ops.arguments import check_int32, count_of, length_of, sizes_of
from nbkeras.ops.creation import arange, full, ones, zeros
from nbkeras.ops.shape import broadcast_to, expand_dims, reshape, stack, unstack

_REDUCTIONS: dict[str | None, np.ufunc | None] = {
    None: None,
    "add": np.add,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
}


def _combined(x: Tensor, rows: Tensor, updates: Tensor, how: np.ufunc | None) -> Tensor:
    """Write or combine updates (m, ...) into the rows (m,) of x, which may have any shape."""
    flat = reshape(x, (x.shape[0], math.prod(x.shape[1:])))
    new = reshape(updates, (rows.shape[0], flat.shape[1]))
    return reshape(apply(scattering.combine, scattering.combine_vjp, [flat, rows, new], how=how), x.shape)


def _update_at(name: str, x: Tensor, indices: Any, updates: Any, how: np.ufunc | None) -> Tensor:
    """Write or combine updates at index tuples (..., k); updates have the tuples' shape, then x's axes after the first k."""
    index = as_integer(indices, f"{name}: indices")
    count = index.shape[-1] if index.ndim else 0
    if not 1 <= count <= x.ndim:
        raise ValueError(
            f"{name}: indices must be (..., k) with k from 1 to the {x.ndim} axes of shape {x.shape}, received {index.shape}"
        )
    new, shape = as_tensor(updates, x.dtype), (*index.shape[:-1], *x.shape[count:])
    if broadcast_shape(shape, new.shape) != shape:
        raise ValueError(f"{name}: the values of indices {index.shape} must have shape {shape}, received {new.shape}")
    flat = reshape(index, (math.prod(index.shape[:-1]), count))
    rows = apply(scattering.row_numbers, None, [flat], sizes=x.shape[:count])
    y = _combined(reshape(x, (math.prod(x.shape[:count]), *x.shape[count:])), rows, broadcast_to(new, shape), how)
    return reshape(y, x.shape)


@op
def scatter(indices, values, shape) -> Tensor:
    """A tensor of zeros with values added at given positions.

    Args:
        indices: Integers of shape (..., k): each row is a position on the first k axes. Negative ones count from
            the end.
        values: A value for each position, or a slice of the axes after k: (..., the shape's axes after k).
        shape: The shape of the result.

    Returns:
        A tensor of that shape and the dtype of values. Values at the same position are added up.

    Raises:
        TypeError: for indices that are not integers.
        IndexError: for a position outside the shape.
        ValueError: if the shapes of indices and values do not fit.

    Example:
        >>> ops.scatter([[0], [2], [0]], [1.0, 2.0, 3.0], (4,)).numpy()
        array([4., 0., 2., 0.], dtype=float32)
    """
    values = as_tensor(values)
    return _update_at("scatter", zeros(shape, values.dtype), indices, values, np.add)


@op
def scatter_update(inputs, indices, updates, reduction: str | None = None) -> Tensor:
    """A copy of a tensor with values written, or combined, at given positions.

    Args:
        inputs: A tensor with at least one axis.
        indices: Integers of shape (..., k): each row is a position on the first k axes. Negative ones count from
            the end.
        updates: A value for each position, or a slice of the axes after k; they are converted to the dtype of inputs.
        reduction: None to write, so that the last update of a position wins; 'add', 'max', 'min' or 'mul' to combine
            with the present value.

    Returns:
        A tensor of the shape and dtype of inputs.

    Raises:
        TypeError: for indices that are not integers.
        IndexError: for a position outside inputs.
        ValueError: if the shapes do not fit, or for an unknown reduction.

    Example:
        >>> ops.scatter_update([[1, 2], [3, 4]], [[0, 0], [1, 1]], [8, 9]).numpy()
        array([[8, 2],
               [3, 9]], dtype=int32)
        >>> ops.scatter_update([10, 20, 30], [[0], [0]], [1, 2], reduction="add").numpy()
        array([13, 20, 30], dtype=int32)
    """
    how = _REDUCTIONS[one_of("scatter_update", "reduction", reduction, _REDUCTIONS)]
    return _update_at("scatter_update", as_tensor(inputs), indices, updates, how)


# -------------------- slices --------------------


def _starts(name: str, x: Tensor, start_indices: Any, shape: tuple[int, ...]) -> tuple[list, bool]:
    """The slice's start on each axis, clamped so that the slice lies inside, and whether all starts are plain integers."""
    if not isinstance(start_indices, Tensor | list | tuple | np.ndarray):
        raise TypeError(f"{name}: the start must be an integer for each axis, received {briefly(start_indices)}")
    is_list = isinstance(start_indices, list | tuple)
    known = not isinstance(start_indices, Tensor) and not (
        is_list and any(isinstance(s, Tensor) for s in start_indices)
    )
    starts: Any
    if known:
        starts = sizes_of(name, start_indices)
    else:
        is_vector = isinstance(start_indices, Tensor)
        given = start_indices if is_vector else stack([as_integer(s, "start_indices") for s in start_indices])
        starts = unstack(as_integer(given, "start_indices"))
    if not len(starts) == len(shape) == x.ndim or any(
        n > size or n < 0 for n, size in zip(shape, x.shape, strict=False)
    ):
        at = briefly(start_indices)
        raise ValueError(f"{name}: a slice of shape {shape} at {at} does not fit into shape {x.shape}")
    last = [size - n for n, size in zip(shape, x.shape, strict=True)]
    if known:
        return [min(max(s, 0), maximum) for s, maximum in zip(starts, last, strict=True)], True
    return [elementwise.clip(s, 0, maximum) for s, maximum in zip(starts, last, strict=True)], False


@op
def slice(inputs, start_indices, shape) -> Tensor:
    """The part of a tensor that begins at a position and has a given shape.

    The position may be a tensor and then may differ from step to step; the bounds of `x[a:b]` are fixed in a
    recorded step.

    Args:
        inputs: A tensor of any dtype.
        start_indices: The first index on each axis, a list or a tensor of integers. If the part would end outside
            the tensor, it is moved inside; so negative numbers mean 0.
        shape: The size of the part on each axis; -1 for all that follows the start.

    Returns:
        A tensor of that shape and the dtype of inputs.

    Raises:
        ValueError: for a part larger than the tensor, or a wrong number of axes.

    Example:
        >>> ops.slice([[1, 2, 3], [4, 5, 6]], (0, 1), (2, 2)).numpy()
        array([[2, 3],
               [5, 6]], dtype=int32)
        >>> ops.slice([1, 2, 3, 4], [3], [2]).numpy()  # moved inside
        array([3, 4], dtype=int32)
    """
    x = as_tensor(inputs)
    sizes = sizes_of("slice", shape)
    if -1 in sizes:
        start_indices = sizes_of("slice", start_indices)
        if len(start_indices) == len(sizes) == x.ndim:
            rest = [size - start for size, start in zip(x.shape, start_indices, strict=True)]
            sizes = tuple(left if n == -1 else n for left, n in zip(rest, sizes, strict=True))
    starts, known = _starts("slice", x, start_indices, sizes)
    if known:
        return indexing.getitem(x, tuple(builtins.slice(s, s + n) for s, n in zip(starts, sizes, strict=True)))
    for axis, (start, count) in enumerate(zip(starts, sizes, strict=True)):
        x = indexing.take(x, elementwise.add(arange(count), start), axis)
    return x


@op
def slice_update(inputs, start_indices, updates) -> Tensor:
    """A copy of a tensor with a part replaced.

    Args:
        inputs: A tensor of any dtype.
        start_indices: The first index of the part on each axis, a list or a tensor of integers. If the part would end
            outside the tensor, it is moved inside; so negative numbers mean 0.
        updates: The new values, with as many axes as inputs; they are converted to the dtype of inputs.

    Returns:
        A tensor of the shape and dtype of inputs.

    Raises:
        ValueError: for updates larger than the tensor, or a wrong number of axes.

    Example:
        >>> ops.slice_update([1, 2, 3, 4], [1], [8, 9]).numpy()
        array([1, 8, 9, 4], dtype=int32)
    """
    x = as_tensor(inputs)
    new = as_tensor(updates, x.dtype)
    starts, known = _starts("slice_update", x, start_indices, new.shape)
    if known:
        key = tuple(builtins.slice(s, s + n) for s, n in zip(starts, new.shape, strict=True))
        return apply(shape_kernels.set_slice, shape_kernels.set_slice_vjp, [x, new], key=key)
    rows = zeros(new.shape, "int64")
    for axis, (start, count) in enumerate(zip(starts, new.shape, strict=True)):
        places = reshape(elementwise.add(arange(count, dtype="int64"), start), [-1] + [1] * (x.ndim - axis - 1))
        rows = elementwise.add(elementwise.multiply(rows, x.shape[axis]), places)
    return reshape(
        _combined(reshape(x, (x.size,)), reshape(rows, (new.size,)), reshape(new, (new.size,)), None), x.shape
    )


# -------------------- segments --------------------


def _segments(name: str, how: np.ufunc, start: Any, data: Any, segment_ids: Any, num_segments: int | None) -> Tensor:
    x, ids = as_tensor(data), as_integer(segment_ids, f"{name}: segment_ids")
    if ids.ndim != 1 or x.ndim == 0 or ids.shape[0] != x.shape[0]:
        raise ValueError(
            f"{name}: expected one segment number for each of data's rows, received {ids.shape} and {x.shape}"
        )
    if num_segments is None:
        count = int(reduce.max(ids)) + 1 if ids.size else 0
    else:
        count = count_of(name, "num_segments", num_segments)
    return _combined(full((count, *x.shape[1:]), start(x.dtype), x.dtype), ids, x, how)


def _lowest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return False
    return -math.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype) -> Any:
    if dtype.kind == "b":
        return True
    return math.inf if dtype.kind == "f" else np.iinfo(dtype).max


@op
def segment_sum(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The sum of the rows of each segment.

    Args:
        data: A tensor of shape (n, ...).
        segment_ids: Integers of shape (n,): the segment number of each row, in any order. Rows with a
            negative or too large number are skipped.
        num_segments: The number of segments; None for the largest number + 1, which is read.
        sorted: Ignored: the numbers need not be sorted.

    Returns:
        A tensor of shape (num_segments, ...) and the dtype of data; 0 for a segment without rows.

    Raises:
        TypeError: for segment_ids that are not integers.
        ValueError: unless there is one number for each row.

    Example:
        >>> ops.segment_sum([[1, 2], [3, 4], [5, 6]], [0, 2, 0], num_segments=3).numpy()
        array([[6, 8],
               [0, 0],
               [3, 4]], dtype=int32)
    """
    return _segments("segment_sum", np.add, lambda dtype: 0, data, segment_ids, num_segments)


@op
def segment_prod(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The product of the rows of each segment.

    Args:
        data: A tensor of shape (n, ...).
        segment_ids: Integers of shape (n,): the segment number of each row, in any order. Rows with a
            negative or too large number are skipped.
        num_segments: The number of segments; None for the largest number + 1, which is read.
        sorted: Ignored: the numbers need not be sorted.

    Returns:
        A tensor of shape (num_segments, ...) and the dtype of data; 1 for a segment without rows.

    Raises:
        TypeError: for segment_ids that are not integers.
        ValueError: unless there is one number for each row.

    Example:
        >>> ops.segment_prod([2, 3, 4], [0, 2, 0], num_segments=3).numpy()
        array([8, 1, 3], dtype=int32)
    """
    return _segments("segment_prod", np.multiply, lambda dtype: 1, data, segment_ids, num_segments)


@op
def segment_max(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The largest element of the rows of each segment.

    Args:
        data: A tensor of shape (n, ...).
        segment_ids: Integers of shape (n,): the segment number of each row, in any order. Rows with a
            negative or too large number are skipped.
        num_segments: The number of segments; None for the largest number + 1, which is read.
        sorted: Ignored: the numbers need not be sorted.

    Returns:
        A tensor of shape (num_segments, ...) and the dtype of data; -infinity, the lowest integer, or False,
        for a segment without rows.

    Raises:
        TypeError: for segment_ids that are not integers.
        ValueError: unless there is one number for each row.

    Example:
        >>> ops.segment_max([2.0, 3.0, 4.0], [0, 2, 0], num_segments=3).numpy()
        array([  4., -inf,   3.], dtype=float32)
    """
    return _segments("segment_max", np.maximum, _lowest, data, segment_ids, num_segments)


@op
def segment_min(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The smallest element of the rows of each segment.

    Args:
        data: A tensor of shape (n, ...).
        segment_ids: Integers of shape (n,): the segment number of each row, in any order. Rows with a
            negative or too large number are skipped.
        num_segments: The number of segments; None for the largest number + 1, which is read.
        sorted: Ignored: the numbers need not be sorted.

    Returns:
        A tensor of shape (num_segments, ...) and the dtype of data; infinity, the highest integer, or True,
        for a segment without rows.

    Raises:
        TypeError: for segment_ids that are not integers.
        ValueError: unless there is one number for each row.

    Example:
        >>> ops.segment_min([2.0, 3.0, 4.0], [0, 2, 0], num_segments=3).numpy()
        array([ 2., inf,  3.], dtype=float32)
    """
    return _segments("segment_min", np.minimum, _highest, data, segment_ids, num_segments)


# -------------------- searching --------------------


@op
def searchsorted(sorted_sequence, values, side: str = "left") -> Tensor:
    """The positions at which values would be inserted into a sorted vector.

    Args:
        sorted_sequence: A vector in ascending order.
        values: Numbers of any shape.
        side: 'left' for the position before equal elements, 'right' for the one after them.

    Returns:
        An int32 tensor of the shape of values.

    Raises:
        ValueError: for a sorted_sequence that is not a vector, an unknown side, or for positions that do not fit in int32.

    Example:
        >>> ops.searchsorted([1, 3, 5], [0, 3, 9]).numpy()
        array([0, 1, 3], dtype=int32)
        >>> ops.searchsorted([1, 3, 5], [0, 3, 9], side="right").numpy()
        array([0, 2, 3], dtype=int32)
    """
    line, values = promote(sorted_sequence, values)
    if line.ndim != 1 or side not in ("left", "right"):
        raise ValueError(
            f"searchsorted: expected a vector and side 'left' or 'right', received shape {line.shape} and {briefly(side)}"
        )
    check_int32("searchsorted", line.size)
    return apply(scattering.search, None, [line, values], side=side)


@op
def digitize(x, bins) -> Tensor:
    """The bin of each number: the number of edges that are not above it.

    Args:
        x: Numbers of any shape.
        bins: The edges of the bins, a vector in ascending order. An edge belongs to the bin above it.

    Returns:
        An int32 tensor of x's shape: 0 below the first edge, len(bins) at and above the last edge.

    Raises:
        ValueError: for bins that are not a vector.

    Example:
        >>> ops.digitize([-1.0, 0.0, 0.5, 7.0], bins=[0.0, 1.0, 2.0]).numpy()
        array([0, 1, 1, 3], dtype=int32)
    """
    return searchsorted(bins, x, side="right")


@op
def isin(x1, x2, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element of x1 occurs in x2. NaN equals nothing.

    Args:
        x1: A tensor of any shape.
        x2: The elements to look for, of any shape.
        assume_unique: Ignored: the result is the same.
        invert: Whether to return the opposite.

    Returns:
        A bool tensor of x1's shape.

    Example:
        >>> ops.isin([1, 2, 3], [3, 1, 7]).numpy()
        array([ True, False,  True])
    """
    x1, x2 = promote(x1, x2)
    line = indexing.sort(reshape(x2, (x2.size,)), 0)
    if x2.size == 0:
        found = elementwise.not_equal(x1, x1)
    else:
        place = elementwise.minimum(searchsorted(line, x1), x2.size - 1)
        found = elementwise.equal(indexing.take(line, place), x1)
    return elementwise.logical_not(found) if invert else found


@op
def argpartition(x, kth: int, axis: int | None = -1) -> Tensor:
    """Positions that put the kth smallest element at index kth, smaller ones before it and larger ones after it.

    They sort x fully, so this is `argsort`.

    Args:
        x: A tensor of any shape.
        kth: The index; negative ones count from the end.
        axis: The axis to order; None for the flat tensor.

    Returns:
        An int32 tensor of x's shape, or of shape (x.size,) for axis None.

    Raises:
        ValueError: for a kth that does not exist along the axis, or an axis that x does not have.

    Example:
        >>> ops.argpartition([30, 10, 20], 1).numpy()
        array([1, 2, 0], dtype=int32)
    """
    x = as_tensor(x)
    size = length_of("argpartition", axis, x)
    if not -size <= kth < size:
        raise ValueError(f"argpartition: kth must lie in [-{size}, {size}), received {briefly(kth)}")
    return indexing.argsort(x, axis)


@op
def select(condlist, choicelist, default: Any = 0) -> Tensor:
    """The choice that belongs to the first true condition, for each element.

    Args:
        condlist: A list of conditions, bool tensors.
        choicelist: A list with a tensor for each condition. All conditions and choices broadcast.
        default: The result if no condition is true.

    Returns:
        A tensor of the common dtype of the choices and the default.

    Raises:
        ValueError: for empty lists, or lists of different lengths.

    Example:
        >>> x = ops.array([-2.0, 0.5, 3.0])
        >>> ops.select([x < 0, x > 1], [x + 10, x * 10], default=-1.0).numpy()
        array([ 8., -1., 30.], dtype=float32)
    """
    for what, values in (("condlist", condlist), ("choicelist", choicelist)):
        if not isinstance(values, list | tuple):
            raise TypeError(f"select: {what} must be a list of tensors, received {briefly(values)}")
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: expected the same number of conditions and choices, at least one of each, received {len(condlist)} and "
            f"{len(choicelist)}"
        )
    *choices, y = promote(*choicelist, default)
    for condition, choice in zip(reversed(condlist), reversed(choices), strict=True):
        y = elementwise.where(condition, choice, y)
    return y


@op
def multi_hot(inputs, num_classes: int, axis: int = -1, dtype=None, sparse: bool = False) -> Tensor:
    """Vectors with 1 at each of several classes, and 0 elsewhere.

    Args:
        inputs: The classes of each sample, of shape (batch, k), or (k,) for one sample. A class out of range is
            left out.
        num_classes: The number of classes.
        axis: The axis of the classes in `one_hot(inputs)`, before the maximum over axis 1 (axis 0 for one sample):
            keep -1.
        dtype: The dtype of the result; None for `config.floatx()`.
        sparse: Must be False: there are no sparse tensors.

    Returns:
        A tensor of shape (batch, num_classes), or (num_classes,).

    Raises:
        ValueError: for sparse=True, or an axis that does not exist.

    Example:
        >>> ops.multi_hot([[0, 2], [1, 1]], num_classes=4).numpy()
        array([[1., 0., 1., 0.],
               [0., 1., 0., 0.]], dtype=float32)
    """
    if sparse:
        raise ValueError("multi_hot: sparse tensors are not supported, use sparse=False")
    x = as_tensor(inputs)
    return reduce.max(indexing.one_hot(x, num_classes, axis, dtype), axis=1 if x.ndim > 1 else 0)


# -------------------- shapes that depend on values --------------------


@overload
def unique(
    x,
    sorted: bool = ...,
    return_index: Literal[False] = ...,
    return_inverse: Literal[False] = ...,
    return_counts: Literal[False] = ...,
    axis: int | None = ...,
    size: int | None = ...,
    fill_value: Any = ...,
) -> Tensor: ...
@overload
def unique(
    x,
    sorted: bool = ...,
    return_index: bool = ...,
    return_inverse: bool = ...,
    return_counts: bool = ...,
    axis: int | None = ...,
    size: int | None = ...,
    fill_value: Any = ...,
) -> Any: ...
@op
def unique(
    x,
    sorted: bool = True,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The distinct values of a tensor, in ascending order.

    If size is None, the number of values is read: the step is not recorded and x must not be symbolic.

    Args:
        x: A tensor of any shape, which is flattened; not empty.
        sorted: Ignored: the values are always sorted.
        return_index: Whether to return the first position of each value in the flat tensor.
        return_inverse: Whether to return the position of each element of x in the result.
        return_counts: Whether to return the count of each value.
        axis: Must be None.
        size: The length to which the result is cut or padded; None for the number of values.
        fill_value: The padding value; None for the smallest value.

    Returns:
        A vector of x's dtype, or a tuple of it and the other results in the order of their arguments: int32, with
        the vector's shape, or x's shape for return_inverse.

    Raises:
        ValueError: for an empty tensor, an axis, or more elements than int32 can count.

    Example:
        >>> values, counts = ops.unique([3, 1, 3, 3], return_counts=True)
        >>> values.numpy(), counts.numpy()
        (array([1, 3], dtype=int32), array([1, 3], dtype=int32))
        >>> ops.unique([3, 1, 3, 3], size=4, fill_value=-1).numpy()
        array([ 1,  3, -1, -1], dtype=int32)
    """
    if axis is not None:
        raise ValueError("unique: axis must be None: the values of the whole tensor are compared")
    x = as_tensor(x)
    if x.size == 0:
        raise ValueError("unique: the tensor is empty")
    check_int32("unique", x.size)
    flat = reshape(x, (x.size,))
    order = indexing.argsort(flat, 0)
    line = indexing.take(flat, order)
    is_new = elementwise.not_equal(line[1:], line[:-1])  # type: ignore[index]
    places = as_tensor(indexing.pad(reduce.cumsum(as_tensor(is_new, np.int32)), (1, 0)), np.int64)
    count = int(reduce.max(places)) + 1 if size is None else size
    tally = segment_sum(ones(x.size, "int32"), places, count)
    first = segment_min(order, places, count)
    there = elementwise.greater(tally, 0)
    filler = line[0] if fill_value is None else as_tensor(fill_value, x.dtype)
    first = elementwise.where(there, first, order[0])
    values = elementwise.where(there, indexing.take(flat, first), filler)
    inverse = scatter_update(zeros((x.size,), "int32"), expand_dims(order, 1), as_tensor(places, np.int32))
    more = ((return_index, first), (return_inverse, reshape(inverse, x.shape)), (return_counts, tally))
    results = [values, *(result for wanted, result in more if wanted)]
    return tuple(results) if len(results) > 1 else values


@op
def bincount(x, weights=None, minlength: int = 0, sparse: bool = False) -> Tensor:
    """The count of each of the numbers 0, 1, 2, ..., or the sum of their weights.

    The largest number is read: the step is not recorded, and x must not be symbolic.

    Args:
        x: Integers of shape (n,) or (rows, n). Negative numbers are not counted.
        weights: A weight for each number, of x's shape; None for 1.
        minlength: The minimum length of the result.
        sparse: Must be False: there are no sparse tensors.

    Returns:
        A tensor of shape (length,) or (rows, length), where length is the largest number + 1, or minlength if that is
        larger; int32, or the dtype of weights.

    Raises:
        TypeError: for numbers that are not integers.
        ValueError: for sparse=True, unless x has one or two axes, or for more numbers than int32 can count.

    Example:
        >>> ops.bincount([1, 1, 3]).numpy()
        array([0, 2, 0, 1], dtype=int32)
        >>> ops.bincount([1, 1, 3], weights=[0.5, 1.0, 2.0], minlength=5).numpy()
        array([0. , 1.5, 0. , 2. , 0. ], dtype=float32)
    """
    if sparse:
        raise ValueError("bincount: sparse tensors are not supported, use sparse=False")
    x = as_tensor(x)
    check_int32("bincount", x.shape[-1] if x.ndim else 1)
    numbers = as_integer(x, "bincount: numbers")
    if numbers.ndim not in (1, 2):
        raise ValueError(f"bincount: expected one or two axes, received shape {numbers.shape}")
    length = max(int(reduce.max(numbers)) + 1 if numbers.size else 0, minlength)
    counted = ones(numbers.shape, "int32") if weights is None else as_tensor(weights)
    if numbers.ndim == 1:
        return segment_sum(counted, numbers, length)
    rows = numbers.shape[0]
    offsets = as_tensor(np.arange(rows)[:, None] * length)
    places = elementwise.where(elementwise.less(numbers, 0), -1, elementwise.add(numbers, offsets))
    flat = segment_sum(reshape(counted, (-1,)), reshape(places, (-1,)), rows * length)
    return reshape(flat, (rows, length))
