"""Differentiable reductions: sums, means, extrema, products, norms, running sums.

axis: None for all axes, an integer or a tuple of integers; negative axes count from the end. keepdims: keep the reduced
axes with size 1. Means, variances and norms of integers are floatx.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import reduce
from nbkeras.ops import elementwise
from nbkeras.ops.arguments import as_float, axes_of
from nbkeras.ops.creation import full
from nbkeras.ops.shape import one_axis, reshape


def _not_empty(name: str, x: Tensor, axes: tuple[int, ...]) -> None:
    if 0 in (x.shape[axis] for axis in axes):
        raise ValueError(f"{name} of no elements: axis {axes} of a tensor of shape {x.shape} has size 0")


@op
def sum(x, axis=None, keepdims: bool = False) -> Tensor:
    """Sum over axes; booleans count as 0 and 1."""
    x = as_tensor(x)
    return apply(reduce.sum, reduce.sum_vjp, [x], axes=axes_of("sum", axis, x.ndim), keepdims=keepdims)


@op
def mean(x, axis=None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over axes."""
    x = as_float(x)
    return apply(reduce.mean, reduce.mean_vjp, [x], axes=axes_of("mean", axis, x.ndim), keepdims=keepdims)


@op
def var(x, axis=None, keepdims: bool = False) -> Tensor:
    """Variance over axes: the mean of (x - mean(x))^2."""
    x = as_float(x)
    return apply(reduce.var, reduce.var_vjp, [x], axes=axes_of("var", axis, x.ndim), keepdims=keepdims)


@op
def std(x, axis=None, keepdims: bool = False) -> Tensor:
    """Standard deviation over axes: sqrt(var(x))."""
    return elementwise.sqrt(var(x, axis, keepdims))


def _extremum(name: str, kernel: Callable, pair: Callable, x: Any, axis: Any, keepdims: bool, initial: Any) -> Tensor:
    x = as_tensor(x)
    axes = axes_of(name, axis, x.ndim)
    if initial is None:
        _not_empty(name, x, axes)
    elif x.size == 0:
        shape = reduce.kept(x.shape, axes) if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
        return full(shape, initial, x.dtype)
    y = apply(kernel, reduce.extremum_vjp, [x], axes=axes, keepdims=keepdims)
    return y if initial is None else pair(y, initial)


@op
def max(x, axis=None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """Largest element over axes, including `initial` if it is given; equal elements share the gradient."""
    return _extremum("max", reduce.max, elementwise.maximum, x, axis, keepdims, initial)


@op
def min(x, axis=None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """Smallest element over axes, including `initial` if it is given; equal elements share the gradient."""
    return _extremum("min", reduce.min, elementwise.minimum, x, axis, keepdims, initial)


@op
def prod(x, axis=None, keepdims: bool = False, dtype=None) -> Tensor:
    """Product over axes."""
    x = as_tensor(x, None if dtype is None else np.dtype(dtype))
    return apply(reduce.prod, reduce.prod_vjp, [x], axes=axes_of("prod", axis, x.ndim), keepdims=keepdims)


@op
def any(x, axis=None, keepdims: bool = False) -> Tensor:
    """Whether any element over axes is true (not zero); no gradient."""
    x = as_tensor(x)
    return apply(reduce.any, None, [x], axes=axes_of("any", axis, x.ndim), keepdims=keepdims)


@op
def all(x, axis=None, keepdims: bool = False) -> Tensor:
    """Whether all elements over axes are true (not zero); no gradient."""
    x = as_tensor(x)
    return apply(reduce.all, None, [x], axes=axes_of("all", axis, x.ndim), keepdims=keepdims)


@op
def count_nonzero(x, axis=None) -> Tensor:
    """The number of elements over axes that are not zero, int32; no gradient."""
    return sum(elementwise.not_equal(x, 0), axis)


@op
def logsumexp(x, axis=None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes, without overflow."""
    x = as_float(x)
    axes = axes_of("logsumexp", axis, x.ndim)
    _not_empty("logsumexp", x, axes)
    return apply(reduce.logsumexp, reduce.logsumexp_vjp, [x], axes=axes, keepdims=keepdims)


def _position(name: str, kernel: Callable, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    line, along = one_axis(name, x, axis)
    _not_empty(name, line, (along,))
    y = apply(kernel, None, [line], axis=along)
    if not keepdims:
        return y
    return reshape(y, tuple(1 if axis is None or i == along else n for i, n in enumerate(x.shape)))


@op
def argmax(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the (first) largest element along an axis, int32; in the flat tensor for axis None."""
    return _position("argmax", reduce.argmax, as_tensor(x), axis, keepdims)


@op
def argmin(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the (first) smallest element along an axis, int32; in the flat tensor for axis None."""
    return _position("argmin", reduce.argmin, as_tensor(x), axis, keepdims)


@op
def cumsum(x, axis: int | None = None, dtype=None) -> Tensor:
    """Running sums along an axis; of the flat tensor for axis None."""
    x, along = one_axis("cumsum", as_tensor(x, None if dtype is None else np.dtype(dtype)), axis)
    return apply(reduce.cumsum, reduce.cumsum_vjp, [x], axis=along)


@op
def cumprod(x, axis: int | None = None, dtype=None) -> Tensor:
    """Running products along an axis; of the flat tensor for axis None."""
    x, along = one_axis("cumprod", as_tensor(x, None if dtype is None else np.dtype(dtype)), axis)
    return apply(reduce.cumprod, reduce.cumprod_vjp, [x], axis=along)
