"""The parts of metrics: matches, running totals kept in Variables, confusion counts. No gradients.

`accumulate` and `count_confusion` update Variables in place by launches, so a replayed step updates them too.
"""

import math
from collections.abc import Sequence

import numpy as np

from nbkeras.engine import tape
from nbkeras.engine.copy_on_write import will_write
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, Variable, apply, as_float, as_index, as_integer, as_tensor, on_device_of, op
from nbkeras.kernels import elementwise, metrics
from nbkeras.kernels.embedding import add_rows
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.threads import launch_shares
from nbkeras.ops.elementwise import clip, equal, greater, isfinite, less, logical_and, where
from nbkeras.ops.indexing import take_along_axis
from nbkeras.ops.reduce import count_nonzero
from nbkeras.ops.shape import broadcast_to, expand_dims, reshape, squeeze


def _check_classes(y_pred: Tensor) -> None:
    if not y_pred.ndim or not y_pred.shape[-1]:
        raise ValueError(f"expected predictions of one class or more on the last axis, received shape {y_pred.shape}")


@op
def class_matches(classes, y_pred) -> Tensor:
    """1.0 where the (first) largest element of y_pred (..., n) is at the index in classes (...), else 0.0."""
    classes, y_pred = as_tensor(classes), as_float(y_pred)
    _check_classes(y_pred)
    if classes.shape != y_pred.shape[:-1]:
        raise ValueError(f"expected one class number for each prediction, received {classes.shape} for {y_pred.shape}")
    return apply(metrics.class_matches, None, [classes, y_pred])


@op
def one_hot_matches(y_true, y_pred) -> Tensor:
    """1.0 where the largest elements of y_true and y_pred (..., n) are at the same index, else 0.0."""
    y_true, y_pred = as_float(y_true), as_float(y_pred)
    _check_classes(y_pred)
    if y_true.shape != y_pred.shape or y_pred.ndim == 0:
        raise ValueError(f"expected one-hot targets of shape {y_pred.shape}, received {y_true.shape}")
    return apply(metrics.one_hot_matches, None, [y_true, y_pred])


@op
def threshold_matches(y_true, y_pred, threshold: float) -> Tensor:
    """1.0 where y_pred > threshold agrees with y_true (0 or 1), else 0.0. Both have the same shape."""
    y_true, y_pred = as_tensor(y_true), as_float(y_pred)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"expected targets of shape {y_pred.shape}, received {y_true.shape}")
    return apply(metrics.threshold_matches, None, [y_true, y_pred], threshold=float(threshold))


@op
def divide_no_nan(x1, x2, dtype=None) -> Tensor:
    """x1 / x2, and 0 where x2 is 0, computed in `dtype` if it is a float dtype. For floats of the same shape; no gradient."""
    x1, x2 = as_float(x1), as_float(x2)
    found = known_dtype(dtype or x1.dtype)
    found = found if found.kind == "f" else known_dtype(None)
    return apply(_divide_no_nan, None, [x1, as_tensor(x2, x1.dtype)], dtype=found)


def _divide_no_nan(x, y, dtype):
    out = device.empty(elementwise.broadcast_shape(x.shape, y.shape), dtype)
    device.launch(metrics.ratio, x, y, out)
    return out, None


def _grouped(weights: Tensor, values: Tensor) -> Tensor:
    """Sample weights as a vector with one number for each group of adjacent values."""
    kept = weights.shape
    while kept and kept[-1] == 1 and kept != values.shape:
        kept = kept[:-1]
    if kept == values.shape[: len(kept)]:
        return reshape(weights, (weights.size,))
    if weights.ndim == values.ndim and all(w in (1, v) for w, v in zip(weights.shape, values.shape, strict=True)):
        return reshape(broadcast_to(weights, values.shape), (values.size,))
    raise ValueError(
        f"sample_weight of shape {weights.shape} does not fit values of shape {values.shape}: give one weight for each "
        "sample, (batch,), or for each timestep, (batch, timesteps)"
    )


def _written(variable: Variable) -> device.Array:
    """The array of a state for a kernel that adds to it: in a StatelessScope, the scope's."""
    if tape.thread.rerun is not None:
        tape.thread.rerun.values.setdefault(variable, Tensor(variable.data))
    return variable.data


def accumulate(values, sample_weight, total: Variable, count: Variable | None = None) -> None:
    """total += sum(values * weights). With a count: total += sum of the samples' weighted means, count += sum of weights.

    values: numbers (batch, ...) or a scalar. sample_weight: None, or of the shape of values' leading axes (or broadcast to
    values). total, count: float64 scalars. A scalar weight is the weight of the mean over all values, as in Keras.
    """
    if device.is_on_other_device(total.data):
        with on_device_of(total):
            return accumulate(values, sample_weight, total, count)
    values = as_float(values)
    if values.size == 0:
        return
    per_sample = math.prod(values.shape[1:])
    weights = device.empty(0, values.dtype)
    if sample_weight is not None:
        given = as_tensor(sample_weight, values.dtype)
        per_sample = per_sample if given.ndim else values.size
        weights = device.to_this_device(_grouped(given, values).data)
    scale = 1.0 if count is None else 1.0 / per_sample
    summed, counter = _written(total), device.empty(0, np.float64) if count is None else _written(count).reshape(1)
    flat = device.to_this_device(values.data).reshape(-1)
    will_write(summed, counter)
    device.launch(metrics.accumulate, flat, weights, scale, summed.reshape(1), counter)


