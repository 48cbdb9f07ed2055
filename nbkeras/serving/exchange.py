"""RequestContext: an inference request and its outcome; the Observer that counts it, and Requests, which logs it."""

import itertools
import logging
import os
import re
import time
from dataclasses import dataclass, field
from typing import Any

from nbkeras.serving import logs

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True, eq=False)
class RequestContext:
    """An inference request, from its body's last byte to its answer.

    id: the header X-Request-Id if it is short and has plain characters only, else "". name, version: the model's, or "" for an
    unknown model. queued: seconds until its first batch began. computed: seconds of its batches.
    """

    protocol: str
    id: str = ""
    name: str = ""
    version: str = ""
    rows: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 500
    reason: str = ""
    queued: float | None = None
    computed: float = 0.0
    seconds: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def begin(self, received: int) -> None:
        """Record that the whole body has arrived."""
        self.bytes_in = received
        self.since = time.monotonic()

    def meant(self, model: Any, request: Any) -> None:
        """Record the model of the request, once it is found."""
        self.name, self.version = model.name, model.version
        for array in request.inputs.values():
            self.rows = len(array) if array.ndim else 0
            break

    def was_computed(self, queued: float, seconds: float) -> None:
        """Record that a batch with rows of this request was computed."""
        if self.queued is None:
            self.queued = queued
        self.computed += seconds

    def end(self, status: int, reason: str = "") -> None:
        """Record the answer. reason: why it was rejected, if the status is not specific enough."""
        self.status, self.reason = status, reason
        self.seconds = time.monotonic() - self.since


class Observer:
    """Receives events; `board.py` counts them."""

    def request(self, exchange: RequestContext) -> None:
        """An inference request was answered."""

    def refused(self, status: int) -> None:
        """A connection was refused or closed with a status before a request was complete."""

    def batch(self, name: str, version: str, rows: int, seconds: float, waits: list[float]) -> None:
        """A batch was computed. waits: the seconds that each of its requests waited."""


class Requests:
    """Logs the requests of a worker: each one if `access` is set, else those that took more than `slow` seconds.

    It logs at most one slow request per second, with the number of those left out.
    """

    def __init__(self, access: bool, slow: float):
        self._access, self._slow = access, slow
        self._numbers = itertools.count(1)
        self._next, self._skipped = 0.0, 0
        self._prefix = f"{os.getpid()}-{time.time():.0f}"
        self._log = logs.handler()

    def new_id(self) -> str:
        """A new id for a request without one; "" if nothing will log it."""
        return f"{self._prefix}-{next(self._numbers)}" if self._access else ""

    def __call__(self, exchange: RequestContext) -> None:
        if self._access:
            self._write(logging.INFO, "request", exchange)
        if exchange.seconds > self._slow > 0:
            now = time.monotonic()
            if now >= self._next:
                self._write(logging.WARNING, "slow_request", exchange, not_logged=self._skipped)
                self._next, self._skipped = now + 1.0, 0
            else:
                self._skipped += 1

    def _write(self, level: int, event: str, exchange: RequestContext, **more: Any) -> None:
        """Log an inference request, whatever level is logged, if this process has a log."""
        if self._log is None:
            return
        fields: dict[str, Any] = {
            "request_id": exchange.id,
            "protocol": exchange.protocol,
            "model": exchange.name,
            "version": exchange.version,
            "rows": exchange.rows,
            "status": exchange.status,
            "queue_ms": None if exchange.queued is None else round(exchange.queued * 1e3, 3),
            "compute_ms": round(exchange.computed * 1e3, 3),
            "total_ms": round(exchange.seconds * 1e3, 3),
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
        }
        self._log.log(level, event, fields | more)


def sane_id(value: bytes) -> str:
    """An X-Request-Id if it is short and has plain characters only, so that it does no harm in logs; else ""."""
    return value.decode() if _SANE_ID.fullmatch(value) else ""
