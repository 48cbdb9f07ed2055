"""The limits of strings that models take: layers split and look them up in Python, so their length decides the time."""

from collections.abc import Sequence

import numpy as np

from nbkeras.engine.strings import characters
from nbkeras.serving.budget import MOST_TEXT
from nbkeras.serving.errors import ServingError

_LONG = 1024  # characters: longer strings are computed in a thread


def is_long(arrays: Sequence[np.ndarray]) -> bool:
    """Whether the inputs of a request have long strings: the time of its batch is then not that of its rows."""
    return sum(characters(array) for array in arrays if array.dtype == object) > _LONG


def check_texts(model: str, arrays: Sequence[np.ndarray]) -> None:
    """Refuse a request whose strings are very long: layers take about a second for MOST_TEXT characters."""
    count = sum(characters(array) for array in arrays if array.dtype == object)
    if count > MOST_TEXT:
        raise ServingError(
            413,
            f"the strings for model {model!r} have {count} characters together (limit: {MOST_TEXT}): send fewer rows",
        )
