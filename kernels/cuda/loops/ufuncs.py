"""NumPy's ufuncs as CUDA kernels: arithmetic, comparisons, functions of one number; cuda/elementwise.py starts them.

There is one kernel for each kind of ufunc; a code chooses the ufunc: the time goes to memory, not to the choice. Arithmetic on
contiguous floats goes four numbers at a time. Booleans are seen as uint8.
"""

import math
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import in_fours, load_four, store_four
from nbkeras.kernels.cuda.loops.walk import indices_of_three, indices_of_two
from nbkeras.kernels.cuda.machine.kernel import device_function, kernel

NEITHER, FIRST, SECOND = range(3)  # which operand is a number


def _codes(*ufuncs: Any) -> dict[Any, int]:
    return {ufunc: code for code, ufunc in enumerate(ufuncs)}


# -------------------- one argument --------------------

PLAIN = _codes(*(np.negative, np.absolute, np.square, np.sign, np.reciprocal, np.sqrt, np.floor, np.ceil))
PLAIN_INTEGERS = _codes(np.negative, np.absolute, np.square, np.sign, np.reciprocal)
TESTS = _codes(np.logical_not, np.isnan, np.isinf, np.isfinite)
CURVES = _codes(np.exp, np.expm1, np.log, np.log1p, np.log2, np.sin, np.cos, np.tan, np.arctan, "erf")
RARE = _codes(
    *(np.arcsin, np.arccos, np.arcsinh, np.arccosh, np.arctanh, np.sinh, np.cosh, np.exp2, np.log10, np.trunc),
    *(np.deg2rad, np.rad2deg),
)


@device_function
def _plainly(code, v, zero, one):
    if code == 0:
        return -v
    if code == 1:
        return math.fabs(v)
    if code == 2:
        return v * v
    if code == 3:
        return one if v > zero else -one if v < zero else zero if v == zero else v
    if code == 4:
        return one / v
    if code == 5:
        return math.sqrt(v)
    if code == 6:
        return math.floor(v)
    return math.ceil(v)


