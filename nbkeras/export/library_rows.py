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

from nbkeras.export import elf_objects
from nbkeras.kernels.interpreter import emitter, programs
from nbkeras.kernels.interpreter.instruction_set import OPCODES, WORDS
from nbkeras.kernels.runtime import cache, code, device, objects, processor, repeated, wasm_objects
from nbkeras.kernels.runtime.device import address
from nbkeras.kernels.runtime.device_array import root
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.row import Row
from nbkeras.kernels.runtime.signatures import Type

Array = np.ndarray


class BufferRef(NamedTuple):
    """An address: a byte offset into a named piece of memory."""

    memory: str
    offset: int


class CFunctionRef(NamedTuple):
    """The address of a function of the C library, for a call with two numbers. arguments: how many it takes."""

    function: str
    arguments: int


Word = int | BufferRef | CFunctionRef


class LibraryRow(NamedTuple):
    """A call of an entry: its symbol, the words of the frame, and the number of shares.

    instructions: for the interpreter; the frame's second word is their address. flags: int64 numbers; a zero skips the call.
    """

    symbol: str
    frame: list[Word]
    shares: int
    instructions: list[Word]
    flags: tuple[BufferRef, ...] = ()


class Unavailable(ValueError):
    """A launch cannot be part of a library, for the reason in the message."""


class LibraryMemory(Protocol):
    """Maps the memory of a launch to locations in a library."""

    def place(self, array: Array) -> BufferRef:
        """Returns the location of an array's first element. An array that is in no memory of the program is a constant."""

    def scratch(self, nbytes: int) -> BufferRef:
        """Returns the location of memory that only this launch uses."""


# -------------------- rows --------------------


def rows_of(function: Callable, args: tuple, memory: LibraryMemory, kernels: "Kernels") -> list[LibraryRow]:
    """Returns the rows of a launch. Raises Unavailable if it needs Python.

    A Python function may have an `in_library`, which lists equivalent launches (kernel, *args); none for unsuitable arrays.
    """
    if isinstance(function, device.Conditional):
        flags = tuple(memory.place(flag) for flag in args[: function.flags])
        inner = rows_of(function.function, args[function.flags :], memory, kernels)
        return [row._replace(flags=flags + row.flags) for row in inner]
    rows: list[LibraryRow] = []
    for each, given in repeated.compiled([(function, args)]):
        found = None if isinstance(each, repeated.Loop) else device.rows_of(each, given)
        if found is None:
            raise Unavailable(
                f"{named(each)} runs in Python, with NumPy: leave this layer out of the exported model, and do its "
                "work before or after it"
            )
        scratch: dict[int, BufferRef] = {}  # by the id of the array
        rows += [_row(row, memory, kernels, scratch) for row in found]
    return rows


def _row(row: Row, memory: LibraryMemory, kernels: "Kernels", scratch: dict[int, BufferRef]) -> LibraryRow:
    """Returns a row with locations instead of addresses."""
    for array in row.scratch:
        if id(array) not in scratch:
            scratch[id(array)] = memory.scratch(array.nbytes)

    def place(array: Array) -> BufferRef:
        owner = root(array)
        if id(owner) not in scratch:
            return memory.place(array)
        start = scratch[id(owner)]
        return BufferRef(start.memory, start.offset + address(array) - address(owner))

    def words(numbers: Any, addresses: Sequence[tuple[int, Array]]) -> list[Word]:
        found: list[Word] = list(map(int, numbers))
        for at, array in addresses:
            found[at] = place(array)
        return found

    symbol = row.what if isinstance(row.what, str) else kernels.symbol(*row.what)
    instructions = [] if row.code is None else words(row.code.ravel(), row.code_addresses)
    for at in range(0, len(instructions), WORDS):
        name = _NAMES[instructions[at]]
        kernels.opcodes.add(name)
        if name.partition(".")[0] == "call":
            instructions[at + 1] = _c_functions()[instructions[at + 1]]
    return LibraryRow(symbol, words(row.frame, row.addresses), row.shares, instructions)


_NAMES: dict[Any, str] = {number: name for name, number in OPCODES.items()}


