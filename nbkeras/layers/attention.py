"""Attention without heads: Attention (Luong et al., 2015) and AdditiveAttention (Bahdanau et al., 2015)."""

from __future__ import annotations

import math
from typing import Annotated, Any, Unpack

from nbkeras import ops, random
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.engine import option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.ops import attention

_ScoreMode = Annotated[str, option.choice("dot", "concat")]


class Attention(option.Declared, Layer):
    """Dot-product attention (Luong et al., 2015): a mean of the values, weighted by the similarity of key and query.

        scores = query @ key^T
        output = softmax(scores) @ value

    A mask of the value excludes keys; a mask of the query sets outputs to 0.

    Args:
        use_scale: Whether scores are multiplied by a learned number.
        score_mode: 'dot', or 'concat' for scores w * sum(tanh(query + key)) with a learned number w.
        dropout: The fraction of the weights that is set to 0 in training.

    Call arguments:
        inputs: A list [query, value] or [query, value, key]; the key is the value by default.
        mask: A list of the bool masks of query (..., t) and value (..., s); each may be None.
        training: Whether dropout is active.
        return_attention_scores: Whether the weights are returned too.
        use_causal_mask: Whether a query attends only to keys at its own step and earlier.

    Input shape:
        Query (..., t, n), value (..., s, m), key (..., s, n).

    Output shape:
        (..., t, m); with `return_attention_scores` a tuple of the output and the weights (..., t, s).

    Raises:
        ValueError: unless the inputs are a list of two or three.

    Example:
        >>> query, value = np.ones((1, 2, 3)), np.ones((1, 4, 3))
        >>> output, weights = layers.Attention()([query, value], return_attention_scores=True)
        >>> output.shape
        (1, 2, 3)
        >>> weights.numpy()
        array([[[0.25, 0.25, 0.25, 0.25],
                [0.25, 0.25, 0.25, 0.25]]], dtype=float32)
    """

    supports_masking = True

    def __init__(
        self,
        use_scale: option.Flag = False,
        score_mode: _ScoreMode = "dot",
        dropout: option.Rate = 0.0,
        seed: option.Anything = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.scale = self.concat_score_weight = None
        if self.dropout > 0:
            self.seed_generator = self.add_seed_generator(seed)

    def build(self, input_shape):
        self._check(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def _check(self, shapes) -> None:
        several = isinstance(shapes, list | tuple) and all(map(structures.is_shape, shapes))
        if not several or len(shapes) not in (2, 3) or any(len(each) < 2 for each in shapes):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs a list [query, value] or [query, value, key] of shapes (batch, "
                f"steps, features), received {shapes}"
            )

    def _scores(self, query, key):
        """(batch, t, n) and (batch, s, n) -> (batch, t, s)."""
        if self.score_mode == "dot":
            scaled = query if self.scale is None else ops.multiply(query, self.scale)
            return ops.matmul(scaled, ops.swapaxes(key, 1, 2))
        total = ops.add(ops.expand_dims(query, 2), ops.expand_dims(key, 1))
        scaled = total if self.scale is None else ops.multiply(total, self.scale)
        return ops.multiply(ops.sum(ops.tanh(scaled), axis=-1), self.concat_score_weight)

    def call(self, inputs, mask=None, training=None, return_attention_scores=False, use_causal_mask=False):
        self._check(structures.shapes(inputs))
        lead = inputs[0].shape[:-2]  # attention treats each of these independently
        query, value, key = (_rows(each, 2) for each in (*inputs, inputs[1])[:3])
        if mask is not None and not (isinstance(mask, list | tuple) and len(mask) in (2, 3)):
            raise ValueError(f"{self.name!r}: mask must be a list [query mask, value mask], received {briefly(mask)}")
        query_mask, value_mask = (None if each is None else _rows(each, 1) for each in (mask or (None, None))[:2])
        scores = ops.expand_dims(self._scores(query, key), 1)
        allowed = None if value_mask is None else ops.expand_dims(value_mask, (1, 2))
        weights = ops.squeeze(attention.masked_softmax(scores, allowed, is_causal=use_causal_mask, spread=True), 1)
        if training and self.dropout > 0:
            weights = random.dropout(weights, self.dropout, seed=self.seed_generator)
        outputs = ops.matmul(weights, value)
        if query_mask is not None:
            outputs = ops.where(ops.expand_dims(query_mask, -1), outputs, 0.0)
        outputs, weights = (ops.reshape(each, (*lead, *each.shape[1:])) for each in (outputs, weights))
        return (outputs, weights) if return_attention_scores else outputs

    def compute_mask(self, inputs, mask=None):
        """The mask of the query.

        Args:
            inputs: The list of inputs.
            mask: The list of their masks, or None.
        """
        return None if mask is None else mask[0]


def _rows(tensor, last: int):
    """The tensor with all axes before the last `last` axes merged into one."""
    return ops.reshape(tensor, (math.prod(tensor.shape[:-last]), *tensor.shape[-last:]))


class _SeedOptions(LayerOptions, total=False):
    """The options of Attention that AdditiveAttention accepts as **kwargs."""

    seed: Any


class AdditiveAttention(Attention):
    """Additive attention (Bahdanau et al., 2015).

        scores = sum(scale * tanh(query + key)), over the features
        output = softmax(scores) @ value

    A mask of the value excludes keys; a mask of the query sets outputs to 0.

    Args:
        use_scale: Whether there is a learned scale, of shape (features,); otherwise it is 1.
        dropout: The fraction of the weights that is set to 0 in training.

    Input shape:
        Query (..., t, n), value (..., s, m), key (..., s, n).

    Output shape:
        (..., t, m); with `return_attention_scores` a tuple of the output and the weights (..., t, s).

    Raises:
        ValueError: for inputs that are not a list of two or three.

    Example:
        >>> layers.AdditiveAttention()([np.ones((1, 2, 3)), np.ones((1, 4, 3))]).shape
        (1, 2, 3)
    """

    _left_out = ("score_mode",)

    def __init__(self, use_scale=True, dropout=0.0, **kwargs: Unpack[_SeedOptions]):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape):
        self._check(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale")

    def _scores(self, query, key):
        total = ops.tanh(ops.add(ops.expand_dims(query, 2), ops.expand_dims(key, 1)))
        return ops.sum(total if self.scale is None else ops.multiply(total, self.scale), axis=-1)
