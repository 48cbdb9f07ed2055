"""Floor 1: the lock for building layers. Layers are built one at a time, so that several threads build each layer only once.

Calls of a built layer take no lock. All layers share one lock, since a `build` may build other layers in any order.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from nbkeras.engine import step_lock

_lock = threading.RLock()
unfinished: list[Any] = []  # the layers that the thread with the lock is building; their `built` may already be True


@contextlib.contextmanager
def building(layer: Any) -> Iterator[None]:
    """In the block, this thread may build the layer. It must first check that no other thread has built it."""
    # Writers of weights wait for series, and a thread in a series may wait for this lock. To avoid a deadlock, the thread with
    # the lock must never wait as a writer; inside a series it does not wait.
    with step_lock.series(), _lock:
        unfinished.append(layer)
        try:
            yield
        finally:
            unfinished.pop()


def _after_fork() -> None:
    """Drop the lock and list of another thread, since that thread does not exist in the child."""
    global _lock
    if _lock.acquire(blocking=False):
        _lock.release()
    else:
        _lock = threading.RLock()
        unfinished.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
