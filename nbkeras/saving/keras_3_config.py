"""Floor 3: configurations of Keras 3's files: writing them, and converting them to nbkeras's form."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras.building.layer import layers
from nbkeras.engine import dtype_policy, load_budget, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import custom_object, sharing_scope
from nbkeras.engine.switches import is_unsafe_deserialization_enabled
from nbkeras.saving.serialization import numbers, plain

_ROOM, _SLACK = 8, 32 << 20  # a model may use _ROOM times the bytes of its file, plus _SLACK bytes


@contextlib.contextmanager
def limits(size: int | None, safe_mode: bool = True) -> Iterator[None]:
    """Limit the size of models built in the block by their file's size in bytes. None limits only the number of calls."""
    if not safe_mode or is_unsafe_deserialization_enabled():
        yield
        return
    with (
        load_budget.limited(None if size is None else _ROOM * size + _SLACK),
        tensor.listening(lambda *_: load_budget.step()),
    ):
        yield


# -------------------- writing --------------------


def model_config(model: Any, compiled: Any = None) -> dict[str, Any]:
    """A model's configuration with its build and compile configurations, as Keras 3 writes it."""
    with sharing_scope():
        config = {**layers.serialize(model), "nbkeras": True}  # Keras ignores the entry; see `translated`
    config["build_config"] = model.get_build_config()
    config["compile_config"] = compiled
    return config


def model_to_json(model: Any, **options) -> str:
    """A model's architecture as JSON, in Keras 3's form, without weights.

    Args:
        model: The model.
        **options: Arguments of `json.dumps`, such as indent=2.

    Returns:
        A string; `model_from_json` of nbkeras and Keras 3 reads it.

    Example:
        >>> text = keras.saving.model_to_json(keras.Sequential([layers.Dense(2, input_shape=(3,))]))
        >>> text[:25]
        '{"module": "keras", "clas'
    """
    return json.dumps(model_config(model), default=plain, **options)


# -------------------- reading --------------------


def model_from_config(config: Mapping[str, Any]) -> Any:
    """A model with new weights from a configuration of Keras 3 (or from `model_config`)."""
    config = translated(config, bool(config.get("nbkeras")))
    _mark_shared(config, {})
    with sharing_scope():
        model = layers.deserialize(config)
        build = config.get("build_config")
        if build and not model.built:
            model.build_from_config(build)
    return model


def _mark_shared(value: Any, known: dict[Any, list[dict]]) -> int:
    """Give all occurrences of a layer shared by models the same id, since Keras leaves it out at the first occurrence.

    known: the layers found before, by class, name and configuration. Returns a hash of the value without its ids.
    """
    if isinstance(value, list | tuple):
        return hash(tuple(_mark_shared(item, known) for item in value))
    if not isinstance(value, dict):
        return hash(value.tobytes() if isinstance(value, np.ndarray) else value)
    hashes = {key: _mark_shared(item, known) for key, item in value.items() if key != "shared_object_id"}
    config = value.get("config")
    if isinstance(config, dict) and isinstance(config.get("name"), str):
        same = known.setdefault((value.get("class_name"), config["name"], hashes["config"]), [])
        if "shared_object_id" in value:
            for other in same:
                other.setdefault("shared_object_id", value["shared_object_id"])
            same.clear()
        same.append(value)
    return hash(frozenset(hashes.items()))


_UNREADABLE = {
    "__lambda__": "a lambda with code to run on this machine; nbkeras runs no code of files, not even with safe_mode=False",
    "__typespec__": "a TensorFlow type",
}


def translated(value: Any, made_here: bool) -> Any:
    """Convert a configuration of Keras 3 to nbkeras's form: dtypes by name, arrays as arrays, a Lambda's functions by name.

    made_here: nbkeras wrote the configuration. Keras writes a `training` into each call, and its models ignore it.
    """
    if isinstance(value, list):
        return [translated(item, made_here) for item in value]
    if not isinstance(value, dict):
        return value
    kind, inner = value.get("class_name"), value.get("config")
    if kind in _UNREADABLE:
        raise ValueError(f"the configuration holds {_UNREADABLE[kind]}")
    if kind == "Lambda" and isinstance(inner, dict):
        value = {**value, "config": {**inner, **_lambda_functions(inner)}}
    if kind == "__bytes__" and isinstance(inner, dict):
        return inner["value"].encode()
    if kind in ("__numpy__", "__tensor__") and isinstance(inner, dict):
        return numbers(inner)
    if isinstance(kind, str) and kind.endswith("DTypePolicy") and isinstance(inner, dict):
        return dtype_policy.get(value) if "mode" in inner else inner.get("name")
    found = {key: translated(item, made_here) for key, item in value.items() if key != "compile_config"}
    if "inbound_nodes" in found and not made_here:
        for node in found["inbound_nodes"]:
            node["kwargs"].pop("training", None)
    return found


def _lambda_functions(config: Mapping[str, Any]) -> dict[str, Any]:
    """A Lambda layer's function and mask by registered names. The shape function is dropped; the shape is inferred again."""
    name = config.get("name")
    found: dict[str, Any] = {"function": _known_function(config.get("function"), name, name)}
    if _is_function(config.get("mask")):
        found["mask"] = _known_function(config["mask"], f"{name}_mask", name)
    if _is_function(config.get("output_shape")):
        found["output_shape"] = None
    return found


def _is_function(value: Any) -> bool:
    """Whether a value is the name or the code of a function, in Keras 3's or Keras 2's form."""
    if isinstance(value, dict):
        return value.get("class_name") in ("function", "__lambda__")
    return isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, str) for item in value))


def _known_function(value: Any, otherwise: Any, layer: Any) -> str:
    """The registered name of a layer's function: its name, else `otherwise`."""
    own = value.get("config") if isinstance(value, dict) and value.get("class_name") == "function" else value
    for name in (own, otherwise):
        if isinstance(name, str) and custom_object(name) is not None:
            return name
    raise ValueError(
        f"the Lambda layer {briefly(layer)} holds code, or names an unknown function: nbkeras runs no code of "
        f"files, not even with safe_mode=False. Pass the function: custom_objects={{{briefly(otherwise)}: function}}"
    )
