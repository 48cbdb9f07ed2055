"""Elementwise arithmetic, comparisons and selection: NumPy's compiled loops, launched with their output array.

A ufunc is launched directly (`launch(np.add, x, y, out)`): it broadcasts, writes into a given array and needs no
compilation. Gradients have the broadcast shape; the tape sums them to the shape of each operand.
"""

import math
from collections.abc import Callable

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
Shape = tuple[int, ...]


def broadcast_shape(a: Shape, b: Shape) -> Shape | None:
    """The shape of two arrays broadcast together, or None if they do not fit."""
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
    """ufunc(x, *others) in x's dtype; `into`: an output array to use if it fits. Scalars among the others are constants."""
    shape = x.shape
    for other in others:
        if isinstance(other, device.ARRAYS) and other.shape != shape:
            shape = broadcast_shape(shape, other.shape)  # type: ignore[assignment]
    out = device.output(into, shape, x.dtype)
    device.launch(ufunc, x, *others, out)
    return out


def _scaled(factor: Array, dy: Array) -> tuple[Array]:
    """The gradient dy * factor, written into `factor`, which is a temporary of dy's shape."""
    return (_map(np.multiply, factor, dy, into=factor),)


# -------------------- without a gradient --------------------


def unary(x: Array, ufunc: np.ufunc, dtype=None):
    """Any ufunc of one argument, into `dtype` (x's own by default)."""
    y = device.empty(x.shape, x.dtype if dtype is None else dtype)
    device.launch(ufunc, x, y)
    return y, None


def binary(x: Array, y: Array, ufunc: np.ufunc, dtype=None):
    """Any ufunc of two arguments, into `dtype` (x's own by default)."""
    z = device.empty(broadcast_shape(x.shape, y.shape), x.dtype if dtype is None else dtype)
    device.launch(ufunc, x, y, z)
    return z, None


def round(x: Array, decimals: int):
    y = device.empty(x.shape, x.dtype)
    device.launch(round_half_even, x, decimals, y)
    return y, None


def round_half_even(x: Array, decimals: int, out: Array) -> None:
    """Kernel: x rounded to a number of decimals."""
    if x.dtype.kind == "f":
        np.round(x, decimals, out=out)
    else:  # NumPy does not accept an integer output if it divides
        out[...] = np.round(x, decimals)


def show(x: Array, message: str):
    """x unchanged; it is printed each time the step runs, also when it is replayed."""
    device.launch(print_array, x, message)
    return x, None


def show_vjp(saved, dy, needs):
    return (dy,)


@device.host
def print_array(x: Array, message: str) -> None:
    """Kernel: print x after a message."""
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
    """dx = dy y x^(y-1), 0 where y = 0; the exponent's gradient dy x^y log x is 0 unless x > 0, as in TensorFlow."""
    x, y, z = saved
    one, zero = x.dtype.type(1), x.dtype.type(0)
    dx = dexponent = None
    if needs[0] is not False:
        dx = _map(np.power, x, _map(np.subtract, y, one))
        device.launch(np.multiply, dx, y, dx)
        device.launch(select, _is(np.equal, y, zero), zero, dx, dx)
        (dx,) = _scaled(dx, dy)
    if needs[1] is not False:
        logarithm = _map(np.log, x)
        device.launch(select, _is(np.less_equal, x, zero), zero, logarithm, logarithm)
        dexponent = _map(np.multiply, z, logarithm)
        (dexponent,) = _scaled(dexponent, dy)
    return dx, dexponent


def _is(comparison: np.ufunc, x: Array, value) -> Array:
    mask = device.empty(x.shape, np.bool_)
    device.launch(comparison, x, value, mask)
    return mask


def larger(x: Array, y: Array, out: Array) -> None:
    """Kernel: the larger of two (NumPy takes the output of this ufunc and the next only by name)."""
    np.maximum(x, y, out=out)


def smaller(x: Array, y: Array, out: Array) -> None:
    """Kernel: the smaller of two."""
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
    """dy for the chosen operand; half of it for each at a tie, as in JAX and PyTorch (TensorFlow: all for the first)."""
    x, y = saved
    dx = _map(comparison, x, y)
    tie = _map(np.equal, x, y)
    device.launch(np.multiply, tie, dy.dtype.type(0.5), tie)
    device.launch(np.add, dx, tie, dx)
    (dx,) = _scaled(dx, dy)
    return dx if needs[0] is not False else None, None if needs[1] is False else _map(np.subtract, dy, dx)


# -------------------- selection --------------------


def select(condition: Array, x, y, out: Array) -> None:
    """Kernel: x where the condition is true, else y; x and y are arrays or constants, and y may be out."""
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
    """low, high: constants of x's dtype."""
    y = device.empty(x.shape, x.dtype)
    device.launch(clip_between, x, low, high, y)
    return y, (x, low, high)


