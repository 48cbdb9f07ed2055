"""Keras 2's `model_from_yaml`, with the optional package pyyaml; reads only plain values, executes nothing."""

import json
from typing import Any

from nbkeras.compat.methods import yaml_package
from nbkeras.saving.archive import check_count, readable
from nbkeras.training.loading import model_from_json


def model_from_yaml(yaml_string: str, custom_objects=None) -> Any:
    """A model with new weights from YAML. Only Keras 2 has this function: use `models.model_from_json`.

    Args:
        yaml_string: The result of `to_yaml`; nothing in it is executed.
        custom_objects: Your own classes and functions that it uses, by name.

    Raises:
        ImportError: if pyyaml is not installed.
        ValueError: for any other string.

    Example:
        >>> from nbkeras.compat.methods import to_yaml
        >>> from nbkeras.compat.model_yaml import model_from_yaml
        >>> text = to_yaml(keras.Sequential([layers.Dense(2, input_shape=(3,))]))
        >>> model_from_yaml(text).count_params()
        8
    """
    yaml = yaml_package()
    try:
        value = yaml.safe_load(yaml_string)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"the string is not valid YAML: {error}") from None
    check_count(_parts(value, {}), "the text")
    with readable("the text"):
        text = json.dumps(value)
    return model_from_json(text, custom_objects)


def _parts(value: Any, known: dict[int, int]) -> int:
    """The number of parts of a value with all YAML aliases expanded. Raises ValueError for a value that contains itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = -1
        known[id(value)] = 1 + sum(
            _parts(each, known) for each in (value.values() if isinstance(value, dict) else value)
        )
    if known[id(value)] < 0:
        raise ValueError("the string has an alias to a value that contains the alias")
    return known[id(value)]
