"""Reductions: sum, mean, extrema, products, running sums, logsumexp. All use NumPy's loops, except sums of rows.

Float sums are pairwise along a contiguous axis (by NumPy) and by blocks of about sqrt(n) rows along any other, so that
the rounding error of a float32 sum grows at most like sqrt(n).
"""

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np

from nbkeras.kernels.elementwise import larger
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count

Array = np.ndarray
_SHORT = 8  # NumPy's overhead per row exceeds the sum of a shorter row; NumPy adds these numbers in the same order
_BLOCK = 256  # rows of a block: sums of more rows are computed by blocks
_COLUMNS = 1024  # max columns that are summed at once: their sums stay in the first-level cache
_SHARE = 32768  # minimum elements of a share


def sum(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    """Sums over `axes` (non-negative); adds bools and small integers in 32 bits."""
    dtype = _wide(x.dtype)
    y = x
    for outer, n, inner, shape in _steps(x.shape, axes):
        total = device.empty(shape, dtype)
        sum_rows(y.reshape(outer, n, inner), total.reshape(outer, inner))
        y = total
    if y.dtype != dtype:
        y = device.empty(x.shape, dtype)
        device.launch(device.copy, x, y)
    return y.reshape(kept(x.shape, axes)) if keepdims else y, (x.shape, axes)


@functools.lru_cache(maxsize=1024)
def _steps(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[tuple[int, int, int, tuple[int, ...]]]:
    """Returns the launches of a sum: the sizes before, in and after the summed axes, and the shape of the result."""
    found = []
    for first, last in groups(axes):
        sizes = math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])
        shape = shape[:first] + shape[last:]
        found.append((*sizes, shape))
    return found


def sum_vjp(saved, dy, needs):
    shape, axes = saved
    dx = device.output(needs[0], shape, dy.dtype)
    device.launch(device.copy, dy.reshape(kept(shape, axes)), dx)
    return (dx,)


def sum_rows(x: Array, out: Array) -> None:
    """out[i, k] = sum over j of x[i, j, k]."""
    outer, n, inner = x.shape
    if inner == 1 and n < _SHORT and device.gpu() is None:
        launch_shares(sum_short_rows, share_count(x.size, _SHARE), x.reshape(outer, n), out.reshape(outer))
    elif inner == 1:  # NumPy adds pairwise if the summed axis is contiguous
        device.launch(fold, x.reshape(outer, n), np.add, (1,), out.reshape(outer))
    else:
        if n > _BLOCK:
            partial = device.empty((outer, math.isqrt(n), inner), out.dtype)
            launch_shares(sum_blocks, share_count(x.size, _SHARE), x, partial)
            x = partial
        launch_shares(sum_blocks, share_count(x.size, _SHARE), x, out.reshape(outer, 1, inner))


