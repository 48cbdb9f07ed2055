"""Differentiable elementwise ops: arithmetic, comparisons, logic, selection, powers and logarithms. They broadcast.

dtypes: see arguments.py. Comparisons and logic return bool; ops that need a float convert integers to floatx. Gradients
at ties and kinks: maximum and minimum give half to each of two equal operands, clip counts its ends as inside, and the
gradient of abs at 0 is 0.
"""

from typing import Any

import numpy as np

from nbkeras.engine.dtypes import array_of, known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import elementwise
from nbkeras.ops.arguments import as_float, check_broadcast, promote


def _binary(name: str, x1: Any, x2: Any) -> list[Tensor]:
    operands = promote(x1, x2)
    check_broadcast(name, *operands)
    return operands


def _numbers(name: str, operands: list[Tensor]) -> list[Tensor]:
    if operands[0].dtype.kind == "b":
        raise TypeError(
            f"{name} is not defined for booleans: use ops.logical_not or logical_xor, or ops.cast to a number"
        )
    return operands


def _integers(operands: list[Tensor]) -> list[Tensor]:
    return [as_tensor(x, np.int32) if x.dtype.kind == "b" else x for x in operands]


# -------------------- arithmetic --------------------


@op
def add(x1, x2) -> Tensor:
    """x1 + x2."""
    return apply(elementwise.add, elementwise.add_vjp, _binary("add", x1, x2))


@op
def subtract(x1, x2) -> Tensor:
    """x1 - x2."""
    operands = _numbers("subtract", _binary("subtract", x1, x2))
    return apply(elementwise.subtract, elementwise.subtract_vjp, operands)


@op
def multiply(x1, x2) -> Tensor:
    """x1 * x2."""
    return apply(elementwise.multiply, elementwise.multiply_vjp, _binary("multiply", x1, x2))


@op
def divide(x1, x2) -> Tensor:
    """x1 / x2; the result of integers is floatx."""
    operands = [as_float(x) for x in _binary("divide", x1, x2)]
    return apply(elementwise.divide, elementwise.divide_vjp, operands)


true_divide = divide


@op
def floor_divide(x1, x2) -> Tensor:
    """floor(x1 / x2); no gradient."""
    operands = _integers(_binary("floor_divide", x1, x2))
    return apply(elementwise.binary, None, operands, ufunc=np.floor_divide)


@op
def mod(x1, x2) -> Tensor:
    """The remainder x1 - x2 * floor(x1 / x2), with the sign of x2."""
    return apply(elementwise.mod, elementwise.mod_vjp, _integers(_binary("mod", x1, x2)))


@op
def power(x1, x2) -> Tensor:
    """x1 ** x2. The exponent has a gradient only where x1 > 0."""
    if isinstance(x2, int | float) and x2 == 2:
        return square(x1 if isinstance(x2, int) else as_float(x1))
    return apply(elementwise.power, elementwise.power_vjp, _integers(_binary("power", x1, x2)))


@op
def maximum(x1, x2) -> Tensor:
    """The larger of x1 and x2; NaN where either is NaN."""
    return apply(elementwise.maximum, elementwise.maximum_vjp, _binary("maximum", x1, x2))


@op
def minimum(x1, x2) -> Tensor:
    """The smaller of x1 and x2; NaN where either is NaN."""
    return apply(elementwise.minimum, elementwise.minimum_vjp, _binary("minimum", x1, x2))


@op
def negative(x) -> Tensor:
    """-x."""
    return apply(elementwise.negative, elementwise.negative_vjp, _numbers("negative", [as_tensor(x)]))


@op
def absolute(x) -> Tensor:
    """|x|."""
    return apply(elementwise.absolute, elementwise.absolute_vjp, [as_tensor(x)])


abs = absolute


@op
def square(x) -> Tensor:
    """x * x."""
    return apply(elementwise.square, elementwise.square_vjp, _integers([as_tensor(x)]))


@op
def reciprocal(x) -> Tensor:
    """1 / x."""
    return apply(elementwise.reciprocal, elementwise.reciprocal_vjp, [as_float(x)])


@op
def sqrt(x) -> Tensor:
    """Square root; NaN below 0."""
    return apply(elementwise.sqrt, elementwise.sqrt_vjp, [as_float(x)])


