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
    """A model's architecture as JSON, in Keras 3's form, without weights.

    Args:
        model: The model.
        **options: Arguments of `json.dumps`, such as indent=2.

    Returns:
        A string; `model_from_json` of nbkeras and Keras 3 reads it.

    Example:
        >>> text = keras.saving.model_to_json(keras.Sequential([layers.Dense(2, input_shape=(3,))]))
        >>> text[:25]
        '{"module": "keras", "clas'
    """
    return json.dumps(keras_3.model_config(model), default=plain, **options)


@entry
def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make a model with new weights from JSON.

    Args:
        json_string: The text of `model.to_json()` of nbkeras, Keras 3 or Keras 2.
        custom_objects: Classes and functions of your own that it names, by name.

    Raises:
        ValueError: if the text is no such JSON, or names a class that is not known.

    Example:
        >>> text = keras.Sequential([layers.Dense(2, input_shape=(3,))]).to_json()
        >>> keras.models.model_from_json(text).count_params()
        8
    """
    return model_from_config(archive.parse_json(json_string, "the text"), custom_objects)


@entry
def model_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Make a model with new weights from a configuration.

    Args:
        config: A dict {'class_name', 'config', ...} of Keras 3 or Keras 2, as in their model files.
        custom_objects: Classes and functions of your own that it names, by name.

    Raises:
        ValueError: if it is no such configuration, or names a class that is not known.

    Example:
        >>> import json
        >>> config = json.loads(keras.Sequential([layers.Dense(2, input_shape=(3,))]).to_json())
        >>> keras.models.model_from_config(config).count_params()
        8
    """
    with custom_object_scope(custom_objects), archive.readable("the configuration"):
        if "module" not in config:
            config = keras_2_config.translated(config)
        with keras_3.limits(None):
            return keras_3.model_from_config(config)
