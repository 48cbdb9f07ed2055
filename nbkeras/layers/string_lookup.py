"""StringLookup: a layer with a vocabulary that maps strings to indices, or indices to strings."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from nbkeras.building.graph import is_symbolic
from nbkeras.building.host_graph import SymbolicStrings
from nbkeras.engine import option
from nbkeras.engine.annotations import one_of
from nbkeras.engine.strings import strings_of
from nbkeras.layers.lookup import Lookup, LookupOptions
from nbkeras.ops import hashing


class StringLookup(Lookup):
    """Maps strings to indices in a vocabulary, or back. In a model, its input is `Input(dtype="string")`.

    Args:
        mask_token (a str, or None): The string for index 0, which is not a term; None for none.
        oov_token (a str): The string that represents unknown ones in the vocabulary and with `invert`.
        encoding (a str): The encoding of bytes among the terms.
        vocabulary_dtype ('string'): Accepted for Keras scripts.
        oov_method: Accepted for Keras files: FarmHash64 distributes unknown strings over several indices.

    Call arguments:
        inputs: Strings of any shape: an array or a list of str; integers with `invert`.

    Output shape:
        The inputs' shape; for other modes see CategoryEncoding. With `invert` an array of str.

    Raises:
        TypeError: for inputs that are not strings.
        ValueError: for unknown strings if `num_oov_indices` is 0.

    Example:
        >>> layers.StringLookup(vocabulary=["a", "b"])(["b", "z", "a"]).numpy()  # z is unknown
        array([2, 0, 1])
        >>> layer = layers.StringLookup(output_mode="count")
        >>> layer.adapt(["b", "a", "b"])
        >>> layer.get_vocabulary()
        ['[UNK]', 'b', 'a']
        >>> layer([["a", "b", "b"]]).numpy()
        array([[0, 2, 1]])
    """

    input_dtype = property(  # type: ignore[assignment] # an attribute of layers
        lambda layer: "int64" if layer.invert else "string",
        doc="The dtype of the input if the layer is first in a Sequential.",
    )

    def __init__(
        self,
        max_tokens=None,
        num_oov_indices: Any = 1,
        mask_token=None,
        oov_token: Any = "[UNK]",
        vocabulary=None,
        encoding: option.Anything = "utf-8",
        vocabulary_dtype: Any = "string",
        **kwargs: Unpack[LookupOptions],
    ):
        one_of("StringLookup", "vocabulary_dtype", vocabulary_dtype, (None, "string"))
        option.keep(self, locals())  # before reading the vocabulary
        super().__init__(max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, **kwargs)

    def _term(self, value):
        return value.decode(self.encoding) if isinstance(value, bytes) else str(value)

    def __call__(self, *args, **kwargs):
        given = args[0] if args else kwargs.get("inputs")
        if is_symbolic(given):
            return super().__call__(*args, **kwargs)
        return self._strings_of(np.asarray(given)) if self.invert else self.call(given)

    def compute_output_spec(self, inputs):
        """Symbolic outputs: strings if `invert` is true.

        Args:
            inputs: Symbolic strings, or integers if `invert` is true.
        """
        if getattr(inputs, "is_text", False) == self.invert:
            raise TypeError(f"{self.name!r} takes {'integers' if self.invert else 'strings'}, received {inputs}")
        return SymbolicStrings(inputs.shape) if self.invert else super().compute_output_spec(inputs)

    def call(self, inputs):
        texts = strings_of(inputs, repr(self.name)).array
        numbers = self.numbers_of(texts.ravel().tolist())
        return self._encoded(np.array(numbers, np.int64).reshape(texts.shape))

    def numbers_of(self, terms: list[str]) -> list[int]:
        """The indices of terms.

        Args:
            terms: A list of str.

        Raises:
            ValueError: for unknown terms if `num_oov_indices` is 0.
        """
        known, mask = self._numbers, self.mask_token
        others = dict.fromkeys([term for term in terms if term not in known], self._first_unknown)
        if not others:
            return [known[term] for term in terms]
        unknown = [term for term in others if term != mask]
        self._check_known(unknown)
        if self.num_oov_indices > 1 and unknown:
            places = hashing.hash_texts(np.array(unknown, object), self.num_oov_indices, self.salt).numpy()
            others.update(zip(unknown, (places + self._first_unknown).tolist(), strict=True))
        if mask in others:
            others[mask] = self._mask_number
        return [known[term] if term in known else others[term] for term in terms]

    def _strings_of(self, numbers: np.ndarray) -> np.ndarray:
        terms = dict(enumerate(self.get_vocabulary()))
        found = [terms.get(number, self.oov_token) for number in numbers.ravel().tolist()]
        return np.array(found, np.str_).reshape(numbers.shape)
