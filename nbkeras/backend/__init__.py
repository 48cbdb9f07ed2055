"""Keras 2's backend functions, usually imported as `from nbkeras import backend as K`: ops of nbkeras.ops under their old names.

They accept Tensors, arrays and symbolic tensors, so custom losses, metrics and Lambda layers can use them. `shape` returns a
tuple of integers, with None for an unknown size of a symbolic tensor.

Not offered, and why:
get_session, set_session, manual_variable_initialization, name_scope: there are no sessions and no graph of names.
is_sparse, to_dense, placeholder(sparse=True), ctc_label_dense_to_sparse: there are no sparse tensors.
"""

# ruff: noqa: F811 (arguments named as in Keras)

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkeras import ops, random
from nbkeras.backend.dtypes import is_float_dtype as is_float_dtype
from nbkeras.backend.dtypes import is_int_dtype as is_int_dtype
from nbkeras.backend.dtypes import result_type as result_type
from nbkeras.backend.dtypes import standardize_dtype as standardize_dtype
from nbkeras.backend.variables import normalize_data_format as normalize_data_format
from nbkeras.config import epsilon as epsilon
from nbkeras.config import floatx as floatx
from nbkeras.config import image_data_format as image_data_format
from nbkeras.config import set_epsilon as set_epsilon
from nbkeras.config import set_floatx as set_floatx
from nbkeras.config import set_image_data_format as set_image_data_format
from nbkeras.engine import documentation as _documentation
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.learning_phase import learning_phase as learning_phase
from nbkeras.engine.learning_phase import set_learning_phase as set_learning_phase
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.ops import abs as abs
from nbkeras.ops import all as all
from nbkeras.ops import any as any
from nbkeras.ops import batch_dot as batch_dot
from nbkeras.ops import binary_crossentropy as binary_crossentropy
from nbkeras.ops import cast as cast
from nbkeras.ops import categorical_crossentropy as categorical_crossentropy
from nbkeras.ops import cos as cos
from nbkeras.ops import dot as dot
from nbkeras.ops import elu as elu
from nbkeras.ops import equal as equal
from nbkeras.ops import exp as exp
from nbkeras.ops import floor as floor
from nbkeras.ops import greater as greater
from nbkeras.ops import greater_equal as greater_equal
from nbkeras.ops import is_tensor as is_tensor
from nbkeras.ops import less as less
from nbkeras.ops import less_equal as less_equal
from nbkeras.ops import log as log
from nbkeras.ops import logsumexp as logsumexp
from nbkeras.ops import max as max
from nbkeras.ops import maximum as maximum
from nbkeras.ops import mean as mean
from nbkeras.ops import min as min
from nbkeras.ops import minimum as minimum
from nbkeras.ops import ndim as ndim
from nbkeras.ops import not_equal as not_equal
from nbkeras.ops import ones_like as ones_like
from nbkeras.ops import print_tensor as print_tensor
from nbkeras.ops import prod as prod
from nbkeras.ops import round as round
from nbkeras.ops import shape as shape
from nbkeras.ops import sigmoid as sigmoid
from nbkeras.ops import sign as sign
from nbkeras.ops import sin as sin
from nbkeras.ops import softmax as softmax
from nbkeras.ops import softplus as softplus
from nbkeras.ops import softsign as softsign
from nbkeras.ops import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from nbkeras.ops import square as square
from nbkeras.ops import squeeze as squeeze
from nbkeras.ops import stack as stack
from nbkeras.ops import std as std
from nbkeras.ops import stop_gradient as stop_gradient
from nbkeras.ops import sum as sum
from nbkeras.ops import tanh as tanh
from nbkeras.ops import transpose as transpose
from nbkeras.ops import var as var
from nbkeras.ops import zeros_like as zeros_like
from nbkeras.ops.arguments import sizes_of as _sizes_of
from nbkeras.random import truncated_normal as truncated_normal

# -------------------- elementwise and reductions with other defaults than ops --------------------


