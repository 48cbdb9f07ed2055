"""Elementwise arithmetic, comparisons and selection: NumPy's compiled loops, launched with their output array.

A ufunc is launched directly (`launch(np.add, x, y, out)`): it broadcasts, writes into a given array and needs no
compilation. Gradients have the broadcast shape; the tape sums them to the shape of each operand.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.kernels.loops.expressions import ELEMENT, GRADIENTS, trace
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
Shape = tuple[int, ...]


def broadcast_shape(a: Shape, b: Shape) -> Shape | None:
    """Returns the shape that two arrays broadcast to, or None if they do not broadcast."""
    if a == b or not b:
        return a
    if len(a) < len(b):
        a, b = b, a
    result = list(a)
    for i in range(1, len(b) + 1):
        if a[-i] == 1:
            result[-i] = b[-i]
        elif b[-i] != 1 and a[-i] != b[-i]:
            return None
    return tuple(result)


def _map(ufunc: Callable, x: Array, *others, into=None) -> Array:
    """Computes ufunc(x, *others) in x's dtype. Scalars among the others are constants. into: an output array, used if it fits."""
    shape = x.shape
    for other in others:
        if isinstance(other, device.ARRAYS) and other.shape != shape:
            shape = broadcast_shape(shape, other.shape)  # type: ignore[assignment]
    out = device.empty(shape, x.dtype) if into is None else device.output(into, shape, x.dtype)
    device.launch(ufunc, x, *others, out)
    return out


def _scaled(factor: Array, dy: Array) -> tuple[Array]:
    """Returns the gradient dy * factor. It overwrites `factor`, a temporary of dy's shape."""
    return (_map(np.multiply, factor, dy, into=factor),)


# -------------------- without a gradient --------------------


def unary(x: Array, ufunc: np.ufunc, dtype=None):
    """Computes any ufunc of one argument. dtype: of the result (default: x's)."""
    y = device.empty(x.shape, x.dtype if dtype is None else dtype)
    device.launch(ufunc, x, y)
    return y, None


def binary(x: Array, y: Array, ufunc: np.ufunc, dtype=None):
    """Computes any ufunc of two arguments. dtype: of the result (default: x's)."""
    z = device.empty(broadcast_shape(x.shape, y.shape), x.dtype if dtype is None else dtype)
    device.launch(ufunc, x, y, z)
    return z, None


def round(x: Array, decimals: int):
    y = device.empty(x.shape, x.dtype)
    device.launch(round_half_even, x, decimals, y)
    return y, None


def round_half_even(x: Array, decimals: int, out: Array) -> None:
    """Kernel: computes x rounded to a number of decimals."""
    if x.dtype.kind == "f":
        np.round(x, decimals, out=out)
    else:  # NumPy rejects an integer output for negative decimals, because it divides
        out[...] = np.round(x, decimals)


def show(x: Array, message: str):
    """Returns x unchanged. Each run of the step prints it, also a replay."""
    device.launch(print_array, x, message)
    return x, None


def show_vjp(saved, dy, needs):
    return (dy,)


@device.host
def print_array(x: Array, message: str) -> None:
    """Kernel: prints x after a message."""
    print(message, x, flush=True)


# -------------------- two operands --------------------


def add(x: Array, y: Array):
    return _map(np.add, x, y), None


def add_vjp(saved, dy, needs):
    return dy if needs[0] is not False else None, dy if needs[1] is not False else None


def subtract(x: Array, y: Array):
    return _map(np.subtract, x, y), None


def subtract_vjp(saved, dy, needs):
    dx = dy if needs[0] is not False else None
    return dx, None if needs[1] is False else _map(np.negative, dy, into=needs[1])


def multiply(x: Array, y: Array):
    return _map(np.multiply, x, y), (x, y)


def multiply_vjp(saved, dy, needs):
    x, y = saved
    dx = None if needs[0] is False else _map(np.multiply, dy, y, into=needs[0])
    return dx, None if needs[1] is False else _map(np.multiply, dy, x, into=needs[1])


def divide(x: Array, y: Array):
    z = _map(np.divide, x, y)
    return z, (y, z)


def divide_vjp(saved, dy, needs):
    y, z = saved
    dx = _map(np.divide, dy, y, into=needs[0])
    if needs[1] is False:
        return dx, None
    d = _map(np.multiply, dx, z)
    return dx if needs[0] is not False else None, _map(np.negative, d, into=d)


def mod(x: Array, y: Array):
    return _map(np.mod, x, y), (x, y)


def mod_vjp(saved, dy, needs):
    x, y = saved
    dx = dy if needs[0] is not False else None
    if needs[1] is False:
        return dx, None
    whole = _map(np.floor_divide, x, y)
    return dx, _map(np.negative, _scaled(whole, dy)[0])


def power(x: Array, y: Array):
    z = _map(np.power, x, y)
    return z, (x, y, z)


