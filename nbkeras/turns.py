"""Floor 1: steps of several threads run side by side; whoever writes several weights does it between steps.

A step enters with two operations of a list and takes no lock: a prediction of a small model takes 20 us in all.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

_running: list[int] = []  # the thread of each step that runs now
_writer: int | None = None  # the thread that writes, or waits until it may
_waiting = 0  # steps that wait for the writer
_one_writer = threading.RLock()
_changed = threading.Condition()
_thread = threading.get_ident


def enter() -> int:
    """Begin a step, once no other thread writes; returns what `leave` takes."""
    thread = _thread()
    _running.append(thread)  # before the look at _writer: a writer looks in the opposite order, so one sees the other
    if _writer is not None:
        _wait(thread)
    return thread


def leave(thread: int) -> None:
    """End a step."""
    _running.remove(thread)
    if _writer is not None:
        with _changed:
            _changed.notify_all()


@contextlib.contextmanager
def step() -> Iterator[None]:
    """The block is a step."""
    thread = enter()
    try:
        yield
    finally:
        leave(thread)


def inside() -> bool:
    """Whether this thread is in a step."""
    return _thread() in _running


def _wait(thread: int) -> None:
    """Let the writer go first, unless it waits for a step of this thread or is this thread."""
    global _waiting
    while _writer not in (None, thread) and _running.count(thread) == 1:
        with _changed:
            _waiting += 1
            _running.remove(thread)
            _changed.notify_all()
            _changed.wait_for(lambda: _writer is None)
            _running.append(thread)
            _waiting -= 1
            _changed.notify_all()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """No step of another thread runs in the block. A step that writes is one step, so within a step this does nothing."""
    global _writer
    thread = _thread()
    if inside():
        yield
        return
    with _one_writer:
        before = _writer
        try:
            with _changed:
                _changed.wait_for(
                    lambda: before is not None or not _waiting
                )  # whoever waited for the last writer goes first
                _writer = thread
                _changed.wait_for(lambda: not _running)
            yield
        finally:
            with _changed:
                _writer = before
                _changed.notify_all()


def _after_fork() -> None:
    """Only the thread that forked goes on in the child."""
    global _writer, _waiting, _one_writer, _changed
    _running[:] = [thread for thread in _running if thread == _thread()]
    _writer, _waiting, _one_writer, _changed = None, 0, threading.RLock(), threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
