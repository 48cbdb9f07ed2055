"""Floor 3: converting the arguments of `compile` to a configuration and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nbkeras import losses, metrics, optimizers
from nbkeras.engine.registry import sharing_scope
from nbkeras.engine.user_errors import warn
from nbkeras.saving.serialization import plain

_WRITE = {"loss": losses.serialize, "metrics": metrics.serialize, "weighted_metrics": metrics.serialize}
_READ = {"loss": losses.deserialize, "metrics": metrics.deserialize, "weighted_metrics": metrics.deserialize}


def compile_config(model: Any) -> dict[str, Any] | None:
    """The arguments of a model's `compile`, as values for JSON.

    Args:
        model: A compiled model.

    Returns:
        A dict for `read_compile_config`; None, with a warning, if an argument has no name (a lambda).

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> model.compile("sgd", loss="mse", metrics=["mae"])
        >>> config = keras.saving.compile_config(model)
        >>> config["loss"], config["metrics"], config["optimizer"]["class_name"]
        ('mse', ['mae'], 'SGD')
    """
    given = dict(model.compile_arguments)
    try:
        with sharing_scope():
            config = {key: _each_object(_WRITE[key], given[key]) if key in _WRITE else given[key] for key in given}
            config["optimizer"] = optimizers.serialize(model.optimizer)
        json.dumps(config, default=plain)
    except (TypeError, ValueError, NotImplementedError) as error:
        warn(f"the model is saved without its compilation: {error}")
        return None
    return config


def read_compile_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `compile` from their configuration.

    Args:
        config: The result of `compile_config`, or the `compile_config` in a model file.

    Returns:
        A dict of arguments by name, with losses, metrics and optimizer as objects.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> model.compile("sgd", loss="mse")
        >>> arguments = keras.saving.read_compile_config(keras.saving.compile_config(model))
        >>> type(arguments["optimizer"]).__name__
        'SGD'
    """
    arguments = {key: _each_object(_READ[key], value) if key in _READ else value for key, value in config.items()}
    arguments["optimizer"] = optimizers.deserialize(_optimizer(config["optimizer"]))
    return arguments


_UNUSED = ("loss_scale_factor", "gradient_accumulation_steps", "jit_compile", "is_legacy_optimizer")


def _optimizer(config: Any) -> Any:
    """An optimizer's configuration without unused entries of other Keras versions."""
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        return config
    kept = {key: value for key, value in config["config"].items() if value or key not in _UNUSED}
    kept.pop("jit_compile", None)
    return {**config, "config": kept}


def map_specs(function: Callable, value: Any) -> Any:
    """Apply a function to each specification of a loss or metric in lists and in dicts by name."""
    if isinstance(value, list | tuple):
        return [map_specs(function, item) for item in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: map_specs(function, item) for key, item in value.items()}
    return function(value)


def _each_object(function: Callable, value: Any) -> Any:
    """Apply a function to each specification; names (strings) are kept."""
    return map_specs(lambda each: each if each is None or isinstance(each, str) else function(each), value)
