"""The older spellings that nbkeras always accepts: tables that are applied to the core's classes from outside.

A class gets its spellings when it is registered, so that classes imported later have them too. Only the constructors of
nbkeras's classes translate, since a user's subclass may have an argument with an older name.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from nbkeras import layers, losses
from nbkeras.building.graph import SymbolicTensor
from nbkeras.engine import registry, user_errors
from nbkeras.engine.tensor import Tensor

# Class -> old argument -> new argument, for the class and its subclasses in nbkeras.
ARGUMENTS: dict[str, dict[str, str]] = {
    "Optimizer": {"lr": "learning_rate"},
    "LeakyReLU": {"alpha": "negative_slope"},
}

# Class -> old attribute or method -> new one.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "Optimizer": {"lr": "learning_rate"},
    "LeakyReLU": {"alpha": "negative_slope"},
    "Metric": {"reset_states": "reset_state"},
}

_done: set[type] = set()


def renaming(function: Callable, names: Mapping[str, str]) -> Callable:
    """The function, made to accept older argument names too. It raises TypeError if both names are given."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for old in names.keys() & kwargs.keys():
            if names[old] in kwargs:
                raise TypeError(f"{old!r} is the older spelling of {names[old]!r}: give one of them")
            kwargs[names[old]] = kwargs.pop(old)
        return function(*args, **kwargs)

    call.older_names = tuple(names)  # type: ignore[attr-defined]
    call.stands_for = function  # type: ignore[attr-defined]
    return call


def _attribute(name: str, found: Any) -> Any:
    """A method or property for the older name of a method or attribute."""
    text = f"The older name of `{name}`."
    if not callable(found):
        return property(lambda self: getattr(self, name), lambda self, value: setattr(self, name, value), doc=text)

    @functools.wraps(found)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, name)(*args, **kwargs)

    call.__doc__ = text
    return call


def spell(item: Any) -> None:
    """Add the older spellings to a class of nbkeras and its base classes."""
    for cls in item.__mro__ if isinstance(item, type) else ():
        if cls in _done or not cls.__module__.startswith("nbkeras."):
            continue
        _done.add(cls)
        names = {old: new for base in cls.__mro__ for old, new in ARGUMENTS.get(base.__name__, {}).items()}
        if names and "__init__" in vars(cls):
            cls.__init__ = user_errors.entry(renaming(vars(cls)["__init__"], names))  # type: ignore[misc]
        for old, new in ATTRIBUTES.get(cls.__name__, {}).items():
            setattr(cls, old, _attribute(new, getattr(cls, new, None)))


registry.watch(spell)
layers.serialize = renaming(layers.serialize, {"layer": "item"})
losses.deserialize = renaming(losses.deserialize, {"name": "config"})
for tensor in (Tensor, SymbolicTensor):
    tensor._keras_mask = _attribute("mask", None)  # type: ignore[union-attr]  # the name in Keras's guides
