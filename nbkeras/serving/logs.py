"""Logs of a server: one line for each event on standard error, as JSON or as text.

A log that nobody reads must not block the server. So lines wait in a bounded queue; lines dropped from a full queue are counted.
A thread of each worker writes its lines. The supervisor forks, so it has no thread: each new line writes those that the stream
accepts now. A line has at most 4096 bytes, which the system writes into a pipe atomically, so that the lines of several
processes do not mix.

Messages may contain strings from clients, so control characters and line ends are escaped. Bodies and headers of requests are
never logged, except a short X-Request-Id of plain characters.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import select
import sys
import time
from queue import Queue
from typing import Any

from pythonjsonlogger.orjson import OrjsonFormatter

MAX_LINE = 4096  # bytes of a line: PIPE_BUF of Linux
MAX_LINES = 2000  # that wait to be written
# seconds until a worker writes the lines of this time together; seconds until a blocked stream is tried again
_GATHERING, _PAUSE = (0.02, 0.05)
_ENDING_SECONDS = 1.0  # the time to write the last lines
_LIMITS = (2500, 800, 200)  # maximum characters of a string, tried in turn until the line is short enough
_FIELDS = "time process worker level event logger message exception".split()  # others belong to the event
_log = logging.getLogger("nbkeras.serving")


def event(name: str, **fields: Any) -> dict[str, Any]:
    """The `extra` of a log call: the event's name, and fields for programs. Attributes of a LogRecord cannot be fields."""
    return {"event": name, **fields}


class JsonFormatter(OrjsonFormatter):
    """Formats a record as a JSON object, short enough for one atomic write with its line end."""

    converter = time.gmtime  # type: ignore[assignment]
    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}
        super().__init__(["asctime", "process", "levelname", "name", "message"], rename_fields=names, json_default=str)
        self._second, self._time = 0.0, ""

    def line(self, level: int, name: str, fields: dict[str, Any]) -> str:
        """The line of an event of numbers and short plain texts, in a quarter of the time that a LogRecord takes."""
        second, part = divmod(time.time(), 1.0)
        if second != self._second:
            self._second, self._time = second, time.strftime(self.default_time_format, time.gmtime(second))
        data = {"time": self.default_msec_format % (self._time, 1000 * part), "process": os.getpid()}
        data |= {"level": logging.getLevelName(level).lower(), **self.static_fields, "event": name, **fields}
        return self.jsonify_log_record(data)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        log_data["level"] = log_data["level"].lower()
        log_data["message"] = log_data["message"].strip()
        log_data.setdefault("event", "log")
        usual = {"logger": _log.name, "message": ""}  # not worth a field
        return {name: value for name, value in log_data.items() if name not in usual or value != usual[name]}

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        for limit in _LIMITS:
            line = self.jsonify_log_record({name: _short(name, value, limit) for name, value in log_data.items()})
            if len(line.encode()) < MAX_LINE:
                return line
        brief = {name: log_data[name] for name in ("time", "process", "level", "event")}
        return self.jsonify_log_record(brief | {"message": "too long"})


class TextFormatter(JsonFormatter):
    """Formats a record as text. The fields of an event are only shown if it has no message."""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        fields = [f"{name}={value}" for name, value in log_data.items() if name not in _FIELDS]
        message = log_data.get("message") or " ".join([log_data["event"], *fields])
        first = f"{log_data['time']} {log_data['level'].upper()} {message}"
        return "\n    | ".join([first, *log_data.get("exception", "").splitlines()])


