"""Loss functions: (y_true, y_pred) -> one loss for each sample, over the last axis. The formulas are Keras 3.15's.

y_pred: floats (..., n). y_true: the same shape, or one axis of size 1 more or less; classes as integers (...) for
sparse_categorical_crossentropy. All take symbolic tensors too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from nbkeras import config, ops
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.losses.loss import prediction, registry, squeeze_or_expand_to_same_rank
from nbkeras.ops.arguments import axis_of

F = TypeVar("F", bound=Callable)


def _register(*aliases: str) -> Callable[[F], F]:
    return lambda function: registry.register(op(function), *aliases)


_OF_CLASSES = " (give classes as one-hot vectors, or use sparse_categorical_crossentropy for class numbers)"


def _matched(name: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions of one dtype and shape; ValueError for shapes that do not match."""
    predicted = prediction(y_pred)
    target = as_tensor(y_true, predicted.dtype)
    matched_target, matched = squeeze_or_expand_to_same_rank(target, predicted)
    if matched_target.shape != matched.shape:
        raise ValueError(
            f"{name}: the targets' shape {target.shape} does not match the predictions' {predicted.shape}; it must be the "
            f"same{_OF_CLASSES if name.startswith('categorical_') else ''}"
        )
    return matched_target, matched


@_register("mse", "MSE")
def mean_squared_error(y_true, y_pred) -> Tensor:
    """mean((y_true - y_pred)^2)."""
    y_true, y_pred = _matched("mean_squared_error", y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@_register("mae", "MAE")
def mean_absolute_error(y_true, y_pred) -> Tensor:
    """mean(|y_true - y_pred|)."""
    y_true, y_pred = _matched("mean_absolute_error", y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@_register("mape", "MAPE")
def mean_absolute_percentage_error(y_true, y_pred) -> Tensor:
    """100 * mean(|y_true - y_pred| / max(|y_true|, epsilon))."""
    y_true, y_pred = _matched("mean_absolute_percentage_error", y_true, y_pred)
    error = ops.abs((y_true - y_pred) / ops.maximum(ops.abs(y_true), config.epsilon()))
    return 100.0 * ops.mean(error, axis=-1)


@_register("msle", "MSLE")
def mean_squared_logarithmic_error(y_true, y_pred) -> Tensor:
    """mean((log(max(y_true, epsilon) + 1) - log(max(y_pred, epsilon) + 1))^2)."""
    y_true, y_pred = _matched("mean_squared_logarithmic_error", y_true, y_pred)
    first = ops.log(ops.maximum(y_pred, config.epsilon()) + 1.0)
    second = ops.log(ops.maximum(y_true, config.epsilon()) + 1.0)
    return ops.mean(ops.square(first - second), axis=-1)


def unit_vectors(x: Tensor, axis: int = -1) -> Tensor:
    """x / max(|x|, epsilon), the norm over an axis; the gradient at 0 is finite."""
    squares = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return ops.divide(x, ops.sqrt(ops.maximum(squares, config.epsilon() ** 2)))


@_register("cosine_proximity", "cosine")
def cosine_similarity(y_true, y_pred, axis: int = -1) -> Tensor:
    """-sum(y_true / |y_true| * y_pred / |y_pred|): -1 for the same direction."""
    y_true, y_pred = _matched("cosine_similarity", y_true, y_pred)
    return -ops.sum(ops.multiply(unit_vectors(y_true, axis), unit_vectors(y_pred, axis)), axis=axis)


@_register("huber_loss")
def huber(y_true, y_pred, delta: float = 1.0) -> Tensor:
    """mean of e^2 / 2 where |e| <= delta, else delta * |e| - delta^2 / 2, with e = y_true - y_pred."""
    y_true, y_pred = _matched("huber", y_true, y_pred)
    error = y_pred - y_true
    size = ops.abs(error)
    return ops.mean(ops.where(size <= delta, 0.5 * ops.square(error), delta * size - 0.5 * delta**2), axis=-1)


@_register("logcosh")
def log_cosh(y_true, y_pred) -> Tensor:
    """mean(log(cosh(y_pred - y_true))), computed without overflow."""
    y_true, y_pred = _matched("log_cosh", y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(error * -2.0) - math.log(2.0), axis=-1)


def _signs(y_true: Tensor) -> Tensor:
    """Labels 0 and 1 as -1 and 1; other labels are not changed."""
    binary = ops.all(ops.logical_or(ops.equal(y_true, 0), ops.equal(y_true, 1)))
    return ops.where(binary, ops.subtract(ops.add(y_true, y_true), 1.0), y_true)


@_register()
def hinge(y_true, y_pred) -> Tensor:
    """mean(max(1 - y_true * y_pred, 0)), labels -1 and 1 (or 0 and 1)."""
    y_true, y_pred = _matched("hinge", y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0), axis=-1)


@_register()
def squared_hinge(y_true, y_pred) -> Tensor:
    """mean(max(1 - y_true * y_pred, 0)^2), labels -1 and 1 (or 0 and 1)."""
    y_true, y_pred = _matched("squared_hinge", y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - _signs(y_true) * y_pred, 0.0)), axis=-1)


@_register()
def categorical_hinge(y_true, y_pred) -> Tensor:
    """max(max((1 - y_true) * y_pred) - sum(y_true * y_pred) + 1, 0)."""
    y_true, y_pred = _matched("categorical_hinge", y_true, y_pred)
    right = ops.sum(y_true * y_pred, axis=-1)
    wrong = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(wrong - right + 1.0, 0.0)


