"""Sequences: padding, windows over a time series, word pairs for skip-gram models."""

import json
import random
from typing import Any

import numpy as np

from nbkeras.data.encoding import pad_sequences as pad_sequences
from nbkeras.data.pydataset import PyDataset
from nbkeras.engine import lazy_names as _lazy_names


class TimeseriesGenerator(PyDataset):
    """Batches (windows, targets) of a series: each window is the `length` timesteps before its target.

    Keras 3 has `utils.timeseries_dataset_from_array` instead.

    Args:
        data: An array or list with a row for each timestep.
        targets: The target of each timestep; their number is the number of rows of data.
        length: The number of timesteps before the target that a window covers.
        sampling_rate: The distance between the timesteps of a window.
        stride: The distance between windows.
        start_index: The first row in use.
        end_index: The last row in use; None for the last row of data.
        shuffle: Whether to draw windows at random, by NumPy's global generator.
        reverse: Whether to reverse each window.
        batch_size: The number of windows per batch.

    Raises:
        ValueError: if data and targets differ in length, and if there is no window.

    Example:
        >>> from nbkeras.preprocessing.sequence import TimeseriesGenerator
        >>> windows, targets = TimeseriesGenerator(np.arange(6), 10 * np.arange(6), length=3)[0]
        >>> windows, targets
        (array([[0, 1, 2],
               [1, 2, 3],
               [2, 3, 4]]), array([30, 40, 50]))
    """

    def __init__(
        self,
        data,
        targets,
        length: int,
        sampling_rate: int = 1,
        stride: int = 1,
        start_index: int = 0,
        end_index: int | None = None,
        shuffle: bool = False,
        reverse: bool = False,
        batch_size: int = 128,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if len(data) != len(targets):
            raise ValueError(
                f"TimeseriesGenerator needs a target for each row of data, received {len(data)} rows and {len(targets)} "
                "targets"
            )
        self.data, self.targets = data, targets
        self.length, self.sampling_rate, self.stride = length, sampling_rate, stride
        self.start_index = start_index + length
        self.end_index = len(data) - 1 if end_index is None else end_index
        self.shuffle, self.reverse, self.batch_size = shuffle, reverse, batch_size
        if self.start_index > self.end_index:
            raise ValueError(
                f"`start_index+length={self.start_index} > end_index={self.end_index}` is disallowed, since no row is "
                "left for a target: give more data or a shorter length"
            )

    def __len__(self) -> int:
        step = self.batch_size * self.stride
        return (self.end_index - self.start_index + step) // step

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self.shuffle:
            rows = np.random.randint(self.start_index, self.end_index + 1, size=self.batch_size)
        else:
            first = self.start_index + self.batch_size * self.stride * index
            rows = np.arange(first, min(first + self.batch_size * self.stride, self.end_index + 1), self.stride)
        samples = np.array([self.data[row - self.length : row : self.sampling_rate] for row in rows])
        targets = np.array([self.targets[row] for row in rows])
        return (samples[:, ::-1] if self.reverse else samples), targets

    def get_config(self) -> dict[str, Any]:
        """The generator's arguments, with data and targets as JSON strings; raises TypeError if JSON cannot hold them."""
        names = "length sampling_rate stride start_index end_index shuffle reverse batch_size".split()
        texts = {name: _to_json(getattr(self, name), name) for name in ("data", "targets")}
        return texts | {name: getattr(self, name) for name in names}

    def to_json(self, **kwargs) -> str:
        """The configuration as JSON.

        Args:
            **kwargs: Arguments of `json.dumps`.
        """
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)


def _to_json(values, name: str) -> str:
    try:
        return json.dumps(values.tolist() if isinstance(values, np.ndarray) else values)
    except TypeError as error:
        raise TypeError(f"the {name} of a TimeseriesGenerator cannot be written as JSON: {error}") from None


def make_sampling_table(size: int, sampling_factor: float = 1e-5) -> np.ndarray:
    """The probability of keeping the word of each rank: rare words always, frequent words rarely.

    It is word2vec's min(1, sqrt(f / t) t / f), with t = sampling_factor and the frequency f of a rank by Zipf's law.

    Args:
        size: The number of words.
        sampling_factor: The frequency t; more frequent words are sometimes dropped.

    Returns:
        A float64 array (size,), for `skipgrams`.

    Example:
        >>> from nbkeras.preprocessing.sequence import make_sampling_table
        >>> make_sampling_table(4).round(4)
        array([0.0032, 0.0032, 0.0055, 0.0074])
    """
    rank = np.maximum(np.arange(size), 1)
    ratio = sampling_factor * (rank * (np.log(rank) + 0.577) + 0.5 - 1.0 / (12.0 * rank))  # 0.577: Euler's constant
    return np.minimum(1.0, np.sqrt(ratio))


def skipgrams(
    sequence,
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table=None,
    seed: int | None = None,
) -> tuple[list, list]:
    """Pairs of words for a skip-gram model: [word, a word near it] with label 1, [word, any word] with label 0.

    Random numbers come from Python's `random`.

    Args:
        sequence: A list of word numbers; 0 is not a word.
        vocabulary_size: Words are numbered from 1 to vocabulary_size - 1.
        window_size: The greatest distance between the words of a pair with label 1.
        negative_samples: The number of pairs with label 0 for each pair with label 1.
        shuffle: Whether to shuffle the pairs.
        categorical: Whether labels are [0, 1] and [1, 0] instead of 1 and 0.
        sampling_table: The probability of keeping each word, from `make_sampling_table`; None keeps all.
        seed: The seed of the shuffling.

    Returns:
        (pairs, labels), two lists.

    Example:
        >>> from nbkeras.preprocessing.sequence import skipgrams
        >>> skipgrams([1, 2, 3], vocabulary_size=4, window_size=1, negative_samples=0, shuffle=False)
        ([[1, 2], [2, 1], [2, 3], [3, 2]], [1, 1, 1, 1])
    """
    couples = []
    for i, word in enumerate(sequence):
        if not word or (sampling_table is not None and sampling_table[word] < random.random()):
            continue
        neighbours = [*sequence[max(0, i - window_size) : i], *sequence[i + 1 : i + window_size + 1]]
        couples += [[word, other] for other in neighbours if other]
    positive, negative = ([0, 1], [1, 0]) if categorical else (1, 0)
    labels: list[Any] = [positive] * len(couples)
    if negative_samples > 0:
        count = int(len(couples) * negative_samples)
        words = [couple[0] for couple in couples]
        random.shuffle(words)
        couples += [[words[i % len(words)], random.randint(1, vocabulary_size - 1)] for i in range(count)]
        labels += [negative] * count
    if shuffle:
        seed = random.randint(0, 10**7) if seed is None else seed
        for items in (couples, labels):
            random.Random(seed).shuffle(items)
    return couples, labels


def _remove_long_seq(maxlen: int, seq, label) -> tuple[list, list]:
    """The sequences that are shorter than maxlen, and their labels."""
    kept = [(s, l) for s, l in zip(seq, label, strict=True) if len(s) < maxlen]
    return [s for s, _ in kept], [l for _, l in kept]


_lazy_names.attach(globals())
