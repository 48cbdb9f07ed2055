"""Keras 2's `to_yaml` and `model_from_yaml`, by the optional package pyyaml: plain values only, nothing is executed."""

import json
from typing import Any

from nbkeras import models


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError("models as YAML need pyyaml: pip install pyyaml; model.to_json() needs nothing") from None
    return yaml


def to_yaml(model: Any, **options) -> str:
    """A model's architecture as YAML, without weights."""
    return _yaml().safe_dump(json.loads(model.to_json()), **options)


def model_from_yaml(yaml_string: str, custom_objects=None) -> Any:
    """A model with new weights from `model.to_yaml()`."""
    return models.model_from_json(json.dumps(_yaml().safe_load(yaml_string)), custom_objects)
