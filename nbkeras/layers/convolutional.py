"""Convolution of sequences, images and volumes."""

from __future__ import annotations

from nbkeras import ops
from nbkeras.engine.options import config_from
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.weight_options import add_option_weight
from nbkeras.ops.window import sizes_of


class _Conv(Convolving):
    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(locals(), causal=True, **kwargs)
        name = type(self).__name__
        (self.filters,) = sizes_of(name, "filters", filters, 1)
        (self.groups,) = sizes_of(name, "groups", groups, 1)
        if self.filters % self.groups:
            raise ValueError(f"{name}: groups must divide filters, received groups={groups} and filters={filters}")

    def channels_of(self, input_shape):
        channels = super().channels_of(input_shape)
        if channels % self.groups:
            raise ValueError(
                f"layer {self.name!r}: groups must divide the channels, received groups={self.groups} and an input of shape "
                f"{tuple(input_shape)}"
            )
        return channels

    def make_weights(self, channels):
        self.kernel = add_option_weight(self, (*self.kernel_size, channels // self.groups, self.filters), "kernel")
        self.add_bias((self.filters,))

    def convolution_op(self, inputs, kernel):
        """The convolution without bias and activation; a subclass may override it."""
        window = self.strides, self.padding, self.dilation_rate
        return (ops.conv1d, ops.conv2d, ops.conv3d)[self.rank - 1](inputs, kernel, None, *window, self.data_format)

    def call(self, inputs):
        if type(self).convolution_op is _Conv.convolution_op:
            return self.convolve(inputs, self.kernel)  # bias and activation in one kernel with it
        return self.finish(self.convolution_op(inputs, self.kernel))

    get_config = config_from(__init__)


class Conv1D(_Conv):
    """activation(conv(inputs, kernel) + bias) of sequences: (batch, steps, channels) -> (batch, new steps, filters).

    kernel_size, strides, dilation_rate: integers. padding: 'valid', 'same', or 'causal' (no step depends on later ones).
    groups: channels and filters are split into as many parts that do not see each other. Kernel: (size, channels / groups,
    filters). data_format 'channels_first' is slower: it is transposed there and back.
    """

    rank = 1


class Conv2D(_Conv):
    """activation(conv(inputs, kernel) + bias) of images: (batch, rows, columns, channels) -> (..., filters).

    kernel_size, strides, dilation_rate: an integer or two. padding: 'valid' or 'same'. groups: channels and filters are
    split into as many parts that do not see each other. Kernel: (height, width, channels / groups, filters). data_format
    'channels_first' is slower: it is transposed there and back.
    """


class Conv3D(_Conv):
    """activation(conv(inputs, kernel) + bias) of volumes: (batch, depth, rows, columns, channels) -> (..., filters).

    As Conv2D, with sizes for three axes. Kernel: (depth, height, width, channels / groups, filters).
    """

    rank = 3
