"""Converting texts to numbers: Tokenizer and hashing."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from nbkeras.engine import lazy_names as _lazy_names

_FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def text_to_word_sequence(text: str, filters: str = _FILTERS, lower: bool = True, split: str = " ") -> list[str]:
    """The words of a text, between the separators `split`; the characters of `filters` count as separators."""
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
    """A number from 1 to n - 1 for each word, by Python's `hash`, which differs between processes."""
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
    """A number from 1 to n - 1 for each word by a hash function: 'md5', which is stable, or a function of a word."""
    number: Any = hash if hash_function is None else _md5 if hash_function == "md5" else hash_function
    words = text_to_word_sequence(text, filters, lower, split) if analyzer is None else analyzer(text)
    return [number(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


class Tokenizer:
    """Number the words of texts by frequency, 1 for the most frequent, and convert texts to lists of numbers or to rows.

    num_words: only numbers below it are used. filters, lower, split: as in `text_to_word_sequence`. char_level: each
    character is a word. oov_token: the word for unknown words, with number 1; without it they are left out. analyzer: a
    function that splits a text instead.
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
        self.word_counts: dict[str, int] = Counter()
        self.word_docs: dict[str, int] = Counter()
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
        """Count the words of texts (or of lists of words) and number all words counted so far."""
        for text in texts:
            self.document_count += 1
            words = self._words(text)
            for word in words:
                self.word_counts[word] = self.word_counts.get(word, 0) + 1
            for word in set(words):
                self.word_docs[word] = self.word_docs.get(word, 0) + 1
        first = [] if self.oov_token is None else [self.oov_token]
        ranked = [*first, *sorted(self.word_counts, key=self.word_counts.__getitem__, reverse=True)]
        self.word_index = {word: number for number, word in enumerate(ranked, 1)}
        self.index_word = {number: word for word, number in self.word_index.items()}
        self.index_docs.update({self.word_index[word]: count for word, count in self.word_docs.items()})

    def fit_on_sequences(self, sequences: list) -> None:
        """Count the sequences that contain each number, for `sequences_to_matrix(mode='tfidf')`."""
        self.document_count += len(sequences)
        for sequence in sequences:
            for number in set(sequence):
                self.index_docs[number] = self.index_docs.get(number, 0) + 1

    def texts_to_sequences(self, texts: Iterable) -> list[list[int]]:
        """The numbers of each text's words."""
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable) -> Iterator[list[int]]:
        """`texts_to_sequences`, one text at a time."""
        for text in texts:
            yield self._translate(self._words(text), self.word_index, lambda word: self.word_index[word])

    def sequences_to_texts(self, sequences: Iterable) -> list[str]:
        """The words of each sequence's numbers, joined by spaces."""
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable) -> Iterator[str]:
        """`sequences_to_texts`, one sequence at a time."""
        for sequence in sequences:
            yield " ".join(self._translate(sequence, self.index_word, lambda number: number))

    def _translate(self, items: Iterable, table: dict, number_of: Callable) -> list:
        """Each item's entry in the table; for an unknown or too rare item the entry of oov_token, if there is one."""
        unknown = self.word_index.get(self.oov_token) if self.oov_token is not None else None
        substitute = [] if unknown is None else [unknown if table is self.word_index else self.index_word[unknown]]
        found: list = []
        for item in items:
            known = item in table and not (self.num_words and number_of(item) >= self.num_words)
            found += [table[item]] if known else substitute
        return found

    def texts_to_matrix(self, texts: Iterable, mode: str = "binary") -> np.ndarray:
        """A row for each text; see `sequences_to_matrix`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(self, sequences: list, mode: str = "binary") -> np.ndarray:
        """A float64 matrix (sequences, num_words) with a column for each number.

        mode: 1 if the number occurs ('binary'), its 'count', its relative frequency ('freq'), or
        (1 + log count) log(1 + documents / (1 + documents with it)) ('tfidf'). ValueError for other modes, and if no texts have
        been counted.
        """
        if mode not in ("binary", "count", "freq", "tfidf"):
            raise ValueError(f"Unknown vectorization mode: {mode!r}, expected 'binary', 'count', 'freq' or 'tfidf'")
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
        """The arguments and the counts; the counts are JSON texts."""
        arguments = "num_words filters lower split char_level oov_token document_count".split()
        counts = "word_counts word_docs index_docs index_word word_index".split()
        return {name: getattr(self, name) for name in arguments} | {
            name: json.dumps(getattr(self, name)) for name in counts
        }

    def to_json(self, **kwargs) -> str:
        """The Tokenizer as JSON, for `tokenizer_from_json`; kwargs are passed to `json.dumps`."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """The Tokenizer from a text of `to_json`, of nbkeras or Keras; ValueError for other texts."""
    try:
        config = json.loads(json_string)["config"]
        counts = {name: json.loads(config.pop(name)) for name in ("word_counts", "word_docs", "word_index")}
        numbered = {name: json.loads(config.pop(name)) for name in ("index_docs", "index_word")}
        tokenizer = Tokenizer(**config)
        for name, table in counts.items():
            setattr(tokenizer, name, dict(table))
        for name, table in numbered.items():
            setattr(tokenizer, name, {int(number): value for number, value in table.items()})
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"the text is not a Tokenizer of to_json: {type(error).__name__}: {error}") from error
    return tokenizer


_lazy_names.attach(globals())
