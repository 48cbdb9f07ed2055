"""Keras 2's backend functions that convolve, pool, pad and resize sequences, images and volumes; part of `backend`."""

from typing import Any

from nbkeras import ops
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor
from nbkeras.ops.arguments import count_of
from nbkeras.ops.window import data_format_of, extent, sizes_of

# -------------------- convolution --------------------


def conv1d(x, kernel, strides=1, padding="valid", data_format: str | None = None, dilation_rate=1) -> Tensor:
    """Convolution of sequences. Today: `ops.conv1d`, which takes a bias too.

    Example:
        >>> x = np.arange(1.0, 5.0).reshape(1, 4, 1)
        >>> K.conv1d(x, np.ones((2, 1, 1)), padding="causal").numpy().ravel()
        array([1., 3., 5., 7.])
    """
    return ops.conv1d(x, kernel, None, strides, padding, dilation_rate, data_format)


def conv2d(x, kernel, strides=(1, 1), padding="valid", data_format: str | None = None, dilation_rate=(1, 1)) -> Tensor:
    """Convolution of images. Today: `ops.conv2d`, which takes a bias too.

    Example:
        >>> K.conv2d(np.ones((1, 3, 3, 1)), np.ones((2, 2, 1, 1)))[0, :, :, 0].numpy()
        array([[4., 4.],
               [4., 4.]])
    """
    return ops.conv2d(x, kernel, None, strides, padding, dilation_rate, data_format)


def conv3d(
    x, kernel, strides=(1, 1, 1), padding="valid", data_format: str | None = None, dilation_rate=(1, 1, 1)
) -> Tensor:
    """Convolution of volumes. Today: `ops.conv3d`, which takes a bias too.

    Example:
        >>> K.conv3d(np.ones((1, 3, 3, 3, 1)), np.ones((2, 2, 2, 1, 4))).shape
        (1, 2, 2, 2, 4)
    """
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
    """Transposed convolution of images: the gradient of `K.conv2d`. Today: `ops.conv_transpose`.

    Args:
        kernel: Weights (height, width, units, channels).
        output_shape: The shape of the result, (batch, ...): one of the shapes that the other arguments allow.
        padding: 'valid' or 'same': the padding of the convolution that maps the result to x.

    Raises:
        ValueError: for a shape that the arguments do not allow.

    Example:
        >>> K.conv2d_transpose(np.ones((1, 2, 2, 1)), np.ones((2, 2, 1, 1)), (1, 3, 3, 1))[0, :, :, 0].numpy()
        array([[1., 2., 1.],
               [2., 4., 2.],
               [1., 2., 1.]])
    """
    return _transposed("conv2d_transpose", x, kernel, output_shape, strides, padding, data_format, dilation_rate)


def conv3d_transpose(
    x, kernel, output_shape, strides=(1, 1, 1), padding="valid", data_format: str | None = None
) -> Tensor:
    """Transposed convolution of volumes: the gradient of `K.conv3d`, as `K.conv2d_transpose` of images.

    Args:
        kernel: Weights (depth, height, width, units, channels).
        padding: 'valid' or 'same': the padding of the convolution that maps the result to x.

    Example:
        >>> K.conv3d_transpose(np.ones((1, 2, 2, 2, 1)), np.ones((2, 2, 2, 4, 1)), (1, 3, 3, 3, 4)).shape
        (1, 3, 3, 3, 4)
    """
    return _transposed("conv3d_transpose", x, kernel, output_shape, strides, padding, data_format, (1, 1, 1))


