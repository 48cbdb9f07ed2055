"""Floor 3: model files. A zip of JSON and plain arrays, written beside the target and renamed; nothing in it is code.

A `.keras` file holds metadata.json, config.json, and one .npy member per array: weights, optimizer state, layer states.
A weights file holds the weights only. Arrays are read with pickling off, and only into shapes that the model expects.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras import losses, metrics, optimizers
from nbkeras.layer import Layer, layers
from nbkeras.registry import custom_object_scope, get_custom_objects, register_keras_serializable  # noqa: F401 (Keras's)
from nbkeras.serialization import plain
from nbkeras.tensor import Variable

Array = np.ndarray
FORMAT = "nbkeras-1"
_HEADER = 4096  # more than an .npy header of any array with a shape takes
_CONFIG_LIMIT = 256 * 1024 * 1024


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[Any]:
    """A binary file that gets its name only once it is whole and on disk; on any error the old file stays."""
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"cannot write {path!r}: there is no folder {folder!r}")
    part = f"{path}.{os.getpid()}.{secrets.token_hex(4)}.part"
    try:
        with open(part, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)


# -------------------- arrays in a zip --------------------


def _write_arrays(archive: zipfile.ZipFile, group: str, arrays: list[tuple[str, Array]]) -> list[dict[str, Any]]:
    index = []
    for number, (path, array) in enumerate(arrays):
        member = f"{group}/{number:05d}.npy"
        with archive.open(member, "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)
        index.append({"path": path, "file": member, "shape": list(array.shape), "dtype": array.dtype.name})
    return index


def _read_array(archive: zipfile.ZipFile, member: str, path: str, variable: Variable) -> Array:
    """An array for a variable; its header is checked against the variable before anything is allocated."""
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise ValueError(f"the file has no member {member!r}, which should hold {path!r}: it is damaged") from None
    if info.file_size > variable.data.nbytes * 2 + _HEADER:
        raise ValueError(
            f"member {member!r} is {info.file_size} bytes, too many for {path!r} of shape {variable.shape}"
        )
    with archive.open(info) as file:
        text = io.BytesIO(file.read(info.file_size))
    try:
        version = np.lib.format.read_magic(text)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(text)
    except ValueError as error:
        raise ValueError(f"member {member!r} of the file is no array: {error}") from None
    if shape != variable.shape or dtype.kind not in "fiub":
        raise ValueError(f"{path!r} has shape {variable.shape} in the model, but {shape} ({dtype}) in the file")
    text.seek(0)
    return np.lib.format.read_array(text, allow_pickle=False)


def _restore(archive: zipfile.ZipFile, index: Any, variables: list[Variable], what: str) -> None:
    """Write arrays of the file into variables, all checked before any is written."""
    if not isinstance(index, list) or len(index) != len(variables):
        count = len(index) if isinstance(index, list) else 0
        raise ValueError(f"the file has {count} {what}, the model has {len(variables)}: they are not of the same model")
    arrays = [
        _read_array(archive, str(entry.get("file")), str(entry.get("path")), variable)
        for entry, variable in zip(index, variables, strict=True)
    ]
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _named(variables: list[Variable]) -> list[tuple[str, Array]]:
    return [(v.path, v.numpy()) for v in variables]


def _write_json(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    archive.writestr(name, json.dumps(value, indent=1, default=plain))


def _read_json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"this is no nbkeras file: it has no {name}") from None
    if info.file_size > _CONFIG_LIMIT:
        raise ValueError(f"{name} is {info.file_size} bytes: more than any model's configuration takes")
    value = json.loads(archive.read(info))
    if not isinstance(value, dict):
        raise ValueError(f"{name} must hold a dict, received {type(value).__name__}")
    return value


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[zipfile.ZipFile]:
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path!r}")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError(f"{path!r} is no file that nbkeras wrote (no zip archive): {_hint(path)}") from None
    with archive:
        yield archive


def _hint(path: str) -> str:
    if path.endswith((".h5", ".hdf5")):
        return "HDF5 files of Keras are not read yet; save as .keras"
    return "it may be cut short or of another program"


# -------------------- weights --------------------


def save_weights(model: Layer, filepath: Any, overwrite: bool = True) -> None:
    """Write all weights to a file."""
    _check_overwrite(filepath, overwrite)
    with atomic_file(filepath) as file, zipfile.ZipFile(file, "w") as archive:
        index = _write_arrays(archive, "weights", _named(model.weights))
        _write_json(archive, "metadata.json", {"format": FORMAT, "weights": index})


def load_weights(model: Layer, filepath: Any) -> None:
    """Read the weights of a weights file or a whole model's file, in order; shapes must agree."""
    if not model.weights:
        raise ValueError("the model has no weights yet: give it an input shape or call it before load_weights")
    with _opened(filepath) as archive:
        metadata = _checked_metadata(archive)
        _restore(archive, metadata.get("weights"), model.weights, "weights")


