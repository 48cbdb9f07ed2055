"""The loss functions as classes, which add a reduction, sample weights and masks."""

from typing import Any

from nbkeras.losses import functions
from nbkeras.losses.loss import LossFunctionWrapper, registry

_MEAN = "sum_over_batch_size"


class _Named(LossFunctionWrapper):
    """A wrapper whose function is known by the class."""

    def get_config(self) -> dict[str, Any]:
        values = super().get_config()
        del values["fn"]
        return values


@registry.register
class MeanSquaredError(_Named):
    """Mean of mean_squared_error over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "mean_squared_error", dtype: Any = None):
        super().__init__(functions.mean_squared_error, reduction, name, dtype)


@registry.register
class MeanAbsoluteError(_Named):
    """Mean of mean_absolute_error over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "mean_absolute_error", dtype: Any = None):
        super().__init__(functions.mean_absolute_error, reduction, name, dtype)


@registry.register
class MeanAbsolutePercentageError(_Named):
    """Mean of mean_absolute_percentage_error over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "mean_absolute_percentage_error", dtype: Any = None):
        super().__init__(functions.mean_absolute_percentage_error, reduction, name, dtype)


@registry.register
class MeanSquaredLogarithmicError(_Named):
    """Mean of mean_squared_logarithmic_error over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "mean_squared_logarithmic_error", dtype: Any = None):
        super().__init__(functions.mean_squared_logarithmic_error, reduction, name, dtype)


@registry.register
class CosineSimilarity(_Named):
    """Mean of cosine_similarity over the samples; -1 is the least."""

    def __init__(
        self, axis: int = -1, reduction: str | None = _MEAN, name: str = "cosine_similarity", dtype: Any = None
    ):
        super().__init__(functions.cosine_similarity, reduction, name, dtype, axis=axis)


@registry.register
class Huber(_Named):
    """Mean of huber over the samples."""

    def __init__(self, delta: float = 1.0, reduction: str | None = _MEAN, name: str = "huber_loss", dtype: Any = None):
        super().__init__(functions.huber, reduction, name, dtype, delta=delta)


@registry.register
class LogCosh(_Named):
    """Mean of log_cosh over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "log_cosh", dtype: Any = None):
        super().__init__(functions.log_cosh, reduction, name, dtype)


@registry.register
class Hinge(_Named):
    """Mean of hinge over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "hinge", dtype: Any = None):
        super().__init__(functions.hinge, reduction, name, dtype)


@registry.register
class SquaredHinge(_Named):
    """Mean of squared_hinge over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "squared_hinge", dtype: Any = None):
        super().__init__(functions.squared_hinge, reduction, name, dtype)


@registry.register
class CategoricalHinge(_Named):
    """Mean of categorical_hinge over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "categorical_hinge", dtype: Any = None):
        super().__init__(functions.categorical_hinge, reduction, name, dtype)


@registry.register
class KLDivergence(_Named):
    """Mean of kl_divergence over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "kl_divergence", dtype: Any = None):
        super().__init__(functions.kl_divergence, reduction, name, dtype)


@registry.register
class Poisson(_Named):
    """Mean of poisson over the samples."""

    def __init__(self, reduction: str | None = _MEAN, name: str = "poisson", dtype: Any = None):
        super().__init__(functions.poisson, reduction, name, dtype)


@registry.register
class BinaryCrossentropy(_Named):
    """Mean of binary_crossentropy over the samples."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ):
        constants = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(functions.binary_crossentropy, reduction, name, dtype, **constants)


@registry.register
class CategoricalCrossentropy(_Named):
    """Mean of categorical_crossentropy over the samples."""

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ):
        constants = {"from_logits": from_logits, "label_smoothing": label_smoothing, "axis": axis}
        super().__init__(functions.categorical_crossentropy, reduction, name, dtype, **constants)


@registry.register
class SparseCategoricalCrossentropy(_Named):
    """Mean of sparse_categorical_crossentropy over the samples."""

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = _MEAN,
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        constants = {"from_logits": from_logits, "ignore_class": ignore_class, "axis": axis}
        super().__init__(functions.sparse_categorical_crossentropy, reduction, name, dtype, **constants)
