"""Accuracies: functions that give 1.0 for each correct prediction, and their means."""

from collections.abc import Callable
from typing import Any, TypeVar

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.losses.loss import prediction, squeeze_or_expand_to_same_rank
from nbkeras.metrics.metric import FunctionMetric, PlainFunctionMetric, functions, registry
from nbkeras.ops.arguments import as_index
from nbkeras.ops.metrics import class_matches, one_hot_matches, threshold_matches

F = TypeVar("F", bound=Callable)


def _register(function: F) -> F:
    return functions.register(op(function))


@_register
def accuracy(y_true, y_pred) -> Tensor:
    """1.0 where y_pred equals y_true, else 0.0."""
    y_pred = as_tensor(y_pred)
    y_true, y_pred = squeeze_or_expand_to_same_rank(as_tensor(y_true, y_pred.dtype), y_pred)
    return ops.cast(ops.equal(y_true, y_pred), config.floatx())


@_register
def binary_accuracy(y_true, y_pred, threshold: float = 0.5) -> Tensor:
    """1.0 where y_pred > threshold agrees with y_true (0 or 1), else 0.0, element by element."""
    y_true, y_pred = squeeze_or_expand_to_same_rank(as_tensor(y_true), prediction(y_pred))
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"binary_accuracy: the targets' shape {y_true.shape} does not match the predictions' {y_pred.shape}"
        )
    return threshold_matches(y_true, y_pred, threshold)


@_register
def categorical_accuracy(y_true, y_pred) -> Tensor:
    """1.0 where the largest of y_pred (..., classes) is the largest of y_true, one-hot, else 0.0."""
    y_pred = prediction(y_pred)
    y_true = as_tensor(y_true, y_pred.dtype)
    if y_true.shape != y_pred.shape:
        raise ValueError(
            f"categorical_accuracy: the targets' shape {y_true.shape} does not match the predictions' {y_pred.shape}; give "
            "one-hot vectors, or use sparse_categorical_accuracy for class numbers"
        )
    return one_hot_matches(y_true, y_pred)


def _class_numbers(name: str, y_true: Any, y_pred: Tensor) -> Tensor:
    """Class numbers with one axis less than the predictions."""
    y_true = as_tensor(y_true)
    if y_true.ndim == y_pred.ndim > 0 and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    if not y_pred.ndim or y_true.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"{name}: targets of shape {y_true.shape} do not match predictions of shape {y_pred.shape}; give one class "
            "number for each prediction"
        )
    return y_true


@_register
def sparse_categorical_accuracy(y_true, y_pred) -> Tensor:
    """1.0 where the largest of y_pred (..., classes) is at y_true, a class number, else 0.0."""
    y_pred = prediction(y_pred)
    return class_matches(_class_numbers("sparse_categorical_accuracy", y_true, y_pred), y_pred)


@_register
def top_k_categorical_accuracy(y_true, y_pred, k: int = 5) -> Tensor:
    """1.0 where the largest of y_true, one-hot, is among the k largest of y_pred (..., classes), else 0.0."""
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


@_register
def sparse_top_k_categorical_accuracy(y_true, y_pred, k: int = 5, from_sorted_ids: bool = False) -> Tensor:
    """1.0 where y_true, a class number, is among the k largest of y_pred (..., classes), else 0.0.

    from_sorted_ids: y_pred (..., n) holds class numbers instead, the likeliest first.
    """
    y_pred = prediction(y_pred)
    classes = _class_numbers("sparse_top_k_categorical_accuracy", y_true, y_pred)
    if from_sorted_ids:
        matches = ops.any(ops.equal(ops.expand_dims(ops.cast(classes, y_pred.dtype), -1), y_pred[..., :k]), axis=-1)
        return ops.cast(matches, config.floatx())
    classes = ops.reshape(as_index(classes), (classes.size,))
    matches = ops.in_top_k(classes, ops.reshape(y_pred, (classes.size, y_pred.shape[-1])), k)
    return ops.cast(ops.reshape(matches, y_pred.shape[:-1]), config.floatx())


@registry.register
class Accuracy(PlainFunctionMetric, fn=accuracy):
    """The fraction of predictions equal to y_true."""

    _direction = "up"


@registry.register
class BinaryAccuracy(FunctionMetric):
    """The fraction of predictions for which y_pred > threshold agrees with y_true, 0 or 1."""

    _direction = "up"

    def __init__(self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5):
        super().__init__(binary_accuracy, **option.given(locals()))


@registry.register
class CategoricalAccuracy(PlainFunctionMetric, fn=categorical_accuracy):
    """The fraction of samples in which the largest prediction is at the one-hot target."""

    _direction = "up"


@registry.register
class SparseCategoricalAccuracy(PlainFunctionMetric, fn=sparse_categorical_accuracy):
    """The fraction of samples in which the largest prediction is at the target, a class number."""

    _direction = "up"


@registry.register
class TopKCategoricalAccuracy(FunctionMetric):
    """The fraction of samples in which the one-hot target is among the k largest predictions."""

    _direction = "up"

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None):
        super().__init__(top_k_categorical_accuracy, **option.given(locals()))
        self.k = k


@registry.register
class SparseTopKCategoricalAccuracy(FunctionMetric):
    """The fraction of samples in which the target, a class number, is among the k largest predictions."""

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        super().__init__(sparse_top_k_categorical_accuracy, **option.given(locals()))
        self.k, self.from_sorted_ids = k, from_sorted_ids


def resolve_accuracy(y_true_shape: tuple, y_pred_shape: tuple) -> str:
    """The name of the accuracy that 'accuracy' means for targets and predictions of these shapes."""
    if y_pred_shape and y_pred_shape[-1] == 1:
        return "binary_accuracy"
    if len(y_true_shape) < len(y_pred_shape) or (y_true_shape[-1:] == (1,) < y_pred_shape[-1:]):
        return "sparse_categorical_accuracy"
    return "categorical_accuracy"
