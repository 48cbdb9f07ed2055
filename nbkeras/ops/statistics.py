"""Averages, quantiles, reductions that ignore NaN, and histograms. Composed of other ops and differentiable."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine import sharding
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.tensor import Tensor, as_float, as_tensor, op, promote
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, indexing, reduce
from nbkeras.ops.arguments import axes_of, check_int32, length_of
from nbkeras.ops.contractions import matmul
from nbkeras.ops.creation import ones
from nbkeras.ops.normalization import l2_normalize
from nbkeras.ops.ranges import linspace
from nbkeras.ops.scattering import searchsorted, segment_sum
from nbkeras.ops.shape import broadcast_to, expand_dims, moveaxis, reshape, squeeze, transpose

# -------------------- averages --------------------


@op
def amax(x, axis=None, keepdims: bool = False) -> Tensor:
    """Largest element along axes, as `max`.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to search; None for all.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        A tensor of x's dtype, without the searched axes.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> ops.amax([[1, 5], [7, 2]], axis=1).numpy()
        array([5, 7], dtype=int32)
    """
    return reduce.max(x, axis, keepdims)


@op
def amin(x, axis=None, keepdims: bool = False) -> Tensor:
    """Smallest element along axes, as `min`.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to search; None for all.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        A tensor of x's dtype, without the searched axes.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> ops.amin([[1, 5], [7, 2]], axis=1).numpy()
        array([1, 2], dtype=int32)
    """
    return reduce.min(x, axis, keepdims)


@op
def ptp(x, axis=None, keepdims: bool = False) -> Tensor:
    """The largest minus the smallest element along axes ("peak to peak").

    Args:
        x: Numbers of any shape, but not bool.
        axis: The axis or axes to search; None for all.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        A tensor of x's dtype, without the searched axes.

    Raises:
        TypeError: for bool.
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> ops.ptp([[1, 5], [7, 2]], axis=1).numpy()
        array([4, 5], dtype=int32)
    """
    return elementwise.subtract(reduce.max(x, axis, keepdims), reduce.min(x, axis, keepdims))


@op
def average(x, axis=None, weights=None) -> Tensor:
    """Weighted mean along axes: sum(weights * x) / sum(weights).

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to average over; None for all.
        weights: None for equal weights; numbers that broadcast to x's shape; or, along one axis, a vector with
            a weight for each element of that axis. Weights with sum 0 give NaN or infinity.

    Returns:
        A tensor of x's dtype (floatx for integers and bool), without the averaged axes.

    Raises:
        ValueError: for an axis that x does not have, or weights that do not fit x.

    Example:
        >>> ops.average([[1.0, 2.0], [5.0, 6.0]], axis=0, weights=[3.0, 1.0]).numpy()
        array([2., 3.], dtype=float32)
    """
    x = as_float(x)
    if weights is None:
        return reduce.mean(x, axis)
    w = as_tensor(weights, x.dtype)
    axes = axes_of("average", axis, x.ndim)
    if w.ndim == 1 and x.ndim > 1 and len(axes) == 1:
        w = reshape(w, [-1 if i in axes else 1 for i in range(x.ndim)])
    if broadcast_shape(x.shape, w.shape) != x.shape:
        raise ValueError(f"average: weights of shape {w.shape} do not fit x of shape {x.shape} and axis {axis}")
    w = broadcast_to(w, x.shape)
    return elementwise.divide(reduce.sum(elementwise.multiply(x, w), axis), reduce.sum(w, axis))


@op
def moments(x, axes, keepdims: bool = False, synchronized: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and variance along axes; the variance is the mean of (x - mean)^2.

    Args:
        x: Numbers of any shape.
        axes: The axis or axes to reduce; None for all.
        keepdims: Whether reduced axes stay, with size 1.
        synchronized: Whether the first axis, if it is one of the axes, is the axis of the joint
            batch of all processes that train together, not only of this process's rows.

    Returns:
        A tuple (mean, variance) of tensors of x's dtype (floatx for integers), without the reduced axes.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> mean, variance = ops.moments([[1.0, 3.0], [2.0, 6.0]], axes=1)
        >>> mean.numpy(), variance.numpy()
        (array([2., 4.], dtype=float32), array([1., 4.], dtype=float32))
    """
    if synchronized and sharding.sums() is not None:
        x = as_float(x)
        over = axes_of("moments", axes, x.ndim)
        if 0 in over:
            count = sharding.size_of(x) / math.prod(size for axis, size in enumerate(x.shape) if axis not in over)
            mean = sharding.total(reduce.sum(x, over, keepdims=True)) / count
            variance = sharding.total(reduce.sum(elementwise.square(x - mean), over, keepdims=True)) / count
            return (mean, variance) if keepdims else (squeeze(mean, over), squeeze(variance, over))
    return reduce.mean(x, axes, keepdims), reduce.var(x, axes, keepdims)


