"""Turns launches of a recorded program into code without Python: the content of each frame, and the kernels' object files.

`rows_of` describes a launch: its frame holds symbolic locations instead of addresses, because a library's memory is elsewhere in
each process. library_code.py writes the code. Objects for this processor come from the cache. A child process makes objects for
another processor, because a process has one target processor from its start.
"""

import ctypes
import functools
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from nbkeras.kernels.loops import interpreter
from nbkeras.kernels.loops.instruction_set import OPCODES, WORDS
from nbkeras.kernels.runtime import cache, code, elf, elf_objects, instructions, native, objects, processor
from nbkeras.kernels.runtime.device import address
from nbkeras.kernels.runtime.eager import bounds_of
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.signatures import ArrayType, Type

Array = np.ndarray


class BufferRef(NamedTuple):
    """An address: a byte offset into a named piece of memory."""

    memory: str
    offset: int


class CFunctionRef(NamedTuple):
    """The address of a function of the C library."""

    function: str


Word = int | BufferRef | CFunctionRef


class Row(NamedTuple):
    """A call of an entry: its symbol, the words of the frame, and the number of shares.

    instructions: for the interpreter; the frame's second word is their address.
    """

    symbol: str
    frame: list[Word]
    shares: int
    instructions: list[Word]


class Unavailable(ValueError):
    """A launch cannot be part of a library, for the reason in the message."""


class Memory(Protocol):
    """Maps the memory of a launch to locations in a library."""

    def place(self, array: Array, low: int) -> BufferRef:
        """Returns the location of an array's memory, which begins at `low`."""

    def constant(self, array: Array) -> BufferRef:
        """Returns the location of a constant of this launch."""

    def scratch(self, nbytes: int) -> BufferRef:
        """Returns the location of memory that only this launch uses."""


# -------------------- rows --------------------


def rows_of(function: Callable, args: tuple, memory: Memory, kernels: "Kernels") -> list[Row]:
    """Returns the rows of a launch. Raises Unavailable if it needs Python.

    A Python function may have an `in_library`, which lists equivalent launches (kernel, *args); none for unsuitable arrays.
    """
    if hasattr(function, "row"):
        return [_row_of_kernel(function, args, memory, kernels)]
    others = list(getattr(function, "in_library", lambda *args: ())(*args))
    if others:
        return [_row_of_kernel(kernel, tuple(rest), memory, kernels) for kernel, *rest in others]
    parts = None if hasattr(function, "on_host") else instructions.parts_of(function, args)
    if parts is None:
        raise Unavailable(
            f"{named(function)} runs in Python, with NumPy: leave this layer out of the exported model, and do its "
            "work before or after it"
        )
    return _rows_of_parts(parts, args, memory)


def _row_of_kernel(function: Any, args: tuple, memory: Memory, kernels: "Kernels") -> Row:
    kernel: cache.Kernel = getattr(function, "kernel", function)
    _, words, shares, _ = function.row(args, 0)
    frame: list[Word] = words.tolist()
    own = args[1:] if kernel is not function else args[: len(args) - 2 * kernel.takes_shares]
    signature, slot = kernel.signature(own), 0
    for value, kind in zip(own, signature, strict=True):
        if isinstance(kind, ArrayType):
            low, _ = bounds_of(value)
            place = memory.place(value, low) if value.size else BufferRef("workspace", 0)
            frame[slot] = BufferRef(place.memory, place.offset + address(value) - low)
        slot += native._slots(kind)
    return Row(kernels.symbol(kernel, signature), frame, shares, [])


def _rows_of_parts(parts: list[instructions.ProgramRow], args: tuple, memory: Memory) -> list[Row]:
    """Returns the rows of the interpreter's programs, whose instructions contain addresses too."""
    regions = [(*bounds_of(x), functools.partial(memory.place, x)) for x in args if isinstance(x, Array) and x.size]
    written = {int(row[2]) for part in parts for row in part.code if row[3] >= 0}
    for array in {id(x): x for part in parts for x in part.keep if isinstance(x, Array) and x.size}.values():
        low, high = bounds_of(array)
        if any(start <= low < end for start, end, _ in regions):
            continue
        place = memory.scratch(high - low) if any(low <= at < high for at in written) else memory.constant(array)
        regions.append((low, high, lambda _, place=place: place))

    def word(at: int) -> BufferRef:
        inside = [region for region in regions if region[0] <= at < region[1]]
        if not inside:
            raise RuntimeError("a program of the interpreter uses memory that it does not keep")
        low, _, place = max(inside, key=lambda region: region[1])
        found = place(low)
        return BufferRef(found.memory, found.offset + at - low)

    return [
        Row(
            interpreter.SYMBOL,
            part.frame.tolist(),
            part.shares,
            [each for row in part.code.tolist() for each in _instruction(row, word)],
        )
        for part in parts
    ]


_NAMES = {number: name for name, number in OPCODES.items()}


def _instruction(row: list[int], word: Callable[[int], BufferRef]) -> list[Word]:
    """Returns the words of an instruction with locations instead of addresses; see loops/instruction_set.py."""
    found: list[Word] = list(row)
    for at in range(2, WORDS, 2):
        if row[at] and row[at + 1] >= 0:
            found[at] = word(row[at])
    name = _NAMES[row[0]].partition(".")[0]
    if name in ("load", "store", "transpose", "columns"):
        found[1] = word(row[1])
    elif name == "call":
        found[1] = CFunctionRef(_c_functions()[row[1]])
    return found


