"""RequestContext: an inference request and its outcome, for metrics and logs; and the Observer that receives it."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

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
    """Receives events; `metrics.py` counts them."""

    def request(self, exchange: RequestContext) -> None:
        """An inference request was answered."""

    def refused(self, status: int) -> None:
        """A connection was refused or closed with a status before a request was complete."""

    def batch(self, name: str, version: str, rows: int, seconds: float, waits: list[float]) -> None:
        """A batch was computed. waits: the seconds that each of its requests waited."""


def sane_id(value: bytes) -> str:
    """An X-Request-Id if it is short and has plain characters only, so that it does no harm in logs; else ""."""
    return value.decode() if _SANE_ID.fullmatch(value) else ""
