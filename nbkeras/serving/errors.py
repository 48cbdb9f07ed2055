"""The errors that a client is told about: a status of HTTP, a sentence, and when to try again; and that of a file."""

import itertools
import logging
import time

from nbkeras.serving.logs import event

_log = logging.getLogger("nbkeras.serving")
_numbers = itertools.count(1)
_GRPC_CODES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "FAILED_PRECONDITION",
    411: "INVALID_ARGUMENT",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    431: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ServingError(Exception):
    """A request that cannot be answered.

    status: of HTTP; `code` is the name of gRPC's code for it.
    retry_after: the seconds after which a client may try again, for 503.
    reason: in the metrics, if the status does not say enough; one of `board.REASONS`.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None, reason: str = ""):
        super().__init__(message)
        self.status, self.message, self.retry_after, self.reason = status, message, retry_after, reason

    def __reduce__(self) -> tuple:
        return type(self), (self.status, self.message, self.retry_after, self.reason)

    @property
    def code(self) -> str:
        return _GRPC_CODES.get(self.status, "UNKNOWN")


class LoadingError(ValueError):
    """A file that cannot be served, in one sentence."""


def refused(message: str) -> ServingError:
    """The error of a request that is wrong in itself: 400."""
    return ServingError(400, message)


def unexpected(error: Exception) -> ServingError:
    """The error of a request for which the server itself failed: the client gets a number, and the log the traceback."""
    number = f"{time.time():.0f}-h{next(_numbers)}"
    _log.error("request %s failed", number, exc_info=error, extra=event("request_failed", error_id=number))
    return ServingError(500, f"the server failed; its log has the reason as {number}")
