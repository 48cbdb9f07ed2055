"""Keras's `utils`: a face that shows what lives in other files."""

from nbkeras.config import (
    disable_interactive_logging,
    enable_interactive_logging,
    is_interactive_logging_enabled,
    set_random_seed,
)
from nbkeras.downloads import get_file
from nbkeras.encoding import normalize, pad_sequences, to_categorical
from nbkeras.progress import Progbar
from nbkeras.pydataset import PyDataset, Sequence
from nbkeras.registry import custom_object_scope, get_custom_objects, register_keras_serializable

CustomObjectScope = custom_object_scope

__all__ = [
    "CustomObjectScope",
    "Progbar",
    "PyDataset",
    "Sequence",
    "custom_object_scope",
    "disable_interactive_logging",
    "enable_interactive_logging",
    "get_custom_objects",
    "get_file",
    "is_interactive_logging_enabled",
    "normalize",
    "pad_sequences",
    "register_keras_serializable",
    "set_random_seed",
    "to_categorical",
]
