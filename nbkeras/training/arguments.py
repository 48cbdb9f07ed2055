"""Floor 3: checks the arguments of `fit`, `evaluate` and `predict`, and formats their results."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from nbkeras.callbacks.callback_list import CallbackList
from nbkeras.engine import sharding
from nbkeras.engine.annotations import briefly

Array = np.ndarray


def returned(logs: dict[str, Any], return_dict: bool) -> Any:
    """Logs as a method returns them: a dict by name, a list, or a single number."""
    if not isinstance(return_dict, bool | int | np.bool_):
        raise TypeError(f"return_dict must be True or False, received {briefly(return_dict)}")
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


# the minimum of counts that must not be None; 1 for others
_MINIMUM = {"epochs": 0, "initial_epoch": 0, "validation_freq": 1}


def check_counts(**counts: Any) -> None:
    """Raise ValueError for values that cannot be a number of samples, batches or epochs."""
    for name, value in counts.items():
        minimum = _MINIMUM.get(name, 1)
        is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (value is None and name not in _MINIMUM) and not (is_integer and minimum <= value <= sys.maxsize):
            raise ValueError(
                f"{name} must be a {'positive' if minimum else 'non-negative'} integer, received {briefly(value)}"
            )


def check_validation(split: Any, frequency: Any) -> None:
    """Raise ValueError for a fraction outside 0 to 1, and for a frequency that is neither a count nor a list of epochs."""
    number = isinstance(split, int | float | np.number) and not isinstance(split, bool)
    if split is not None and not (number and 0 <= split < 1):
        raise ValueError(f"validation_split must be between 0 and 1, received {briefly(split)}")
    # a list holds the epochs to validate after
    if isinstance(frequency, str) or not hasattr(frequency, "__contains__"):
        check_counts(validation_freq=frequency)


def check_verbose(verbose: Any) -> None:
    """Raise ValueError for an invalid `verbose`."""
    if not isinstance(verbose, int | str) or (verbose != "auto" and (isinstance(verbose, str) or verbose < 0)):
        raise ValueError(f"verbose must be 0, 1, 2 or 'auto', received {briefly(verbose)}")


def check_shuffle(shuffle: Any) -> None:
    """Raise TypeError for an invalid `shuffle`."""
    is_name = isinstance(shuffle, str) and shuffle == "batch"
    if shuffle is not None and not is_name and not isinstance(shuffle, bool | int | np.bool_):
        raise TypeError(f"shuffle must be True, False or 'batch', received {briefly(shuffle)}")


def callback_list(
    model: Any, callbacks: Any, verbose: Any, epochs: int, steps: int | None, history: bool = True
) -> CallbackList:
    """The CallbackList of these callbacks."""
    if isinstance(callbacks, CallbackList):
        return callbacks
    check_verbose(verbose)
    verbose = 1 if verbose == "auto" else verbose
    return CallbackList(
        callbacks,
        add_history=history,
        add_progbar=bool(verbose) and sharding.is_first(),
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )


def logged(value: Any) -> float | Array:
    """A metric's value in the logs: a number, or an array if the metric has several values (one per threshold)."""
    return value.item() if value.size == 1 else np.asarray(value)
