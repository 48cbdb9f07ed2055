"""Differentiable convolution of sequences and images (cross-correlation, as everywhere in deep learning)."""

from collections.abc import Callable
from typing import Any

from nbkeras.kernels import conv as kernels
from nbkeras.ops.activations import linear, relu
from nbkeras.ops.arguments import as_float, promote
from nbkeras.ops.shape import expand_dims, moveaxis, squeeze
from nbkeras.ops.window import check_fits, data_format_of, padding_of, sizes_of
from nbkeras.tensor import Tensor, apply, as_tensor, op


@op
def conv1d(
    x,
    kernel,
    bias=None,
    strides=1,
    padding: str = "valid",
    dilation_rate=1,
    data_format: str | None = None,
    activation: Callable | None = None,
) -> Tensor:
    """activation(conv(x, kernel) + bias) of sequences.

    y[n, i, u] = b[u] + sum over k, c of x[n, i * stride + k * dilation - before, c] * kernel[k, c, u], 0 outside of x.
    Shapes: x (batch, steps, channels), kernel (size, channels / groups, units), bias (units,) or None -> (batch, new steps,
    units). padding: 'valid', 'same', or 'causal' (a step sees no later one). 'channels_first' is transposed there and back.
    Bias and relu are computed with the products; any other activation, a function of tensors, after them.
    """
    return _convolution("conv1d", 1, x, kernel, bias, strides, padding, dilation_rate, data_format, activation)


@op
def conv2d(
    x,
    kernel,
    bias=None,
    strides=1,
    padding: str = "valid",
    dilation_rate=1,
    data_format: str | None = None,
    activation: Callable | None = None,
) -> Tensor:
    """activation(conv(x, kernel) + bias) of images.

    y[n, i, j, u] = b[u] + sum over k, l, c of x[n, i * si + k * di - top, j * sj + l * dj - left, c] * kernel[k, l, c, u], 0
    outside of x. Shapes: x (batch, rows, columns, channels), kernel (height, width, channels / groups, units), bias (units,)
    or None -> (batch, new rows, new columns, units). padding: 'valid' or 'same'. 'channels_first' is transposed there and
    back. Bias and relu are computed with the products; any other activation, a function of tensors, after them.
    In float32, large layers of 3x3 are computed by Winograd's method on the CPU, to a relative error of about 1e-5.
    """
    return _convolution("conv2d", 2, x, kernel, bias, strides, padding, dilation_rate, data_format, activation)


@op
def conv(inputs, kernel, strides=1, padding: str = "valid", data_format: str | None = None, dilation_rate=1) -> Tensor:
    """conv1d or conv2d by the number of axes, as keras.ops.conv."""
    inputs = as_tensor(inputs)
    if inputs.ndim not in (3, 4):
        raise ValueError(f"conv: inputs must have 3 axes (sequences) or 4 (images), received shape {inputs.shape}")
    name, rank = (("conv1d", 1), ("conv2d", 2))[inputs.ndim - 3]
    return _convolution(name, rank, inputs, kernel, None, strides, padding, dilation_rate, data_format, None)


def _convolution(
    name: str,
    rank: int,
    x: Any,
    kernel: Any,
    bias: Any,
    strides: Any,
    padding: str,
    dilation_rate: Any,
    data_format: str | None,
    activation: Callable | None,
) -> Tensor:
    if bias is None:
        x, kernel = (as_float(tensor) for tensor in promote(x, kernel))
    else:
        x, kernel, bias = (as_float(tensor) for tensor in promote(x, kernel, bias))
    first = data_format_of(name, data_format) == "channels_first"
    padding = padding_of(name, padding, ("valid", "same", "causal") if rank == 1 else ("valid", "same"))
    step, dilation = sizes_of(name, "strides", strides, rank), sizes_of(name, "dilation_rate", dilation_rate, rank)
    if x.ndim != rank + 2 or kernel.ndim != rank + 2 or 0 in kernel.shape:
        raise ValueError(
            f"{name}: x and kernel must have {rank + 2} axes and the kernel no size 0, received {x.shape} and {kernel.shape}"
        )
    if first:
        x = moveaxis(x, 1, -1)
    channels, units = x.shape[-1], kernel.shape[-1]
    groups, rest = divmod(channels, kernel.shape[-2])
    if groups == 0 or rest or units % groups:
        raise ValueError(
            f"{name}: x has {channels} channels, but a kernel of shape {kernel.shape} takes {kernel.shape[-2]} (or, for "
            "groups, a multiple that divides its units too)"
        )
    if bias is not None and bias.shape != (units,):
        raise ValueError(f"{name}: bias must have shape {(units,)}, received {bias.shape}")
    check_fits(name, "kernel", x, kernel.shape[:-2], dilation, padding)
    if rank == 1:  # an image of one row
        x, kernel = expand_dims(x, 1), expand_dims(kernel, 0)
        step, dilation = (1, *step), (1, *dilation)
    rectify = activation is relu
    constants = {"strides": step, "dilation": dilation, "padding": padding, "groups": groups, "relu": rectify}
    y = apply(kernels.conv, kernels.conv_vjp, [x, kernel, bias], **constants)
    if rank == 1:
        y = squeeze(y, 1)
    if first:
        y = moveaxis(y, -1, 1)
    return y if rectify or activation is None or activation is linear else activation(y)
