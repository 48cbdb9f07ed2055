"""Generated tensors: ranges between two tensors, grids, triangles of ones, powers, signal windows.

The ends of a range may be tensors and are differentiable; windows are constants.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import one_of
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, floats, op
from nbkeras.engine.user_errors import checked
from nbkeras.kernels import shape as shape_kernels
from nbkeras.ops.arguments import axis_of, check_broadcast, count_of, new_sizes
from nbkeras.ops.creation import eye, zeros, zeros_like
from nbkeras.ops.elementwise import add, cast, divide, floor, multiply, power, subtract
from nbkeras.ops.shape import broadcast_to, expand_dims, moveaxis, reshape, stack


@op
def array(x, dtype=None) -> Tensor:
    """A tensor of anything that looks like an array.

    Args:
        x: A number, lists of numbers and tensors, or an array.
        dtype: The dtype. None keeps the dtype of an array or tensor; Python integers become int32 and floats floatx.

    Returns:
        A tensor. Gradients flow to tensors in a list.

    Raises:
        TypeError: for values that are neither numbers nor booleans.
        ValueError: for lists of different lengths.

    Example:
        >>> ops.array([[1, 2], [3, 4]]).numpy()
        array([[1, 2],
               [3, 4]], dtype=int32)
        >>> ops.array([ops.array(1.5), 2]).numpy()
        array([1.5, 2. ], dtype=float32)
    """
    if isinstance(x, list | tuple) and any(isinstance(item, Tensor) for item in x):
        x = stack([array(item) for item in x])
    return as_tensor(x) if dtype is None else cast(x, dtype)


@op
def copy(x) -> Tensor:
    """A copy in its own memory. Gradients flow through it.

    Args:
        x: A tensor of any shape and dtype.

    Returns:
        A tensor of x's shape and dtype.

    Example:
        >>> ops.copy([1, 2]).numpy()
        array([1, 2], dtype=int32)
    """
    return apply(shape_kernels.getitem, shape_kernels.getitem_vjp, [as_tensor(x)], key=(...,))


def empty(shape, dtype=None) -> Tensor:
    """A tensor whose values do not matter; they are zeros.

    Args:
        shape: A tuple of sizes, or one size.
        dtype: The dtype; None for `config.floatx()`.

    Returns:
        A tensor of that shape and dtype.

    Raises:
        TypeError: for sizes that are not integers, or floats other than float32 and float64.

    Example:
        >>> ops.empty((2, 3)).shape
        (2, 3)
    """
    return zeros(shape, dtype)


@op
def empty_like(x, dtype=None) -> Tensor:
    """A tensor in the shape of x whose values do not matter; they are zeros.

    Args:
        x: A tensor of any shape and dtype.
        dtype: The dtype; None for x's.

    Returns:
        A tensor of x's shape.

    Example:
        >>> ops.empty_like([[1, 2, 3]]).shape
        (1, 3)
    """
    return zeros_like(x, dtype)


def identity(n: int, dtype=None) -> Tensor:
    """The identity matrix.

    Args:
        n: The number of rows and columns.
        dtype: The dtype; None for `config.floatx()`.

    Returns:
        A tensor of shape (n, n).

    Example:
        >>> ops.identity(2).numpy()
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    return eye(n, dtype=dtype)


@checked
def tri(N: int, M: int | None = None, k: int = 0, dtype=None) -> Tensor:
    """A matrix with ones on and below a diagonal, and zeros above.

    Args:
        N: The number of rows.
        M: The number of columns; None for N.
        k: The distance of the diagonal above the main diagonal; negative below it.
        dtype: The dtype; None for `config.floatx()`.

    Returns:
        A tensor of shape (N, M).

    Example:
        >>> ops.tri(3, dtype="bool").numpy()  # a causal mask
        array([[ True, False, False],
               [ True,  True, False],
               [ True,  True,  True]])
    """
    rows, columns = new_sizes("tri", (N, N if M is None else M))
    load_budget.take_briefly(8 * rows * columns, f"tri({N}, {M})")
    return as_tensor(np.tri(rows, columns, k, bool), known_dtype(dtype))


# -------------------- ranges --------------------


def _between(name: str, start: Any, stop: Any, num: int, endpoint: bool, axis: int, curve: Callable) -> Tensor:
    """curve(start, stop, t) for `num` evenly spaced t from 0 to 1 along a new axis."""
    count = count_of(name, "num", num)
    first, last = floats(start, stop)
    check_broadcast(name, first, last)
    load_budget.take_briefly(24 * count, f"{name} of {count} numbers")
    parts = count - 1 if endpoint else count
    steps = as_tensor(np.arange(count) / max(parts, 1), first.dtype)
    ndim = max(first.ndim, last.ndim)
    y = curve(first, last, reshape(steps, (count,) + (1,) * ndim))
    return moveaxis(y, 0, axis_of(name, axis, ndim + 1))


def _in(dtype: Any, y: Tensor) -> Tensor:
    """The tensor in a dtype; integers are rounded down, as in NumPy."""
    if dtype is None:
        return y
    return cast(floor(y) if known_dtype(dtype).kind in "iu" else y, dtype)


