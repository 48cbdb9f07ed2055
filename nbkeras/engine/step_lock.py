"""Floor 1: steps of several threads run at the same time; a thread that writes several weights does so between steps.

To begin a step costs two operations on a list and no lock: a whole prediction of a small model takes 20 us. A series is a
sequence of steps that use the same weights, such as the batches of one prediction. A series may take minutes. So a writer first
blocks only new series until the running ones have ended; then it blocks steps until the running steps and the writing are done.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

_running: list[int] = []  # the thread of each step that runs now
_series: list[int] = []  # the thread of each series that runs now
_next: int | None = None  # the thread that waits for the end of all series, or writes
_writer: int | None = None  # the same thread once it waits for the end of all steps, or writes
_waiting = 0  # how many steps and series wait for the writer
_one_writer = threading.RLock()
_changed = threading.Condition()
_thread = threading.get_ident


def enter() -> int:
    """Begin a step as soon as no other thread writes; returns the argument of `leave`."""
    thread = _thread()
    # before reading _writer: a writer reads in the opposite order, so one of the two sees the other
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
    """Wait until the writer is done, unless it waits for a step of this thread or is this thread."""
    while _writer not in (None, thread) and _running.count(thread) == 1:
        with _changed:
            _running.remove(thread)
            _until(lambda: _writer is None)
            _running.append(thread)
            _changed.notify_all()


def _until(holds: Callable[[], bool]) -> None:
    """Wait, with `_changed` held. The next writer lets everything that waited for the last one go first: `_waiting` counts it."""
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
    """The steps of this thread in the block use the same weights, except for those that they write themselves."""
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
    """No step or series of another thread runs in the block. Does nothing within a step or a series, which may write."""
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
    """Drop the entries of all threads except the one that forked: only that one exists in the child."""
    global _next, _writer, _waiting, _one_writer, _changed
    for found in _running, _series:
        found[:] = [thread for thread in found if thread == _thread()]
    _next, _writer, _waiting, _one_writer, _changed = None, None, 0, threading.RLock(), threading.Condition()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
