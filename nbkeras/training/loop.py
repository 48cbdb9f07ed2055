"""Floor 3: Loop, a step for each batch of a feed, with callbacks around it: what `fit`, `evaluate` and `predict` share."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from typing import Any

import numpy as np

from nbkeras.callbacks.callback_list import CallbackList
from nbkeras.data.batches import Batch
from nbkeras.data.parts import parts
from nbkeras.engine.numerics import NumericsError
from nbkeras.engine.progress import compilations_shown
from nbkeras.engine.user_errors import warn
from nbkeras.training.feed import Feed, Layout

Logs = dict[str, Any]


_STOP = {"train": "stop_training", "test": "stop_evaluating", "predict": "stop_predicting"}


class Loop:
    """Epochs over a feed, with a step for each batch.

    kind: train, test or predict, as in the names of callbacks' methods. step(batch, layout) -> result. read(result) -> logs, or
    a function that returns them, which is called only if somebody looks. owner: the object whose attribute `stop_training`,
    `stop_evaluating` or `stop_predicting` callbacks set to end the loop. reset() is called before each epoch, settle() after the
    last batch of each.
    """

    def __init__(
        self,
        kind: str,
        feed: Feed,
        step: Callable[[Batch, Layout], Any],
        callbacks: CallbackList | None = None,
        read: Callable[[Any], Any] = lambda result: lambda: result,
        owner: Any = None,
        reset: Callable[[], None] = lambda: None,
        settle: Callable[[], None] = lambda: None,
    ):
        self._kind, self._feed, self._step, self._read = kind, feed, step, read
        self._reset, self._settle = reset, settle
        self._listens = callbacks is not None
        self._callbacks = CallbackList() if callbacks is None else callbacks
        self._owner, self._flag = owner, _STOP[kind]

    def train(self, epochs: range, validation: Loop | None = None, frequency: int | Container[int] = 1) -> Logs:
        """Run epochs; returns the last logs. Validate after every `frequency`-th epoch, or after those with a number in it."""
        logs: Logs = {}
        callbacks = self._callbacks
        for epoch in epochs:
            self._reset()
            if epoch > epochs.start and self._feed.source.may_resize:
                callbacks.set_params({**(callbacks.params or {}), "steps": self._feed.source.steps})
            callbacks.on_epoch_begin(epoch)
            epoch_logs = self._epoch()
            if not epoch_logs:
                warn(
                    f"the data ran out before epoch {epoch + 1} of {epochs.stop}: training stops here. Give fit a Sequence, "
                    "or a generator that yields steps_per_epoch * epochs batches"
                )
                break
            logs = epoch_logs
            if validation is not None and _is_due(epoch + 1, frequency):
                logs.update({f"val_{name}": value for name, value in validation.test().items()})
            callbacks.on_epoch_end(epoch, logs)
            if self._is_stopped():
                break
        return logs

    def test(self) -> Logs:
        """Run one epoch; the logs after its last batch."""
        self._go_on()
        self._callbacks.on_test_begin()
        self._reset()
        logs = self._epoch()
        self._callbacks.on_test_end(logs)
        return logs

    def predict(self) -> list:
        """The results of the step on each batch of one pass."""
        self._go_on()
        self._callbacks.on_predict_begin()
        results = list(self._results())
        if results:
            self._callbacks.on_predict_end()
        return results

    def _epoch(self) -> Logs:
        """The logs after the last batch of an epoch; empty if there was none."""
        result = nothing = object()
        self._feed.source.on_epoch_begin()
        for result in self._results():  # noqa: B007 (the last one)
            pass
        self._feed.source.on_epoch_end()
        self._settle()
        return {} if result is nothing else self._read(result)()

    def _results(self) -> Iterator[Any]:
        """The results of the step on each batch of one pass over the feed."""
        listens = self._listens
        begin = getattr(self._callbacks, f"on_{self._kind}_batch_begin")
        end = getattr(self._callbacks, f"on_{self._kind}_batch_end")
        step, layout = self._step, self._feed.layout
        with compilations_shown((self._callbacks.params or {}).get("verbose")):
            for number, batch in enumerate(parts(self._feed.source.epoch())):
                if listens:
                    begin(number)
                try:
                    result = step(batch, layout)
                except NumericsError as error:
                    error.in_batch(number)
                    raise
                if listens:
                    end(number, self._read(result))
                yield result
                if listens and self._is_stopped():
                    break

    def _go_on(self) -> None:
        if self._owner is not None:
            setattr(self._owner, self._flag, False)

    def _is_stopped(self) -> bool:
        return self._owner is not None and getattr(self._owner, self._flag)


def _is_due(epoch: int, frequency: Any) -> bool:
    return epoch % frequency == 0 if isinstance(frequency, int | np.integer) else epoch in frequency
