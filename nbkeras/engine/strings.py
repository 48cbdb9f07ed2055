"""Floor 1: Strings, an array of str. Strings stay on the host: they are never in tensors, kernels or recorded programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.gaps import gaps_of, listed_rows, objects_of


class StringType:
    """The dtype of strings, with the attributes of NumPy's dtypes that are read. It equals its name and TensorFlow's dtype."""

    name, kind, char = "string", "T", "T"

    def __eq__(self, other: object) -> bool:
        return getattr(other, "name", other) == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


STRING = StringType()


class Strings:
    """An array of str, as models and layers take it: `ops.convert_to_tensor` makes one from lists and arrays of str.

    Args:
        array: A NumPy array of str, of dtype object or U.

    Example:
        >>> texts = ops.convert_to_tensor([["a"], ["b"]])
        >>> texts.shape, texts.dtype, texts[0].numpy()
        ((2, 1), string, array(['a'], dtype=object))
    """

    __slots__ = ("array",)
    dtype = STRING

    def __init__(self, array: np.ndarray):
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes, a tuple."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of strings."""
        return self.array.size

    def numpy(self) -> np.ndarray:
        """A copy as a NumPy array of Python strings, of dtype object."""
        return np.array(self.array, object)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, object if dtype is None else dtype)

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, key: Any) -> Strings:
        return Strings(np.asarray(self.array[key]))

    def __repr__(self) -> str:
        return f"<Strings shape={self.shape} dtype=string, numpy={self.array!r}>"


def texts_of(value: Any) -> np.ndarray | None:
    """An array of str from a string, or from lists, arrays and pandas columns of strings; None for anything else.

    Strings of dtype object are not copied to dtype U, where each would take the memory of the longest.
    """
    if isinstance(value, Strings):
        return value.array
    if hasattr(value, "to_numpy"):
        value = value.to_numpy(object)
    elif getattr(value, "dtype", None) == STRING and hasattr(value, "numpy"):  # a tensor of TensorFlow
        value = np.asarray(value)
    elif isinstance(value, str | bytes | list | tuple):
        leaves = structures.flatten(value)
        if not leaves or not all(isinstance(leaf, str | bytes) for leaf in leaves):
            return None
        value = np.array(value, object)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "UOST":
        return None
    if value.dtype.kind == "U":
        return value
    items = value.ravel().tolist()
    kinds = set(map(type, items))
    if not all(issubclass(kind, str | bytes) for kind in kinds):
        return None
    if kinds == {str} and value.dtype == object:
        return value
    found = np.empty(len(items), object)
    found[:] = [_decoded(item) if isinstance(item, bytes) else item for item in items]
    return found.reshape(value.shape)


def _decoded(item: bytes) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"bytes given as a string must be UTF-8, received {briefly(item)}: {error.reason}") from None


def strings_of(value: Any, what: str) -> Strings:
    """The value as Strings. Raises TypeError for values that are not strings."""
    texts = texts_of(value)
    if texts is None:
        gaps = gaps_of(objects_of(value.to_numpy() if hasattr(value, "to_numpy") else value))
        if gaps.any():
            raise TypeError(
                f"{what} takes strings, but it has missing values (None or NaN) in {listed_rows(gaps)}: drop these rows, or fill "
                "them with a string of your own, such as '[UNK]'"
            )
        raise TypeError(f"{what} takes strings, an array or a list of str, received {briefly(value)}")
    return Strings(texts)


def characters(array: np.ndarray) -> int:
    """The number of characters of an array of str."""
    return sum(map(len, array.ravel().tolist()))


def holds_strings(structure: Any) -> bool:
    """Whether a leaf of a structure holds strings; a list of str is a leaf."""
    if isinstance(structure, dict):
        return any(map(holds_strings, structure.values()))
    if texts_of(structure) is not None:
        return True
    return isinstance(structure, list | tuple) and any(map(holds_strings, structure))