def _transposed(
    name: str,
    x: Any,
    kernel: Any,
    output_shape: Any,
    strides: Any,
    padding: str,
    data_format: str | None,
    dilation_rate: Any,
) -> Tensor:
    rank = 2 if name == "conv2d_transpose" else 3
    if not len(ops.shape(x)) == len(ops.shape(kernel)) == rank + 2:
        raise ValueError(
            f"{name}: x and the kernel must have {rank + 2} axes, received shapes {ops.shape(x)} and {ops.shape(kernel)}"
        )
    step, dilation = sizes_of(name, "strides", strides, rank), sizes_of(name, "dilation_rate", dilation_rate, rank)
    if not isinstance(output_shape, list | tuple) or len(output_shape) != rank + 2:
        raise TypeError(f"{name}: output_shape must be a tuple of {rank + 2} sizes, received {briefly(output_shape)}")
    first = 1 if data_format_of(name, data_format) == "channels_last" else 2
    wanted = [None if size is None else count_of(name, "output_shape", size) for size in output_shape[first:]]
    axes = zip(ops.shape(x)[first:], wanted, ops.shape(kernel)[:rank], step, dilation, strict=False)
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
    """Convolution of each channel of sequences by itself, then one that mixes channels.

    Today: `ops.separable_conv(x, depthwise_kernel, pointwise_kernel)`.

    Example:
        >>> K.separable_conv1d(np.ones((1, 5, 3)), np.ones((2, 3, 1)), np.ones((1, 3, 8))).shape
        (1, 4, 8)
    """
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
    """Convolution of each channel of images by itself, then one that mixes channels.

    Today: `ops.separable_conv(x, depthwise_kernel, pointwise_kernel)`.

    Example:
        >>> K.separable_conv2d(np.ones((1, 5, 5, 3)), np.ones((2, 2, 3, 1)), np.ones((1, 1, 3, 8))).shape
        (1, 4, 4, 8)
    """
    return ops.separable_conv(x, depthwise_kernel, pointwise_kernel, strides, padding, data_format, dilation_rate)


def depthwise_conv2d(
    x, depthwise_kernel, strides=(1, 1), padding="valid", data_format: str | None = None, dilation_rate=(1, 1)
) -> Tensor:
    """Convolution of each channel of images by itself. Today: `ops.depthwise_conv(x, depthwise_kernel)`.

    Example:
        >>> K.depthwise_conv2d(np.ones((1, 5, 5, 3)), np.ones((2, 2, 3, 4))).shape
        (1, 4, 4, 12)
    """
    return ops.depthwise_conv(x, depthwise_kernel, strides, padding, data_format, dilation_rate)


def local_conv1d(inputs, kernel, kernel_size, strides, data_format: str | None = None) -> Tensor:
    """Convolution of sequences with a separate kernel for each output step. Today: `ops.local_conv`.

    Example:
        >>> kernel = np.float32([1, 10, 100]).reshape(3, 1, 1)  # (steps, size * channels, units)
        >>> K.local_conv1d(np.ones((1, 3, 1), "float32"), kernel, 1, 1).numpy().ravel()
        array([  1.,  10., 100.], dtype=float32)
    """
    return ops.local_conv(inputs, kernel, kernel_size, strides, data_format)


def local_conv2d(inputs, kernel, kernel_size, strides, output_shape=None, data_format: str | None = None) -> Tensor:
    """Convolution of images with a separate kernel for each output pixel. Today: `ops.local_conv`.

    Args:
        output_shape: Accepted and ignored: it follows from the other arguments.

    Example:
        >>> K.local_conv2d(np.ones((1, 3, 3, 1)), np.ones((4, 4, 8)), (2, 2), (1, 1)).shape
        (1, 2, 2, 8)
    """
    return ops.local_conv(inputs, kernel, kernel_size, strides, data_format)


# -------------------- pooling --------------------


def pool2d(x, pool_size, strides=(1, 1), padding="valid", data_format: str | None = None, pool_mode="max") -> Tensor:
    """The largest element of each window of images, or its mean. Today: `ops.max_pool(x)` and `ops.average_pool(x)`.

    Args:
        pool_mode: 'max' or 'avg'.

    Example:
        >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
        >>> K.pool2d(x, (2, 2), strides=(2, 2))[0, :, :, 0].numpy()
        array([[ 5.,  7.],
               [13., 15.]])
    """
    return _pooled("pool2d", x, pool_size, strides, padding, data_format, pool_mode)


def pool3d(x, pool_size, strides=(1, 1, 1), padding="valid", data_format: str | None = None, pool_mode="max") -> Tensor:
    """The largest element of each window of volumes, or its mean; as `K.pool2d`.

    Example:
        >>> K.pool3d(np.ones((1, 4, 4, 4, 2)), (2, 2, 2), strides=(2, 2, 2), pool_mode="avg").shape
        (1, 2, 2, 2, 2)
    """
    return _pooled("pool3d", x, pool_size, strides, padding, data_format, pool_mode)


