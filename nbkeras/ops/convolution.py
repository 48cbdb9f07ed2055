"""Differentiable convolution of sequences, images and volumes (cross-correlation, as usual in deep learning).

A sequence is computed as an image of one row, a volume as an image whose channels come from neighbouring slices.
"""

import math
from collections.abc import Callable
from typing import Any

from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op
from nbkeras.kernels.convolution import conv as conv_kernels
from nbkeras.kernels.convolution import volumes
from nbkeras.kernels.convolution.unfold import Line, unfold_vjp
from nbkeras.kernels.convolution.unfold import unfold as unfold_kernel
from nbkeras.ops.activations import linear, relu
from nbkeras.ops.contractions import matmul
from nbkeras.ops.shape import expand_dims, moveaxis, repeat, reshape, squeeze, transpose
from nbkeras.ops.window import (
    check_fits,
    data_format_of,
    output_length,
    padding_of,
    paddings_of,
    rank_of,
    sizes_of,
    transposed_before,
    transposed_length,
)


@op
def conv1d(
    x,
    kernel,
    bias=None,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
    data_format: str | None = None,
    activation: Callable | None = None,
) -> Tensor:
    """Convolution of sequences with bias and activation, in one op: activation(conv(x, kernel) + bias).

        y[n, i, u] = b[u] + sum over k, c of x[n, i * stride + k * dilation - before, c] * kernel[k, c, u]

    x is 0 outside. Bias and relu are computed in the same kernel; any other activation is computed after it.

    Args:
        x: Floats (batch, steps, channels); integers become floatx.
        kernel: Weights (size, channels / groups, units). Fewer channels than in x make groups.
        bias: Numbers (units,), or None.
        strides: The distance from one window to the next, an integer.
        padding: 'valid': only whole windows; 'same': zeros at the ends, for ceil(steps / strides) windows;
            'causal': zeros before the first step only, so that a step depends on no later step.
        dilation_rate: The distance between the elements of a window, an integer.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        activation: Function of tensors, or None.

    Returns:
        A float tensor (batch, new steps, units). Differentiable in x, kernel and bias.

    Raises:
        ValueError: if the shapes do not fit, or the window is longer than x.

    Example:
        >>> x = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1)
        >>> difference = np.array([-1.0, 1.0]).reshape(2, 1, 1)
        >>> ops.conv1d(x, difference).numpy().ravel()
        array([1., 2., 4.])
        >>> ops.conv1d(x, difference, padding="causal").numpy().ravel()
        array([1., 1., 2., 4.])
    """
    return _convolution("conv1d", 1, x, kernel, bias, strides, padding, dilation_rate, data_format, activation)


@op
def conv2d(
    x,
    kernel,
    bias=None,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
    data_format: str | None = None,
    activation: Callable | None = None,
) -> Tensor:
    """Convolution of images with bias and activation, in one op: activation(conv(x, kernel) + bias).

        y[n, i, j, u] = b[u] + sum over k, l, c of
            x[n, i * si + k * di - top, j * sj + l * dj - left, c] * kernel[k, l, c, u]

    x is 0 outside. Bias and relu are computed in the same kernel; any other activation is computed after it.
    On the CPU, large float32 layers with 3x3 kernels use Winograd's method, with a relative error of about
    1e-5.

    Args:
        x: Floats (batch, rows, columns, channels); integers become floatx.
        kernel: Weights (height, width, channels / groups, units). Fewer channels than in x make
            groups.
        bias: Numbers (units,), or None.
        strides: The distance from one window to the next: an integer, or a pair.
        padding: 'valid': only whole windows; 'same': zeros at the edges, for ceil(length / strides) windows.
        dilation_rate: The distance between the elements of a window: an integer, or a pair.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        activation: Function of tensors, or None.

    Returns:
        A float tensor (batch, new rows, new columns, units). Differentiable in x, kernel and bias.

    Raises:
        ValueError: if the shapes do not fit, or the window is larger than x.

    Example:
        >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
        >>> ops.conv2d(x, np.ones((2, 2, 1, 1))).numpy()[0, :, :, 0]
        array([[ 8., 12.],
               [20., 24.]])
        >>> ops.conv2d(np.ones((8, 28, 28, 3)), np.ones((3, 3, 3, 16)), strides=2, padding="same").shape
        (8, 14, 14, 16)
    """
    return _convolution("conv2d", 2, x, kernel, bias, strides, padding, dilation_rate, data_format, activation)