@op
def rsqrt(x) -> Tensor:
    """1 / sqrt(x)."""
    return apply(elementwise.rsqrt, elementwise.rsqrt_vjp, [as_float(x)])


# -------------------- exponentials, logarithms, trigonometry --------------------


@op
def exp(x) -> Tensor:
    """e ** x."""
    return apply(elementwise.exp, elementwise.exp_vjp, [as_float(x)])


@op
def expm1(x) -> Tensor:
    """e ** x - 1, accurate near 0."""
    return apply(elementwise.expm1, elementwise.expm1_vjp, [as_float(x)])


@op
def log(x) -> Tensor:
    """Natural logarithm; -infinity at 0, NaN below 0."""
    return apply(elementwise.log, elementwise.log_vjp, [as_float(x)])


@op
def log1p(x) -> Tensor:
    """log(1 + x), accurate near 0."""
    return apply(elementwise.log1p, elementwise.log1p_vjp, [as_float(x)])


@op
def log2(x) -> Tensor:
    """Logarithm to base 2."""
    return apply(elementwise.log2, elementwise.log2_vjp, [as_float(x)])


@op
def sin(x) -> Tensor:
    """Sine of radians."""
    return apply(elementwise.sin, elementwise.sin_vjp, [as_float(x)])


@op
def cos(x) -> Tensor:
    """Cosine of radians."""
    return apply(elementwise.cos, elementwise.cos_vjp, [as_float(x)])


@op
def tan(x) -> Tensor:
    """Tangent of radians."""
    return apply(elementwise.tan, elementwise.tan_vjp, [as_float(x)])


@op
def arctan(x) -> Tensor:
    """Inverse tangent, in radians."""
    return apply(elementwise.arctan, elementwise.arctan_vjp, [as_float(x)])


@op
def erf(x) -> Tensor:
    """The error function 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x."""
    return apply(elementwise.erf, elementwise.erf_vjp, [as_float(x)])


# -------------------- rounding: no gradient --------------------


@op
def sign(x) -> Tensor:
    """-1, 0 or 1; no gradient."""
    return apply(elementwise.unary, None, _numbers("sign", [as_tensor(x)]), ufunc=np.sign)


@op
def floor(x) -> Tensor:
    """The largest whole number not above x, as a float; no gradient."""
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.floor)


@op
def ceil(x) -> Tensor:
    """The smallest whole number not below x, as a float; no gradient."""
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.ceil)


@op
def round(x, decimals: int = 0) -> Tensor:
    """x rounded to `decimals` decimals, halves to the even neighbour; no gradient."""
    decimals = min(max(decimals, -400), 400)  # NumPy multiplies once per decimal; 1e400 is infinite
    return apply(elementwise.round, None, _numbers("round", [as_tensor(x)]), decimals=decimals)


# -------------------- comparisons and logic: bool, no gradient --------------------


def _compare(ufunc: np.ufunc, x1: Any, x2: Any) -> Tensor:
    return apply(elementwise.binary, None, _binary(ufunc.__name__, x1, x2), ufunc=ufunc, dtype=np.bool_)


@op
def equal(x1, x2) -> Tensor:
    """x1 == x2."""
    return _compare(np.equal, x1, x2)


@op
def not_equal(x1, x2) -> Tensor:
    """x1 != x2."""
    return _compare(np.not_equal, x1, x2)


@op
def greater(x1, x2) -> Tensor:
    """x1 > x2."""
    return _compare(np.greater, x1, x2)


@op
def greater_equal(x1, x2) -> Tensor:
    """x1 >= x2."""
    return _compare(np.greater_equal, x1, x2)


@op
def less(x1, x2) -> Tensor:
    """x1 < x2."""
    return _compare(np.less, x1, x2)


@op
def less_equal(x1, x2) -> Tensor:
    """x1 <= x2."""
    return _compare(np.less_equal, x1, x2)


@op
def logical_and(x1, x2) -> Tensor:
    """True where both are true (not zero)."""
    return _compare(np.logical_and, x1, x2)


@op
def logical_or(x1, x2) -> Tensor:
    """True where either is true (not zero)."""
    return _compare(np.logical_or, x1, x2)


