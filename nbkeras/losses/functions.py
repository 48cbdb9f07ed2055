"""Loss functions: (y_true, y_pred) -> one loss for each sample, over the last axis. The formulas are Keras 3.15's.

y_pred: floats (..., n). y_true: the same shape, or one axis of size 1 more or less; classes as integers (...) for
sparse_categorical_crossentropy. Other shapes that broadcast are accepted as in Keras 3, but not by the cross-entropies of whole
distributions, dice and tversky. All accept symbolic tensors too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.losses.loss import prediction, registry, squeeze_or_expand_to_same_rank
from nbkeras.ops.arguments import axis_of, broadcast_shape

_F = TypeVar("_F", bound=Callable)


def _register(*aliases: str) -> Callable[[_F], _F]:
    return lambda function: registry.register(op(function), *aliases)


_SAME_SHAPE = ("binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy")
_OF_CLASSES = " (give classes as one-hot vectors, or use sparse_categorical_crossentropy for class numbers)"
_YES_OR_NO = " (one unit for yes or no; for class numbers use softmax and sparse_categorical_crossentropy)"


def _matched(name: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions of the same dtype; ValueError unless the shapes broadcast or, for `_SAME_SHAPE`, are equal."""
    predicted = prediction(y_pred)
    target = as_tensor(y_true, predicted.dtype)
    matched_target, matched = squeeze_or_expand_to_same_rank(target, predicted)
    same, shapes = name in _SAME_SHAPE, (matched_target.shape, matched.shape)
    if shapes[0] != shapes[1] and (same or broadcast_shape(*shapes) is None):
        hint = _OF_CLASSES if name.startswith("categorical_") else ""
        if name == "binary_crossentropy" and target.ndim < predicted.ndim:
            hint = _YES_OR_NO
        raise ValueError(
            f"{name}: the targets' shape {target.shape} does not match the predictions' {predicted.shape}; it must be the same"
            f"{'' if same else ', or broadcast with it'}{hint}"
        )
    return matched_target, matched


