"""Each op of nbkeras as ONNX nodes: HANDLERS by 'family.op', handler(graph, op, **constants) -> value or list of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.export import onnx_recurrent, onnx_windows
from nbkeras.export.onnx_graph import OnnxGraph, Unsupported
from nbkeras.export.op import Op
from nbkeras.export.trace import Size

Handler = Callable[..., Any]


def _node(kind: str) -> Handler:
    """One node of the same inputs."""
    return lambda g, op: g.add(kind, *op.inputs)


def _scalar(g: OnnxGraph, op: Op, value: float) -> str:
    return g.constant(value, op.dtype)


# -------------------- elementwise --------------------

_UNARY = {
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "isnan": "IsNaN",
    "isinf": "IsInf",
    "logical_not": "Not",
}
_BINARY = {
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
}


def _by_ufunc(table: dict[str, str]) -> Handler:
    def handler(g: OnnxGraph, op: Op, ufunc: Any, dtype: Any = None) -> str:
        name = ufunc.__name__
        if name == "not_equal":
            return g.add("Not", g.add("Equal", *op.inputs))
        if name == "isfinite":
            return g.add("Not", g.add("Or", g.add("IsInf", *op.inputs), g.add("IsNaN", *op.inputs)))
        if name == "floor_divide":
            return _floor_divide(g, op)
        if name not in table:
            raise Unsupported(f"ONNX has no counterpart of {name}")
        return g.add(table[name], *op.inputs)

    return handler


def _floor_divide(g: OnnxGraph, op: Op) -> str:
    if op.dtype.kind == "f":
        return g.add("Floor", g.add("Div", *op.inputs))
    remainder = g.add("Mod", *op.inputs)
    return g.add("Div", g.add("Sub", op.inputs[0], remainder), op.inputs[1])


def _mod(g: OnnxGraph, op: Op) -> str:
    if op.dtype.kind != "f":
        return g.add("Mod", *op.inputs)
    return g.add("Sub", op.inputs[0], g.add("Mul", g.add("Floor", g.add("Div", *op.inputs)), op.inputs[1]))


def _of_booleans(number: str, boolean: str) -> Handler:
    """Sums and products: of booleans 'or' and 'and'."""
    return lambda g, op: g.add(boolean if op.dtype.kind == "b" else number, *op.inputs)


def _square(g: OnnxGraph, op: Op) -> str:
    return g.add("Mul", op.inputs[0], op.inputs[0])


def _expm1(g: OnnxGraph, op: Op) -> str:
    return g.add("Sub", g.add("Exp", op.inputs[0]), _scalar(g, op, 1))


def _log1p(g: OnnxGraph, op: Op) -> str:
    return g.add("Log", g.add("Add", op.inputs[0], _scalar(g, op, 1)))


def _scaled(kind: str, factor: float) -> Handler:
    """A node's result times a number."""
    return lambda g, op: g.add("Mul", g.add(kind, *op.inputs), _scalar(g, op, factor))


def _round(g: OnnxGraph, op: Op, decimals: int) -> str:
    if op.dtype.kind != "f" and decimals >= 0:
        return g.add("Identity", op.inputs[0])
    scale = _scalar(g, op, 10.0**decimals)
    return g.add("Div", g.add("Round", g.add("Mul", op.inputs[0], scale)), scale)


def _clip(g: OnnxGraph, op: Op, low: Any, high: Any) -> str:
    return g.add("Clip", op.inputs[0], _scalar(g, op, low), _scalar(g, op, high))


def _cast(g: OnnxGraph, op: Op, dtype: Any) -> str:
    return g.cast(op.inputs[0], dtype)


# -------------------- activations --------------------


def _piecewise(g: OnnxGraph, op: Op, negative_slope: float, threshold: float, max_value: float) -> str:
    x = op.inputs[0]
    low = g.add("Mul", g.add("Sub", x, _scalar(g, op, threshold)), _scalar(g, op, negative_slope))
    y = g.add("Where", g.add("Less", x, _scalar(g, op, threshold)), low, x)
    if math.isinf(max_value):
        return y
    top = _scalar(g, op, max_value)
    return g.add("Where", g.add("GreaterOrEqual", x, top), top, y)


def _elu(g: OnnxGraph, op: Op, alpha: float, scale: float) -> str:
    y = g.add("Elu", op.inputs[0], alpha=float(alpha))
    return y if scale == 1 else g.add("Mul", y, _scalar(g, op, scale))


def _gelu(g: OnnxGraph, op: Op) -> str:
    half = g.add("Mul", op.inputs[0], _scalar(g, op, 0.5))
    phi = g.add("Erf", g.add("Mul", op.inputs[0], _scalar(g, op, math.sqrt(0.5))))
    return g.add("Mul", half, g.add("Add", phi, _scalar(g, op, 1)))


