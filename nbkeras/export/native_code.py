"""A model's steps as object files: frozen programs whose memory the caller provides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbkeras.engine.program import ARENA, CONST, INPUT, OUTPUT, STATE, Program, placed
from nbkeras.export import library_code, library_rows
from nbkeras.export.library_code import Argument as Argument
from nbkeras.export.library_code import LibraryFunction as LibraryFunction
from nbkeras.export.library_rows import BufferRef as BufferRef
from nbkeras.export.library_rows import Kernels as Kernels
from nbkeras.inference.constants import ALIGNMENT, State, aligned
from nbkeras.kernels.runtime import device, processor
from nbkeras.kernels.runtime.device import address
from nbkeras.kernels.runtime.ref import Ref

Array = np.ndarray
TARGETS, WASM, machine_of = processor.TARGETS, processor.WASM, processor.machine_of
ERRORS, FAILED, OTHER_WEIGHTS = library_code.ERRORS, library_code.FAILED, library_code.OTHER_WEIGHTS
_WEIGHTS = "nbkeras_weights"  # the hidden symbol of the weights


class LibraryConstants:
    """The constants of a library: those of its programs, then those of single launches, at multiples of 64 bytes."""

    def __init__(self, array: Array):
        self._array = array
        self._parts: list[bytes] = []
        self._places: dict[bytes, int] = {}
        self._size = ALIGNMENT + aligned(array.nbytes)  # the key comes first

    def add(self, content: bytes) -> BufferRef:
        """Add bytes. Returns their position."""
        if content not in self._places:
            self._places[content] = self._size
            self._parts.append(content.ljust(aligned(len(content)), b"\0"))
            self._size += len(self._parts[-1])
        return BufferRef("weights", self._places[content])

    @property
    def key(self) -> bytes:
        """8 bytes that identify these constants."""
        sha = hashlib.sha256(b"nbkeras")
        sha.update(self._array.data)
        for part in self._parts:
            sha.update(part)
        return sha.digest()[:8]

    def content(self) -> bytes:
        """All bytes."""
        own = self._array.tobytes()
        return b"".join([self.key.ljust(ALIGNMENT, b"\0"), own.ljust(aligned(len(own)), b"\0"), *self._parts])


_NAMES = {ARENA: "workspace", CONST: "weights", INPUT: "in", OUTPUT: "out", STATE: "state"}


class _Memories:
    """The memories of a frozen program, and where they are in a library; see library_rows.py."""

    def __init__(self, program: Program, array: Array, constants: LibraryConstants):
        self._constants = constants
        # An array for each memory, so that the array of an address tells the memory
        self._arrays = [
            array if kind == CONST else device.persistent_empty((nbytes,), np.uint8)
            for kind, nbytes in program.memories
        ]
        self._known: dict[int, tuple[Array, BufferRef]] = {}  # by the id of the owner: the array, and where it begins
        counts = dict.fromkeys(_NAMES, 0)
        for own, (kind, _) in zip(self._arrays, program.memories, strict=True):
            name = f"{_NAMES[kind]} {counts[kind]}" if kind in (INPUT, OUTPUT) else _NAMES[kind]
            self._known[id(device.root(own))] = own, BufferRef(name, ALIGNMENT if kind == CONST else 0)
            counts[kind] += 1
        self._workspace = aligned(program.nbytes)
        self._used = self._scratch = 0

    def view(self, arg: Any) -> Any:
        """The array of a Ref; other arguments as they are."""
        if not isinstance(arg, Ref):
            return arg
        return device.view_at(self._arrays[arg.memory], arg.offset, arg.shape, arg.dtype, arg.strides)

    def begin(self) -> None:
        """Begin with the next launch."""
        self._used = 0

    def place(self, array: Array) -> BufferRef:
        owner = device.root(array)
        if id(owner) not in self._known:
            start = self._constants.add(owner.tobytes("A"))
            return BufferRef(start.memory, start.offset + address(array) - address(owner))
        own, start = self._known[id(owner)]
        return BufferRef(start.memory, start.offset + address(array) - address(own))

    def scratch(self, nbytes: int) -> BufferRef:
        place = BufferRef("workspace", self._workspace + self._used)
        self._used += aligned(nbytes)
        self._scratch = max(self._scratch, self._used)
        return place

    @property
    def workspace(self) -> int:
        """The bytes that the caller must provide, at any alignment."""
        return self._workspace + self._scratch + ALIGNMENT


@dataclass
class Rows:
    """A program's launches as rows, in groups, and the bytes of workspace that they need."""

    groups: list[list[library_rows.LibraryRow]]
    workspace: int


