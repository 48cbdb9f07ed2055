"""A model's inference as object files: recorded programs whose memory the caller provides.

This uses two things of a Program: its steps, each (function, arguments), and the part of its arena for each step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbkeras.inference.program import ALIGNMENT, Instance, Program, aligned
from nbkeras.kernels.runtime import device, library, library_code, processor
from nbkeras.kernels.runtime.device import address
from nbkeras.kernels.runtime.library import BufferRef
from nbkeras.kernels.runtime.library import Kernels as Kernels

Array = np.ndarray
TARGETS, machine_of = processor.TARGETS, processor.machine_of
FAILED, NULL_POINTER, OTHER_WEIGHTS = library_code.FAILED, library_code.NULL_POINTER, library_code.OTHER_WEIGHTS
_WEIGHTS = "nbkeras_weights"  # the hidden symbol of the weights


class Constants:
    """The constants of a library: those of its programs, then those of single launches, at multiples of 64 bytes."""

    def __init__(self, array: Array):
        self._array = array
        self._parts: list[bytes] = []
        self._places: dict[bytes, int] = {}
        self._size = ALIGNMENT + aligned(array.nbytes)  # the key comes first

    def offset(self, array: Array, low: int) -> int | None:
        """The position of an array's memory among the programs' constants; None if it is elsewhere."""
        return low - address(self._array) + ALIGNMENT if device.root(array) is device.root(self._array) else None

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


class _Map:
    """Maps the arrays of a program's launches to a library's memory; see kernels/runtime/library.py."""

    def __init__(self, program: Program, arena: Array, constants: Constants):
        self._constants, self._arena, self._start = constants, device.root(arena), address(arena)
        regions = [(f"in {i}", place) for i, place in enumerate(program.inputs)]
        regions += [(f"out {i}", place) for i, place in enumerate(program.outputs)]
        sizes = [(name, place.offset, math.prod(place.shape) * place.dtype.itemsize) for name, place in regions]
        self._regions = [(offset, offset + nbytes, name, 0) for name, offset, nbytes in sizes]
        self.state_bytes = 0
        for (offset, nbytes), _ in program.states:
            self._regions.append((offset, offset + nbytes, "state", self.state_bytes))
            self.state_bytes += aligned(nbytes)
        self._workspace = min([low for low, *_ in self._regions], default=program.nbytes)
        self._used = self.most_scratch = 0

    def begin(self) -> None:
        """Begin with the next launch."""
        self._used = 0

    def place(self, array: Array, low: int) -> BufferRef:
        if device.root(array) is not self._arena:
            offset = self._constants.offset(array, low)
            return self.constant(array) if offset is None else BufferRef("weights", offset)
        offset = low - self._start
        for start, end, memory, before in self._regions:
            if start <= offset < end:
                return BufferRef(memory, before + offset - start)
        return BufferRef("workspace", offset)

    def constant(self, array: Array) -> BufferRef:
        return self._constants.add(library.bytes_at(*library.bounds_of(array)))

    def scratch(self, nbytes: int) -> BufferRef:
        place = BufferRef("workspace", self._workspace + self._used)
        self._used += aligned(nbytes)
        self.most_scratch = max(self.most_scratch, self._used)
        return place

    @property
    def workspace(self) -> int:
        """The bytes that the caller must provide, at any alignment."""
        return self._workspace + self.most_scratch + ALIGNMENT


@dataclass
class Inference:
    """A function of a library for one signature, and the bytes of memory that it needs."""

    name: str
    rows: list[library.Row]
    workspace: int
    state: int
    start: BufferRef  # the initial values of the state
    inputs: int
    outputs: int


class Code:
    """The code shared by a library's functions. prefix: of their names. model: its name. target: '' for this machine."""

    def __init__(self, prefix: str, model: str, target: str, constants: Array):
        self.prefix, self.model, self.target = prefix, model, target
        self.constants, self.kernels = Constants(constants), Kernels()
        self._array = constants

    def inference(self, name: str, program: Program) -> Inference:
        """Convert a program. ValueError names the layer and the op that cannot be part of a library."""
        own = Instance.of(program, self._array)
        memory, rows = _Map(program, own.arena, self.constants), []
        for (function, args), layer in zip(own.launches, program.layers, strict=True):
            memory.begin()
            try:
                rows += library.rows_of(function, args, memory, self.kernels)
            except library.Unavailable as error:
                where = f"layer {layer!r}: " if layer else ""
                raise ValueError(f"model {self.model!r} cannot become a library: {where}{error}") from None
        starts = [place.view((own.arena, self._array)).tobytes() for _, place in program.states]
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