def _gelu_tanh(g: OnnxGraph, op: Op) -> str:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    x = op.inputs[0]
    cube = g.add("Mul", g.add("Mul", g.add("Mul", x, x), x), _scalar(g, op, 0.044715))
    inner = g.add("Tanh", g.add("Mul", g.add("Add", x, cube), _scalar(g, op, math.sqrt(2 / math.pi))))
    return g.add("Mul", g.add("Mul", x, _scalar(g, op, 0.5)), g.add("Add", inner, _scalar(g, op, 1)))


def _silu(g: OnnxGraph, op: Op) -> str:
    return g.add("Mul", op.inputs[0], g.add("Sigmoid", op.inputs[0]))


def _along(kind: str) -> Handler:
    return lambda g, op, axis: g.add(kind, op.inputs[0], axis=axis)


# -------------------- reductions --------------------


def _reduce(kind: str) -> Handler:
    """A reduction over axes; opset 18 takes them as an input."""

    def handler(g: OnnxGraph, op: Op, axes: tuple[int, ...], keepdims: bool = False) -> str:
        x = op.inputs[0]
        if op.tensors[0].dtype.kind == "b":
            x = g.cast(x, op.outputs[0].dtype)
        if not axes:
            return g.add("Identity", x)
        return g.add(kind, x, g.constant(axes, np.int64), keepdims=int(keepdims))

    return handler


def _variance(g: OnnxGraph, op: Op, axes: tuple[int, ...], keepdims: bool = False) -> str:
    where = g.constant(axes, np.int64)
    away = g.add("Sub", op.inputs[0], g.add("ReduceMean", op.inputs[0], where, keepdims=1))
    return g.add("ReduceMean", g.add("Mul", away, away), where, keepdims=int(keepdims))


def _truth(kind: str) -> Handler:
    """any and all: the largest and the smallest of booleans as numbers."""

    def handler(g: OnnxGraph, op: Op, axes: tuple[int, ...], keepdims: bool = False) -> str:
        x = g.cast(g.cast(op.inputs[0], bool), np.int32)
        return g.cast(g.add(kind, x, g.constant(axes, np.int64), keepdims=int(keepdims)), bool)

    return handler


def _position(kind: str) -> Handler:
    def handler(g: OnnxGraph, op: Op, axis: int) -> str:
        return g.cast(g.add(kind, op.inputs[0], axis=axis, keepdims=0), op.outputs[0].dtype)

    return handler


def _cumsum(g: OnnxGraph, op: Op, axis: int) -> str:
    return g.add("CumSum", op.inputs[0], g.constant(axis, np.int64))


# -------------------- shapes --------------------


def _reshape(g: OnnxGraph, op: Op, shape: tuple) -> str:
    return g.add("Reshape", op.inputs[0], g.target(shape))


def _transpose(g: OnnxGraph, op: Op, axes: tuple[int, ...]) -> str:
    return g.add("Transpose", op.inputs[0], perm=[int(axis) for axis in axes])


def _concatenate(g: OnnxGraph, op: Op, axis: int) -> str:
    return g.add("Concat", *op.inputs, axis=axis)


def _stack(g: OnnxGraph, op: Op, axis: int) -> str:
    where = g.constant([axis], np.int64)
    return g.add("Concat", *[g.add("Unsqueeze", name, where) for name in op.inputs], axis=axis)


def _split(g: OnnxGraph, op: Op, sizes: tuple, axis: int) -> list[str]:
    names = g.add("Split", op.inputs[0], g.shape(sizes), outputs=len(sizes), axis=axis)
    return [names] if isinstance(names, str) else names


def _unstack(g: OnnxGraph, op: Op, axis: int) -> list[str]:
    return [g.add("Gather", op.inputs[0], g.constant(i, np.int64), axis=axis) for i in range(len(op.outputs))]


def _spread(g: OnnxGraph, op: Op, seen_as: tuple, over: tuple, shape: tuple) -> str:
    y = g.add("Expand", g.add("Reshape", op.inputs[0], g.target(seen_as)), g.shape(over))
    return y if over == shape else g.add("Reshape", y, g.target(shape))


def _flip(g: OnnxGraph, op: Op, axes: tuple[int, ...]) -> str:
    count, least = len(axes), np.iinfo(np.int64).min
    ends = [g.constant(value, np.int64) for value in ([-1] * count, [least] * count, list(axes), [-1] * count)]
    return g.add("Slice", op.inputs[0], *ends)


