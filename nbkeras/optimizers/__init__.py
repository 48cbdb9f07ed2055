"""Optimizers and learning-rate schedules."""

from typing import Any

from nbkeras.optimizers import schedules
from nbkeras.optimizers.optimizer import Optimizer
from nbkeras.optimizers.rules import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Nadam, RMSprop, registry

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Nadam",
    "Optimizer",
    "RMSprop",
    "deserialize",
    "get",
    "schedules",
    "serialize",
]


def get(identifier) -> Optimizer:
    """An optimizer from a name ('rmsprop'), a configuration, a class, or an optimizer (returned as it is)."""
    if isinstance(identifier, str):
        by_lower_case = {name.lower(): name for name in registry.names()}
        identifier = by_lower_case.get(identifier.lower(), identifier)
    found = registry.get(identifier)
    if not isinstance(found, Optimizer):
        raise TypeError(f"optimizer must be a name, a configuration or an Optimizer, received {identifier!r}")
    return found


def serialize(optimizer: Optimizer) -> Any:
    """An optimizer's {'class_name', 'config'}."""
    return registry.serialize(optimizer)


def deserialize(config, custom_objects=None) -> Optimizer:
    """An optimizer from what `serialize` returned."""
    return registry.deserialize(config, custom_objects)
