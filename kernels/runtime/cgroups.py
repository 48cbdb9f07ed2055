"""The limits of this process: the processors, cores and memory that the machine and Linux's control groups allow.

A container has the limits of its own group and of all groups around it. Version 2 has one tree of groups. Version 1 has a tree
for each kind of limit. A system may have both. /proc/self/mountinfo locates a tree, and /proc/self/cgroup locates this process in
it.
"""

import contextlib
import os
import re
from collections.abc import Iterator

_UNLIMITED = 1 << 60  # version 1 writes "no limit" as a number of bytes near 2**63


def processors(root: str = "/") -> float | None:
    """Returns the processor time that the groups allow, as a number of processors such as 1.5; None without a limit."""
    quotas = []
    for version, folder in _groups("cpu", root):
        if version == 2:
            quota, *period = _words(folder, "cpu.max")[:2] or ["max"]
        else:
            quota, *period = _words(folder, "cpu.cfs_quota_us") + _words(folder, "cpu.cfs_period_us") or ["-1"]
        if quota.isdecimal() and period and period[0].isdecimal() and int(period[0]):
            quotas.append(int(quota) / int(period[0]))
    return min(quotas, default=None)


def memory(root: str = "/") -> int | None:
    """Returns the bytes of memory that the groups allow; None without a limit."""
    limits = []
    for version, folder in _groups("memory", root):
        words = _words(folder, "memory.max" if version == 2 else "memory.limit_in_bytes")
        if words and words[0].isdecimal() and int(words[0]) < _UNLIMITED:
            limits.append(int(words[0]))
    return min(limits, default=None)


def allowed_processors() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def allowed_cores(root: str = "/") -> int:
    """Returns the number of cores that this process may use, as far as the system reports it.

    Processors that share a core take turns at its vector units: two threads on them are not faster than one.
    """
    if not hasattr(os, "sched_getaffinity"):
        return allowed_processors()
    topology = "sys/devices/system/cpu/cpu{}/topology"
    names = "core_cpus_list", "thread_siblings_list"  # the second is the name before Linux 5.3
    cores = set()
    for number in os.sched_getaffinity(0):
        told = (_words(os.path.join(root, topology.format(number)), name) for name in names)
        cores.add(next((" ".join(words) for words in told if words), f"processor {number}"))
    return len(cores)


def usable_processors(root: str = "/") -> int:
    """Returns the number of threads that this process can keep busy: one per core, or fewer if its groups have a quota.

    A quota of 1.5 counts as one: the system would stop one of two threads in the middle of a kernel, and the other would wait.
    """
    cores, quota = allowed_cores(root), processors(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def _groups(controller: str, root: str) -> Iterator[tuple[int, str]]:
    """Yields (version, folder) of this process's group for `controller`, and of each mounted group around it."""
    own = {}
    for line in _lines(root, "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        own.update(dict.fromkeys(names.split(",") if names else [""], path))
    for line in _lines(root, "proc/self/mountinfo"):
        mount, _, system = line.partition(" - ")
        fields, (kind, _, options) = mount.split(), (*system.split(), "", "", "")[:3]
        version = 2 if kind == "cgroup2" else 1
        if len(fields) < 5 or not (version == 2 or (kind == "cgroup" and controller in options.split(","))):
            continue
        top, point = _unescaped(fields[3]), os.path.join(root, _unescaped(fields[4]).lstrip("/"))
        path = own.get("" if version == 2 else controller, "")
        # a container sees the host's path of its group, but the top of its mount is the group itself
        below = os.path.relpath(path, top) if path == top or path.startswith(top.rstrip("/") + "/") else "."
        if ".." in below.split("/"):  # the group is outside the namespace
            below = "."
        parts = [part for part in below.split("/") if part != "."]
        for length in range(len(parts), -1, -1):
            yield version, os.path.join(point, *parts[:length])


def _lines(root: str, name: str) -> list[str]:
    with (
        contextlib.suppress(OSError),
        open(os.path.join(root, name), encoding="utf-8", errors="surrogateescape") as file,
    ):
        return file.read().splitlines()
    return []


def _words(folder: str, name: str) -> list[str]:
    """Returns the words of a group's file; none if it does not exist, as in the top group."""
    return " ".join(_lines(folder, name)).split()


def _unescaped(path: str) -> str:
    """Unescapes a path of mountinfo, which writes a space as \\040, for example."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
