"""Floor 1: a rank's rows of a batch that several processes share, for what must be computed over all rows.

In a step of several ranks (`ranks.current()`) each rank has its own rows, and its loss is a mean over these. The loss of the
whole batch is the mean of the ranks' losses, weighted by their rows: an optimizer multiplies each rank's loss by `fraction` and
adds the gradients up. So a mean over rows, a regularizer, and what `add_loss` gets need no change. Others do: a sum, a mean over
what a mask leaves, random numbers for each row, statistics of the batch.

A program is recorded for one Part, as for one shape. So there are as many programs as in one process: one for each batch size.
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

    A rank without rows computes on one row of another rank, which counts nothing.
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
        """The rows in this rank's arrays."""
        return max(self.own, 1)

    @property
    def start(self) -> int:
        """The row in the batch of the first row in this rank's arrays."""
        return min(self.first, self.total - self.rows)


class _Thread(threading.local):
    part: RankRows | None = None  # of the step that this thread runs
    is_weighed = False  # whether the loss, of which gradients are computed now, was multiplied by `fraction`


_thread = _Thread()


def current() -> RankRows | None:
    """The part of the step that this thread runs; None if the rows belong to no other rank."""
    return _thread.part


def within(part: RankRows | None) -> temporarily:
    """`with within(part):` the block computes this part of a batch; None: what it computes does not belong to rows."""
    return temporarily(_thread, part=part)


def repeated(times: int) -> temporarily:
    """`with repeated(n):` each row of the batch became n rows, one after the other."""
    part = _thread.part
    return within(None if part is None else RankRows(*(times * number for number in part)))


def fraction() -> float:
    """The weight of this rank's loss. Outside of steps over parts of a batch, each rank counts the same."""
    part, group = _thread.part, ranks.current()
    if part is not None:
        return part.fraction
    return 1.0 if group is None else 1.0 / group.size


def weighing() -> temporarily:
    """`with weighing():` gradients are computed of a loss that was multiplied by `fraction`."""
    return temporarily(_thread, is_weighed=True)


def of_sum() -> float:
    """The factor that makes of this rank's sum over rows a loss whose weighted mean over ranks is the sum of all."""
    part = _thread.part
    return 1.0 if part is None else part.total / part.own if part.own else 0.0


def size_of(array: Tensor) -> float:
    """The number of elements that a tensor with an element or more for each row has on all ranks together."""
    part = _thread.part
    return float(array.size) if part is None else array.size / part.rows * part.total


def place_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(first, total) elements of an array of this shape on all ranks together; None if its first axis is not that of rows."""
    part = _thread.part
    if part is None or not shape or shape[0] != part.rows:
        return None
    of_row = math.prod(shape[1:])
    return part.start * of_row, part.total * of_row


def total(x: Tensor) -> Tensor:
    """The sum of all ranks' tensors, without those of ranks that have no rows. Gradients pass: of all ranks' losses.

    x: a float tensor of one shape on all ranks.
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

    It is the gradient of the batch's loss. Where the ranks' losses were not weighed yet, it is divided by this rank's weight, by
    which it will be multiplied.
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
    """For ops whose results depend on the rows of all ranks; None if there are no other ranks in this step."""
    part, group = _thread.part, ranks.current()
    return None if part is None or group is None or group.size == 1 else Sums(group.rank, group.size, part.own > 0)


def agreed(value: Any) -> Any:
    """Rank 0's value, a small object; all ranks must ask for it."""
    group = ranks.current()
    return value if group is None else group.exchange(value)[0]


def anywhere(value: bool) -> bool:
    """Whether a value is true on any rank; all ranks must ask."""
    group = ranks.current()
    return bool(value) if group is None else any(group.exchange(bool(value)))


def is_first() -> bool:
    """Whether this process prints and writes files: rank 0, or the only process."""
    group = ranks.current()
    return group is None or group.rank == 0
