"""Tensors computed from a rule: ranges between two tensors, grids, triangles of ones, powers, signal windows.

The ends of a range may be tensors and are differentiable; windows are constants.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import one_of
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import shape as shape_kernels
from nbkeras.ops.arguments import as_float, axis_of, check_broadcast, floats
from nbkeras.ops.creation import eye, zeros, zeros_like
from nbkeras.ops.elementwise import add, cast, divide, floor, multiply, power, subtract
from nbkeras.ops.shape import broadcast_to, expand_dims, moveaxis, reshape, sizes_of, stack


@op
def array(x, dtype=None) -> Tensor:
    """A tensor of any array-like, or of lists of numbers and tensors."""
    if isinstance(x, list | tuple) and any(isinstance(item, Tensor) for item in x):
        x = stack([array(item) for item in x])
    return as_tensor(x) if dtype is None else cast(x, dtype)


@op
def copy(x) -> Tensor:
    """A copy of the tensor in its own memory."""
    return apply(shape_kernels.getitem, shape_kernels.getitem_vjp, [as_tensor(x)], key=(...,))


def empty(shape, dtype=None) -> Tensor:
    """A tensor with unspecified values: zeros."""
    return zeros(shape, dtype)


@op
def empty_like(x, dtype=None) -> Tensor:
    """A tensor of x's shape with unspecified values: zeros."""
    return zeros_like(x, dtype)


def identity(n: int, dtype=None) -> Tensor:
    """The identity matrix of n rows."""
    return eye(n, dtype=dtype)


def tri(N: int, M: int | None = None, k: int = 0, dtype=None) -> Tensor:
    """Ones on and below the k-th diagonal of an (N, M) matrix, zeros above."""
    load_budget.take_briefly(8 * N * (N if M is None else M), f"tri({N}, {M})")
    return as_tensor(np.tri(N, M, k, known_dtype(dtype)))


# -------------------- ranges --------------------


def _between(name: str, start: Any, stop: Any, num: int, endpoint: bool, axis: int, curve: Callable) -> Tensor:
    """curve(start, stop, t) for `num` even steps t from 0 to 1 along a new axis."""
    (count,) = sizes_of(name, num)
    if count < 0:
        raise ValueError(f"{name}: num must not be negative, received {num}")
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
    return cast(floor(y) if np.dtype(dtype).kind in "iu" else y, dtype)


def _line(first: Tensor, last: Tensor, t: Tensor) -> Tensor:
    return add(multiply(first, subtract(1, t)), multiply(last, t))


@op
def linspace(
    start, stop, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype=None, axis: int = 0
) -> Any:
    """`num` evenly spaced numbers from start to stop; stop is the last one if `endpoint`.

    start and stop broadcast; the numbers lie along a new axis. retstep: also return the distance.
    """
    y = _in(dtype, _between("linspace", start, stop, num, endpoint, axis, _line))
    if not retstep:
        return y
    parts = num - 1 if endpoint else num
    return y, divide(subtract(as_float(stop), start), parts if parts > 0 else math.nan)


@op
def logspace(start, stop, num: int = 50, endpoint: bool = True, base=10, dtype=None, axis: int = 0) -> Tensor:
    """base ** linspace(start, stop)."""
    return _in(dtype, power(as_float(base), _between("logspace", start, stop, num, endpoint, axis, _line)))


@op
def geomspace(start, stop, num: int = 50, endpoint: bool = True, dtype=None, axis: int = 0) -> Tensor:
    """`num` numbers from start to stop in a geometric progression; start and stop must not be 0 and must have the same sign."""

    def curve(first: Tensor, last: Tensor, t: Tensor) -> Tensor:
        return multiply(first, power(divide(last, first), t))

    return _in(dtype, _between("geomspace", start, stop, num, endpoint, axis, curve))


@op
def meshgrid(*x, indexing: str = "xy") -> list[Tensor]:
    """Repeat each of several vectors over the grid of all of them; 'ij': axes in order, 'xy': the first two exchanged."""
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
    """The Vandermonde matrix: powers of a vector as columns, the highest first unless `increasing`: (n,) -> (n, N)."""
    x = as_tensor(x)
    if x.ndim != 1:
        raise ValueError(f"vander: expected a vector, received shape {x.shape}")
    load_budget.take_briefly(8 * (N or 0), f"vander of {N} powers")
    exponents = np.arange(x.shape[0] if N is None else N, dtype=x.dtype)
    return power(expand_dims(x, 1), exponents if increasing else exponents[::-1].copy())


# -------------------- windows --------------------


def _window(name: str, shape: Callable, x: Any, *args: Any) -> Tensor:
    """A window of x points in floatx."""
    (count,) = sizes_of(name, x)
    load_budget.take_briefly(64 * count, f"{name} of {count} points")
    return as_tensor(shape(count, *args), known_dtype(None))


def bartlett(x: int) -> Tensor:
    """The triangular window of x points, 0 at its ends."""
    return _window("bartlett", np.bartlett, x)


def blackman(x: int) -> Tensor:
    """The Blackman window of x points."""
    return _window("blackman", np.blackman, x)


def hamming(x: int) -> Tensor:
    """The Hamming window of x points."""
    return _window("hamming", np.hamming, x)


def hanning(x: int) -> Tensor:
    """The Hann window of x points, 0 at its ends."""
    return _window("hanning", np.hanning, x)


def kaiser(x: int, beta: float) -> Tensor:
    """The Kaiser window of x points; a larger beta makes it narrower."""
    return _window("kaiser", np.kaiser, x, float(beta))
