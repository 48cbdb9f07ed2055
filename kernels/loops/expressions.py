"""Formulas of numbers, written in Python. Each is read once into an Expression, which all targets compute.

A formula is a Python function that applies operators and functions of this module (`exp`, `where`, ...) to numbers.

    def silu(x):
        x = clip(x, -1000.0, math.inf)
        return x * sigmoid(x)

`trace` calls it with Values, which record the operations. Equal operations become the same Value. An operation has its name in
`nbkeras.ops`. kernels/loops/map.py turns operations into LLVM instructions, and kernels/cuda/loops/map.py into a CUDA kernel;
nbkeras/autodiff computes them with Tensors.

An element of an array, and anything computed from it, has the array's dtype. Numbers and elements of one-element arrays are
float64 until they meet such an element, or until `real` converts them. Literals have the dtype of the other operand.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Kinds of inputs: an element of an array; an element of an array with one number (or integer label) per row; an element of a
# one-element array; a number
ELEMENT, ROW, LABEL, CELL, NUMBER = "element", "row", "label", "cell", "number"
UNIFORM, OF_ROW, OF_ELEMENT = range(3)  # how a Value varies, see `Value.level`
_LEVELS = {ELEMENT: OF_ELEMENT, ROW: OF_ROW, LABEL: OF_ROW, CELL: UNIFORM, NUMBER: UNIFORM}
FOLDS = ("largest", "total")
COMPARISONS = {
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
}
_thread = threading.local()


class Value:
    """The result of an operation in a formula, or an input of the formula.

    Attributes:
        op: The operation's name. An input has its kind here, and its index as the operand.
        operands: The operation's Values and literals.
        level: OF_ELEMENT if the Value varies by element, OF_ROW if it varies only by row, else UNIFORM.
        is_real: True if the Value has the arrays' dtype, False if it is a float64.
    """

    __slots__ = ("is_real", "level", "op", "operands")

    def __init__(self, op: str, operands: tuple[Any, ...], level: int, is_real: bool):
        self.op, self.operands, self.level, self.is_real = op, operands, level, is_real

    @property
    def varies(self) -> bool:
        """True if it varies by element."""
        return self.level == OF_ELEMENT

    @property
    def inputs(self) -> list[Value]:
        """The operands that are Values."""
        return [each for each in self.operands if isinstance(each, Value)]

    @property
    def is_bits(self) -> bool:
        """True if it is a condition."""
        return self.op in COMPARISONS or self.op in ("logical_or", "logical_and", "is_at", "is_inside")

    def __add__(self, other: Any) -> Value:
        return _made("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return _made("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return _made("subtract", self, other)

    def __rsub__(self, other: Any) -> Value:
        return _made("subtract", other, self)

    def __mul__(self, other: Any) -> Value:
        return _made("multiply", self, other)

    def __rmul__(self, other: Any) -> Value:
        return _made("multiply", other, self)

    def __truediv__(self, other: Any) -> Value:
        return _made("divide", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return _made("divide", other, self)

    def __pow__(self, other: Any) -> Value:
        return _made("power", self, other)

    def __rpow__(self, other: Any) -> Value:
        return _made("power", other, self)

    def __neg__(self) -> Value:
        return _made("negative", self)

    def __abs__(self) -> Value:
        return _made("absolute", self)

    def __lt__(self, other: Any) -> Value:
        return _made("less", self, other)

    def __le__(self, other: Any) -> Value:
        return _made("less_equal", self, other)

    def __gt__(self, other: Any) -> Value:
        return _made("greater", self, other)

    def __ge__(self, other: Any) -> Value:
        return _made("greater_equal", self, other)

    def __or__(self, other: Any) -> Value:
        return _made("logical_or", self, other)

    def __and__(self, other: Any) -> Value:
        return _made("logical_and", self, other)

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula's values are unknown while it is read: write where(condition, a, b) for `a if condition else b`"
        )


def _made(op: str, *operands: Any, level: int | None = None) -> Value:
    """Returns the Value of an operation: a known one, or a new one. level: None for the operands' highest level."""
    if op == "multiply" and 1 in [each for each in operands if not isinstance(each, Value)]:
        return next(each for each in operands if isinstance(each, Value))
    key = (op, *(id(each) if isinstance(each, Value) else float(each) for each in operands))
    known = _thread.known
    if key not in known:
        values = [each for each in operands if isinstance(each, Value)]
        level = max(each.level for each in values) if level is None else level
        known[key] = Value(op, operands, level, op in _REAL or any(each.is_real for each in values))
    return known[key]


_REAL = ("real", "tiny", "columns")


def where(condition: Value, yes: Any, no: Any) -> Value:
    """Returns yes where the condition holds, else no. Both are computed."""
    return _made("where", condition, yes, no)


def equal(x: Value, y: Any) -> Value:
    """True if x = y. (`==` compares the identity of Values.)"""
    return _made("equal", x, y)


def is_nan(x: Value) -> Value:
    """True if x is NaN."""
    return _made("not_equal", x, x)


