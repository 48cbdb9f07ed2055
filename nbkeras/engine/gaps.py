"""Floor 1: finds missing and infinite values in arrays, and says in words how many there are and where."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def objects_of(values: Any) -> Array:
    """The values as an array whose elements keep their types; lists of different lengths are elements."""
    try:
        array = np.asarray(values)
        return np.array(values, object) if array.dtype.kind in "USO" else array
    except ValueError:
        return np.array([None, *values], object)[1:]


def gaps_of(array: Array) -> Array:
    """Where an array of numbers or objects has missing values: NaN, NaT, None and pandas.NA."""
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype != object:
        return np.zeros(array.shape, bool)
    return np.array([is_missing(value) for value in array.ravel().tolist()], bool).reshape(array.shape)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas.NA."""
    if value is None or isinstance(value, str | bytes | list | tuple | dict):
        return value is None
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True
    except ValueError:  # an array
        return False


def numbers_with_gaps(objects: Array, gaps: Array, otherwise: Any) -> Any:
    """Floats with NaN for missing values; `otherwise` for values that are not numbers."""
    if objects.dtype != object:
        return objects
    rest = objects_of(objects[~gaps].tolist())
    if rest.ndim != 1 or (rest.size and rest.dtype.kind not in "fiub"):
        return otherwise
    filled = np.full(objects.shape, np.nan)
    filled[~gaps] = rest
    return filled


def counted(nans: int, infinite: int, size: int) -> str:
    """In words, how many of `size` numbers are NaN or infinite."""
    return f"{nans} NaN and {infinite} infinite numbers of {size}"


def listed_rows(chosen: Array) -> str:
    """In words, how many rows of an array of bools have a True, and the numbers of the first ones."""
    if not chosen.ndim:
        chosen = chosen[None]
    rows = np.flatnonzero(chosen.reshape(len(chosen), -1).any(axis=1))
    shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
    return f"{len(rows)} of {len(chosen)} rows ({shown}, counted from 0)"
