"""Twins of elementwise.py: NumPy's compiled loops as CUDA kernels, any strides, any broadcasting.

One kernel for each kind of ufunc, with a code for which it is: memory takes the time, not the choice. Booleans are seen as
uint8. An output may be one of the inputs, but not overlap one otherwise.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda_kernel import Kernel, blocks, device_function, kernel, size, start
from nbkeras.kernels.cuda_walk import place_of_one, places_of_three, places_of_two, span, strides_over, walk
from nbkeras.kernels.device_array import DeviceArray

_THREADS = size(256, simulated=8)


def _seen(array: DeviceArray) -> DeviceArray:
    return array.view(np.uint8) if array.dtype == np.bool_ else array


# -------------------- copies and casts --------------------

_PLAIN, _TRUTH, _WHOLE = range(3)
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@kernel
def _fill(count, sizes, multipliers, shifts, target, target_steps, value):
    n = cuda.grid(1)
    if n < count:
        target[np.uint64(place_of_one(n, sizes, multipliers, shifts, target_steps))] = value


@kernel
def _assign(how, count, sizes, multipliers, shifts, source, source_steps, target, target_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = places_of_two(n, sizes, multipliers, shifts, source_steps, target_steps)
        value = source[np.uint64(i)]
        if how == _TRUTH:
            target[np.uint64(j)] = 1 if value != 0 else 0
        elif how == _WHOLE:  # through int64, as on x86: a float out of a narrow integer's range wraps
            target[np.uint64(j)] = target.dtype.type(np.int64(value))
        else:
            target[np.uint64(j)] = target.dtype.type(value)


def assign(source, target: DeviceArray) -> None:
    """target[...] = source, an array of any strides that broadcasts to it, or a number; casts."""
    if not target.size:
        return
    steps = strides_over(target, target.shape)
    if not isinstance(source, DeviceArray):
        bits = _BITS[target.itemsize]
        value = np.asarray(source).astype(target.dtype).view(bits)[()]
        *path, target_steps = walk(target.shape, steps)
        start(
            _fill,
            blocks(target.size, _THREADS),
            _THREADS,
            target.size,
            *path,
            span(target.view(bits)),
            target_steps,
            value,
        )
        return
    how = _PLAIN
    if source.dtype == target.dtype:
        source, target = source.view(_BITS[source.itemsize]), target.view(_BITS[source.itemsize])
    elif target.dtype == np.bool_:
        how = _TRUTH
    elif source.dtype.kind == "f" and target.dtype.kind in "iu" and target.dtype != np.uint64:
        how = _WHOLE
    *path, source_steps, target_steps = walk(target.shape, strides_over(source, target.shape), steps)
    source, target = span(_seen(source)), span(_seen(target))
    count = math.prod(path[0])
    start(_assign, blocks(count, _THREADS), _THREADS, how, count, *path, source, source_steps, target, target_steps)


# -------------------- ufuncs of one argument --------------------

_ROUNDS = {
    ufunc: code
    for code, ufunc in enumerate(
        (np.negative, np.absolute, np.square, np.sign, np.reciprocal, np.sqrt, np.floor, np.ceil)
    )
}
_TESTS = {ufunc: code for code, ufunc in enumerate((np.logical_not, np.isnan, np.isinf, np.isfinite))}
_CURVES = {
    ufunc: code
    for code, ufunc in enumerate((np.exp, np.expm1, np.log, np.log1p, np.log2, np.sin, np.cos, np.tan, np.arctan))
}


@device_function
def _sign(x, zero, one):
    if x > zero:
        return one
    if x < zero:
        return -one
    return zero if x == zero else x


@kernel
def _round(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = places_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        if code == 0:
            v = -v
        elif code == 1:
            v = math.fabs(v)
        elif code == 2:
            v = v * v
        elif code == 3:
            v = _sign(v, x.dtype.type(0), x.dtype.type(1))
        elif code == 4:
            v = x.dtype.type(1) / v
        elif code == 5:
            v = math.sqrt(v)
        elif code == 6:
            v = math.floor(v)
        else:
            v = math.ceil(v)
        y[np.uint64(j)] = v


@kernel
def _round_integer(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = places_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
        v = x[np.uint64(i)]
        if code == 0:
            y[np.uint64(j)] = -v
        elif code == 1:
            y[np.uint64(j)] = v if v >= 0 else -v
        elif code == 2:
            y[np.uint64(j)] = v * v
        elif code == 3:
            y[np.uint64(j)] = 1 if v > 0 else (0 if v == 0 else -1)
        elif code == 4:  # NumPy's 1 // 0 is 0 for narrow integers, anything for others
            y[np.uint64(j)] = v if v == 1 or v == -1 else 0
        else:
            y[np.uint64(j)] = v


@kernel
def _test(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = places_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
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
def _curve(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps):
    n = cuda.grid(1)
    if n < count:
        i, j = places_of_two(n, sizes, multipliers, shifts, x_steps, y_steps)
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
        else:
            v = math.atan(v)
        y[np.uint64(j)] = v


def _unary(kernel: Kernel, code: int, x: DeviceArray, out: DeviceArray) -> None:
    if not out.size:
        return
    *path, x_steps, out_steps = walk(out.shape, strides_over(x, out.shape), strides_over(out, out.shape))
    x, out = span(_seen(x)), span(_seen(out))
    count = math.prod(path[0])
    start(kernel, blocks(count, _THREADS), _THREADS, code, count, *path, x, x_steps, out, out_steps)


# -------------------- ufuncs of two arguments --------------------

_SUMS = {
    ufunc: code for code, ufunc in enumerate((np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum))
}
_POWERS = {ufunc: code for code, ufunc in enumerate((np.floor_divide, np.mod, np.power), 6)}
_COMPARISONS = {
    ufunc: code
    for code, ufunc in enumerate(
        (
            *(np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal),
            *(np.logical_and, np.logical_or, np.logical_xor),
        )
    )
}
_OF_BOOLEANS: dict[np.ufunc, np.ufunc] = {
    np.add: np.logical_or,
    np.multiply: np.logical_and,
    np.maximum: np.logical_or,
    np.minimum: np.logical_and,
}
_NEITHER, _FIRST, _SECOND = range(3)  # which operand is a number


@kernel
def _combine(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, number, is_number, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = places_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == _FIRST else x[np.uint64(i)]
        b = number if is_number == _SECOND else y[np.uint64(j)]
        if code == 0:
            a = a + b
        elif code == 1:
            a = a - b
        elif code == 2:
            a = a * b
        elif code == 3:
            a = a / b
        elif code == 4:
            a = a if a >= b or a != a else b
        else:
            a = a if a <= b or a != a else b
        out[np.uint64(k)] = a


@kernel
def _combine_powers(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, number, is_number, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = places_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == _FIRST else x[np.uint64(i)]
        b = number if is_number == _SECOND else y[np.uint64(j)]
        zero, one = x.dtype.type(0), x.dtype.type(1)
        if code == 8:
            a = math.pow(a, b)
        elif b == zero:
            a = a / b if code == 6 else math.fmod(a, b)
        else:  # as NumPy does it, so that mod and floor_divide agree, and a remainder of 0 has the divisor's sign
            rest = math.fmod(a, b)
            whole = (a - rest) / b
            if rest != zero:
                if (b < zero) != (rest < zero):
                    rest = rest + b
                    whole = whole - one
            else:
                rest = math.copysign(zero, b)
            if code == 7:
                a = rest
            elif whole != zero:
                a = math.floor(whole)
                if whole - a > x.dtype.type(0.5):
                    a = a + one
            else:
                a = math.copysign(zero, a / b)
        out[np.uint64(k)] = a


@device_function
def _floor_quotient(a, b):
    if b == 0:
        return a - a
    return a // b


@device_function
def _whole_power(base, exponent):
    """base to a whole power; to a negative one, where NumPy raises, it is the quotient rounded towards 0."""
    result = base - base + 1
    if exponent < 0:
        if base == 1:
            return result
        if base == -1:
            return result if exponent % 2 == 0 else base
        return base - base
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    return result


@kernel
def _combine_integers(
    code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, number, is_number, out, out_steps
):
    n = cuda.grid(1)
    if n < count:
        i, j, k = places_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == _FIRST else x[np.uint64(i)]
        b = number if is_number == _SECOND else y[np.uint64(j)]
        if code == 0:
            out[np.uint64(k)] = a + b
        elif code == 1:
            out[np.uint64(k)] = a - b
        elif code == 2:
            out[np.uint64(k)] = a * b
        elif code == 4:
            out[np.uint64(k)] = a if a >= b else b
        elif code == 5:
            out[np.uint64(k)] = a if a <= b else b
        elif code == 6:
            out[np.uint64(k)] = _floor_quotient(a, b)
        elif code == 7:
            out[np.uint64(k)] = 0 if b == 0 else a - _floor_quotient(a, b) * b
        else:
            out[np.uint64(k)] = _whole_power(a, b)


@kernel
def _compare(code, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, number, is_number, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = places_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == _FIRST else x[np.uint64(i)]
        b = number if is_number == _SECOND else y[np.uint64(j)]
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


def _binary(kernel: Kernel, code: int, x, y, out: DeviceArray) -> None:
    if not out.size:
        return
    is_number, number = _NEITHER, 0
    if not isinstance(x, DeviceArray):
        is_number, number, x = _FIRST, x, y
    elif not isinstance(y, DeviceArray):
        is_number, number, y = _SECOND, y, x
    if x.dtype != y.dtype:
        raise TypeError(
            f"a GPU kernel of two arrays needs one dtype, received {x.dtype} and {y.dtype}: cast one of them"
        )
    steps = [strides_over(array, out.shape) for array in (x, y, out)]
    *path, x_steps, y_steps, out_steps = walk(out.shape, *steps)
    x, y, out = (span(_seen(array)) for array in (x, y, out))
    operands = (x, x_steps, y, y_steps, x.dtype.type(number), is_number, out, out_steps)
    count = math.prod(path[0])
    start(kernel, blocks(count, _THREADS), _THREADS, code, count, *path, *operands)


@functools.cache
def of_ufunc(ufunc: np.ufunc) -> Callable:
    """The twin of a NumPy ufunc: called with its inputs, arrays or numbers, and its output."""
    if ufunc not in _KNOWN:
        raise NotImplementedError(
            f"numpy.{ufunc.__name__} has no twin for GPUs: write a kernel for it (see docs/custom-ops.md), or run this on "
            "the CPU: with nbkeras.device('cpu')"
        )

    def twin(*args) -> None:
        of_dtype = next(arg for arg in args if isinstance(arg, DeviceArray)).dtype
        known = _OF_BOOLEANS.get(ufunc, ufunc) if of_dtype == np.bool_ else ufunc
        run, floats, others, code = _KNOWN[known]
        run(floats if of_dtype.kind == "f" else others, code, *args)

    twin.__name__ = twin.fuses_as = ufunc.__name__  # type: ignore[attr-defined]
    return twin


_KNOWN: dict[np.ufunc, tuple[Callable, Kernel, Kernel, int]] = {
    **{ufunc: (_unary, _round, _round_integer, code) for ufunc, code in _ROUNDS.items()},
    **{ufunc: (_unary, _test, _test, code) for ufunc, code in _TESTS.items()},
    **{ufunc: (_unary, _curve, _curve, code) for ufunc, code in _CURVES.items()},
    **{ufunc: (_binary, _combine, _combine_integers, code) for ufunc, code in _SUMS.items()},
    **{ufunc: (_binary, _combine_powers, _combine_integers, code) for ufunc, code in _POWERS.items()},
    **{ufunc: (_binary, _compare, _compare, code) for ufunc, code in _COMPARISONS.items()},
}


def larger(x, y, out: DeviceArray) -> None:
    """The larger of two; NaN wins."""
    of_ufunc(np.maximum)(x, y, out)


def smaller(x, y, out: DeviceArray) -> None:
    """The smaller of two; NaN wins."""
    of_ufunc(np.minimum)(x, y, out)
