"""Keras's `preprocessing`: preparing sequences, texts and images for a model, in NumPy."""

from nbkeras.engine import lazy_names as _lazy_names

_LATER = {
    "": "image sequence text",
    "nbkeras.data.directories": "image_dataset_from_directory text_dataset_from_directory",
    "nbkeras.data.selection": "timeseries_dataset_from_array",
}
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER)