def clip(x: Value, low: Any, high: Any) -> Value:
    """Limits x to at least low and at most high; NaN stays NaN."""
    return _made("clip", x, low, high)


def real(x: Value) -> Value:
    """Converts a number to the dtype of the arrays."""
    return _made("real", x)


def tiny() -> Value:
    """Returns the smallest normal number of the arrays' dtype."""
    return _made("tiny", level=UNIFORM)


# Operations on rows: see loops/row_passes.py


def largest(x: Value) -> Value:
    """Returns the largest element of the row, or any number if there are NaNs."""
    return _made("largest", x, level=OF_ROW)


def total(x: Value) -> Value:
    """Returns the sum over the row."""
    return _made("total", x, level=OF_ROW)


def columns() -> Value:
    """Returns the number of elements of a row."""
    return _made("columns", level=UNIFORM)


def is_at(label: Value) -> Value:
    """True if this element's position in its row is a label."""
    return _made("is_at", label, level=OF_ELEMENT)


def is_inside(label: Value) -> Value:
    """True if a label is a position in the row, from 0 on."""
    return _made("is_inside", label)


def pick(x: Value, label: Value) -> Value:
    """Returns the element of an array's row at a label, or the first element for a label out of range."""
    return _made("pick", x, label, level=OF_ROW)


def _function(name: str, doc: str) -> Callable[[Any], Value]:
    def function(x: Any) -> Value:
        return _made(name, x)

    function.__name__, function.__doc__ = name, doc
    return function


exp = _function("exp", "e^x.")
expm1 = _function("expm1", "e^x - 1, accurate near 0.")
log = _function("log", "The natural logarithm.")
log1p = _function("log1p", "log(1 + x), for 0 <= x <= 1.")
tanh = _function("tanh", "The hyperbolic tangent.")
sigmoid = _function("sigmoid", "1 / (1 + e^-x).")
sign = _function("sign", "-1, 0 or 1.")
sin = _function("sin", "The sine.")
cos = _function("cos", "The cosine.")
erfc = _function("erfc", "1 - erf(x), accurate where that is small.")
sqrt = _function("sqrt", "The square root.")


def scaled(dy: Value, slope: Any) -> Any:
    """Returns dy * slope; slope may be a condition. The result is 0 where slope is 0, even if dy is infinite."""
    if not isinstance(slope, Value):
        return dy * slope if slope not in (0, 1) else dy if slope else 0.0
    if slope.op == "where":
        condition, yes, no = slope.operands
        return where(condition, scaled(dy, yes), scaled(dy, no))
    return where(slope, dy, 0.0) if slope.is_bits else dy * slope


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    before, _thread.known = getattr(_thread, "known", None), {}
    try:
        yield
    finally:
        _thread.known = before


class Expression:
    """A formula as a list of operations.

    Attributes:
        kinds: The kind of each input: ELEMENT, ROW, ...
        values: Inputs, then operations, each after its operands.
        results: The Values that the formula returns.
    """

    def __init__(self, kinds: tuple[str, ...], inputs: list[Value], results: Sequence[Value]):
        self.kinds, self.results = kinds, tuple(results)
        found = dict.fromkeys(inputs)
        for result in results:
            _note(result, found)
        self.values = list(found)
        place = {value: i for i, value in enumerate(self.values)}
        rows = [
            " ".join(
                [value.op, *(f"v{place[each]}" if isinstance(each, Value) else repr(each) for each in value.operands)]
            )
            for value in self.values[len(inputs) :]
        ]
        self.text = f"{' '.join(kinds)}|{';'.join(rows)}|{' '.join(str(place[each]) for each in results)}"

    def __str__(self) -> str:
        return self.text

    def computed(self, inputs: Sequence[Any], compute: Callable[[Value, list], Any]) -> list:
        """Returns the results in a target's form; compute(value, operands) returns this form of a Value."""
        known: dict[Value, Any] = dict(zip(self.values, inputs, strict=False))
        for value in self.values[len(inputs) :]:
            operands = [known[each] if isinstance(each, Value) else each for each in value.operands]
            known[value] = compute(value, operands)
        return [known[each] for each in self.results]


def _note(value: Value, found: dict[Value, None]) -> None:
    if value not in found:
        for each in value.inputs:
            _note(each, found)
        found[value] = None


def of_numbers(op: str, *operands: Any) -> Any:
    """Returns the result of an operation on NumPy or Python numbers."""
    if op == "where":
        return operands[1] if operands[0] else operands[2]
    with np.errstate(all="ignore"):
        return operands[0] if op == "real" else getattr(np, op)(*operands)


def trace(function: Callable, kinds: Sequence[str]) -> Expression:
    """Returns the Expression of a formula whose parameters have these kinds.

    Raises:
        TypeError: if it branches on a value.
    """
    with _reading():
        inputs = [Value(kind, (i,), _LEVELS[kind], kind in (ELEMENT, ROW)) for i, kind in enumerate(kinds)]
        found = function(*inputs)
        return Expression(tuple(kinds), inputs, found if isinstance(found, tuple) else (found,))
