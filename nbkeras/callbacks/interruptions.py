"""Interruptions records SIGINT (Ctrl-C) and SIGTERM, and lets them take effect where training can stop without a loss."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from nbkeras.engine import ranks
from nbkeras.engine.user_errors import warn

_NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]
_entered: list[Interruptions] = []


class Interruptions:
    """A context manager that records the first SIGINT or SIGTERM: `received` is its number, and `stop` makes it take effect.

    The first signal restores the former handlers, so a second signal acts at once. The object does nothing for ignored signals,
    and outside the main thread, because Python allows no handlers there.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}  # the former handlers

    def __enter__(self) -> Interruptions:
        self.received = None
        self._arm()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._disarm()
        if self.received is not None and isinstance(error, Exception | None):
            self._deliver()

    def tell_ranks(self) -> None:
        """Record a signal that another rank has received; all ranks must call this."""
        group = ranks.current()
        if group is not None:
            found = [number for number in group.exchange(self.received) if number is not None]
            if found and self.received is None:
                self._note(found[0], None)

    def stop(self, save: Callable[[], None]) -> None:
        """After a signal, call save() and let the signal take effect: raise KeyboardInterrupt, or SystemExit(143) for SIGTERM.

        A handler that the user has set is called instead; training continues if it returns. An error of save() becomes a warning.
        """
        try:
            save()
        except Exception as error:
            warn(f"training was interrupted, and its state could not be saved: {error}")
        finally:
            self._deliver()
        self._arm()

    def _deliver(self) -> None:
        number, self.received = self.received or 0, None
        handler = self._before.get(number)
        if callable(handler):
            handler(number, sys._getframe())
        else:
            raise SystemExit(128 + number)

    def _arm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):  # None: a handler in C, which Python cannot restore
                self._before[number] = before
                with contextlib.suppress(ValueError):  # raised in the main thread of a subinterpreter
                    signal.signal(number, self._note)
        _entered.append(self)

    def _disarm(self) -> None:
        """Restore the former handlers, except where other code has set a new one meanwhile."""
        if self in _entered:
            _entered.remove(self)
            for number, before in self._before.items():
                if signal.getsignal(number) == self._note:
                    signal.signal(number, before)

    def _note(self, number: int, frame: Any) -> None:
        self._disarm()
        self.received = number
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):  # not `print`, which the signal may have interrupted
                os.write(2, b"\nTraining stops after this step. Ctrl-C again stops it at once.\n")


def _after_fork() -> None:
    """In a forked process, let signals end the process as usual: only its parent trains."""
    for each in reversed(_entered[:]):
        each._disarm()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
