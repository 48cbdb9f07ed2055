"""Handlers that write nbkeras's ops as ONNX nodes, by 'family.op': handler(graph, op, **constants) -> value or values."""

from __future__ import annotations

import numpy as np

from nbkeras.export import (
    onnx_attention,
    onnx_elementwise,
    onnx_integers,
    onnx_packed,
    onnx_recurrent,
    onnx_shapes,
    onnx_windows,
)
from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Handler, Op, scalar

# -------------------- products --------------------


def _matmul(g: OnnxGraph, op: Op, transpose_a: bool = False, transpose_b: bool = False) -> str:
    def turned(name: str, turn: bool, ndim: int) -> str:
        order = [*range(ndim - 2), ndim - 1, ndim - 2]
        return g.add("Transpose", name, perm=order) if turn else name

    a, b = op.inputs
    left, right = turned(a, transpose_a, op.tensors[0].ndim), turned(b, transpose_b, op.tensors[1].ndim)
    return g.add("MatMul", left, right)


def _dense(g: OnnxGraph, op: Op, rectify: bool) -> str:
    x, kernel, bias = op.inputs
    return onnx_integers.product(g, x, kernel, bias, rectify)


# -------------------- normalization --------------------


def _batch_normalization(g: OnnxGraph, op: Op, epsilon: float) -> str:
    """Normalize along the last axis; before the input's reshape to rows, if that kept the channels."""
    rows, mean, variance, gamma, beta = op.inputs
    x, shape = g.before_reshape(rows, op.sizes(0))
    if shape[-1] != op.sizes(0)[-1]:
        x, shape = rows, op.sizes(0)
    if variance in g.constants and (not gamma or gamma in g.constants):
        inverse = 1 / np.sqrt(g.constants[variance] + op.dtype.type(epsilon))
        scale = g.constant(inverse * g.constants[gamma] if gamma else inverse, op.dtype)
    else:
        inverse = g.add("Reciprocal", g.add("Sqrt", g.add("Add", variance, scalar(g, op, epsilon))))
        scale = g.add("Mul", inverse, gamma) if gamma else inverse
    y = g.add("Mul", g.add("Sub", x, mean), scale)
    return g.reshape(g.add("Add", y, beta) if beta else y, shape, op.sizes(0))


def _standardized(g: OnnxGraph, op: Op, x: str, axes: list[int], epsilon: float, centered: bool = True) -> str:
    """x minus its mean over axes (if centered), divided by its standard deviation."""
    over = g.constant(axes, np.int64)
    if centered:
        x = g.add("Sub", x, g.add("ReduceMean", x, over, keepdims=1))
    variance = g.add("ReduceMean", g.add("Mul", x, x), over, keepdims=1)
    return g.add("Div", x, g.add("Sqrt", g.add("Add", variance, scalar(g, op, epsilon))))


def _scaled(g: OnnxGraph, y: str, gamma: str, beta: str) -> str:
    y = g.add("Mul", y, gamma) if gamma else y
    return g.add("Add", y, beta) if beta else y


def _layer_normalization(g: OnnxGraph, op: Op, epsilon: float, centered: bool) -> str:
    x, gamma, beta = op.inputs
    return _scaled(g, _standardized(g, op, x, [-1], epsilon, centered), gamma, beta)


def _group_normalization(g: OnnxGraph, op: Op, groups: int, epsilon: float) -> str:
    x, gamma, beta = op.inputs
    channels = op.tensors[0].shape[2]
    x = g.add("Reshape", x, g.constant([0, 0, groups, channels // groups], np.int64))  # 0 keeps the size
    y = _standardized(g, op, x, [1, 3], epsilon)
    return _scaled(g, g.add("Reshape", y, g.constant([0, 0, channels], np.int64)), gamma, beta)


HANDLERS: dict[str, Handler] = {
    "embedding.gather": lambda g, op: g.add("Gather", *op.inputs, axis=0),
    "dense.matmul": _matmul,
    "dense.dense": _dense,
    "normalization.batch_normalization": _batch_normalization,
    "normalization.layer_normalization": _layer_normalization,
    "group_normalization.group_normalization": _group_normalization,
    **onnx_attention.HANDLERS,
    **onnx_elementwise.HANDLERS,
    **onnx_integers.HANDLERS,
    **onnx_packed.HANDLERS,
    **onnx_shapes.HANDLERS,
    **onnx_windows.HANDLERS,
    **onnx_recurrent.HANDLERS,
}
