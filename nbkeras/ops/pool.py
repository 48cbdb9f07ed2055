"""Differentiable pooling of sequences, images and volumes: (batch, ..., channels)."""

import math
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.tensor import Tensor, apply, as_float, op
from nbkeras.kernels import pool
from nbkeras.kernels.convolution import volumes
from nbkeras.ops.indexing import take
from nbkeras.ops.resize import blend
from nbkeras.ops.shape import expand_dims, moveaxis, reshape, squeeze
from nbkeras.ops.window import check_fits, data_format_of, padding_of, rank_of, sizes_of


@op
def max_pool(inputs, pool_size, strides=None, padding: str = "valid", data_format: str | None = None) -> Tensor:
    """The largest element of each window, for each channel.

    Args:
        inputs: Floats (batch, ..., channels): sequences, images or volumes; integers become floatx.
        pool_size: The size of the window: an integer, or one for each axis between batch and channels.
        strides: The distance from one window to the next, as `pool_size`; None for the pool size.
        padding: 'valid': only whole windows; 'same': windows that reach over the ends too, for ceil(length /
            strides) windows.
        data_format: 'channels_last', 'channels_first' for inputs (batch, channels, ...), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor (batch, ..., channels). The gradient goes to the first of equal elements.

    Raises:
        ValueError: if no window fits, or an argument is invalid.

    Example:
        >>> sequence = np.array([1.0, 5.0, 2.0, 3.0]).reshape(1, 4, 1)
        >>> ops.max_pool(sequence, 2).numpy().ravel()
        array([5., 3.])
        >>> ops.max_pool(np.ones((8, 28, 28, 3)), (2, 2)).shape
        (8, 14, 14, 3)
    """
    return _pool("max_pool", inputs, pool_size, strides, padding, data_format)


@op
def average_pool(inputs, pool_size, strides=None, padding: str = "valid", data_format: str | None = None) -> Tensor:
    """The mean of each window, for each channel. Elements outside the input do not count.

    Args:
        inputs: Floats (batch, ..., channels): sequences, images or volumes; integers become floatx.
        pool_size: The size of the window: an integer, or one for each axis between batch and channels.
        strides: The distance from one window to the next, as `pool_size`; None for the pool size.
        padding: 'valid': only whole windows; 'same': windows that reach over the ends too, for ceil(length /
            strides) windows.
        data_format: 'channels_last', 'channels_first' for inputs (batch, channels, ...), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor (batch, ..., channels).

    Raises:
        ValueError: if no window fits, or an argument is invalid.

    Example:
        >>> sequence = np.array([1.0, 5.0, 2.0]).reshape(1, 3, 1)
        >>> ops.average_pool(sequence, 2).numpy().ravel()
        array([3.])
        >>> ops.average_pool(sequence, 2, padding="same").numpy().ravel()
        array([3., 2.])
    """
    return _pool("average_pool", inputs, pool_size, strides, padding, data_format)


def _pool(name: str, inputs: Any, pool_size: Any, strides: Any, padding: str, data_format: str | None) -> Tensor:
    x = as_float(inputs)
    rank = rank_of(name, x)
    size = sizes_of(name, "pool_size", pool_size, rank)
    step = size if strides is None else sizes_of(name, "strides", strides, rank)
    padding = padding_of(name, padding, ("valid", "same"))
    channels_first = data_format_of(name, data_format) == "channels_first"
    if channels_first:
        x = moveaxis(x, 1, -1)
    check_fits(name, "window", x, size, (1,) * rank, padding)

    if rank == 1:  # an image of one row
        x, size, step = expand_dims(x, 1), (1, *size), (1, *step)
    family = volumes if rank == 3 else pool
    window = {"size": size, "strides": step, "padding": padding}
    y = apply(getattr(family, name), getattr(family, f"{name}_vjp"), [x], **window)
    if rank == 1:
        y = squeeze(y, 1)
    return moveaxis(y, -1, 1) if channels_first else y


