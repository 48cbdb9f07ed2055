"""Reductions, shapes and selection of elements as ONNX nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Handler, Op, along, scalar
from nbkeras.export.trace import Size, Unsupported

# -------------------- reductions --------------------


def _reduce(kind: str) -> Handler:
    """A handler for a reduction over axes, which are an input in opset 18. ONNX reduces no booleans and no small integers."""

    def handler(g: OnnxGraph, op: Op, axes: tuple[int, ...], keepdims: bool = False) -> str:
        x, dtype, result = op.inputs[0], op.tensors[0].dtype, op.outputs[0].dtype
        wide = np.dtype(np.int32) if result.kind == "b" or (result.kind in "iu" and result.itemsize < 4) else result
        if result.kind == "b" and dtype.kind != "b":  # any and all of numbers
            x, dtype = g.cast(x, bool), result
        x = x if dtype == wide else g.cast(x, wide)
        y = g.add(kind, x, g.constant(axes, np.int64), keepdims=int(keepdims)) if axes else g.add("Identity", x)
        return y if wide == result else g.cast(y, result)

    return handler


def _variance(g: OnnxGraph, op: Op, axes: tuple[int, ...], keepdims: bool = False) -> str:
    if not axes:
        return g.add("Sub", op.inputs[0], op.inputs[0])
    where = g.constant(axes, np.int64)
    away = g.add("Sub", op.inputs[0], g.add("ReduceMean", op.inputs[0], where, keepdims=1))
    return g.add("ReduceMean", g.add("Mul", away, away), where, keepdims=int(keepdims))


def _position(kind: str) -> Handler:
    def handler(g: OnnxGraph, op: Op, axis: int) -> str:
        return g.cast(g.add(kind, op.inputs[0], axis=axis, keepdims=0), op.outputs[0].dtype)

    return handler


# -------------------- shapes --------------------


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


def flipped(g: OnnxGraph, name: str, axes: tuple[int, ...]) -> str:
    """A value with its elements along axes in reverse order."""
    count, minimum = len(axes), np.iinfo(np.int64).min
    ends = [g.constant(value, np.int64) for value in ([-1] * count, [minimum] * count, list(axes), [-1] * count)]
    return g.add("Slice", name, *ends)


def _roll(g: OnnxGraph, op: Op, shift: int, axis: int) -> str:
    if isinstance(shift, Size) or isinstance(op.sizes(0)[axis], Size):
        raise Unsupported("roll along an axis whose size is open: give its size in input_signature")
    size = op.sizes(0)[axis]
    order = np.roll(np.arange(size), shift)
    return g.add("Gather", op.inputs[0], g.constant(order, np.int64), axis=axis)


def _pad(g: OnnxGraph, op: Op, widths: tuple, value: Any) -> str:
    around = [before for before, _ in widths] + [after for _, after in widths]
    if op.dtype.kind == "b":  # onnxruntime cannot pad booleans
        padded = g.add("Pad", g.cast(op.inputs[0], np.int32), g.shape(around), g.constant(value, np.int32))
        return g.cast(padded, bool)
    return g.add("Pad", op.inputs[0], g.shape(around), scalar(g, op, value))


def _getitem(g: OnnxGraph, op: Op, key: tuple) -> str:
    """Slice (an integer is a slice of one), then squeeze the integers' axes, then insert new axes."""
    ndim = op.tensors[0].ndim
    basic = [part for part in key if part is not None and part is not ...]
    if ... not in key:
        key = (*key, ...)
    full = []
    for part in key:
        full += [slice(None)] * (ndim - len(basic)) if part is ... else [part]
    slices: list[tuple] = []  # start, end, axis, step
    dropped, added, axis, place = [], [], 0, 0
    far = np.iinfo(np.int64).max
    for part in full:
        if part is None:
            added.append(place)
            place += 1
            continue
        if isinstance(part, slice):
            place += 1
        else:
            dropped.append(axis)
            part = slice(part, None if part == -1 else _next(part))
        if part != slice(None):
            step = 1 if part.step is None else part.step
            first, last = (0, far) if step > 0 else (far, -far)
            slices.append(
                (first if part.start is None else part.start, last if part.stop is None else part.stop, axis, step)
            )
        axis += 1
    y = op.inputs[0]
    if slices:
        starts, ends, axes, steps = zip(*slices, strict=True)
        y = g.add("Slice", y, g.shape(starts), g.shape(ends), g.constant(axes, np.int64), g.constant(steps, np.int64))
    if dropped:
        y = g.add("Squeeze", y, g.constant(dropped, np.int64))
    return g.add("Unsqueeze", y, g.constant(added, np.int64)) if added else y


def _next(part: Any) -> Any:
    if not isinstance(part, Size):
        return part + 1
    return Size(part.constant + 1, part.factors, tuple(value + 1 for value in part.values))


# -------------------- indexing --------------------


def _one_hot(g: OnnxGraph, op: Op, classes: int, axis: int, dtype: Any) -> str:
    """Computed by comparison, because ONNX's OneHot counts negative classes from the end."""
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


HANDLERS: dict[str, Handler] = {
    **{f"reduce.{name}": _reduce(f"Reduce{name.title()}") for name in ("sum", "mean", "max", "min", "prod")},
    "reduce.logsumexp": _reduce("ReduceLogSumExp"),
    "reduce.var": _variance,
    "reduce.any": _reduce("ReduceMax"),
    "reduce.all": _reduce("ReduceMin"),
    "reduce.argmax": _position("ArgMax"),
    "reduce.argmin": _position("ArgMin"),
    "reduce.cumsum": lambda g, op, axis: g.add("CumSum", op.inputs[0], g.constant(axis, np.int64)),
    "shape.reshape": lambda g, op, shape: g.reshape(op.inputs[0], op.sizes(0), shape),
    "shape.transpose": lambda g, op, axes: g.add("Transpose", op.inputs[0], perm=[int(axis) for axis in axes]),
    "shape.concatenate": along("Concat"),
    "shape.stack": _stack,
    "shape.split": _split,
    "shape.unstack": _unstack,
    "shape.spread": _spread,
    "shape.flip": lambda g, op, axes: flipped(g, op.inputs[0], axes),
    "shape.roll": _roll,
    "shape.pad": _pad,
    "shape.getitem": _getitem,
    "indexing.take": along("Gather"),
    "indexing.take_along_axis": along("GatherElements"),
    "indexing.one_hot": _one_hot,
    "indexing.largest": _largest,
    "indexing.argsort": _argsort,
}
