"""Differentiable transposed convolution: the gradient of a convolution with respect to its input, as an op."""

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
    strides=1,
    padding: str = "valid",
    output_padding=None,
    data_format: str | None = None,
    dilation_rate=1,
) -> Tensor:
    """y[n, i * stride + k * dilation - before, u] += the sum over c of x[n, i, c] * kernel[k, u, c], in each axis.

    Shapes: (batch, ..., channels), kernel (size..., units, channels) -> (batch, ..., units), for sequences, images and
    volumes. The new length of an axis is (length - 1) * stride + max(size, stride) with padding 'valid' and length * stride with
    'same'. With output_padding it is (length - 1) * stride + size + output_padding for 'valid', and
    (length - 1) * stride + size % 2 + output_padding for 'same'. 'channels_first' inputs are transposed before and after.
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
            f"without zeros, received {kernel.shape}"
        )
    if 0 in x.shape[1:-1]:
        raise ValueError(f"{name}: inputs need lengths of 1 or more, received shape {x.shape}, channels last")
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
