"""Freezing programs: the weights that they read become constants, which all programs of a model share.

A recorded program refers to the arrays of the model (LIVE) and to values prepared from them (PREPARED). A frozen program refers
to one array of constants instead (CONST), has memory of its own for outputs, and keeps what it changes in one array (STATE). So
weights exist once for all batch sizes and threads, frozen programs are plain data (bundle.py), a session runs them (session.py),
and a shared library is made of them (export/native_code.py).
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine.layer_stack import LayerScope
from nbkeras.engine.program import ARENA, CONST, INPUT, OUTPUT, STATE, Memory, Program
from nbkeras.inference.recording import Recording
from nbkeras.kernels.interpreter.launches import bounds_of
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.ref import Ref, is_contiguous

Array = np.ndarray
Key = tuple[int, int]  # the numbers of rows and steps of a program; a model without steps has 1
ALIGNMENT = device.ALIGNMENT
_ALLOCATED = 16  # the system allocates memory at multiples of it; at which ones differs from process to process


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return size + -size % ALIGNMENT


class FrozenPrograms(NamedTuple):
    """The frozen programs of recordings, their constants, which are copied, and their state.

    values: the Refs of further values among the constants.
    """

    programs: dict[Any, Program]
    constants: Array
    values: list[Ref]
    state: State


def frozen(recordings: Mapping[Any, Recording], values: Sequence[Array] = (), header: int = 0) -> FrozenPrograms:
    """Freeze recordings. values: arrays for the constants. header: the bytes of the state before its arrays."""
    state = State(recordings.values(), header)
    views = {key: recording.bound.view() for key, recording in recordings.items()}
    ranges = [each for key, recording in recordings.items() for each in _ranges_of(recording, views[key])]
    starts = [content for _, _, content in state.parts if not isinstance(content, int)]
    constants = _ConstantsArray([*ranges, *(bounds_of(value) for value in (*starts, *values) if value.size)])
    programs = {key: _frozen(each, views[key], constants, state) for key, each in recordings.items()}
    state.starts = [
        (at, nbytes, each if isinstance(each, int) else constants.ref(each)) for at, nbytes, each in state.parts
    ]
    return FrozenPrograms(programs, constants.array, [constants.ref(value) for value in values], state)


def with_constants(program: Program, constants: Array) -> Program:
    """The program, which now reads these constants."""
    for ref in program.refs():
        if program.memories[ref.memory].kind == CONST and ref not in program.arrays:
            program.arrays[ref] = device.view_at(constants, ref.offset, ref.shape, ref.dtype, ref.strides)
    return program


# -------------------- constants --------------------


def _ranges_of(recording: Recording, view: Callable[[Any], Any]) -> Iterable[tuple[int, int]]:
    """The addresses of the arrays that a program reads outside of its own memory."""
    for ref in recording.program.refs():
        if _is_constant(recording, ref):
            at = device.address(view(ref)) - ref.offset
            low, high = ref.bounds()
            yield at + low, at + high


def _is_constant(recording: Recording, ref: Ref) -> bool:
    if 0 in ref.shape or ref.memory in recording.states or ref.memory in recording.scratch:
        return False
    return recording.program.memories[ref.memory].kind not in (ARENA, INPUT)


class _ConstantsArray:
    """Ranges of this process's memory in one array. Equal content is stored once; overlapping ranges stay together."""

    def __init__(self, ranges: Iterable[tuple[int, int]]):
        bounds = list(dict.fromkeys(ranges))
        whole: list[list[int]] = []  # [begin, end] of overlapping ranges
        whole_of: dict[int, int] = {}  # where a range begins: the number of the whole
        for low, high in sorted(bounds):
            if whole and low < whole[-1][1]:
                whole[-1][1] = max(high, whole[-1][1])
            else:
                whole.append([low, high])
            whole_of[low] = len(whole) - 1
        alike = Counter((low % _ALLOCATED, high - low) for low, high in whole)
        known: dict[tuple, int] = {}
        size, parts = 0, []
        moves: dict[int, int] = {}  # by the number of the whole
        for number in dict.fromkeys(whole_of[low] for low, _ in bounds):  # in the order of use: it is reproducible
            low, high = whole[number]
            shift = low % _ALLOCATED  # so that each array keeps its alignment
            content: Any = _memory_at(low, high)
            key = shift, high - low, hashlib.sha256(content).digest() if alike[shift, high - low] > 1 else b""
            if key not in known:
                known[key] = size + shift
                parts.append((size + shift, content))
                size = aligned(size + shift + high - low)
            moves[number] = known[key] - low
        self._moves = {low: moves[number] for low, number in whole_of.items()}
        with device.on(None):
            self.array = device.persistent_empty((max(size, ALIGNMENT),), np.uint8)
        self.array[...] = 0  # between the parts too: equal models give equal bundles
        for start, content in parts:
            self.array[start : start + len(content)] = content

    def offset(self, begin: int) -> int:
        """The offset of a range, by the address where it begins."""
        return begin + self._moves[begin]

    def ref(self, array: Array) -> Ref:
        """The Ref of an array of one of the ranges, without the number of its memory."""
        low = bounds_of(array)[0]
        at = self.offset(low) + device.address(array) - low if array.size else 0
        return Ref(0, at, array.shape, array.strides, _plain(array.dtype))


def _memory_at(low: int, high: int) -> Array:
    """The memory of this process from `low` to `high`."""
    content: Any = (ctypes.c_uint8 * (high - low)).from_address(low)
    return np.frombuffer(content, np.uint8)


