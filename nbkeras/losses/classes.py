"""Classes of the loss functions, which add a reduction, sample weights and masks."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.losses import functions
from nbkeras.losses.loss import LossFunctionWrapper

_MEAN = "sum_over_batch_size"


class _Named(LossFunctionWrapper):
    """A wrapper with a class for each function, so that the configuration need not name the function.

    The class statement names the function: `class Huber(_Named, fn=functions.huber)`. Its docstring explains the arguments.
    """

    _made_of: Callable  # the function

    if TYPE_CHECKING:

        def __init__(self, reduction: str | None = _MEAN, name: str = "", dtype: Any = None): ...

    else:

        def __init__(self, **options):
            super().__init__(type(self)._made_of, **options)
            vars(self).update(self.constants)  # `loss.from_logits`, as in Keras

    def __init_subclass__(cls, fn: Callable | None = None, **kwargs):
        if fn is not None:  # otherwise a base class has the function
            cls._made_of = fn  # type: ignore[assignment]
        if fn is not None and "__init__" not in vars(cls):  # the function has no further arguments

            def __init__(self, reduction: str | None = _MEAN, name: str = fn.__name__, dtype: Any = None):
                super().__init__(fn, reduction, name, dtype)

            __init__.__qualname__ = f"{cls.__name__}.__init__"  # as errors and `help` name it
            cls.__init__ = __init__  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        return {option: value for option, value in super().get_config().items() if option != "fn"}


class MeanSquaredError(_Named, fn=functions.mean_squared_error):
    """Mean squared error: mean((y_true - y_pred)^2), reduced over the samples.

    Example:
        >>> loss = losses.MeanSquaredError()
        >>> y_true, y_pred = [[0.0, 1.0], [0.0, 0.0]], [[1.0, 3.0], [0.0, 0.0]]
        >>> print(loss(y_true, y_pred).numpy())
        1.25
        >>> print(loss(y_true, y_pred, sample_weight=[0.2, 0.8]).numpy())
        0.25
        >>> losses.MeanSquaredError(reduction="none")(y_true, y_pred).numpy()
        array([2.5, 0. ], dtype=float32)
    """


class MeanAbsoluteError(_Named, fn=functions.mean_absolute_error):
    """Mean absolute error: mean(|y_true - y_pred|), reduced over the samples.

    Example:
        >>> loss = losses.MeanAbsoluteError()
        >>> print(loss([[0.0, 1.0]], [[1.0, 3.0]]).numpy())
        1.5
    """


class MeanAbsolutePercentageError(_Named, fn=functions.mean_absolute_percentage_error):
    """Mean absolute error in percent of the target, reduced over the samples.

        100 * mean(|y_true - y_pred| / max(|y_true|, epsilon))

    Example:
        >>> loss = losses.MeanAbsolutePercentageError()
        >>> print(loss([[1.0, 10.0]], [[2.0, 5.0]]).numpy())  # 100 % and 50 %
        75.0
    """


class MeanSquaredLogarithmicError(_Named, fn=functions.mean_squared_logarithmic_error):
    """Mean squared error of logarithms, for targets of different sizes, reduced over the samples.

        mean((log(max(y_true, epsilon) + 1) - log(max(y_pred, epsilon) + 1))^2)

    Example:
        >>> loss = losses.MeanSquaredLogarithmicError()
        >>> print(loss([[1.0, 100.0]], [[2.0, 200.0]]).numpy().round(3))
        0.319
    """


class CosineSimilarity(_Named, fn=functions.cosine_similarity):
    """Minus the cosine of the angle between target and prediction, reduced over the samples.

        -sum(y_true / |y_true| * y_pred / |y_pred|)

    It is -1 for equal directions, 0 for a right angle, 1 for opposite directions.

    Example:
        >>> loss = losses.CosineSimilarity()
        >>> print(loss([[1.0, 0.0]], [[5.0, 0.0]]).numpy())
        -1.0
    """

    def __init__(
        self, axis: int = -1, reduction: str | None = _MEAN, name: str = "cosine_similarity", dtype: Any = None
    ):
        super().__init__(**option.keep(self, locals()))


class Huber(_Named, fn=functions.huber):
    """Squared error for small errors, absolute error for large ones, reduced over the samples.

        mean(e^2 / 2 where |e| <= delta, else delta * |e| - delta^2 / 2), with e = y_true - y_pred

    Example:
        >>> loss = losses.Huber(delta=2.0)
        >>> print(loss([[0.0]], [[10.0]]).numpy())
        18.0
    """

    def __init__(self, delta: float = 1.0, reduction: str | None = _MEAN, name: str = "huber_loss", dtype: Any = None):
        super().__init__(**option.keep(self, locals()))


class LogCosh(_Named, fn=functions.log_cosh):
    """mean(log(cosh(y_pred - y_true))), computed without overflow, reduced over the samples.

    It is about e^2 / 2 for small errors e and |e| - log(2) for large ones.

    Example:
        >>> loss = losses.LogCosh()
        >>> print(loss([[0.0]], [[1.0]]).numpy().round(3))
        0.434
    """


class Hinge(_Named, fn=functions.hinge):
    """Hinge loss of labels -1 and 1 (or 0 and 1): mean(max(1 - y_true * y_pred, 0)), reduced over the samples.

    Example:
        >>> loss = losses.Hinge()
        >>> print(loss([[1.0], [-1.0]], [[2.0], [0.5]]).numpy())
        0.75
    """


class SquaredHinge(_Named, fn=functions.squared_hinge):
    """Squared hinge loss of labels -1 and 1 (or 0 and 1), reduced over the samples.

        mean(max(1 - y_true * y_pred, 0)^2)

    Example:
        >>> loss = losses.SquaredHinge()
        >>> print(loss([[1.0], [-1.0]], [[2.0], [0.5]]).numpy())
        1.125
    """


class CategoricalHinge(_Named, fn=functions.categorical_hinge):
    """Hinge loss of classes as one-hot vectors, reduced over the samples.

        max(max((1 - y_true) * y_pred) - sum(y_true * y_pred) + 1, 0)

    Example:
        >>> loss = losses.CategoricalHinge()
        >>> print(loss([[1.0, 0.0, 0.0]], [[2.0, 1.5, 0.0]]).numpy())
        0.5
    """


class KLDivergence(_Named, fn=functions.kl_divergence):
    """Kullback-Leibler divergence of distributions, reduced over the samples.

        sum(y_true * log(y_true / y_pred))

    Example:
        >>> loss = losses.KLDivergence()
        >>> print(loss([[0.5, 0.5]], [[0.25, 0.75]]).numpy().round(4))
        0.1438
    """


class Poisson(_Named, fn=functions.poisson):
    """Loss of counts with a Poisson distribution, reduced over the samples.

        mean(y_pred - y_true * log(y_pred + epsilon))

    Example:
        >>> loss = losses.Poisson()
        >>> print(loss([[1.0, 3.0]], [[1.0, 3.0]]).numpy().round(4))
        0.3521
    """


class BinaryCrossentropy(_Named, fn=functions.binary_crossentropy):
    """Cross-entropy of labels 0 and 1, reduced over the samples.

        mean(-y_true * log(p) - (1 - y_true) * log(1 - p))

    p is y_pred, or sigmoid(y_pred) with from_logits.

    Example:
        >>> loss = losses.BinaryCrossentropy(from_logits=True)
        >>> print(loss([[1.0], [0.0]], [[0.0], [0.0]]).numpy().round(4))
        0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "binary_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class CategoricalCrossentropy(_Named, fn=functions.categorical_crossentropy):
    """Cross-entropy of classes as one-hot vectors: -sum(y_true * log(p)), reduced over the samples.

    p is y_pred divided by its sum, or softmax(y_pred) with from_logits. `SparseCategoricalCrossentropy`
    takes class numbers.

    Example:
        >>> loss = losses.CategoricalCrossentropy()
        >>> print(loss([[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]]).numpy().round(4))
        0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = _MEAN,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class SparseCategoricalCrossentropy(_Named, fn=functions.sparse_categorical_crossentropy):
    """Cross-entropy of class numbers: -log(p[y_true]), reduced over the samples.

    p is y_pred divided by its sum, or softmax(y_pred) with from_logits.

    Example:
        >>> loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
        >>> print(loss([1, -1], [[0.25, 0.5, 0.25], [0.8, 0.1, 0.1]]).numpy().round(4))
        0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = _MEAN,
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class BinaryFocalCrossentropy(_Named, fn=functions.binary_focal_crossentropy):
    """Cross-entropy of labels 0 and 1 with less weight on easy examples, reduced over the samples.

    It is `BinaryCrossentropy` times (1 - p of the label)^gamma. Source: Lin et al., 2018.

    Example:
        >>> loss = losses.BinaryFocalCrossentropy(reduction="none")
        >>> loss([[1.0], [1.0]], [[0.8], [0.1]]).numpy().round(4)  # an easy example and a hard one
        array([0.0089, 1.8651], dtype=float32)
    """

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
        super().__init__(**option.keep(self, locals()))


