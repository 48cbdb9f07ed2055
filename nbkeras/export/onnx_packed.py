"""Weights of 4 bits, and those of GPTQ and AWQ, as ONNX nodes: files hold the bytes, and nodes compute floats from them.

The formulas are those of nbkeras.kernels.packed.
"""

from __future__ import annotations

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.onnx_integers import product, rounded
from nbkeras.export.op import Handler, Op


class _Packed:
    """A packed matrix: the names of its bytes, its scale, and its zero points and groups or ''."""

    def __init__(self, g: OnnxGraph, values: str, scale: str, zero: str, groups: str):
        self._g, self._scale, self._zero = g, scale, zero
        self._is_signed, self._dtype = g.constants[values].dtype == np.int8, g.constants[scale].dtype
        self._groups = g.constants[groups] if groups else None
        self.bytes = g.cast(values, np.uint8)  # ONNX shifts only unsigned integers

    def integers(self, values: str, axis: int, sizes: tuple[int, ...]) -> str:
        """The integers of some of the bytes as floats. axis: that of two integers in a byte; sizes: those from this axis on."""
        g = self._g
        low = g.add("BitwiseAnd", values, g.constant(15, np.uint8))
        high = g.add("BitShift", values, g.constant(4, np.uint8), direction="RIGHT")
        after = g.constant([axis + 1], np.int64)
        pairs = g.add("Concat", g.add("Unsqueeze", low, after), g.add("Unsqueeze", high, after), axis=axis + 1)
        whole = g.add("Reshape", pairs, g.constant([*[0] * axis, -1, *sizes[1:]], np.int64))  # 0 keeps a size
        if sizes[0] % 2:  # the last byte has one integer
            whole = g.add("Slice", whole, *(g.constant([number], np.int64) for number in (0, sizes[0], axis)))
        whole = g.cast(whole, self._dtype)
        if not self._is_signed:
            return whole
        negative = g.add("Greater", whole, g.constant(7, self._dtype))
        return g.add("Where", negative, g.add("Sub", whole, g.constant(16, self._dtype)), whole)

    def floats(self, integers: str, by: int, rows: str = "") -> str:
        """(integers - zero) * scale, or integers / scale. by: the axis of groups; rows: the indices of the integers' rows."""
        g = self._g
        scale, zero = (self._spread(name, by, rows) if name else "" for name in (self._scale, self._zero))
        if not zero:
            return g.add("Div", integers, scale)
        return g.add("Mul", g.add("Sub", integers, g.cast(zero, self._dtype)), scale)

    def _spread(self, name: str, by: int, rows: str) -> str:
        """Scales or zero points for each element of the matrix, or of some rows."""
        g, factors = self._g, self._g.constants[name]
        if factors.ndim == 1:
            factors = factors.reshape((1, -1) if by == 0 else (-1, 1))
        name = g.constant(factors)
        if rows:
            name = g.add("Gather", name, rows, axis=0)
        if self._groups is None or factors.shape[by] == 1:
            return name
        groups = np.clip(self._groups, 0, factors.shape[by] - 1).astype(np.int64)
        return g.add("Gather", name, g.constant(groups), axis=by - 2)


def _matrix(g: OnnxGraph, parts: list[str], shape: tuple[int, int], axis: int, by: int) -> str:
    """All floats of a packed matrix; axis 2: each byte holds one integer."""
    packed = _Packed(g, *parts)
    if axis == 2:
        return packed.floats(g.cast(parts[0], g.constants[parts[1]].dtype), by)
    return packed.floats(packed.integers(packed.bytes, axis, shape[axis:]), by)


def _dense(g: OnnxGraph, op: Op, n: int, rectify: bool) -> str:
    x, *parts, bias = op.inputs
    return product(g, x, _matrix(g, parts, (op.tensors[1].shape[0], n), 1, 0), bias, rectify)


def _gather(g: OnnxGraph, op: Op, columns: int) -> str:
    """Rows of a table; only their bytes become floats."""
    values, rows, *factors = op.inputs
    packed, ndim = _Packed(g, values, *factors), op.tensors[1].ndim
    chosen = g.add("Gather", packed.bytes, rows, axis=0)
    return packed.floats(packed.integers(chosen, ndim, (columns,)), 1, rows)


HANDLERS: dict[str, Handler] = {
    "packed.dequantize": lambda g, op, **layout: _matrix(g, op.inputs, **layout),
    "packed.dense": _dense,
    "packed.gather": _gather,
    "packing._round_rows": lambda g, op, limits: rounded(g, op, limits, [-1]),
}
