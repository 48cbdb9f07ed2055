"""Convolution of each channel separately (depthwise), and followed by a convolution across channels (separable)."""

from __future__ import annotations

from nbkeras import ops
from nbkeras.engine.options import config_from
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.weight_options import add_option_weight
from nbkeras.ops.window import sizes_of


class _DepthwiseConv(Convolving):
    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(locals(), causal=True, **kwargs)
        (self.depth_multiplier,) = sizes_of(type(self).__name__, "depth_multiplier", depth_multiplier, 1)

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

    get_config = config_from(__init__)


class DepthwiseConv1D(_DepthwiseConv):
    """activation(conv + bias) of each channel of sequences: (batch, steps, channels) -> (..., channels * multiplier).

    depth_multiplier: kernels for each channel. padding: 'valid', 'same' or 'causal'. Kernel: (size, channels, multiplier).
    """

    rank = 1


class DepthwiseConv2D(_DepthwiseConv):
    """activation(conv + bias) of each channel of images: (..., channels) -> (..., channels * depth_multiplier).

    depth_multiplier: kernels for each channel. padding: 'valid' or 'same'. Kernel: (height, width, channels, multiplier).
    """


class _SeparableConv(Convolving):
    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(locals(), causal=True, **kwargs)
        (self.filters,) = sizes_of(type(self).__name__, "filters", filters, 1)
        (self.depth_multiplier,) = sizes_of(type(self).__name__, "depth_multiplier", depth_multiplier, 1)

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

    get_config = config_from(__init__)


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution of sequences, then one of size 1 across channels, bias and activation.

    depth_multiplier: depthwise kernels for each channel. padding: 'valid', 'same' or 'causal'.
    """

    rank = 1


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution of images, then one of size 1x1 across channels, bias and activation.

    depth_multiplier: depthwise kernels for each channel. padding: 'valid' or 'same'.
    """


SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
