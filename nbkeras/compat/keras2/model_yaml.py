"""Keras 2's `to_yaml` and `model_from_yaml`, with the optional package pyyaml; reads only plain values, executes nothing."""

import json
from typing import Any

from nbkeras.engine.user_errors import optional_import
from nbkeras.saving import files
from nbkeras.saving.archive import check_count, parse_json, readable


def _yaml() -> Any:
    with optional_import("models as YAML need pyyaml: pip install pyyaml; model.to_json() needs nothing"):
        import yaml
    return yaml


def to_yaml(model: Any, **options) -> str:
    """A model's architecture as YAML, without weights. Only Keras 2 has this method: use `to_json`.

    Args:
        model: The model.
        **options: Arguments of `yaml.safe_dump`.

    Raises:
        ImportError: if pyyaml is not installed.
    """
    return _yaml().safe_dump(json.loads(model.to_json()), **options)


def model_from_yaml(yaml_string: str, custom_objects=None) -> Any:
    """A model with new weights from YAML. Only Keras 2 has this function: use `models.model_from_json`.

    Args:
        yaml_string: The result of `to_yaml`; nothing in it is executed.
        custom_objects: Your own classes and functions that it uses, by name.

    Raises:
        ImportError: if pyyaml is not installed.
        ValueError: for any other string.

    Example:
        >>> from nbkeras.compat.keras2.model_yaml import model_from_yaml, to_yaml
        >>> text = to_yaml(keras.Sequential([layers.Dense(2, input_shape=(3,))]))
        >>> model_from_yaml(text).count_params()
        8
    """
    yaml = _yaml()
    try:
        value = yaml.safe_load(yaml_string)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"the string is not valid YAML: {error}") from None
    check_count(_parts(value, {}), "the text")
    with readable("the text"):
        text = json.dumps(value)
    return files.model_from_config(parse_json(text, "the text"), custom_objects)


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
