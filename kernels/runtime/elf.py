"""Links relocatable object files (ELF, for x86-64 and aarch64) for an address that the caller chooses.

This module converts bytes to bytes, for any machine on any machine; it makes no system calls and uses no memory by address.
Files come from a disk, so everything in them is checked: unknown or inconsistent content raises ValueError, and never crashes.
A file must link wherever the system maps memory. So a call to a target out of reach goes through a stub, a jump to an address.
Other uses of external symbols go through a cell that holds the address, as in the position-independent code of compilers.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

LARGEST = 1 << 26  # max bytes of an object in memory: more than any kernel, and within reach of calls on both machines
_MAX_ALIGNED = 4096  # the smallest page size of any system
_STUB, _CELL_SIZE = 16, 8  # bytes of a stub and of a cell


class UnresolvedSymbol(LookupError):
    """An object uses a symbol without a definition."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"a compiled kernel uses the symbol {self.name!r}, which neither the C library nor another kernel defines"
        )


def _refused(what: str) -> ValueError:
    return ValueError(f"an object file cannot be loaded: {what}")


# -------------------- relocations --------------------

# how a relocation refers to its symbol
_VALUE = "value"  # by the address itself
_NEAR = "near"  # by a distance, only within the object
_CALL = "call"  # by a jump, which may go through a stub
_CELL = "cell"  # by a cell of the object that holds the address


class _Kind(NamedTuple):
    reach: str
    form: str  # the format of a number, or the name of an instruction's field
    width: int = 4  # bytes to write
    size: int = 1  # bytes that the instruction loads or stores; they are the field's unit


def _write(image: bytearray, at: int, kind: _Kind, target: int, place: int) -> None:
    """Writes a number or a field of an instruction. Raises struct.error if it does not fit."""
    if kind.reach == _VALUE:
        struct.pack_into(kind.form, image, at, target)
    elif kind.form in ("<i", "<q"):
        struct.pack_into(kind.form, image, at, target - place)
    elif kind.form == "branch":
        _write_field(image, at, 0x3FFFFFF, _signed(_divided(target - place, 4), 26))
    elif kind.form == "page":  # a page has 4,096 bytes for this instruction, whatever the system's page size
        pages = _signed((target >> 12) - (place >> 12), 21)
        _write_field(image, at, 0x60FFFFE0, (pages & 3) << 29 | pages >> 2 << 5)
    else:  # the address within its page
        _write_field(image, at, 0xFFF << 10, _divided(target & 0xFFF, kind.size) << 10)


def _write_field(image: bytearray, at: int, mask: int, bits: int) -> None:
    (word,) = struct.unpack_from("<I", image, at)
    struct.pack_into("<I", image, at, word & ~mask | bits)


def _divided(number: int, size: int) -> int:
    if number % size:
        raise struct.error
    return number // size


def _signed(number: int, bits: int) -> int:
    """Reads a number in two's complement with this number of bits."""
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise struct.error
    return number & (1 << bits) - 1


class _Machine(NamedTuple):
    code: int  # the machine's number in a file's header
    kinds: dict[int, _Kind]
    stub: bytes  # code that jumps to the address after it
    call_reach: int  # bytes that a call reaches, forwards and backwards
    call_addend: int  # the addend of a call to the start of a symbol