@compiled
def sum_short_rows(x, out, share, shares):
    """Kernel: out[i] = sum over j of x[i, j], for a share of the rows."""
    rows, n = x.shape
    for i in range(rows * share // shares, rows * (share + 1) // shares):
        total = out.dtype.type(0)
        for j in range(n):
            total += x[i, j]
        out[i] = total


@compiled
def sum_blocks(x, out, share, shares):
    """Kernel: out[i, b, k] = sum of x[i, j, k] over the j in block b; computes a share of the blocks and of the pieces of k."""
    n, (outer, blocks, inner) = x.shape[1], out.shape
    pieces = (inner + _COLUMNS - 1) // _COLUMNS
    tasks = outer * blocks * pieces
    for task in range(tasks * share // shares, tasks * (share + 1) // shares):
        i, b, first = task // pieces // blocks, task // pieces % blocks, task % pieces * _COLUMNS
        total = out[i, b, first : first + _COLUMNS]
        for k in range(total.size):
            total[k] = 0
        for j in range(n * b // blocks, n * (b + 1) // blocks):
            row = x[i, j, first : first + _COLUMNS]
            for k in range(total.size):
                total[k] += row[k]


def _wide(dtype: np.dtype) -> np.dtype:
    """Returns the dtype for sums and products: bools and small integers get 32 bits, so that they do not overflow."""
    if dtype.kind == "f" or dtype.itemsize >= 4:
        return dtype
    return np.dtype(np.uint32 if dtype.kind == "u" else np.int32)


def kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape with size 1 for the reduced axes."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def groups(axes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns runs of neighbouring axes as (first, last + 1), the last run first. A launch reduces one run."""
    runs: list[list[int]] = []
    for axis in sorted(axes):
        if runs and runs[-1][1] == axis:
            runs[-1][1] = axis + 1
        else:
            runs.append([axis, axis + 1])
    return [(first, last) for first, last in reversed(runs)]


def mean(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    """Returns the mean of floats over `axes`."""
    total, saved = sum(x, axes, keepdims)
    y = total if axes else device.empty(total.shape, x.dtype)  # without axes, the sum is x itself
    device.launch(np.divide, total, x.dtype.type(_count(x.shape, axes)), y)
    return y, saved


def mean_vjp(saved, dy, needs):
    shape, axes = saved
    dx = device.output(needs[0], shape, dy.dtype)
    device.launch(np.divide, dy.reshape(kept(shape, axes)), dy.dtype.type(_count(shape, axes)), dx)
    return (dx,)


def var(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    """Returns the variance of floats over `axes`, computed in two passes."""
    middle, _ = mean(x, axes, keepdims=True)
    distance = device.empty(x.shape, x.dtype)
    device.launch(np.subtract, x, middle, distance)
    squares = device.empty(x.shape, x.dtype)
    device.launch(np.square, distance, squares)
    y, _ = mean(squares, axes, keepdims)
    return y, (distance, axes)


def var_vjp(saved, dy, needs):
    distance, axes = saved
    slope = device.output(needs[0], distance.shape, dy.dtype)
    device.launch(np.multiply, distance, dy.dtype.type(2 / (_count(distance.shape, axes) or 1)), slope)
    device.launch(np.multiply, slope, dy.reshape(kept(distance.shape, axes)), slope)
    return (slope,)


def _count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    return math.prod([shape[axis] for axis in axes])


# -------------------- extrema, any, all --------------------


def fold(x: Array, ufunc: np.ufunc, axes: tuple[int, ...], out: Array) -> None:
    """Kernel: combines the elements along `axes` by a ufunc."""
    ufunc.reduce(x, axis=axes, out=out)


def _folded(ufunc: np.ufunc, x: Array, axes: tuple[int, ...], keepdims: bool, dtype=None) -> Array:
    y = device.empty(tuple(n for i, n in enumerate(x.shape) if i not in axes), dtype or x.dtype)
    device.launch(fold, x, ufunc, axes, y)
    return y.reshape(kept(x.shape, axes)) if keepdims else y


def any(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    return _folded(np.logical_or, x, axes, keepdims, np.dtype(np.bool_)), None


def all(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    return _folded(np.logical_and, x, axes, keepdims, np.dtype(np.bool_)), None


def max(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    y = _folded(np.maximum, x, axes, keepdims)
    return y, (x, y, axes)


def min(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    y = _folded(np.minimum, x, axes, keepdims)
    return y, (x, y, axes)


def extremum_vjp(saved, dy, needs):
    """The largest (or smallest) element gets dy; if several are equal, each gets an equal part, as in JAX and TensorFlow."""
    x, y, axes = saved
    shape = kept(x.shape, axes)
    dx = device.output(needs[0], x.shape, dy.dtype)
    device.launch(np.equal, x, y.reshape(shape), dx)
    share, _ = sum(dx, axes, keepdims=True)
    device.launch(np.divide, dy.reshape(shape), share, share)
    device.launch(np.multiply, dx, share, dx)
    return (dx,)


def argmax(x: Array, axis: int):
    return _index_of(find_largest, x, axis), None


def argmin(x: Array, axis: int):
    return _index_of(find_smallest, x, axis), None


def _index_of(kernel, x: Array, axis: int) -> Array:
    found = device.empty(x.shape[:axis] + x.shape[axis + 1 :], np.intp)
    device.launch(kernel, x, axis, found)
    y = device.empty(found.shape, np.int32)
    device.launch(device.copy, found, y)
    return y


def find_largest(x: Array, axis: int, out: Array) -> None:
    """Kernel: computes the first position of the largest element along an axis."""
    np.argmax(x, axis, out=out)


def find_smallest(x: Array, axis: int, out: Array) -> None:
    """Kernel: computes the first position of the smallest element along an axis."""
    np.argmin(x, axis, out=out)


@compiled
def _find(x, smallest, out):
    """out[i, k] = the first j with the largest (or smallest) x[i, j, k]. A NaN is both the largest and the smallest."""
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            best, found = x[i, 0, k], 0
            for j in range(1, x.shape[1]):
                value = x[i, j, k]
                if best == best and (value != value or (value < best if smallest else value > best)):
                    best, found = value, j
            out[i, k] = found


def _in_library(smallest: bool) -> Callable[..., Iterator[tuple]]:
    def find(x: Array, axis: int, out: Array) -> Iterator[tuple]:
        if x.flags.c_contiguous and x.shape[axis]:
            before, after = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
            yield _find, x.reshape(before, x.shape[axis], after), smallest, out.reshape(before, after)

    return find


find_largest.in_library = _in_library(False)  # type: ignore[attr-defined]
find_smallest.in_library = _in_library(True)  # type: ignore[attr-defined]


# -------------------- logsumexp --------------------


def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    """Computes log(sum(exp(x))) over `axes`; it subtracts the maximum first, to avoid overflow."""
    shift = _finite(_folded(np.maximum, x, axes, keepdims=True))
    powers = device.empty(x.shape, x.dtype)
    device.launch(np.subtract, x, shift, powers)
    device.launch(np.exp, powers, powers)
    total, _ = sum(powers, axes, keepdims=True)
    y = device.empty(total.shape, x.dtype)
    device.launch(np.log, total, y)
    device.launch(np.add, y, shift, y)
    y = y if keepdims else y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))
    return y, (x, shift, total)


def logsumexp_vjp(saved, dy, needs):
    """The gradient is dy times the softmax. (exp(x - y) would have the error with which a large y is rounded.)

    If all elements are -infinity, it is 0.
    """
    x, shift, total = saved
    dx, factor = device.output(needs[0], x.shape, dy.dtype), device.empty(total.shape, x.dtype)
    device.launch(larger, total, np.finfo(x.dtype).tiny, factor)
    device.launch(np.divide, dy.reshape(total.shape), factor, factor)
    device.launch(np.subtract, x, shift, dx)
    device.launch(np.exp, dx, dx)
    device.launch(np.multiply, dx, factor, dx)
    return (dx,)


def _finite(x: Array) -> Array:
    """Returns a copy of x with 0 in place of infinities and NaN."""
    y = device.empty(x.shape, x.dtype)
    device.launch(keep_finite, x, y)
    return y


def keep_finite(x: Array, out: Array) -> None:
    """Kernel: computes x where x is finite, else 0."""
    out.fill(0)
    np.copyto(out, x, where=np.isfinite(x))


fold.fuses_as, keep_finite.fuses_as = "fold", "keep_finite"  # type: ignore[attr-defined]


# -------------------- products and running sums --------------------


def prod(x: Array, axes: tuple[int, ...], keepdims: bool = False):
    """Returns the product over `axes`; multiplies bools and small integers in 32 bits."""
    dtype = _wide(x.dtype)
    return _folded(np.multiply, x, axes, keepdims, dtype), (x, axes)


def prod_vjp(saved, dy, needs):
    """dx_i = dy times the product of all other elements, from the products before and after i, so zeros are allowed."""
    x, axes = saved
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    order = rest + axes
    rows = device.contiguous(x.transpose(order)).reshape(_count(x.shape, rest), _count(x.shape, axes))
    left, right = device.empty(rows.shape, x.dtype), device.empty(rows.shape, x.dtype)
    device.launch(products_before, rows, left)
    device.launch(products_before, rows[:, ::-1], right[:, ::-1])
    device.launch(np.multiply, left, right, left)
    device.launch(np.multiply, left, dy.reshape(-1, 1), left)
    dx = device.output(needs[0], x.shape, dy.dtype)
    device.launch(device.copy, left.reshape([x.shape[i] for i in order]).transpose(np.argsort(order)), dx)
    return (dx,)


def products_before(x: Array, out: Array) -> None:
    """Kernel: out[i, j] = product of x[i, :j]."""
    if x.size:
        out[:, 0] = 1
        np.multiply.accumulate(x[:, :-1], axis=1, out=out[:, 1:])


def accumulate(x: Array, ufunc: np.ufunc, axis: int, out: Array) -> None:
    """Kernel: computes running sums or products along an axis."""
    ufunc.accumulate(x, axis=axis, out=out)


@compiled
def _accumulate(x, multiplies, out):
    """out[i, j, k] = x[i, 0, k] + ... + x[i, j, k], or their product."""
    for i in range(x.shape[0]):
        for k in range(x.shape[2]):
            total = out.dtype.type(x[i, 0, k])
            out[i, 0, k] = total
            for j in range(1, x.shape[1]):
                value = out.dtype.type(x[i, j, k])
                total = out.dtype.type(total * value if multiplies else total + value)
                out[i, j, k] = total


def _accumulate_in_library(x: Array, ufunc: np.ufunc, axis: int, out: Array) -> Iterator[tuple]:
    if x.flags.c_contiguous and out.flags.c_contiguous and x.shape[axis]:
        shape = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
        yield _accumulate, x.reshape(shape), ufunc is np.multiply, out.reshape(shape)


accumulate.in_library = _accumulate_in_library  # type: ignore[attr-defined]


def cumsum(x: Array, axis: int):
    y = device.empty(x.shape, np.dtype(np.int32) if x.dtype.kind == "b" else x.dtype)
    device.launch(accumulate, x, np.add, axis, y)
    return y, axis


def cumsum_vjp(axis, dy, needs):
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(accumulate, _reversed(dy, axis), np.add, axis, _reversed(dx, axis))
    return (dx,)


def _reversed(x: Array, axis: int) -> Array:
    return x[(slice(None),) * axis + (slice(None, None, -1),)]


def cumprod(x: Array, axis: int):
    y = device.empty(x.shape, np.dtype(np.int32) if x.dtype.kind == "b" else x.dtype)
    device.launch(accumulate, x, np.multiply, axis, y)
    return y, (x, y, axis)


def cumprod_vjp(saved, dy, needs):
    x, y, axis = saved
    dx = device.output(needs[0], x.shape, dy.dtype)
    device.launch(cumprod_slope, x, y, dy, axis, dx)
    return (dx,)


def cumprod_slope(x: Array, y: Array, dy: Array, axis: int, dx: Array) -> None:
    """Kernel: dx_i = y_(i-1) s_i with s_i = dy_i + x_(i+1) s_(i+1). It never divides, so zeros are allowed."""
    x, y, dy, dx = (np.moveaxis(array, axis, 0) for array in (x, y, dy, dx))
    if len(x):
        dx[-1] = dy[-1]
    for i in range(len(x) - 2, -1, -1):
        np.multiply(x[i + 1], dx[i + 1], out=dx[i, ...])
        dx[i] += dy[i]
    dx[1:] *= y[:-1]