@_register("kld", "KLD", "kullback_leibler_divergence")
def kl_divergence(y_true, y_pred) -> Tensor:
    """sum(y_true * log(y_true / y_pred)), both clipped to [epsilon, 1]."""
    y_true, y_pred = _matched("kl_divergence", y_true, y_pred)
    y_true, y_pred = ops.clip(y_true, config.epsilon(), 1), ops.clip(y_pred, config.epsilon(), 1)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


@_register()
def poisson(y_true, y_pred) -> Tensor:
    """mean(y_pred - y_true * log(y_pred + epsilon))."""
    y_true, y_pred = _matched("poisson", y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + config.epsilon()), axis=-1)


def _smoothed(
    name: str, y_true: Any, y_pred: Any, smoothing: float, classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """`_matched` targets and predictions, the targets moved towards 1 / classes; classes: by default the last axis's size."""
    if not 0 <= smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, received {smoothing!r}")
    y_true, y_pred = _matched(name, y_true, y_pred)
    if smoothing:
        y_true = y_true * (1.0 - smoothing) + smoothing / (classes or y_true.shape[-1])
    return y_true, y_pred


@_register("bce", "BCE")
def binary_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """mean(-y_true * log(p) - (1 - y_true) * log(1 - p)); label_smoothing moves labels towards 0.5."""
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
    """binary_crossentropy times (1 - p of the label)^gamma, so that easy examples count less (Lin et al., 2018).

    apply_class_balancing: labels 1 count alpha times, labels 0 (1 - alpha) times.
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
    """-sum(y_true * log(p)) over the classes, y_true one-hot; label_smoothing moves labels towards 1 / classes."""
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
    """-sum(alpha * (1 - p)^gamma * y_true * log(p)) over the classes (Lin et al., 2018); alpha may be one for each class."""
    y_true, y_pred = _smoothed("categorical_focal_crossentropy", y_true, y_pred, label_smoothing)
    p = ops.softmax(y_pred, axis=axis) if from_logits else y_pred
    p = ops.clip(p / ops.sum(p, axis=axis, keepdims=True), config.epsilon(), 1.0 - config.epsilon())
    weight = ops.multiply(ops.power(1.0 - p, gamma), np.asarray(alpha, p.dtype))
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
    """-log(p[y_true]), y_true class numbers; targets equal to ignore_class count as masked."""
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
    """(1 - p[y_true]^q) / q, y_true class numbers, for noisy labels (Zhang and Sabuncu, 2018).

    0 < q < 1: from cross-entropy near 0 to mean absolute error near 1.
    """
    y_pred = prediction(y_pred)
    y_true = _class_numbers("categorical_generalized_cross_entropy", y_true, y_pred)
    of_label = ops.sum(y_pred * ops.one_hot(y_true, y_pred.shape[-1], dtype=y_pred.dtype), axis=-1)
    return (1.0 - ops.power(of_label, q)) / q


def _overlap(name: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions of one dtype; ValueError unless their shapes are the same."""
    y_pred = prediction(y_pred)
    y_true = as_tensor(y_true, y_pred.dtype)
    if y_true.shape != y_pred.shape:
        raise ValueError(f"{name}: the targets' shape {y_true.shape} must be the predictions' {y_pred.shape}")
    return y_true, y_pred


@_register()
def dice(y_true, y_pred, axis: int | Sequence[int] | None = None) -> Tensor:
    """1 - 2 * sum(y_true * y_pred) / (sum(y_true) + sum(y_pred)); sums over the axes, all by default."""
    y_true, y_pred = _overlap("dice", y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    return 1.0 - 2.0 * both / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + config.epsilon())


@_register()
def tversky(y_true, y_pred, alpha: float = 0.5, beta: float = 0.5, axis: int | Sequence[int] | None = None) -> Tensor:
    """1 - tp / (tp + alpha * missed + beta * invented), sums over the axes, all by default (Salehi et al., 2017).

    tp = sum(y_true * y_pred), missed = sum(y_true * (1 - y_pred)), invented = sum((1 - y_true) * y_pred). Keras
    documents alpha and beta as weights of false positives and false negatives, but computes this.
    """
    y_true, y_pred = _overlap("tversky", y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum(y_true * (1.0 - y_pred), axis=axis)
    invented = ops.sum((1.0 - y_true) * y_pred, axis=axis)
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
    """softplus(logsumexp over the same class + logsumexp over other classes) of weighted distances (Sun et al., 2020).

    y_true: class numbers (batch,); y_pred: unit vectors (batch, width). The references, by default the batch itself, are
    class numbers and vectors of their own. remove_diagonal: a vector is not paired with itself. Losses of 0 are masked.
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
    """log(sum(e^x)) over the last axis where the mask is true; where it is true nowhere, the lowest number, with gradient 0."""
    lowest = float(np.finfo(x.dtype).min) / 4
    return ops.logsumexp(ops.where(mask, x, lowest), axis=1)


@_register()
def ctc(y_true, y_pred) -> Tensor:
    """-log of the probability of a label sequence over all alignments: `ops.ctc_loss`, with blank 0 and whole inputs.

    y_true: class numbers (batch, labels), 0 after a sequence's end; y_pred: logits (batch, time, classes).
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
