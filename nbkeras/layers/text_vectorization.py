"""TextVectorization: strings to indices of their words, or to indicators."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import Strings, strings_of, texts_of
from nbkeras.engine.tensor import as_tensor
from nbkeras.layers import host_encoding
from nbkeras.layers.string_lookup import StringLookup
from nbkeras.layers.text_inputs import TextInputs

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


_Standardize = Annotated[Any, _function_kind(*_STANDARDS)]
_Split = Annotated[Any, _function_kind(None, *_SPLITS)]
_Ngrams = Annotated[Any, option.kind(_ngrams, "an integer, several or None")]


class TextVectorization(TextInputs):
    """Maps strings to indices of their words, or to indicators: it standardizes, splits, joins ngrams and looks up.

    In a model, its input is `Input(dtype="string")`.

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

    input_dtype = "string"

    def __init__(
        self,
        max_tokens=None,
        standardize: _Standardize = "lower_and_strip_punctuation",
        split: _Split = "whitespace",
        ngrams: _Ngrams = None,
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
        self._lookup_layer = StringLookup(
            max_tokens,
            mask_token="",
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            output_mode=output_mode,
            pad_to_max_tokens=pad_to_max_tokens,
            sparse=sparse,
            encoding=encoding,
            has_input_vocabulary=has_input_vocabulary,
            vocabulary_size=vocabulary_size,
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
        if self._lookup_layer._given:
            raise ValueError(f"{self.name!r} was created with a vocabulary and cannot adapt")
        whole = texts_of(data) is not None
        batches = [data] if whole else itertools.islice(data, steps)
        self._lookup_layer._adapt_to(self._words(batch) for batch in batches)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """The terms in the order of their indices, '' and '[UNK]' first.

        Args:
            include_special_tokens: Whether '' and '[UNK]' are in the list.
        """
        return self._lookup_layer.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        """The number of terms, including '' and '[UNK]'."""
        return self._lookup_layer.vocabulary_size()

    def set_vocabulary(self, vocabulary, idf_weights=None) -> None:
        """Take these terms, in this order.

        Args:
            vocabulary: A list, an array, or the path of a text file with one term in each line.
            idf_weights: For output mode 'tf_idf': a number for each term.
        """
        self._lookup_layer.set_vocabulary(vocabulary, idf_weights)

    def save_own_variables(self, store) -> None:
        """Save the weights of terms, as Keras does: for this layer and for its lookup.

        Args:
            store: A dict-like object that takes arrays by name.
        """
        self._lookup_layer.save_own_variables(store)

    def load_own_variables(self, store) -> None:
        """Load the weights of terms.

        Args:
            store: A dict-like object with arrays by name.
        """
        self._lookup_layer.load_own_variables(store)

    def _words(self, inputs: Any) -> Iterator[list[str]]:
        """The words of each string, one string at a time: all words of a batch would take much memory."""
        texts = strings_of(inputs, repr(self.name)).array
        self._check_split(texts.shape)
        if callable(self.standardize):
            cleaned = self.standardize(np.asarray(texts, np.str_))
            texts, clean = strings_of(cleaned, f"{self.name!r} after standardize").array, _STANDARDS[None]
        else:
            clean = _STANDARDS[self.standardize]
        rows: Iterable[list[str]]
        if self.split is None:
            rows = ([clean(text) for text in row] for row in texts.reshape(len(texts), -1).tolist())
        elif callable(self.split):
            parts = self.split([clean(text) for text in texts.ravel().tolist()])
            rows = (row.array.tolist() if isinstance(row, Strings) else list(row) for row in parts)
        else:
            split = _SPLITS[self.split]
            rows = (split(clean(text)) for text in texts.ravel().tolist())
        for row in rows:
            if self._lengths:
                row = [" ".join(row[i : i + n]) for n in self._lengths for i in range(len(row) - n + 1)]
            yield row

    @property
    def text_cost(self) -> int:  # type: ignore[override] # measured: 105 for characters, 370 for runs of 1 to 3 of them
        return 128 * max(1, len(self._lengths)) + 4 * sum(self._lengths)

    def _shape_of_numbers(self, shape):
        self._check_split(shape)
        return (shape[0], self.output_sequence_length)

    def _check_split(self, shape: tuple) -> None:
        if self.split is not None and shape[1:] not in ((), (1,)):
            raise ValueError(f"{self.name!r} splits strings of shape (batch,) or (batch, 1), received {shape}")

    @property
    def _symbolic_dtype(self) -> str | None:  # type: ignore[override]
        return self._lookup_layer._symbolic_dtype

    def _encoded(self, numbers):
        return self._lookup_layer._encoded(numbers)

    def call(self, inputs):
        lookup, mode = self._lookup_layer, self._lookup_layer.output_mode
        rows = [lookup.numbers_of(row) for row in self._words(inputs)]
        if mode not in ("int", "one_hot"):
            counts = host_encoding.indicators(rows, mode, lookup._depth, lookup._value_dtype)
            return lookup.weighted(counts) if mode == "tf_idf" else as_tensor(counts, lookup._value_dtype)
        length = self.output_sequence_length
        if length is None:
            length = max(map(len, rows), default=0)
        numbers = np.full((len(rows), length), lookup._mask_number, np.int64)
        for row, words in zip(numbers, rows, strict=True):
            row[: len(words)] = words[:length]
        return self._encoded(numbers)

    def get_config(self):
        lookup = self._lookup_layer.get_config()
        shared = ("max_tokens", "output_mode", "pad_to_max_tokens", "sparse", "vocabulary", "idf_weights", "encoding")
        return {
            **super().get_config(),
            **{name: lookup[name] for name in (*shared, "has_input_vocabulary")},
            "ragged": False,
        }
