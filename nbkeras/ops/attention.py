"""Differentiable multi-head attention: scores, their masked softmax, and the weighted sum of values. Heads are the third axis."""

import math
from typing import Any

from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op
from nbkeras.kernels import attention
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise


@op
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale: float | None = None,
    is_causal: bool = False,
    flash_attention: bool | None = None,
    attn_logits_soft_cap: float | None = None,
) -> Tensor:
    """Multi-head attention: softmax(scale * query . key + bias) . value, over the keys that the mask allows.

    Source: Vaswani et al., 2017.

    Args:
        query: Floats (batch, t, heads, size); integers become floatx.
        key: Floats (batch, s, k, size); k divides heads: each key head serves heads / k query heads.
        value: Floats (batch, s, k, n).
        bias: Floats that broadcast to (batch, heads, t, s), added to the scores; or None.
        mask: Booleans that broadcast to (batch, heads, t, s): True where a query may attend to a key; None
            for everywhere. A query without any key returns the mean of all values, as in Keras.
        scale: The factor of the scores; None for 1 / sqrt(size).
        is_causal: Whether query t attends to keys up to t only.
        flash_attention: True is not supported; there is one implementation.
        attn_logits_soft_cap: Not supported.

    Returns:
        A float tensor (batch, t, heads, n). Differentiable in query, key, value and bias.

    Raises:
        ValueError: if the shapes do not fit, or for an argument that is not supported.

    Example:
        >>> query = key = np.ones((1, 3, 1, 4))
        >>> value = np.array([2.0, 4.0, 9.0]).reshape(1, 3, 1, 1)
        >>> ops.dot_product_attention(query, key, value).numpy().ravel()  # equal weights: the mean
        array([5., 5., 5.])
        >>> ops.dot_product_attention(query, key, value, is_causal=True).numpy().ravel()
        array([2., 3., 5.])
    """
    if flash_attention or attn_logits_soft_cap is not None:
        raise ValueError("dot_product_attention supports neither flash_attention=True nor attn_logits_soft_cap")
    weights = attention_weights(query, key, bias, mask, scale, is_causal, spread=True)
    return attend(weights, value)


@op
def attention_weights(query, key, bias=None, mask=None, scale=None, is_causal=False, spread=False) -> Tensor:
    """The weights of `dot_product_attention`: softmax(scale * query . key + bias) over the keys.

    Args:
        query: Floats (batch, t, heads, size).
        key: Floats (batch, s, k, size); k divides heads.
        bias: Floats that broadcast to (batch, heads, t, s), added to the scores; or None.
        mask: Booleans that broadcast to (batch, heads, t, s): True where a query may attend to a key; None
            for everywhere.
        scale: The factor of the scores; None for 1 / sqrt(size).
        is_causal: Whether query t attends to keys up to t only.
        spread: Whether a query without any key has weights 1 / s, instead of 0.

    Returns:
        A float tensor (batch, heads, t, s).
    """
    query, key = floats(query, key)
    if query.ndim != 4 or key.ndim != 4 or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            "attention needs a query (batch, t, heads, size) and a key (batch, s, heads, size) of the same batch and size, "
            f"received shapes {query.shape} and {key.shape}"
        )
    _check_heads(query.shape[2], key.shape[2])
    scale = 1 / math.sqrt(max(1, query.shape[3])) if scale is None else float(scale)
    scores = apply(attention.inner, attention.inner_vjp, [query, key])
    if bias is not None:
        scores, scale = elementwise.add(elementwise.multiply(scores, scale), bias), 1.0
    return masked_softmax(scores, mask, scale, is_causal, spread)


@op
def masked_softmax(scores, mask=None, scale: float = 1.0, is_causal: bool = False, spread: bool = False) -> Tensor:
    """softmax(scale * scores) over the last axis where a mask is True, 0 elsewhere.

    Args:
        scores: Floats (batch, heads, t, s).
        mask: Booleans that broadcast to the scores; None for True everywhere.
        scale: A factor of the scores.
        is_causal: Whether row t uses its first t + 1 columns only.
        spread: Whether a row without any column is 1 / s, instead of 0.

    Returns:
        A float tensor (batch, heads, t, s).
    """
    scores = as_float(scores)
    if scores.ndim != 4:
        raise ValueError(f"attention needs scores (batch, heads, t, s), received shape {scores.shape}")
    if scores.shape[3] == 0:  # the kernel begins with the first score of a row
        return scores
    if scale <= 0:  # the kernel requires a positive scale
        scores, scale = elementwise.multiply(scores, float(scale)), 1.0
    constants = {"scale": float(scale), "causal": bool(is_causal), "spread": bool(spread)}
    return apply(attention.masked_softmax, attention.masked_softmax_vjp, [scores, _mask(mask, scores)], **constants)


@op
def attend(weights, value) -> Tensor:
    """Sums of values, weighted by attention weights.

    Args:
        weights: Floats (batch, heads, t, s).
        value: Floats (batch, s, k, n); k divides heads.

    Returns:
        A float tensor (batch, t, heads, n).
    """
    weights, value = floats(weights, value)
    if value.ndim != 4 or value.shape[:2] != (weights.shape[0], weights.shape[3]):
        raise ValueError(
            f"attention needs values (batch, s, heads, size) for weights of shape {weights.shape}, received {value.shape}"
        )
    _check_heads(weights.shape[1], value.shape[2])
    return apply(attention.weighted, attention.weighted_vjp, [weights, value])


def _check_heads(queries: int, keys: int) -> None:
    if keys == 0 or queries % keys:
        raise ValueError(
            f"attention's queries must have as many heads as keys and values, or a multiple; received {queries} and {keys}"
        )


def _mask(mask: Any, scores: Tensor) -> Tensor | None:
    """The mask as booleans; ValueError if it does not broadcast to the scores."""
    if mask is None:
        return None
    mask = as_tensor(mask, "bool")
    if mask.ndim > 4 or broadcast_shape(scores.shape, mask.shape) != scores.shape:
        raise ValueError(
            f"attention's mask must broadcast to (batch, heads, t, s) = {scores.shape}, received shape {mask.shape}"
        )
    return mask
