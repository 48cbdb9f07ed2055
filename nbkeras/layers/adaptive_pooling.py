"""Pooling to a given size: maxima and means of windows that cover each axis as evenly as they can."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.layers.spatial import Spatial, WindowSize


class _AdaptivePooling(Spatial):
    def __init__(self, output_size: WindowSize, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(data_format, **kwargs)
        option.keep(self, locals())

    def compute_output_shape(self, input_shape):
        self.lengths(input_shape)  # for its error
        return self.with_lengths(input_shape, self.output_size)


class _AdaptiveMaxPooling(_AdaptivePooling):
    def call(self, inputs):
        return ops.adaptive_max_pool(inputs, self.output_size, self.data_format)


class _AdaptiveAveragePooling(_AdaptivePooling):
    def call(self, inputs):
        return ops.adaptive_average_pool(inputs, self.output_size, self.data_format)


class AdaptiveMaxPooling1D(_AdaptiveMaxPooling):
    """The largest of each of `output_size` windows of steps: (batch, steps, channels) -> (batch, output_size, channels)."""

    rank = 1


class AdaptiveMaxPooling2D(_AdaptiveMaxPooling):
    """The largest of each window; output_size: an integer or (rows, columns)."""


class AdaptiveMaxPooling3D(_AdaptiveMaxPooling):
    """The largest of each window; output_size: an integer or (depth, rows, columns)."""

    rank = 3


class AdaptiveAveragePooling1D(_AdaptiveAveragePooling):
    """The mean of each of `output_size` windows of steps: (batch, steps, channels) -> (batch, output_size, channels)."""

    rank = 1


class AdaptiveAveragePooling2D(_AdaptiveAveragePooling):
    """The mean of each window; output_size: an integer or (rows, columns)."""


class AdaptiveAveragePooling3D(_AdaptiveAveragePooling):
    """The mean of each window; output_size: an integer or (depth, rows, columns)."""

    rank = 3
