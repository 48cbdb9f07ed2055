"""Keras 2's backend functions, usually `from nbkeras import backend as K`: each is an op of nbkeras.ops by its old name.

They take Tensors, arrays and symbolic tensors, so that custom losses, metrics and Lambda layers can be written with them.
`shape` gives a tuple of integers (None where a symbolic tensor leaves a size open).

Left out, with what to use instead:
get_session, set_session, manual_variable_initialization, name_scope: there are no sessions and no graph of names.
is_sparse, to_dense, placeholder(sparse=True), ctc_label_dense_to_sparse: there are no sparse tensors.
"""

# ruff: noqa: F401, F811 (names for others; arguments named as in Keras)

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras import inputs, layer, naming, ops, random
from nbkeras.config import epsilon, floatx, image_data_format, set_epsilon, set_floatx, set_image_data_format
from nbkeras.control import foldl, foldr, function, gradients, in_test_phase, in_train_phase, map_fn, rnn, switch
from nbkeras.convolutions import (
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    depthwise_conv2d,
    local_conv1d,
    local_conv2d,
    pool2d,
    pool3d,
    resize_images,
    resize_volumes,
    separable_conv1d,
    separable_conv2d,
    spatial_2d_padding,
    spatial_3d_padding,
    temporal_padding,
)
from nbkeras.ctc import ctc_batch_cost, ctc_decode
from nbkeras.graph import SymbolicTensor
from nbkeras.layer import learning_phase, set_learning_phase
from nbkeras.layer import training_phase as learning_phase_scope
from nbkeras.ops import (
    abs,
    all,
    any,
    batch_dot,
    binary_crossentropy,
    cast,
    categorical_crossentropy,
    cos,
    dot,
    elu,
    equal,
    exp,
    floor,
    greater,
    greater_equal,
    is_tensor,
    less,
    less_equal,
    log,
    logsumexp,
    max,
    maximum,
    mean,
    min,
    minimum,
    ndim,
    not_equal,
    ones_like,
    print_tensor,
    prod,
    round,
    shape,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    softsign,
    sparse_categorical_crossentropy,
    square,
    squeeze,
    stack,
    std,
    stop_gradient,
    sum,
    tanh,
    transpose,
    var,
    zeros_like,
)
from nbkeras.ops import power as pow
from nbkeras.ops.window import data_format_of
from nbkeras.random import normal as random_normal
from nbkeras.random import truncated_normal
from nbkeras.random import uniform as random_uniform
from nbkeras.tensor import Tensor, Variable, as_tensor

# -------------------- settings --------------------


def backend() -> str:
    """'nbkeras'."""
    return "nbkeras"


def cast_to_floatx(x) -> np.ndarray | Tensor:
    """An array or tensor in floatx."""
    return cast(x, floatx()) if ops.is_tensor(x) else np.asarray(x, floatx())


def clear_session() -> None:
    """Start counting layer names anew."""
    naming.clear_names()
    reset_uids()


_uids: Counter[str] = Counter()


def get_uid(prefix: str = "") -> int:
    """1, 2, ...: another number each time, counted for each prefix."""
    _uids[prefix] += 1
    return _uids[prefix]


def reset_uids() -> None:
    """Let `get_uid` begin anew."""
    _uids.clear()


def normalize_data_format(value: str | None) -> str:
    """A data format in small letters, None that of the configuration; ValueError for others."""
    return data_format_of("data_format", value)


# -------------------- tensors and variables --------------------


def variable(value, dtype=None, name: str | None = None, constraint=None) -> Variable:
    """A Variable, floatx by default."""
    made = Variable(value, name or "variable", dtype=dtype or floatx())
    made.constraint = constraint
    return made


def constant(value, dtype=None, shape=None, name: str | None = None) -> Tensor:
    """A constant tensor, floatx by default; one number may fill a shape."""
    array = np.asarray(value, dtype or floatx())
    return as_tensor(array if shape is None else np.broadcast_to(array, shape).copy())


def placeholder(shape=None, ndim: int | None = None, dtype=None, sparse: bool = False, name: str | None = None):
    """A symbolic input by its whole shape (with the batch axis), or by its number of axes."""
    if sparse:
        raise ValueError("sparse placeholders are not offered")
    if shape is None:
        if ndim is None:
            raise ValueError("placeholder needs shape=(batch, ...) or ndim")
        shape = (None,) * ndim
    return inputs.Input(batch_shape=shape, dtype=dtype, name=name)


def is_keras_tensor(x) -> bool:
    """Whether x is a symbolic tensor: made by Input() or by calling layers on one."""
    return isinstance(x, SymbolicTensor)


def is_variable(x) -> bool:
    """Whether x is a Variable."""
    return isinstance(x, Variable)


def is_placeholder(x) -> bool:
    """Whether x was made by Input()."""
    return is_keras_tensor(x) and x.node is not None and not x.node.inputs


