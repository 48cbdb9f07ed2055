"""Indicators of categories by NumPy, for layers that take strings: the memory is that of the result, however long a text is."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from nbkeras.engine.dtypes import known_dtype

Array = np.ndarray


def indicators(numbers: Array | list[list[int]], mode: str, depth: int, dtype: str) -> Array:
    """Encode integers as `categorical.encoded` does, of at most two axes, or in rows of different lengths; 'tf_idf' counts.

    Numbers outside of 0 to depth - 1 are ignored.
    """
    kind: Any = known_dtype(dtype)  # arrays of bfloat16 are float32 here
    if isinstance(numbers, np.ndarray) and mode == "one_hot":
        numbers = numbers[..., 0] if numbers.ndim > 1 and numbers.shape[-1] == 1 else numbers
        made = np.zeros((*numbers.shape, depth), kind)
        places = np.nonzero((numbers >= 0) & (numbers < depth))
        made[(*places, numbers[places])] = 1
        return made
    if isinstance(numbers, np.ndarray):
        is_one = numbers.ndim < 2
        lengths = [numbers.size] if is_one else [numbers.shape[1]] * len(numbers)
        flat = numbers.ravel()
    else:
        is_one, lengths = False, list(map(len, numbers))
        flat = np.fromiter(itertools.chain.from_iterable(numbers), np.int64, sum(lengths))
    made = np.zeros((len(lengths), depth), kind)
    rows, known = np.repeat(np.arange(len(lengths)), lengths), (flat >= 0) & (flat < depth)
    if mode == "multi_hot":
        made[rows[known], flat[known]] = 1
    else:
        np.add.at(made, (rows[known], flat[known]), 1)
    return made[0] if is_one else made