@functools.cache
def _c_functions() -> dict[Any, CFunctionRef]:
    """Returns the functions of the C library that the interpreter may call, by address."""
    called = [(name + end, getattr(np, op).nin) for op, name in programs.CALLED.items() for end in ("", "f")]
    found = {CFunctionRef(*each): getattr(programs._c_library(), each[0], None) for each in called}
    return {ctypes.cast(each, ctypes.c_void_p).value or 0: ref for ref, each in found.items() if each is not None}


# -------------------- objects --------------------


class Kernels:
    """The kernels that a library calls, by symbol. A symbol is for certain argument types."""

    def __init__(self) -> None:
        self._symbols: dict[tuple[cache.Kernel, tuple[Type, ...]], str] = {}
        self.opcodes: set[str] = set()  # the interpreter's instructions that the rows use

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
            own = _Interpreter(tuple(sorted(self.opcodes)))
            callees = [own if name == emitter.SYMBOL else name for name in waiting]
            functions.update(zip(waiting, made(callees, target), strict=True))
            waiting = [name for content in functions.values() for name in _needed(content, None)]
        return found | functions


def _needed(content: bytes, kernel: Any) -> list[str]:
    """Returns the registered functions that an object calls."""
    undefined = objects.undefined(content)
    missing = [name for name in undefined if not code.is_registered(name) and objects.library_symbol(name) is None]
    if missing:
        what = "a function of the runtime" if kernel is None else named(kernel)
        raise Unavailable(
            f"{what} needs {missing[0]!r}, which only a process with Numba has: a kernel must not allocate"
        )
    return [name for name in undefined if code.is_registered(name)]


def linkable(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Returns object files for one library: each kernel's entry gets a different symbol, and all symbols are hidden."""
    files = {True: wasm_objects, False: elf_objects}
    return {
        name: files[content[:4] == wasm_objects.MAGIC].hidden(content, {cache.ENTRY: name})
        for name, content in contents.items()
    }


def data(target: str, symbol: str, content: bytes) -> bytes:
    """Returns an object file with constants at a symbol."""
    machine = processor.machine_of(target)
    if machine == processor.WASM:
        return wasm_objects.of_data(symbol, content)
    return elf_objects.of_data(machine, symbol, content)


class _Interpreter(NamedTuple):
    """The interpreter with the instructions that a library uses; all of them take 100 KB."""

    opcodes: tuple[str, ...]


# A registered function, the interpreter, or a kernel for certain argument types
Callee = str | _Interpreter | tuple[cache.Kernel, tuple[Type, ...]]


def made(wanted: Sequence[Callee], target: str) -> list[bytes]:
    """Returns the object files for a target."""
    if target:
        return _made_by_child(wanted, target)
    return [_object_of(each) for each in wanted]


def _object_of(callee: Callee) -> bytes:
    if isinstance(callee, str):
        return code.object_of(callee)
    if isinstance(callee, _Interpreter):
        return emitter.object_code(code.compiler(emitter.object_code).target_machine(), callee.opcodes)
    kernel, signature = callee
    content = kernel.object_for(signature)
    if signature in kernel.bound:
        raise Unavailable(
            f"{named(kernel)} uses a pointer, or a global array of more than a megabyte, whose address differs between "
            "processes: pass the array as an argument"
        )
    return content


def _made_by_child(wanted: Sequence[Callee], target: str) -> list[bytes]:
    job = [_described(each) for each in wanted]
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


def _described(callee: Callee) -> _Interpreter | tuple[str, str, tuple[Type, ...] | None]:
    """Returns a function's module and its name there, and a kernel's types. Raises Unavailable if a child cannot import it."""
    if isinstance(callee, _Interpreter):
        return callee
    if isinstance(callee, str):
        return code.module_of(callee), callee, None
    kernel, signature = callee
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
    for each in job:
        if not isinstance(each, _Interpreter):
            module, name, signature = each
            kernel = cache.named(module, name)
            each = name if signature is None else (kernel, signature)
        wanted.append(each)
    out.buffer.write(pickle.dumps(made(wanted, "")))