int_shape = get_variable_shape = shape


def dtype(x) -> str:
    """The dtype's name."""
    return np.dtype(x.dtype).name


def size(x) -> int:
    """The number of elements."""
    return as_tensor(x).size


count_params = size


def get_value(x) -> np.ndarray:
    """The value as a NumPy array."""
    return ops.convert_to_numpy(x)


eval = get_value


def batch_get_value(tensors: Sequence) -> list[np.ndarray]:
    """The values of several tensors."""
    return [get_value(each) for each in tensors]


def set_value(x: Variable, value) -> None:
    """Write a value into a variable."""
    x.assign(value)


def batch_set_value(tuples: Sequence[tuple[Variable, Any]]) -> None:
    """Write values into variables: [(variable, value), ...]."""
    for x, value in tuples:
        x.assign(value)


def update(x: Variable, new_x) -> Variable | tuple:
    """Write a tensor into a variable; of a symbolic tensor, the pair (x, new_x) for `function(updates=...)`."""
    return (x, new_x) if is_keras_tensor(new_x) else x.assign(new_x)


def update_add(x: Variable, increment) -> Variable | tuple:
    """Add a tensor to a variable in place, as `update` does."""
    return update(x, ops.add(x, increment))


def update_sub(x: Variable, decrement) -> Variable | tuple:
    """Subtract a tensor from a variable in place, as `update` does."""
    return update(x, ops.subtract(x, decrement))


def moving_average_update(x: Variable, value, momentum: float) -> Variable | tuple:
    """x = x * momentum + value * (1 - momentum), in place, as `update` does."""
    return update(x, ops.add(ops.multiply(x, momentum), ops.multiply(value, 1.0 - momentum)))


def zeros(shape, dtype=None, name: str | None = None) -> Variable:
    """A variable of zeros."""
    return Variable(ops.zeros(shape, dtype).data, name or "variable")


def ones(shape, dtype=None, name: str | None = None) -> Variable:
    """A variable of ones."""
    return Variable(ops.ones(shape, dtype).data, name or "variable")


def eye(size, dtype=None, name: str | None = None) -> Variable:
    """A variable with ones on the diagonal; size: one number, or (rows, columns)."""
    rows, columns = size if isinstance(size, list | tuple) else (size, size)
    return Variable(ops.eye(rows, columns, 0, dtype).data, name or "variable")


def random_uniform_variable(shape, low, high, dtype=None, name: str | None = None, seed=None) -> Variable:
    """A variable of uniform numbers."""
    return Variable(random.uniform(shape, low, high, dtype, seed), name or "variable")


def random_normal_variable(shape, mean, scale, dtype=None, name: str | None = None, seed=None) -> Variable:
    """A variable of normal numbers."""
    return Variable(random.normal(shape, mean, scale, dtype, seed), name or "variable")


def identity(x, name: str | None = None) -> Tensor:
    """x."""
    return ops.linear(x)


# -------------------- elementwise and reductions with other defaults than ops --------------------


def clip(x, min_value, max_value) -> Tensor:
    """x, at least min_value and at most max_value."""
    return ops.clip(x, min_value, max_value)


def argmax(x, axis: int = -1) -> Tensor:
    """Position of the largest element along an axis."""
    return ops.argmax(x, axis)


def argmin(x, axis: int = -1) -> Tensor:
    """Position of the smallest element along an axis."""
    return ops.argmin(x, axis)


def cumsum(x, axis: int = 0) -> Tensor:
    """Running sums along an axis."""
    return ops.cumsum(x, axis)


def cumprod(x, axis: int = 0) -> Tensor:
    """Running products along an axis."""
    return ops.cumprod(x, axis)


def sqrt(x) -> Tensor:
    """The square root, 0 of negative numbers."""
    return ops.sqrt(ops.maximum(x, 0.0))


def l2_normalize(x, axis=None) -> Tensor:
    """x / sqrt(max(sum(x^2), 1e-12)) over axes."""
    return ops.multiply(x, ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis, keepdims=True), 1e-12)))


# -------------------- shape --------------------


def concatenate(tensors: Sequence, axis: int = -1) -> Tensor:
    """Tensors one after the other along an axis."""
    return ops.concatenate(tensors, axis)


def expand_dims(x, axis: int = -1) -> Tensor:
    """A new axis of size 1."""
    return ops.expand_dims(x, axis)


def reshape(x, shape) -> Tensor:
    """The elements in another shape; -1: whatever is left."""
    return ops.reshape(x, shape)


def permute_dimensions(x, pattern) -> Tensor:
    """The axes in another order."""
    return ops.transpose(x, pattern)


def flatten(x) -> Tensor:
    """All elements along one axis."""
    return ops.reshape(x, (-1,))