@op
def normalize(x, axis: Any = -1, order: int = 2, epsilon: float | None = None) -> Tensor:
    """Divide x by its norm along axes, so that the norm becomes 1.

    The norm of order p is (sum of |x|^p)^(1/p).

    Args:
        x: Numbers of any shape.
        axis: The axis or axes whose elements form one vector; None for all.
        order: The order p of the norm, an integer of at least 1.
        epsilon: The lower limit of the norm; None for `config.epsilon()`.

    Returns:
        A tensor of x's shape and dtype (floatx for integers); zeros where x is zero along the axes.

    Raises:
        TypeError: for an order that is not an integer.
        ValueError: for an order below 1, or an axis that x does not have.

    Example:
        >>> ops.normalize([[3.0, 4.0], [0.0, 2.0]]).numpy()
        array([[0.6, 0.8],
               [0. , 1. ]], dtype=float32)
        >>> ops.normalize([1.0, 3.0], order=1).numpy()
        array([0.25, 0.75], dtype=float32)
    """
    x = as_float(x)
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize: order must be an integer of at least 1, received {briefly(order)}")
    minimum = config.epsilon() if epsilon is None else epsilon
    axes = axes_of("normalize", axis, x.ndim)
    if order == 2:
        return l2_normalize(x, axes, minimum**2)
    total = reduce.sum(elementwise.power(elementwise.absolute(x), order), axes, keepdims=True)
    return elementwise.divide(x, elementwise.power(elementwise.maximum(total, minimum**order), 1 / order))


@op
def corrcoef(x) -> Tensor:
    """Pearson's correlation coefficients between the rows of a matrix.

    r[i, j] = sum(c[i] c[j]) / sqrt(sum(c[i]^2) sum(c[j]^2)), where c is x without the mean of each row.

    Args:
        x: Numbers of shape (variables, samples), or a vector, which is one variable.

    Returns:
        A tensor of shape (variables, variables), of shape () for a vector; floatx for integers. A row whose
        numbers are all equal gives NaN.

    Raises:
        ValueError: for more than two axes.

    Example:
        >>> ops.corrcoef([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [6.0, 4.0, 2.0]]).numpy().round(4)
        array([[ 1.,  1., -1.],
               [ 1.,  1., -1.],
               [-1., -1.,  1.]], dtype=float32)
    """
    x = as_float(x)
    if x.ndim > 2:
        raise ValueError(f"corrcoef: expected a matrix of variables by samples, received shape {x.shape}")
    rows = reshape(x, (1,) * (2 - x.ndim) + x.shape)
    rows = elementwise.subtract(rows, reduce.mean(rows, 1, keepdims=True))
    scale = elementwise.rsqrt(reduce.sum(elementwise.square(rows), 1, keepdims=True))
    y = elementwise.multiply(matmul(rows, transpose(rows)), elementwise.multiply(scale, transpose(scale)))
    return y if x.ndim == 2 else reshape(y, ())


# -------------------- quantiles --------------------

