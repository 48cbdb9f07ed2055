"""Locks in processes that fork while other threads run."""

import os
import threading
import weakref

_locks: weakref.WeakSet = weakref.WeakSet()


def lock() -> threading.Lock:
    """A lock that is free in a forked child, where the thread that held it does not exist and cannot release it."""
    made = threading.Lock()
    _locks.add(made)
    return made


def _free() -> None:
    for each in _locks:
        each._at_fork_reinit()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_free)
