"""Floor 3: converting Keras objects (layers, initializers, functions, structures of them) to configurations and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbkeras import activations, constraints, initializers, regularizers
from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.layer import layers
from nbkeras.engine.registry import Registry, custom_object, custom_object_scope, others, sharing_scope
from nbkeras.losses import loss
from nbkeras.metrics import metric
from nbkeras.optimizers import rules, schedules
from nbkeras.saving import archive, keras_3_config
from nbkeras.saving.serialization import plain, read_plain

_REGISTRIES: tuple[Registry, ...] = (
    *(layers, rules.registry, schedules.registry, loss.registry, metric.registry),
    *(initializers.registry, regularizers.registry, constraints.registry, activations.registry, others),
)


def serialize_keras_object(obj: Any) -> Any:
    """The configuration of an object, for JSON.

    Args:
        obj: A layer, initializer, loss, function or the like; a number, string or array; or a structure of
            these.

    Returns:
        {'module', 'class_name', 'config', 'registered_name'} for an object, {'class_name': 'function',
        'config': name, ...} for a function, and a structure of these for a structure.

    Raises:
        TypeError: for a lambda, and for an object without get_config.

    Example:
        >>> keras.saving.serialize_keras_object(keras.regularizers.L2(0.5))
        {'module': 'keras.regularizers', 'class_name': 'L2', 'config': {'l2': 0.5}, 'registered_name': None}
    """
    if isinstance(obj, dict):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return type(obj)(serialize_keras_object(value) for value in obj)
    if isinstance(obj, bytes):
        return {"class_name": "__bytes__", "config": {"value": obj.decode()}}
    if isinstance(obj, SymbolicTensor):
        history = None if obj.node is None else [obj.node.layer.name, obj.node.number, obj.index]
        config = {"shape": obj.shape, "dtype": obj.dtype.name, "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}
    return plain(obj)


def deserialize_keras_object(
    config: Any,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    module_objects: Mapping[str, Any] | None = None,
    printable_module_name: str = "object",
) -> Any:
    """Make an object, or a structure of objects, from its configuration.

    Args:
        config: A result of `serialize_keras_object` of nbkeras or Keras 3.
        custom_objects: Classes and functions of your own, by name.
        safe_mode: Accepted and ignored. Only registered classes and functions and the custom_objects are used; no code in a
            configuration is run.
        module_objects: Further classes and functions by name, such as `globals()`. A config that is the name of a class there
            means an object of it.
        printable_module_name: Accepted and ignored.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> config = keras.saving.serialize_keras_object({"rate": 0.1, "penalty": keras.regularizers.L2(0.5)})
        >>> made = keras.saving.deserialize_keras_object(config)
        >>> type(made["penalty"]).__name__, made["rate"]
        ('L2', 0.1)
    """
    if isinstance(config, str):
        with custom_object_scope(custom_objects):
            found = custom_object(config)
        if found is not None or config not in (module_objects or {}):
            return config if found is None else found
        found = module_objects[config]  # type: ignore[index]
        return found() if isinstance(found, type) else found
    scope = custom_object_scope({**(module_objects or {}), **(custom_objects or {})})
    with scope, archive.readable("the configuration"), sharing_scope(), keras_3_config.limits(None):
        return _made(keras_3_config.translated(config, bool(isinstance(config, dict) and config.get("nbkeras"))))


def _made(config: Any) -> Any:
    if isinstance(config, list | tuple):
        return type(config)(_made(item) for item in config)
    if not isinstance(config, dict):
        return config
    name, inner = config.get("class_name"), config.get("config")  # type: Any, Any
    if not isinstance(name, str) or "config" not in config:
        return {key: _made(item) for key, item in config.items()}
    if name in ("__slice__", "__ellipsis__"):
        return read_plain(config)
    if name == "__keras_tensor__":
        return SymbolicTensor(inner["shape"], inner["dtype"])
    wanted = inner if name == "function" else name
    named = [registry for registry in _REGISTRIES if wanted in registry.names()]
    of_module = [registry for registry in named if registry.module == config.get("module")]
    return (of_module or named or [layers])[0].deserialize(config)
