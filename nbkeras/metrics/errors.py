"""Losses as metrics: their means over all samples seen."""

from typing import Any

from nbkeras import losses, ops
from nbkeras.losses.loss import prediction, squeeze_or_expand_to_same_rank
from nbkeras.metrics.metric import FunctionMetric, Mean, functions, registry
from nbkeras.tensor import Tensor, as_tensor, op


@registry.register("mse", "MSE")
class MeanSquaredError(FunctionMetric):
    """Mean of mean_squared_error."""

    def __init__(self, name: str = "mean_squared_error", dtype: Any = None):
        super().__init__(losses.mean_squared_error, name, dtype)


@registry.register
class RootMeanSquaredError(Mean):
    """Square root of the mean of (y_pred - y_true)^2."""

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:  # type: ignore[override]
        y_pred = prediction(y_pred)
        y_true, y_pred = squeeze_or_expand_to_same_rank(as_tensor(y_true, y_pred.dtype), y_pred)
        super().update_state(ops.square(y_pred - y_true), sample_weight)

    def result(self) -> Tensor:
        return ops.sqrt(super().result())


@registry.register("mae", "MAE")
class MeanAbsoluteError(FunctionMetric):
    """Mean of mean_absolute_error."""

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = None):
        super().__init__(losses.mean_absolute_error, name, dtype)


@registry.register("mape", "MAPE")
class MeanAbsolutePercentageError(FunctionMetric):
    """Mean of mean_absolute_percentage_error."""

    def __init__(self, name: str = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(losses.mean_absolute_percentage_error, name, dtype)


@registry.register("msle", "MSLE")
class MeanSquaredLogarithmicError(FunctionMetric):
    """Mean of mean_squared_logarithmic_error."""

    def __init__(self, name: str = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(losses.mean_squared_logarithmic_error, name, dtype)


@functions.register
@op
def cosine_similarity(y_true, y_pred, axis: int = -1) -> Tensor:
    """sum(y_true / |y_true| * y_pred / |y_pred|): 1 for the same direction (the loss of that name is its negative)."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


@registry.register("cosine_proximity", "cosine")
class CosineSimilarity(FunctionMetric):
    """Mean of the cosine of the angle between y_true and y_pred: 1 for the same direction."""

    _direction = "up"

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None, axis: int = -1):
        super().__init__(cosine_similarity, name, dtype, axis=axis)


@registry.register("logcosh", "log_cosh")
class LogCoshError(FunctionMetric):
    """Mean of log_cosh."""

    def __init__(self, name: str = "logcosh", dtype: Any = None):
        super().__init__(losses.log_cosh, name, dtype)


@registry.register
class Hinge(FunctionMetric):
    """Mean of hinge."""

    def __init__(self, name: str = "hinge", dtype: Any = None):
        super().__init__(losses.hinge, name, dtype)


@registry.register
class SquaredHinge(FunctionMetric):
    """Mean of squared_hinge."""

    def __init__(self, name: str = "squared_hinge", dtype: Any = None):
        super().__init__(losses.squared_hinge, name, dtype)


@registry.register
class CategoricalHinge(FunctionMetric):
    """Mean of categorical_hinge."""

    def __init__(self, name: str = "categorical_hinge", dtype: Any = None):
        super().__init__(losses.categorical_hinge, name, dtype)


@registry.register("kullback_leibler_divergence", "kld", "KLD")
class KLDivergence(FunctionMetric):
    """Mean of kl_divergence."""

    def __init__(self, name: str = "kl_divergence", dtype: Any = None):
        super().__init__(losses.kl_divergence, name, dtype)


@registry.register
class Poisson(FunctionMetric):
    """Mean of poisson."""

    def __init__(self, name: str = "poisson", dtype: Any = None):
        super().__init__(losses.poisson, name, dtype)


@registry.register("bce", "BCE")
class BinaryCrossentropy(FunctionMetric):
    """Mean of binary_crossentropy."""

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ):
        constants = {"from_logits": from_logits, "label_smoothing": label_smoothing}
        super().__init__(losses.binary_crossentropy, name, dtype, **constants)


@registry.register
class CategoricalCrossentropy(FunctionMetric):
    """Mean of categorical_crossentropy."""

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
    ):
        constants = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(losses.categorical_crossentropy, name, dtype, **constants)


@registry.register
class SparseCategoricalCrossentropy(FunctionMetric):
    """Mean of sparse_categorical_crossentropy."""

    def __init__(
        self,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
    ):
        constants = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(losses.sparse_categorical_crossentropy, name, dtype, **constants)
