"""Floor 1: a read-write lock. Steps of several threads run at the same time; a thread writes several weights between steps.

Starting a step costs two list operations and takes no lock, since a whole prediction of a small model takes 20 us. A series is a
sequence of steps that use the same weights, such as the batches of one prediction. A series may take minutes. So a writer first
blocks only new series until the running series have ended; then it blocks steps until the running steps and the writing are done.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

_running: list[int] = []  # the thread of each running step
_series: list[int] = []  # the thread of each running series
_next: int | None = None  # the writer's thread, from its wait for series until it has written
_writer: int | None = None  # the writer's thread, from its wait for steps until it has written
_waiting = 0  # the number of steps and series that wait for the writer
_one_writer = threading.RLock()
_changed = threading.Condition()
_thread = threading.get_ident


def enter() -> int:
    """Begin a step as soon as no other thread writes. Returns the argument of `leave`."""
    thread = _thread()
    # Append before reading _writer. A writer sets _writer before reading _running, so at least one of the two sees the other.
    _running.append(thread)
    if _writer is not None:
        _wait(thread)
    return thread


def leave(thread: int) -> None:
    """End a step."""
    _running.remove(thread)
    if _writer is not None:
        with _changed:
            _changed.notify_all()


def inside() -> bool:
    """Whether this thread is in a step."""
    return _thread() in _running


def _wait(thread: int) -> None:
    """Wait until the writer is done, unless this thread is the writer or has another running step."""
    while _writer not in (None, thread) and _running.count(thread) == 1:
        with _changed:
            _running.remove(thread)
            _until(lambda: _writer is None)
            _running.append(thread)
            _changed.notify_all()


def _until(holds: Callable[[], bool]) -> None:
    """Wait, with `_changed` held. `_waiting` counts the waiters: the next writer lets them run first."""
    global _waiting
    _waiting += 1
    _changed.notify_all()
    try:
        _changed.wait_for(holds)
    finally:
        _waiting -= 1
        _changed.notify_all()


@contextlib.contextmanager
def series() -> Iterator[None]:
    """In the block, other threads do not write weights, so that all steps of this thread use the same ones."""
    thread = _thread()
    with _changed:
        if _next not in (None, thread) and not inside() and thread not in _series:
            _until(lambda: _next is None)
        _series.append(thread)
    try:
        yield
    finally:
        with _changed:
            _series.remove(thread)
            _changed.notify_all()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """In the block, no step or series of another thread runs. It does nothing inside a step or series: these may write."""
    global _next, _writer
    thread = _thread()
    if inside() or thread in _series or _writer == thread:
        yield
        return
    with _one_writer:
        try:
            with _changed:
                _changed.wait_for(lambda: not _waiting)
                _next = thread
                _changed.wait_for(lambda: not _series)
                _writer = thread
                _changed.wait_for(lambda: not _running)
            yield
        finally:
            with _changed:
                _next = _writer = None
                _changed.notify_all()


def _after_fork() -> None:
    """Drop the entries of all threads except the one that forked, since only that thread exists in the child."""
    global _next, _writer, _waiting, _one_writer, _changed
    for found in _running, _series:
        found[:] = [thread for thread in found if thread == _thread()]
    _next, _writer, _waiting, _one_writer, _changed = None, None, 0, threading.RLock(), threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
