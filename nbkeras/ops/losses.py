"""Differentiable cross-entropies, one value per sample (or element), not reduced. `nbkeras.losses` builds on them.

Probabilities that come directly from `softmax` or `sigmoid` refer to their logits. The loss is computed from these
logits: this is faster, and correct if a probability rounds to 0 or 1. The gradient then flows to the logits, not to
the probabilities.
Other probabilities are clipped to [epsilon, 1 - epsilon], as in Keras.
"""

from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_float, as_index, as_tensor, op
from nbkeras.kernels import losses
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import axis_of
from nbkeras.ops.shape import moveaxis, reshape


def _same_shape(name: str, target: Any, output: Any) -> tuple[Tensor, Tensor]:
    predicted = as_float(output)
    expected = as_tensor(target, predicted.dtype)
    if expected.shape != predicted.shape:
        raise ValueError(
            f"{name}: target and output must have the same shape, received {expected.shape} and {predicted.shape}"
        )
    return expected, predicted


def _class_axis(name: str, axis: int, output: Tensor) -> int:
    if output.ndim == 0 or output.shape[axis_of(name, axis, output.ndim)] == 0:
        raise ValueError(
            f"{name}: output needs an axis {briefly(axis)} of one class or more, received shape {output.shape}"
        )
    return axis_of(name, axis, output.ndim)


def _logits(output: Tensor, from_logits: bool, activation: str) -> Tensor | None:
    """The logits: `output` itself, or the tensor that `activation` computed it from; None if there is none."""
    if from_logits:
        return output
    return output.logits[1] if output.logits is not None and output.logits[0] == activation else None


def _last(x: Tensor, axis: int) -> Tensor:
    return x if axis == x.ndim - 1 else moveaxis(x, axis, -1)


def _clipped(probabilities: Tensor) -> Tensor:
    return elementwise.clip(probabilities, config.epsilon(), 1.0 - config.epsilon())


@op
def categorical_crossentropy(target, output, from_logits: bool = False, axis: int = -1) -> Tensor:
    """Cross-entropy of classes: -sum(target * log(p)) along an axis, not reduced over the samples.

    p is `output` divided by its sum, or softmax(output) with from_logits.

    Args:
        target: Probabilities of the classes, in most cases one-hot vectors (..., classes).
        output: Predicted probabilities (or logits), of target's shape; integers become floatx. Probabilities
            that `softmax` returned are replaced by their logits, which then receive the gradient; others
            are clipped to [epsilon, 1 - epsilon].
        from_logits: Whether `output` holds logits, the scores before the softmax, instead of probabilities.
        axis: The axis of the classes, counted from the end if negative.

    Returns:
        A tensor of output's float dtype, without the axis of the classes. Differentiable in both.

    Raises:
        ValueError: if the shapes differ, or there are no classes.

    Example:
        >>> ops.categorical_crossentropy([[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5], [1.0, 0.0]]).numpy().round(4)
        array([0.6931, 0.    ], dtype=float32)
    """
    target, output = _same_shape("categorical_crossentropy", target, output)
    at = _class_axis("categorical_crossentropy", axis, output)
    logits = _logits(output, from_logits, "softmax") if at == output.ndim - 1 or from_logits else None
    if logits is not None:
        tensors = [_last(target, at), _last(logits, at)]
        return apply(losses.softmax_crossentropy, losses.softmax_crossentropy_vjp, tensors)
    p = _clipped(elementwise.divide(output, reduce.sum(output, at, keepdims=True)))
    return elementwise.negative(reduce.sum(elementwise.multiply(target, elementwise.log(p)), at))


@op
def sparse_categorical_crossentropy(target, output, from_logits: bool = False, axis: int = -1) -> Tensor:
    """Cross-entropy of class numbers: -log(p[target]) along an axis, not reduced over the samples.

    p is `output` divided by its sum, or softmax(output) with from_logits.

    Args:
        target: Class numbers (...), or with size 1 at the axis. A number outside 0 <= target < classes gives
            NaN.
        output: Predicted probabilities (or logits) (..., classes); integers become floatx. Probabilities
            that `softmax` returned are replaced by their logits, which then receive the gradient; others
            are clipped to [epsilon, 1 - epsilon].
        from_logits: Whether `output` holds logits, the scores before the softmax, instead of probabilities.
        axis: The axis of the classes, counted from the end if negative.

    Returns:
        A tensor of output's float dtype, without the axis of the classes. Differentiable in output.

    Raises:
        ValueError: if the shapes do not fit, or there are no classes.

    Example:
        >>> ops.sparse_categorical_crossentropy([1, 0], [[0.5, 0.5], [1.0, 0.0]]).numpy().round(4)
        array([0.6931, 0.    ], dtype=float32)
    """
    name = "sparse_categorical_crossentropy"
    output = as_float(output)
    at = _class_axis(name, axis, output)
    target = as_index(target, np.int32)
    rest = output.shape[:at] + output.shape[at + 1 :]
    if target.shape == output.shape[:at] + (1,) + output.shape[at + 1 :]:
        target = reshape(target, rest)
    if target.shape != rest:
        raise ValueError(
            f"{name}: target must hold one class number for each prediction, of shape {rest} for an output of shape "
            f"{output.shape}; received {target.shape}"
        )
    logits = _logits(output, from_logits, "softmax") if at == output.ndim - 1 or from_logits else None
    if logits is not None:
        return _sparse(target, _last(logits, at))
    p = _last(_clipped(elementwise.divide(output, reduce.sum(output, at, keepdims=True))), at)
    loss = _sparse(target, elementwise.log(p))
    return elementwise.subtract(loss, elementwise.log(reduce.sum(p, -1)))  # after clipping, p does not sum exactly to 1


def _sparse(target: Tensor, logits: Tensor) -> Tensor:
    return apply(losses.sparse_softmax_crossentropy, losses.sparse_softmax_crossentropy_vjp, [target, logits])


@op
def binary_crossentropy(target, output, from_logits: bool = False) -> Tensor:
    """Cross-entropy of two classes, elementwise: -target * log(p) - (1 - target) * log(1 - p).

    p is `output`, or sigmoid(output) with from_logits.

    Args:
        target: Labels 0 and 1, or probabilities.
        output: Predicted probabilities (or logits), of target's shape; integers become floatx. Probabilities
            that `sigmoid` returned are replaced by their logits, which then receive the gradient; others
            are clipped to [epsilon, 1 - epsilon].
        from_logits: Whether `output` holds logits, the scores before the sigmoid, instead of probabilities.

    Returns:
        A tensor of output's shape and float dtype. Differentiable in both.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> ops.binary_crossentropy([1.0, 0.0, 1.0], [0.5, 0.5, 1.0]).numpy().round(4)
        array([0.6931, 0.6931, 0.    ], dtype=float32)
    """
    target, output = _same_shape("binary_crossentropy", target, output)
    logits = _logits(output, from_logits, "sigmoid")
    if logits is not None:
        return apply(losses.sigmoid_crossentropy, losses.sigmoid_crossentropy_vjp, [target, logits])
    p = _clipped(output)
    present = elementwise.multiply(target, elementwise.log(p))
    absent = elementwise.multiply(elementwise.subtract(1.0, target), elementwise.log(elementwise.subtract(1.0, p)))
    return elementwise.negative(elementwise.add(present, absent))
