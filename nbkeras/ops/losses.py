"""Differentiable cross-entropies, one value per sample (or element), not reduced. `nbkeras.losses` builds on them.

Probabilities that come directly from `softmax` or `sigmoid` refer to their logits, and the loss is computed from these
logits: this is faster, and correct where a probability rounds to 0 or 1. The gradient then flows to the logits, not to
the probabilities.
Other probabilities are clipped to [epsilon, 1 - epsilon], as in Keras.
"""

from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import losses
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import as_float, as_index, axis_of
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
        raise ValueError(f"{name}: output needs an axis {axis} of one class or more, received shape {output.shape}")
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
    """-sum(target * log(p)) along an axis, where p is `output` scaled to sum to 1, or softmax(output) if from_logits.

    Shapes: both (..., classes) if the axis is the last; the result is without that axis. Differentiable in both.
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
    """-log(p[target]) along an axis, with p as in categorical_crossentropy and target the class numbers.

    Shapes: output (..., classes) if the axis is the last; target is without that axis or has size 1 there. A class number
    outside 0 <= target < classes gives NaN. Differentiable in output.
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
    """-target * log(p) - (1 - target) * log(1 - p), elementwise, where p is `output`, or its sigmoid if from_logits.

    Shapes: target, output and the result have the same shape. Differentiable in both.
    """
    target, output = _same_shape("binary_crossentropy", target, output)
    logits = _logits(output, from_logits, "sigmoid")
    if logits is not None:
        return apply(losses.sigmoid_crossentropy, losses.sigmoid_crossentropy_vjp, [target, logits])
    p = _clipped(output)
    present = elementwise.multiply(target, elementwise.log(p))
    absent = elementwise.multiply(elementwise.subtract(1.0, target), elementwise.log(elementwise.subtract(1.0, p)))
    return elementwise.negative(elementwise.add(present, absent))
