"""Numbers in variables of the environment."""

import functools
import os
import warnings


def integer(text: str) -> int | None:
    """Returns the integer that a text holds; None if it holds another thing, or more digits than Python reads."""
    try:
        return int(text)
    except ValueError:
        return None


def threads() -> int | None:
    """Returns the number of threads in NUMBA_NUM_THREADS; None as `number` does."""
    return number("NUMBA_NUM_THREADS", 1, 1024)


def number(name: str, minimum: int, maximum: int) -> int | None:
    """Returns the integer in a variable. None if it is not set or, with one warning, if it is not from `minimum` to `maximum`."""
    return _number(name, os.environ.get(name, ""), minimum, maximum)


@functools.cache
def _number(name: str, text: str, minimum: int, maximum: int) -> int | None:
    found = integer(text)
    if text and (found is None or not minimum <= found <= maximum):
        warnings.warn(
            f"the environment variable {name} must be an integer from {minimum} to {maximum}, received {text[:60]!r}: "
            "nbkeras ignores it. Correct or unset it.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return found
