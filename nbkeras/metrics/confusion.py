"""Metrics of true and false positives and negatives at thresholds: counts, precision, recall, areas under curves.

Nonzero labels are true; predictions are probabilities, positive if above the threshold. Source:
keras/src/metrics/confusion_metrics.py (Keras 3.15).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import load_budget, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.losses.loss import prediction, squeeze_or_expand_to_same_rank
from nbkeras.metrics.metric import Metric
from nbkeras.ops.metrics import count_confusion, divide_no_nan

_LOWEST = -1e10  # below every prediction; top_k gives it to predictions that are not among the k largest

_COUNTERS = {"tp": "true_positives", "fp": "false_positives", "tn": "true_negatives", "fn": "false_negatives"}


class _Confusion(Metric):
    """Counters at thresholds and their update; `_counted` names the counters that a subclass needs.

    Args:
        thresholds (a number, a list of numbers, or None): A prediction is positive above such a number from
            0 to 1; a list gives a result for each; None for 0.5.
        class_id: The only class (column) to evaluate, in targets and predictions (batch,
            classes); None for all.
    """

    _counted: Sequence[str] = ("tp", "fp", "tn", "fn")
    _zero_counts = False

    def __init__(self, thresholds: Sequence[float], class_id: int | None, name: str | None, dtype: Any):
        super().__init__(name, dtype)
        self.thresholds = list(thresholds)
        self.class_id = class_id
        self.top_k: int | None = None
        n = len(self.thresholds)
        self._evenly = n >= 3 and np.allclose(self.thresholds, np.arange(n) / (n - 1), atol=config.epsilon())

    def _make_counters(self, *labels: int) -> None:
        for key in self._counted:
            setattr(self, _COUNTERS[key], self._total(_COUNTERS[key], (len(self.thresholds), *labels)))

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Count a batch.

        Args:
            y_true: Targets of the predictions' shape, true if not 0.
            y_pred: Predictions of any shape.
            sample_weight: A weight for each sample, or for each prediction; None for 1.

        Raises:
            ValueError: if the shapes do not match.
        """
        y_pred = prediction(y_pred)
        y_true = as_tensor(y_true, y_pred.dtype)
        y_pred, y_true = squeeze_or_expand_to_same_rank(y_pred, y_true)
        if y_true.shape != y_pred.shape:
            raise ValueError(
                f"{self.name}: the targets' shape {y_true.shape} does not match the predictions' {y_pred.shape}; give a "
                "0 or 1 for each prediction"
            )
        if sample_weight is not None:
            sample_weight = as_tensor(sample_weight, y_pred.dtype)
            if sample_weight.ndim == y_pred.ndim - 1:
                sample_weight = ops.expand_dims(sample_weight, -1)
        if self.top_k is not None:
            y_pred = _only_top_k(y_pred, self.top_k)
        if self.class_id is not None:
            y_true, y_pred = _only_class(y_true, self.class_id), _only_class(y_pred, self.class_id)
        self._count(y_true, y_pred, sample_weight)

    def _count(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None) -> None:
        counters: dict[str, Variable] = {key: getattr(self, _COUNTERS[key]) for key in self._counted}
        count_confusion(y_true, y_pred, self.thresholds, counters, sample_weight, self._evenly, self._zero_counts)

    def _single(self, result: Tensor) -> Tensor:
        return ops.squeeze(result, 0) if len(self.thresholds) == 1 else result


def _only_top_k(y_pred: Tensor, k: int) -> Tensor:
    """y_pred where it is among the k largest on its last axis, a very low number elsewhere."""
    _, indices = ops.top_k(y_pred, k)
    chosen = ops.sum(ops.one_hot(indices, y_pred.shape[-1], axis=-1), axis=-2)
    return ops.where(chosen > 0, y_pred, _LOWEST)


def _only_class(x: Tensor, class_id: int) -> Tensor:
    if x.ndim < 2 or not -x.shape[-1] <= class_id < x.shape[-1]:
        raise ValueError(f"class_id={class_id} needs predictions of shape (batch, classes), received {x.shape}")
    return ops.expand_dims(ops.getitem(x, (..., class_id)), -1)


def _checked_thresholds(thresholds: Any, default: float) -> list[float]:
    is_several = isinstance(thresholds, list | tuple) or (isinstance(thresholds, np.ndarray) and thresholds.ndim > 0)
    given = thresholds if is_several else [thresholds]
    found = [default] if thresholds is None else [*given]
    if thresholds is not None and not all(isinstance(t, int | float | np.floating) and 0 <= t <= 1 for t in found):
        raise ValueError(f"thresholds must be numbers from 0 to 1, received {briefly(thresholds)}")
    return [float(each) for each in found]


