"""A model's inference as object files: recorded programs whose memory the caller provides.

This uses two things of a Program: its steps, each (function, arguments), and the part of its arena for each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nbkeras.inference.recording import Recording
from nbkeras.kernels.runtime import device, library, library_code, processor
from nbkeras.kernels.runtime.library import BufferRef
from nbkeras.kernels.runtime.library import Kernels as Kernels

Array = np.ndarray
ALIGNMENT = device.ALIGNMENT
TARGETS, machine_of = processor.TARGETS, processor.machine_of
FAILED, NO_MEMORY, OTHER_WEIGHTS = library_code.FAILED, library_code.NO_MEMORY, library_code.OTHER_WEIGHTS
_WEIGHTS = "nbkeras_weights"  # the hidden symbol of the weights


def _up(size: int) -> int:
    return size + -size % ALIGNMENT


class Constants:
    """The weights and constants of a library, each stored once, at multiples of 64 bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = [bytes(ALIGNMENT)]  # the first part is replaced by the key
        self._places: dict[tuple[int, bytes], int] = {}
        self._size = ALIGNMENT

    def add(self, content: bytes) -> BufferRef:
        """Add bytes. Returns their position."""
        key = len(content), hashlib.sha256(content).digest()
        if key not in self._places:
            self._places[key] = self._size
            self._parts.append(content.ljust(_up(len(content)), b"\0"))
            self._size += len(self._parts[-1])
        return BufferRef("weights", self._places[key])

    @property
    def key(self) -> bytes:
        """8 bytes that identify these constants."""
        sha = hashlib.sha256(b"nbkeras")
        for part in self._parts[1:]:
            sha.update(part)
        return sha.digest()[:8]

    def content(self) -> bytes:
        """All bytes."""
        return b"".join([self.key.ljust(ALIGNMENT, b"\0"), *self._parts[1:]])


def _with_outputs(recording: Recording) -> tuple[Recording, dict[int, int]]:
    """The recording with steps that write or copy the outputs into the caller's buffers, and {buffer: output}, by numbers."""
    program, count = recording.program, len(recording.program.steps)
    steps, layers, outputs = list(recording.steps), list(recording.layers), []
    redirected: dict[int, int] = {}
    whole = {
        (buffer.offset, buffer.nbytes): number
        for number, buffer in enumerate(program.buffers)
        if buffer.last == count and buffer.nbytes
    }
    for position, array in enumerate(recording.outputs):
        at = device.address(array) - program.start, array.nbytes
        inside = device.root(array) is device.root(program.arena) and array.flags.c_contiguous
        number = whole.get(at) if inside else None
        if number is not None and number not in redirected:
            redirected[number] = position
            outputs.append(array)
        else:
            copy = np.empty(array.shape, array.dtype)
            steps.append((device.copy, (array, copy)))
            layers.append("")
            outputs.append(copy)
    return replace(recording, steps=steps, layers=layers, outputs=outputs), redirected


class _Map:
    """Maps the arrays of a recording's steps to a library's memory; see kernels/runtime/library.py."""

    def __init__(self, recording: Recording, redirected: dict[int, int], constants: Constants):
        self._recording, self._redirected, self._constants = recording, redirected, constants
        self._arena = device.root(recording.program.arena)
        self._named = [(*library.bounds_of(array), f"in {i}", 0) for i, array in enumerate(recording.inputs)]
        for number, array in enumerate(recording.outputs):
            if number not in redirected.values():
                self._named.append((*library.bounds_of(array), f"out {number}", 0))
        self.state_bytes = 0
        for low, high in recording.states:
            self._named.append((low, high, "state", self.state_bytes))
            self.state_bytes += _up(high - low)
        self._step = self._used = self.most_scratch = 0

    def begin(self, step: int) -> None:
        """Begin with the step of this number."""
        self._step, self._used = step, 0

    def place(self, array: Array, low: int) -> BufferRef:
        if device.root(array) is self._arena:
            return self._in_arena(low - self._recording.program.start)
        for start, end, memory, offset in self._named:
            if start <= low < end:
                return BufferRef(memory, offset + low - start)
        return self.constant(array)

    def _in_arena(self, offset: int) -> BufferRef:
        for number, position in self._redirected.items():
            buffer = self._recording.program.buffers[number]
            if buffer.first <= self._step and buffer.offset <= offset < buffer.offset + buffer.nbytes:
                return BufferRef(f"out {position}", offset - buffer.offset)
        return BufferRef("workspace", offset)

    def constant(self, array: Array) -> BufferRef:
        return self._constants.add(library.bytes_at(*library.bounds_of(array)))

    def scratch(self, nbytes: int) -> BufferRef:
        place = BufferRef("workspace", _up(self._recording.program.nbytes) + self._used)
        self._used += _up(nbytes)
        self.most_scratch = max(self.most_scratch, self._used)
        return place

    @property
    def workspace(self) -> int:
        """The bytes that the caller must provide, at any alignment."""
        return _up(self._recording.program.nbytes) + self.most_scratch + ALIGNMENT


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


@dataclass
class Code:
    """The code shared by a library's functions. prefix: of their names. model: its name. target: '' for this machine."""

    prefix: str
    model: str
    target: str
    constants: Constants = field(default_factory=Constants)
    kernels: Kernels = field(default_factory=Kernels)

    def inference(self, name: str, recording: Recording) -> Inference:
        """Convert a recording. ValueError names the layer and the op that cannot be part of a library."""
        recording, redirected = _with_outputs(recording)
        memory, rows = _Map(recording, redirected, self.constants), []
        for step, ((function, args), layer) in enumerate(zip(recording.steps, recording.layers, strict=True)):
            memory.begin(step)
            try:
                rows += library.rows_of(function, args, memory, self.kernels)
            except library.Unavailable as error:
                where = f"layer {layer!r}: " if layer else ""
                raise ValueError(f"model {self.model!r} cannot become a library: {where}{error}") from None
        start = b"".join(library.bytes_at(low, high).ljust(_up(high - low), b"\0") for low, high in recording.states)
        sizes = (memory.workspace, memory.state_bytes, self.constants.add(start))
        return Inference(name, rows, *sizes, len(recording.inputs), len(recording.outputs))

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