def _line(first: Tensor, last: Tensor, t: Tensor) -> Tensor:
    return add(multiply(first, subtract(1, t)), multiply(last, t))


@overload
def linspace(
    start, stop, num: int = ..., endpoint: bool = ..., retstep: Literal[False] = ..., dtype=..., axis: int = ...
) -> Tensor: ...
@overload
def linspace(
    start, stop, num: int = ..., endpoint: bool = ..., *, retstep: Literal[True], dtype=..., axis: int = ...
) -> tuple[Tensor, Tensor]: ...
@overload
def linspace(
    start, stop, num: int = ..., endpoint: bool = ..., retstep: bool = ..., dtype=..., axis: int = ...
) -> Any: ...
@op
def linspace(
    start, stop, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype=None, axis: int = 0
) -> Any:
    """Evenly spaced numbers from start to stop, along a new axis.

    Args:
        start: The first number, or a tensor of them.
        stop: The last number, or a tensor that broadcasts with start.
        num: The number of elements.
        endpoint: Whether stop is the last number; otherwise the numbers end one step before it.
        retstep: Whether to return the distance between neighbours too.
        dtype: The dtype; integers are rounded down. None for the common float dtype of start and stop.
        axis: The position of the new axis in the result.

    Returns:
        A tensor with `num` elements along the new axis, or a tuple (tensor, distance) for retstep=True.

    Raises:
        ValueError: for a negative num, shapes that do not broadcast, or an axis that the result does not have.

    Example:
        >>> ops.linspace(0.0, 1.0, 5).numpy()
        array([0.  , 0.25, 0.5 , 0.75, 1.  ], dtype=float32)
        >>> ops.linspace([0.0, 10.0], [1.0, 30.0], 3, axis=-1).numpy()
        array([[ 0. ,  0.5,  1. ],
               [10. , 20. , 30. ]], dtype=float32)
    """
    y = _in(dtype, _between("linspace", start, stop, num, endpoint, axis, _line))
    if not retstep:
        return y
    parts = num - 1 if endpoint else num
    return y, divide(subtract(as_float(stop), start), parts if parts > 0 else math.nan)


@op
def logspace(start, stop, num: int = 50, endpoint: bool = True, base: Any = 10, dtype=None, axis: int = 0) -> Tensor:
    """Numbers whose logarithms are evenly spaced: base^start to base^stop.

    Args:
        start: The exponent of the first number, or a tensor of exponents.
        stop: The exponent of the last number, or a tensor that broadcasts with start.
        num: The number of elements.
        endpoint: Whether base^stop is the last number.
        base: The base of the powers, a number.
        dtype: The dtype; integers are rounded down. None for floats.
        axis: The position of the new axis in the result.

    Returns:
        A tensor with `num` elements along the new axis.

    Raises:
        ValueError: for a negative num, shapes that do not broadcast, or an axis that the result does not have.

    Example:
        >>> ops.logspace(0, 3, 4).numpy().round(2)
        array([   1.,   10.,  100., 1000.], dtype=float32)
        >>> ops.logspace(0, 3, 4, base=2).numpy().round(2)
        array([1., 2., 4., 8.], dtype=float32)
    """
    return _in(dtype, power(as_float(base), _between("logspace", start, stop, num, endpoint, axis, _line)))


@op
def geomspace(start, stop, num: int = 50, endpoint: bool = True, dtype=None, axis: int = 0) -> Tensor:
    """Numbers from start to stop, each the same multiple of the one before.

    Args:
        start: The first number, or a tensor of them. Not 0.
        stop: The last number, or a tensor that broadcasts with start. It must have the sign of start, otherwise the numbers
            between them are NaN.
        num: The number of elements.
        endpoint: Whether stop is the last number.
        dtype: The dtype; integers are rounded down. None for the common float dtype of start and stop.
        axis: The position of the new axis in the result.

    Returns:
        A tensor with `num` elements along the new axis.

    Raises:
        ValueError: for a negative num, shapes that do not broadcast, or an axis that the result does not have.

    Example:
        >>> ops.geomspace(1.0, 16.0, 5).numpy().round(2)
        array([ 1.,  2.,  4.,  8., 16.], dtype=float32)
    """

    def curve(first: Tensor, last: Tensor, t: Tensor) -> Tensor:
        return multiply(first, power(divide(last, first), t))

    return _in(dtype, _between("geomspace", start, stop, num, endpoint, axis, curve))


