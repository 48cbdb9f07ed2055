"""Differentiable reductions: sums, means, extrema, products, norms, running sums.

axis: None for all axes, an integer or a tuple of integers; negative axes count from the end. keepdims: keep the reduced
axes with size 1. Means, variances and norms of integers are floatx.
"""

import math
from collections.abc import Callable
from typing import Any

from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, op
from nbkeras.kernels import reduce
from nbkeras.ops import elementwise
from nbkeras.ops.arguments import axes_of, check_int32, length_of
from nbkeras.ops.shape import _one_axis, reshape


def _not_empty(name: str, x: Tensor, axes: tuple[int, ...]) -> None:
    if 0 in (x.shape[axis] for axis in axes):
        raise ValueError(f"{name} of no elements: axis {axes} of a tensor of shape {x.shape} has size 0")


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[axis] for axis in axes)


@op
def sum(x, axis=None, keepdims: bool = False) -> Tensor:
    """The sum of the elements along axes.

    Args:
        x: Numbers of any shape; booleans count as 0 and 1.
        axis: The axis or axes to sum over; None for all.
        keepdims: Whether summed axes stay, with size 1.

    Returns:
        A tensor without the summed axes, of x's dtype; int32 for booleans and smaller integers, uint32 for smaller
        unsigned integers.

    Raises:
        ValueError: for an axis that x does not have, and for more booleans than int32 can count.

    Example:
        >>> ops.sum([[1.0, 2.0], [3.0, 4.0]], axis=0).numpy()
        array([4., 6.], dtype=float32)
    """
    x = as_tensor(x)
    axes = axes_of("sum", axis, x.ndim)
    if x.dtype.kind == "b":
        check_int32("sum", _count(x, axes))
    return apply(reduce.sum, reduce.sum_vjp, [x], axes=axes, keepdims=keepdims)


