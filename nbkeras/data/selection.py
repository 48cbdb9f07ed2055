"""`Selection`, a data set of batches of selected rows, and functions that return it: `split_dataset` and others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.data import adapters
from nbkeras.data.pydataset import PyDataset
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly

Array = np.ndarray


class Selection(PyDataset):
    """A data set of batches of selected rows; `timeseries_dataset_from_array`, `split_dataset` and others return it.

    `take`, `skip` and `map` work on batches as in tf.data.

    Args:
        make: A function that returns x or (x, y) for an array of row indices, and a sample for a single index.
        rows: The indices of the rows, in order.
        batch_size: The number of rows per batch; None for single samples, without a batch axis.
        shuffle: Whether to shuffle the rows in each epoch.
        seed: The seed of shuffling; None for nbkeras's next seed.

    Example:
        >>> left, right = keras.utils.split_dataset(np.arange(6), left_size=4)
        >>> [batch.tolist() for batch in left.batch(2)]
        [[0, 1], [2, 3]]
    """

    class_names: list[str] | None = None
    file_paths: list[str] | None = None

    def __init__(
        self, make: Callable[[Array], Any], rows: Array, batch_size: int | None, shuffle: bool = False, seed=None
    ):
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(
                f"batch_size must be a positive number, or None for single samples, received {briefly(batch_size)}"
            )
        self._make, self.rows, self.batch_size, self._shuffles = make, rows, batch_size, shuffle
        self._random = np.random.RandomState(config.next_seed() % 2**32 if seed is None else seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / (self.batch_size or 1))

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} is out of range: there are {len(self)} batches")
        if self.batch_size is None:
            return self._make(self.rows[index])
        return self._make(self.rows[index * self.batch_size : (index + 1) * self.batch_size])

    def __iter__(self) -> Iterator[Any]:
        """All batches. A complete iteration is an epoch; with shuffle the next one has another order."""
        yield from map(self.__getitem__, range(len(self)))
        self.on_epoch_end()

    def batch(self, batch_size: int) -> Selection:
        """The same samples in batches of another size.

        Args:
            batch_size: The number of samples per batch.
        """
        other = self._like(self._make, self.rows, batch_size)
        other.class_names, other.file_paths = self.class_names, self.file_paths
        return other

    def take(self, count: int) -> Selection:
        """The first batches.

        Args:
            count: Their number; -1 for all.
        """
        return self._like(self._make, self.rows[: self._end(count)], self.batch_size)

    def skip(self, count: int) -> Selection:
        """The batches after the first ones.

        Args:
            count: The number of batches to skip; -1 for all.
        """
        return self._like(self._make, self.rows[self._end(count) :], self.batch_size)

    def map(self, function: Callable, num_parallel_calls=None, deterministic=None) -> Selection:
        """Apply a function to each batch, or to each sample without a batch axis.

        Args:
            function: A function of x, or of x and y.
            num_parallel_calls: Accepted and ignored.
            deterministic: Accepted and ignored.

        Example:
            >>> left, right = keras.utils.split_dataset(np.arange(6), left_size=4)
            >>> left.map(lambda x: 10 * x)[0]
            array([ 0, 10, 20, 30])
        """

        def make(rows: Array) -> Any:
            if self.batch_size is None and np.ndim(rows):
                samples = [make(row) for row in rows]
                leaves = zip(*map(structures.flatten, samples), strict=True)
                return structures.pack(samples[0], [np.stack(values) for values in leaves])
            batch = self._make(rows)
            return function(*batch) if isinstance(batch, tuple) else function(batch)

        return self._like(make, self.rows, self.batch_size)

    def cardinality(self) -> int:
        """The number of batches."""
        return len(self)

    def cache(self) -> Selection:
        """Return the data set unchanged."""
        return self

    def prefetch(self, buffer_size: int) -> Selection:
        """Return the data set unchanged: a batch is made when it is read.

        Args:
            buffer_size: Accepted and ignored.
        """
        return self

    def _end(self, count: int) -> int:
        """The number of rows in the first `count` batches."""
        return len(self.rows) if count < 0 else count * (self.batch_size or 1)

    def _like(self, make: Callable[[Array], Any], rows: Array, batch_size: int | None) -> Selection:
        return Selection(make, rows, batch_size, self._shuffles, self._random.randint(2**31) if self._shuffles else 0)

    def on_epoch_end(self) -> None:
        """Choose a new order, with shuffle."""
        if self._shuffles:
            self.rows = self._random.permutation(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """The order and the random state, for `BackupAndRestore`; empty without shuffle."""
        return {"rows": self.rows, "random": self._random.get_state(legacy=False)} if self._shuffles else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore an order.

        Args:
            state: The result of `state_dict`.
        """
        if state:
            self.rows = state["rows"]
            self._random.set_state(state["random"])


