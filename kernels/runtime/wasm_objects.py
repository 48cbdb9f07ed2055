"""Object files of WebAssembly for a linker: their symbols, new names for some of them, and objects that hold only data.

After the header an object is sections: a kind, the number of bytes, the content. The section named linking has the symbols.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

MAGIC = b"\0asm"
_HEADER, _ANY_NAME, _IMPORTS, _SYMBOLS, _SEGMENTS, _DATA_SECTION = MAGIC + b"\1\0\0\0", 0, 2, 8, 5, 11
_FUNCTION, _DATA, _SECTION = 0, 1, 3  # kinds of symbols; the others are the linker's own
_LOCAL, _HIDDEN, _UNDEFINED, _NAMED = 2, 4, 16, 64  # flags of symbols
_ALIGNED = 6  # to 2**6 bytes


class _Reader:
    """Reads a part of an object from its start on."""

    def __init__(self, content: bytes, at: int = 0):
        self.content, self.at = content, at

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.content[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def bytes_(self) -> bytes:
        size = self.number()
        self.at += size
        return self.content[self.at - size : self.at]

    def parts(self) -> Iterator[tuple[int, bytes]]:
        """The kind and the content of each section, or of each part of the section of symbols."""
        while self.at < len(self.content):
            yield self.number(), self.bytes_()


class _Symbol(NamedTuple):
    kind: int
    flags: int
    before: bytes  # what is before the name in the table, and after it
    name: bytes
    has_name: bool  # otherwise it is the name of an import
    after: bytes


def names(content: bytes) -> tuple[list[str], list[str]]:
    """Returns the functions that an object defines for others, and the names that it uses. ValueError: it is damaged."""
    try:
        found = _symbols_of(content)
    except IndexError:
        raise ValueError("an object file cannot be read: it is cut off") from None
    defined = [s for s in found if s.kind == _FUNCTION and not s.flags & (_UNDEFINED | _LOCAL)]
    used = [s for s in found if s.kind in (_FUNCTION, _DATA) and s.flags & _UNDEFINED]
    return [s.name.decode() for s in defined], [s.name.decode() for s in used]


def hidden(content: bytes, others: Mapping[str, str]) -> bytes:
    """Hides an object's symbols from users of the module. others: new names of some symbols."""
    parts = [_HEADER]
    for kind, section in _Reader(content, len(_HEADER)).parts():
        reader = _Reader(section)
        if kind == _ANY_NAME and reader.bytes_() == b"linking":
            reader.number()  # the version
            inner = [section[: reader.at]]
            for part, table in reader.parts():
                inner.append(_part(part, _renamed(table, content, others) if part == _SYMBOLS else table))
            section = b"".join(inner)
        parts.append(_part(kind, section))
    return b"".join(parts)


def of_data(symbol: str, content: bytes) -> bytes:
    """Returns an object with constants. A hidden symbol marks their start, at a multiple of 64 bytes."""
    memory = b"\1" + _text(b"env") + _text(b"__linear_memory") + b"\2\0\0"
    data = b"\1\0\x41\0\x0b" + _number(len(content)) + content  # at the address 0 of the segment
    segment = b"\1" + _text(b".rodata." + symbol.encode()) + bytes([_ALIGNED, 0])
    table = bytes([1, _DATA, _HIDDEN]) + _text(symbol.encode()) + b"\0\0" + _number(len(content))
    linking = _text(b"linking") + b"\2" + _part(_SEGMENTS, segment) + _part(_SYMBOLS, table)
    return _HEADER + _part(_IMPORTS, memory) + _part(_DATA_SECTION, data) + _part(_ANY_NAME, linking)


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _text(name: bytes) -> bytes:
    return _number(len(name)) + name


def _part(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + _number(len(content)) + content


def _symbols_of(content: bytes) -> list[_Symbol]:
    if content[:8] != _HEADER:
        raise ValueError("an object file cannot be read: it is not WebAssembly")
    for kind, section in _Reader(content, len(_HEADER)).parts():
        reader = _Reader(section)
        if kind == _ANY_NAME and reader.bytes_() == b"linking":
            reader.number()
            return [symbol for part, table in reader.parts() if part == _SYMBOLS for symbol in _table(table, content)]
    return []


def _table(table: bytes, content: bytes) -> Iterator[_Symbol]:
    """Yields the symbols of a table. Undefined ones may have the name of an import."""
    imported, reader = _imported(content), _Reader(table)
    for _ in range(reader.number()):
        kind, flags, index = reader.number(), reader.number(), 0
        start, is_own = reader.at, not flags & _UNDEFINED
        if kind != _DATA:
            index = reader.number()
        before = table[start : reader.at]
        has_name = kind == _DATA or (kind != _SECTION and (is_own or flags & _NAMED))
        name = reader.bytes_() if has_name else imported[index] if kind == _FUNCTION else b""
        start = reader.at
        for _ in range(3 if kind == _DATA and is_own else 0):  # the segment, the place in it, the size
            reader.number()
        yield _Symbol(kind, flags, before, name, bool(has_name), table[start : reader.at])


def _renamed(table: bytes, content: bytes, others: Mapping[str, str]) -> bytes:
    found = list(_table(table, content))
    parts = [_number(len(found))]
    for kind, flags, before, name, has_name, after in found:
        is_public = kind != _SECTION and not flags & (_UNDEFINED | _LOCAL)
        parts.append(bytes([kind]) + _number(flags | _HIDDEN * is_public) + before)
        parts.append((_text(others.get(name.decode(), name.decode()).encode()) if has_name else b"") + after)
    return b"".join(parts)


def _imported(content: bytes) -> list[bytes]:
    """Returns the names of the functions that an object imports."""
    found = []
    for kind, section in _Reader(content, len(_HEADER)).parts():
        reader = _Reader(section)
        for _ in range(reader.number() if kind == _IMPORTS else 0):
            reader.bytes_()
            name, what = reader.bytes_(), reader.number()
            if what == 0:  # a function: its type
                found.append(name)
                reader.number()
            elif what == 3:  # a global: its type, and whether it changes
                reader.at += 2
            else:  # a table, with the type of its elements, or a memory: its limits
                reader.at += what == 1
                for _ in range(1 + reader.number() % 2):
                    reader.number()
    return found