_MACHINES = {
    "x86_64": _Machine(
        62,
        {
            1: _Kind(_VALUE, "<Q", 8),  # R_X86_64_64
            2: _Kind(_NEAR, "<i"),  # PC32
            4: _Kind(_CALL, "<i"),  # PLT32
            9: _Kind(_CELL, "<i"),  # GOTPCREL
            10: _Kind(_VALUE, "<I"),  # 32
            11: _Kind(_VALUE, "<i"),  # 32S
            24: _Kind(_NEAR, "<q", 8),  # PC64
            41: _Kind(_CELL, "<i"),  # GOTPCRELX
            42: _Kind(_CELL, "<i"),  # REX_GOTPCRELX
        },
        b"\xff\x25\0\0\0\0",  # jmp [rip]
        1 << 31,
        -4,  # the processor counts from the instruction's end
    ),
    "aarch64": _Machine(
        183,
        {
            257: _Kind(_VALUE, "<Q", 8),  # R_AARCH64_ABS64
            260: _Kind(_NEAR, "<q", 8),  # PREL64
            261: _Kind(_NEAR, "<i"),  # PREL32
            275: _Kind(_NEAR, "page"),  # ADR_PREL_PG_HI21
            277: _Kind(_NEAR, "rest"),  # ADD_ABS_LO12_NC
            278: _Kind(_NEAR, "rest"),  # LDST8_ABS_LO12_NC
            282: _Kind(_CALL, "branch"),  # JUMP26
            283: _Kind(_CALL, "branch"),  # CALL26
            284: _Kind(_NEAR, "rest", size=2),  # LDST16_ABS_LO12_NC
            285: _Kind(_NEAR, "rest", size=4),  # LDST32_ABS_LO12_NC
            286: _Kind(_NEAR, "rest", size=8),  # LDST64_ABS_LO12_NC
            299: _Kind(_NEAR, "rest", size=16),  # LDST128_ABS_LO12_NC
            311: _Kind(_CELL, "page"),  # ADR_GOT_PAGE
            312: _Kind(_CELL, "rest", size=8),  # LD64_GOT_LO12_NC
        },
        b"\x50\0\0\x58\0\x02\x1f\xd6",  # ldr x16, [pc + 8]; br x16
        1 << 27,
        0,
    ),
}
MACHINES = tuple(_MACHINES)  # names as in `os.uname`


def code_of(machine: str) -> int:
    """Returns a machine's number in the header of a file."""
    return _MACHINES[machine].code


# -------------------- the file --------------------


class _Section(NamedTuple):
    name: int  # the name's offset in the section of names
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int  # index of the section with a table's names or symbols
    info: int  # index of the section that relocations apply to
    alignment: int
    row: int  # bytes of a row of a table


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


_NONE, _CONTENT, _SYMBOLS, _NAMES, _RELOCATIONS, _NOTE, _ZEROS, _GROUP = 0, 1, 2, 3, 4, 7, 8, 17
_UNWINDING, _ADDRESSED = 0x70000001, 0x6FFF4C03  # _ADDRESSED is LLVM's list of symbols whose addresses matter
_ATTRIBUTES = 0x70000003  # of RISC-V, for linkers
# other kinds (other relocations, for example) would change the meaning of the object
_KNOWN = {_NONE, _CONTENT, _SYMBOLS, _NAMES, _RELOCATIONS, _NOTE, _ZEROS, _GROUP, _UNWINDING, _ADDRESSED, _ATTRIBUTES}
_WRITABLE, _LOADED, _EXECUTABLE, _OF_THREADS, _COMPRESSED = 1, 2, 4, 0x400, 0x800  # flags of sections
_FUNCTION, _LAST_PLAIN = 2, 5  # types of symbols; later types are thread-local, or chosen at run time
_UNDEFINED, _ABSOLUTE, _COMMON = 0, 0xFFF1, 0xFFF2  # special values of a symbol's section


