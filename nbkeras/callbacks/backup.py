"""BackupAndRestore, a callback that saves the state of training so that an interrupted `fit` can resume."""

import os
from collections.abc import Callable
from typing import Any

from nbkeras.callbacks.callback_list import Callback
from nbkeras.callbacks.checkpoints import SaveFrequency
from nbkeras.callbacks.interruptions import Interruptions
from nbkeras.engine import option, sharding
from nbkeras.saving.checkpoints import CheckpointFolder


class BackupAndRestore(Callback):
    """Save the state of training in a folder. After a crash, start the same script again: it resumes from that state.

    Training resumes in the middle of an epoch. With the same seed, data and number of threads it ends with the same weights,
    optimizer, metrics, history and callbacks, bit for bit, as without the crash. If your own Sequence, generator or callback has
    state, it must save it: see docs/resuming.md.

    The state is copied at the end of a batch or of an epoch, after all other callbacks. A thread writes it while training
    continues. A save that is due before the last one is written waits for the first batch after that: a small model trains
    several epochs while one state is written. If training ends with an error meanwhile, the state of the last epoch's end is
    written then. The state at the end of training is always saved, unless delete_checkpoint deletes the states. Each write
    replaces the whole file; restoring skips damaged files.

    In the main thread, the first SIGINT (Ctrl-C) or SIGTERM during `fit` lets the step end and saves the state. Then `fit` calls
    your program's handler of the signal, if there is one; else it raises KeyboardInterrupt, or SystemExit(143) for SIGTERM. A
    second signal stops at once.

    Args:
        backup_dir: The folder of the state; no other training may use it.
        save_freq: 'epoch', or the number of batches between two saves.
        double_checkpoint: Whether to keep two states: the same as keep=2.
        delete_checkpoint: Whether to delete the states at the end of training.
        keep: The number of newest states that stay in the folder.

    Raises:
        ValueError: for an empty backup_dir and an invalid save_freq or keep; at the start of training for the state of another
            model, optimizer or training.
        OSError: if a state cannot be written; at the start of training if no state can be read.
        RuntimeError: at the start of training while another training uses the folder.

    Example:
        >>> def train(epochs):
        ...     keras.utils.set_random_seed(1)
        ...     model = keras.Sequential([layers.Dense(1)])
        ...     model.compile("sgd", "mse")
        ...     backup = keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False)
        ...     return model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=epochs, verbose=0, callbacks=[backup])
        >>> train(2).epoch  # as if it was interrupted here
        [0, 1]
        >>> train(5).epoch
        [0, 1, 2, 3, 4]
    """

    lazy_logs = True
    _is_last = True
    _stops = True  # the user's signal handler may stop training
    _state_names = ("_batches",)

    def __init__(
        self,
        backup_dir: str | os.PathLike,
        save_freq: SaveFrequency = "epoch",
        double_checkpoint: option.Flag = False,
        delete_checkpoint: option.Flag = True,
        keep: option.Size = 1,
    ):
        if not backup_dir:
            raise ValueError("BackupAndRestore needs a folder, received an empty backup_dir")
        super().__init__()
        option.keep(self, locals())
        self.backup_dir = os.fspath(backup_dir)
        self._folder = CheckpointFolder(self.backup_dir, max(self.keep, 2) if self.double_checkpoint else self.keep)
        self._number = 0  # the number of the next state
        self._batches = 0  # batches since the last save
        self._is_due = False
        self._waiting: Any = None  # the state of the last epoch's end, if it could not be written at once
        self._next_epoch = 0
        self._interruptions = Interruptions()

    def save_now(self) -> None:
        """Save the state at the end of a batch (of training or validation) or of an epoch; wait until it is written.

        Raises:
            OSError: if the state cannot be written.
        """
        self._folder.wait()
        self._save()
        self._folder.wait()

    def _save(self, state: Any = None) -> None:
        self._batches, self._is_due, self._waiting = 0, False, None
        state = state or self.model._training_state().capture(self._next_epoch)
        if sharding.is_first():
            self._folder.save(self._number, *state)
        self._number += 1

    def _save_if_due(self) -> None:
        self._folder.check()
        self._interruptions.tell_ranks()
        if self._interruptions.received is not None:
            self._interruptions.stop(self.save_now)
        elif self._is_due and not sharding.agreed(self._folder.is_busy):
            self._save()

    def on_train_begin(self, logs=None) -> None:
        self._batches, self._is_due, self._waiting = 0, False, None
        if self.model._training is not None:  # within `fit`
            self.model._training.closing.enter_context(self._folder)
            self.model._training.closing.push(self._save_after_error)
        if not sharding.agreed(sharding.is_first() and self._folder.take()):
            raise RuntimeError(
                f"another training is using the folder {self.backup_dir!r}, and each would overwrite the states of the other: "
                "choose another backup_dir, or wait until the other training ends"
            )
        found = self._restore(self.model._training_state().restore)
        self._number = 0 if found is None else found + 1
        if self.model._training is not None:
            self.model._training.closing.enter_context(self._interruptions)

    def _save_after_error(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is not None and self._waiting is not None:
            self._save(self._waiting)

    def _restore(self, restore: Callable[[dict, dict], None]) -> int | None:
        """Call restore with the newest state of rank 0, on all ranks; returns the state's number on rank 0."""
        if not sharding.is_first():
            state = sharding.agreed(None)
            if state is not None:
                restore(*state)
            return None
        found = self._folder.newest(lambda arrays, notes: restore(*sharding.agreed((arrays, notes))))
        if found is None:
            sharding.agreed(None)
        return found

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._next_epoch = epoch

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._batches += 1
        self._is_due |= self.save_freq != "epoch" and self._batches >= self.save_freq
        self._save_if_due()

    def on_test_batch_end(self, batch, logs=None) -> None:
        self._save_if_due()

    def on_epoch_end(self, epoch, logs=None) -> None:
        self._next_epoch = epoch + 1
        self._is_due |= self.save_freq == "epoch"
        is_end = epoch + 1 == (self.params or {}).get("epochs") or sharding.anywhere(self.model.stop_training)
        if is_end and not self.delete_checkpoint:
            self.save_now()
        else:
            self._save_if_due()
            if self._is_due:  # not later: the next epoch begins with random numbers for its order
                self._waiting = self.model._training_state().capture(self._next_epoch)

    def on_train_end(self, logs=None) -> None:
        self._folder.wait()
        if self.delete_checkpoint and sharding.is_first():
            self._folder.delete()
        self._folder.release()
