"""Floor 1: the dtypes of tensors, of Python numbers, and of results of mixed operands."""

import functools
from typing import Any

import numpy as np

from nbkeras.engine import settings
from nbkeras.engine.annotations import briefly
from nbkeras.kernels.runtime import device

_INT32 = np.iinfo(np.int32)
_USUAL = frozenset(map(np.dtype, ("float32", "float64", "int32", "int64", "bool")))
half: Any = None  # half.py, which nbkeras/ops/__init__.py sets: it is imported when a dtype of 16 bits is used


def known_dtype(dtype: Any) -> np.dtype:
    """Returns the dtype; floatx for None. Raises TypeError for unsupported float dtypes, ValueError for non-numeric dtypes."""
    if isinstance(dtype, np.dtype) and dtype in _USUAL:
        return dtype
    name = settings.standardize_dtype(dtype)
    if name in settings.HALVES:
        return half.DTYPES[name]
    if "float" in name and name not in ("float32", "float64"):
        raise TypeError(
            f"tensors of floats have 16, 32 or 64 bits, received {name}: convert first, with array.astype('float32')"
        )
    return np.dtype(name)


def array_of(value: Any, dtype: Any = None) -> np.ndarray:
    """Convert an array-like to a NumPy array. By default arrays keep their dtype, Python floats get floatx, integers int32.

    Integers beyond int32 become int64; floats of 16 bits float32. Floats of an array become integers as in `ops.cast`. Raises
    TypeError for values that are not numeric or bool, ValueError for Python numbers that an integer dtype cannot hold.
    """
    target = None if dtype is None else known_dtype(dtype)
    try:
        array = _whole(value, target) if target is not None and target.kind in "iu" else np.asarray(value, target)
    except OverflowError:  # Python integers may be too large
        raise ValueError(f"{briefly(value)} does not fit into {'any dtype' if target is None else target}") from None
    except (TypeError, ValueError) as error:  # NumPy's errors for strings and for ragged lists
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"expected a number, or lists of numbers of one length, received {briefly(value)}") from error
    if array.dtype.itemsize == 2 and array.dtype.name in settings.HALVES:
        array = array.astype(known_dtype(array.dtype))
    if array.dtype.kind not in "fiub":
        if hasattr(value, "toarray"):
            raise TypeError(f"expected a dense array, received {briefly(value)}: pass its toarray()")
        raise TypeError(f"expected numbers or booleans, received {type(value).__name__} with dtype {array.dtype}")
    if dtype is not None:
        return array
    if array.dtype.kind == "f" and (isinstance(value, float) or not isinstance(value, np.ndarray | np.generic)):
        return array.astype(known_dtype(None), copy=False)
    if array.dtype.kind == "i" and isinstance(value, int | list | tuple | range):
        fits = not array.size or (_INT32.min <= array.min() and array.max() <= _INT32.max)
        return array.astype(np.int32 if fits else np.int64, copy=False)
    known_dtype(array.dtype)
    return array


def _whole(value: Any, dtype: np.dtype) -> np.ndarray:
    """Converts an array-like to integers. Raises OverflowError for Python numbers that do not fit, NaN among them."""
    if isinstance(value, list | tuple) and any(isinstance(each, np.ndarray) for each in value):
        return np.stack([_whole(each, dtype) for each in value])
    if not isinstance(value, list | tuple | int | float) or isinstance(value, np.generic):
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        return device.converted(array, dtype) if array.dtype.kind == "f" else np.asarray(array, dtype)
    try:
        return np.asarray(value, dtype)
    except ValueError:
        if np.asarray(value).dtype.kind == "f":
            raise OverflowError from None
        raise


def result_dtype(*dtypes: np.dtype) -> np.dtype:
    """The common dtype: float64 > float32 > float16, bfloat16 > integers > bool.

    Integers as in NumPy; floatx if no integer dtype holds both.
    """
    floats = {dtype for dtype in dtypes if dtype.kind == "f"}
    if floats:
        widest = [dtype for dtype in floats if dtype.itemsize == max(each.itemsize for each in floats)]
        return widest[0] if len(widest) == 1 else np.dtype(np.float32)  # float16 and bfloat16
    common = functools.reduce(np.promote_types, dtypes)
    return known_dtype(None) if common.kind == "f" else common
