"""Differentiable elementwise ops: arithmetic, comparisons, logic, selection, powers and logarithms. They broadcast.

dtypes: see arguments.py. Comparisons and logic return bool; ops that need a float convert integers to floatx. At ties
and kinks, maximum and minimum give half of the gradient to each of two equal operands, clip counts its ends as inside, and
the gradient of abs at 0 is 0.
"""

# A described function gets its body from its decorator.
# mypy: disable-error-code="empty-body"

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of, known_dtype
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, op, promote, stand_in, value_of
from nbkeras.kernels import elementwise
from nbkeras.ops.arguments import check_broadcast

_F = TypeVar("_F", bound=Callable)
_strings = LazyModule("nbkeras.engine.strings")


def _binary(name: str, x1: Any, x2: Any) -> list[Tensor]:
    operands = promote(x1, x2)
    if operands[0].data.shape != operands[1].data.shape:
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


def _of_floats(kernels: ModuleType) -> Callable[[_F], _F]:
    """Decorator that gives a described function of one tensor its body: the kernel of its name, on floats."""

    def make(described: _F) -> _F:
        kernel, vjp = (getattr(kernels, f"{described.__name__}{end}") for end in ("", "_vjp"))

        def compute(x) -> Tensor:
            return apply(kernel, vjp, [as_float(x)])

        made: Any = functools.update_wrapper(compute, described)
        return op(made)

    return make


# -------------------- arithmetic --------------------


@op
def add(x1, x2) -> Tensor:
    """The sum x1 + x2 of each pair of elements; the operator `+` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape. Floats win over integers; a number, list or array takes the float
        dtype of a tensor that it meets. The sum of booleans is a boolean, their logical or.

    Raises:
        ValueError: if the shapes do not broadcast.

    Example:
        >>> ops.add([[1.0], [2.0]], [10.0, 20.0]).numpy()
        array([[11., 21.],
               [12., 22.]], dtype=float32)
    """
    return apply(elementwise.add, elementwise.add_vjp, _binary("add", x1, x2))


@op
def subtract(x1, x2) -> Tensor:
    """The difference x1 - x2 of each pair of elements; the operator `-` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Raises:
        TypeError: if both are booleans.
        ValueError: if the shapes do not broadcast.

    Example:
        >>> ops.subtract([3.0, 5.0], 1.0).numpy()
        array([2., 4.], dtype=float32)
    """
    operands = _numbers("subtract", _binary("subtract", x1, x2))
    return apply(elementwise.subtract, elementwise.subtract_vjp, operands)


@op
def multiply(x1, x2) -> Tensor:
    """The product x1 * x2 of each pair of elements; the operator `*` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and the common dtype. The product of booleans is their logical and.

    Raises:
        ValueError: if the shapes do not broadcast.

    Example:
        >>> ops.multiply([[1.0], [2.0]], [3.0, 4.0]).numpy()
        array([[3., 4.],
               [6., 8.]], dtype=float32)
    """
    return apply(elementwise.multiply, elementwise.multiply_vjp, _binary("multiply", x1, x2))


@op
def divide(x1, x2) -> Tensor:
    """The quotient x1 / x2 of each pair of elements; the operator `/` of tensors.

    A number divided by 0 gives an infinity, and 0 / 0 gives NaN; `ops.divide_no_nan` gives 0 there.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and a float dtype, floatx for integers.

    Raises:
        ValueError: if the shapes do not broadcast.

    Example:
        >>> ops.divide([1, 3], 2).numpy()
        array([0.5, 1.5], dtype=float32)
    """
    operands = [as_float(x) for x in _binary("divide", x1, x2)]
    return apply(elementwise.divide, elementwise.divide_vjp, operands)


true_divide = divide


@op
def floor_divide(x1, x2) -> Tensor:
    """The quotient x1 / x2 rounded down; no gradient. The operator `//` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's. Integers divided by 0 give 0.

    Returns:
        A tensor of the broadcast shape and the common dtype, int32 for booleans.

    Example:
        >>> ops.floor_divide([7, -7], 2).numpy()
        array([ 3, -4], dtype=int32)
    """
    operands = _integers(_binary("floor_divide", x1, x2))
    return apply(elementwise.binary, None, operands, ufunc=np.floor_divide)


