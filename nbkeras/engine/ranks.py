"""Floor 1: the processes that train one model together, each with its part of every batch. A rank is the number of one of them.

A Group is what a process can do with the others: sums, copies of one rank's arrays, small objects of all. The recorded programs,
the optimizers and `fit` know no more of them. `distribution/` makes the groups; `current` is None unless a script asked for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.engine import program
from nbkeras.kernels.runtime import device

Array = np.ndarray


class RankError(RuntimeError):
    """Another process of the job has ended, hangs, or raised an exception: training cannot go on.

    The message names it: its rank, host and process id, and the last thing that it did.

    Attributes:
        rank: The number of the process at fault.
    """

    def __init__(self, message: str, rank: int | None = None):
        super().__init__(message)
        self.rank = rank


class Group:
    """The processes of a job; this class is the group of one process alone, and the interface of others.

    All ranks must call the same methods in the same order. Arrays are C-contiguous arrays of NumPy. Methods return when this
    process is done, and raise a RankError if another one is at fault.
    """

    rank, size = 0, 1

    def start_sum(self, array: Array) -> None:
        """Begin to add up an array over all ranks, in place. Until `wait` nobody may read or write it."""

    start_sum.on_host = True  # type: ignore[attr-defined]  # a launch runs it in Python, between native programs

    def wait(self, *arrays: Array) -> None:
        """Wait for all sums that were started. arrays: of a recorded launch, what it writes; the sums are known without."""

    wait.on_host = True  # type: ignore[attr-defined]

    def sum(self, array: Array) -> None:
        """Add up an array over all ranks, in place; each rank gets the same bits."""
        self.start_sum(array)
        self.wait()

    sum.on_host = True  # type: ignore[attr-defined]

    def broadcast(self, array: Array, root: int = 0) -> None:
        """Write the array of one rank into that of each other rank."""

    def exchange(self, value: Any) -> list[Any]:
        """A list with the objects of all ranks, by rank: small ones, which can be pickled."""
        return [value]


class _Choice:
    """The group that this process computes in; programs that were recorded under another one depend on this object."""

    group: Group | None = None


_choice = _Choice()


def current() -> Group | None:
    """The group that steps compute in, or None: then they compute for this process alone."""
    program.depend_on(_choice)
    return _choice.group


def set_current(group: Group | None) -> None:
    """Let steps compute in a group from now on; None for this process alone. Recorded steps are recorded again."""
    if group is not _choice.group:
        _choice.group = group
        program.outdate(_choice)


def launch_sum(array: Array) -> None:
    """Launch the sum of an array over all ranks, in place: it is recorded, and runs in each replay. Without a group nothing.

    array: C-contiguous, persistent or made in the step; all ranks launch the same sums in the same order.
    """
    group = current()
    if group is not None and group.size > 1 and array.size:
        if not array.flags.c_contiguous:
            raise ValueError(f"a sum over ranks needs a C-contiguous array, received one with strides {array.strides}")
        device.launch(group.sum, array)