class CategoricalFocalCrossentropy(_Named, fn=functions.categorical_focal_crossentropy):
    """Cross-entropy of one-hot classes with less weight on easy examples, reduced over the samples.

        -sum(alpha * (1 - p)^gamma * y_true * log(p))

    p is y_pred divided by its sum, or softmax(y_pred) with from_logits. Source: Lin et al., 2018.

    Example:
        >>> loss = losses.CategoricalFocalCrossentropy(alpha=[1.0, 3.0])
        >>> print(loss([[0.0, 1.0]], [[0.9, 0.1]]).numpy().round(4))
        5.5953
    """

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
        super().__init__(**option.keep(self, locals()))


class CategoricalGeneralizedCrossEntropy(_Named, fn=functions.categorical_generalized_cross_entropy):
    """Generalized cross-entropy of class numbers, for noisy labels, reduced over the samples.

        (1 - p[y_true]^q) / q

    Source: Zhang and Sabuncu, 2018.

    Raises:
        ValueError: if q is not between 0 and 1.

    Example:
        >>> loss = losses.CategoricalGeneralizedCrossEntropy(q=0.5)
        >>> print(loss([1], [[0.75, 0.25]]).numpy())
        1.0
    """

    def __init__(
        self,
        q: float = 0.5,
        reduction: str | None = _MEAN,
        name: str = "categorical_generalized_cross_entropy",
        dtype: Any = None,
    ):
        q = option.number_of(type(self).__name__, "q", q)
        if not 0 < q < 1:
            raise ValueError(f"q must be between 0 and 1, received {briefly(q)}")
        super().__init__(**option.keep(self, locals()))


