"""Transposed convolution of sequences, images and volumes."""

from __future__ import annotations

from typing import Unpack

from nbkeras import ops
from nbkeras.building.layer import CommonOptions
from nbkeras.engine import option
from nbkeras.layers.convolving import Convolving
from nbkeras.layers.spatial import Padding, WindowSize, check_lengths
from nbkeras.ops.window import paddings_of, transposed_length


class _ConvTranspose(Convolving):
    """A transposed convolution with bias and activation.

    Args:
        strides: The factor by which an axis grows.
        padding ('valid' or 'same'): 'valid': all positions that windows reach; 'same': length * strides positions.
        output_padding (an integer, one for each axis, or None): The number of positions added at the
            end, less than the strides. None: the number that gives the lengths below.

    Raises:
        ValueError: if output_padding is not less than the strides.
    """

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        output_padding: option.Anything = None,
        data_format: str | None = None,
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
        super().__init__(**option.keep(self, locals()))
        paddings = paddings_of(type(self).__name__, output_padding, self.strides)
        self.output_padding = None if output_padding is None else paddings

    quantized_channels = {"kernel": (-2,)}

    def make_weights(self, channels):
        self.kernel = self._option_weight((*self.kernel_size, self.filters, channels), "kernel")
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
    """Transposed convolution of sequences, which makes them larger.

    The outputs are activation(conv_transpose(inputs, kernel) + bias). It is the gradient of a convolution:
    each number of the input is multiplied by the kernel, and the products are added to the output at
    distances of `strides`. `kernel` has shape (size, filters, channels), `bias` (filters,).

    Output shape:
        (batch, new steps, filters), or with the filters second. With w = (kernel_size - 1) * dilation_rate +
        1, a new length is length * strides for 'same', (length - 1) * strides + max(w, strides) for 'valid'.
        With output_padding p it is (length - 1) * strides + w % 2 + p for 'same', (length - 1) * strides + w
        + p for 'valid'.

    Example:
        >>> x = np.array([1.0, 2.0]).reshape(1, 2, 1)
        >>> layers.Conv1DTranspose(1, 2, strides=2, kernel_initializer="ones")(x).numpy().ravel()
        array([1., 1., 2., 2.], dtype=float32)
        >>> layers.Conv1DTranspose(1, 2, kernel_initializer="ones")(x).numpy().ravel()
        array([1., 3., 2.], dtype=float32)
    """

    rank = 1


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution of images, which makes them larger.

    The outputs are activation(conv_transpose(inputs, kernel) + bias). It is the gradient of a convolution:
    each number of the input is multiplied by the kernel, and the products are added to the output at
    distances of `strides`. `kernel` has shape (height, width, filters, channels), `bias` (filters,).

    Args:
        kernel_size: The size of the window: (rows, columns), or an integer for both.
        strides: The factor by which an axis grows: (rows, columns), or an integer for both.
        dilation_rate: The distance between the elements of a window: (rows, columns), or an integer for both.

    Output shape:
        (batch, new rows, new columns, filters), or with the filters second. With w = (kernel_size - 1) *
        dilation_rate + 1, a new length is length * strides for 'same', (length - 1) * strides + max(w,
        strides) for 'valid'. With output_padding p it is (length - 1) * strides + w % 2 + p for 'same',
        (length - 1) * strides + w + p for 'valid'.

    Example:
        >>> layer = layers.Conv2DTranspose(4, 3, strides=2, padding="same")
        >>> layer(np.ones((8, 7, 7, 16))).shape
        (8, 14, 14, 4)
        >>> layer.kernel.shape
        (3, 3, 4, 16)
    """


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution of volumes, which makes them larger.

    The outputs are activation(conv_transpose(inputs, kernel) + bias). It is the gradient of a convolution:
    each number of the input is multiplied by the kernel, and the products are added to the output at
    distances of `strides`. `kernel` has shape (depth, height, width, filters, channels), `bias` (filters,).

    Args:
        kernel_size: The size of the window: (depth, rows, columns), or an integer for all three.
        strides: The factor by which an axis grows: (depth, rows, columns), or an integer for all three.
        dilation_rate: The distance between the elements of a window: (depth, rows, columns), or an integer
            for all three.

    Output shape:
        (batch, new depth, new rows, new columns, filters), or with the filters second. With w = (kernel_size
        - 1) * dilation_rate + 1, a new length is length * strides for 'same', (length - 1) * strides + max(w,
        strides) for 'valid'. With output_padding p it is (length - 1) * strides + w % 2 + p for 'same',
        (length - 1) * strides + w + p for 'valid'.

    Example:
        >>> layers.Conv3DTranspose(4, 3, strides=2, padding="same")(np.ones((2, 4, 4, 4, 8))).shape
        (2, 8, 8, 8, 4)
    """

    rank = 3


Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Deconvolution2D = Conv2DTranspose
Convolution3DTranspose = Deconvolution3D = Conv3DTranspose