@op
def conv3d(
    x,
    kernel,
    bias=None,
    strides: Any = 1,
    padding: str = "valid",
    dilation_rate: Any = 1,
    data_format: str | None = None,
    activation: Callable | None = None,
) -> Tensor:
    """Convolution of volumes with bias and activation, in one op: `conv2d` with one more axis, before the rows.

    x is copied once for each slice of the kernel's depth.

    Args:
        x: Floats (batch, depth, rows, columns, channels); integers become floatx.
        kernel: Weights (depth, height, width, channels / groups, units). Fewer channels than in x make
            groups.
        bias: Numbers (units,), or None.
        strides: The distance from one window to the next: an integer, or three.
        padding: 'valid': only whole windows; 'same': zeros at the edges, for ceil(length / strides) windows.
        dilation_rate: The distance between the elements of a window: an integer, or three.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        activation: Function of tensors, or None.

    Returns:
        A float tensor (batch, new depth, new rows, new columns, units). Differentiable in x, kernel and
        bias.

    Raises:
        ValueError: if the shapes do not fit, or the window is larger than x.

    Example:
        >>> ops.conv3d(np.ones((1, 4, 8, 8, 2)), np.ones((2, 3, 3, 2, 5))).shape
        (1, 3, 6, 6, 5)
    """
    return _convolution("conv3d", 3, x, kernel, bias, strides, padding, dilation_rate, data_format, activation)


@op
def conv(
    inputs, kernel, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1
) -> Tensor:
    """Convolution of sequences, images or volumes: `conv1d`, `conv2d` or `conv3d`, by the number of axes.

    Args:
        inputs: Floats (batch, ..., channels) with 3, 4 or 5 axes; integers become floatx.
        kernel: Weights (size..., channels / groups, units). Fewer channels than in the inputs make
            groups.
        strides: The distance from one window to the next: an integer, or one for each axis between batch and
            channels.
        padding: 'valid': only whole windows; 'same': zeros at the ends, for ceil(length / strides) windows;
            'causal', for sequences: zeros before the first step only.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        dilation_rate: The distance between the elements of a window, as `strides`.

    Returns:
        A float tensor (batch, ..., units). Differentiable in inputs and kernel.

    Raises:
        ValueError: if the shapes do not fit, or the window is larger than the inputs.

    Example:
        >>> ops.conv(np.ones((8, 10, 3)), np.ones((4, 3, 16))).shape
        (8, 7, 16)
        >>> ops.conv(np.ones((8, 28, 28, 3)), np.ones((3, 3, 3, 16)), padding="same").shape
        (8, 28, 28, 16)
    """
    inputs = as_tensor(inputs)
    rank = rank_of("conv", inputs)
    return _convolution(f"conv{rank}d", rank, inputs, kernel, None, strides, padding, dilation_rate, data_format, None)


