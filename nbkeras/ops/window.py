"""The arguments of ops that slide a window over sequences, images and volumes: (batch, ..., channels)."""

import operator
import sys
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels.loops import window

output_length = window.output_length
extent = window.extent
transposed_length, transposed_before = window.transposed_length, window.transposed_before


def sizes_of(name: str, what: str, value: Any, rank: int) -> tuple[int, ...]:
    """A tuple of `rank` positive integers from one integer or `rank` of them; errors name the op and the argument."""
    is_array = isinstance(value, np.ndarray) and value.ndim > 0
    given = value if is_array or isinstance(value, list | tuple) else (value,) * rank
    try:
        sizes = tuple(operator.index(size) for size in given)
    except TypeError:
        sizes = ()
    is_bad = not sizes or len(sizes) != rank or min(sizes) < 1 or any(isinstance(size, bool) for size in given)
    if is_bad or max(sizes) > sys.maxsize:
        many = ("a positive integer" if rank == 1 else f"a positive integer or {rank} of them") + (
            "" if is_bad else " below 2**63"
        )
        raise ValueError(f"{name}: {what} must be {many}, received {briefly(value)}")
    return sizes


def padding_of(name: str, padding: Any, allowed: tuple[str, ...]) -> str:
    """The padding in lower case; ValueError unless it is allowed."""
    return one_of(name, "padding", padding, allowed, any_case=True)


def paddings_of(name: str, value: Any, strides: tuple[int, ...]) -> tuple[int | None, ...]:
    """A transposed convolution's output_padding for each axis: integers below its stride, or None."""
    given = value if isinstance(value, list | tuple) else (value,) * len(strides)
    fits = len(given) == len(strides) and all(
        n is None or (isinstance(n, int) and 0 <= n < stride) for n, stride in zip(given, strides, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name}: output_padding must be None, an integer or {len(strides)} of them, each less than its stride "
            f"({strides}), received {briefly(value)}"
        )
    return tuple(given)


def data_format_of(name: str, data_format: str | None) -> str:
    """'channels_last' or 'channels_first', which may be given in upper case; None means config.image_data_format()."""
    found = config.image_data_format() if data_format is None else data_format
    return one_of(name, "data_format", found, ("channels_last", "channels_first"), any_case=True)


def check_fits(name: str, what: str, x: Tensor, size: tuple, dilation: tuple, padding: str) -> None:
    """Raise ValueError unless a window fits at least once into x (batch, ..., channels)."""
    lengths = x.shape[1:-1]
    reach = tuple(window.extent(n, d) for n, d in zip(size, dilation, strict=True))
    if 0 in lengths or (padding == "valid" and any(r > n for r, n in zip(reach, lengths, strict=True))):
        dilated = "" if set(dilation) == {1} else f" (dilated, it covers {_sizes(reach)})"
        raise ValueError(
            f"{name}: a {what} of size {_sizes(size)}{dilated} does not fit into an input of size {_sizes(lengths)}: use a "
            "smaller one, padding='same', or larger inputs"
        )


def _sizes(sizes: tuple) -> str:
    return "x".join(map(str, sizes))


def rank_of(name: str, inputs: Tensor, maximum: int = 3) -> int:
    """The number of spatial axes: 1 for sequences, 2 for images, 3 for volumes."""
    if not 3 <= inputs.ndim <= maximum + 2:
        kinds = "3 axes (sequences), 4 (images) or 5 (volumes)" if maximum == 3 else "3 axes (sequences) or 4 (images)"
        raise ValueError(f"{name}: inputs must have {kinds}, received shape {inputs.shape}")
    return inputs.ndim - 2
