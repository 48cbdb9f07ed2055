"""Prepares object files (ELF) for a linker: renames and hides symbols, and makes objects that hold only data."""

import struct
from collections.abc import Mapping

from nbkeras.kernels.runtime import elf

_HIDDEN = 2  # a symbol's second byte: other libraries do not see it
_GLOBAL_DATA = 0x11  # a symbol's first byte: global, for data
_SYMBOL, _SECTION, _HEADER = "<IBBHQQ", "<IIQQQQIIQQ", 64
_MAX_ALIGNED = 64
# Machines whose code elf.py cannot load: the number in the header, and the flags (RISC-V: doubles are in registers)
_OTHERS = {"riscv64": (243, 5)}


def hidden(content: bytes, names: Mapping[str, str]) -> bytes:
    """Hides an object's symbols from other libraries. names: new names of some symbols."""
    file, image = elf.File(content), bytearray(content)
    table = file.sections[file.symbol_table]
    (sections,) = struct.unpack_from("<Q", content, 40)
    old = file.sections[table.link]
    texts = bytearray(content[old.offset : old.offset + old.size])
    for index, symbol in enumerate(file.symbols):
        at = table.offset + index * table.row
        if symbol.info >> 4 and symbol.section:
            image[at + 5] = image[at + 5] & ~3 | _HIDDEN
        name = names.get(file.symbol_name(index)) if index else None
        if name is not None:
            struct.pack_into("<I", image, at, len(texts))
            texts += name.encode() + b"\0"
    # append a longer table of names to the file, in place of the old one
    struct.pack_into("<QQ", image, sections + table.link * _HEADER + 24, len(image), len(texts))
    return bytes(image + texts)


def of_data(machine: str, symbol: str, content: bytes) -> bytes:
    """Returns an object with constants. A hidden symbol marks their start, at a multiple of 64 bytes."""
    names = b"\0.rodata\0.symtab\0.strtab\0.note.GNU-stack\0"
    symbols = bytes(24) + struct.pack(_SYMBOL, 1, _GLOBAL_DATA, _HIDDEN, 1, 0, len(content))
    texts = b"\0" + symbol.encode() + b"\0"
    start = _HEADER + -_HEADER % _MAX_ALIGNED
    at = [start]
    for part in (content, symbols, texts, names):
        at.append(at[-1] + len(part) + -len(part) % 8)
    sections = (
        (0,) * 10,
        (names.index(b".rodata"), 1, 2, 0, at[0], len(content), 0, 0, _MAX_ALIGNED, 0),
        (names.index(b".symtab"), 2, 0, 0, at[1], len(symbols), 3, 1, 8, 24),
        (names.index(b".strtab"), 3, 0, 0, at[2], len(texts), 0, 0, 1, 0),
        (0, 3, 0, 0, at[3], len(names), 0, 0, 1, 0),
        (names.index(b".note.GNU"), 1, 0, 0, at[4], 0, 0, 0, 1, 0),  # without it the stack would be executable
    )
    code, flags = _OTHERS.get(machine) or (elf.code_of(machine), 0)
    header = b"\x7fELF\2\1\1" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 1, code, 1, 0, 0, at[4], flags, 64, 0, 0, 64, len(sections), 4)
    image = header.ljust(start, b"\0")
    for part, end in zip((content, symbols, texts, names), at[1:], strict=True):
        image = (image + part).ljust(end, b"\0")
    return image + b"".join(struct.pack(_SECTION, *each) for each in sections)
