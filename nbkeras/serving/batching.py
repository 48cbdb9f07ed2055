"""Batcher: computes requests that wait for a model together, in one run of a recorded program.

Requests that arrive in one turn of the event loop, or while a batch is computed, form the next batch. No request waits for
later ones, unless `max_wait` is set. `cover` chooses the programs that compute all waiting rows in the least time; a batch has
the rows of the first of these programs. A program that takes less than about a millisecond runs on the event loop, because a
thread's overhead is as large. A longer one runs in a thread, so that health checks and other models go on.

Answers are copies of a request's rows in the batch's outputs, so a client that reads slowly does not keep the batch's memory.
"""

import asyncio
import collections
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from nbkeras.engine.strings import characters
from nbkeras.serving.errors import ServingError, refused
from nbkeras.serving.logs import event
from nbkeras.serving.requests import InferRequest

INLINE_SECONDS = 0.001
_LONG_TEXT = 1024  # characters: longer strings are computed in a thread
_log = logging.getLogger("nbkeras.serving")
_error_numbers = itertools.count(1)


class Runs(Protocol):
    """The part of a Frozen that a Batcher needs."""

    batch_sizes: Sequence[int]
    is_by_rows: bool  # whether the rows of a batch are independent

    def parts(self, rows: int) -> Sequence[int]: ...  # the sizes of the programs that compute `rows` rows

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]: ...


class PendingRequest:
    """A request, or a part of one, in the queue."""

    __slots__ = ("arrays", "future", "request", "rows", "shapes", "since", "timer")

    def __init__(self, arrays: list[np.ndarray], request: InferRequest, future: asyncio.Future):
        self.arrays, self.request, self.future = arrays, request, future
        self.rows = len(arrays[0])
        self.shapes = [array.shape[1:] for array in arrays]
        self.since = time.monotonic()
        self.timer: asyncio.TimerHandle | None = None


