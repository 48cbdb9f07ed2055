"""Locks for processes that fork while other threads run."""

import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

_locks: weakref.WeakSet = weakref.WeakSet()


def lock(kind: Callable[[], Any] = threading.Lock) -> Any:
    """Returns a lock that is free in a forked child, where the thread that held it does not exist and cannot release it.

    The fork cannot wait for that thread, which may itself wait for locks that the fork holds, such as `logging`'s.
    """
    made = kind()
    _locks.add(made)
    return made


class cached_property(functools.cached_property):
    """functools.cached_property with a lock (Python 3.11 has one per class) that is free in a forked child."""

    def __init__(self, function: Callable[[Any], Any]):
        super().__init__(function)
        if hasattr(self, "lock"):
            self.lock = lock(threading.RLock)


def _free() -> None:
    for each in _locks:
        each._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_free)
