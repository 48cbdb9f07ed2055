"""Convolution of sequences, images and volumes."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import DataFormat, Padding, WindowSize
from nbkeras.layers.weight_options import add_option_weight


class _Conv(Convolving):
    filters: int
    groups: int

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: DataFormat = None,
        dilation_rate: WindowSize = 1,
        groups: option.Size = 1,
        activation: option.Activation = None,
        use_bias: option.Flag = True,
        kernel_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        kernel_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())
        if self.filters % self.groups:
            raise ValueError(
                f"{type(self).__name__}: groups must divide filters, received groups={groups} and filters={filters}"
            )

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


class Conv1D(_Conv):
    """activation(conv(inputs, kernel) + bias) of sequences: (batch, steps, channels) -> (batch, new steps, filters).

    kernel_size, strides, dilation_rate: integers. padding: 'valid', 'same', or 'causal' (no step depends on later ones).
    groups: channels and filters are split into as many parts that do not see each other. Kernel: (size, channels / groups,
    filters). data_format 'channels_first' is slower: it is transposed there and back.
    """

    rank = 1
    paddings = ("valid", "same", "causal")


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
