"""Differentiable normalization: of each channel over a batch, of each sample over its axes."""

from collections.abc import Callable
from typing import Any

from nbkeras import config
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable, apply, as_tensor, op
from nbkeras.kernels import group_normalization as group_kernels
from nbkeras.kernels import normalization
from nbkeras.kernels.runtime import device
from nbkeras.ops import elementwise, reduce
from nbkeras.ops import shape as shapes
from nbkeras.ops.arguments import as_float, axes_of, axis_of


def _channels_last(name: str, x: Tensor, axis: int, function: Callable, *vectors: Any) -> Tensor:
    """Apply a function to x as (rows, channels) and restore x's shape; an axis that is not the last is moved last and back."""
    channels = x.shape[axis]
    for vector in vectors:
        if vector is not None and vector.shape != (channels,):
            raise ValueError(
                f"{name}: axis {axis} of x has size {channels}, so scale, offset, mean and variance must have shape "
                f"({channels},), received {vector.shape}"
            )
    last = x.ndim - 1
    moved = x if axis == last else shapes.moveaxis(x, axis, last)
    y = shapes.reshape(function(shapes.reshape(moved, (-1, channels)), *vectors), moved.shape)
    return y if axis == last else shapes.moveaxis(y, last, axis)


def _like(value: Any, x: Tensor) -> Tensor | None:
    return None if value is None else as_tensor(value, x.dtype)


@op
def batch_normalization(x, mean, variance, axis: int, offset=None, scale=None, epsilon: float = 1e-3) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, for each index of one axis.

    Shapes: x any, the others (x.shape[axis],). Differentiable in all of them. Ioffe and Szegedy, 2015.
    """
    x = as_float(x)

    def run(rows, *vectors):
        return apply(
            normalization.batch_normalization, normalization.batch_normalization_vjp, [rows, *vectors], epsilon=epsilon
        )

    vectors = [_like(value, x) for value in (mean, variance, scale, offset)]
    return _channels_last("batch_normalization", x, axis_of("batch_normalization", axis, x.ndim), run, *vectors)


@op
def batch_normalization_training(
    x, moving_mean, moving_variance, axis: int, offset=None, scale=None, momentum=0.99, epsilon=1e-3, mask=None
) -> Tensor:
    """`batch_normalization` by the batch's own mean and biased variance; updates the moving statistics in place.

    moving = momentum * moving + (1 - momentum) * batch. Shapes: x any, vectors (x.shape[axis],); moving_mean and
    moving_variance are Variables of x's dtype. mask: bool, broadcasts to x's shape without its last axis; the statistics are
    computed where it is True. Differentiable in x, scale and offset.
    """
    name = "batch_normalization_training"
    x = as_float(x)
    axis = axis_of(name, axis, x.ndim)
    for variable in (moving_mean, moving_variance):
        if not isinstance(variable, Variable):
            raise TypeError(f"{name}: the moving statistics are Variables, received {briefly(variable)}")
        if variable.dtype != x.dtype:
            raise TypeError(f"{name}: the moving statistics have dtype {variable.dtype}, x has {x.dtype}")
    rows_mask = None
    if mask is not None:
        mask, places = as_tensor(mask, "bool"), x.shape[:-1]
        if mask.ndim != len(places) or any(m not in (1, n) for m, n in zip(mask.shape, places, strict=True)):
            raise ValueError(
                f"{name}: a mask must broadcast to x's shape without its last axis, {places}; received one of shape {mask.shape}"
            )
        if axis != x.ndim - 1:
            mean, variance = _masked_moments(x, shapes.broadcast_to(shapes.expand_dims(mask, -1), x.shape), axis)
            for moving, found in ((moving_mean, mean), (moving_variance, variance)):
                moving.assign(elementwise.add(moving * momentum, found * (1 - momentum)))
            return batch_normalization(x, mean, variance, axis, offset, scale, epsilon)
        rows_mask = shapes.reshape(shapes.broadcast_to(mask, places), (-1,))

    def run(rows, moving_mean, moving_variance, scale, offset):
        tensors = [rows, scale, offset, moving_mean, moving_variance, rows_mask]
        function, vjp = normalization.batch_normalization_training, normalization.batch_normalization_training_vjp
        return apply(function, vjp, tensors, momentum=momentum, epsilon=epsilon)

    return _channels_last(name, x, axis, run, moving_mean, moving_variance, _like(scale, x), _like(offset, x))


def _masked_moments(x: Tensor, mask: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and variance at each index of an axis over the elements where the mask is True; their number may differ by index."""
    others = [i for i in range(x.ndim) if i != axis]
    count = elementwise.maximum(reduce.sum(as_tensor(mask, x.dtype), others, keepdims=True), 1.0)
    mean = elementwise.divide(reduce.sum(elementwise.where(mask, x, 0.0), others, keepdims=True), count)
    squares = reduce.sum(elementwise.square(elementwise.where(mask, x - mean, 0.0)), others, keepdims=True)
    return shapes.reshape(mean, (-1,)), shapes.reshape(elementwise.divide(squares, count), (-1,))


