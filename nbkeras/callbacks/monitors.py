"""Callbacks that monitor a metric and stop training or reduce the learning rate when it no longer improves."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.callbacks import rates
from nbkeras.callbacks.callback_list import Callback
from nbkeras.engine import compatibility, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.progress import print_message
from nbkeras.engine.user_errors import warn


class MonitorCallback(Callback):
    """Base class of callbacks that monitor whether a metric improves.

    Args:
        monitor: The metric by its name in the logs: 'loss', 'val_accuracy', ...
        mode: 'min' if smaller is better, 'max' if larger is better. 'auto' uses the metric's `_direction` ('up' or
            'down') if the model has a metric of that name, else the name ('...loss' down; '...acc...', '...auc',
            'fmeasure...' up). Any other mode means 'auto', with a warning.
        baseline: The value that the first epoch must improve; None for any.
        min_delta: The least change that counts as an improvement.

    Raises:
        ValueError: at the first epoch's end, if 'auto' cannot decide from the metric.

    Example:
        >>> class BestEpochs(keras.callbacks.MonitorCallback):
        ...     def on_epoch_end(self, epoch, logs=None):
        ...         if self._is_improvement(logs[self.monitor], self.best):
        ...             self.best = logs[self.monitor]
        ...             print(epoch)
        >>> best = BestEpochs("loss")
        >>> for epoch, loss in enumerate([0.5, 0.7, 0.3]):
        ...     best.on_epoch_end(epoch, {"loss": loss})
        0
        2
    """

    _state_names: tuple[str, ...] = ("best",)

    def __init__(
        self, monitor: str = "val_loss", mode: str = "auto", baseline: float | None = None, min_delta: float = 0
    ):
        if not isinstance(mode, str) or mode not in ("auto", "min", "max"):
            warn(f"{type(self).__name__} mode {briefly(mode)} is unknown, using 'auto'")
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.best = baseline
        self.min_delta = abs(option.number_of(type(self).__name__, "min_delta", min_delta))
        self.monitor_op: Callable | None = None

    def _direction(self) -> str | None:
        if self.mode != "auto":
            return "down" if self.mode == "min" else "up"
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "down"
        for metric in getattr(self.model, "metrics", None) or ():
            if getattr(metric, "name", None) == name and hasattr(metric, "_direction"):
                return metric._direction
        if name.endswith("loss"):
            return "down"
        return "up" if "acc" in name or name.endswith("auc") or name.startswith("fmeasure") else None

    def _is_improvement(self, value, reference) -> bool:
        if self.monitor_op is None:  # the model's metrics exist only after it has trained
            direction = self._direction()
            if direction is None:
                raise ValueError(
                    f"{type(self).__name__} cannot tell whether monitor={briefly(self.monitor)} should become larger or "
                    "smaller; pass mode='max' or mode='min'"
                )
            self.monitor_op = np.less if direction == "down" else np.greater
            if direction == "down":
                self.min_delta *= -1
        return reference is None or bool(self.monitor_op(value - self.min_delta, reference))


class EarlyStopping(MonitorCallback):
    """Stop training when a metric has not improved for a number of epochs.

    Args:
        patience: The number of epochs without improvement after which training stops.
        verbose: 1 for a message when training stops, 0 for none.
        baseline: A value that must also be improved for training to continue; None for none.
        restore_best_weights: Whether the model gets the weights of the best epoch at the end of training, even if it did not
            stop early.
        start_from_epoch: The number of first epochs to ignore.

    Example:
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.0), "mse")  # learns nothing
        >>> stop = keras.callbacks.EarlyStopping(monitor="loss", patience=2)
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=10, verbose=0, callbacks=[stop])
        >>> history.epoch
        [0, 1, 2]
    """

    _state_names = ("best", "wait", "stopped_epoch", "best_weights", "best_epoch")

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: option.AnyNumber = 0,
        verbose: option.Verbosity = 0,
        mode: str = "auto",
        baseline: option.MaybeNumber = None,
        restore_best_weights: option.Flag = False,
        start_from_epoch: option.AnyNumber = 0,
    ):
        super().__init__(**option.keep(self, locals()))
        self.on_train_begin()

    def on_train_begin(self, logs=None) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = self.baseline if compatibility.current.baseline_is_best else None
        self.best_weights = None
        self.best_epoch = 0

    def on_epoch_end(self, epoch, logs=None) -> None:
        current = self.get_monitor_value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self._is_improvement(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self._is_improvement(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if compatibility.current.restores_weights_when_stopping and self.best_weights is not None:
                self.model.set_weights(self.best_weights)

    def on_train_end(self, logs=None) -> None:
        if self.stopped_epoch > 0 and self.verbose > 0:
            print_message(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print_message(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def get_monitor_value(self, logs):
        """The monitored value, or None with a warning that lists the available metrics.

        Args:
            logs: The logs of an epoch.
        """
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None:
            warn(
                f"Early stopping conditioned on metric `{self.monitor}` which is not available. "
                f"Available metrics are: {','.join(logs)}"
            )
        return value


class ReduceLROnPlateau(MonitorCallback):
    """Multiply the learning rate by a factor when a metric has not improved for a number of epochs.

    Args:
        factor: The factor, below 1.
        patience: The number of epochs without improvement after which the rate is reduced.
        verbose: 1 for a message when the rate is reduced, 0 for none.
        cooldown: The number of epochs after a reduction to ignore.
        min_lr: The lower limit of the learning rate.
        baseline: Accepted and ignored, as in Keras.

    Raises:
        ValueError: for a factor of 1 or more.

    Example:
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.5), "mse")
        >>> reduce = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100.0)  # never improves
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=[reduce])
        >>> history.history["learning_rate"], float(model.optimizer.learning_rate)
        ([0.5, 0.5, 0.25], 0.125)
    """

    _state_names = ("best", "cooldown_counter", "wait")

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: option.AnyNumber = 0.1,
        patience: option.AnyNumber = 10,
        verbose: option.Verbosity = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: option.AnyNumber = 0,
        min_lr: option.AnyNumber = 0.0,
        baseline: Any = None,
    ):
        super().__init__(monitor, mode, min_delta=min_delta)
        option.keep(self, locals())
        if factor >= 1.0:
            raise ValueError(f"ReduceLROnPlateau needs a factor below 1.0, received {factor}")
        self.on_train_begin()

    def on_train_begin(self, logs=None) -> None:
        self.best = None
        self.cooldown_counter = 0
        self.wait = 0

    def in_cooldown(self) -> bool:
        """True during the `cooldown` epochs after a reduction."""
        return self.cooldown_counter > 0

    def on_epoch_end(self, epoch, logs=None) -> None:
        logs = {} if logs is None else logs
        rates.log_learning_rates(self.model, logs)
        current = logs.get(self.monitor)
        if current is None:
            warn(
                f"Learning rate reduction is conditioned on metric `{self.monitor}` which is not available. "
                f"Available metrics are: {','.join(logs)}."
            )
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self._is_improvement(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        for name, optimizer in rates.optimizers_of(self.model).items():
            old = rates.learning_rate_of(optimizer)
            if old <= np.float32(self.min_lr):
                continue
            new = max(old * self.factor, self.min_lr)
            rates.set_learning_rate(optimizer, new)
            self.cooldown_counter = self.cooldown
            self.wait = 0
            if self.verbose > 0:
                rates.print_rate(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing", name, optimizer, new)
