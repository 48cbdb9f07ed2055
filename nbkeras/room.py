"""Floor 1: how much a model's file may ask for while it is read, in memory and in work. Elsewhere nothing is limited.

A file of a few bytes can describe a layer of a terabyte, or models in models that are called 2**40 times. Whoever makes
memory or repeats work by a number of a configuration asks here first.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_STEPS = 200_000  # calls of layers, and ops, that describe a model: some ten seconds of them
_BRIEF = 1 << 30  # bytes of an array that is only needed for a moment
_HINT = "it is damaged, or made to exhaust the machine. load_model(..., safe_mode=False) builds it as described"


class _Room(threading.local):
    left: int | None = None
    steps: int | None = None
    unfilled = False


_room = _Room()


@contextlib.contextmanager
def limited(size: int | None) -> Iterator[None]:
    """What is made in the block takes at most `size` bytes in all (None: any), and 200,000 calls of layers and ops."""
    before = _room.left, _room.steps
    _room.left, _room.steps = size, _STEPS
    try:
        yield
    finally:
        _room.left, _room.steps = before


def take(size: int, what: str) -> None:
    """Memory that stays; ValueError, before it is made, if there is no room for it."""
    if _room.left is not None:
        if size > _room.left:
            raise ValueError(f"{what} takes {size} bytes, for which the file is too small: {_HINT}")
        _room.left -= size


def take_briefly(size: int, what: str) -> None:
    """Memory that is given back at once; ValueError, before it is made, if it is more than a model needs."""
    if _room.steps is not None and size > _BRIEF:
        raise ValueError(f"{what} takes {size} bytes, for which the file is too small: {_HINT}")


def step(count: int = 1) -> None:
    """Calls of a layer or an op; ValueError after too many of them."""
    if _room.steps is not None:
        _room.steps -= count
        if _room.steps < 0:
            raise ValueError(f"the model takes more than {_STEPS} calls of layers and ops to build: {_HINT}")


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Layers that are built in the block get all their weights from a file right after it: none draws values before."""
    before, _room.unfilled = _room.unfilled, True
    try:
        yield
    finally:
        _room.unfilled = before


def is_unfilled() -> bool:
    return _room.unfilled