@op
def mod(x1, x2) -> Tensor:
    """The remainder x1 - x2 * floor(x1 / x2), with the sign of x2; the operator `%` of tensors.

    `ops.fmod` gives the remainder with the sign of x1.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's. The remainder by 0 is 0 for integers, NaN for floats.

    Returns:
        A tensor of the broadcast shape and the common dtype, int32 for booleans.

    Example:
        >>> ops.mod([7, -7], 3).numpy()
        array([1, 2], dtype=int32)
    """
    return apply(elementwise.mod, elementwise.mod_vjp, _integers(_binary("mod", x1, x2)))


@op
def power(x1, x2) -> Tensor:
    """x1 to the power x2; the operator `**` of tensors.

    The exponent has a gradient only where x1 > 0; it is 0 elsewhere. A negative number to a power that is not whole is NaN.

    Args:
        x1: Numbers of any shape.
        x2: Exponents of a shape that broadcasts with x1's.

    Returns:
        A tensor of the broadcast shape and the common dtype, int32 for booleans.

    Raises:
        ValueError: for integers to a negative integer power; make x1 a float.

    Example:
        >>> ops.power([1.0, 2.0, 3.0], 3).numpy()
        array([ 1.,  8., 27.], dtype=float32)
    """
    if isinstance(x2, int | float) and x2 == 2:
        return square(x1 if isinstance(x2, int) else as_float(x1))
    return apply(elementwise.power, elementwise.power_vjp, _integers(_binary("power", x1, x2)))


@op
def maximum(x1, x2) -> Tensor:
    """The larger of x1 and x2, element by element; NaN where either is NaN.

    The gradient goes to the larger element; two equal elements get half each. `ops.fmax` passes over
    NaN; `ops.max` is the largest element of one tensor.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.maximum([1.0, 5.0, 2.0], 2.5).numpy()
        array([2.5, 5. , 2.5], dtype=float32)
    """
    return apply(elementwise.maximum, elementwise.maximum_vjp, _binary("maximum", x1, x2))


@op
def minimum(x1, x2) -> Tensor:
    """The smaller of x1 and x2, element by element; NaN where either is NaN.

    The gradient goes to the smaller element; two equal elements get half each. `ops.fmin` passes over
    NaN; `ops.min` is the smallest element of one tensor.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.minimum([1.0, 5.0, 2.0], 2.5).numpy()
        array([1. , 2.5, 2. ], dtype=float32)
    """
    return apply(elementwise.minimum, elementwise.minimum_vjp, _binary("minimum", x1, x2))


@op
def negative(x) -> Tensor:
    """The number of the opposite sign, -x.

    Args:
        x: Numbers of any shape; unsigned integers wrap around.

    Raises:
        TypeError: for booleans.

    Example:
        >>> ops.negative([1.0, -2.0]).numpy()
        array([-1.,  2.], dtype=float32)
    """
    return apply(elementwise.negative, elementwise.negative_vjp, _numbers("negative", [as_tensor(x)]))


@op
def absolute(x) -> Tensor:
    """The absolute value |x|; its gradient at 0 is 0.

    Args:
        x: Numbers of any shape; the dtype stays.

    Example:
        >>> ops.absolute([-1.5, 2.0]).numpy()
        array([1.5, 2. ], dtype=float32)
    """
    return apply(elementwise.absolute, elementwise.absolute_vjp, [as_tensor(x)])


abs = absolute


@op
def square(x) -> Tensor:
    """The square x * x.

    Args:
        x: Numbers of any shape; the dtype stays, and booleans become int32.

    Example:
        >>> ops.square([-3.0, 2.0]).numpy()
        array([9., 4.], dtype=float32)
    """
    return apply(elementwise.square, elementwise.square_vjp, _integers([as_tensor(x)]))


@_of_floats(elementwise)
def reciprocal(x) -> Tensor:
    """The reciprocal 1 / x; infinity at 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.reciprocal([2.0, 4.0]).numpy()
        array([0.5 , 0.25], dtype=float32)
    """