def count_confusion(
    y_true,
    y_pred,
    thresholds: Sequence[float],
    counters: dict[str, Variable],
    sample_weight=None,
    evenly: bool = False,
    zero_counts: bool = False,
) -> None:
    """Count true and false positives and negatives at each threshold, in counters 'tp', 'fp', 'tn', 'fn'.

    y_true, y_pred (samples, labels) or (samples,); a label is true if it is not 0. sample_weight: None or of the same shape.
    counters: float64 (thresholds,), or (thresholds, labels) to count each label separately. evenly: the thresholds go from 0
    to 1 in equal steps (with zero_counts the first one is slightly below 0) and are counted in one pass; otherwise the
    thresholds may be any numbers in any order.
    """
    home = next(iter(counters.values()))
    if device.is_on_other_device(home.data):
        with on_device_of(home):
            return count_confusion(y_true, y_pred, thresholds, counters, sample_weight, evenly, zero_counts)
    y_pred = as_float(y_pred)
    y_true = as_tensor(y_true)
    rows = (y_pred.shape[0], math.prod(y_pred.shape[1:])) if y_pred.ndim else (1, 1)
    predicted, labels = (device.to_this_device(y.data).reshape(rows) for y in (y_pred, y_true))
    if sample_weight is None:
        weights = device.empty((0, 1), y_pred.dtype)
    else:
        weights = broadcast_to(as_tensor(sample_weight, y_pred.dtype), y_pred.shape).data
        weights = device.to_this_device(weights).reshape(rows)
    absent = device.empty((0, 1), np.float64)
    tables = []
    for name in ("tp", "fp", "tn", "fn"):
        table = _written(counters[name]) if name in counters else absent
        tables.append(table if table.ndim == 2 else table.reshape(-1, 1))
    will_write(*tables)
    if evenly:
        columns = max(table.shape[1] for table in tables)
        buckets = device.empty((2, len(thresholds) + 1, columns), np.float64)
        device.launch(metrics.count_at_even_thresholds, labels, predicted, weights, bool(zero_counts), buckets, *tables)
    else:
        limits = as_tensor(np.asarray(thresholds, np.float64)).data
        device.launch(metrics.count_at_thresholds, labels, predicted, weights, limits, *tables)


def count_pairs(rows, columns, table: Variable, sample_weight=None, ignored: int | None = None) -> None:
    """table[rows[i], columns[i]] += weight[i]; pairs outside the table and pairs in the row `ignored` do not count.

    rows, columns: int64 (batch, ...) with the same number of elements. table: float64 (n, m). sample_weight: None for 1, one
    weight for each pair, or weights that broadcast to the rows; if it has fewer axes, it applies to the leading axes.
    """
    if device.is_on_other_device(table.data):
        with on_device_of(table):
            return count_pairs(rows, columns, table, sample_weight, ignored)
    n, m = table.shape
    rows, columns = as_index(rows), as_index(columns)
    if rows.size != columns.size:
        raise ValueError(f"targets of shape {rows.shape} do not match predictions of shape {columns.shape}")
    weight = as_tensor(1.0 if sample_weight is None else sample_weight, np.float64)
    if weight.size != rows.size:
        if weight.shape == rows.shape[: weight.ndim]:
            weight = reshape(weight, (*weight.shape, *[1] * (rows.ndim - weight.ndim)))
        weight = broadcast_to(weight, rows.shape)
    columns = reshape(columns, rows.shape)
    inside = (rows >= 0) & (rows < n) & (columns >= 0) & (columns < m)
    if ignored is not None:
        inside = inside & (rows != ignored)
    places = where(inside, rows * m + columns, n * m)  # n * m is outside the table: add_rows skips it
    arrays = device.to_this_device(weight.data).reshape(-1, 1), device.to_this_device(places.data).reshape(-1)
    cells = _written(table)
    will_write(cells)
    launch_shares(add_rows, 1, *arrays, cells.reshape(-1, 1))


@op
def in_top_k(targets, predictions, k: int) -> Tensor:
    """Whether each target class is among the k largest predictions of its row.

    Classes tied with the k-th are included. The result is False for a class that does not exist, and for a prediction
    that is not finite.

    Args:
        targets: Classes, integers of shape (batch,).
        predictions: Scores of shape (batch, classes).
        k: The number of largest predictions to consider.

    Returns:
        A bool tensor of shape (batch,).

    Raises:
        TypeError: for targets that are not integers.
        ValueError: for other shapes.

    Example:
        >>> ops.in_top_k([1, 0], [[0.1, 0.6, 0.3], [0.1, 0.6, 0.3]], k=2).numpy()
        array([ True, False])
    """
    predictions, classes = as_tensor(predictions), as_integer(targets, "in_top_k: targets")
    if predictions.ndim != 2 or classes.shape != predictions.shape[:1]:
        raise ValueError(
            "in_top_k: expected targets (batch,) and predictions (batch, classes), received "
            f"{classes.shape} and {predictions.shape}"
        )
    existing = clip(classes, 0, predictions.shape[1] - 1)
    chosen = take_along_axis(predictions, expand_dims(existing, 1), 1)
    above = count_nonzero(greater(predictions, chosen), axis=1)
    counts = logical_and(equal(classes, existing), isfinite(squeeze(chosen, 1)))
    return logical_and(less(above, k), counts)
