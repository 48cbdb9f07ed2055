"""Programs: recorded inferences that need no model and share one buffer of constants.

In a recording, launches refer to arrays of this process. Here each array is a *place*: a memory (a player's arena, or the
constants) and an offset. A player has an arena and views for all places, and replays the launches; each computing thread uses
one player. So weights exist once for all batch sizes and threads, and programs can be written to a file or sent to another
process.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import pickle
import struct
import types
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import settings
from nbkeras.engine.batch import copy_to
from nbkeras.inference.recording import Recording
from nbkeras.kernels.runtime import cache, code, device, library
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.pool import Pool
from nbkeras.saving.archive import atomic_file

Array = np.ndarray
ALIGNMENT = device.ALIGNMENT
_ARENA, _CONSTANTS = range(2)
_KEPT = 64 << 20  # bytes of idle arenas kept for each key, but at least one arena for each processor
_empty = np.empty


class Place(NamedTuple):
    """An array: a memory, an offset in bytes, and the array's form."""

    memory: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: Any  # a string: kernels would treat an unpickled dtype, another object, as a different dtype

    def view(self, memories: Sequence[Array]) -> Array:
        """The array of this place in these memories."""
        return np.ndarray(self.shape, np.dtype(self.dtype), memories[self.memory], self.offset, self.strides)


class Steps(NamedTuple):
    """A recorded inference: its launches with places for arrays, and the bytes of an arena, which includes the inputs."""

    launches: list[tuple[Callable, tuple]]
    nbytes: int
    inputs: list[Place]
    outputs: list[Place]


class Player:
    """The launches over a private arena; one thread at a time may use it."""

    __slots__ = ("_inputs", "_outputs", "_forms", "_replay")

    def __init__(self, steps: Steps, constants: Array):
        with device.on(None):
            arena = device.persistent_empty((steps.nbytes,), np.uint8)
            views: dict[Place, Array] = {}

            def of(arg: Any) -> Any:
                if not isinstance(arg, Place):
                    return arg
                if arg not in views:
                    views[arg] = arg.view((arena, constants))
                return views[arg]

            launches = [(function, tuple(map(of, args))) for function, args in steps.launches]
            self._inputs, self._outputs = [of(place) for place in steps.inputs], [of(place) for place in steps.outputs]
            self._forms = [(array.shape, array.dtype) for array in self._outputs]
            self._replay = device.Replayer(launches, self._inputs, self._outputs)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Compute the outputs, as new arrays, from arrays of the inputs' shapes."""
        outputs = [_empty(shape, dtype) for shape, dtype in self._forms]
        if not self._replay.copying(*arrays, *outputs):
            with device.on(None):
                for source, target in zip(arrays, self._inputs, strict=True):
                    copy_to(source, target)
                self._replay()
                for source, target in zip(self._outputs, outputs, strict=True):
                    copy_to(source, target)
        return outputs