@functools.cache
def _c_functions() -> dict[int, str]:
    """Returns the functions of the C library that the interpreter may call, by address."""
    names = [name + end for name in instructions.CALLED.values() for end in ("", "f")]
    found = {name: getattr(instructions._c_library(), name, None) for name in names}
    return {ctypes.cast(each, ctypes.c_void_p).value or 0: name for name, each in found.items() if each is not None}


# -------------------- objects --------------------


class Kernels:
    """The kernels that a library calls, by symbol. A symbol is for certain argument types."""

    def __init__(self) -> None:
        self._symbols: dict[tuple[cache.Kernel, tuple[Type, ...]], str] = {}

    def symbol(self, kernel: cache.Kernel, signature: tuple[Type, ...]) -> str:
        """Returns the symbol of a kernel's entry."""
        key = kernel, signature
        if key not in self._symbols:
            self._symbols[key] = f"nbkeras_{len(self._symbols)}_{re.sub(r'[^0-9A-Za-z_]', '_', kernel.__name__)}"
        return self._symbols[key]

    def objects(self, used: Iterable[str], target: str = "") -> dict[str, bytes]:
        """Returns the object files by symbol: of these kernels, of the registered functions in `used`, and of their callees.

        target: '' for this processor, or one of `processor.TARGETS`. Raises Unavailable for a kernel that needs more than the C
        library.
        """
        kernels = list(self._symbols)
        found = dict(zip(self._symbols.values(), made(kernels, target), strict=True))
        functions: dict[str, bytes] = {}
        waiting = [name for name in used if code.is_registered(name)]
        for (kernel, _), content in zip(kernels, found.values(), strict=True):
            waiting += _needed(content, kernel)
        while waiting := sorted(set(waiting) - functions.keys()):
            functions.update(zip(waiting, made(waiting, target), strict=True))
            waiting = [name for content in functions.values() for name in _needed(content, None)]
        return found | functions


def _needed(content: bytes, kernel: Any) -> list[str]:
    """Returns the registered functions that an object calls."""
    undefined = elf.File(content).undefined()
    missing = [name for name in undefined if not code.is_registered(name) and objects.library_symbol(name) is None]
    if missing:
        what = "a function of the runtime" if kernel is None else named(kernel)
        raise Unavailable(
            f"{what} needs {missing[0]!r}, which only a process with Numba has: a kernel must not allocate"
        )
    return [name for name in undefined if code.is_registered(name)]


def linkable(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Returns object files for one library: each kernel's entry gets a different symbol, and all symbols are hidden."""
    return {name: elf_objects.hidden(content, {cache.ENTRY: name}) for name, content in contents.items()}


def data(target: str, symbol: str, content: bytes) -> bytes:
    """Returns an object file with constants at a symbol."""
    return elf_objects.of_data(processor.machine_of(target), symbol, content)


def bytes_at(low: int, high: int) -> bytes:
    """Returns the bytes of a piece of this process's memory."""
    return ctypes.string_at(low, high - low)


Callee = str | tuple[cache.Kernel, tuple[Type, ...]]  # a registered function, or a kernel for certain argument types


def made(wanted: Sequence[Callee], target: str) -> list[bytes]:
    """Returns the object files for a target."""
    if target:
        return _made_by_child(wanted, target)
    return [code.object_of(each) if isinstance(each, str) else _object_for(*each) for each in wanted]


def _object_for(kernel: cache.Kernel, signature: tuple[Type, ...]) -> bytes:
    content = kernel.object_for(signature)
    if signature in kernel.bound:
        raise Unavailable(
            f"{named(kernel)} uses a pointer, or a global array of more than a megabyte, whose address differs between "
            "processes: pass the array as an argument"
        )
    return content


def _made_by_child(wanted: Sequence[Callee], target: str) -> list[bytes]:
    job = [(code.module_of(each), each, None) if isinstance(each, str) else _described(*each) for each in wanted]
    # it sets the path first, because the working directory may contain another nbkeras
    script = f"import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from {__name__} import serve; serve()"
    child = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(sys.path) + pickle.dumps(job),
        env=os.environ | processor.variables_of(target),
        capture_output=True,
        check=False,
    )
    if child.returncode:
        text = child.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"kernels could not be compiled for {target}:\n{text[-4000:]}")
    return pickle.loads(child.stdout)


def _described(kernel: cache.Kernel, signature: tuple[Type, ...]) -> tuple[str, str, tuple[Type, ...]]:
    """Returns a kernel's module, its name there and its types. Raises Unavailable if a child process cannot import it."""
    module, name = kernel.py_func.__module__, kernel.py_func.__name__
    if module == "__main__" or cache.named(module, name) is not kernel:
        raise Unavailable(
            f"{named(kernel)} cannot be compiled for another processor, because the compiling process cannot import it: define "
            "it at the top level of a module"
        )
    return module, name, signature


def serve() -> None:
    """Runs in the child process: reads requests for objects, and writes the objects."""
    job = pickle.load(sys.stdin.buffer)
    out, sys.stdout = sys.stdout, sys.stderr  # because a user's module may print
    wanted: list[Callee] = []
    for module, name, signature in job:
        kernel = cache.named(module, name)
        wanted.append(name if signature is None else (kernel, signature))
    out.buffer.write(pickle.dumps(made(wanted, "")))
