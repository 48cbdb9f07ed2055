"""The shapes and forms of tensors as TensorFlow describes them."""

import math
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine.strings import STRING


class TensorShape(tuple):
    """A shape: a tuple of sizes, with None for unknown ones."""

    def __new__(cls, dims: Any = ()) -> "TensorShape":
        return super().__new__(cls, (None if each is None else int(each) for each in dims))

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self)

    ndims = rank

    @property
    def dims(self) -> list:
        """The sizes."""
        return list(self)

    def as_list(self) -> list:
        """The sizes as a list."""
        return list(self)

    def is_fully_defined(self) -> bool:
        """Whether all sizes are known."""
        return None not in self

    def num_elements(self) -> int | None:
        """The number of elements; None if a size is unknown."""
        return math.prod(self) if self.is_fully_defined() else None


class _Spec(NamedTuple):
    shape: Any
    dtype: Any
    name: Any


class TensorSpec(_Spec):
    """The shape and dtype of a tensor: elements of a data set, arguments of a function."""

    def __new__(cls, shape: Any = None, dtype: Any = np.float32, name: Any = None) -> "TensorSpec":
        kind = STRING if dtype == STRING or np.dtype(dtype).kind in "SUO" else np.dtype(dtype)
        return super().__new__(cls, None if shape is None else TensorShape(shape), kind, name)
