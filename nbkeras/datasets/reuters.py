"""Reuters: 11,228 newswires as lists of word numbers, and their topics, 46 in total."""

import os

from nbkeras.datasets import plain_pickle, words
from nbkeras.datasets.origin import FOLDER, Split, fetch, fetch_json, shuffled
from nbkeras.engine import lazy_names as _lazy_names

ORIGIN = FOLDER + "reuters.npz"
SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
INDEX_ORIGIN = FOLDER + "reuters_word_index.json"
INDEX_MD5 = "4d44cc38712099c9e383dc6e5f11a921"
_TOPICS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass crude "
    "nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi iron-steel "
    "rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


def load_data(
    path: str | os.PathLike = "reuters.npz",
    num_words: int | None = None,
    skip_top: int = 0,
    maxlen: int | None = None,
    test_split: float = 0.2,
    seed: int = 113,
    start_char: int | None = 1,
    oov_char: int | None = 2,
    index_from: int | None = 3,
) -> tuple[Split, Split]:
    """11,228 newswires as lists of word numbers, and their topics, 46 in total. Downloaded once, checked each time.

    The most frequent word has the number 1 + index_from.

    Args:
        path: The file's path in the folder `datasets` of the cache (KERAS_HOME or ~/.keras), or an absolute
            path.
        num_words: Word numbers from here on become oov_char; None keeps all.
        skip_top: Word numbers below it become oov_char.
        maxlen: Newswires with this many words or more are dropped; None keeps all.
        test_split: The fraction of the newswires for testing.
        seed: The seed for shuffling the newswires before the split.
        start_char: A number before each newswire; None for none.
        oov_char: The number that replaces words that are not kept; None drops them.
        index_from: A number added to each word number, to make room for special numbers.

    Returns:
        (x_train, y_train), (x_test, y_test): arrays of lists of integers, and topics 0 to 45.

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.
        ValueError: if maxlen leaves no newswire.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.reuters.load_data(num_words=10000)  # doctest: +SKIP
    """
    arrays = plain_pickle.load_npz(fetch(path, ORIGIN, SHA256))
    order = shuffled(len(arrays["x"]), seed)
    sequences, labels = words.shorter(
        words.mark(arrays["x"][order], start_char, index_from), arrays["y"][order], maxlen
    )
    kept = words.as_objects(words.restrict(sequences, num_words, skip_top, oov_char))
    at = int(len(kept) * (1 - test_split))
    return (kept[:at], labels[:at]), (kept[at:], labels[at:])


def get_word_index(path: str | os.PathLike = "reuters_word_index.json") -> dict[str, int]:
    """The number of each word, 1 for the most frequent; `load_data` adds index_from to them. Downloaded once.

    Args:
        path: The file's path in the folder `datasets` of the cache, or an absolute path.

    Returns:
        A dict from word to number.

    Example:
        >>> index = keras.datasets.reuters.get_word_index()  # doctest: +SKIP
    """
    return fetch_json(path, INDEX_ORIGIN, INDEX_MD5)


def get_label_names() -> tuple[str, ...]:
    """The names of the topics, by number.

    Returns:
        A tuple of 46 strings.

    Example:
        >>> keras.datasets.reuters.get_label_names()[:3]
        ('cocoa', 'grain', 'veg-oil')
    """
    return tuple(_TOPICS.split())


_lazy_names.attach(globals())
