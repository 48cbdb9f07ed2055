"""Elementwise functions from one table: NumPy's function, its derivative and its docstring. They broadcast.

A derivative is written with ops, as a function of the arguments and the result; None means no gradient.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import elementwise, special
from nbkeras.ops import reduce
from nbkeras.ops.arguments import as_float, check_broadcast, floats, promote
from nbkeras.ops.creation import full_like, zeros_like
from nbkeras.ops.elementwise import (
    absolute,
    add,
    clip,
    divide,
    equal,
    exp,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_or,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    not_equal,
    reciprocal,
    rsqrt,
    sin,
    subtract,
    where,
)

Slope = Callable[..., Any] | None

F = TypeVar("F", bound=Callable)


class _OfOne(Protocol):
    def __call__(self, x: Any) -> Tensor: ...


class _OfTwo(Protocol):
    def __call__(self, x1: Any, x2: Any) -> Tensor: ...


def _applied(name: str, function: Callable, slopes: tuple[Slope, ...], operands: list[Tensor], dtype=None) -> Tensor:
    """Apply NumPy's function (or a kernel) to one or two tensors; slopes give the gradient's factor for each of them."""
    run: Callable = elementwise.unary if len(operands) == 1 else elementwise.binary

    def forward(*arrays):
        y, _ = run(*arrays, ufunc=function, dtype=dtype)
        return y, (*arrays, y)

    def backward(saved, dy, needs):
        known = [Tensor(array) for array in saved]
        return tuple(
            None if need is False or slope is None else multiply(slope(*known), Tensor(dy)).data
            for slope, need in zip(slopes, needs, strict=True)
        )

    forward.__name__ = name
    forward.broadcasts = True  # type: ignore[attr-defined]  # for autodiff.vmap
    # for derivatives of higher order: see autodiff/rules.py
    backward.derivative = lambda rules: rules.Elementwise(*slopes)  # type: ignore[attr-defined]
    return apply(forward, backward if any(slopes) else None, operands)


def _named(function: F, name: str, doc: str) -> F:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return op(function)


def _of_one(ufunc: Callable, slope: Slope, doc: str, dtype: Any = None) -> _OfOne:
    """An op of one float tensor; its derivative is slope(x, y)."""
    name = ufunc.__name__

    def function(x) -> Tensor:
        return _applied(name, ufunc, (slope,), [as_float(x)], dtype)

    return _named(function, name, doc)


def _of_two(ufunc: np.ufunc, first: Slope, second: Slope, doc: str, of_integers: Callable | None = None) -> _OfTwo:
    """An op of two float tensors; its derivatives are first(x1, x2, y) and second(x1, x2, y).

    of_integers: the function for operands that are not floats; its result is not a float either.
    """
    name = ufunc.__name__

    def function(x1, x2) -> Tensor:
        operands = promote(x1, x2)
        check_broadcast(name, *operands)
        if of_integers is not None and operands[0].dtype.kind != "f":
            return of_integers(*operands)
        operands = [as_float(x) for x in operands]
        return _applied(name, ufunc, (first, second), operands)

    return _named(function, name, doc)


# -------------------- functions of one tensor --------------------

_LN2, _LN10, _PI = math.log(2), math.log(10), math.pi

arcsin = _of_one(
    np.arcsin,
    lambda x, y: rsqrt(1 - x * x),
    """The inverse sine, in radians from -pi/2 to pi/2; NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.arcsin([0.0, 1.0]).numpy().round(4)
        array([0.    , 1.5708], dtype=float32)
    """,
)
arccos = _of_one(
    np.arccos,
    lambda x, y: -rsqrt(1 - x * x),
    """The inverse cosine, in radians from 0 to pi; NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.arccos([1.0, 0.0]).numpy().round(4)
        array([0.    , 1.5708], dtype=float32)
    """,
)
sinh = _of_one(
    np.sinh,
    lambda x, y: cosh(x),
    """The hyperbolic sine, (e^x - e^-x) / 2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sinh([0.0, 1.0]).numpy().round(4)
        array([0.    , 1.1752], dtype=float32)
    """,
)
cosh: _OfOne = _of_one(
    np.cosh,
    lambda x, y: sinh(x),
    """The hyperbolic cosine, (e^x + e^-x) / 2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.cosh([0.0, 1.0]).numpy().round(4)
        array([1.    , 1.5431], dtype=float32)
    """,
)
arcsinh = _of_one(
    np.arcsinh,
    lambda x, y: rsqrt(x * x + 1),
    """The inverse hyperbolic sine.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.arcsinh([0.0, 1.1752]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """,
)
arccosh = _of_one(
    np.arccosh,
    lambda x, y: rsqrt(x - 1) * rsqrt(x + 1),
    """The inverse hyperbolic cosine, not negative; NaN below 1.

    Args:
        x: Numbers from 1; integers become floatx.

    Example:
        >>> ops.arccosh([1.0, 1.5431]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """,
)
arctanh = _of_one(
    np.arctanh,
    lambda x, y: reciprocal(1 - x * x),
    """The inverse hyperbolic tangent; infinite at -1 and 1, NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.arctanh([0.0, 0.7616]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """,
)
exp2 = _of_one(
    np.exp2,
    lambda x, y: y * _LN2,
    """2 to the power x.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.exp2([3.0, -1.0]).numpy()
        array([8. , 0.5], dtype=float32)
    """,
)
log10 = _of_one(
    np.log10,
    lambda x, y: reciprocal(x * _LN10),
    """The logarithm to base 10; -infinity at 0, NaN below 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.log10([1.0, 1000.0]).numpy().round(4)
        array([0., 3.], dtype=float32)
    """,
)
cbrt = _of_one(
    np.cbrt,
    lambda x, y: y / (3 * x),
    """The cube root, also of negative numbers.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.cbrt([27.0, -8.0]).numpy().round(4)
        array([ 3., -2.], dtype=float32)
    """,
)
deg2rad = _of_one(
    np.deg2rad,
    lambda x, y: as_tensor(_PI / 180, x.dtype),
    """Angles in degrees converted to radians.

    Args:
        x: Angles in degrees; integers become floatx.

    Example:
        >>> ops.deg2rad([90.0, 180.0]).numpy().round(4)
        array([1.5708, 3.1416], dtype=float32)
    """,
)
rad2deg = _of_one(
    np.rad2deg,
    lambda x, y: as_tensor(180 / _PI, x.dtype),
    """Angles in radians converted to degrees.

    Args:
        x: Angles in radians; integers become floatx.

    Example:
        >>> ops.rad2deg([0.0, np.pi]).numpy()
        array([  0., 180.], dtype=float32)
    """,
)
erfc = _of_one(
    special.erfc,
    lambda x, y: exp(-x * x) * (-2 / math.sqrt(_PI)),
    """1 - erf(x), accurate for large x, where it is close to 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> print(f"{ops.erfc(5.0).item():.3e}", 1 - ops.erf(5.0).item())
        1.537e-12 0.0
    """,
)
erfinv = _of_one(
    special.erfinv,
    lambda x, y: exp(y * y) * (math.sqrt(_PI) / 2),
    """The inverse of `ops.erf`: the number whose erf is x; infinite at -1 and 1, NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.erfinv([0.0, 0.5]).numpy().round(4)
        array([0.    , 0.4769], dtype=float32)
    """,
)


def _i1_slope(x: Tensor, y: Tensor) -> Tensor:
    at_zero = equal(x, 0)
    return i0(x) - where(at_zero, 0.5, y / where(at_zero, 1, x))


i1 = _of_one(special.i1, _i1_slope, "Modified Bessel function of the first kind of order 1.")
i0: _OfOne = _of_one(
    special.i0,
    lambda x, y: i1(x),
    """The modified Bessel function of the first kind of order 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.i0([0.0, 1.0]).numpy().round(4)
        array([1.    , 1.2661], dtype=float32)
    """,
)
signbit = _of_one(
    np.signbit,
    None,
    """True where x is negative, -0.0 included; no gradient.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.signbit([-2.0, -0.0, 0.0]).numpy()
        array([ True,  True, False])
    """,
    np.bool_,
)

# -------------------- functions of two tensors --------------------


def _integer_fmod(a: Tensor, b: Tensor) -> Tensor:
    """`mod` has the sign of b; subtract b where a has the other sign. The smallest integer has no absolute value to use."""
    rest = mod(a, b)
    return where(logical_and(not_equal(rest, 0), not_equal(less(rest, 0), less(a, 0))), subtract(rest, b), rest)


hypot = _of_two(
    np.hypot,
    lambda a, b, y: a / y,
    lambda a, b, y: b / y,
    """The length of the hypotenuse, sqrt(x1^2 + x2^2), without overflow.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.hypot([3.0, 5.0], [4.0, 12.0]).numpy()
        array([ 5., 13.], dtype=float32)
    """,
)
arctan2 = _of_two(
    np.arctan2,
    lambda a, b, y: b / (a * a + b * b),
    lambda a, b, y: -a / (a * a + b * b),
    """The angle of the point (x2, x1), in radians from -pi to pi.

    Args:
        x1: The points' second coordinates (y); integers become floatx.
        x2: Their first coordinates (x), of a shape that broadcasts with x1's.

    Example:
        >>> ops.arctan2([1.0, -1.0], [1.0, -1.0]).numpy().round(4)
        array([ 0.7854, -2.3562], dtype=float32)
    """,
)
logaddexp = _of_two(
    np.logaddexp,
    lambda a, b, y: exp(a - y),
    lambda a, b, y: exp(b - y),
    """log(e^x1 + e^x2), without overflow: the sum of two numbers that are given by their logarithms.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.logaddexp([0.0, 90.0], 0.0).numpy().round(4)
        array([ 0.6931, 90.    ], dtype=float32)
    """,
)
logaddexp2 = _of_two(
    np.logaddexp2,
    lambda a, b, y: exp2(a - y),
    lambda a, b, y: exp2(b - y),
    """log2(2^x1 + 2^x2), without overflow.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.logaddexp2([0.0, 3.0], [0.0, 3.0]).numpy()
        array([1., 4.], dtype=float32)
    """,
)
fmod = _of_two(
    np.fmod,
    lambda a, b, y: as_tensor(1, a.dtype),
    lambda a, b, y: negative(trunc(a / b)),
    """The remainder of a division rounded towards 0: it has the sign of x1.

    `ops.mod` gives the remainder with the sign of x2.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's. The remainder by 0 is 0 for integers, NaN for floats.

    Returns:
        A tensor of the broadcast shape and the common dtype.

    Example:
        >>> ops.fmod([7, -7], 3).numpy()
        array([ 1, -1], dtype=int32)
    """,
    _integer_fmod,
)
fmax = _of_two(
    np.fmax,
    lambda a, b, y: _chosen(a > b, isnan(b), a, b),
    lambda a, b, y: _chosen(a < b, isnan(a), a, b),
    """The larger of x1 and x2; where one of them is NaN, the other.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and the common dtype.

    Example:
        >>> ops.fmax([1.0, np.nan, 5.0], 3.0).numpy()
        array([3., 3., 5.], dtype=float32)
    """,
    maximum,
)
fmin = _of_two(
    np.fmin,
    lambda a, b, y: _chosen(a < b, isnan(b), a, b),
    lambda a, b, y: _chosen(a > b, isnan(a), a, b),
    """The smaller of x1 and x2; where one of them is NaN, the other.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and the common dtype.

    Example:
        >>> ops.fmin([1.0, np.nan, 5.0], 3.0).numpy()
        array([1., 3., 3.], dtype=float32)
    """,
    minimum,
)
heaviside = _of_two(
    np.heaviside,
    None,
    None,
    """The step function: 0 where x1 is negative, x2 where it is 0, else 1; no gradient.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: The values at the step, of a shape that broadcasts with x1's.

    Example:
        >>> ops.heaviside([-2.0, 0.0, 3.0], 0.5).numpy()
        array([0. , 0.5, 1. ], dtype=float32)
    """,
)
nextafter = _of_two(
    np.nextafter,
    None,
    None,
    """The next float after x1 in the direction of x2; no gradient.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.nextafter([1.0, 1.0], [2.0, 0.0]).numpy() - 1
        array([ 1.1920929e-07, -5.9604645e-08], dtype=float32)
    """,
)


def _chosen(by_size: Tensor, other_is_nan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The gradient's factor: 1 for the chosen operand, half for each of two equal ones."""
    half = multiply(as_tensor(a == b, a.dtype), 0.5)
    return where(logical_or(by_size, other_is_nan), as_tensor(1, a.dtype), half)


# -------------------- composed --------------------


@op
def trunc(x) -> Tensor:
    """x without its fraction: rounded towards 0; no gradient.

    Args:
        x: Numbers of any shape; the dtype stays.

    Example:
        >>> ops.trunc([1.7, -1.7]).numpy()
        array([ 1., -1.], dtype=float32)
    """
    x = as_tensor(x)
    return _applied("trunc", np.trunc, (None,), [x]) if x.dtype.kind == "f" else x


@op
def fabs(x) -> Tensor:
    """The absolute value |x| as a float.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.fabs([-3, 2]).numpy()
        array([3., 2.], dtype=float32)
    """
    return absolute(as_float(x))


@op
def sinc(x) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sinc([0.0, 0.5]).numpy().round(4)
        array([1.    , 0.6366], dtype=float32)
    """
    x = as_float(x)
    at_zero = equal(x, 0)
    angle = where(at_zero, x.dtype.type(1), x) * _PI
    return where(at_zero, x.dtype.type(1), sin(angle) / angle)


@op
def ldexp(x1, x2) -> Tensor:
    """x1 * 2^x2.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Exponents, of a shape that broadcasts with x1's.

    Example:
        >>> ops.ldexp([1.0, 3.0], [2, -1]).numpy()
        array([4. , 1.5], dtype=float32)
    """
    return multiply(as_float(x1), exp2(as_tensor(x2)))


@op
def divide_no_nan(x1, x2) -> Tensor:
    """x1 / x2, and 0 where x2 is 0; the gradient is 0 there too.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.divide_no_nan([1.0, 3.0], [0.0, 2.0]).numpy()
        array([0. , 1.5], dtype=float32)
    """
    x1, x2 = floats(x1, x2)
    at_zero = equal(x2, 0)
    return where(at_zero, x1.dtype.type(0), divide(x1, where(at_zero, x2.dtype.type(1), x2)))


@op
def nan_to_num(x, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with NaN and infinities replaced by numbers.

    Args:
        x: Numbers of any shape; integers stay as they are.
        nan: The number for NaN.
        posinf: The number for infinity; None for the largest of the dtype.
        neginf: The number for minus infinity; None for the most negative of the dtype.

    Example:
        >>> ops.nan_to_num([np.nan, np.inf, 2.0], posinf=99.0).numpy()
        array([ 0., 99.,  2.], dtype=float32)
    """
    x = as_tensor(x)
    if x.dtype.kind != "f":
        return x
    largest = np.finfo(x.dtype).max
    y = where(isnan(x), x.dtype.type(nan), x)
    y = where(isposinf(x), x.dtype.type(largest if posinf is None else posinf), y)
    return where(isneginf(x), x.dtype.type(-largest if neginf is None else neginf), y)


@op
def saturate_cast(x, dtype) -> Tensor:
    """x in another dtype; numbers out of its range become the nearest number in range.

    Args:
        x: Numbers of any shape. NaN becomes 0 in an integer dtype.
        dtype: A dtype such as 'float32', 'int64' or 'uint8'.

    Raises:
        ValueError: for a name that is no dtype of numbers.
        TypeError: for floats of 16 bits.

    Example:
        >>> ops.saturate_cast([300.0, -5.0, 1.7], "uint8").numpy()
        array([255,   0,   1], dtype=uint8)
    """
    x, target = as_tensor(x), known_dtype(dtype)
    if target.kind not in "iu":
        if (x.dtype, target) == (np.float64, np.float32):
            x = clip(x, np.finfo(target).min, np.finfo(target).max)
        return as_tensor(x, target)
    limits = np.iinfo(target)
    low, high = limits.min, limits.max
    if x.dtype.kind in "iu":
        low, high = max(low, np.iinfo(x.dtype).min), min(high, np.iinfo(x.dtype).max)
    elif x.dtype.kind == "f" and x.dtype.type(high) > high:  # the largest float within the integers' range
        high = np.nextafter(x.dtype.type(high), x.dtype.type(0))
    return as_tensor(x if x.dtype.kind == "b" else clip(x, x.dtype.type(low), x.dtype.type(high)), target)


@op
def isposinf(x) -> Tensor:
    """True where x is infinity.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.isposinf([np.inf, -np.inf, 1.0]).numpy()
        array([ True, False, False])
    """
    return equal(as_float(x), math.inf)


@op
def isneginf(x) -> Tensor:
    """True where x is minus infinity.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.isneginf([np.inf, -np.inf, 1.0]).numpy()
        array([False,  True, False])
    """
    return equal(as_float(x), -math.inf)


@op
def isclose(x1, x2, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """True where x1 and x2 are nearly equal: |x1 - x2| <= atol + rtol |x2|. Equal infinities are close.

    Args:
        x1: Numbers of any shape.
        x2: The expected numbers, of a shape that broadcasts with x1's.
        rtol: The tolerance as a fraction of x2.
        atol: The tolerance as a difference.
        equal_nan: Whether NaN is close to NaN.

    Raises:
        ValueError: if the shapes do not broadcast.

    Example:
        >>> ops.isclose([1.0, 2.0], [1.000001, 2.1]).numpy()
        array([ True, False])
    """
    x1, x2 = floats(x1, x2)
    check_broadcast("isclose", x1, x2)
    bound = add(multiply(absolute(x2), rtol), atol)
    near = logical_and(less_equal(absolute(subtract(x1, x2)), bound), less(absolute(x2), math.inf))
    near = logical_or(near, equal(x1, x2))
    return logical_or(near, logical_and(isnan(x1), isnan(x2))) if equal_nan else near


@op
def allclose(x1, x2, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether all elements of x1 and x2 are nearly equal, by the rule of `ops.isclose`.

    Args:
        x1: Numbers of any shape.
        x2: The expected numbers, of a shape that broadcasts with x1's.
        rtol: The tolerance as a fraction of x2.
        atol: The tolerance as a difference.
        equal_nan: Whether NaN is close to NaN.

    Returns:
        A tensor of one bool.

    Example:
        >>> bool(ops.allclose([1.0, 2.0], [1.000001, 2.0]))
        True
    """
    return reduce.all(isclose(x1, x2, rtol, atol, equal_nan))


# -------------------- functions of complex numbers, for real tensors --------------------


@op
def real(x) -> Tensor:
    """The real part: x unchanged, as tensors are real.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.real([1.0, -2.0]).numpy()
        array([ 1., -2.], dtype=float32)
    """
    return as_tensor(x)


@op
def imag(x) -> Tensor:
    """The imaginary part: zeros, as tensors are real.

    Args:
        x: Numbers of any shape; the dtype stays.

    Example:
        >>> ops.imag([1.0, -2.0]).numpy()
        array([0., 0.], dtype=float32)
    """
    return zeros_like(x)


@op
def conjugate(x) -> Tensor:
    """The complex conjugate: x unchanged, as tensors are real.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.conjugate([1.0, -2.0]).numpy()
        array([ 1., -2.], dtype=float32)
    """
    return as_tensor(x)


conj = conjugate


@op
def angle(x) -> Tensor:
    """The angle of a number in the complex plane: 0 where x is positive, pi where it is negative; no gradient.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.angle([2.0, -3.0]).numpy().round(4)
        array([0.    , 3.1416], dtype=float32)
    """
    x = as_float(x)
    return where(isnan(x), x, where(signbit(x), as_tensor(_PI, x.dtype), x.dtype.type(0)))


@op
def isreal(x) -> Tensor:
    """True everywhere: tensors are real.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.isreal([1.0, -2.0]).numpy()
        array([ True,  True])
    """
    return full_like(x, True, np.bool_)
