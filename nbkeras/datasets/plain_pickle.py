"""Reads pickles of numbers, the only pickles that the data sets need; the file cannot name anything else."""

import io
import os
import pickle
import zipfile
from typing import IO, Any

import numpy as np

from nbkeras.engine.outside import ordinary_file

# The names in pickles of arrays by NumPy 1 and NumPy 2.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),  # protocol 2 writes bytes with it
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"refused: the file asks for {module}.{name}; an undamaged file holds only numbers"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core") if _NEW else module, name)


_NEW = np.lib.NumpyVersion(np.__version__) >= "2.0.0"  # numpy.core exists there too, but warns


def load(path: str | os.PathLike | IO[bytes], encoding: str = "ASCII") -> Any:
    """The content of a pickle of numbers, strings, bytes, lists, dicts and arrays; raises UnpicklingError for anything else."""
    if isinstance(path, str | os.PathLike):
        with open(path, "rb", opener=ordinary_file) as file:
            return load(file, encoding)
    return _Unpickler(path, encoding=encoding).load()


def load_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; `load` reads arrays of lists, which NumPy writes as pickles."""
    arrays = {}
    with zipfile.ZipFile(path) as file:
        for member in file.namelist():
            stream = io.BytesIO(file.read(member))
            version = np.lib.format.read_magic(stream)
            read_header = getattr(np.lib.format, f"read_array_header_{min(version[0], 2)}_0")
            shape, _, dtype = read_header(stream)
            if dtype.hasobject:
                array = load(stream)
                if not isinstance(array, np.ndarray) or array.shape != shape:
                    raise pickle.UnpicklingError(
                        f"{member} in {path} is not the array of shape {shape} that its header declares"
                    )
            else:
                stream.seek(0)
                array = np.lib.format.read_array(stream, allow_pickle=False)
            arrays[member.removesuffix(".npy")] = array
    return arrays
