"""Ops that write at integer positions, and ops that find such positions: scatter, slices, segments, sorted values.

Ops whose result's shape depends on values (`unique` without a size, `bincount`) read these values, so a step that uses
one of them is not recorded, and they do not accept symbolic tensors.
"""

import builtins
import math
from typing import Any

import numpy as np

from nbkeras.engine.annotations import one_of
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import scattering
from nbkeras.kernels import shape as shape_kernels
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, indexing, reduce
from nbkeras.ops.arguments import as_integer, axis_of, promote
from nbkeras.ops.creation import arange, full, ones, zeros
from nbkeras.ops.shape import broadcast_to, expand_dims, reshape, sizes_of, stack, unstack

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


def _at(name: str, x: Tensor, indices: Any, updates: Any, how: np.ufunc | None) -> Tensor:
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
    """Zeros of a shape with values added at index tuples: indices (..., k), values (..., the shape's axes after k)."""
    values = as_tensor(values)
    return _at("scatter", zeros(shape, values.dtype), indices, values, np.add)


@op
def scatter_update(inputs, indices, updates, reduction: str | None = None) -> Tensor:
    """inputs with updates at index tuples (..., k): written (the last one wins), or combined by add, max, min or mul."""
    how = _REDUCTIONS[one_of("scatter_update", "reduction", reduction, _REDUCTIONS)]
    return _at("scatter_update", as_tensor(inputs), indices, updates, how)


# -------------------- slices --------------------


def _starts(name: str, x: Tensor, start_indices: Any, shape: tuple[int, ...]) -> tuple[list, bool]:
    """The slice's start on each axis, moved so that the slice lies inside, and whether all starts are plain integers."""
    known = not isinstance(start_indices, Tensor) and all(not isinstance(s, Tensor) for s in start_indices)
    starts: Any
    if known:
        starts = sizes_of(name, np.asarray(start_indices))
    else:
        is_vector = isinstance(start_indices, Tensor)
        given = start_indices if is_vector else stack([as_integer(s, "start_indices") for s in start_indices])
        starts = unstack(as_integer(given, "start_indices"))
    if not len(starts) == len(shape) == x.ndim or any(
        n > size or n < 0 for n, size in zip(shape, x.shape, strict=False)
    ):
        raise ValueError(f"{name}: a slice of shape {shape} at {start_indices!r} does not fit into shape {x.shape}")
    last = [size - n for n, size in zip(shape, x.shape, strict=True)]
    if known:
        return [min(max(s, 0), most) for s, most in zip(starts, last, strict=True)], True
    return [elementwise.clip(s, 0, most) for s, most in zip(starts, last, strict=True)], False


@op
def slice(inputs, start_indices, shape) -> Tensor:
    """The part of x that begins at start_indices (maybe a tensor) and has a shape (-1: the rest); moved to lie inside."""
    x = as_tensor(inputs)
    sizes = sizes_of("slice", shape)
    if -1 in sizes:
        begins = sizes_of("slice", np.asarray(start_indices))
        sizes = tuple(x.shape[i] - begins[i] if n == -1 else n for i, n in enumerate(sizes))
    starts, known = _starts("slice", x, start_indices, sizes)
    if known:
        return indexing.getitem(x, tuple(builtins.slice(s, s + n) for s, n in zip(starts, sizes, strict=True)))
    for axis, (start, count) in enumerate(zip(starts, sizes, strict=True)):
        x = indexing.take(x, elementwise.add(arange(count), start), axis)
    return x


@op
def slice_update(inputs, start_indices, updates) -> Tensor:
    """inputs with the part that begins at start_indices (maybe a tensor) replaced by updates; moved to lie inside."""
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
        (count,) = sizes_of(name, num_segments)
    return _combined(full((count, *x.shape[1:]), start(x.dtype), x.dtype), ids, x, how)


def _lowest(dtype: np.dtype) -> Any:
    return -math.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: np.dtype) -> Any:
    return math.inf if dtype.kind == "f" else np.iinfo(dtype).max


