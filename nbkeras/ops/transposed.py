"""Differentiable transposed convolution: the gradient of a convolution with respect to its input, as an op."""

from typing import Any

from nbkeras.engine.tensor import Tensor, apply, op
from nbkeras.kernels.convolution import conv, volumes
from nbkeras.ops.arguments import floats
from nbkeras.ops.conv import rank_of
from nbkeras.ops.shape import expand_dims, moveaxis, squeeze
from nbkeras.ops.window import data_format_of, padding_of, paddings_of, sizes_of, transposed_before, transposed_length


@op
def conv_transpose(
    inputs,
    kernel,
    strides: Any = 1,
    padding: str = "valid",
    output_padding=None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """Transposed convolution: each input times the kernel is added to a window of the output.

        y[n, i * stride + k * dilation - before, u] += sum over c of x[n, i, c] * kernel[k, u, c]

    The same holds for each axis between batch and channels. It is the gradient of `conv` with respect to its
    inputs.

    Args:
        inputs: Floats (batch, ..., channels) with 3, 4 or 5 axes; integers become floatx.
        kernel: Weights (size..., units, channels).
        strides: The distance from one window to the next: an integer, or one for each axis between batch and
            channels.
        padding: 'valid' gives an axis the length (length - 1) * stride + max(size, stride), 'same' length *
            stride.
        output_padding: None, or an integer below the stride (or one for each axis), which determines the length
            instead: (length - 1) * stride + size + output_padding for 'valid', (length - 1) * stride + size
            % 2 + output_padding for 'same'.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        dilation_rate: The distance between the elements of a window, as `strides`.

    Returns:
        A float tensor (batch, ..., units). Differentiable in inputs and kernel.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> x, kernel = np.array([1.0, 2.0]).reshape(1, 2, 1), np.array([1.0, 1.0, 1.0]).reshape(3, 1, 1)
        >>> ops.conv_transpose(x, kernel, strides=2).numpy().ravel()
        array([1., 1., 3., 2., 2.])
        >>> ops.conv_transpose(np.ones((8, 7, 7, 64)), np.ones((3, 3, 32, 64)), strides=2, padding="same").shape
        (8, 14, 14, 32)
    """
    name = "conv_transpose"
    x, kernel = floats(inputs, kernel)
    rank = rank_of(name, x)
    channels_first = data_format_of(name, data_format) == "channels_first"
    padding = padding_of(name, padding, ("valid", "same"))
    step, dilation = sizes_of(name, "strides", strides, rank), sizes_of(name, "dilation_rate", dilation_rate, rank)
    more = paddings_of(name, output_padding, step)
    if channels_first:
        x = moveaxis(x, 1, -1)
    if kernel.ndim != rank + 2 or 0 in kernel.shape or kernel.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"{name}: the kernel of inputs with {x.shape[-1]} channels must have shape ({rank} sizes, units, {x.shape[-1]}) "
            f"without axes of size 0, received {kernel.shape}"
        )
    if 0 in x.shape[1:-1]:
        raise ValueError(f"{name}: inputs must have lengths of at least 1, received shape {x.shape}, channels last")
    axes = list(zip(kernel.shape, step, dilation, (padding,) * rank, more, strict=False))
    before = tuple(transposed_before(*axis) for axis in axes)
    lengths = tuple(transposed_length(n, *axis) for n, axis in zip(x.shape[1:], axes, strict=False))
    if rank == 1:  # an image of one row
        x, kernel = expand_dims(x, 1), expand_dims(kernel, 0)
        step, dilation, before, lengths = (1, *step), (1, *dilation), (0, *before), (1, *lengths)
    family = volumes if rank == 3 else conv
    window = {"strides": step, "dilation": dilation, "before": before, "lengths": lengths}
    y = apply(family.conv_transpose, family.conv_transpose_vjp, [x, kernel], **window)
    if rank == 1:
        y = squeeze(y, 1)
    return moveaxis(y, -1, 1) if channels_first else y