def _checked_metadata(archive: zipfile.ZipFile) -> dict[str, Any]:
    metadata = _read_json(archive, "metadata.json")
    if metadata.get("format") != FORMAT:
        raise ValueError(f"the file's format is {metadata.get('format')!r}; this version reads {FORMAT!r}")
    return metadata


def _check_overwrite(filepath: Any, overwrite: bool) -> None:
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{os.fspath(filepath)!r} exists; pass overwrite=True to replace it")


# -------------------- whole models --------------------


def save_model(model: Any, filepath: Any, overwrite: bool = True, include_optimizer: bool = True) -> None:
    """Write architecture, weights, compile arguments, optimizer state and layers' states to a `.keras` file."""
    path = os.fspath(filepath)
    if path.endswith((".h5", ".hdf5")):
        raise ValueError(f"cannot write {path!r}: HDF5 is not offered yet; use a name that ends in .keras")
    _check_overwrite(path, overwrite)
    config = layers.serialize(model)
    compiled = compile_config(model) if include_optimizer and model.compiled else None
    optimizer = model.optimizer if compiled is not None and model.optimizer.built else None
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        metadata = {
            "format": FORMAT,
            "weights": _write_arrays(archive, "weights", _named(model.weights)),
            "states": _write_arrays(archive, "states", _named(model.states_variables)),
            "optimizer": _write_arrays(archive, "optimizer", _named(optimizer.variables)) if optimizer else None,
        }
        _write_json(archive, "metadata.json", metadata)
        _write_json(
            archive, "config.json", {**config, "build_config": _build_config(model), "compile_config": compiled}
        )


def load_model(filepath: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True) -> Any:
    """A model from `model.save`: weights, and unless compile=False its compilation and optimizer state too.

    custom_objects: your own classes and functions by name; nothing else outside nbkeras can be named by the file.
    """
    with _opened(filepath) as archive, custom_object_scope(custom_objects or {}):
        metadata, config = _checked_metadata(archive), _read_json(archive, "config.json")
        model = layers.deserialize(config)
        shape = config.get("build_config")
        if shape is not None and not model.weights:
            model.build(_tuples(shape))
        _restore(archive, metadata.get("weights"), model.weights, "weights")
        states = model.states_variables
        index = metadata.get("states") or []
        if [e.get("shape") for e in index] == [list(v.shape) for v in states]:  # recurrent states may have no batch yet
            _restore(archive, index, states, "states")
        compiled = config.get("compile_config")
        if compile and compiled is not None:
            model.compile(**read_compile_config(compiled))
            if metadata.get("optimizer"):
                model.optimizer.build(model.trainable_weights)
                _restore(archive, metadata["optimizer"], model.optimizer.variables, "optimizer arrays")
    return model


def _tuples(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _tuples(value) for key, value in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return tuple(shape)
    return [_tuples(item) for item in shape]


def _build_config(model: Any) -> Any:
    """The shapes that a model without a graph was built for."""
    return None if getattr(model, "_graph", None) is not None else model.build_shapes


_KINDS = {"loss": losses.serialize, "metrics": metrics.serialize, "weighted_metrics": metrics.serialize}


def compile_config(model: Any) -> dict[str, Any] | None:
    """The arguments of compile in a form that JSON can hold; None, with a warning, if one has no name."""
    given = dict(model.compile_arguments)
    try:
        config = {key: _map(_KINDS[key], given[key]) if key in _KINDS else given[key] for key in given}
        config["optimizer"] = optimizers.serialize(model.optimizer)
        json.dumps(config, default=plain)
    except (TypeError, ValueError, NotImplementedError) as error:
        warnings.warn(f"the model is saved without its compilation: {error}", stacklevel=4)
        return None
    return config


def read_compile_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of compile from what `compile_config` returned."""
    kinds = {"loss": losses.deserialize, "metrics": metrics.deserialize, "weighted_metrics": metrics.deserialize}
    arguments = {key: _map(kinds[key], value) if key in kinds else value for key, value in config.items()}
    arguments["optimizer"] = optimizers.deserialize(config["optimizer"])
    return arguments


def _map(function: Any, value: Any) -> Any:
    """`function` on each specification in lists and dicts by name; names (strings) stay."""
    if isinstance(value, list | tuple):
        return [_map(function, item) for item in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _map(function, item) for key, item in value.items()}
    return value if value is None or isinstance(value, str) else function(value)
