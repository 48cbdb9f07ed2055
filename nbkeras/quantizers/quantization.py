"""`quantize` of layers and models: the weights that a layer names in `quantized_channels` become variables of integers.

`engine.dtype_policy.quantized` is this module: a layer finds its configuration and its dtype policy here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from nbkeras.engine import step_lock, tensor
from nbkeras.engine.user_errors import warn
from nbkeras.quantizers import calibration
from nbkeras.quantizers.configs import QuantizationConfig, config_of, replace_weights, weights_of
from nbkeras.quantizers.configs import config_from as config_from
from nbkeras.quantizers.configs import config_of_layer as config_of_layer
from nbkeras.quantizers.configs import policy_of_layer as policy_of_layer
from nbkeras.quantizers.packing import Layout
from nbkeras.quantizers.policies import KINDS as KINDS
from nbkeras.quantizers.policies import named as named

# -------------------- layers --------------------


def quantize_layer(layer: Any, mode: Any, config: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert a layer's weights to integers. Raises the same errors as Keras."""
    config = config_of(mode, config)
    if config._needs_samples:
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
    """Convert the weights of layers, between the steps of other threads."""
    with step_lock.alone():
        for layer in chosen:
            with tensor.on_gpu(layer._gpu), tensor.outside_program():
                config._convert(layer)


# -------------------- models --------------------


def quantize_model(model: Any, mode: Any, config: Any, filters: Any, type_check: bool, beyond_keras: bool) -> None:
    """Convert the weights of all layers that can be quantized. All are checked before any is changed."""
    config = config_of(mode, config)
    beyond_keras = beyond_keras and config.mode == "int8"
    chosen = _filter(filters)
    leaves = [layer for layer in model._all_layers() if len(layer._all_layers()) == 1]
    wanted = [layer for layer in leaves if layer.quantized_channels and chosen(layer)]
    if config._is_of_products:
        wanted = [layer for layer in wanted if set(layer.quantized_channels) == {"kernel"}]
    taken = [layer for layer in wanted if _offers(layer, type_check, beyond_keras)]
    for layer in taken if model.built else [model]:
        check(layer)
        for name, weight in () if config._is_of_products else weights_of(layer).items():
            config._quantizer_of(layer, name, weight.shape)
    left = [f"{layer.name} ({type(layer).__name__})" for layer in wanted if layer not in taken and layer.weights]
    if left:
        examples = ", ".join(left[:5]) + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        warn(f"not quantized: {examples}. {_refusal(next(each for each in wanted if each not in taken))}")
    if config._needs_samples:
        _calibrate(model, config, taken)
    else:
        _quantize(taken, config)


def _calibrate(model: Any, config: Any, taken: list[Any]) -> None:
    """Round the kernels of a model's blocks by samples; other layers keep their floats."""

    def layout_of(layer: Any) -> Layout:
        return config._layout(layer, "kernel", layer.kernel.shape)

    kept = type(config)(**{**config.get_config(), "quantization_layer_structure": None})
    with step_lock.alone(), tensor.on_gpu(model._gpu), tensor.outside_program():
        for layer, arrays in calibration.encoded_layers(model, config, layout_of, lambda each: each in taken):
            replace_weights(layer, kept, {"kernel": (layout_of(layer), arrays)})


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
