"""ModelCheckpoint, a callback that saves the model during training."""

import contextlib
import functools
import os
from typing import Annotated, Any

import numpy as np

from nbkeras.callbacks.monitors import MonitorCallback
from nbkeras.engine import option, ranks, sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.progress import print_message
from nbkeras.engine.user_errors import warn
from nbkeras.saving import archive
from nbkeras.saving.background import BackgroundWriter

_files = LazyModule("nbkeras.saving.files")

_COUNTS = ("_epoch", "_epochs_since_save", "_batches_since_save", "_last_batch")


def _frequency(name: str, what: str, value: Any) -> Any:
    is_epoch = isinstance(value, str) and value == "epoch"
    if not is_epoch and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name}: {what} must be 'epoch' or a positive number of batches, received {briefly(value)}")
    return value


SaveFrequency = Annotated[Any, option.kind(_frequency, "'epoch', or a positive number of batches")]


class ModelCheckpoint(MonitorCallback):
    """Save the model, or its weights, during training.

    Training waits until the content of the file is in memory, which takes about four times as long as copying the weights and
    the optimizer's state. Then a thread writes it to the disk while training continues. The next save waits for this thread, so
    no file is skipped and memory holds one content at most. When `fit` ends, all files are on disk. If a file cannot be written,
    training ends with an error at the next batch or epoch. Each write replaces the whole file.

    Args:
        filepath: A path for `model.save`, or with save_weights_only for `model.save_weights`. It may have fields for `epoch` and
            `batch`, both counted from 1, and for the logs: '{epoch:02d}-{val_loss:.2f}.keras'.
        monitor: The metric of save_best_only, by its name in the logs.
        verbose: 1 for a message whenever the model is saved, 0 for none.
        save_best_only: True saves only when `monitor` improves, False whenever save_freq says.
        save_weights_only: Whether to save only the weights.
        save_freq: 'epoch', or the number of batches between two saves.
        initial_value_threshold: The value of `monitor` that the first save must improve; None for any.
        period: The number of epochs between two saves; an argument of Keras 2.
        keep: The number of newest files to keep. Older files that this callback wrote are deleted. None keeps all.

    Raises:
        ImportError: when training begins, if the package that the file needs is not installed.
        ValueError: for an invalid save_freq, period or keep.
        KeyError: at the first save, for a field that is not in the logs.
        IsADirectoryError: at the first save, for the path of a folder.
        OSError: after a save, for a file that cannot be written: a full disk, a folder that vanished, ...

    Example:
        >>> import os
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> save = keras.callbacks.ModelCheckpoint("models/{epoch}.weights.h5", save_weights_only=True)
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[save])
        >>> sorted(os.listdir("models"))
        ['1.weights.h5', '2.weights.h5']
        >>> save = keras.callbacks.ModelCheckpoint("newest/{epoch}-{batch}.keras", save_freq=2, keep=2)
        >>> history = model.fit(np.ones((16, 1)), np.ones((16, 1)), batch_size=2, epochs=2, verbose=0, callbacks=[save])
        >>> sorted(os.listdir("newest"))
        ['2-6.keras', '2-8.keras']
    """

    lazy_logs = True

    def __init__(
        self,
        filepath: str | os.PathLike,
        monitor: str = "val_loss",
        verbose: option.Verbosity = 0,
        save_best_only: option.Flag = False,
        save_weights_only: option.Flag = False,
        mode: str = "auto",
        save_freq: SaveFrequency = "epoch",
        initial_value_threshold: option.MaybeNumber = None,
        period: int = 1,
        keep: int | None = None,
    ):
        option.keep(self, locals())
        super().__init__(monitor, mode, self.initial_value_threshold)
        if not isinstance(period, int) or period < 1:
            raise ValueError(f"period must be a positive number of epochs, received {briefly(period)}")
        if keep is not None and (not isinstance(keep, int) or keep < 1):
            raise ValueError(f"keep must be a positive number of files or None, received {briefly(keep)}")
        self.filepath = os.fspath(filepath)
        self.period = period
        self.keep = keep
        self._writer = BackgroundWriter()
        self._written: list[str] = []  # paths of the newest `keep` files, the newest last
        self._folders: set[str] = set()  # the folders made so far
        self._unsaid: tuple[int, str] | None = None  # the message to print when the file is on disk
        self._epoch = 0
        self._epochs_since_save = 0
        self._batches_since_save = 0
        self._last_batch = -1

    def state_dict(self) -> dict[str, Any]:
        self._writer.wait()  # the state refers to the file
        names = _COUNTS if self.keep is None else (*_COUNTS, "_written")
        return {**super().state_dict(), **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state) -> None:
        vars(self).update(state)

    def on_train_begin(self, logs=None) -> None:
        self._folders.clear()
        if getattr(self.model, "_training", None) is not None:  # within `fit`
            self.model._training.closing.enter_context(self._writer)
            save = self.model.save_weights if self.save_weights_only else self.model.save
            if str(save.__module__).startswith("nbkeras."):  # not a method of the user's, which may need nothing
                _files.check_target(self.filepath, self.save_weights_only)

    def on_train_end(self, logs=None) -> None:
        self._writer.wait()
        self._check()

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._check()
        self._epoch = epoch
        self._last_batch = -1

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._check()
        if self.save_freq == "epoch":
            return
        self._batches_since_save += batch - self._last_batch
        self._last_batch = batch
        if self._batches_since_save >= self.save_freq:
            self._batches_since_save = 0
            self._save(self._epoch, batch, logs() if callable(logs) else logs or {})

    def on_epoch_end(self, epoch, logs=None) -> None:
        self._check()
        if self.save_freq != "epoch":
            return
        self._epochs_since_save += 1
        if self._epochs_since_save >= self.period:
            self._epochs_since_save = 0
            self._save(epoch, None, logs or {})

    def _should_save(self, epoch: int, logs: dict[str, Any], path: str) -> bool:
        if not self.save_best_only:
            self._print_message(epoch, f"saving model to {path}")
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
            self._print_message(epoch, f"{self.monitor} did not improve from {best}")
            return False
        self._print_message(epoch, f"{self.monitor} improved from {best} to {current:.5f}, saving model to {path}")
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
        if not self._should_save(epoch, logs, path):
            return
        if ranks.current() is not None:
            self.model.settle_ranks()
        if not sharding.is_first():
            return
        if os.path.isdir(path):
            raise IsADirectoryError(f"ModelCheckpoint needs the path of a file, but {path!r} is a folder")
        self._writer.wait()
        self._check()
        folder = os.path.dirname(path) or "."
        if folder not in self._folders:  # make it once: if it vanishes later, that is an error
            with archive.disk_errors(path, *archive.parents(folder)):
                os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        with archive.in_memory() as files:
            save(path, overwrite=True)
        self._unsaid = (epoch, f"finished saving model to {path}")
        path = os.path.abspath(path)
        older = [each for each in self._written if each != path]
        self._written = [*older, path][-(self.keep or 1) :]
        old = [] if self.keep is None else [each for each in older if each not in self._written]
        self._writer.start(functools.partial(_write, files, path, older, old))

    def _check(self) -> None:
        """Called by each hook: raise the error of the last write, or print that it is finished."""
        self._writer.check()
        if self._unsaid is not None and not self._writer.is_busy:
            self._print_message(*self._unsaid)
            self._unsaid = None

    def _print_message(self, epoch: int, what: str) -> None:
        if self.verbose > 0:
            print_message(f"\nEpoch {epoch + 1}: {what}")


def _write(files: archive.PreparedFiles, path: str, older: list[str], old: list[str]) -> None:
    """Write files, then remove old ones. older: the paths of earlier files, the newest last."""
    with archive.last_named(lambda: next(filter(os.path.isfile, reversed(older)), None)):
        files.write()
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError):
        archive.remove_leftovers(folder, lambda cut: cut == name[:50])
    for each in old:
        with contextlib.suppress(OSError):
            os.remove(each)
