"""Programs: recorded inferences that need no model and share one array of constants.

In a recording, launches refer to arrays of this process. Here each array is a Place: a memory (an arena or the constants) and
an offset. An Instance has an arena and views for all places. So weights exist once for all batch sizes and threads, programs
are plain data (bundle.py), a session runs them (session.py), and a shared library is made of them (export/native_code.py).
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.inference.recording import Recording
from nbkeras.kernels.runtime import device, library

Array = np.ndarray
Key = tuple[int, int]  # the numbers of rows and steps of a program; a model without steps has 1
ALIGNMENT = device.ALIGNMENT
_ALLOCATED = 16  # the system allocates memory at multiples of it; at which ones differs from process to process
ARENA, CONSTANTS = range(2)


class Place(NamedTuple):
    """An array: a memory (ARENA or CONSTANTS), an offset in bytes, and the array's form."""

    memory: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    def view(self, memories: Sequence[Array]) -> Array:
        """The array of this place in these memories."""
        return np.ndarray(self.shape, self.dtype, memories[self.memory], self.offset, self.strides)


class Region(NamedTuple):
    """A piece of an arena."""

    offset: int
    nbytes: int


class Program(NamedTuple):
    """A recorded inference.

    launches: with places for arrays. layers: the layer of each launch, for messages. nbytes: of an arena, which begins with the
    working memory and includes the inputs, the outputs and the states. states: the regions that keep values from run to run,
    each with the place of its first values.
    """

    launches: list[tuple[Callable, tuple]]
    nbytes: int
    inputs: list[Place]
    outputs: list[Place]
    layers: list[str] = []
    states: list[tuple[Region, Place]] = []


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return size + -size % ALIGNMENT


def programs_of(
    recordings: Mapping[Any, Recording], values: Sequence[Array] = ()
) -> tuple[dict[Any, Program], Array, list[Place]]:
    """The programs of recordings, their constants, which are copied, and the places of further values among these."""
    constants = _Constants(recordings.values(), values)
    programs = {key: _program(recording, constants) for key, recording in recordings.items()}
    return programs, constants.array, [constants.place(value) for value in values]


# -------------------- constants --------------------


class _Constants:
    """All memory that recordings use outside of their arenas and inputs, in one array; equal content is stored once."""

    def __init__(self, recordings: Any, values: Sequence[Array]):
        bounds = [library.bounds_of(array) for each in recordings for array in _constants_of(each)]
        bounds += [state for each in recordings for state in each.states]
        bounds += [library.bounds_of(value) for value in values if value.size]
        whole: list[list[int]] = []  # [start, end] of overlapping arrays
        for low, high in sorted(set(bounds)):
            if whole and low < whole[-1][1]:
                whole[-1][1] = max(high, whole[-1][1])
            else:
                whole.append([low, high])
        self._starts = np.array([low for low, _ in whole], np.int64)
        self._moves = [0] * len(whole)
        alike = Counter((low % _ALLOCATED, high - low) for low, high in whole)
        known: dict[tuple, int] = {}
        size, parts = 0, []
        for number in dict.fromkeys(
            map(self._number, (low for low, _ in bounds))
        ):  # in the order of use: it is reproducible
            low, high = whole[number]
            shift = low % _ALLOCATED  # so that each array keeps its alignment
            content: Any = _memory_at(low, high)
            key = shift, high - low, hashlib.sha256(content).digest() if alike[shift, high - low] > 1 else b""
            if key not in known:
                known[key] = size + shift
                parts.append((size + shift, content))
                size = aligned(size + shift + high - low)
            self._moves[number] = known[key] - low
        with device.on(None):
            self.array = device.persistent_empty((max(size, ALIGNMENT),), np.uint8)
        self.array[...] = 0  # between the parts too: equal models give equal bundles
        for start, content in parts:
            self.array[start : start + len(content)] = content

    def offset(self, address: int) -> int:
        """The offset of the memory at an address."""
        return address + self._moves[self._number(address)]

    def _number(self, address: int) -> int:
        return int(np.searchsorted(self._starts, address, "right")) - 1

    def place(self, array: Array) -> Place:
        """The place of one of the arrays."""
        return Place(CONSTANTS, self.offset(device.address(array)) if array.size else 0, *_form(array))


def _memory_at(low: int, high: int) -> Array:
    """The memory of this process from `low` to `high`."""
    content: Any = (ctypes.c_uint8 * (high - low)).from_address(low)
    return np.frombuffer(content, np.uint8)


