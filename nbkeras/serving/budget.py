"""Budget: counts all memory that clients cause in a worker. What exceeds the budget is refused before it is allocated.

It counts bodies as they arrive, their decompressed form, the objects of parsed JSON, tensors, gRPC messages, waiting and
running requests with their outputs and answers, states of sequences, and answers that clients do not read. Each part of the
server knows the size of its next allocation, or an upper bound, and takes it from the budget first. The limits of a single
request, and the memory that content takes, stand here for all protocols.

Only the thread of the event loop may use it.
"""

from __future__ import annotations

from nbkeras.serving.errors import ServingError

DEFAULT_BYTES = 1 << 30  # bytes of the default limit

# -------------------- limits of a request, for all protocols --------------------

HEAD_BYTES = 64 << 10  # of a request's line and headers
MAX_CONTENT = 64 << 10  # bytes of a body or a message without tensors
MAX_AXES, MAX_ID = 16, 1024  # axes of a tensor; characters of a request's id and of a tensor's name
MAX_SEQUENCE_ID = 128  # characters, as in Triton
MAX_JSON = 1 << 30  # bytes of memory for reading JSON; the process does nothing else meanwhile
MAX_VALUES = 1 << 23  # values that become Python objects; larger tensors must be sent as bytes
MAX_TEXT = 1 << 20  # characters of a request's strings, which a model's layers split and look up in Python
MAX_FIELDS = 1 << 20  # of a message; larger ones must use raw_input_contents
MAX_CALLS = 256  # simultaneous calls over a connection of gRPC; further calls wait in the client
MAX_WAITING = 1024  # requests that wait for earlier ones of their sequences

# -------------------- sizes above which work is done in parts --------------------

LONG = 1 << 18  # bytes: more are parsed, decompressed, compressed and written in a thread
PIECE_VALUES = 1 << 16  # values written at a time

# -------------------- the memory that content takes, in bytes --------------------

READING_COST = 128  # for each byte of any request, at most
# for each byte of JSON and for each of these characters, measured with strings such as `[],`
JSON_COST, JSON_COSTS = 3, {",": 64, "[": 144, "{": 272, '"': 36}
STRING_COST = 24  # for each byte of strings with their lengths
FIELD_COST = 200  # for a field of a message besides its content; encoded it has at least 2 bytes
# for each encoded byte of a message: of strings, and of numbers by their encoding
TEXT_COST, VARINTS_COST, SHAPE_COST, FIXED_COST = (5, 40, 64, 8)
MESSAGE_COPIES = 2  # of a message while gRPC converts it from or to bytes
ANSWER_COST = 10  # for each byte of an output: the output and its JSON
STATE_COST = 3  # for each byte of a state: the state, its copy in a batch, and the new state
SEQUENCE_BYTES = 1024  # of a sequence besides its state


class Budget:
    """The bytes that all clients together may cause in a worker.

    limit: the limit. used: the bytes taken now. peak: the maximum of `used` since a reader reset it.
    """

    def __init__(self, limit: int = DEFAULT_BYTES):
        self.limit, self.used, self.peak = limit, 0, 0

    def has(self, size: int) -> bool:
        """Whether `size` more bytes fit."""
        return self.used + size <= self.limit

    def check(self, size: int) -> None:
        """Raise a ServingError if `size` more bytes do not fit: 413 if they never will, else 503."""
        if self.used + size > self.limit:
            if size > self.limit:
                raise ServingError(
                    413,
                    f"the request needs {size} bytes of memory, but the limit for all requests is {self.limit} (max_memory_mb); "
                    "send fewer rows, or large tensors as bytes instead of JSON",
                )
            raise ServingError(
                503,
                f"the memory for requests is full: {self.used} of {self.limit} bytes are in use, and {size} more are needed "
                "(max_memory_mb); try again later",
                retry_after=1,
                reason="memory_full",
            )

    def take(self, size: int) -> None:
        """Count bytes before they are allocated; raises as `check` does."""
        self.check(size)
        self.used += size
        if self.used > self.peak:
            self.peak = self.used

    def give_back(self, size: int) -> None:
        """Subtract bytes that were freed."""
        self.used -= size

    def share(self, size: int = 0) -> Share:
        """A part of the budget, given back by its `close` or at the end of its `with` block."""
        return Share(self, size)


class Share:
    """The part of a Budget that one request, or one step of it, uses."""

    __slots__ = ("budget", "bytes")

    def __init__(self, budget: Budget, size: int):
        budget.take(size)
        self.budget, self.bytes = budget, size

    def grow(self, size: int) -> None:
        """Take more."""
        self.budget.take(size)
        self.bytes += size

    def shrink(self, size: int) -> None:
        """Give back all but `size` bytes."""
        if size < self.bytes:
            self.budget.give_back(self.bytes - size)
            self.bytes = size

    def close(self) -> None:
        """Give back all."""
        self.budget.give_back(self.bytes)
        self.bytes = 0

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
