"""Keras 3's modules `keras.utils.legacy` and `keras.legacy.saving`: objects as configurations {'class_name', 'config'}."""

import inspect
from collections.abc import Mapping
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import custom_object_scope, get_registered_name, get_registered_object, nearest

_WITHIN = "__passive_serialization__"  # Keras's mark of an object in another object's configuration


def serialize_keras_object(instance: Any) -> Any:
    """An object as {'class_name', 'config'}, a class or function as its name, None as None."""
    if instance is None:
        return None
    if hasattr(instance, "get_config") and not isinstance(instance, type):
        config = {name: _serialized(value) for name, value in instance.get_config().items()}
        return {"class_name": get_registered_name(type(instance)), "config": config}
    if hasattr(instance, "__name__"):
        return get_registered_name(instance)
    raise ValueError(f"cannot serialize {briefly(instance)}: it has no get_config method and no name")


def _serialized(value: Any) -> Any:
    """A value in a configuration: objects and functions are serialized, all else stays."""
    if not (hasattr(value, "get_config") or hasattr(value, "__name__")):
        return value
    written = serialize_keras_object(value)
    return {**written, _WITHIN: True} if isinstance(written, dict) else written


def deserialize_keras_object(
    identifier: Any,
    module_objects: Mapping[str, Any] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """The object for a result of `serialize_keras_object`; a class named alone is called without arguments.

    Only classes and functions in module_objects and custom_objects, and registered ones, are found.
    """
    if identifier is None or inspect.isfunction(identifier):
        return identifier
    is_config = isinstance(identifier, Mapping) and "class_name" in identifier and "config" in identifier
    name = identifier["class_name"] if is_config else identifier
    if not isinstance(name, str):
        raise ValueError(
            f"the configuration of a keras {printable_module_name} must be a name or a dict with 'class_name' and 'config', "
            f"received {briefly(identifier)}"
        )
    found = get_registered_object(name, custom_objects, module_objects)
    if found is None:
        hint = nearest(name, {**(module_objects or {}), **(custom_objects or {})})
        raise ValueError(
            f"unknown {printable_module_name}: {briefly(name)}.{hint} Give the class or function in custom_objects"
        )
    if not is_config:
        return found() if isinstance(found, type) else found
    config = {
        key: deserialize_keras_object(value, module_objects, custom_objects, "config_item")
        if isinstance(value, Mapping) and _WITHIN in value
        else value
        for key, value in identifier["config"].items()
    }
    if not hasattr(found, "from_config"):
        return found(**config)
    with custom_object_scope(custom_objects):
        return found.from_config(config)