class Handler(logging.handlers.QueueHandler):
    """Formats records and writes them to a stream of the system.

    The stream itself stays blocking, because other programs may share it: a pipe or terminal is opened again for nonblocking
    writes. If that is not possible, as after a change of the user, it is only polled before each write.
    """

    queue: Queue[bytes]  # unbounded itself: `enqueue` counts the lines that are not written yet

    def __init__(self, formatter: JsonFormatter, descriptor: int = 2):
        super().__init__(Queue())
        self.setFormatter(formatter)
        self.dropped = self._reported = 0
        self._rest = b""  # what the stream has not accepted yet of a line
        self._descriptor, path = descriptor, f"/proc/self/fd/{descriptor}"
        with contextlib.suppress(OSError):
            if not os.path.isfile(path):  # it would be written from its start
                self._descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._thread: Thread | None = None

    def become(self, worker: int) -> None:
        """In a worker's forked process: drop the waiting lines, which belong to the supervisor, and write in a thread."""
        self.formatter.static_fields["worker"] = worker  # type: ignore[union-attr]
        self.queue = Queue()
        self.dropped = self._reported = 0
        thread = Thread(self.queue, self)
        thread.start()
        self._thread = thread

    def prepare(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode() + b"\n"

    def log(self, level: int, name: str, fields: dict[str, Any]) -> None:
        """Write the line of an event (see `JsonFormatter.line`), whatever level is logged."""
        self.enqueue(self._line(level, name, fields))

    def _line(self, level: int, name: str, fields: dict[str, Any]) -> bytes:
        return self.formatter.line(level, name, fields).encode() + b"\n"  # type: ignore[union-attr]

    def enqueue(self, line: Any) -> None:
        """Let a line wait to be written."""
        if self.queue.unfinished_tasks < MAX_LINES:
            self.queue.put_nowait(line)
        else:
            self.dropped += 1
        self.write()

    def handleError(self, record: logging.LogRecord) -> None:
        """Report a record whose arguments do not fit its message, or cannot be formatted."""
        _log.error("a log line is lost: %r", sys.exc_info()[1])

    def write(self) -> None:
        """Write the waiting lines that the stream accepts now, unless a thread writes them."""
        while self._thread is None and (self._rest or not self.queue.empty()):
            self._rest = self.write_line(self._rest or self.queue.get_nowait())
            if self._rest:
                break
            self.queue.task_done()

    def write_line(self, line: bytes) -> bytes:
        """Write some lines; returns what the stream does not accept now.

        After the last line that waits, another one says how many were dropped.
        """
        while line:
            try:
                if not self._poll.poll(0):
                    break
                line = line[os.write(self._descriptor, line) :]  # a terminal may accept a part, a pipe all or nothing
            except BlockingIOError:  # another process was faster
                break
            except OSError:  # there is no reader any more
                self.dropped += max(1, line.count(b"\n"))
                return b""
            lost = self.dropped - self._reported
            if lost and not line and self.queue.empty():
                self._reported += lost
                text = f"{lost} log lines were dropped, because nobody read them in time"
                self.queue.put_nowait(self._line(logging.WARNING, "log_dropped", {"message": text, "lines": lost}))
        return line

    def flush(self) -> None:
        """Write all lines that the stream accepts within a second."""
        end = time.monotonic() + _ENDING_SECONDS
        while self.queue.unfinished_tasks and time.monotonic() < end:
            self.write()
            time.sleep(0.01)


class Thread(logging.handlers.QueueListener):
    """A worker's thread, which writes the lines of a Handler together, as soon as the stream accepts them.

    It waits for more lines after the first one, because each wake-up takes the interpreter from requests.
    """

    queue: Queue[bytes]  # type: ignore[assignment]

    def handle(self, record: Any) -> None:
        time.sleep(_GATHERING)
        lines = [record]
        while not self.queue.empty():
            lines.append(self.queue.get_nowait())
        lines.reverse()
        while lines:
            data, count = lines.pop(), 1
            while lines and len(data) + len(lines[-1]) <= MAX_LINE:
                data, count = data + lines.pop(), count + 1
            while data := self.handlers[0].write_line(data):  # type: ignore[attr-defined]
                time.sleep(_PAUSE)
            for _ in range(count if lines else count - 1):  # the caller counts the last one
                self.queue.task_done()


def configure(form: str, level: str, descriptor: int = 2) -> Handler:
    """Configure all loggers of this process. form: "json", "text" or "auto", which is text for a terminal."""
    is_text = form == "text" or (form == "auto" and os.isatty(descriptor))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core writes its own lines; clients get its errors anyway
    made = Handler(TextFormatter() if is_text else JsonFormatter(), descriptor)
    logging.basicConfig(handlers=[made], level=level.upper(), force=True)
    logging.captureWarnings(True)
    return made


def handler() -> Handler | None:
    """The handler that `configure` made in this process or its parent."""
    return next((each for each in logging.getLogger().handlers if isinstance(each, Handler)), None)


def in_worker(index: int) -> None:
    """Mark this process as a worker."""
    if (found := handler()) is not None:
        found.become(index)


def _short(name: str, value: Any, limit: int) -> Any:
    """A string with a limited length and escaped control characters. An exception keeps its lines, and its end, the message."""
    if not isinstance(value, str):
        return value
    keep = "\n" if name == "exception" else ""
    if len(value) > limit:
        value = f"... {value[-limit:]}" if keep else f"{value[:limit]} ..."
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in value)
