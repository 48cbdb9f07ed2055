"""Metrics of true and false positives and negatives at thresholds: counts, precision, recall, areas under curves.

Labels are true where not 0; predictions are probabilities, positive where above the threshold. Source:
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
from nbkeras.metrics.metric import Metric, registry
from nbkeras.ops.metrics import count_confusion, divide_no_nan

_LOWEST = -1e10  # below every prediction; top_k gives it to predictions that are not among the k largest

_COUNTERS = {"tp": "true_positives", "fp": "false_positives", "tn": "true_negatives", "fn": "false_negatives"}


class _Confusion(Metric):
    """Counters at thresholds and their update; `_counted` names the counters that a subclass needs."""

    _counted: Sequence[str] = ("tp", "fp", "tn", "fn")
    _zero_counts = False
    true_positives: Variable
    false_positives: Variable
    true_negatives: Variable
    false_negatives: Variable

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
    """y_pred where it is among the k largest of its last axis, a very low number elsewhere."""
    _, indices = ops.top_k(y_pred, k)
    chosen = ops.sum(ops.one_hot(indices, y_pred.shape[-1], axis=-1), axis=-2)
    return ops.where(chosen > 0, y_pred, _LOWEST)


def _only_class(x: Tensor, class_id: int) -> Tensor:
    if x.ndim < 2 or not -x.shape[-1] <= class_id < x.shape[-1]:
        raise ValueError(f"class_id={class_id} needs predictions of shape (batch, classes), received {x.shape}")
    return ops.expand_dims(ops.getitem(x, (..., class_id)), -1)


def _checked_thresholds(thresholds: Any, default: float) -> list[float]:
    found = [default] if thresholds is None else list(np.atleast_1d(thresholds).tolist())
    if thresholds is not None and not all(isinstance(t, int | float) and 0 <= t <= 1 for t in found):
        raise ValueError(f"thresholds must be numbers from 0 to 1, received {thresholds!r}")
    return found


def evenly(count: int) -> list[float]:
    """`count` thresholds at equal distances from 0 to 1."""
    load_budget.take(64 * count, f"a metric with {count} thresholds")
    return [i / (count - 1) for i in range(count)]


def _count(name: str, what: str, value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"{name}: {what} must be an integer > 0, received {briefly(value)}")
    return value


Count = Annotated[int, option.kind(_count, "a positive integer")]
Thresholds = Annotated[option.Anything, "init_thresholds"]


class _Count(_Confusion):
    """The value of one counter."""

    def __init__(self, thresholds: Thresholds = None, name: str | None = None, dtype: Any = None):
        super().__init__(_checked_thresholds(thresholds, 0.5), None, name, dtype)
        option.keep(self, locals())
        self._make_counters()

    def result(self) -> Tensor:
        return self._single(ops.cast(getattr(self, _COUNTERS[self._counted[0]]), self.dtype))


@registry.register
class TruePositives(_Count):
    """Sum of the weights of true samples predicted above the threshold (0.5 by default)."""

    _counted = ("tp",)


@registry.register
class FalsePositives(_Count):
    """Sum of the weights of false samples predicted above the threshold (0.5 by default)."""

    _counted = ("fp",)


@registry.register
class TrueNegatives(_Count):
    """Sum of the weights of false samples predicted at or below the threshold (0.5 by default)."""

    _counted = ("tn",)


@registry.register
class FalseNegatives(_Count):
    """Sum of the weights of true samples predicted at or below the threshold (0.5 by default)."""

    _counted = ("fn",)


class _Rate(_Confusion):
    """tp / (tp + another counter)."""

    _direction = "up"

    def __init__(
        self,
        thresholds: Thresholds = None,
        top_k: option.Anything = None,
        class_id: option.Anything = None,
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


@registry.register
class Precision(_Rate):
    """tp / (tp + fp): the part of the positive predictions that is true. top_k: positive are the k largest of each sample."""

    _counted = ("tp", "fp")


@registry.register
class Recall(_Rate):
    """tp / (tp + fn): the part of the true labels that is predicted. top_k: positive are the k largest of each sample."""

    _counted = ("tp", "fn")


class _AtConstraint(_Confusion):
    """The largest of one rate over the thresholds where another is at least a given value."""

    _direction = "up"
    _value_name = ""  # the rate that is constrained, and the argument that says how
    _wanted = ""  # the rate of which the result is the best value

    def __init__(self, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any):
        super().__init__([0.5] if num_thresholds == 1 else evenly(num_thresholds), class_id, name, dtype)
        self._make_counters()

    def result(self) -> Tensor:
        limit, rate = (
            divide_no_nan(x, ops.add(x, y)) for x, y in map(self._counters, (self._value_name, self._wanted))
        )
        return ops.cast(ops.max(ops.where(limit >= getattr(self, self._value_name), rate, 0.0)), self.dtype)

    def _counters(self, rate: str) -> tuple[Tensor, Tensor]:
        """Two counters; the rate is the first divided by their sum."""
        tp, fp, tn, fn = (getattr(self, name) for name in _COUNTERS.values())
        return {"sensitivity": (tp, fn), "recall": (tp, fn), "specificity": (tn, fp), "precision": (tp, fp)}[rate]


@registry.register
class SensitivityAtSpecificity(_AtConstraint):
    """The best sensitivity (recall) where specificity is at least a given value."""

    _value_name, _wanted = "specificity", "sensitivity"

    def __init__(
        self,
        specificity: option.Rate,
        num_thresholds: Count = 200,
        class_id: option.Anything = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        option.keep(self, locals())
        super().__init__(num_thresholds, class_id, name, dtype)


@registry.register
class SpecificityAtSensitivity(_AtConstraint):
    """The best specificity where sensitivity (recall) is at least a given value."""

    _value_name, _wanted = "sensitivity", "specificity"

    def __init__(
        self,
        sensitivity: option.Rate,
        num_thresholds: Count = 200,
        class_id: option.Anything = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        option.keep(self, locals())
        super().__init__(num_thresholds, class_id, name, dtype)


@registry.register
class PrecisionAtRecall(_AtConstraint):
    """The best precision where recall is at least a given value."""

    _value_name, _wanted = "recall", "precision"

    def __init__(
        self,
        recall: option.Rate,
        num_thresholds: Count = 200,
        class_id: option.Anything = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        option.keep(self, locals())
        super().__init__(num_thresholds, class_id, name, dtype)


@registry.register
class RecallAtPrecision(_AtConstraint):
    """The best recall where precision is at least a given value."""

    _value_name, _wanted = "precision", "recall"

    def __init__(
        self,
        precision: option.Rate,
        num_thresholds: Count = 200,
        class_id: option.Anything = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        option.keep(self, locals())
        super().__init__(num_thresholds, class_id, name, dtype)
