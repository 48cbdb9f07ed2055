"""Pooling of sequences, images and volumes: maxima and means of windows, or of all positions."""

from __future__ import annotations

from typing import Any

from nbkeras import ops
from nbkeras.engine.options import config_from
from nbkeras.layers.spatial import Spatial, check_lengths
from nbkeras.ops.window import output_length, padding_of, sizes_of


class _Pooling(Spatial):
    def __init__(self, pool_size, strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        name = type(self).__name__
        self.pool_size = sizes_of(name, "pool_size", pool_size, self.rank)
        self.strides = self.pool_size if strides is None else sizes_of(name, "strides", strides, self.rank)
        self.padding = padding_of(name, padding, ("valid", "same"))

    def compute_output_shape(self, input_shape):
        windows = zip(self.lengths(input_shape), self.pool_size, self.strides, strict=True)
        lengths = [output_length(n, size, stride, 1, self.padding) for n, size, stride in windows]
        check_lengths(self, input_shape, lengths, f"pool_size={self.pool_size}")
        return self.with_lengths(input_shape, lengths)

    get_config = config_from(__init__)


class _MaxPooling(_Pooling):
    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # for its errors
        return ops.max_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class _AveragePooling(_Pooling):
    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # for its errors
        return ops.average_pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class MaxPooling1D(_MaxPooling):
    """The largest of each `pool_size` steps; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 1

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class MaxPooling2D(_MaxPooling):
    """The largest of each window of `pool_size` places; strides None: the pool size. padding: 'valid' or 'same'."""

    def __init__(self, pool_size=(2, 2), strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class MaxPooling3D(_MaxPooling):
    """The largest of each window of a volume; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 3

    def __init__(self, pool_size=(2, 2, 2), strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class AveragePooling1D(_AveragePooling):
    """The mean of each `pool_size` steps, padded ones left out; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 1

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class AveragePooling2D(_AveragePooling):
    """The mean of each window, padded places left out; strides None: the pool size. padding: 'valid' or 'same'."""

    def __init__(self, pool_size=(2, 2), strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume, padded places left out; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 3

    def __init__(self, pool_size=(2, 2, 2), strides=None, padding="valid", data_format=None, **kwargs):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class _GlobalPooling(Spatial):
    def __init__(self, data_format=None, keepdims=False, **kwargs):
        super().__init__(data_format, **kwargs)
        self.keepdims = bool(keepdims)

    def compute_output_shape(self, input_shape):
        self.lengths(input_shape)  # for its error
        if self.keepdims:
            return self.with_lengths(input_shape, [1] * self.rank)
        return (input_shape[0], input_shape[self.channel_axis()])

    get_config = config_from(__init__)


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs):
        return ops.max(inputs, axis=tuple(self.space()), keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """The largest of all steps: (batch, steps, channels) -> (batch, channels), or (batch, 1, channels) with keepdims."""

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The largest of all places: (batch, rows, columns, channels) -> (batch, channels); keepdims keeps axes of 1."""


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The largest of all places of a volume: (batch, depth, rows, columns, channels) -> (batch, channels)."""

    rank = 3


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean of all steps: (batch, steps, channels) -> (batch, channels), or (batch, 1, channels) with keepdims.

    With a mask, the mean of the steps that count; NaN where none does, as in Keras.
    """

    rank = 1
    supports_masking = True

    def call(self, inputs, mask=None):
        steps = self.space()[0]
        if mask is None:
            return ops.mean(inputs, axis=steps, keepdims=self.keepdims)
        counts = ops.expand_dims(mask, self.channel_axis())
        total = ops.sum(ops.where(counts, inputs, 0), axis=steps, keepdims=self.keepdims)
        return total / ops.sum(ops.cast(counts, inputs.dtype), axis=steps, keepdims=self.keepdims)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs):
        return ops.mean(inputs, axis=tuple(self.space()), keepdims=self.keepdims)


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean of all places: (batch, rows, columns, channels) -> (batch, channels); keepdims keeps axes of 1."""


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean of all places of a volume: (batch, depth, rows, columns, channels) -> (batch, channels)."""

    rank = 3
