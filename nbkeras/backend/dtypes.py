"""Keras 3's backend functions for names of dtypes."""

import numpy as np

from nbkeras.config import floatx
from nbkeras.config import standardize_dtype as standardize_dtype
from nbkeras.engine.dtypes import result_dtype


def is_float_dtype(dtype) -> bool:
    """Whether a dtype is a float dtype."""
    return np.dtype(standardize_dtype(dtype)).kind == "f"


def is_int_dtype(dtype) -> bool:
    """Whether a dtype is an integer dtype, signed or unsigned."""
    return np.dtype(standardize_dtype(dtype)).kind in "iu"


def result_type(*dtypes) -> str:
    """The name of the dtype to which ops convert tensors of these dtypes; a Python int takes the dtype of other integers."""
    found = [np.dtype(standardize_dtype(dtype)) for dtype in dtypes if dtype is not int]
    if len(found) < len(dtypes) and not any(dtype.kind in "iu" for dtype in found):
        found.append(np.dtype(np.int32))
    return result_dtype(*found or [np.dtype(floatx())]).name
