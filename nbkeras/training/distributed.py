"""Floor 3: DistributedTrainer, the communication of processes that train one model, apart from the sums in their steps.

Each rank runs steps on its rows of the batches (data/parts.py). Its metrics count its rows; reading logs adds up the ranks'
states. Between steps some values differ from rank to rank: `settle` gives each rank the values for all rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from nbkeras import random
from nbkeras.data.parts import parts
from nbkeras.engine import ranks, structures
from nbkeras.engine.batch import Batch
from nbkeras.engine.ranks import Group
from nbkeras.engine.sharding import RankRows
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.training.arguments import logged

Array = np.ndarray
_ROUND = 2**26  # bytes of predictions that a rank sends at once


class DistributedTrainer:
    """The ranks of a group and one model. All ranks call the same methods in the same order."""

    def __init__(self, model: Any, group: Group):
        self._model, self.group = model, group
        self._part: RankRows | None = None  # this rank's rows in the last step
        self._counts_all = False  # whether the metrics of each rank count the rows of all
        self._has_moved = False  # whether weights that no optimizer updates may differ
        self.agrees = False  # whether the ranks began with the same weights

    # -------------------- steps --------------------

    def step(self, step: Callable[[Batch], Any], trains: bool) -> Callable[[Batch], Any]:
        """A train or test step; a rank without rows counts nothing in its metrics."""

        def run(batch: Batch) -> Any:
            if self._counts_all:
                self._counts_all = False
                if self.group.rank:  # rank 0 continues from the sums
                    self._model.reset_metrics()
            self._part, self._has_moved = batch.part, self._has_moved or trains
            if batch.part is None or batch.part.own:
                return step(batch)
            before = {variable: variable.numpy() for variable in self._metric_variables()}
            outputs = step(batch)
            for metric in self._model.metrics:
                if all(variable in before for variable in metric.variables):
                    assign_all((variable, before[variable]) for variable in metric.variables)
                else:  # made in this step
                    metric.reset_state()
            return outputs

        return run

    def on_batch(self, step: Callable, kind: str, batch: Batch, read: Callable) -> dict[str, Any]:
        """The logs of one batch, outside of `fit` and `evaluate`."""
        if kind == "train" and not self.agrees:
            self.agree()
        (part,) = parts([batch])
        logs = self.step(step, kind == "train")(part)
        self.settle()
        return self.reader(read)(logs)()

    def prediction(self, step: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
        """A predict step; a rank without rows returns no outputs."""

        def run(batch: Batch) -> Any:
            self._part, outputs = batch.part, step(batch)
            has_rows = batch.part is None or batch.part.own
            return outputs if has_rows else structures.map_leaves(lambda array: array[:0], outputs)

        return run

    def gather(self, outputs: list) -> list:
        """The outputs of all ranks in the order of the rows. outputs: this rank's outputs of the same batches."""
        self._gather_states()
        if not outputs or not ranks.takes_parts():
            return outputs
        size = sum(leaf.nbytes for leaf in structures.flatten(outputs[0]))
        each = max(1, _ROUND // max(1, *self.group.exchange(size)))
        found: list = []
        for start in range(0, len(outputs), each):
            for of_ranks in zip(*self.group.exchange(outputs[start : start + each]), strict=True):
                found += of_ranks
        return found

    # -------------------- values of all ranks --------------------

    def agree(self) -> None:
        """Copy rank 0's weights, states and counts to the other ranks, before the first step."""
        model = self._model
        optimizer = [] if model.optimizer is None else model.optimizer.variables
        variables = [*model.variables, *optimizer, *random._shared_states()]
        counts = self.group.exchange((len(variables), model.initial_epoch))
        if len({count for count, _ in counts}) > 1:
            raise ValueError(
                f"the ranks have models or optimizers with {[count for count, _ in counts]} variables: all ranks must build the "
                "same model"
            )
        model.initial_epoch, sums = counts[0][1], set(self._sums_of_rank())
        for variable in dict.fromkeys(variables):
            value = variable.numpy()
            self.group.broadcast(value)
            if self.group.rank:
                variable.assign(0 * value if variable in sums else value)
        self.agrees = True

    def meet(self) -> None:
        """Wait for all ranks, so that all find the files that rank 0 writes at the end of training."""
        self.group.exchange(None)

    def settle(self) -> None:
        """After an epoch, give each rank the metrics and states of all rows, and the mean of moving statistics."""
        if not self._counts_all:
            variables = self._metric_variables()
            assign_all(zip(variables, self._reduced(variables), strict=True))
            self._counts_all = True
        self.settle_weights()
        self._gather_states()

    def restored(self) -> None:
        """Record that each rank has received the values that one rank had after `settle`."""
        self._counts_all, self._has_moved = True, False
        if self.group.rank:
            assign_all((variable, np.zeros(variable.shape, variable.dtype)) for variable in self._sums_of_rank())

    def settle_weights(self) -> None:
        """Give each rank the mean of the ranks' moving statistics, and give rank 0 all sums of gradients."""
        if self._has_moved:
            self._has_moved = False
            own = [v for layer in self._model._all_layers() for v in getattr(layer, "statistics_of_rank", ())]
            means = self._sums([variable.numpy().astype(np.float64) / self.group.size for variable in own])
            assign_all(zip(own, means, strict=True))
            kept = self._sums_of_rank()
            sums = self._sums([variable.numpy() for variable in kept])
            assign_all(
                (variable, 0 * value if self.group.rank else value) for variable, value in zip(kept, sums, strict=True)
            )

    def _sums_of_rank(self) -> list[Variable]:
        """The optimizer's accumulated gradients that no update has used yet; each rank holds the sums for its rows."""
        return getattr(self._model.optimizer, "sums_of_rank", [])

    def _gather_states(self) -> None:
        part = self._part
        if part is None:
            return
        states = [v for layer in self._model._all_layers() for v in getattr(layer, "states_of_rows", ())]
        states = [state for state in states if state.shape[0] == part.total]
        rows = slice(part.first, part.first + part.own)
        values = [np.zeros(state.shape, state.dtype) for state in states]
        for state, value in zip(states, values, strict=True):
            value[rows] = state.numpy()[rows]
        assign_all(zip(states, self._sums(values), strict=True))

    def _sums(self, arrays: Sequence[Array]) -> list[Array]:
        """The sum over ranks of each array."""
        if not arrays:
            return []
        flat = np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays])
        self.group.sum(flat)
        ends = np.cumsum([array.size for array in arrays])
        parts = np.split(flat, ends[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]

    # -------------------- metrics --------------------

    def _metric_variables(self) -> list[Variable]:
        return list(dict.fromkeys(v for metric in self._model.metrics for v in metric.variables))

    def _reduced(self, variables: Sequence[Variable]) -> list[Array]:
        """The values of metrics' variables for the rows of all ranks."""
        values: list[Array] = [variable.numpy() for variable in variables]
        how = ["sum" if variable.aggregation == "none" else variable.aggregation for variable in variables]
        sums = iter(self._sums([value for value, each in zip(values, how, strict=True) if each in ("sum", "mean")]))
        others = [value for value, each in zip(values, how, strict=True) if each not in ("sum", "mean")]
        columns = iter(zip(*self.group.exchange(others), strict=True) if others else ())
        found = []
        for each in how:
            value = next(sums) if each in ("sum", "mean") else _CHOSEN[each](next(columns))
            found.append(value / self.group.size if each == "mean" else value)
        return found

    def reader(self, read: Callable[[dict], Callable[[], dict[str, Any]]]) -> Callable[[dict], Logs]:
        """A function from a step's result to the logs for the rows of all ranks; `read` gives the logs for this rank's rows."""
        return lambda own: Logs(lambda: self._read(own), read(own))

    def _read(self, own: dict) -> dict[str, Any]:
        with contextlib.nullcontext() if self._counts_all else self._summed():
            results = {name: logged(value) for name, value in self._model.get_metrics_result().items()}
        if not own:
            return results
        others = {name: np.asarray(value, np.float64) for name, value in own.items() if name not in results}
        means = self._means(others)
        return {name: results[name] if name in results else logged(means[name]) for name in own}

    def _means(self, values: dict[str, Array]) -> dict[str, Array]:
        """The means of the ranks' values, weighted by their rows in the last batch."""
        weight = 1.0 / self.group.size if self._part is None else self._part.fraction
        weighted = [weight * value if weight else np.zeros_like(value) for value in values.values()]
        return dict(zip(values, self._sums(weighted), strict=True))

    @contextlib.contextmanager
    def _summed(self) -> Iterator[None]:
        """A context in which the metrics count the rows of all ranks."""
        variables = self._metric_variables()
        before = [variable.numpy() for variable in variables]
        assign_all(zip(variables, self._reduced(variables), strict=True))
        try:
            yield
        finally:
            assign_all(zip(variables, before, strict=True))


_CHOSEN: dict[str, Callable[[Iterable[Array]], Array]] = {
    "max": lambda values: np.max(list(values), axis=0),
    "min": lambda values: np.min(list(values), axis=0),
    "only_first_replica": lambda values: next(iter(values)),
}


class Logs:
    """Logs of all ranks. All ranks must read them together; one rank may read `here`, the logs of its own rows, by itself."""

    def __init__(self, read: Callable[[], dict[str, Any]], here: Callable[[], dict[str, Any]]):
        self._read, self.here = read, here

    def __call__(self) -> dict[str, Any]:
        return self._read()
