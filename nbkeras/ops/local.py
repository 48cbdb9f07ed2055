"""Convolution with a separate kernel for each output position, as in Keras 2's locally connected layers."""

import math
from typing import Any

from nbkeras.engine.tensor import Tensor, apply, op
from nbkeras.kernels.convolution.unfold import Line, unfold, unfold_vjp
from nbkeras.ops.arguments import floats
from nbkeras.ops.conv import rank_of
from nbkeras.ops.dense import matmul
from nbkeras.ops.shape import moveaxis, reshape, transpose
from nbkeras.ops.window import check_fits, data_format_of, output_length, sizes_of


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
    rank = rank_of(name, x, most=2)
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
    y = apply(unfold, unfold_vjp, [reshape(x, apart)], line=line)
    return reshape(y, (*rest[:axis], line.windows, *rest[axis + 1 :], line.size * channels))
