"""Weights of 8 bits as ONNX nodes: files hold the integers and their scales, and nodes compute floats from them.

Products are those of floats. Where nbkeras rounds the inputs of a product to integers, nodes round them in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.onnx_windows import convolution
from nbkeras.export.op import Handler, Op, scalar

_Limits = tuple[int, int, float]  # as in nbkeras.ops.quantized


def product(g: OnnxGraph, x: str, kernel: str, bias: str, rectify: bool) -> str:
    """x @ kernel + bias, or the positive part of it."""
    y = g.add("MatMul", x, kernel)
    y = g.add("Add", y, bias) if bias else y
    return g.add("Relu", y) if rectify else y


def rounded(g: OnnxGraph, op: Op, limits: _Limits | None, axes: Sequence[int]) -> str:
    """The op's first input, rounded to integers with one scale along axes, and divided by the scale again."""
    x = op.inputs[0]
    if limits is None:
        return x
    low, high, epsilon = limits
    largest = g.add("ReduceMax", g.add("Abs", x), g.constant(axes, np.int64), keepdims=1)
    scale = g.add("Div", scalar(g, op, high), g.add("Add", largest, scalar(g, op, epsilon)))
    whole = g.add("Round", g.add("Mul", x, scale))
    return g.add("Div", g.add("Clip", whole, scalar(g, op, low), scalar(g, op, high)), scale)


def _divided(g: OnnxGraph, values: str, scale: str, dtype: np.dtype) -> str:
    """integers / scale. No DequantizeLinear: ONNX Runtime merges it with MatMul, and then also rounds inputs, by other scales."""
    return g.add("Div", g.cast(values, dtype), scale)


def _dequantize(g: OnnxGraph, op: Op) -> str:
    values, scale = op.inputs
    return _divided(g, values, scale, op.tensors[1].dtype)


def _dense(g: OnnxGraph, op: Op, inputs: _Limits | None, rectify: bool) -> str:
    _, values, scale, bias = op.inputs
    kernel = _divided(g, values, scale, op.dtype)
    return product(g, rounded(g, op, inputs, [-1]), kernel, bias, rectify)


def _gather(g: OnnxGraph, op: Op) -> str:
    """Rows of a table, each divided by its scale."""
    table, indices, scale = op.inputs
    of_rows = g.add("Unsqueeze", g.add("Gather", scale, indices, axis=0), g.constant([-1], np.int64))
    return _divided(g, g.add("Gather", table, indices, axis=0), of_rows, op.tensors[2].dtype)


def _conv(g: OnnxGraph, op: Op, strides, dilation, padding: str, inputs: _Limits, relu: bool) -> str:
    _, values, factors, bias = op.inputs
    kernel = g.add("Mul", g.cast(values, op.dtype), factors)
    x = rounded(g, op, inputs, range(1, op.tensors[0].ndim))
    return convolution(g, op, x, kernel, bias, strides, dilation, padding, 1, relu)


HANDLERS: dict[str, Handler] = {
    "quantized.dequantize": _dequantize,
    "quantized.dense": _dense,
    "quantized.gather": _gather,
    "integers.conv": _conv,
}