@op
def mean(x, axis=None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean of the elements along axes; NaN if there are no elements.

    Args:
        x: Numbers of any shape; integers and booleans become floatx.
        axis: The axis or axes of the mean; None for all.
        keepdims: Whether these axes stay, with size 1.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.mean([[1.0, 2.0], [3.0, 6.0]], axis=1).numpy()
        array([1.5, 4.5], dtype=float32)
    """
    x = as_float(x)
    return apply(reduce.mean, reduce.mean_vjp, [x], axes=axes_of("mean", axis, x.ndim), keepdims=keepdims)


@op
def var(x, axis=None, keepdims: bool = False) -> Tensor:
    """The variance of the elements along axes: the mean of (x - mean(x))^2.

    Args:
        x: Numbers of any shape; integers and booleans become floatx.
        axis: The axis or axes of the mean; None for all.
        keepdims: Whether these axes stay, with size 1.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.var([[1.0, 3.0], [5.0, 5.0]], axis=1).numpy()
        array([1., 0.], dtype=float32)
    """
    x = as_float(x)
    return apply(reduce.var, reduce.var_vjp, [x], axes=axes_of("var", axis, x.ndim), keepdims=keepdims)


@op
def std(x, axis=None, keepdims: bool = False) -> Tensor:
    """The standard deviation of the elements along axes: the square root of `ops.var`.

    Args:
        x: Numbers of any shape; integers and booleans become floatx.
        axis: The axis or axes of the mean; None for all.
        keepdims: Whether these axes stay, with size 1.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.std([[1.0, 3.0], [5.0, 5.0]], axis=1).numpy()
        array([1., 0.], dtype=float32)
    """
    return elementwise.sqrt(var(x, axis, keepdims))


def _extremum(name: str, kernel: Callable, pair: Callable, x: Any, axis: Any, keepdims: bool, initial: Any) -> Tensor:
    x = as_tensor(x)
    axes = axes_of(name, axis, x.ndim)
    if initial is None:
        _not_empty(name, x, axes)
    elif x.size == 0:  # the sum, which is 0, gives the shape, and a gradient of no elements
        return as_tensor(elementwise.subtract(as_tensor(initial, x.dtype), sum(x, axes, keepdims)), x.dtype)
    y = apply(kernel, reduce.extremum_vjp, [x], axes=axes, keepdims=keepdims)
    return y if initial is None else pair(y, initial)


@op
def max(x, axis=None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """The largest element along axes; NaN if any element is NaN. Equal elements share the gradient.

    `ops.maximum` compares two tensors; `ops.argmax` gives the position.

    Args:
        x: Numbers of any shape; the dtype stays.
        axis: The axis or axes to look along; None for all.
        keepdims: Whether these axes stay, with size 1.
        initial: A number that takes part in each comparison, and is the result if there are no elements.

    Raises:
        ValueError: for an axis that x does not have, or, without `initial`, for an axis of size 0.

    Example:
        >>> ops.max([[1.0, 5.0], [3.0, 2.0]], axis=1).numpy()
        array([5., 3.], dtype=float32)
    """
    return _extremum("max", reduce.max, elementwise.maximum, x, axis, keepdims, initial)


@op
def min(x, axis=None, keepdims: bool = False, initial: Any = None) -> Tensor:
    """The smallest element along axes; NaN if any element is NaN. Equal elements share the gradient.

    `ops.minimum` compares two tensors; `ops.argmin` gives the position.

    Args:
        x: Numbers of any shape; the dtype stays.
        axis: The axis or axes to look along; None for all.
        keepdims: Whether these axes stay, with size 1.
        initial: A number that takes part in each comparison, and is the result if there are no elements.

    Raises:
        ValueError: for an axis that x does not have, or, without `initial`, for an axis of size 0.

    Example:
        >>> ops.min([[1.0, 5.0], [3.0, 2.0]], axis=1).numpy()
        array([1., 2.], dtype=float32)
    """
    return _extremum("min", reduce.min, elementwise.minimum, x, axis, keepdims, initial)


@op
def prod(x, axis=None, keepdims: bool = False, dtype=None) -> Tensor:
    """The product of the elements along axes.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes of the product; None for all.
        keepdims: Whether these axes stay, with size 1.
        dtype: The dtype of the product. None keeps x's, but booleans and smaller integers become int32, smaller
            unsigned integers uint32.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.prod([[1, 2], [3, 4]], axis=0).numpy()
        array([3, 8], dtype=int32)
    """
    dtype = None if dtype is None else known_dtype(dtype)
    x = as_tensor(x, dtype)
    y = apply(reduce.prod, reduce.prod_vjp, [x], axes=axes_of("prod", axis, x.ndim), keepdims=keepdims)
    return as_tensor(y, dtype)


@op
def any(x, axis=None, keepdims: bool = False) -> Tensor:
    """Whether any element along axes is true; no gradient.

    Args:
        x: Booleans, or numbers, which are true if they are not 0.
        axis: The axis or axes to look along; None for all.
        keepdims: Whether these axes stay, with size 1.

    Returns:
        A tensor of bool without these axes; False if there are no elements.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.any([[True, False], [False, False]], axis=1).numpy()
        array([ True, False])
    """
    x = as_tensor(x)
    return apply(reduce.any, None, [x], axes=axes_of("any", axis, x.ndim), keepdims=keepdims)


@op
def all(x, axis=None, keepdims: bool = False) -> Tensor:
    """Whether all elements along axes are true; no gradient.

    Args:
        x: Booleans, or numbers, which are true if they are not 0.
        axis: The axis or axes to look along; None for all.
        keepdims: Whether these axes stay, with size 1.

    Returns:
        A tensor of bool without these axes; True if there are no elements.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.all([[True, True], [True, False]], axis=1).numpy()
        array([ True, False])
    """
    x = as_tensor(x)
    return apply(reduce.all, None, [x], axes=axes_of("all", axis, x.ndim), keepdims=keepdims)


@op
def count_nonzero(x, axis=None) -> Tensor:
    """The number of elements along axes that are not 0, in int32; no gradient.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to count along; None for all.

    Raises:
        ValueError: for an axis that x does not have, and for more elements than int32 can count.

    Example:
        >>> ops.count_nonzero([[0, 1], [2, 3]], axis=0).numpy()
        array([1, 2], dtype=int32)
    """
    x = as_tensor(x)
    check_int32("count_nonzero", _count(x, axes_of("count_nonzero", axis, x.ndim)))
    return sum(elementwise.not_equal(x, 0), axis)


@op
def logsumexp(x, axis=None, keepdims: bool = False) -> Tensor:
    """log(sum(e^x)) along axes, without overflow: a smooth maximum; -infinity if there are no elements.

    Args:
        x: Numbers of any shape; integers become floatx.
        axis: The axis or axes to sum over; None for all.
        keepdims: Whether summed axes stay, with size 1.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.logsumexp([[0.0, 0.0], [1.0, 90.0]], axis=1).numpy().round(4)
        array([ 0.6931, 90.    ], dtype=float32)
    """
    x = as_float(x)
    axes = axes_of("logsumexp", axis, x.ndim)
    if not _count(x, axes):
        return elementwise.log(sum(x, axes, keepdims))
    return apply(reduce.logsumexp, reduce.logsumexp_vjp, [x], axes=axes, keepdims=keepdims)


def _position(name: str, kernel: Callable, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    check_int32(name, length_of(name, axis, x) - 1)
    line, along = _one_axis(name, x, axis)
    _not_empty(name, line, (along,))
    y = apply(kernel, None, [line], axis=along)
    if not keepdims:
        return y
    return reshape(y, tuple(1 if axis is None or i == along else n for i, n in enumerate(x.shape)))


@op
def argmax(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the largest element along an axis, the first of equal ones; no gradient.

    Args:
        x: Numbers of any shape.
        axis: The axis to look along; None for the position in the flat tensor.
        keepdims: Whether the axis stays, with size 1; for None, all of them.

    Returns:
        A tensor of int32.

    Raises:
        ValueError: for an axis that x does not have, or of size 0, or for positions that do not fit in int32.

    Example:
        >>> ops.argmax([[1.0, 5.0, 2.0], [4.0, 3.0, 4.0]], axis=1).numpy()
        array([1, 0], dtype=int32)
    """
    return _position("argmax", reduce.argmax, as_tensor(x), axis, keepdims)


@op
def argmin(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The position of the smallest element along an axis, the first of equal ones; no gradient.

    Args:
        x: Numbers of any shape.
        axis: The axis to look along; None for the position in the flat tensor.
        keepdims: Whether the axis stays, with size 1; for None, all of them.

    Returns:
        A tensor of int32.

    Raises:
        ValueError: for an axis that x does not have, or of size 0, or for positions that do not fit in int32.

    Example:
        >>> ops.argmin([[1.0, 5.0, 2.0], [4.0, 3.0, 3.0]], axis=1).numpy()
        array([0, 1], dtype=int32)
    """
    return _position("argmin", reduce.argmin, as_tensor(x), axis, keepdims)


@op
def cumsum(x, axis: int | None = None, dtype=None) -> Tensor:
    """The running sums along an axis.

    Args:
        x: Numbers of any shape; booleans count as 0 and 1.
        axis: The axis to sum along; None for the flat tensor.
        dtype: The dtype in which sums are computed. None keeps x's; booleans become int32.

    Returns:
        A tensor of x's shape; of one axis for axis None.

    Raises:
        ValueError: for an axis that x does not have, and for booleans whose number does not fit in int32.

    Example:
        >>> ops.cumsum([[1, 2, 3], [4, 5, 6]], axis=1).numpy()
        array([[ 1,  3,  6],
               [ 4,  9, 15]], dtype=int32)
    """
    x = as_tensor(x, None if dtype is None else known_dtype(dtype))
    if x.dtype.kind == "b":
        check_int32("cumsum", length_of("cumsum", axis, x))
    x, along = _one_axis("cumsum", x, axis)
    return apply(reduce.cumsum, reduce.cumsum_vjp, [x], axis=along)


@op
def cumprod(x, axis: int | None = None, dtype=None) -> Tensor:
    """The running products along an axis.

    Args:
        x: Numbers of any shape.
        axis: The axis to multiply along; None for the flat tensor.
        dtype: The dtype in which products are computed. None keeps x's; booleans become int32.

    Returns:
        A tensor of x's shape; of one axis for axis None.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.cumprod([[1, 2, 3], [4, 5, 6]], axis=1).numpy()
        array([[  1,   2,   6],
               [  4,  20, 120]], dtype=int32)
    """
    x, along = _one_axis("cumprod", as_tensor(x, None if dtype is None else known_dtype(dtype)), axis)
    return apply(reduce.cumprod, reduce.cumprod_vjp, [x], axis=along)