def power_vjp(saved, dy, needs):
    """dx = dy y x^(y-1), or 0 where y = 0. The exponent's gradient is dy x^y log x, with 0 for log x where x <= 0."""
    x, y, z = saved
    dx = _of_base(x, y, y, dy) if needs[0] is not False else None
    return dx, _of_exponent(x, z, dy) if needs[1] is not False else None


def scaled_power(x: Array, y: Array, factor: Array):
    """Computes factor * x^y, or 0 where the factor is 0: there x^y may be infinite. This is the slope of a power by x."""
    z = _map(np.power, x, y)
    device.launch(np.multiply, z, factor, z)
    device.launch(select, _is(np.equal, factor, factor.dtype.type(0)), z.dtype.type(0), z, z)
    return z, (x, y, factor, z)


def scaled_power_vjp(saved, dy, needs):
    """Like `power_vjp`. The factor, which depends only on exponents, has a gradient only where x > 0, as they do."""
    x, y, factor, z = saved
    dx = dexponent = dfactor = None
    if needs[0] is not False:
        dx = _of_base(x, y, _map(np.multiply, y, factor), dy)
    if needs[1] is not False:
        dexponent = _of_exponent(x, z, dy)
    if needs[2] is not False:
        dfactor = _map(np.power, x, y)
        device.launch(select, _is(np.less_equal, x, x.dtype.type(0)), x.dtype.type(0), dfactor, dfactor)
        (dfactor,) = _scaled(dfactor, dy)
    return dx, dexponent, dfactor


def _of_base(x: Array, y: Array, factor: Array, dy: Array) -> Array:
    """Returns dy * factor * x^(y-1)."""
    slope, _ = scaled_power(x, _map(np.subtract, y, y.dtype.type(1)), factor)
    return _scaled(slope, dy)[0]


def _of_exponent(x: Array, z: Array, dy: Array) -> Array:
    """Returns dy * z * log x, with 0 for log x where x <= 0, as in TensorFlow."""
    slope, zero = _map(np.log, x), x.dtype.type(0)
    device.launch(select, _is(np.less_equal, x, zero), zero, slope, slope)
    (slope,) = _scaled(_map(np.multiply, z, slope), dy)
    return slope


def direction(x: Array, y: Array):
    """Computes x / sqrt(x^2 + y^2), and 0 at (0, 0)."""
    z = _map(np.hypot, x, y)
    at_zero = _is(np.equal, z, z.dtype.type(0))
    device.launch(np.divide, x, z, z)
    device.launch(select, at_zero, z.dtype.type(0), z, z)
    return z, None


def _is(comparison: np.ufunc, x: Array, value) -> Array:
    mask = device.empty(x.shape, np.bool_)
    device.launch(comparison, x, value, mask)
    return mask


def larger(x: Array, y: Array, out: Array) -> None:
    """Kernel: computes the larger of two. (For this ufunc and the next, NumPy takes the output only as a keyword.)"""
    np.maximum(x, y, out=out)


def smaller(x: Array, y: Array, out: Array) -> None:
    """Kernel: computes the smaller of two."""
    np.minimum(x, y, out=out)


def maximum(x: Array, y: Array):
    return _map(larger, x, y), (x, y)


def maximum_vjp(saved, dy, needs):
    return _shared(np.greater, saved, dy, needs)


def minimum(x: Array, y: Array):
    return _map(smaller, x, y), (x, y)


def minimum_vjp(saved, dy, needs):
    return _shared(np.less, saved, dy, needs)


def _shared(comparison: np.ufunc, saved, dy, needs):
    """The chosen operand gets dy. At a tie each gets half of it, as in JAX and PyTorch (in TensorFlow the first gets all)."""
    x, y = saved
    dx = _map(comparison, x, y)
    tie = _map(np.equal, x, y)
    device.launch(np.multiply, tie, dy.dtype.type(0.5), tie)
    device.launch(np.add, dx, tie, dx)
    (dx,) = _scaled(dx, dy)
    return dx if needs[0] is not False else None, None if needs[1] is False else _map(np.subtract, dy, dx)


# -------------------- selection --------------------


def select(condition: Array, x, y, out: Array) -> None:
    """Kernel: computes x where the condition is true, else y. x and y are arrays or constants; y may be the output."""
    if y is not out:
        np.copyto(out, y)
    np.copyto(out, x, where=condition)


def where(condition: Array, x: Array, y: Array):
    shape = broadcast_shape(broadcast_shape(x.shape, y.shape), condition.shape)  # type: ignore[arg-type]
    z = device.empty(shape, x.dtype)
    device.launch(select, condition, x, y, z)
    return z, condition


def where_vjp(condition, dy, needs):
    zero = dy.dtype.type(0)
    dx = dy_else = None
    if needs[1] is not False:
        dx = device.output(needs[1], dy.shape, dy.dtype)
        device.launch(select, condition, dy, zero, dx)
    if needs[2] is not False:
        dy_else = device.output(needs[2], dy.shape, dy.dtype)
        device.launch(select, condition, zero, dy, dy_else)
    return None, dx, dy_else


