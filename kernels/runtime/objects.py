"""Loads compiled kernels from object files into memory, without Numba and LLVM if possible.

On Linux with x86-64 or aarch64 our own loader does it in a fraction of a millisecond; llvmlite alone would take a tenth of a
second and 75 MB of memory. Elsewhere llvmlite's MCJIT does it. `load` chooses.

Each object has separate pages for code, constants and data. No page is ever writable and executable at the same time: everything
is linked and written before it is protected. Kernels are never unloaded, because a thread may still run one while Python exits.
"""

import ctypes
import functools
import importlib
import mmap
import os
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

from nbkeras.kernels.runtime import elf, wasm_objects
from nbkeras.kernels.runtime.elf import UnresolvedSymbol as UnresolvedSymbol

Resolve = Callable[[str], int | None]

_engines: list[Any] = []  # MCJIT engines, which own the memory of their objects
_one_engine = threading.Lock()  # LLVM has one table of external symbols per process


def load(content: bytes, resolve: Resolve) -> dict[str, int]:
    """Loads an object; returns the addresses of its global functions. `resolve` finds the symbols that the object uses.

    The functions stay loaded. Raises ValueError for a file that is damaged or holds no kernel, and UnresolvedSymbol if `resolve`
    returns None.
    """
    return _load_here(content, resolve) if is_supported() else load_with_llvmlite(content, resolve)


@functools.cache
def is_supported() -> bool:
    """True if this system loads objects without llvmlite."""
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8 or os.uname().machine not in elf.MACHINES:
        return False
    return bool(_libraries()) and (os.uname().machine != "aarch64" or _clear_cache() is not None)


def library_symbol(name: str) -> int | None:
    """Returns the address of a function of the C library or its math library; None if there is none."""
    return next((address for library in _libraries() if (address := _address(library, name))), None)


@functools.cache
def _libraries() -> list[ctypes.CDLL]:
    """Returns the C library and its math library; none in a statically linked Python."""
    # not `ctypes.util.find_library`, which would start a compiler
    names = ("ucrtbase", "vcruntime140") if sys.platform == "win32" else (None, "libm.so.6")
    return [library for name in names if (library := _library(name)) is not None]


def _library(name: str | None) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name, use_errno=True)
    except OSError:
        return None


def _address(library: ctypes.CDLL, name: str) -> int | None:
    try:
        # as an attribute, the name could be one of ctypes's own
        return ctypes.cast(library[name], ctypes.c_void_p).value
    except AttributeError:
        return None


# -------------------- our own loader --------------------


def _load_here(content: bytes, resolve: Resolve) -> dict[str, int]:
    layout = elf.ObjectLayout(content, os.uname().machine, mmap.PAGESIZE)
    system = _memory_functions()
    # The mapping is private, so that a fork has its own data. `mmap.mmap` would unmap it when Python exits.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = system.mmap(None, layout.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if base == ctypes.c_void_p(-1).value:
        raise _failed("map memory for")
    try:
        image, functions = layout.link(base, resolve)
        ctypes.memmove(base, bytes(image), len(image))
        for start, end, access in ((0, layout.constants, mmap.PROT_EXEC), (layout.constants, layout.data, 0)):
            if start != end and system.mprotect(base + start, end - start, mmap.PROT_READ | access):
                raise _failed("protect the memory of")
    except BaseException:
        system.munmap(base, layout.size)
        raise
    if (clear := _clear_cache()) is not None:
        clear(base, base + layout.constants)
    return functions


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"the system does not let this process {what} a compiled kernel: {os.strerror(number)}")


@functools.cache
def _memory_functions() -> ctypes.CDLL:
    library = _libraries()[0]
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    library.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library


@functools.cache
def _clear_cache() -> Any:
    """Returns libgcc's function that makes new code visible on aarch64, where the instruction and data caches are separate."""
    if os.uname().machine != "aarch64" or (library := _library("libgcc_s.so.1")) is None:
        return None
    address = _address(library, "__clear_cache")
    return address and ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)


# -------------------- llvmlite's loader --------------------


def load_with_llvmlite(content: bytes, resolve: Resolve) -> dict[str, int]:
    """Runs `load` by llvmlite's MCJIT, for systems whose objects we do not link."""
    functions, undefined = _names(content)
    # Check before LLVM sees the object: LLVM aborts the process if it does not find a symbol.
    addresses = {name: elf.resolved(name, resolve) for name in undefined}
    binding = importlib.import_module("llvmlite.binding")
    with _one_engine:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine(jit=True)
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        for name, address in addresses.items():
            binding.add_symbol(name, address)
        engine.add_object_file(binding.ObjectFileRef.from_data(content))
        engine.finalize_object()
        _engines.append(engine)
        return {name: engine.get_function_address(name) for name in functions}


def undefined(content: bytes) -> list[str]:
    """Returns the symbols that an object uses and does not define."""
    return _names(content)[1]


def _names(content: bytes) -> tuple[list[str], list[str]]:
    """Returns the functions that an object defines and the names that it uses."""
    if content[:4] == wasm_objects.MAGIC:
        return wasm_objects.names(content)
    return _mach_o_names(content) if content[:4] == b"\xcf\xfa\xed\xfe" else _elf_names(content)


def _elf_names(content: bytes) -> tuple[list[str], list[str]]:
    file = elf.File(content)
    return list(file.functions()), file.undefined()


def _mach_o_names(content: bytes) -> tuple[list[str], list[str]]:
    """Returns the functions that an object of macOS defines and the names that it uses, as C spells them."""
    defined, undefined = [], []
    try:
        count, at = struct.unpack_from("<I", content, 16)[0], 32
        for _ in range(count):
            command, size, symbols, number, names, length = struct.unpack_from("<6I", content, at)
            if command == 2:  # LC_SYMTAB
                strings = content[names : names + length]
                for name, kind, _, _, value in struct.iter_unpack("<IBBHQ", content[symbols : symbols + 16 * number]):
                    text = strings[name : strings.index(b"\0", name)].decode().removeprefix("_")
                    if kind & 0x1F == 0x0F:  # N_EXT, in a section
                        defined.append(text)
                    elif kind & 0x0F == 0x01 and not value:  # N_EXT, undefined
                        undefined.append(text)
            at += size
    except (struct.error, ValueError):
        raise ValueError("an object file cannot be loaded: its table of symbols is damaged") from None
    return defined, undefined
