"""Floor 3: Keras 3's files: `.keras`, a zip of config.json, metadata.json and model.weights.h5; and `.weights.h5` alone."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras.building.layer import layers
from nbkeras.engine import load_budget, tensor
from nbkeras.engine.registry import custom_object, sharing_scope
from nbkeras.engine.user_errors import warn
from nbkeras.saving import archive as archives
from nbkeras.saving import compilation, hdf5, keras_2_config, keras_2_weights, state
from nbkeras.saving.serialization import numbers, plain

WEIGHTS = "model.weights.h5"
_KERAS_VERSION = "3.15.1"  # whose form is written
_ROOM, _SLACK = 8, 32 << 20  # a model may take _ROOM times the bytes of its file and _SLACK more


@contextlib.contextmanager
def limits(size: int | None, safe_mode: bool = True) -> Iterator[None]:
    """Hold what is built in the block to what a file of so many bytes may describe (None: to a number of calls only)."""
    if not safe_mode:
        yield
        return
    with (
        load_budget.limited(None if size is None else _ROOM * size + _SLACK),
        tensor.listening(lambda *_: load_budget.step()),
    ):
        yield


# -------------------- writing --------------------


def model_config(model: Any, compiled: Any = None) -> dict[str, Any]:
    """A model's configuration, and what it was built and compiled with, as Keras 3 writes it."""
    with sharing_scope():
        config = {**layers.serialize(model), "nbkeras": True}  # Keras takes no notice; see `translated`
    config["build_config"] = model.get_build_config()
    config["compile_config"] = compiled
    return config


def parts(model: Any, include_optimizer: bool = True) -> dict[str, Any]:
    """The files of a `.keras` archive: name -> bytes."""
    compiled = compilation.compile_config(model) if include_optimizer and model.compiled else None
    config = json.dumps(model_config(model, compiled), default=plain)
    optimizer = model.optimizer if compiled is not None else None
    now = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    return {
        "metadata.json": json.dumps({"keras_version": _KERAS_VERSION, "date_saved": now}).encode(),
        "config.json": config.encode(),
        WEIGHTS: hdf5.to_bytes(lambda group: state.write(group, model, optimizer)),
    }


def write_model(model: Any, file: Any, include_optimizer: bool = True) -> None:
    """A `.keras` archive into a binary file."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts(model, include_optimizer).items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(content)


# -------------------- reading --------------------


def read_model(archive: zipfile.ZipFile, metadata: Mapping[str, Any], compile: bool, safe_mode: bool) -> Any:
    """A model from a `.keras` archive: weights, and unless compile=False its compilation and optimizer state too."""
    if WEIGHTS not in archive.namelist():
        raise ValueError(f"this is no model file that nbkeras reads: it has no {WEIGHTS}")
    config, old = archives.read_json(archive, "config.json"), _is_old(metadata)
    model = _made(config, old, archive.getinfo(WEIGHTS).file_size, compile, safe_mode)
    with opened_weights(archive, model) as file:
        _restore(file, old, model)
        _read_vocabularies(archive, file, model)
    return model


def _read_vocabularies(archive: zipfile.ZipFile, file: Any, model: Any) -> None:
    """What Keras's lookup layers learned lies beside the weights, a term a line."""
    members = set(archive.namelist())
    for path, layer in state.walk(model, file):
        name = f"assets/{path}/vocabulary.txt"
        if hasattr(layer, "read_vocabulary") and name in members:
            text = archives.read_member(archive, name, archives.JSON_LIMIT)
            archives.check_count(text.count(b"\n"), name)
            layer.read_vocabulary(text.decode("utf-8").split("\n"))


def read_folder(path: str, compile: bool, safe_mode: bool) -> Any:
    """A model from the files of an archive in a folder."""
    texts = []
    for name in ("config.json", "metadata.json"):
        with open(os.path.join(path, name), "rb") as text:
            texts.append(archives.parse_json(text.read(archives.JSON_LIMIT + 1), name))
    weights, old = os.path.join(path, WEIGHTS), _is_old(texts[1])
    model = _made(texts[0], old, os.path.getsize(weights), compile, safe_mode)
    with hdf5.opened(weights) as file:
        _restore(file, old, model)
    return model


