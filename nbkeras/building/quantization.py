"""Floor 2: quantized layers. The weights that a layer names in `quantized_channels` become variables of integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from nbkeras.building import calibration, packing
from nbkeras.engine import dtype_policy, step_lock, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtype_policy import DTypePolicy, DTypePolicyMap
from nbkeras.engine.tensor import Variable
from nbkeras.engine.user_errors import warn
from nbkeras.quantizers.configs import Int8QuantizationConfig, QuantizationConfig, config_of, config_of_policy
from nbkeras.quantizers.rounding import AbsMaxQuantizer, integers_of, registry


class Quantizable(Protocol):
    """The attributes of a layer that quantization uses."""

    name: str
    dtype: str
    built: bool
    quantization_mode: str | None
    quantization_config: Any
    quantized_channels: Mapping[str, tuple[int, ...]]
    is_quantized_by_keras: bool
    _weights: list[Variable]
    _gpu: Any

    @property
    def dtype_policy(self) -> Any: ...
    @property
    def weights(self) -> list[Variable]: ...
    def channels_of_scale(self, name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]: ...


def config_from(value: Any) -> Any:
    """Returns the configuration for an argument `quantization_config`."""
    return config_of(None, registry.get(value))


def own_policy(layer: Any) -> Any:
    """The dtype policy that a layer got, or None."""
    return layer._policy[layer.path] if isinstance(layer._policy, DTypePolicyMap) else layer._policy


def config_of_layer(layer: Any) -> Any:
    """The configuration of a quantized layer: its own, or the one that its dtype policy describes.

    Raises ValueError if they disagree, as in a damaged file.
    """
    policy = own_policy(layer)
    if policy is None or policy.quantization_mode is None:
        return layer.quantization_config or Int8QuantizationConfig()
    config = layer.quantization_config or config_of_policy(policy)
    if config.mode != policy.quantization_mode:
        raise ValueError(
            f"layer {layer.name!r}: quantization_config has mode {config.mode!r}, its dtype policy {policy.name!r} has another"
        )
    return config


def policy_of_layer(layer: Any) -> DTypePolicy:
    """The dtype policy of a quantized layer."""
    if layer.quantization_mode == "float8" and hasattr(own := own_policy(layer), "amax_history_length"):
        return own
    source = layer.dtype if layer._policy is None else layer._policy.source_name
    return dtype_policy.get(f"{config_of_layer(layer).dtype_policy_string()}_from_{source}")


# -------------------- layers --------------------


def quantize_layer(layer: Quantizable, mode: Any, config: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert a layer's weights to integers. Raises the same errors as Keras."""
    config = config_of(mode, config)
    if config.mode in _BY_SAMPLES:
        raise ValueError(f"mode {config.mode!r} needs the inputs of a layer in its model: call the model's `quantize`")
    check(layer)
    if not _offers(layer, type_check, beyond_keras and config.mode == "int8"):
        raise NotImplementedError(_refusal(layer))
    _quantize([layer], config)


def check(layer: Quantizable) -> None:
    """Raises ValueError if a layer is not built, or is already quantized."""
    if not layer.built:
        raise ValueError(
            f"Cannot quantize a layer that isn't yet built. Layer {layer.name!r} (of type {type(layer).__name__!r}) is not built "
            "yet: call it, or give the model an input shape"
        )
    if layer.quantization_mode is not None:
        raise ValueError(f"Layer {layer.name!r} is already quantized with dtype_policy={layer.dtype_policy.name!r}.")


def _offers(layer: Quantizable, type_check: bool, beyond_keras: bool) -> bool:
    """Whether `quantize` converts a layer. With type_check, only nbkeras's own classes, as Keras takes only its own."""
    own = type(layer).__module__.startswith("nbkeras.") or not type_check
    return bool(layer.quantized_channels) and own and (layer.is_quantized_by_keras or beyond_keras)


def _refusal(layer: Quantizable) -> str:
    text = f"Layer {type(layer).__name__} does not have a `quantize` method implemented."
    if layer.quantized_channels and not layer.is_quantized_by_keras:
        text += " Keras does not quantize such layers; beyond_keras=True quantizes them here, but Keras cannot read the file"
    elif layer.quantized_channels:
        text += " Its base class has one: type_check=False quantizes it too"
    return text


