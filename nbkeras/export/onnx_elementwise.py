"""Elementwise ops and activations as ONNX nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.op import Handler, Op, along, scalar
from nbkeras.export.trace import Unsupported
from nbkeras.kernels.loops.expressions import ELEMENT, Value, trace
from nbkeras.kernels.loops.operations import VARIANTS


def _node(kind: str) -> Handler:
    """A handler that adds one node with the op's inputs."""
    return lambda g, op: g.add(kind, *op.inputs)


def _ufunc(g: OnnxGraph, op: Op, ufunc: Any, dtype: Any = None) -> str:
    name = ufunc.__name__
    if name == "not_equal":
        return g.add("Not", g.add("Equal", *op.inputs))
    if name == "isfinite":
        return g.add("Not", g.add("Or", g.add("IsInf", *op.inputs), g.add("IsNaN", *op.inputs)))
    if name == "floor_divide":
        return _floor_divide(g, op)
    if name not in _UFUNCS:
        raise Unsupported(f"ONNX has no counterpart to {name}")
    to_bool = name.startswith("logical") and op.dtype.kind != "b"
    return g.add(_UFUNCS[name], *(g.cast(x, bool) if to_bool else x for x in op.inputs))


def _floor_divide(g: OnnxGraph, op: Op) -> str:
    """For floats by the remainder: the floor of the quotient would be one more where the quotient was rounded up."""
    x, y = op.inputs
    if op.dtype.kind != "f":
        return g.add("Div", g.add("Sub", x, g.add("Mod", x, y)), y)
    whole = g.add("Round", g.add("Div", g.add("Sub", x, _mod(g, op)), y))
    return g.add("Where", g.add("Equal", y, scalar(g, op, 0)), g.add("Div", x, y), whole)


def _mod(g: OnnxGraph, op: Op) -> str:
    """The remainder with the divisor's sign. ONNX has it for integers only; for floats it has that with the dividend's sign."""
    x, y = op.inputs
    if op.dtype.kind != "f":
        return g.add("Mod", x, y)
    rest, zero = g.add("Mod", x, y, fmod=1), scalar(g, op, 0)
    differ = g.add("Xor", g.add("Less", rest, zero), g.add("Less", y, zero))
    differ = g.add("And", differ, g.add("Not", g.add("Equal", rest, zero)))
    return g.add("Where", differ, g.add("Add", rest, y), rest)


def _of_booleans(number: str, boolean: str) -> Handler:
    """A handler for sums and products, which are 'or' and 'and' for booleans."""
    return lambda g, op: g.add(boolean if op.dtype.kind == "b" else number, *op.inputs)


def _scaled(kind: str, factor: float) -> Handler:
    """A handler for a node's result multiplied by a number."""
    return lambda g, op: g.add("Mul", g.add(kind, *op.inputs), scalar(g, op, factor))


def _round(g: OnnxGraph, op: Op, decimals: int) -> str:
    if op.dtype.kind != "f" and decimals >= 0:
        return g.add("Identity", op.inputs[0])
    if op.dtype.kind != "f":
        scale = g.constant(10.0**-decimals)
        whole = g.add("Round", g.add("Div", g.cast(op.inputs[0], np.float64), scale))
        return g.cast(g.add("Mul", whole, scale), op.dtype)
    scale = scalar(g, op, 10.0**decimals)
    return g.add("Div", g.add("Round", g.add("Mul", op.inputs[0], scale)), scale)


def _cast(g: OnnxGraph, op: Op, dtype: Any) -> str:
    """ONNX leaves open what becomes of floats that an integer dtype does not hold. Here NaN becomes 0, others the nearest."""
    x, target = op.inputs[0], np.dtype(dtype)
    if op.dtype.kind != "f" or target.kind not in "iu":
        return g.cast(x, target)
    minimum, maximum = int(np.iinfo(target).min), int(np.iinfo(target).max)
    below = np.nextafter(op.dtype.type(maximum + 1), op.dtype.type(0))  # the largest float in range
    inside = g.add(
        "Where", g.add("IsNaN", x), scalar(g, op, 0), g.add("Clip", x, scalar(g, op, minimum), scalar(g, op, below))
    )
    if int(below) == maximum or target == np.uint64:
        return g.cast(inside, target)
    beyond = g.add("GreaterOrEqual", x, scalar(g, op, maximum + 1))
    wide = np.int64 if target == np.uint32 else target  # ONNX Runtime selects no uint32, and no uint64
    return g.cast(g.add("Where", beyond, g.constant(maximum, wide), g.cast(inside, wide)), target)