@op
def depthwise_conv(
    inputs, kernel, strides: Any = 1, padding: str = "valid", data_format: str | None = None, dilation_rate: Any = 1
) -> Tensor:
    """Convolution of each channel by itself, with one or several kernels for each channel.

    Output channel c * multiplier + m is channel c convolved with kernel[..., c, m].

    Args:
        inputs: Floats (batch, ..., channels), sequences or images; integers become floatx.
        kernel: Weights (size..., channels, multiplier).
        strides: The distance from one window to the next: an integer, or one for each axis between batch and
            channels.
        padding: 'valid': only whole windows; 'same': zeros at the ends, for ceil(length / strides) windows;
            'causal', for sequences: zeros before the first step only.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        dilation_rate: The distance between the elements of a window, as `strides`.

    Returns:
        A float tensor (batch, ..., channels * multiplier). Differentiable in inputs and kernel.

    Raises:
        ValueError: if the shapes do not fit, or the window is larger than the inputs.

    Example:
        >>> x = np.array([[[1.0, 10.0], [2.0, 20.0]]])
        >>> ops.depthwise_conv(x, np.ones((2, 2, 1))).numpy()
        array([[[ 3., 30.]]])
    """
    inputs, kernel = as_tensor(inputs), as_tensor(kernel)
    rank = rank_of("depthwise_conv", inputs, maximum=2)
    axis = 1 if data_format_of("depthwise_conv", data_format) == "channels_first" else -1
    if kernel.ndim != rank + 2 or kernel.shape[-2] != inputs.shape[axis]:
        raise ValueError(
            f"depthwise_conv: the kernel of inputs of shape {inputs.shape} must have {rank + 2} axes, the second to last for "
            f"the {inputs.shape[axis]} channels, received shape {kernel.shape}"
        )
    kernel = reshape(kernel, (*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1]))
    name = "depthwise_conv"
    return _convolution(name, rank, inputs, kernel, None, strides, padding, dilation_rate, data_format, None)


