"""Formulas of instruction_set.py that round float32 to numbers of 16 bits, see kernels/half.py. x is a Vector (loops/llvm.py)."""

import math
from typing import Any


def _to_nearest(bits: Any, places: int) -> Any:
    """Rounds integers to multiples of 2**places, ties to even."""
    odd = bits.shifted("lshr", places) & 1
    return (bits + odd + ((1 << places - 1) - 1)) & (-1 << places)


def bfloat16(x: Any) -> Any:
    """Rounds to bfloat16, ties to even."""
    return x.where("!=", x, x, _to_nearest(x.bits(), 16).as_float())


def float16(x: Any) -> Any:
    """Rounds to float16, ties to even, with infinity and subnormal numbers."""
    sign, size = x.bits() & (-1 << 31), abs(x)
    small = (size + 0.5) - 0.5  # a multiple of 2**-24, as float16's subnormal numbers are
    y = size.where("<", 2.0**-14, small, _to_nearest(size.bits(), 13).as_float())
    y = size.where(">=", 65520.0, math.inf, y)
    return x.where("!=", x, x, (y.bits() | sign).as_float())