@_of_floats(elementwise)
def sqrt(x) -> Tensor:
    """The square root; NaN below 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sqrt([4.0, 9.0]).numpy()
        array([2., 3.], dtype=float32)
    """


@_of_floats(elementwise)
def rsqrt(x) -> Tensor:
    """The reciprocal of the square root, 1 / sqrt(x); infinity at 0, NaN below 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.rsqrt([4.0, 16.0]).numpy()
        array([0.5 , 0.25], dtype=float32)
    """


# -------------------- exponentials, logarithms, trigonometry --------------------


@_of_floats(elementwise)
def exp(x) -> Tensor:
    """The exponential function e^x.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.exp([0.0, 1.0]).numpy().round(4)
        array([1.    , 2.7183], dtype=float32)
    """


@_of_floats(elementwise)
def expm1(x) -> Tensor:
    """e^x - 1, accurate near 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> print(ops.expm1(1e-10).numpy(), ops.exp(1e-10).numpy() - 1)
        1e-10 0.0
    """


@_of_floats(elementwise)
def log(x) -> Tensor:
    """The natural logarithm; -infinity at 0, NaN below 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.log([1.0, 10.0]).numpy().round(4)
        array([0.    , 2.3026], dtype=float32)
    """


@_of_floats(elementwise)
def log1p(x) -> Tensor:
    """log(1 + x), accurate near 0; -infinity at -1, NaN below -1.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> print(ops.log1p(1e-10).numpy(), ops.log(1 + 1e-10).numpy())
        1e-10 0.0
    """


@_of_floats(elementwise)
def log2(x) -> Tensor:
    """The logarithm to base 2; -infinity at 0, NaN below 0.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.log2([1.0, 8.0]).numpy()
        array([0., 3.], dtype=float32)
    """


@_of_floats(elementwise)
def sin(x) -> Tensor:
    """The sine.

    Args:
        x: Angles in radians; integers become floatx.

    Example:
        >>> ops.sin([0.0, np.pi / 2]).numpy()
        array([0., 1.], dtype=float32)
    """


@_of_floats(elementwise)
def cos(x) -> Tensor:
    """The cosine.

    Args:
        x: Angles in radians; integers become floatx.

    Example:
        >>> ops.cos([0.0, np.pi]).numpy()
        array([ 1., -1.], dtype=float32)
    """


@_of_floats(elementwise)
def tan(x) -> Tensor:
    """The tangent.

    Args:
        x: Angles in radians; integers become floatx.

    Example:
        >>> ops.tan([0.0, np.pi / 4]).numpy().round(4)
        array([0., 1.], dtype=float32)
    """


@_of_floats(elementwise)
def arctan(x) -> Tensor:
    """The inverse tangent, in radians from -pi/2 to pi/2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.arctan([0.0, 1.0]).numpy().round(4)
        array([0.    , 0.7854], dtype=float32)
    """


@_of_floats(elementwise)
def erf(x) -> Tensor:
    """The error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.erf([0.0, 0.5, 3.0]).numpy().round(4)
        array([0.    , 0.5205, 1.    ], dtype=float32)
    """


# -------------------- rounding: no gradient --------------------


@op
def sign(x) -> Tensor:
    """-1 for negative numbers, 0 for 0, 1 for positive numbers; no gradient.

    Args:
        x: Numbers of any shape; the dtype stays, and NaN stays NaN.

    Raises:
        TypeError: for booleans.

    Example:
        >>> ops.sign([-2.5, 0.0, 7.0]).numpy()
        array([-1.,  0.,  1.], dtype=float32)
    """
    return apply(elementwise.unary, None, _numbers("sign", [as_tensor(x)]), ufunc=np.sign)


@op
def floor(x) -> Tensor:
    """The largest whole number that is not above x; no gradient.

    Args:
        x: Numbers of any shape; the result is a float, floatx for integers.

    Example:
        >>> ops.floor([1.7, -1.2]).numpy()
        array([ 1., -2.], dtype=float32)
    """
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.floor)


