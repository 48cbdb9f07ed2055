"""Keras 2's backend functions that convolve, pool, pad and resize sequences, images and volumes; part of `backend`."""

from typing import Any

from nbkeras import ops
from nbkeras.engine.annotations import one_of
from nbkeras.engine.tensor import Tensor
from nbkeras.ops.window import data_format_of, extent

# -------------------- convolution --------------------


def conv1d(x, kernel, strides=1, padding="valid", data_format: str | None = None, dilation_rate=1) -> Tensor:
    """Convolution of sequences; padding: 'valid', 'same' or 'causal'."""
    return ops.conv1d(x, kernel, None, strides, padding, dilation_rate, data_format)


def conv2d(x, kernel, strides=(1, 1), padding="valid", data_format: str | None = None, dilation_rate=(1, 1)) -> Tensor:
    """Convolution of images; padding: 'valid' or 'same'."""
    return ops.conv2d(x, kernel, None, strides, padding, dilation_rate, data_format)


def conv3d(
    x, kernel, strides=(1, 1, 1), padding="valid", data_format: str | None = None, dilation_rate=(1, 1, 1)
) -> Tensor:
    """Convolution of volumes; padding: 'valid' or 'same'."""
    return ops.conv3d(x, kernel, None, strides, padding, dilation_rate, data_format)


def conv2d_transpose(
    x,
    kernel,
    output_shape,
    strides=(1, 1),
    padding="valid",
    data_format: str | None = None,
    dilation_rate=(1, 1),
) -> Tensor:
    """Transposed convolution of images to output_shape (batch, ...), one of the shapes that the arguments allow."""
    return _transposed(x, kernel, output_shape, strides, padding, data_format, dilation_rate)


def conv3d_transpose(
    x, kernel, output_shape, strides=(1, 1, 1), padding="valid", data_format: str | None = None
) -> Tensor:
    """Transposed convolution of volumes to output_shape (batch, ...), one of the shapes that the arguments allow."""
    return _transposed(x, kernel, output_shape, strides, padding, data_format, (1, 1, 1))


def _transposed(
    x: Any, kernel: Any, output_shape: Any, strides: Any, padding: str, data_format: str | None, dilation_rate: Any
) -> Tensor:
    first = 1 if data_format_of("conv_transpose", data_format) == "channels_last" else 2
    size = ops.shape(kernel)[:-2]
    lengths, wanted = (ops.shape(s)[first:] if hasattr(s, "shape") else tuple(s)[first:] for s in (x, output_shape))
    axes = zip(lengths, wanted, size, strides, dilation_rate, strict=False)
    more = [_more(*axis, padding) for axis in axes]
    return ops.conv_transpose(x, kernel, strides, padding, more, data_format, dilation_rate)


def _more(length: int | None, wanted: int | None, size: int, stride: int, dilation: int, padding: str) -> int | None:
    """The output_padding for the wanted length of an axis; None if it is not needed or the length is unknown."""
    if length is None or wanted is None or (padding == "same" and wanted == length * stride):
        return None
    reach = extent(size, dilation)
    return wanted - (length - 1) * stride - (reach if padding == "valid" else reach % 2)


def separable_conv1d(
    x,
    depthwise_kernel,
    pointwise_kernel,
    strides=1,
    padding="valid",
    data_format: str | None = None,
    dilation_rate=1,
) -> Tensor:
    """Convolution of each channel of sequences, then of all channels at each step."""
    return ops.separable_conv(x, depthwise_kernel, pointwise_kernel, strides, padding, data_format, dilation_rate)


def separable_conv2d(
    x,
    depthwise_kernel,
    pointwise_kernel,
    strides=(1, 1),
    padding="valid",
    data_format: str | None = None,
    dilation_rate=(1, 1),
) -> Tensor:
    """Convolution of each channel of images, then of all channels at each pixel."""
    return ops.separable_conv(x, depthwise_kernel, pointwise_kernel, strides, padding, data_format, dilation_rate)


def depthwise_conv2d(
    x, depthwise_kernel, strides=(1, 1), padding="valid", data_format: str | None = None, dilation_rate=(1, 1)
) -> Tensor:
    """Convolution of each channel of images."""
    return ops.depthwise_conv(x, depthwise_kernel, strides, padding, data_format, dilation_rate)


def local_conv1d(inputs, kernel, kernel_size, strides, data_format: str | None = None) -> Tensor:
    """Convolution of sequences with a kernel for each step: (steps, size * channels, units)."""
    return ops.local_conv(inputs, kernel, kernel_size, strides, data_format)


def local_conv2d(inputs, kernel, kernel_size, strides, output_shape=None, data_format: str | None = None) -> Tensor:
    """Convolution of images with a kernel for each output pixel: (pixels, size * channels, units); output_shape is not used."""
    return ops.local_conv(inputs, kernel, kernel_size, strides, data_format)


# -------------------- pooling --------------------


def pool2d(x, pool_size, strides=(1, 1), padding="valid", data_format: str | None = None, pool_mode="max") -> Tensor:
    """The largest element of each window of images, or its mean; pool_mode: 'max' or 'avg'."""
    return _pooled("pool2d", x, pool_size, strides, padding, data_format, pool_mode)


def pool3d(x, pool_size, strides=(1, 1, 1), padding="valid", data_format: str | None = None, pool_mode="max") -> Tensor:
    """The largest element of each window of volumes, or its mean; pool_mode: 'max' or 'avg'."""
    return _pooled("pool3d", x, pool_size, strides, padding, data_format, pool_mode)


def _pooled(name: str, x: Any, size: Any, strides: Any, padding: str, data_format: str | None, mode: str) -> Tensor:
    pool = ops.max_pool if one_of(name, "pool_mode", mode, ("max", "avg")) == "max" else ops.average_pool
    return pool(x, size, strides, padding, data_format)


# -------------------- padding and resizing --------------------


def temporal_padding(x, padding=(1, 1)) -> Tensor:
    """Zeros before and after axis 1 of (batch, steps, features)."""
    return ops.pad(x, ((0, 0), tuple(padding), (0, 0)))


def spatial_2d_padding(x, padding=((1, 1), (1, 1)), data_format: str | None = None) -> Tensor:
    """Zeros around the rows and columns of images."""
    return _padded("spatial_2d_padding", x, padding, data_format)


def spatial_3d_padding(x, padding=((1, 1), (1, 1), (1, 1)), data_format: str | None = None) -> Tensor:
    """Zeros around volumes."""
    return _padded("spatial_3d_padding", x, padding, data_format)


def _padded(name: str, x: Any, padding: Any, data_format: str | None) -> Tensor:
    sides = [tuple(each) for each in padding]
    last = data_format_of(name, data_format) == "channels_last"
    return ops.pad(x, ((0, 0), *sides, (0, 0)) if last else ((0, 0), (0, 0), *sides))


def resize_images(x, height_factor: int, width_factor: int, data_format: str | None = None, interpolation="nearest"):
    """Enlarge images by height_factor and width_factor; interpolation: see `ops.enlarge`."""
    return ops.enlarge(x, (height_factor, width_factor), interpolation, data_format)


def resize_volumes(x, depth_factor: int, height_factor: int, width_factor: int, data_format: str | None = None):
    """Enlarge volumes by repeating each slice, row and column as often as the factors say."""
    return ops.enlarge(x, (depth_factor, height_factor, width_factor), "nearest", data_format)
