"""Guard skips steps whose loss or gradients are not finite, in recorded steps too."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nbkeras.engine import ranks
from nbkeras.engine.copy_on_write import will_write
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.kernels import gradients, optimizers
from nbkeras.kernels.embedding import RowGradient
from nbkeras.kernels.runtime import device

Array = np.ndarray


class _Current(threading.local):
    guard: Guard | None = None


_current = _Current()


class Guard:
    """From the first loss or gradient that is not finite, skips the steps of all optimizers in a training step.

    Make it on the device of the training. only_loss: whether it looks only at the losses, where optimizers get them.

    sound: int64 (1,), 0 from the first loss or gradient that is not finite.
    """

    def __init__(self, only_loss: bool = False) -> None:
        self.only_loss = only_loss
        self.sound, self._one = (device.persistent(np.ones(1, np.int64)) for _ in range(2))

    @contextlib.contextmanager
    def keeping(self, variables: Iterable[Variable]) -> Iterator[None]:
        """Guard the training step in the block. If it is skipped, restore these variables, which layers write."""
        kept = [(variable.data, device.empty(variable.shape, variable.data.dtype)) for variable in variables]
        for array, copy in kept:
            device.launch(device.copy, array, copy)
        device.launch(device.copy, self._one, self.sound)
        before, _current.guard = _current.guard, self
        try:
            yield
        finally:
            _current.guard = before
        spoiled = device.empty((1,), np.int64)
        device.launch(np.subtract, 1, self.sound, spoiled)
        will_write(*(array for array, _ in kept))
        with device.only_if(spoiled):
            for array, copy in kept:
                device.launch(device.copy, copy, array)

    def has_left_out(self) -> bool:
        """True if the last step was skipped; a second call returns False."""
        left_out = not device.read(self.sound)[0]
        if left_out:
            device.write(self.sound, 1)
        return left_out

    def only_if_finite(self, parts: list[Array]) -> contextlib.AbstractContextManager[None]:
        finite = device.empty((1,), np.int64)
        device.launch(gradients.all_finite, square_sums(parts), finite)
        group = ranks.current()
        if group is not None and group.size > 1:  # all ranks skip a step, or none
            ranks.launch_sum(finite)
            device.launch(np.equal, finite, group.size, finite)
        device.launch(np.multiply, self.sound, finite, self.sound)
        return device.only_if(self.sound)


def is_guarded() -> bool:
    """Whether a Guard guards this step."""
    return _current.guard is not None


def only_if_finite(
    loss: Tensor | None, views: Callable[[], list[Array]], given: Sequence[Any] = ()
) -> contextlib.AbstractContextManager[None]:
    """A context for an optimizer's step. With a Guard, its launches run only if the loss and gradients are finite.

    views(): the arrays of the gradients, except gradients that are a RowGradient.
    """
    guard = _current.guard
    if guard is None:
        return contextlib.nullcontext()
    parts = [] if loss is None else [loss.data]
    looks_at = [] if guard.only_loss and parts else itertools.zip_longest(views(), given)
    for view, each in looks_at:
        if isinstance(each, RowGradient):
            parts += [dy for _, dy in each.parts]
        elif view is not None:
            parts.append(view)
    return guard.only_if_finite([each.reshape(-1) for each in parts])


def square_sums(parts: list[Array]) -> Array:
    """Sums of squares of 1-D arrays; several partial sums for each."""
    counts = [gradients.chunks(part.size) for part in parts]
    sums, start = device.empty((sum(counts),), np.float64), 0
    for part, count in zip(parts, counts, strict=True):
        optimizers.launch(gradients.square_sums, part, sums[start : start + count])
        start += count
    return sums