def _constants_of(recording: Recording) -> list[Array]:
    own = {id(device.root(array)) for array in (recording.program.arena, *recording.inputs)}
    arrays = [arg for _, args in recording.steps for arg in args if isinstance(arg, np.ndarray)]
    return [array for array in (*arrays, *recording.outputs) if array.size and id(device.root(array)) not in own]


def _form(array: Array) -> tuple:
    # kernels would treat a copy of a plain dtype as a different dtype
    return array.shape, array.strides, array.dtype if array.dtype.names else np.dtype(array.dtype.str)


# -------------------- programs --------------------


def _program(recording: Recording, constants: _Constants) -> Program:
    program = recording.program
    arena, workspace = id(device.root(program.arena)), aligned(program.nbytes)
    starts: dict[int, int] = {}  # owner of an input -> the address at which its arena would begin
    nbytes = workspace
    for array in recording.inputs:
        starts[id(device.root(array))] = device.address(array) - nbytes
        nbytes += aligned(array.nbytes)
    moved = []  # (start of the memory, its end, offset in the arena) of states
    states = []
    for low, high in recording.states:
        first = Place(CONSTANTS, constants.offset(low), (high - low,), (1,), np.dtype(np.uint8))
        moved.append((low, high, nbytes))
        states.append((Region(nbytes, high - low), first))
        nbytes += aligned(high - low)
    outputs, in_place, copied = [], {}, []
    for position, array in enumerate(recording.outputs):
        outputs.append(Place(ARENA, nbytes, array.shape, np.empty(array.shape, array.dtype).strides, _form(array)[2]))
        number = _whole_buffer(recording, array)
        if number is not None and number not in in_place:
            in_place[number] = nbytes
        else:
            copied.append(position)
        nbytes += aligned(array.nbytes)

    def place(arg: Any, step: int) -> Any:
        if not isinstance(arg, np.ndarray):
            return arg
        if not arg.size:
            return Place(ARENA, 0, *_form(arg))
        address, owner = device.address(arg), id(device.root(arg))
        if owner == arena:
            offset = address - program.start
            for number, moved_to in in_place.items():  # the last use of this memory is an output
                buffer = program.buffers[number]
                if buffer.first <= step and buffer.offset <= offset < buffer.offset + buffer.nbytes:
                    return Place(ARENA, moved_to + offset - buffer.offset, *_form(arg))
            return Place(ARENA, offset, *_form(arg))
        if owner in starts:
            return Place(ARENA, address - starts[owner], *_form(arg))
        for low, high, offset in moved:
            if low <= address < high:
                return Place(ARENA, offset + address - low, *_form(arg))
        return constants.place(arg)

    launches: list[tuple[Callable, tuple]] = []
    for step, (function, args) in enumerate(recording.steps):
        launches.append((function, tuple(place(arg, step) for arg in args)))
    for position in copied:
        launches.append((device.copy, (place(recording.outputs[position], len(recording.steps)), outputs[position])))
    layers = [*recording.layers, *[""] * len(copied)]
    return Program(launches, nbytes, [place(array, 0) for array in recording.inputs], outputs, layers, states)


def _whole_buffer(recording: Recording, array: Array) -> int | None:
    """The number of the arena's buffer that an output fills and that no later launch uses; None if there is none."""
    program = recording.program
    if not array.nbytes or device.root(array) is not device.root(program.arena) or not array.flags.c_contiguous:
        return None
    at = device.address(array) - program.start, array.nbytes
    for number, buffer in enumerate(program.buffers):
        if buffer.last == len(program.steps) and (buffer.offset, buffer.nbytes) == at:
            return number
    return None


class Instance(NamedTuple):
    """A program's arrays over an arena and constants, and its launches with these arrays."""

    arena: Array
    launches: list[tuple[Callable, tuple]]
    inputs: list[Array]
    outputs: list[Array]

    @classmethod
    def of(cls, program: Program, constants: Array) -> Instance:
        """A new instance, with an arena of its own."""
        with device.on(None):
            arena = device.persistent_empty((program.nbytes,), np.uint8)
        views: dict[Place, Array] = {}

        def of(arg: Any) -> Any:
            if not isinstance(arg, Place):
                return arg
            if arg not in views:
                views[arg] = arg.view((arena, constants))
            return views[arg]

        launches = [(function, tuple(map(of, args))) for function, args in program.launches]
        return cls(arena, launches, [of(place) for place in program.inputs], [of(place) for place in program.outputs])
