"""Twins of elementwise.py and of NumPy's ufuncs, for arrays of any strides that broadcast together.

Arrays have the same dtype, and numbers are converted to it. An output may be one of the inputs; it must not overlap otherwise.
"""

import functools
import math
from collections.abc import Callable
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
from nbkeras.kernels.cuda.machine import host
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, kernel, start_each
from nbkeras.kernels.runtime.device_array import DeviceArray


def _unary(kernel: Kernel, code: int, x: DeviceArray, out: DeviceArray) -> None:
    if kernel is ufuncs.plain and _in_quads(out, x):
        start_each(ufuncs.plain_quads, blocks(out.size, 4), code, x.reshape(-1), out.reshape(-1))
    else:
        start_walk(kernel, (x, out), code)


def _in_quads(out: DeviceArray, *arrays: DeviceArray) -> bool:
    """True if all arrays are contiguous, 16-byte aligned, and of the same shape and dtype."""
    return all(
        array.shape == out.shape and array.dtype == out.dtype and array.flags.c_contiguous and array.address % 16 == 0
        for array in (out, *arrays)
    )


def _binary(kernel: Kernel, code: int, x: Any, y: Any, out: DeviceArray) -> None:
    if not out.size:
        return
    is_number, number = ufuncs.NEITHER, 0
    if not isinstance(x, DeviceArray):
        is_number, number, x = ufuncs.FIRST, x, y
    elif not isinstance(y, DeviceArray):
        is_number, number, y = ufuncs.SECOND, y, x
    if x.dtype != y.dtype:
        raise TypeError(
            f"a GPU kernel of two arrays needs one dtype, received {x.dtype} and {y.dtype}: cast one of them"
        )
    number = x.dtype.type(number)
    if kernel is ufuncs.combine and _in_quads(out, x, y):
        x, y, out = (array.reshape(-1) for array in (x, y, out))
        start_each(ufuncs.combine_quads, blocks(out.size, 4), code, number, is_number, x, y, out)
    else:
        start_walk(kernel, (x, y, out), code, numeric(x).dtype.type(number), is_number)


_OF_BOOLEANS: dict[np.ufunc, np.ufunc] = {
    np.add: np.logical_or,
    np.multiply: np.logical_and,
    np.maximum: np.logical_or,
    np.minimum: np.logical_and,
}


# -------------------- twins --------------------

_FLOATS: dict[Any, tuple[Callable, Kernel, int]] = {
    ufunc: (run, kernel, code)
    for run, kernel, codes in (
        (_unary, ufuncs.plain, ufuncs.PLAIN),
        (_unary, ufuncs.test, ufuncs.TESTS),
        (_unary, ufuncs.curve, ufuncs.CURVES),
        (_unary, ufuncs.rare, ufuncs.RARE),
        (_binary, ufuncs.combine, ufuncs.SUMS),
        (_binary, ufuncs.combine_quotients, ufuncs.QUOTIENTS),
        (_binary, ufuncs.combine_rarely, ufuncs.RARE_PAIRS),
        (_binary, ufuncs.compare, ufuncs.COMPARISONS),
    )
    for ufunc, code in codes.items()
}
_OTHERS: dict[Any, tuple[Callable, Kernel, int]] = {
    ufunc: (run, kernel, code)
    for run, kernel, codes in (
        (_unary, ufuncs.plain_integers, ufuncs.PLAIN_INTEGERS),
        (_unary, ufuncs.test, ufuncs.TESTS),
        (_binary, ufuncs.combine_integers, ufuncs.INTEGERS),
        (_binary, ufuncs.compare, ufuncs.COMPARISONS),
    )
    for ufunc, code in codes.items()
}


@functools.cache
def of_ufunc(ufunc: np.ufunc) -> Callable:
    """Returns the twin of a NumPy ufunc. It takes the inputs, arrays or numbers, and the output.

    If the ufunc has no CUDA kernel, it runs on the CPU. Integers divided by 0 give 0. An integer to a negative power, where NumPy
    raises an error, is rounded towards 0.
    """
    if ufunc not in _FLOATS:
        return host.on_copies(ufunc)

    def twin(*args: Any) -> None:
        dtype = next(arg.dtype for arg in args if isinstance(arg, DeviceArray))
        meant = _OF_BOOLEANS.get(ufunc, ufunc) if dtype.kind == "b" else ufunc
        known = (_FLOATS if dtype.kind == "f" else _OTHERS).get(meant)
        if known is None:
            raise TypeError(f"numpy.{ufunc.__name__} of {dtype} gives floats: cast to a float first on a GPU")
        run, kernel, code = known
        run(kernel, code, *args)

    twin.__name__ = twin.fuses_as = ufunc.__name__  # type: ignore[attr-defined]
    return twin


def larger(x: Any, y: Any, out: DeviceArray) -> None:
    """The larger of two numbers, or NaN if one is NaN."""
    of_ufunc(np.maximum)(x, y, out)


def smaller(x: Any, y: Any, out: DeviceArray) -> None:
    """The smaller of two numbers, or NaN if one is NaN."""
    of_ufunc(np.minimum)(x, y, out)


def error_function(x: DeviceArray, y: DeviceArray) -> None:
    """y = erf(x)."""
    _unary(ufuncs.curve, ufuncs.CURVES["erf"], x, y)


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
        of_ufunc(np.add)(x, 0, out)
        return
    number = x.dtype.type if x.dtype.kind == "f" else np.float64
    whole = number(2.0) ** (np.finfo(number).nmant)  # all larger floats are integers
    tens = number(float(f"1e{abs(decimals)}"))  # infinity where a power would raise an error
    start_walk(_round_half_even, (x, out), tens, decimals < 0, whole)


select.fuses_as, clip_between.fuses_as = "select", "clip"  # type: ignore[attr-defined]
