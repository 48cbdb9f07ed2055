"""Floor 3: BackgroundWriter, a thread that works on files while training continues, and returns its errors to the caller."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from nbkeras.engine.user_errors import warn

_unreported: set[BaseException] = set()  # errors of threads that no caller has received yet


class BackgroundWriter:
    """Runs one job at a time in a thread. A job's error is raised once, by the next call of a method.

    The thread exists only while a job runs. At exit, the interpreter waits for it and prints an error that no caller received.
    A forked process has no job: the job belongs to the parent.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._is_done = threading.Event()
        self._errors: list[BaseException] = []

    def __reduce__(self) -> tuple:  # a copy or a pickle has no job
        return BackgroundWriter, ()

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Wait for the job. If the block raised an error, the job's error becomes a warning."""
        try:
            self.wait()
        except Exception as own:
            if error is None:
                raise
            warn(f"a file was not written: {own}")

    @property
    def is_busy(self) -> bool:
        """Whether a job is running."""
        return self._thread is not None and self._thread.is_alive() and not self._is_done.is_set()

    def start(self, job: Callable[[], None]) -> None:
        """Run a job in the background, after the previous one.

        job: a `functools.partial` if it has arrays, since an error's traceback keeps the variables of a closure alive.
        """
        self.wait()
        self._errors, self._is_done = [], threading.Event()  # a forked process gets new ones
        rest = self._errors, self._is_done
        self._thread = threading.Thread(target=_run, args=(job, *rest), name="nbkeras writer")
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or the system allows no more threads
            _run(job, *rest)

    def wait(self) -> None:
        """Wait until the job has ended, and raise its error."""
        # no `Thread.join`: some Python versions consider a thread ended if Ctrl-C interrupts the call
        while self.is_busy:
            self._is_done.wait(1.0)
        self.check()

    def check(self) -> None:
        """Raise the error of a job that has ended. Does not wait."""
        if self._errors:
            error = self._errors.pop()
            _unreported.discard(error)
            raise error


def _run(job: Callable[[], None], errors: list[BaseException], is_done: threading.Event) -> None:
    try:
        job()
    except BaseException as error:
        del job
        link: BaseException | None = error
        while link is not None:
            traceback.clear_frames(link.__traceback__)  # frames hold the arrays of the job, as `job` did
            link = link.__context__
        _unreported.add(error)
        errors.append(error)
    finally:
        is_done.set()


@atexit.register
def _print_unreported() -> None:
    for error in _unreported:
        print("nbkeras: a file was not written, and training ended before it noticed:", file=sys.stderr)
        traceback.print_exception(error)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_unreported.clear)