@op
def adaptive_max_pool(inputs, output_size, data_format: str | None = None) -> Tensor:
    """The largest element of each of a given number of windows, which cover an axis as evenly as possible.

    Window i of n over an axis of length L goes from floor(i L / n) to ceil((i + 1) L / n), as in PyTorch and
    Keras.

    Args:
        inputs: Floats (batch, ..., channels): sequences, images or volumes; integers become floatx.
        output_size: The number of windows: an integer, or one for each axis between batch and channels.
        data_format: 'channels_last', 'channels_first' for inputs (batch, channels, ...), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor (batch, *output_size, channels).

    Raises:
        ValueError: for an axis of length 0, or sizes that are not positive integers.

    Example:
        >>> sequence = np.array([1.0, 5.0, 2.0, 3.0, 4.0]).reshape(1, 5, 1)
        >>> ops.adaptive_max_pool(sequence, 2).numpy().ravel()
        array([5., 4.])
    """
    x, size, channels_first = _adaptive("adaptive_max_pool", inputs, output_size, data_format)
    for axis, count in enumerate(size, 1):
        *before, length, channels = *x.shape[: axis + 1], math.prod(x.shape[axis + 1 :])
        starts, ends = _bins(length, count)
        longest = int(np.max(ends - starts))
        # shorter windows repeat their last element
        places = np.minimum(starts[:, None] + np.arange(longest), ends[:, None] - 1)
        rows = reshape(x, (math.prod(before), length, 1, channels))
        rows = rows if places.size == length else take(rows, places.ravel(), 1)
        y = max_pool(rows, (longest, 1), None, "valid", "channels_last")
        x = reshape(y, (*before, count, *x.shape[axis + 1 :]))
    return moveaxis(x, -1, 1) if channels_first else x


@op
def adaptive_average_pool(inputs, output_size, data_format: str | None = None) -> Tensor:
    """The mean of each of a given number of windows, which cover an axis as evenly as possible.

    Window i of n over an axis of length L goes from floor(i L / n) to ceil((i + 1) L / n), as in PyTorch and
    Keras.

    Args:
        inputs: Floats (batch, ..., channels): sequences, images or volumes; integers become floatx.
        output_size: The number of windows: an integer, or one for each axis between batch and channels.
        data_format: 'channels_last', 'channels_first' for inputs (batch, channels, ...), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor (batch, *output_size, channels).

    Raises:
        ValueError: for an axis of length 0, or sizes that are not positive integers.

    Example:
        >>> sequence = np.array([1.0, 3.0, 5.0, 7.0, 9.0]).reshape(1, 5, 1)
        >>> ops.adaptive_average_pool(sequence, 2).numpy().ravel()
        array([3., 7.])
        >>> ops.adaptive_average_pool(np.ones((8, 13, 9, 64)), (7, 7)).shape
        (8, 7, 7, 64)
    """
    x, size, channels_first = _adaptive("adaptive_average_pool", inputs, output_size, data_format)
    for axis, count in enumerate(size, 1):
        starts, ends = _bins(x.shape[axis], count)
        places = np.arange(x.shape[axis])
        load_budget.take_briefly(16 * count * x.shape[axis], f"pooling an axis of {x.shape[axis]} to {count}")
        inside = (places >= starts[:, None]) & (places < ends[:, None])
        x = blend(x, inside / (ends - starts)[:, None], axis)
    return moveaxis(x, -1, 1) if channels_first else x


def _adaptive(
    name: str, inputs: Any, output_size: Any, data_format: str | None
) -> tuple[Tensor, tuple[int, ...], bool]:
    x = as_float(inputs)
    size = sizes_of(name, "output_size", output_size, rank_of(name, x))
    channels_first = data_format_of(name, data_format) == "channels_first"
    x = moveaxis(x, 1, -1) if channels_first else x
    if 0 in x.shape[1:-1]:
        raise ValueError(f"{name}: inputs of shape {x.shape} have nothing to pool")
    return x, size, channels_first


def _bins(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The starts and the ends (exclusive) of the windows."""
    if count >= 2**31:
        raise ValueError(f"pooling an axis of {length} to {count} takes more than any memory")
    load_budget.take_briefly(512 * (length + count), f"pooling an axis of {length} to {count}")
    i = np.arange(count)
    return i * length // count, -(-(i + 1) * length // count)