def _logaddexp(g: OnnxGraph, op: Op) -> str:
    """max(a, b) + log(1 + e^-|a - b|), or an infinite max(a, b), where a - b may be NaN."""
    away, larger = g.add("Neg", g.add("Abs", g.add("Sub", *op.inputs))), g.add("Max", *op.inputs)
    return g.add("Where", g.add("IsInf", larger), larger, g.add("Add", larger, g.add("Softplus", away)))


# -------------------- activations --------------------


def _piecewise(g: OnnxGraph, op: Op, negative_slope: float, threshold: float, max_value: float) -> str:
    x = op.inputs[0]
    low = scalar(g, op, 0)  # also for -inf
    if negative_slope:
        low = g.add("Mul", g.add("Sub", x, scalar(g, op, threshold)), scalar(g, op, negative_slope))
    y = g.add("Where", g.add("LessOrEqual", x, scalar(g, op, threshold)), low, x)
    if math.isnan(max_value):
        return y
    top = scalar(g, op, max_value)
    return g.add("Where", g.add("GreaterOrEqual", x, top), top, y)


def _elu(g: OnnxGraph, op: Op, alpha: float, scale: float) -> str:
    y = g.add("Elu", op.inputs[0], alpha=float(alpha))
    return y if scale == 1 else g.add("Mul", y, scalar(g, op, scale))


def _gelu(g: OnnxGraph, op: Op) -> str:
    half = g.add("Mul", op.inputs[0], scalar(g, op, 0.5))
    phi = g.add("Erf", g.add("Mul", op.inputs[0], scalar(g, op, math.sqrt(0.5))))
    return g.add("Mul", half, g.add("Add", phi, scalar(g, op, 1)))


def _gelu_tanh(g: OnnxGraph, op: Op) -> str:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    x = op.inputs[0]
    cube = g.add("Mul", g.add("Mul", g.add("Mul", x, x), x), scalar(g, op, 0.044715))
    inner = g.add("Tanh", g.add("Mul", g.add("Add", x, cube), scalar(g, op, math.sqrt(2 / math.pi))))
    return g.add("Mul", g.add("Mul", x, scalar(g, op, 0.5)), g.add("Add", inner, scalar(g, op, 1)))


def _pairs(text: str) -> dict[str, str]:
    """A dict from a string such as 'exp:Exp log:Log'."""
    return dict(pair.split(":") for pair in text.split())