class Code:
    """The code shared by a library's functions. prefix: of their names. model: its name. target: '' for this machine.

    is_inside: whether the library holds the weights.
    """

    def __init__(self, prefix: str, model: str, target: str, constants: Array, is_inside: bool):
        self.prefix, self.model, self.target, self.is_inside = prefix, model, target, is_inside
        self.constants, self.kernels = LibraryConstants(constants), Kernels()
        self._array = constants

    def rows(self, program: Program, *ends: int) -> Rows:
        """Convert a program. ValueError names the layer and the op that cannot be part of a library.

        ends: the numbers of launches where groups of rows end; the last group has the rest.
        """
        memory, groups = (
            _Memories(program, self._array, self.constants),
            [list[library_rows.LibraryRow]() for _ in (0, *ends)],
        )
        launches = placed(program.launches, memory.view)
        for number, ((function, args), place) in enumerate(zip(launches, program.layers, strict=True)):
            memory.begin()
            try:
                groups[sum(end <= number for end in ends)] += library_rows.rows_of(function, args, memory, self.kernels)
            except library_rows.Unavailable as error:
                where = f"layer {place.layer!r}: " if place.layer else ""
                raise ValueError(f"model {self.model!r} cannot become a library: {where}{error}") from None
        return Rows(groups, memory.workspace)

    def first_values(self, state: State) -> list[tuple[Any, BufferRef, int]]:
        """The copies that write the first values of a state, and zeros between its arrays."""
        copies: list[tuple[Any, BufferRef, int]] = []
        for at, nbytes, start in state.starts:
            whole, end = aligned(nbytes), -(-nbytes // 8) * 8
            if isinstance(start, int):
                copies.append((start, BufferRef("state", at), whole))
                continue
            copies.append((BufferRef("weights", ALIGNMENT + start.offset), BufferRef("state", at), end))
            if end < whole:
                copies.append((0, BufferRef("state", at + end), whole - end))
        return copies

    def objects(self, functions: Sequence[LibraryFunction], sizes: dict[str, int]) -> tuple[dict[str, bytes], int]:
        """The object files by name (functions, kernels and, if they are inside, weights), and the identity.

        sizes: what the functions PREFIX_NAME_size return, by NAME; those of libraries with weights beside them get 'weights'.
        PREFIX_identity returns the identity.
        """
        prefix, target, constants, inside = self.prefix, self.target, self.constants, self.is_inside
        content = constants.content()
        if not inside:
            sizes = sizes | {"weights": len(content)}
        numbers = {f"{prefix}_{name}_size": size for name, size in sizes.items()}
        used = {row.symbol for each in functions for row in each.all_rows()}
        try:
            found = library_rows.linkable(self.kernels.objects(used, target))
        except library_rows.Unavailable as error:
            raise ValueError(f"model {self.model!r} cannot become a library: {error}") from None
        found[prefix] = library_code.object_code(
            target, functions, numbers, _WEIGHTS, None if inside else constants.key
        )
        if inside:
            found[_WEIGHTS] = library_rows.data(target, _WEIGHTS, content)
        identity = _identity(found, content)
        name = f"{prefix}_identity"
        found[name] = library_code.object_code(target, [], {name: identity}, _WEIGHTS, constants.key)
        return found, identity


def _identity(contents: dict[str, bytes], constants: bytes) -> int:
    """A number that identifies object files."""
    sha = hashlib.sha256(constants)
    for name, content in contents.items():
        sha.update(f"{name} {len(content)} ".encode() + content)
    return int.from_bytes(sha.digest()[:8], "little") >> 1