def _evenly(count: int) -> list[float]:
    """`count` thresholds at equal distances from 0 to 1."""
    load_budget.take(64 * count, f"a metric with {briefly(count)} thresholds")
    if count > 10**6:  # each threshold takes an element of every counter
        raise ValueError(f"num_thresholds must be at most 1000000, received {count}")
    return [i / (count - 1) for i in range(count)]


_Thresholds = Annotated[option.Anything, "init_thresholds"]


class _Count(_Confusion):
    """The value of one counter.

    Raises:
        ValueError: for thresholds outside [0, 1].
    """

    def __init__(self, thresholds: _Thresholds = None, name: str | None = None, dtype: Any = None):
        super().__init__(_checked_thresholds(thresholds, 0.5), None, name, dtype)
        option.keep(self, locals())
        self._make_counters()

    def result(self) -> Tensor:
        return self._single(ops.cast(getattr(self, _COUNTERS[self._counted[0]]), self.dtype))


class TruePositives(_Count):
    """True positives: the weighted number of true targets that are predicted true.

    Nonzero targets are true; predictions are probabilities of the same shape.

    Example:
        >>> metric = metrics.TruePositives()
        >>> float(metric([0, 1, 1, 1], [0.1, 0.3, 0.7, 0.9]))
        2.0
        >>> metrics.TruePositives(thresholds=[0.2, 0.8])([0, 1, 1, 1], [0.1, 0.3, 0.7, 0.9]).numpy()
        array([3., 1.], dtype=float32)
    """

    _counted = ("tp",)


class FalsePositives(_Count):
    """False positives: the weighted number of false targets that are predicted true.

    Nonzero targets are true; predictions are probabilities of the same shape.

    Example:
        >>> float(metrics.FalsePositives()([0, 0, 1, 1], [0.1, 0.7, 0.3, 0.9]))
        1.0
    """

    _counted = ("fp",)


class TrueNegatives(_Count):
    """True negatives: the weighted number of false targets that are predicted false.

    Nonzero targets are true; predictions are probabilities of the same shape.

    Example:
        >>> float(metrics.TrueNegatives()([0, 0, 0, 1], [0.1, 0.2, 0.7, 0.3]))
        2.0
    """

    _counted = ("tn",)


class FalseNegatives(_Count):
    """False negatives: the weighted number of true targets that are predicted false.

    Nonzero targets are true; predictions are probabilities of the same shape.

    Example:
        >>> float(metrics.FalseNegatives()([0, 1, 1, 1], [0.1, 0.3, 0.7, 0.9]))
        1.0
    """

    _counted = ("fn",)


