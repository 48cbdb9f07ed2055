"""Keras 3's internal module `keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer`."""

from nbkeras.compat.keras3.data_layer import DataLayer
from nbkeras.layers.augmenting import images


class BaseImagePreprocessingLayer(images.BaseImagePreprocessingLayer, DataLayer, registered=False):
    """The base of image layers, with the functions of `self.backend`."""
