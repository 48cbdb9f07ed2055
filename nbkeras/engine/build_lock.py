"""Floor 1: layers are built one at a time, so each is built once, whichever of several threads calls it first.

A layer that is built takes no lock. The lock is one for all layers, since a `build` may build other layers in any order.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from nbkeras.engine import step_lock

_lock = threading.RLock()
unfinished: list[Any] = []  # the layers that the thread with the lock builds now: their `built` may be True already


@contextlib.contextmanager
def building(layer: Any) -> Iterator[None]:
    """The thread builds the layer in the block, unless it finds there that another thread has built it."""
    # A writer of weights waits for series, and a thread in a series may wait for the lock. So the thread that has the lock must
    # never wait as a writer: in a series it need not.
    with step_lock.series(), _lock:
        unfinished.append(layer)
        try:
            yield
        finally:
            unfinished.pop()


def _after_fork() -> None:
    """Drop the lock and the list of another thread, which does not exist in the child."""
    global _lock
    if _lock.acquire(blocking=False):
        _lock.release()
    else:
        _lock = threading.RLock()
        unfinished.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
