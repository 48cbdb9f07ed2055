"""`PyDataset` (in Keras 2 `Sequence`): batches made by the user's own code."""

import itertools
from collections.abc import Iterator
from typing import Any


class PyDataset:
    """Base class of data sets that make their batches: define `__getitem__(index)` and `__len__`, the number of batches.

    A batch is x, (x, y) or (x, y, sample_weight). `num_batches` may be defined instead of `__len__`; None means an
    endless data set. `on_epoch_end` is called after each epoch of `fit`. workers, use_multiprocessing and max_queue_size are
    stored as attributes and have no effect: `fit` reads one batch after another, in its own thread.
    """

    workers = 1
    use_multiprocessing = False
    max_queue_size = 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """The batch at a position."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index), which returns a batch")

    @property
    def num_batches(self) -> int | None:
        """The number of batches; None for an endless data set."""
        if hasattr(self, "__len__"):
            return len(self)
        raise NotImplementedError(f"{type(self).__name__} must define __len__ or num_batches, the number of batches")

    def __iter__(self) -> Iterator[Any]:
        count = self.num_batches
        for index in itertools.count() if count is None else range(count):
            yield self[index]

    def on_epoch_begin(self) -> None:
        """Called before an epoch."""

    def on_epoch_end(self) -> None:
        """Called after an epoch; a good time to shuffle."""


Sequence = PyDataset
