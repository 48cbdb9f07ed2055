"""Floor 3: reading files of nbkeras's own first format, `nbkeras-1`: a zip of JSON and one .npy member per array.

Arrays are read without pickle, and only with the shapes that the model expects.
"""

from __future__ import annotations

import zipfile
from typing import Any

from nbkeras.building.layer import layers
from nbkeras.engine import load_budget
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.saving import archive as archives
from nbkeras.saving import compilation, keras_3_config
from nbkeras.saving.serialization import first_call, map_references

FORMAT = "nbkeras-1"


def read_model(archive: zipfile.ZipFile, metadata: dict[str, Any], size: int, compile: bool, safe_mode: bool) -> Any:
    """Read a model from a file of `size` bytes, with its compilation and optimizer state if the file has them."""
    config = archives.read_json(archive, "config.json")
    with keras_3_config.limits(size, safe_mode):
        with load_budget.unfilled():
            model = layers.deserialize(_renumbered(config))
            if config.get("build_config") is not None and not model.weights:
                model.build_from_config({"input_shape": config["build_config"]})
        if compile and config.get("compile_config") is not None:
            model.compile(**compilation.read_compile_config(config["compile_config"]))
    read_weights(archive, metadata, model)
    states = model._states_variables
    index = metadata.get("states") or []
    if [e.get("shape") for e in index] == [list(v.shape) for v in states]:  # recurrent states may have no batch yet
        _restore(archive, index, states, "states")
    if model.compiled and metadata.get("optimizer"):
        model.optimizer.build(model.trainable_weights)
        _restore(archive, metadata["optimizer"], model.optimizer.variables, "optimizer arrays")
    return model


def read_weights(archive: zipfile.ZipFile, metadata: dict[str, Any], model: Any) -> None:
    """Read a file's weights into a model."""
    _restore(archive, metadata.get("weights"), model.weights, "weights")


def _renumbered(config: Any) -> Any:
    """The configuration with references to a model's outputs as in Keras, which counts calls of functional models from 1."""
    if isinstance(config, list):
        return [_renumbered(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: _renumbered(value) for key, value in config.items()}
    if "input_layers" in config:
        firsts = {entry["name"]: first_call(entry["class_name"]) for entry in config["layers"]}
        config["output_layers"] = map_references(
            lambda end: [end[0], end[1] + firsts[end[0]], end[2]], config["output_layers"]
        )
    return config


def _restore(archive: zipfile.ZipFile, index: Any, variables: list[Variable], what: str) -> None:
    """Read arrays of the file into variables, after checking all of them."""
    if not isinstance(index, list) or len(index) != len(variables):
        count = len(index) if isinstance(index, list) else 0
        raise ValueError(
            f"the file has {count} {what}, the model has {len(variables)}: they belong to different models"
        )
    arrays = [
        archives.read_npy(archive, str(entry.get("file")), str(entry.get("path")), variable.data)
        for entry, variable in zip(index, variables, strict=True)
    ]
    assign_all(zip(variables, arrays, strict=True))