def clip(x, min_value, max_value) -> Tensor:
    """x limited to the interval from min_value to max_value. Today: `ops.clip(x, min_value, max_value)`.

    Example:
        >>> K.clip([-2.0, 0.5, 3.0], 0.0, 1.0).numpy()
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return ops.clip(x, min_value, max_value)


def argmax(x, axis: int = -1) -> Tensor:
    """The position of the largest element along an axis. Today: `ops.argmax`, whose axis is None by default.

    Example:
        >>> K.argmax([[1, 5, 2], [7, 0, 3]]).numpy()
        array([1, 0], dtype=int32)
    """
    return ops.argmax(x, axis)


def argmin(x, axis: int = -1) -> Tensor:
    """The position of the smallest element along an axis. Today: `ops.argmin`, whose axis is None by default.

    Example:
        >>> K.argmin([[1, 5, 2], [7, 0, 3]]).numpy()
        array([0, 1], dtype=int32)
    """
    return ops.argmin(x, axis)


def cumsum(x, axis: int = 0) -> Tensor:
    """The running sums along an axis. Today: `ops.cumsum`, whose axis is None by default.

    Example:
        >>> K.cumsum([1, 2, 3]).numpy()
        array([1, 3, 6], dtype=int32)
    """
    return ops.cumsum(x, axis)


def cumprod(x, axis: int = 0) -> Tensor:
    """The running products along an axis. Today: `ops.cumprod`, whose axis is None by default.

    Example:
        >>> K.cumprod([1, 2, 3, 4]).numpy()
        array([ 1,  2,  6, 24], dtype=int32)
    """
    return ops.cumprod(x, axis)


def pow(x, a) -> Tensor:
    """x to the power a. Today: `ops.power(x, a)`.

    Example:
        >>> K.pow([1.0, 2.0, 3.0], 2).numpy()
        array([1., 4., 9.], dtype=float32)
    """
    return ops.power(x, a)


def sqrt(x) -> Tensor:
    """The square root; 0 for negative numbers, where `ops.sqrt` gives NaN.

    Example:
        >>> K.sqrt([4.0, -1.0]).numpy()
        array([2., 0.], dtype=float32)
    """
    return ops.sqrt(ops.maximum(x, 0.0))


def l2_normalize(x, axis=None) -> Tensor:
    """x / sqrt(max(sum(x^2), 1e-12)) over axes. Today: `ops.l2_normalize`, whose axis is -1 by default.

    Example:
        >>> K.l2_normalize([3.0, 4.0]).numpy()
        array([0.6, 0.8], dtype=float32)
    """
    return ops.l2_normalize(x, axis)


# -------------------- shape --------------------


def concatenate(tensors: Sequence, axis: int = -1) -> Tensor:
    """Join tensors along an axis. Today: `ops.concatenate(tensors)`, whose axis is 0 by default.

    Example:
        >>> K.concatenate([[[1, 2]], [[3]]]).numpy()
        array([[1, 2, 3]], dtype=int32)
    """
    return ops.concatenate(tensors, axis)


def expand_dims(x, axis: int = -1) -> Tensor:
    """Add an axis of size 1. Today: `ops.expand_dims`.

    Example:
        >>> K.expand_dims([1, 2, 3]).shape
        (3, 1)
    """
    return ops.expand_dims(x, axis)


def reshape(x, shape) -> Tensor:
    """The same elements, in the same order, in another shape. Today: `ops.reshape(x, shape)`.

    Example:
        >>> K.reshape([1, 2, 3, 4, 5, 6], (2, -1)).numpy()
        array([[1, 2, 3],
               [4, 5, 6]], dtype=int32)
    """
    return ops.reshape(x, shape)


def permute_dimensions(x, pattern) -> Tensor:
    """Put the axes in another order. Today: `ops.transpose(x, pattern)`.

    Example:
        >>> K.permute_dimensions(np.ones((2, 3, 4)), (0, 2, 1)).shape
        (2, 4, 3)
    """
    return ops.transpose(x, pattern)


def flatten(x) -> Tensor:
    """All elements along one axis. Today: `ops.ravel(x)`.

    Example:
        >>> K.flatten([[1, 2], [3, 4]]).numpy()
        array([1, 2, 3, 4], dtype=int32)
    """
    return ops.reshape(x, (-1,))


def batch_flatten(x) -> Tensor:
    """The elements of each sample along one axis. Today: `ops.reshape(x, (len(x), -1))`.

    Args:
        x: A tensor (samples, ...) of any dtype.

    Returns:
        A tensor (samples, elements) of x's dtype.

    Raises:
        ValueError: for a tensor without axes.

    Example:
        >>> K.batch_flatten(np.ones((2, 3, 4))).shape
        (2, 12)
    """
    sizes = shape(x)
    if not sizes:
        raise ValueError("batch_flatten: expected samples along a first axis, received a tensor without axes")
    return ops.reshape(x, (-1, int(np.prod(sizes[1:]))) if sizes[0] is None else (sizes[0], -1))


def repeat(x, n: int) -> Tensor:
    """Repeat each row of a matrix, as the layer RepeatVector does.

    Args:
        x: A tensor (batch, features) of any dtype.
        n: The number of repetitions.

    Returns:
        A tensor (batch, n, features) of x's dtype.

    Example:
        >>> K.repeat([[1, 2], [3, 4]], 3)[1].numpy()
        array([[3, 4],
               [3, 4],
               [3, 4]], dtype=int32)
    """
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def repeat_elements(x, rep: int, axis: int) -> Tensor:
    """Repeat each element along an axis. Today: `ops.repeat(x, rep, axis)`.

    Example:
        >>> K.repeat_elements([[1, 2]], 3, axis=1).numpy()
        array([[1, 1, 1, 2, 2, 2]], dtype=int32)
    """
    return ops.repeat(x, rep, axis)


def tile(x, n) -> Tensor:
    """Repeat the whole tensor along axes. Today: `ops.tile(x, n)`.

    Example:
        >>> K.tile([[1, 2]], (2, 2)).numpy()
        array([[1, 2, 1, 2],
               [1, 2, 1, 2]], dtype=int32)
    """
    return ops.tile(x, n)


def arange(start, stop=None, step=1, dtype="int32") -> Tensor:
    """The numbers start, start + step, ... up to stop, without stop. Today: `ops.arange`, which chooses the dtype.

    Args:
        dtype: The dtype. Floats are truncated for an integer dtype.

    Example:
        >>> K.arange(1, 7, 2).numpy()
        array([1, 3, 5], dtype=int32)
    """
    return ops.arange(start, stop, step, dtype)


def gather(reference, indices) -> Tensor:
    """The slices of a tensor at positions along its first axis. Today: `ops.take(reference, indices, axis=0)`.

    Example:
        >>> K.gather([[1, 2], [3, 4], [5, 6]], [2, 0]).numpy()
        array([[5, 6],
               [1, 2]], dtype=int32)
    """
    return ops.take(reference, indices, axis=0)


def one_hot(indices, num_classes: int) -> Tensor:
    """Vectors with 1 at the class and 0 elsewhere. Today: `ops.one_hot(indices, num_classes)`.

    Example:
        >>> K.one_hot([0, 2], 3).numpy()
        array([[1., 0., 0.],
               [0., 0., 1.]], dtype=float32)
    """
    return ops.one_hot(indices, num_classes)


def reverse(x, axes) -> Tensor:
    """Reverse the order of the elements along axes. Today: `ops.flip(x, axes)`.

    Example:
        >>> K.reverse([[1, 2], [3, 4]], axes=1).numpy()
        array([[2, 1],
               [4, 3]], dtype=int32)
    """
    return ops.flip(x, axes)


def slice(x, start, size) -> Tensor:
    """A part of a tensor. Today: `x[a:b]`, or `ops.slice` for a start that changes from step to step.

    Args:
        x: A tensor of any dtype.
        start: The first index on each axis, a tuple of integers that are not negative.
        size: The number of elements on each axis; -1 for all from the start on.

    Raises:
        ValueError: for a negative start, or a wrong number of axes.

    Example:
        >>> K.slice([[1, 2, 3], [4, 5, 6]], (0, 1), (-1, 2)).numpy()
        array([[2, 3],
               [5, 6]], dtype=int32)
    """
    start, size = _sizes_of("slice", start), _sizes_of("slice", size)
    if [first for first in start if first < 0]:
        raise ValueError(f"slice: a start must not be negative, received {start}: count from the first element")
    if len(start) != len(size):
        raise ValueError(f"slice: expected a size for each start, received {start} and {size}")
    ends = [None if n == -1 else first + n for first, n in zip(start, size, strict=True)]
    return ops.getitem(x, tuple(_SLICE(first, end) for first, end in zip(start, ends, strict=True)))


_SLICE = type(np.s_[0:1])  # Python's slice; `slice` is Keras's here


# -------------------- neural networks --------------------


def relu(x, alpha=0.0, max_value=None, threshold: float = 0.0) -> Tensor:
    """max_value where x >= max_value, x where x > threshold, else alpha * (x - threshold).

    Today: `ops.relu(x, alpha, max_value, threshold)`.

    Args:
        alpha: A number, or a tensor that broadcasts to x.
        max_value: A number, a tensor that broadcasts to x, or None.

    Example:
        >>> K.relu([-1.0, 0.5, 3.0], alpha=0.1, max_value=2.0).numpy()
        array([-0.1,  0.5,  2. ], dtype=float32)
    """
    if not (ops.is_tensor(alpha) or ops.is_tensor(max_value)):
        return ops.relu(x, alpha, max_value, threshold)
    above = ops.relu(x, threshold=threshold)
    below = alpha * ops.minimum(ops.subtract(x, threshold), 0.0)
    return ops.add(above if max_value is None else ops.minimum(above, max_value), below)


def hard_sigmoid(x) -> Tensor:
    """min(max(0.2 x + 0.5, 0), 1), as in Keras 2. Today: `ops.legacy_hard_sigmoid`; `ops.hard_sigmoid` is Keras 3's.

    Example:
        >>> K.hard_sigmoid([-3.0, 0.0, 1.0]).numpy()
        array([0. , 0.5, 0.7], dtype=float32)
    """
    return ops.legacy_hard_sigmoid(x)


def in_top_k(predictions, targets, k: int) -> Tensor:
    """Whether each target class is among the k largest predictions of its row.

    Today: `ops.in_top_k`, which takes the targets first.

    Example:
        >>> K.in_top_k([[0.1, 0.9], [0.6, 0.4]], [1, 1], k=1).numpy()
        array([ True, False])
    """
    return ops.in_top_k(targets, predictions, k)


def dropout(x, level: float, noise_shape=None, seed: int | None = None) -> Tensor:
    """x / (1 - level), with each element set to 0 with probability `level`.

    Today: `random.dropout(x, level, noise_shape, seed)`.

    Example:
        >>> np.unique(K.dropout(np.ones(100), 0.5, seed=1))
        array([0., 2.])
    """
    return random.dropout(x, level, noise_shape, seed)


def _like(value: Any, x: Any) -> Any:
    """Arrays as tensors of x's dtype; tensors unchanged."""
    return value if ops.is_tensor(value) or value is None else as_tensor(value, x.dtype)


