"""Lookup, the base of layers with a vocabulary, which map terms to indices, or indices to terms; and IntegerLookup."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import config, ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import compatibility, load_budget, option, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.tensor import Tensor, as_index, as_tensor
from nbkeras.layers.categorical import MODES, NotSparse, OutputMode, Salt, encoded
from nbkeras.layers.text_inputs import TextInputs
from nbkeras.ops import hashing


def _lines_of(name: str, path: str) -> list[str]:
    """The terms of a vocabulary in a text file."""
    try:
        with open(path, encoding="utf-8", opener=ordinary_file) as file:
            return file.read().splitlines()
    except (OSError, ValueError) as error:  # ValueError: the file is not UTF-8, or the value is not a path
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{name}: no vocabulary can be read from the file {briefly(path)}: {reason}") from error


def _count(name: str, what: str, count: Any) -> int:
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"{name}'s {what} must be an integer of at least 0, received {briefly(count)}")
    return count


def _table_size(name: str, what: str, size: Any) -> int | None:
    if size is not None and not (isinstance(size, int | np.integer) and size > 1):
        raise ValueError(f"{name}'s {what} must be None or an integer of at least 2, received {briefly(size)}")
    return None if size is None else int(size)


TableSize = Annotated[Any, option.kind(_table_size, "an integer of 2 or more, or None")]
Count = Annotated[int, option.kind(_count, "an integer, not negative")]
OovMethod = Annotated[str, option.choice("floormod", "farmhash")]


class Lookup(TextInputs, registered=False):
    """Base of both lookups. Order of indices: the mask token (if any), unknown terms, the terms in order.

    Args:
        max_tokens: The maximum number of indices, including special tokens; None for no limit.
        num_oov_indices: The number of indices for unknown terms. With 0, unknown strings raise, unknown integers get -1.
        vocabulary (a list, an array, the path of a file, or None): The terms in order; a text file has one in each line. None
            to learn them with `adapt`.
        idf_weights (a list of numbers, or None): The weights of the terms for 'tf_idf'.
        invert: Whether to map indices to terms.
        output_mode ('int', 'one_hot', 'multi_hot', 'count' or 'tf_idf'): 'int' for indices; 'tf_idf' for counts times
            idf_weights; the others give indicators, as in CategoryEncoding. Indicators ignore masked terms. As in Keras, all
            are int64 and 'tf_idf' has the dtype `config.floatx()`; `dtype` has no effect.
        pad_to_max_tokens: Whether indicators have size max_tokens, even if there are fewer terms.
        sparse: Accepted for Keras scripts.
        salt: One or two integers, the key of SipHash, which distributes unknown terms over several indices.
        oov_method: How unknown integers are distributed over several indices: 'floormod', the remainder, or 'farmhash', a hash.
        has_input_vocabulary (bool, or None): For configurations: whether the terms were given rather than learned.
        vocabulary_size (an integer, or None): For configurations: the number of indices until a file provides the terms.
    """

    modes = (*MODES, "tf_idf")
    compute_dtype = property(lambda layer: "int64", doc="The dtype of indices.")  # so that no policy rounds the weights

    def __init__(
        self,
        max_tokens: TableSize = None,
        num_oov_indices: Count = 1,
        mask_token: option.Anything = None,
        oov_token: option.Anything = None,
        vocabulary=None,
        idf_weights=None,
        invert: option.Flag = False,
        output_mode: OutputMode = "int",
        pad_to_max_tokens: option.Flag = False,
        sparse: NotSparse = False,
        salt: Salt = None,
        oov_method: OovMethod = "floormod",
        has_input_vocabulary=None,
        vocabulary_size=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        option.keep(self, locals())
        what = type(self).__name__
        if pad_to_max_tokens and max_tokens is None:
            raise ValueError(f"{what} with pad_to_max_tokens=True needs max_tokens")
        if invert and self.output_mode != "int":
            raise ValueError(f"{what} with invert=True needs output_mode 'int', received {briefly(output_mode)}")
        places = num_oov_indices + (max_tokens if pad_to_max_tokens else 0)
        load_budget.take(16 * places, f"{what} with a table of {briefly(places)} entries besides its terms")
        self._given = (
            vocabulary is not None
            if has_input_vocabulary is None
            else option.flag_of(what, "has_input_vocabulary", has_input_vocabulary)
        )
        self._terms: list = []
        self._numbers: dict = {}
        self._idf: np.ndarray | None = None
        self._expected = vocabulary_size  # the size in a file; the vocabulary follows later
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)

    # -------------------- the vocabulary --------------------

    @property
    def _first_unknown(self) -> int:
        return int(self.mask_token is not None and self.output_mode == "int")

    @property
    def _first_term(self) -> int:
        return self._first_unknown + self.num_oov_indices

    def vocabulary_size(self) -> int:
        """The number of indices: the terms, and the tokens for masked and unknown terms.

        Example:
            >>> layers.StringLookup(vocabulary=["a", "b"]).vocabulary_size()
            3
        """
        return self._first_term + len(self._terms)

    def get_vocabulary(self, include_special_tokens: bool = True) -> list:
        """The terms in the order of their indices; the tokens for masked and unknown terms come first.

        Args:
            include_special_tokens: Whether these tokens are in the list.

        Example:
            >>> layers.StringLookup(vocabulary=["a", "b"], mask_token="").get_vocabulary()
            ['', '[UNK]', 'a', 'b']
        """
        special = [self.mask_token] * self._first_unknown + [self.oov_token] * self.num_oov_indices
        return [*(special if include_special_tokens else []), *self._terms]

    def set_vocabulary(self, vocabulary, idf_weights=None) -> None:
        """Set the terms, in this order.

        Args:
            vocabulary: A list, an array, or the path of a text file with one term in each line. Special tokens may come
                first.
            idf_weights: For output mode 'tf_idf': a number for each term.

        Raises:
            ValueError: for repeated terms, no terms, or more than `max_tokens`; for weights that do not fit.

        Example:
            >>> layer = layers.StringLookup()
            >>> layer.set_vocabulary(["a", "b"])
            >>> layer(["b", "a"]).numpy()
            array([2, 1])
        """
        if (idf_weights is not None) != (self.output_mode == "tf_idf"):
            raise ValueError(
                f"{type(self).__name__} takes idf_weights if and only if output_mode is 'tf_idf'; received output_mode "
                f"{briefly(self.output_mode)} and idf_weights {briefly(idf_weights)}"
            )
        if isinstance(vocabulary, str):
            vocabulary = _lines_of(type(self).__name__, vocabulary)
        try:
            listed = np.asarray(vocabulary).ravel().tolist()
        except ValueError:  # lists of different lengths
            raise ValueError(
                f"{type(self).__name__}: vocabulary must be a list of terms, received {briefly(vocabulary)}"
            ) from None
        terms = [self._term(term) for term in listed]
        special = self.get_vocabulary()[: self._first_term]
        found = terms[: len(special)] == special
        terms = terms[len(special) :] if found else terms
        repeated = [term for term, count in collections.Counter(terms).items() if count > 1]
        if repeated or (self.mask_token in terms) or (self.invert and self.oov_token in terms):
            raise ValueError(
                f"a vocabulary of {self.name!r} must have each term once, with mask and oov tokens at the start, as {special}; "
                f"received {repeated or 'one of these'} again"
            )
        if not terms:
            raise ValueError(f"the vocabulary of {self.name!r} has no terms; received {briefly(vocabulary)}")
        if self.max_tokens is not None and len(terms) + self._first_term > self.max_tokens:
            raise ValueError(
                f"the vocabulary of {self.name!r} has {len(terms)} terms and {self._first_term} special indices, more than "
                f"max_tokens={self.max_tokens}"
            )
        weights = None if idf_weights is None else np.asarray(idf_weights, np.float64)
        if weights is not None:
            count = len(terms) + len(special) * found
            if weights.shape != (count,):
                raise ValueError(
                    f"idf_weights must have one number for each of the {count} terms, received shape {weights.shape}"
                )
            front = [] if found else [weights.mean()] * len(special)
            weights = np.concatenate([front, weights])
        self._learn(terms, weights)

    def _term(self, value: Any) -> Any:
        raise NotImplementedError

    def _learn(self, terms: list, idf: np.ndarray | None) -> None:
        self._terms, self._numbers = terms, {term: self._first_term + i for i, term in enumerate(terms)}
        if idf is not None and self.pad_to_max_tokens:
            idf = np.pad(idf, (0, self.max_tokens - len(idf)))
        self._idf = idf

    def read_vocabulary(self, lines: list[str]) -> None:
        """Set the terms of a Keras file, which include special tokens, unless the layer was created with a vocabulary.

        Args:
            lines: The terms, one for each index.
        """
        if not self._given:
            terms = [self._term(line) for line in lines]
            while terms and terms[-1] == "":
                terms.pop()
            self._learn(terms[self._first_term :], self._idf)

    def save_own_variables(self, store) -> None:
        """Save the weights of terms, as Keras does.

        Args:
            store: A dict-like object that takes arrays by name.
        """
        if self._idf is not None:
            store["idf_weights"] = ops.convert_to_tensor(self._idf, self._value_dtype).numpy()

    def load_own_variables(self, store) -> None:
        """Load the weights of terms.

        Args:
            store: A dict-like object with arrays by name.
        """
        if "idf_weights" in store:
            self._idf = np.asarray(store["idf_weights"], np.float64)

    def adapt(self, data, steps: int | None = None) -> None:
        """Learn the vocabulary: the most frequent terms first; equally frequent ones in descending order.

        For 'tf_idf' the weight of a term is log(1 + n / (1 + d)), as in Keras, if d of n samples have the term. Unknown terms get
        the mean weight.

        Args:
            data: An array or a list of terms, (samples,) or (samples, n); or batches of these: a generator or a PyDataset.
            steps: The number of batches to read; None for all.

        Raises:
            ValueError: if the layer was created with a vocabulary.

        Example:
            >>> layer = layers.StringLookup()
            >>> layer.adapt(["b", "a", "b"])
            >>> layer.get_vocabulary()
            ['[UNK]', 'b', 'a']
        """
        if self._given:
            raise ValueError(f"{self.name!r} was created with a vocabulary and cannot adapt")
        self._adapt_to(_batches(data, steps))

    def _adapt_to(self, batches: Iterable[Iterable[list]]) -> None:
        """Learn from batches of documents, each a list of terms."""
        counts: collections.Counter = collections.Counter()
        documents: collections.Counter = collections.Counter()
        total = 0
        for batch in batches:
            for document in batch:
                terms = [self._term(term) for term in document]
                counts.update(terms)
                documents.update(set(terms))
                total += 1
        for special in (self.mask_token, self.oov_token):
            counts.pop(special, None)
        terms = sorted(counts, key=lambda term: (counts[term], term), reverse=True)
        if self.max_tokens is not None:
            terms = terms[: self.max_tokens - self._first_term]
        idf = None
        if self.output_mode == "tf_idf":
            weights = np.log(1 + total / (1 + np.array([documents[term] for term in terms], np.float64)))
            idf = np.concatenate([[weights.mean()] * self._first_term, weights])
        self._learn(terms, idf)

    # -------------------- calling --------------------

    @property
    def _depth(self) -> int:
        if self.pad_to_max_tokens:
            return self.max_tokens
        return self.vocabulary_size() if self._terms or self._expected is None else self._expected

    @property
    def _mask_number(self) -> int:
        return 0 if self.output_mode == "int" else -1

    @property
    def _value_dtype(self) -> str:
        if self.output_mode != "int" and compatibility.current.lookups_have_own_dtype:
            return self.dtype
        return config.floatx() if self.output_mode == "tf_idf" else "int64"

    @property
    def _symbolic_dtype(self) -> str | None:  # type: ignore[override]
        """As in Keras, symbolic indicators are floats, although their values are integers."""
        return config.floatx() if self._value_dtype == "int64" and self.output_mode != "int" else None

    def _check_known(self, unknown: list) -> None:
        if unknown and self.num_oov_indices == 0:
            raise ValueError(
                f"{self.name!r} was given {unknown[:5]}, which are not in its vocabulary: create it with num_oov_indices=1, or "
                "add them to its vocabulary"
            )

    def _encoded(self, numbers):
        if self.output_mode != "tf_idf":
            return encoded(numbers, self.output_mode, self._depth, self._value_dtype)
        return self.weighted(encoded(numbers, "count", self._depth, self._value_dtype))

    def weighted(self, counts):
        """The counts times the weights of the terms.

        Args:
            counts: The number of occurrences of each term, (batch, terms).
        """
        if self._idf is None and tensor.is_shapes_only():
            return counts
        if self._idf is None:
            raise ValueError(f"{self.name!r} has no idf_weights yet: call adapt(data), or set_vocabulary with them")
        return ops.multiply(counts, ops.convert_to_tensor(self._idf, self._value_dtype))

    def get_config(self):
        special = self._first_term
        idf = None if self._idf is None else self._idf[special : special + len(self._terms)].tolist()
        return {
            **super().get_config(),
            "vocabulary": list(self._terms) or None,
            "idf_weights": idf,
            "has_input_vocabulary": self._given,
            "vocabulary_size": self.vocabulary_size(),
        }


def _batches(data: Any, steps: int | None) -> Iterator[list[list]]:
    """The data of `adapt` as batches of documents. Each element of a vector is a document; a vector in a stream is one."""
    if isinstance(data, list | tuple | np.ndarray | Tensor):
        array = np.asarray(data)
        yield array.reshape(len(array), -1).tolist()
        return
    for batch in itertools.islice(data, steps):
        array = np.asarray(batch)
        yield array.reshape(1 if array.ndim < 2 else len(array), -1).tolist()


def _of_int64(name: str, what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not _INT64.min <= value <= _INT64.max:
        raise ValueError(f"{name}: {what} must be an integer that int64 holds, received {briefly(value)}")
    return int(value)


_INT64 = np.iinfo(np.int64)
IntegerType = Annotated[str, option.choice("int64")]
IntegerTerm = Annotated[int, option.kind(_of_int64, "an integer")]
MaybeTerm = Annotated[Any, option.optional(IntegerTerm)]


class LookupOptions(LayerOptions, total=False):
    """The options of Lookup that both lookups accept as **kwargs."""

    idf_weights: Any
    invert: option.Flag
    output_mode: str
    pad_to_max_tokens: option.Flag
    sparse: bool
    salt: Any
    oov_method: str
    has_input_vocabulary: bool
    vocabulary_size: int | None


class IntegerLookup(Lookup):
    """Maps integers to their indices in a vocabulary of integers, or back.

    Args:
        mask_token: The integer for index 0, which is not a term; None for none.
        oov_token: The integer that represents unknown ones in the vocabulary and with `invert`.
        vocabulary_dtype ('int64'): The dtype of the vocabulary.

    Call arguments:
        inputs: Integers of any shape.

    Output shape:
        The inputs' shape; for other modes see CategoryEncoding.

    Example:
        >>> layer = layers.IntegerLookup(vocabulary=[10, 20])
        >>> layer(np.array([20, 7, 10])).numpy()  # 7 is unknown
        array([2, 0, 1])
        >>> layers.IntegerLookup(vocabulary=[10, 20], invert=True)(np.array([2, 0, 1])).numpy()
        array([20, -1, 10])
    """

    _takes_strings = False
    input_dtype = "int64"

    def __init__(
        self,
        max_tokens=None,
        num_oov_indices: Any = 1,
        mask_token: MaybeTerm = None,
        oov_token: IntegerTerm = -1,
        vocabulary=None,
        vocabulary_dtype: IntegerType = "int64",
        **kwargs: Unpack[LookupOptions],
    ):
        option.keep(self, locals())  # before reading the vocabulary
        super().__init__(max_tokens, num_oov_indices, self.mask_token, self.oov_token, vocabulary, **kwargs)

    def _term(self, value):
        try:
            term = int(value)
        except (TypeError, ValueError, OverflowError):
            term = None
        if term is None or not _INT64.min <= term <= _INT64.max or (not isinstance(value, str) and term != value):
            raise ValueError(f"IntegerLookup {self.name!r} needs integers as terms, received {briefly(value)}")
        return term

    def call(self, inputs):
        inputs = as_index(inputs)
        if self.invert:
            terms = np.array([*self.get_vocabulary(), self.oov_token], np.int64)
            inside = ops.logical_and(ops.greater_equal(inputs, 0), ops.less(inputs, len(terms) - 1))
            return ops.take(as_tensor(terms), ops.where(inside, inputs, len(terms) - 1))
        unknown = as_tensor(np.array(self._first_unknown if self.num_oov_indices else -1, np.int64))
        if self.num_oov_indices > 1:
            if self.oov_method == "farmhash":
                unknown = hashing.hash_integers(inputs, self.num_oov_indices, self.salt)
            else:
                unknown = ops.mod(inputs, self.num_oov_indices)
            unknown = ops.add(unknown, self._first_unknown)
        numbers = unknown
        if self._terms:
            order = np.argsort(self._terms)
            place = ops.minimum(ops.searchsorted(np.array(self._terms, np.int64)[order], inputs), len(order) - 1)
            known = ops.equal(ops.take(as_tensor(np.array(self._terms, np.int64)[order]), place), inputs)
            numbers = ops.where(known, ops.take(as_tensor(order + self._first_term), place), unknown)
        if self.mask_token is not None:
            numbers = ops.where(ops.equal(inputs, self.mask_token), self._mask_number, numbers)
        return self._encoded(ops.add(numbers, ops.zeros_like(inputs)))
