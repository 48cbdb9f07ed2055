"""Callback, CallbackList, and the two callbacks that `fit` always uses: History and ProgbarLogger."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkeras.engine import documentation, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.progress import Progbar, print_message
from nbkeras.engine.registry import nearest
from nbkeras.engine.user_errors import enter, optional_import
from nbkeras.visualization import pictures

_Logs = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None


class Callback:
    """Base class of callbacks: override the hooks that you need, and pass objects to `fit`, `evaluate` or `predict`.

    `self.model` is the model, `self.params` a dict with 'verbose', 'epochs' and 'steps'. Hooks receive `logs`, a dict of
    floats by metric name. If the batch hooks of a subclass rarely use `logs`, set `lazy_logs = True`: they then receive a
    function that returns the dict, so that values are read only when they are used. To end training, set
    `self.model.stop_training` to True.

    Example:
        >>> class Goal(keras.callbacks.Callback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         if logs["loss"] < 0.5:
        ...             self.model.stop_training = True
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile(keras.optimizers.SGD(0.125), "mse")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=10, verbose=0, callbacks=[Goal()])
        >>> history.history["loss"]
        [1.0, 0.25]
    """

    model: Any = None
    params: dict[str, Any] | None = None
    lazy_logs = False
    _is_last = False  # whether its hooks run after the hooks of all others
    _stops = False  # whether its batch hooks may stop the loop, if nbkeras defines them; hooks of users always may
    _state_names: tuple[str, ...] = ()  # the attributes that are its state

    if TYPE_CHECKING:  # the attributes that `option.keep` sets

        def __getattr__(self, name: str) -> Any: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        documentation.attach(cls)
        enter(cls)

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before all hooks, with the parameters of the loop.

        Args:
            params: A dict with 'verbose', 'epochs' and 'steps', the number of batches or None.
        """
        self.params = params

    def set_model(self, model) -> None:
        """Called before all hooks, with the model.

        Args:
            model: The model; it becomes `self.model`.
        """
        self.model = model

    def state_dict(self) -> dict[str, Any]:
        """The callback's state, which `BackupAndRestore` saves.

        Returns:
            A dict of numbers, strings, None, NumPy arrays, and lists, tuples and dicts of these; empty in the base class.

        Example:
            >>> class Longest(keras.callbacks.Callback):
            ...     epochs = 0
            ...     def on_epoch_end(self, epoch, logs=None):
            ...         self.epochs += 1
            ...     def state_dict(self):
            ...         return {"epochs": self.epochs}
            ...     def load_state_dict(self, state):
            ...         self.epochs = state["epochs"]
            >>> Longest().state_dict()
            {'epochs': 0}
        """
        return {name.lstrip("_"): getattr(self, name) for name in self._state_names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Called when training resumes: after `on_train_begin`, or in the middle of an epoch after `on_epoch_begin`.

        Args:
            state: The result of `state_dict` of the callback at the same index.
        """
        for name in self._state_names:
            setattr(self, name, state[name.lstrip("_")])

    def on_batch_begin(self, batch, logs=None) -> None:
        """An older name of `on_train_batch_begin`.

        Args:
            batch: The number of the batch in its epoch, from 0.
            logs: An empty dict.
        """

    def on_batch_end(self, batch, logs=None) -> None:
        """An older name of `on_train_batch_end`.

        Args:
            batch: The number of the batch in its epoch, from 0.
            logs: The loss and the metrics of the epoch so far.
        """

    def on_epoch_begin(self, epoch, logs=None) -> None:
        """Called at the start of an epoch of training.

        Args:
            epoch: The number of the epoch, from 0.
            logs: An empty dict.
        """

    def on_epoch_end(self, epoch, logs=None) -> None:
        """Called at the end of an epoch of training, after validation.

        Args:
            epoch: The number of the epoch, from 0.
            logs: The loss and the metrics of the epoch; validation metrics have the prefix 'val_'. Later callbacks see
                entries that a callback adds.
        """

    def on_train_batch_begin(self, batch, logs=None) -> None:
        """Called before a training batch.

        Args:
            batch: The number of the batch in its epoch, from 0.
            logs: An empty dict.
        """
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch, logs=None) -> None:
        """Called after a training batch.

        Args:
            batch: The number of the batch in its epoch, from 0.
            logs: The loss and the metrics of the epoch so far.
        """
        self.on_batch_end(batch, logs)

    def on_test_batch_begin(self, batch, logs=None) -> None:
        """Called before a batch of `evaluate` or of the validation in `fit`.

        Args:
            batch: The number of the batch, from 0.
            logs: An empty dict.
        """

    def on_test_batch_end(self, batch, logs=None) -> None:
        """Called after a batch of `evaluate` or of the validation in `fit`.

        Args:
            batch: The number of the batch, from 0.
            logs: The loss and the metrics so far.
        """

    def on_predict_batch_begin(self, batch, logs=None) -> None:
        """Called before a batch of `predict`.

        Args:
            batch: The number of the batch, from 0.
            logs: An empty dict.
        """

    def on_predict_batch_end(self, batch, logs=None) -> None:
        """Called after a batch of `predict`.

        Args:
            batch: The number of the batch, from 0.
            logs: A dict with the batch's 'outputs'.
        """

    def on_train_begin(self, logs=None) -> None:
        """Called at the start of `fit`.

        Args:
            logs: An empty dict.
        """

    def on_train_end(self, logs=None) -> None:
        """Called at the end of `fit`.

        Args:
            logs: The loss and the metrics of the last epoch.
        """

    def on_test_begin(self, logs=None) -> None:
        """Called at the start of `evaluate` or of the validation in `fit`.

        Args:
            logs: An empty dict.
        """

    def on_test_end(self, logs=None) -> None:
        """Called at the end of `evaluate` or of the validation in `fit`.

        Args:
            logs: The loss and the metrics.
        """

    def on_predict_begin(self, logs=None) -> None:
        """Called at the start of `predict`.

        Args:
            logs: An empty dict.
        """

    def on_predict_end(self, logs=None) -> None:
        """Called at the end of `predict`.

        Args:
            logs: An empty dict.
        """


def _overrides(callback: Callback, hook: str) -> bool:
    own = getattr(callback, hook)
    return getattr(own, "__func__", own) is not getattr(Callback, hook)


def _as_floats(logs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A new dict with sorted keys and numbers as floats; nested dicts are flattened."""
    result: dict[str, Any] = {}
    for key, value in sorted((logs or {}).items()):
        if isinstance(value, Mapping):
            result.update(_as_floats(value))
            continue
        try:
            result[key] = float(value)
        except (TypeError, ValueError):
            result[key] = value
    return result


class _CachedLogs:
    """Logs that are computed at the first call only."""

    def __init__(self, logs: _Logs):
        self._logs = logs
        self._floats: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        if self._floats is None:
            self._floats = _as_floats(self._logs() if callable(self._logs) else self._logs)
        return self._floats

    def here(self) -> dict[str, Any]:
        """The logs of this rank's rows; reading them does not communicate with other ranks."""
        own = getattr(self._logs, "here", None)
        return self() if own is None else _as_floats(own())


def _flat(callbacks) -> list[Callback]:
    try:
        found = [each for each in structures.flatten(callbacks) if each is not None]
    except ValueError:
        raise ValueError("callbacks are lists that are nested too deeply, or contain themselves") from None
    for each in found:
        if not isinstance(each, Callback):
            hint = f"; did you mean {each.__name__}(...)?" if isinstance(each, type) else ""
            raise TypeError(
                f"callbacks must be Callback objects, received {briefly(each)} of type {type(each).__name__}{hint}"
            )
    return found


class CallbackList(Callback):
    """A list of callbacks, used as one callback, for example in your own training loop.

    Further arguments are the parameters that callbacks receive: 'verbose', 'epochs' and 'steps'. Batch hooks are called
    only for callbacks that override them. `logs` may be a function that returns the logs: a hook calls it at most once,
    and only if a callback uses the logs.

    Args:
        callbacks: None, a Callback, or (nested) lists of them.
        add_history: Whether to append a `History`, unless there is one.
        add_progbar: Whether to append a `ProgbarLogger`, unless there is one.
        model: The model that callbacks receive; None if `set_model` sets it later.

    Raises:
        TypeError: for an item that is not a Callback.

    Example:
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> callbacks = keras.callbacks.CallbackList(add_history=True, model=model, epochs=2)
        >>> callbacks.on_train_begin()
        >>> for epoch in range(2):
        ...     callbacks.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})
        >>> callbacks.history.history
        {'loss': [1.0, 0.5]}
    """

    def __init__(self, callbacks=None, add_history: bool = False, add_progbar: bool = False, model=None, **params):
        self.callbacks = _flat(callbacks)
        self.history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if self.history is None and add_history:
            self.history = History()
            self.callbacks.append(self.history)
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        self._put_last()
        self._hooked: dict[str, list[Callback]] = {}
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    def append(self, callback: Callback) -> None:
        """Add a callback; it receives the list's model and parameters.

        Args:
            callback: A Callback, or a list of them.

        Raises:
            TypeError: if it is not a Callback.
        """
        added = _flat(callback)
        self.callbacks += added
        self._put_last()
        self._hooked.clear()
        for item in added:
            if self.model is not None:
                item.set_model(self.model)
            if self.params:
                item.set_params(self.params)

    def _put_last(self) -> None:
        """Move callbacks that depend on the others' work to the end."""
        self.callbacks.sort(key=lambda callback: callback._is_last)
        self._is_last = any(callback._is_last for callback in self.callbacks)

    def _may_stop(self, kind: str) -> bool:
        """Whether a batch hook may stop the loop. kind: train, test or predict."""
        names = [f"on_{kind}_batch_begin", f"on_{kind}_batch_end"]
        names += ["on_batch_begin", "on_batch_end"] if kind == "train" else []
        return any(
            callback._stops or not str(getattr(getattr(callback, name), "__module__", "")).startswith("nbkeras.")
            for callback in self.callbacks
            for name in names
            if _overrides(callback, name)
        )

    def _with_state(self) -> list[Callback]:
        return [each for each in self.callbacks if each._state_names or _overrides(each, "state_dict")]

    def state_dict(self) -> dict[str, Any]:
        """The states of the callbacks that define `state_dict`."""
        return {"callbacks": [(type(each).__name__, each.state_dict()) for each in self._with_state()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the callbacks their states.

        Args:
            state: The result of `state_dict` of callbacks of the same classes in the same order.

        Raises:
            ValueError: if the state is for other callbacks.
        """
        saved, own = state["callbacks"], self._with_state()
        names = [type(each).__name__ for each in own]
        if names != [name for name, _ in saved]:
            raise ValueError(
                f"training was interrupted with the callbacks {', '.join(name for name, _ in saved)}, but resumes with "
                f"{', '.join(names)}: give fit the same callbacks in the same order, or delete the folder of the backup"
            )
        for callback, (_, each) in zip(own, saved, strict=True):
            callback.load_state_dict(each)

    def set_params(self, params: dict[str, Any]) -> None:
        """Pass the parameters to every callback.

        Args:
            params: A dict with 'verbose', 'epochs' and 'steps'.
        """
        self.params = params
        if params:
            for callback in self.callbacks:
                callback.set_params(params)

    def set_model(self, model) -> None:
        """Pass the model to every callback, and the History to the model.

        Args:
            model: The model.
        """
        self.model = model
        if self.history is not None:
            model.history = self.history
        for callback in self.callbacks:
            callback.set_model(model)

    def _call_hook(self, name: str, logs: _Logs, *epoch: int) -> None:
        floats = _CachedLogs(logs)()
        for callback in self.callbacks:
            getattr(callback, name)(*epoch, floats)


def _method(name: str) -> Any:
    """A method of CallbackList that calls this hook of its callbacks; batch hooks only of callbacks that override them."""
    older = name.replace("train_batch", "batch")

    def of_batch(self: CallbackList, batch: int, logs: _Logs = None) -> None:
        hooked = self._hooked.get(name)
        if hooked is None:
            hooked = [c for c in self.callbacks if _overrides(c, name) or _overrides(c, older)]
            self._hooked[name] = hooked
        if not hooked:
            return
        cached = _CachedLogs(logs)
        for callback in hooked:
            getattr(callback, name)(batch, cached if callback.lazy_logs else cached())

    def of_epoch(self: CallbackList, epoch, logs=None) -> None:
        self._call_hook(name, logs, epoch)

    def of_loop(self: CallbackList, logs: _Logs = None) -> None:
        self._call_hook(name, logs)

    method = of_batch if "batch" in name else of_epoch if "epoch" in name else of_loop
    method.__name__, method.__doc__ = name, getattr(Callback, name).__doc__
    return method


for _name in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _name, _method(_name))


class History(Callback):
    """The result of `fit`.

    `history[name]` is the list of a metric's values by epoch, `epoch` the list of the epochs' numbers, from 0. `model.history`
    is the History of the last `fit`.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, verbose=0)
        >>> history.epoch, history.history
        ([0, 1], {'loss': [1.0, 0.0]})
    """

    _state_names = ("epoch", "history")

    def __init__(self) -> None:
        self.history: dict[str, list[Any]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs=None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch, logs=None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self

    def __repr__(self) -> str:
        last = {name: values[-1] for name, values in self.history.items()}
        parts = [
            f" {name}={value:.4g}" if isinstance(value, float) else f" {name}={value}" for name, value in last.items()
        ]
        return f"<History epochs={len(self.epoch)}{''.join(parts)}>"

    def _repr_html_(self) -> str:
        """A table of the metrics, and their curves, for notebooks."""
        rows = []
        for name, values in self.history.items():
            numbers = [float(value) for value in values if np.size(value) == 1]
            known = [number for number in numbers if number == number] or numbers  # without NaN
            ends = [numbers[0], numbers[-1], min(known), max(known)] if numbers else []
            rows.append([name, *(f"{number:.4g}" for number in ends)] if ends else [name, *["-"] * 4])
        caption = f"History, {len(self.epoch)} epochs"
        table = pictures.html_table(["metric", "first", "last", "lowest", "highest"], rows, caption)
        drawn = [
            pictures.curves({name: [float(value) for value in self.history[name]] for name in names})
            for names in self._together(self.history)
            if all(np.size(value) == 1 for name in names for value in self.history[name])
        ]
        return "\n".join([table, *drawn])

    @staticmethod
    def _together(names: Iterable[str]) -> list[list[str]]:
        """The names of metrics, each with the name of its validation metric."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(name.removeprefix("val_"), []).append(name)
        return list(found.values())

    def plot(self, metrics: Iterable[str] | str | None = None, axes: Any = None) -> list[Any]:
        """Draw the metrics over the epochs with matplotlib, each with its validation in one diagram.

        Args:
            metrics: Names of metrics, without 'val_'; None for all.
            axes: Axes of matplotlib to draw into, one for each metric; None makes a new figure.

        Returns:
            The list of matplotlib's axes, one for each metric.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: There is nothing to draw, a metric is unknown, or the number of axes is not the number of metrics.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
            >>> model.compile("sgd", "mse")
            >>> history = model.fit(np.ones((8, 2)), np.ones((8, 1)), epochs=3, validation_split=0.5, verbose=0)
            >>> (axes,) = history.plot()
            >>> [line.get_label() for line in axes.lines]
            ['loss', 'val_loss']
        """
        together = {names[0].removeprefix("val_"): names for names in self._together(self.history)}
        wanted = list(together) if metrics is None else [metrics] if isinstance(metrics, str) else list(metrics)
        if not wanted:
            raise ValueError("there is nothing to draw: the history is empty")
        for name in wanted:
            if name not in together:
                raise ValueError(f"there is no metric {name!r}.{nearest(name, together)} Metrics: {list(together)}")
        if axes is None:
            with optional_import("history.plot needs matplotlib: pip install matplotlib"):
                from matplotlib import pyplot
            width = 4.5 * len(wanted)
            _, axes = pyplot.subplots(1, len(wanted), figsize=(width, 3.2), squeeze=False, layout="constrained")
        flat = list(np.ravel(np.asarray(axes, dtype=object)))
        if len(flat) != len(wanted):
            raise ValueError(
                f"plot draws {len(wanted)} metrics {wanted}, received {len(flat)} axes: one is needed for each"
            )
        for name, each in zip(wanted, flat, strict=True):
            for label in together[name]:
                values = np.asarray(self.history[label], dtype=float).reshape(len(self.history[label]), -1)
                for column in range(values.shape[1]):  # a metric may have several values, one for each threshold
                    own = label if values.shape[1] == 1 else f"{label}[{column}]"
                    each.plot(
                        self._epochs_of(len(values)), values[:, column], label=own, marker="." * (len(values) == 1)
                    )
            each.set_xlabel("epoch")
            each.set_title(name)
            each.legend()
        return flat

    def _epochs_of(self, count: int) -> list[int]:
        """The epochs of `count` values, from 1; validation may not run in every epoch."""
        numbers = [epoch + 1 for epoch in self.epoch]
        every = max(1, len(numbers) // max(count, 1))
        chosen = numbers[every - 1 :: every][:count]
        return chosen if len(chosen) == count else list(range(1, count + 1))


class ProgbarLogger(Callback):
    """The progress bar that `fit`, `evaluate` and `predict` add unless verbose is 0.

    The parameter 'verbose' is 1 for a bar, 2 for a line per epoch, 0 for nothing, 'auto' for 1.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=1, verbose=2)
        1/1 - ...ms/step - loss: 1.0000
    """

    lazy_logs = True

    def __init__(self) -> None:
        self.seen = 0
        self.target: int | None = None
        self.verbose = 1
        self.epochs = 1
        self.progbar: Progbar | None = None
        self._in_fit = False

    def set_params(self, params):
        self.params = params
        verbose = params.get("verbose", 1)
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs = params.get("epochs", 1)
        self.target = params.get("steps")

    def _begin(self) -> Progbar:
        self.seen = 0
        # No averaging: logs already are the metrics' values over the epoch so far.
        self.progbar = Progbar(self.target, verbose=self.verbose, stateless_metrics=())
        return self.progbar

    def _batch_done(self, batch: int, logs: _Logs) -> None:
        self.seen = batch + 1
        if self.verbose == 1:
            shown = getattr(logs, "here", logs)  # the other ranks show nothing
            (self.progbar or self._begin()).update(self.seen, shown, finalize=False)

    def _finish(self, logs: _Logs) -> None:
        progbar = self.progbar or self._begin()
        if self.target is None:
            self.target = progbar.target = self.seen
        progbar.update(self.target, logs, finalize=True)

    def on_train_begin(self, logs=None) -> None:
        self._in_fit = True  # validation within fit is silent

    def on_train_end(self, logs=None) -> None:
        self._in_fit = False

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._begin()
        if self.verbose and self.epochs > 1:
            print_message(f"Epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._batch_done(batch, logs)

    def on_epoch_end(self, epoch, logs=None) -> None:
        self._finish(logs)

    def on_test_begin(self, logs=None) -> None:
        if not self._in_fit:
            self._begin()

    def on_test_batch_end(self, batch, logs=None) -> None:
        if not self._in_fit:
            self._batch_done(batch, logs)

    def on_test_end(self, logs=None) -> None:
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs=None) -> None:
        self._begin()

    def on_predict_batch_end(self, batch, logs=None) -> None:
        self._batch_done(batch, None)

    def on_predict_end(self, logs=None) -> None:
        self._finish(None)
