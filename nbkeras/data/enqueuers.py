"""Keras 2's enqueuers: batches made ahead, in threads."""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class SequenceEnqueuer:
    """Makes batches ahead of who reads them: `start`, then `get` (an endless generator), then `stop`.

    use_multiprocessing: kept for Keras's sake; the work is done in threads.
    """

    def __init__(self, sequence: Any, use_multiprocessing: bool = False):
        self.sequence, self.use_multiprocessing = sequence, use_multiprocessing
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[Future] = deque()
        self._size = 0

    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return self._pool is not None

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Make at most max_queue_size batches ahead, in `workers` threads."""
        self._pool, self._size = ThreadPoolExecutor(max(workers, 1)), max(max_queue_size, 1)
        self._fill(self._pool)

    def get(self) -> Iterator[Any]:
        """The batches in order; an error in making one is raised here, and is the end."""
        ended = False
        try:
            while self._pool is not None and self._ahead:
                batch = self._ahead.popleft().result()
                ended = ended or batch is _END
                if not ended:
                    self._fill(self._pool)
                if batch is not None and batch is not _END:
                    yield batch
        finally:
            self.stop()

    def stop(self, timeout: float | None = None) -> None:
        """Make no more batches, and wait for those being made."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._ahead.clear()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        while len(self._ahead) < self._size and (task := self._task()) is not None:
            self._ahead.append(pool.submit(task))

    def _task(self) -> Callable[[], Any] | None:
        """What makes the next batch; None if nothing more may begin before those ahead are taken."""
        raise NotImplementedError(f"{type(self).__name__} must define _task")


_END = object()  # in place of a batch: there are no more. One asked for later may be the last, with several workers.


class OrderedEnqueuer(SequenceEnqueuer):
    """Batches of a Sequence, over and over; shuffle: in another order each time. Epochs do not overlap."""

    def __init__(self, sequence: Any, use_multiprocessing: bool = False, shuffle: bool = False):
        super().__init__(sequence, use_multiprocessing)
        self.shuffle = shuffle
        self._left: deque[int] | None = None

    def _task(self) -> Callable[[], Any] | None:
        if not self._left:
            if self._ahead:
                return None
            if self._left is not None:
                self.sequence.on_epoch_end()
            order = list(range(len(self.sequence)))
            if not order:
                raise ValueError(f"{self.sequence!r} has no batches: its length is 0")
            if self.shuffle:
                random.shuffle(order)
            self._left = deque(order)
        index = self._left.popleft()
        return lambda: self.sequence[index]


class GeneratorEnqueuer(SequenceEnqueuer):
    """Batches of a generator, to its end; workers take turns at it."""

    def __init__(self, generator: Any, use_multiprocessing: bool = False, wait_time: float | None = None):
        super().__init__(generator, use_multiprocessing)
        self._turn = threading.Lock()

    def _task(self) -> Callable[[], Any]:
        return self._next

    def _next(self) -> Any:
        with self._turn:
            return next(self.sequence, _END)
