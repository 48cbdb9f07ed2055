"""Functions of Keras 2's `keras.engine.saving`: the weights of some layers in a group of an HDF5 file."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from nbkeras.saving import hdf5, keras_2


def _held(layers: Iterable) -> Any:
    """An object with these layers that `nbkeras.saving` accepts as a model."""
    return SimpleNamespace(layers=list(layers), _own_weights=list)


def save_weights_to_hdf5_group(group: Any, layers: Iterable) -> None:
    """Write the layers' weights."""
    keras_2.write_weights(group, _held(layers))


def load_weights_from_hdf5_group(f: Any, layers: Iterable) -> None:
    """Read the layers' weights in order. Raises ValueError if they do not fit."""
    with hdf5.opened(f) as group:
        keras_2.read_weights(group, _held(layers))


def load_weights_from_hdf5_group_by_name(f: Any, layers: Iterable, skip_mismatch: bool = False) -> None:
    """Read the weights of layers that the group has by name. skip_mismatch: warn about weights that do not fit."""
    with hdf5.opened(f) as group:
        keras_2.read_weights(group, _held(layers), True, skip_mismatch)
