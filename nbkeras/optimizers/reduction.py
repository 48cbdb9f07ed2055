"""Sums an optimizer's gradients over ranks.

The flat gradients are cut into buckets. The sum of a bucket starts as soon as the backward pass has delivered its last gradient,
and runs while the pass continues. One launch before the update waits for all sums. Everything is a launch, so a replay does the
same at the same points.
"""

from collections.abc import Sequence

import numpy as np

from nbkeras.engine.ranks import Group
from nbkeras.engine.tensor import Variable
from nbkeras.kernels.runtime import device
from nbkeras.optimizers.buffers import Buffers

BUCKET = 2**20  # bytes of a bucket


class Reduction:
    """Sums the gradients of these variables, in their buffers, over the ranks of a group, once per step."""

    def __init__(self, group: Group, buffers: Buffers, variables: Sequence[Variable], nbytes: int | None = None):
        self.group = group
        self._buckets = buffers.buckets(variables, nbytes or BUCKET)
        self._bucket_of = {variable: i for i, (_, inside) in enumerate(self._buckets) for variable in inside}
        self.restart()

    def restart(self) -> None:
        """Begin a step: no gradient has arrived."""
        self._missing = [set(inside) for _, inside in self._buckets]
        self._started: set[int] = set()
        self.is_done = False

    def delivered(self, variable: Variable) -> None:
        """Start the sum of a bucket if this gradient completes it."""
        if variable not in self._bucket_of:  # a variable without elements is in no bucket
            return
        bucket = self._bucket_of[variable]
        self._missing[bucket].discard(variable)
        if not self._missing[bucket] and device.gpu() is None:  # on a GPU launches wait for copies
            self._start(bucket)

    def _start(self, bucket: int) -> None:
        if bucket not in self._started:
            self._started.add(bucket)
            device.launch(self.group.start_sum, self._buckets[bucket][0])

    def finish(self) -> None:
        """Start the remaining sums, and wait for all."""
        arrays: list[np.ndarray] = [array for array, _ in self._buckets]
        if device.gpu() is not None:
            for array in arrays:
                device.launch(self.group.sum, array)
        else:
            for bucket in range(len(arrays)):
                self._start(bucket)
            device.launch(self.group.wait, *arrays)
        self.is_done = True
