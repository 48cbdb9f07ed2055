"""Keras 2's enqueuers: batches made in advance, in threads."""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from nbkeras.engine.annotations import briefly


class SequenceEnqueuer:
    """Make batches in advance for a reader: call `start`, then `get`, then `stop`. Base class; from Keras 2.

    `fit` does not need it: it takes a Sequence or a generator itself.

    Args:
        sequence: The data set.
        use_multiprocessing: Accepted and ignored: the work is done in threads.

    Example:
        >>> issubclass(keras.utils.OrderedEnqueuer, keras.utils.SequenceEnqueuer)
        True
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
        """Start making batches.

        Args:
            workers: The number of threads.
            max_queue_size: The number of batches to make in advance at most.
        """
        self._pool, self._size = ThreadPoolExecutor(max(workers, 1)), max(max_queue_size, 1)
        self._fill(self._pool)

    def get(self) -> Iterator[Any]:
        """Yield the batches in order. An error of a worker is raised here and ends the generator."""
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
        """Stop making batches, and wait for those in progress.

        Args:
            timeout: Accepted and ignored.
        """
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._ahead.clear()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        while len(self._ahead) < self._size and (task := self._task()) is not None:
            self._ahead.append(pool.submit(task))

    def _task(self) -> Callable[[], Any] | None:
        """A function that makes the next batch; None if it must not start before the reader has taken all others."""
        raise NotImplementedError(f"{type(self).__name__} must define _task")


# Marks the end instead of a batch. With several workers, a batch that was requested later may be the last.
_END = object()


class OrderedEnqueuer(SequenceEnqueuer):
    """Make the batches of a Sequence in advance, in order and without end; epochs do not overlap. From Keras 2.

    Args:
        sequence: A PyDataset, or another object with `__getitem__`, `__len__` and `on_epoch_end`.
        use_multiprocessing: Accepted and ignored: the work is done in threads.
        shuffle: Whether to shuffle the batches in each epoch.

    Example:
        >>> class Numbers(keras.utils.PyDataset):
        ...     def __len__(self):
        ...         return 2
        ...     def __getitem__(self, index):
        ...         return 10 * index
        >>> enqueuer = keras.utils.OrderedEnqueuer(Numbers())
        >>> enqueuer.start(workers=2)
        >>> batches = enqueuer.get()
        >>> [next(batches) for _ in range(4)]
        [0, 10, 0, 10]
        >>> enqueuer.stop()
    """

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
                raise ValueError(f"{briefly(self.sequence)} has no batches: its length is 0")
            if self.shuffle:
                random.shuffle(order)
            self._left = deque(order)
        index = self._left.popleft()
        return lambda: self.sequence[index]


class GeneratorEnqueuer(SequenceEnqueuer):
    """Make the batches of a generator in advance, to its end; one worker at a time uses the generator. From Keras 2.

    Args:
        generator: A generator of batches.
        use_multiprocessing: Accepted and ignored: the work is done in threads.
        wait_time: Accepted and ignored.

    Example:
        >>> enqueuer = keras.utils.GeneratorEnqueuer(iter([1, 2, 3]))
        >>> enqueuer.start()
        >>> list(enqueuer.get())
        [1, 2, 3]
    """

    def __init__(self, generator: Any, use_multiprocessing: bool = False, wait_time: float | None = None):
        super().__init__(generator, use_multiprocessing)
        self._lock = threading.Lock()

    def _task(self) -> Callable[[], Any]:
        return self._next

    def _next(self) -> Any:
        with self._lock:
            return next(self.sequence, _END)
