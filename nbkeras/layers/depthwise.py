"""Convolution of each channel separately (depthwise), optionally followed by a convolution across channels (separable)."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import Padding, WindowSize


class _DepthwiseConv(Convolving):
    """A convolution of each channel by itself, with bias and activation.

    Args:
        padding ('valid' or 'same'): 'valid': only whole windows; 'same': zeros at the ends, for ceil(length /
            strides) windows.
        depth_multiplier: The number of kernels, and of output channels, for each channel of the input.

    Raises:
        ValueError: if no window fits into the input.
    """

    def __init__(
        self,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        depth_multiplier: option.Size = 1,
        data_format: str | None = None,
        dilation_rate: WindowSize = 1,
        activation: option.Activation = None,
        use_bias: option.Flag = True,
        depthwise_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        depthwise_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        depthwise_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    quantized_channels = {"kernel": (-2, -1)}

    def make_weights(self, channels):
        self.kernel = self._option_weight((*self.kernel_size, channels, self.depth_multiplier), "depthwise", "kernel")
        self.add_bias((channels * self.depth_multiplier,))

    def convolved(self, inputs, padding):
        return self.convolve(inputs, ops.reshape(self.kernel, (*self.kernel_size, 1, -1)), padding=padding)

    def compute_output_shape(self, input_shape):
        channels = input_shape[self.channel_axis()] if len(input_shape) == self.rank + 2 else None
        return self.shape_after(input_shape, None if channels is None else channels * self.depth_multiplier)


class DepthwiseConv1D(_DepthwiseConv):
    """Convolution of sequences, each channel by itself: activation(conv(inputs, kernel) + bias).

    `kernel` has shape (size, channels, depth_multiplier), `bias` (channels * depth_multiplier,).

    Args:
        padding ('valid', 'same' or 'causal'): 'valid': only whole windows; 'same': zeros at the ends, for
            ceil(length / strides) windows; 'causal': the same number of windows, with all zeros before the first step:
            no output depends on later steps.

    Output shape:
        (batch, new steps, channels * depth_multiplier), or with the channels second. New lengths are as in
        Conv1D.

    Example:
        >>> layer = layers.DepthwiseConv1D(3, depth_multiplier=2, padding="causal")
        >>> layer(np.ones((2, 5, 3))).shape
        (2, 5, 6)
        >>> layer.kernel.shape
        (3, 3, 2)
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class DepthwiseConv2D(_DepthwiseConv):
    """Convolution of images, each channel by itself: activation(conv(inputs, kernel) + bias).

    `kernel` has shape (height, width, channels, depth_multiplier), `bias` (channels * depth_multiplier,).

    Args:
        kernel_size: The size of the window: (rows, columns), or an integer for both.
        strides: The distance from one window to the next: (rows, columns), or an integer for both.
        dilation_rate: The distance between the elements of a window: (rows, columns), or an integer for both.

    Output shape:
        (batch, new rows, new columns, channels * depth_multiplier), or with the channels second. New lengths
        are as in Conv2D.

    Example:
        >>> layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
        >>> layer(np.ones((2, 5, 5, 3))).shape
        (2, 3, 3, 6)
        >>> layer.kernel.shape
        (3, 3, 3, 2)
    """


class _SeparableConv(Convolving):
    """A depthwise convolution, then one across channels, with bias and activation.

    Args:
        filters: The number of output channels.
        padding ('valid' or 'same'): 'valid': only whole windows; 'same': zeros at the ends, for ceil(length /
            strides) windows.
        depth_multiplier: The number of depthwise kernels for each channel.

    Raises:
        ValueError: if no window fits into the input.
    """

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: str | None = None,
        dilation_rate: WindowSize = 1,
        depth_multiplier: option.Size = 1,
        activation: option.Activation = None,
        use_bias: option.Flag = True,
        depthwise_initializer: option.Initializer = "glorot_uniform",
        pointwise_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        depthwise_regularizer: option.Regularizer = None,
        pointwise_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        depthwise_constraint: option.Constraint = None,
        pointwise_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    quantized_channels = {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}

    def make_weights(self, channels):
        many = self.depth_multiplier
        self.depthwise_kernel = self._option_weight(
            (*self.kernel_size, channels, many), "depthwise", "depthwise_kernel"
        )
        shape = (*[1] * self.rank, channels * many, self.filters)
        self.pointwise_kernel = self._option_weight(shape, "pointwise", "pointwise_kernel")
        self.add_bias((self.filters,))

    def convolved(self, inputs, padding):
        window = self.strides, padding, self.data_format, self.dilation_rate
        hidden = ops.depthwise_conv(inputs, self.depthwise_kernel, *window)
        return self.convolve(hidden, self.pointwise_kernel, 1, "valid", 1)


class SeparableConv1D(_SeparableConv):
    """Depthwise convolution of sequences, then a convolution of size 1 across channels, bias and activation.

    It usually has fewer weights than Conv1D: `depthwise_kernel` has shape (size, channels, depth_multiplier),
    `pointwise_kernel` (1, channels * depth_multiplier, filters), `bias` (filters,). strides, padding and
    dilation_rate belong to the depthwise part.

    Args:
        padding ('valid', 'same' or 'causal'): 'valid': only whole windows; 'same': zeros at the ends, for
            ceil(length / strides) windows; 'causal': the same number of windows, with all zeros before the first step:
            no output depends on later steps.

    Output shape:
        (batch, new steps, filters), or with the filters second. New lengths are as in Conv1D.

    Example:
        >>> layer = layers.SeparableConv1D(8, 3, padding="causal")
        >>> layer(np.ones((2, 5, 3))).shape
        (2, 5, 8)
        >>> layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        ((3, 3, 1), (1, 3, 8))
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class SeparableConv2D(_SeparableConv):
    """Depthwise convolution of images, then a convolution of size 1 across channels, bias and activation.

    It usually has fewer weights than Conv2D: `depthwise_kernel` has shape (height, width, channels,
    depth_multiplier), `pointwise_kernel` (1, 1, channels * depth_multiplier, filters), `bias` (filters,).
    strides, padding and dilation_rate belong to the depthwise part.

    Args:
        kernel_size: The size of the window: (rows, columns), or an integer for both.
        strides: The distance from one window to the next: (rows, columns), or an integer for both.
        dilation_rate: The distance between the elements of a window: (rows, columns), or an integer for both.

    Output shape:
        (batch, new rows, new columns, filters), or with the filters second. New lengths are as in Conv2D.

    Example:
        >>> layer = layers.SeparableConv2D(8, 3)
        >>> layer(np.ones((2, 5, 5, 3))).shape
        (2, 3, 3, 8)
        >>> layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
        ((3, 3, 3, 1), (1, 1, 3, 8))
    """


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
