"""IMDB: 50,000 film reviews as lists of word numbers, with labels 1 (positive) and 0 (negative)."""

import os

import numpy as np

from nbkeras.datasets import plain_pickle, words
from nbkeras.datasets.origin import FOLDER, Split, fetch, fetch_json
from nbkeras.engine import lazy_names as _lazy_names

ORIGIN = FOLDER + "imdb.npz"
SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
INDEX_ORIGIN = FOLDER + "imdb_word_index.json"
INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


def load_data(
    path: str | os.PathLike = "imdb.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
) -> tuple[Split, Split]:
    """50,000 film reviews as lists of word numbers; half of them are for testing. Downloaded once, checked each time.

    The most frequent word has the number 1 + index_from.

    Args:
        path: The file's path in the folder `datasets` of the cache (KERAS_HOME or ~/.keras), or an absolute
            path.
        num_words: Word numbers from here on become oov_char; None keeps all.
        skip_top: Word numbers below it become oov_char.
        maxlen: Reviews with this many words or more are dropped; None keeps all.
        seed: The seed for shuffling the reviews.
        start_char: A number before each review; None for none.
        oov_char: The number that replaces words that are not kept; None drops them.
        index_from: A number added to each word number, to make room for special numbers.

    Returns:
        (x_train, y_train), (x_test, y_test): arrays of lists of integers, and labels 1 (positive) and 0
        (negative).

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.
        ValueError: if maxlen leaves no review.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.imdb.load_data(num_words=10000)  # doctest: +SKIP
        >>> x_train = keras.utils.pad_sequences(x_train, maxlen=200)  # doctest: +SKIP
    """
    arrays = plain_pickle.load_npz(fetch(path, ORIGIN, SHA256))
    random = np.random.RandomState(seed)
    parts = []
    for part in ("train", "test"):
        order = np.arange(len(arrays[f"x_{part}"]))
        random.shuffle(order)
        sequences = words.mark(arrays[f"x_{part}"][order], start_char, index_from)
        parts.append(words.shorter(sequences, arrays[f"y_{part}"][order], maxlen))
    (x_train, y_train), (x_test, y_test) = parts
    kept = words.as_objects(words.restrict(x_train + x_test, num_words, skip_top, oov_char))
    return (kept[: len(x_train)], y_train), (kept[len(x_train) :], y_test)


def get_word_index(path: str | os.PathLike = "imdb_word_index.json") -> dict[str, int]:
    """The number of each word, 1 for the most frequent; `load_data` adds index_from to them. Downloaded once.

    Args:
        path: The file's path in the folder `datasets` of the cache, or an absolute path.

    Returns:
        A dict from word to number.

    Example:
        >>> index = keras.datasets.imdb.get_word_index()  # doctest: +SKIP
    """
    return fetch_json(path, INDEX_ORIGIN, INDEX_MD5)


_lazy_names.attach(globals())
