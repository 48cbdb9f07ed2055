"""The errors that a client is told about: a status of HTTP, a sentence, and when to try again; and that of a file."""

import itertools
import logging
import time

from nbkeras.serving.logs import event

_log = logging.getLogger("nbkeras.serving")
_numbers = itertools.count(1)
# Status of HTTP -> the name of gRPC's code for it, and the reason of the rejection in the metrics, if none is given.
STATUSES = {
    400: ("INVALID_ARGUMENT", "invalid"),  # what was asked for makes no sense
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
    503: ("UNAVAILABLE", "unavailable"),  # a model that is being loaded, a server that ends
    504: ("DEADLINE_EXCEEDED", "deadline"),
}
_UNKNOWN = ("UNKNOWN", "other")


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
        return STATUSES.get(self.status, _UNKNOWN)[0]


def reason_of(status: int) -> str:
    """The reason of a rejection of which only the status is known."""
    return STATUSES.get(status, _UNKNOWN)[1]


class LoadingError(ValueError):
    """A file that cannot be served, in one sentence."""


def refused(message: str) -> ServingError:
    """The error of a request that is wrong in itself: 400."""
    return ServingError(400, message)


def as_told(error: Exception) -> ServingError:
    """An error as a client is told: of one for which the server itself failed it gets a number, and the log the traceback."""
    if isinstance(error, ServingError):
        return error.with_traceback(None)  # else it and the frame that keeps it hold each other, and the request
    number = f"{time.time():.0f}-h{next(_numbers)}"
    _log.error("request %s failed", number, exc_info=error, extra=event("request_failed", error_id=number))
    return ServingError(500, f"the server failed; its log has the reason as {number}")