def _quantize(chosen: list[Quantizable], config: QuantizationConfig) -> None:
    """Convert the weights of layers to integers, between the steps of other threads."""
    with step_lock.alone():
        for layer in chosen:
            with tensor.on_gpu(layer._gpu), tensor.outside_program():
                _quantize_weights(layer, config)


def _quantize_weights(layer: Quantizable, config: QuantizationConfig) -> None:
    if config.mode == "float8":
        add_scales(layer)
        layer.quantization_config, layer.quantization_mode = config, config.mode
        return
    weights = _weights_of(layer)
    _replace(layer, config, {name: _encoded(layer, name, weight.numpy(), config) for name, weight in weights.items()})


def _replace(layer: Quantizable, config: Any, encoded: Mapping[str, tuple]) -> None:
    """Put variables of integers in place of a layer's weights."""
    weights = _weights_of(layer)
    layer.quantization_config = config
    layer.quantization_mode = config.mode
    for name, arrays in encoded.items():
        at = next((i for i, each in enumerate(layer._weights) if each is weights[name]), len(layer._weights))
        del layer._weights[at : at + 1]
        make: Any = packing.int8_variable if config.mode == "int8" else packing.packed_variable
        setattr(layer, _attribute(layer, name), packing.inserted(layer, make(layer, name, *arrays), at))
    tensor.outdate(layer, *(weight.data for weight in weights.values()))


def _encoded(layer: Quantizable, name: str, values: np.ndarray, config: Any) -> tuple:
    """(integers, scale, configuration) of int8 for a weight's values, or (Layout, Encoded) of 4 bits."""
    if config.mode != "int4":
        return (*_integers(layer, name, values, config), config)
    layout = packing.layout_of(layer, name, values.shape, config)
    return layout, packing.encode(values, layout, config)


def _integers(layer: Quantizable, name: str, values: np.ndarray, config: Any) -> tuple:
    """Integers for a weight's values, and their scale, whose axes are in the order of the weight's channels."""
    channels, _ = layer.channels_of_scale(name, values.shape)
    integers, scale = integers_of(values, _weight_quantizer(layer, name, config))
    scale = scale.reshape([values.shape[axis] for axis in sorted(channels)])
    return integers, scale.transpose([sorted(channels).index(axis) for axis in channels])


def integers_for(layer: Any, name: str, weight: Any, values: np.ndarray) -> dict[int, np.ndarray]:
    """New values for a quantized weight: the arrays of its variables, by their ids, in the shapes that files have."""
    first, second, *_ = _encoded(layer, name, values, config_of_layer(layer))
    if layer.quantization_mode == "int4":
        arrays = [each for each in second if each is not None]
    else:
        arrays = [first, second.reshape(layer.channels_of_scale(name, values.shape)[1])]
    return {id(each): array for each, array in zip([weight, *weight.companions], arrays, strict=True)}


def _attribute(layer: Quantizable, name: str) -> str:
    """The attribute that holds a weight: its name, with a leading underscore if LoRA adapts the weight."""
    return f"_{name}" if getattr(layer, "lora_enabled", False) and layer.adapted == name else name  # type: ignore[attr-defined]


def _weights_of(layer: Quantizable) -> dict[str, Variable]:
    """The weights that become integers, by name. A layer may have fewer than its class declares."""
    found = {name: getattr(layer, _attribute(layer, name)) for name in layer.quantized_channels}
    return {name: weight for name, weight in found.items() if weight is not None}


def _weight_quantizer(layer: Quantizable, name: str, config: Any) -> AbsMaxQuantizer:
    """The quantizer of a weight, with axes. Raises ValueError if its axes do not match the axes that share a scale."""
    shape = getattr(layer, _attribute(layer, name)).shape
    channels, _ = layer.channels_of_scale(name, shape)
    axes = tuple(axis for axis in range(len(shape)) if axis not in channels)
    given = config.weight_quantizer or AbsMaxQuantizer(axes)
    if given.axis is None or sorted(axis % len(shape) for axis in given.axis) != list(axes):
        raise ValueError(
            f"the weight_quantizer of layer {layer.name!r} ({type(layer).__name__}) must have axis={axes}: its product is "
            f"divided by a scale for each output. Received axis={given.axis}"
        )
    return given


