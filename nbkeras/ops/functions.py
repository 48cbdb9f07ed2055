"""Elementwise functions, each made of NumPy's function and its derivative. They broadcast.

A derivative is written with ops, as a function of the arguments and the result; None means no gradient.
"""

# A described function gets its body from its decorator.
# mypy: disable-error-code="empty-body"

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op, promote
from nbkeras.kernels import elementwise, formulas, special
from nbkeras.ops import reduce
from nbkeras.ops.activations import sigmoid
from nbkeras.ops.arguments import check_broadcast
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
    square,
    subtract,
    where,
)
from nbkeras.ops.formula import formula

_Slope = Callable[..., Any] | None

_F = TypeVar("_F", bound=Callable)


def _applied(name: str, function: Callable, slopes: tuple[_Slope, ...], operands: list[Tensor], dtype=None) -> Tensor:
    """Apply NumPy's function (or a kernel) to one or two tensors; slopes give the gradient's factor for each of them."""
    run: Callable = elementwise.unary if len(operands) == 1 else elementwise.binary
    return _differentiated(name, functools.partial(run, ufunc=function, dtype=dtype), slopes, operands)


def _differentiated(name: str, run: Callable, slopes: tuple[_Slope, ...], operands: list[Tensor]) -> Tensor:
    """Apply an elementwise op on arrays, whose gradients are given by slopes, as in `_applied`."""

    def forward(*arrays):
        y, _ = run(*arrays)
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


def _elementwise(
    function: Callable, *slopes: _Slope, dtype: Any = None, of_integers: Callable | None = None
) -> Callable[[_F], _F]:
    """Decorator that gives a described function its body: an op with one float tensor for each slope (one or two).

    function: NumPy's function, or a kernel. slopes: its derivative for each tensor, from the tensors and the result.
    of_integers: the function of two tensors that are not floats; its result is not a float either.
    """

    def make(described: _F) -> _F:
        name = described.__name__

        def of_one(x) -> Tensor:
            return _applied(name, function, slopes, [as_float(x)], dtype)

        def of_two(x1, x2) -> Tensor:
            operands = promote(x1, x2)
            check_broadcast(name, *operands)
            if of_integers is not None and operands[0].dtype.kind != "f":
                return of_integers(*operands)
            return _applied(name, function, slopes, [as_float(x) for x in operands])

        made: Any = functools.update_wrapper(of_one if len(slopes) == 1 else of_two, described)
        return op(made)

    return make


# -------------------- functions of one tensor --------------------


_LN2, _LN10, _PI = math.log(2), math.log(10), math.pi


@_elementwise(np.arcsin, lambda x, y: rsqrt(1 - x * x))
def arcsin(x) -> Tensor:
    """The inverse sine, in radians from -pi/2 to pi/2; NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.arcsin([0.0, 1.0]).numpy().round(4)
        array([0.    , 1.5708], dtype=float32)
    """


@_elementwise(np.arccos, lambda x, y: -rsqrt(1 - x * x))
def arccos(x) -> Tensor:
    """The inverse cosine, in radians from 0 to pi; NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.arccos([1.0, 0.0]).numpy().round(4)
        array([0.    , 1.5708], dtype=float32)
    """


@_elementwise(np.sinh, lambda x, y: cosh(x))  # type: ignore[has-type]
def sinh(x) -> Tensor:
    """The hyperbolic sine, (e^x - e^-x) / 2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sinh([0.0, 1.0]).numpy().round(4)
        array([0.    , 1.1752], dtype=float32)
    """


@_elementwise(np.cosh, lambda x, y: sinh(x))
def cosh(x) -> Tensor:
    """The hyperbolic cosine, (e^x + e^-x) / 2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.cosh([0.0, 1.0]).numpy().round(4)
        array([1.    , 1.5431], dtype=float32)
    """


@_elementwise(np.arcsinh, lambda x, y: reciprocal(hypot(x, 1)))  # type: ignore[has-type]
def arcsinh(x) -> Tensor:
    """The inverse hyperbolic sine.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.arcsinh([0.0, 1.1752]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """


@_elementwise(np.arccosh, lambda x, y: rsqrt(x - 1) * rsqrt(x + 1))
def arccosh(x) -> Tensor:
    """The inverse hyperbolic cosine, not negative; NaN below 1.

    Args:
        x: Numbers from 1; integers become floatx.

    Example:
        >>> ops.arccosh([1.0, 1.5431]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """


