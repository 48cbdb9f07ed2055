"""The options of weights: an initializer, a regularizer and a constraint for each, such as `kernel_initializer`."""

from __future__ import annotations

from typing import Any

from nbkeras import constraints, initializers, regularizers
from nbkeras.building.layer import Layer

_KINDS = {"initializer": initializers, "regularizer": regularizers, "constraint": constraints}


def keep_options(layer: Layer, arguments: dict[str, Any]) -> None:
    """Set an attribute for each option of a weight among the arguments of an `__init__`, which are its `locals()`."""
    for name, value in arguments.items():
        kind = _KINDS.get(name.rpartition("_")[2])
        if kind is not None and name != "activity_regularizer":  # that one belongs to the layer, which keeps it
            setattr(layer, name, kind.get(value))


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
