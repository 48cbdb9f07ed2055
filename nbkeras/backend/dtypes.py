"""Dtypes by name, as Keras 3's backend asks for them."""

import numpy as np

from nbkeras.config import floatx
from nbkeras.config import standardize_dtype as standardize_dtype
from nbkeras.engine.dtypes import result_dtype


def is_float_dtype(dtype) -> bool:
    """Whether a dtype is one of floats."""
    return np.dtype(standardize_dtype(dtype)).kind == "f"


def is_int_dtype(dtype) -> bool:
    """Whether a dtype is one of integers, with or without a sign."""
    return np.dtype(standardize_dtype(dtype)).kind in "iu"


def result_type(*dtypes) -> str:
    """The name of the dtype in which nbkeras's ops join tensors of these dtypes; Python's int joins other integers as theirs."""
    found = [np.dtype(standardize_dtype(dtype)) for dtype in dtypes if dtype is not int]
    if len(found) < len(dtypes) and not any(dtype.kind in "iu" for dtype in found):
        found.append(np.dtype(np.int32))
    return result_dtype(*found or [np.dtype(floatx())]).name