def _plain(dtype: np.dtype) -> np.dtype:
    # kernels would treat a copy of a plain dtype as a different dtype
    return dtype if dtype.names else np.dtype(dtype.str)


# -------------------- the state --------------------


class State:
    """The memory that programs keep from run to run: one array, which all of them use.

    nbytes: its size. parts: (offset, bytes, first values) of each array; the values are one number if they repeat a 64-bit
    word. starts: after freezing, the same with Refs of the values among the constants.
    """

    def __init__(self, recordings: Iterable[Recording], header: int):
        self._reach: dict[int, tuple[Array, int, int]] = {}  # by the id of an owner: it, and its bytes that are used
        for recording in recordings:
            owners = recording.owners()
            for number, (low, high) in recording.states.items():
                owner, first, last = self._reach.get(id(owners[number]), (owners[number], low, high))
                self._reach[id(owner)] = owner, min(first, low), max(last, high)
        self.nbytes, self._shifts = header, dict[int, int]()
        self.parts: list[tuple[int, int, Array | int]] = []
        self.starts: list[tuple[int, int, Ref | int]] = []
        for owner, low, high in self._reach.values():
            self._shifts[id(owner)] = self.nbytes - low
            content = _memory_at(device.address(owner) + low, device.address(owner) + high)
            self.parts.append((self.nbytes, high - low, _repeated(content)))
            self.nbytes += aligned(high - low)

    def shift(self, owner: Array) -> int:
        """The offset of the state's array that begins at offset 0 of its owner."""
        return self._shifts[id(owner)]

    def offset(self, array: Array) -> int | None:
        """The offset of an array; None if the programs do not keep it."""
        owner = device.root(array)
        if id(owner) not in self._reach:
            return None
        at, (_, low, high) = device.address(array) - device.address(owner), self._reach[id(owner)]
        return at + self.shift(owner) if low <= at and at + array.nbytes <= high else None


def _repeated(content: Array) -> Array | int:
    """The 64-bit word that an array of bytes repeats, or the array."""
    words = np.zeros(-(-content.size // 8), np.uint64)
    words.view(np.uint8)[: content.size] = content
    return int(words[0]) if (words == words[0]).all() else content


# -------------------- programs --------------------


def _frozen(recording: Recording, view: Callable[[Any], Any], constants: _ConstantsArray, state: State) -> Program:
    program, const = recording.program, 1 + len(recording.program.inputs)
    memories = [*program.memories[:const], Memory(CONST, constants.array.nbytes)]
    known: dict[Ref, Ref] = {}
    owners = recording.owners()
    moves = {number: (len(memories), state.shift(owners[number])) for number in recording.states}
    if moves:
        memories.append(Memory(STATE, state.nbytes))
    end = aligned(program.nbytes)
    for number, (low, high) in recording.scratch.items():  # behind the arena
        moves[number] = 0, end - low
        end += aligned(high - low)
        memories[0] = Memory(ARENA, end)

    def named(arg: Any) -> Any:
        """The Ref in the frozen program of a Ref of the recorded one."""
        if not isinstance(arg, Ref):
            return arg
        if arg not in known:
            known[arg] = renamed(arg)._replace(dtype=_plain(arg.dtype))
        return known[arg]

    def renamed(ref: Ref) -> Ref:
        if 0 in ref.shape:
            return ref._replace(memory=0, offset=0)
        if ref.memory in moves:
            memory, shift = moves[ref.memory]
            return ref._replace(memory=memory, offset=ref.offset + shift)
        if not _is_constant(recording, ref):
            return ref
        begin, (low, _) = device.address(view(ref)) - ref.offset, ref.bounds()
        return ref._replace(memory=const, offset=constants.offset(begin + low) + ref.offset - low)

    launches = [(function, tuple(map(named, args))) for function, args in program.launches]
    layers, outputs = list(program.layers), []
    filled: dict[Any, int] = {}  # a buffer of the arena whose last use is an output: the memory of the output
    for array in map(named, program.outputs):
        memories.append(Memory(OUTPUT, array.nbytes))
        outputs.append(Ref.contiguous(len(memories) - 1, 0, array.shape, array.dtype))
        buffer = _filled_buffer(program, array)
        if buffer is None or buffer in filled:
            launches.append((device.copy, (array, outputs[-1])))
            layers.append(LayerScope("", False))
        else:
            filled[buffer] = outputs[-1].memory
    for buffer, number in filled.items():
        _move(launches, buffer, number)
    made = [named(each) for each in program.inputs]
    return with_constants(Program(launches, layers, made, outputs, memories, {}), constants.array)


def _filled_buffer(program: Program, ref: Ref) -> Any:
    """The arena's buffer that an output fills and that no later launch uses; None if there is none."""
    if ref.memory == 0 and ref.nbytes and is_contiguous(ref):
        for buffer in program.buffers:
            if buffer.last == len(program.launches) and (buffer.offset, buffer.nbytes) == (ref.offset, ref.nbytes):
                return buffer
    return None


def _move(launches: list, buffer: Any, memory: int) -> None:
    """Move a buffer of the arena to a memory of its own."""

    def moved(arg: Any) -> Any:
        is_in_it = isinstance(arg, Ref) and arg.memory == 0 and 0 <= arg.offset - buffer.offset < buffer.nbytes
        return arg._replace(memory=memory, offset=arg.offset - buffer.offset) if is_in_it else arg

    for step in range(buffer.first, len(launches)):
        function, args = launches[step]
        launches[step] = function, tuple(map(moved, args))
