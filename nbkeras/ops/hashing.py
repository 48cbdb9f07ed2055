"""Hashes of integers and strings into bins, as in TensorFlow and Keras. Arrays of str are hashed outside recorded programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.engine.tensor import Tensor, apply, as_integer, as_tensor, op
from nbkeras.kernels import hashing


def _integers(value: Any, what: str) -> Tensor:
    """The value as an int64 Tensor; a uint64 keeps its bits, so that large numbers stay different."""
    tensor = as_tensor(value)
    return as_tensor(tensor, np.int64) if tensor.dtype.kind == "u" else as_integer(tensor, what)


@op
def hash_integers(x, bins: int, key: Sequence[int] | None = None) -> Tensor:
    """The bin of each integer, int64: a hash of its decimal digits modulo `bins`.

    The hash is SipHash-2-4 with a key of two numbers, FarmHash64 without a key.
    """
    x = _integers(x, "hash_integers: x")
    return apply(hashing.hash_integers, None, [x], bins=int(bins), key=None if key is None else tuple(key))


def hash_texts(texts: np.ndarray, bins: int, key: Sequence[int] | None = None) -> Tensor:
    """The bin of each string in an array of str, hashed as UTF-8; see `hash_integers`."""
    raw = [text.encode() for text in texts.ravel().tolist()]
    ends = np.cumsum([len(text) for text in raw], dtype=np.int64)
    tensors = [as_tensor(np.frombuffer(b"".join(raw), np.uint8)), as_tensor(ends)]
    hashed = apply(hashing.hash_texts, None, tensors, bins=int(bins), key=None if key is None else tuple(key))
    return Tensor(hashed.data.reshape(texts.shape))


@op
def cross_hashes(numbers: list, bins: int) -> Tensor:
    """The bin of each combination of integers from several tensors of the same shape, int64: FingerprintCat64 modulo `bins`."""
    tensors = [_integers(x, "cross_hashes: numbers") for x in numbers]
    return apply(hashing.cross, None, tensors, bins=int(bins))
