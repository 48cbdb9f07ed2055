"""The compiled kernels that the package itself holds: a file of objects for each target, such as packed/x86-64-v3.pack.

A file starts with MAGIC, the bytes of a description (JSON) and the number of objects. The description follows, then the table of
objects sorted by their keys, then the objects. A file is mapped, so that a process reads only the objects that it uses; each is
compared with its digest first. `scripts/make_wheels.py` writes the files, and code.py makes the keys.
"""

import functools
import hashlib
import json
import mmap
import struct
import warnings
from collections.abc import Mapping
from typing import Any

_MAGIC = b"nbkpack1"
_HEAD = struct.Struct("<8sII")  # MAGIC, bytes of the description, objects
_ENTRY = struct.Struct("<16sQI32s")  # key, position in the file, bytes, digest
KEY_BYTES = 16


class _Damaged(ValueError):
    """Raised for a file that cannot be a pack."""


class Pack:
    """The objects of one file."""

    def __init__(self, content: Any):
        try:
            magic, length, self.count = _HEAD.unpack_from(content, 0)
            self.description = json.loads(content[_HEAD.size : _HEAD.size + length])
        except (struct.error, ValueError) as error:
            raise _Damaged("its start is damaged") from error
        self._content, self._table = content, _HEAD.size + length
        if magic != _MAGIC or self._table + self.count * _ENTRY.size > len(content):
            raise _Damaged("its start is damaged")

    def find(self, key: bytes) -> bytes | None:
        """Returns the object of a key; None if there is none. Raises ValueError if it is damaged."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            found, at, size, digest = _ENTRY.unpack_from(self._content, self._table + middle * _ENTRY.size)
            if found == key:
                content = self._content[at : at + size]
                if hashlib.sha256(content).digest() != digest:
                    raise _Damaged("an object is damaged")
                return content
            low, high = (middle + 1, high) if found < key else (low, middle)
        return None


def packed(objects: Mapping[bytes, bytes], description: Any) -> bytes:
    """Returns the content of a file with these objects by key."""
    head = json.dumps(description, sort_keys=True).encode()
    at = _HEAD.size + len(head) + len(objects) * _ENTRY.size
    table, contents = [], []
    for key, content in sorted(objects.items()):
        table.append(_ENTRY.pack(key, at, len(content), hashlib.sha256(content).digest()))
        contents.append(content)
        at += len(content)
    return b"".join([_HEAD.pack(_MAGIC, len(head), len(objects)), head, *table, *contents])


@functools.cache
def of(path: str) -> Pack | None:
    """Returns the objects of a file. Warns and returns None if the file cannot be used."""
    try:
        with open(path, "rb") as file:
            return Pack(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        _warn(path, str(error))
        return None


def find(path: str, key: bytes) -> bytes | None:
    """Returns an object of a file; None if the file does not hold it, or if it is damaged, with a warning."""
    found = of(path)
    try:
        return None if found is None else found.find(key)
    except _Damaged as error:
        _warn(path, str(error))
        return None


@functools.cache
def _warn(path: str, why: str) -> None:
    warnings.warn(
        f"nbkeras cannot use compiled kernels of {path}: {why}. It compiles them if Numba is installed. To repair it: "
        "pip install --force-reinstall nbkeras",
        RuntimeWarning,
        stacklevel=2,
    )
