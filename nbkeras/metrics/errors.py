"""Losses as metrics: their means over all samples."""

from typing import Any

from nbkeras import ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor
from nbkeras.losses import functions as losses
from nbkeras.losses.loss import pair
from nbkeras.metrics.metric import FunctionMetric, Mean, functions, metric_function

for _name, _function in vars(losses).items():
    if getattr(_function, "__module__", None) == losses.__name__ and not _name.startswith("_"):
        functions.register(_function, _name)


class MeanSquaredError(FunctionMetric, fn=losses.mean_squared_error, names=("mse", "MSE")):
    """Mean of (y_true - y_pred)^2: `mean_squared_error`, averaged over the samples.

    Example:
        >>> float(metrics.MeanSquaredError()([[0, 1], [0, 0]], [[1, 1], [0, 0]]))
        0.25
    """


class RootMeanSquaredError(Mean):
    """Square root of the mean of (y_true - y_pred)^2 over all batches.

    Example:
        >>> float(metrics.RootMeanSquaredError()([[0, 1], [0, 0]], [[1, 1], [0, 0]]))
        0.5
    """

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:  # type: ignore[override]
        """Add the squared differences of a batch.

        Args:
            y_true: Targets, numbers of the predictions' shape; they may have a last axis of size 1 more or less.
            y_pred: Predictions, numbers of any shape.
            sample_weight: A weight for each sample (or for each timestep); None for 1.
        """
        y_true, y_pred = pair(y_true, y_pred)
        super().update_state(ops.square(y_pred - y_true), sample_weight)

    def result(self) -> Tensor:
        return ops.sqrt(super().result())


class MeanAbsoluteError(FunctionMetric, fn=losses.mean_absolute_error, names=("mae", "MAE")):
    """Mean of |y_true - y_pred|: `mean_absolute_error`, averaged over the samples.

    Example:
        >>> float(metrics.MeanAbsoluteError()([[0, 1], [0, 0]], [[2, 1], [0, 0]]))
        0.5
    """


class MeanAbsolutePercentageError(FunctionMetric, fn=losses.mean_absolute_percentage_error, names=("mape", "MAPE")):
    """Mean of 100 |y_true - y_pred| / |y_true|: `mean_absolute_percentage_error`, averaged over the samples.

    Example:
        >>> float(metrics.MeanAbsolutePercentageError()([[1.0], [2.0]], [[1.5], [2.0]]))
        25.0
    """


class MeanSquaredLogarithmicError(FunctionMetric, fn=losses.mean_squared_logarithmic_error, names=("msle", "MSLE")):
    """Mean of (log(1 + y_true) - log(1 + y_pred))^2: `mean_squared_logarithmic_error`, averaged over the samples.

    Example:
        >>> metric = metrics.MeanSquaredLogarithmicError()
        >>> round(float(metric([[np.e - 1], [0.0]], [[0.0], [0.0]])), 3)
        0.5
    """


@metric_function
def cosine_similarity(y_true, y_pred, axis: int = -1) -> Tensor:
    """The cosine of the angle between y_true and y_pred: sum(y_true / |y_true| * y_pred / |y_pred|).

    The loss with this name is its negative.

    Args:
        y_true: Targets, numbers of the predictions' shape.
        y_pred: Predictions, numbers of any shape.
        axis: The axis of the vectors.

    Returns:
        A float tensor without that axis: 1 for the same direction, -1 for the opposite one.

    Example:
        >>> metrics.cosine_similarity([[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [-3.0, 0.0]]).numpy()
        array([ 1., -1.], dtype=float32)
    """
    return -losses.cosine_similarity(y_true, y_pred, axis)


cosine = cosine_proximity = cosine_similarity


class CosineSimilarity(FunctionMetric, fn=cosine_similarity, names=("cosine_proximity", "cosine")):
    """Mean of the cosine of the angle between y_true and y_pred: 1 for the same direction, -1 for the opposite one.

    Args:
        axis: The axis of the vectors.

    Example:
        >>> float(metrics.CosineSimilarity()([[0.0, 1.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 1.0]]))
        0.5
    """

    _direction = "up"

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None, axis: int = -1):
        super().__init__(**option.keep(self, locals()))


