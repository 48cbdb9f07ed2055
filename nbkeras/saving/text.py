"""Floor 3: architectures as JSON: Keras 3's form is written, Keras 3's and Keras 2's forms are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbkeras.engine.registry import custom_object_scope
from nbkeras.engine.user_errors import entry
from nbkeras.saving import archive, keras_2_config, keras_3
from nbkeras.saving.serialization import plain


def model_to_json(model: Any, **options) -> str:
    """A model's architecture as JSON, without weights; `model_from_json` of nbkeras and Keras 3 reads it."""
    return json.dumps(keras_3.model_config(model), default=plain, **options)


@entry
def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make a model with new weights from the text of `model.to_json()` of nbkeras, Keras 3 or Keras 2."""
    return model_from_config(archive.parse_json(json_string, "the text"), custom_objects)


@entry
def model_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make a model with new weights from a configuration {'class_name', 'config', ...} of Keras 3 or Keras 2."""
    with custom_object_scope(custom_objects or {}), archive.readable("the configuration"):
        if "module" not in config:
            config = keras_2_config.translated(config)
        with keras_3.limits(None):
            return keras_3.model_from_config(config)
