"""ModelCheckpoint, a callback that saves the model during training."""

import os
from typing import Any

import numpy as np

from nbkeras.callbacks.monitors import MonitorCallback
from nbkeras.engine import ranks, sharding
from nbkeras.engine.progress import print_message
from nbkeras.engine.user_errors import warn

_COUNTS = ("_epoch", "_epochs_since_save", "_batches_since_save", "_last_batch")


class ModelCheckpoint(MonitorCallback):
    """Save the model, or its weights, during training.

    Args:
        filepath: A path as `model.save` takes it, or `model.save_weights` with save_weights_only. Fields are filled in: the
            number of the `epoch` from 1, of the `batch` from 1, and the logs: '{epoch:02d}-{val_loss:.2f}.keras'.
        monitor: The metric of save_best_only, as it is named in the logs.
        verbose: 1 for a message whenever the model is saved, 0 for none.
        save_best_only: Whether to save only when `monitor` improves; else at each time that save_freq gives.
        save_weights_only: Whether to save the weights alone.
        save_freq: 'epoch', or the number of batches between two saves.
        initial_value_threshold: The value of `monitor` that the first save must improve; None for any.
        period: Of Keras 2: the number of epochs between two saves.

    Raises:
        ValueError: for a save_freq or period that is not allowed.
        KeyError: at the first save, for a field that is not in the logs.
        IsADirectoryError: at the first save, for the path of a folder.

    Example:
        >>> import os
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> save = keras.callbacks.ModelCheckpoint("models/{epoch}.weights.h5", save_weights_only=True)
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[save])
        >>> sorted(os.listdir("models"))
        ['1.weights.h5', '2.weights.h5']
    """

    lazy_logs = True

    def __init__(
        self,
        filepath: str | os.PathLike,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        period: int = 1,
    ):
        super().__init__(monitor, mode, initial_value_threshold)
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"save_freq must be 'epoch' or a positive number of batches, received {save_freq!r}")
        if not isinstance(period, int) or period < 1:
            raise ValueError(f"period must be a positive number of epochs, received {period!r}")
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.period = period
        self._epoch = 0
        self._epochs_since_save = 0
        self._batches_since_save = 0
        self._last_batch = -1

    def state_dict(self):
        return {**super().state_dict(), **{name: getattr(self, name) for name in _COUNTS}}

    def load_state_dict(self, state):
        vars(self).update(state)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._last_batch = -1

    def on_train_batch_end(self, batch, logs=None):
        if self.save_freq == "epoch":
            return
        self._batches_since_save += batch - self._last_batch
        self._last_batch = batch
        if self._batches_since_save >= self.save_freq:
            self._batches_since_save = 0
            self._save(self._epoch, batch, logs() if callable(logs) else logs or {})

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq != "epoch":
            return
        self._epochs_since_save += 1
        if self._epochs_since_save >= self.period:
            self._epochs_since_save = 0
            self._save(epoch, None, logs or {})

    def _wanted(self, epoch: int, logs: dict[str, Any], path: str) -> bool:
        if not self.save_best_only:
            self._say(epoch, f"saving model to {path}")
            return True
        current = logs.get(self.monitor)
        if current is None:
            warn(f"Can save best model only with {self.monitor} available. Available metrics are: {','.join(logs)}")
            return True
        if np.ndim(current):
            warn(f"{self.monitor} is {current}, which is not a single number that can be the best: saving always")
            return True
        best = "None" if self.best is None else f"{self.best:.5f}"
        if not self._is_improvement(current, self.best):
            self._say(epoch, f"{self.monitor} did not improve from {best}")
            return False
        self._say(epoch, f"{self.monitor} improved from {best} to {current:.5f}, saving model to {path}")
        self.best = current
        return True

    def _save(self, epoch: int, batch: int | None, logs: dict[str, Any]) -> None:
        fields = dict(logs) if batch is None else {"batch": batch + 1, **logs}
        try:
            path = self.filepath.format(epoch=epoch + 1, **fields)
        except KeyError as error:
            raise KeyError(
                f"the filepath {self.filepath!r} has a field {error} that is not in the logs; "
                f"there are: {', '.join(['epoch', *fields])}"
            ) from error
        if not self._wanted(epoch, logs, path):
            return
        if ranks.current() is not None:
            self.model.settle_ranks()
        if not sharding.is_first():
            return
        if os.path.isdir(path):
            raise IsADirectoryError(f"ModelCheckpoint needs the path of a file, but {path!r} is a folder")
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(path, overwrite=True)
        self._say(epoch, f"finished saving model to {path}")

    def _say(self, epoch: int, what: str) -> None:
        if self.verbose > 0:
            print_message(f"\nEpoch {epoch + 1}: {what}")
