"""Keras 2's HDF5Matrix: a dataset in an HDF5 file, used as an array and read in parts (needs h5py)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine.user_errors import optional_import


class HDF5Matrix:
    """The rows start to end of a dataset in a file, read on access. normalizer: a function applied to the rows."""

    _files: dict[str, Any] = {}  # each file is opened once

    def __init__(
        self,
        datapath: str,
        dataset: str,
        start: int = 0,
        end: int | None = None,
        normalizer: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        with optional_import("HDF5Matrix needs h5py", "files"):
            import h5py
        if datapath not in self._files:
            self._files[datapath] = h5py.File(datapath, "r")
        self.data = self._files[datapath][dataset]
        self.start, self.end = start, self.data.shape[0] if end is None else end
        self.normalizer = normalizer
        first = self._read(slice(0, 1))
        self.shape, self.dtype = (len(self), *first.shape[1:]), first.dtype
        self.ndim, self.size = self.data.ndim, int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.end - self.start

    def _read(self, rows: Any) -> np.ndarray:
        values = self.data[rows]
        return values if self.normalizer is None else self.normalizer(values)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Rows by number, slice (without a step) or list of numbers. Raises IndexError beyond the end."""
        if isinstance(key, slice):
            first, last = key.start or 0, len(self) if key.stop is None else key.stop
            rows: Any = slice(first + self.start, last + self.start)
        else:
            last = int(np.max(key)) + 1
            rows = (np.asarray(key) + self.start).tolist()
        if last > len(self):
            raise IndexError(f"row {last - 1} is out of range: there are {len(self)} rows")
        return self._read(rows)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)
