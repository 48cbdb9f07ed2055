"""Embedding maps integers to vectors; ReversibleEmbedding also maps vectors to scores of all integers."""

from typing import Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import BasicOptions, InputSpec, Layer
from nbkeras.building.lora import Adaptable, AdaptedWeight
from nbkeras.engine import compatibility, option
from nbkeras.engine.tensor import Tensor


class Embedding(Adaptable, Layer):
    """Looks up a learned vector for each integer: row n of a table for n.

    `embeddings` has shape (input_dim, output_dim). Floats are truncated to integers, and negative integers
    count from the end. `fit`, `evaluate` and `predict` raise an error for an integer without a row in a
    model's input; elsewhere the vector is NaN (see `ops.embedding`).

    Args:
        input_dim: The number of rows: integers are 0 to input_dim - 1.
        output_dim: The number of columns: the size of a vector.
        mask_zero: Whether 0 is padding that later layers skip: the mask of the output is True
            where the integer is not 0.
        input_length (an integer, several, or None): The length of the sequences, if the layer is first in
            a Sequential.
        weights (an array, a list with one, or None): The initial table.

    Input shape:
        (batch, ...), of integers.

    Output shape:
        (batch, ..., output_dim).

    Example:
        >>> layer = layers.Embedding(3, 2, weights=[np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0]])])
        >>> layer(np.array([[1, 2, 1]])).numpy()
        array([[[ 1., 10.],
                [ 2., 20.],
                [ 1., 10.]]], dtype=float32)
    """

    input_dtype = "int32"
    is_quantized_by_keras = True
    quantized_channels = {"embeddings": (0,)}
    adapted = "embeddings"
    embeddings: Any = AdaptedWeight()
    input_spec = InputSpec()

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
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        **kwargs: Unpack[BasicOptions],
    ):
        known = input_length is not None or compatibility.current.embeddings_take_sequences
        if known and not {"input_shape", "batch_input_shape"} & kwargs.keys():
            lengths = input_length if isinstance(input_length, list | tuple) else (input_length,)
            kwargs["input_shape"] = tuple(lengths)
        super().__init__(lora_rank, lora_alpha, activity_regularizer=activity_regularizer, **kwargs)
        option.keep(self, locals())
        self._indexed_rows = self.input_dim
        self.input_length = input_length
        self.supports_masking = self.mask_zero
        self._start_from(weights)

    def _start_from(self, weights: Any) -> None:
        """Make the weights, and set them if given."""
        if weights is not None:
            self.build()
            self.set_weights([weights] if isinstance(weights, np.ndarray | Tensor) else weights)

    def build(self, input_shape: Any = None):
        self.embeddings = self._option_weight((self.input_dim, self.output_dim), "embeddings")
        self._adapt_as_made()

    def call(self, inputs):
        return self._computed(ops.embedding, inputs)

    def compute_mask(self, inputs, mask=None):
        """A bool tensor: True where the integer is not 0; None without mask_zero."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)


class _TableOptions(BasicOptions, total=False):
    """The options of Embedding that ReversibleEmbedding accepts as **kwargs."""

    embeddings_initializer: option.Initializer
    embeddings_regularizer: option.Regularizer
    embeddings_constraint: option.Constraint
    mask_zero: option.Flag
    activity_regularizer: option.Regularizer
    input_length: Any
    lora_rank: int | None
    lora_alpha: float | None


class ReversibleEmbedding(Embedding):
    """An Embedding that also maps vectors to scores, one for each integer.

    With reverse=True it returns vectors @ embeddings.T, as the last layer of a language model
    does. Press and Wolf, 2017.

    Args:
        tie_weights: Whether both directions use one table; False: the reverse has its own,
            `reverse_embeddings`.
        reverse_dtype (a dtype or None): The dtype of the scores; None for the layer's.
        logit_soft_cap: A limit c: scores become c * tanh(score / c). None for no limit.
        weights (an array, a list or None): The initial table, or the list of both tables.

    Call arguments:
        inputs: Integers, or vectors (..., output_dim) for the reverse.
        reverse: Whether to map vectors to scores.

    Output shape:
        (batch, ..., output_dim), or (..., input_dim) for the reverse.

    Example:
        >>> layer = layers.ReversibleEmbedding(3, 2, weights=[np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])])
        >>> vectors = layer(np.array([[1, 2]]))
        >>> layer(vectors, reverse=True).numpy()
        array([[[0., 1., 0.],
                [0., 0., 1.]]], dtype=float32)
    """

    quantized_channels = {"embeddings": (0,), "reverse_embeddings": (-1,)}

    def __init__(
        self,
        input_dim: option.Size,
        output_dim: option.Size,
        tie_weights: option.Flag = True,
        reverse_dtype: option.Anything = None,
        logit_soft_cap: option.MaybeNumber = None,
        weights=None,
        **kwargs: Unpack[_TableOptions],
    ):
        super().__init__(input_dim, output_dim, **kwargs)
        option.keep(self, locals())
        self._start_from(weights)

    def build(self, input_shape=None):
        super().build(input_shape)
        self.reverse_embeddings = None
        if not self.tie_weights:
            shape = (self.output_dim, self.input_dim)
            self.reverse_embeddings = self.add_weight(shape, self.embeddings_initializer, name="reverse_embeddings")

    def call(self, inputs, reverse=False):
        if not reverse:
            return super().call(inputs)
        scores = self._scores(inputs)
        if self.logit_soft_cap is None:
            return scores
        return ops.multiply(ops.tanh(ops.divide(scores, self.logit_soft_cap)), self.logit_soft_cap)

    def _scores(self, inputs):
        if self.tie_weights and self._is_apart():
            return self._adapted_scores(inputs)
        if self.quantization_mode is not None:
            return self._quantized_scores(inputs)
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        if self.reverse_dtype is not None:
            inputs, kernel = (ops.cast(each, self.reverse_dtype) for each in (inputs, kernel))
        return ops.matmul(inputs, kernel)

    def _adapted_scores(self, inputs):
        table, a, b, factor = self._parts()
        whole = table.transposed_product if table.is_quantized else lambda x: ops.matmul(x, ops.transpose(table))
        small = ops.multiply(ops.matmul(inputs, ops.transpose(b)), factor)
        scores = ops.add(whole(inputs), ops.matmul(small, ops.transpose(a)))
        return scores if self.reverse_dtype is None else ops.cast(scores, self.reverse_dtype)

    def _quantized_scores(self, inputs):
        if self.tie_weights:
            return self.embeddings.transposed_product(inputs)
        return ops.dense(inputs, self.reverse_embeddings)

    compute_output_shape = Layer.compute_output_shape  # a dry run, since it depends on `reverse`

    def compute_mask(self, inputs, mask=None):
        """The mask of integers, as in Embedding; vectors have none.

        Args:
            inputs: Integers or vectors.
            mask: Not used.
        """
        return None if inputs.dtype.kind == "f" else super().compute_mask(inputs, mask)
