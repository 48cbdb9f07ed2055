"""Area under the ROC or precision-recall curve, by counts at thresholds. Source: keras/src/metrics (Keras 3.15)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor
from nbkeras.metrics.confusion import _Confusion, _evenly
from nbkeras.ops.metrics import divide_no_nan


def _numbers(name: str, what: str, values: Any) -> list[float]:
    try:
        return [option.number_of(name, what, each) for each in values]
    except TypeError:
        raise TypeError(f"{name}: {what} must be numbers, received {briefly(values)}") from None


_Curve = Annotated[str, option.choice("ROC", "PR", "PRGAIN", any_case=True)]
_Summation = Annotated[str, option.choice("interpolation", "minoring", "majoring", any_case=True)]
_Numbers = Annotated[Any, option.optional(Annotated[Any, option.kind(_numbers, "numbers")])]
_Thresholds = Annotated[_Numbers, "init_thresholds"]
_Labels = Annotated[Any, option.optional(option.Size)]


class AUC(_Confusion):
    """Area under the ROC or precision-recall curve, from counts at thresholds.

    A prediction is positive above a threshold. With more thresholds the area is more exact.

    Args:
        num_thresholds (an integer above 1): The number of thresholds, at equal distances from 0 to 1.
        curve: 'ROC' (recall over false positive rate), 'PR' (precision over recall), or 'PRGAIN' (their gains over a
            classifier that always predicts true: Flach and Kull, NIPS 2015).
        summation_method: 'interpolation' (trapezoids; for 'PR', Davis and Goadrich, ICML 2006), 'minoring' (the lower
            end of each step) or 'majoring' (the upper end).
        thresholds: Thresholds between 0 and 1 in place of num_thresholds; 0 and 1 are added.
        multi_label: Whether each column of (batch, labels) has a separate area; the result is then the mean.
        num_labels: With multi_label, the number of labels; None for the first batch's.
        label_weights: A weight for each label: for its area with multi_label, otherwise for its predictions.
        from_logits: Whether predictions are scores before the sigmoid, instead of probabilities.

    Raises:
        ValueError: for an unknown curve or summation_method, num_thresholds below 2, num_labels without multi_label, and
            thresholds outside [0, 1].

    Example:
        >>> metric = metrics.AUC(num_thresholds=3)  # thresholds a little below 0, 0.5, a little above 1
        >>> float(metric([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
        0.75
        >>> model = keras.Sequential([layers.Dense(1, activation="sigmoid")])
        >>> model.compile("sgd", "binary_crossentropy", metrics=[metrics.AUC(curve="PR")])
    """

    _direction = "up"
    _zero_counts = True  # the first threshold is slightly below 0

    def __init__(
        self,
        num_thresholds: option.Anything = 200,
        curve: _Curve = "ROC",
        summation_method: _Summation = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: _Thresholds = None,
        multi_label: option.Flag = False,
        num_labels: _Labels = None,
        label_weights: _Numbers = None,
        from_logits: option.Flag = False,
    ):
        option.keep(self, locals())
        if self.num_labels and not self.multi_label:
            raise ValueError("AUC: num_labels is for multi_label=True only")
        if self.init_thresholds is None:
            if not isinstance(num_thresholds, int) or num_thresholds <= 1:
                raise ValueError(f"AUC: num_thresholds must be an integer > 1, received {briefly(num_thresholds)}")
            inner = _evenly(num_thresholds)[1:-1]
        else:
            self.init_thresholds.sort()
            inner = self.init_thresholds
            if inner and not (0 <= inner[0] and inner[-1] <= 1):
                raise ValueError(f"AUC: thresholds must be numbers from 0 to 1, received {briefly(thresholds)}")
        super().__init__([0.0, *inner, 1.0], None, name, dtype)
        self.thresholds[0], self.thresholds[-1] = -config.epsilon(), 1.0 + config.epsilon()
        self.num_thresholds = len(self.thresholds)
        if not self.multi_label:
            self._make_counters()
        elif self.num_labels:
            self._make_counters(self.num_labels)

    def _count(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None) -> None:
        if self.multi_label and (y_pred.ndim != 2 or (self.num_labels or y_pred.shape[1]) != y_pred.shape[1]):
            expected = f"(batch, {self.num_labels or 'labels'})"
            raise ValueError(
                f"AUC with multi_label=True expects predictions of shape {expected}, received {y_pred.shape}"
            )
        if not self._state:
            self._make_counters(y_pred.shape[1])
        if self.from_logits:
            y_pred = ops.sigmoid(y_pred)
        if self.label_weights is not None:
            if len(self.label_weights) != y_pred.shape[-1]:
                raise ValueError(f"AUC has {len(self.label_weights)} label_weights for predictions {y_pred.shape}")
            if not self.multi_label:
                of_labels = ops.broadcast_to(np.asarray(self.label_weights, y_pred.dtype), y_pred.shape)
                sample_weight = of_labels if sample_weight is None else ops.multiply(of_labels, sample_weight)
        super()._count(y_true, y_pred, sample_weight)

    def result(self) -> Tensor:
        if not self._state:
            return ops.zeros((), self.dtype)
        tp, fp, tn, fn = self.true_positives, self.false_positives, self.true_negatives, self.false_negatives
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self._mean_over_labels(_interpolated_precision(tp, fp, fn))
        recall = divide_no_nan(tp, ops.add(tp, fn))
        if self.curve == "ROC":
            x, y = divide_no_nan(fp, ops.add(fp, tn)), recall
        elif self.curve == "PR":
            x, y = recall, divide_no_nan(tp, ops.add(tp, fp))
        else:
            x, y = _gains(tp, fp, tn, fn)
        before, after = y[:-1], y[1:]
        if self.summation_method == "interpolation":
            heights = (before + after) / 2.0
        else:
            heights = (ops.minimum if self.summation_method == "minoring" else ops.maximum)(before, after)
        return self._mean_over_labels((x[:-1] - x[1:]) * heights)

    def _mean_over_labels(self, terms: Tensor) -> Tensor:
        areas = ops.sum(terms, axis=0)
        if not self.multi_label:
            return ops.cast(areas, self.dtype)
        if self.label_weights is None:
            return ops.cast(ops.mean(areas), self.dtype)
        weights = np.asarray(self.label_weights)
        return ops.cast(ops.sum(areas * (weights / (weights.sum() or 1.0))), self.dtype)


def _gains(tp: Any, fp: Any, tn: Any, fn: Any) -> tuple[Tensor, Tensor]:
    """Recall gain and precision gain: 0 and 1 without true positives; a recall gain below 0 becomes 0, as in Keras."""
    scale = divide_no_nan(tp + fn, tn + fp)
    recall, precision = (1.0 - scale * divide_no_nan(wrong, tp) for wrong in (fn, fp))
    return ops.maximum(ops.where(tp > 0, recall, 0.0), 0.0), ops.where(tp > 0, precision, 1.0)


def _interpolated_precision(tp: Any, fp: Any, fn: Any) -> Tensor:
    """Areas between adjacent thresholds under precision as a function of recall; tp is assumed linear in tp + fp."""
    positives = tp + fp
    true_step, step = tp[:-1] - tp[1:], ops.maximum(positives[:-1] - positives[1:], 0.0)
    slope = divide_no_nan(true_step, step)
    intercept = tp[1:] - slope * positives[1:]
    inside = ops.logical_and(positives[:-1] > 0, positives[1:] > 0)
    ratio = ops.where(inside, divide_no_nan(positives[:-1], positives[1:]), 1.0)
    return divide_no_nan(slope * (true_step + intercept * ops.log(ratio)), ops.maximum(tp[1:] + fn[1:], 0.0))
