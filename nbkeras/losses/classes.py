"""Classes of the loss functions, which add a reduction, sample weights and masks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbkeras.engine.option import given
from nbkeras.losses import functions
from nbkeras.losses.loss import LossFunctionWrapper, registry

_MEAN = "sum_over_batch_size"


class _Named(LossFunctionWrapper):
    """A wrapper with a class for each function, so that the configuration does not name the function."""

    def get_config(self) -> dict[str, Any]:
        return {option: value for option, value in super().get_config().items() if option != "fn"}


class _Plain(_Named):
    """A wrapper of a function without further arguments: `class Hinge(_Plain, fn=functions.hinge)`."""

    if TYPE_CHECKING:

        def __init__(self, reduction: str | None = _MEAN, name: str = "", dtype: Any = None): ...

    def __init_subclass__(cls, fn: Callable | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if fn is None:  # extends a class that has its function
            return

        def __init__(self, reduction: str | None = _MEAN, name: str = fn.__name__, dtype: Any = None):
            super().__init__(fn, reduction, name, dtype)

        __init__.__qualname__ = f"{cls.__name__}.__init__"  # as errors and `help` name it
        cls.__init__ = __init__  # type: ignore[method-assign]


@registry.register
class MeanSquaredError(_Plain, fn=functions.mean_squared_error):
    """Mean of mean_squared_error over the samples."""


@registry.register
class MeanAbsoluteError(_Plain, fn=functions.mean_absolute_error):
    """Mean of mean_absolute_error over the samples."""


@registry.register
class MeanAbsolutePercentageError(_Plain, fn=functions.mean_absolute_percentage_error):
    """Mean of mean_absolute_percentage_error over the samples."""


@registry.register
class MeanSquaredLogarithmicError(_Plain, fn=functions.mean_squared_logarithmic_error):
    """Mean of mean_squared_logarithmic_error over the samples."""


@registry.register
class CosineSimilarity(_Named):
    """Mean of cosine_similarity over the samples; -1 is the least."""

    def __init__(
        self, axis: int = -1, reduction: str | None = _MEAN, name: str = "cosine_similarity", dtype: Any = None
    ):
        super().__init__(functions.cosine_similarity, **given(locals()))


@registry.register
class Huber(_Named):
    """Mean of huber over the samples."""

    def __init__(self, delta: float = 1.0, reduction: str | None = _MEAN, name: str = "huber_loss", dtype: Any = None):
        super().__init__(functions.huber, **given(locals()))


@registry.register
class LogCosh(_Plain, fn=functions.log_cosh):
    """Mean of log_cosh over the samples."""


@registry.register
class Hinge(_Plain, fn=functions.hinge):
    """Mean of hinge over the samples."""


@registry.register
class SquaredHinge(_Plain, fn=functions.squared_hinge):
    """Mean of squared_hinge over the samples."""


@registry.register
class CategoricalHinge(_Plain, fn=functions.categorical_hinge):
    """Mean of categorical_hinge over the samples."""


@registry.register
class KLDivergence(_Plain, fn=functions.kl_divergence):
    """Mean of kl_divergence over the samples."""


@registry.register
class Poisson(_Plain, fn=functions.poisson):
    """Mean of poisson over the samples."""


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
        super().__init__(functions.binary_crossentropy, **given(locals()))


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
        super().__init__(functions.categorical_crossentropy, **given(locals()))


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
        super().__init__(functions.sparse_categorical_crossentropy, **given(locals()))


@registry.register
class BinaryFocalCrossentropy(_Named):
    """Mean of binary_focal_crossentropy over the samples."""

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "binary_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(functions.binary_focal_crossentropy, **given(locals()))


@registry.register
class CategoricalFocalCrossentropy(_Named):
    """Mean of categorical_focal_crossentropy over the samples."""

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "categorical_focal_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(functions.categorical_focal_crossentropy, **given(locals()))


@registry.register
class CategoricalGeneralizedCrossEntropy(_Named):
    """Mean of categorical_generalized_cross_entropy over the samples; 0 < q < 1."""

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = _MEAN,
        name: str = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        if not 0 < q < 1:
            raise ValueError(f"q must be between 0 and 1, received {q!r}")
        super().__init__(functions.categorical_generalized_cross_entropy, **given(locals()))


@registry.register
class Dice(_Named):
    """The Dice loss of the whole batch, or their mean over the axes that are left."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str = "dice",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ):
        super().__init__(functions.dice, **given(locals()))


@registry.register
class Tversky(_Named):
    """The Tversky loss of the whole batch, or their mean over the axes that are left."""

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = _MEAN,
        name: str = "tversky",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ):
        super().__init__(functions.tversky, **given(locals()))


@registry.register
class Circle(_Named):
    """Mean of circle over the samples whose loss is not 0."""

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = _MEAN,
        name: str = "circle",
        dtype: Any = None,
    ):
        super().__init__(functions.circle, **given(locals()))


@registry.register
class CTC(_Plain, fn=functions.ctc):
    """Mean of ctc over the samples."""
