"""Transposed convolution of sequences, images and volumes."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import DataFormat, Padding, WindowSize, check_lengths
from nbkeras.layers.weight_options import add_option_weight
from nbkeras.ops.window import paddings_of, transposed_length


class _ConvTranspose(Convolving):
    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        output_padding: option.Anything = None,
        data_format: DataFormat = None,
        dilation_rate: WindowSize = 1,
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
        paddings = paddings_of(type(self).__name__, output_padding, self.strides)
        self.output_padding = None if output_padding is None else paddings

    def make_weights(self, channels):
        self.kernel = add_option_weight(self, (*self.kernel_size, self.filters, channels), "kernel")
        self.add_bias((self.filters,))

    def call(self, inputs):
        window = self.strides, self.padding, self.output_padding, self.data_format, self.dilation_rate
        return self.finish(ops.conv_transpose(inputs, self.kernel, *window))

    def compute_output_shape(self, input_shape):
        more = self.output_padding or (None,) * self.rank
        axes = zip(self.lengths(input_shape), self.kernel_size, self.strides, self.dilation_rate, more, strict=True)
        lengths = [transposed_length(*axis[:4], self.padding, axis[4]) for axis in axes]
        check_lengths(self, input_shape, lengths, f"kernel_size={self.kernel_size}")
        return self.with_lengths(input_shape, lengths, self.filters)


class Conv1DTranspose(_ConvTranspose):
    """activation(conv_transpose(inputs, kernel) + bias) of sequences: (batch, steps, channels) -> (batch, more steps, filters).

    strides: the factor by which an axis grows. padding: 'valid' (all that windows reach) or 'same' (steps * strides).
    output_padding: the length added at the end, less than the strides; None: the length that gives these sizes. Kernel: (size,
    filters, channels).
    """

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Conv1DTranspose of images: (batch, rows, columns, channels) -> (..., filters).

    Kernel: (height, width, filters, channels).
    """


class Conv3DTranspose(_ConvTranspose):
    """Conv1DTranspose of volumes: (batch, depth, rows, columns, channels) -> (..., filters).

    Kernel: (depth, height, width, filters, channels).
    """

    rank = 3


Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Deconvolution2D = Conv2DTranspose
Convolution3DTranspose = Deconvolution3D = Conv3DTranspose