@_elementwise(np.arctanh, lambda x, y: reciprocal(1 - x * x))
def arctanh(x) -> Tensor:
    """The inverse hyperbolic tangent; infinite at -1 and 1, NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.arctanh([0.0, 0.7616]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """


@_elementwise(np.exp2, lambda x, y: y * _LN2)
def exp2(x) -> Tensor:
    """2 to the power x.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.exp2([3.0, -1.0]).numpy()
        array([8. , 0.5], dtype=float32)
    """


@_elementwise(np.log10, lambda x, y: reciprocal(x * _LN10))
def log10(x) -> Tensor:
    """The logarithm to base 10; -infinity at 0, NaN below 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.log10([1.0, 1000.0]).numpy().round(4)
        array([0., 3.], dtype=float32)
    """


@_elementwise(np.cbrt, lambda x, y: square(reciprocal(y)) * (1 / 3))
def cbrt(x) -> Tensor:
    """The cube root, also of negative numbers.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.cbrt([27.0, -8.0]).numpy().round(4)
        array([ 3., -2.], dtype=float32)
    """


@_elementwise(np.deg2rad, lambda x, y: as_tensor(_PI / 180, x.dtype))
def deg2rad(x) -> Tensor:
    """Angles in degrees converted to radians.

    Args:
        x: Angles in degrees; integers become floatx.

    Example:
        >>> ops.deg2rad([90.0, 180.0]).numpy().round(4)
        array([1.5708, 3.1416], dtype=float32)
    """


@_elementwise(np.rad2deg, lambda x, y: as_tensor(180 / _PI, x.dtype))
def rad2deg(x) -> Tensor:
    """Angles in radians converted to degrees.

    Args:
        x: Angles in radians; integers become floatx.

    Example:
        >>> ops.rad2deg([0.0, np.pi]).numpy()
        array([  0., 180.], dtype=float32)
    """


@_elementwise(special.erfc, lambda x, y: exp(-x * x) * (-2 / math.sqrt(_PI)))
def erfc(x) -> Tensor:
    """1 - erf(x), accurate for large x, where it is close to 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> print(f"{ops.erfc(5.0).item():.3e}", 1 - ops.erf(5.0).item())
        1.537e-12 0.0
    """


@_elementwise(special.erfinv, lambda x, y: exp(y * y) * (math.sqrt(_PI) / 2))
def erfinv(x) -> Tensor:
    """The inverse of `ops.erf`: the number whose erf is x; infinite at -1 and 1, NaN outside [-1, 1].

    Args:
        x: Numbers from -1 to 1; integers become floatx.

    Example:
        >>> ops.erfinv([0.0, 0.5]).numpy().round(4)
        array([0.    , 0.4769], dtype=float32)
    """


@op
def i0(x) -> Tensor:
    """The modified Bessel function of the first kind of order 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.i0([0.0, 1.0]).numpy().round(4)
        array([1.    , 1.2661], dtype=float32)
    """
    return apply(special.bessel, special.bessel_vjp, [as_float(x)], order=0)


@_elementwise(np.signbit, None, dtype=np.bool_)
def signbit(x) -> Tensor:
    """True where x is negative, -0.0 included; no gradient.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.signbit([-2.0, -0.0, 0.0]).numpy()
        array([ True,  True, False])
    """


# -------------------- functions of two tensors --------------------


def _integer_fmod(a: Tensor, b: Tensor) -> Tensor:
    """`mod` has the sign of b; subtract b where a has the other sign. Absolute values would overflow for the smallest integer."""
    rest = mod(a, b)
    return where(logical_and(not_equal(rest, 0), not_equal(less(rest, 0), less(a, 0))), subtract(rest, b), rest)


