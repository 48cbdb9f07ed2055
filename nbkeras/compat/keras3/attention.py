"""Internal members of Keras 3's MultiHeadAttention, for subclasses that project and attend in their own `build` and `call`."""

from string import ascii_lowercase
from typing import Any

from nbkeras import ops
from nbkeras.layers.activation import Softmax
from nbkeras.layers.multi_head_attention import _like
from nbkeras.layers.regularization import Dropout


def _option(name: str) -> property:
    """An option under Keras's private name."""
    return property(lambda layer: getattr(layer, name), lambda layer, value: setattr(layer, name, value))


class MultiHeadAttention:
    """Members of MultiHeadAttention."""

    _output_shape = _option("_output_sizes")
    _attention_axes = _option("_axes")
    _activity_regularizer = _option("_projection_activity")
    _flash_attention = False
    _inverse_sqrt_key_dim = property(lambda layer: layer.key_dim**-0.5)

    def _get_common_kwargs_for_sublayer(self) -> dict[str, Any]:
        """The options of each projection."""
        layer: Any = self
        names = "kernel_regularizer bias_regularizer kernel_constraint bias_constraint".split()
        return {
            **{name: getattr(layer, name) for name in names},
            "activity_regularizer": layer._projection_activity,
            "kernel_initializer": _like(layer.kernel_initializer),
            "bias_initializer": _like(layer.bias_initializer),
            "dtype": layer.dtype_policy,
        }

    def _build_attention(self, rank: int) -> None:
        """Prepare `_compute_attention` for projections with this number of axes."""
        layer: Any = self
        axes = range(1, rank - 2) if layer.attention_axes is None else layer.attention_axes
        layer._axes = tuple(axis % (rank - 1) for axis in axes)
        layer._scale = layer._inverse_sqrt_key_dim
        layer._gate_dense = None
        layer._dropout_layer = Dropout(layer.dropout, seed=layer.seed, dtype=layer.dtype)

    @property
    def _softmax(self) -> Softmax:
        """The softmax over the attention axes of the scores."""
        return Softmax(axis=tuple(range(-len(self._axes), 0)))  # type: ignore[attr-defined]

    def _masked_softmax(self, attention_scores: Any, attention_mask: Any = None) -> Any:
        """The weights for scores, and a mask that may lack the axis of heads and free axes."""
        if attention_mask is not None:
            attention_mask = self._of_rank(ops.cast(attention_mask, "bool"), attention_scores.ndim)
        return self._softmax(attention_scores, mask=attention_mask)

    def _of_rank(self, mask: Any, rank: int) -> Any:
        while mask.ndim < rank:
            mask = ops.expand_dims(mask, -2 * len(self._axes) - 1)  # type: ignore[attr-defined]
        return mask

    @property
    def _dot_product_equation(self) -> str:
        """The einsum of keys and queries that gives the scores."""
        query, key, scores = self._letters()
        return f"{key},{query}->{scores}"

    @property
    def _combine_equation(self) -> str:
        """The einsum of weights and values that gives the heads' results."""
        query, value, scores = self._letters()
        return f"{scores},{value}->{query}"

    def _letters(self) -> tuple[str, str, str]:
        """The axes of the query, of key or value, and of the scores; the attention axes of query and key differ."""
        layer: Any = self
        rank = layer._query_dense.input_spec.ndim + 1
        query = ascii_lowercase[:rank]
        key = "".join(letter.upper() if axis in layer._axes else letter for axis, letter in enumerate(query))
        free = [query[axis] for axis in range(rank - 1) if axis not in layer._axes]
        return query, key, "".join([*free, *(each[axis] for each in (query, key) for axis in layer._axes)])

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        """The heads' results for projected inputs (batch, ..., heads, size), and the weights if they are asked for."""
        layer: Any = self
        if attention_mask is not None:
            attention_mask = self._of_rank(ops.cast(attention_mask, "bool"), query.ndim - 2 + 2 * len(layer._axes))
        spread = query.ndim == 4 and not (layer.dropout > 0 or return_attention_scores)
        attend = layer._attend if query.ndim == 4 else layer._attend_over_axes
        options = (spread,) if query.ndim == 4 else ()
        heads, weights = attend(query, key, value, attention_mask, use_causal_mask, training, *options)
        return heads, None if spread else weights


for _each in (
    "num_heads key_dim value_dim dropout use_bias kernel_initializer bias_initializer kernel_regularizer bias_regularizer "
    "kernel_constraint bias_constraint".split()
):
    setattr(MultiHeadAttention, f"_{_each}", _option(_each))
