"""TextVectorization: strings to indices of their words, or to indicators."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable
from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import as_tensor
from nbkeras.layers.categorical import TextInputs
from nbkeras.layers.lookup import StringLookup
from nbkeras.ops import hashing

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # as in TensorFlow: other letters stay
_NO_PUNCTUATION = str.maketrans("", "", "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'")
_SPACE = re.compile(r"[ \t\n\v\f\r]+")
_STANDARDS: dict[Any, Callable[[str], str]] = {
    None: lambda text: text,
    "lower": lambda text: text.translate(_LOWER),
    "strip_punctuation": lambda text: text.translate(_NO_PUNCTUATION),
    "lower_and_strip_punctuation": lambda text: text.translate(_LOWER).translate(_NO_PUNCTUATION),
}
_SPLITS: dict[Any, Callable[[str], list[str]]] = {
    "whitespace": lambda text: [word for word in _SPACE.split(text) if word],
    "character": list,
}


def _function_or_name(name: str, what: str, value: Any, known: tuple) -> Any:
    if not callable(value) and value not in known:
        raise ValueError(f"{name}'s {what} must be a function or one of {list(known)}, received {briefly(value)}")
    return value


def _ngrams(name: str, what: str, ngrams: Any) -> Any:
    lengths = ngrams if isinstance(ngrams, list | tuple) else [ngrams or 0]
    if not all(isinstance(length, int) for length in lengths):
        raise ValueError(f"{name}'s {what} must be an integer, several or None, received {briefly(ngrams)}")
    return ngrams


def _named(value: Any) -> Any:
    if callable(value):
        raise NotImplementedError("a TextVectorization with a custom function cannot be saved: pass a name, or None")
    return value


def _function_kind(*known: str | None) -> option.Kind:
    return option.kind(_function_or_name, "a function or a name", known)._replace(write=_named)


Standardize = Annotated[Any, _function_kind(*_STANDARDS)]
Split = Annotated[Any, _function_kind(None, *_SPLITS)]
Ngrams = Annotated[Any, option.kind(_ngrams, "an integer, several or None")]


class TextVectorization(TextInputs):
    """Maps strings to indices of their words, or to indicators: it standardizes, splits, joins ngrams and looks up.

    It cannot be part of a model, because strings are not tensors: call it on the data first.

    Args:
        max_tokens (an integer of 2 or more, or None): The maximum number of indices, including '' and '[UNK]'; None for no limit.
        standardize: 'lower_and_strip_punctuation' (ASCII only), 'lower', 'strip_punctuation', None, or a function of an array
            of str.
        split: 'whitespace', 'character', None for strings that are already split into rows, or a function of a list of strings
            that returns lists of words.
        ngrams: n for runs of 1 to n words, or several lengths; None for single words.
        output_mode ('int', 'one_hot', 'multi_hot', 'count' or 'tf_idf'): 'int' for indices, 0 after the last word and 1 for
            unknown words; the others as in StringLookup.
        output_sequence_length: The number of words in the output of 'int': longer strings are cut; None for
            the longest string's number.
        pad_to_max_tokens (bool): Whether indicators have size max_tokens, even if there are fewer terms.
        vocabulary (a list, an array, the path of a file, or None): The terms, with or without leading '' and '[UNK]';
            None to learn them with `adapt`.
        idf_weights (a list of numbers, or None): The weights of the terms for 'tf_idf'.
        sparse (False): Accepted for Keras scripts.
        ragged (False): Accepted for Keras scripts.
        encoding (str): The encoding of bytes among the terms.
        has_input_vocabulary (bool, or None): For configurations: whether the terms were given, and not learned.
        vocabulary_size (an integer, or None): Accepted for Keras files.

    Call arguments:
        inputs: Strings, an array or a list of str, (batch,) or (batch, 1).

    Output shape:
        (batch, words) of int64; for 'one_hot' (batch, words, terms), for the other modes (batch, terms).

    Raises:
        TypeError: for inputs that are not strings.
        ValueError: for `output_sequence_length` with a mode other than 'int'.

    Example:
        >>> layer = layers.TextVectorization()
        >>> layer.adapt(["the cat sat", "the dog"])
        >>> layer.get_vocabulary()
        ['', '[UNK]', 'the', 'sat', 'dog', 'cat']
        >>> layer(["The cat!", "a dog sat"]).numpy()
        array([[2, 5, 0],
               [1, 4, 3]])
    """

    standardize: Any
    split: Any

    def __init__(
        self,
        max_tokens=None,
        standardize: Standardize = "lower_and_strip_punctuation",
        split: Split = "whitespace",
        ngrams: Ngrams = None,
        output_mode="int",
        output_sequence_length: option.MaybeInteger = None,
        pad_to_max_tokens=False,
        vocabulary=None,
        idf_weights=None,
        sparse=False,
        ragged=False,
        encoding="utf-8",
        has_input_vocabulary=None,
        vocabulary_size=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**kwargs)
        if option.flag_of("TextVectorization", "ragged", ragged):
            raise ValueError("TextVectorization does not offer ragged=True: there are no ragged tensors")
        is_int = isinstance(output_mode, str) and output_mode == "int"
        if not is_int and output_sequence_length is not None:
            raise ValueError("TextVectorization's output_sequence_length is for output_mode 'int'")
        option.keep(self, locals())
        self._lengths = range(1, ngrams + 1) if isinstance(ngrams, int) else tuple(ngrams or ())
        self.lookup = StringLookup(
            max_tokens,
            mask_token="",
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            output_mode=output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            encoding=encoding,
            has_input_vocabulary=has_input_vocabulary,
            dtype=self.dtype,
        )

    def adapt(self, data, batch_size: int | None = None, steps: int | None = None) -> None:
        """Learn the vocabulary: the most frequent words first; equally frequent ones in descending order.

        The weights for 'tf_idf' are computed as in StringLookup, with strings as samples.

        Args:
            data: An array or a list of strings; or batches of these: a generator or a PyDataset.
            batch_size: Accepted and ignored.
            steps: The number of batches that are read; None for all.

        Raises:
            ValueError: if the layer was created with a vocabulary.

        Example:
            >>> layer = layers.TextVectorization()
            >>> layer.adapt(["One, two!", "two"])
            >>> layer.get_vocabulary()
            ['', '[UNK]', 'two', 'one']
        """
        if self.lookup._given:
            raise ValueError(f"{self.name!r} was created with a vocabulary and cannot adapt")
        whole = hashing.as_texts(data) is not None
        batches = [data] if whole else itertools.islice(data, steps)
        self.lookup._adapt_to(self._words(batch) for batch in batches)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The terms in the order of their indices, '' and '[UNK]' first.

        Args:
            include_special_tokens: Whether '' and '[UNK]' are in the list.
        """
        return self.lookup.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """The number of terms, including '' and '[UNK]'."""
        return self.lookup.vocabulary_size()

    def set_vocabulary(self, vocabulary, idf_weights=None) -> None:
        """Take these terms, in this order.

        Args:
            vocabulary: A list, an array, or the path of a text file with one term in each line.
            idf_weights: For output mode 'tf_idf': a number for each term.
        """
        self.lookup.set_vocabulary(vocabulary, idf_weights)

    def _words(self, inputs: Any) -> list[list[str]]:
        """The words of each string."""
        texts = hashing.as_texts(inputs)
        if texts is None:
            raise TypeError(f"{self.name!r} takes strings, an array or a list of str, received {briefly(inputs)}")
        if callable(self.standardize):
            texts = np.asarray(self.standardize(texts), np.str_)
        else:
            clean = _STANDARDS[self.standardize]
            texts = np.array([clean(text) for text in texts.ravel().tolist()], np.str_).reshape(texts.shape)
        if self.split is None:
            rows = texts.reshape(len(texts), -1).tolist()
        elif texts.ndim > 1 and texts.shape[1:] != (1,):
            raise ValueError(f"{self.name!r} splits strings of shape (batch,) or (batch, 1), received {texts.shape}")
        elif callable(self.split):
            rows = [list(words) for words in self.split(texts.ravel().tolist())]
        else:
            rows = [_SPLITS[self.split](text) for text in texts.ravel().tolist()]
        if not self._lengths:
            return rows
        return [[" ".join(row[i : i + n]) for n in self._lengths for i in range(len(row) - n + 1)] for row in rows]

    def call(self, inputs):
        rows = [self.lookup.numbers_of(row) for row in self._words(inputs)]
        length = max((len(row) for row in rows), default=0)
        fill = self.lookup._mask_number
        if self.output_sequence_length is not None:
            length = self.output_sequence_length
        numbers = np.full((len(rows), length), fill, np.int64)
        for row, words in zip(numbers, rows, strict=True):
            row[: len(words)] = words[:length]
        return self.lookup._encoded(as_tensor(numbers))

    def get_config(self):
        lookup = self.lookup.get_config()
        shared = ("max_tokens", "output_mode", "pad_to_max_tokens", "sparse", "vocabulary", "idf_weights", "encoding")
        return {
            **super().get_config(),
            **{name: lookup[name] for name in (*shared, "has_input_vocabulary")},
            "ragged": False,
        }
