"""Small functions of Keras 2's `keras.utils.generic_utils` that scripts and users' layers use."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nbkeras import saving
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import custom_object, custom_object_scope, nearest

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def has_arg(fn: Callable, name: str, accept_all: bool = False) -> bool:
    """Whether a function has a parameter of that name. accept_all: True also for functions with `**kwargs`."""
    parameters = inspect.signature(fn).parameters
    if name in parameters:
        return parameters[name].kind in _BY_NAME
    return accept_all and any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def to_list(x: Any, allow_tuple: bool = False) -> list:
    """A list unchanged, any other value as the only item of a list. allow_tuple: a tuple becomes a list."""
    return x if isinstance(x, list) else list(x) if allow_tuple and isinstance(x, tuple) else [x]


def unpack_singleton(x: Any) -> Any:
    """The item of a list with one item; any other list unchanged."""
    return x[0] if len(x) == 1 else x


def object_list_uid(object_list: Any) -> str:
    """A string that identifies a list of objects."""
    return ", ".join(str(abs(id(each))) for each in to_list(object_list))


def slice_arrays(arrays: Any, start: Any = None, stop: int | None = None) -> Any:
    """The rows start to stop, or the rows in a list of numbers, of an array or of each array in a list; None for None."""
    if isinstance(arrays, list):
        return [None if each is None else slice_arrays(each, start, stop) for each in arrays]
    if not hasattr(arrays, "__getitem__"):
        return [None]
    return arrays[list(start)] if hasattr(start, "__len__") else arrays[start:stop]


def serialize_keras_object(instance: Any) -> Any:
    """{'class_name', 'config'} of an object, the name of a function, None for None."""
    if instance is None:
        return None
    if hasattr(instance, "get_config"):
        return {"class_name": type(instance).__name__, "config": instance.get_config()}
    if hasattr(instance, "__name__"):
        return instance.__name__
    raise ValueError(f"cannot serialize {briefly(instance)}: it has neither get_config nor a name")


def deserialize_keras_object(
    identifier: Any,
    module_objects: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """The object of a configuration, or the function or class of a name in custom_objects or module_objects."""
    if identifier is None:
        return None
    name = identifier.get("class_name") if isinstance(identifier, dict) else identifier
    if not isinstance(name, str):
        raise ValueError(f"a configuration must be a name or a dict with 'class_name', received {briefly(identifier)}")
    with custom_object_scope(custom_objects):
        found = custom_object(name) or (module_objects or {}).get(name)
        if found is None:
            raise ValueError(f"unknown {printable_module_name}: {briefly(name)}.{nearest(name, module_objects or {})}")
        if isinstance(identifier, str):
            return found
        if hasattr(found, "from_config"):
            return saving.deserialize_keras_object(identifier, {name: found, **(custom_objects or {})})
        return found(**identifier.get("config", {}))
