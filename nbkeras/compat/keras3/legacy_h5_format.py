"""Keras 3's internal module `keras.src.legacy.saving.legacy_h5_format`: Keras 2's HDF5 files."""

from nbkeras.compat.keras2.saving import load_weights_from_hdf5_group as load_weights_from_hdf5_group
from nbkeras.compat.keras2.saving import load_weights_from_hdf5_group_by_name as load_weights_from_hdf5_group_by_name
from nbkeras.saving import load_model as load_model_from_hdf5  # noqa: F401
from nbkeras.saving import save_model as save_model_to_hdf5  # noqa: F401
