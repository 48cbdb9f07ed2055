"""Convolution and pooling as ONNX nodes, which have the channels first and padding as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Op
from nbkeras.export.trace import Size, Unsupported


def _channels_first(g: OnnxGraph, name: str, ndim: int) -> str:
    return g.add("Transpose", name, perm=[0, ndim - 1, *range(1, ndim - 1)])


def _channels_last(g: OnnxGraph, name: str, ndim: int) -> str:
    return g.add("Transpose", name, perm=[0, *range(2, ndim), 1])


def _padding(padding: str, kernel: Any, dilation: Any) -> dict[str, Any]:
    """The attributes for padding. The runtime computes 'same', since sizes may be open; 'causal' pads the last axis in front."""
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
    weights = g.transpose(kernel, [ndim - 1, ndim - 2, *range(ndim - 2)])
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


def _cut(length: int, result: int, size: int, stride: int, dilation: int, before: int) -> tuple[int, int]:
    """The number of elements that a transposed convolution removes at an axis's end, and the number that it adds there."""
    rest = (length - 1) * stride + (size - 1) * dilation + 1 - before - result
    return max(rest, 0), max(-rest, 0)


def _conv_transpose(g: OnnxGraph, op: Op, strides, dilation, before, lengths) -> str:
    x, kernel = op.inputs
    ndim, size = op.tensors[0].ndim, op.tensors[1].shape[:-2]
    axes = zip(op.tensors[0].shape[1:], op.outputs[0].shape[1:], size, strides, dilation, before, strict=False)
    ends, more = zip(*(_cut(*axis) for axis in axes), strict=True)  # the same for all sizes of an open axis
    y = g.add(
        "ConvTranspose",
        _channels_first(g, x, ndim),
        g.transpose(kernel, [ndim - 1, ndim - 2, *range(ndim - 2)]),
        strides=list(strides),
        dilations=list(dilation),
        kernel_shape=list(size),
        pads=[*before, *ends],
        output_padding=list(more),
    )
    return _channels_last(g, y, ndim)


def _unfold(g: OnnxGraph, op: Op, line: Any) -> str:
    """Pad the axis, then take a slice for each tap."""
    size, stride, dilation, before, windows = line
    if isinstance(windows, Size) and windows.factors is None:
        raise Unsupported("an axis of open size is cut into windows that are not adjacent")
    reach = (size - 1) * dilation + 1
    after = (op.outputs[0].shape[1] - 1) * stride + reach - before - op.tensors[0].shape[1]
    x, axis = op.inputs[0], g.constant([1], np.int64)
    if before or after > 0:
        pads = g.constant([0, before, *[0] * 4, max(after, 0), *[0] * 3], np.int64)
        x = g.add("Pad", x, pads, g.constant(0, op.dtype))
    taps = []
    for k in range(size):
        last = reach - 1 - k * dilation + max(-after, 0)  # elements after the last one that this tap reads
        end = g.constant([-last if last else 1 << 40], np.int64)
        start, step = g.constant([k * dilation], np.int64), g.constant([stride], np.int64)
        taps.append(g.add("Unsqueeze", g.add("Slice", x, start, end, axis, step), g.constant([4], np.int64)))
    return g.add("Concat", *taps, axis=4)


def _pool(kind: str) -> Callable:
    def handler(g: OnnxGraph, op: Op, size, strides, padding: str) -> str:
        ndim = op.tensors[0].ndim
        settings = {"kernel_shape": list(size), "strides": list(strides), **_padding(padding, size, (1,) * len(size))}
        return _channels_last(g, g.add(kind, _channels_first(g, op.inputs[0], ndim), **settings), ndim)

    return handler


HANDLERS: dict[str, Callable] = {
    "conv.conv": _conv,
    "conv.conv_transpose": _conv_transpose,
    "volumes.conv": _conv,
    "volumes.conv_transpose": _conv_transpose,
    "volumes.max_pool": _pool("MaxPool"),
    "volumes.average_pool": _pool("AveragePool"),
    "unfold.unfold": _unfold,
    "pool.max_pool": _pool("MaxPool"),
    "pool.average_pool": _pool("AveragePool"),
}
