"""Floor 3: reading files of nbkeras's own first format, `nbkeras-1`: a zip of JSON and of one .npy member per array.

Arrays are read with pickling off, and only into the shapes that the model expects.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np

from nbkeras.layer import layers
from nbkeras.saving import archive as archives
from nbkeras.saving import compilation
from nbkeras.serialization import first_call
from nbkeras.tensor import Variable

Array = np.ndarray
FORMAT = "nbkeras-1"
_HEADER = 4096  # more than an .npy header of any array with a shape takes


def read_model(archive: zipfile.ZipFile, metadata: dict[str, Any], compile: bool) -> Any:
    """A model from such a file, compiled and with its optimizer's state if it was saved with them."""
    config = archives.read_json(archive, "config.json")
    model = layers.deserialize(_renumbered(config))
    if config.get("build_config") is not None and not model.weights:
        model.build_from_config({"input_shape": config["build_config"]})
    read_weights(archive, metadata, model)
    states = model.states_variables
    index = metadata.get("states") or []
    if [e.get("shape") for e in index] == [list(v.shape) for v in states]:  # recurrent states may have no batch yet
        _restore(archive, index, states, "states")
    if compile and config.get("compile_config") is not None:
        model.compile(**compilation.read_compile_config(config["compile_config"]))
        if metadata.get("optimizer"):
            model.optimizer.build(model.trainable_weights)
            _restore(archive, metadata["optimizer"], model.optimizer.variables, "optimizer arrays")
    return model


def read_weights(archive: zipfile.ZipFile, metadata: dict[str, Any], model: Any) -> None:
    """The weights of such a file into a model."""
    _restore(archive, metadata.get("weights"), model.weights, "weights")


def _renumbered(config: Any) -> Any:
    """The configuration with a model's outputs named as Keras does: calls of functional models counted from 1."""
    if isinstance(config, list):
        return [_renumbered(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: _renumbered(value) for key, value in config.items()}
    if "input_layers" in config:
        firsts = {entry["name"]: first_call(entry["class_name"]) for entry in config["layers"]}
        config["output_layers"] = _moved(config["output_layers"], firsts)
    return config


def _moved(value: Any, firsts: dict[str, int]) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, firsts) for key, item in value.items()}
    if len(value) == 3 and isinstance(value[0], str):
        return [value[0], value[1] + firsts[value[0]], value[2]]
    return [_moved(item, firsts) for item in value]


def _read_array(archive: zipfile.ZipFile, member: str, path: str, variable: Variable) -> Array:
    """An array for a variable; its header is checked against the variable before anything is allocated."""
    text = io.BytesIO(archives.read_member(archive, member, variable.data.nbytes * 2 + _HEADER))
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