def _roll(g: OnnxGraph, op: Op, shift: int, axis: int) -> str:
    if isinstance(shift, Size) or isinstance(op.sizes(0)[axis], Size):
        raise Unsupported("roll along an axis whose size is open")
    size = op.sizes(0)[axis]
    order = np.roll(np.arange(size), shift)
    return g.add("Gather", op.inputs[0], g.constant(order, np.int64), axis=axis)


def _pad(g: OnnxGraph, op: Op, widths: tuple, value: Any) -> str:
    around = [before for before, _ in widths] + [after for _, after in widths]
    if op.dtype.kind == "b":  # onnxruntime pads numbers only
        padded = g.add("Pad", g.cast(op.inputs[0], np.int32), g.shape(around), g.constant(value, np.int32))
        return g.cast(padded, bool)
    return g.add("Pad", op.inputs[0], g.shape(around), _scalar(g, op, value))


def _getitem(g: OnnxGraph, op: Op, key: tuple) -> str:
    """Slices first, then integers as slices of one that are squeezed out, then new axes."""
    ndim = op.tensors[0].ndim
    basic = [part for part in key if part is not None and part is not ...]
    if ... not in key:
        key = (*key, ...)
    full = []
    for part in key:
        full += [slice(None)] * (ndim - len(basic)) if part is ... else [part]
    starts, ends, axes, steps = [], [], [], []
    dropped, added, axis, place = [], [], 0, 0
    for part in full:
        if part is None:
            added.append(place)
            place += 1
            continue
        if isinstance(part, slice):
            step = 1 if part.step is None else part.step
            if part != slice(None):
                starts.append(part.start if part.start is not None else (0 if step > 0 else np.iinfo(np.int64).max))
                ends.append(part.stop if part.stop is not None else np.iinfo(np.int64).max * (1 if step > 0 else -1))
                axes.append(axis)
                steps.append(step)
            place += 1
        else:
            starts.append(part)
            last = part == -1 if not isinstance(part, Size) else False
            ends.append(np.iinfo(np.int64).max if last else _next(part))
            axes.append(axis)
            steps.append(1)
            dropped.append(axis)
        axis += 1
    y = op.inputs[0]
    if axes:
        y = g.add("Slice", y, g.shape(starts), g.shape(ends), g.constant(axes, np.int64), g.constant(steps, np.int64))
    if dropped:
        y = g.add("Squeeze", y, g.constant(dropped, np.int64))
    return g.add("Unsqueeze", y, g.constant(added, np.int64)) if added else y


def _next(part: Any) -> Any:
    return Size(part.constant + 1, part.factors) if isinstance(part, Size) else part + 1


# -------------------- indexing --------------------


def _take(g: OnnxGraph, op: Op, axis: int) -> str:
    return g.add("Gather", *op.inputs, axis=axis)


def _take_along_axis(g: OnnxGraph, op: Op, axis: int) -> str:
    return g.add("GatherElements", *op.inputs, axis=axis)


def _gather(g: OnnxGraph, op: Op) -> str:
    return g.add("Gather", *op.inputs, axis=0)


def _one_hot(g: OnnxGraph, op: Op, classes: int, axis: int, dtype: Any) -> str:
    """By comparison: ONNX's own OneHot counts negative classes from the end."""
    index = g.add("Unsqueeze", op.inputs[0], g.constant([axis], np.int64))
    shape = [1] * (op.tensors[0].ndim + 1)
    shape[axis] = classes
    every = g.constant(np.arange(classes).reshape(shape), op.tensors[0].dtype)
    return g.cast(g.add("Equal", index, every), dtype)


def _largest(g: OnnxGraph, op: Op, count: int) -> str:
    _, places = g.add("TopK", op.inputs[0], g.constant([count], np.int64), outputs=2, axis=-1)
    return g.cast(places, op.outputs[0].dtype)


def _argsort(g: OnnxGraph, op: Op, axis: int) -> str:
    size = g.shape([op.sizes(0)[axis]])
    _, places = g.add("TopK", op.inputs[0], size, outputs=2, axis=axis, largest=0)
    return g.cast(places, op.outputs[0].dtype)


# -------------------- products --------------------


def _matmul(g: OnnxGraph, op: Op, transpose_a: bool, transpose_b: bool) -> str:
    def turned(name: str, turn: bool, ndim: int) -> str:
        order = [*range(ndim - 2), ndim - 1, ndim - 2]
        return g.add("Transpose", name, perm=order) if turn else name

    a, b = op.inputs
    left, right = turned(a, transpose_a, op.tensors[0].ndim), turned(b, transpose_b, op.tensors[1].ndim)
    return g.add("MatMul", left, right)


def _dense(g: OnnxGraph, op: Op, rectify: bool) -> str:
    x, kernel, bias = op.inputs
    y = g.add("MatMul", x, kernel)
    y = g.add("Add", y, bias) if bias else y
    return g.add("Relu", y) if rectify else y