class File:
    """The sections and symbols of an object file, checked."""

    def __init__(self, content: bytes) -> None:
        if len(content) < 64 or content[:7] != b"\x7fELF\2\1\1":
            raise _refused("it is not an ELF file of 64 bits, little endian")
        header = struct.unpack_from("<HHIQQQIHHHHHH", content, 16)
        kind, self.machine, version, _, _, at, _, size, _, _, row, count, names = header
        if (kind, version, size, row) != (1, 1, 64, 64):
            raise _refused("it is not a relocatable object")
        if not 0 < count < 0xFF00 or at + row * count > len(content):
            raise _refused("its table of sections is cut off")
        self._content = content
        self.sections = list(map(_Section._make, struct.iter_unpack("<IIQQQQIIQQ", content[at : at + row * count])))
        for index, section in enumerate(self.sections):
            if section.kind not in _KNOWN:
                raise _refused(f"section {index} has the unknown type {section.kind:#x}")
            if section.kind not in (_NONE, _ZEROS) and section.offset + section.size > len(content):
                raise _refused(f"section {index} is cut off")
            _check_alignment(section.alignment, f"section {index}")
        tables = [index for index, section in enumerate(self.sections) if section.kind == _SYMBOLS]
        if len(tables) != 1:
            raise _refused(f"it has {len(tables)} tables of symbols instead of one")
        self.symbol_table = tables[0]
        self.symbols = list(map(_Symbol._make, self.rows(tables[0], "<IBBHQQ")))
        for index, symbol in enumerate(self.symbols):
            self._check_symbol(index, symbol)
        self._section_names, self._symbol_names = names, self.sections[tables[0]].link

    def bytes_of(self, index: int) -> bytes:
        section = self.sections[index]
        return self._content[section.offset : section.offset + section.size]

    def rows(self, index: int, layout: str) -> Iterator[tuple[Any, ...]]:
        section = self.sections[index]
        if section.row != struct.calcsize(layout) or section.size % section.row:
            raise _refused(f"section {index} has rows of {section.row} bytes")
        return struct.iter_unpack(layout, self.bytes_of(index))

    def _check_symbol(self, index: int, symbol: _Symbol) -> None:
        if symbol.info & 15 > _LAST_PLAIN:
            raise _refused(f"symbol {index} is of type {symbol.info & 15}: thread-local, chosen at run time or unknown")
        if symbol.section < len(self.sections):
            within = self.sections[symbol.section].size
            if symbol.section != _UNDEFINED and symbol.value + symbol.size > within:
                raise _refused(f"symbol {index} ends outside its section")
        elif symbol.section == _COMMON:
            _check_alignment(symbol.value, f"symbol {index}")
        elif symbol.section != _ABSOLUTE:
            raise _refused(f"symbol {index} is in section {symbol.section:#x}, which does not exist")

    def section_name(self, index: int) -> str:
        return self._name(self._section_names, self.sections[index].name)

    def symbol_name(self, index: int) -> str:
        return self._name(self._symbol_names, self.symbols[index].name)

    def _name(self, table: int, at: int) -> str:
        if table >= len(self.sections) or self.sections[table].kind != _NAMES:
            raise _refused("it has no table of names")
        names = self.sections[table]
        end = self._content.find(b"\0", names.offset + at, names.offset + names.size)
        if end < 0:
            raise _refused("a name is cut off")
        return self._content[names.offset + at : end].decode(errors="backslashreplace")

    def functions(self) -> dict[str, int]:
        """The global functions that the object defines, as {name: index of the symbol}."""
        found: dict[str, int] = {}
        for index, symbol in enumerate(self.symbols):
            if symbol.info >> 4 and symbol.info & 15 == _FUNCTION and symbol.section != _UNDEFINED:
                name = self.symbol_name(index)
                if not name or name in found:
                    raise _refused(f"it defines the function {name!r} twice, or a function without a name")
                found[name] = index
        return found

    def undefined(self) -> list[str]:
        """The names that the object uses but does not define."""
        indices = range(1, len(self.symbols))  # the first symbol is a dummy
        return [self.symbol_name(index) for index in indices if self.symbols[index].section == _UNDEFINED]


def _check_alignment(alignment: int, what: str) -> None:
    if alignment & (alignment - 1) or alignment > _MAX_ALIGNED:
        raise _refused(f"{what} is aligned to {alignment} bytes")


# -------------------- layout and links --------------------

_CODE, _CONSTANTS, _DATA, _ZEROED = range(4)  # the parts of an object, in their order in memory


