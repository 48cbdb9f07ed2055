"""Callbacks that save the model, or the state of its training, during training."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras.callbacks.callback_list import Callback
from nbkeras.callbacks.monitors import MonitorCallback
from nbkeras.engine.progress import print_message
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.engine.user_errors import warn
from nbkeras.saving.archive import OtherShape, atomic_file, open_archive, read_npy


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
        if os.path.isdir(path):
            raise IsADirectoryError(f"ModelCheckpoint needs the path of a file, but {path!r} is a folder")
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(path, overwrite=True)
        self._say(epoch, f"finished saving model to {path}")

    def _say(self, epoch: int, what: str) -> None:
        if self.verbose > 0:
            print_message(f"\nEpoch {epoch + 1}: {what}")


class BackupAndRestore(Callback):
    """Store the state of training in a folder, so that the same `fit`, started again after a crash, continues from it.

    Weights, the layers' and the optimizer's states and the epoch are in one file, which is replaced as a whole.

    The result is the same as without the crash only with `shuffle=False`, whole epochs and save_freq='epoch'. The state
    does not include the orders in which `fit` shuffles (by default a resumed `fit` starts with the first order again, or
    with another one), the position in the data where an epoch of `steps_per_epoch` ended, and the counts of other callbacks.

    Args:
        backup_dir: The folder of the state, of this training alone.
        save_freq: 'epoch', or the number of batches between two saves; training continues at the start of the interrupted
            epoch.
        double_checkpoint: Whether to keep the state before the last one too, in case the last cannot be read.
        delete_checkpoint: Whether to delete the state at the end of training.

    Raises:
        ValueError: for an empty backup_dir or a save_freq that is not allowed, and at the start of training for a state of
            another model or optimizer.
        OSError: at the start of training, for a state that cannot be read.

    Example:
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> data = {"x": np.ones((4, 1)), "y": np.ones((4, 1)), "verbose": 0}
        >>> backup = keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False)
        >>> history = model.fit(**data, epochs=2, callbacks=[backup])  # as if it stopped here
        >>> model.fit(**data, epochs=5, callbacks=[keras.callbacks.BackupAndRestore("backup")]).epoch
        [2, 3, 4]
    """

    lazy_logs = True

    def __init__(
        self,
        backup_dir: str | os.PathLike,
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
    ):
        if not backup_dir:
            raise ValueError("BackupAndRestore needs a folder, received an empty backup_dir")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"save_freq must be 'epoch' or a positive number of batches, received {save_freq!r}")
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._latest, self._previous = (os.path.join(self.backup_dir, name) for name in ("latest.npz", "previous.npz"))
        self._epoch = 0
        self._batches = 0

    def _state(self) -> Iterator[tuple[str, Variable]]:
        """All variables that training changes, with their names in the file."""
        model, optimizer = self.model, self.model.optimizer
        groups = {"weights": model.weights, "states": model._states_variables}
        for group, variables in {**groups, "optimizer": [] if optimizer is None else optimizer.variables}.items():
            for number, variable in enumerate(variables):
                yield f"{group}/{number}", variable

    def on_train_begin(self, logs=None):
        self._batches = 0
        paths = [path for path in (self._latest, self._previous) if os.path.exists(path)]
        for path in paths:
            try:
                return self._restore(path)
            except OtherShape as error:
                raise ValueError(
                    f"{path!r} belongs to another model or optimizer ({error}): delete it, or use another backup_dir"
                ) from None
            except (OSError, ValueError) as error:
                if path == paths[-1]:
                    raise OSError(
                        f"{path!r} cannot be read ({error}): delete it to start training from the beginning"
                    ) from error
                warn(f"{path!r} cannot be read ({error}): continuing from the state before it")

    def _restore(self, path: str) -> None:
        """Restore the state in a file; all of it is read before any variable is written."""
        state = dict(self._state())
        with open_archive(path) as archive:
            if set(archive.namelist()) != {f"{name}.npy" for name in (*state, "epoch")}:
                raise OtherShape(f"it holds {len(archive.namelist())} arrays, expected {len(state) + 1}")
            epoch = int(read_npy(archive, "epoch.npy", "epoch", np.zeros((), np.int64)))
            arrays = {name: read_npy(archive, f"{name}.npy", name, v.data) for name, v in state.items()}
        assign_all((variable, arrays[name]) for name, variable in state.items())
        self.model.initial_epoch = self._epoch = epoch

    def _save(self) -> None:
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint and os.path.exists(self._latest):
            os.replace(self._latest, self._previous)
        with atomic_file(self._latest) as file:
            arrays = {name: variable.numpy() for name, variable in self._state()}
            np.savez(file, allow_pickle=False, epoch=np.int64(self._epoch), **arrays)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._batches += 1
        if self.save_freq != "epoch" and self._batches % self.save_freq == 0:
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._save()

    def on_train_end(self, logs=None):
        if self.delete_checkpoint:
            for path in (self._latest, self._previous):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
            with contextlib.suppress(OSError):  # it does not exist, or contains other files
                os.rmdir(self.backup_dir)