# -------------------- normalization --------------------


def _batch_normalization(g: OnnxGraph, op: Op, epsilon: float) -> str:
    x, mean, variance, gamma, beta = op.inputs
    inverse = g.add("Reciprocal", g.add("Sqrt", g.add("Add", variance, _scalar(g, op, epsilon))))
    scale = g.add("Mul", inverse, gamma) if gamma else inverse
    y = g.add("Mul", g.add("Sub", x, mean), scale)
    return g.add("Add", y, beta) if beta else y


def _layer_normalization(g: OnnxGraph, op: Op, epsilon: float, centered: bool) -> str:
    x, gamma, beta = op.inputs
    last = g.constant([-1], np.int64)
    if centered:
        x = g.add("Sub", x, g.add("ReduceMean", x, last, keepdims=1))
    spread = g.add("ReduceMean", g.add("Mul", x, x), last, keepdims=1)
    y = g.add("Div", x, g.add("Sqrt", g.add("Add", spread, _scalar(g, op, epsilon))))
    y = g.add("Mul", y, gamma) if gamma else y
    return g.add("Add", y, beta) if beta else y


_NODES = {
    "elementwise": "subtract:Sub divide:Div power:Pow negative:Neg absolute:Abs sqrt:Sqrt reciprocal:Reciprocal exp:Exp log:Log "
    "sin:Sin cos:Cos tan:Tan arctan:Atan erf:Erf where:Where show:Identity maximum:Max minimum:Min",
    "activations": "relu:Relu sigmoid:Sigmoid tanh:Tanh softplus:Softplus",
    "functions": "arcsin:Asin arccos:Acos sinh:Sinh cosh:Cosh arcsinh:Asinh arccosh:Acosh arctanh:Atanh",
}
HANDLERS: dict[str, Handler] = {
    **{
        f"{family}.{name}": _node(kind)
        for family, pairs in _NODES.items()
        for name, kind in (pair.split(":") for pair in pairs.split())
    },
    "tensor._cast_op": _cast,
    "elementwise.unary": _by_ufunc(_UNARY),
    "elementwise.binary": _by_ufunc(_BINARY),
    "elementwise.add": _of_booleans("Add", "Or"),
    "elementwise.multiply": _of_booleans("Mul", "And"),
    "elementwise.mod": _mod,
    "elementwise.square": _square,
    "elementwise.rsqrt": lambda g, op: g.add("Reciprocal", g.add("Sqrt", op.inputs[0])),
    "elementwise.expm1": _expm1,
    "elementwise.log1p": _log1p,
    "elementwise.log2": _scaled("Log", 1 / math.log(2)),
    "functions.log10": _scaled("Log", 1 / math.log(10)),
    "elementwise.round": _round,
    "elementwise.clip": _clip,
    "activations.piecewise": _piecewise,
    "activations.elu": _elu,
    "activations.gelu": _gelu,
    "activations.gelu_tanh": _gelu_tanh,
    "activations.silu": _silu,
    "softmax.softmax": _along("Softmax"),
    "softmax.log_softmax": _along("LogSoftmax"),
    "reduce.sum": _reduce("ReduceSum"),
    "reduce.mean": _reduce("ReduceMean"),
    "reduce.max": _reduce("ReduceMax"),
    "reduce.min": _reduce("ReduceMin"),
    "reduce.prod": _reduce("ReduceProd"),
    "reduce.logsumexp": _reduce("ReduceLogSumExp"),
    "reduce.var": _variance,
    "reduce.any": _truth("ReduceMax"),
    "reduce.all": _truth("ReduceMin"),
    "reduce.argmax": _position("ArgMax"),
    "reduce.argmin": _position("ArgMin"),
    "reduce.cumsum": _cumsum,
    "shape.reshape": _reshape,
    "shape.transpose": _transpose,
    "shape.concatenate": _concatenate,
    "shape.stack": _stack,
    "shape.split": _split,
    "shape.unstack": _unstack,
    "shape.spread": _spread,
    "shape.flip": _flip,
    "shape.roll": _roll,
    "shape.pad": _pad,
    "shape.getitem": _getitem,
    "indexing.take": _take,
    "indexing.take_along_axis": _take_along_axis,
    "indexing.one_hot": _one_hot,
    "indexing.largest": _largest,
    "indexing.argsort": _argsort,
    "embedding.gather": _gather,
    "dense.matmul": _matmul,
    "dense.dense": _dense,
    "normalization.batch_normalization": _batch_normalization,
    "normalization.layer_normalization": _layer_normalization,
    **onnx_windows.HANDLERS,
    **onnx_recurrent.HANDLERS,
}
