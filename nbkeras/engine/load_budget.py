"""Floor 1: limits on memory and work while a model file is read. At other times the only limit is the address space.

A file of a few bytes can describe a layer of a terabyte, or nested models that are called 2**40 times. If a number in a
configuration determines the memory or work of some code, that code must call these functions first.
"""

from __future__ import annotations

import sys
import threading

from nbkeras.engine.annotations import briefly
from nbkeras.engine.temporary import temporarily

_STEPS = 200_000  # calls of layers and ops that build a model: about ten seconds
_BRIEF = 1 << 30  # limit of the bytes of a temporary array
_HINT = "it is damaged, or made to exhaust the machine. load_model(..., safe_mode=False) builds it as described"


class TooMuchError(ValueError):
    """A file takes more memory or work than its size allows."""


class _Room(threading.local):
    left: int | None = None
    steps: int | None = None
    unfilled = False


_room = _Room()


def limited(size: int | None) -> temporarily:
    """Limit the block to a total of `size` bytes (None: no limit) and 200,000 calls of layers and ops."""
    return temporarily(_room, left=size, steps=_STEPS)


def is_limited() -> bool:
    """Whether a file is read in safe mode."""
    return _room.steps is not None


def take(size: int, what: str) -> None:
    """Count permanent memory before it is allocated. Raises ValueError if it exceeds the remaining limit or address space."""
    check_exists(size, what)
    if _room.left is not None:
        if size > _room.left:
            raise TooMuchError(f"{what} takes {size} bytes, too much for a file of this size: {_HINT}")
        _room.left -= size


def take_briefly(size: int, what: str) -> None:
    """Check temporary memory before it is allocated. Raises ValueError beyond 1 GiB; without limits, beyond the address space."""
    check_exists(size, what)
    if _room.steps is not None and size > _BRIEF:
        raise TooMuchError(f"{what} takes {size} bytes, too much for a file of this size: {_HINT}")


def check_exists(size: int, what: str) -> None:
    """Raises ValueError for a size beyond the address space, since NumPy's own error would not name the argument."""
    if size > sys.maxsize:
        raise ValueError(f"{what} takes {briefly(size)} bytes, more than any memory has: pass smaller sizes")


def step(count: int = 1) -> None:
    """Count calls of layers and ops. Raises ValueError if the limit is exceeded."""
    if _room.steps is not None:
        _room.steps -= count
        if _room.steps < 0:
            raise TooMuchError(f"the model takes more than {_STEPS} calls of layers and ops to build: {_HINT}")


def unfilled(value: bool = True) -> temporarily:
    """Layers that are built in the block draw no initial values, because a file provides their weights afterwards.

    value: False for an inner block with weights that the file does not have.
    """
    return temporarily(_room, unfilled=value)


def is_unfilled() -> bool:
    """Whether layers that are built now draw no initial values."""
    return _room.unfilled
