"""The progress bar of `fit`, `evaluate`, `predict` and downloads: redrawn on a terminal, one line in a log.

While kernels are compiled, the bar's line shows a notice: see `compilations_shown`.
"""

import contextlib
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nbkeras.engine import program, settings, sharding

Values = Iterable[tuple[str, Any]] | Mapping[str, Any]


class _Line:
    """The state of the terminal's last line."""

    width = 0  # the number of characters on it; 0 after a newline
    is_notice = False  # whether the next message erases it


def print_message(message: str, end: str = "\n") -> None:
    """Write to standard output and flush. Characters that its encoding lacks become '=' (for '━') or '?'.

    If several processes train together, only rank 0 writes.
    """
    if not sharding.is_first():
        return
    if not settings.is_interactive_logging_enabled():
        logging.getLogger("nbkeras").info(message)
        return
    text = f"{message}{end}"
    if _Line.is_notice:
        text = f"\r{' ' * min(_Line.width, _room())}\r{text}"
    _Line.width, _Line.is_notice = 0, False
    if sys.stdout is None:  # a program without a console: pythonw, a service
        return
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.replace("━", "=").encode(encoding, errors="replace").decode(encoding))
    sys.stdout.flush()


def is_terminal() -> bool:
    """Whether standard output is a terminal that can go back to the start of a line."""
    return bool(getattr(sys.stdout, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"


def _is_notebook() -> bool:
    """Whether standard output is a notebook's cell, which is not a terminal but supports '\\r'."""
    return type(sys.stdout).__module__.partition(".")[0] == "ipykernel"  # False while the output is redirected


def _redraws() -> bool:
    interactive = is_terminal() or _is_notebook() or "PYCHARM_HOSTED" in os.environ
    return interactive and settings.is_interactive_logging_enabled()


def _room() -> int:
    """The number of characters that fit on the terminal's line. A line that wraps cannot be redrawn."""
    return max(1, shutil.get_terminal_size().columns - 1) if is_terminal() else sys.maxsize


def _redraw(text: str, width: int) -> None:
    """Overwrite the terminal's last line. width: the number of visible characters of the text."""
    before = min(_Line.width, _room())  # the window may be narrower now
    print_message("\r" + text + " " * max(0, before - width), end="")
    _Line.width = width


class _Compilations:
    """Called before each compilation of a kernel. It prints a notice if compilations take more than a second."""

    def __init__(self) -> None:
        self._count = 0
        self._first = self._last = -math.inf  # the times of the first and the last kernel in the current series
        self._series = 0  # the number of kernels in it
        self._is_logged = False

    def __call__(self) -> None:
        now = time.perf_counter()
        if now - self._last > 5:
            self._first, self._series = now, 0
        self._last = now
        self._count += 1
        self._series += 1
        text, is_long = "Compiling kernels (once on this machine)", now - self._first >= 1
        if _redraws():
            # print the notice early, since the third kernel may take seconds; it is erased later
            if is_long or self._series >= 3:
                text = f"{text}: {self._count}"[: _room()]
                _redraw(text, len(text))
                _Line.is_notice = True
        elif is_long and not self._is_logged:
            self._is_logged = True
            print_message(f"{text} ...")


_compilations = _Compilations()


@contextlib.contextmanager
def compilations_shown(verbose: Any = 1) -> Iterator[None]:
    """Print a notice if this thread compiles kernels in the block for more than a second and verbose is not 0.

    On a terminal the last line counts this process's compiled kernels until the next message. A log gets one line.
    """
    if not verbose:
        yield
        return
    with program.compilations(_compilations):
        try:
            yield
        finally:
            if _Line.is_notice:
                print_message("", end="")


def _style(text: str, code: int) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if text else ""


class Progbar:
    """A progress bar as Keras draws it.

    Without a terminal, verbose=1 also writes only one line at the end, without control characters. On a
    terminal a running bar is cut to the terminal's width.

    Args:
        target: The number of steps; None if it is not known.
        width: The number of characters of the bar itself.
        verbose: 0 prints nothing, 1 draws a bar, 2 prints one line at the end.
        interval: The minimum number of seconds between two drawings.
        stateful_metrics: Names of values that are shown unchanged; all others are averaged over the steps.
        stateless_metrics: Names of values that are averaged; all others are shown unchanged. Give one of the
            two.
        unit_name: The word for a step.

    Raises:
        ValueError: if both stateful_metrics and stateless_metrics are given.

    Example:
        >>> bar = keras.utils.Progbar(2)
        >>> bar.update(1, [("loss", 0.75)])
        >>> bar.update(2, [("loss", 0.5)])
        2/2 ━━━━━━━━━━━━━━━━━━━━ 0s .../step - loss: 0.5000
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError(
                "give stateful_metrics or stateless_metrics, not both: each is the complement of the other"
            )
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.unit_name = unit_name
        self._stateful = set(stateful_metrics or ())
        self._stateless = None if stateless_metrics is None else set(stateless_metrics)
        self._redraws = _redraws()
        self._colors = self._redraws and "NO_COLOR" not in os.environ
        self._values: dict[str, tuple[Any, int]] = {}  # name -> (sum, count)
        self._seen = 0
        self._start = time.perf_counter()
        self._after_first: float | None = None
        self._last_draw = -math.inf

    def update(
        self, current: int, values: Values | Callable[[], Values] | None = None, finalize: bool | None = None
    ) -> None:
        """Set the number of finished steps, and draw the bar if `interval` has passed.

        Args:
            current: The number of finished steps.
            values: (name, value of the last step) pairs or a dict, or a function that returns them: if no
                metric is averaged (`stateless_metrics=()`), it is called only if the bar will be drawn.
            finalize: Whether this is the last update; None means when current reaches the target.

        Example:
            >>> bar = keras.utils.Progbar(2, verbose=2)
            >>> bar.update(2, [("loss", 0.5)])
            2/2 - 0s - .../step - loss: 0.5000
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        now = time.perf_counter()
        per_unit = self._time_per_unit(current, now)
        draws = self._draws(now, finalize)
        if draws or not (callable(values) and self._stateless is not None and not self._stateless):
            self._take(current, values() if callable(values) else values, finalize)
        self._seen = current
        if not draws:
            return
        self._last_draw = now
        if self.verbose == 1:
            self._draw_bar(current, now, per_unit, finalize)
        else:
            info = f"{self._count(current)} - {now - self._start:.0f}s -{self._per_unit(per_unit)}{self._metrics()}"
            print_message(info)

    def add(self, n: int, values: Values | Callable[[], Values] | None = None) -> None:
        """Add finished steps.

        Args:
            n: The number of steps.
            values: As for `update`.
        """
        self.update(self._seen + n, values)

    def _draws(self, now: float, finalize: bool) -> bool:
        if self.verbose == 1:
            return finalize or (self._redraws and now - self._last_draw >= self.interval)
        return self.verbose == 2 and finalize and bool(self.target)

    def _take(self, current: int, values: Values | None, finalize: bool) -> None:
        for name, value in values.items() if isinstance(values, Mapping) else values or ():
            averaged = name not in self._stateful if self._stateless is None else name in self._stateless
            if averaged and not finalize:
                steps = max(current - self._seen, 1)
                total, count = self._values.get(name, (0.0, 0))
                self._values[name] = (total + value * steps, count + steps)
            else:
                self._values[name] = (value, 1)

    def _count(self, current: int) -> str:
        if not self.target:
            return f"{current:7d}/Unknown"
        return f"{current:{int(math.log10(self.target)) + 1}d}/{self.target}"

    def _draw_bar(self, current: int, now: float, per_unit: float, finalize: bool) -> None:
        count, gap, done, todo = self._count(current), "", "", ""
        clock = f"{now - self._start:.0f}s"
        room = sys.maxsize if finalize else _room()
        if self.target:
            gap = " "
            if not finalize:
                clock = self._eta(per_unit * (self.target - current))
            bar = max(0, min(self.width, room - len(f"{count}{gap} {clock}")))
            done = "━" * min(bar, int(bar * current / self.target))
            todo = "━" * (bar - len(done))
        rest = self._per_unit(per_unit) + self._metrics()
        head = len(f"{count}{gap}{done}{todo} {clock}")
        rest = rest[: max(0, room - head)]
        width = head + len(rest)
        if self._colors:
            count = _style(count, 1) if self.target else count
            done, todo, clock = _style(done, 32), _style(todo, 37), _style(clock, 1)
        line = f"{count}{gap}{done}{todo} {clock}{rest}"
        if self._redraws:
            _redraw(line, width)
        if finalize:
            print_message("" if self._redraws else line)

    def _metrics(self) -> str:
        text = ""
        for name, (total, count) in self._values.items():
            average = (total if isinstance(total, float) else float(np.mean(total))) / max(1, count)
            text += f" - {name}: {average:.4f}" if abs(average) > 1e-3 else f" - {name}: {average:.4e}"
        return text

    @staticmethod
    def _eta(seconds: float) -> str:
        whole = int(seconds)
        if seconds > 3600:
            return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
        return f"{whole // 60}:{whole % 60:02d}" if seconds > 60 else f"{whole}s"

    def _per_unit(self, seconds: float) -> str:
        if seconds >= 1 or seconds == 0:
            return f" {seconds:.0f}s/{self.unit_name}"
        if seconds >= 1e-3:
            return f" {seconds * 1e3:.0f}ms/{self.unit_name}"
        return f" {seconds * 1e6:.0f}us/{self.unit_name}"

    def _time_per_unit(self, current: int, now: float) -> float:
        """The seconds per step. From the second step on it excludes the first step, which compiles."""
        if not current:
            return 0.0
        if self._after_first is not None and current > 1:
            per_unit = (now - self._after_first) / (current - 1)
        else:
            per_unit = (now - self._start) / current
        if current == 1:
            self._after_first = now
        return per_unit
