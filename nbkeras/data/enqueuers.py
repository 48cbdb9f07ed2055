"""Keras 2's enqueuers: batches made in advance, in threads."""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class SequenceEnqueuer:
    """Makes batches in advance for a reader: call `start`, then `get` (an endless generator), then `stop`.

    use_multiprocessing is ignored: the work is done in threads.
    """

    def __init__(self, sequence: Any, use_multiprocessing: bool = False):
        self.sequence, self.use_multiprocessing = sequence, use_multiprocessing
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[Future] = deque()
        self._size = 0

    def is_running(self) -> bool:
        """Whether the enqueuer is started and not stopped."""
        return self._pool is not None

    def start(self, workers: int = 1, max_queue_size: int = 10) -> None:
        """Start making at most max_queue_size batches in advance, in `workers` threads."""
        self._pool, self._size = ThreadPoolExecutor(max(workers, 1)), max(max_queue_size, 1)
        self._fill(self._pool)

    def get(self) -> Iterator[Any]:
        """Yield the batches in order; an error in making a batch is raised here and ends the generator."""
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
        """Stop making batches, and wait for those in progress."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._ahead.clear()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        while len(self._ahead) < self._size and (task := self._task()) is not None:
            self._ahead.append(pool.submit(task))

    def _task(self) -> Callable[[], Any] | None:
        """A function that makes the next batch; None if the next one must not start before the reader has taken all others."""
        raise NotImplementedError(f"{type(self).__name__} must define _task")


_END = object()  # in place of a batch: the end. With several workers a batch that was requested later may be the last.


class OrderedEnqueuer(SequenceEnqueuer):
    """Batches of a Sequence, repeated without end; shuffle: in another order in each epoch. Epochs do not overlap."""

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
    """Batches of a generator, to its end; one worker at a time uses it."""

    def __init__(self, generator: Any, use_multiprocessing: bool = False, wait_time: float | None = None):
        super().__init__(generator, use_multiprocessing)
        self._lock = threading.Lock()

    def _task(self) -> Callable[[], Any]:
        return self._next

    def _next(self) -> Any:
        with self._lock:
            return next(self.sequence, _END)
