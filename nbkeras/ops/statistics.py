"""Averages, quantiles, reductions that ignore NaN, and histograms. Composed of other ops and differentiable."""

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.kernels.elementwise import broadcast_shape
from nbkeras.ops import elementwise, indexing, reduce
from nbkeras.ops.activations import l2_normalize
from nbkeras.ops.arguments import as_float, axes_of, axis_of, promote
from nbkeras.ops.creation import ones
from nbkeras.ops.dense import matmul
from nbkeras.ops.ranges import linspace
from nbkeras.ops.scattering import searchsorted, segment_sum
from nbkeras.ops.shape import broadcast_to, expand_dims, moveaxis, reshape, squeeze, transpose

# -------------------- averages --------------------


@op
def amax(x, axis=None, keepdims: bool = False) -> Tensor:
    """Largest element over axes."""
    return reduce.max(x, axis, keepdims)


@op
def amin(x, axis=None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes."""
    return reduce.min(x, axis, keepdims)


@op
def ptp(x, axis=None, keepdims: bool = False) -> Tensor:
    """The largest minus the smallest element over axes."""
    return elementwise.subtract(reduce.max(x, axis, keepdims), reduce.min(x, axis, keepdims))


@op
def average(x, axis=None, weights=None) -> Tensor:
    """Mean over axes, weighted by weights of x's shape or, along one axis, by a vector."""
    x = as_float(x)
    if weights is None:
        return reduce.mean(x, axis)
    w = as_tensor(weights, x.dtype)
    if w.ndim == 1 and x.ndim > 1 and isinstance(axis, int):
        along = axis_of("average", axis, x.ndim)
        w = reshape(w, [-1 if i == along else 1 for i in range(x.ndim)])
    if broadcast_shape(x.shape, w.shape) != x.shape:
        raise ValueError(f"average: weights of shape {w.shape} do not fit x of shape {x.shape} and axis {axis}")
    w = broadcast_to(w, x.shape)
    return elementwise.divide(reduce.sum(elementwise.multiply(x, w), axis), reduce.sum(w, axis))


@op
def moments(x, axes, keepdims: bool = False, synchronized: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and variance over axes."""
    if synchronized:
        raise ValueError("moments: only one device is supported, use synchronized=False")
    return reduce.mean(x, axes, keepdims), reduce.var(x, axes, keepdims)


@op
def normalize(x, axis=-1, order: int = 2, epsilon: float | None = None) -> Tensor:
    """x divided by its norm of the given order along axes; the norm is at least epsilon."""
    x = as_float(x)
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"normalize: order must be an integer of at least 1, received {order!r}")
    least = config.epsilon() if epsilon is None else epsilon
    axes = axes_of("normalize", axis, x.ndim)
    if order == 2:
        return l2_normalize(x, axes, least**2)
    total = reduce.sum(elementwise.power(elementwise.absolute(x), order), axes, keepdims=True)
    return elementwise.divide(x, elementwise.power(elementwise.maximum(total, least**order), 1 / order))


@op
def corrcoef(x) -> Tensor:
    """Correlation coefficients of the rows of a matrix, each a variable: (n, samples) -> (n, n)."""
    x = as_float(x)
    if x.ndim > 2:
        raise ValueError(f"corrcoef: expected a matrix of variables by samples, received shape {x.shape}")
    rows = reshape(x, (-1, x.shape[-1] if x.ndim else 1))
    rows = elementwise.subtract(rows, reduce.mean(rows, 1, keepdims=True))
    rows = elementwise.multiply(rows, elementwise.rsqrt(reduce.sum(elementwise.square(rows), 1, keepdims=True)))
    y = matmul(rows, transpose(rows))
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
    line = reshape(transpose(x, (*rest, *axes)), [*(x.shape[i] for i in rest), -1])
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
    """The q-quantile of x over axes, NaN if x has a NaN there. q: a number, or a vector whose axis comes first.

    method: between two elements 'linear' interpolation, the 'lower', the 'higher', the 'nearest' or the 'midpoint'.
    """
    return _quantile("quantile", x, q, axis, method, keepdims, without_nan=False)


@op
def nanquantile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """`quantile` of the elements that are not NaN."""
    return _quantile("nanquantile", x, q, axis, method, keepdims, without_nan=True)


@op
def percentile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """`quantile` of q / 100."""
    return quantile(x, _shares("percentile", q, 100), axis, method, keepdims)


@op
def nanpercentile(x, q, axis=None, method: str = "linear", keepdims: bool = False) -> Tensor:
    """`percentile` of the elements that are not NaN."""
    return nanquantile(x, _shares("nanpercentile", q, 100), axis, method, keepdims)


@op
def median(x, axis=None, keepdims: bool = False) -> Tensor:
    """The middle element over axes, or the mean of the two middle ones; NaN if there is a NaN."""
    return quantile(x, 0.5, axis, "linear", keepdims)


@op
def nanmedian(x, axis=None, keepdims: bool = False) -> Tensor:
    """`median` of the elements that are not NaN."""
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
    """`sum` of the elements that are not NaN."""
    return reduce.sum(_filled(x, 0)[0], axis, keepdims)


@op
def nanprod(x, axis=None, keepdims: bool = False) -> Tensor:
    """`prod` of the elements that are not NaN."""
    return reduce.prod(_filled(x, 1)[0], axis, keepdims)


@op
def nancumsum(x, axis: int | None = None, dtype=None) -> Tensor:
    """`cumsum` with 0 for NaN."""
    return reduce.cumsum(_filled(x, 0)[0], axis, dtype)


@op
def nancumprod(x, axis: int | None = None, dtype=None) -> Tensor:
    """`cumprod` with 1 for NaN."""
    return reduce.cumprod(_filled(x, 1)[0], axis, dtype)


def _mean_of(x: Tensor, valid: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """Mean of the valid elements; the others are 0."""
    count = reduce.sum(as_tensor(valid, x.dtype), axis, keepdims)
    return elementwise.divide(reduce.sum(x, axis, keepdims), count)


@op
def nanmean(x, axis=None, keepdims: bool = False) -> Tensor:
    """`mean` of the elements that are not NaN; NaN if all are."""
    return _mean_of(*_filled(as_float(x), 0), axis, keepdims)


@op
def nanvar(x, axis=None, keepdims: bool = False) -> Tensor:
    """`var` of the elements that are not NaN; NaN if all are."""
    filled, valid = _filled(as_float(x), 0)
    distance = elementwise.subtract(filled, _mean_of(filled, valid, axis, keepdims=True))
    distance = elementwise.where(valid, distance, filled.dtype.type(0))
    return _mean_of(elementwise.square(distance), valid, axis, keepdims)


@op
def nanstd(x, axis=None, keepdims: bool = False) -> Tensor:
    """`std` of the elements that are not NaN; NaN if all are."""
    return elementwise.sqrt(nanvar(x, axis, keepdims))


def _nan_extremum(extremum: Callable, worst: float, x: Any, axis: Any, keepdims: bool) -> Tensor:
    filled, valid = _filled(x, worst)
    y = extremum(filled, axis, keepdims)
    if filled.dtype.kind != "f":
        return y
    return elementwise.where(reduce.any(valid, axis, keepdims), y, filled.dtype.type(np.nan))


@op
def nanmax(x, axis=None, keepdims: bool = False) -> Tensor:
    """`max` of the elements that are not NaN; NaN if all are."""
    return _nan_extremum(reduce.max, -np.inf, x, axis, keepdims)


@op
def nanmin(x, axis=None, keepdims: bool = False) -> Tensor:
    """`min` of the elements that are not NaN; NaN if all are."""
    return _nan_extremum(reduce.min, np.inf, x, axis, keepdims)


def _nan_position(position: Callable, worst: float, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    filled, valid = _filled(x, worst)
    return elementwise.where(reduce.any(valid, axis, keepdims), position(filled, axis, keepdims), -1)


@op
def nanargmax(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """`argmax` of the elements that are not NaN; -1 if all are."""
    return _nan_position(reduce.argmax, -np.inf, x, axis, keepdims)


@op
def nanargmin(x, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """`argmin` of the elements that are not NaN; -1 if all are."""
    return _nan_position(reduce.argmin, np.inf, x, axis, keepdims)


# -------------------- counts --------------------


@op
def histogram(x, bins: int = 10, range: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """The number of elements in each of `bins` equal bins, as floats, and the bins' edges.

    range: the lowest and the highest edge, by default the smallest and the largest element. A bin includes its lower edge; the
    last bin includes its upper edge too.
    """
    x = as_float(x)
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"histogram: bins must be an integer of at least 1, received {bins!r}")
    if range is not None and (len(range) != 2 or range[0] > range[1]):
        raise ValueError(f"histogram: range must be two numbers that rise, received {range!r}")
    flat = reshape(x, (x.size,))
    low, high = (
        (reduce.min(flat), reduce.max(flat)) if range is None else promote(*(x.dtype.type(edge) for edge in range))
    )
    margin = elementwise.multiply(as_tensor(elementwise.equal(low, high), x.dtype), 0.5)  # if all numbers are equal
    low, high = elementwise.subtract(low, margin), elementwise.add(high, margin)
    edges = linspace(low, high, bins + 1)
    place = elementwise.subtract(searchsorted(edges, flat, "right"), 1)
    place = elementwise.where(elementwise.equal(flat, high), bins - 1, place)
    return segment_sum(ones(x.size, x.dtype), place, bins), edges