@op
def ceil(x) -> Tensor:
    """The smallest whole number that is not below x; no gradient.

    Args:
        x: Numbers of any shape; the result is a float, floatx for integers.

    Example:
        >>> ops.ceil([1.2, -1.7]).numpy()
        array([ 2., -1.], dtype=float32)
    """
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.ceil)


@op
def round(x, decimals: int = 0) -> Tensor:
    """x rounded to a number of decimals; a half goes to the even neighbour. No gradient.

    Args:
        x: Numbers of any shape; the dtype stays.
        decimals: The number of decimals; -1 rounds to tens.

    Raises:
        TypeError: for booleans.

    Example:
        >>> ops.round([0.5, 1.5, 2.6]).numpy()
        array([0., 2., 3.], dtype=float32)
        >>> ops.round([123, 186], decimals=-1).numpy()
        array([120, 190], dtype=int32)
    """
    decimals = min(max(decimals, -400), 400)  # NumPy multiplies once per decimal; 1e400 is infinite
    return apply(elementwise.round, None, _numbers("round", [as_tensor(x)]), decimals=decimals)


# -------------------- comparisons and logic: bool, no gradient --------------------


def _comparison(described: _F) -> _F:
    """Decorator that gives a described function its body: NumPy's function of this name, with results of bool."""
    name, ufunc = described.__name__, getattr(np, described.__name__)

    def compare(x1, x2) -> Tensor:
        return apply(elementwise.binary, None, _binary(name, x1, x2), ufunc=ufunc, dtype=np.bool_)

    made: Any = functools.update_wrapper(compare, described)
    return op(made)


@_comparison
def equal(x1, x2) -> Tensor:
    """True where x1 and x2 are equal; the operator `==` of tensors with values. NaN is equal to nothing.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.equal([1, 2, 3], [1, 0, 3]).numpy()
        array([ True, False,  True])
    """


@_comparison
def not_equal(x1, x2) -> Tensor:
    """True where x1 and x2 differ; the operator `!=` of tensors. NaN differs from everything.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.not_equal([1, 2, 3], [1, 0, 3]).numpy()
        array([False,  True, False])
    """


@_comparison
def greater(x1, x2) -> Tensor:
    """True where x1 > x2; the operator `>` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.greater([1, 2, 3], 2).numpy()
        array([False, False,  True])
    """


@_comparison
def greater_equal(x1, x2) -> Tensor:
    """True where x1 >= x2; the operator `>=` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.greater_equal([1, 2, 3], 2).numpy()
        array([False,  True,  True])
    """


@_comparison
def less(x1, x2) -> Tensor:
    """True where x1 < x2; the operator `<` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.less([1, 2, 3], 2).numpy()
        array([ True, False, False])
    """


@_comparison
def less_equal(x1, x2) -> Tensor:
    """True where x1 <= x2; the operator `<=` of tensors.

    Args:
        x1: Numbers of any shape.
        x2: Numbers of a shape that broadcasts with x1's.

    Example:
        >>> ops.less_equal([1, 2, 3], 2).numpy()
        array([ True,  True, False])
    """


@_comparison
def logical_and(x1, x2) -> Tensor:
    """True where x1 and x2 are both true.

    Args:
        x1: Booleans, or numbers, which are true if they are not 0.
        x2: The same, of a shape that broadcasts with x1's.

    Example:
        >>> ops.logical_and([True, True, False], [True, False, False]).numpy()
        array([ True, False, False])
    """


@_comparison
def logical_or(x1, x2) -> Tensor:
    """True where x1 or x2 is true, or both are.

    Args:
        x1: Booleans, or numbers, which are true if they are not 0.
        x2: The same, of a shape that broadcasts with x1's.

    Example:
        >>> ops.logical_or([True, True, False], [True, False, False]).numpy()
        array([ True,  True, False])
    """


@_comparison
def logical_xor(x1, x2) -> Tensor:
    """True where exactly one of x1 and x2 is true.

    Args:
        x1: Booleans, or numbers, which are true if they are not 0.
        x2: The same, of a shape that broadcasts with x1's.

    Example:
        >>> ops.logical_xor([True, True, False], [True, False, False]).numpy()
        array([False,  True, False])
    """


