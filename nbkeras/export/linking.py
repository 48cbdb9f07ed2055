"""Linking object files into a shared library, by a C compiler or linker of this system, or by ziglang's."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

_FLAGS = ["--gc-sections", "-s", "-z", "noexecstack"]


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


def linked(contents: dict[str, bytes], machine: str, name: str) -> bytes:
    """A shared library of object files. name: the file name that programs linked with it will load.

    Raises:
        FileNotFoundError: if there is no linker.
        RuntimeError: with the linker's message, if it fails.
    """
    command, is_compiler = linker(machine)
    with tempfile.TemporaryDirectory(prefix="nbkeras-") as folder:
        paths = []
        for number, content in enumerate(contents.values()):
            paths.append(os.path.join(folder, f"{number}.o"))
            with open(paths[-1], "wb") as file:
                file.write(content)
        out = os.path.join(folder, "library")
        flags = [*_FLAGS, "-soname", name]
        if is_compiler:
            options = ["-shared", "-nostartfiles", f"-Wl,{','.join(flags)}", *paths, "-Wl,--as-needed", "-lm"]
        else:
            options = ["-shared", *flags, *paths]
        done = subprocess.run([*command, *options, "-o", out], capture_output=True, check=False)
        if done.returncode:
            text = done.stderr.decode(errors="replace").strip()
            raise RuntimeError(f"{' '.join(command)} could not link the library:\n{text[-4000:]}")
        with open(out, "rb") as file:
            return file.read()
