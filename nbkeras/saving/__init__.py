"""Keras's `saving`: models and weights in files of Keras 3, Keras 2 and safetensors, and objects as configurations."""

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.registry import custom_object_scope as custom_object_scope
from nbkeras.engine.registry import get_custom_objects as get_custom_objects
from nbkeras.engine.registry import get_registered_name as get_registered_name
from nbkeras.engine.registry import get_registered_object as get_registered_object
from nbkeras.engine.registry import register_keras_serializable as register_keras_serializable

CustomObjectScope = custom_object_scope

_LATER = {
    "archive": "atomic_file",
    "compilation": "compile_config read_compile_config",
    "files": "convert from_bytes load_model load_weights save_model save_weights to_bytes",
    "objects": "deserialize_keras_object serialize_keras_object",
    "text": "model_from_config model_from_json model_to_json",
}
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER, ["nbkeras.engine.registry"])
