"""Floor 1: limits of memory and work while a model's file is read. There are no limits at other times.

A file of a few bytes can describe a layer of a terabyte, or nested models that are called 2**40 times. Code whose memory or work
depends on a number in a configuration calls these functions first.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_STEPS = 200_000  # calls of layers and ops that build a model: about ten seconds
_BRIEF = 1 << 30  # bytes of one temporary array
_HINT = "it is damaged, or made to exhaust the machine. load_model(..., safe_mode=False) builds it as described"


class _Room(threading.local):
    left: int | None = None
    steps: int | None = None
    unfilled = False


_room = _Room()


@contextlib.contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Limit the block to `size` bytes in all (None: no limit) and 200,000 calls of layers and ops."""
    before = _room.left, _room.steps
    _room.left, _room.steps = size, _STEPS
    try:
        yield
    finally:
        _room.left, _room.steps = before


def take(size: int, what: str) -> None:
    """Count memory that is kept, before it is allocated; ValueError if it exceeds what is left."""
    if _room.left is not None:
        if size > _room.left:
            raise ValueError(f"{what} takes {size} bytes, for which the file is too small: {_HINT}")
        _room.left -= size


def take_briefly(size: int, what: str) -> None:
    """Check temporary memory before it is allocated; ValueError if it is more than a model needs."""
    if _room.steps is not None and size > _BRIEF:
        raise ValueError(f"{what} takes {size} bytes, for which the file is too small: {_HINT}")


def step(count: int = 1) -> None:
    """Count calls of a layer or an op; ValueError after too many of them."""
    if _room.steps is not None:
        _room.steps -= count
        if _room.steps < 0:
            raise ValueError(f"the model takes more than {_STEPS} calls of layers and ops to build: {_HINT}")


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Layers that are built in the block draw no initial values, because a file gives them their weights right after it."""
    before, _room.unfilled = _room.unfilled, True
    try:
        yield
    finally:
        _room.unfilled = before


def is_unfilled() -> bool:
    """Whether layers that are built now draw no initial values."""
    return _room.unfilled
