"""RequestContext: a request to infer and what became of it, for metrics and logs; and who is told."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True, eq=False)
class RequestContext:
    """A request to infer, from its body's last byte to its answer.

    id: of the header X-Request-Id, if it is short and of plain characters; else "". name, version: of the model, "" if it is not
    there. queued: seconds until its batch was begun, the first one if it has several; computed: seconds of its batches.
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
        """The whole body has arrived."""
        self.bytes_in = received
        self.since = time.monotonic()

    def meant(self, model: Any, request: Any) -> None:
        """The model of a request is there."""
        self.name, self.version = model.name, model.version
        for array in request.inputs.values():
            self.rows = len(array) if array.ndim else 0
            break

    def was_computed(self, queued: float, seconds: float) -> None:
        """A batch with rows of this request was computed."""
        if self.queued is None:
            self.queued = queued
        self.computed += seconds

    def end(self, status: int, reason: str = "") -> None:
        """The answer is there. reason: why it was rejected, if the status does not say enough."""
        self.status, self.reason = status, reason
        self.seconds = time.monotonic() - self.since


class Observer:
    """Is told what happens; `metrics.py` counts it."""

    def request(self, exchange: RequestContext) -> None:
        """A request to infer was answered."""

    def refused(self, status: int) -> None:
        """A connection was refused or closed with a status, before there was a request."""

    def batch(self, name: str, version: str, rows: int, seconds: float, waits: list[float]) -> None:
        """A batch of some rows was computed; each of its requests had waited."""


def sane_id(value: bytes) -> str:
    """The value of an X-Request-Id if it is short and of plain characters, so that it can do no harm in logs; else ""."""
    return value.decode() if _SANE_ID.fullmatch(value) else ""
