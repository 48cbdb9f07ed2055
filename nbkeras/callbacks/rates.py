"""Callbacks that set the learning rate."""

import inspect
from collections.abc import Callable

import numpy as np

from nbkeras.callbacks.callback_list import Callback
from nbkeras.progress import print_message

LEARNING_RATE = "learning_rate"  # its name in the logs and in optimizers


def learning_rate_of(model) -> float:
    """The learning rate that a model's optimizer has now."""
    if not hasattr(model.optimizer, LEARNING_RATE):
        raise ValueError(f"the optimizer {model.optimizer!r} has no {LEARNING_RATE} to read or set")
    return float(getattr(model.optimizer, LEARNING_RATE))


def set_learning_rate(model, value: float) -> None:
    """Set the learning rate of a model's optimizer."""
    setattr(model.optimizer, LEARNING_RATE, value)


class LearningRateScheduler(Callback):
    """Set the learning rate at each epoch's start to the float `schedule(epoch, lr)`, or `schedule(epoch)`."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        self.schedule = schedule
        self.verbose = verbose
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False
        except ValueError:  # some built-in functions have no signature to look at
            self._takes_rate = True

    def on_epoch_begin(self, epoch, logs=None):
        rate = learning_rate_of(self.model)
        new = self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
        if isinstance(new, bool | int | np.integer) or not hasattr(new, "__float__"):
            raise ValueError(f"the schedule must return a float, received {new!r} of type {type(new).__name__}")
        new = float(new)
        set_learning_rate(self.model, new)
        if self.verbose > 0:
            print_message(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {new}.")

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs[LEARNING_RATE] = learning_rate_of(self.model)
