"""Differentiable resizing of an axis by a matrix of weights: sequences, images and volumes enlarged by integer factors."""

import functools
import math
from collections.abc import Callable

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import one_of
from nbkeras.engine.tensor import Tensor, as_float, as_tensor, op
from nbkeras.ops.contractions import matmul
from nbkeras.ops.elementwise import add, multiply
from nbkeras.ops.indexing import take
from nbkeras.ops.shape import repeat, reshape
from nbkeras.ops.window import data_format_of, sizes_of

# if the weights use fewer elements than the axis has by at least this factor, sums cost less than a product
_SPARSITY = 16


def blend(x: Tensor, weights: np.ndarray, axis: int) -> Tensor:
    """Weighted sums of the elements along an axis of (batch, ..., last), by a matrix of weights (new length, length)."""
    index, own = _places(weights)
    if index.shape[1] * _SPARSITY <= weights.shape[1]:
        sides = [-1 if i == axis else 1 for i in range(x.ndim)]
        parts = [
            multiply(take(x, places, axis), as_tensor(shares.reshape(sides), x.dtype))
            for places, shares in zip(index.T, own.T, strict=True)
        ]
        return functools.reduce(add, parts)
    before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    y = matmul(as_tensor(weights, x.dtype), reshape(x, (before, x.shape[axis], after)))
    return reshape(y, (*x.shape[:axis], len(weights), *x.shape[axis + 1 :]))


def _places(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns from the first to the last weight of each row of a matrix, and these weights: two arrays of equal shape."""
    given = weights != 0
    first = given.argmax(axis=1)
    last = np.where(given.any(axis=1), weights.shape[1] - 1 - given[:, ::-1].argmax(axis=1), first)
    index = first[:, None] + np.arange((last - first).max(initial=0) + 1)
    inside = np.minimum(index, weights.shape[1] - 1)
    return inside, np.where(index <= last[:, None], np.take_along_axis(weights, inside, axis=1), 0)


@op
def enlarge(inputs, factors, interpolation: str = "nearest", data_format: str | None = None) -> Tensor:
    """Make each axis between batch and channels longer by an integer factor.

    Pixel centres are at half-integers. Near the edges, the weights of the elements inside add up to 1, as in
    JAX and TensorFlow.

    Args:
        inputs: Numbers (batch, ..., channels): sequences, images or volumes. Integers become floatx, except
            for 'nearest'.
        factors: An integer, or one for each axis.
        interpolation: 'nearest', 'bilinear', 'bicubic' (Keys, a = -0.5), 'lanczos3' or 'lanczos5'.
        data_format: 'channels_last', 'channels_first' for (batch, channels, ...), which is transposed before
            and after, or None for `config.image_data_format()`.

    Returns:
        A tensor (batch, ..., channels).

    Raises:
        ValueError: for factors that are not positive integers, or an unknown interpolation.

    Example:
        >>> x = np.array([0.0, 1.0, 2.0]).reshape(1, 3, 1)
        >>> ops.enlarge(x, 2).numpy().ravel()
        array([0., 0., 1., 1., 2., 2.])
        >>> ops.enlarge(x, 2, "bilinear").numpy().ravel()
        array([0.  , 0.25, 0.75, 1.25, 1.75, 2.  ])
    """
    x = as_tensor(inputs)
    rank = x.ndim - 2
    factors = sizes_of("enlarge", "factors", factors, rank)
    start = 2 if data_format_of("enlarge", data_format) == "channels_first" else 1
    one_of("enlarge", "interpolation", interpolation, INTERPOLATIONS)
    x = x if interpolation == "nearest" else as_float(x)
    for axis, factor in enumerate(factors, start):
        if factor > 1:
            nearest = interpolation == "nearest"
            x = (
                repeat(x, factor, axis)
                if nearest
                else blend(x, sampling_weights(interpolation, x.shape[axis], x.shape[axis] * factor, factor), axis)
            )
    return x


def _cubic(x: np.ndarray) -> np.ndarray:
    near, far = ((1.5 * x - 2.5) * x) * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(radius: int, x: np.ndarray) -> np.ndarray:
    return np.where(x < radius, np.sinc(x) * np.sinc(x / radius), 0)


_KERNELS: dict[str, Callable] = {
    "bilinear": lambda x: np.maximum(0, 1 - x),
    "bicubic": _cubic,
    "lanczos3": functools.partial(_lanczos, 3),
    "lanczos5": functools.partial(_lanczos, 5),
}
INTERPOLATIONS = ("nearest", *_KERNELS)


@functools.lru_cache(maxsize=64)
def sampling_weights(
    interpolation: str, length: int, new: int, scale: float, shift: float = 0.0, antialias: bool = True
) -> np.ndarray:
    """The weights (new, length) of each of `length` elements in each element of an axis that is scaled and then shifted.

    They depend on the distance and add up to 1, or are 0 for elements outside. antialias: if the axis shrinks, each new element
    averages correspondingly more elements.
    """
    load_budget.take_briefly(16 * new * length, f"resizing an axis from {length} to {new}")
    at = (np.arange(new) + 0.5 - shift) / scale - 0.5
    width = max(1 / scale, 1.0) if antialias else 1.0
    weights = _KERNELS[interpolation](np.abs(at[:, None] - np.arange(length)) / width)
    total = weights.sum(axis=1, keepdims=True)
    inside = ((at >= -0.5) & (at <= length - 0.5))[:, None] & (np.abs(total) > 1e-12)
    return np.where(inside, weights / np.where(inside, total, 1), 0)
