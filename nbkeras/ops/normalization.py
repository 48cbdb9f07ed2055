"""Differentiable normalization: of each channel over a batch, of each sample over its axes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine import load_budget, sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable, apply, as_float, as_tensor, op
from nbkeras.kernels import group_normalization as group_kernels
from nbkeras.kernels import normalization
from nbkeras.kernels.runtime import device
from nbkeras.ops import activations, elementwise, indexing, reduce
from nbkeras.ops.arguments import axes_of, axis_of
from nbkeras.ops.shape import _over_axes, broadcast_to, expand_dims, moveaxis, reshape


def _channels_last(name: str, x: Tensor, axis: int, function: Callable, *vectors: Any) -> Tensor:
    """Apply a function to x as (rows, channels) and restore x's shape; another axis than the last is moved last and back."""
    channels = x.shape[axis]
    for vector in vectors:
        if vector is not None and vector.shape != (channels,):
            raise ValueError(
                f"{name}: axis {axis} of x has size {channels}, so scale, offset, mean and variance must have shape "
                f"({channels},), received {vector.shape}"
            )
    last = x.ndim - 1
    moved = x if axis == last else moveaxis(x, axis, last)
    y = reshape(function(reshape(moved, (math.prod(moved.shape[:-1]), channels)), *vectors), moved.shape)
    return y if axis == last else moveaxis(y, last, axis)


def _like(value: Any, x: Tensor) -> Tensor | None:
    return None if value is None else as_tensor(value, x.dtype)


@op
def batch_normalization(x, mean, variance, axis: int, offset=None, scale=None, epsilon: float = 1e-3) -> Tensor:
    """Normalize channels by given statistics: (x - mean) / sqrt(variance + epsilon) * scale + offset.

    Source: Ioffe and Szegedy, 2015. `moments` computes the mean and the variance of a batch.

    Args:
        x: Floats of any shape; integers become floatx.
        mean: Numbers (x.shape[axis],).
        variance: Numbers (x.shape[axis],).
        axis: The axis of the channels, counted from the end if negative.
        offset: Numbers (x.shape[axis],), or None for 0.
        scale: Numbers (x.shape[axis],), or None for 1.
        epsilon: A small number that avoids a division by zero.

    Returns:
        A tensor of x's shape and float dtype. Differentiable in x and the vectors.

    Raises:
        ValueError: if the shape of a vector does not fit.

    Example:
        >>> x = np.array([[1.0, 10.0], [3.0, 30.0]])
        >>> ops.batch_normalization(x, mean=[2.0, 20.0], variance=[1.0, 100.0], axis=-1, epsilon=0.0).numpy()
        array([[-1., -1.],
               [ 1.,  1.]])
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
    x,
    moving_mean,
    moving_variance,
    axis: int,
    offset=None,
    scale=None,
    momentum=0.99,
    epsilon=1e-3,
    mask=None,
    synchronized=False,
) -> Tensor:
    """Normalize channels by the batch's own mean and biased variance, and update moving statistics in place.

    moving = momentum * moving + (1 - momentum) * batch. Source: Ioffe and Szegedy, 2015.

    Args:
        x: Floats of any shape; integers become floatx.
        moving_mean: A Variable (x.shape[axis],) of x's dtype.
        moving_variance: A Variable (x.shape[axis],) of x's dtype.
        axis: The axis of the channels, counted from the end if negative.
        offset: Numbers (x.shape[axis],), or None for 0.
        scale: Numbers (x.shape[axis],), or None for 1.
        momentum: The fraction of the moving statistics that is kept.
        epsilon: A small number that avoids a division by zero.
        mask: Booleans that broadcast to x's shape without its last axis: the statistics are computed where
            they are True. None for all.
        synchronized: Whether the batch is the joint batch of all processes that train together, not only this process's rows.

    Returns:
        A tensor of x's shape and float dtype. Differentiable in x, scale and offset.

    Raises:
        TypeError: if the moving statistics are not Variables of x's dtype.
        ValueError: if the shape of a vector or of the mask does not fit.

    Example:
        >>> mean, variance = keras.Variable([0.0]), keras.Variable([1.0])
        >>> x = ops.array([[1.0], [3.0]])
        >>> ops.batch_normalization_training(x, mean, variance, axis=-1, momentum=0.5).numpy().round(2)
        array([[-1.],
               [ 1.]], dtype=float32)
        >>> mean.numpy()
        array([1.], dtype=float32)
    """
    name = "batch_normalization_training"
    x = as_float(x)
    axis = axis_of(name, axis, x.ndim)
    for variable in (moving_mean, moving_variance):
        if not isinstance(variable, Variable):
            raise TypeError(f"{name}: the moving statistics are Variables, received {briefly(variable)}")
        if variable.data.dtype != x.data.dtype:
            raise TypeError(f"{name}: the moving statistics have dtype {variable.dtype}, x has {x.dtype}")
    rows_mask = None
    if mask is not None:
        mask, places = as_tensor(mask, "bool"), x.shape[:-1]
        if mask.ndim != len(places) or any(m not in (1, n) for m, n in zip(mask.shape, places, strict=True)):
            raise ValueError(
                f"{name}: a mask must broadcast to x's shape without its last axis, {places}; received shape {mask.shape}"
            )
        if axis != x.ndim - 1:
            everywhere = broadcast_to(expand_dims(mask, -1), x.shape)
            mean, variance = _masked_moments(x, everywhere, axis, synchronized)
            for moving, found in ((moving_mean, mean), (moving_variance, variance)):
                moving.assign(elementwise.add(moving * momentum, found * (1 - momentum)))
            return batch_normalization(x, mean, variance, axis, offset, scale, epsilon)
        rows_mask = reshape(broadcast_to(mask, places), (-1,))

    def run(rows, moving_mean, moving_variance, scale, offset):
        tensors = [rows, scale, offset, moving_mean, moving_variance, rows_mask]
        function, vjp = normalization.batch_normalization_training, normalization.batch_normalization_training_vjp
        sums = sharding.sums() if synchronized else None
        over = {} if sums is None else {"ranks": sums}
        return apply(function, vjp, tensors, momentum=momentum, epsilon=epsilon, **over)

    return _channels_last(name, x, axis, run, moving_mean, moving_variance, _like(scale, x), _like(offset, x))


def _masked_moments(x: Tensor, mask: Tensor, axis: int, synchronized: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance at each index of an axis over the elements where the mask is True; their number may differ by index.

    synchronized: whether the batch is the joint batch of all processes.
    """
    total = sharding.total if synchronized else lambda part: part
    others = [i for i in range(x.ndim) if i != axis]
    count = elementwise.maximum(total(reduce.sum(as_tensor(mask, x.dtype), others, keepdims=True)), 1.0)
    mean = elementwise.divide(total(reduce.sum(elementwise.where(mask, x, 0.0), others, keepdims=True)), count)
    squares = total(reduce.sum(elementwise.square(elementwise.where(mask, x - mean, 0.0)), others, keepdims=True))
    return reshape(mean, (-1,)), reshape(elementwise.divide(squares, count), (-1,))


