"""Intersection over union of predicted and true classes, from a confusion matrix. Source: keras/src/metrics/iou_metrics.py."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from nbkeras import config, ops
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.engine.user_errors import warn
from nbkeras.losses.loss import prediction
from nbkeras.metrics.metric import Metric
from nbkeras.ops.metrics import count_pairs

_ClassNumbers = Annotated[
    Any, option.kind(lambda name, what, ids: list(option.integers_of(name, what, ids)), "class numbers")
]


class IoU(Metric):
    """Mean intersection over union of some classes: tp / (tp + fp + fn).

    A class that occurs neither in targets nor in predictions is ignored. Samples of classes outside the confusion
    matrix are ignored too.

    Args:
        num_classes: The number of classes, and the size of the confusion matrix.
        target_class_ids: The classes to average.
        dtype: The dtype of the counts, 'int32' by default; weights are then truncated, as in Keras. The result is a float.
        ignore_class: Samples with this target are ignored; None ignores none.
        sparse_y_true: Whether targets are class numbers, or numbers for each class along `axis`.
        sparse_y_pred: Whether predictions are class numbers, or numbers for each class along `axis`.
        axis: The axis of the classes, if there is one.

    Raises:
        ValueError: unless all target_class_ids are below num_classes.

    Example:
        >>> metric = metrics.IoU(num_classes=2, target_class_ids=[0])
        >>> round(float(metric([0, 0, 1, 1], [0, 1, 0, 1])), 3)
        0.333
    """

    _direction = "up"

    def __init__(
        self,
        num_classes: option.Size,
        target_class_ids: _ClassNumbers,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: option.MaybeInteger = None,
        sparse_y_true: option.Flag = True,
        sparse_y_pred: option.Flag = True,
        axis: option.Integer = -1,
    ):
        super().__init__(name, "int32" if dtype is None else dtype)
        option.keep(self, locals())
        if not all(0 <= i < self.num_classes for i in self.target_class_ids):
            raise ValueError(
                f"IoU: target_class_ids must be from 0 to {num_classes - 1}, received {briefly(self.target_class_ids)}"
            )
        self.total_cm = self._total("total_confusion_matrix", (num_classes, num_classes))

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Count a batch in the confusion matrix.

        Args:
            y_true: Class numbers of any shape, or numbers for each class.
            y_pred: Class numbers of the targets' shape, or numbers for each class.
            sample_weight: A weight for each prediction; None for 1.
        """
        rows, columns = self._classes(y_true, self.sparse_y_true), self._classes(y_pred, self.sparse_y_pred)
        if sample_weight is not None and known_dtype(self.dtype).kind == "i":
            sample_weight = as_tensor(sample_weight)
            if sample_weight.dtype.kind == "f":
                warn(f"{self.name} counts in {self.dtype}: weights are truncated to integers; give a float dtype")
            sample_weight = ops.cast(sample_weight, "int32")
        count_pairs(rows, columns, self.total_cm, sample_weight, self.ignore_class)

    def _classes(self, x: Any, sparse: bool) -> Tensor:
        return as_tensor(x) if sparse else ops.argmax(x, axis=self.axis)

    def result(self) -> Tensor:
        right = ops.sum(ops.multiply(self.total_cm, np.eye(self.num_classes)), axis=0)
        either = ops.sum(self.total_cm, axis=0) + ops.sum(self.total_cm, axis=1) - right
        right, either = ops.take(right, self.target_class_ids), ops.take(either, self.target_class_ids)
        occurs = either > 1e-9
        ratios = ops.where(occurs, right / (either + config.epsilon()), 0.0)
        count = ops.sum(ops.cast(occurs, "float64"))
        dtype = self.dtype if known_dtype(self.dtype).kind == "f" else config.floatx()
        return ops.cast(ops.sum(ratios) / (count + config.epsilon()), dtype)


class BinaryIoU(IoU):
    """Mean intersection over union of the classes 0 and 1, with predictions of at least `threshold` as 1.

    Args:
        target_class_ids: The classes whose mean is the result.
        threshold: A prediction is 1 if it is at least this number.

    Example:
        >>> round(float(metrics.BinaryIoU(threshold=0.3)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7])), 3)
        0.333
        >>> round(float(metrics.BinaryIoU([1], threshold=0.15)([0, 1, 0, 1], [0.1, 0.2, 0.4, 0.7])), 3)
        0.667
    """

    def __init__(
        self,
        target_class_ids: _ClassNumbers = (0, 1),
        threshold: option.Number = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(2, target_class_ids, name, dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None) -> None:
        """Count a batch in the confusion matrix.

        Args:
            y_true: Targets, 0 or 1, of any shape.
            y_pred: Predictions of the targets' shape, which are thresholded to 0 or 1.
            sample_weight: A weight for each prediction; None for 1.
        """
        super().update_state(
            y_true, ops.cast(ops.greater_equal(prediction(y_pred), self.threshold), "int32"), sample_weight
        )


class MeanIoU(IoU):
    """Mean intersection over union of all classes that occur.

    Example:
        >>> round(float(metrics.MeanIoU(num_classes=2)([0, 0, 1, 1], [0, 1, 0, 1])), 3)
        0.333
    """

    def __init__(
        self,
        num_classes: option.Size,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: option.MaybeInteger = None,
        sparse_y_true: option.Flag = True,
        sparse_y_pred: option.Flag = True,
        axis: option.Integer = -1,
    ):
        ids = range(option.size_of(type(self).__name__, "num_classes", num_classes))
        if len(ids) > 10**5:
            raise ValueError(f"a confusion matrix of {len(ids)} classes does not fit into memory")
        super().__init__(num_classes, ids, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


class OneHotIoU(IoU):
    """Mean intersection over union of some classes, for one-hot targets.

    Args:
        sparse_y_pred: Whether predictions are class numbers, instead of numbers for each class along `axis`.

    Example:
        >>> metric = metrics.OneHotIoU(num_classes=3, target_class_ids=[0, 2])
        >>> y_true = np.eye(3)[[2, 0, 1, 0]]
        >>> y_pred = [[0.2, 0.3, 0.5], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1]]  # 2, 2, 0, 0
        >>> round(float(metric(y_true, y_pred)), 3)
        0.417
    """

    def __init__(
        self,
        num_classes: option.Size,
        target_class_ids: _ClassNumbers,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: option.MaybeInteger = None,
        sparse_y_pred: option.Flag = False,
        axis: option.Integer = -1,
    ):
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """Mean intersection over union of all classes that occur, for one-hot targets.

    Args:
        sparse_y_pred: Whether predictions are class numbers, instead of numbers for each class along `axis`.

    Example:
        >>> y_true, y_pred = np.eye(2)[[0, 0, 1, 1]], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]
        >>> round(float(metrics.OneHotMeanIoU(num_classes=2)(y_true, y_pred)), 3)
        0.333
    """

    def __init__(
        self,
        num_classes: option.Size,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: option.MaybeInteger = None,
        sparse_y_pred: option.Flag = False,
        axis: option.Integer = -1,
    ):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)
