"""Windows along one axis of (batch, ..., channels) as more channels, and sums of them back in place; see kernels/unfold.py."""

import math

from nbkeras.kernels import unfold as kernels
from nbkeras.kernels.unfold import Line as Line
from nbkeras.ops.shape import reshape
from nbkeras.tensor import Tensor, apply


def unfold(x: Tensor, axis: int, line: Line, groups: int = 1) -> Tensor:
    """(..., length, ..., channels) -> (..., count, ..., channels * size): those of a window's first place, then the next's.

    groups: the channels are cut into as many parts, and each part has its windows together.
    """
    *rest, channels = x.shape
    apart = math.prod(rest[:axis]), rest[axis], math.prod(rest[axis + 1 :]), groups, channels // groups
    y = apply(kernels.unfold, kernels.unfold_vjp, [reshape(x, apart)], line=line)
    return reshape(y, (*rest[:axis], line.windows, *rest[axis + 1 :], channels * line.size))


def fold(y: Tensor, axis: int, line: Line, length: int) -> Tensor:
    """(..., count, ..., size * channels) -> (..., length, ..., channels): the sum of what windows have for each place."""
    *rest, channels = y.shape
    channels //= line.size
    apart = math.prod(rest[:axis]), line.windows, math.prod(rest[axis + 1 :]), 1, line.size, channels
    x = apply(kernels.fold, kernels.fold_vjp, [reshape(y, apart)], line=line, length=length)
    return reshape(x, (*rest[:axis], length, *rest[axis + 1 :], channels))
