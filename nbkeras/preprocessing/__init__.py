"""Keras's `preprocessing`: preparing sequences, texts and images for a model, in NumPy."""

from typing import TYPE_CHECKING

from nbkeras.engine import lazy_names as _lazy_names

if TYPE_CHECKING:  # imported at first use
    from nbkeras.data.directories import image_dataset_from_directory as image_dataset_from_directory
    from nbkeras.data.directories import text_dataset_from_directory as text_dataset_from_directory
    from nbkeras.data.selection import timeseries_dataset_from_array as timeseries_dataset_from_array
    from nbkeras.preprocessing import image as image
    from nbkeras.preprocessing import sequence as sequence
    from nbkeras.preprocessing import text as text

_lazy_names.attach(globals())