def _direction(a: Tensor, b: Tensor) -> Tensor:
    """a / hypot(a, b), and 0 at (0, 0). In the derivative of such a quotient, equal terms would cancel where |a| >> |b|."""

    def by_a(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        other = _direction(b, a)
        return divide_no_nan(other * other, hypot(a, b))

    def by_b(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return divide_no_nan(-y * _direction(b, a), hypot(a, b))

    return _differentiated("direction", elementwise.direction, (by_a, by_b), [a, b])


@_elementwise(np.hypot, lambda a, b, y: _direction(a, b), lambda a, b, y: _direction(b, a))
def hypot(x1, x2) -> Tensor:
    """The length of the hypotenuse, sqrt(x1^2 + x2^2), without overflow; its gradients at (0, 0) are 0.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.hypot([3.0, 5.0], [4.0, 12.0]).numpy()
        array([ 5., 13.], dtype=float32)
    """


@_elementwise(
    np.arctan2, lambda a, b, y: _direction(b, a) / hypot(a, b), lambda a, b, y: -_direction(a, b) / hypot(a, b)
)
def arctan2(x1, x2) -> Tensor:
    """The angle of the point (x2, x1), in radians from -pi to pi.

    Args:
        x1: The points' second coordinates (y); integers become floatx.
        x2: Their first coordinates (x), of a shape that broadcasts with x1's.

    Example:
        >>> ops.arctan2([1.0, -1.0], [1.0, -1.0]).numpy().round(4)
        array([ 0.7854, -2.3562], dtype=float32)
    """


@_elementwise(np.logaddexp, lambda a, b, y: sigmoid(a - b), lambda a, b, y: sigmoid(b - a))
def logaddexp(x1, x2) -> Tensor:
    """log(e^x1 + e^x2), without overflow: the sum of two numbers that are given by their logarithms.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.logaddexp([0.0, 90.0], 0.0).numpy().round(4)
        array([ 0.6931, 90.    ], dtype=float32)
    """


@_elementwise(np.logaddexp2, lambda a, b, y: sigmoid((a - b) * _LN2), lambda a, b, y: sigmoid((b - a) * _LN2))
def logaddexp2(x1, x2) -> Tensor:
    """log2(2^x1 + 2^x2), without overflow.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.logaddexp2([0.0, 3.0], [0.0, 3.0]).numpy()
        array([1., 4.], dtype=float32)
    """


@_elementwise(
    np.fmod, lambda a, b, y: as_tensor(1, a.dtype), lambda a, b, y: negative(trunc(a / b)), of_integers=_integer_fmod
)
def fmod(x1, x2) -> Tensor:
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
    """


@_elementwise(
    np.fmax,
    lambda a, b, y: _chosen(a > b, isnan(b), a, b),
    lambda a, b, y: _chosen(a < b, isnan(a), a, b),
    of_integers=maximum,
)
def fmax(x1, x2) -> Tensor:
    """The larger of x1 and x2; where one of them is NaN, the other.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and the common dtype.

    Example:
        >>> ops.fmax([1.0, np.nan, 5.0], 3.0).numpy()
        array([3., 3., 5.], dtype=float32)
    """


@_elementwise(
    np.fmin,
    lambda a, b, y: _chosen(a < b, isnan(b), a, b),
    lambda a, b, y: _chosen(a > b, isnan(a), a, b),
    of_integers=minimum,
)
def fmin(x1, x2) -> Tensor:
    """The smaller of x1 and x2; where one of them is NaN, the other.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and the common dtype.

    Example:
        >>> ops.fmin([1.0, np.nan, 5.0], 3.0).numpy()
        array([1., 3., 3.], dtype=float32)
    """


@_elementwise(np.heaviside, None, None)
def heaviside(x1, x2) -> Tensor:
    """The step function: 0 where x1 is negative, x2 where it is 0, else 1; no gradient.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: The values at the step, of a shape that broadcasts with x1's.

    Example:
        >>> ops.heaviside([-2.0, 0.0, 3.0], 0.5).numpy()
        array([0. , 0.5, 1. ], dtype=float32)
    """


@_elementwise(np.nextafter, None, None)
def nextafter(x1, x2) -> Tensor:
    """The next float after x1 in the direction of x2; no gradient.

    Args:
        x1: Numbers of any shape; integers become floatx.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.nextafter([1.0, 1.0], [2.0, 0.0]).numpy() - 1
        array([ 1.1920929e-07, -5.9604645e-08], dtype=float32)
    """


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


@formula
def sinc(x) -> Tensor:
    """sin(pi x) / (pi x), and 1 at 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sinc([0.0, 0.5]).numpy().round(4)
        array([1.    , 0.6366], dtype=float32)
    """
    return formulas.sinc(x)


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
        x: Numbers of any shape; integers stay unchanged.
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
    """x in another dtype; numbers out of its range become the nearest number in range, integers too.

    Args:
        x: Numbers of any shape. NaN becomes 0 in an integer dtype.
        dtype: A dtype such as 'float32', 'int64' or 'uint8'.

    Raises:
        ValueError: for a name that is not a numeric dtype.
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
    if x.dtype.kind in "iu":
        own, limits = np.iinfo(x.dtype), np.iinfo(target)
        x = clip(x, x.dtype.type(max(limits.min, own.min)), x.dtype.type(min(limits.max, own.max)))
    return as_tensor(x, target)


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
