"""Overlapping windows of sequences and images, extracted or added up: extract_sequences, unfold, fold."""

import math
import operator
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, as_float, as_tensor, op
from nbkeras.ops.indexing import getitem, pad, take
from nbkeras.ops.scattering import segment_sum
from nbkeras.ops.shape import reshape, transpose


def _places(size: int, window: int, stride: int, dilation: int = 1) -> np.ndarray:
    """The positions of each window's elements, (windows, window)."""
    count = max(0, (size - dilation * (window - 1) - 1) // stride + 1)
    load_budget.take_briefly(16 * (count + 1) * window, f"{count} windows of {window}")
    return np.arange(count)[:, None] * stride + np.arange(window) * dilation


@op
def extract_sequences(x, sequence_length: int, sequence_stride: int) -> Tensor:
    """All windows of a given length along the last axis; they may overlap.

    Args:
        x: Numbers (..., n).
        sequence_length: The number of elements of a window.
        sequence_stride: The distance from one window to the next.

    Returns:
        A tensor (..., windows, sequence_length) of x's dtype, where windows = (n - sequence_length) //
        sequence_stride + 1, or 0.

    Raises:
        ValueError: if x is a scalar, or a length below 1 is given.

    Example:
        >>> ops.extract_sequences([1, 2, 3, 4, 5], 3, 2).numpy()
        array([[1, 2, 3],
               [3, 4, 5]], dtype=int32)
    """
    x = as_tensor(x)
    if x.ndim == 0 or sequence_length < 1 or sequence_stride < 1:
        raise ValueError(
            f"extract_sequences: expected at least one axis, and a length and a stride of at least 1, received {x.shape}, "
            f"{sequence_length} and {sequence_stride}"
        )
    return take(x, _places(x.shape[-1], sequence_length, sequence_stride), axis=-1)


def _overlap_add(x: Tensor, stride: int) -> Tensor:
    """Add up overlapping windows, each `stride` after the one before: (..., windows, length) -> (..., n)."""
    *batch, count, length = x.shape
    size = (count - 1) * stride + length
    rows = transpose(reshape(x, (math.prod(batch), count * length)))
    y = segment_sum(rows, _places(size, length, stride).reshape(-1), size)
    return reshape(transpose(y), (*batch, size))


def _two(name: str, what: str, value: Any, minimum: int = 1) -> tuple[int, int]:
    given = value if isinstance(value, list | tuple) else (value, value)
    try:
        sizes = tuple(operator.index(size) for size in given)
    except TypeError:
        sizes = ()
    if len(sizes) != 2 or min(sizes) < minimum:
        raise ValueError(f"{name}: {what} must be one or two integers of at least {minimum}, received {briefly(value)}")
    return sizes  # type: ignore[return-value]


def _grids(name: str, size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[list, list]:
    """The positions of each window along the rows and the columns of a padded image, and the padding."""
    around = _two(name, "padding", padding, 0)
    arguments = [
        _two(name, what, v) for what, v in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
    ]
    grids = [_places(n + 2 * p, *each) for n, p, *each in zip(size, around, *arguments, strict=True)]
    if any(len(grid) == 0 for grid in grids):
        raise ValueError(
            f"{name}: kernel_size {kernel_size} with dilation {dilation} is larger than an image of {tuple(size)}"
        )
    return grids, [(p, p) for p in around]


@op
def unfold(x, kernel_size, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Windows of images as columns, as in PyTorch (also called im2col).

    Args:
        x: Numbers (n, channels, height, width).
        kernel_size: The size of a window: an integer, or a pair.
        dilation: The distance between the elements of a window: an integer, or a pair.
        padding: The number of zeros at each edge: an integer, or a pair.
        stride: The distance from one window to the next: an integer, or a pair.

    Returns:
        A tensor (n, channels * elements of a window, windows) of x's dtype; windows row by row.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> x = np.arange(9).reshape(1, 1, 3, 3)
        >>> ops.unfold(x, 2).numpy()[0].T  # the columns are the windows
        array([[0, 1, 3, 4],
               [1, 2, 4, 5],
               [3, 4, 6, 7],
               [4, 5, 7, 8]])
    """
    x = as_tensor(x)
    if x.ndim != 4:
        raise ValueError(f"unfold: expected (n, channels, height, width), received shape {x.shape}")
    (rows, columns), around = _grids("unfold", x.shape[2:], kernel_size, dilation, padding, stride)
    y = take(take(pad(x, [(0, 0), (0, 0), *around]), rows, 2), columns, 4)
    y = transpose(y, (0, 1, 3, 5, 2, 4))
    return reshape(y, (x.shape[0], x.shape[1] * rows.shape[1] * columns.shape[1], len(rows) * len(columns)))


@op
def fold(x, output_size, kernel_size, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Add up windows to images, as in PyTorch: the counterpart of `unfold`.

    Overlapping elements are summed.

    Args:
        x: Floats (n, channels * elements of a window, windows), as `unfold` returns; integers become floatx.
        output_size: (height, width) of the images, or one integer for both.
        kernel_size: The size of a window: an integer, or a pair.
        dilation: The distance between the elements of a window: an integer, or a pair.
        padding: The number of zeros that `unfold` added at each edge: an integer, or a pair.
        stride: The distance from one window to the next: an integer, or a pair.

    Returns:
        A float tensor (n, channels, height, width).

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> columns = ops.unfold(np.ones((1, 1, 3, 3)), 2)
        >>> ops.fold(columns, (3, 3), 2).numpy()[0, 0]  # the number of windows at each place
        array([[1., 2., 1.],
               [2., 4., 2.],
               [1., 2., 1.]])
    """
    x, size = as_float(x), _two("fold", "output_size", output_size)
    (rows, columns), around = _grids("fold", size, kernel_size, dilation, padding, stride)
    per_window = rows.shape[1] * columns.shape[1]
    if x.ndim != 3 or x.shape[1] % per_window or x.shape[2] != len(rows) * len(columns):
        raise ValueError(
            f"fold: expected (n, channels * {per_window}, {len(rows) * len(columns)}) for an image of {size}, received {x.shape}"
        )
    n, channels = x.shape[0], x.shape[1] // per_window
    height, width = (length + 2 * p for length, (p, _) in zip(size, around, strict=True))
    load_budget.take_briefly(24 * rows.size * columns.size, f"fold of {rows.size * columns.size} places")
    places = (rows.T[:, None, :, None] * width + columns.T[None, :, None, :]).reshape(-1)
    flat = transpose(reshape(x, (n * channels, places.size)))
    y = reshape(transpose(segment_sum(flat, places, height * width)), (n, channels, height, width))
    (top, _), (left, _) = around
    return getitem(y, (..., slice(top, top + size[0]), slice(left, left + size[1])))
