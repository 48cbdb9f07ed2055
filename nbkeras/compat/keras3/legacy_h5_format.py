"""Keras 3's internal module `keras.src.legacy.saving.legacy_h5_format`: Keras 2's HDF5 files, and their groups of weights."""

from typing import Any

from nbkeras.saving import hdf5, keras_2
from nbkeras.saving import load_model as load_model_from_hdf5  # noqa: F401
from nbkeras.saving import save_model as save_model_to_hdf5  # noqa: F401


def save_weights_to_hdf5_group(f: Any, model: Any) -> None:
    """Write a model's weights into a file or group."""
    keras_2.write_weights(f, model)


def load_weights_from_hdf5_group(f: Any, model: Any) -> None:
    """Read a model's weights in order. Raises ValueError if they do not fit."""
    with hdf5.opened(f) as group:
        keras_2.read_weights(group, model)


def load_weights_from_hdf5_group_by_name(f: Any, model: Any, skip_mismatch: bool = False) -> None:
    """Read the weights of layers that the group has by name. skip_mismatch: warn about weights that do not fit."""
    with hdf5.opened(f) as group:
        keras_2.read_weights(group, model, True, skip_mismatch)