@op
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon: float | None = None) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, by the mean and biased variance over one or several axes.

    Shapes: x any; gamma and beta have the sizes of those axes. Ba, Kiros and Hinton, 2016.
    """
    return _by_rows("layer_normalization", x, gamma, beta, axis, epsilon, True)


@op
def rms_normalization(x, scale=None, axis=-1, epsilon: float | None = None) -> Tensor:
    """x / sqrt(mean(x**2) + epsilon) * scale, by the mean over one or several axes. Zhang and Sennrich, 2019."""
    return _by_rows("rms_normalization", x, scale, None, axis, epsilon, False)


@op
def group_normalization(x, groups: int, gamma=None, beta=None, axis=-1, epsilon: float = 1e-3) -> Tensor:
    """`layer_normalization` of each sample over groups of an axis and over all other axes except the first. Wu and He, 2018.

    Shapes: x (samples, ...), where x.shape[axis] is a multiple of groups; gamma and beta (x.shape[axis],).
    """
    x, name = as_float(x), "group_normalization"
    axis, shape = axis_of(name, axis, x.ndim), x.shape
    size, vectors = shape[axis], [_like(gamma, x), _like(beta, x)]
    if axis == 0 or groups < 1 or size % groups:
        raise ValueError(f"{name} cannot cut axis {axis} of x, of shape {shape}, into {groups} groups of one size")
    for vector in vectors:
        if vector is not None and vector.shape != (size,):
            raise ValueError(f"{name}: gamma and beta must have shape ({size},), received {vector.shape}")
    if axis == x.ndim - 1 and device.gpu() is None and 0 not in shape:
        function, vjp = group_kernels.group_normalization, group_kernels.group_normalization_vjp
        places = shapes.reshape(x, (shape[0], -1, size))
        return shapes.reshape(apply(function, vjp, [places, *vectors], groups=groups, epsilon=float(epsilon)), shape)
    grouped = shapes.reshape(x, (*shape[:axis], groups, size // groups, *shape[axis + 1 :]))
    others = [i for i in range(1, grouped.ndim) if i != axis]
    y = shapes.reshape(layer_normalization(grouped, axis=others, epsilon=epsilon), shape)
    along = [size if i == axis else 1 for i in range(x.ndim)]
    y = y if vectors[0] is None else elementwise.multiply(y, shapes.reshape(vectors[0], along))
    return y if vectors[1] is None else elementwise.add(y, shapes.reshape(vectors[1], along))


def _by_rows(name: str, x: Any, gamma: Any, beta: Any, axis: Any, epsilon: float | None, centered: bool) -> Tensor:
    x = as_float(x)
    axes = axes_of(name, axis, x.ndim)
    sizes = tuple(x.shape[i] for i in axes)
    vectors = []
    for vector in (_like(gamma, x), _like(beta, x)):
        if vector is not None and vector.shape != sizes:
            raise ValueError(
                f"{name}: scale and offset must have the shape of axes {axes}, {sizes}; received {vector.shape}"
            )
        vectors.append(None if vector is None else shapes.reshape(vector, (-1,)))
    constants = {"epsilon": config.epsilon() if epsilon is None else epsilon, "centered": centered}

    def run(rows: Tensor) -> Tensor:
        return apply(
            normalization.layer_normalization, normalization.layer_normalization_vjp, [rows, *vectors], **constants
        )

    return shapes.over_axes(x, axes, run)
