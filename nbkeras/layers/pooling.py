"""Pooling of sequences, images and volumes: maxima and means of windows, or of all positions."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.layers.spatial import Padding, Spatial, WindowSize, check_lengths
from nbkeras.ops.window import output_length

_Strides = Annotated[Any, option.optional(WindowSize)]


class _Pooling(Spatial):
    pool_size: tuple
    strides: tuple

    def __init__(
        self,
        pool_size: WindowSize,
        strides: _Strides = None,
        padding: Padding = "valid",
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(data_format, **kwargs)
        option.keep(self, locals())
        self.strides = self.strides or self.pool_size

    def compute_output_shape(self, input_shape):
        windows = zip(self.lengths(input_shape), self.pool_size, self.strides, strict=True)
        lengths = [output_length(n, size, stride, 1, self.padding) for n, size, stride in windows]
        check_lengths(self, input_shape, lengths, f"pool_size={self.pool_size}")
        return self.with_lengths(input_shape, lengths)


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

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class MaxPooling2D(_MaxPooling):
    """The largest of each window of `pool_size` places; strides None: the pool size. padding: 'valid' or 'same'."""

    def __init__(
        self, pool_size=(2, 2), strides=None, padding="valid", data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class MaxPooling3D(_MaxPooling):
    """The largest of each window of a volume; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 3

    def __init__(
        self, pool_size=(2, 2, 2), strides=None, padding="valid", data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class AveragePooling1D(_AveragePooling):
    """The mean of each `pool_size` steps, padded ones left out; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 1

    def __init__(self, pool_size=2, strides=None, padding="valid", data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class AveragePooling2D(_AveragePooling):
    """The mean of each window, padded places left out; strides None: the pool size. padding: 'valid' or 'same'."""

    def __init__(
        self, pool_size=(2, 2), strides=None, padding="valid", data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume, padded places left out; strides None: the pool size. padding: 'valid' or 'same'."""

    rank = 3

    def __init__(
        self, pool_size=(2, 2, 2), strides=None, padding="valid", data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(pool_size, strides, padding, data_format, **kwargs)


class _GlobalPooling(Spatial):
    def __init__(self, data_format=None, keepdims: option.Flag = False, **kwargs: Unpack[LayerOptions]):
        super().__init__(data_format, **kwargs)
        option.keep(self, locals())

    def compute_output_shape(self, input_shape):
        self.lengths(input_shape)  # for its error
        if self.keepdims:
            return self.with_lengths(input_shape, [1] * self.rank)
        return (input_shape[0], input_shape[self.channel_axis()])


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
