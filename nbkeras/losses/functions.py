"""Loss functions: (y_true, y_pred) -> one loss for each sample, over the last axis. Formulas are those of Keras 3.15.

y_pred: floats (..., n). y_true: the same shape, or one axis of size 1 more or less; classes as integers (...) for
sparse_categorical_crossentropy. All work on symbolic tensors too.
"""

import math
from collections.abc import Callable
from typing import Any

from nbkeras import config, ops
from nbkeras.losses.loss import prediction, registry, squeeze_or_expand_to_same_rank
from nbkeras.tensor import Tensor, as_tensor, op


def _register(*aliases: str) -> Callable:
    return lambda function: registry.register(op(function), *aliases)


def _matched(name: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Targets and predictions of one dtype and shape."""
    predicted = prediction(y_pred)
    target = as_tensor(y_true, predicted.dtype)
    matched_target, matched = squeeze_or_expand_to_same_rank(target, predicted)
    if matched_target.shape != matched.shape:
        raise ValueError(
            f"{name}: the targets' shape {target.shape} does not match the predictions' {predicted.shape}; it must be the "
            "same (give classes as one-hot vectors, or use sparse_categorical_crossentropy for class numbers)"
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
    """Labels 0 and 1 as -1 and 1; labels that are not all 0 or 1 as they are."""
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


def _check_smoothing(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, received {value!r}")


@_register("bce", "BCE")
def binary_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """mean(-y_true * log(p) - (1 - y_true) * log(1 - p)); label_smoothing moves labels towards 0.5."""
    _check_smoothing(label_smoothing)
    y_true, y_pred = _matched("binary_crossentropy", y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=from_logits), axis=axis)


@_register()
def categorical_crossentropy(
    y_true, y_pred, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-sum(y_true * log(p)) over the classes, y_true one-hot; label_smoothing moves labels towards 1 / classes."""
    _check_smoothing(label_smoothing)
    y_true, y_pred = _matched("categorical_crossentropy", y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + label_smoothing / y_true.shape[-1]
    return ops.categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)


@_register()
def sparse_categorical_crossentropy(
    y_true, y_pred, from_logits: bool = False, ignore_class: int | None = None, axis: int = -1
) -> Tensor:
    """-log(p[y_true]), y_true class numbers; targets equal to ignore_class count as masked."""
    y_pred, y_true = prediction(y_pred), as_tensor(y_true)
    if y_true.ndim == y_pred.ndim and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis)
    position = axis % y_pred.ndim
    if y_true.shape != y_pred.shape[:position] + y_pred.shape[position + 1 :]:
        raise ValueError(
            f"sparse_categorical_crossentropy: targets of shape {y_true.shape} do not match predictions of shape "
            f"{y_pred.shape}; give one class number for each prediction (or one-hot vectors to categorical_crossentropy)"
        )
    if y_true.dtype.kind not in "iu":
        y_true = as_tensor(y_true, "int32")
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=from_logits, axis=axis)
    counts = ops.not_equal(y_true, ignore_class)
    classes = ops.where(counts, y_true, 0)
    values = ops.sparse_categorical_crossentropy(classes, y_pred, from_logits=from_logits, axis=axis)
    values = ops.where(counts, values, 0.0)
    values.mask = counts
    return values
