"""Keras 3's internal functions for the weights in groups of HDF5 files."""

import numpy as np
import pytest

import nbkeras as keras
from nbkeras import layers
from nbkeras.compat.keras3 import legacy_h5_format


def test_weights_of_a_model_in_a_group(tmp_path):
    h5py = pytest.importorskip("h5py")
    first, second = (keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense")]) for _ in range(2))
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file.create_group("model"), first)
    with h5py.File(tmp_path / "weights.h5") as file:
        legacy_h5_format.load_weights_from_hdf5_group(file["model"], second)
        np.testing.assert_array_equal(second.get_weights()[0], first.get_weights()[0])
        other = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="dense"), layers.Dense(1, name="more")])
        legacy_h5_format.load_weights_from_hdf5_group_by_name(file["model"], other)
        np.testing.assert_array_equal(other.get_weights()[0], first.get_weights()[0])
        with pytest.raises(ValueError, match="the model has 2 layers with weights, the file 1"):
            legacy_h5_format.load_weights_from_hdf5_group(file["model"], other)
