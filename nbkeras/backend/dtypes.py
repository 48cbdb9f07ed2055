"""Keras 3's backend functions for names of dtypes."""

import numpy as np

from nbkeras.config import standardize_dtype as standardize_dtype
from nbkeras.engine.dtypes import known_dtype, result_dtype


def is_float_dtype(dtype) -> bool:
    """Whether a dtype is a float dtype.

    Args:
        dtype: A name such as 'float32', a NumPy dtype, or a Python type; None for `config.floatx()`.

    Raises:
        ValueError: for anything that is not a dtype of numbers or booleans.

    Example:
        >>> K.is_float_dtype("float32"), K.is_float_dtype("int32")
        (True, False)
    """
    return "float" in standardize_dtype(dtype)


def is_int_dtype(dtype) -> bool:
    """Whether a dtype is an integer dtype, signed or unsigned; as `K.is_float_dtype`.

    Example:
        >>> K.is_int_dtype("uint8"), K.is_int_dtype("bool")
        (True, False)
    """
    return np.dtype(standardize_dtype(dtype)).kind in "iu"


def result_type(*dtypes) -> str:
    """The name of the dtype to which ops convert tensors of these dtypes.

    Args:
        *dtypes: Names, NumPy dtypes or Python types. int takes the dtype of the other integers, float that of other floats;
            without dtypes the result is `config.floatx()`.

    Example:
        >>> K.result_type("int32", "float32"), K.result_type("uint8", int)
        ('float32', 'uint8')
    """
    found = [known_dtype(dtype) for dtype in dtypes if dtype not in (int, float)]
    if float in dtypes and not any(dtype.kind == "f" for dtype in found):
        found.append(known_dtype(None))
    if int in dtypes and not any(dtype.kind in "iu" for dtype in found):
        found.append(np.dtype(np.int32))
    return result_dtype(*found or [known_dtype(None)]).name
