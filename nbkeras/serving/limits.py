"""Limits of the machine or container in which a server runs, and the memory that its processes use."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import NamedTuple

from nbkeras.kernels.runtime import cgroups, pool
from nbkeras.serving import budget

_M_MMAP_THRESHOLD = -3  # the constant of malloc.h
_LARGE = 4 << 20


def processors(root: str = "/") -> int:
    """The number of processors that this process may use, by its affinity and its container's quota."""
    return cgroups.usable_processors(root)


def memory(root: str = "/") -> int:
    """The bytes of memory that this process may use: the machine's, or the container's limit if it is lower."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroups.memory(root)
    return installed if limit is None else min(installed, limit)


def memory_of_loading(root: str = "/") -> int:
    """The limit of address space, in bytes, for the process that loads a model's file: three quarters of the memory.

    It is at least 1 GiB, since libraries reserve address space without using the memory. In a small container the system kills
    that process first if memory is short.
    """
    return max(1 << 30, memory(root) // 4 * 3)


def memory_of_requests(workers: int, root: str = "/") -> int:
    """The default limit, in bytes, for the requests of each worker: half of the memory, divided among the workers."""
    return min(budget.DEFAULT_BYTES, memory(root) // 2 // workers)


def threads_of_each(workers: int, root: str = "/") -> int:
    """The number of threads that compute kernels in each of several workers."""
    return max(1, processors(root) // workers)


def set_threads(threads: int, workers: int) -> None:
    """In a worker: set the threads for kernels; 0: its share of the processors. NUMBA_NUM_THREADS, if set, is the maximum."""
    pool.set_threads(min(threads or threads_of_each(workers), pool.Pool.maximum))


def keep_no_large_pieces() -> None:
    """Let the allocator return large blocks to the system when they are freed, so that memory use matches the budget.

    Else it keeps blocks of up to 32 MB, and requests that grow at the same time fragment them.
    """
    with contextlib.suppress(AttributeError):  # the C library has no such function
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back_free_memory() -> None:
    """Return free pages to the system; they held many small blocks, such as parts of messages."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def threads() -> int:
    """The number of threads that compute kernels in this process."""
    return pool.get_threads()


class Memory(NamedTuple):
    """The memory of a process in bytes. `proportional` counts a page that n processes share as 1/n of a page."""

    resident: int
    proportional: int
    shared: int
    private: int


def memory_of(process: int | None = None, root: str = "/") -> Memory | None:
    """The memory of a process, by default this one; None if it has ended or the system does not report it."""
    folder = os.path.join(root, "proc", "self" if process is None else str(process))
    try:
        with open(os.path.join(folder, "smaps_rollup"), encoding="ascii") as file:
            lines = [line.split() for line in file.readlines()[1:]]
    except OSError:
        return _estimate(folder)
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1 and words[1].isdecimal()}
    if "Rss" not in sizes:  # a process that has ended and was not waited for
        return None
    private = sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
    return Memory(sizes["Rss"], sizes.get("Pss", sizes["Rss"]), sizes["Rss"] - private, private)


def _estimate(folder: str) -> Memory | None:
    """The memory by /proc/<pid>/statm, which all Linux systems have and which counts file pages as shared."""
    try:
        with open(os.path.join(folder, "statm"), encoding="ascii") as file:
            resident, shared = (int(word) * os.sysconf("SC_PAGE_SIZE") for word in file.read().split()[1:3])
    except (OSError, ValueError):
        return None
    return Memory(resident, resident, shared, resident - shared) if resident else None
