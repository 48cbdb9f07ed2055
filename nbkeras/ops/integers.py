"""Elementwise ops of integers: bits, shifts, common divisors. They broadcast and have no gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import elementwise as elementwise_kernels
from nbkeras.ops import elementwise
from nbkeras.ops.arguments import check_broadcast, promote

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
    """The bits that are set in both."""
    return _integers(np.bitwise_and, x, y)


@op
def bitwise_or(x, y) -> Tensor:
    """The bits that are set in either."""
    return _integers(np.bitwise_or, x, y)


@op
def bitwise_xor(x, y) -> Tensor:
    """The bits that are set in exactly one."""
    return _integers(np.bitwise_xor, x, y)


@op
def bitwise_not(x) -> Tensor:
    """All bits inverted."""
    return _integers(np.invert, x)


bitwise_invert = bitwise_not


@op
def bitwise_left_shift(x, y) -> Tensor:
    """x * 2^y; bits that overflow are dropped."""
    return _integers(np.left_shift, x, y)


left_shift = bitwise_left_shift


@op
def bitwise_right_shift(x, y) -> Tensor:
    """x / 2^y, rounded down."""
    return _integers(np.right_shift, x, y)


right_shift = bitwise_right_shift


@op
def gcd(x1, x2) -> Tensor:
    """The greatest common divisor."""
    return _integers(np.gcd, x1, x2)


@op
def lcm(x1, x2) -> Tensor:
    """The least common multiple."""
    return _integers(np.lcm, x1, x2)
