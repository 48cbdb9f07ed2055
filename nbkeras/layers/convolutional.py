"""Convolution of sequences, images and volumes."""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions
from nbkeras.building.lora import Adaptable, AdaptedWeight
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import Padding, WindowSize


class _Conv(Adaptable, Convolving):
    """A convolution with bias and activation.

    Args:
        filters: The number of output channels.
        padding ('valid' or 'same'): 'valid': only whole windows; 'same': zeros at the ends, for ceil(length /
            strides) windows.
        data_format: Where the channels are: last, (batch, ..., channels), or first, (batch, channels, ...),
            which is slower: it is transposed before and after.
        groups: The number of groups of channels and filters; each group of filters sees its
            group of channels only.

    Raises:
        ValueError: if groups does not divide filters and channels, or no window fits into the input.
    """

    kernel: Any = AdaptedWeight()

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: str | None = None,
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
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Unpack[CommonOptions],
    ):
        super().__init__(**option.keep(self, locals()))
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

    quantized_channels = {"kernel": (-1,)}

    def make_weights(self, channels):
        self.kernel = self._option_weight((*self.kernel_size, channels // self.groups, self.filters), "kernel")
        self.add_bias((self.filters,))
        self._adapt_as_made()

    def convolution_op(self, inputs, kernel):
        """The convolution without bias and activation; a subclass may override it.

        Args:
            inputs: A tensor with the axes of the layer's input.
            kernel: A tensor of the kernel's shape.

        Returns:
            A tensor of the shape of the layer's output.
        """
        return self._product(inputs, kernel)

    def call(self, inputs):
        if type(self).convolution_op is _Conv.convolution_op:  # bias and activation run in the same kernel
            return self._computed(self._product, inputs, self.bias, self.activation)
        return self.finish(self.convolution_op(inputs, self.kernel))

    def convolved(self, inputs, padding):
        return self.convolve(inputs, self.kernel, padding=padding)

    def _has_small_products(self, inputs):
        """Not with groups: a group's filters see a part of the channels only."""
        return self.groups == 1 and self._takes_products(inputs.size // inputs.shape[self.channel_axis()])

    def _added(self, outputs, x, b):
        kernel = ops.reshape(b, (*[1] * self.rank, *b.shape))
        return ops.add(outputs, self._product(x, kernel, self.bias, None, 1, "valid", 1))


class Conv1D(_Conv):
    """Convolution of sequences: activation(conv(inputs, kernel) + bias).

    Each output is a weighted sum of the numbers in a window, over all channels (of its group). The kernel is
    not flipped (it is a cross-correlation). `kernel` has shape (size, channels / groups, filters), `bias`
    (filters,).

    Args:
        padding ('valid', 'same' or 'causal'): 'valid': only whole windows; 'same': zeros at the ends, for
            ceil(length / strides) windows; 'causal': the same number of windows, with all zeros before the first step:
            no output depends on later steps.

    Output shape:
        (batch, new steps, filters), or with the filters second. A new length is (length - window) // strides
        + 1 for 'valid', with window = (kernel_size - 1) * dilation_rate + 1, else ceil(length / strides).

    Example:
        >>> x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1)
        >>> layers.Conv1D(1, 2, kernel_initializer="ones")(x).numpy().ravel()
        array([3., 5., 7.], dtype=float32)
        >>> layers.Conv1D(1, 2, padding="causal", kernel_initializer="ones")(x).numpy().ravel()
        array([1., 3., 5., 7.], dtype=float32)
    """

    rank = 1
    paddings = ("valid", "same", "causal")


class Conv2D(_Conv):
    """Convolution of images: activation(conv(inputs, kernel) + bias).

    Each output is a weighted sum of the numbers in a window, over all channels (of its group). The kernel is
    not flipped (it is a cross-correlation). `kernel` has shape (height, width, channels / groups, filters),
    `bias` (filters,).

    Args:
        kernel_size: The size of the window: (rows, columns), or an integer for both.
        strides: The distance from one window to the next: (rows, columns), or an integer for both.
        dilation_rate: The distance between the elements of a window: (rows, columns), or an integer for both.

    Output shape:
        (batch, new rows, new columns, filters), or with the filters second. A new length is (length - window)
        // strides + 1 for 'valid', with window = (kernel_size - 1) * dilation_rate + 1, else ceil(length /
        strides).

    Example:
        >>> layer = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")
        >>> layer(np.ones((8, 28, 28, 1))).shape
        (8, 14, 14, 16)
        >>> layer.kernel.shape
        (3, 3, 1, 16)
    """


class Conv3D(_Conv):
    """Convolution of volumes: activation(conv(inputs, kernel) + bias).

    Each output is a weighted sum of the numbers in a window, over all channels (of its group). The kernel is
    not flipped (it is a cross-correlation). `kernel` has shape (depth, height, width, channels / groups,
    filters), `bias` (filters,).

    Args:
        kernel_size: The size of the window: (depth, rows, columns), or an integer for all three.
        strides: The distance from one window to the next: (depth, rows, columns), or an integer for all
            three.
        dilation_rate: The distance between the elements of a window: (depth, rows, columns), or an integer
            for all three.

    Output shape:
        (batch, new depth, new rows, new columns, filters), or with the filters second. A new length is
        (length - window) // strides + 1 for 'valid', with window = (kernel_size - 1) * dilation_rate + 1,
        else ceil(length / strides).

    Example:
        >>> layer = layers.Conv3D(4, 3)
        >>> layer(np.ones((2, 8, 8, 8, 1))).shape
        (2, 6, 6, 6, 4)
        >>> layer.kernel.shape
        (3, 3, 3, 1, 4)
    """

    rank = 3


Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
