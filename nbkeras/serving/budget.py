"""Budget: one count of all bytes that clients cause in a worker. What has no place in it is refused before it is made.

It counts bodies as they arrive, what they are unpacked to, what reading JSON makes of them, tensors, messages of gRPC, requests
that wait or are computed with their outputs and answers, states of sequences, and answers that clients do not read. Each part of
the server knows the size of what it is about to make, or a bound of it, and takes so much before.

Only the thread of the event loop may use it.
"""

from __future__ import annotations

from nbkeras.serving.errors import ServingError

USUAL = 1 << 30  # bytes


class Budget:
    """The bytes that clients may cause in a worker together.

    most: so many; used: that are taken now; peak: the most that were, since its reader has set it.
    """

    def __init__(self, most: int = USUAL):
        self.most, self.used, self.peak = most, 0, 0

    def has(self, size: int) -> bool:
        """Whether there is a place for so many bytes more."""
        return self.used + size <= self.most

    def check(self, size: int) -> None:
        """A ServingError if so many bytes more have no place: 413 if they never will, else 503."""
        if self.used + size > self.most:
            if size > self.most:
                raise ServingError(
                    413,
                    f"the request needs {size} bytes of memory, but all requests together have {self.most} (max_memory_mb); "
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
        """Count bytes that will be made, if `check` finds that they have a place."""
        self.check(size)
        self.used += size
        if self.used > self.peak:
            self.peak = self.used

    def give_back(self, size: int) -> None:
        """The bytes that were counted exist no more."""
        self.used -= size

    def share(self, size: int = 0) -> Share:
        """A part of it, which its `close`, or the end of its `with`, gives back."""
        return Share(self, size)


class Share:
    """The part of a Budget that one request, or one step of it, has."""

    __slots__ = ("budget", "bytes")

    def __init__(self, budget: Budget, size: int):
        budget.take(size)
        self.budget, self.bytes = budget, size

    def grow(self, size: int) -> None:
        """Take more."""
        self.budget.take(size)
        self.bytes += size

    def shrink(self, size: int) -> None:
        """Give back all but so many bytes."""
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
