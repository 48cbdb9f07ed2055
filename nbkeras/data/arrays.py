"""Floor 3: converts, checks and splits the arrays that users pass, and applies class weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.data import tables
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dlpack import on_host
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.gaps import listed_rows
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import Tensor

strings = LazyModule("nbkeras.engine.strings")
Array = np.ndarray
_INT32 = np.iinfo(np.int32)
largest = np.maximum.reduce


def to_array(value: Any, what: str, dtype: Any = None) -> Array:
    """A contiguous array of numbers in `dtype`; by default floats become floatx, and integers int32 if it holds them.

    It copies only if necessary. Sparse matrices become SparseRows, which become dense batch by batch. Raises ValueError for
    numbers that an integer dtype cannot hold.
    """
    if getattr(dtype, "name", None) == "string":
        return strings.strings_of(value, what)  # type: ignore[return-value] # a leaf like an array
    if is_sparse(value) and value.ndim == 2:
        rows = tables.SparseRows(value.tocsr())
        return rows.with_values(to_array(rows.values, what, dtype))  # type: ignore[return-value] # a leaf like an array
    value = value.numpy() if isinstance(value, Tensor) else on_host(value)
    try:
        value = tables.table_array(value, what) if hasattr(value, "to_numpy") else value
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{what} cannot be made one array: its rows differ in length ({error}); pad them first"
        ) from None
    if array.ndim == 0 and array.dtype.kind in "fiub":
        raise ValueError(f"{what} must be an array with a value for each sample, received a single number, {array}")
    if type(value) is not np.ndarray and np.ma.is_masked(value):
        raise ValueError(f"{what} is a masked array, and masks are not used: fill its missing values first")
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        words = " (models made with Input(dtype='string') take strings)" if array.dtype.kind in "US" else ""
        hint = " (lists of different lengths? pad them first)" if array.dtype == object else words
        raise TypeError(f"{what} must hold numbers or booleans, received dtype {array.dtype}{hint}")
    if dtype is None:
        dtype = _default_dtype(array)
    elif (dtype := np.dtype(known_dtype(dtype))).kind in "iu" and array.size and not np.can_cast(array.dtype, dtype):
        _check_whole(array, what, np.iinfo(dtype))
    return np.ascontiguousarray(array, dtype)


def arrays_of(
    x: Any, convert: Callable[[Any], Array] = lambda leaf: to_array(leaf, "x")
) -> tuple[Any, list[Array | None]]:
    """(structure, arrays) of data in any structure; convert(leaf) makes an array from each leaf."""
    if isinstance(x, list | tuple) and x and not any(hasattr(item, "shape") or isinstance(item, dict) for item in x):
        x = to_array(x, "x")
    leaves = structures.flatten(x)
    if not leaves:
        raise ValueError(f"x holds no array, received {briefly(x)}")
    return structures.map_leaves(lambda _: 0, x), [convert(leaf) for leaf in leaves]


def is_sparse(x: Any) -> bool:
    """Whether x is a sparse matrix or array of scipy."""
    return hasattr(x, "tocsr") and hasattr(x, "toarray")


def _check_whole(array: Array, what: str, limits: np.iinfo) -> None:
    """Raise ValueError for numbers that an integer dtype cannot hold, because a cast would change them."""
    low, high = array.min().item(), array.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{what} holds NaN or infinity where whole numbers ({limits.dtype}) are expected, in "
            f"{listed_rows(~np.isfinite(array))}: drop these rows, or fill the values"
        )
    if low <= limits.min - 1 or high >= limits.max + 1:
        raise ValueError(
            f"{what} holds numbers from {low} to {high}, but it has dtype {limits.dtype}, of {limits.min} to {limits.max}: "
            "give smaller numbers, or change the dtype of the Input"
        )


def _default_dtype(array: Array) -> Any:
    if array.dtype.kind == "f":
        return np.dtype(known_dtype(None))
    if array.dtype.kind == "b":
        return np.dtype(bool)
    wide = array.dtype.itemsize == 8 or array.dtype == np.uint32
    if array.dtype == np.int64 and array.size and largest(array.view(np.uint64), None) <= _INT32.max:
        return np.dtype(np.int32)  # a fast path, one pass: as uint64 negative numbers are large
    if wide and array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        return array.dtype if array.max() > np.iinfo(np.int64).max else np.dtype(np.int64)
    return np.dtype(np.int32)


def first_rows(value: Any, count: int) -> Array:
    """The first rows, as an array, of a value that `to_array` accepts."""
    value = value.tocsr() if is_sparse(value) else value
    return to_array(value[:count] if getattr(value, "shape", ()) and hasattr(value, "__getitem__") else value, "x")[
        :count
    ]


def samples_of(leaves: Sequence[Array | None]) -> int:
    """The number of rows of the leaves; raises ValueError if they differ."""
    lengths = {len(leaf) for leaf in leaves if leaf is not None}
    if len(lengths) > 1:
        raise ValueError(
            f"all inputs, targets and sample weights must have the same number of samples, received {sorted(lengths)}"
        )
    return lengths.pop() if lengths else 0


def split_validation(leaves: list[Array | None], fraction: float) -> tuple[list[Array | None], list[Array | None]]:
    """The first part for training and the last `fraction` for validation, before any shuffling, as Keras does."""
    samples = next(len(leaf) for leaf in leaves if leaf is not None)
    at = math.floor(samples * (1 - fraction))
    if at == 0 or at == samples:
        raise ValueError(
            f"validation_split={fraction} of {samples} samples leaves one of the two parts empty: give more data, "
            "another fraction, or validation_data"
        )
    return (
        [None if leaf is None else leaf[:at] for leaf in leaves],
        [None if leaf is None else leaf[at:] for leaf in leaves],
    )


def class_weights(targets: Array, weights: dict[int, float]) -> Array:
    """A weight per sample from a weight per class; targets are class numbers or one-hot rows."""
    if not isinstance(weights, dict):
        raise TypeError(f"class_weight must be a dict from class number to weight, received {type(weights).__name__}")
    targets = np.asarray(targets)  # also for sparse targets
    if targets.ndim > 1 and targets.shape[-1] > 1:
        classes = targets.argmax(axis=-1)
    else:
        classes = np.rint(targets[..., 0] if targets.ndim > 1 and targets.shape[-1] else targets)
    largest = float(np.finfo(known_dtype(None)).max)
    for number, weight in weights.items():
        if not isinstance(number, int | np.integer):
            raise ValueError(f"class_weight's keys must be class numbers (0, 1, ...), received {briefly(number)}")
        if not (isinstance(weight, int | float | np.integer | np.floating) and abs(weight) <= largest):
            raise ValueError(
                f"class_weight's values must be finite numbers, received {briefly(weight)} for class {number}"
            )
    numbers, positions = np.unique(classes, return_inverse=True)
    return np.array([weights.get(number, 1.0) for number in numbers.tolist()], known_dtype(None))[positions].reshape(
        classes.shape
    )
