"""Floor 3: strings of variable length in attributes of an HDF5 file, read from the file's bytes.

The file stores such a string in a heap, and the attribute holds its address. The HDF5 library does not check the numbers in
the heap: a wrong number makes it loop forever or allocate 4 GB, and no signal stops it. So the library only finds the
attribute's object. This module reads the rest and checks every number, by the HDF5 File Format Specification 3.0: object
headers (IV.A), attributes (IV.A.2.m), global heaps (III.E).
"""

from __future__ import annotations

import io
import struct
from typing import IO, Any

from nbkeras.saving import archive

_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C  # types of messages
_TOTAL = 2 * archive.JSON_LIMIT  # maximum bytes read for all strings of one file
_FREE, _TIMES = 1 << 24, 4  # limit of the strings, which are read a few times: _FREE bytes plus _TIMES the file's size
_DAMAGED = "the file is damaged: an attribute's string is not where it should be"


class Texts:
    """The strings of one open h5py.File; the binary file `source` holds its bytes."""

    def __init__(self, file: Any, source: IO[bytes]):
        plist = file.id.get_create_plist()
        self._source, self._start, self._widths = source, plist.get_userblock(), plist.get_sizes()
        self.size = source.seek(0, io.SEEK_END) - self._start
        self._headers: dict[int, dict[bytes, bytes]] = {}
        self._heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self._limit = self._left = min(_TOTAL, _FREE + _TIMES * self.size)
        self._parts = 0

    def read(self, address: int, name: str, count: int) -> list[bytes]:
        """The `count` strings in an attribute of the object at an address."""
        if address not in self._headers:
            self._headers[address] = self._header(address)
        places = self._headers[address].get(name.encode())
        if places is None or self._widths != (8, 8):
            raise ValueError(f"the attribute {name!r} is stored in a form that model files do not use: it is not read")
        positions = [self._position(*_unpacked("<IQI", places, 16 * number)) for number in range(count)]
        # check before the first read, because all may be the same long string
        self.check(sum(size for _, size in positions))
        return [self._bytes(at, size).partition(b"\0")[0] for at, size in positions]

    def check(self, size: int) -> None:
        """Raise ValueError if `size` bytes of strings exceed the rest of the file's limit."""
        if size > self._left:
            raise ValueError(
                f"the file's strings take more than {self._limit} bytes, too many for a model of its size: they are not read"
            )

    def take(self, size: int) -> None:
        """Count bytes of kept strings, also of fixed length. Raises ValueError if the file has too many."""
        self.check(size)
        self._left -= size

    def _bytes(self, at: int, size: int) -> bytes:
        """`size` bytes of the file. Raises ValueError if it has fewer."""
        self.take(size)
        if at + size > self.size:
            raise ValueError(_DAMAGED)
        self._source.seek(self._start + at)
        return self._source.read(size)

    def _count(self) -> None:
        self._parts += 1
        archive.check_count(self._parts, "the structure around the file's strings")

    def _header(self, address: int) -> dict[bytes, bytes]:
        """The content of an object's attributes by name, from the messages of its header, which may have several pieces."""
        prefix = self._bytes(address, 16)
        new = prefix[:4] == b"OHDR"
        if new:
            flags = prefix[5]
            at = address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
            width = 1 << (flags & 3)
            pieces = [(at + width, int.from_bytes(self._bytes(at, width), "little"))]
            form, head, shared = "<BHB", 6 if flags & 0x04 else 4, 2
        else:
            pieces = [(address + 16, *_unpacked("<I", prefix, 8))]
            form, head, shared = "<HHB", 8, 2
        found: dict[bytes, bytes] = {}
        for number, (at, size) in enumerate(pieces):  # `pieces` grows
            data = self._bytes(at, size)
            if new and number:
                data = data[4:-4]  # without the signature before the messages and the checksum after them
            at = 0
            while at + head <= len(data):
                self._count()
                kind, size, flags = _unpacked(form, data, at)
                message = data[at + head : at + head + size]
                if kind == _CONTINUATION:
                    pieces.append(_unpacked("<QQ", message, 0))
                elif kind == _ATTRIBUTE and not flags & shared:
                    name, content = _attribute(message)
                    found.setdefault(name, content)
                at += head + size
        return found

    def _position(self, length: int, address: int, number: int) -> tuple[int, int]:
        """(position, length) of an attribute's string in the file."""
        if not length:
            return 0, 0
        if address not in self._heaps:
            self._heaps[address] = self._heap(address)
        at, size = self._heaps[address].get(number, (0, 0))
        if size != length:
            raise ValueError(_DAMAGED)
        return at, size

    def _heap(self, address: int) -> dict[int, tuple[int, int]]:
        """The (position, length) of a heap's objects, by number."""
        mark, size = _unpacked("<8sQ", self._bytes(address, 16), 0)
        if mark[:5] != b"GCOL\x01" or address + size > self.size:
            raise ValueError(_DAMAGED)
        found: dict[int, tuple[int, int]] = {}
        at, end = address + 16, address + size
        while at + 16 <= end:
            self._count()
            number, length = _unpacked("<H6xQ", self._bytes(at, 16), 0)
            if not number:  # the free space after the last object
                break
            at += 16
            found[number] = at, length
            at += -(-length // 8) * 8
        return found


def _unpacked(form: str, data: bytes, at: int) -> Any:
    if at + struct.calcsize(form) > len(data):
        raise ValueError(_DAMAGED)
    return struct.unpack_from(form, data, at)


def _attribute(message: bytes) -> tuple[bytes, bytes]:
    """(name, content) of an attribute's message."""
    version, *sizes = _unpacked("<BxHHH", message, 0)
    at = 9 if version == 3 else 8  # version 3 has a byte for the name's encoding
    name = message[at : at + sizes[0]].partition(b"\0")[0]
    return name, message[at + sum(-(-size // 8) * 8 if version == 1 else size for size in sizes) :]