def prepare_quantized(layer: Any) -> None:
    """Convert a built layer's weights to integers; a file will then overwrite their values."""
    check(layer)
    _quantize([layer], config_of_layer(layer))


def add_scales(layer: Any) -> None:
    """Add a built layer's scales, and its histories of largest values. Its own weights do not change.

    Raises NotImplementedError for a layer without a product.
    """
    if set(layer.quantized_channels) != {"kernel"} or not layer.is_quantized_by_keras:
        raise NotImplementedError(
            f"quantization mode 'float8' is for Dense and EinsumDense, received the layer {briefly(layer.name)} "
            f"({type(layer).__name__})"
        )
    length = getattr(own_policy(layer), "amax_history_length", 1024)
    for part in ("inputs", "kernel", "outputs_grad"):
        for what, shape, values in (("scale", (), "ones"), ("amax_history", (length,), "zeros")):
            name = f"{part}_{what}"
            weight = layer.add_weight(shape, values, "float32", trainable=False, name=name, autocast=False)
            setattr(layer, name, weight)
    tensor.outdate(layer)


# -------------------- models --------------------


def quantize_model(model: Any, mode: Any, config: Any, filters: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert the weights of all layers that can be quantized. All are checked before any is changed."""
    config = config_of(mode, config)
    beyond_keras = beyond_keras and config.mode == "int8"
    chosen = _filter(filters)
    leaves = [layer for layer in model._all_layers() if len(layer._all_layers()) == 1]
    wanted = [layer for layer in leaves if layer.quantized_channels and chosen(layer)]
    if config.mode in _OF_PRODUCTS:
        wanted = [layer for layer in wanted if set(layer.quantized_channels) == {"kernel"}]
    taken = [layer for layer in wanted if _offers(layer, type_check, beyond_keras)]
    for layer in taken if model.built else [model]:
        check(layer)
        if config.mode in _OF_PRODUCTS:
            continue
        for name in _weights_of(layer):
            _weight_quantizer(layer, name, config)
    left = [f"{layer.name} ({type(layer).__name__})" for layer in wanted if layer not in taken and layer.weights]
    if left:
        examples = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        warn(f"not quantized: {examples}. {_refusal(next(each for each in wanted if each not in taken))}")
    if config.mode in _BY_SAMPLES:
        _calibrate(model, config, taken)
    else:
        _quantize(taken, config)


_BY_SAMPLES = ("gptq", "awq")
_OF_PRODUCTS = (*_BY_SAMPLES, "float8")  # the modes for Dense and EinsumDense only


def _calibrate(model: Any, config: Any, taken: list[Quantizable]) -> None:
    """Round the kernels of a model's blocks by samples; other layers keep their floats."""

    def rows_of(layer: Any) -> int:
        return packing.layout_of(layer, "kernel", layer.kernel.shape, config).summed

    kept = type(config)(**{**config.get_config(), "quantization_layer_structure": None})
    with step_lock.alone(), tensor.on_gpu(model._gpu), tensor.outside_program():
        for layer, arrays in calibration.encoded_layers(model, config, rows_of, lambda each: each in taken):
            layout = packing.layout_of(layer, "kernel", layer.kernel.shape, config)
            _replace(layer, kept, {"kernel": (layout, arrays)})


def _filter(filters: Any) -> Callable[[Quantizable], bool]:
    """Keras's `filters` as a predicate: the layer's name must match one of the patterns; or a function of the layer."""
    if filters is None:
        return lambda layer: True
    if callable(filters):
        return lambda layer: bool(filters(layer))
    patterns = [filters] if isinstance(filters, str) else filters
    if not isinstance(patterns, list | tuple) or not all(isinstance(each, str) for each in patterns):
        raise ValueError(
            f"The `filters` argument must be a regex string, a list of regex strings, or a callable. Received: {type(filters)}"
        )
    return lambda layer: any(re.search(pattern, layer.name) for pattern in patterns)
