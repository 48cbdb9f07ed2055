"""Keras 3's internal module `keras.src.saving.serialization_lib`: objects as configurations."""

from typing import Any

from nbkeras.engine import load_budget
from nbkeras.engine.registry import CustomObjectScope as ObjectSharingScope  # noqa: F401
from nbkeras.saving import deserialize_keras_object as deserialize_keras_object
from nbkeras.saving import serialize_keras_object as serialize_keras_object


def record_object_after_deserialization(obj: Any, obj_id: Any) -> None:
    """Do nothing: objects that a configuration shares are found by nbkeras itself."""


def in_safe_mode() -> bool:
    """Whether a model file is read with safe_mode=True."""
    return load_budget.is_limited()
