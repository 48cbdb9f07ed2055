"""Floor 1: a configuration that is read from the signature of `__init__`."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nbkeras.engine.registry import of_kind, registry_of


class Configured:
    """An object that its configuration makes again: `get_config` returns the arguments of `__init__`."""

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this object again."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """An object from what `get_config` returned."""
        return cls(**config)


_KINDS = {each: each for each in ("activation", "constraint", "initializer", "layer", "regularizer")} | {
    "cell": "layer"
}


def config_from(init: Callable, leave_out: str = "", **attributes: str) -> Callable[[Any], dict[str, Any]]:
    """A `get_config`: the configuration of the class that is extended, and the options in the signature of `init`.

        def __init__(self, rate, output_shape=None, implementation=1, **kwargs): ...

        get_config = config_from(__init__, output_shape="_output_sizes", leave_out="implementation")

    An option is read from the attribute of its name, or from the one that is named for it here. An option that an extended
    class has too is left to that class. leave_out: options, inherited ones too, that the configuration does not have.
    """
    return _Config(options_of(init), leave_out.split(), attributes)  # type: ignore[return-value]


class _Config:
    """Holds the place of a `get_config` in a class body: `super()` needs the class, which does not exist yet there."""

    def __init__(self, options: list[str], leave_out: list[str], attributes: dict[str, str]):
        self.options, self.leave_out, self.attributes = options, leave_out, attributes

    def __set_name__(self, owner: type, name: str) -> None:
        inits = [vars(cls)["__init__"] for cls in owner.__mro__[1:-1] if "__init__" in vars(cls)]
        passed = {option for init in inits for option in options_of(init)} - self.attributes.keys()
        own = {option: self.attributes.get(option, option) for option in self.options if option not in passed}
        setattr(owner, name, _get_config(owner, own, self.leave_out))


def _get_config(owner: type, options: dict[str, str], leave_out: Iterable[str]) -> Callable[[Any], dict[str, Any]]:
    """The method: options: the attribute of each."""

    def get_config(self):
        config = super(owner, self).get_config()
        for option, attribute in options.items():
            if attribute != option:
                config.pop(option, None)
            if option not in config and option not in leave_out:
                config[option] = written(option, getattr(self, attribute))
        return {option: value for option, value in config.items() if option not in leave_out}

    get_config.__qualname__, get_config.__module__ = f"{owner.__qualname__}.get_config", owner.__module__
    return get_config


def options_of(init: Callable) -> list[str]:
    """The names of the parameters of an `__init__`, without `self`, *args and **kwargs."""
    code = inspect.unwrap(init).__code__  # inspect.signature takes 100 times as long, for each class at import
    return [*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]]


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options among the `locals()` of an `__init__`, which it passes on by name: all but `self` and **kwargs."""
    return {name: value for name, value in arguments.items() if name not in ("self", "kwargs", "__class__")}


def written(option: str, value: Any) -> Any:
    """The value of an option in a configuration: plain values and lists, and the configurations of objects."""
    if isinstance(value, list | tuple):
        return [written(option.removesuffix("s"), each) for each in value]
    kind = _KINDS.get(option.rpartition("_")[2])  # the last word of an option's name says its kind
    if kind is not None:
        return of_kind(kind).serialize(value)
    if hasattr(value, "get_config"):
        return (registry_of(type(value)) or of_kind("layer")).serialize(value)
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value
