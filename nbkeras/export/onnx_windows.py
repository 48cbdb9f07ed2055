"""Convolution and pooling as ONNX nodes: channels come first there, and padding is in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Op


def _channels_first(g: OnnxGraph, name: str, ndim: int) -> str:
    return g.add("Transpose", name, perm=[0, ndim - 1, *range(1, ndim - 1)])


def _channels_last(g: OnnxGraph, name: str, ndim: int) -> str:
    return g.add("Transpose", name, perm=[0, *range(2, ndim), 1])


def _padding(padding: str, kernel: Any, dilation: Any) -> dict[str, Any]:
    """'same' is worked out by the runtime, from sizes that may be open; 'causal' pads the last axis in front."""
    if padding == "same":
        return {"auto_pad": "SAME_UPPER"}
    if padding == "causal":
        before = [0] * len(kernel)
        before[-1] = (kernel[-1] - 1) * dilation[-1]
        return {"pads": [*before, *[0] * len(kernel)]}
    return {}


def _conv(g: OnnxGraph, op: Op, strides, dilation, padding: str, groups: int, relu: bool) -> str:
    x, kernel, bias = op.inputs
    ndim, size = op.tensors[0].ndim, op.tensors[1].shape[:-2]
    weights = g.add("Transpose", kernel, perm=[ndim - 1, ndim - 2, *range(ndim - 2)])
    y = g.add(
        "Conv",
        _channels_first(g, x, ndim),
        weights,
        bias,
        strides=list(strides),
        dilations=list(dilation),
        group=groups,
        kernel_shape=list(size),
        **_padding(padding, size, dilation),
    )
    y = g.add("Relu", y) if relu else y
    return _channels_last(g, y, ndim)


def _pool(kind: str) -> Callable:
    def handler(g: OnnxGraph, op: Op, size, strides, padding: str) -> str:
        ndim = op.tensors[0].ndim
        settings = {"kernel_shape": list(size), "strides": list(strides), **_padding(padding, size, (1,) * len(size))}
        return _channels_last(g, g.add(kind, _channels_first(g, op.inputs[0], ndim), **settings), ndim)

    return handler


HANDLERS: dict[str, Callable] = {
    "conv.conv": _conv,
    "pool.max_pool": _pool("MaxPool"),
    "pool.average_pool": _pool("AveragePool"),
}
