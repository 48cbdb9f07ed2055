"""F-scores: weighted harmonic means of precision and recall. Source: keras/src/metrics/f_score_metrics.py (Keras 3.15)."""

from __future__ import annotations

from typing import Annotated, Any

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.losses.loss import prediction
from nbkeras.metrics.metric import Metric, check_columns, registry

_COUNTS = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")


def _beta(name: str, what: str, beta: Any) -> Any:
    if not isinstance(beta, int | float) or beta <= 0:
        raise ValueError(f"{name}: {what} must be a number > 0, received {beta!r}")
    return beta


def _threshold(name: str, what: str, threshold: Any) -> Any:
    if threshold is not None and not (isinstance(threshold, int | float) and 0 < threshold <= 1):
        raise ValueError(f"{name}: {what} must be a number > 0 and <= 1, received {threshold!r}")
    return threshold


Average = Annotated[str | None, option.choice(None, "micro", "macro", "weighted")]
Beta = Annotated[Any, option.kind(_beta, "a number above 0")]
Threshold = Annotated[
    Any, option.kind(_threshold, "a number above 0, at most 1, or None for the largest of each sample")
]


@registry.register
class FBetaScore(Metric):
    """(1 + beta^2) precision recall / (beta^2 precision + recall), for targets and predictions (batch, classes).

    average: None for one score for each class, 'micro' for the score of all counts together, 'macro' for the mean of the
    scores, 'weighted' for their mean by the number of true samples. threshold: predictions above it are positive; None: the
    largest of each sample is.
    """

    _direction = "up"

    def __init__(
        self,
        average: Average = None,
        beta: Beta = 1.0,
        threshold: Threshold = None,
        name: str | None = "fbeta_score",
        dtype: Any = None,
    ):
        super().__init__(name, dtype)
        option.keep(self, locals())
        self._built = False

    def _build(self, classes: int) -> None:
        for name in _COUNTS:
            setattr(self, name, self._total(name, () if self.average == "micro" else (classes,)))
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        y_pred = prediction(y_pred)
        y_true = as_tensor(y_true, y_pred.dtype)
        check_columns(self.name, y_true, y_pred, "classes")
        if not self._built:
            self._build(y_pred.shape[1])
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
        if not self._built:
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


@registry.register
class F1Score(FBetaScore):
    """FBetaScore with beta = 1: 2 precision recall / (precision + recall)."""

    def __init__(
        self,
        average: Average = None,
        threshold: Threshold = None,
        name: str | None = "f1_score",
        dtype: Any = None,
    ):
        super().__init__(average, 1.0, threshold, name, dtype)
