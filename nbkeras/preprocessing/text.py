"""Converts texts to numbers, by a Tokenizer or by hashing."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import briefly

_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def text_to_word_sequence(text: str, filters: str = _FILTERS, lower: bool = True, split: str = " ") -> list[str]:
    """The words of a text.

    Args:
        text: The text.
        filters: Characters that count as separators.
        lower: Whether to convert the text to lower case.
        split: The separator of words.

    Returns:
        A list of words.

    Example:
        >>> from nbkeras.preprocessing.text import text_to_word_sequence
        >>> text_to_word_sequence("Small models, fast.")
        ['small', 'models', 'fast']
    """
    separators: Any = str.maketrans(dict.fromkeys(filters, split))
    text = (text.lower() if lower else text).translate(separators)
    return [word for word in text.split(split) if word]


def one_hot(
    text: str,
    n: int,
    filters: str = _FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """A number for each word of a text, by Python's `hash`, which differs between processes.

    Different words may get the same number.

    Args:
        text: The text.
        n: Numbers are from 1 to n - 1.
        filters: Characters that count as separators.
        lower: Whether to convert the text to lower case.
        split: The separator of words.
        analyzer: A function that splits the text instead.

    Returns:
        A list of integers.

    Example:
        >>> from nbkeras.preprocessing.text import one_hot
        >>> numbers = one_hot("to be or not to be", 100)
        >>> numbers[:2] == numbers[4:]
        True
    """
    return hashing_trick(text, n, hash, filters, lower, split, analyzer)


def hashing_trick(
    text: str,
    n: int,
    hash_function: Callable[[str], int] | str | None = None,
    filters: str = _FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable[[str], Iterable[str]] | None = None,
) -> list[int]:
    """A number for each word of a text, by a hash function; different words may get the same number.

    Args:
        text: The text.
        n: Numbers are from 1 to n - 1.
        hash_function: 'md5', which gives the same numbers in each process; a function of a word; or None for
            Python's `hash`, which differs between processes.
        filters: Characters that count as separators.
        lower: Whether to convert the text to lower case.
        split: The separator of words.
        analyzer: A function that splits the text instead.

    Returns:
        A list of integers.

    Example:
        >>> from nbkeras.preprocessing.text import hashing_trick
        >>> hashing_trick("to be or not to be", 100, "md5")
        [5, 66, 50, 12, 5, 66]
    """
    number: Any = hash if hash_function is None else _md5 if hash_function == "md5" else hash_function
    words = text_to_word_sequence(text, filters, lower, split) if analyzer is None else analyzer(text)
    return [number(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


class Tokenizer:
    """Number the words of texts, 1 for the most frequent, and convert texts to lists of numbers or to matrix rows.

    Keras 3 has `layers.TextVectorization` instead.

    Args:
        num_words: Only numbers below it are used; None for all.
        filters: Characters that count as separators.
        lower: Whether to convert texts to lower case.
        split: The separator of words.
        char_level: Whether each character is a word.
        oov_token: The word that replaces unknown words, with number 1; None drops unknown words.
        analyzer: A function that splits a text instead.
        document_count: The number of texts counted before.

    Example:
        >>> from nbkeras.preprocessing.text import Tokenizer
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["the cat and the dog", "the dog"])
        >>> tokenizer.word_index
        {'the': 1, 'dog': 2, 'cat': 3, 'and': 4}
        >>> tokenizer.texts_to_sequences(["the dog and the bird"])
        [[1, 2, 4, 1]]
    """

    def __init__(
        self,
        num_words: int | None = None,
        filters: str = _FILTERS,
        lower: bool = True,
        split: str = " ",
        char_level: bool = False,
        oov_token: str | None = None,
        analyzer: Callable[[str], Iterable[str]] | None = None,
        document_count: int = 0,
    ):
        self.num_words, self.filters, self.lower, self.split = num_words, filters, lower, split
        self.char_level, self.oov_token, self.analyzer = char_level, oov_token, analyzer
        self.document_count = document_count
        self.word_counts: Counter[str] = Counter()
        self.word_docs: Counter[str] = Counter()
        self.index_docs: dict[int, int] = defaultdict(int)
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}

    def _words(self, text: Any) -> list[str]:
        """The words of a text, or of a list of words."""
        if self.char_level or isinstance(text, list):
            return [word.lower() for word in text] if self.lower else list(text)
        if self.analyzer is not None:
            return list(self.analyzer(text))
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts: Iterable) -> None:
        """Count the words of texts, and number all words counted so far.

        Args:
            texts: Texts, or lists of words.

        Example:
            >>> from nbkeras.preprocessing.text import Tokenizer
            >>> tokenizer = Tokenizer()
            >>> tokenizer.fit_on_texts(["One, two!", "two"])
            >>> tokenizer.word_index
            {'two': 1, 'one': 2}
        """
        for text in texts:
            self.document_count += 1
            words = self._words(text)
            self.word_counts.update(words)
            self.word_docs.update(set(words))
        first = [] if self.oov_token is None else [self.oov_token]
        ranked = [*first, *sorted(self.word_counts, key=self.word_counts.__getitem__, reverse=True)]
        self.word_index = {word: number for number, word in enumerate(ranked, 1)}
        self.index_word = {number: word for word, number in self.word_index.items()}
        self.index_docs.update({self.word_index[word]: count for word, count in self.word_docs.items()})

    def fit_on_sequences(self, sequences: list) -> None:
        """Count the sequences that contain each number, for `sequences_to_matrix(mode='tfidf')`.

        Args:
            sequences: A list of lists of numbers.
        """
        self.document_count += len(sequences)
        for sequence in sequences:
            for number in set(sequence):
                self.index_docs[number] += 1

    def texts_to_sequences(self, texts: Iterable) -> list[list[int]]:
        """The numbers of each text's words.

        Args:
            texts: Texts, or lists of words.

        Returns:
            A list of lists of integers.

        Example:
            >>> from nbkeras.preprocessing.text import Tokenizer
            >>> tokenizer = Tokenizer(oov_token="?")
            >>> tokenizer.fit_on_texts(["one two two"])
            >>> tokenizer.texts_to_sequences(["two one three"])
            [[2, 3, 1]]
            >>> tokenizer.sequences_to_texts([[2, 3, 1]])
            ['two one ?']
        """
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable) -> Iterator[list[int]]:
        """`texts_to_sequences`, one text at a time.

        Args:
            texts: Texts, or lists of words.
        """
        for text in texts:
            yield self._translate(self._words(text), self.word_index, lambda word: self.word_index[word])

    def sequences_to_texts(self, sequences: Iterable) -> list[str]:
        """The words of each sequence's numbers, joined by spaces.

        Args:
            sequences: Lists of numbers.

        Returns:
            A list of strings.
        """
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable) -> Iterator[str]:
        """`sequences_to_texts`, one sequence at a time.

        Args:
            sequences: Lists of numbers.
        """
        for sequence in sequences:
            yield " ".join(self._translate(sequence, self.index_word, lambda number: number))

    def _translate(self, items: Iterable, table: dict, number_of: Callable) -> list:
        """Each item's entry in the table; an unknown or rare item gets the entry of oov_token, or is dropped."""
        unknown = self.word_index.get(self.oov_token) if self.oov_token is not None else None
        substitute = [] if unknown is None else [unknown if table is self.word_index else self.index_word[unknown]]
        found: list = []
        for item in items:
            known = item in table and not (self.num_words and number_of(item) >= self.num_words)
            found += [table[item]] if known else substitute
        return found

    def texts_to_matrix(self, texts: Iterable, mode: str = "binary") -> np.ndarray:
        """A row of numbers for each text.

        Args:
            texts: Texts, or lists of words.
            mode: The kind of numbers; see `sequences_to_matrix`.

        Returns:
            A float64 array (texts, num_words).
        """
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(self, sequences: list, mode: str = "binary") -> np.ndarray:
        """A row of numbers for each sequence, with a column for each word number.

        Args:
            sequences: A list of lists of word numbers.
            mode: 'binary': 1 if the word occurs; 'count': how often; 'freq': the fraction of the sequence;
                'tfidf': (1 + log count) log(1 + documents / (1 + documents with it)).

        Returns:
            A float64 array (sequences, num_words).

        Raises:
            ValueError: for an unknown mode, and if no texts have been counted.

        Example:
            >>> from nbkeras.preprocessing.text import Tokenizer
            >>> Tokenizer(num_words=4).sequences_to_matrix([[1, 1, 3]], mode="count")
            array([[0., 2., 0., 1.]])
        """
        if mode not in ("binary", "count", "freq", "tfidf"):
            raise ValueError(
                f"Unknown vectorization mode: {briefly(mode)}, expected 'binary', 'count', 'freq' or 'tfidf'"
            )
        if not self.num_words and not self.word_index:
            raise ValueError("the Tokenizer knows no words: give it num_words, or call fit_on_texts first")
        if mode == "tfidf" and not self.document_count:
            raise ValueError("mode='tfidf' needs counts of documents: call fit_on_texts or fit_on_sequences first")
        columns = self.num_words or len(self.word_index) + 1
        matrix = np.zeros((len(sequences), columns))
        for row, sequence in zip(matrix, sequences, strict=True):
            numbers = np.asarray([number for number in sequence if number < columns], int)
            np.add.at(row, numbers, 1.0)
            if mode == "freq" and len(sequence):
                row /= len(sequence)
            elif mode == "binary":
                np.minimum(row, 1.0, out=row)
            elif mode == "tfidf":
                for number in set(numbers.tolist()):
                    share = np.log(1 + self.document_count / (1 + self.index_docs.get(number, 0)))
                    row[number] = (1 + np.log(row[number])) * share
        return matrix

    def get_config(self) -> dict[str, Any]:
        """The arguments and the counts; the counts are JSON strings."""
        arguments = "num_words filters lower split char_level oov_token document_count".split()
        counts = "word_counts word_docs index_docs index_word word_index".split()
        return {name: getattr(self, name) for name in arguments} | {
            name: json.dumps(getattr(self, name)) for name in counts
        }

    def to_json(self, **kwargs) -> str:
        """The Tokenizer as JSON, for `tokenizer_from_json`.

        Args:
            **kwargs: Arguments of `json.dumps`.
        """
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """A Tokenizer from JSON.

    Args:
        json_string: A result of `Tokenizer.to_json`, of nbkeras or Keras.

    Raises:
        ValueError: for other strings.

    Example:
        >>> from nbkeras.preprocessing.text import Tokenizer, tokenizer_from_json
        >>> tokenizer = Tokenizer()
        >>> tokenizer.fit_on_texts(["one two two"])
        >>> tokenizer_from_json(tokenizer.to_json()).word_index
        {'two': 1, 'one': 2}
    """
    try:
        config = json.loads(json_string)["config"]
        counts = {name: json.loads(config.pop(name)) for name in ("word_counts", "word_docs", "word_index")}
        numbered = {name: json.loads(config.pop(name)) for name in ("index_docs", "index_word")}
        tokenizer = Tokenizer(**config)
        for name, table in counts.items():
            getattr(tokenizer, name).update(dict(table))
        for name, table in numbered.items():
            getattr(tokenizer, name).update({int(number): value for number, value in table.items()})
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"the string is not a result of Tokenizer.to_json: {type(error).__name__}: {error}") from error
    return tokenizer


_lazy_names.attach(globals())