def _is_old(metadata: Mapping[str, Any]) -> bool:
    """Whether tf_keras wrote the archive: with Keras 3's paths, but configurations of Keras 2."""
    return str(metadata.get("keras_version")).startswith("2.")


def _made(config: dict[str, Any], old: bool, size: int, compile: bool, safe_mode: bool) -> Any:
    """The model of a configuration, compiled as it says; `size` bytes are stored for its weights."""
    if old:
        config = keras_2_config.translated(config)
    with limits(size, safe_mode):
        with load_budget.unfilled():
            model = model_from_config(config)
        if compile and config.get("compile_config"):
            with sharing_scope():
                compiled = translated(config["compile_config"], made_here=True)
                model.compile(**compilation.read_compile_config(compiled))
    return model


def _restore(file: Any, old: bool, model: Any) -> None:
    state.read(file, model)
    group = hdf5.subgroup(file, "optimizer/vars") if model.compiled else None
    if old and group is not None:
        names = [str(number) for number in range(len(group))]
        keras_2_weights.read_optimizer(group, names, model.optimizer, model.trainable_weights, new=True)
    elif group is not None:
        state.read_optimizer(group, model.optimizer, model.trainable_weights)


def opened_weights(archive: zipfile.ZipFile, model: Any) -> Any:
    """The archive's HDF5 member, opened; one that is compressed may be as large as the model's arrays make it."""
    arrays = sum(v.data.nbytes for v in (*model.weights, *model._states_variables))
    count = len(model.weights) + len(model._all_layers())
    return hdf5.opened(archives.open_member(archive, WEIGHTS, 16 * arrays + 8192 * count + (1 << 20)))


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
    """Give a layer that several models share one id wherever it stands; Keras leaves it out at the first place.

    known: what was met, by class, name and configuration. Returns a hash of the value without its ids.
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
            for each in same:
                each.setdefault("shared_object_id", value["shared_object_id"])
            same.clear()
        same.append(value)
    return hash(frozenset(hashes.items()))


_UNREADABLE = {
    "__lambda__": "a lambda, whose code would run on this machine; nbkeras runs no code of files, with safe_mode=False either",
    "__bytes__": "bytes",
    "__typespec__": "a TensorFlow type",
}


def translated(value: Any, made_here: bool) -> Any:
    """A configuration of Keras 3 in nbkeras's form: dtypes by name, arrays as arrays, a Lambda's functions by name.

    made_here: nbkeras wrote it. Keras writes a `training` into each call, which its models do not heed.
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
    if kind in ("__numpy__", "__tensor__") and isinstance(inner, dict):
        return numbers(inner)
    if isinstance(kind, str) and kind.endswith("DTypePolicy") and isinstance(inner, dict):
        return inner.get("name")
    found = {key: translated(item, made_here) for key, item in value.items() if key != "compile_config"}
    if isinstance(found.get("dtype"), str) and found["dtype"] in ("mixed_float16", "mixed_bfloat16"):
        warn(f"the file's layers compute in {found['dtype']}; here they compute in float32")
        found["dtype"] = "float32"
    if "inbound_nodes" in found and not made_here:
        for node in found["inbound_nodes"]:
            node["kwargs"].pop("training", None)
    return found


def _lambda_functions(config: Mapping[str, Any]) -> dict[str, Any]:
    """A Lambda layer's function and mask by names that are known here; no function for the shape, which is found anew."""
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
    """The name under which a function of a layer is known: its own, or the other one."""
    own = value.get("config") if isinstance(value, dict) and value.get("class_name") == "function" else value
    for name in (own, otherwise):
        if isinstance(name, str) and custom_object(name) is not None:
            return name
    raise ValueError(
        f"the Lambda layer {layer!r} holds code, or names a function that is not known: nbkeras runs no code of "
        f"files, with safe_mode=False either. Pass the function: custom_objects={{{otherwise!r}: function}}"
    )
