"""Hashing and HashedCrossing: categories without a vocabulary, by the hash functions of TensorFlow that Keras uses.

Integers may be inputs of a model; texts, arrays of str, are only taken by a direct call of the layer.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np

from nbkeras import config, ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.tensor import as_tensor
from nbkeras.layers.categorical import MODES, NotSparse, OutputMode, Salt, TextInputs, encoded
from nbkeras.ops import hashing


class _Hashed(TextInputs):
    """Base of both layers: bins, output modes, and calls with texts."""

    input_dtype = "int64"
    modes: tuple[str, ...] = MODES
    output_mode: str

    def __init__(
        self,
        num_bins: option.Size,
        output_mode: OutputMode = "int",
        sparse: NotSparse = False,
        *,
        dtype=None,
        **kwargs,
    ):
        if dtype is None:
            dtype = "int64" if output_mode == "int" else config.floatx()
        super().__init__(dtype=dtype, **kwargs)
        option.keep(self, locals())
        if self.output_mode == "int" and not self.dtype.startswith("int"):
            raise ValueError(f"{type(self).__name__} with output_mode 'int' has an integer dtype, received {dtype!r}")


class Hashing(_Hashed):
    """Maps integers or texts to one of num_bins by FarmHash64, or by SipHash with a salt (an integer or two).

    mask_value: the value that goes to bin 0, which then holds nothing else. output_mode: 'int', or indicators like
    CategoryEncoding's 'one_hot', 'multi_hot', 'count'.
    """

    def __init__(
        self,
        num_bins,
        mask_value: option.Anything = None,
        salt: Salt = None,
        output_mode="int",
        sparse=False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(num_bins, output_mode, sparse, **kwargs)
        option.keep(self, locals())

    def call(self, inputs):
        bins = self.num_bins
        masked = self.mask_value is not None and bins > 1
        texts = hashing.as_texts(inputs)
        if texts is None:
            numbers = ops.cast(inputs, "int64")
            found = hashing.hash_integers(numbers, bins - masked, self.salt)
            mask = ops.equal(inputs, self.mask_value) if masked else None
        else:
            found = hashing.hash_texts(texts, bins - masked, self.salt)
            mask = as_tensor(texts == self.mask_value) if masked else None
        if mask is not None:
            found = ops.where(mask, 0, ops.add(found, 1))
        return encoded(found, self.output_mode, self.num_bins, self.dtype)


class HashedCrossing(_Hashed):
    """Maps a combination of two or more features to one of num_bins by its hash; output_mode: 'int' or 'one_hot'.

    Inputs: a list of integers or texts, of shapes (batch,) or (batch, 1).
    """

    modes = MODES[:2]

    def call(self, inputs):
        shapes = [np.shape(each) if hashing.as_texts(each) is not None else tuple(each.shape) for each in inputs]
        if len(shapes) < 2 or len(set(shapes)) > 1 or len(shapes[0]) > 2 or shapes[0][1:] not in ((), (1,)):
            raise ValueError(
                f"HashedCrossing {self.name!r} needs two or more inputs of one shape, (batch,) or (batch, 1); received {shapes}"
            )
        numbers = []
        for each in inputs:
            texts = hashing.as_texts(each)
            if texts is None and each.dtype.kind not in "iu":
                raise ValueError(f"HashedCrossing {self.name!r} takes integers or texts, received dtype {each.dtype}")
            numbers.append(each if texts is None else hashing.hash_texts(texts, 0))
        return encoded(hashing.cross_hashes(numbers, self.num_bins), self.output_mode, self.num_bins, self.dtype)
