"""Keras 2's `keras.utils.layer_utils`: conversion of weights from another backend or data format."""

from typing import Any

import numpy as np

from nbkeras import layers
from nbkeras.compat.keras2.conv_utils import convert_kernel
from nbkeras.engine.annotations import one_of

_CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.SeparableConv2D,
)


def convert_all_kernels_in_model(model: Any) -> None:
    """Reverse the spatial axes of all convolution kernels of a model: Theano's kernels to TensorFlow's, or back."""
    for layer in model.layers:
        if isinstance(layer, _CONVOLUTIONS):
            layer.set_weights([convert_kernel(w) if w.ndim > 2 else w for w in layer.get_weights()])


def convert_dense_weights_data_format(
    dense: Any, previous_feature_map_shape: Any, target_data_format: str = "channels_first"
) -> None:
    """Reorder the rows of the kernel of a Dense layer after Flatten, for feature maps of another data format.

    previous_feature_map_shape: the input shape of Flatten, without the batch, in the target format.
    """
    formats = ("channels_first", "channels_last")
    one_of("convert_dense_weights_data_format", "data_format", target_data_format, formats)
    kernel, *bias = dense.get_weights()
    axes = (2, 0, 1) if target_data_format == "channels_first" else (1, 2, 0)
    before = [previous_feature_map_shape[axes.index(axis)] for axis in range(3)]
    maps = kernel.reshape(*before, -1)
    dense.set_weights([np.transpose(maps, (*axes, 3)).reshape(kernel.shape), *bias])