_METHODS = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantile(name: str, x: Any, q: Any, axis: Any, method: str, keepdims: bool, without_nan: bool) -> Tensor:
    """The elements of sorted x at the positions q (n - 1), interpolated by the method; NaN sorts last."""
    x, q = as_float(x), _shares(name, q, 1)
    one_of(name, "method", method, _METHODS)
    if q.ndim > 1:
        raise ValueError(f"{name}: q must be a number or a vector, received shape {q.shape}")
    axes = axes_of(name, axis, x.ndim)
    rest = [i for i in range(x.ndim) if i not in axes]
    line = reshape(transpose(x, (*rest, *axes)), [*(x.shape[i] for i in rest), math.prod(x.shape[i] for i in axes)])
    if line.shape[-1] == 0:
        raise ValueError(f"{name}: there are no elements along axis {axis} of shape {x.shape}")
    is_nan = elementwise.isnan(line)
    last = reduce.sum(as_tensor(elementwise.logical_not(is_nan), np.int64), -1, keepdims=True)
    last = elementwise.maximum(elementwise.subtract(last, 1), 0)
    if not without_nan:
        line = elementwise.where(reduce.any(is_nan, -1, keepdims=True), x.dtype.type(np.nan), line)
    place = elementwise.multiply(as_tensor(last, np.float64), reshape(q, (-1,)))
    below = elementwise.floor(place)
    part = as_tensor(elementwise.subtract(place, below), x.dtype)
    line = indexing.sort(line, -1)
    low = indexing.take_along_axis(line, as_tensor(below, np.int64), -1)
    high = indexing.take_along_axis(line, as_tensor(elementwise.ceil(place), np.int64), -1)
    y = _between(low, high, part, method)
    y = moveaxis(y, -1, 0)
    if keepdims:
        y = expand_dims(y, tuple(axis + 1 for axis in axes))
    return y if q.ndim else squeeze(y, 0)


def _shares(name: str, q: Any, total: int) -> Tensor:
    """q / total; ValueError for a number not between 0 and `total` (the values of tensors are not read)."""
    if not isinstance(q, Tensor):
        values = array_of(q, np.float64)
        if not np.all((values >= 0) & (values <= total)):
            raise ValueError(f"{name}: q must lie between 0 and {total}, received {briefly(q)}")
    q = as_tensor(q, np.float64)
    return q if total == 1 else elementwise.divide(q, total)


def _between(low: Tensor, high: Tensor, part: Tensor, method: str) -> Tensor:
    """Interpolate from low to high by a fraction `part`, by the method."""
    if method == "lower":
        return low
    if method == "higher":
        return high
    if method == "nearest":
        return elementwise.where(elementwise.less_equal(part, 0.5), low, high)
    if method == "midpoint":
        return elementwise.multiply(elementwise.add(low, high), 0.5)
    way = elementwise.multiply(elementwise.subtract(high, low), part)
    return elementwise.where(elementwise.equal(part, 0), low, elementwise.add(low, way))


@op
def quantile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """The number below which a fraction q of the elements lies, along axes.

    It is the element at position q (n - 1) of n sorted elements, counted from 0; between two elements `method`
    decides. It is NaN if any element is NaN.

    Args:
        x: Numbers of any shape.
        q: A fraction from 0 to 1, or a vector of fractions.
        axis: The axis or axes whose elements are sorted together; None for all.
        method: The result between two elements: 'linear' interpolates, 'lower' and 'higher' take one of them,
            'nearest' the nearer one (the lower one from halfway), 'midpoint' their mean.
        keepdims: Whether the reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes. If q is a vector, the quantiles lie
        along a new first axis.

    Raises:
        ValueError: for q outside [0, 1] or with more than one axis, an unknown method, or no elements. The
            values of a tensor q are not checked.

    Example:
        >>> ops.quantile([1.0, 2.0, 3.0, 10.0], [0.5, 0.75]).numpy()
        array([2.5 , 4.75], dtype=float32)
        >>> float(ops.quantile([1.0, 2.0, 3.0, 10.0], 0.75, method="higher"))
        10.0
    """
    return _quantile("quantile", x, q, axis, method, keepdims, without_nan=False)


@op
def nanquantile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """`quantile` of the elements that are not NaN.

    Args:
        x: Numbers of any shape.
        q: A fraction from 0 to 1, or a vector of fractions.
        axis: The axis or axes whose elements are sorted together; None for all.
        method: The result between two elements: 'linear', 'lower', 'higher', 'nearest' or 'midpoint'.
        keepdims: Whether the reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; a vector q gives a new first axis.
        NaN where all elements are NaN.

    Raises:
        ValueError: for q outside [0, 1] or with more than one axis, an unknown method, or no elements.

    Example:
        >>> float(ops.nanquantile([1.0, np.nan, 3.0, 5.0], 0.5))
        3.0
    """
    return _quantile("nanquantile", x, q, axis, method, keepdims, without_nan=True)


