"""`tf.io.gfile`: Python's functions of files and folders, for paths that may be tensors of strings."""

import builtins
import glob as patterns
import os
import shutil
from collections.abc import Iterator
from typing import Any

from nbkeras.compat.tensorflow.texts import path_of
from nbkeras.engine.outside import ordinary_file


def GFile(name: Any, mode: str = "r") -> Any:
    """An open file, of text in UTF-8 unless the mode has a 'b'."""
    text, end = (None, None) if "b" in mode else ("utf-8", "")  # ends of lines stay as they are
    return builtins.open(path_of(name), mode, encoding=text, newline=end, opener=ordinary_file)


open = GFile


def copy(src: Any, dst: Any, overwrite: bool = False) -> None:
    """Copy a file; dst may exist only with overwrite."""
    shutil.copyfile(path_of(src), _free(dst, overwrite))


def exists(path: Any) -> bool:
    """Whether there is such a file or folder."""
    return os.path.exists(path_of(path))


def glob(pattern: Any) -> list[str]:
    """The paths that a pattern, or one of several, describes."""
    return [path for each in (pattern if isinstance(pattern, list | tuple) else [pattern]) for path in _matches(each)]


def _matches(pattern: Any) -> list[str]:
    return sorted(patterns.glob(path_of(pattern)))


def isdir(path: Any) -> bool:
    """Whether there is such a folder."""
    return os.path.isdir(path_of(path))


def join(path: Any, *paths: Any) -> str:
    """Parts of a path in one."""
    return os.path.join(path_of(path), *map(path_of, paths))


def listdir(path: Any) -> list[str]:
    """The names of the files and folders in a folder."""
    return os.listdir(path_of(path))


def makedirs(path: Any) -> None:
    """Make a folder and those around it; it may exist."""
    os.makedirs(path_of(path), exist_ok=True)


def mkdir(path: Any) -> None:
    """Make a folder in one that exists."""
    os.mkdir(path_of(path))


def remove(path: Any) -> None:
    """Delete a file."""
    os.remove(path_of(path))


def rename(src: Any, dst: Any, overwrite: bool = False) -> None:
    """Give a file or a folder another path, which may exist only with overwrite."""
    os.replace(path_of(src), _free(dst, overwrite))


def rmtree(path: Any) -> None:
    """Delete a folder and everything in it."""
    shutil.rmtree(path_of(path))


def walk(top: Any, topdown: bool = True, onerror: Any = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, names of folders, names of files) of a folder and of those in it."""
    return os.walk(path_of(top), topdown, onerror)


def _free(path: Any, overwrite: bool) -> str:
    """The path, where nothing may be without overwrite."""
    path = path_of(path)
    if not overwrite and os.path.exists(path):
        raise FileExistsError(f"tf.io.gfile: {path} exists: pass overwrite=True, or another path")
    return path
