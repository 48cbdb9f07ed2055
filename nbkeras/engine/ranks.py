"""Floor 1: groups of processes that train one model together, each with its part of every batch. A rank is a process's number.

A Group offers the operations between processes: sums, copies of one rank's arrays, an exchange of small objects. Recorded
programs, optimizers and `fit` use nothing else. `distribution/` makes the groups; `current` is None unless a script sets one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.engine import program, recorder
from nbkeras.kernels.runtime import device

Array = np.ndarray


class RankError(RuntimeError):
    """Another process of the job has ended, hangs, or raised an exception: training cannot continue.

    The message gives its rank, host, process id and last action.

    Args:
        message: The message.
        rank: The rank of the failed process, also an attribute; None if it is not known.

    Example:
        >>> from nbkeras.distribution import RankError
        >>> try:
        ...     raise RankError("rank 1 ended", rank=1)
        ... except RankError as error:
        ...     print(error.rank)
        1
    """

    def __init__(self, message: str, rank: int | None = None):
        super().__init__(message)
        self.rank = rank


class Group:
    """The processes of a job. This class is a group of one process, and the interface of other groups.

    All ranks must call the same methods in the same order. Arrays are C-contiguous NumPy arrays. Methods return when this process
    is done, and raise a RankError if another process has failed.
    """

    rank, size = 0, 1

    def start_sum(self, array: Array) -> None:
        """Start to sum an array over all ranks, in place. Do not read or write it before `wait`."""

    start_sum.on_host = True  # type: ignore[attr-defined]  # a launch runs it in Python, between native programs

    def wait(self, *arrays: Array) -> None:
        """Wait for all started sums. arrays: the arrays that a recorded launch writes; the method itself does not use them."""

    wait.on_host = True  # type: ignore[attr-defined]

    def sum(self, array: Array) -> None:
        """Sum an array over all ranks, in place. All ranks get the same bits."""
        self.start_sum(array)
        self.wait()

    sum.on_host = True  # type: ignore[attr-defined]

    def broadcast(self, array: Array, root: int = 0) -> None:
        """Copy the array of one rank into the arrays of all other ranks."""

    def exchange(self, value: Any) -> list[Any]:
        """A list with the objects of all ranks, by rank. Objects must be small and picklable."""
        return [value]


class _Choice:
    """The group of this process. Programs depend on this object, so that they are dropped when the group changes."""

    group: Group | None = None
    distribution: Any = None


_choice = _Choice()


def current() -> Group | None:
    """The group of steps; None if they compute for this process only."""
    recorder.depend_on(_choice)
    return _choice.group


def set_current(group: Group | None, distribution: Any = None) -> None:
    """Set the group of steps; None for this process only. Recorded steps are recorded again.

    distribution: what the script chose; it has an attribute `auto_shard_dataset`.
    """
    _choice.distribution = distribution
    if group is not _choice.group:
        _choice.group = group
        program.outdate(_choice)


def distribution() -> Any:
    """The distribution that the script chose; None if it chose none."""
    return _choice.distribution


def takes_parts() -> bool:
    """True if ranks get the same data and each takes its part; False if each rank gets its own data."""
    chosen = _choice.distribution
    return chosen is None or chosen.auto_shard_dataset


def launch_sum(array: Array) -> None:
    """Launch the sum of an array over all ranks, in place. It is recorded, and runs in each replay. No-op without a group.

    array: C-contiguous; persistent, or made in the step. All ranks must launch the same sums in the same order.
    """
    group = current()
    if group is not None and group.size > 1 and array.size:
        if not array.flags.c_contiguous:
            raise ValueError(f"a sum over ranks needs a C-contiguous array, received one with strides {array.strides}")
        device.launch(group.sum, array)
