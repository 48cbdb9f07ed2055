"""Hashing and HashedCrossing: categories without a vocabulary, by TensorFlow's hash functions, which Keras uses."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from nbkeras import config, ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import texts_of
from nbkeras.engine.tensor import as_tensor
from nbkeras.layers.categorical import MODES, NotSparse, OutputMode, Salt, encoded
from nbkeras.layers.text_inputs import TextInputs
from nbkeras.ops import hashing


class _Hashed(TextInputs):
    """Base of both layers: bins, output modes, and calls with strings.

    Args:
        num_bins: The number of bins.
        sparse: Accepted for Keras scripts.
        dtype (str, or None): The dtype of the output: by default int64 for 'int', else `config.floatx()`.
    """

    input_dtype = "int64"
    modes: tuple[str, ...] = MODES

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
            dtype = "int64" if isinstance(output_mode, str) and output_mode == "int" else config.floatx()
        super().__init__(dtype=dtype, **kwargs)
        option.keep(self, locals())

    def _encoded(self, numbers):
        return encoded(numbers, self.output_mode, self.num_bins, self.compute_dtype)


class Hashing(_Hashed):
    """Maps integers or strings to one of `num_bins` numbers by a hash: categories without a vocabulary.

    The hash is FarmHash64, or SipHash with a salt, as in Keras.

    Args:
        mask_value (an integer, a str, or None): The only value in bin 0.
        salt: One or two integers that change the hash.
        output_mode ('int', 'one_hot', 'multi_hot' or 'count'): 'int' for the bins; the others give indicators of the bins, as
            in CategoryEncoding.

    Call arguments:
        inputs: Integers or strings of any shape.

    Output shape:
        The inputs' shape; for other modes see CategoryEncoding.

    Example:
        >>> layers.Hashing(num_bins=3)(np.array(["a", "b", "c"])).numpy()
        array([0, 1, 1])
        >>> layers.Hashing(num_bins=3, mask_value="")(np.array(["a", "", "c"])).numpy()
        array([2, 0, 1])
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
        super().__init__(**option.keep(self, locals()))
        if self.output_mode == "int" and not self.dtype.startswith("int"):
            raise ValueError(f"Hashing with output_mode 'int' has an integer dtype, received {briefly(self.dtype)}")

    def call(self, inputs):
        bins = self.num_bins
        masked = self.mask_value is not None and bins > 1
        texts = texts_of(inputs)
        if texts is None:
            numbers = ops.cast(inputs, "int64")
            found = hashing.hash_integers(numbers, bins - masked, self.salt)
            mask = ops.equal(inputs, self.mask_value) if masked else None
        else:
            found = hashing.hash_texts(texts, bins - masked, self.salt)
            mask = as_tensor(texts == self.mask_value) if masked else None
        if mask is not None:
            found = ops.where(mask, 0, ops.add(found, 1))
        return self._encoded(found if texts is None else np.asarray(found))


class HashedCrossing(_Hashed):
    """Maps each combination of two or more features to one of `num_bins` numbers by its hash.

    Args:
        output_mode ('int' or 'one_hot'): 'int' for the bin; 'one_hot' for its indicator.

    Call arguments:
        inputs: A list of features, integers or strings, each (batch,) or (batch, 1).

    Output shape:
        A feature's shape; for 'one_hot' (batch, num_bins).

    Raises:
        ValueError: for a single input, wrong or unequal shapes, and floats.

    Example:
        >>> layers.HashedCrossing(num_bins=5)([np.array(["red", "blue"]), np.array([1, 2])]).numpy()
        array([4, 0])
    """

    modes = MODES[:2]

    def call(self, inputs):
        shapes = [_shape_of(each) for each in (() if inputs is None else inputs)]
        if len(shapes) < 2 or len(set(shapes)) > 1 or shapes[0] is None or shapes[0][1:] not in ((), (1,)):
            raise ValueError(
                f"HashedCrossing {self.name!r} needs two or more inputs of one shape, (batch,) or (batch, 1); received {shapes}"
            )
        numbers = []
        for each in inputs:
            texts = texts_of(each)
            if texts is None and each.dtype.kind not in "iu":
                raise ValueError(f"HashedCrossing {self.name!r} takes integers or strings, received dtype {each.dtype}")
            numbers.append(each if texts is None else hashing.hash_texts(texts, 0))
        return self._encoded(hashing.cross_hashes(numbers, self.num_bins))


def _shape_of(feature: Any) -> tuple | None:
    """The shape of a tensor, an array or strings; None for anything else."""
    shape = getattr(feature, "shape", None) if texts_of(feature) is None else np.shape(feature)
    return shape if isinstance(shape, tuple) else None
