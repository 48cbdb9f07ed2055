"""Logs of a server: one line for each event on standard error, as JSON or as text.

A log that nobody reads must not block the server. So lines wait in a bounded queue and are written only while the stream
accepts them; lines dropped from a full queue are counted. A line has at most 4096 bytes, which the system writes into a pipe
atomically, so that the lines of several processes do not mix.

Messages may contain strings from clients, so control characters and line ends are escaped. Bodies and headers of requests are
never logged, except a short X-Request-Id of plain characters.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import itertools
import logging
import os
import select
import socket
import stat
import time
import traceback
from typing import Any

import orjson

from nbkeras.serving.exchange import RequestContext

LONGEST = 4096  # bytes of a line: PIPE_BUF of Linux
MOST_LINES = 2000  # most lines that wait to be written
# seconds until waiting lines are written together; seconds until a blocked stream is tried again
_PAUSE, _LONG_PAUSE = (0.02, 0.2)
_ENDING_SECONDS = 1.0  # the time to write the last lines
_LIMITS = (2500, 800, 200)  # maximum characters of a string, tried in turn until the line is short enough
_START_OF_CAUSE = "    | "  # prefix of a traceback's lines in text form


def event(name: str, **fields: Any) -> dict[str, Any]:
    """The `extra` of a log call: the event's name, and fields for programs."""
    return {"event": name, "fields": fields}


def clean(text: str, keep: str = "") -> str:
    """A string with all nonprinting characters, such as line ends, escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


class Sink:
    """A stream of the system for nonblocking writes.

    The stream itself stays blocking, because other programs may share it: a pipe or terminal is opened again, and a socket
    gets a flag with each message. If it cannot be opened again, as after a change of the user, it is polled before each line.
    """

    def __init__(self, descriptor: int = 2):
        self._descriptor, self._socket, self._own = descriptor, None, None
        self._poll: select.poll | None = None
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(descriptor))
            elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                self._poll = select.poll()
                self._poll.register(descriptor, select.POLLOUT)
                how = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
                self._own = self._descriptor = os.open(f"/proc/self/fd/{descriptor}", how)
                self._poll = None

    def write(self, data: bytes) -> int | None:
        """Write data; returns the number of bytes written, or None if there is no reader any more."""
        try:
            if self._socket is not None:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            if self._poll is not None and not self._poll.poll(0):
                return 0
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:
            return None

    def close(self) -> None:
        """Close the descriptor, if this object opened it."""
        if self._socket is not None:
            self._socket.close()
        if self._own is not None:
            os.close(self._own)


class Handler(logging.Handler):
    """Writes records to a Sink. form: "json" or "text".

    Without an event loop, each line is written immediately. With one (see `follow`), lines are collected for a moment.
    """

    def __init__(self, form: str, sink: Sink):
        super().__init__()
        self.form = form
        self._process_fields: dict[str, Any] = {"process": os.getpid()}
        self.dropped = self._reported = 0
        self._sink = sink
        self._lines: collections.deque[bytes] = collections.deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_scheduled = False

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
        except Exception as error:  # the arguments do not fit the message, or cannot be formatted
            line = self._encoded({"level": "error", "event": "log", "message": f"a log line is lost: {error!r}"})
        self.put(line)

    def put(self, line: bytes) -> None:
        """Queue a line, including its line end."""
        if len(self._lines) >= MOST_LINES:
            self.dropped += 1
        else:
            self._lines.append(line)
        if self._loop is None:
            self.write()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(_PAUSE)

    def _schedule(self, pause: float) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(loop.call_later, pause, self._write_later)
            except RuntimeError:  # the loop has ended
                self._loop = None
                self.write()

    def _write_later(self) -> None:
        self._is_scheduled = False
        if self.write() and self._loop is not None and not self._is_scheduled:
            self._is_scheduled = True
            self._schedule(_LONG_PAUSE)

    def write(self) -> bool:
        """Write as many lines as the stream accepts now. Returns whether some are left."""
        with self.lock:  # type: ignore[union-attr]
            while self._lines:
                count, size = 0, 0
                for line in self._lines:
                    if count and size + len(line) > LONGEST:
                        break
                    count, size = count + 1, size + len(line)
                data = b"".join(itertools.islice(self._lines, count))
                written = self._sink.write(data)
                if written == 0:
                    return True
                if written is None:
                    self.dropped += len(self._lines)
                    self._lines.clear()
                    break
                for _ in range(count):
                    self._lines.popleft()
                if written < size:  # a pipe accepts all or nothing, but a terminal may accept a part
                    self._lines.appendleft(data[written:])
                    return True
                if self.dropped > self._reported and not self._lines:
                    lost, self._reported = self.dropped - self._reported, self.dropped
                    text = f"{lost} log lines were dropped, because nobody read them in time"
                    self._lines.append(
                        self._encoded({"level": "warning", "event": "log_dropped", "message": text, "lines": lost})
                    )
        return False

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, write in this event loop."""
        self._loop = loop

    def become(self, worker: int) -> None:
        """In a worker's forked process: drop the waiting lines, which belong to the parent."""
        self._process_fields = {"worker": worker, "process": os.getpid()}
        self.dropped = self._reported = 0
        self._lines.clear()

    def flush(self) -> None:
        """Write all lines that the stream accepts within a second."""
        end = time.monotonic() + _ENDING_SECONDS
        while self.write() and time.monotonic() < end:
            time.sleep(0.01)

    # -------------------- lines --------------------

    def _line(self, record: logging.LogRecord) -> bytes:
        cause = None
        if record.exc_info and record.exc_info[0] is not None:
            cause = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        content: dict[str, Any] = {"level": record.levelname.lower(), "event": getattr(record, "event", "log")}
        if record.name != "nbkeras.serving":
            content["logger"] = record.name
        content["message"] = record.getMessage().strip()
        content |= getattr(record, "fields", {})
        if cause is not None:
            content["exception"] = cause
        return self._encoded(content, record.created)

    def _encoded(self, content: dict[str, Any], created: float | None = None) -> bytes:
        """The line of an event, short enough for one atomic write."""
        encode = self._json if self.form == "json" else self._as_text
        for limit in _LIMITS:
            line = encode(_short(content, limit), created or time.time())
            if len(line) <= LONGEST:
                return line
        return encode({name: content[name] for name in ("level", "event")} | {"message": "too long"}, time.time())

    def _json(self, content: dict[str, Any], created: float) -> bytes:
        found = {"time": _time(created), **self._process_fields, **content}
        return orjson.dumps(found, default=str, option=orjson.OPT_APPEND_NEWLINE)

    def _as_text(self, content: dict[str, Any], created: float) -> bytes:
        text = f"{_time(created)} {content['level'].upper()} {content['message']}"
        if "exception" in content:
            text += "".join(f"\n{_START_OF_CAUSE}{line}" for line in content["exception"].split("\n"))
        return f"{text}\n".encode("utf-8", "backslashreplace")

    def request(self, name: str, exchange: RequestContext, **more: Any) -> None:
        """Log an inference request. Its strings are the server's own, or have plain characters only."""
        milliseconds = {
            "queue_ms": None if exchange.queued is None else round(exchange.queued * 1e3, 3),
            "compute_ms": round(exchange.computed * 1e3, 3),
            "total_ms": round(exchange.seconds * 1e3, 3),
        }
        content: dict[str, Any] = {
            "level": "info" if name == "request" else "warning",
            "event": name,
            "request_id": exchange.id,
            "protocol": exchange.protocol,
            "model": exchange.name,
            "version": exchange.version,
            "rows": exchange.rows,
            "status": exchange.status,
            **milliseconds,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            **more,
        }
        if self.form == "text":
            words = [f"{key}={value}" for key, value in content.items() if key not in ("level", "event")]
            content["message"] = f"{name} {' '.join(words)}"
        encode = self._json if self.form == "json" else self._as_text
        with self.lock:  # type: ignore[union-attr]
            self.put(encode(content, time.time()))


