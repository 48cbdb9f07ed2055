"""InferRequest: an inference request and what became of it; the Observer that counts it, and RequestLog, which logs it."""

import itertools
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from nbkeras.inference.bundle import TensorSpec
from nbkeras.serving import logs
from nbkeras.serving.budget import Share

# the attributes that another worker needs for its answer
_CONTENT = ("name", "version", "inputs", "id", "parameters", "outputs", "deadline", "is_finite")
_SAFE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class InferRequest:
    """An inference request, from its arrival to its answer. The subclass of a protocol reads it and writes its answer.

    name, version: as requested. id: the client's, which the answer repeats. outputs: the requested names, None for all.
    timeout: in seconds. deadline: on the clock time.monotonic. is_finite: whether all numbers are known to be finite, as in JSON.
    model: the served version, once it is found. body: the encoded request. share: of the memory budget.
    log_id: the header X-Request-Id if it is short and has plain characters only, or a new id. since: the time at which its body
    was complete. queued: seconds until its first batch began. computed: seconds of its batches. reason: why it was rejected,
    if the status is not specific enough.
    """

    protocol = log_id = reason = ""
    name: Any = ""
    version = id = outputs = timeout = deadline = queued = None  # type: Any
    model: Any = None
    inputs: Mapping[str, np.ndarray] = MappingProxyType({})
    parameters: Mapping[str, Any] = MappingProxyType({})
    is_finite = False
    body: Any = b""
    share: Share
    bytes_in = bytes_out = 0
    status = 500
    computed = seconds = 0.0

    def __init__(self, **content: Any):
        self.__dict__.update(content)
        self.since = time.monotonic()

    def __reduce__(self) -> tuple:
        """Another worker gets the content of the request alone."""
        return InferRequest, (), {name: getattr(self, name) for name in _CONTENT if name in self.__dict__}

    def begin(self, repository: Any) -> None:
        """Record that the whole body has arrived."""
        self.bytes_in, self.since = len(self.body), time.monotonic()

    def find(self, repository: Any) -> Any:
        """Find the model's version, once; raises ServingError if it is not served."""
        self.model = repository.get(self.name, self.version)
        return self.model

    def cost(self) -> int:
        """The memory for `read`, an upper bound in bytes."""
        raise NotImplementedError

    def read(self, repository: Any) -> bool:
        """Find the model, if `begin` has not, and decode the body. Returns whether arrays view the body's memory."""
        raise NotImplementedError

    def extra_bytes(self, response: Any) -> int:
        """The memory for `write` besides that of the outputs and their text, an upper bound in bytes."""
        return 0

    def write(self, response: Any) -> Any:
        """The encoded answer."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """The bytes of the inputs; an upper bound for strings."""
        return sum(
            [array.nbytes if array.dtype.kind != "O" else _bytes_of_strings(array) for array in self.inputs.values()]
        )

    @property
    def model_key(self) -> tuple[str, str]:
        """The name and version of the model; "" for an unknown model."""
        return ("", "") if self.model is None else (self.model.name, self.model.version)

    def was_computed(self, queued: float, seconds: float) -> None:
        """Record that a batch with rows of this request was computed."""
        if self.queued is None:
            self.queued = queued
        self.computed += seconds


def _bytes_of_strings(array: np.ndarray) -> int:
    return sum(100 + 4 * len(text) for text in array.flat)


@dataclass(slots=True)
class InferResponse:
    """The answer to an InferRequest."""

    model_name: str
    model_version: str
    outputs: list[tuple[TensorSpec, np.ndarray]]
    id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


class Observer:
    """Receives events; `shared_metrics.py` counts them."""

    def request(self, request: InferRequest) -> None:
        """An inference request was answered."""

    def refused(self, status: int) -> None:
        """A connection was refused or closed with a status before a request was complete."""

    def batch(self, name: str, version: str, rows: int, seconds: float, waits: list[float]) -> None:
        """A batch was computed. waits: the seconds that each of its requests waited."""


class RequestLog:
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

    def __call__(self, request: InferRequest) -> None:
        if self._access:
            self._write(logging.INFO, "request", request)
        if request.seconds > self._slow > 0:
            now = time.monotonic()
            if now >= self._next:
                self._write(logging.WARNING, "slow_request", request, not_logged=self._skipped)
                self._next, self._skipped = now + 1.0, 0
            else:
                self._skipped += 1

    def _write(self, level: int, event: str, request: InferRequest, **more: Any) -> None:
        """Log an inference request, whatever level is logged, if this process has a log."""
        if self._log is None:
            return
        name, version = request.model_key
        first = next(iter(request.inputs.values()), None)
        fields: dict[str, Any] = {
            "request_id": request.log_id,
            "protocol": request.protocol,
            "model": name,
            "version": version,
            "rows": len(first) if first is not None and first.ndim else 0,
            "status": request.status,
            "queue_ms": None if request.queued is None else round(request.queued * 1e3, 3),
            "compute_ms": round(request.computed * 1e3, 3),
            "total_ms": round(request.seconds * 1e3, 3),
            "bytes_in": request.bytes_in,
            "bytes_out": request.bytes_out,
        }
        self._log.log(level, event, fields | more)


def safe_id(value: bytes) -> str:
    """An X-Request-Id if it is short and has plain characters only, so that it does no harm in logs; else ""."""
    return value.decode() if _SAFE_ID.fullmatch(value) else ""