def timeseries_dataset_from_array(
    data,
    targets,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int | None = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
    format: str = "tf",
) -> Selection:
    """Batches of windows of a series, with targets.

    Window i begins at row i of data[start_index:end_index], for every sequence_stride-th i.

    Args:
        data: An array (rows, ...), one row per timestep.
        targets: An array; its row i is the target of the window that begins at row i. None for windows only.
        sequence_length: The number of rows of a window.
        sequence_stride: The distance from the start of one window to the next.
        sampling_rate: The distance between the rows of a window.
        batch_size: The number of windows per batch; None for single windows.
        shuffle: Whether to shuffle the windows in each epoch.
        seed: An integer for the same order in each run.
        start_index: The first row in use; None for 0.
        end_index: The row after the last one in use; None for all.
        format: Accepted and ignored: batches are NumPy arrays.

    Returns:
        A data set of batches (windows, targets), or of windows (batch, sequence_length, ...).

    Raises:
        ValueError: for strides, rates and indices out of the range of the data.

    Example:
        >>> data = keras.utils.timeseries_dataset_from_array(np.arange(6), np.arange(6) + 3, sequence_length=3)
        >>> windows, targets = data[0]
        >>> windows, targets
        (array([[0, 1, 2],
               [1, 2, 3],
               [2, 3, 4],
               [3, 4, 5]]), array([3, 4, 5, 6]))
    """
    series = np.asarray(data)
    count = len(series)
    first, last = start_index or 0, count if end_index is None else end_index
    if not 0 <= first < count or (end_index is not None and not first < last < count):
        raise ValueError(
            f"start_index and end_index must lie within the {count} rows of data, the first below the second; received "
            f"{start_index} and {end_index}"
        )
    for name, step in (("sampling_rate", sampling_rate), ("sequence_stride", sequence_stride)):
        if not 0 < step < count:
            raise ValueError(f"{name} must be from 1 to {count - 1}, less than the rows of data, received {step}")
    if sequence_length < 1:
        raise ValueError(f"sequence_length must be at least 1, received {sequence_length}")
    windows = last - first - (sequence_length - 1) * sampling_rate
    series = series[first:last]
    labels = None if targets is None else np.asarray(targets)[first:]
    starts = np.arange(0, windows if labels is None else min(windows, len(labels)), sequence_stride)
    if not len(starts):
        raise ValueError(f"{last - first} rows hold no window of {sequence_length} rows, {sampling_rate} apart")
    steps = np.arange(sequence_length) * sampling_rate

    def make(rows: Array) -> Any:
        window = series[np.add.outer(rows, steps)]
        return window if labels is None else (window, labels[rows])

    return Selection(make, starts, batch_size, shuffle, seed)


def split_dataset(
    dataset,
    left_size: float | int | None = None,
    right_size: float | int | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    preferred_backend: str | None = None,
    batch_size: int | None = None,
) -> tuple[Selection, Selection]:
    """Split a data set into two parts.

    Args:
        dataset: An array, a structure of arrays with equal lengths, a PyDataset or another iterable.
        left_size: The size of the first part: a fraction (float) or a number of samples (int); None for the
            rest.
        right_size: The size of the second part; None for the rest.
        shuffle: Whether samples are shuffled before the split.
        seed: An integer for the same order in each run.
        preferred_backend: Accepted and ignored: batches are NumPy arrays.
        batch_size: The number of samples per batch, for arrays; None for single samples, which `part.batch(n)` batches.
            Items of other data sets stay unchanged.

    Returns:
        (left, right), two data sets.

    Raises:
        TypeError: for a size that is not a number.
        ValueError: for sizes out of range, and for arrays of different lengths.

    Example:
        >>> left, right = keras.utils.split_dataset(np.arange(5), left_size=0.6)
        >>> left.batch(4)[0], right.batch(4)[0]
        (array([0, 1, 2]), array([3, 4]))
    """
    if adapters.is_stream(dataset):
        items = [dataset[i] for i in range(len(dataset))] if adapters.is_sequence(dataset) else list(dataset)
        count, batch_size = len(items), None
        make: Callable[[Any], Any] = items.__getitem__
    else:
        arrays = structures.map_leaves(np.asarray, dataset)
        shapes = [leaf.shape for leaf in structures.flatten(arrays)]
        lengths = {shape[:1] for shape in shapes}
        if len(lengths) != 1 or () in lengths:
            raise ValueError(f"the arrays to split must have the same number of samples, received shapes {shapes}")
        (count,) = lengths.pop()
        make = lambda rows: structures.map_leaves(lambda leaf: leaf[rows], arrays)  # noqa: E731
    left = _part(left_size, "left_size", count)
    right = _part(right_size, "right_size", count)
    if left is None and right is None:
        raise ValueError("split_dataset needs left_size, right_size or both")
    left = count - (right or 0) if left is None else left
    shares = isinstance(left_size, float) and isinstance(right_size, float) and left_size + right_size <= 1
    right = min(right, count - left) if right is not None and shares else right  # both may have been rounded up
    right = count - left if right is None else right
    if left < 1 or right < 1 or left + right > count:
        raise ValueError(f"{count} samples cannot be split into {left} and {right}: each part needs at least one")
    rows = np.random.RandomState(seed).permutation(count) if shuffle else np.arange(count)
    return Selection(make, rows[:left], batch_size), Selection(make, rows[count - right :], batch_size)


def _part(size: Any, name: str, count: int) -> int | None:
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int | float | np.number):
        raise TypeError(f"{name} must be a number of samples (int) or a fraction (float), received {briefly(size)}")
    size = size.item() if isinstance(size, np.number) else size
    if isinstance(size, float) and not 0 < size < 1 or size <= 0 or size > count:
        raise ValueError(
            f"{name} must be a fraction between 0 and 1 or a number up to {count}, received {briefly(size)}"
        )
    return round(size * count) if isinstance(size, float) else int(size)
