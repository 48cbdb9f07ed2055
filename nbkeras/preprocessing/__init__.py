"""Keras's `preprocessing`: sequences, texts and images made ready for a model, in NumPy."""

from nbkeras import later as _later
from nbkeras.utils import image_dataset_from_directory, text_dataset_from_directory, timeseries_dataset_from_array

_HERE = {
    "image_dataset_from_directory": image_dataset_from_directory,
    "text_dataset_from_directory": text_dataset_from_directory,
    "timeseries_dataset_from_array": timeseries_dataset_from_array,
}
__getattr__, __dir__, __all__ = _later.names(__name__, _HERE, {"": "image sequence text"})
