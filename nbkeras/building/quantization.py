"""Floor 2: quantized layers. The weights that a layer names in `quantized_channels` become QuantizedVariables of integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from nbkeras import quantizers
from nbkeras.engine import step_lock, tensor
from nbkeras.engine.tensor import Variable
from nbkeras.engine.user_errors import warn
from nbkeras.ops.quantized import QuantizedVariable
from nbkeras.quantizers import AbsMaxQuantizer, Int8QuantizationConfig, config_of, integers_of, limits_of


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


def config_from(value: Any) -> Int8QuantizationConfig:
    """Returns the configuration for an argument `quantization_config`; the default one for None."""
    return config_of("int8", quantizers.get(value))


def add_quantized(layer: Any, name: str, shape: tuple[int, ...]) -> QuantizedVariable:
    """Add a quantized weight of zeros with a scale of ones, for a layer with a quantized dtype policy."""
    return _added(layer, name, np.zeros(shape, np.int8), np.ones(layer.channels_of_scale(name, shape)[1], layer.dtype))


def _added(
    layer: Quantizable, name: str, values: np.ndarray, scale: np.ndarray, at: int | None = None
) -> QuantizedVariable:
    """Make a weight and its scale, and insert them into the layer's weights."""
    channels, stored = layer.channels_of_scale(name, values.shape)
    factor = Variable(scale.reshape(stored), dtype=scale.dtype, trainable=False, name=f"{name}_scale")
    config = config_from(layer.quantization_config)
    made = QuantizedVariable(values, factor, channels, limits_of(config.activation_quantizer), name)
    for each in (made, factor):
        each.path = f"{layer.name}/{each.name}"
        each.declared_trainable = False
    at = len(layer._weights) if at is None else at
    layer._weights[at:at] = [made, factor]
    setattr(layer, f"{name}_scale", factor)
    return made


# -------------------- layers --------------------


def quantize_layer(layer: Quantizable, mode: Any, config: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert a layer's weights to integers. Raises the same errors as Keras."""
    config = config_of(mode, config)
    check(layer)
    if not _offers(layer, type_check, beyond_keras):
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


def _quantize(chosen: list[Quantizable], config: Int8QuantizationConfig) -> None:
    """Convert the weights of layers to integers, between the steps of other threads."""
    with step_lock.alone():
        for layer in chosen:
            with tensor.on_gpu(layer._gpu), tensor.outside_program():
                _quantize_weights(layer, config)


def _quantize_weights(layer: Quantizable, config: Int8QuantizationConfig) -> None:
    weights = _weights_of(layer)
    made = {name: _integers(layer, name, weight.numpy(), config) for name, weight in weights.items()}
    layer.quantization_config = config
    layer.quantization_mode = config.mode
    for name, (integers, scale) in made.items():
        at = next((i for i, each in enumerate(layer._weights) if each is weights[name]), len(layer._weights))
        del layer._weights[at : at + 1]
        setattr(layer, _attribute(layer, name), _added(layer, name, integers, scale, at))
    tensor.outdate(layer, *(weight.data for weight in weights.values()))


def _integers(layer: Quantizable, name: str, values: np.ndarray, config: Int8QuantizationConfig) -> tuple:
    """Integers for a weight's values, and their scale, whose axes are in the order of the weight's channels."""
    channels, _ = layer.channels_of_scale(name, values.shape)
    integers, scale = integers_of(values, _weight_quantizer(layer, name, config))
    scale = scale.reshape([values.shape[axis] for axis in sorted(channels)])
    return integers, scale.transpose([sorted(channels).index(axis) for axis in channels])


def integers_for(layer: Any, name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """New values for a quantized weight, as integers and a scale in the shape that files have."""
    integers, scale = _integers(layer, name, values, config_from(layer.quantization_config))
    return integers, scale.reshape(layer.channels_of_scale(name, values.shape)[1])


def _attribute(layer: Quantizable, name: str) -> str:
    """The attribute that holds a weight: its name, with a leading underscore if LoRA adapts the weight."""
    return f"_{name}" if getattr(layer, "lora_enabled", False) and layer.adapted == name else name  # type: ignore[attr-defined]


def _weights_of(layer: Quantizable) -> dict[str, Variable]:
    """The weights that become integers, by name. A layer may have fewer than its class declares."""
    found = {name: getattr(layer, _attribute(layer, name)) for name in layer.quantized_channels}
    return {name: weight for name, weight in found.items() if weight is not None}


def _weight_quantizer(layer: Quantizable, name: str, config: Int8QuantizationConfig) -> AbsMaxQuantizer:
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
    _quantize([layer], config_from(layer.quantization_config))


# -------------------- models --------------------


def quantize_model(model: Any, mode: Any, config: Any, filters: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert the weights of all layers that can be quantized. All are checked before any is changed."""
    config = config_of(mode, config)
    chosen = _filter(filters)
    leaves = [layer for layer in model._all_layers() if len(layer._all_layers()) == 1]
    wanted = [layer for layer in leaves if layer.quantized_channels and chosen(layer)]
    taken = [layer for layer in wanted if _offers(layer, type_check, beyond_keras)]
    for layer in taken if model.built else [model]:
        check(layer)
        for name in _weights_of(layer):
            _weight_quantizer(layer, name, config)
    left = [f"{layer.name} ({type(layer).__name__})" for layer in wanted if layer not in taken and layer.weights]
    if left:
        examples = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        warn(f"not quantized: {examples}. {_refusal(next(each for each in wanted if each not in taken))}")
    _quantize(taken, config)


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
