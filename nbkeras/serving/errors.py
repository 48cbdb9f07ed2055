"""Errors reported to clients (an HTTP status, a message, and when to try again), and the error for a model's file."""

import itertools
import logging
import signal
import time

from nbkeras.serving.logs import event

_log = logging.getLogger("nbkeras.serving")
_numbers = itertools.count(1)
# HTTP status -> gRPC's code, and the default reason of the rejection in the metrics.
STATUSES = {
    400: ("INVALID_ARGUMENT", "invalid"),  # the request makes no sense
    403: ("PERMISSION_DENIED", "other"),
    404: ("NOT_FOUND", "not_found"),  # no such model
    405: ("UNIMPLEMENTED", "unsupported"),
    408: ("DEADLINE_EXCEEDED", "slow_client"),
    409: ("FAILED_PRECONDITION", "other"),
    411: ("INVALID_ARGUMENT", "unsupported"),
    413: ("RESOURCE_EXHAUSTED", "too_large"),
    415: ("INVALID_ARGUMENT", "unsupported"),
    431: ("RESOURCE_EXHAUSTED", "too_large"),
    499: ("CANCELLED", "client_gone"),
    500: ("INTERNAL", "failed"),
    501: ("UNIMPLEMENTED", "unsupported"),
    503: ("UNAVAILABLE", "unavailable"),  # the model is being loaded, or the server is ending
    504: ("DEADLINE_EXCEEDED", "deadline"),
}
_UNKNOWN = ("UNKNOWN", "other")


class ServingError(Exception):
    """A request that cannot be answered.

    status: the HTTP status; `code` is the name of gRPC's code for it.
    retry_after: for 503, the seconds after which a client may try again.
    reason: the reason in the metrics, if the status is not specific enough; one of `shared_metrics.REASONS`.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None, reason: str = ""):
        super().__init__(message)
        self.status, self.message, self.retry_after, self.reason = status, message, retry_after, reason

    def __reduce__(self) -> tuple:
        return type(self), (self.status, self.message, self.retry_after, self.reason)

    @property
    def code(self) -> str:
        return STATUSES.get(self.status, _UNKNOWN)[0]


def reason_of(status: int) -> str:
    """The default reason of a rejection with this status."""
    return STATUSES.get(status, _UNKNOWN)[1]


class LoadingError(ValueError):
    """The error for a file that cannot be served; its message is one sentence."""


def refused(message: str) -> ServingError:
    """The error for an invalid request: 400."""
    return ServingError(400, message)


def client_error(error: Exception) -> ServingError:
    """The error for a client. For a failure of the server itself, the client gets a number and the log the traceback."""
    if isinstance(error, ServingError):
        # otherwise the error and a frame that keeps it would hold each other, and the request
        return error.with_traceback(None)
    number = f"{time.time():.0f}-h{next(_numbers)}"
    _log.error("request %s failed", number, exc_info=error, extra=event("request_failed", error_id=number))
    return ServingError(500, f"the server failed; its log has the reason as {number}")


def end_of(code: int) -> str:
    """How a process ended, in words."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