class Dice(_Named, fn=functions.dice):
    """Dice loss of regions: 1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred)).

    It is one number for the whole batch; with `axis`, the remaining losses are reduced.

    Example:
        >>> loss = losses.Dice()
        >>> print(loss([[1.0, 1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0, 0.0]]).numpy().round(3))  # half is found
        0.5
    """

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str = "dice",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class Tversky(_Named, fn=functions.tversky):
    """Tversky loss of regions, which weights two kinds of errors.

        1 - tp / (tp + alpha * missed + beta * invented)
        tp = sum(y_true * y_pred), missed = sum(y_true * (1 - y_pred)), invented = sum((1 - y_true) * y_pred)

    It is one number for the whole batch; with `axis`, the remaining losses are reduced. Source: Salehi
    et al., 2017.

    Example:
        >>> loss = losses.Tversky(alpha=1.5)
        >>> print(loss([[1.0, 1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]).numpy().round(3))  # two were missed
        0.75
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = _MEAN,
        name: str = "tversky",
        axis: int | Sequence[int] | None = None,
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class Circle(_Named, fn=functions.circle):
    """Circle loss of embeddings: pulls vectors of the same class together and pushes others apart (Sun et al., 2020).

    softplus(logsumexp over the same class + logsumexp over other classes) of weighted cosine distances. The
    mean covers only the losses that are not 0.

    Example:
        >>> loss = losses.Circle(gamma=1.0)
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> print(loss([0, 1, 0], vectors).numpy().round(2))
        0.79
    """

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: str | None = _MEAN,
        name: str = "circle",
        dtype: Any = None,
    ):
        super().__init__(**option.keep(self, locals()))


class CTC(_Named, fn=functions.ctc):
    """Connectionist temporal classification, reduced over the samples.

    -log of the probability of a label sequence over all alignments with blanks (class 0).

    Example:
        >>> loss = losses.CTC()
        >>> print(loss([[1, 0]], np.zeros((1, 2, 3))).numpy().round(4))  # log(3): three alignments of nine
        1.0986
    """