@op
def layer_normalization(x, gamma=None, beta=None, axis: Any = -1, epsilon: float | None = None) -> Tensor:
    """Normalize each sample by its mean and variance: (x - mean) / sqrt(variance + epsilon) * gamma + beta.

    The variance is the biased one. Source: Ba, Kiros and Hinton, 2016.

    Args:
        x: Floats of any shape; integers become floatx.
        gamma: Numbers with the sizes of the axes, or None for 1.
        beta: Numbers with the sizes of the axes, or None for 0.
        axis: The axis or axes of the mean and the variance, counted from the end if negative.
        epsilon: A small number that avoids a division by zero; None for `config.epsilon()`.

    Returns:
        A tensor of x's shape and float dtype.

    Raises:
        ValueError: if the shape of gamma or beta does not fit.

    Example:
        >>> ops.layer_normalization([[1.0, 3.0], [10.0, 30.0]]).numpy().round(3)
        array([[-1.,  1.],
               [-1.,  1.]], dtype=float32)
    """
    return _by_rows("layer_normalization", x, gamma, beta, axis, epsilon, True)


@op
def rms_normalization(x, scale=None, axis: Any = -1, epsilon: float | None = None) -> Tensor:
    """Divide each sample by the root of its mean square: x / sqrt(mean(x^2) + epsilon) * scale.

    Source: Zhang and Sennrich, 2019.

    Args:
        x: Floats of any shape; integers become floatx.
        scale: Numbers with the sizes of the axes, or None for 1.
        axis: The axis or axes of the mean, counted from the end if negative.
        epsilon: A small number that avoids a division by zero; None for `config.epsilon()`.

    Returns:
        A tensor of x's shape and float dtype.

    Raises:
        ValueError: if the shape of scale does not fit.

    Example:
        >>> ops.rms_normalization([[1.0, 7.0]]).numpy().round(3)
        array([[0.2, 1.4]], dtype=float32)
    """
    return _by_rows("rms_normalization", x, scale, None, axis, epsilon, False)


