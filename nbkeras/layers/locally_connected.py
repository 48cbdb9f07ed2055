"""Keras 2's locally connected layers: convolution with a separate kernel and bias for each position."""

from __future__ import annotations

import math
from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions, InputSpec
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import DataFormat, Padding, WindowSize
from nbkeras.layers.weight_options import add_option_weight


class _LocallyConnected(Convolving):
    paddings = ("valid",)

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: DataFormat = None,
        activation: option.Activation = None,
        use_bias: option.Flag = True,
        kernel_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        kernel_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        implementation: option.Anything = 1,
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())
        self.dilation_rate = (1,) * self.rank

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        places = self.lengths(self.compute_output_shape(input_shape))
        if None in places:
            raise ValueError(
                f"layer {self.name!r} has a kernel for each place and needs inputs of a known size, received shape "
                f"{tuple(input_shape)}"
            )
        taps = math.prod(self.kernel_size) * channels
        self.kernel = add_option_weight(self, (math.prod(places), taps, self.filters), "kernel")
        self.add_bias((*places, self.filters))
        self.input_spec = InputSpec(shape=(None, *input_shape[1:]))
        self.built = True

    def call(self, inputs):
        outputs = ops.local_conv(inputs, self.kernel, self.kernel_size, self.strides, self.data_format)
        if self.bias is not None:
            first = self.data_format == "channels_first"
            outputs = ops.add(outputs, ops.moveaxis(self.bias, -1, 0) if first else self.bias)
        return self.activation(outputs)


class LocallyConnected1D(_LocallyConnected):
    """Conv1D with separate weights for each step: (batch, steps, channels) -> (batch, new steps, filters).

    padding: 'valid'. Kernel: (new steps, size * channels, filters), bias: (new steps, filters). implementation is accepted and
    ignored: all compute the same, with the kernel layout of implementation 1.
    """

    rank = 1


class LocallyConnected2D(_LocallyConnected):
    """Conv2D with separate weights for each position: (batch, rows, columns, channels) -> (..., filters).

    padding: 'valid'. Kernel: (positions row by row, height * width * channels, filters), with 'channels_first' channels before
    height; bias: (new rows, new columns, filters). implementation is accepted and ignored: all compute the same.
    """
