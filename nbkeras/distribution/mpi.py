"""Floor 3: the Group of the processes that mpiexec started.

A thread of its own makes all calls of MPI, one after the other, in the order in which they are asked for. So sums run while the
main thread computes, and the main thread can stop waiting for them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine.ranks import Group
from nbkeras.engine.user_errors import optional_import

Array = np.ndarray
_MISSING = (
    "nbkeras.distribution.initialize needs MPI: pip install 'nbkeras[mpi]' brings mpi4py and MPICH; with a cluster's own MPI, "
    "pip install mpi4py is enough"
)


class MpiGroup(Group):
    """The processes of MPI's world."""

    def __init__(self) -> None:
        self._mpi = mpi = load()
        self._world = mpi.COMM_WORLD
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        self._jobs: queue.SimpleQueue[Callable[[], Any]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._started = 0
        threading.Thread(target=self._work, name="nbkeras ranks", daemon=True).start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._results.put((job(), None))
            except BaseException as error:
                self._results.put((None, error))

    def _start(self, job: Callable[[], Any]) -> None:
        self._started += 1
        self._jobs.put(job)

    def _finish(self) -> Any:
        """Wait for all jobs; returns the result of the last one."""
        result = None
        while self._started:
            result, error = self._results.get()
            self._started -= 1
            if error is not None:
                raise error
        return result

    def start_sum(self, array: Array) -> None:
        if self.size > 1 and array.size:
            self._start(lambda: self._sum(array))

    start_sum.on_host = True  # type: ignore[attr-defined]

    def _sum(self, array: Array) -> None:
        if array.dtype.kind == "f" and array.dtype.itemsize < 4:  # MPI has no such numbers
            wide = array.astype(np.float32)
            self._world.Allreduce(self._mpi.IN_PLACE, wide)
            array[...] = wide
        else:
            self._world.Allreduce(self._mpi.IN_PLACE, array)

    def wait(self, *arrays: Array) -> None:
        self._finish()

    wait.on_host = True  # type: ignore[attr-defined]

    def broadcast(self, array: Array, root: int = 0) -> None:
        if self.size > 1 and array.size:
            self._start(lambda: self._world.Bcast(array.reshape(-1).view(np.uint8), root))
            self._finish()

    def exchange(self, value: Any) -> list[Any]:
        self._start(lambda: self._world.allgather(value))
        return self._finish()


def load() -> Any:
    """The module mpi4py.MPI; it starts MPI when it is first imported. ImportError if it or an MPI is missing."""
    with optional_import(_MISSING):
        import mpi4py

    mpi4py.rc.thread_level = "multiple"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # no library of MPI is found
        raise ImportError(f"mpi4py is installed, but it finds no MPI library: {error}. {_MISSING}") from error
    if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
        raise RuntimeError(
            "MPI was started for one thread only, and nbkeras communicates in a thread of its own. If the script imports "
            "mpi4py.MPI itself, it must set mpi4py.rc.thread_level = 'multiple' before"
        )
    return MPI
