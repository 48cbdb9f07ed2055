"""Twins of half.py, for arrays of any strides. They compute with the bits of float32 numbers."""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.walk import indices_of_two, seen_as, start_walk
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel
from nbkeras.kernels.runtime.device_array import DeviceArray

_INFINITY = 0x7F800000
_LARGE, _NORMAL, _SMALLEST = 0x477FF000, 0x38800000, 0x33000000  # 65520, 2**-14, 2**-25


@device_function
def _to_nearest(bits, places):
    """The nearest multiple of 2**places, ties to even."""
    return (bits + (1 << places - 1) - 1 + (bits >> places & 1)) >> places << places


@device_function
def _float16(size):
    """The bits of |x| in float16, from those of |x|."""
    if size >= _LARGE:
        return _INFINITY
    if size >= _NORMAL:
        return _to_nearest(size, 13)
    if size <= _SMALLEST:  # half of the smallest subnormal number is rounded to 0
        return 0
    exponent = size >> 23
    return (exponent - 1 << 23) + _to_nearest(size & 0x7FFFFF | 0x800000, 126 - exponent)


@kernel
def _rounded(is_float16, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        bits = np.int64(x[np.uint64(i)])
        size = bits & 0x7FFFFFFF
        if size <= _INFINITY:  # not NaN
            size = _float16(size) if is_float16 else _to_nearest(size, 16)
        y[np.uint64(j)] = np.uint32(bits & 0x80000000 | size)


def bfloat16(x: DeviceArray, out: DeviceArray) -> None:
    """Rounds to bfloat16, ties to even. NaN stays NaN."""
    start_walk(_rounded, (seen_as(np.uint32, x), seen_as(np.uint32, out)), False)


def float16(x: DeviceArray, out: DeviceArray) -> None:
    """Rounds to float16, ties to even, with infinity beyond 65504 and the subnormal numbers of float16."""
    start_walk(_rounded, (seen_as(np.uint32, x), seen_as(np.uint32, out)), True)
