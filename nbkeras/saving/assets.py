"""Floor 3: the files of layers in a `.keras` archive: `save_assets(folder)` writes them, `load_assets(folder)` reads them.

Only the files of a user's own layers are unpacked into a temporary folder, since their code needs file names.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

from nbkeras.saving import archive as archives
from nbkeras.saving import state

_FOLDER = "assets"


def files_of(model: Any) -> dict[str, bytes]:
    """The files of a model's layers: name in the archive -> content."""
    found = {}
    for path, layer in state.walk(model):
        if hasattr(layer, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                layer.save_assets(folder)
                for name in names_in(folder):
                    found[_prefix(path) + name] = pathlib.Path(folder, name).read_bytes()
    return found


def read(names: Iterable[str], content: Callable[[str], bytes], file: Any, model: Any) -> None:
    """Give the layers of a model their files.

    names: the names of the files in the archive. content: returns the bytes of a name. file: the HDF5 file of the weights.
    """
    known = set(names)
    for path, layer in state.walk(model, file):
        prefix = _prefix(path)
        if hasattr(layer, "load_assets"):
            own = sorted(name for name in known if name.startswith(prefix) and not name.endswith("/"))
            with tempfile.TemporaryDirectory() as folder:
                for name in own:
                    _unpack(os.path.join(folder, name.removeprefix(prefix)), content(name), name)
                layer.load_assets(folder)
        elif hasattr(layer, "read_vocabulary") and f"{prefix}vocabulary.txt" in known:  # Keras: one term per line
            text = content(f"{prefix}vocabulary.txt")
            archives.check_count(text.count(b"\n"), f"{prefix}vocabulary.txt")
            layer.read_vocabulary(text.decode("utf-8").split("\n"))


def names_in(folder: str) -> Iterator[str]:
    """The relative paths, with slashes, of all files in a folder and its subfolders; links are left out."""
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield os.path.relpath(path, folder).replace(os.sep, "/")


def remove_others(folder: str, kept: Container[str]) -> None:
    """Remove an earlier model's asset files from a model's folder, since another layer could read them by their names.

    kept: the names of the present model's files, with slashes.
    """
    for name in list(names_in(os.path.join(folder, _FOLDER))):
        if f"{_FOLDER}/{name}" not in kept:
            os.remove(os.path.join(folder, _FOLDER, name))


def _prefix(path: str) -> str:
    return f"{_FOLDER}/{path}/" if path else f"{_FOLDER}/"


def _unpack(path: str, content: bytes, name: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(content)
    # a file and a folder of the same name, or names that differ only in case
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ValueError(f"{name} and another file of the archive have one name: it is not read") from None