class LogCoshError(FunctionMetric, fn=losses.log_cosh, name="logcosh", names=("logcosh", "log_cosh")):
    """Mean of log(cosh(y_pred - y_true)): `log_cosh`, averaged over the samples.

    Example:
        >>> round(float(metrics.LogCoshError()([[0.0], [0.0]], [[1.0], [0.0]])), 3)
        0.217
    """


class Hinge(FunctionMetric, fn=losses.hinge):
    """Mean of max(1 - y_true * y_pred, 0): `hinge`, averaged over the samples. Targets are -1 and 1, or 0 and 1.

    Example:
        >>> float(metrics.Hinge()([[-1], [1]], [[-2.0], [0.5]]))
        0.25
    """


class SquaredHinge(FunctionMetric, fn=losses.squared_hinge):
    """Mean of max(1 - y_true * y_pred, 0)^2: `squared_hinge`, averaged over the samples. Targets are -1 and 1, or 0 and 1.

    Example:
        >>> float(metrics.SquaredHinge()([[-1], [1]], [[-2.0], [0.0]]))
        0.5
    """


class CategoricalHinge(FunctionMetric, fn=losses.categorical_hinge):
    """Mean of `categorical_hinge` over the samples: max(1 + the largest false class's prediction - the true one's, 0).

    Targets are one-hot.

    Example:
        >>> float(metrics.CategoricalHinge()([[0, 1], [1, 0]], [[0.5, 2.0], [0.5, 1.0]]))
        0.75
    """


class KLDivergence(FunctionMetric, fn=losses.kl_divergence, names=("kullback_leibler_divergence", "kld", "KLD")):
    """Mean of sum(y_true * log(y_true / y_pred)): `kl_divergence`, averaged over the samples, for distributions (..., classes).

    Example:
        >>> round(float(metrics.KLDivergence()([[0.5, 0.5]], [[0.25, 0.75]])), 3)
        0.144
    """


class Poisson(FunctionMetric, fn=losses.poisson):
    """Mean of y_pred - y_true * log(y_pred): `poisson`, averaged over the samples.

    Example:
        >>> round(float(metrics.Poisson()([[1.0], [0.0]], [[1.0], [2.0]])), 3)
        1.5
    """


class BinaryCrossentropy(FunctionMetric, fn=losses.binary_crossentropy, names=("bce", "BCE")):
    """Mean of -(y_true * log(y_pred) + (1 - y_true) * log(1 - y_pred)): `binary_crossentropy`, averaged over the samples.

    Example:
        >>> round(float(metrics.BinaryCrossentropy()([[1], [0]], [[0.5], [0.5]])), 3)
        0.693
        >>> round(float(metrics.BinaryCrossentropy(from_logits=True)([[1], [0]], [[0.0], [0.0]])), 3)
        0.693
    """

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ):
        super().__init__(**option.keep(self, locals()))


class CategoricalCrossentropy(FunctionMetric, fn=losses.categorical_crossentropy):
    """Mean of -sum(y_true * log(y_pred)): `categorical_crossentropy`, averaged over the samples. Targets are one-hot.

    Args:
        axis: The axis of the classes.

    Example:
        >>> round(float(metrics.CategoricalCrossentropy()([[0, 1], [1, 0]], [[0.5, 0.5], [1.0, 0.0]])), 3)
        0.347
    """

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ):
        super().__init__(**option.keep(self, locals()))


class SparseCategoricalCrossentropy(FunctionMetric, fn=losses.sparse_categorical_crossentropy):
    """Mean of -log(the prediction of the target): `sparse_categorical_crossentropy`. Targets are class numbers.

    Args:
        ignore_class: Samples with this target have loss 0; None for no such target.
        axis: The axis of the classes.

    Example:
        >>> round(float(metrics.SparseCategoricalCrossentropy()([1, 0], [[0.5, 0.5], [1.0, 0.0]])), 3)
        0.347
    """

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        super().__init__(**option.keep(self, locals()))
