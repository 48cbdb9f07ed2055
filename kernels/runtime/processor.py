"""Finds, without LLVM, the processor that kernels are compiled for."""

import functools
import hashlib
import os
import platform

from numpy._core._multiarray_umath import __cpu_features__

# the levels of the x86-64 psABI, the best first, with the flags of /proc/cpuinfo that they need
_V2 = ("pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS = {"x86-64-v4": _V4, "x86-64-v3": _V3, "x86-64-v2": _V2}
# kinds of machines without levels (names as in `os.uname`); their code runs on all machines of the kind
_FOREIGN = {"aarch64": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+neon"}}
TARGETS = (*LEVELS, *_FOREIGN)  # the targets that a process can compile for, see `variables_of`
_OF_NUMPY = {"fma": "FMA3", "sse4.2": "SSE42"}  # NumPy's names, where they differ from LLVM's
_SIZE = 16384  # bytes to read of /proc/cpuinfo: enough for the first processor, which is like the others
_CPU_INFO_NAMES = (
    "vendor_id",
    "cpu family",
    "model",
    "flags",
    "CPU implementer",
    "CPU variant",
    "CPU part",
    "Features",
    "isa",
)


def variables_of(target: str) -> dict[str, str]:
    """Returns the environment variables of a process that compiles for a level, or for another kind of machine."""
    own = _FOREIGN.get(target, {"NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": ""})
    is_own_kind = target in LEVELS and platform.machine().lower() in ("x86_64", "amd64")
    return {**own, "NBKERAS_MACHINE": "" if is_own_kind else machine_of(target)}


def foreign_triple() -> str:
    """Returns LLVM's name of the kind of machine that this process compiles for; '' for this machine's kind."""
    chosen = os.environ.get("NBKERAS_MACHINE", "")
    return triple_of(chosen) if chosen in ("x86_64", *_FOREIGN) else ""


def triple_of(machine: str) -> str:
    """Returns LLVM's name of Linux on a kind of machine."""
    return f"{machine}-unknown-linux-gnu"


def machine_of(target: str) -> str:
    """Returns the kind of machine of a target; the target '' is this processor."""
    return target if target in _FOREIGN else "x86_64" if target in LEVELS else platform.machine()


def level() -> str:
    """Returns the level that NUMBA_CPU_NAME sets; '' if it is not a level, or if NUMBA_CPU_FEATURES is set too."""
    name = os.environ.get("NUMBA_CPU_NAME", "")
    return name if name in LEVELS and not os.environ.get("NUMBA_CPU_FEATURES", "") else ""


@functools.cache
def keys() -> list[str]:
    """Returns names of processors whose code runs here: this one, the compiler's target, then the levels that it supports."""
    if level():
        return [level()]
    chosen = os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", "")
    info = {} if all(chosen) else _cpu_info()
    machine = foreign_triple() or platform.machine()
    own = f"{machine} {hashlib.sha256(repr((chosen, info)).encode()).hexdigest()[:16]}"
    flags = info.get("flags", "").split()
    return [own, *(level for level, needed in LEVELS.items() if set(needed) <= set(flags))]


@functools.cache
def has(feature: str) -> bool:
    """True if kernels may use these vector instructions; `feature` is LLVM's name."""
    name, features = os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", "")
    if features:
        return f"+{feature}" in features.split(",")
    if name in LEVELS:
        return feature.replace(".", "_") in LEVELS[name]
    known = __cpu_features__.get(_OF_NUMPY.get(feature, feature.upper()))
    if known is None:  # if NumPy does not report it
        return feature in _cpu_info().get("flags", "").replace("_", "").split()
    return bool(known)


def _cpu_info() -> dict[str, str]:
    """Returns the properties that distinguish processors."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(_SIZE).partition("\n\n")[0]
    except OSError:
        return {"name": platform.processor(), **{name: "1" for name, has in __cpu_features__.items() if has}}
    pairs = (line.partition(":")[::2] for line in first.splitlines())
    return {name.strip(): value.strip() for name, value in pairs if name.strip() in _CPU_INFO_NAMES}
