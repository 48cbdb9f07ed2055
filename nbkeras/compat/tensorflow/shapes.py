"""The shapes and forms of tensors as TensorFlow describes them."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbkeras import tree
from nbkeras.engine.strings import STRING
from nbkeras.engine.tensor import is_shapes_only, is_step_recorded


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


class Sizes(np.ndarray):
    """The shape of a tensor as `tf.shape` gives it: integers for arithmetic and for other shapes."""

    def numpy(self) -> np.ndarray:
        """The integers as a plain array."""
        return np.array(self)


def takes_sizes(of_sizes: Callable, function: Callable) -> Callable[..., Any]:
    """A function of tensors whose result for sizes can be a shape, also where tensors have no values yet.

    of_sizes: What it does with them: a function with the same arguments that returns an array.
    """
    first = next(iter(inspect.signature(of_sizes).parameters))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get(first)
        if (is_shapes_only() or is_step_recorded()) and _are_sizes(given):
            return np.asarray(of_sizes(*args, **kwargs)).view(Sizes)
        return function(*args, **kwargs)

    return call


def _are_sizes(value: Any) -> bool:
    """Whether a value is Sizes, or a list of some, or of their elements, and of integers."""
    leaves = tree.flatten(value)
    known = [isinstance(each, Sizes | np.integer) for each in leaves]
    return any(known) and all(own or isinstance(each, int) for own, each in zip(known, leaves, strict=True))