@op
def percentile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """The number below which q percent of the elements lie, along axes: `quantile` of q / 100.

    Args:
        x: Numbers of any shape.
        q: A percentage from 0 to 100, or a vector of percentages.
        axis: The axis or axes whose elements are sorted together; None for all.
        method: The result between two elements: 'linear', 'lower', 'higher', 'nearest' or 'midpoint'.
        keepdims: Whether the reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; a vector q gives a new first axis.
        NaN if any element is NaN.

    Raises:
        ValueError: for q outside [0, 100] or with more than one axis, an unknown method, or no elements.

    Example:
        >>> ops.percentile([0.0, 10.0, 20.0, 30.0, 40.0], [25, 90]).numpy()
        array([10., 36.], dtype=float32)
    """
    return quantile(x, _shares("percentile", q, 100), axis, method, keepdims)


@op
def nanpercentile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """`percentile` of the elements that are not NaN.

    Args:
        x: Numbers of any shape.
        q: A percentage from 0 to 100, or a vector of percentages.
        axis: The axis or axes whose elements are sorted together; None for all.
        method: The result between two elements: 'linear', 'lower', 'higher', 'nearest' or 'midpoint'.
        keepdims: Whether the reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; a vector q gives a new first axis.
        NaN where all elements are NaN.

    Raises:
        ValueError: for q outside [0, 100] or with more than one axis, an unknown method, or no elements.

    Example:
        >>> float(ops.nanpercentile([1.0, np.nan, 3.0], 50))
        2.0
    """
    return nanquantile(x, _shares("nanpercentile", q, 100), axis, method, keepdims)


@op
def median(x, axis=None, keepdims: bool = False) -> Tensor:
    """The middle of the sorted elements along axes, or the mean of the two middle ones.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to reduce; None for all.
        keepdims: Whether reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; NaN if any element is NaN.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> ops.median([[1.0, 9.0, 2.0], [4.0, 5.0, 0.0]], axis=1).numpy()
        array([2., 4.], dtype=float32)
        >>> float(ops.median([1, 2, 3, 10]))
        2.5
    """
    return quantile(x, 0.5, axis, "linear", keepdims)


@op
def nanmedian(x, axis=None, keepdims: bool = False) -> Tensor:
    """`median` of the elements that are not NaN.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to reduce; None for all.
        keepdims: Whether reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; NaN where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> float(ops.nanmedian([1.0, np.nan, 2.0, 6.0]))
        2.0
    """
    return nanquantile(x, 0.5, axis, "linear", keepdims)


# -------------------- without NaN --------------------


def _filled(x: Any, value: float) -> tuple[Tensor, Tensor]:
    """x with NaN replaced by a number, and a mask that is True where x is not NaN."""
    x = as_tensor(x)
    if x.dtype.kind != "f":
        return x, elementwise.equal(x, x)
    is_nan = elementwise.isnan(x)
    return elementwise.where(is_nan, x.dtype.type(value), x), elementwise.logical_not(is_nan)


@op
def nansum(x, axis=None, keepdims: bool = False) -> Tensor:
    """Sum of the elements that are not NaN.

    Args:
        x: Numbers of any shape; bool counts as 0 and 1.
        axis: The axis or axes to sum over; None for all.
        keepdims: Whether summed axes stay, with size 1.

    Returns:
        A tensor of x's dtype (bool and smaller integers become 32 bits), without the summed axes; 0 where all are NaN.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.nansum([[1.0, np.nan], [3.0, 4.0]], axis=1).numpy()
        array([1., 7.], dtype=float32)
    """
    return reduce.sum(_filled(x, 0)[0], axis, keepdims)


@op
def nanprod(x, axis=None, keepdims: bool = False) -> Tensor:
    """Product of the elements that are not NaN.

    Args:
        x: Numbers of any shape; bool counts as 0 and 1.
        axis: The axis or axes to multiply over; None for all.
        keepdims: Whether multiplied axes stay, with size 1.

    Returns:
        A tensor of x's dtype (bool and smaller integers become 32 bits), without these axes; 1 where all are NaN.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.nanprod([[2.0, np.nan], [3.0, 4.0]], axis=1).numpy()
        array([ 2., 12.], dtype=float32)
    """
    return reduce.prod(_filled(x, 1)[0], axis, keepdims)


