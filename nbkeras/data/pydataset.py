"""`PyDataset` (in Keras 2 `Sequence`): batches made by the user's code."""

import itertools
from collections.abc import Iterator
from typing import Any


class PyDataset:
    """Base class of data sets that make batches: define `__getitem__(index)`, and `__len__`, the number of batches.

    A batch is x, (x, y) or (x, y, sample_weight). `num_batches` may replace `__len__`; None means an endless data
    set. `fit` calls `on_epoch_end` after each epoch. Keras 2 calls this class Sequence.

    Args:
        workers: Kept as an attribute, without effect: `fit` reads the batches one after another, in its own thread.
        use_multiprocessing: Kept as an attribute, without effect.
        max_queue_size: Kept as an attribute, without effect.

    Example:
        >>> class Squares(keras.utils.PyDataset):
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, index):
        ...         x = np.full((8, 1), index)
        ...         return x, x**2
        >>> model = keras.Sequential([layers.Dense(1, input_shape=(1,))])
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(Squares(), epochs=2, verbose=0)
        >>> history.epoch
        [0, 1]
    """

    workers = 1
    use_multiprocessing = False
    max_queue_size = 10

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        """The batch at an index."""
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
        """Called after an epoch; override it to shuffle."""


Sequence = PyDataset