class Programs:
    """Recorded inferences by key, such as the number of rows, over shared constants."""

    def __init__(self, steps: Mapping[Any, Steps], constants: Array):
        self.steps, self.constants = dict(steps), constants
        # By key: the idle players, and how many of them are kept after a burst of calls. No lock: append
        # and pop are atomic.
        self._free: dict[Any, tuple[list[Player], int]] = {
            key: ([Player(each, constants)], max(Pool.most, _KEPT // max(each.nbytes, 1)))
            for key, each in self.steps.items()
        }

    @classmethod
    def of(cls, recordings: Mapping[Any, Recording]) -> Programs:
        """The programs of recordings. Copies their weights and other constants."""
        constants = _Constants(recordings.values())
        return cls({key: _portable(each, constants) for key, each in recordings.items()}, constants.array)

    def run(self, key: Any, arrays: Sequence[Array]) -> list[Array]:
        """Compute the outputs, as new arrays, from arrays of the inputs' shapes. Several threads may call this at once."""
        free, most = self._free[key]
        try:
            player = free.pop()
        except IndexError:
            player = Player(self.steps[key], self.constants)
        outputs = player.run(arrays)
        if len(free) < most:
            free.append(player)
        return outputs

    def __reduce_ex__(self, protocol: Any) -> tuple:
        """Pickle functions by name. The constants are a buffer that protocol 5 can keep out of the pickle."""
        described = {
            key: steps._replace(launches=[(_described(function), args) for function, args in steps.launches])
            for key, steps in self.steps.items()
        }
        content: Any = self.constants
        constants = pickle.PickleBuffer(content) if int(protocol) >= 5 else content.tobytes()
        return _programs, (described, constants)


def _programs(described: dict[Any, Steps], constants: Any) -> Programs:
    """The unpickled programs."""
    steps = {
        key: each._replace(launches=[(_function_of(function), args) for function, args in each.launches])
        for key, each in described.items()
    }
    return Programs(steps, _aligned(np.frombuffer(constants, np.uint8)))


def _aligned(array: Array) -> Array:
    """The array, or an aligned and writable copy, since kernels were compiled for such weights."""
    if array.flags.writeable and device.address(array) % ALIGNMENT == 0:
        return array
    with device.on(None):
        return device.persistent_copy(array)


# -------------------- constants --------------------


def _up(size: int) -> int:
    return size + -size % ALIGNMENT


class _Constants:
    """All memory that recordings use outside of their arenas and inputs, in one array; equal content is stored once."""

    def __init__(self, recordings: Any):
        pieces = sorted({library.bounds_of(array) for each in recordings for array in _constants_of(each)})
        whole: list[list[int]] = []  # [start, end] of overlapping arrays
        for low, high in pieces:
            if whole and low < whole[-1][1]:
                whole[-1][1] = max(high, whole[-1][1])
            else:
                whole.append([low, high])
        self._starts = np.array([low for low, _ in whole], np.int64)
        alike = Counter((low % ALIGNMENT, high - low) for low, high in whole)
        self._moves = []
        known: dict[tuple, int] = {}
        size, parts = 0, []
        for low, high in whole:
            shift = low % ALIGNMENT  # keep the offset's remainder, so that each array has the same alignment
            content: Any = _memory_at(low, high)
            key = shift, high - low, hashlib.sha256(content).digest() if alike[shift, high - low] > 1 else b""
            if key not in known:
                known[key] = size + shift
                parts.append((size + shift, content))
                size = _up(size + shift + high - low)
            self._moves.append(known[key] - low)
        with device.on(None):
            self.array = device.persistent_empty((max(size, ALIGNMENT),), np.uint8)
        for start, content in parts:
            self.array[start : start + len(content)] = content

    def offset(self, address: int) -> int:
        """The offset of the memory at an address."""
        return address + self._moves[int(np.searchsorted(self._starts, address, "right")) - 1]


def _memory_at(low: int, high: int) -> Array:
    """The memory of this process from `low` to `high`."""
    content: Any = (ctypes.c_uint8 * (high - low)).from_address(low)
    return np.frombuffer(content, np.uint8)


def _constants_of(recording: Recording) -> list[Array]:
    own = {id(device.root(array)) for array in (recording.program.arena, *recording.inputs)}
    arrays = [arg for _, args in recording.steps for arg in args if isinstance(arg, np.ndarray)]
    return [array for array in (*arrays, *recording.outputs) if array.size and id(device.root(array)) not in own]


def _portable(recording: Recording, constants: _Constants) -> Steps:
    program = recording.program
    starts = {id(device.root(program.arena)): program.start}  # owner -> the address at which its arena would begin
    nbytes = _up(program.nbytes)
    for array in recording.inputs:
        starts[id(device.root(array))] = device.address(array) - nbytes
        nbytes += _up(array.nbytes)

    def place(arg: Any) -> Any:
        if not isinstance(arg, np.ndarray):
            return arg
        form = arg.shape, arg.strides, arg.dtype.str if arg.dtype.names is None else arg.dtype
        if not arg.size:
            return Place(_ARENA, 0, *form)
        start = starts.get(id(device.root(arg)))
        if start is not None:
            return Place(_ARENA, device.address(arg) - start, *form)
        return Place(_CONSTANTS, constants.offset(device.address(arg)), *form)

    launches = [(function, tuple(map(place, args))) for function, args in recording.steps]
    return Steps(launches, nbytes, list(map(place, recording.inputs)), list(map(place, recording.outputs)))


# -------------------- functions by their names --------------------


class _Kernel(NamedTuple):
    """A reference to a kernel, which is imported again instead of pickled. stamp: a hash of its source."""

    module: str
    name: str
    is_shared: bool
    stamp: str


class _Conditional(NamedTuple):
    function: Any
    flags: int


def _described(function: Any) -> Any:
    """A launched function in a form for pickle."""
    if isinstance(function, device.Conditional):
        return _Conditional(_described(function.function), function.flags)
    kernel = getattr(function, "kernel", function)
    if not isinstance(kernel, cache.Kernel | types.FunctionType):
        return function
    module, name = kernel.__module__, kernel.__qualname__
    if cache.named(module, name) is not kernel:
        raise pickle.PicklingError(
            f"the kernel {named(kernel)} cannot be pickled, as another process would not find it: define it at the top level of "
            "a module, under its own name"
        )
    if not isinstance(kernel, cache.Kernel):
        return function
    return _Kernel(module, name, function is not kernel, _stamp(kernel))


def _stamp(kernel: Any) -> str:
    path = kernel.py_func.__code__.co_filename
    return code.stamp(path) if os.path.exists(path) else ""


def _function_of(described: Any) -> Any:
    """The launched function for a description."""
    if isinstance(described, _Conditional):
        return device.Conditional(_function_of(described.function), described.flags)
    if not isinstance(described, _Kernel):
        return described
    kernel = cache.named(described.module, described.name)
    if not isinstance(kernel, cache.Kernel) or _stamp(kernel) != described.stamp:
        raise ValueError(
            f"the kernel {described.name!r} of {described.module!r} is not the one that this model was frozen with: freeze the "
            "model again, from its .keras file"
        )
    return kernel.shared if described.is_shared else kernel


# -------------------- files --------------------

_MAGIC = b"nbkeras frozen\n\0"
_HEADER = struct.Struct("<16sII")  # magic, the number of bytes of a JSON string, their checksum
_PAGE = 4096


def save(thing: Any, filepath: Any) -> None:
    """Write an object with programs: a header, its pickle, and its constants, which start at a multiple of 4096 bytes."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(thing, 5, buffer_callback=buffers.append)
    (constants,) = (buffer.raw() for buffer in buffers)
    about = {
        "kind": type(thing).__name__,
        "version": settings.VERSION,
        "pickle": [len(content), zlib.crc32(content)],
        "constants": [constants.nbytes, zlib.crc32(constants)],
    }
    text = json.dumps(about).encode()
    with atomic_file(filepath) as file:
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & ~0o022)
        file.write(_HEADER.pack(_MAGIC, len(text), zlib.crc32(text)) + text + content)
        file.write(bytes(-file.tell() % _PAGE))
        file.write(constants)


def load(kind: type, filepath: Any, safe_mode: bool, mapped: bool = False) -> Any:
    """Read an object that `save` wrote. Raises ValueError in safe mode, since its pickle can run any code.

    An allowlist for the pickle's names would not make it safe: kernels are compiled without bounds checks, and the file
    chooses the places, sizes and kernels of a program. mapped: the constants stay in the file, which nobody may change from
    then on.
    """
    name = os.fspath(filepath)
    with open(name, "rb") as file:
        return read(kind, file, name, safe_mode, mapped)


def read(kind: type, file: Any, name: str, safe_mode: bool, mapped: bool = False) -> Any:
    """As `load`, from an open file. name: for error messages."""
    file.seek(0)
    header = file.read(_HEADER.size)
    if not header:
        raise ValueError(f"{name!r} is empty, not a file of a frozen model")
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ValueError(f"{name!r} is not a file of a frozen model, as {kind.__name__}.save writes it")
    if safe_mode:
        raise ValueError(
            f"{name!r} is a frozen model, which holds a pickle and can run any code when it is loaded: load the model's .keras "
            "file and freeze it again, or pass safe_mode=False if you wrote the file yourself"
        )
    _check_owner(file.fileno(), name)
    memory = _content(file, mapped)
    damaged = ValueError(f"{name!r} is damaged, or was not copied completely: save the frozen model again")
    _, length, check = _HEADER.unpack(header)
    text = bytes(memory[_HEADER.size : _HEADER.size + length])
    if zlib.crc32(text) != check:
        raise damaged
    about = json.loads(text)
    if about["version"] != settings.VERSION:
        raise ValueError(
            f"{name!r} is from nbkeras {about['version']}, and this is {settings.VERSION}: freeze the model again, from its "
            ".keras file"
        )
    if about["kind"] != kind.__name__:
        raise ValueError(f"{name!r} holds a {about['kind']}, not a {kind.__name__}: read it with {about['kind']}.load")
    start = _HEADER.size + length
    parts = []
    for size, check in (about["pickle"], about["constants"]):
        part = memory[start : start + size]
        if part.nbytes != size or zlib.crc32(part) != check:
            raise damaged
        parts.append(part)
        start += size + -(start + size) % _PAGE
    content, constants = parts
    return pickle.loads(content, buffers=[constants])


def _content(file: Any, mapped: bool) -> memoryview:
    """The bytes of a file, in private memory or mapped."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    if mapped:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))  # private: writes do not reach the file
    with device.on(None):
        memory = memoryview(device.persistent_empty((size,), np.uint8))
    return memory[: file.readinto(memory)]


def _check_owner(file: int, name: str) -> None:
    """Raise PermissionError for a file that another user could have written, since its pickle can run any code."""
    if not hasattr(os, "geteuid"):  # on Windows
        return
    found = os.fstat(file)
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(
            f"{name!r} belongs to another user (number {found.st_uid}), and a frozen model can run any code: freeze the "
            "model again"
        )
    if found.st_mode & 0o022:
        raise PermissionError(
            f"other users can write {name!r} (mode {found.st_mode & 0o777:o}), and a frozen model can run any code: chmod go-w"
        )