class Requests:
    """Logs the requests of a worker: each one if `access` is set, else those that took more than `slow` seconds.

    It logs at most one slow request per second, with the number of those left out.
    """

    def __init__(self, access: bool, slow: float):
        self._access, self._slow = access, slow
        self._numbers = itertools.count(1)
        self._next, self._skipped = 0.0, 0
        self._prefix = f"{os.getpid()}-{time.time():.0f}"

    def new_id(self) -> str:
        """A new id for a request without one; "" if nothing will log it."""
        return f"{self._prefix}-{next(self._numbers)}" if self._access else ""

    def __call__(self, exchange: RequestContext) -> None:
        is_slow = exchange.seconds > self._slow > 0
        if not self._access and not is_slow:
            return
        found = handler()
        if found is None:
            return
        if self._access:
            found.request("request", exchange)
        if is_slow:
            now = time.monotonic()
            if now >= self._next:
                found.request("slow_request", exchange, not_logged=self._skipped)
                self._next, self._skipped = now + 1.0, 0
            else:
                self._skipped += 1


def configure(form: str, level: str, descriptor: int = 2) -> Handler:
    """Configure all loggers of this process. form: "json", "text" or "auto", which is text for a terminal."""
    if form == "auto":
        form = "text" if os.isatty(descriptor) else "json"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core writes its own lines; clients get its errors anyway
    made = Handler(form, Sink(descriptor))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(made)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    return made


def handler() -> Handler | None:
    """The handler that `configure` made in this process or its parent."""
    return next((each for each in logging.getLogger().handlers if isinstance(each, Handler)), None)


def in_worker(index: int) -> None:
    """Mark this process as a worker."""
    if (found := handler()) is not None:
        found.become(index)


def in_loop() -> None:
    """Write lines in the running event loop."""
    if (found := handler()) is not None:
        found.follow(asyncio.get_running_loop())


def _time(created: float) -> str:
    seconds = int(created)
    return f"{_second(seconds)}.{int((created - seconds) * 1000):03d}Z"


@functools.lru_cache(2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _short(content: dict[str, Any], limit: int) -> dict[str, Any]:
    """The content with short and clean strings. It keeps the end of an exception, which has its type and message."""
    found = {}
    for name, value in content.items():
        if isinstance(value, str):
            if len(value) > limit:
                value = f"... {value[-limit:]}" if name == "exception" else f"{value[:limit]} ..."
            value = clean(value, "\n" if name == "exception" else "")
        found[name] = value
    return found
