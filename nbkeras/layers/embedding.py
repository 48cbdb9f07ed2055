"""Embedding maps integers to vectors; ReversibleEmbedding also maps vectors to scores of all integers."""

from typing import Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import BasicOptions, Layer
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor
from nbkeras.layers.weight_options import add_option_weight


class Embedding(Layer):
    """Looks up a vector of `output_dim` numbers for each integer 0 <= n < input_dim.

    Shapes: (batch, ...) of integers -> (batch, ..., output_dim). Floats are truncated to integers. `fit`, `evaluate`
    and `predict` refuse an index outside the table in a model's input; elsewhere it gives NaN (see ops.embedding).
    mask_zero: 0 is padding, which later layers skip. input_length: the length of the sequences where the layer is
    first in a Sequential. weights: the initial table.
    """

    input_dtype = "int32"
    input_dim: int
    output_dim: int
    mask_zero: bool

    def __init__(
        self,
        input_dim: option.Size,
        output_dim: option.Size,
        embeddings_initializer: option.Initializer = "uniform",
        embeddings_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        embeddings_constraint: option.Constraint = None,
        mask_zero: option.Flag = False,
        input_length=None,
        weights=None,
        **kwargs: Unpack[BasicOptions],
    ):
        if input_length is not None and not {"input_shape", "batch_input_shape"} & kwargs.keys():
            lengths = input_length if isinstance(input_length, list | tuple) else (input_length,)
            kwargs["input_shape"] = tuple(lengths)
        if isinstance(weights, np.ndarray | Tensor):
            weights = [weights]
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())
        self.input_length = input_length
        self.supports_masking = self.mask_zero
        if weights is not None:
            self.build()
            self.set_weights(weights)

    def build(self, input_shape: Any = None):
        self.embeddings = add_option_weight(self, (self.input_dim, self.output_dim), "embeddings")
        self.built = True

    def call(self, inputs):
        return ops.embedding(inputs, self.embeddings)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)


class TableOptions(BasicOptions, total=False):
    """The options of Embedding that ReversibleEmbedding takes as **kwargs."""

    embeddings_initializer: option.Initializer
    embeddings_regularizer: option.Regularizer
    embeddings_constraint: option.Constraint
    mask_zero: option.Flag
    activity_regularizer: option.Regularizer
    weights: Any
    input_length: Any


class ReversibleEmbedding(Embedding):
    """Embedding that, called with `reverse=True`, maps vectors (..., output_dim) to a score for each integer (..., input_dim).

    tie_weights: both directions use one table; False: each has its own. logit_soft_cap: c for c tanh(score / c).
    reverse_dtype: dtype of the scores. Press and Wolf, 2017.
    """

    def __init__(
        self,
        input_dim: option.Size,
        output_dim: option.Size,
        tie_weights: option.Flag = True,
        reverse_dtype: option.Anything = None,
        logit_soft_cap: option.Anything = None,
        **kwargs: Unpack[TableOptions],
    ):
        super().__init__(input_dim, output_dim, **kwargs)
        option.keep(self, locals())

    def build(self, input_shape=None):
        super().build(input_shape)
        self.reverse_embeddings = None
        if not self.tie_weights:
            shape = (self.output_dim, self.input_dim)
            self.reverse_embeddings = self.add_weight(shape, self.embeddings_initializer, name="reverse_embeddings")

    def call(self, inputs, reverse=False):
        if not reverse:
            return super().call(inputs)
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        if self.reverse_dtype is not None:
            inputs, kernel = (ops.cast(each, self.reverse_dtype) for each in (inputs, kernel))
        scores = ops.matmul(inputs, kernel)
        if self.logit_soft_cap is None:
            return scores
        return ops.multiply(ops.tanh(ops.divide(scores, self.logit_soft_cap)), self.logit_soft_cap)

    compute_output_shape = Layer.compute_output_shape  # a dry run: it depends on `reverse`

    def compute_mask(self, inputs, mask=None):
        """The mask of integers; vectors have none."""
        return None if inputs.dtype.kind == "f" else super().compute_mask(inputs, mask)
