"""Convolution of each channel separately (depthwise), and followed by a convolution across channels (separable)."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import DataFormat, Padding, WindowSize
from nbkeras.layers.weight_options import add_option_weight


class _DepthwiseConv(Convolving):
    def __init__(
        self,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        depth_multiplier: option.Size = 1,
        data_format: DataFormat = None,
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
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())

    def make_weights(self, channels):
        self.kernel = add_option_weight(
            self, (*self.kernel_size, channels, self.depth_multiplier), "depthwise", "kernel"
        )
        self.add_bias((channels * self.depth_multiplier,))

    def call(self, inputs):
        return self.convolve(inputs, ops.reshape(self.kernel, (*self.kernel_size, 1, -1)))

    def compute_output_shape(self, input_shape):
        channels = input_shape[self.channel_axis()] if len(input_shape) == self.rank + 2 else None
        return self.shape_after(input_shape, None if channels is None else channels * self.depth_multiplier)


class DepthwiseConv1D(_DepthwiseConv):
    """activation(conv + bias) of each channel of sequences: (batch, steps, channels) -> (..., channels * multiplier).

    depth_multiplier: kernels for each channel. padding: 'valid', 'same' or 'causal'. Kernel: (size, channels, multiplier).
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class DepthwiseConv2D(_DepthwiseConv):
    """activation(conv + bias) of each channel of images: (..., channels) -> (..., channels * depth_multiplier).

    depth_multiplier: kernels for each channel. padding: 'valid' or 'same'. Kernel: (height, width, channels, multiplier).
    """


class _SeparableConv(Convolving):
    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: DataFormat = None,
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
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())

    def make_weights(self, channels):
        many = self.depth_multiplier
        self.depthwise_kernel = add_option_weight(
            self, (*self.kernel_size, channels, many), "depthwise", "depthwise_kernel"
        )
        shape = (*[1] * self.rank, channels * many, self.filters)
        self.pointwise_kernel = add_option_weight(self, shape, "pointwise", "pointwise_kernel")
        self.add_bias((self.filters,))

    def call(self, inputs):
        window = self.strides, self.padding, self.data_format, self.dilation_rate
        hidden = ops.depthwise_conv(inputs, self.depthwise_kernel, *window)
        return self.convolve(hidden, self.pointwise_kernel, 1, "valid", 1)


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution of sequences, then one of size 1 across channels, bias and activation.

    depth_multiplier: depthwise kernels for each channel. padding: 'valid', 'same' or 'causal'.
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution of images, then one of size 1x1 across channels, bias and activation.

    depth_multiplier: depthwise kernels for each channel. padding: 'valid' or 'same'.
    """


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