@op
def nancumsum(x, axis: int | None = None, dtype=None) -> Tensor:
    """Running sum along an axis, counting NaN as 0.

    Args:
        x: Numbers of any shape.
        axis: The axis to sum along; None for the flat tensor.
        dtype: The dtype of the sums; None for x's (int32 for bool).

    Returns:
        A tensor of x's shape, or of shape (x.size,) for axis None.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.nancumsum([1.0, np.nan, 3.0]).numpy()
        array([1., 1., 4.], dtype=float32)
    """
    return reduce.cumsum(_filled(x, 0)[0], axis, dtype)


@op
def nancumprod(x, axis: int | None = None, dtype=None) -> Tensor:
    """Running product along an axis, counting NaN as 1.

    Args:
        x: Numbers of any shape.
        axis: The axis to multiply along; None for the flat tensor.
        dtype: The dtype of the products; None for x's (int32 for bool).

    Returns:
        A tensor of x's shape, or of shape (x.size,) for axis None.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.nancumprod([2.0, np.nan, 3.0]).numpy()
        array([2., 2., 6.], dtype=float32)
    """
    return reduce.cumprod(_filled(x, 1)[0], axis, dtype)


def _mean_of(x: Tensor, valid: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """Mean of the valid elements; the others are 0."""
    count = reduce.sum(as_tensor(valid, x.dtype), axis, keepdims)
    return elementwise.divide(reduce.sum(x, axis, keepdims), count)


@op
def nanmean(x, axis=None, keepdims: bool = False) -> Tensor:
    """Mean of the elements that are not NaN.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to average over; None for all.
        keepdims: Whether averaged axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the averaged axes; NaN where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.nanmean([[1.0, np.nan], [3.0, 4.0]], axis=1).numpy()
        array([1. , 3.5], dtype=float32)
    """
    return _mean_of(*_filled(as_float(x), 0), axis, keepdims)


@op
def nanvar(x, axis=None, keepdims: bool = False) -> Tensor:
    """Variance of the elements that are not NaN: the mean of (x - nanmean(x))^2.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to reduce; None for all.
        keepdims: Whether reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; NaN where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> float(ops.nanvar([1.0, np.nan, 5.0]))
        4.0
    """
    filled, valid = _filled(as_float(x), 0)
    distance = elementwise.subtract(filled, _mean_of(filled, valid, axis, keepdims=True))
    distance = elementwise.where(valid, distance, filled.dtype.type(0))
    return _mean_of(elementwise.square(distance), valid, axis, keepdims)


@op
def nanstd(x, axis=None, keepdims: bool = False) -> Tensor:
    """Standard deviation of the elements that are not NaN: the square root of `nanvar`.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to reduce; None for all.
        keepdims: Whether reduced axes stay, with size 1.

    Returns:
        A tensor of x's dtype (floatx for integers), without the reduced axes; NaN where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> float(ops.nanstd([1.0, np.nan, 5.0]))
        2.0
    """
    return elementwise.sqrt(nanvar(x, axis, keepdims))


def _nan_extremum(extremum: Callable, worst: float, x: Any, axis: Any, keepdims: bool) -> Tensor:
    filled, valid = _filled(x, worst)
    y = extremum(filled, axis, keepdims)
    if filled.dtype.kind != "f":
        return y
    return elementwise.where(reduce.any(valid, axis, keepdims), y, filled.dtype.type(np.nan))


@op
def nanmax(x, axis=None, keepdims: bool = False) -> Tensor:
    """Largest of the elements that are not NaN.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to search; None for all.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        A tensor of x's dtype, without the searched axes; NaN where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> ops.nanmax([[1.0, np.nan], [np.nan, np.nan]], axis=1).numpy()
        array([ 1., nan], dtype=float32)
    """
    return _nan_extremum(reduce.max, -np.inf, x, axis, keepdims)


@op
def nanmin(x, axis=None, keepdims: bool = False) -> Tensor:
    """Smallest of the elements that are not NaN.

    Args:
        x: Numbers of any shape.
        axis: The axis or axes to search; None for all.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        A tensor of x's dtype, without the searched axes; NaN where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis.

    Example:
        >>> ops.nanmin([[1.0, np.nan], [3.0, 2.0]], axis=1).numpy()
        array([1., 2.], dtype=float32)
    """
    return _nan_extremum(reduce.min, np.inf, x, axis, keepdims)


def _nan_position(position: Callable, worst: float, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    name = f"nan{position.__name__}"
    check_int32(name, length_of(name, axis, x) - 1)
    filled, valid = _filled(x, worst)
    return elementwise.where(reduce.any(valid, axis, keepdims), position(filled, axis, keepdims), -1)


@op
def nanargmax(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the largest of the elements that are not NaN; the first one if there are several.

    Args:
        x: Numbers of any shape.
        axis: The axis to search; None for the flat tensor.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        An int32 tensor without the searched axis; -1 where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis, or for positions that do not fit in int32.

    Example:
        >>> ops.nanargmax([[1.0, np.nan], [3.0, 4.0], [np.nan, np.nan]], axis=1).numpy()
        array([ 0,  1, -1], dtype=int32)
    """
    return _nan_position(reduce.argmax, -np.inf, x, axis, keepdims)


@op
def nanargmin(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the smallest of the elements that are not NaN; the first one if there are several.

    Args:
        x: Numbers of any shape.
        axis: The axis to search; None for the flat tensor.
        keepdims: Whether searched axes stay, with size 1.

    Returns:
        An int32 tensor without the searched axis; -1 where all elements are NaN.

    Raises:
        ValueError: for an axis that x does not have, or an empty axis, or for positions that do not fit in int32.

    Example:
        >>> ops.nanargmin([[np.nan, 2.0], [3.0, 4.0]], axis=1).numpy()
        array([1, 0], dtype=int32)
    """
    return _nan_position(reduce.argmin, np.inf, x, axis, keepdims)


# -------------------- counts --------------------


@op
def histogram(x, bins: int = 10, range: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """Count the elements in bins of equal width.

    A bin includes its lower edge; the last bin includes its upper edge too. Elements outside of `range` and NaN are
    not counted.

    Args:
        x: Numbers of any shape.
        bins: The number of bins.
        range: The lowest and the highest edge; None for the smallest and the largest element. If they are equal,
            they are moved apart by 0.5 each.

    Returns:
        A tuple (counts, edges) of tensors of x's dtype (floatx for integers), of shapes (bins,) and (bins + 1,).

    Raises:
        TypeError: for bins that are not an integer; explicit edges are not supported.
        ValueError: for less than one bin, a decreasing range, or no elements and no range.

    Example:
        >>> counts, edges = ops.histogram([1.0, 2.0, 2.0, 5.0], bins=4)
        >>> counts.numpy(), edges.numpy()
        (array([1., 2., 0., 1.], dtype=float32), array([1., 2., 3., 4., 5.], dtype=float32))
    """
    x = as_float(x)
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"histogram: bins must be an integer of at least 1, received {briefly(bins)}")
    is_pair = isinstance(range, list | tuple) and len(range) == 2 and all(isinstance(n, int | float) for n in range)
    if range is not None and not (is_pair and range[0] <= range[1]):
        raise ValueError(f"histogram: range must be two increasing numbers, received {briefly(range)}")
    flat = reshape(x, (x.size,))
    low, high = (
        (reduce.min(flat), reduce.max(flat)) if range is None else promote(*(x.dtype.type(edge) for edge in range))
    )
    # if all numbers are equal, the range gets a margin
    margin = elementwise.multiply(as_tensor(elementwise.equal(low, high), x.dtype), 0.5)
    low, high = elementwise.subtract(low, margin), elementwise.add(high, margin)
    edges = linspace(low, high, bins + 1)
    place = elementwise.subtract(searchsorted(edges, flat, "right"), 1)
    place = elementwise.where(elementwise.equal(flat, high), bins - 1, place)
    return segment_sum(ones(x.size, x.dtype), place, bins), edges