@op
def logical_not(x) -> Tensor:
    """True where x is false.

    Args:
        x: Booleans, or numbers, which are true if they are not 0.

    Example:
        >>> ops.logical_not([True, False]).numpy()
        array([False,  True])
    """
    return apply(elementwise.unary, None, [as_tensor(x)], ufunc=np.logical_not, dtype=np.bool_)


@op
def isnan(x) -> Tensor:
    """True where x is NaN.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.isnan([1.0, np.nan, np.inf]).numpy()
        array([False,  True, False])
    """
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.isnan, dtype=np.bool_)


@op
def isinf(x) -> Tensor:
    """True where x is infinity or minus infinity.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.isinf([1.0, np.nan, -np.inf]).numpy()
        array([False, False,  True])
    """
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.isinf, dtype=np.bool_)


@op
def isfinite(x) -> Tensor:
    """True where x is neither NaN nor infinite.

    Args:
        x: Numbers of any shape.

    Example:
        >>> ops.isfinite([1.0, np.nan, np.inf]).numpy()
        array([ True, False, False])
    """
    return apply(elementwise.unary, None, [as_float(x)], ufunc=np.isfinite, dtype=np.bool_)


# -------------------- selection and dtype --------------------


@op
def where(condition, x1=None, x2=None) -> Any:
    """x1 where the condition is true, x2 elsewhere; the positions where it is true, as of `ops.nonzero`, without both.

    The gradient of an element that is not chosen is 0.

    Args:
        condition: Booleans, or numbers, which are true if they are not 0.
        x1: Numbers for where the condition is true.
        x2: Numbers for where it is false. The three shapes broadcast.

    Returns:
        A tensor of the broadcast shape, and of the common dtype of x1 and x2; or a tuple with an int32 vector for each axis.

    Raises:
        ValueError: with only one of x1 and x2, or if the shapes do not broadcast.

    Example:
        >>> ops.where([True, False, True], [1.0, 2.0, 3.0], 0.0).numpy()
        array([1., 0., 3.], dtype=float32)
    """
    mask = as_tensor(condition, np.bool_)
    if x1 is None and x2 is None:
        return tuple(as_tensor(positions, np.int32) for positions in np.nonzero(mask.numpy()))
    if x1 is None or x2 is None:
        raise ValueError("where: give both x1 and x2, or neither of them")
    operands = promote(x1, x2)
    check_broadcast("where", mask, *operands)
    return apply(elementwise.where, elementwise.where_vjp, [mask, *operands])


def _limits(dtype: np.dtype, low: Any, high: Any) -> tuple[Any, Any]:
    """The limits clipped to an integer dtype's range; None stays None. ValueError if no number lies between them."""
    lowest, greatest = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if (low is not None and low > greatest) or (high is not None and high < lowest):
        raise ValueError(
            f"clip: no {dtype} lies between {briefly(low)} and {briefly(high)}: use ops.cast(x, 'int32') or another dtype before"
        )
    return None if low is None else max(int(low), lowest), None if high is None else min(int(high), greatest)


@op
def clip(x, x_min, x_max) -> Tensor:
    """x limited to the interval from x_min to x_max.

    The gradient passes inside the interval, including its ends, and is 0 outside.

    Args:
        x: Numbers of any shape; booleans become int32. NaN stays NaN.
        x_min: The lower limit, a number or a tensor that broadcasts with x; None for no limit.
        x_max: The upper limit, likewise. Where it is below the lower limit, the result is the upper limit.

    Returns:
        A tensor of x's dtype; floatx for integers with a limit that is a float.

    Raises:
        ValueError: if no number of x's integer dtype lies between the limits.

    Example:
        >>> ops.clip([-1.0, 0.5, 3.0], 0.0, 1.0).numpy()
        array([0. , 0.5, 1. ], dtype=float32)
    """
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
    """x converted to another dtype.

    A float that becomes an integer loses its fraction. NaN becomes 0, and a float out of the integer dtype's range the
    nearest integer in range. An integer out of range wraps around (`ops.saturate_cast` takes the nearest one in range). Any
    number but 0, NaN too, becomes the boolean True.

    Args:
        x: Numbers of any shape.
        dtype: A dtype such as 'float32', 'bfloat16', 'int64' or 'bool'.

    Raises:
        ValueError: for a name that is not a numeric dtype.

    Example:
        >>> ops.cast([1.7, -1.7, 1e20], "int32").numpy()
        array([         1,         -1, 2147483647], dtype=int32)
    """
    return as_tensor(as_tensor(x), known_dtype(dtype))


