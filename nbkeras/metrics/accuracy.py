"""Accuracies: functions that give 1.0 for each correct prediction, and their means."""

from typing import Any

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.tensor import Tensor, as_index, as_tensor
from nbkeras.losses.loss import prediction, squeeze_or_expand_to_same_rank
from nbkeras.metrics.metric import FunctionMetric, metric_function
from nbkeras.ops.arguments import broadcast_shape
from nbkeras.ops.metrics import class_matches, one_hot_matches, threshold_matches


@metric_function
def accuracy(y_true, y_pred) -> Tensor:
    """1.0 where y_pred equals y_true, else 0.0, element by element.

    Args:
        y_true: Targets, numbers of the predictions' shape; they may have a last axis of size 1 more or less.
        y_pred: Predictions, numbers of any shape.

    Returns:
        A tensor of the predictions' shape and of dtype `config.floatx()`.

    Example:
        >>> metrics.accuracy([1, 2, 3], [1, 2, 4]).numpy()
        array([1., 1., 0.], dtype=float32)
    """
    y_pred = as_tensor(y_pred)
    y_true, y_pred = squeeze_or_expand_to_same_rank(as_tensor(y_true, y_pred.dtype), y_pred)
    return ops.cast(ops.equal(y_true, y_pred), config.floatx())


@metric_function
def binary_accuracy(y_true, y_pred, threshold: float = 0.5) -> Tensor:
    """1.0 where y_pred > threshold agrees with y_true (0 or 1), else 0.0, element by element.

    Args:
        y_true: Targets, 0 or 1, of the predictions' shape; they may have a last axis of size 1 more or less.
        y_pred: Predictions of any shape, probabilities for the default threshold.
        threshold: The number above which a prediction is 1.

    Returns:
        A float tensor of the predictions' shape.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> metrics.binary_accuracy([0, 1, 1], [0.2, 0.9, 0.4]).numpy()
        array([1., 1., 0.], dtype=float32)
    """
    y_true, y_pred = squeeze_or_expand_to_same_rank(as_tensor(y_true), prediction(y_pred))
    if y_true.shape != y_pred.shape:
        shape = broadcast_shape(y_true.shape, y_pred.shape)
        if shape is None:
            raise ValueError(
                f"binary_accuracy: the targets' shape {y_true.shape} does not match the predictions' {y_pred.shape}"
            )
        y_true, y_pred = ops.broadcast_to(y_true, shape), ops.broadcast_to(y_pred, shape)
    return threshold_matches(y_true, y_pred, threshold)


@metric_function
def categorical_accuracy(y_true, y_pred) -> Tensor:
    """1.0 where the largest prediction is at the one-hot target, else 0.0.

    Args:
        y_true: One-hot targets (..., classes); otherwise the largest number marks the class.
        y_pred: Predictions (..., classes), probabilities or scores.

    Returns:
        A float tensor (...), one number for each prediction.

    Raises:
        ValueError: if the shapes differ; for class numbers use `sparse_categorical_accuracy`.

    Example:
        >>> metrics.categorical_accuracy([[0, 1], [1, 0]], [[0.1, 0.9], [0.2, 0.8]]).numpy()
        array([1., 0.], dtype=float32)
    """
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


@metric_function
def sparse_categorical_accuracy(y_true, y_pred) -> Tensor:
    """1.0 where the largest prediction is at the target, a class number, else 0.0.

    Args:
        y_true: Class numbers (...) or (..., 1), from 0.
        y_pred: Predictions (..., classes), probabilities or scores.

    Returns:
        A float tensor (...), one number for each prediction.

    Raises:
        ValueError: unless there is one class number for each prediction.

    Example:
        >>> metrics.sparse_categorical_accuracy([1, 0], [[0.1, 0.9], [0.2, 0.8]]).numpy()
        array([1., 0.], dtype=float32)
    """
    y_pred = prediction(y_pred)
    return class_matches(_class_numbers("sparse_categorical_accuracy", y_true, y_pred), y_pred)


