"""Linking object files into a shared library, by a C compiler or linker of this system, or by ziglang's."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

_FLAGS = ["--gc-sections", "-s", "-z", "noexecstack"]
_WASM_STACK = ["-z", f"stack-size={2**19}"]  # bytes; the interpreter takes 64 KB


def _compilers(machine: str, is_native: bool) -> Iterator[list[str]]:
    """Commands of C compilers; these know where the C library is."""
    if is_native:
        if os.environ.get("CC"):
            yield shlex.split(os.environ["CC"])
        yield from (["cc"], ["gcc"], ["clang"])
    yield [f"{machine}-linux-gnu-gcc"]


def _linkers(machine: str, is_native: bool) -> Iterator[list[str]]:
    yield ["ld.lld"]
    yield ["lld", "-flavor", "gnu"]
    yield [f"{machine}-linux-gnu-ld"]
    if is_native:
        yield ["ld"]


def linker(machine: str) -> tuple[list[str], bool]:
    """The command that links for a machine, and whether it is a C compiler. FileNotFoundError says what to install."""
    is_native = sys.platform == "linux" and platform.machine() == machine
    for command in _compilers(machine, is_native):
        if shutil.which(command[0]):
            return command, True
    for command in _linkers(machine, is_native):
        if shutil.which(command[0]):
            return command, False
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu"], True
    own = "gcc or clang, or " if is_native else f"{machine}-linux-gnu-gcc, or "
    raise FileNotFoundError(
        f"linking a library for {machine} needs a linker, and there is none: install {own}lld (the package lld of your system), "
        "or ziglang (pip install ziglang)"
    )


def wasm_linker() -> list[str]:
    """The command that links WebAssembly. FileNotFoundError says what to install."""
    if shutil.which("wasm-ld"):
        return ["wasm-ld"]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "wasm-ld"]
    raise FileNotFoundError(
        "linking a WebAssembly module needs a linker, and there is none: install wasm-ld (the package lld of your system), or "
        "ziglang (pip install ziglang)"
    )


def wasm_linked(contents: dict[str, bytes], names: Sequence[str]) -> bytes:
    """A WebAssembly module of object files, which exports the functions `names`, and the memory with its first free address.

    Raises:
        FileNotFoundError: if there is no linker, or none with the functions of the C library that kernels use.
        RuntimeError: with the linker's message, if it fails.
    """
    exports = [f"--export={name}" for name in (*names, "__heap_base")]
    options = ["--no-entry", "--strip-all", "--compress-relocations", "--stack-first", *_WASM_STACK, *exports]
    command = wasm_linker()
    try:
        return _run(command, lambda paths: [*options, *paths], contents)
    except RuntimeError as error:
        needed = sorted(set(re.findall(r"undefined symbol: (\w+)", str(error))))
        if not needed:
            raise
    if importlib.util.find_spec("ziglang") is None:
        raise FileNotFoundError(
            f"the model uses {', '.join(needed)} of the C library, which WebAssembly does not have: install ziglang, which "
            "brings it (pip install ziglang)"
        )
    # a compiler of C for WASI adds the functions, and a reactor is a module that does not call the system
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-target", "wasm32-wasi", "-mexec-model=reactor"]
    return _run(command, lambda paths: [f"-Wl,-s,{','.join([*_WASM_STACK, *exports])}", *paths], contents)


def linked(contents: dict[str, bytes], machine: str, name: str) -> bytes:
    """A shared library of object files. name: the file name that programs linked with it will load.

    Raises:
        FileNotFoundError: if there is no linker.
        RuntimeError: with the linker's message, if it fails.
    """
    command, is_compiler = linker(machine)
    flags = [*_FLAGS, "-soname", name]

    def options(paths: list[str]) -> list[str]:
        if is_compiler:
            return ["-shared", "-nostartfiles", f"-Wl,{','.join(flags)}", *paths, "-Wl,--as-needed", "-lm"]
        return ["-shared", *flags, *paths]

    return _run(command, options, contents)


def _run(command: list[str], options: Callable[[list[str]], list[str]], contents: dict[str, bytes]) -> bytes:
    """The file that a linker makes of object files. options: by their paths."""
    with tempfile.TemporaryDirectory(prefix="nbkeras-") as folder:
        paths = []
        for number, content in enumerate(contents.values()):
            paths.append(os.path.join(folder, f"{number}.o"))
            with open(paths[-1], "wb") as file:
                file.write(content)
        out = os.path.join(folder, "library")
        done = subprocess.run([*command, *options(paths), "-o", out], capture_output=True, check=False)
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()
            raise RuntimeError(f"{' '.join(command)} could not link the library:\n{text[-4000:]}")
        with open(out, "rb") as file:
            return file.read()
