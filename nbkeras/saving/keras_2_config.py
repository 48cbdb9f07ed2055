"""Floor 3: converting configurations of Keras 2 (2.3.1, tf.keras, tf_keras) to Keras 3's form and back.

In Keras 2 inbound_nodes are lists [layer, call, output, arguments]; there are no modules; models with a known input count
their calls from 1 (in Keras 3 only functional models do, and only in references to a model's outputs); some classes and
arguments have other names; and `hard_sigmoid` is another function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbkeras.building.layer import layers
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import custom_object
from nbkeras.saving import keras_2_ops, keras_ops
from nbkeras.saving.serialization import first_call, map_references

_ALIASES = {
    **{"Model": "Functional", "Convolution1D": "Conv1D", "Convolution2D": "Conv2D", "Convolution3D": "Conv3D"},
    **{"BatchNormalizationV1": "BatchNormalization", "BatchNormalizationV2": "BatchNormalization"},
    **{"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"},
}
# layers that take lists, also of one tensor
_MERGING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot")
_MODELS = ("Functional", "Sequential")
_OF_A_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_UNUSED = {  # arguments about TensorFlow's implementation, or with derived values
    "Lambda": tuple(f"{what}_{which}" for what in ("output_shape", "mask") for which in ("type", "module"))
    + ("module", "function_type"),
    **{f"SpatialDropout{rank}D": ("noise_shape",) for rank in (1, 2, 3)},
    **{"MultiHeadAttention": ("query_shape", "key_shape", "value_shape")},
    # subclasses of tf_keras's Conv write unused arguments of Conv
    **{f"{kind}Conv{rank}D": ("groups", *_OF_A_KERNEL) for kind in ("Separable", "Depthwise") for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": ("groups",) for rank in (1, 2, 3)},
    **{"Nadam": ("schedule_decay",)},  # it uses Keras 3's schedule
}
_INITIALIZERS = ("_initializer",)
_CONSTANT = "_CONSTANT_VALUE"  # in place of a layer's name if an op was called with an array or a number


def translated(config: Any) -> Any:
    """Convert a configuration of Keras 2 to Keras 3's form."""
    if isinstance(config, list):
        return [translated(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "value" in config and config.get("type") in ("ndarray", "float32", "float64"):
        return config["value"]
    written: Any = config.get("class_name")
    if not isinstance(written, str) or not isinstance(config.get("config"), dict | list):
        return {key: translated(item) for key, item in config.items()}
    if custom_object(written) is None:
        written = written.rpartition(">")[2]  # tf_keras's optimizers are 'Custom>Adam'
    kind, inner = _ALIASES.get(written, written), config["config"]
    if kind in ("Policy", "PolicyV1"):
        return inner.get("name") if isinstance(inner, dict) else None
    if kind == "Sequential" and isinstance(inner, list):  # before Keras 2.2.3
        inner = {"layers": inner}
    if kind == "Functional":
        inner = _functional(inner)
    elif written.startswith("CuDNN"):
        inner = {"activation": "tanh", "recurrent_activation": "sigmoid", **inner, "reset_after": True}
        inner.pop("reset_after" if kind == "LSTM" else "", None)
    if not isinstance(inner, dict):
        raise ValueError(f"the config of {kind} must be a dict, received {type(inner).__name__}")
    unused = ("rng_type", *_UNUSED.get(kind, ()))
    inner = {key: _argument(key, item) for key, item in inner.items() if key not in unused}
    if isinstance(inner.get("fn"), str) and kind not in ("MeanMetricWrapper", "LossFunctionWrapper"):
        del inner["fn"]  # the class identifies the loss or metric
    if kind == "InputLayer":
        inner.setdefault("batch_shape", inner.pop("batch_input_shape", None))
    return {**config, "class_name": kind, "config": inner}


def _argument(key: str, value: Any) -> Any:
    if value == "hard_sigmoid" and key in ("activation", "recurrent_activation"):
        return "legacy_hard_sigmoid"  # in Keras 3 the name hard_sigmoid means another function
    value = translated(value)
    if key.endswith(_INITIALIZERS) and isinstance(value, dict) and isinstance(value.get("config"), dict):
        inner = {name: item for name, item in value["config"].items() if name != "dtype"}
        value = {**value, "config": inner}
    return value


def _shift(entry: Mapping[str, Any]) -> int:
    """The number of a layer's first call in Keras 2."""
    kind, inner = _ALIASES.get(entry["class_name"], entry["class_name"]), entry["config"]
    if kind != "Sequential":
        return first_call(kind)
    layers = inner if isinstance(inner, list) else inner["layers"]
    first = layers[0] if layers else {"class_name": "", "config": {}}
    known = first["class_name"] in ("InputLayer", *_MODELS, "Model") or "batch_input_shape" in first["config"]
    return 1 if known else 0


def _functional(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the nodes of a functional model's config to Keras 3's form; the caller translates its layers."""
    shifts = {entry["name"]: _shift(entry) for entry in config["layers"]}
    firsts = {
        entry["name"]: first_call(_ALIASES.get(entry["class_name"], entry["class_name"])) for entry in config["layers"]
    }

    def reference(value: Any) -> list:
        name, call, output = value[:3]
        if name not in shifts:
            raise ValueError(f"the configuration refers to a layer {briefly(name)} that it does not have")
        return [name, call - shifts[name], output]

    def end(value: Any) -> list:
        name, call, output = reference(value)
        return [name, call + firsts[name], output]

    def tensor(value: Any) -> Any:
        if value[0] == _CONSTANT:
            return value[2]
        return {"class_name": "__keras_tensor__", "config": {"keras_history": reference(value)}}

    def is_reference(value: Any) -> bool:
        known = isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str)
        return known and (value[0] in shifts or value[0] == _CONSTANT)

    def argument(value: Any) -> Any:
        if is_reference(value):
            return tensor(value)
        if isinstance(value, list):
            return [argument(item) for item in value]
        return {key: argument(item) for key, item in value.items()} if isinstance(value, dict) else value

    def node(kind: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):  # written as HDF5 by Keras 3
            return value
        inputs = [value] if is_reference(value) else list(value)
        kwargs = {key: item for parts in inputs for key, item in (parts[3] if len(parts) > 3 else {}).items()}
        if kwargs.get("constants", ...) is None:  # tf_keras's Bidirectional always writes constants
            del kwargs["constants"]
        tensors = [tensor(parts) for parts in inputs]
        alone = len(tensors) == 1 and kind not in _MERGING
        return {"args": tensors if alone else [tensors], "kwargs": argument(kwargs)}

    entries = [
        {**entry, "inbound_nodes": [node(entry["class_name"], call) for call in entry["inbound_nodes"]]}
        for entry in config["layers"]
    ]
    entries = [
        keras_2_ops.translated(entry) if entry["class_name"] in keras_2_ops.KINDS else entry for entry in entries
    ]
    ends = {key: map_references(end, _without_list(config[key])) for key in ("input_layers", "output_layers")}
    return {**config, "layers": entries, **ends}


def _without_list(value: Any) -> Any:
    """One tensor instead of a list of one tensor, which Keras 2 takes and returns."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) else value


# -------------------- writing --------------------

_OPTIMIZERS_BY_PACKAGE = ("Adafactor", "Lion")  # tf_keras finds them only by this name
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
_NEWER: dict[str, dict[str, Any]] = {  # arguments that Keras 2 lacks, with the value for its behaviour
    **{kind: {"seed": None, "zero_output_for_mask": False} for kind in ("LSTM", "GRU", "SimpleRNN")},
    **{f"ConvLSTM{rank}D": {"seed": None, "zero_output_for_mask": False} for rank in (1, 2, 3)},
    "ZeroPadding1D": {"data_format": "channels_last"},
    **{kind: {"seed": None} for kind in ("LSTMCell", "GRUCell", "SimpleRNNCell")},
    "SparseCategoricalCrossentropy": {"axis": -1},
    **{f"{kind}TopKCategoricalAccuracy": {"from_sorted_ids": False} for kind in ("", "Sparse")},
    **{"BatchNormalization": {"synchronized": False}, "LayerNormalization": {"rms_scaling": False}},
    **{
        f"{kind}{form}": {"input_axes": None, "output_axes": None}
        for kind in ("Glorot", "He", "Lecun")
        for form in ("Normal", "Uniform")
    },
    "VarianceScaling": {"input_axes": None, "output_axes": None},
    "MultiHeadAttention": {"use_gate": False, "sliding_window": None, "seed": None},
    **{
        f"Random{kind}": {"data_format": "channels_last"}
        for kind in ("Crop", "Flip", "Rotation", "Translation", "Zoom")
    },
    **{"CenterCrop": {"data_format": "channels_last"}, "RandomBrightness": {"data_format": "channels_last"}},
    "RandomContrast": {"data_format": "channels_last", "value_range": [0, 255]},
    "Resizing": {
        **{"data_format": "channels_last", "pad_to_aspect_ratio": False},
        **{"fill_mode": "constant", "fill_value": 0.0, "antialias": False},
    },
    **{f"{kind}Lookup": {"salt": None, "oov_method": "floormod"} for kind in ("Integer", "String")},
}


def legacy(config: Any) -> Any:
    """Convert nbkeras's configuration to Keras 2's form, which Keras 3 reads too. Raises ValueError if that is impossible."""
    if isinstance(config, list):
        return [legacy(item) for item in config]
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        return {key: legacy(item) for key, item in config.items()} if isinstance(config, dict) else config
    kind, inner = config["class_name"], config.get("config")
    if kind == "function":  # a custom function
        return inner
    if not isinstance(inner, dict):
        return config
    if "input_layers" in inner:
        inner = _legacy_functional(inner)
    renamed, newer = _RENAMED.get(kind, {}), _NEWER.get(kind, {})
    found: dict[str, Any] = {}
    for key, value in inner.items():
        if key in newer and value == newer[key]:
            continue
        value = legacy(value)
        if key in ("activation", "recurrent_activation") and value in ("hard_sigmoid", "legacy_hard_sigmoid"):
            if value == "hard_sigmoid":
                raise ValueError(
                    f"{inner.get('name')!r}: Keras 2 does not have Keras 3's hard_sigmoid; save the model as .keras"
                )
            value = "hard_sigmoid"
        found[renamed.get(key, key)] = value
    if kind == "MultiHeadAttention":  # Keras 2 builds the layer from its configuration
        shapes = (config.get("build_config") or {}).get("shapes_dict", {})
        value = shapes.get("value_shape")
        found |= {"query_shape": shapes.get("query_shape"), "value_shape": value}
        found["key_shape"] = shapes.get("key_shape", value)
    if kind in ("IntegerLookup", "StringLookup") and found.get("output_mode") == "int":
        found["dtype"] = "int64"  # in Keras 2 a lookup's dtype is its output's
    elif kind == "TextVectorization":
        found["dtype"] = "string"
    if kind == "Lambda":
        found = {"function_type": "function", "output_shape": None, "output_shape_type": "raw", **found}
        found |= {"mask_type": "function" if isinstance(found["mask"], str) else "raw"} if "mask" in found else {}
    if kind == "InputLayer":
        found = {"batch_input_shape": found.pop("batch_shape"), "sparse": False, "ragged": False, **found}
    rest = {key: config[key] for key in ("name", "inbound_nodes") if key in config}
    registered = f"Custom>{kind}" if kind in _OPTIMIZERS_BY_PACKAGE else config.get("registered_name") or ""
    return {"class_name": registered if ">" in registered else kind, "config": found, **rest}


def _legacy_functional(config: Mapping[str, Any]) -> dict[str, Any]:
    for entry in config["layers"]:
        if entry["class_name"] == "Operation" or keras_ops.is_op(entry.get("module")):
            raise ValueError(
                f"{entry['name']!r}: ops on symbolic tensors cannot be written to HDF5 of Keras 2; save the model as .keras"
            )
    shifts = {entry["name"]: 1 if entry["class_name"] in _MODELS else 0 for entry in config["layers"]}
    firsts = {entry["name"]: first_call(entry["class_name"]) for entry in config["layers"]}

    def reference(value: list) -> list:
        return [value[0], value[1] + shifts[value[0]], value[2]]

    def end(value: list) -> list:
        return reference([value[0], value[1] - firsts[value[0]], value[2]])

    def argument(value: Any) -> Any:
        if isinstance(value, list):
            return [argument(item) for item in value]
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            return reference(value["config"]["keras_history"])
        return value

    def node(entry: Mapping[str, Any], value: dict[str, Any]) -> list:
        name, (first, *more) = entry["name"], value["args"] or [None]
        tensors = first if isinstance(first, list) else [first]
        if more:  # arguments by name, as Keras 2 writes them
            names = getattr(layers.find(entry["class_name"]), "_call_names", ())
            value = {"kwargs": {**dict(zip(names[1:], more, strict=False)), **value["kwargs"]}}
        if not all(isinstance(t, dict) and "config" in t for t in tensors):
            raise ValueError(f"{name!r} is called in a way that HDF5 of Keras 2 cannot hold; save the model as .keras")
        kwargs = {key: argument(item) for key, item in value["kwargs"].items()}
        return [[*argument(t), kwargs] for t in tensors]  # with each tensor, because Keras 2 uses the last one's

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: end(item) for key, item in value.items()}
        return [end(value)] if value and isinstance(value[0], str) else [end(item) for item in value]

    entries = [
        {**entry, "inbound_nodes": [node(entry, call) for call in entry["inbound_nodes"]]} for entry in config["layers"]
    ]
    ends = {key: references(config[key]) for key in ("input_layers", "output_layers")}
    return {**config, "layers": entries, **ends}