@op
def segment_sum(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The sum of the rows of each segment, 0 for a segment without rows: (n, ...) -> (num_segments, ...).

    Rows whose segment number is out of range are left out. num_segments: by default the largest number + 1, which is read.
    """
    return _segments("segment_sum", np.add, lambda dtype: 0, data, segment_ids, num_segments)


@op
def segment_prod(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The product of the rows of each segment, 1 for a segment without rows; see `segment_sum`."""
    return _segments("segment_prod", np.multiply, lambda dtype: 1, data, segment_ids, num_segments)


@op
def segment_max(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The maximum of the rows of each segment, -infinity (or the lowest integer) without rows; see `segment_sum`."""
    return _segments("segment_max", np.maximum, _lowest, data, segment_ids, num_segments)


@op
def segment_min(data, segment_ids, num_segments: int | None = None, sorted: bool = False) -> Tensor:
    """The minimum of the rows of each segment, infinity (or the highest integer) without rows; see `segment_sum`."""
    return _segments("segment_min", np.minimum, _highest, data, segment_ids, num_segments)


# -------------------- searching --------------------


@op
def searchsorted(sorted_sequence, values, side: str = "left") -> Tensor:
    """The positions at which values would be inserted into a sorted vector, int32.

    side: before equal elements ('left') or after them ('right').
    """
    line, values = promote(sorted_sequence, values)
    if line.ndim != 1 or side not in ("left", "right"):
        raise ValueError(
            f"searchsorted: expected a vector and side 'left' or 'right', received shape {line.shape} and {side!r}"
        )
    return apply(scattering.search, None, [line, values], side=side)


@op
def digitize(x, bins) -> Tensor:
    """The bin of each number, int32: how many of the rising bin edges are not above it."""
    return searchsorted(bins, x, side="right")


@op
def isin(x1, x2, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """True where an element of x1 occurs in x2; with `invert` where it does not."""
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
    """Positions that put the kth smallest element at index kth along an axis, smaller ones before it; they sort x fully."""
    x = as_tensor(x)
    size = x.size if axis is None else x.shape[axis_of("argpartition", axis, x.ndim)]
    if not -size <= kth < size:
        raise ValueError(f"argpartition: kth must lie in [-{size}, {size}), received {kth}")
    return indexing.argsort(x, axis)


@op
def select(condlist, choicelist, default: Any = 0) -> Tensor:
    """For each element, the choice whose condition is the first that is true; the default where none is."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ValueError(
            f"select: expected as many conditions as choices, received {len(condlist)} and {len(choicelist)}"
        )
    *choices, y = promote(*choicelist, default)
    for condition, choice in zip(reversed(condlist), reversed(choices), strict=True):
        y = elementwise.where(condition, choice, y)
    return y


@op
def multi_hot(inputs, num_classes: int, axis: int = -1, dtype=None, sparse: bool = False) -> Tensor:
    """1 at each of several classes, given along the second axis (the first of a vector), 0 elsewhere."""
    if sparse:
        raise ValueError("multi_hot: sparse tensors are not supported, use sparse=False")
    x = as_tensor(inputs)
    return reduce.max(indexing.one_hot(x, num_classes, axis, dtype), axis=1 if x.ndim > 1 else 0)


# -------------------- shapes that depend on values --------------------


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
    """The different values of the flat tensor in rising order.

    Optional further results: the first position of each value, the position of each element's value in the result, and the
    number of occurrences. size: the length of the result, which is cut or filled with fill_value (by default the smallest
    value); None reads the length.
    """
    if axis is not None:
        raise ValueError("unique: axis must be None: the values of the whole tensor are compared")
    x = as_tensor(x)
    if x.size == 0:
        raise ValueError("unique: the tensor is empty")
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
    """The number of occurrences of 0, 1, ..., or the sum of their weights: (n,) -> (length,), (rows, n) -> (rows, length).

    length: the largest number + 1, but at least minlength. Reads the largest number.
    """
    if sparse:
        raise ValueError("bincount: sparse tensors are not supported, use sparse=False")
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
