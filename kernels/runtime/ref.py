"""Ref: an array by name. Recorded launches refer to memory by numbers; a program gets addresses when it is bound."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np


class Ref(NamedTuple):
    """An array: the number of its memory, the offset of its first element in it in bytes, and its form."""

    memory: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def contiguous(cls, memory: int, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> Ref:
        """The reference to a C-contiguous array."""
        strides = tuple(np.cumprod((dtype.itemsize, *shape[:0:-1]))[::-1].tolist())
        return cls(memory, offset, shape, strides, dtype)

    @property
    def nbytes(self) -> int:
        """The number of bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize

    def bounds(self) -> tuple[int, int]:
        """The offsets where the elements begin and end; equal if there are none."""
        if 0 in self.shape:
            return self.offset, self.offset
        reaches = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        low, high = sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0)
        return self.offset + low, self.offset + high + self.dtype.itemsize


def is_contiguous(array: Any) -> bool:
    """Whether an array, or what a Ref names, is C-contiguous."""
    step = array.dtype.itemsize
    for n, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True