def bias_add(x, bias, data_format: str | None = None) -> Tensor:
    """x plus a bias.

    Args:
        x: Numbers (batch, ..., channels).
        bias: Numbers (channels,), or numbers in the shape of a sample with the channels last.
        data_format: 'channels_last', 'channels_first' for x of shape (batch, channels, ...), or None for
            `config.image_data_format()`.

    Returns:
        A tensor of x's shape.

    Raises:
        ValueError: for a bias with a wrong number of axes.

    Example:
        >>> K.bias_add(np.zeros((1, 2)), [1.0, 2.0]).numpy()
        array([[1., 2.]])
    """
    x = x if ops.is_tensor(x) else as_tensor(x)
    bias = _like(bias, x)
    sizes, axes = shape(bias), len(shape(x))
    if len(sizes) not in (1, axes - 1):
        raise ValueError(f"bias_add: an input of {axes} axes needs a bias of 1 or {axes - 1}, received shape {sizes}")
    if normalize_data_format(data_format) == "channels_first" and axes > 2:
        sizes = (sizes[-1], *sizes[:-1])
        bias = ops.reshape(bias, sizes if len(sizes) > 1 else (*sizes, *(1,) * (axes - 2)))
    return ops.add(x, bias)


def batch_normalization(x, mean, var, beta, gamma, axis: int = -1, epsilon: float = 1e-3) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) * gamma + beta.

    The four parameters may have additional axes of size 1. Today:
    `ops.batch_normalization(x, mean, var, axis, beta, gamma, epsilon)`.

    Example:
        >>> K.batch_normalization([[1.0, 5.0]], [1.0, 2.0], [1.0, 9.0], [1.0, 0.0], [1.0, 1.0], epsilon=0.0).numpy()
        array([[1., 1.]], dtype=float32)
    """
    x = x if ops.is_tensor(x) else as_tensor(x)
    flat = [each if each is None else ops.reshape(_like(each, x), (-1,)) for each in (mean, var, beta, gamma)]
    return ops.batch_normalization(x, flat[0], flat[1], axis, flat[2], flat[3], epsilon)


def normalize_batch_in_training(x, gamma, beta, reduction_axes, epsilon: float = 1e-3):
    """x normalized by its mean and variance over axes, times gamma, plus beta.

    Args:
        x: Floats of any shape.
        gamma: Numbers in the shape of the mean, or None for 1.
        beta: Numbers in the shape of the mean, or None for 0.
        reduction_axes: A list of the axes over which the mean and the variance are computed.
        epsilon: A small number that avoids a division by zero.

    Returns:
        The normalized x, the mean and the variance.

    Example:
        >>> y, mean, var = K.normalize_batch_in_training([[0.0], [2.0]], None, None, [0], epsilon=0.0)
        >>> y.numpy().ravel(), mean.numpy(), var.numpy()
        (array([-1.,  1.], dtype=float32), array([1.], dtype=float32), array([1.], dtype=float32))
    """
    middle, spread = ops.mean(x, reduction_axes, keepdims=True), ops.var(x, reduction_axes, keepdims=True)
    y = ops.multiply(ops.subtract(x, middle), ops.rsqrt(ops.add(spread, epsilon)))
    gamma, beta = (each if each is None else ops.reshape(_like(each, middle), shape(middle)) for each in (gamma, beta))
    y = y if gamma is None else ops.multiply(y, gamma)
    y = y if beta is None else ops.add(y, beta)
    return y, ops.squeeze(middle, reduction_axes), ops.squeeze(spread, reduction_axes)


# -------------------- random --------------------


def random_binomial(shape, p: float = 0.0, dtype=None, seed=None) -> Tensor:
    """1 with probability p, else 0. Today: `random.bernoulli(shape, p, dtype, seed)`.

    Example:
        >>> x = K.random_binomial((10000,), p=0.2, seed=1)
        >>> round(float(K.mean(x)), 1)
        0.2
    """
    return random.bernoulli(shape, p, dtype, seed)


random_bernoulli = random_binomial

if TYPE_CHECKING:  # imported at first use
    from nbkeras.backend.control import *
    from nbkeras.backend.convolutions import *
    from nbkeras.backend.ctc import *
    from nbkeras.backend.variables import *

_lazy_names.attach(globals())
_documentation.attach_to_functions(sys.modules[__name__], K=sys.modules[__name__], ops=ops, random=random)
