"""Formulas of numbers, written in Python. Each is read once into an Expression, which all targets compute.

A formula is a Python function that applies operators and functions of this module (`exp`, `where`, ...) to numbers.

    def silu(x):
        x = clip(x, -1000.0, math.inf)
        return x * sigmoid(x)

`trace` calls it with Values, which record the operations. Equal operations are one Value. An operation has its name in
`nbkeras.ops`, whose functions take Values too. kernels/loops/map.py turns operations into LLVM instructions,
kernels/cuda/loops/map.py into a CUDA kernel; nbkeras/autodiff computes them with Tensors. `derivative` returns the
formula of a partial derivative.

An element of an array, and anything computed from it, has the array's dtype. Numbers and elements of one-element arrays are
float64 until they meet such an element, or until `real` converts them. Literals have the dtype of the other operand.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from nbkeras.kernels.loops.operations import COMPARISONS, VARIANTS, of_numbers

# Kinds of inputs: an element of an array; an element of an array with one number (or integer label) per row; an element of a
# one-element array; a number
ELEMENT, ROW, LABEL, CELL, NUMBER = "element", "row", "label", "cell", "number"
UNIFORM, OF_ROW, OF_ELEMENT = range(3)  # how a Value varies, see `Value.level`
_LEVELS = {ELEMENT: OF_ELEMENT, ROW: OF_ROW, LABEL: OF_ROW, CELL: UNIFORM, NUMBER: UNIFORM}
FOLDS = ("largest", "total")
_LOGIC = ("logical_or", "logical_and")
_thread = threading.local()


class Value(np.lib.mixins.NDArrayOperatorsMixin):
    """The result of an operation in a formula, or an input of the formula. Its operators are NumPy's: see `__array_ufunc__`.

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
        return self.op in COMPARISONS or self.op in (*_LOGIC, "is_at", "is_inside")

    def __eq__(self, other: Any) -> Any:
        """The comparison of numbers while a formula is read, else identity."""
        return NotImplemented if getattr(_thread, "known", None) is None else _made("equal", self, other)

    def __ne__(self, other: Any) -> Any:
        return NotImplemented if getattr(_thread, "known", None) is None else _made("not_equal", self, other)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula's values are unknown while it is read: write where(condition, a, b) for `a if condition else b`"
        )

    def _number(self) -> NoReturn:
        raise TypeError(
            "a formula's values are unknown while it is read: for functions of Python and `math` write those of nbkeras.ops, "
            "such as ops.sin(x)"
        )

    __float__ = __int__ = __index__ = _number

    def _elements(self, *_: Any) -> NoReturn:
        raise TypeError("a formula computes with single numbers, which have no elements")

    __getitem__ = __iter__ = __len__ = _elements

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a formula computes with single numbers, which have no {name}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Value:
        op = _OPERATORS.get(ufunc.__name__)
        if op is None:
            raise TypeError(
                f"a formula cannot call numpy.{ufunc.__name__}: write a function of nbkeras.ops; {_takes()}"
            )
        return _made(op, *operands)

    def symbolic_op(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """The result of an op that a formula calls; see nbkeras.engine.tensor.op."""
        of_nbkeras = FUNCTIONS if function.__module__.startswith("nbkeras.ops.") else {}
        known = getattr(function, "as_formula", None) or of_nbkeras.get(function.__name__)
        if known is None:
            raise TypeError(f"a formula cannot call {function.__name__}; {_takes()}")
        given = inspect.signature(function).bind(*args, **kwargs)
        try:
            inspect.signature(known).bind(*given.args, **given.kwargs)
        except TypeError:
            raise TypeError(f"a formula can call {function.__name__} only without options") from None
        return known(*given.args, **given.kwargs)


_PRODUCTS = (1, 2, 3, 4)  # exponents of powers that are computed as products


def _takes() -> str:
    return f"formulas may call each other, and of nbkeras.ops {', '.join(sorted(FUNCTIONS))}"


def _checked(op: str, operand: Any, position: int) -> Any:
    """An operand in the form that the operation takes. A condition is 1 or 0 in arithmetic."""
    if isinstance(operand, Value):
        wants_bits = op in _LOGIC or (op == "where" and position == 0)
        if wants_bits and not operand.is_bits:
            raise TypeError(f"a formula's {op} takes conditions such as x > 0, received numbers: write x != 0")
        return operand if wants_bits or not operand.is_bits else where(operand, 1.0, 0.0)
    if not isinstance(operand, int | float | np.bool_ | np.integer | np.floating):
        raise TypeError(
            f"a formula computes with its arguments and with numbers, received {type(operand).__name__}: pass an array or a "
            "tensor as an argument, and compute constants by `math`"
        )
    return operand


def _made(op: str, *operands: Any, level: int | None = None) -> Value:
    """Returns the Value of an operation: a known one, or a new one. level: None for the operands' highest level."""
    operands = tuple(_checked(op, each, i) for i, each in enumerate(operands))
    if op == "power" and not isinstance(operands[1], Value) and operands[1] in _PRODUCTS:
        return functools.reduce(operator.mul, [operands[0]] * int(operands[1]))
    if op == "multiply" and 1 in [each for each in operands if not isinstance(each, Value)]:
        return next(each for each in operands if isinstance(each, Value))
    values = [each for each in operands if isinstance(each, Value)]
    if not values and level is None:
        return float(of_numbers(op, *operands))  # type: ignore[return-value]
    key = (op, *(id(each) if isinstance(each, Value) else float(each) for each in operands))
    known = _thread.known
    if key not in known:
        level = max(each.level for each in values) if level is None else level
        known[key] = Value(op, operands, level, op in _REAL or any(each.is_real for each in values))
    return known[key]


_REAL = ("real", "tiny", "columns")


def where(condition: Value, yes: Any, no: Any) -> Value:
    """Returns yes where the condition holds, else no. Both are computed."""
    if not isinstance(condition, Value):
        return yes if condition else no
    if yes is no or (not isinstance(yes, Value) and not isinstance(no, Value) and yes == no):
        return yes
    return _made("where", condition, yes, no)


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
log1p = _function("log1p", "log(1 + x).")
bounded_exp = _function("bounded_exp", "e^x for x <= 80; 0 instead of subnormal numbers.")
bounded_expm1 = _function("bounded_expm1", "e^x - 1 for x <= 80.")
bounded_log1p = _function("bounded_log1p", "log(1 + x) for -1/2 <= x <= 1.")
scalar_log = _function("scalar_log", "The natural logarithm of one number of a row.")
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


# -------------------- derivatives --------------------

# The gradients of operations of one number: whether they need its operand x or its result y, and a formula of that and dy
GRADIENTS: dict[str, tuple[str, Callable[[Value, Any], Any]]] = {
    "negative": ("x", lambda x, dy: -dy),
    "absolute": ("x", lambda x, dy: sign(x) * dy),
    "square": ("x", lambda x, dy: (x + x) * dy),
    "sqrt": ("y", lambda y, dy: dy * 0.5 / y),
    "reciprocal": ("y", lambda y, dy: -(y * y) * dy),
    "rsqrt": ("y", lambda y, dy: y * y * y * -0.5 * dy),
    "exp": ("y", lambda y, dy: dy * y),
    "expm1": ("x", lambda x, dy: exp(x) * dy),
    "log": ("x", lambda x, dy: dy / x),
    "log1p": ("x", lambda x, dy: dy / (x + 1)),
    "log2": ("x", lambda x, dy: dy / x * (1 / math.log(2))),
    "sin": ("x", lambda x, dy: cos(x) * dy),
    "cos": ("x", lambda x, dy: -sin(x) * dy),
    "tan": ("y", lambda y, dy: (y * y + 1) * dy),
    "arctan": ("x", lambda x, dy: dy / (x * x + 1)),
    "sinh": ("x", lambda x, dy: _made("cosh", x) * dy),
    "cosh": ("x", lambda x, dy: _made("sinh", x) * dy),
    "tanh": ("y", lambda y, dy: (1 - y * y) * dy),
    "sigmoid": ("y", lambda y, dy: y * (1 - y) * dy),
    "erf": ("x", lambda x, dy: exp(-(x * x)) * (2 / math.sqrt(math.pi)) * dy),
    "erfc": ("x", lambda x, dy: exp(-(x * x)) * (-2 / math.sqrt(math.pi)) * dy),
    "sign": ("x", lambda x, dy: 0.0),
    "real": ("x", lambda x, dy: dy),
}
GRADIENTS |= {bounded: GRADIENTS[name] for bounded, name in VARIANTS.items()}


def _larger_share(x: Any, y: Any) -> Any:
    """The derivative of max(x, y) with respect to x: one half at a tie."""
    return where(x > y, 1.0, where(x == y, 0.5, 0.0))


def _slope_of_base(x: Any, y: Any, z: Value) -> Any:
    if not isinstance(y, Value):
        return y * x ** (y - 1) if y else 0.0
    at_zero = where(x == 0, 0.0, y / x) if y.varies else 0.0  # 0, with the derivative 1 / x by y
    return where(y == 0, at_zero, y * x ** (y - 1))


# The partial derivatives of operations of two numbers, from these and the result
_SLOPES_OF_TWO: dict[str, tuple[Callable, Callable]] = {
    "add": (lambda x, y, z: 1.0, lambda x, y, z: 1.0),
    "subtract": (lambda x, y, z: 1.0, lambda x, y, z: -1.0),
    "multiply": (lambda x, y, z: y, lambda x, y, z: x),
    "divide": (lambda x, y, z: 1 / y, lambda x, y, z: -z / y),
    "power": (_slope_of_base, lambda x, y, z: z * log(where(x <= 0, 1.0, x))),
    "maximum": (lambda x, y, z: _larger_share(x, y), lambda x, y, z: 1 - _larger_share(x, y)),
    "minimum": (lambda x, y, z: _larger_share(y, x), lambda x, y, z: 1 - _larger_share(y, x)),
}


_OPERATORS = {"bitwise_and": "logical_and", "bitwise_or": "logical_or"}
_OPERATORS |= {name: name for name in ("negative", "absolute", *_SLOPES_OF_TWO, *COMPARISONS)}


def derivative(formula: Callable, i: int) -> Callable:
    """The formula of the partial derivative with respect to parameter i. The derivative may be a number."""

    @functools.wraps(formula)
    def slope(*values: Value, **constants: Value) -> Any:
        found = _tangent(formula(*values, **constants), values[i], {})
        return where(found, 1.0, 0.0) if isinstance(found, Value) and found.is_bits else found

    return slope


def _tangent(value: Any, by: Value, found: dict[Value, Any]) -> Any:
    """The derivative of a Value with respect to another one. Where a branch is not taken, its derivative has no effect."""
    if value is by or not isinstance(value, Value):
        return float(value is by)
    if value.is_bits or not value.inputs:
        return 0.0
    if value not in found:
        found[value] = _derived(value, lambda each: _tangent(each, by, found))
    return found[value]


def _derived(value: Value, tangent: Callable[[Any], Any]) -> Any:
    """The derivative of an operation; `tangent` returns that of an operand."""
    op, operands = value.op, value.operands
    if value in _thread.slopes:
        x, slope = _thread.slopes[value]
        pairs = [(slope(), tangent(x))]
    elif op == "where":
        return where(operands[0], *map(tangent, operands[1:]))
    elif op == "clip":
        x, low, high = operands
        return where(x < low, tangent(low), where(x > high, tangent(high), tangent(x)))
    elif op in GRADIENTS:
        keeps, gradient = GRADIENTS[op]
        pairs = [(gradient(operands[0] if keeps == "x" else value, 1.0), tangent(operands[0]))]
    else:
        pairs = [(slope(*operands, value), tangent(x)) for slope, x in zip(_SLOPES_OF_TWO[op], operands, strict=True)]
    terms = [scaled(*pair) for pair in pairs if all(isinstance(each, Value) or each for each in pair)]
    return functools.reduce(operator.add, terms) if terms else 0.0


def with_slope(formula: Callable, slope: Callable, keeps: str) -> Callable:
    """A formula of one number for use in other formulas, where `derivative` takes its slope, a function of x or of y.

    The slope is called only if it is needed, so it may have a slope of the same kind.
    """

    @functools.wraps(formula)
    def known(x: Value) -> Value:
        y = formula(x)
        if isinstance(y, Value):
            _thread.slopes[y] = x, functools.partial(slope, x if keeps == "x" else y)
        return y

    return known


# The functions that formulas may call, by their names in nbkeras.ops; nbkeras/ops/formula.py adds activations
FUNCTIONS: dict[str, Callable] = {
    **{name: functools.partial(_made, name) for name in (*GRADIENTS, *_SLOPES_OF_TWO, *COMPARISONS, *_LOGIC)},
    "where": where,
    "clip": lambda x, low, high: clip(x, -math.inf if low is None else low, math.inf if high is None else high),
    "isnan": is_nan,
}
for _name in ("real", *VARIANTS):
    del FUNCTIONS[_name]


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    before = getattr(_thread, "known", None), getattr(_thread, "slopes", None)
    _thread.known, _thread.slopes = {}, {}
    try:
        yield
    finally:
        _thread.known, _thread.slopes = before


class Expression:
    """A formula as a list of operations.

    Attributes:
        kinds: The kind of each input: ELEMENT, ROW, ...
        values: Inputs, then operations, each after its operands.
        results: The Values that the formula returns; numbers where they are constant.
    """

    def __init__(self, kinds: tuple[str, ...], inputs: list[Value], results: Sequence[Value]):
        self.kinds, self.results = kinds, tuple(results)
        found = dict.fromkeys(inputs)
        for result in results:
            if isinstance(result, Value):
                _note(result, found)
        self.values = list(found)
        place = {value: i for i, value in enumerate(self.values)}
        rows = [
            " ".join(
                [value.op, *(f"v{place[each]}" if isinstance(each, Value) else repr(each) for each in value.operands)]
            )
            for value in self.values[len(inputs) :]
        ]
        returned = " ".join(str(place[each]) if isinstance(each, Value) else repr(each) for each in results)
        self.text = f"{' '.join(kinds)}|{';'.join(rows)}|{returned}"

    def __str__(self) -> str:
        return self.text

    def computed(self, inputs: Sequence[Any], compute: Callable[[Value, list], Any]) -> list:
        """Returns the results in a target's form; compute(value, operands) returns this form of a Value."""
        known: dict[Value, Any] = dict(zip(self.values, inputs, strict=False))
        for value in self.values[len(inputs) :]:
            operands = [known[each] if isinstance(each, Value) else each for each in value.operands]
            known[value] = compute(value, operands)
        return [known[each] if isinstance(each, Value) else each for each in self.results]


def _note(value: Value, found: dict[Value, None]) -> None:
    if value not in found:
        for each in value.inputs:
            _note(each, found)
        found[value] = None


def trace(function: Callable, kinds: Sequence[str]) -> Expression:
    """Returns the Expression of a formula whose parameters have these kinds.

    Raises:
        TypeError: if it branches on a value.
    """
    with _reading():
        inputs = [Value(kind, (i,), _LEVELS[kind], kind in (ELEMENT, ROW)) for i, kind in enumerate(kinds)]
        found = function(*inputs)
        return Expression(tuple(kinds), inputs, found if isinstance(found, tuple) else (found,))