@op
def logical_xor(x1, x2) -> Tensor:
    """True where exactly one is true (not zero)."""
    return _compare(np.logical_xor, x1, x2)


@op
def logical_not(x) -> Tensor:
    """True where x is false (zero)."""
    return apply(elementwise.unary, None, [as_tensor(x)], ufunc=np.logical_not, dtype=np.bool_)


@op
def isnan(x) -> Tensor:
    """True where x is NaN."""
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.isnan, dtype=np.bool_)


@op
def isinf(x) -> Tensor:
    """True where x is infinite."""
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.isinf, dtype=np.bool_)


@op
def isfinite(x) -> Tensor:
    """True where x is neither NaN nor infinite."""
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.isfinite, dtype=np.bool_)


# -------------------- selection and dtype --------------------


@op
def where(condition, x1=None, x2=None) -> Tensor:
    """x1 where the condition is true (not zero), else x2; the three broadcast."""
    if x1 is None or x2 is None:
        raise ValueError("where: give x1 and x2; the positions where a condition holds are ops.nonzero(condition)")
    mask = as_tensor(condition, np.bool_)
    operands = promote(x1, x2)
    check_broadcast("where", mask, *operands)
    return apply(elementwise.where, elementwise.where_vjp, [mask, *operands])


def _limits(dtype: np.dtype, low: Any, high: Any) -> tuple[Any, Any]:
    """The limits within an integer dtype's range, None for a limit that is None. ValueError if no number lies between them."""
    least, greatest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if (low is not None and low > greatest) or (high is not None and high < least):
        raise ValueError(
            f"clip: no {dtype} lies between {low} and {high}: use ops.cast(x, 'int32') or another dtype before"
        )
    return None if low is None else max(int(low), least), None if high is None else min(int(high), greatest)


@op
def clip(x, x_min, x_max) -> Tensor:
    """x limited to at least x_min and at most x_max; x_max wins. Limits are numbers or broadcast with x; None: no limit."""
    if all(limit is None or isinstance(limit, int | float | np.number) for limit in (x_min, x_max)):
        (x,) = _integers([as_tensor(x)])
        if x.dtype.kind != "f" and (isinstance(x_min, float | np.floating) or isinstance(x_max, float | np.floating)):
            x = as_float(x)
        if x.dtype.kind != "f":
            x_min, x_max = _limits(x.dtype, x_min, x_max)
        if x_min is not None and x_max is not None and x_min <= x_max:
            low, high = (array_of(limit, x.dtype)[()] for limit in (x_min, x_max))
            return apply(elementwise.clip, elementwise.clip_vjp, [x], low=low, high=high)
    if x_min is not None:
        x = maximum(x, x_min)
    return as_tensor(x) if x_max is None else minimum(x, x_max)


@op
def cast(x, dtype) -> Tensor:
    """x in another dtype; a float converted to an integer loses its fraction."""
    return as_tensor(as_tensor(x), known_dtype(dtype))


@op
def stop_gradient(variable) -> Tensor:
    """The tensor as a constant: no gradient flows back through it."""
    return Tensor(as_tensor(variable).data)


@op
def print_tensor(x, message: str = "") -> Tensor:
    """x unchanged; its value is printed after the message each time the step runs, also when it is replayed."""
    return apply(elementwise.show, elementwise.show_vjp, [as_tensor(x)], message=message)


def convert_to_tensor(x, dtype=None, sparse: bool | None = None, ragged: bool | None = None) -> Tensor:
    """Convert any array-like to a Tensor, see `as_tensor` in nbkeras/engine/tensor.py. Symbolic tensors pass through."""
    if sparse or ragged:
        raise ValueError("convert_to_tensor: sparse and ragged tensors are not supported, use pad_sequences and masks")
    return x if hasattr(x, "symbolic_op") and dtype is None else cast(x, dtype) if dtype else as_tensor(x)


def convert_to_numpy(x) -> np.ndarray:
    """The value of a tensor as a NumPy array. It makes a recorded step run eagerly."""
    return as_tensor(x).numpy()


def is_tensor(x) -> bool:
    """Whether x is a Tensor (or a symbolic one)."""
    return isinstance(x, Tensor) or hasattr(x, "symbolic_op")