def _pooled(name: str, x: Any, size: Any, strides: Any, padding: str, data_format: str | None, mode: str) -> Tensor:
    pool = ops.max_pool if one_of(name, "pool_mode", mode, ("max", "avg")) == "max" else ops.average_pool
    return pool(x, size, strides, padding, data_format)


# -------------------- padding and resizing --------------------


def temporal_padding(x, padding=(1, 1)) -> Tensor:
    """Zeros before and after the steps of sequences. Today: `ops.pad`.

    Args:
        x: A tensor (batch, steps, features).
        padding: The number of zeros: a pair (before, after).

    Example:
        >>> K.temporal_padding([[[1], [2]]], (1, 2)).numpy().ravel()
        array([0, 1, 2, 0, 0], dtype=int32)
    """
    return _padded("temporal_padding", x, [padding], "channels_last")


def spatial_2d_padding(x, padding=((1, 1), (1, 1)), data_format: str | None = None) -> Tensor:
    """Zeros around images. Today: `ops.pad`.

    Args:
        x: A tensor (batch, rows, columns, channels).
        padding: The number of zeros: a pair (before, after) for the rows and one for the columns.
        data_format: 'channels_last', 'channels_first' for x of shape (batch, channels, ...), or None for
            `config.image_data_format()`.

    Example:
        >>> K.spatial_2d_padding(np.ones((1, 2, 2, 3)), ((1, 1), (0, 2))).shape
        (1, 4, 4, 3)
    """
    return _padded("spatial_2d_padding", x, padding, data_format)


def spatial_3d_padding(x, padding=((1, 1), (1, 1), (1, 1)), data_format: str | None = None) -> Tensor:
    """Zeros around volumes, as `K.spatial_2d_padding` adds them to images.

    Args:
        x: A tensor (batch, depth, rows, columns, channels).
        padding: The number of zeros: a pair (before, after) for each of the three axes.

    Example:
        >>> K.spatial_3d_padding(np.ones((1, 2, 2, 2, 3))).shape
        (1, 4, 4, 4, 3)
    """
    return _padded("spatial_3d_padding", x, padding, data_format)


def _padded(name: str, x: Any, padding: Any, data_format: str | None) -> Tensor:
    if not isinstance(padding, list | tuple) or not all(isinstance(each, list | tuple) for each in padding):
        raise TypeError(f"{name}: padding must be a pair for each axis, received {briefly(padding)}")
    sides = [tuple(each) for each in padding]
    last = data_format_of(name, data_format) == "channels_last"
    return ops.pad(x, ((0, 0), *sides, (0, 0)) if last else ((0, 0), (0, 0), *sides))


def resize_images(x, height_factor: int, width_factor: int, data_format: str | None = None, interpolation="nearest"):
    """Enlarge images by integer factors. Today: `ops.enlarge`, which takes a pair of factors.

    Args:
        x: Numbers (batch, rows, columns, channels).
        height_factor: The number of rows that each row becomes.
        width_factor: The number of columns that each column becomes.

    Example:
        >>> K.resize_images([[[[1], [2]]]], 2, 2)[0, :, :, 0].numpy()
        array([[1, 1, 2, 2],
               [1, 1, 2, 2]], dtype=int32)
    """
    return ops.enlarge(x, (height_factor, width_factor), interpolation, data_format)


def resize_volumes(x, depth_factor: int, height_factor: int, width_factor: int, data_format: str | None = None):
    """Enlarge volumes by repeating each slice, row and column. Today: `ops.enlarge`; see `K.resize_images`.

    Args:
        x: Numbers (batch, depth, rows, columns, channels).
        depth_factor: The number of slices that each slice becomes.

    Example:
        >>> K.resize_volumes(np.ones((1, 2, 2, 2, 3)), 2, 3, 1).shape
        (1, 4, 6, 2, 3)
    """
    return ops.enlarge(x, (depth_factor, height_factor, width_factor), "nearest", data_format)
