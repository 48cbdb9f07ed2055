"""Budget: counts all memory that clients cause in a worker. What exceeds the budget is refused before it is allocated.

It counts bodies as they arrive, their decompressed form, the objects of parsed JSON, tensors, gRPC messages, waiting and
running requests with their outputs and answers, states of sequences, and answers that clients do not read. Each part of the
server knows the size of its next allocation, or an upper bound, and takes it from the budget first.

Only the thread of the event loop may use it.
"""

from __future__ import annotations

from nbkeras.serving.errors import ServingError

USUAL = 1 << 30  # bytes of the default limit


class Budget:
    """The bytes that all clients together may cause in a worker.

    most: the limit. used: the bytes taken now. peak: the maximum of `used` since a reader reset it.
    """

    def __init__(self, most: int = USUAL):
        self.most, self.used, self.peak = most, 0, 0

    def has(self, size: int) -> bool:
        """Whether `size` more bytes fit."""
        return self.used + size <= self.most

    def check(self, size: int) -> None:
        """Raise a ServingError if `size` more bytes do not fit: 413 if they never will, else 503."""
        if self.used + size > self.most:
            if size > self.most:
                raise ServingError(
                    413,
                    f"the request needs {size} bytes of memory, but the limit for all requests is {self.most} (max_memory_mb); "
                    "send fewer rows, or large tensors as bytes instead of JSON",
                )
            raise ServingError(
                503,
                f"the memory for requests is full: {self.used} of {self.most} bytes are in use, and {size} more are needed "
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
