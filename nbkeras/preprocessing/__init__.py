"""Keras's `preprocessing`: preparing sequences, texts and images for a model, in NumPy."""

from nbkeras import later as _later

_LATER = {
    "": "image sequence text",
    "nbkeras.directories": "image_dataset_from_directory text_dataset_from_directory",
    "nbkeras.selection": "timeseries_dataset_from_array",
}
__getattr__, __dir__, __all__ = _later.names(globals(), _LATER)
