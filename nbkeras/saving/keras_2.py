"""Floor 3: Keras 2's HDF5 files (.h5), as written by keras 2.3.1, tf.keras and tf_keras: whole models, and weights.

A whole model has its configuration in attributes and its weights under `model_weights`; a weights file has the weights at
its root. Each layer of the model has a group with its weights in the order of the attribute `weight_names`, trainable first.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nbkeras import metrics
from nbkeras.building.layer import layers
from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import numbered
from nbkeras.engine.registry import sharing_scope
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.engine.user_errors import warn
from nbkeras.losses import loss
from nbkeras.saving import archive, compilation, hdf5, keras_2_config, keras_2_weights, keras_3_config
from nbkeras.saving.serialization import plain

Array = np.ndarray
_KERAS_VERSION = "2.15.0"  # the version whose format is written


def is_of_keras_2(file: Any) -> bool:
    """Whether a file or group is a model or weights of Keras 2."""
    keys = set(file.attrs)
    return bool(keys & {"layer_names", "layer_names0"}) or "model_weights" in hdf5.names(file)


def _parts(model: Any) -> list[Any]:
    """The layers that have a group: a model's layers; for a single layer the layer itself."""
    return [layer for layer in getattr(model, "layers", [model]) if type(layer).__name__ != "Operation"]


def _weights(layer: Any) -> list[Variable]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


# -------------------- writing --------------------


def write_weights(group: Any, model: Any) -> None:
    """Write a model's weights into an HDF5 file or group."""
    parts = _parts(model)
    hdf5.write_texts(group, "layer_names", [layer.name for layer in parts])
    group.attrs["backend"], group.attrs["keras_version"] = "tensorflow", _KERAS_VERSION
    for layer in sorted(parts, key=lambda layer: layer.name):  # 'a' before its subgroup 'a/b'
        _write_arrays(group.create_group(layer.name), [(v.path, v.numpy()) for v in _weights(layer)])


def _write_arrays(group: Any, arrays: list[tuple[str, Array]]) -> None:
    """Write arrays under names like 'dense/kernel:0'. Equal names, which nested layers cause, are numbered."""
    named: dict[str, Array] = {}
    for path, array in arrays:
        named[numbered(path, named)] = array
    hdf5.write_texts(group, "weight_names", [f"{name}:0" for name in named])
    for name, array in named.items():
        group[f"{name}:0"] = array


def write_model(file: Any, model: Any, include_optimizer: bool = True) -> None:
    """Write a whole model into an HDF5 file."""
    with sharing_scope():
        config = keras_2_config.legacy(json.loads(json.dumps(layers.serialize(model), default=plain)))
    file.attrs["keras_version"], file.attrs["backend"] = _KERAS_VERSION, "tensorflow"
    file.attrs["model_config"] = archive.check_to_write(json.dumps(config))
    write_weights(file.create_group("model_weights"), model)
    # the format has no compilation without an optimizer
    has_optimizer = include_optimizer and model.optimizer is not None
    compiled = compilation.compile_config(model) if has_optimizer else None
    if compiled is None:
        return
    training = keras_2_config.legacy(json.loads(json.dumps(_training_config(model, compiled), default=plain)))
    file.attrs["training_config"] = json.dumps(training)
    if model.optimizer.built:
        _write_arrays(file.create_group("optimizer_weights"), keras_2_weights.optimizer_arrays(model.optimizer))


