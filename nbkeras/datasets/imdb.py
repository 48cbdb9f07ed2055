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
    """(x_train, y_train), (x_test, y_test): arrays of lists of numbers, 1 + index_from the most frequent word; labels 0, 1.

    num_words: numbers of at least num_words, and those below skip_top, become oov_char (None: they are left out). maxlen: longer
    reviews are left out. start_char: a number before each review. Downloaded once, checked each time.
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
    """The number of each word, 1 for the most frequent; load_data adds index_from to them."""
    return fetch_json(path, INDEX_ORIGIN, INDEX_MD5)


_lazy_names.attach(globals())
