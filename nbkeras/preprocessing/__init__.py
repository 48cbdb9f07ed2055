"""Keras's `preprocessing`: functions in NumPy that prepare sequences, texts and images for a model."""

from typing import TYPE_CHECKING

from nbkeras import later as _later

if TYPE_CHECKING:  # imported when first asked for
    from nbkeras.directories import image_dataset_from_directory as image_dataset_from_directory
    from nbkeras.directories import text_dataset_from_directory as text_dataset_from_directory
    from nbkeras.preprocessing import image as image
    from nbkeras.preprocessing import sequence as sequence
    from nbkeras.preprocessing import text as text
    from nbkeras.selection import timeseries_dataset_from_array as timeseries_dataset_from_array

_later.attach(globals())
