"""F-scores: weighted harmonic means of precision and recall. Source: keras/src/metrics/f_score_metrics.py (Keras 3.15)."""

from __future__ import annotations

from typing import Annotated, Any

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.losses.loss import prediction
from nbkeras.metrics.metric import Metric, check_columns

_COUNTS = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")


_Average = Annotated[str | None, option.choice(None, "micro", "macro", "weighted")]
_Part = Annotated[Any, option.bounded("a number above 0, at most 1", lambda x: 0 < x <= 1, "> 0 and <= 1")]
_Threshold = Annotated[Any, option.optional(_Part)]


class FBetaScore(Metric):
    """Weighted harmonic mean of precision and recall: (1 + beta^2) precision recall / (beta^2 precision + recall).

    Targets (batch, classes) are 0 or 1; predictions have the same shape.

    Args:
        average: None for a score for each class, 'micro' for the score from all counts together, 'macro' for the mean of the
            scores, 'weighted' for their mean weighted by the number of true targets.
        beta: The weight of recall: above 1 recall counts more than precision, below 1 less.
        threshold: The number above which a prediction is positive; None: the largest of each sample is positive, unless it is 0.

    Raises:
        ValueError: for an unknown average, a beta or threshold out of range, and inputs that are not matrices of the same shape.

    Example:
        >>> metric = metrics.FBetaScore(beta=2.0, threshold=0.5)
        >>> metric([[1, 1], [1, 0], [1, 1], [0, 0]], [[0.9, 0.6], [0.1, 0.6], [0.2, 0.7], [0.1, 0.3]]).numpy().round(3)
        array([0.385, 0.909], dtype=float32)
    """

    _direction = "up"

    def __init__(
        self,
        average: _Average = None,
        beta: option.Above0 = 1.0,
        threshold: _Threshold = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Count a batch.

        Args:
            y_true: Targets (batch, classes), 0 or 1.
            y_pred: Predictions (batch, classes).
            sample_weight: A weight for each sample; None for 1.

        Raises:
            ValueError: unless both are matrices of the same shape.
        """
        y_pred = prediction(y_pred)
        y_true = as_tensor(y_true, y_pred.dtype)
        check_columns(self.name, y_true, y_pred, "classes")
        if not self._state:
            for name in _COUNTS:
                setattr(self, name, self._total(name, () if self.average == "micro" else y_pred.shape[1:]))
        if self.threshold is None:
            positive = ops.logical_and(y_pred >= ops.max(y_pred, axis=-1, keepdims=True), ops.abs(y_pred) > 1e-9)
        else:
            positive = y_pred > self.threshold
        said = ops.cast(positive, y_pred.dtype)
        weight = 1.0 if sample_weight is None else ops.reshape(as_tensor(sample_weight, y_pred.dtype), (-1, 1))
        counted = (said * y_true, said * (1.0 - y_true), (1.0 - said) * y_true, y_true)
        for name, values in zip(_COUNTS, counted, strict=True):
            total = ops.sum(ops.multiply(values, weight), axis=None if self.average == "micro" else 0)
            getattr(self, name).assign_add(total)

    def result(self) -> Tensor:
        if not self._state:
            return ops.zeros((), self.dtype)
        tp, fp, fn, weights = (getattr(self, name) for name in _COUNTS)
        epsilon = config.epsilon()
        precision, recall = tp / (tp + fp + epsilon), tp / (tp + fn + epsilon)
        score = (1 + self.beta**2) * precision * recall / (self.beta**2 * precision + recall + epsilon)
        if self.average == "weighted":
            score = ops.sum(score * weights / (ops.sum(weights) + epsilon))
        elif self.average is not None:
            score = ops.mean(score)
        return ops.cast(score, self.dtype)


class F1Score(FBetaScore):
    """Harmonic mean of precision and recall: 2 precision recall / (precision + recall), `FBetaScore` with beta = 1.

    Example:
        >>> y_true, y_pred = [[1, 1], [1, 0], [1, 1]], [[0.9, 0.6], [0.1, 0.6], [0.2, 0.7]]
        >>> metrics.F1Score(threshold=0.5)(y_true, y_pred).numpy().round(3)
        array([0.5, 0.8], dtype=float32)
        >>> round(float(metrics.F1Score(average="macro", threshold=0.5)(y_true, y_pred)), 3)
        0.65
    """

    def __init__(
        self,
        average: _Average = None,
        threshold: _Threshold = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average, 1.0, threshold, name, dtype)
