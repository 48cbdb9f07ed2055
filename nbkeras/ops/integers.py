"""Elementwise ops of integers: bits, shifts, common divisors. They broadcast and have no gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine.tensor import Tensor, apply, as_tensor, op, promote
from nbkeras.kernels import elementwise as elementwise_kernels
from nbkeras.ops import elementwise
from nbkeras.ops.arguments import check_broadcast

_OF_BOOLEANS: dict[np.ufunc, Callable] = {
    np.bitwise_and: elementwise.logical_and,
    np.bitwise_or: elementwise.logical_or,
    np.bitwise_xor: elementwise.logical_xor,
    np.invert: elementwise.logical_not,
}


def _integers(ufunc: np.ufunc, *values: Any) -> Tensor:
    """Apply a ufunc to integers of one dtype, or to booleans if the ufunc is defined for them."""
    operands = promote(*values)
    check_broadcast(ufunc.__name__, *operands)
    kind = operands[0].dtype.kind
    if kind == "b" and ufunc in _OF_BOOLEANS:
        return _OF_BOOLEANS[ufunc](*operands)
    if kind not in "iu":
        also = " or booleans" if ufunc in _OF_BOOLEANS else ""
        raise TypeError(
            f"{ufunc.__name__} is for integers{also}, received {', '.join(str(as_tensor(v).dtype) for v in values)}: "
            "compare first, or use ops.cast"
        )
    return apply(
        elementwise_kernels.unary if len(operands) == 1 else elementwise_kernels.binary, None, operands, ufunc=ufunc
    )


@op
def bitwise_and(x, y) -> Tensor:
    """The bits that are set in both x and y; the operator `&` of tensors.

    Args:
        x: Integers or booleans of any shape.
        y: The same, of a shape that broadcasts with x's.

    Raises:
        TypeError: for floats.

    Example:
        >>> ops.bitwise_and([6, 12], 10).numpy()  # 0110 & 1010, 1100 & 1010
        array([2, 8], dtype=int32)
    """
    return _integers(np.bitwise_and, x, y)


@op
def bitwise_or(x, y) -> Tensor:
    """The bits that are set in x, in y or in both; the operator `|` of tensors.

    Args:
        x: Integers or booleans of any shape.
        y: The same, of a shape that broadcasts with x's.

    Raises:
        TypeError: for floats.

    Example:
        >>> ops.bitwise_or([6, 12], 10).numpy()  # 0110 | 1010, 1100 | 1010
        array([14, 14], dtype=int32)
    """
    return _integers(np.bitwise_or, x, y)


@op
def bitwise_xor(x, y) -> Tensor:
    """The bits that are set in exactly one of x and y; the operator `^` of tensors.

    Args:
        x: Integers or booleans of any shape.
        y: The same, of a shape that broadcasts with x's.

    Raises:
        TypeError: for floats.

    Example:
        >>> ops.bitwise_xor([6, 12], 10).numpy()  # 0110 ^ 1010, 1100 ^ 1010
        array([12,  6], dtype=int32)
    """
    return _integers(np.bitwise_xor, x, y)


@op
def bitwise_not(x) -> Tensor:
    """All bits inverted: -x - 1 for signed integers; the operator `~` of tensors.

    Args:
        x: Integers or booleans of any shape.

    Raises:
        TypeError: for floats.

    Example:
        >>> ops.bitwise_not([0, 5]).numpy()
        array([-1, -6], dtype=int32)
    """
    return _integers(np.invert, x)


bitwise_invert = bitwise_not


@op
def bitwise_left_shift(x, y) -> Tensor:
    """The bits of x moved to the left by y positions: x * 2^y. The operator `<<` of tensors.

    Bits that overflow are dropped.

    Args:
        x: Integers of any shape.
        y: Numbers of positions, 0 or more, of a shape that broadcasts with x's.

    Raises:
        TypeError: for floats.

    Example:
        >>> ops.bitwise_left_shift([1, 5], [3, 1]).numpy()
        array([ 8, 10], dtype=int32)
    """
    return _integers(np.left_shift, x, y)


left_shift = bitwise_left_shift


@op
def bitwise_right_shift(x, y) -> Tensor:
    """The bits of x moved to the right by y positions: x / 2^y, rounded down. The operator `>>` of tensors.

    Args:
        x: Integers of any shape.
        y: Numbers of positions, 0 or more, of a shape that broadcasts with x's.

    Raises:
        TypeError: for floats.

    Example:
        >>> ops.bitwise_right_shift([9, -9], 1).numpy()
        array([ 4, -5], dtype=int32)
    """
    return _integers(np.right_shift, x, y)


right_shift = bitwise_right_shift


@op
def gcd(x1, x2) -> Tensor:
    """The greatest common divisor of x1 and x2, not negative.

    Args:
        x1: Integers of any shape.
        x2: Integers of a shape that broadcasts with x1's.

    Raises:
        TypeError: for floats and booleans.

    Example:
        >>> ops.gcd([12, 7], 18).numpy()
        array([6, 1], dtype=int32)
    """
    return _integers(np.gcd, x1, x2)


@op
def lcm(x1, x2) -> Tensor:
    """The least common multiple of x1 and x2, not negative; 0 where either is 0.

    Args:
        x1: Integers of any shape.
        x2: Integers of a shape that broadcasts with x1's.

    Raises:
        TypeError: for floats and booleans.

    Example:
        >>> ops.lcm([4, 7], 6).numpy()
        array([12, 42], dtype=int32)
    """
    return _integers(np.lcm, x1, x2)
