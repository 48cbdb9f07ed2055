"""Floor 3: EpochRunner, the loop of `fit`, `evaluate` and `predict`: it runs a step and callbacks for each batch."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

import numpy as np

from nbkeras.callbacks.callback_list import CallbackList
from nbkeras.data.adapters import DataAdapter
from nbkeras.data.parts import parts
from nbkeras.engine import ranks, sharding, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import Batch
from nbkeras.engine.numerics import NumericsError
from nbkeras.engine.progress import compilations_shown
from nbkeras.engine.user_errors import warn
from nbkeras.training.loss_watch import LossWatch

Logs = dict[str, Any]


_NOTHING: Any = object()
_ASK = 16  # after this many batches, the ranks ask each other whether one has stopped; see `_interval`
_STOP = {"train": "stop_training", "test": "stop_evaluating", "predict": "stop_predicting"}


class EpochRunner:
    """Epochs over a data set, with a step for each batch.

    kind: train, test or predict, as in the names of callbacks' methods. step(batch) -> result. read(result) -> logs, or
    a function that returns them, called only if a callback reads the logs. owner: callbacks set its attribute `stop_training`,
    `stop_evaluating` or `stop_predicting` to end the loop. The loop calls reset() before each epoch, and settle() after its last
    batch. watch: looks at data whose loss is not finite.
    """

    def __init__(
        self,
        kind: str,
        data: DataAdapter,
        step: Callable[[Batch], Any],
        callbacks: CallbackList | None = None,
        read: Callable[[Any], Any] = lambda result: lambda: result,
        owner: Any = None,
        reset: Callable[[], None] = lambda: None,
        settle: Callable[[], None] = lambda: None,
        watch: LossWatch | None = None,
    ):
        self._kind, self.data, self._step, self._read = kind, data, step, read
        self._reset, self._settle, self._watch = reset, settle, watch
        self._listens = callbacks is not None
        self._callbacks = CallbackList() if callbacks is None else callbacks
        self._owner, self._flag = owner, _STOP[kind]
        self._epoch, self._phase = 0, "train"  # the phase is "train", "test" in validation, or "end"
        self._logs: Logs = {}  # the logs of the last epoch that ran all its batches
        self._done = 0  # batches done in this epoch
        self._result = _NOTHING  # the result of the last batch
        self._resumed: str | None = None  # the phase where the resumed training was interrupted
        self._restore: Callable[[], None] | None = None  # called before the next batch

    def train(self, epochs: range, validation: EpochRunner | None = None, frequency: int | Container[int] = 1) -> Logs:
        """Run epochs; returns the last logs. Validate after every `frequency`-th epoch, or after the epochs that it lists."""
        callbacks, data, resumed = self._callbacks, self.data, self._resumed
        if resumed == "end" and self._is_stopped():
            return self._logs
        for loop in (self, validation):
            if not epochs and loop is not None:  # the interrupted epoch is not run again
                loop._go_to_position()
        for epoch in epochs:
            self._epoch, self._phase = epoch, "train"
            self._reset()
            if (epoch > epochs.start or resumed is not None) and data.may_resize:
                callbacks.set_params({**(callbacks.params or {}), "steps": data.steps})
            callbacks.on_epoch_begin(epoch)
            logs = self._logs if resumed == "test" else self._run_epoch()
            if not logs:
                warn(
                    f"the data ran out before epoch {epoch + 1} of {epochs.stop}: training stops here. Give fit a Sequence, "
                    "or a generator that yields steps_per_epoch * epochs batches"
                )
                break
            self._logs = logs
            if validation is not None and (resumed == "test" or _is_due(epoch + 1, frequency)):
                self._phase = "test"
                logs.update({f"val_{name}": value for name, value in validation.test().items()})
            self._phase, resumed = "end", None
            callbacks.on_epoch_end(epoch, logs)
            if self._stops():
                break
        return self._logs

    def test(self) -> Logs:
        """Run one epoch; returns the logs after its last batch."""
        self._clear_stop()
        self._callbacks.on_test_begin()
        self._reset()
        logs = self._run_epoch()
        self._callbacks.on_test_end(logs)
        return logs

    def predict(self) -> list:
        """The results of the step on each batch of one pass."""
        self._clear_stop()
        self._callbacks.on_predict_begin()
        results = list(self._results())
        if results:
            self._callbacks.on_predict_end()
        return results

    def rehearse(self) -> None:
        """Run the step on a sample batch; the data keep it."""
        for batch in parts([self.data.sample()]):
            self._step(batch)

    def _run_epoch(self) -> Logs:
        """The logs after the last batch of an epoch; empty if there was none."""
        self._done, self._result = 0, _NOTHING
        self.data.on_epoch_begin()
        self._go_to_position()
        for result in self._results():
            self._result = result
        self.data.on_epoch_end()
        self._settle()
        logs: Logs = {} if self._result is _NOTHING else self._read(self._result)()
        if self._watch is not None:
            self._watch.after_epoch(logs.get("loss"), self.data, self._kind)
        return logs

    def _results(self) -> Iterator[Any]:
        """The results of the step on each batch of one pass over the data."""
        listens = self._listens
        begin = getattr(self._callbacks, f"on_{self._kind}_batch_begin")
        end = getattr(self._callbacks, f"on_{self._kind}_batch_end")
        step, interval = self._step, self._interval()
        watch = self._watch if self.data.whole is None else None
        if self._done and self._is_stopped():  # it had stopped before the interruption
            return
        with compilations_shown((self._callbacks.params or {}).get("verbose")):
            for number, batch in enumerate(parts(self.data.epoch(self._done)), self._done):
                if listens:
                    begin(number)
                try:
                    result = step(batch)
                except NumericsError as error:
                    error.in_batch(number)
                    raise
                if watch is not None:
                    watch.after_batch(result, batch, number, self._kind)
                if listens:
                    self._done, self._result = number + 1, result
                    end(number, self._read(result))
                yield result
                if interval and (number + 1) % interval == 0 and self._stops():
                    break

    # -------------------- resuming an interrupted training --------------------

    def place(self, validation: EpochRunner | None) -> dict[str, Any]:
        """The position of training, at the end of an epoch or of a batch of training or validation."""
        here = validation if self._phase == "test" and validation is not None else self
        return {
            "epoch": self._epoch,
            "phase": self._phase,
            "done": here._done,
            "result": {} if self._phase == "end" else here._result,
            "logs": self._logs,
            "stop_training": self._is_stopped(),
            "stop_evaluating": validation is not None and validation._is_stopped(),
            "steps": self.data.steps,
        }

    def resume(self, place: dict[str, Any], validation: EpochRunner | None, restore: Callable[[], None]) -> None:
        """Make `train` continue at a position. It calls restore() there, before the next batch."""
        phase, steps = place["phase"], self.data.steps
        if phase == "train" and not self.data.may_resize and steps != place["steps"]:
            raise ValueError(f"it was saved in an epoch of {place['steps']} steps, but an epoch now has {steps} steps")
        here = validation if phase == "test" and validation is not None else self

        def go_there() -> None:
            restore()
            here._done, here._result = place["done"], place["result"]
            for loop in (self, validation):
                if loop is not None and loop._owner is not None:
                    setattr(loop._owner, loop._flag, place[loop._flag])

        self._resumed, self._logs = phase, place["logs"]
        if phase == "end":
            go_there()
        else:
            here._restore = go_there

    def _go_to_position(self) -> None:
        if self._restore is not None:
            restore, self._restore = self._restore, None
            restore()

    def _clear_stop(self) -> None:
        if self._owner is not None:
            setattr(self._owner, self._flag, False)

    def _interval(self) -> int:
        """The number of batches between checks whether to stop; 0 for no checks.

        Asking other ranks takes as long as a step of a small model. The ranks ask after each batch only if a callback of one of
        them may stop there.
        """
        if ranks.current() is None:
            return int(self._listens)
        return 1 if sharding.anywhere(self._callbacks._may_stop(self._kind)) else _ASK

    def _stops(self) -> bool:
        """True if the stop flag is set in any of the processes that train together; all stop together."""
        stopped = sharding.anywhere(self._is_stopped())
        if stopped and self._owner is not None:
            setattr(self._owner, self._flag, True)
        return stopped

    def _is_stopped(self) -> bool:
        return self._owner is not None and getattr(self._owner, self._flag)


def _is_due(epoch: int, frequency: Any) -> bool:
    return epoch % frequency == 0 if isinstance(frequency, int | np.integer) else epoch in frequency


def joined(results: list) -> Any:
    """The outputs of several batches, concatenated."""
    flat = [structures.flatten(each) for each in results]
    try:
        return structures.pack(results[0], [np.concatenate(column) for column in zip(*flat, strict=True)])
    except ValueError:  # a stream may have samples of several shapes
        shapes = [[array.shape for array in each] for each in flat]
        at = next((i for i, each in enumerate(shapes) if [s[1:] for s in each] != [s[1:] for s in shapes[0]]), 1)
        raise ValueError(
            f"predict cannot join the outputs of its batches: batch 0 has outputs of shapes {briefly(shapes[0])}, batch {at} "
            f"has {briefly(shapes[at])}. Give it samples of one shape, or call predict_on_batch for each batch"
        ) from None
