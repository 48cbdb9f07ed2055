"""Floor 3: the Group of the processes that mpiexec started.

A separate thread makes all MPI calls, one after another, in the order of the requests. So sums run while the main thread
computes, and the main thread can stop waiting for them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.distribution.monitor import Monitor, start_watcher
from nbkeras.engine.outside import threads
from nbkeras.engine.program import set_threads, usable_processors
from nbkeras.engine.ranks import Group
from nbkeras.engine.user_errors import install, optional_import

Array = np.ndarray
_LOOK = 0.1  # seconds between two checks for a fault while the main thread waits
_MISSING = "nbkeras.distribution.initialize needs mpi4py and, unless the cluster has its own MPI, MPICH"


class MpiGroup(Group):
    """The processes of MPI's COMM_WORLD. timeout: see `initialize`."""

    def __init__(self, mpi: Any, timeout: float | None):
        self._mpi, self._world, self._timeout = mpi, mpi.COMM_WORLD.Dup(), timeout
        self._world.Set_errhandler(mpi.ERRORS_RETURN)  # mpi4py then raises errors
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self._jobs: queue.SimpleQueue[tuple[int, str, Callable[[], Any]]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._started = 0
        places = self._world.allgather((socket.gethostname(), _processors()))
        _share_processors(places, self.rank)
        is_one_host = len({host for host, _ in places}) == 1
        address = start_watcher(self.size, timeout, is_one_host) if self.rank == 0 else None
        self._monitor = Monitor(self.rank, self._world.bcast(address), timeout, lambda: mpi.COMM_WORLD.Abort(1))
        threading.Thread(target=self._work, name="nbkeras ranks", daemon=True).start()

    def _work(self) -> None:
        while True:
            number, what, job = self._jobs.get()
            self._monitor.running = number, what
            try:
                self._results.put((job(), None))
            except BaseException as error:
                self._results.put((None, error))

    def _start(self, what: str, job: Callable[[], Any]) -> None:
        self._monitor.check()
        self._monitor.entered += 1
        self._started += 1
        self._jobs.put((self._monitor.entered, what, job))

    def _finish(self) -> Any:
        """Wait for all jobs; returns the result of the last one."""
        result = None
        while self._started:
            result, error = self._next_result()
            self._started -= 1
            if error is not None:
                if isinstance(error, self._mpi.Exception):  # a connection broke: the watcher will report why
                    self._monitor.wait_for_fault(self._timeout or 0)
                raise error
        return result

    def _next_result(self) -> tuple[Any, BaseException | None]:
        while True:
            with contextlib.suppress(queue.Empty):
                return self._results.get(timeout=_LOOK)
            self._monitor.check()

    def start_sum(self, array: Array) -> None:
        if array.dtype.kind not in "iuf":
            raise TypeError(f"a sum over ranks needs numbers, received an array of {array.dtype}")
        if array.size:
            self._start(f"a sum of {array.size} {array.dtype}", lambda: self._sum(array))

    start_sum.on_host = True  # type: ignore[attr-defined]

    def _sum(self, array: Array) -> None:
        if array.dtype == np.float16:  # MPI has no float16
            wide = array.astype(np.float32)
            self._world.Allreduce(self._mpi.IN_PLACE, wide)
            array[...] = wide
        else:
            self._world.Allreduce(self._mpi.IN_PLACE, array)

    def wait(self, *arrays: Array) -> None:
        self._finish()

    wait.on_host = True  # type: ignore[attr-defined]

    def broadcast(self, array: Array, root: int = 0) -> None:
        if array.size:
            what = f"a copy of {array.nbytes} bytes of rank {root}"
            self._start(what, lambda: self._world.Bcast(array.reshape(-1).view(np.uint8), root))
            self._finish()

    def exchange(self, value: Any) -> list[Any]:
        self._start("an exchange of objects", lambda: self._world.allgather(value))
        return self._finish()


def _processors() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _share_processors(places: list[tuple[str, set[int]]], rank: int) -> None:
    """Divide a host's processors among its ranks, unless the user set a number. places: host and processors of each rank."""
    host, own = places[rank]
    sharing = sum(other == host and not own.isdisjoint(processors) for other, processors in places)
    if sharing > 1 and threads() is None:
        set_threads(max(1, min(len(own), usable_processors()) // sharing))


def join(timeout: float | None) -> Group:
    """The group of all processes that mpiexec started; a group of one process if there is no other."""
    mpi = load()
    return Group() if mpi.COMM_WORLD.Get_size() == 1 else MpiGroup(mpi, timeout)


def load() -> Any:
    """The module mpi4py.MPI; its first import starts MPI. Raises ImportError if it or MPI is missing."""
    with optional_import(_MISSING, "mpi"):
        import mpi4py

    mpi4py.rc.thread_level = "multiple"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # no MPI library is found
        raise ImportError(
            f"mpi4py is installed, but it finds no MPI library: {error}. {_MISSING}: {install('mpi')}"
        ) from error
    if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
        raise RuntimeError(
            "MPI was started for one thread only, but nbkeras communicates in a separate thread. If the script imports "
            "mpi4py.MPI itself, it must set mpi4py.rc.thread_level = 'multiple' before"
        )
    return MPI
