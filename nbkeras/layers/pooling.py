"""Pooling of sequences, images and volumes: maxima and means of windows, or of all positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.layers.spatial import Padding, Spatial, WindowSize, check_lengths
from nbkeras.ops.window import output_length

_Strides = Annotated[Any, option.optional(WindowSize)]


class _Pooling(Spatial):
    """Pooling by windows of a fixed size.

    Args:
        pool_size: The size of the window.
        strides: The distance from one window to the next; None for the pool size.
        padding ('valid' or 'same'): 'valid': only whole windows; 'same': ceil(length / strides) windows;
            windows at the ends may extend beyond the input; positions outside do not count.

    Output shape:
        1: (batch, new steps, channels), or with the channels second. A new length is (length - pool size) // strides + 1
            for 'valid', ceil(length / strides) for 'same'.
        2: (batch, new rows, new columns, channels), or with the channels second. A new length is (length - pool size) //
            strides + 1 for 'valid', ceil(length / strides) for 'same'.
        3: (batch, new depth, new rows, new columns, channels), or with the channels second. A new length is (length -
            pool size) // strides + 1 for 'valid', ceil(length / strides) for 'same'.

    Raises:
        ValueError: if no window fits into the input.
    """

    strides: tuple
    _pool: Callable

    def __init__(
        self,
        pool_size: WindowSize = 2,
        strides: _Strides = None,
        padding: Padding = "valid",
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.strides = self.strides or self.pool_size

    def compute_output_shape(self, input_shape):
        windows = zip(self.lengths(input_shape), self.pool_size, self.strides, strict=True)
        lengths = [output_length(n, size, stride, 1, self.padding) for n, size, stride in windows]
        check_lengths(self, input_shape, lengths, f"pool_size={self.pool_size}")
        return self.with_lengths(input_shape, lengths)

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # called for its errors
        return self._pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)


class _MaxPooling(_Pooling):
    _pool = staticmethod(ops.max_pool)


class _AveragePooling(_Pooling):
    _pool = staticmethod(ops.average_pool)


class MaxPooling1D(_MaxPooling):
    """The largest number of each window of sequences, channel by channel.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 5, 1)
        >>> layers.MaxPooling1D(2)(x).numpy().ravel()
        array([2., 4.], dtype=float32)
        >>> layers.MaxPooling1D(2, padding="same")(x).numpy().ravel()
        array([2., 4., 5.], dtype=float32)
    """

    rank = 1


class MaxPooling2D(_MaxPooling, defaults={"pool_size": (2, 2)}):
    """The largest number of each window of images, channel by channel.

    Args:
        pool_size: The size of the window: (rows, columns), or an integer for both.

    Example:
        >>> x = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)  # 1 to 4 in the first row
        >>> layers.MaxPooling2D(2)(x).numpy()[0, :, :, 0]
        array([[ 6.,  8.],
                [14., 16.]], dtype=float32)
        >>> layers.MaxPooling2D(3, strides=1, padding="same")(x).shape
        (1, 4, 4, 1)
    """


class MaxPooling3D(_MaxPooling, defaults={"pool_size": (2, 2, 2)}):
    """The largest number of each window of volumes, channel by channel.

    Args:
        pool_size: The size of the window: (depth, rows, columns), or an integer for all three.

    Example:
        >>> layers.MaxPooling3D(2)(np.ones((1, 4, 6, 8, 3))).shape
        (1, 2, 3, 4, 3)
    """

    rank = 3


class AveragePooling1D(_AveragePooling):
    """The mean of each window of sequences, channel by channel.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 4.0, 5.0]).reshape(1, 5, 1)
        >>> layers.AveragePooling1D(2)(x).numpy().ravel()
        array([1.5, 3.5], dtype=float32)
        >>> layers.AveragePooling1D(2, padding="same")(x).numpy().ravel()
        array([1.5, 3.5, 5. ], dtype=float32)
    """

    rank = 1


class AveragePooling2D(_AveragePooling, defaults={"pool_size": (2, 2)}):
    """The mean of each window of images, channel by channel.

    Args:
        pool_size: The size of the window: (rows, columns), or an integer for both.

    Example:
        >>> x = np.arange(1.0, 17.0).reshape(1, 4, 4, 1)  # 1 to 4 in the first row
        >>> layers.AveragePooling2D(2)(x).numpy()[0, :, :, 0]
        array([[ 3.5,  5.5],
                [11.5, 13.5]], dtype=float32)
        >>> layers.AveragePooling2D(3, strides=1, padding="same")(x).shape
        (1, 4, 4, 1)
    """


class AveragePooling3D(_AveragePooling, defaults={"pool_size": (2, 2, 2)}):
    """The mean of each window of volumes, channel by channel.

    Args:
        pool_size: The size of the window: (depth, rows, columns), or an integer for all three.

    Example:
        >>> layers.AveragePooling3D(2)(np.ones((1, 4, 6, 8, 3))).shape
        (1, 2, 3, 4, 3)
    """

    rank = 3


class _GlobalPooling(Spatial):
    """Pooling over all positions.

    Args:
        keepdims: Whether the pooled axes stay, with size 1.

    Output shape:
        1: (batch, channels). With keepdims (batch, 1, channels), or (batch, channels, 1) for 'channels_first'.
        2: (batch, channels). With keepdims (batch, 1, 1, channels), or (batch, channels, 1, 1) for 'channels_first'.
        3: (batch, channels). With keepdims (batch, 1, 1, 1, channels), or (batch, channels, 1, 1, 1) for
            'channels_first'.
    """

    def __init__(self, data_format=None, keepdims: option.Flag = False, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def compute_output_shape(self, input_shape):
        self.lengths(input_shape)  # called for its errors
        if self.keepdims:
            return self.with_lengths(input_shape, [1] * self.rank)
        return (input_shape[0], input_shape[self.channel_axis()])


class _GlobalMaxPooling(_GlobalPooling):
    def call(self, inputs):
        return ops.max(inputs, axis=tuple(self.space()), keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMaxPooling):
    """The largest number over all steps, for each channel.

    Example:
        >>> x = np.array([[[1.0, 4.0], [3.0, 0.0]]])
        >>> layers.GlobalMaxPooling1D()(x).numpy()
        array([[3., 4.]], dtype=float32)
    """

    rank = 1


class GlobalMaxPooling2D(_GlobalMaxPooling):
    """The largest number over all positions of an image, for each channel.

    Example:
        >>> layers.GlobalMaxPooling2D()(np.ones((8, 4, 4, 3))).shape
        (8, 3)
        >>> layers.GlobalMaxPooling2D(keepdims=True)(np.ones((8, 4, 4, 3))).shape
        (8, 1, 1, 3)
    """


class GlobalMaxPooling3D(_GlobalMaxPooling):
    """The largest number over all positions of a volume, for each channel.

    Example:
        >>> layers.GlobalMaxPooling3D()(np.ones((8, 4, 4, 4, 3))).shape
        (8, 3)
        >>> layers.GlobalMaxPooling3D(keepdims=True)(np.ones((8, 4, 4, 4, 3))).shape
        (8, 1, 1, 1, 3)
    """

    rank = 3


class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over all steps, for each channel.

    With a mask, the mean of the unmasked steps; NaN if there are none, as in Keras. The output has no mask.

    Call arguments:
        inputs: Sequences.
        mask: A bool tensor (batch, steps), True for valid steps; by default the input's mask.

    Example:
        >>> x = np.array([[[1.0, 4.0], [3.0, 0.0]]])
        >>> layers.GlobalAveragePooling1D()(x).numpy()
        array([[2., 2.]], dtype=float32)
        >>> layers.GlobalAveragePooling1D()(x, mask=np.array([[True, False]])).numpy()
        array([[1., 4.]], dtype=float32)
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
        """None: the output has no steps."""
        return None


class _GlobalAveragePooling(_GlobalPooling):
    def call(self, inputs):
        return ops.mean(inputs, axis=tuple(self.space()), keepdims=self.keepdims)


class GlobalAveragePooling2D(_GlobalAveragePooling):
    """The mean over all positions of an image, for each channel.

    Example:
        >>> layers.GlobalAveragePooling2D()(np.ones((8, 4, 4, 3))).shape
        (8, 3)
        >>> layers.GlobalAveragePooling2D(keepdims=True)(np.ones((8, 4, 4, 3))).shape
        (8, 1, 1, 3)
    """


class GlobalAveragePooling3D(_GlobalAveragePooling):
    """The mean over all positions of a volume, for each channel.

    Example:
        >>> layers.GlobalAveragePooling3D()(np.ones((8, 4, 4, 4, 3))).shape
        (8, 3)
        >>> layers.GlobalAveragePooling3D(keepdims=True)(np.ones((8, 4, 4, 4, 3))).shape
        (8, 1, 1, 1, 3)
    """

    rank = 3


AvgPool1D = AveragePooling1D
AvgPool2D = AveragePooling2D
AvgPool3D = AveragePooling3D
GlobalAvgPool1D = GlobalAveragePooling1D
GlobalAvgPool2D = GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
GlobalMaxPool1D = GlobalMaxPooling1D
GlobalMaxPool2D = GlobalMaxPooling2D
GlobalMaxPool3D = GlobalMaxPooling3D
MaxPool1D = MaxPooling1D
MaxPool2D = MaxPooling2D
MaxPool3D = MaxPooling3D
