"""Finds, without LLVM, the processor that kernels are compiled for."""

import functools
import hashlib
import os
import platform
from collections.abc import Sequence

from numpy._core._multiarray_umath import __cpu_features__

# the levels of the x86-64 psABI, the best first, with the flags of /proc/cpuinfo that they need
_V2 = ("pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS = {"x86-64-v4": _V4, "x86-64-v3": _V3, "x86-64-v2": _V2}
WASM = "wasm32"  # WebAssembly, with addresses of 32 bits
# kinds of machines without levels (names as in `os.uname`); their code runs on all machines of the kind
_FOREIGN = {
    "aarch64": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+neon"},
    "riscv64": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+m,+a,+f,+d,+c"},
    WASM: {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+simd128,+bulk-memory"},
}
TARGETS = (*LEVELS, *_FOREIGN)  # the targets that a process can compile for, see `variables_of`
# Instructions above a level that some kernels use, with the levels of the code that may have them. The package holds these
# kernels with and without them.
_EXTRAS = {"avxvnni": "x86-64-v3", "avx512vnni": "x86-64-v4", "avx512bf16": "x86-64-v4"}
# the package's compiled kernels, see pack.py; a clone has none
_PACKS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "packed")
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


def variables_of(target: str, extras: Sequence[str] = ()) -> dict[str, str]:
    """Returns the environment variables of a process that compiles for a level, or for another kind of machine.

    extras: instructions above the level, see `extras`.
    """
    own = _FOREIGN.get(target, {"NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": ""})
    is_own_kind = target in LEVELS and platform.machine().lower() in ("x86_64", "amd64")
    return {**own, "NBKERAS_MACHINE": "" if is_own_kind else machine_of(target), "NBKERAS_EXTRAS": ",".join(extras)}


def machine() -> str:
    """Returns the kind of machine that this process compiles for."""
    return os.environ.get("NBKERAS_MACHINE", "") or platform.machine()


def foreign_triple() -> str:
    """Returns LLVM's name of the kind of machine that this process compiles for; '' for this machine's kind."""
    chosen = os.environ.get("NBKERAS_MACHINE", "")
    return triple_of(chosen) if chosen in ("x86_64", *_FOREIGN) else ""


def triple_of(machine: str) -> str:
    """Returns LLVM's name of Linux on a kind of machine. WebAssembly has no system."""
    return f"{machine}-unknown-{'unknown' if machine == WASM else 'linux-gnu'}"


def relocation_of(machine: str) -> str:
    """Returns LLVM's name of how code refers to addresses: it is for shared libraries, except WebAssembly's."""
    return "static" if machine == WASM else "pic"


def features_of(machine: str) -> str:
    """Returns LLVM's names of the instructions that all machines of a kind have, where it does not assume them."""
    return _FOREIGN.get(machine, {}).get("NUMBA_CPU_FEATURES", "")


def machine_of(target: str) -> str:
    """Returns the kind of machine of a target; the target '' is this processor."""
    return target if target in _FOREIGN else "x86_64" if target in LEVELS else platform.machine()


@functools.cache
def level() -> str:
    """Returns the level that this process has code for and compiles for; '' if it is this very processor.

    It is the level that NUMBA_CPU_NAME sets, without NUMBA_CPU_FEATURES. If neither is set, it is the best one of the kernels
    that the package holds: kernels depend on what `has` answers, so a process has one level, whether Numba is installed or not.
    """
    name, features = _chosen()
    if name or features:
        return name if name in LEVELS and not features else ""
    return next((each for each in levels() if os.path.exists(_pack_of(each))), "")


@functools.cache
def levels() -> list[str]:
    """Returns the levels of this processor, the best first; none of a kind of machine that has no levels."""
    flags = _cpu_info().get("flags", "").split()
    return [each for each, needed in LEVELS.items() if set(needed) <= set(flags)]


@functools.cache
def extras() -> tuple[str, ...]:
    """Returns the instructions above its level that kernels use."""
    chosen = os.environ.get("NBKERAS_EXTRAS", "").split(",")
    flags = _cpu_info().get("flags", "").replace("_", "").split()
    known = chosen if _chosen()[0] else flags
    return tuple(name for name, needed in _EXTRAS.items() if name in known and needed == level())


@functools.cache
def key() -> str:
    """Returns the name of the processors whose code this process makes."""
    if level():
        return "+".join([level(), *extras()])
    chosen = _chosen()
    info = {} if all(chosen) else _cpu_info()
    kind = foreign_triple() or platform.machine()
    return f"{kind} {hashlib.sha256(repr((chosen, info)).encode()).hexdigest()[:16]}"


@functools.cache
def pack_file() -> str:
    """Returns the name of the file with the package's kernels for this process; '' if there is none."""
    target = level() or ("" if any(_chosen()) else platform.machine())
    return _pack_of(target) if target in TARGETS and os.path.exists(_pack_of(target)) else ""


def _pack_of(target: str) -> str:
    return os.path.join(_PACKS, f"{target}.pack")


def _chosen() -> tuple[str, str]:
    """Returns LLVM's names of the processor and of the features that the user chose."""
    return os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", "")


@functools.cache
def has(feature: str) -> bool:
    """True if kernels may use these vector instructions; `feature` is LLVM's name."""
    features = _chosen()[1]
    if features:
        return f"+{feature}" in features.split(",")
    if level():
        return feature.replace(".", "_") in LEVELS[level()] or feature in extras()
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
