"""Callbacks that set the learning rate."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.callbacks.callback_list import Callback
from nbkeras.engine import compatibility, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import numbered
from nbkeras.engine.progress import print_message


def optimizers_of(model) -> dict[str, Any]:
    """The model's optimizers by the name of their learning rate in the logs; a MultiOptimizer has several."""
    optimizers, rate = getattr(model.optimizer, "optimizers", None), compatibility.current.learning_rate_name
    if optimizers is not None:
        found: dict[str, Any] = {}
        for optimizer in optimizers:
            found[numbered(f"{rate}_{optimizer.name}", found)] = optimizer
        return found
    if not hasattr(model.optimizer, rate):
        raise ValueError(f"the optimizer {briefly(model.optimizer)} has no {rate} to read or set")
    return {rate: model.optimizer}


def learning_rate_of(optimizer) -> float:
    """The optimizer's current learning rate."""
    return float(getattr(optimizer, compatibility.current.learning_rate_name))


def set_learning_rate(optimizer, value: float) -> None:
    """Set an optimizer's learning rate."""
    setattr(optimizer, compatibility.current.learning_rate_name, value)


def print_rate(event: str, name: str, optimizer, rate: float) -> None:
    """Print that an optimizer's learning rate is set to a number. name: the rate's name in the logs."""
    whose = "learning rate" if name == compatibility.current.learning_rate_name else f"{optimizer.name} learning rate"
    print_message(f"\n{event} {whose} to {rate}.")


def log_learning_rates(model, logs: dict[str, Any]) -> None:
    """Add the learning rates to the logs."""
    logs.update({name: learning_rate_of(optimizer) for name, optimizer in optimizers_of(model).items()})


class LearningRateScheduler(Callback):
    """Set the learning rate at each epoch's start.

    Args:
        schedule: A function of (epoch, learning rate), or of (epoch), that returns a float. Epochs count from 0.
        verbose: 1 for a message in each epoch, 0 for none.

    Raises:
        ValueError: at an epoch's start, if the function does not return a float.

    Example:
        >>> halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.5), "mse")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=3, verbose=0, callbacks=[halve])
        >>> history.history["learning_rate"]
        [0.5, 0.25, 0.125]
    """

    def __init__(self, schedule: Callable[..., float], verbose: option.Verbosity = 0):
        if not callable(schedule):
            raise TypeError(
                f"LearningRateScheduler: schedule must be a function of (epoch, learning rate), received {briefly(schedule)}"
            )
        super().__init__()
        self.schedule = schedule
        option.keep(self, locals())
        try:
            inspect.signature(schedule).bind(0, 0.0)
            self._takes_rate = True
        except TypeError:
            self._takes_rate = False
        except ValueError:  # some built-in functions have no signature
            self._takes_rate = True

    def on_epoch_begin(self, epoch, logs=None) -> None:
        for name, optimizer in optimizers_of(self.model).items():
            rate = learning_rate_of(optimizer)
            new = self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch)
            if isinstance(new, bool | int | np.integer) or not hasattr(new, "__float__"):
                raise ValueError(
                    f"the schedule must return a float, received {briefly(new)} of type {type(new).__name__}"
                )
            new = float(new)
            set_learning_rate(optimizer, new)
            if self.verbose > 0:
                print_rate(f"Epoch {epoch + 1}: LearningRateScheduler setting", name, optimizer, new)

    def on_epoch_end(self, epoch, logs=None) -> None:
        if logs is not None:
            log_learning_rates(self.model, logs)
