"""Keras 3's internal module `keras.src.utils.tracking`."""

import functools
from collections.abc import Callable


def no_automatic_dependency_tracking(method: Callable) -> Callable:
    """The method itself. nbkeras finds the layers and variables in attributes when they are needed, and tracks nothing."""

    @functools.wraps(method)
    def call(*args, **kwargs):
        return method(*args, **kwargs)

    return call