@op
def group_normalization(x, groups: int, gamma=None, beta=None, axis: Any = -1, epsilon: float = 1e-3) -> Tensor:
    """Normalize each sample over groups of channels and over all other axes except the first.

    The formula is the same as in `layer_normalization`. Source: Wu and He, 2018.

    Args:
        x: Floats (samples, ...); integers become floatx.
        groups: The number of groups; it divides x.shape[axis].
        gamma: Numbers (x.shape[axis],), or None for 1.
        beta: Numbers (x.shape[axis],), or None for 0.
        axis: The axis of the channels, counted from the end if negative; not the first.
        epsilon: A small number that avoids a division by zero.

    Returns:
        A tensor of x's shape and float dtype.

    Raises:
        ValueError: if the groups do not divide the axis, or the shape of gamma or beta does not fit.

    Example:
        >>> ops.group_normalization([[1.0, 3.0, 10.0, 30.0]], groups=2).numpy().round(2)
        array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    x, name = as_float(x), "group_normalization"
    axis, shape = axis_of(name, axis, x.ndim), x.shape
    size, vectors = shape[axis], [_like(gamma, x), _like(beta, x)]
    if axis == 0 or groups < 1 or size % groups:
        raise ValueError(
            f"{name} cannot cut axis {axis} of x, of shape {shape}, into {briefly(groups)} groups of equal size"
        )
    for vector in vectors:
        if vector is not None and vector.shape != (size,):
            raise ValueError(f"{name}: gamma and beta must have shape ({size},), received {vector.shape}")
    if axis == x.ndim - 1 and device.gpu() is None and 0 not in shape:
        function, vjp = group_kernels.group_normalization, group_kernels.group_normalization_vjp
        places = reshape(x, (shape[0], -1, size))
        return reshape(apply(function, vjp, [places, *vectors], groups=groups, epsilon=float(epsilon)), shape)
    grouped = reshape(x, (*shape[:axis], groups, size // groups, *shape[axis + 1 :]))
    others = [i for i in range(1, grouped.ndim) if i != axis]
    y = reshape(layer_normalization(grouped, axis=others, epsilon=epsilon), shape)
    along = [size if i == axis else 1 for i in range(x.ndim)]
    y = y if vectors[0] is None else elementwise.multiply(y, reshape(vectors[0], along))
    return y if vectors[1] is None else elementwise.add(y, reshape(vectors[1], along))


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
        vectors.append(None if vector is None else reshape(vector, (-1,)))
    constants = {"epsilon": config.epsilon() if epsilon is None else epsilon, "centered": centered}

    def run(rows: Tensor) -> Tensor:
        return apply(
            normalization.layer_normalization, normalization.layer_normalization_vjp, [rows, *vectors], **constants
        )

    return _over_axes(x, axes, run)


# -------------------- along an axis, without weights --------------------


@op
def l2_normalize(x, axis: Any = -1, epsilon: float = 1e-12) -> Tensor:
    """x divided by its Euclidean norm along an axis: x / sqrt(max(sum(x^2), epsilon)).

    Args:
        x: Numbers of any shape; integers become floatx.
        axis: The axis of the sum, or several of them; None for all.
        epsilon: The lower limit of the sum of squares, so that zeros stay zeros.

    Example:
        >>> ops.l2_normalize([[3.0, 4.0], [0.0, 0.0]]).numpy().round(4)
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    x = as_float(x)
    squares = reduce.sum(elementwise.square(x), axis=axis, keepdims=True)
    return elementwise.multiply(x, elementwise.rsqrt(elementwise.maximum(squares, epsilon)))


@op
def sparsemax(x, axis: int = -1) -> Tensor:
    """A softmax with exact zeros: max(x - tau, 0) along an axis, with Keras 3's tau.

    tau is computed from the k largest elements, which stay positive in Martins and Astudillo, 2016: tau is
    (the sum of the running sums of these k elements - 1) / k. The paper takes only the last running sum, so that
    its result sums to 1; this result does so only if k is 1.

    Args:
        x: Numbers of one axis or more; integers become floatx.
        axis: The axis of the sum.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.sparsemax([[1.0, 3.0], [0.5, 1.0]]).numpy()
        array([[0.  , 1.  ],
               [0.  , 0.25]], dtype=float32)
    """
    x = as_float(x)
    along = axis_of("sparsemax", axis, x.ndim)
    falling = elementwise.negative(indexing.sort(elementwise.negative(x), along))
    sums = reduce.cumsum(falling, along)
    load_budget.take_briefly(8 * x.shape[along], f"sparsemax over {x.shape[along]} numbers")
    ranks = np.arange(1, x.shape[along] + 1, dtype=x.dtype).reshape([-1 if i == along else 1 for i in range(x.ndim)])
    inside = as_tensor(elementwise.greater(elementwise.add(elementwise.multiply(falling, ranks), 1), sums), x.dtype)
    count = reduce.sum(inside, along, keepdims=True)
    total = reduce.sum(elementwise.multiply(sums, inside), along, keepdims=True)
    return activations.relu(elementwise.subtract(x, elementwise.divide(elementwise.subtract(total, 1), count)))