def _training_config(model: Any, compiled: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `compile` in tf_keras's form: functions by their full names, and the metrics created for the outputs."""
    optimizer = compiled["optimizer"]
    inner = {key: value for key, value in optimizer["config"].items() if value is not None or key not in _NEWER}
    return {
        "optimizer_config": {**optimizer, "config": {**inner, "is_legacy_optimizer": False}},
        "loss": compilation.map_specs(_function_name, compiled["loss"]),
        "metrics": _metrics(model, compiled, False),
        "weighted_metrics": _metrics(model, compiled, True),
        "loss_weights": compiled["loss_weights"],
    }


_NEWER = ("loss_scale_factor", "gradient_accumulation_steps")


def _metrics(model: Any, compiled: dict[str, Any], weighted: bool) -> Any:
    """Metrics by output with their names in the logs, since tf_keras does not derive the names again.

    Before the metrics are created, the metrics as given.
    """
    created = model._compiled.by_output
    if created is None:
        return compilation.map_specs(_metric, compiled["weighted_metrics" if weighted else "metrics"])
    by_output = [
        [_labelled(metric, label) for label, metric, is_weighted in entries if is_weighted == weighted]
        for entries in created
    ]
    return by_output[0] if len(by_output) == 1 else by_output


def _labelled(metric: Any, label: str) -> dict[str, Any]:
    config = metrics.serialize(metric)
    inner = {**config["config"], "name": label}
    if inner.get("fn") == "kl_divergence":
        inner["fn"] = "kullback_leibler_divergence"
    return {**config, "config": inner}


def _loss_function(spec: Any) -> Any:
    """The loss function of that name; None for a class and for a value that is not a name."""
    found = loss.registry.items().get(spec) if isinstance(spec, str) else None
    return None if isinstance(found, type) else found


def _function_name(spec: Any) -> Any:
    """The full name of a function: 'mean_squared_error' for 'mse'."""
    found = _loss_function(spec)
    return spec if found is None else found.__name__


def _metric(spec: Any) -> Any:
    found = _loss_function(spec)
    if found is None:
        return spec
    return {"class_name": "MeanMetricWrapper", "config": {"name": spec, "dtype": "float32", "fn": found.__name__}}


# -------------------- reading --------------------


def read_model(file: Any, size: int, compile: bool, safe_mode: bool) -> Any:
    """Read a whole model from an HDF5 file of `size` bytes."""
    text = hdf5.read_text(file, "model_config")
    if text is None:
        raise ValueError("the file holds only weights, no model: build the model and use load_weights")
    config = _config(file, text, "model_config")
    with keras_3_config.limits(size, safe_mode), load_budget.unfilled():
        model = keras_3_config.model_from_config(config)
    weights = hdf5.subgroup(file, "model_weights")
    if weights is None:
        raise ValueError("the file has no weights: it is damaged")
    read_weights(weights, model)
    text = hdf5.read_text(file, "training_config")
    if compile and text is not None:
        with sharing_scope(), keras_3_config.limits(size, safe_mode):
            model._compile_as_saved(_compile_arguments(_config(file, text, "training_config"), model.output_names))
        group = hdf5.subgroup(file, "optimizer_weights")
        if group is not None and model.compiled:
            names = hdf5.read_texts(group, "weight_names")
            new = bool(names) and names[0].rpartition("/")[2].partition(":")[0] == "iteration"
            keras_2_weights.read_optimizer(group, names, model.optimizer, model.trainable_weights, new)
    return model


def _config(file: Any, text: str, what: str) -> dict[str, Any]:
    """A configuration in Keras 3's form. Keras 3 also writes HDF5 without modules; its names then mean Keras 3's functions."""
    config = archive.parse_json(text, what)
    version = hdf5.read_text(file, "keras_version") or ""
    return keras_3_config.translated(config if version.startswith("3") else keras_2_config.translated(config), False)


def _compile_arguments(config: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """The arguments of compile from a `training_config`, whose metric names begin with the output's name if there are several."""
    arguments = {key: config.get(key) for key in ("loss", "metrics", "weighted_metrics", "loss_weights")}
    for key in ("metrics", "weighted_metrics") if len(outputs) > 1 else ():
        _shorten(arguments[key], outputs)
    arguments["optimizer"] = config["optimizer_config"]
    return compilation.read_compile_config(arguments)


def _shorten(metrics: Any, outputs: list[str]) -> None:
    for item in metrics.values() if isinstance(metrics, dict) else metrics if isinstance(metrics, list) else []:
        _shorten(item, outputs)
    if isinstance(metrics, dict) and isinstance(metrics.get("name"), str):
        before = next((output for output in outputs if metrics["name"].startswith(f"{output}_")), None)
        if before is not None:
            metrics["name"] = metrics["name"].removeprefix(f"{before}_")


def read_weights(file: Any, model: Any, by_name: bool = False, skip_mismatch: bool = False) -> None:
    """Read the weights of an HDF5 file of Keras 2 into a model, by position or by the layers' names; all are checked first."""
    inside = hdf5.subgroup(file, "model_weights")
    group = file if inside is None else inside
    stored: dict[str, list[str]] = {}
    count = 0
    for name in hdf5.read_texts(group, "layer_names"):
        stored[name] = _names(group, name)
        count += 1 + len(stored[name])
        archive.check_count(count, "the list of weights")
    if by_name:
        pairs = [(layer, layer.name) for layer in _parts(model) if stored.get(layer.name)]
    else:
        own, names = [layer for layer in _parts(model) if layer.weights], [name for name in stored if stored[name]]
        if len(own) != len(names):
            raise ValueError(
                f"the model has {len(own)} layers with weights, the file {len(names)}: "
                f"[{', '.join(map(briefly, names))}]"
            )
        pairs = list(zip(own, names, strict=True))
    theano = hdf5.read_text(group, "backend") == "theano"
    values: list[tuple[Variable, Array]] = []
    for layer, name in pairs:
        own, names = _weights(layer), stored[name]
        try:
            values += keras_2_weights.arrays(hdf5.subgroup(group, name), names, layer, own, theano, skip_mismatch)
        except ValueError as error:
            message = f"layer {briefly(layer.name)} ({briefly(name)} in the file): {error}"
            if not skip_mismatch:
                raise ValueError(message) from None
            warn(f"not loaded: {message}")
    values += _top(group, model)
    assign_all(values)


def _top(group: Any, model: Any) -> list[tuple[Variable, Array]]:
    """The stored values of a model's own weights, which do not belong to its layers."""
    names = _names(group, "top_level_model_weights")
    own = model._own_weights() if hasattr(model, "layers") else []
    if not names or len(names) != len(own):
        return []
    found = hdf5.subgroup(group, "top_level_model_weights")
    return [(v, hdf5.read_array(found, name, v.shape)) for v, name in zip(own, names, strict=True)]


def _names(group: Any, name: str) -> list[str]:
    layer = hdf5.subgroup(group, name)
    return [] if layer is None else hdf5.read_texts(layer, "weight_names")