@op
def stop_gradient(variable) -> Tensor:
    """The tensor as a constant: no gradient flows back through it.

    Args:
        variable: A tensor, or anything that becomes one.

    Example:
        >>> x = keras.Variable([3.0])
        >>> with keras.GradientTape() as tape:
        ...     y = ops.stop_gradient(x) * x  # the first factor counts as the constant 3
        >>> tape.gradient(y, x).numpy()
        array([3.], dtype=float32)
    """
    x = value_of(as_tensor(variable))
    mapped = stand_in([x])
    return Tensor(x.data) if mapped is None else mapped.constant()


@op
def print_tensor(x, message: str = "") -> Tensor:
    """x unchanged; its value is printed each time the step runs, also when a recorded step is replayed.

    Args:
        x: A tensor, or anything that becomes one.
        message: A string that is printed before the value.

    Example:
        >>> y = ops.print_tensor([1.0, 2.0], "x is")
        x is [1. 2.]
    """
    return apply(elementwise.show, elementwise.show_vjp, [as_tensor(x)], message=message)


def convert_to_tensor(x, dtype=None, sparse: bool | None = None, ragged: bool | None = None) -> Tensor:
    """A tensor of anything that holds numbers: a number, nested lists, a tensor, an array of NumPy or another library.

    Args:
        x: Numbers or booleans, or strings, which become Strings; a symbolic tensor is returned unchanged. Tensors of the same
            shape in a list are stacked, with a gradient.
        dtype: The dtype of the tensor. None keeps the dtype of an array; Python floats become floatx, Python
            integers int32 (int64 if they are too large).
        sparse: False or None: there are no sparse tensors.
        ragged: False or None: there are no ragged tensors.

    Raises:
        TypeError: for values that are neither numbers nor booleans.
        ValueError: for lists of different lengths, and for sparse or ragged tensors.

    Example:
        >>> ops.convert_to_tensor([[1, 2], [3, 4]])
        <Tensor shape=(2, 2) dtype=int32, numpy=array([[1, 2],
               [3, 4]], dtype=int32)>
    """
    for what, value in (("sparse", sparse), ("ragged", ragged)):
        if value is not None and option.flag_of("convert_to_tensor", what, value):
            raise ValueError(
                "convert_to_tensor: sparse and ragged tensors are not supported, use pad_sequences and masks"
            )
    if dtype is not None and getattr(dtype, "name", dtype) != "string":
        return cast(x, dtype)
    try:
        return x if hasattr(x, "symbolic_op") else value_of(as_tensor(x))
    except TypeError:
        if not _strings.holds_strings(x):
            raise
        return _strings.strings_of(x, "convert_to_tensor")  # type: ignore[return-value]


def convert_to_numpy(x) -> np.ndarray:
    """The value of a tensor as a NumPy array.

    In a training step, the value is read each time: such a step cannot be recorded and runs eagerly.

    Args:
        x: A tensor, or anything that becomes one.

    Example:
        >>> ops.convert_to_numpy(ops.ones(3))
        array([1., 1., 1.], dtype=float32)
    """
    return as_tensor(x).numpy()


def is_tensor(x) -> bool:
    """Whether x is a tensor: one with a value (also a variable), or a symbolic one.

    Args:
        x: Any object.

    Example:
        >>> ops.is_tensor(ops.ones(3)), ops.is_tensor(np.ones(3)), ops.is_tensor(keras.Input((3,)))
        (True, False, True)
    """
    return isinstance(x, Tensor) or hasattr(x, "symbolic_op")
