"""Floor 1: Batch, rows of arrays as the inputs of a program."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray
ALL = slice(None)  # all rows


class Batch:
    """Rows of arrays: `leaves[i][rows]`; rows is a slice or an index array. None leaves stay None.

    signature: shapes and dtypes of the rows; a recorded program depends on it. layout: how to pass the leaves to a step. part:
    a `sharding.RankRows`, the position of the rows in a batch that several processes share; None if this process has all rows.
    """

    __slots__ = ("leaves", "rows", "size", "signature", "layout", "part")

    def __init__(
        self, leaves: list[Array | None], rows: slice | Array, size: int, layout: Any = None, part: Any = None
    ):
        self.leaves, self.rows, self.size, self.layout, self.part = leaves, rows, size, layout, part
        if rows is ALL:
            self.signature = tuple([None if a is None else (a.shape, a.dtype.char) for a in leaves])
        else:
            self.signature = tuple(None if a is None else ((size, *a.shape[1:]), a.dtype.char) for a in leaves)

    @property
    def ready(self) -> list[Array] | None:
        """The rows as arrays, without None leaves; None if the rows would have to be copied."""
        rows = self.rows
        if rows is ALL:
            return [leaf for leaf in self.leaves if leaf is not None]
        if not isinstance(rows, slice):
            return None
        return [leaf[rows] for leaf in self.leaves if leaf is not None]

    def write(self, buffers: list[Array | None]) -> None:
        """Copy the rows into buffers of the signature's shapes."""
        for leaf, buffer in zip(self.leaves, buffers, strict=True):
            if leaf is None or buffer is None:
                continue
            if self.rows is ALL and isinstance(leaf, np.ndarray):
                copy_to(leaf, buffer)
            elif isinstance(self.rows, slice) or not isinstance(
                leaf, np.ndarray
            ):  # a sparse matrix selects rows itself
                copy_to(leaf[self.rows], buffer)
            else:
                np.take(leaf, self.rows, axis=0, out=buffer, mode="clip")


def copy_to(source: Any, target: Array) -> None:
    """target[...] = source. NumPy releases the GIL from 500 elements on, so threads would wait; a small copy keeps it."""
    is_small = isinstance(source, np.ndarray) and 1024 < source.nbytes < 65536
    if is_small and source.dtype == target.dtype and source.flags.c_contiguous:
        memoryview(target).cast("B")[:] = memoryview(source).cast("B")  # type: ignore[arg-type]
    else:
        np.copyto(target, source)
