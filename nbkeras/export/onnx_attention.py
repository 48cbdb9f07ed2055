"""Attention as ONNX nodes: matrix products with the heads first, and a softmax with masked scores at a very low value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Op

_MINIMUM = -1e38  # as in nbkeras.kernels.attention


def _inner(g: OnnxGraph, op: Op) -> str:
    x, y = op.inputs
    queries = g.add("Transpose", x, perm=[0, 2, 1, 3])
    keys = g.add("Transpose", y, perm=[0, 2, 3, 1])
    return _product(g, queries, keys, op.tensors[0].shape[2], op.tensors[1].shape[2])


def _weighted(g: OnnxGraph, op: Op) -> str:
    weights, y = op.inputs
    values = g.add("Transpose", y, perm=[0, 2, 1, 3])
    heads = _product(g, weights, values, op.tensors[0].shape[1], op.tensors[1].shape[2])
    return g.add("Transpose", heads, perm=[0, 2, 1, 3])


def _product(g: OnnxGraph, left: str, right: str, heads: int, key_heads: int) -> str:
    """(b, heads, ., .) @ (b, key_heads, ., .); adjacent heads of the first share one head of the second."""
    if key_heads in (1, heads):
        return g.add("MatMul", left, right)
    batch, rest = g.add("Shape", left, start=0, end=1), g.add("Shape", left, start=2, end=4)
    groups = g.constant([key_heads, heads // key_heads], np.int64)
    grouped = g.add("Reshape", left, g.add("Concat", batch, groups, rest, axis=0))
    product = g.add("MatMul", grouped, g.add("Unsqueeze", right, g.constant([2], np.int64)))
    first, last = g.add("Shape", left, start=0, end=3), g.add("Shape", right, start=3, end=4)
    return g.add("Reshape", product, g.add("Concat", first, last, axis=0))


def _masked_softmax(g: OnnxGraph, op: Op, scale: float, causal: bool, spread: bool) -> str:
    x, allowed = op.inputs
    scores = x if scale == 1 else g.add("Mul", x, g.constant(scale, op.dtype))
    if causal:
        zero, one = g.constant(0, np.int64), g.constant(1, np.int64)
        rows, columns = (
            g.add("Range", zero, g.add("Squeeze", g.add("Shape", x, start=axis, end=axis + 1)), one) for axis in (2, 3)
        )
        visible = g.add("GreaterOrEqual", g.add("Unsqueeze", rows, g.constant([1], np.int64)), columns)
        allowed = g.add("And", allowed, visible) if allowed else visible
    if not allowed:
        return g.add("Softmax", scores, axis=3)
    y = g.add("Softmax", g.add("Where", allowed, scores, g.constant(_MINIMUM, op.dtype)), axis=3)
    return y if spread else g.add("Where", allowed, y, g.constant(0, op.dtype))


HANDLERS: dict[str, Callable] = {
    "attention.inner": _inner,
    "attention.weighted": _weighted,
    "attention.masked_softmax": _masked_softmax,
}
