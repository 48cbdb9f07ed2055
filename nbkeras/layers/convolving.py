"""Convolving: the base of convolutional layers, with a window, an activation and the options of weights."""

from __future__ import annotations

from typing import Any

from nbkeras import ops
from nbkeras.building.layer import InputSpec
from nbkeras.layers.spatial import Spatial, check_lengths
from nbkeras.ops.window import output_length


class Convolving(Spatial, registered=False):
    """A layer whose window slides over its inputs: its kernel_size, strides, dilation_rate and padding."""

    dilation_rate: Any = 1

    def build(self, input_shape):
        self.compute_output_shape(input_shape)  # called for its errors
        channels = self.channels_of(input_shape)
        self.make_weights(channels)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis(): channels})

    def call(self, inputs):
        return self.convolved(inputs, self.padding)

    def convolved(self, inputs, padding: str):
        """The layer's output with the given padding.

        Args:
            inputs: The input.
            padding: 'valid', 'same' or 'causal'.
        """
        raise NotImplementedError

    def make_weights(self, channels: int) -> None:
        """Make the kernels and the bias.

        Args:
            channels: The number of channels of the input.
        """
        raise NotImplementedError

    def channels_of(self, input_shape) -> int:
        """The number of channels, which building a layer requires.

        Args:
            input_shape: The shape of the input.

        Raises:
            ValueError: if the number is None or 0, or the number of axes is wrong.
        """
        self.lengths(input_shape)  # called for its errors
        channels = input_shape[self.channel_axis()]
        if channels is None:
            raise ValueError(f"layer {self.name!r} needs the number of channels, received shape {tuple(input_shape)}")
        if channels == 0:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) with data_format={self.data_format!r} needs inputs of one channel "
                f"or more, received shape {tuple(input_shape)}"
            )
        return channels

    def add_bias(self, shape) -> None:
        """Make the bias of a layer that uses one; else set it to None.

        Args:
            shape: The shape of the bias.
        """
        self.bias = self._option_weight(shape, "bias") if self.use_bias else None

    def finish(self, outputs):
        """Outputs after bias and activation.

        Args:
            outputs: The result of the convolution.
        """
        if self.bias is not None:
            places = 1 if self.data_format == "channels_last" else self.rank + 1
            outputs = ops.add(outputs, ops.reshape(self.bias, (-1, *[1] * (places - 1))))
        return self.activation(outputs)

    def convolve(self, inputs, kernel, strides=None, padding=None, dilation_rate=None):
        """activation(conv(inputs, kernel) + bias).

        Args:
            inputs: The input.
            kernel: The kernel.
            strides: The distance from one window to the next; None for the layer's; likewise for the other arguments.
            padding: 'valid' or 'same'.
            dilation_rate: The distance between the elements of a window.
        """
        return self._product(inputs, kernel, self.bias, self.activation, strides, padding, dilation_rate)

    def _product(self, inputs, kernel, bias=None, activation=None, strides=None, padding=None, dilation_rate=None):
        """`convolve` with any bias and activation, or none."""
        convolution = (ops.conv1d, ops.conv2d, ops.conv3d)[self.rank - 1]
        window = strides or self.strides, padding or self.padding, dilation_rate or self.dilation_rate
        return convolution(inputs, kernel, bias, *window, self.data_format, activation)

    def compute_output_shape(self, input_shape):
        return self.shape_after(input_shape, self.filters)

    def shape_after(self, input_shape, channels) -> tuple:
        """The output's shape.

        Args:
            input_shape: The shape of the input.
            channels: The number of channels of the output.

        Raises:
            ValueError: if the window does not fit.
        """
        windows = zip(self.lengths(input_shape), self.kernel_size, self.strides, self.dilation_rate, strict=True)
        lengths = [output_length(*window, self.padding) for window in windows]
        check_lengths(self, input_shape, lengths, f"kernel_size={self.kernel_size}")
        return self.with_lengths(input_shape, lengths, channels)