@metric_function
def top_k_categorical_accuracy(y_true, y_pred, k: int = 5) -> Tensor:
    """1.0 where the one-hot target is among the k largest predictions, else 0.0.

    Args:
        y_true: One-hot targets (..., classes).
        y_pred: Predictions (..., classes), probabilities or scores.
        k: The number of largest predictions to consider.

    Returns:
        A float tensor (...), one number for each prediction.

    Raises:
        ValueError: if the shapes do not match.

    Example:
        >>> metrics.top_k_categorical_accuracy([[0, 0, 1], [1, 0, 0]], [[0.1, 0.6, 0.3]] * 2, k=2).numpy()
        array([1., 0.], dtype=float32)
    """
    return sparse_top_k_categorical_accuracy(ops.argmax(y_true, axis=-1), y_pred, k)


@metric_function
def sparse_top_k_categorical_accuracy(y_true, y_pred, k: int = 5, from_sorted_ids: bool = False) -> Tensor:
    """1.0 where the target, a class number, is among the k largest predictions, else 0.0.

    Args:
        y_true: Class numbers (...) or (..., 1), from 0.
        y_pred: Predictions (..., classes), probabilities or scores.
        k: The number of largest predictions to consider.
        from_sorted_ids: Whether y_pred (..., n) holds class numbers instead, the most likely first; the first k count.

    Returns:
        A float tensor (...), one number for each prediction.

    Raises:
        ValueError: unless there is one class number for each prediction.

    Example:
        >>> metrics.sparse_top_k_categorical_accuracy([2, 0], [[0.1, 0.6, 0.3]] * 2, k=2).numpy()
        array([1., 0.], dtype=float32)
        >>> metrics.sparse_top_k_categorical_accuracy([2, 0], [[1, 2, 0]] * 2, k=2, from_sorted_ids=True).numpy()
        array([1., 0.], dtype=float32)
    """
    y_pred = prediction(y_pred)
    classes = _class_numbers("sparse_top_k_categorical_accuracy", y_true, y_pred)
    if from_sorted_ids:
        matches = ops.any(ops.equal(ops.expand_dims(ops.cast(classes, y_pred.dtype), -1), y_pred[..., :k]), axis=-1)
        return ops.cast(matches, config.floatx())
    classes = ops.reshape(as_index(classes), (classes.size,))
    matches = ops.in_top_k(classes, ops.reshape(y_pred, (classes.size, y_pred.shape[-1])), k)
    return ops.cast(ops.reshape(matches, y_pred.shape[:-1]), config.floatx())


class Accuracy(FunctionMetric, fn=accuracy):
    """The fraction of predictions that equal y_true: the mean of `accuracy`.

    Example:
        >>> metric = metrics.Accuracy()
        >>> float(metric([1, 2, 3, 4], [1, 2, 3, 0]))
        0.75
        >>> float(metric([1, 2, 3, 4], [0, 0, 0, 0]))  # the mean of both batches
        0.375
    """

    _direction = "up"


class BinaryAccuracy(FunctionMetric, fn=binary_accuracy):
    """The fraction of predictions for which y_pred > threshold agrees with y_true, 0 or 1: the mean of `binary_accuracy`.

    Example:
        >>> float(metrics.BinaryAccuracy()([0, 1, 1, 1], [0.1, 0.9, 0.6, 0.4]))
        0.75
        >>> float(metrics.BinaryAccuracy(threshold=0.3)([0, 1, 1, 1], [0.1, 0.9, 0.6, 0.4]))
        1.0
    """

    _direction = "up"

    def __init__(self, name: str = "binary_accuracy", dtype: Any = None, threshold: float = 0.5):
        super().__init__(**option.keep(self, locals()))


