"""Floor 3: Step, a function of a batch. The first batch of each shape records it, later ones replay the recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from nbkeras.data.adapters import Layout
from nbkeras.engine import sharding, tape, tensor
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.observed import observe_all
from nbkeras.engine.program import Program
from nbkeras.engine.program_cache import ProgramCache
from nbkeras.engine.replays import Replays
from nbkeras.engine.rewriting import improved
from nbkeras.engine.side_effects import SideEffects
from nbkeras.engine.tensor import Tensor

Array = np.ndarray


class Step:
    """Runs `function` on batches. It records one program for each combination of layout, part, shapes and dtypes.

    kind: train (in the training phase of layers), test or predict. function(data) gets x, (x, y) or (x, y, sample_weight) as
    tensors. It returns tensors in any structure for predict, else logs by name. It must compute only by launches, and runs on
    the device that was current when the step was made. eagerly: never record. observed(): the objects whose attributes the
    function reads.
    """

    def __init__(
        self,
        kind: str,
        function: Callable[[Any], Any],
        eagerly: bool = False,
        observed: Callable[[], Iterable[Any]] = tuple,
    ):
        self.kind, self.function, self.eagerly = kind, function, eagerly
        self._gpu, self._observed = tensor.gpu(), observed
        self._has_warned = False  # of side effects
        improve = improved if kind == "predict" else None
        advice = "compile with run_eagerly=True to say so"
        self._programs = ProgramCache(f"the model's {kind} step", advice, improve=improve)

    def forget(self) -> None:
        """Drop the programs, with their memory."""
        self._programs.drop()

    def __call__(self, batch: Batch) -> Any:
        """Run on a batch; returns copies of the outputs as arrays."""
        if self._gpu is not tensor.gpu():
            with tensor.on_gpu(self._gpu):
                return self(batch)
        if batch.part is not None and sharding.current() is not batch.part:
            with sharding.within(batch.part):
                return self(batch)
        key = batch.layout.key, batch.part
        arrays, pack = self._programs.run(lambda leaves: self._outputs(leaves, batch.layout), batch, key, self.eagerly)
        return pack(arrays)

    def _outputs(self, leaves: list[Tensor | None], layout: Layout) -> Any:
        """The outputs for a batch's leaves."""
        effects = SideEffects() if tensor.is_step_recorded() and not self._has_warned else None
        with training_phase(self.kind == "train"):
            outputs = self.function(layout.pack(leaves))
            if effects is not None:
                self._has_warned = effects.warn(f"the model's {self.kind} step")
            if self.kind != "predict":
                outputs = self._logs(outputs)
        if tensor.is_step_recorded():
            observe_all(self._observed())
        return outputs

    def _logs(self, returned: Any) -> dict[str, Tensor]:
        """The logs as tensors; empty for MetricResults that the function did not read, because callers read the metrics."""
        if isinstance(returned, MetricResults) and not returned.is_computed:
            return {}
        return log_tensors(returned, f"{self.kind}_step")

    def replays(self, batch: Batch) -> Replays | None:
        """The program of batches like this one, with its instances, or None if they run eagerly."""
        return self._programs.replays((batch.layout.key, batch.part), batch.signature)

    @property
    def recordings(self) -> int:
        """The number of programs recorded."""
        return self._programs.recordings

    def programs(self) -> list[Program]:
        """The programs kept, the most recently used last."""
        return self._programs.programs()


class CachedPredict:
    """Runs a step on arrays with the shape and dtype of an earlier array, and skips the checks and the program search.

    x: the earlier array, which needed no conversion. check: called with a list of the array; None checks nothing.
    """

    def __init__(self, step: Step, layout: Layout, x: Array, check: Callable[[list], None] | None):
        self._step, self._layout, self._check = step, layout, check
        self._replays = step.replays(Batch([x], ALL, len(x), layout))

    def __call__(self, x: Array) -> Any:
        if self._check is not None:
            self._check([x])
        replays = self._replays
        if replays is not None and tape.thread.checker is None:
            arrays = replays.run(x)
            if arrays is not None:
                return replays.pack(arrays)
        batch = Batch([x], ALL, len(x), self._layout)
        outputs = self._step(batch)
        self._replays = self._step.replays(batch)
        return outputs


class KnownBatch(NamedTuple):
    """A description of batches for `train_on_batch`, made from one of the same shapes and dtypes, whose x needed no conversion.

    check: called with x and the targets. assignments: the count of `Observed` then. The model's weights and metrics are known
    until it grows.
    """

    layout: Layout
    check: Callable[[Array, Array], None]
    assignments: int


class MetricResults(dict):
    """The values of metrics by name, computed at the first read. A step that only returns them computes none."""

    def __init__(self, compute: Callable[[], dict[str, Tensor]]):
        super().__init__()
        self._compute: Callable[[], dict[str, Tensor]] | None = compute

    @property
    def is_computed(self) -> bool:
        """Whether the values were read."""
        return self._compute is None

    def _fill(self) -> None:
        if self._compute is not None:
            compute, self._compute = self._compute, None
            self.update(compute())


def _after_filling(name: str) -> Callable:
    method = getattr(dict, name)

    def call(self: MetricResults, *args: Any, **kwargs: Any) -> Any:
        self._fill()
        return method(self, *args, **kwargs)

    call.__name__, call.__doc__ = name, method.__doc__
    return call


for _name in (
    "__contains__ __delitem__ __eq__ __getitem__ __ior__ __iter__ __len__ __ne__ __or__ __repr__ __reversed__ __ror__ "
    "__setitem__ clear copy get items keys pop popitem setdefault update values"
).split():
    setattr(MetricResults, _name, _after_filling(_name))


def log_tensors(logs: Any, what: str) -> dict[str, Tensor]:
    """Logs that the user's code returned, as tensors."""
    if not isinstance(logs, dict):
        raise TypeError(f"{what} must return a dict of logs by name, received {type(logs).__name__}")
    flat: dict[str, Tensor] = {}
    for name, value in logs.items():
        flat.update(log_tensors(value, what) if isinstance(value, dict) else {name: tensor.as_tensor(value)})
    return flat
