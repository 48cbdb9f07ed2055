"""Twins of elementwise.py. Those of selections and extrema are derived, see interpreter/launches.py."""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.interpreter.launches import run
from nbkeras.kernels.cuda.loops.walk import indices_of_two, start_walk
from nbkeras.kernels.cuda.machine.kernel import kernel
from nbkeras.kernels.runtime.device_array import DeviceArray


def error_function(x: DeviceArray, y: DeviceArray) -> None:
    """y = erf(x)."""
    run("erf", x, y)


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
        run("add", x, 0, out)
        return
    number = x.dtype.type if x.dtype.kind == "f" else np.float64
    whole = number(2.0) ** (np.finfo(number).nmant)  # all larger floats are integers
    tens = number(float(f"1e{abs(decimals)}"))  # infinity where a power would raise an error
    start_walk(_round_half_even, (x, out), tens, decimals < 0, whole)
