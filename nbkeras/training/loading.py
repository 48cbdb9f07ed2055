"""Floor 3: makes models from files, JSON and configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbkeras.building.layer import layers
from nbkeras.engine.user_errors import entry
from nbkeras.saving import archive, files
from nbkeras.training.model import Model

layers.later(
    lambda: dict.fromkeys(("FeatureSpace", "TFDConcat", "TFDIdentity"), "nbkeras.preprocessing.features.feature_space")
)
layers.later(lambda: {"FillMissing": "nbkeras.preprocessing.features.missing"})


@entry
def load_model(
    filepath: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Model:
    """Load a model from a file written by `save_model`, Keras 3 (.keras) or Keras 2 (.h5).

    Args:
        filepath: A path, a folder written with zipped=False, a binary file, or an open h5py.File.
        custom_objects: Your own classes and functions, by name. The file can name nothing else outside nbkeras. Loading never
            runs code from a file, whatever safe_mode is.
        compile: Whether to compile the model and load the optimizer's state.
        safe_mode: False allows a model that needs far more memory than its file has bytes.

    Returns:
        The model with the file's weights.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a model file, names an unknown class or function, or is a SavedModel of TensorFlow.

    Example:
        >>> class Twice(layers.Layer):
        ...     def call(self, x):
        ...         return 2 * x
        >>> keras.Sequential([layers.Input((3,)), Twice()]).save("model.keras")
        >>> model = keras.models.load_model("model.keras", custom_objects={"Twice": Twice})
        >>> model.predict(np.ones((1, 3)))
        array([[2., 2., 2.]], dtype=float32)
    """
    return files.read_model(filepath, custom_objects, compile, safe_mode)


@entry
def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Make a model with new weights from JSON.

    Args:
        json_string: The result of `model.to_json()` of nbkeras, Keras 3 or Keras 2.
        custom_objects: Your own classes and functions in the JSON, by name.

    Raises:
        ValueError: if the string is not the JSON of a model, or names an unknown class.

    Example:
        >>> text = keras.Sequential([layers.Dense(2, input_shape=(3,))]).to_json()
        >>> keras.models.model_from_json(text).count_params()
        8
    """
    return model_from_config(archive.parse_json(json_string, "the text"), custom_objects)


@entry
def model_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Make a model with new weights from a configuration.

    Args:
        config: A dict {'class_name', 'config', ...} of Keras 3 or Keras 2, as in their model files.
        custom_objects: Your own classes and functions in the configuration, by name.

    Raises:
        ValueError: if it is not the configuration of a model, or names an unknown class.

    Example:
        >>> import json
        >>> config = json.loads(keras.Sequential([layers.Dense(2, input_shape=(3,))]).to_json())
        >>> keras.models.model_from_config(config).count_params()
        8
    """
    return files.model_from_config(config, custom_objects)