@kernel
def plain(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        y[np.uint64(j)] = _plainly(code, x[np.uint64(i)], x.dtype.type(0), x.dtype.type(1))


@kernel
def plain_quads(code, x, y):
    in_fours(_plainly, code, True, x, (x.dtype.type(0), x.dtype.type(1)), y)


@kernel
def plain_integers(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        if code == 0:
            y[np.uint64(j)] = -v
        elif code == 1:
            y[np.uint64(j)] = v if v >= 0 else -v
        elif code == 2:
            y[np.uint64(j)] = v * v
        elif code == 3:
            y[np.uint64(j)] = 1 if v > 0 else 0 if v == 0 else -1
        else:
            y[np.uint64(j)] = v if v == 1 or v == -1 else 0


@kernel
def test(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        zero = x.dtype.type(0)
        if code == 0:
            found = v == zero
        elif code == 1:
            found = v != v
        elif code == 2:
            found = v == v and v - v != zero
        else:
            found = v - v == zero
        y[np.uint64(j)] = y.dtype.type(1) if found else y.dtype.type(0)


@kernel
def curve(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        if code == 0:
            v = math.exp(v)
        elif code == 1:
            v = math.expm1(v)
        elif code == 2:
            v = math.log(v)
        elif code == 3:
            v = math.log1p(v)
        elif code == 4:
            v = math.log2(v)
        elif code == 5:
            v = math.sin(v)
        elif code == 6:
            v = math.cos(v)
        elif code == 7:
            v = math.tan(v)
        elif code == 8:
            v = math.atan(v)
        else:
            v = math.erf(v)
        y[np.uint64(j)] = v


@kernel
def rare(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = indices_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        if code == 0:
            v = math.asin(v)
        elif code == 1:
            v = math.acos(v)
        elif code == 2:
            v = math.asinh(v)
        elif code == 3:
            v = math.acosh(v)
        elif code == 4:
            v = math.atanh(v)
        elif code == 5:
            v = math.sinh(v)
        elif code == 6:
            v = math.cosh(v)
        elif code == 7:
            v = math.pow(x.dtype.type(2), v)
        elif code == 8:
            v = math.log10(v)
        elif code == 9:
            v = math.copysign(math.floor(math.fabs(v)), v)
        elif code == 10:
            v = v * x.dtype.type(math.pi / 180)
        else:
            v = v * x.dtype.type(180 / math.pi)
        y[np.uint64(j)] = v


# -------------------- two arguments --------------------

SUMS = _codes(np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)
QUOTIENTS = _codes(np.floor_divide, np.mod, np.power)
RARE_PAIRS = _codes(np.hypot, np.arctan2, np.fmod, np.fmax, np.fmin, np.logaddexp)
INTEGERS = _codes(*(np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.floor_divide, np.mod, np.power))
COMPARISONS = _codes(
    *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
    *(np.logical_and, np.logical_or, np.logical_xor),
)


@device_function
def _combined(code, a, b):
    if code == 0:
        return a + b
    if code == 1:
        return a - b
    if code == 2:
        return a * b
    if code == 3:
        return a / b
    if code == 4:
        return a if a >= b or a != a else b
    return a if a <= b or a != a else b


@kernel
def combine(code, number, is_number, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = indices_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == FIRST else x[np.uint64(i)]
        b = number if is_number == SECOND else y[np.uint64(j)]
        out[np.uint64(k)] = _combined(code, a, b)


@kernel
def combine_quads(code, number, is_number, x, y, out):
    n = 4 * cuda.grid(1)
    if n < out.size:
        wide = n + 4 <= out.size
        a = b = c = d = p = q = r = s = number
        if is_number != FIRST:
            a, b, c, d = load_four(x, n, out.size, 1, wide, number)
        if is_number != SECOND:
            p, q, r, s = load_four(y, n, out.size, 1, wide, number)
        first, second = _combined(code, a, p), _combined(code, b, q)
        third, fourth = _combined(code, c, r), _combined(code, d, s)
        store_four(out, n, out.size, 1, wide, (first, second, third, fourth))


@kernel
def combine_quotients(
    code, number, is_number, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, out, out_steps
):
    n = cuda.grid(1)
    if n < count:
        i, j, k = indices_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == FIRST else x[np.uint64(i)]
        b = number if is_number == SECOND else y[np.uint64(j)]
        zero, one = x.dtype.type(0), x.dtype.type(1)
        if code == 2:
            a = math.pow(a, b)
        elif b == zero:
            a = a / b if code == 0 else math.fmod(a, b)
        else:  # as NumPy does it: floor_divide and mod agree, a remainder of 0 has the divisor's sign
            rest = math.fmod(a, b)
            whole = (a - rest) / b
            if rest == zero:
                rest = math.copysign(zero, b)
            elif (b < zero) != (rest < zero):
                rest = rest + b
                whole = whole - one
            if code == 1:
                a = rest
            elif whole == zero:
                a = math.copysign(zero, a / b)
            else:
                a = math.floor(whole)
                if whole - a > x.dtype.type(0.5):
                    a = a + one
        out[np.uint64(k)] = a


@kernel
def combine_rarely(code, number, is_number, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = indices_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == FIRST else x[np.uint64(i)]
        b = number if is_number == SECOND else y[np.uint64(j)]
        if code == 0:
            a = math.hypot(a, b)
        elif code == 1:
            a = math.atan2(a, b)
        elif code == 2:
            a = math.fmod(a, b)
        elif code == 3:
            a = a if a >= b or b != b else b
        elif code == 4:
            a = a if a <= b or b != b else b
        elif a == b:  # infinities too
            a = a + x.dtype.type(math.log(2.0))
        else:
            a = (a if a >= b or a != a else b) + math.log1p(math.exp(-math.fabs(a - b)))
        out[np.uint64(k)] = a


@device_function
def _power(base, exponent):
    """base to a whole power; to a negative one, where NumPy raises, the quotient rounded towards 0."""
    one = base - base + 1
    if exponent < 0:
        return one if base == 1 or base == -1 and exponent & 1 == 0 else base if base == -1 else one - one
    result = one
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    return result


@kernel
def combine_integers(
    code, number, is_number, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, out, out_steps
):
    n = cuda.grid(1)
    if n < count:
        i, j, k = indices_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == FIRST else x[np.uint64(i)]
        b = number if is_number == SECOND else y[np.uint64(j)]
        if code == 0:
            out[np.uint64(k)] = a + b
        elif code == 1:
            out[np.uint64(k)] = a - b
        elif code == 2:
            out[np.uint64(k)] = a * b
        elif code == 3:
            out[np.uint64(k)] = a if a >= b else b
        elif code == 4:
            out[np.uint64(k)] = a if a <= b else b
        elif code == 7:
            out[np.uint64(k)] = _power(a, b)
        elif b == 0:
            out[np.uint64(k)] = 0
        elif code == 5:
            out[np.uint64(k)] = a // b
        else:
            out[np.uint64(k)] = a - a // b * b


@kernel
def compare(code, number, is_number, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = indices_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == FIRST else x[np.uint64(i)]
        b = number if is_number == SECOND else y[np.uint64(j)]
        zero = x.dtype.type(0)
        if code == 0:
            found = a == b
        elif code == 1:
            found = a != b
        elif code == 2:
            found = a < b
        elif code == 3:
            found = a <= b
        elif code == 4:
            found = a > b
        elif code == 5:
            found = a >= b
        elif code == 6:
            found = a != zero and b != zero
        elif code == 7:
            found = a != zero or b != zero
        else:
            found = (a != zero) != (b != zero)
        out[np.uint64(k)] = out.dtype.type(1) if found else out.dtype.type(0)
