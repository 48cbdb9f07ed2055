"""Differentiable cross-entropies. An output that comes from softmax or sigmoid is taken by its logits, which is faster and
exact; other probabilities are clipped as in Keras.
"""

from __future__ import annotations

import numpy as np

from nbkeras import config
from nbkeras.kernels import losses as kernels
from nbkeras.ops import elementwise, indexing, reduce, shape
from nbkeras.ops.arguments import as_float, axis_of
from nbkeras.tensor import Tensor, apply, as_tensor, op


def _source(output: Tensor, activation: str) -> Tensor | None:
    """What the output was computed from, if by that activation."""
    return output.logits[1] if output.logits is not None and output.logits[0] == activation else None


def _last(x: Tensor, axis: int) -> Tensor:
    return x if axis == x.ndim - 1 else shape.moveaxis(x, axis, -1)


def _prepared(name: str, output, axis: int, from_logits: bool) -> tuple[Tensor, bool]:
    """The output with its classes last, and whether it holds logits."""
    output = as_float(output)
    if output.ndim < 1:
        raise ValueError(f"{name} needs an output with a class axis, received a number")
    axis = axis_of(name, axis, output.ndim)
    logits = _source(output, "softmax") if axis == output.ndim - 1 and not from_logits else None
    return (_last(output, axis), from_logits) if logits is None else (logits, True)


@op
def categorical_crossentropy(target, output, from_logits: bool = False, axis: int = -1) -> Tensor:
    """-sum(target log(output)) over the class axis: two tensors of one shape -> the shape without that axis."""
    name = "categorical_crossentropy"
    x, is_logits = _prepared(name, output, axis, from_logits)
    target = as_tensor(target, x.dtype)
    if target.ndim != x.ndim:
        raise ValueError(f"{name}: target and output must have the same shape, received {target.shape} and {x.shape}")
    target = _last(target, axis_of(name, axis, target.ndim))
    if target.shape != x.shape:
        raise ValueError(f"{name}: target and output must have the same shape, received {target.shape} and {x.shape}")
    if is_logits:
        return apply(kernels.softmax_crossentropy, kernels.softmax_crossentropy_vjp, [target, x])
    return elementwise.negative(reduce.sum(target * elementwise.log(_clipped(_normalized(x))), axis=-1))


def _normalized(x: Tensor) -> Tensor:
    return elementwise.divide(x, reduce.sum(x, axis=-1, keepdims=True))


def _clipped(x: Tensor) -> Tensor:
    epsilon = config.epsilon()
    return elementwise.clip(x, epsilon, 1 - epsilon)


@op
def sparse_categorical_crossentropy(target, output, from_logits: bool = False, axis: int = -1) -> Tensor:
    """-log(output[class]) for class numbers: target (...), output (..., classes) -> (...). A number out of range gives NaN."""
    name = "sparse_categorical_crossentropy"
    x, is_logits = _prepared(name, output, axis, from_logits)
    target = as_tensor(target)
    if target.ndim == x.ndim and target.shape[-1] == 1:
        target = shape.squeeze(target, -1)
    if target.shape != x.shape[:-1]:
        raise ValueError(
            f"{name}: target must have the output's shape without its class axis, {x.shape[:-1]}, received {target.shape}"
        )
    target = as_tensor(target, np.int32)
    if is_logits:
        return apply(kernels.sparse_softmax_crossentropy, kernels.sparse_softmax_crossentropy_vjp, [target, x])
    classes = indexing.one_hot(target, x.shape[-1], dtype=x.dtype)
    picked = elementwise.negative(reduce.sum(classes * elementwise.log(_clipped(_normalized(x))), axis=-1))
    inside = elementwise.logical_and(elementwise.greater_equal(target, 0), elementwise.less(target, x.shape[-1]))
    return elementwise.where(inside, picked, float("nan"))


@op
def binary_crossentropy(target, output, from_logits: bool = False) -> Tensor:
    """-target log(output) - (1 - target) log(1 - output), elementwise, for two tensors of one shape."""
    output = as_float(output)
    target = as_tensor(target, output.dtype)
    if target.shape != output.shape:
        raise ValueError(
            f"binary_crossentropy: target and output must have the same shape, received {target.shape} and {output.shape}"
        )
    logits = output if from_logits else _source(output, "sigmoid")
    if logits is not None:
        return apply(kernels.sigmoid_crossentropy, kernels.sigmoid_crossentropy_vjp, [target, logits])
    p = _clipped(output)
    one = elementwise.multiply(target, elementwise.log(p))
    zero = elementwise.multiply(elementwise.subtract(1.0, target), elementwise.log(elementwise.subtract(1.0, p)))
    return elementwise.negative(elementwise.add(one, zero))
