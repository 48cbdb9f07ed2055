"""Metrics of regression: R2 and correlations. Sources: keras/src/metrics/regression_metrics.py and
correlation_metrics.py (Keras 3.15)."""

from __future__ import annotations

from typing import Annotated, Any

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.losses.loss import pair
from nbkeras.metrics.metric import FunctionMetric, Metric, check_columns, metric_function

_Aggregation = Annotated[str | None, option.choice(None, "uniform_average", "variance_weighted_average")]


class R2Score(Metric):
    """Coefficient of determination: 1 - sum((y_true - y_pred)^2) / sum((y_true - mean)^2), for (batch, outputs).

    It is 1 for exact predictions, and 0 for predictions that are always the mean of y_true.

    Args:
        class_aggregation: 'uniform_average' for the mean of the columns' scores, 'variance_weighted_average' for the
            mean weighted by the variance of y_true, None for a score for each column.
        num_regressors: The number p of predictors to adjust for, 1 - (1 - R2)(n - 1) / (n - p - 1) if n is above p + 1; 0 for
            no adjustment. As in Keras, n is the number of samples times the number of outputs, so the adjustment is right for
            one output only.

    Raises:
        ValueError: for an unknown class_aggregation, num_regressors below 0, and inputs that are not matrices of the same shape.

    Example:
        >>> float(metrics.R2Score()([[1], [2], [3]], [[1], [2], [4]]))
        0.5
    """

    _direction = "up"

    def __init__(
        self,
        class_aggregation: _Aggregation = "uniform_average",
        num_regressors: option.AtLeast0 = 0,
        name: str | None = "r2_score",
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))
        self.num_samples = self._total("num_samples")
        self._built = False

    def _build(self, outputs: int) -> None:
        self.squared_sum, self.sum = self._total("squared_sum", (outputs,)), self._total("sum", (outputs,))
        self.total_mse, self.count = self._total("residual", (outputs,)), self._total("count", (outputs,))
        self._built = True

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Add a batch.

        Args:
            y_true: Targets (batch, outputs).
            y_pred: Predictions (batch, outputs).
            sample_weight: A weight for each sample, or for each number; None for 1.

        Raises:
            ValueError: unless both are matrices of the same shape.
        """
        y_true, y_pred = (ops.cast(each, "float64") for each in pair(y_true, y_pred))
        check_columns(self.name, y_true, y_pred, "outputs")
        if not self._built:
            self._build(y_pred.shape[1])
        weight = as_tensor(1.0 if sample_weight is None else sample_weight, "float64")
        weight = ops.broadcast_to(ops.expand_dims(weight, 1) if weight.ndim == 1 else weight, y_true.shape)
        weighted = y_true * weight
        self.sum.assign_add(ops.sum(weighted, axis=0))
        self.squared_sum.assign_add(ops.sum(y_true * weighted, axis=0))
        self.total_mse.assign_add(ops.sum(ops.square(y_true - y_pred) * weight, axis=0))
        self.count.assign_add(ops.sum(weight, axis=0))
        self.num_samples.assign_add(float(y_true.size))

    def result(self) -> Tensor:
        if not self._built:
            return ops.zeros((), self.dtype)
        total = self.squared_sum - ops.square(self.sum) / self.count
        scores = 1.0 - self.total_mse / total
        scores = ops.where(ops.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = ops.mean(scores)
        elif self.class_aggregation == "variance_weighted_average":
            scores = ops.sum(total * scores) / ops.sum(total)
        if self.num_regressors:
            spare = ops.subtract(self.num_samples, self.num_regressors + 1.0)
            adjusted = 1.0 - (1.0 - scores) * ops.subtract(self.num_samples, 1.0) / ops.maximum(spare, 1.0)
            scores = ops.where(spare > 0, adjusted, scores)
        return ops.cast(scores, self.dtype)


@metric_function
def pearson_correlation(y_true, y_pred, axis: int = -1) -> Tensor:
    """Pearson's correlation: mean((y_true - its mean) (y_pred - its mean)) / (their standard deviations) over an axis.

    Args:
        y_true: Targets, numbers of the predictions' shape.
        y_pred: Predictions, numbers of any shape.
        axis: The axis over which the correlation is computed.

    Returns:
        A float tensor without that axis, from -1 to 1; NaN where targets or predictions are constant.

    Example:
        >>> metrics.pearson_correlation([[1, 2, 3], [1, 2, 3]], [[2, 4, 6], [3, 2, 1]]).numpy().round(3)
        array([ 1., -1.], dtype=float32)
    """
    y_true, y_pred = (each - ops.mean(each, axis=axis, keepdims=True) for each in pair(y_true, y_pred))
    y_true, y_pred = (each / ops.std(each, axis=axis, keepdims=True) for each in (y_true, y_pred))
    return ops.mean(y_true * y_pred, axis=axis)


@metric_function
def concordance_correlation(y_true, y_pred, axis: int = -1) -> Tensor:
    """Lin's concordance correlation, 1 only for equal numbers.

    It is the mean of 2 (y_true - m)(y_pred - m) / (both variances + (difference of the means)^2) over an axis, where m is the
    mean of y_pred.

    Args:
        y_true: Targets, numbers of the predictions' shape.
        y_pred: Predictions, numbers of any shape.
        axis: The axis over which the correlation is computed.

    Returns:
        A float tensor without that axis, from -1 to 1.

    Example:
        >>> metrics.concordance_correlation([[1, 2, 3], [1, 2, 3]], [[1, 2, 3], [2, 3, 4]]).numpy().round(3)
        array([1.   , 0.571], dtype=float32)
    """
    y_true, y_pred = pair(y_true, y_pred)
    true_mean, mean = (ops.mean(each, axis=axis, keepdims=True) for each in (y_true, y_pred))
    spread = ops.var(y_true, axis=axis, keepdims=True) + ops.var(y_pred, axis=axis, keepdims=True)
    together = 2.0 * (y_true - mean) * (y_pred - mean)
    return ops.mean(together / (spread + ops.square(true_mean - mean) + config.epsilon()), axis=axis)


class PearsonCorrelation(FunctionMetric, fn=pearson_correlation):
    """Pearson's correlation of targets and predictions: the mean of `pearson_correlation` over the samples.

    As in Keras, it is NaN from the first sample on whose targets or predictions are all equal.

    Args:
        axis: The axis over which the correlation is computed: -1 within each sample, 0 within each batch.

    Example:
        >>> round(float(metrics.PearsonCorrelation()([[1, 2, 3]], [[2, 4, 6]])), 3)
        1.0
        >>> round(float(metrics.PearsonCorrelation(axis=0)([1, 2, 3], [3, 2, 1])), 3)
        -1.0
    """

    _direction = "up"

    def __init__(self, name: str = "pearson_correlation", dtype: Any = None, axis: int = -1):
        super().__init__(**option.keep(self, locals()))


class ConcordanceCorrelation(FunctionMetric, fn=concordance_correlation):
    """Lin's concordance correlation, which is 1 only for equal numbers.

    It is the mean of `concordance_correlation` over the samples.

    Args:
        axis: The axis over which the correlation is computed: -1 within each sample, 0 within each batch.

    Example:
        >>> round(float(metrics.ConcordanceCorrelation()([[1, 2, 3]], [[2, 3, 4]])), 3)
        0.571
    """

    _direction = "up"

    def __init__(self, name: str = "concordance_correlation", dtype: Any = None, axis: int = -1):
        super().__init__(**option.keep(self, locals()))