@_register("mse", "MSE")
def mean_squared_error(y_true, y_pred) -> Tensor:
    """Mean squared error over the last axis: mean((y_true - y_pred)^2).

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.mean_squared_error([[0.0, 1.0], [0.0, 0.0]], [[1.0, 3.0], [0.0, 0.0]]).numpy()
        array([2.5, 0. ], dtype=float32)
    """
    y_true, y_pred = _matched("mean_squared_error", y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@_register("mae", "MAE")
def mean_absolute_error(y_true, y_pred) -> Tensor:
    """Mean absolute error over the last axis: mean(|y_true - y_pred|).

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.mean_absolute_error([[0.0, 1.0], [0.0, 0.0]], [[1.0, 3.0], [0.0, 0.0]]).numpy()
        array([1.5, 0. ], dtype=float32)
    """
    y_true, y_pred = _matched("mean_absolute_error", y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@_register("mape", "MAPE")
def mean_absolute_percentage_error(y_true, y_pred) -> Tensor:
    """Mean absolute error in percent of the target: 100 * mean(|y_true - y_pred| / max(|y_true|, epsilon)).

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.mean_absolute_percentage_error([[1.0, 10.0]], [[2.0, 5.0]]).numpy()  # 100 % and 50 %
        array([75.], dtype=float32)
    """
    y_true, y_pred = _matched("mean_absolute_percentage_error", y_true, y_pred)
    error = ops.abs((y_true - y_pred) / ops.maximum(ops.abs(y_true), config.epsilon()))
    return 100.0 * ops.mean(error, axis=-1)


@_register("msle", "MSLE")
def mean_squared_logarithmic_error(y_true, y_pred) -> Tensor:
    """Mean squared error of logarithms, for targets of different sizes.

        mean((log(max(y_true, epsilon) + 1) - log(max(y_pred, epsilon) + 1))^2)

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.mean_squared_logarithmic_error([[1.0, 100.0]], [[2.0, 200.0]]).numpy().round(3)
        array([0.319], dtype=float32)
    """
    y_true, y_pred = _matched("mean_squared_logarithmic_error", y_true, y_pred)
    first = ops.log(ops.maximum(y_pred, config.epsilon()) + 1.0)
    second = ops.log(ops.maximum(y_true, config.epsilon()) + 1.0)
    return ops.mean(ops.square(first - second), axis=-1)


def _unit_vectors(x: Tensor, axis: int = -1) -> Tensor:
    """x / max(|x|, epsilon), with the norm over an axis; the gradient at 0 is finite."""
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return ops.divide(x, ops.sqrt(ops.maximum(squares, config.epsilon() ** 2)))


@_register("cosine_proximity", "cosine")
def cosine_similarity(y_true, y_pred, axis: int = -1) -> Tensor:
    """Minus the cosine of the angle between two vectors: -sum(y_true / |y_true| * y_pred / |y_pred|).

    It is -1 for equal directions, 0 for a right angle, and 1 for opposite directions. A vector of zeros gives
    0.

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.
        axis: The axis of the vectors, counted from the end if negative.

    Returns:
        A tensor of y_pred's dtype, without the axis.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.cosine_similarity([[1.0, 0.0], [1.0, 0.0]], [[5.0, 0.0], [0.0, 1.0]]).numpy()
        array([-1., -0.], dtype=float32)
    """
    y_true, y_pred = _matched("cosine_similarity", y_true, y_pred)
    return -ops.sum(ops.multiply(_unit_vectors(y_true, axis), _unit_vectors(y_pred, axis)), axis=axis)


@_register("huber_loss")
def huber(y_true, y_pred, delta: float = 1.0) -> Tensor:
    """Squared error for small errors, absolute error for large ones: the mean over the last axis.

        e^2 / 2 where |e| <= delta, else delta * |e| - delta^2 / 2, with e = y_true - y_pred

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.
        delta: The error above which the loss grows linearly.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.huber([[0.0], [0.0]], [[1.0], [10.0]]).numpy()
        array([0.5, 9.5], dtype=float32)
    """
    y_true, y_pred = _matched("huber", y_true, y_pred)
    error = y_pred - y_true
    size = ops.abs(error)
    return ops.mean(ops.where(size <= delta, 0.5 * ops.square(error), delta * size - 0.5 * delta**2), axis=-1)


@_register("logcosh")
def log_cosh(y_true, y_pred) -> Tensor:
    """mean(log(cosh(y_pred - y_true))) over the last axis, computed without overflow.

    It is about e^2 / 2 for small errors e and |e| - log(2) for large ones.

    Args:
        y_true: Targets of y_pred's shape (..., n); a last axis of size 1 may be missing.
        y_pred: Predictions (..., n), floats; integers become floatx.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.log_cosh([[0.0], [0.0]], [[1.0], [10.0]]).numpy().round(3)
        array([0.434, 9.307], dtype=float32)
    """
    y_true, y_pred = _matched("log_cosh", y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(error * -2.0) - math.log(2.0), axis=-1)


def _signs(y_true: Tensor) -> Tensor:
    """Labels 0 and 1 as -1 and 1; other labels stay unchanged."""
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(binary, ops.subtract(ops.add(y_true, y_true), 1.0), y_true)


@_register()
def hinge(y_true, y_pred) -> Tensor:
    """Hinge loss over the last axis: mean(max(1 - y_true * y_pred, 0)).

    Args:
        y_true: Labels -1 and 1, of y_pred's shape (..., n); labels 0 and 1 are changed to -1 and 1.
        y_pred: Scores (..., n), floats.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.hinge([[1.0], [-1.0], [-1.0]], [[2.0], [0.0], [0.5]]).numpy()
        array([0. , 1. , 1.5], dtype=float32)
    """
    y_true, y_pred = _matched("hinge", y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


@_register()
def squared_hinge(y_true, y_pred) -> Tensor:
    """Squared hinge loss over the last axis: mean(max(1 - y_true * y_pred, 0)^2).

    Args:
        y_true: Labels -1 and 1, of y_pred's shape (..., n); labels 0 and 1 are changed to -1 and 1.
        y_pred: Scores (..., n), floats.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.squared_hinge([[1.0], [-1.0], [-1.0]], [[2.0], [0.0], [0.5]]).numpy()
        array([0.  , 1.  , 2.25], dtype=float32)
    """
    y_true, y_pred = _matched("squared_hinge", y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


@_register()
def categorical_hinge(y_true, y_pred) -> Tensor:
    """Hinge loss of classes: max(max((1 - y_true) * y_pred) - sum(y_true * y_pred) + 1, 0).

    It is 0 if the score of the true class is greater than all others by at least 1.

    Args:
        y_true: One-hot vectors (..., classes).
        y_pred: Scores (..., classes), floats.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.categorical_hinge([[1.0, 0.0, 0.0]], [[2.0, 1.5, 0.0]]).numpy()
        array([0.5], dtype=float32)
    """
    y_true, y_pred = _matched("categorical_hinge", y_true, y_pred)
    right = ops.sum(y_true * y_pred, axis=-1)
    wrong = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


@_register("kld", "KLD", "kullback_leibler_divergence")
def kl_divergence(y_true, y_pred) -> Tensor:
    """Kullback-Leibler divergence of two distributions: sum(y_true * log(y_true / y_pred)) over the last axis.

    Args:
        y_true: Probabilities (..., classes); they are clipped to [epsilon, 1].
        y_pred: Predicted probabilities (..., classes); they are clipped too.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.kl_divergence([[0.5, 0.5]], [[0.25, 0.75]]).numpy().round(4)
        array([0.1438], dtype=float32)
    """
    y_true, y_pred = _matched("kl_divergence", y_true, y_pred)
    y_true, y_pred = ops.clip(y_true, config.epsilon(), 1), ops.clip(y_pred, config.epsilon(), 1)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


@_register()
def poisson(y_true, y_pred) -> Tensor:
    """Loss of counts with a Poisson distribution, over the last axis.

        mean(y_pred - y_true * log(y_pred + epsilon))

    Args:
        y_true: Counts (..., n).
        y_pred: Predicted means (..., n), floats above 0.

    Returns:
        A tensor of y_pred's dtype: one loss for each sample, the axes of y_pred without the last.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.poisson([[1.0, 3.0]], [[1.0, 3.0]]).numpy().round(4)
        array([0.3521], dtype=float32)
    """
    y_true, y_pred = _matched("poisson", y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + config.epsilon()), axis=-1)


def _smoothed(
    name: str, y_true: Any, y_pred: Any, smoothing: float, classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """`_matched` targets and predictions, with targets moved towards 1 / classes; classes: the last axis's size by default."""
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, received {briefly(smoothing)}")
    y_true, y_pred = _matched(name, y_true, y_pred)
    if smoothing:
        classes = classes or max((1, *y_true.shape[-1:]))
        y_true = y_true * (1.0 - smoothing) + smoothing / classes
    return y_true, y_pred


@_register("bce", "BCE")
def binary_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """Cross-entropy of labels 0 and 1: mean(-y_true * log(p) - (1 - y_true) * log(1 - p)).

    p is y_pred, or sigmoid(y_pred) with from_logits.

    Args:
        y_true: Labels 0 and 1, or probabilities, of y_pred's shape; a last axis of size 1 may be missing.
        y_pred: Predicted probabilities (or logits) (..., n), floats.
        from_logits: Whether y_pred holds logits, the scores before the sigmoid, instead of probabilities.
        label_smoothing: From 0 to 1: the fraction by which labels move towards 0.5.
        axis: The axis of the mean, counted from the end if negative.

    Returns:
        A tensor of y_pred's dtype, without the axis.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.binary_crossentropy([[1.0], [0.0]], [[0.5], [0.2]]).numpy().round(4)
        array([0.6931, 0.2231], dtype=float32)
        >>> losses.binary_crossentropy([[1.0]], [[0.0]], from_logits=True).numpy().round(4)
        array([0.6931], dtype=float32)
    """
    y_true, y_pred = _smoothed("binary_crossentropy", y_true, y_pred, label_smoothing, classes=2)
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


@_register()
def binary_focal_crossentropy(
    y_true,
    y_pred,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Cross-entropy of labels 0 and 1 with less weight on easy examples: times (1 - p of the label)^gamma.

    Source: Lin et al., 2018.

    Args:
        y_true: Labels 0 and 1, of y_pred's shape; a last axis of size 1 may be missing.
        y_pred: Predicted probabilities (or logits) (..., n), floats.
        apply_class_balancing: Whether labels 1 have the weight alpha, and labels 0 the weight 1 - alpha.
        alpha: The weight of labels 1.
        gamma: The exponent that lowers the weight of easy examples; 0 for the cross-entropy itself.
        from_logits: Whether y_pred holds logits, the scores before the sigmoid, instead of probabilities.
        label_smoothing: From 0 to 1: the fraction by which labels move towards 0.5.
        axis: The axis of the mean, counted from the end if negative.

    Returns:
        A tensor of y_pred's dtype, without the axis.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> y_true, y_pred = [[1.0], [1.0]], [[0.8], [0.1]]  # an easy example and a hard one
        >>> losses.binary_crossentropy(y_true, y_pred).numpy().round(4)
        array([0.2231, 2.3026], dtype=float32)
        >>> losses.binary_focal_crossentropy(y_true, y_pred).numpy().round(4)
        array([0.0089, 1.8651], dtype=float32)
    """
    y_true, y_pred = _smoothed("binary_focal_crossentropy", y_true, y_pred, label_smoothing, classes=2)
    p = ops.sigmoid(y_pred) if from_logits else y_pred
    of_label = y_true * p + (1.0 - y_true) * (1.0 - p)
    values = ops.power(1.0 - of_label, gamma) * ops.binary_crossentropy(y_true, p)
    if apply_class_balancing:
        values = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * values
    return ops.mean(values, axis=axis)


@_register()
def categorical_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """Cross-entropy of classes as one-hot vectors: -sum(y_true * log(p)) over the classes.

    p is y_pred divided by its sum, or softmax(y_pred) with from_logits. `sparse_categorical_crossentropy`
    takes class numbers.

    Args:
        y_true: One-hot vectors, or probabilities, of y_pred's shape.
        y_pred: Predicted probabilities (or logits) (..., classes), floats.
        from_logits: Whether y_pred holds logits, the scores before the softmax, instead of probabilities.
        label_smoothing: From 0 to 1: the fraction by which targets move towards 1 / classes.
        axis: The axis of the classes, counted from the end if negative.

    Returns:
        A tensor of y_pred's dtype, without the axis of the classes.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> y_true, y_pred = [[0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25]]
        >>> losses.categorical_crossentropy(y_true, y_pred).numpy().round(4)
        array([0.6931], dtype=float32)
        >>> losses.categorical_crossentropy(y_true, y_pred, label_smoothing=0.3).numpy().round(4)
        array([0.8318], dtype=float32)
    """
    y_true, y_pred = _smoothed("categorical_crossentropy", y_true, y_pred, label_smoothing)
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


@_register()
def categorical_focal_crossentropy(
    y_true,
    y_pred,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """Cross-entropy of one-hot classes with less weight on easy examples.

        -sum(alpha * (1 - p)^gamma * y_true * log(p))

    p is y_pred divided by its sum, or softmax(y_pred) with from_logits. Source: Lin et al., 2018.

    Args:
        y_true: One-hot vectors of y_pred's shape.
        y_pred: Predicted probabilities (or logits) (..., classes), floats.
        alpha: A weight, or one for each class.
        gamma: The exponent that lowers the weight of easy examples; 0 for the cross-entropy itself.
        from_logits: Whether y_pred holds logits, the scores before the softmax, instead of probabilities.
        label_smoothing: From 0 to 1: the fraction by which targets move towards 1 / classes.
        axis: The axis of the classes, counted from the end if negative.

    Returns:
        A tensor of y_pred's dtype, without the axis of the classes.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> y_true = [[0.0, 1.0], [0.0, 1.0]]
        >>> y_pred = [[0.2, 0.8], [0.9, 0.1]]  # an easy example and a hard one
        >>> losses.categorical_crossentropy(y_true, y_pred).numpy().round(4)
        array([0.2231, 2.3026], dtype=float32)
        >>> losses.categorical_focal_crossentropy(y_true, y_pred, alpha=1.0).numpy().round(4)
        array([0.0089, 1.8651], dtype=float32)
    """
    y_true, y_pred = _smoothed("categorical_focal_crossentropy", y_true, y_pred, label_smoothing)
    p = ops.softmax(y_pred, axis=axis) if from_logits else y_pred
    p = ops.clip(p / ops.sum(p, axis=axis, keepdims=True), config.epsilon(), 1.0 - config.epsilon())
    weight = ops.multiply(ops.power(1.0 - p, gamma), as_tensor(alpha, p.dtype))
    return -ops.sum(weight * y_true * ops.log(p), axis=axis)


def _class_numbers(name: str, y_true: Any, y_pred: Tensor, axis: int = -1) -> Tensor:
    """Class numbers with one axis less than the predictions."""
    y_true = as_tensor(y_true)
    position = axis_of(name, axis, y_pred.ndim)
    if y_true.ndim == y_pred.ndim and y_true.shape[position] == 1:
        y_true = ops.squeeze(y_true, position)
    if y_true.shape != y_pred.shape[:position] + y_pred.shape[position + 1 :]:
        raise ValueError(
            f"{name}: targets of shape {y_true.shape} do not match predictions of shape {y_pred.shape}; give one class "
            "number for each prediction (or one-hot vectors to categorical_crossentropy)"
        )
    return y_true


@_register()
def sparse_categorical_crossentropy(
    y_true, y_pred, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Tensor:
    """Cross-entropy of class numbers: -log(p[y_true]).

    p is y_pred divided by its sum, or softmax(y_pred) with from_logits.

    Args:
        y_true: Class numbers (...), or (..., 1). A number out of range gives NaN.
        y_pred: Predicted probabilities (or logits) (..., classes), floats.
        from_logits: Whether y_pred holds logits, the scores before the softmax, instead of probabilities.
        ignore_class: Targets of this number count as masked: their loss is 0, and a mean covers only the
            others. None ignores no class.
        axis: The axis of the classes, counted from the end if negative.

    Returns:
        A tensor of y_pred's dtype, without the axis of the classes.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> y_pred = [[0.25, 0.5, 0.25], [0.8, 0.1, 0.1]]
        >>> losses.sparse_categorical_crossentropy([1, 0], y_pred).numpy().round(4)
        array([0.6931, 0.2231], dtype=float32)
        >>> losses.sparse_categorical_crossentropy([1, -1], y_pred, ignore_class=-1).numpy().round(4)
        array([0.6931, 0.    ], dtype=float32)
    """
    y_pred = prediction(y_pred)
    y_true = _class_numbers("sparse_categorical_crossentropy", y_true, y_pred, axis)
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    counts = ops.not_equal(y_true, ignore_class)
    classes = ops.where(counts, y_true, 0)
    values = ops.sparse_categorical_crossentropy(classes, y_pred, from_logits=from_logits, axis=axis)
    values = ops.where(counts, values, 0.0)
    values.mask = counts
    return values


@_register()
def categorical_generalized_cross_entropy(y_true, y_pred, q: float) -> Tensor:
    """Generalized cross-entropy of class numbers, for noisy labels: (1 - p[y_true]^q) / q.

    Source: Zhang and Sabuncu, 2018.

    Args:
        y_true: Class numbers (...), or (..., 1).
        y_pred: Predicted probabilities (..., classes), floats.
        q: Between 0 and 1: near 0 the loss is the cross-entropy, near 1 the mean absolute error, which is
            less sensitive to noise.

    Returns:
        A tensor of y_pred's dtype, without the last axis.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> losses.categorical_generalized_cross_entropy([1, 0], [[0.75, 0.25], [1.0, 0.0]], q=0.5).numpy()
        array([1., 0.], dtype=float32)
    """
    y_pred = prediction(y_pred)
    y_true = _class_numbers("categorical_generalized_cross_entropy", y_true, y_pred)
    of_label = ops.sum(y_pred * ops.one_hot(y_true, y_pred.shape[-1], dtype=y_pred.dtype), axis=-1)
    return (1.0 - ops.power(of_label, q)) / q


def _overlap(name: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions of the same dtype; ValueError unless their shapes are the same."""
    y_pred = prediction(y_pred)
    y_true = as_tensor(y_true, y_pred.dtype)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"{name}: the targets' shape {y_true.shape} must equal the predictions' {y_pred.shape}")
    return y_true, y_pred


@_register()
def dice(y_true, y_pred, axis: int | Sequence[int] | None = None) -> Tensor:
    """Dice loss of regions: 1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred)).

    Args:
        y_true: Numbers from 0 to 1, of y_pred's shape: 1 inside the region.
        y_pred: Predictions from 0 to 1, floats of any shape.
        axis: The axis or axes of the sums; None for all, which gives one loss for the batch.

    Returns:
        A tensor of y_pred's dtype, without the axes.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> y_true, y_pred = [[1.0, 1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0, 0.0]]  # half of the region is found
        >>> losses.dice(y_true, y_pred).numpy().round(3).item()
        0.5
    """
    y_true, y_pred = _overlap("dice", y_true, y_pred)
    both, known, found = (_sum_of_all(each, axis) for each in (y_true * y_pred, y_true, y_pred))
    return 1.0 - 2.0 * both / (known + found + config.epsilon())


def _sum_of_all(x: Tensor, axis: int | Sequence[int] | None) -> Tensor:
    """The sum along axes; over the rows of all ranks if it includes the first axis."""
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    summed = ops.sum(x, axis=axis)
    return sharding.total(summed) if any(each % x.ndim == 0 for each in axes) else summed


@_register()
def tversky(y_true, y_pred, alpha: float = 0.5, beta: float = 0.5, axis: int | Sequence[int] | None = None) -> Tensor:
    """Tversky loss of regions, which weights two kinds of errors.

        1 - tp / (tp + alpha * missed + beta * invented)
        tp = sum(y_true * y_pred), missed = sum(y_true * (1 - y_pred)), invented = sum((1 - y_true) * y_pred)

    Keras documents alpha and beta as weights of false positives and false negatives, but computes this.
    Source: Salehi et al., 2017.

    Args:
        y_true: Numbers from 0 to 1, of y_pred's shape: 1 inside the region.
        y_pred: Predictions from 0 to 1, floats of any shape.
        alpha: The weight of false negatives; alpha = beta = 0.5 is the Dice loss.
        beta: The weight of false positives.
        axis: The axis or axes of the sums; None for all, so that the batch has one loss.

    Returns:
        A tensor of y_pred's dtype, without the axes.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> y_true, y_pred = [[1.0, 1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0, 0.0]]  # two were missed
        >>> [losses.tversky(y_true, y_pred, alpha, 0.5).numpy().round(3).item() for alpha in (0.5, 1.5)]
        [0.5, 0.75]
    """
    y_true, y_pred = _overlap("tversky", y_true, y_pred)
    both = _sum_of_all(y_true * y_pred, axis)
    missed = _sum_of_all(y_true * (1.0 - y_pred), axis)
    invented = _sum_of_all((1.0 - y_true) * y_pred, axis)
    return 1.0 - both / (both + missed * alpha + invented * beta + config.epsilon())


@_register()
def circle(
    y_true,
    y_pred,
    ref_labels=None,
    ref_embeddings=None,
    remove_diagonal: bool = True,
    gamma: float = 80,
    margin: float = 0.4,
) -> Tensor:
    """Circle loss of embeddings: vectors of one class are drawn together, others apart (Sun et al., 2020).

    softplus(logsumexp over the same class + logsumexp over other classes) of weighted cosine distances. A
    loss of 0 counts as masked: a mean covers only the others.

    Args:
        y_true: Class numbers (batch,), or (batch, 1).
        y_pred: Unit vectors (batch, width), floats, as from `UnitNormalization`.
        ref_labels: Class numbers of the vectors to compare with; None for y_true.
        ref_embeddings: Unit vectors to compare with; None for y_pred.
        remove_diagonal: Whether a vector is not paired with itself.
        gamma: The factor of all distances.
        margin: The distance (1 - cosine) that is small enough within a class; between classes, 1 - margin is
            large enough.

    Returns:
        A tensor (batch,) of y_pred's dtype.

    Raises:
        ValueError: unless there is one class number for each vector.

    Example:
        >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> losses.circle([0, 1, 0], vectors, gamma=1.0).numpy().round(2)
        array([0.62, 0.  , 0.96], dtype=float32)
    """
    y_pred = prediction(y_pred)
    classes = ops.reshape(as_tensor(y_true), (-1, 1))
    references = classes if ref_labels is None else ops.reshape(as_tensor(ref_labels), (-1, 1))
    vectors = y_pred if ref_embeddings is None else as_tensor(ref_embeddings, y_pred.dtype)
    if y_pred.ndim != 2 or vectors.ndim != 2 or (len(classes), len(references)) != (len(y_pred), len(vectors)):
        raise ValueError(
            "circle: one class number for each vector is needed, received "
            f"{classes.size} for {y_pred.shape} and {references.size} for references {vectors.shape}"
        )
    distances = ops.maximum(1.0 - ops.matmul(y_pred, ops.transpose(vectors)), 0.0)
    same = ops.equal(classes, ops.transpose(references))
    other = ops.logical_not(same)
    if remove_diagonal:
        same = ops.logical_and(same, np.eye(same.shape[0], same.shape[1]) == 0)
    near = -gamma * (margin + distances) * (margin - distances)
    far = gamma * ops.maximum(1.0 + margin - distances, 0.0) * (1.0 - margin - distances)
    values = ops.softplus(ops.add(_logsumexp_where(same, near), _logsumexp_where(other, far)))
    values.mask = ops.greater(values, 0)
    return values


def _logsumexp_where(mask: Tensor, x: Tensor) -> Tensor:
    """log(sum(e^x)) over the last axis where the mask is true; the lowest number, with gradient 0, if it is true nowhere."""
    lowest = float(np.finfo(x.dtype).min) / 4
    return ops.logsumexp(ops.where(mask, x, lowest), axis=1)


@_register()
def ctc(y_true, y_pred) -> Tensor:
    """Connectionist temporal classification: `ops.ctc_loss` with blank 0 and whole outputs.

    It is -log of the probability of a label sequence over all alignments.

    Args:
        y_true: Class numbers (batch, labels), with 0 after the end of a sequence.
        y_pred: Logits (batch, time, classes), floats.

    Returns:
        A tensor (batch,) of y_pred's dtype.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> loss = losses.ctc([[1, 0]], np.zeros((1, 2, 3)))  # three alignments of nine: blank 1, 1 blank, 1 1
        >>> ops.exp(-loss).numpy().round(4)
        array([0.3333], dtype=float32)
    """
    y_pred, y_true = prediction(y_pred), as_tensor(y_true)
    if y_true.ndim != 2 or y_pred.ndim != 3:
        raise ValueError(
            "ctc: expected class numbers (batch, labels) and logits (batch, time, classes), received shapes "
            f"{y_true.shape} and {y_pred.shape}"
        )
    lengths = ops.sum(ops.cast(ops.not_equal(y_true, 0), "int32"), axis=-1)
    steps = ops.full((y_pred.shape[0],), y_pred.shape[1], dtype="int32")
    return ops.ctc_loss(y_true, y_pred, lengths, steps)


mse = MSE = mean_squared_error
mae = MAE = mean_absolute_error
mape = MAPE = mean_absolute_percentage_error
msle = MSLE = mean_squared_logarithmic_error
bce = BCE = binary_crossentropy
kld = KLD = kullback_leibler_divergence = kl_divergence
cosine = cosine_proximity = cosine_similarity
huber_loss = huber
logcosh = log_cosh
