"""The computations of metrics: matches of classes, running sums, confusion counts. They have no gradients.

State arrays are float64 for data of any dtype, and are updated in place. Weights of size 0 mean weight 1 for all values.
"""

import math

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray

# Matches: 1.0 where a prediction is correct, else 0.0


def class_matches(classes: Array, y_pred: Array):
    """Computes 1 where classes (...), of any dtype, is the position of the (first) largest element of y_pred (..., n)."""
    out = device.empty(classes.shape, y_pred.dtype)
    device.launch(match_classes, classes.reshape(-1), y_pred.reshape(-1, y_pred.shape[-1]), out.reshape(-1))
    return out, None


def one_hot_matches(y_true: Array, y_pred: Array):
    """Computes 1 where the largest elements of y_true (..., n) and y_pred (..., n) are at the same position."""
    n = y_pred.shape[-1]
    out = device.empty(y_pred.shape[:-1], y_pred.dtype)
    device.launch(match_one_hot, y_true.reshape(-1, n), y_pred.reshape(-1, n), out.reshape(-1))
    return out, None


def threshold_matches(y_true: Array, y_pred: Array, threshold: float):
    """Computes 1 where y_true (0 or 1) equals y_pred > threshold, element by element. Both have the same shape."""
    out = device.empty(y_pred.shape, y_pred.dtype)
    device.launch(match_threshold, y_true.reshape(-1), y_pred.reshape(-1), threshold, out.reshape(-1))
    return out, None


@compiled(inline="always")
def _argmax(row):
    best = 0
    for j in range(1, row.size):
        if row[j] > row[best]:
            best = j
    return best


@compiled
def match_classes(classes, y_pred, out):
    for i in range(out.size):
        out[i] = 1 if classes[i] == _argmax(y_pred[i]) else 0


@compiled
def match_one_hot(y_true, y_pred, out):
    for i in range(out.size):
        out[i] = 1 if _argmax(y_true[i]) == _argmax(y_pred[i]) else 0


@compiled
def match_threshold(y_true, y_pred, threshold, out):
    limit = y_pred.dtype.type(threshold)
    for i in range(out.size):
        out[i] = 1 if y_true[i] == (1 if y_pred[i] > limit else 0) else 0


# Running sums


# With reassoc the sum is vectorised; its order depends only on the shape.
@compiled(fastmath={"nsz", "contract", "reassoc"})
def _sum(x):
    total = 0.0
    for i in range(x.size):
        total += np.float64(x[i])
    return total


@compiled
def accumulate(values, weights, scale, total, count):
    """total += scale * sum(values * weights), count += scale * sum(weights). One weight covers values.size / weights.size values.

    values, weights 1-D; total (1,), count (1,), or (0,) if it is not needed.
    """
    if weights.size == 0:
        weighted, number = _sum(values), np.float64(values.size)
    else:
        per_weight = values.size // weights.size
        weighted, number = 0.0, _sum(weights) * per_weight
        for i in range(weights.size):
            weighted += weights[i] * _sum(values[i * per_weight : (i + 1) * per_weight])
    total[0] += scale * weighted
    if count.size > 0:
        count[0] += scale * number


def ratio(x: Array, y: Array, out: Array) -> None:
    """Kernel: out = x / y, or 0 where y is 0; out may be float32."""
    out.fill(0)
    np.divide(x, y, out=out, where=y != 0, casting="same_kind")


ratio.fuses_as = "ratio"  # type: ignore[attr-defined]


# Confusion counts of predictions above each threshold. y_true, y_pred are (samples, labels). tp, fp, tn, fn have the shape
# (thresholds, labels), or a single column for all labels; a counter of size 0 is not computed.


@compiled
def count_at_thresholds(y_true, y_pred, weights, thresholds, tp, fp, tn, fn):
    """Passes over the predictions once per threshold. For few thresholds, in any order."""
    for t in range(thresholds.size):
        limit = y_pred.dtype.type(thresholds[t])
        for i in range(y_pred.shape[0]):
            for j in range(y_pred.shape[1]):
                weight = weights[i, j] if weights.size > 0 else 1.0
                above = y_pred[i, j] > limit
                if y_true[i, j] != 0:
                    if above and tp.size > 0:
                        tp[t, min(j, tp.shape[1] - 1)] += weight
                    elif not above and fn.size > 0:
                        fn[t, min(j, fn.shape[1] - 1)] += weight
                elif above and fp.size > 0:
                    fp[t, min(j, fp.shape[1] - 1)] += weight
                elif not above and tn.size > 0:
                    tn[t, min(j, tn.shape[1] - 1)] += weight


@compiled
def count_at_even_thresholds(y_true, y_pred, weights, zero_counts, buckets, tp, fp, tn, fn):
    """For thresholds 0, 1/n, ..., 1. Counts predictions in buckets between thresholds in one pass, then sums from above.

    zero_counts: True if a prediction of 0 is above the first threshold (which is then slightly below 0). buckets: scratch
    (2, thresholds + 1, columns), by label and by the number of thresholds below the prediction.
    Source: keras/src/metrics/metrics_utils.
    """
    steps, columns = buckets.shape[1] - 2, buckets.shape[2]
    real = y_pred.dtype.type
    for label in range(2):
        for k in range(buckets.shape[1]):
            for j in range(columns):
                buckets[label, k, j] = 0
    for i in range(y_pred.shape[0]):
        for j in range(y_pred.shape[1]):
            weight = weights[i, j] if weights.size > 0 else 1.0
            clipped = min(max(y_pred[i, j], real(0)), real(1))
            below = int(math.ceil(clipped * real(steps))) if clipped == clipped else 0
            if zero_counts and clipped == clipped:
                below = max(below, 1)
            buckets[1 if y_true[i, j] != 0 else 0, below, min(j, columns - 1)] += weight
    for j in range(columns):
        above = buckets[:, :, j]
        positives, negatives = 0.0, 0.0
        for k in range(above.shape[1]):
            negatives += above[0, k]
            positives += above[1, k]
        true, false = 0.0, 0.0
        for t in range(steps, -1, -1):
            true += above[1, t + 1]
            false += above[0, t + 1]
            if tp.size > 0:
                tp[t, j] += true
            if fp.size > 0:
                fp[t, j] += false
            if tn.size > 0:
                tn[t, j] += negatives - false
            if fn.size > 0:
                fn[t, j] += positives - true
