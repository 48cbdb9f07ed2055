"""Floor 2: quantized layers. The weights that a layer names in `quantized_channels` become variables of integers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nbkeras.building import calibration, packing
from nbkeras.engine import step_lock, tensor
from nbkeras.engine.tensor import Variable
from nbkeras.engine.user_errors import warn
from nbkeras.quantizers import float8
from nbkeras.quantizers.configs import QuantizationConfig, config_of, config_of_layer

# -------------------- layers --------------------


def quantize_layer(layer: Any, mode: Any, config: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert a layer's weights to integers. Raises the same errors as Keras."""
    config = config_of(mode, config)
    if config.mode in _BY_SAMPLES:
        raise ValueError(f"mode {config.mode!r} needs the inputs of a layer in its model: call the model's `quantize`")
    check(layer)
    if not _offers(layer, type_check, beyond_keras and config.mode == "int8"):
        raise NotImplementedError(_refusal(layer))
    _quantize([layer], config)


def check(layer: Any) -> None:
    """Raises ValueError if a layer is not built, or is already quantized."""
    if not layer.built:
        raise ValueError(
            f"Cannot quantize a layer that isn't yet built. Layer {layer.name!r} (of type {type(layer).__name__!r}) is not built "
            "yet: call it, or give the model an input shape"
        )
    if layer.quantization_mode is not None:
        raise ValueError(f"Layer {layer.name!r} is already quantized with dtype_policy={layer.dtype_policy.name!r}.")


def _offers(layer: Any, type_check: bool, beyond_keras: bool) -> bool:
    """Whether `quantize` converts a layer. With type_check, only nbkeras's own classes, as Keras takes only its own."""
    own = type(layer).__module__.startswith("nbkeras.") or not type_check
    return bool(layer.quantized_channels) and own and (layer.is_quantized_by_keras or beyond_keras)


def _refusal(layer: Any) -> str:
    text = f"Layer {type(layer).__name__} does not have a `quantize` method implemented."
    if layer.quantized_channels and not layer.is_quantized_by_keras:
        text += " Keras does not quantize such layers; beyond_keras=True quantizes them here, but Keras cannot read the file"
    elif layer.quantized_channels:
        text += " Its base class has one: type_check=False quantizes it too"
    return text


def _quantize(chosen: list[Any], config: QuantizationConfig) -> None:
    """Convert the weights of layers to integers, between the steps of other threads."""
    with step_lock.alone():
        for layer in chosen:
            with tensor.on_gpu(layer._gpu), tensor.outside_program():
                if config.mode == "float8":
                    float8.add_scales(layer)
                    layer.quantization_config, layer.quantization_mode = config, config.mode
                else:
                    found = {name: weight.numpy() for name, weight in _weights_of(layer).items()}
                    _replace(layer, config, {k: packing.encoded_weight(layer, k, v, config) for k, v in found.items()})


def _replace(layer: Any, config: Any, encoded: Mapping[str, tuple]) -> None:
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


def _attribute(layer: Any, name: str) -> str:
    """The attribute that holds a weight: its name, with a leading underscore if LoRA adapts the weight."""
    return f"_{name}" if getattr(layer, "lora_enabled", False) and layer.adapted == name else name


def _weights_of(layer: Any) -> dict[str, Variable]:
    """The weights that become integers, by name. A layer may have fewer than its class declares."""
    found = {name: getattr(layer, _attribute(layer, name)) for name in layer.quantized_channels}
    return {name: weight for name, weight in found.items() if weight is not None}


def prepare_quantized(layer: Any) -> None:
    """Convert a built layer's weights to integers; a file will then overwrite their values."""
    check(layer)
    _quantize([layer], config_of_layer(layer))


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
        for name, weight in _weights_of(layer).items():
            packing.weight_quantizer(layer, name, weight.shape, config)
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


def _calibrate(model: Any, config: Any, taken: list[Any]) -> None:
    """Round the kernels of a model's blocks by samples; other layers keep their floats."""

    def rows_of(layer: Any) -> int:
        return packing.layout_of(layer, "kernel", layer.kernel.shape, config).summed

    kept = type(config)(**{**config.get_config(), "quantization_layer_structure": None})
    with step_lock.alone(), tensor.on_gpu(model._gpu), tensor.outside_program():
        for layer, arrays in calibration.encoded_layers(model, config, rows_of, lambda each: each in taken):
            layout = packing.layout_of(layer, "kernel", layer.kernel.shape, config)
            _replace(layer, kept, {"kernel": (layout, arrays)})


def _filter(filters: Any) -> Callable[[Any], bool]:
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
