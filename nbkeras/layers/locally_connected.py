"""Keras 2's locally connected layers: convolution with a separate kernel and bias for each position."""

from __future__ import annotations

import math
from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions, InputSpec
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import Padding, WindowSize


class _LocallyConnected(Convolving):
    """A convolution with a kernel and a bias for each position.

    Args:
        padding ('valid'): Only whole windows; there is no other padding.
        implementation: Accepted and ignored: all give the same result, with the kernel of implementation 1.
    """

    paddings = ("valid",)

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: str | None = None,
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
        super().__init__(**option.keep(self, locals()))
        self.dilation_rate = (1,) * self.rank

    quantized_channels = {"kernel": (0, -1)}

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        places = self.lengths(self.compute_output_shape(input_shape))
        if None in places:
            raise ValueError(
                f"layer {self.name!r} has a kernel for each position and needs inputs of a known size, received shape "
                f"{tuple(input_shape)}"
            )
        taps = math.prod(self.kernel_size) * channels
        self.kernel = self._option_weight((math.prod(places), taps, self.filters), "kernel")
        self.add_bias((*places, self.filters))
        self.input_spec = InputSpec(shape=(None, *input_shape[1:]))

    def call(self, inputs):
        outputs = ops.local_conv(inputs, self.kernel, self.kernel_size, self.strides, self.data_format)
        if self.bias is not None:
            first = self.data_format == "channels_first"
            outputs = ops.add(outputs, ops.moveaxis(self.bias, -1, 0) if first else self.bias)
        return self.activation(outputs)


class LocallyConnected1D(_LocallyConnected):
    """Conv1D with separate weights for each step, from Keras 2.

    `kernel` has shape (new steps, kernel_size * channels, filters), `bias` (new steps, filters).

    Input shape:
        (batch, steps, channels), or (batch, channels, steps) for 'channels_first'. The number of steps must
        be known.

    Output shape:
        (batch, new steps, filters), or with the filters second, with new steps = (steps - kernel_size) //
        strides + 1.

    Raises:
        ValueError: if padding is not 'valid', no window fits into the input, or the number of steps is
            unknown.

    Example:
        >>> layer = layers.LocallyConnected1D(4, 3)
        >>> layer(np.ones((2, 8, 5))).shape
        (2, 6, 4)
        >>> layer.kernel.shape, layer.bias.shape
        ((6, 15, 4), (6, 4))
    """

    rank = 1


class LocallyConnected2D(_LocallyConnected):
    """Conv2D with separate weights for each position, from Keras 2.

    `kernel` has shape (positions, height * width * channels, filters), with the positions row by row, and the
    channels before the height for 'channels_first'; `bias` has shape (new rows, new columns, filters).

    Args:
        kernel_size: The size of the window: (rows, columns), or an integer for both.
        strides: The distance from one window to the next: (rows, columns), or an integer for both.

    Input shape:
        (batch, rows, columns, channels), or (batch, channels, rows, columns) for 'channels_first'. Rows and
        columns must be known.

    Output shape:
        (batch, new rows, new columns, filters), or with the filters second. A new length is (length -
        kernel_size) // strides + 1.

    Raises:
        ValueError: if padding is not 'valid', no window fits into the input, or its size is unknown.

    Example:
        >>> layer = layers.LocallyConnected2D(4, 3)
        >>> layer(np.ones((2, 6, 6, 1))).shape
        (2, 4, 4, 4)
        >>> layer.kernel.shape, layer.bias.shape
        ((16, 9, 4), (4, 4, 4))
    """
