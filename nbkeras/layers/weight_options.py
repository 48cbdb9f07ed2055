"""The options of weights: an initializer, a regularizer and a constraint for each, such as `kernel_initializer`."""

from __future__ import annotations

from typing import Any

from nbkeras import constraints, initializers, regularizers
from nbkeras.building.layer import Layer

_KINDS = {"initializer": initializers, "regularizer": regularizers, "constraint": constraints}


def options_among(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options of weights among the arguments of an `__init__`, which are its `locals()`."""
    return {
        name: value
        for name, value in arguments.items()
        if name.rpartition("_")[2] in _KINDS and name != "activity_regularizer"
    }


def keep_options(layer: Layer, options: dict[str, Any]) -> None:
    """Set the attributes of these names: initializers, regularizers and constraints from what the user gave."""
    for name, value in options.items():
        setattr(layer, name, _KINDS[name.rpartition("_")[2]].get(value))


def add_option_weight(layer: Layer, shape, what: str, name: str | None = None, initializer=None, trainable=True):
    """A weight of a layer with its options `what`_initializer, `what`_regularizer and `what`_constraint, where it has them."""
    return layer.add_weight(
        shape,
        initializer or getattr(layer, f"{what}_initializer"),
        trainable=trainable,
        regularizer=getattr(layer, f"{what}_regularizer", None),
        constraint=getattr(layer, f"{what}_constraint", None),
        name=name or what,
    )
