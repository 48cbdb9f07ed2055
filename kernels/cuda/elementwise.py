"""Twins of elementwise.py, for arrays of any strides that broadcast together.

Arrays have the same dtype, and numbers are converted to it. An output may be one of the inputs; it must not overlap otherwise.
"""

import math
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops import ufuncs
from nbkeras.kernels.cuda.loops.walk import (
    indices_of_four,
    indices_of_two,
    numeric,
    seen_as,
    start_walk,
    unsigned_of,
)
from nbkeras.kernels.cuda.machine.kernel import kernel
from nbkeras.kernels.cuda.runtime.eager import twin, unary
from nbkeras.kernels.runtime.device_array import DeviceArray


def larger(x: Any, y: Any, out: DeviceArray) -> None:
    """The larger of two numbers, or NaN if one is NaN."""
    twin(np.maximum)(x, y, out)


def smaller(x: Any, y: Any, out: DeviceArray) -> None:
    """The smaller of two numbers, or NaN if one is NaN."""
    twin(np.minimum)(x, y, out)


def error_function(x: DeviceArray, y: DeviceArray) -> None:
    """y = erf(x)."""
    unary(ufuncs.curve, ufuncs.CURVES["erf"], x, y)


larger.fuses_as, smaller.fuses_as = "maximum", "minimum"  # type: ignore[attr-defined]


# -------------------- selection --------------------


@kernel
def _select(
    numbers, are_numbers, count, sizes, multipliers, shifts, condition, condition_steps, x, x_steps, y, y_steps, out, out_steps
):  # fmt: skip
    n = cuda.grid(1)
    if n < count:
        h, i, j, k = indices_of_four(n, sizes, multipliers, shifts, condition_steps, x_steps, y_steps, out_steps)
        if condition[np.uint64(h)]:
            out[np.uint64(k)] = numbers[0] if are_numbers & 1 else x[np.uint64(i)]
        else:
            out[np.uint64(k)] = numbers[1] if are_numbers & 2 else y[np.uint64(j)]


def select(condition: DeviceArray, x: Any, y: Any, out: DeviceArray) -> None:
    """Computes x where the condition is true, else y. x and y are arrays or constants; either may be the output."""
    bits = unsigned_of(out.itemsize)
    are_numbers = sum(flag for flag, value in ((1, x), (2, y)) if not isinstance(value, DeviceArray))
    numbers = tuple(
        bits(0) if isinstance(value, DeviceArray) else np.asarray(value, out.dtype).view(bits)[()] for value in (x, y)
    )
    choices = (seen_as(bits, value if isinstance(value, DeviceArray) else out) for value in (x, y, out))
    start_walk(_select, (condition, *choices), numbers, are_numbers)


@kernel
def _clip(low, high, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        v = low if v < low else v
        y[np.uint64(j)] = high if v > high else v


def clip_between(x: DeviceArray, low: Any, high: Any, out: DeviceArray) -> None:
    """Limits x to at least low and at most high; NaN stays NaN."""
    number = numeric(x).dtype.type
    start_walk(_clip, (x, out), number(low), number(high))


@kernel
def _round_half_even(scale, down, whole, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = scale * x[np.uint64(i)] if not down else x[np.uint64(i)] / scale
        if math.fabs(v) < whole:
            v = math.copysign(math.fabs(v) + whole - whole, v)
        y[np.uint64(j)] = v / scale if not down else v * scale


def round_half_even(x: DeviceArray, decimals: int, out: DeviceArray) -> None:
    """Computes x rounded to a number of decimals."""
    if x.dtype.kind != "f" and decimals >= 0:
        twin(np.add)(x, 0, out)
        return
    number = x.dtype.type if x.dtype.kind == "f" else np.float64
    whole = number(2.0) ** (np.finfo(number).nmant)  # all larger floats are integers
    tens = number(float(f"1e{abs(decimals)}"))  # infinity where a power would raise an error
    start_walk(_round_half_even, (x, out), tens, decimals < 0, whole)


select.fuses_as, clip_between.fuses_as = "select", "clip"  # type: ignore[attr-defined]
