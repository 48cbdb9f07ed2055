"""Tensors of strings, which TensorFlow's functions take and return: bytes in memory of the host, never in nbkeras's tensors."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import STRING, Strings, texts_of
from nbkeras.engine.tensor import Tensor, as_tensor


def boxed(value: Any) -> np.ndarray:
    """A value as an array; a string as an array of dtype object, because other dtypes drop zero bytes at its end."""
    if isinstance(value, str | bytes):
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


def mapped(function: Callable, *arrays: np.ndarray) -> np.ndarray:
    """The results of a function for the elements at each place of arrays, which are broadcast, as an array of objects."""
    arrays = tuple(np.broadcast_arrays(*arrays))
    found = np.empty(arrays[0].size, object)
    found[:] = [function(*each) for each in zip(*(array.ravel().tolist() for array in arrays), strict=True)]
    return found.reshape(arrays[0].shape)


class StringTensor(Strings):
    """TensorFlow's tensor of dtype string: an array of bytes. Layers and models take it as text in UTF-8.

    given: A NumPy array of bytes or str, or one of these.
    """

    __slots__ = ("given",)
    __hash__ = None  # type: ignore[assignment] # as in TensorFlow, `==` compares elements

    def __init__(self, given: Any):
        self.given = boxed(given)

    @property
    def array(self) -> np.ndarray:  # type: ignore[override]
        """The strings as str. Raises for bytes that are not UTF-8."""
        texts = texts_of(self.given)
        if texts is None:
            raise TypeError(f"expected strings, an array or a list of str or bytes, received {briefly(self.given)}")
        return texts

    @property
    def raw(self) -> np.ndarray:
        """The strings as bytes, an array of dtype object."""
        return mapped(_encoded, self.given)

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes, a tuple."""
        return self.given.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.given.ndim

    @property
    def size(self) -> int:
        """The number of strings."""
        return self.given.size

    def numpy(self) -> Any:
        """The bytes: an array of dtype object, or bytes if there are no axes."""
        return self.raw[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.raw, object if dtype is None else dtype)

    def __len__(self) -> int:
        return len(self.given)

    def __iter__(self) -> Iterator[StringTensor]:
        return (self[place] for place in range(len(self.given)))

    def __getitem__(self, key: Any) -> StringTensor:
        return StringTensor(self.given[np.asarray(key) if isinstance(key, Tensor) else key])

    def __eq__(self, other: object) -> Any:
        return as_tensor(np.asarray(self.raw == as_strings(other).raw, bool)) if holds_text(other) else NotImplemented

    def __ne__(self, other: object) -> Any:
        return as_tensor(np.asarray(self.raw != as_strings(other).raw, bool)) if holds_text(other) else NotImplemented

    def __add__(self, other: Any) -> StringTensor:
        return StringTensor(mapped(bytes.__add__, self.raw, as_strings(other).raw))

    def __radd__(self, other: Any) -> StringTensor:
        return as_strings(other) + self

    def __repr__(self) -> str:
        return f"<tf.Tensor: shape={self.shape}, dtype=string, numpy={self.numpy()!r}>"


def _encoded(item: Any) -> bytes:
    if not isinstance(item, str | bytes):
        raise TypeError(f"expected a string, str or bytes, received {briefly(item)}")
    return item.encode() if isinstance(item, str) else item


class RaggedStrings:
    """Rows of strings of different lengths, which TensorFlow's `tf.strings.split` returns: `to_tensor` fills them up.

    rows: A list of StringTensors, or of RaggedStrings.
    """

    dtype = STRING

    def __init__(self, rows: list):
        self._rows = rows

    @property
    def shape(self) -> tuple:
        """The number of rows, and None for their lengths."""
        inner = self._rows[0].shape[1:] if self._rows else ()
        return (len(self._rows), None, *inner)

    @property
    def flat_values(self) -> StringTensor:
        """The strings of all rows, one after another."""
        parts = [getattr(row, "flat_values", row).given for row in self._rows]
        return StringTensor(np.concatenate(parts) if parts else np.empty(0, object))

    def row_lengths(self) -> Tensor:
        """The length of each row."""
        return as_tensor(np.array([len(row) for row in self._rows], np.int64))

    def to_list(self) -> list:
        """Nested lists of bytes."""
        return [row.to_list() if isinstance(row, RaggedStrings) else row.raw.tolist() for row in self._rows]

    def to_tensor(self, default_value: Any = b"", name: Any = None, shape: Any = None) -> StringTensor:
        """One array: rows are cut at the shape or filled up with a value, by default to the longest one."""
        sizes = [None, *([None] * self._depth)] if shape is None else list(shape)
        rows = [row.to_tensor(default_value) if isinstance(row, RaggedStrings) else row for row in self._rows]
        inner = [max((row.shape[axis] for row in rows), default=0) for axis in range(self._depth)]
        whole = np.full([len(rows), *inner], boxed(default_value), object)
        for place, row in enumerate(rows):
            whole[place][tuple(map(slice, row.shape))] = row.raw
        wanted = [own if size in (None, -1) else size for own, size in zip(whole.shape, sizes, strict=True)]
        found = np.full(wanted, boxed(default_value), object)
        part = tuple(map(slice, np.minimum(wanted, whole.shape)))
        found[part] = whole[part]
        return StringTensor(found)

    @property
    def _depth(self) -> int:
        """The axes of a row."""
        first = self._rows[0] if self._rows else None
        return 1 + first._depth if isinstance(first, RaggedStrings) else 1

    def map_rows(self, function: Callable) -> RaggedStrings:
        """Rows again, of a function of each row."""
        return RaggedStrings([function(row) for row in self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator:
        return iter(self._rows)

    def __getitem__(self, key: Any) -> Any:
        return RaggedStrings(self._rows[key]) if isinstance(key, slice) else self._rows[int(key)]

    def __repr__(self) -> str:
        return f"<tf.RaggedTensor {self.to_list()!r}>"


def holds_text(value: Any) -> bool:
    """Whether a value is strings or begins with one. It looks at the first leaf only, because numbers come here too."""
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, Strings | str | bytes) or (isinstance(value, np.ndarray) and value.dtype.kind in "SUO")


def as_strings(value: Any) -> StringTensor:
    """The value as a StringTensor: strings, or a list or an array of them."""
    if isinstance(value, StringTensor):
        return value
    if isinstance(value, Strings):
        return StringTensor(value.array)
    if isinstance(value, list | tuple) and any(isinstance(each, Strings | list | tuple) for each in value):
        return StringTensor(np.stack([as_strings(each).given.astype(object) for each in value]))
    if isinstance(value, list | tuple):
        return StringTensor(np.array(value, object))
    if holds_text(value):
        return StringTensor(value)
    raise TypeError(f"expected strings, an array or a list of str or bytes, received {briefly(value)}")


def raw_of(value: Any) -> np.ndarray:
    """Strings as an array of bytes, of dtype object."""
    return as_strings(value).raw


def path_of(value: Any) -> str:
    """The path that a string, or an object of pathlib, names."""
    return os.fsdecode(value.numpy() if isinstance(value, StringTensor) else value)


def takes_strings(of_strings: Callable, function: Callable) -> Callable[..., Any]:
    """A function of tensors that takes strings as its first argument too.

    of_strings: What it does then: a function with the same arguments that returns an array, of objects for strings.
    """
    first = next(iter(inspect.signature(of_strings).parameters))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not holds_text(args[0] if args else kwargs.get(first)):
            return function(*args, **kwargs)
        found = np.asarray(of_strings(*args, **kwargs))
        return StringTensor(found) if found.dtype == object else as_tensor(found)

    return call