@op
def meshgrid(*x, indexing: str = "xy") -> list[Tensor]:
    """The coordinates of all points of a grid: each vector is repeated over the axes of the others.

    Args:
        *x: The coordinates along each axis, vectors; other tensors are flattened.
        indexing: 'ij' for a grid whose axes have the order of the vectors; 'xy' swaps the first two, so that x
            runs along the columns and y along the rows.

    Returns:
        A list with a tensor for each vector, in its dtype. For sizes m, n the shape is (n, m) for 'xy' and (m, n)
        for 'ij'.

    Raises:
        ValueError: for an unknown indexing.

    Example:
        >>> x, y = ops.meshgrid([1, 2, 3], [10, 20])
        >>> x.numpy()
        array([[1, 2, 3],
               [1, 2, 3]], dtype=int32)
        >>> y.numpy()
        array([[10, 10, 10],
               [20, 20, 20]], dtype=int32)
    """
    one_of("meshgrid", "indexing", indexing, ("xy", "ij"))
    vectors = [reshape(vector, (-1,)) for vector in x]
    order = list(range(len(vectors)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    sizes = tuple(vectors[i].shape[0] for i in order)
    others = [tuple(axis for axis in range(len(order)) if order[axis] != i) for i in range(len(vectors))]
    return [broadcast_to(expand_dims(v, axes), sizes) for v, axes in zip(vectors, others, strict=True)]


@op
def vander(x, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix: the powers of each number of a vector, along the columns.

    Args:
        x: A vector of n numbers.
        N: The number of powers, 0 to N - 1; None for n.
        increasing: Whether power 0 is the first column instead of the last.

    Returns:
        A tensor of shape (n, N) and x's dtype.

    Raises:
        ValueError: if x is not a vector.

    Example:
        >>> ops.vander([1, 2, 3]).numpy()
        array([[1, 1, 1],
               [4, 2, 1],
               [9, 3, 1]], dtype=int32)
        >>> ops.vander([1, 2, 3], 2, increasing=True).numpy()
        array([[1, 1],
               [1, 2],
               [1, 3]], dtype=int32)
    """
    x = as_tensor(x)
    if x.ndim != 1:
        raise ValueError(f"vander: expected a vector, received shape {x.shape}")
    load_budget.take_briefly(8 * (N or 0), f"vander of {N} powers")
    exponents = np.arange(x.shape[0] if N is None else N, dtype=np.int32 if x.dtype.kind == "b" else x.dtype)
    return power(expand_dims(x, 1), exponents if increasing else exponents[::-1].copy())


# -------------------- windows --------------------


def _window(name: str, shape: Callable, x: Any, *args: Any) -> Tensor:
    """A window of x points in floatx."""
    count = count_of(name, "x", x)
    load_budget.take_briefly(64 * count, f"{name} of {count} points")
    return as_tensor(shape(count, *args), known_dtype(None))


@checked
def bartlett(x: int) -> Tensor:
    """The triangular (Bartlett) window: w[n] = 1 - |2 n / (x - 1) - 1|.

    Args:
        x: The number of points.

    Returns:
        A tensor of shape (x,) in floatx, symmetric, 0 at its ends.

    Example:
        >>> ops.bartlett(5).numpy()
        array([0. , 0.5, 1. , 0.5, 0. ], dtype=float32)
    """
    return _window("bartlett", np.bartlett, x)


@checked
def blackman(x: int) -> Tensor:
    """The Blackman window: w[n] = 0.42 - 0.5 cos(2 pi n / (x - 1)) + 0.08 cos(4 pi n / (x - 1)).

    Args:
        x: The number of points.

    Returns:
        A tensor of shape (x,) in floatx, symmetric, 0 at its ends (except for rounding).

    Example:
        >>> ops.blackman(5).numpy()[1:4]
        array([0.34, 1.  , 0.34], dtype=float32)
    """
    return _window("blackman", np.blackman, x)


@checked
def hamming(x: int) -> Tensor:
    """The Hamming window: w[n] = 0.54 - 0.46 cos(2 pi n / (x - 1)).

    Args:
        x: The number of points.

    Returns:
        A tensor of shape (x,) in floatx, symmetric, 0.08 at its ends.

    Example:
        >>> ops.hamming(5).numpy()
        array([0.08, 0.54, 1.  , 0.54, 0.08], dtype=float32)
    """
    return _window("hamming", np.hamming, x)


@checked
def hanning(x: int) -> Tensor:
    """The Hann window: w[n] = 0.5 - 0.5 cos(2 pi n / (x - 1)).

    Args:
        x: The number of points.

    Returns:
        A tensor of shape (x,) in floatx, symmetric, 0 at its ends.

    Example:
        >>> ops.hanning(5).numpy()
        array([0. , 0.5, 1. , 0.5, 0. ], dtype=float32)
    """
    return _window("hanning", np.hanning, x)


@checked
def kaiser(x: int, beta: float) -> Tensor:
    """The Kaiser window: w[n] = I0(beta sqrt(1 - (2 n / (x - 1) - 1)^2)) / I0(beta).

    I0 is the modified Bessel function of order 0.

    Args:
        x: The number of points.
        beta: The shape: 0 for a rectangle; a larger beta makes the window narrower.

    Returns:
        A tensor of shape (x,) in floatx, symmetric.

    Example:
        >>> ops.kaiser(5, beta=6.0).numpy().round(3)
        array([0.015, 0.483, 1.   , 0.483, 0.015], dtype=float32)
    """
    return _window("kaiser", np.kaiser, x, float(beta))
