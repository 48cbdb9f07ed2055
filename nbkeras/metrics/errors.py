"""Losses as metrics: their means over all samples."""

from typing import Any

from nbkeras import losses, ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor, op
from nbkeras.losses.loss import pair
from nbkeras.metrics.metric import FunctionMetric, Mean, PlainFunctionMetric, functions, registry


@registry.register("mse", "MSE")
class MeanSquaredError(PlainFunctionMetric, fn=losses.mean_squared_error):
    """Mean of mean_squared_error."""


@registry.register
class RootMeanSquaredError(Mean):
    """Square root of the mean of (y_pred - y_true)^2."""

    _direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None):
        super().__init__(name, dtype)

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:  # type: ignore[override]
        y_true, y_pred = pair(y_true, y_pred)
        super().update_state(ops.square(y_pred - y_true), sample_weight)

    def result(self) -> Tensor:
        return ops.sqrt(super().result())


@registry.register("mae", "MAE")
class MeanAbsoluteError(PlainFunctionMetric, fn=losses.mean_absolute_error):
    """Mean of mean_absolute_error."""


@registry.register("mape", "MAPE")
class MeanAbsolutePercentageError(PlainFunctionMetric, fn=losses.mean_absolute_percentage_error):
    """Mean of mean_absolute_percentage_error."""


@registry.register("msle", "MSLE")
class MeanSquaredLogarithmicError(PlainFunctionMetric, fn=losses.mean_squared_logarithmic_error):
    """Mean of mean_squared_logarithmic_error."""


@functions.register
@op
def cosine_similarity(y_true, y_pred, axis: int = -1) -> Tensor:
    """sum(y_true / |y_true| * y_pred / |y_pred|): 1 for the same direction (the loss of this name is the negative of it)."""
    return -losses.cosine_similarity(y_true, y_pred, axis)


@registry.register("cosine_proximity", "cosine")
class CosineSimilarity(FunctionMetric):
    """Mean of the cosine of the angle between y_true and y_pred: 1 for the same direction."""

    _direction = "up"

    def __init__(self, name: str = "cosine_similarity", dtype: Any = None, axis: int = -1):
        super().__init__(cosine_similarity, **option.given(locals()))


@registry.register("logcosh", "log_cosh")
class LogCoshError(PlainFunctionMetric, fn=losses.log_cosh, name="logcosh"):
    """Mean of log_cosh."""


@registry.register
class Hinge(PlainFunctionMetric, fn=losses.hinge):
    """Mean of hinge."""


@registry.register
class SquaredHinge(PlainFunctionMetric, fn=losses.squared_hinge):
    """Mean of squared_hinge."""


@registry.register
class CategoricalHinge(PlainFunctionMetric, fn=losses.categorical_hinge):
    """Mean of categorical_hinge."""


@registry.register("kullback_leibler_divergence", "kld", "KLD")
class KLDivergence(PlainFunctionMetric, fn=losses.kl_divergence):
    """Mean of kl_divergence."""


@registry.register
class Poisson(PlainFunctionMetric, fn=losses.poisson):
    """Mean of poisson."""


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
        super().__init__(losses.binary_crossentropy, **option.given(locals()))


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
        super().__init__(losses.categorical_crossentropy, **option.given(locals()))


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
        super().__init__(losses.sparse_categorical_crossentropy, **option.given(locals()))
