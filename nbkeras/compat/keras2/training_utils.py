"""Functions of Keras 2's `keras.engine.training_utils` for users' training loops."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.data.arrays import class_weights
from nbkeras.engine.tensor import as_tensor

_SAME_SHAPE = ("mean_squared_error", "binary_crossentropy", "categorical_crossentropy")


def make_batches(size: int, batch_size: int) -> list[tuple[int, int]]:
    """The pairs (first row, row after the last) of the batches of an array."""
    return [(start, min(size, start + batch_size)) for start in range(0, size, batch_size)]


def check_array_length_consistency(inputs: Any, targets: Any, weights: Any = None) -> None:
    """Raise ValueError if arrays in these lists have different numbers of rows; None counts as 0 rows."""
    found = {}
    for name, arrays in (("inputs", inputs), ("targets", targets), ("sample weights", weights)):
        counts = {0} if arrays is None else {0 if each is None else len(each) for each in arrays}
        if len(counts) > 1:
            raise ValueError(f"all {name} must have the same number of samples, received {sorted(counts)}")
        found[name] = counts
    for name in ("inputs", "sample weights"):
        if found[name] and found["targets"] and found[name] != found["targets"]:
            raise ValueError(f"there are {found[name].pop()} {name}, but {found['targets'].pop()} targets")


def check_loss_and_target_compatibility(targets: Sequence, loss_fns: Sequence, output_shapes: Sequence) -> None:
    """Raise ValueError for targets that do not fit their loss: class numbers, or a shape other than the output's."""
    for y, loss, shape in zip(targets, loss_fns, output_shapes, strict=True):
        name = getattr(loss, "name", getattr(loss, "__name__", None))
        if y is None or name not in _SAME_SHAPE:
            continue
        if name == "categorical_crossentropy" and y.shape[-1] == 1:
            raise ValueError(
                f"You are passing a target array of shape {y.shape} while using as loss `categorical_crossentropy`, which "
                "expects one-hot rows: use to_categorical(y), or the loss sparse_categorical_crossentropy"
            )
        if any(size is not None and size != given for given, size in zip(y.shape[1:], shape[1:], strict=False)):
            raise ValueError(
                f"A target array with shape {y.shape} was passed for an output of shape {shape} while using as loss "
                f"`{name}`, which expects targets to have the same shape as the output"
            )


def standardize_weights(y, sample_weight=None, class_weight=None, sample_weight_mode=None) -> np.ndarray:
    """A weight for each sample, or with mode 'temporal' for each step: sample weights times class weights."""
    axes = {None: 1, "temporal": 2}[sample_weight_mode]
    weights = np.ones(y.shape[:axes], config.floatx())
    if sample_weight is not None:
        if sample_weight.shape != weights.shape:
            raise ValueError(f"sample_weight must have the shape {weights.shape}, received {sample_weight.shape}")
        weights = weights * sample_weight
    return weights if class_weight is None else weights * class_weights(y, class_weight)


def weighted_masked_objective(fn: Callable | None) -> Callable | None:
    """A function (y_true, y_pred, weights, mask=None) -> scalar, from a loss function of (y_true, y_pred)."""
    if fn is None:
        return None

    def weighted(y_true, y_pred, weights, mask=None):
        values = fn(y_true, y_pred)
        if mask is not None:
            mask = ops.cast(mask, config.floatx())
            values = values * mask / (ops.mean(mask) + config.epsilon())
        if weights is not None:
            weights = as_tensor(weights)
            values = (
                ops.mean(values, axis=tuple(range(weights.ndim, values.ndim))) if values.ndim > weights.ndim else values
            )
            values = values * weights / ops.mean(ops.cast(ops.not_equal(weights, 0), config.floatx()))
        return ops.mean(values)

    return weighted