@op
def separable_conv(
    inputs,
    depthwise_kernel,
    pointwise_kernel,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    """Convolution of each channel by itself, `depthwise_conv`, then one that mixes channels.

    Args:
        inputs: Floats (batch, ..., channels), sequences or images; integers become floatx.
        depthwise_kernel: Weights (size..., channels, multiplier).
        pointwise_kernel: Weights (1..., channels * multiplier, units).
        strides: The distance from one window to the next: an integer, or one for each axis between batch and
            channels.
        padding: 'valid': only whole windows; 'same': zeros at the ends, for ceil(length / strides) windows;
            'causal', for sequences: zeros before the first step only.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.
        dilation_rate: The distance between the elements of a window, as `strides`.

    Returns:
        A float tensor (batch, ..., units). Differentiable in inputs and kernels.

    Raises:
        ValueError: if the shapes do not fit, or the window is larger than the inputs.

    Example:
        >>> x, depthwise, pointwise = np.ones((8, 28, 28, 3)), np.ones((3, 3, 3, 1)), np.ones((1, 1, 3, 16))
        >>> ops.separable_conv(x, depthwise, pointwise).shape
        (8, 26, 26, 16)
    """
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(y, pointwise_kernel, 1, "valid", data_format)


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
    integers = kernel if getattr(kernel, "convolves_integers", False) and 0 not in kernel.shape else None
    if integers is not None:
        x, bias = (None if each is None else as_tensor(as_float(each), integers.scale.dtype) for each in (x, bias))
    elif bias is None:
        x, kernel = floats(x, kernel)
    else:
        x, kernel, bias = floats(x, kernel, bias)
    channels_first = data_format_of(name, data_format) == "channels_first"
    padding = padding_of(name, padding, ("valid", "same", "causal") if rank == 1 else ("valid", "same"))
    step, dilation = sizes_of(name, "strides", strides, rank), sizes_of(name, "dilation_rate", dilation_rate, rank)
    if x.ndim != rank + 2 or kernel.ndim != rank + 2 or 0 in kernel.shape:
        raise ValueError(
            f"{name}: x and kernel must have {rank + 2} axes and the kernel no size 0, received {x.shape} and {kernel.shape}"
        )
    if channels_first:
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
    if integers is not None and groups > 1:
        integers, kernel = None, as_tensor(kernel, x.dtype)
    # several kernels per channel: copy the channel once for each
    if kernel.shape[-2] == 1 < groups < units and rank < 3:
        x, groups = repeat(x, units // groups, -1), units
    rectify = activation is relu
    constants = {"padding": padding, "groups": groups, "relu": rectify}
    if rank == 1:  # an image of one row
        x, step, dilation = expand_dims(x, 1), (1, *step), (1, *dilation)
    if integers is not None:
        y = integers.convolve(x, bias, step, dilation, padding, rectify)
    else:
        kernel = expand_dims(kernel, 0) if rank == 1 else kernel
        family = volumes if rank == 3 else conv_kernels
        y = apply(family.conv, family.conv_vjp, [x, kernel, bias], strides=step, dilation=dilation, **constants)
    if rank == 1:
        y = squeeze(y, 1)
    if channels_first:
        y = moveaxis(y, -1, 1)
    return y if rectify or activation is None or activation is linear else activation(y)


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
    family = volumes if rank == 3 else conv_kernels
    window = {"strides": step, "dilation": dilation, "before": before, "lengths": lengths}
    y = apply(family.conv_transpose, family.conv_transpose_vjp, [x, kernel], **window)
    if rank == 1:
        y = squeeze(y, 1)
    return moveaxis(y, -1, 1) if channels_first else y


@op
def local_conv(inputs, kernel, kernel_size, strides: Any = 1, data_format: str | None = None) -> Tensor:
    """Convolution with a separate kernel for each output position, without padding.

        y[n, place, u] = sum over a window's taps and channels of x * kernel[place, taps and channels, u]

    Keras 2's locally connected layers compute this.

    Args:
        inputs: Floats (batch, ..., channels), sequences or images; integers become floatx.
        kernel: Weights (places, size * channels, units); places are output positions, row by row. Taps
            come before channels; with 'channels_first' channels come before taps, as in Keras 2.
        kernel_size: The size of the window: an integer, or one for each axis between batch and channels.
        strides: The distance from one window to the next, as `kernel_size`.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.

    Returns:
        A float tensor (batch, ..., units). Differentiable in inputs and kernel.

    Raises:
        ValueError: if the shapes do not fit, or the window is larger than the inputs.

    Example:
        >>> x, kernel = np.ones((1, 3, 1)), np.array([[1.0, 1.0], [10.0, 10.0]]).reshape(2, 2, 1)
        >>> ops.local_conv(x, kernel, kernel_size=2).numpy().ravel()
        array([ 2., 20.])
    """
    name = "local_conv"
    x, kernel = floats(inputs, kernel)
    rank = rank_of(name, x, maximum=2)
    size, step = sizes_of(name, "kernel_size", kernel_size, rank), sizes_of(name, "strides", strides, rank)
    channels_first = data_format_of(name, data_format) == "channels_first"
    if channels_first:
        x = moveaxis(x, 1, -1)
    check_fits(name, "kernel", x, size, (1,) * rank, "valid")
    windows = zip(x.shape[1:], size, step, strict=False)
    counts = [output_length(length, n, stride, 1, "valid") for length, n, stride in windows]
    channels, taps, places = x.shape[-1], math.prod(size), math.prod(counts)  # type: ignore[arg-type]
    if kernel.ndim != 3 or kernel.shape[:2] != (places, taps * channels):
        raise ValueError(
            f"{name}: the kernel must have shape ({places} places, {taps * channels} taps and channels, units), received "
            f"{kernel.shape}"
        )
    units = kernel.shape[-1]
    if channels_first:
        kernel = moveaxis(reshape(kernel, (places, channels, taps, units)), 1, 2)
        kernel = reshape(kernel, (places, taps * channels, units))
    for axis in range(rank, 0, -1):
        x = _with_windows(x, axis, Line(size[axis - 1], step[axis - 1], 1, 0, counts[axis - 1]))
    batch = x.shape[0]
    rows = transpose(reshape(x, (batch, places, taps * channels)), (1, 0, 2))
    y = reshape(transpose(matmul(rows, kernel), (1, 0, 2)), (batch, *counts, units))
    return moveaxis(y, -1, 1) if channels_first else y


def _with_windows(x: Tensor, axis: int, line: Line) -> Tensor:
    """Windows along an axis: (..., length, ..., channels) -> (..., windows, ..., size * channels)."""
    *rest, channels = x.shape
    apart = math.prod(rest[:axis]), rest[axis], math.prod(rest[axis + 1 :]), 1, channels
    y = apply(unfold_kernel, unfold_vjp, [reshape(x, apart)], line=line)
    return reshape(y, (*rest[:axis], line.windows, *rest[axis + 1 :], line.size * channels))
