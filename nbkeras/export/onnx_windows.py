"""Convolution and pooling as ONNX nodes, which need channels first and padding as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Op, scalar
from nbkeras.export.trace import Size, Unsupported


def _with_channels_first(
    g: OnnxGraph, op: Op, kind: str, x: str, *others: str, relu: bool = False, **settings: Any
) -> str:
    """Add a node for x of the first input's rank, with channels first in its input and output."""
    ndim = op.tensors[0].ndim
    x = g.add("Transpose", x, perm=[0, ndim - 1, *range(1, ndim - 1)])
    y = g.add(kind, x, *others, **settings)
    return g.add("Transpose", g.add("Relu", y) if relu else y, perm=[0, *range(2, ndim), 1])


def _window(g: OnnxGraph, op: Op, kernel: str, strides, dilation) -> tuple[str, dict[str, Any]]:
    """A convolution's kernel, and the attributes that describe its window."""
    ndim = op.tensors[1].ndim
    kernel = g.transpose(kernel, [ndim - 1, ndim - 2, *range(ndim - 2)])
    sizes = list(op.tensors[1].shape[:-2])
    return kernel, {"kernel_shape": sizes, "strides": list(strides), "dilations": list(dilation)}


def _padding(g: OnnxGraph, op: Op, x: str, padding: str, window: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """x of the first input's shape, and attributes for padding. 'causal' pads the last axis at the start.

    'same' is written as numbers for an axis of known size or with stride 1. For others the runtime computes them: ONNX Runtime
    has no auto_pad for dilated windows, so nodes compute the padding of these.
    """
    sizes = op.sizes(0)[1:-1]
    reaches = [(size - 1) * step + 1 for size, step in zip(window["kernel_shape"], window["dilations"], strict=True)]
    strides = window["strides"]
    if padding == "causal":
        return x, {"pads": [*[0] * (len(sizes) - 1), reaches[-1] - 1, *[0] * len(sizes)]}
    if padding != "same":
        return x, {}
    if not any(isinstance(size, Size) and stride > 1 for size, stride in zip(sizes, strides, strict=True)):
        totals = [
            reach - 1 if stride == 1 else max(((size - 1) // stride) * stride + reach - size, 0)
            for size, stride, reach in zip(sizes, strides, reaches, strict=True)
        ]
        return x, {"pads": [*(total // 2 for total in totals), *(total - total // 2 for total in totals)]}
    if max(window["dilations"]) == 1:
        return x, {"auto_pad": "SAME_UPPER"}
    lengths, steps = g.shape(sizes), g.constant(strides, np.int64)
    one, two, none = (g.constant(number, np.int64) for number in (1, 2, 0))
    last = g.add("Mul", g.add("Div", g.add("Sub", lengths, one), steps), steps)  # the start of the last window
    missing = g.add("Sub", g.add("Add", last, g.constant(reaches, np.int64)), lengths)
    total = g.add("Max", missing, none)
    before, outer = g.add("Div", total, two), g.constant([0], np.int64)
    around = g.add("Concat", outer, before, outer, outer, g.add("Sub", total, before), outer, axis=0)
    return g.add("Pad", x, around, scalar(g, op, 0)), {}


def convolution(
    g: OnnxGraph, op: Op, x: str, kernel: str, bias: str, strides, dilation, padding: str, groups: int, relu: bool
) -> str:
    """Add the convolution of x and a kernel of the shapes of the op's first two inputs, channels last."""
    kernel, window = _window(g, op, kernel, strides, dilation)
    x, pads = _padding(g, op, x, padding, window)
    return _with_channels_first(g, op, "Conv", x, kernel, bias, relu=relu, group=groups, **window, **pads)


def _cut(length: int, result: int, size: int, stride: int, dilation: int, before: int) -> tuple[int, int]:
    """(elements removed, elements added) at an axis's end by a transposed convolution."""
    rest = (length - 1) * stride + (size - 1) * dilation + 1 - before - result
    return max(rest, 0), max(-rest, 0)


def _conv_transpose(g: OnnxGraph, op: Op, strides, dilation, before, lengths) -> str:
    kernel, settings = _window(g, op, op.inputs[1], strides, dilation)
    sizes = (op.tensors[0].shape[1:], op.outputs[0].shape[1:], settings["kernel_shape"])
    axes = zip(*sizes, strides, dilation, before, strict=False)
    ends, more = zip(*(_cut(*axis) for axis in axes), strict=True)  # the same for all sizes of an open axis
    settings |= {"pads": [*before, *ends], "output_padding": list(more)}
    return _with_channels_first(g, op, "ConvTranspose", op.inputs[0], kernel, **settings)


def _unfold(g: OnnxGraph, op: Op, line: Any) -> str:
    """Pad the axis, then slice it for each tap."""
    size, stride, dilation, before, windows = line
    if isinstance(windows, Size) and windows.factors is None:
        raise Unsupported(
            "an axis of open size is cut into windows that are not adjacent: give its size in input_signature"
        )
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
        window: dict[str, Any] = {"kernel_shape": list(size), "strides": list(strides)}
        x, pads = _padding(g, op, op.inputs[0], padding, {**window, "dilations": [1] * len(size)})
        return _with_channels_first(g, op, kind, x, **window, **pads)

    return handler


HANDLERS: dict[str, Callable] = {
    "conv.conv": lambda g, op, **window: convolution(g, op, *op.inputs, **window),
    "conv.conv_transpose": _conv_transpose,
    "volumes.conv": lambda g, op, **window: convolution(g, op, *op.inputs, **window),
    "volumes.conv_transpose": _conv_transpose,
    "volumes.max_pool": _pool("MaxPool"),
    "volumes.average_pool": _pool("AveragePool"),
    "unfold.unfold": _unfold,
    "pool.max_pool": _pool("MaxPool"),
    "pool.average_pool": _pool("AveragePool"),
}
