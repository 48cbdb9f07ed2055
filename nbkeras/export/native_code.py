"""A model's inference as object files: frozen programs whose memory the caller provides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbkeras.engine.program import ARENA, CONST, INPUT, OUTPUT, STATE, Program, placed
from nbkeras.inference.constants import ALIGNMENT, aligned
from nbkeras.kernels.runtime import device, library, library_code, processor
from nbkeras.kernels.runtime.device import address
from nbkeras.kernels.runtime.library import BufferRef
from nbkeras.kernels.runtime.library import Kernels as Kernels
from nbkeras.kernels.runtime.ref import Ref

Array = np.ndarray
TARGETS, machine_of = processor.TARGETS, processor.machine_of
FAILED, NULL_POINTER, OTHER_WEIGHTS = library_code.FAILED, library_code.NULL_POINTER, library_code.OTHER_WEIGHTS
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
    """The memories of a frozen program, and where they are in a library; see kernels/runtime/library.py."""

    def __init__(self, program: Program, array: Array, constants: LibraryConstants):
        self._constants = constants
        # An array for each memory, so that the array of an address tells the memory
        self._arrays = [
            array if kind == CONST else device.persistent_empty((nbytes,), np.uint8)
            for kind, nbytes in program.memories
        ]
        self._known: dict[int, tuple[Array, BufferRef]] = {}  # by the id of the owner: the array, and where it begins
        self.state_bytes = 0
        counts = dict.fromkeys(_NAMES, 0)
        for own, (kind, nbytes) in zip(self._arrays, program.memories, strict=True):
            begin = {CONST: ALIGNMENT, STATE: self.state_bytes}.get(kind, 0)
            name = f"{_NAMES[kind]} {counts[kind]}" if kind in (INPUT, OUTPUT) else _NAMES[kind]
            self._known[id(device.root(own))] = own, BufferRef(name, begin)
            counts[kind] += 1
            self.state_bytes += aligned(nbytes) * (kind == STATE)
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
class Inference:
    """A function of a library for one signature, and the bytes of memory that it needs."""

    name: str
    rows: list[library.LibraryRow]
    workspace: int
    state: int
    start: BufferRef  # the initial values of the state
    inputs: int
    outputs: int


class Code:
    """The code shared by a library's functions. prefix: of their names. model: its name. target: '' for this machine."""

    def __init__(self, prefix: str, model: str, target: str, constants: Array):
        self.prefix, self.model, self.target = prefix, model, target
        self.constants, self.kernels = LibraryConstants(constants), Kernels()
        self._array = constants

    def inference(self, name: str, program: Program) -> Inference:
        """Convert a program. ValueError names the layer and the op that cannot be part of a library."""
        memory, rows = _Memories(program, self._array, self.constants), []
        for (function, args), place in zip(placed(program.launches, memory.view), program.layers, strict=True):
            memory.begin()
            try:
                rows += library.rows_of(function, args, memory, self.kernels)
            except library.Unavailable as error:
                where = f"layer {place.layer!r}: " if place.layer else ""
                raise ValueError(f"model {self.model!r} cannot become a library: {where}{error}") from None
        starts = [memory.view(ref).tobytes() for ref in program.starts.values()]
        start = b"".join(each.ljust(aligned(len(each)), b"\0") for each in starts)
        sizes = (memory.workspace, memory.state_bytes, self.constants.add(start))
        return Inference(name, rows, *sizes, len(program.inputs), len(program.outputs))

    def objects(self, inferences: Sequence[Inference], inside: bool) -> tuple[dict[str, bytes], int]:
        """The object files by name (functions of inferences, kernels and, if `inside`, weights), and the identity.

        PREFIX_workspace_size is the largest size that an inference needs. Libraries with states have PREFIX_state_size and
        PREFIX_reset_state; those with weights beside them have PREFIX_weights_size. PREFIX_identity returns the identity.
        """
        prefix, target, constants = self.prefix, self.target, self.constants
        functions, sizes = [], {f"{prefix}_workspace_size": max(each.workspace for each in inferences)}
        last = [] if inside else ["weights"]
        content = constants.content()
        if not inside:
            sizes[f"{prefix}_weights_size"] = len(content)
        for each in inferences:
            inputs, outputs = [f"in {i}" for i in range(each.inputs)], [f"out {i}" for i in range(each.outputs)]
            copies: list[tuple[BufferRef, BufferRef, int]] = []
            if each.state:
                inputs, outputs = ["state in", *inputs], ["state", *outputs]
                copies = [(BufferRef("state in", 0), BufferRef("state", 0), each.state)]
            arguments = [*inputs, *outputs, "workspace", *last]
            functions.append(library_code.LibraryFunction(each.name, arguments, each.rows, copies))
            if each.state:
                reset = [(each.start, BufferRef("state", 0), each.state)]
                functions.append(library_code.LibraryFunction(f"{prefix}_reset_state", ["state", *last], [], reset))
                sizes[f"{prefix}_state_size"] = each.state
        used = {row.symbol for each in inferences for row in each.rows}
        try:
            found = library.linkable(self.kernels.objects(used, target))
        except library.Unavailable as error:
            raise ValueError(f"model {self.model!r} cannot become a library: {error}") from None
        found[prefix] = library_code.object_code(target, functions, sizes, _WEIGHTS, None if inside else constants.key)
        if inside:
            found[_WEIGHTS] = library.data(target, _WEIGHTS, content)
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