class _Rate(_Confusion):
    """tp / (tp + another counter).

    Args:
        top_k: The number of largest predictions per sample that can be positive, None for all;
            with it, thresholds=None means no threshold.
    """

    _direction = "up"

    def __init__(
        self,
        thresholds: _Thresholds = None,
        top_k: option.MaybeInteger = None,
        class_id: option.MaybeInteger = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        checked = _checked_thresholds(thresholds, 0.5 if top_k is None else _LOWEST)
        super().__init__(checked, class_id, name, dtype)
        option.keep(self, locals())
        self._make_counters()

    def result(self) -> Tensor:
        tp, other = (getattr(self, _COUNTERS[key]) for key in self._counted)
        return self._single(divide_no_nan(tp, ops.add(tp, other), self.dtype))


class Precision(_Rate):
    """The fraction of positive predictions that are correct: tp / (tp + fp), and 0 without positive predictions.

    Nonzero targets are true; predictions are probabilities of the same shape.

    Raises:
        ValueError: for thresholds outside [0, 1], and if class_id does not fit the predictions.

    Example:
        >>> float(metrics.Precision()([0, 1, 1, 1], [0.4, 0.8, 0.7, 0.3]))
        1.0
        >>> float(metrics.Precision(thresholds=0.2)([0, 1, 1, 1], [0.4, 0.8, 0.7, 0.3]))
        0.75
        >>> float(metrics.Precision(top_k=1)([[0, 1, 1], [0, 0, 1]], [[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]))
        0.5
    """

    _counted = ("tp", "fp")


class Recall(_Rate):
    """The fraction of true targets that are predicted true: tp / (tp + fn), and 0 without true targets.

    Nonzero targets are true; predictions are probabilities of the same shape.

    Raises:
        ValueError: for thresholds outside [0, 1], and where class_id does not fit the predictions.

    Example:
        >>> float(metrics.Recall()([0, 1, 1, 1, 1], [0.9, 0.8, 0.7, 0.6, 0.3]))
        0.75
        >>> metrics.Recall(thresholds=[0.2, 0.65])([0, 1, 1, 1, 1], [0.9, 0.8, 0.7, 0.6, 0.3]).numpy()
        array([1. , 0.5], dtype=float32)
    """

    _counted = ("tp", "fn")


class _AtConstraint(_Confusion):
    """The largest value of one rate over the thresholds that keep another rate at or above a given value.

    Args:
        num_thresholds: The number of thresholds to try, at equal distances from 0 to 1; 1 for only 0.5.
    """

    _direction = "up"
    _value_name = ""  # the constrained rate, and the argument with its minimum
    _maximized_name = ""  # the rate to maximize

    def __init__(self, num_thresholds: option.Size, class_id: option.MaybeInteger, name: str | None, dtype: Any):
        option.keep(self, locals())
        super().__init__(
            [0.5] if self.num_thresholds == 1 else _evenly(self.num_thresholds), self.class_id, name, dtype
        )
        self._make_counters()

    def result(self) -> Tensor:
        limit, rate = (
            divide_no_nan(x, ops.add(x, y)) for x, y in map(self._counters, (self._value_name, self._maximized_name))
        )
        return ops.cast(ops.max(ops.where(limit >= getattr(self, self._value_name), rate, 0.0)), self.dtype)

    def _counters(self, rate: str) -> tuple[Tensor, Tensor]:
        """Two counters; the rate is the first divided by their sum."""
        tp, fp, tn, fn = (getattr(self, name) for name in _COUNTERS.values())
        return {"sensitivity": (tp, fn), "recall": (tp, fn), "specificity": (tn, fp), "precision": (tp, fp)}[rate]


class SensitivityAtSpecificity(_AtConstraint):
    """The best sensitivity where specificity is at least a given value; 0 if no threshold reaches it.

    Sensitivity is tp / (tp + fn), specificity is tn / (tn + fp). Nonzero targets are true; predictions are
    probabilities of the same shape.

    Args:
        specificity: The minimum specificity.

    Raises:
        ValueError: for a specificity outside [0, 1], or num_thresholds below 1.

    Example:
        >>> metric = metrics.SensitivityAtSpecificity(0.5)
        >>> float(metric([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8]))
        0.5
    """

    _value_name, _maximized_name = "specificity", "sensitivity"

    def __init__(
        self,
        specificity: option.Rate,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class SpecificityAtSensitivity(_AtConstraint):
    """The best specificity where sensitivity is at least a given value; 0 if no threshold reaches it.

    Sensitivity is tp / (tp + fn), specificity is tn / (tn + fp). Nonzero targets are true; predictions are
    probabilities of the same shape.

    Args:
        sensitivity: The minimum sensitivity.

    Raises:
        ValueError: for a sensitivity outside [0, 1], or num_thresholds below 1.

    Example:
        >>> metric = metrics.SpecificityAtSensitivity(0.5)
        >>> float(metric([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9, 0.3, 0.8]))
        0.75
    """

    _value_name, _maximized_name = "sensitivity", "specificity"

    def __init__(
        self,
        sensitivity: option.Rate,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class PrecisionAtRecall(_AtConstraint):
    """The best precision where recall is at least a given value; 0 if no threshold reaches it.

    Precision is tp / (tp + fp), recall is tp / (tp + fn). Nonzero targets are true; predictions are
    probabilities of the same shape.

    Args:
        recall: The minimum recall.

    Raises:
        ValueError: for a recall outside [0, 1], or num_thresholds below 1.

    Example:
        >>> metric = metrics.PrecisionAtRecall(0.5)
        >>> float(metric([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8]))
        0.5
    """

    _value_name, _maximized_name = "recall", "precision"

    def __init__(
        self,
        recall: option.Rate,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class RecallAtPrecision(_AtConstraint):
    """The best recall where precision is at least a given value; 0 if no threshold reaches it.

    Precision is tp / (tp + fp), recall is tp / (tp + fn). Nonzero targets are true; predictions are
    probabilities of the same shape.

    Args:
        precision: The minimum precision.

    Raises:
        ValueError: for a precision outside [0, 1], or num_thresholds below 1.

    Example:
        >>> metric = metrics.RecallAtPrecision(0.8)
        >>> float(metric([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
        0.5
    """

    _value_name, _maximized_name = "precision", "recall"

    def __init__(
        self,
        precision: option.Rate,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))
