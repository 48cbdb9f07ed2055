"""Floor 1: a rank's rows of a batch that several processes share, and results that must be computed over all rows.

In a step of several ranks (`ranks.current()`) each rank has its own rows, and its loss is the mean over them. The loss of the
whole batch is the mean of the ranks' losses, weighted by their numbers of rows: an optimizer multiplies each rank's loss by
`fraction` and sums the gradients. So means over rows, regularizers and losses of `add_loss` need no change. Sums, means over
masked rows, random numbers for each row, and statistics of the batch need this module.

A program is recorded for one RankRows, as for one shape. So there are as many programs as in one process: one per batch size.
"""

from __future__ import annotations

import math
import threading
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import ranks
from nbkeras.engine.temporary import temporarily
from nbkeras.engine.tensor import Tensor, apply
from nbkeras.kernels.runtime import device

Array = np.ndarray


class RankRows(NamedTuple):
    """The rows of this rank: `own` of the batch's `total` rows, from row `first` on.

    A rank without rows computes on a row of another rank, with weight 0.
    """

    first: int
    own: int
    total: int

    @property
    def fraction(self) -> float:
        """The weight of this rank's loss in the loss of the batch."""
        return self.own / self.total

    @property
    def rows(self) -> int:
        """The number of rows in this rank's arrays."""
        return max(self.own, 1)

    @property
    def start(self) -> int:
        """The index in the batch of the first row in this rank's arrays."""
        return min(self.first, self.total - self.rows)


class _Thread(threading.local):
    part: RankRows | None = None  # this rank's rows in the current step
    is_weighed = False  # whether the current loss was multiplied by `fraction` before its gradients are computed


_thread = _Thread()


def current() -> RankRows | None:
    """This rank's rows in the current step of this thread; None if the batch is not shared with other ranks."""
    return _thread.part


def within(part: RankRows | None) -> temporarily:
    """`with within(part):` the block computes these rows of a batch. None: its results do not belong to rows."""
    return temporarily(_thread, part=part)


def repeated(times: int) -> temporarily:
    """`with repeated(n):` in the block, each row of the batch is n consecutive rows."""
    part = _thread.part
    return within(None if part is None else RankRows(*(times * number for number in part)))


def fraction() -> float:
    """The weight of this rank's loss. Outside of steps on shared batches, all ranks have the same weight."""
    part, group = _thread.part, ranks.current()
    if part is not None:
        return part.fraction
    return 1.0 if group is None else 1.0 / group.size


def weighing() -> temporarily:
    """`with weighing():` in the block, gradients are computed from a loss that was multiplied by `fraction`."""
    return temporarily(_thread, is_weighed=True)


def of_sum() -> float:
    """The factor that turns a sum over this rank's rows into a loss: the ranks' weighted mean is then the sum over all rows."""
    part = _thread.part
    return 1.0 if part is None else part.total / part.own if part.own else 0.0


def size_of(array: Tensor) -> float:
    """The total number of elements over all ranks of a tensor whose elements belong to rows."""
    part = _thread.part
    return float(array.size) if part is None else array.size / part.rows * part.total


def place_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(offset of this rank's elements, total over all ranks) for an array shape; None if its first axis is not rows."""
    part = _thread.part
    if part is None or not shape or shape[0] != part.rows:
        return None
    of_row = math.prod(shape[1:])
    return part.start * of_row, part.total * of_row


def total(x: Tensor) -> Tensor:
    """The sum of the tensors of all ranks that have rows. Its gradient includes the losses of all ranks.

    x: a float tensor with the same shape on all ranks.
    """
    part = _thread.part
    if part is None or ranks.current() is None:
        return x
    return apply(_sum, _sum_vjp, [x], counts=part.own > 0)


def _sum(x: Array, counts: bool):
    y = device.empty(x.shape, x.dtype)
    if counts:
        device.launch(device.copy, x, y)
    else:
        device.launch(device.fill, y, 0)
    ranks.launch_sum(y)
    return y, None


def _sum_vjp(saved, dy, needs):
    dx = device.empty(dy.shape, dy.dtype)
    device.launch(device.copy, dy, dx)
    launch_gradient_sum(dx)
    return (dx,)


def launch_gradient_sum(array: Array) -> None:
    """Launch the sum over ranks of a gradient with respect to a sum over ranks, in place.

    It is the gradient of the batch's loss. If the ranks' losses are not weighted yet, it is divided by this rank's weight, since
    it will be multiplied by that weight later.
    """
    part = _thread.part
    if part is None or _thread.is_weighed:
        ranks.launch_sum(array)
        return
    back = 1.0 / part.fraction if part.own else 0.0
    device.launch(np.multiply, array, array.dtype.type(part.fraction), array)
    ranks.launch_sum(array)
    device.launch(np.multiply, array, array.dtype.type(back), array)


class Sums:
    """Sums over ranks for an op of the kernels. has_rows: whether this rank's rows count."""

    def __init__(self, rank: int, size: int, has_rows: bool):
        self.rank, self.size, self.has_rows = rank, size, has_rows

    def launch_sum(self, array: Array) -> None:
        """Launch the sum of an array over all ranks, in place."""
        ranks.launch_sum(array)

    launch_gradient_sum = staticmethod(launch_gradient_sum)


def sums() -> Sums | None:
    """The Sums for ops whose results depend on the rows of all ranks; None if no other rank takes part in this step."""
    part, group = _thread.part, ranks.current()
    return None if part is None or group is None or group.size == 1 else Sums(group.rank, group.size, part.own > 0)


def agreed(value: Any) -> Any:
    """Rank 0's value, a small object. All ranks must call this."""
    group = ranks.current()
    return value if group is None else group.exchange(value)[0]


def anywhere(value: bool) -> bool:
    """Whether a value is true on any rank. All ranks must call this."""
    group = ranks.current()
    return bool(value) if group is None else any(group.exchange(bool(value)))


def is_first() -> bool:
    """Whether this process prints and writes files: rank 0, or the only process."""
    group = ranks.current()
    return group is None or group.rank == 0
