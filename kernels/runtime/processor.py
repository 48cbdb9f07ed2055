"""The processor for which kernels are compiled, told without LLVM."""

import functools
import hashlib
import os
import platform

from numpy._core._multiarray_umath import __cpu_features__

_SIZE = 16384  # of what /proc/cpuinfo says about the first processor; it says the same about each
_TELLING = (
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


@functools.cache
def key() -> str:
    """A name for all processors that run the same code."""
    chosen = os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", "")
    told = "" if all(chosen) else _told_by_system()
    return f"{platform.machine()} {hashlib.sha256(repr((chosen, told)).encode()).hexdigest()[:16]}"


@functools.cache
def has(feature: str) -> bool:
    """Whether kernels may use vector instructions, by LLVM's name of them."""
    chosen = os.environ.get("NUMBA_CPU_FEATURES", "")
    if chosen:
        return f"+{feature}" in chosen.split(",")
    return bool(__cpu_features__.get(feature.upper()))


def _told_by_system() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(_SIZE).partition("\n\n")[0]
    except OSError:
        return repr((platform.processor(), sorted(name for name, has in __cpu_features__.items() if has)))
    return "\n".join(line for line in first.splitlines() if line.partition(":")[0].strip() in _TELLING)
