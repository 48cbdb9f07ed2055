"""The compiled kernels that the package itself holds: a file of objects for each target, such as packed/x86-64-v3.pack.

A file starts with MAGIC, the bytes of a description (JSON), the number of objects and a digest of the next two: the description,
and the table of objects sorted by their keys. The objects follow. A process reads only the objects that it uses; each is compared
with its digest first. The file is opened for each, since a file that is mapped must not become shorter, and an update of the
package may replace it. `scripts/make_wheels.py` writes the files, and code.py makes the keys.
"""

import functools
import hashlib
import json
import os
import struct
import warnings
from collections.abc import Mapping
from typing import IO, Any

from nbkeras.kernels.runtime.opener import ordinary_file

_MAGIC = b"nbkpack2"
_HEAD = struct.Struct("<8sII32s")  # MAGIC, bytes of the description, objects, digest of the description and the table
_ENTRY = struct.Struct("<16sQI32s")  # key, position in the file, bytes, digest
KEY_BYTES = 16


class _Damaged(ValueError):
    """Raised for a file that cannot be a pack."""


class Pack:
    """The description and the table of a file."""

    def __init__(self, file: IO[bytes]):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(_HEAD.size)
        magic, length, self.count, digest = _HEAD.unpack(start.ljust(_HEAD.size, b"\0"))
        own = length + self.count * _ENTRY.size
        if magic != _MAGIC or _HEAD.size + own > size:
            raise _Damaged("its start is damaged")
        content = file.read(own)
        if hashlib.sha256(content).digest() != digest:
            raise _Damaged("its start is damaged")
        self.description, self._table = json.loads(content[:length]), content[length:]

    def find(self, file: IO[bytes], key: bytes) -> bytes | None:
        """Returns the object of a key; None if there is none. Raises ValueError if it is damaged."""
        low, high = 0, self.count
        while low < high:
            middle = (low + high) // 2
            found, at, size, digest = _ENTRY.unpack_from(self._table, middle * _ENTRY.size)
            if found == key:
                file.seek(at)
                content = file.read(size)
                if hashlib.sha256(content).digest() != digest:
                    raise _Damaged("an object is damaged")
                return content
            low, high = (middle + 1, high) if found < key else (low, middle)
        return None


def packed(objects: Mapping[bytes, bytes], description: Mapping[str, Any]) -> bytes:
    """Returns the content of a file with these objects by key. description: has the target, and `code.sources`."""
    head = json.dumps(description, sort_keys=True).encode()
    at = _HEAD.size + len(head) + len(objects) * _ENTRY.size
    table, contents = [], []
    for key, content in sorted(objects.items()):
        table.append(_ENTRY.pack(key, at, len(content), hashlib.sha256(content).digest()))
        contents.append(content)
        at += len(content)
    own = b"".join([head, *table])
    return b"".join([_HEAD.pack(_MAGIC, len(head), len(objects), hashlib.sha256(own).digest()), own, *contents])


def find(path: str, key: bytes) -> bytes | None:
    """Returns an object of a file; None if the file does not hold it, or if it is damaged, with a warning."""
    try:
        with open(path, "rb", opener=ordinary_file) as file:
            status = os.fstat(file.fileno())
            pack = of(path, status.st_ino, status.st_mtime_ns)
            return None if pack is None else pack.find(file, key)
    except (OSError, ValueError) as error:
        _warn(path, str(error))
        return None


def description(path: str) -> dict[str, Any]:
    """Returns the description of a file; an empty one if it cannot be used."""
    try:
        status = os.stat(path)
    except OSError as error:
        _warn(path, str(error))
        return {}
    pack = of(path, status.st_ino, status.st_mtime_ns)
    return {} if pack is None else pack.description


@functools.cache
def of(path: str, *version: int) -> Pack | None:
    """Returns the table of a file. Warns and returns None if the file cannot be used. version: differs after a replacement."""
    try:
        with open(path, "rb", opener=ordinary_file) as file:
            pack = Pack(file)
            target = os.path.basename(path).removesuffix(".pack")
            if pack.description.get("target") != target:
                raise _Damaged(
                    f"it holds kernels for {pack.description.get('target')}, whose instructions may be others"
                )
            return pack
    except (OSError, ValueError) as error:
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
