"""The target machine of kernels: its processor, its vector instructions, and the folder of compiled kernels."""

import contextlib
import os
import platform

from nbkeras.kernels.runtime import cache_files, code, pack, processor
from nbkeras.kernels.runtime.lazy import binding

# from the widest to the narrowest; kernels use all that the processor has
_VECTORS = ("avx512f", "avx512bf16", "amx-tile", "avx2", "fma", "avx", "sse4.2", "sve2", "sve", "neon")


def versions() -> dict[str, str]:
    """Returns the versions of the compiler. A process that finds its kernels on disk does not need it."""
    return {name: code.version(name) or "not installed" for name in ("numba", "llvmlite")}


def processor_name() -> str:
    """Returns the processor's name, and LLVM's name of its model if LLVM is installed."""
    name = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        name = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), name)
    name = name or platform.machine()
    return f"{name} ({binding.get_host_cpu_name()})" if code.version("llvmlite") else name


def vector_features() -> list[str]:
    """Returns the vector instructions that kernels may use."""
    return [name for name in _VECTORS if processor.has(name)]


def cache_folder() -> str:
    """Returns the folder for compiled kernels."""
    return cache_files.folders()[0]


def why_not_cached() -> str:
    """Returns the reason why compiled kernels cannot be kept; '' if they can."""
    try:
        cache_files.check_writable(cache_folder())
    except OSError as error:
        return error.strerror or str(error)
    return ""


def packed_kernels() -> tuple[str, int]:
    """Returns the target of the compiled kernels that the package holds for this process, and their number; ('', 0) if none."""
    file = processor.pack_file()
    found = pack.of(file) if file else None
    return ("", 0) if found is None else (os.path.basename(file).removesuffix(".pack"), found.count)


def cached_kernels() -> tuple[int, int]:
    """Returns the number of stored kernels, and their bytes."""
    sizes = []
    for folder in cache_files.folders():
        with contextlib.suppress(OSError):
            sizes += [entry.stat().st_size for entry in os.scandir(folder) if entry.name.endswith(".nbc")]
    return len(sizes), sum(sizes)
