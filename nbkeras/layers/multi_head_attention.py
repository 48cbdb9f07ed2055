"""Attention over several heads with learned projections: MultiHeadAttention and GroupQueryAttention."""

from __future__ import annotations

import math
from functools import reduce
from string import ascii_lowercase
from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.engine import option, structures
from nbkeras.layers.einsum_dense import EinsumDense
from nbkeras.layers.regularization import Dropout
from nbkeras.ops import attention

_OptionalSize = Annotated[Any, option.optional(option.Size)]
_Axes = Annotated[Any, option.optional(option.Several)]
_OutputShape = Annotated[_Axes, "_output_sizes"]
_ProjectionRegularizer = Annotated[option.Regularizer, "_projection_activity"]


class _Projected(option.Declared, Layer):
    """Base of both layers: options of projections, masks, and attention over (batch, steps, heads, size).

    Args:
        dropout: The fraction of the attention weights that is set to 0 in training.
        use_bias: Whether each projection adds a bias.
        use_gate: Whether the heads' results are multiplied by sigmoid(a projection of the query).
        sliding_window: Attend only to keys nearer than this number of steps; None for all.
        flash_attention (False, or None): Accepted for Keras scripts; True is refused.
        kernel_initializer: Initial values of each projection's kernel.
        bias_initializer: Initial values of each projection's bias.
        kernel_regularizer: Penalty on each projection's kernel.
        bias_regularizer: Penalty on each projection's bias.
        activity_regularizer: Penalty on the output of each projection, which is added to the loss.
        kernel_constraint: Projection after each update of each kernel.
        bias_constraint: Projection after each update of each bias.

    Call arguments:
        query: A tensor (batch, t, features).
        value: A tensor (batch, s, features). The query again for self-attention.
        key: A tensor (batch, s, features); None for the value.
        query_mask: Bool (batch, t); by default the mask attached to the query.
        value_mask: Bool (batch, s); by default the mask attached to the value.
        key_mask: Bool (batch, s); by default the mask attached to the key.
        attention_mask: Bool (batch, t, s), or (batch, heads, t, s): True where a query may attend to a key.
        return_attention_scores: Whether the weights are returned too.
        training: Whether dropout is active.
        use_causal_mask: Whether a query attends only to keys at its own step and earlier.
    """

    supports_masking = True
    input_spec = InputSpec()  # the query's
    _axes: tuple[int, ...]  # the attention axes
    _output_sizes: tuple[int, ...] | None = None  # the sizes of the output's last axes; None for the query's

    def __init__(
        self,
        dropout: option.Rate = 0.0,
        use_bias: option.Flag = True,
        use_gate: option.Flag = False,
        sliding_window: _OptionalSize = None,
        flash_attention=None,
        kernel_initializer: option.Initializer = "glorot_uniform",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer: _ProjectionRegularizer = None,  # for each projection, as in Keras
        kernel_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        seed: option.Anything = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if flash_attention:
            raise ValueError(f"{type(self).__name__} does not offer flash_attention=True: omit it")
        option.keep(self, locals())

    def _projection(self, name, input_shape, summed, sizes, activation=None):
        """A built EinsumDense from the last `summed` axes to axes of these sizes."""
        rank = len(input_shape)
        letters, new = ascii_lowercase[:rank], ascii_lowercase[rank : rank + len(sizes)]
        free, bound = letters[: rank - summed], letters[rank - summed :]
        layer = EinsumDense(
            f"{letters},{bound}{new}->{free}{new}",
            (*[None] * (len(free) - 1), *sizes),
            activation=activation,
            bias_axes=new if self.use_bias else None,
            kernel_initializer=_like(self.kernel_initializer),
            bias_initializer=_like(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._projection_activity,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_of_part(name),
            quantization_config=self.quantization_config,
            trainable=self.trainable,
            name=name,
        )
        layer.supports_masking = True  # no warning: the enclosing layer handles masks
        layer.build(input_shape)
        return layer

    def build(self, query_shape, value_shape, key_shape=None):
        """Make the projections.

        Args:
            query_shape: The shape of the query.
            value_shape: The shape of the value.
            key_shape: The shape of the key; None for the value's.
        """
        given = [query_shape, key_shape or value_shape, value_shape]
        if not all(map(structures.is_shape, given)):
            raise ValueError(f"{self.name!r} takes one tensor each as query, value and key, received shapes {given}")
        self._build(*map(tuple, given))

    def compute_output_shape(self, query_shape, value_shape, key_shape=None):
        """The shape of the output, without the weights.

        Args:
            query_shape: The shape of the query.
            value_shape: The shape of the value.
            key_shape: The shape of the key; None for the value's.
        """
        self._check_pair(value_shape, key_shape)
        return (*query_shape[:-1], *(self._output_sizes or (query_shape[-1],)))

    def _make_projections(self, shapes: tuple, heads: tuple[int, int], sizes: tuple[int, int]) -> None:
        """Build the projections. heads: of the query, and of key and value. sizes: of a head's key and value."""
        (query, key, value), (many, few), (size, value_size) = shapes, heads, sizes
        self._check_pair(value, key)
        self._query_dense = self._projection("query", query, 1, (many, size))
        self._key_dense = self._projection("key", key, 1, (few, size))
        self._gate_dense = None
        if self.use_gate:
            self._gate_dense = self._projection("gate", query, 1, (many, value_size), "sigmoid")
        self._value_dense = self._projection("value", value, 1, (few, value_size))
        self._dropout_layer = Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy)
        output = self._output_sizes or (query[-1],)
        self._output_dense = self._projection("attention_output", (*query[:-1], many, value_size), 2, output)
        self._scale = 1 / math.sqrt(size)

    def _made_parts(self):
        projections = ("_query_dense", "_key_dense", "_gate_dense", "_value_dense", "_output_dense")
        return [part for part in (getattr(self, name, None) for name in projections) if part is not None]

    def _check_pair(self, value: tuple, key: tuple | None) -> None:
        if key is not None and tuple(value[1:-1]) != tuple(key[1:-1]):
            raise ValueError(
                f"key and value of {self.name!r} must have the same shapes except for the last axis, received {key} and {value}"
            )

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        key = value if key is None else key
        shapes = [structures.shape_of(each) for each in (query, value, key)]
        steps, axes = (shapes[0][self._axes[0]], shapes[1][self._axes[0]]), len(self._axes)
        mask = self._mask(query.ndim, steps, axes, query_mask, value_mask, key_mask, attention_mask, use_causal_mask)
        gate = None if self._gate_dense is None else self._gate_dense(query)
        query, key, value = self._query_dense(query), self._key_dense(key), self._value_dense(value)
        spread = query.ndim == 4 and not (self.dropout > 0 or return_attention_scores)
        if query.ndim == 4:
            heads, weights = self._attend(query, key, value, mask, use_causal_mask, training, spread)
        else:
            heads, weights = self._attend_over_axes(query, key, value, mask, use_causal_mask, training)
        output = self._output_dense(heads if gate is None else ops.multiply(heads, gate))
        return (output, weights) if return_attention_scores else output

    def _mask(
        self,
        rank: int,
        steps: tuple[int, int],
        axes: int,
        query_mask,
        value_mask,
        key_mask,
        attention_mask,
        causal: bool,
    ):
        """The combined bool mask that broadcasts to (batch, ..., heads, query steps, key steps); None if it allows all keys."""
        found = []
        if query_mask is not None:
            found.append(ops.expand_dims(ops.cast(query_mask, "bool"), -1))
        found += [ops.expand_dims(ops.cast(m, "bool"), -2) for m in (value_mask, key_mask) if m is not None]
        if self.sliding_window is not None:
            rows, columns = (ops.arange(count, dtype="int32") for count in steps)
            distance = ops.abs(ops.subtract(ops.expand_dims(rows, 1), ops.expand_dims(columns, 0)))
            found.append(ops.expand_dims(ops.less(distance, self.sliding_window), 0))
        if (found or causal) and axes != 1:
            raise ValueError(
                f"{self.name!r} attends over {axes} axes: masks of its inputs, use_causal_mask and sliding_window are for one; "
                "pass attention_mask"
            )
        if attention_mask is not None:
            found.append(ops.cast(attention_mask, "bool"))
        for i in range(len(found)):
            while found[i].ndim < rank + axes:  # the axis of heads, and free axes that the mask lacks
                found[i] = ops.expand_dims(found[i], -2 * axes - 1)
        return reduce(ops.logical_and, found) if found else None

    def _attend(self, query, key, value, mask, causal: bool, training, spread: bool):
        """(batch, steps, heads, size) for each input -> the same for the query, and the weights."""
        weights = attention.attention_weights(query, key, None, mask, self._scale, causal, spread)
        kept = self._dropout_layer(weights, training=training) if self.dropout > 0 else weights
        return attention.attend(kept, value), weights

    def _attend_over_axes(self, query, key, value, mask, causal: bool, training):
        """`_attend` with the attention axes merged into one, and the other axes merged into the batch."""
        free = [axis for axis in range(1, query.ndim - 2) if axis not in self._axes]
        order = (0, *free, *self._axes, query.ndim - 2, query.ndim - 1)
        q, k, v = (ops.transpose(x, order) for x in (query, key, value))
        batch, rows, columns = q.shape[: len(free) + 1], q.shape[len(free) + 1 : -2], k.shape[len(free) + 1 : -2]
        if mask is not None:
            heads = mask.shape[-2 * len(rows) - 1]
            mask = ops.broadcast_to(mask, (*batch, heads, *rows, *columns))
            mask = ops.reshape(mask, (math.prod(batch), heads, math.prod(rows), math.prod(columns)))
        steps = math.prod(rows), math.prod(columns), math.prod(columns)
        q, k, v = (ops.reshape(x, (math.prod(batch), n, *x.shape[-2:])) for x, n in zip((q, k, v), steps, strict=True))
        heads, weights = self._attend(q, k, v, mask, causal, training, False)
        heads = ops.reshape(heads, (*batch, *rows, *heads.shape[-2:]))
        heads = ops.transpose(heads, [order.index(axis) for axis in range(query.ndim)])
        return heads, ops.reshape(weights, (*batch, weights.shape[1], *rows, *columns))


def _like(initializer: Any) -> Any:
    """A new initializer with the same options, since one initializer draws the same numbers each time."""
    if not hasattr(initializer, "get_config"):
        return initializer
    return type(initializer).from_config(initializer.get_config())


class _ProjectionOptions(LayerOptions, total=False):
    """The options of `_Projected` that MultiHeadAttention accepts as **kwargs."""

    use_gate: option.Flag
    sliding_window: _OptionalSize
    flash_attention: bool | None
    kernel_initializer: option.Initializer
    bias_initializer: option.Initializer
    kernel_regularizer: option.Regularizer
    bias_regularizer: option.Regularizer
    kernel_constraint: option.Constraint
    bias_constraint: option.Constraint
    seed: Any


class _GroupOptions(_ProjectionOptions, total=False):
    """The options of `_Projected` that GroupQueryAttention accepts as **kwargs."""

    dropout: option.Rate
    use_bias: option.Flag


class MultiHeadAttention(_Projected):
    """Attention with several heads and learned projections (Vaswani et al., 2017).

        head_i = softmax(q_i @ k_i^T / sqrt(key_dim)) @ v_i
        output = concat(head_1, head_2, ...) @ W + b

    q_i, k_i and v_i are projections of query, key and value. All masks are combined: the inputs' masks, `attention_mask`,
    `use_causal_mask` and `sliding_window`. A query that may not attend to any key gets the mean of the values; with dropout,
    `return_attention_scores` or several attention axes it gets 0, as in Keras.

    Args:
        num_heads: The number of heads.
        key_dim: The size of each head's query and key.
        value_dim: The size of each head's value; None for key_dim.
        output_shape: The sizes of the last axes of the output; None for the last size of the query.
        attention_axes: The axes to attend over; None for all axes between batch and features.

    Output shape:
        (batch, t, features), or (batch, t, *output_shape); with `return_attention_scores` a tuple of the output and the weights
        (batch, heads, t, s).

    Raises:
        ValueError: for `attention_axes` that the query lacks, and for masks of inputs with several attention axes.

    Example:
        >>> layer = layers.MultiHeadAttention(num_heads=2, key_dim=4)
        >>> query, value = np.ones((1, 3, 6)), np.ones((1, 5, 6))
        >>> output, weights = layer(query, value, return_attention_scores=True)
        >>> output.shape, weights.shape
        ((1, 3, 6), (1, 2, 3, 5))
        >>> layer(query, query, use_causal_mask=True).shape
        (1, 3, 6)
    """

    value_dim: int

    def __init__(
        self,
        num_heads: option.Size,
        key_dim: option.Size,
        value_dim: _OptionalSize = None,
        dropout=0.0,
        use_bias=True,
        output_shape: _OutputShape = None,
        attention_axes: _Axes = None,
        **kwargs: Unpack[_ProjectionOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.value_dim = self.value_dim or self.key_dim

    def _build(self, *shapes):
        rank = len(shapes[0])
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        self._axes = tuple(axis % rank for axis in axes)
        if not self._axes or not set(self._axes) <= set(range(1, rank - 1)):
            raise ValueError(
                f"{self.name!r} attends over axes {tuple(axes)} of a query of shape {shapes[0]}: they must be between the batch "
                "axis and the last"
            )
        self._make_projections(shapes, (self.num_heads,) * 2, (self.key_dim, self.value_dim))

    query_dense = property(lambda layer: layer._query_dense, doc="The projection of queries.")
    key_dense = property(lambda layer: layer._key_dense, doc="The projection of keys.")
    value_dense = property(lambda layer: layer._value_dense, doc="The projection of values.")
    output_dense = property(lambda layer: layer._output_dense, doc="The projection of the heads' results.")


class GroupQueryAttention(_Projected):
    """MultiHeadAttention with fewer heads of keys and values, each for a group of query heads (Ainslie et al., 2023).

    Args:
        head_dim: The size of each head.
        num_query_heads: The number of heads of the query, a multiple of num_key_value_heads.
        num_key_value_heads: The number of heads of key and value.

    Output shape:
        (batch, t, features); with `return_attention_scores` a tuple of the output and the weights (batch, num_query_heads, t, s).

    Raises:
        ValueError: if the numbers of heads do not divide, or the inputs do not have 3 axes.

    Example:
        >>> layer = layers.GroupQueryAttention(head_dim=4, num_query_heads=4, num_key_value_heads=2)
        >>> output, weights = layer(np.ones((1, 3, 6)), np.ones((1, 5, 6)), return_attention_scores=True)
        >>> output.shape, weights.shape
        ((1, 3, 6), (1, 4, 3, 5))
    """

    class_in_files = "GroupedQueryAttention"  # the name of Keras's class
    _axes = (1,)

    def __init__(
        self,
        head_dim: option.Size,
        num_query_heads: option.Size,
        num_key_value_heads: option.Size,
        **kwargs: Unpack[_GroupOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if num_query_heads % num_key_value_heads:
            raise ValueError(
                "GroupQueryAttention's num_query_heads must be a multiple of num_key_value_heads, received "
                f"{num_query_heads} and {num_key_value_heads}"
            )

    def _build(self, *shapes):
        if any(len(shape) != 3 for shape in shapes):
            raise ValueError(f"{self.name!r} needs inputs (batch, steps, features), received shapes {shapes}")
        heads = (self.num_query_heads, self.num_key_value_heads)
        self._make_projections(shapes, heads, (self.head_dim, self.head_dim))
