"""Keras 2's `keras.legacy.interfaces`: decorators that translated Keras 1's arguments, which are not offered."""

from collections.abc import Callable


def __getattr__(name: str) -> Callable:
    """Any `legacy_..._support`: a decorator that returns the function unchanged."""
    if name.startswith("legacy_") and name.endswith("_support"):
        return lambda function: function
    raise AttributeError(f"keras.legacy.interfaces has no {name!r}")
