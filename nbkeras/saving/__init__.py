"""Keras's `saving`: models and weights in files of Keras 3, Keras 2 and safetensors, and objects as configurations."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.registry import CustomObjectScope as CustomObjectScope
from nbkeras.engine.registry import custom_object_scope as custom_object_scope
from nbkeras.engine.registry import get_custom_objects as get_custom_objects
from nbkeras.engine.registry import get_registered_name as get_registered_name
from nbkeras.engine.registry import get_registered_object as get_registered_object
from nbkeras.engine.registry import register_keras_serializable as register_keras_serializable

if TYPE_CHECKING:  # imported at first use
    from nbkeras.saving.archive import atomic_file as atomic_file
    from nbkeras.saving.compilation import compile_config as compile_config
    from nbkeras.saving.compilation import read_compile_config as read_compile_config
    from nbkeras.saving.file_editor import *
    from nbkeras.saving.files import convert as convert
    from nbkeras.saving.files import from_bytes as from_bytes
    from nbkeras.saving.files import load_weights as load_weights
    from nbkeras.saving.files import save_model as save_model
    from nbkeras.saving.files import save_weights as save_weights
    from nbkeras.saving.files import to_bytes as to_bytes
    from nbkeras.saving.keras_3_config import model_to_json as model_to_json
    from nbkeras.saving.objects import *
    from nbkeras.saving.state_tree import *
    from nbkeras.training.loading import *

_lazy_names.attach(globals())
