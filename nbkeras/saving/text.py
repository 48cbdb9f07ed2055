"""Floor 3: architectures as JSON, in Keras 3's form."""

from __future__ import annotations

import json
from typing import Any

from nbkeras.saving import keras_3
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
