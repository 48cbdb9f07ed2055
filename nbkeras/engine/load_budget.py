"""Floor 1: limits of memory and work while a model's file is read. At other times the only limit is what memory can address.

A file of a few bytes can describe a layer of a terabyte, or nested models that are called 2**40 times. Code whose memory or work
depends on a number in a configuration calls these functions first.
"""

from __future__ import annotations

import sys
import threading

from nbkeras.engine.temporary import temporarily

_STEPS = 200_000  # calls of layers and ops that build a model: about ten seconds
_BRIEF = 1 << 30  # bytes of one temporary array
_HINT = "it is damaged, or made to exhaust the machine. load_model(..., safe_mode=False) builds it as described"


class _Room(threading.local):
    left: int | None = None
    steps: int | None = None
    unfilled = False


_room = _Room()


def limited(size: int | None) -> temporarily:
    """Limit the block to `size` bytes in all (None: no limit) and 200,000 calls of layers and ops."""
    return temporarily(_room, left=size, steps=_STEPS)


def take(size: int, what: str) -> None:
    """Count memory that is kept, before it is allocated; ValueError if it exceeds what is left, or what can exist."""
    check_exists(size, what)
    if _room.left is not None:
        if size > _room.left:
            raise ValueError(f"{what} takes {size} bytes, for which the file is too small: {_HINT}")
        _room.left -= size


def take_briefly(size: int, what: str) -> None:
    """Check temporary memory before it is allocated; ValueError if it is more than a model needs, or than can exist."""
    check_exists(size, what)
    if _room.steps is not None and size > _BRIEF:
        raise ValueError(f"{what} takes {size} bytes, for which the file is too small: {_HINT}")


def check_exists(size: int, what: str) -> None:
    """ValueError for a number of bytes that no memory can have: NumPy's own error would not name the argument."""
    if size > sys.maxsize:
        raise ValueError(f"{what} takes {size} bytes, more than any memory has: pass smaller sizes")


def step(count: int = 1) -> None:
    """Count calls of a layer or an op; ValueError after too many of them."""
    if _room.steps is not None:
        _room.steps -= count
        if _room.steps < 0:
            raise ValueError(f"the model takes more than {_STEPS} calls of layers and ops to build: {_HINT}")


def unfilled(value: bool = True) -> temporarily:
    """Layers that are built in the block draw no initial values, because a file gives them their weights right after it.

    value: False for a block in it, of weights that the file does not have.
    """
    return temporarily(_room, unfilled=value)


def is_unfilled() -> bool:
    """Whether layers that are built now draw no initial values."""
    return _room.unfilled