class ObjectLayout:
    """The offsets of an object's parts from a base that is not known yet, and the relocations to apply."""

    size: int  # bytes, a multiple of the page
    constants: int  # the offset where this part begins, at a page, and the one before ends; likewise below
    data: int

    def __init__(self, content: bytes, machine: str, page: int) -> None:
        self._file, self._machine = File(content), _MACHINES[machine]
        if self._file.machine != self._machine.code:
            raise _refused(f"it is for machine {self._file.machine}, and this one is {self._machine.code}, {machine}")
        sections: list[list[int]] = [[], [], [], []]
        for index in range(len(self._file.sections)):
            if (part := self._part(index)) is not None:
                sections[part].append(index)
        self._relocations: list[tuple[int, int, _Kind, int, int]] = []  # (section, offset in it, kind, symbol, addend)
        self._undefined: dict[int, str] = {}  # index of a symbol: its name
        # the offsets of sections, and of a symbol's stub, cell or memory
        self._sections: dict[int, int] = {}
        self._stubs: dict[int, int] = {}
        self._cells: dict[int, int] = {}
        self._commons: dict[int, int] = {}  # zeros that belong to this object, which is not linked with others
        self._read_relocations({index for part in sections for index in part})
        self._lay_out(sections, page)
        self._functions = self._file.functions()
        for name, index in self._functions.items():
            if self._file.symbols[index].section not in sections[_CODE]:
                raise _refused(f"the function {name!r} is not in code")

    def _part(self, index: int) -> int | None:
        """Returns the part of a section; None if the section is not loaded."""
        section, name = self._file.sections[index], self._file.section_name(index)
        if not section.flags & _LOADED or section.kind in (_NOTE, _UNWINDING) or name == ".eh_frame":
            return None  # no exception passes through a kernel, so its frames are never unwound
        starters = name.startswith((".ctors", ".dtors"))  # sections of functions that run when a library is loaded
        if section.kind not in (_CONTENT, _ZEROS) or section.flags & (_OF_THREADS | _COMPRESSED) or starters:
            raise _refused(f"section {name} is of kind {section.kind:#x} with flags {section.flags:#x}")
        access = section.flags & (_WRITABLE | _EXECUTABLE)
        if access == _WRITABLE | _EXECUTABLE:
            raise _refused(f"section {name} would be writable and executable")
        if section.kind == _ZEROS:
            if access != _WRITABLE:
                raise _refused(f"section {name} is without content and not writable")
            return _ZEROED
        if access == _EXECUTABLE:
            return _CODE
        # Constants that contain addresses are marked writable until they are linked.
        return _CONSTANTS if not access or name.startswith(".data.rel.ro") else _DATA

    def _read_relocations(self, loaded: set[int]) -> None:
        """Lists the relocations, and the stubs and cells that they need."""
        sections = self._file.sections
        for table, section in enumerate(sections):
            if section.kind != _RELOCATIONS:
                continue
            if section.info >= len(sections) or section.link != self._file.symbol_table:
                raise _refused(f"the relocations in section {table} are for sections that do not exist")
            if section.info not in loaded:
                continue
            within = 0 if sections[section.info].kind == _ZEROS else sections[section.info].size
            for offset, info, addend in self._file.rows(table, "<QQq"):
                kind, index = self._machine.kinds.get(info & 0xFFFFFFFF), info >> 32
                if kind is None:
                    raise _refused(f"a relocation has the unknown type {info & 0xFFFFFFFF}")
                if not 0 < index < len(self._file.symbols) or offset + kind.width > within:
                    raise _refused(f"a relocation in section {table} points outside")
                self._prepare(kind, index, addend)
                self._relocations.append((section.info, offset, kind, index, addend))

    def _prepare(self, kind: _Kind, index: int, addend: int) -> None:
        where = self._file.symbols[index].section
        if where == _UNDEFINED:
            name = self._undefined.get(index) or self._file.symbol_name(index)
            if kind.reach == _NEAR or kind.reach == _CALL and addend != self._machine.call_addend:
                raise _refused(f"it uses {name!r}, which it does not define, like position-dependent code")
            self._undefined[index] = name
            if kind.reach == _CALL:
                self._stubs[index] = 0
        elif where == _COMMON:
            self._commons[index] = 0
        if kind.reach == _CELL:
            self._cells[index] = 0

    def _lay_out(self, sections: list[list[int]], page: int) -> None:
        end, starts = 0, []

        def reserve(size: int, alignment: int) -> int:
            nonlocal end
            at = _up(end, alignment or 1)
            end = at + size
            if end > LARGEST:
                raise _refused(f"it takes more than {LARGEST} bytes of memory")
            return at

        for part in range(4):
            if part != _ZEROED:  # zeroed memory follows the data in the same pages
                end = _up(end, page)
            starts.append(end)
            for index in sections[part]:
                section = self._file.sections[index]
                self._sections[index] = reserve(section.size, section.alignment)
            for index in self._stubs if part == _CODE else ():
                self._stubs[index] = reserve(_STUB, _STUB)
            for index in self._cells if part == _CONSTANTS else ():
                self._cells[index] = reserve(_CELL_SIZE, _CELL_SIZE)
        for index in self._commons:
            symbol = self._file.symbols[index]
            self._commons[index] = reserve(symbol.size, symbol.value)
        _, self.constants, self.data, self._zeros = starts
        self.size = _up(end, page)
        if not self.constants:
            raise _refused("it has no code")

    def link(self, base: int, resolve: Callable[[str], int | None]) -> tuple[bytearray, dict[str, int]]:
        """Returns the content for memory at `base` (zeros follow it), and the addresses of the global functions."""
        addresses = {index: resolved(name, resolve) for index, name in self._undefined.items()}
        image = bytearray(self._zeros)
        for index, at in self._sections.items():
            if at < self._zeros:
                content = self._file.bytes_of(index)
                image[at : at + len(content)] = content
        for index, at in self._stubs.items():
            image[at : at + _STUB] = (self._machine.stub + struct.pack("<Q", addresses[index])).ljust(_STUB, b"\0")
        for _, _, _, index, _ in self._relocations:
            if index not in addresses:
                addresses[index] = self._address(index, base)
        for index, at in self._cells.items():
            struct.pack_into("<Q", image, at, addresses[index])
        for section, offset, kind, index, addend in self._relocations:
            at = self._sections[section] + offset
            target = addresses[index]
            if kind.reach == _CELL:
                target = base + self._cells[index]
            elif kind.reach == _CALL and index in self._stubs:
                distance, reach = target + addend - base - at, self._machine.call_reach
                if not -reach <= distance < reach:
                    target = base + self._stubs[index]
            try:
                _write(image, at, kind, target + addend, base + at)
            except struct.error:
                name = self._file.symbol_name(index)
                raise _refused(f"the symbol {name!r} is out of reach, or not aligned for its use") from None
        return image, {name: self._address(index, base) for name, index in self._functions.items()}

    def _address(self, index: int, base: int) -> int:
        symbol = self._file.symbols[index]
        if symbol.section in self._sections:
            return base + self._sections[symbol.section] + symbol.value
        if symbol.section == _COMMON:
            return base + self._commons[index]
        if symbol.section == _ABSOLUTE:
            return symbol.value
        raise _refused(f"it uses symbol {index} of a section that is not loaded")


def resolved(name: str, resolve: Callable[[str], int | None]) -> int:
    """Returns the address of a symbol that an object uses. Raises UnresolvedSymbol if there is none."""
    address = resolve(name)
    if not address:
        raise UnresolvedSymbol(name)
    return address


def _up(number: int, alignment: int) -> int:
    return number + -number % alignment