class Batcher:
    """The queue of one version of a model.

    max_batch: the maximum rows of a batch. max_wait: seconds that a batch waits for more rows.
    max_queue: the maximum of waiting requests; others are refused with 503. Their creator counts their bytes.
    observe: called after each batch with (rows, seconds, seconds that each of its requests waited).
    """

    def __init__(
        self,
        frozen: Runs,
        *,
        max_batch: int | None = None,
        max_wait: float = 0.0,
        max_queue: int = 1024,
        observe: Callable[[int, float, list[float]], Any] | None = None,
    ):
        self.frozen = frozen
        self.max_batch = max_batch or max(frozen.batch_sizes)
        self.max_wait, self.max_queue = max_wait, max_queue
        self._observe = observe
        self._queue: collections.deque[PendingRequest] = collections.deque()
        self.rows = self.running = 0  # rows in the queue, and rows being computed
        self._began = 0.0  # when the last batch was taken from the queue
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None
        self.seconds = 0.0  # seconds of a row, averaged over the last batches
        self._fastest = [math.inf] * 64  # seconds of the fastest recent batch, by the binary digits of its rows
        self._idle: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """The bytes of the inputs in the queue."""
        return sum(array.nbytes for waiting in self._queue for array in waiting.arrays)

    async def infer(self, arrays: list[np.ndarray], request: InferRequest) -> list[np.ndarray]:
        """The outputs for the rows of a request, which records the times; 504 if its deadline passes before."""
        rows, sizes = len(arrays[0]), self.frozen.batch_sizes
        if not self.frozen.is_by_rows and rows not in sizes:
            raise refused(f"this model takes requests of {' or '.join(map(str, sizes))} rows, received {rows}")
        if rows <= self.max_batch or not self.frozen.is_by_rows:
            self._admit(1)
            return await self._put(arrays, request)
        starts = range(0, rows, self.max_batch)
        self._admit(len(starts))
        parts = [[array[start : start + self.max_batch] for array in arrays] for start in starts]
        futures = [self._put(part, request) for part in parts]
        try:
            found = await asyncio.gather(*futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [np.concatenate(column) for column in zip(*found, strict=True)]

    def _admit(self, count: int) -> None:
        """Refuse a request that the queue has no room for. An empty queue accepts a request with any number of parts."""
        if len(self._queue) + count > self.max_queue:
            self._forget()
        if self._queue and len(self._queue) + count > self.max_queue:
            raise ServingError(
                503,
                f"the queue is full: {len(self._queue)} requests wait (limit: {self.max_queue}); try again later",
                retry_after=self.retry_after(),
                reason="queue_full",
            )

    def _forget(self) -> None:
        """Remove requests from the queue whose clients have disconnected or whose deadline has passed."""
        self._queue = collections.deque(waiting for waiting in self._queue if not waiting.future.done())
        self.rows = sum(waiting.rows for waiting in self._queue)

    def retry_after(self) -> int:
        """Whole seconds until the current queue will have been computed."""
        return max(1, min(60, math.ceil((self.rows + self.running) * self.seconds)))

    def _put(self, arrays: list[np.ndarray], request: InferRequest) -> asyncio.Future:
        loop = asyncio.get_running_loop()
        waiting = PendingRequest(arrays, request, loop.create_future())
        self._queue.append(waiting)
        self.rows += waiting.rows
        if self.running:
            if request.deadline is not None:
                waiting.timer = loop.call_later(request.deadline - waiting.since, self._expire, waiting)
        elif not self._is_scheduled:
            self._is_scheduled = True
            if self.max_wait and self.rows < self.max_batch:
                self._timer = loop.call_later(self.max_wait, self._start)
            else:
                loop.call_soon(self._start)
        elif self._timer is not None and self.rows >= self.max_batch:
            self._timer.cancel()
            self._timer = None
            loop.call_soon(self._start)
        return waiting.future

    def _expire(self, waiting: PendingRequest) -> None:
        if not waiting.future.done():
            waiting.future.set_exception(_too_late(waiting))

    def _take(self) -> list[PendingRequest]:
        """The next requests that fit into a batch, without expired and cancelled ones."""
        taken: list[PendingRequest] = []
        others: list[PendingRequest] = []  # with another number of steps
        rows, now = 0, time.monotonic()
        queue = self._queue
        limit = 1
        if self.rows > 1 and self.frozen.is_by_rows:
            limit = min(self.frozen.parts(min(self.rows, self.max_batch))[0], self.max_batch)
        while queue:
            waiting = queue.popleft()
            if taken and rows + waiting.rows > limit:
                queue.appendleft(waiting)
                break
            if taken and waiting.shapes != taken[0].shapes:
                others.append(waiting)
                continue
            self.rows -= waiting.rows
            if waiting.timer is not None:
                waiting.timer.cancel()
            if waiting.future.done():  # the client has disconnected, or its deadline has passed
                continue
            if waiting.request.deadline is not None and waiting.request.deadline <= now:
                waiting.future.set_exception(_too_late(waiting))
                continue
            taken.append(waiting)
            rows += waiting.rows
        queue.extendleft(reversed(others))
        self.running, self._began = rows, now
        return taken

    def _start(self) -> None:
        """Compute the next batch, on the event loop or, if batches take long, in the thread."""
        self._timer = None
        self._is_scheduled = False
        taken = self._take()
        if not taken:
            self._finish()
            return
        if self._fastest[self.running.bit_length()] < INLINE_SECONDS and not any(
            _is_long(waiting.arrays) for waiting in taken
        ):
            self._deliver(taken, *self._compute(taken))
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "nbkeras-batches")
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, taken)
        except RuntimeError:  # the system allows no more threads
            self._deliver(taken, *self._compute(taken))
        else:
            future.add_done_callback(lambda done: self._deliver(taken, *done.result()))

    def _compute(self, taken: list[PendingRequest]) -> tuple[list[list[np.ndarray] | Exception], float]:
        """The outputs or the exception of each request, and the seconds of the batch."""
        start = time.perf_counter()
        found: list[list[np.ndarray] | Exception]
        try:
            found = [*self._together(taken)]
        except ValueError as error:  # the data of one request do not fit the model: answer the others
            found = [error] if len(taken) == 1 else [self._compute([each])[0][0] for each in taken]
        except Exception as error:
            found = [error] * len(taken)
        return found, time.perf_counter() - start

    def _together(self, taken: list[PendingRequest]) -> list[list[np.ndarray]]:
        """The outputs of each request, computed as one batch."""
        if len(taken) == 1:
            return [self.frozen.run(taken[0].arrays)]
        outputs = self.frozen.run(
            [np.concatenate(column) for column in zip(*(each.arrays for each in taken), strict=True)]
        )
        ends = itertools.accumulate(each.rows for each in taken)
        return [
            [output[end - each.rows : end].copy() for output in outputs] for each, end in zip(taken, ends, strict=True)
        ]

    def _deliver(self, taken: list[PendingRequest], found: list[list[np.ndarray] | Exception], seconds: float) -> None:
        rows = self.running
        digits = rows.bit_length()
        self._fastest[digits] = min(seconds, self._fastest[digits] * 1.02)
        self.seconds = 0.8 * self.seconds + 0.2 * seconds / rows if self.seconds else seconds / rows
        numbers: dict[int, str] = {}
        for waiting, outputs in zip(taken, found, strict=True):
            waiting.request.was_computed(self._began - waiting.since, seconds)
            if waiting.future.done():
                continue
            if isinstance(outputs, Exception):
                waiting.future.set_exception(self._client_error(outputs, numbers))
            else:
                waiting.future.set_result(outputs)
        if self._observe is not None:
            self._observe(rows, seconds, [self._began - waiting.since for waiting in taken])
        self._finish()

    def _client_error(self, error: Exception, numbers: dict[int, str]) -> ServingError:
        """The error for a client. A failure's traceback is logged once per batch, under a number that clients receive.

        A ValueError is about the data of a request, such as an index outside of the vocabulary.
        """
        if isinstance(error, ValueError):
            return ServingError(400, str(error))
        if id(error) not in numbers:
            numbers[id(error)] = number = f"{time.time():.0f}-{next(_error_numbers)}"
            extra = event("batch_failed", error_id=number, rows=self.running)
            _log.error("batch %s of %d rows failed", number, self.running, exc_info=error, extra=extra)
        return ServingError(500, f"the model failed; the server's log has the reason as {numbers[id(error)]}")

    def _finish(self) -> None:
        """Schedule the next batch for the next turn of the loop, so that answers go out and requests come in first."""
        self.running = 0
        if self._queue:
            if not self._is_scheduled:
                self._is_scheduled = True
                asyncio.get_running_loop().call_soon(self._start)
        elif self._idle is not None:
            self._idle.set()
            self._idle = None

    async def drain(self) -> None:
        """Wait until all accepted requests are computed, then stop the thread."""
        while self._queue or self.running:
            if self._idle is None:
                self._idle = asyncio.Event()
            await self._idle.wait()
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None


def _too_late(waiting: PendingRequest) -> ServingError:
    waited = time.monotonic() - waiting.since
    return ServingError(504, f"the request's deadline passed after {waited:.3f} s in the queue; it was not computed")


def _is_long(arrays: Sequence[np.ndarray]) -> bool:
    """Whether the inputs of a request have long strings: the time of its batch is then not that of its rows."""
    return sum(characters(array) for array in arrays if array.dtype == object) > _LONG_TEXT
