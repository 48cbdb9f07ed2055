"""The options of weights: an initializer, a regularizer and a constraint for each, such as `kernel_initializer`."""

from __future__ import annotations

from nbkeras.building.layer import Layer


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
