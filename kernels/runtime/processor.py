"""The processor for which kernels are compiled, told without LLVM."""

import functools
import hashlib
import os
import platform

_SIZE = 16384  # of what /proc/cpuinfo says about the first processor; it says the same about each
_TELLING = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU variant", "CPU part", "Features", "isa")


@functools.cache
def key() -> str:
    """A name for all processors that run the same code."""
    chosen = os.environ.get("NUMBA_CPU_NAME", ""), os.environ.get("NUMBA_CPU_FEATURES", "")
    told = "" if all(chosen) else _told_by_system()
    return f"{platform.machine()} {hashlib.sha256(repr((chosen, told)).encode()).hexdigest()[:16]}"


def _told_by_system() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(_SIZE).partition("\n\n")[0]
    except OSError:
        from numpy._core._multiarray_umath import __cpu_features__  # the same on every system

        return repr((platform.processor(), sorted(name for name, has in __cpu_features__.items() if has)))
    return "\n".join(line for line in first.splitlines() if line.partition(":")[0].strip() in _TELLING)