class CategoricalAccuracy(FunctionMetric, fn=categorical_accuracy):
    """The fraction of samples in which the largest prediction is at the one-hot target: the mean of `categorical_accuracy`.

    Targets and predictions are (..., classes).

    Example:
        >>> float(metrics.CategoricalAccuracy()([[0, 1], [1, 0]], [[0.1, 0.9], [0.2, 0.8]]))
        0.5
        >>> float(metrics.CategoricalAccuracy()([[0, 1], [1, 0]], [[0.1, 0.9], [0.2, 0.8]], sample_weight=[3, 1]))
        0.75
    """

    _direction = "up"


class SparseCategoricalAccuracy(FunctionMetric, fn=sparse_categorical_accuracy):
    """The fraction of samples in which the largest prediction is at the target, a class number.

    It is the mean of `sparse_categorical_accuracy`, for targets (...) or (..., 1) and predictions (..., classes).

    Example:
        >>> float(metrics.SparseCategoricalAccuracy()([1, 0], [[0.1, 0.9], [0.2, 0.8]]))
        0.5
    """

    _direction = "up"


class TopKCategoricalAccuracy(FunctionMetric, fn=top_k_categorical_accuracy):
    """The fraction of samples in which the one-hot target is among the k largest predictions.

    It is the mean of `top_k_categorical_accuracy`, for targets and predictions (..., classes).

    Args:
        k: The number of largest predictions to consider.

    Example:
        >>> metric = metrics.TopKCategoricalAccuracy(k=2)
        >>> float(metric([[0, 0, 1], [1, 0, 0]], [[0.1, 0.6, 0.3], [0.1, 0.6, 0.3]]))
        0.5
    """

    _direction = "up"

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy", dtype: Any = None):
        super().__init__(**option.keep(self, locals()))
        self.k = k


class SparseTopKCategoricalAccuracy(FunctionMetric, fn=sparse_top_k_categorical_accuracy):
    """The fraction of samples in which the target, a class number, is among the k largest predictions.

    It is the mean of `sparse_top_k_categorical_accuracy`, for targets (...) or (..., 1) and predictions (..., classes).

    Args:
        k: The number of largest predictions to consider.
        from_sorted_ids: Whether predictions are class numbers instead, the most likely first; the first k count.

    Example:
        >>> metric = metrics.SparseTopKCategoricalAccuracy(k=2)
        >>> float(metric([2, 0], [[0.1, 0.6, 0.3], [0.1, 0.6, 0.3]]))
        0.5
    """

    _direction = "up"

    def __init__(
        self,
        k: int = 5,
        name: str = "sparse_top_k_categorical_accuracy",
        dtype: Any = None,
        from_sorted_ids: bool = False,
    ):
        super().__init__(**option.keep(self, locals()))
        self.k, self.from_sorted_ids = k, from_sorted_ids


def resolve_accuracy(y_true_shape: tuple, y_pred_shape: tuple) -> str:
    """The accuracy that 'accuracy' means in `compile` for targets and predictions of these shapes.

    Args:
        y_true_shape: The shape of the targets, with the batch axis.
        y_pred_shape: The shape of the predictions, with the batch axis.

    Returns:
        'binary_accuracy' for one prediction per sample, 'sparse_categorical_accuracy' for class numbers as targets,
        else 'categorical_accuracy'.

    Example:
        >>> metrics.resolve_accuracy((32, 1), (32, 1))
        'binary_accuracy'
        >>> metrics.resolve_accuracy((32,), (32, 10))
        'sparse_categorical_accuracy'
        >>> metrics.resolve_accuracy((32, 10), (32, 10))
        'categorical_accuracy'
    """
    if y_pred_shape and y_pred_shape[-1] == 1:
        return "binary_accuracy"
    if len(y_true_shape) < len(y_pred_shape) or (y_true_shape[-1:] == (1,) < y_pred_shape[-1:]):
        return "sparse_categorical_accuracy"
    return "categorical_accuracy"