def batch_flatten(x) -> Tensor:
    """The elements of each sample along one axis."""
    sizes = shape(x)
    return ops.reshape(x, (-1, int(np.prod(sizes[1:]))) if sizes[0] is None else (sizes[0], -1))


def repeat(x, n: int) -> Tensor:
    """Each row of a matrix n times: (batch, features) gives (batch, n, features)."""
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def repeat_elements(x, rep: int, axis: int) -> Tensor:
    """Each element rep times in a row along an axis."""
    return ops.repeat(x, rep, axis)


def tile(x, n) -> Tensor:
    """x laid out n times along each axis."""
    return ops.tile(x, n)


def arange(start, stop=None, step=1, dtype="int32") -> Tensor:
    """start, start + step, ... below stop."""
    return ops.arange(start, stop, step, dtype)


def gather(reference, indices) -> Tensor:
    """The slices of `reference` at the indices along its first axis."""
    return ops.take(reference, indices, axis=0)


def one_hot(indices, num_classes: int) -> Tensor:
    """1 at each index and 0 elsewhere, along a new last axis."""
    return ops.one_hot(indices, num_classes)


def reverse(x, axes) -> Tensor:
    """The elements in reverse order along axes."""
    return ops.flip(x, axes)


def slice(x, start, size) -> Tensor:
    """`size` elements from `start` on along each axis; a size of -1: all that follow."""
    ends = [None if n == -1 else first + n for first, n in zip(start, size, strict=True)]
    return ops.getitem(x, tuple(_SLICE(first, end) for first, end in zip(start, ends, strict=True)))


_SLICE = type(np.s_[0:1])  # Python's slice, whose name is taken here


# -------------------- neural networks --------------------


def relu(x, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """max_value where x >= max_value, x where x >= threshold, else alpha * (x - threshold)."""
    return ops.relu(x, alpha, max_value, threshold)


def hard_sigmoid(x) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), as in Keras 2; `ops.hard_sigmoid` is Keras 3's."""
    return ops.clip(ops.add(ops.multiply(x, 0.2), 0.5), 0.0, 1.0)


def in_top_k(predictions, targets, k: int) -> Tensor:
    """Whether each target class is among the k largest predictions of its row."""
    return ops.in_top_k(targets, predictions, k)


def dropout(x, level: float, noise_shape=None, seed: int | None = None) -> Tensor:
    """x / (1 - level) with elements set to 0 with probability `level`."""
    return random.dropout(x, level, noise_shape, seed)


def _like(value: Any, x: Any) -> Any:
    """Arrays as tensors of x's dtype; tensors as they are."""
    return value if ops.is_tensor(value) or value is None else as_tensor(value, x.dtype)


def bias_add(x, bias, data_format: str | None = None) -> Tensor:
    """x plus a bias: a number for each channel, or of the shape of a sample with the channels last."""
    bias = _like(bias, x)
    sizes, axes = shape(bias), len(shape(x))
    if len(sizes) not in (1, axes - 1):
        raise ValueError(f"bias_add: a bias has 1 or {axes - 1} axes for an input of {axes}, received shape {sizes}")
    if normalize_data_format(data_format) == "channels_first" and axes > 2:
        sizes = (sizes[-1], *sizes[:-1])
        bias = ops.reshape(bias, sizes if len(sizes) > 1 else (*sizes, *(1,) * (axes - 2)))
    return ops.add(x, bias)


def batch_normalization(x, mean, var, beta, gamma, axis: int = -1, epsilon: float = 1e-3) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) * gamma + beta, for each index of an axis: of one axis each, or as broad as x."""
    flat = [each if each is None else ops.reshape(_like(each, x), (-1,)) for each in (mean, var, beta, gamma)]
    return ops.batch_normalization(x, flat[0], flat[1], axis, flat[2], flat[3], epsilon)


def normalize_batch_in_training(x, gamma, beta, reduction_axes, epsilon: float = 1e-3):
    """x normalized by its own mean and variance over axes, times gamma plus beta; and that mean and variance."""
    middle, spread = ops.mean(x, reduction_axes, keepdims=True), ops.var(x, reduction_axes, keepdims=True)
    y = ops.multiply(ops.subtract(x, middle), ops.rsqrt(ops.add(spread, epsilon)))
    gamma, beta = (each if each is None else ops.reshape(_like(each, middle), shape(middle)) for each in (gamma, beta))
    y = y if gamma is None else ops.multiply(y, gamma)
    y = y if beta is None else ops.add(y, beta)
    return y, ops.squeeze(middle, reduction_axes), ops.squeeze(spread, reduction_axes)


# -------------------- random --------------------


def random_binomial(shape, p: float = 0.0, dtype=None, seed=None) -> Tensor:
    """1 with probability p, else 0."""
    return random.bernoulli(shape, p, dtype, seed)


random_bernoulli = random_binomial
