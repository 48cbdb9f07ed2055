"""The types of a kernel's arguments, found without Numba. They are the key to the kernel's code."""

from typing import Any, NamedTuple

import numpy as np


class ArrayType(NamedTuple):
    """The type of an array."""

    dtype: np.dtype
    ndim: int
    contiguous: bool
    aligned: bool
    writeable: bool

    def __str__(self) -> str:
        marks = ("" if self.contiguous else "A") + ("" if self.aligned else "U") + ("" if self.writeable else "R")
        return f"{self.dtype.str if self.dtype.names is None else self.dtype.descr}[{self.ndim}]{marks}"


# None, the dtype of a number, or the types of a tuple's elements
Type = ArrayType | np.dtype | tuple | None
_NUMBERS = {bool: np.dtype(np.bool_), int: np.dtype(np.int64), float: np.dtype(np.float64)}
_SLOT = 8


def type_of(value: Any) -> Type:
    """Returns an argument's type. Raises TypeError if no kernel takes it, OverflowError for an int of more than 64 bits."""
    if isinstance(value, np.ndarray) and value.dtype.isnative:
        flags = value.flags
        return ArrayType(value.dtype, value.ndim, flags.c_contiguous, flags.aligned, flags.writeable)
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise OverflowError("an int of more than 64 bits")
    if type(value) in _NUMBERS:
        return _NUMBERS[type(value)]
    if isinstance(value, np.generic) and value.dtype.kind in "biufmM" and value.dtype.itemsize <= _SLOT:
        return value.dtype
    if isinstance(value, tuple):
        kinds = tuple(type_of(each) for each in value)
        if all(isinstance(kind, np.dtype) for kind in kinds):
            return kinds
        raise TypeError("a tuple argument of a kernel must hold only numbers")
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        raise TypeError(f"a kernel takes arrays in the machine's own byte order, received dtype {value.dtype.str!r}")
    raise TypeError(f"a kernel takes arrays, numbers, and tuples of numbers, received {type(value).__name__}")


def signature_string(signature: tuple[Type, ...]) -> str:
    """Returns the types of all arguments as a string, for a file name."""
    return ", ".join(map(str, signature))