def clip_vjp(saved, dy, needs):
    """dy inside the interval, including its ends, as in TensorFlow."""
    x, low, high = saved
    inside, below = _is(np.greater_equal, x, low), _is(np.less_equal, x, high)
    device.launch(np.logical_and, inside, below, inside)
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(select, inside, dy, dy.dtype.type(0), dx)
    return (dx,)


def clip_between(x: Array, low, high, out: Array) -> None:
    """Kernel: x, at least low and at most high."""
    np.clip(x, low, high, out=out)


larger.fuses_as, smaller.fuses_as = "maximum", "minimum"  # type: ignore[attr-defined]
select.fuses_as, clip_between.fuses_as = "select", "clip"  # type: ignore[attr-defined]


# -------------------- one operand --------------------


def negative(x: Array):
    return _map(np.negative, x), None


def negative_vjp(saved, dy, needs):
    return (_map(np.negative, dy, into=needs[0]),)


def absolute(x: Array):
    return _map(np.absolute, x), x


def absolute_vjp(x, dy, needs):
    return _scaled(_map(np.sign, x, into=needs[0]), dy)


def square(x: Array):
    return _map(np.square, x), x


def square_vjp(x, dy, needs):
    return _scaled(_map(np.add, x, x, into=needs[0]), dy)


def sqrt(x: Array):
    y = _map(np.sqrt, x)
    return y, y


def sqrt_vjp(y, dy, needs):
    half = _map(np.multiply, dy, dy.dtype.type(0.5), into=needs[0])
    return (_map(np.divide, half, y, into=half),)


def reciprocal(x: Array):
    y = _map(np.reciprocal, x)
    return y, y


def reciprocal_vjp(y, dy, needs):
    slope = _map(np.square, y, into=needs[0])
    return _scaled(_map(np.negative, slope, into=slope), dy)


def rsqrt(x: Array):
    y = _map(np.sqrt, x)
    device.launch(np.reciprocal, y, y)
    return y, y


def rsqrt_vjp(y, dy, needs):
    slope = _map(np.square, y, into=needs[0])
    device.launch(np.multiply, slope, y, slope)
    device.launch(np.multiply, slope, y.dtype.type(-0.5), slope)
    return _scaled(slope, dy)


def exp(x: Array):
    y = _map(np.exp, x)
    return y, y


def exp_vjp(y, dy, needs):
    return (_map(np.multiply, dy, y, into=needs[0]),)


def expm1(x: Array):
    y = _map(np.expm1, x)
    return y, y


def expm1_vjp(y, dy, needs):
    return _scaled(_map(np.add, y, y.dtype.type(1), into=needs[0]), dy)


def log(x: Array):
    return _map(np.log, x), x


def log_vjp(x, dy, needs):
    return (_map(np.divide, dy, x, into=needs[0]),)


def log1p(x: Array):
    return _map(np.log1p, x), x


def log1p_vjp(x, dy, needs):
    slope = _map(np.add, x, x.dtype.type(1), into=needs[0])
    return (_map(np.divide, dy, slope, into=slope),)


def log2(x: Array):
    return _map(np.log2, x), x


def log2_vjp(x, dy, needs):
    dx = _map(np.divide, dy, x, into=needs[0])
    return (_map(np.multiply, dx, x.dtype.type(1 / math.log(2)), into=dx),)


def sin(x: Array):
    return _map(np.sin, x), x


def sin_vjp(x, dy, needs):
    return _scaled(_map(np.cos, x, into=needs[0]), dy)


def cos(x: Array):
    return _map(np.cos, x), x


def cos_vjp(x, dy, needs):
    slope = _map(np.sin, x, into=needs[0])
    return _scaled(_map(np.negative, slope, into=slope), dy)


def tan(x: Array):
    y = _map(np.tan, x)
    return y, y


def tan_vjp(y, dy, needs):
    slope = _map(np.square, y, into=needs[0])
    return _scaled(_map(np.add, slope, y.dtype.type(1), into=slope), dy)


def arctan(x: Array):
    return _map(np.arctan, x), x


def arctan_vjp(x, dy, needs):
    slope = _map(np.square, x, into=needs[0])
    device.launch(np.add, slope, x.dtype.type(1), slope)
    return (_map(np.divide, dy, slope, into=slope),)


def erf(x: Array):
    y = device.empty(x.shape, x.dtype)
    device.launch(error_function, x.reshape(-1), y.reshape(-1))
    return y, x


@compiled
def error_function(x, y):
    """Kernel: y = erf(x); compiled, because importing SciPy's would take a quarter of the time of `import nbkeras`."""
    for i in range(x.size):
        y[i] = math.erf(x[i])


def erf_vjp(x, dy, needs):
    slope = _map(np.square, x, into=needs[0])
    device.launch(np.negative, slope, slope)
    device.launch(np.exp, slope, slope)
    device.launch(np.multiply, slope, x.dtype.type(2 / math.sqrt(math.pi)), slope)
    return _scaled(slope, dy)
