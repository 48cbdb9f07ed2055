"""Keras 3's internal module `keras.src.saving.saving_lib`: model files, also in memory, and stores of arrays in HDF5 files."""

from typing import Any

from nbkeras.saving import hdf5
from nbkeras.saving import load_model as load_model
from nbkeras.saving import load_weights as load_weights_only  # noqa: F401
from nbkeras.saving import save_model as save_model
from nbkeras.saving import save_weights as save_weights_only  # noqa: F401


class H5IOStore:
    """Groups of arrays in an HDF5 file; mode: 'r' or 'w'."""

    def __init__(self, path: Any, archive: Any = None, mode: str = "r"):
        self.h5_file = hdf5.h5py().File(path, mode)

    def make(self, path: str, metadata: Any = None) -> Any:
        """The group of that name, made if it is new; its items are arrays by name."""
        return _Group(self.h5_file.require_group(path or "/").require_group("vars"))

    def get(self, path: str) -> Any:
        """The arrays of a group by name; empty if there is no such group."""
        return self.h5_file[path]["vars"] if path in self.h5_file and "vars" in self.h5_file[path] else {}

    def close(self) -> None:
        """Close the file."""
        self.h5_file.close()


class _Group:
    """A group whose items may be set to arrays and variables."""

    def __init__(self, group: Any):
        self._group = group

    def __setitem__(self, name: str, value: Any) -> None:
        self._group[name] = value.numpy() if hasattr(value, "numpy") else value

    def __getitem__(self, name: str) -> Any:
        return self._group[name]