def clip(x: Array, low, high):
    """Limits x to at least low and at most high, which are constants of x's dtype."""
    y = device.empty(x.shape, x.dtype)
    device.launch(clip_between, x, low, high, y)
    return y, (x, low, high)


def clip_vjp(saved, dy, needs):
    """The gradient is dy inside the interval and at its ends, else 0, as in TensorFlow."""
    x, low, high = saved
    inside, below = _is(np.greater_equal, x, low), _is(np.less_equal, x, high)
    device.launch(np.logical_and, inside, below, inside)
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(select, inside, dy, dy.dtype.type(0), dx)
    return (dx,)


def clip_between(x: Array, low, high, out: Array) -> None:
    """Kernel: limits x to at least low and at most high."""
    np.clip(x, low, high, out=out)


larger.fuses_as, smaller.fuses_as = "maximum", "minimum"  # type: ignore[attr-defined]
select.fuses_as, clip_between.fuses_as = "select", "clip"  # type: ignore[attr-defined]


# -------------------- one operand --------------------

# The ops of this part. Their gradients are those of expressions.GRADIENTS, by launches of ufuncs; each of these uses the result
# of the one before. As those of formula_ops.py, the ops have the attributes `slopes` and `keeps`.
OPS: list[Callable] = []


@functools.cache
def _launches(formula: Callable) -> list[tuple]:
    """Returns the launches that compute a formula of x (or y) and dy: (ufunc, indices of operands, operands).

    x has index 0, dy has index 1, the previous result has index 2, and a literal has None. Raises ValueError for a formula that
    uses an older result, because there is only one array for results.
    """
    *inputs, _ = values = trace(formula, (ELEMENT, ELEMENT)).values
    found = []
    for before, value in zip(inputs[1:], values[2:], strict=True):
        index = {values[0]: 0, values[1]: 1} | ({before: 2} if before not in values[:2] else {})
        if not all(each in index for each in value.inputs):
            raise ValueError(f"the gradient's {value.op} needs a result that is overwritten: write it as a chain")
        found.append((getattr(np, value.op), [index.get(each) for each in value.operands], value.operands))
    return found


def _gradient(formula: Callable, kept: Array, dy: Array, need: Any) -> tuple[Array]:
    """Launches ufuncs that compute a formula of dy and of the array that an op kept. Each uses the previous result."""
    arrays = kept, dy, device.output(need, dy.shape, dy.dtype)
    for ufunc, numbers, operands in _launches(formula):
        given = [
            dy.dtype.type(operand) if number is None else arrays[number]
            for number, operand in zip(numbers, operands, strict=True)
        ]
        device.launch(ufunc, *given, arrays[2])
    return (arrays[2],)


def _of_one(ufunc: np.ufunc) -> tuple[Callable, Callable]:
    """Returns an op of one operand, and its vjp."""

    def op(x: Array):
        y = _map(ufunc, x)
        return y, x if op.keeps == "x" else y  # type: ignore[attr-defined]

    return _with_gradient(ufunc.__name__, op)


def _with_gradient(name: str, op: Any) -> tuple[Callable, Callable]:
    op.keeps, gradient = GRADIENTS[name]
    op.slopes = [lambda kept: gradient(kept, 1.0)]

    def vjp(kept, dy, needs):
        return _gradient(gradient, kept, dy, needs[0])

    op.__name__ = op.__qualname__ = name
    vjp.__name__ = vjp.__qualname__ = f"{name}_vjp"
    OPS.append(op)
    return op, vjp


def _rsqrt(x: Array):
    y = _map(np.sqrt, x)
    device.launch(np.reciprocal, y, y)
    return y, y


def negative(x: Array):
    return _map(np.negative, x), None


def negative_vjp(saved, dy, needs):
    return (_map(np.negative, dy, into=needs[0]),)


absolute, absolute_vjp = _of_one(np.absolute)
square, square_vjp = _of_one(np.square)
sqrt, sqrt_vjp = _of_one(np.sqrt)
reciprocal, reciprocal_vjp = _of_one(np.reciprocal)
exp, exp_vjp = _of_one(np.exp)
expm1, expm1_vjp = _of_one(np.expm1)
log, log_vjp = _of_one(np.log)
log1p, log1p_vjp = _of_one(np.log1p)
log2, log2_vjp = _of_one(np.log2)
sin, sin_vjp = _of_one(np.sin)
cos, cos_vjp = _of_one(np.cos)
tan, tan_vjp = _of_one(np.tan)
arctan, arctan_vjp = _of_one(np.arctan)
rsqrt, rsqrt_vjp = _with_gradient("rsqrt", _rsqrt)


@compiled
def error_function(x, y):
    """Kernel: y = erf(x). It is compiled, because importing SciPy's erf would take a quarter of the time of `import nbkeras`."""
    for i in range(x.size):
        y[i] = math.erf(x[i])


def _erf(x: Array):
    y = device.empty(x.shape, x.dtype)
    device.launch(error_function, x.reshape(-1), y.reshape(-1))
    return y, x


erf, erf_vjp = _with_gradient("erf", _erf)