_UFUNCS = _pairs(
    "sign:Sign floor:Floor ceil:Ceil isnan:IsNaN isinf:IsInf logical_not:Not equal:Equal greater:Greater "
    "greater_equal:GreaterOrEqual less:Less less_equal:LessOrEqual logical_and:And logical_or:Or logical_xor:Xor "
    "bitwise_and:BitwiseAnd bitwise_or:BitwiseOr bitwise_xor:BitwiseXor"
)
_NODES = {
    "elementwise": "subtract:Sub divide:Div power:Pow negative:Neg absolute:Abs sqrt:Sqrt reciprocal:Reciprocal exp:Exp log:Log "
    "sin:Sin cos:Cos tan:Tan arctan:Atan erf:Erf where:Where maximum:Max minimum:Min",
    "activations": "relu:Relu sigmoid:Sigmoid tanh:Tanh softplus:Softplus",
    "functions": "arcsin:Asin arccos:Acos sinh:Sinh cosh:Cosh arcsinh:Asinh arccosh:Acosh arctanh:Atanh",
}
HANDLERS: dict[str, Handler] = {
    **{f"{family}.{name}": _node(kind) for family, pairs in _NODES.items() for name, kind in _pairs(pairs).items()},
    "transforms._identity": lambda g, op: g.add("Identity", op.inputs[0]),
    "tensor._cast_op": _cast,
    "indexing.whole": lambda g, op, dtype: g.cast(op.inputs[0], dtype),
    "elementwise.unary": _ufunc,
    "elementwise.binary": _ufunc,
    "elementwise.add": _of_booleans("Add", "Or"),
    "elementwise.multiply": _of_booleans("Mul", "And"),
    "elementwise.mod": _mod,
    "elementwise.show": lambda g, op, message: g.add("Identity", op.inputs[0]),
    "elementwise.square": lambda g, op: g.add("Mul", op.inputs[0], op.inputs[0]),
    "elementwise.rsqrt": lambda g, op: g.add("Reciprocal", g.add("Sqrt", op.inputs[0])),
    "elementwise.expm1": lambda g, op: g.add("Sub", g.add("Exp", op.inputs[0]), scalar(g, op, 1)),
    "elementwise.log1p": lambda g, op: g.add("Log", g.add("Add", op.inputs[0], scalar(g, op, 1))),
    "elementwise.log2": _scaled("Log", 1 / math.log(2)),
    "functions.log10": _scaled("Log", 1 / math.log(10)),
    "functions.deg2rad": _scaled("Identity", math.pi / 180),
    "functions.rad2deg": _scaled("Identity", 180 / math.pi),
    "functions.exp2": lambda g, op: g.add("Pow", scalar(g, op, 2), op.inputs[0]),
    "functions.erfc": lambda g, op: g.add("Sub", scalar(g, op, 1), g.add("Erf", op.inputs[0])),
    "functions.trunc": lambda g, op: g.add(
        "Mul", g.add("Sign", op.inputs[0]), g.add("Floor", g.add("Abs", op.inputs[0]))
    ),
    "functions.fmod": lambda g, op: g.add("Mod", *op.inputs, fmod=1),
    "functions.hypot": lambda g, op: g.add("Sqrt", g.add("Add", *(g.add("Mul", x, x) for x in op.inputs))),
    "functions.logaddexp": _logaddexp,
    "elementwise.round": _round,
    "elementwise.clip": lambda g, op, low, high: g.add("Clip", op.inputs[0], scalar(g, op, low), scalar(g, op, high)),
    "activations.piecewise": _piecewise,
    "activations.elu": _elu,
    "activations.gelu": _gelu,
    "activations.gelu_tanh": _gelu_tanh,
    "activations.silu": lambda g, op: g.add("Mul", op.inputs[0], g.add("Sigmoid", op.inputs[0])),
    "activations.mish": lambda g, op: g.add("Mul", op.inputs[0], g.add("Tanh", g.add("Softplus", op.inputs[0]))),
    "activations.hard_silu": _node("HardSwish"),
    "softmax.softmax": along("Softmax"),
    "softmax.log_softmax": along("LogSoftmax"),
}


# -------------------- your own formulas --------------------

# The handlers of a formula's operations, by their names in nbkeras.ops
_OPERATIONS: dict[str, Handler] = {
    **{name: _node(kind) for name, kind in _UFUNCS.items()},
    **{name.partition(".")[2]: handler for name, handler in HANDLERS.items()},
    "not_equal": lambda g, op: g.add("Not", g.add("Equal", *op.inputs)),
    "clip": lambda g, op: g.add("Min", g.add("Max", *op.inputs[:2]), op.inputs[2]),
    "real": _node("Identity"),
}


class _Operation(NamedTuple):
    """The part of an Op that the handlers of elementwise ops read."""

    inputs: list[str]
    dtype: np.dtype


def of_formula(g: OnnxGraph, op: Op, formula: Callable, **numbers: float) -> str:
    """Add the nodes of an op that is made of a formula; `numbers` are the formula's arguments by name."""
    expression = trace(lambda *elements: formula(*elements, **numbers), [ELEMENT] * len(op.inputs))

    def node(value: Value, operands: list) -> str:
        names = [each if isinstance(each, str) else scalar(g, op, each) for each in operands]
        return _OPERATIONS[VARIANTS.get(value.op, value.op)](g, _Operation(names, op.dtype))

    (y,) = expression.computed(op.inputs, node)
    return y
