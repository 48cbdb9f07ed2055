"""Keras 2's backend functions that make, read and write variables, constants and placeholders; part of `backend`."""

# ruff: noqa: F811 (arguments named as in Keras)

import gc
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras import ops, random
from nbkeras.building import inputs
from nbkeras.building.graph import SymbolicTensor
from nbkeras.config import floatx
from nbkeras.engine import dtype_policy, naming, settings
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.engine.user_errors import checked, entry
from nbkeras.ops import cast, shape
from nbkeras.ops.arguments import new_sizes, pair_of
from nbkeras.ops.window import data_format_of

random_normal, random_uniform = random.normal, random.uniform

# -------------------- settings --------------------


def backend() -> str:
    """The name of the backend. Today: `config.backend()`.

    Returns:
        'nbkeras'; while nbkeras is installed as keras, the name that `install_as_keras` has chosen.

    Example:
        >>> K.backend()
        'nbkeras'
    """
    return settings.backend()


def cast_to_floatx(x) -> np.ndarray | Tensor:
    """Numbers in the dtype `config.floatx()`.

    Args:
        x: An array, a list, a number, a tensor or a symbolic tensor.

    Returns:
        A tensor for a tensor, else an array.

    Example:
        >>> K.cast_to_floatx([1, 2])
        array([1., 2.], dtype=float32)
    """
    return cast(x, floatx()) if ops.is_tensor(x) else array_of(x, floatx())


def clear_session(free_memory: bool = True) -> None:
    """Restart the numbers in layer names, so that the next Dense is called 'dense' again.

    Args:
        free_memory: Whether to collect garbage too.

    Example:
        >>> keras.utils.clear_session()
        >>> layers.Dense(1).name, layers.Dense(1).name
        ('dense', 'dense_1')
    """
    naming.clear_names()
    dtype_policy.set_dtype_policy(None)
    reset_uids()
    if free_memory:
        gc.collect()


_uids: Counter[str] = Counter()


@checked
def get_uid(prefix: str = "") -> int:
    """The next of the numbers 1, 2, ... for a prefix; `K.reset_uids` and `K.clear_session` start again.

    Args:
        prefix: A string; each prefix is numbered separately.

    Example:
        >>> K.reset_uids()
        >>> K.get_uid("dense"), K.get_uid("dense"), K.get_uid("lstm")
        (1, 2, 1)
    """
    _uids[prefix] += 1
    return _uids[prefix]


def reset_uids() -> None:
    """Restart the numbers of `K.get_uid`.

    Example:
        >>> K.reset_uids()
        >>> K.get_uid("dense")
        1
    """
    _uids.clear()


def normalize_data_format(value: str | None) -> str:
    """A data format in lower case.

    Args:
        value: 'channels_last' or 'channels_first' in any case; None for `config.image_data_format()`.

    Raises:
        ValueError: for any other value.

    Example:
        >>> K.normalize_data_format(None), K.normalize_data_format("Channels_First")
        ('channels_last', 'channels_first')
    """
    return data_format_of("data_format", value)


# -------------------- tensors and variables --------------------


def variable(value, dtype=None, name: str | None = None, constraint=None) -> Variable:
    """A variable. Today: `keras.Variable(value)`.

    Args:
        value: The first value: an array, a list, a number or a tensor.
        dtype: The dtype; None for `config.floatx()`.
        name: A name for messages and files.
        constraint: Function of the variable; after each update an optimizer calls it and writes the result; or
            None.

    Example:
        >>> v = K.variable([1, 2], name="v")
        >>> v.name, K.dtype(v)
        ('v', 'float32')
    """
    made = Variable(value, name=name, dtype=dtype or floatx())
    made.constraint = constraint
    return made


def constant(value, dtype=None, shape=None, name: str | None = None) -> Tensor:
    """A constant tensor. Today: `ops.convert_to_tensor(value)`.

    Args:
        value: An array, a list or a number.
        dtype: The dtype; None for `config.floatx()`.
        shape: The shape; None for the shape of the value. A value with fewer elements is broadcast to it.
        name: Accepted and ignored.

    Raises:
        ValueError: if the value does not broadcast to the shape.

    Example:
        >>> K.constant(3, shape=(2, 2)).numpy()
        array([[3., 3.],
               [3., 3.]], dtype=float32)
    """
    array = as_tensor(value, dtype or floatx())
    if shape is None:
        return array
    sizes = new_sizes("constant", shape)
    return ops.reshape(array, sizes) if array.size == math.prod(sizes) else ops.broadcast_to(array, sizes)


@checked
def placeholder(shape=None, ndim: int | None = None, dtype=None, sparse: bool = False, name: str | None = None):
    """A symbolic input. Today: `keras.Input`.

    Args:
        shape: The shape with the batch axis, with None for a size that may differ.
        ndim: The number of axes, all of unknown size; used without a shape.
        dtype: The dtype; None for `config.floatx()`.
        sparse: Must be False: there are no sparse tensors.
        name: The name of the input.

    Returns:
        A symbolic tensor.

    Raises:
        ValueError: without shape and ndim, or for sparse=True.

    Example:
        >>> K.placeholder((None, 3)).shape, K.placeholder(ndim=2).shape
        ((None, 3), (None, None))
    """
    if sparse:
        raise ValueError("sparse placeholders are not offered")
    if shape is None:
        if ndim is None:
            raise ValueError("placeholder needs shape=(batch, ...) or ndim")
        shape = (None,) * ndim
    return inputs.Input(batch_shape=shape, dtype=dtype, name=name)


def is_keras_tensor(x) -> bool:
    """Whether something is a symbolic tensor: made by Input(), or by calling a layer on symbolic tensors.

    Args:
        x: Any object.

    Returns:
        A bool.

    Example:
        >>> keras.utils.is_keras_tensor(layers.Input((3,))), keras.utils.is_keras_tensor(np.ones(3))
        (True, False)
    """
    return isinstance(x, SymbolicTensor)


def is_variable(x) -> bool:
    """Whether something is a variable. Today: `isinstance(x, keras.Variable)`.

    Args:
        x: Any object.

    Example:
        >>> K.is_variable(K.variable(1.0)), K.is_variable(K.constant(1.0))
        (True, False)
    """
    return isinstance(x, Variable)


def is_placeholder(x) -> bool:
    """Whether something was made by `keras.Input` or `K.placeholder`.

    Args:
        x: Any object.

    Example:
        >>> x = K.placeholder((2,))
        >>> K.is_placeholder(x), K.is_placeholder(x + 1)
        (True, False)
    """
    return is_keras_tensor(x) and x.node is not None and not x.node.inputs


int_shape = get_variable_shape = shape


def dtype(x) -> str:
    """The name of the dtype. Today: `keras.backend.standardize_dtype(x.dtype)`.

    Args:
        x: A tensor, a symbolic tensor, or numbers.

    Example:
        >>> K.dtype(K.constant(1)), K.dtype(np.ones(2))
        ('float32', 'float64')
    """
    return np.dtype(x.dtype if ops.is_tensor(x) else as_tensor(x).dtype).name


def size(x) -> int:
    """The number of elements.

    Args:
        x: A tensor, a variable or numbers.

    Returns:
        An int.

    Example:
        >>> K.count_params(K.zeros((2, 3)))
        6
    """
    return as_tensor(x).size


count_params = size


def get_value(x) -> np.ndarray:
    """The value as a NumPy array. Today: `ops.convert_to_numpy`.

    Example:
        >>> K.get_value(K.variable([1, 2]) + 1)
        array([2., 3.], dtype=float32)
    """
    return ops.convert_to_numpy(x)


eval = get_value


def batch_get_value(tensors: Sequence) -> list[np.ndarray]:
    """The values of several tensors or variables, as `K.get_value` gives them.

    Args:
        tensors: A list of tensors or variables.

    Returns:
        A list of arrays.

    Example:
        >>> K.batch_get_value([K.variable(1.0), K.variable(2.0)])
        [array(1., dtype=float32), array(2., dtype=float32)]
    """
    if not isinstance(tensors, list | tuple):
        raise TypeError(f"K.batch_get_value takes a list of tensors, received {briefly(tensors)}")
    return [get_value(each) for each in tensors]


@entry
def set_value(x: Variable, value) -> None:
    """Write a value into a variable. Today: `x.assign(value)`.

    Args:
        x: A variable.
        value: An array, a list or a number of x's shape.

    Raises:
        TypeError: for an x that is not a variable.
        ValueError: for a wrong shape.

    Example:
        >>> v = K.variable([1.0, 2.0])
        >>> K.set_value(v, [3.0, 4.0])
        >>> v.numpy()
        array([3., 4.], dtype=float32)
    """
    _written(x).assign(value)


def _written(x: Any) -> Variable:
    if not isinstance(x, Variable):
        raise TypeError(f"expected a variable to write into, as made by K.variable(value), received {briefly(x)}")
    return x


def batch_set_value(tuples: Sequence[tuple[Variable, Any]]) -> None:
    """Write values into variables, as `K.set_value` does.

    Args:
        tuples: A list of pairs (variable, value).

    Example:
        >>> v, w = K.variable(1.0), K.variable(2.0)
        >>> K.batch_set_value([(v, 10.0), (w, 20.0)])
        >>> v.numpy(), w.numpy()
        (array(10., dtype=float32), array(20., dtype=float32))
    """
    if not isinstance(tuples, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in tuples
    ):
        raise TypeError(f"K.batch_set_value takes a list of pairs (variable, value), received {briefly(tuples)}")
    for x, value in tuples:
        set_value(x, value)


@entry
def update(x: Variable, new_x) -> Variable | tuple:
    """Write a tensor into a variable. Today: `x.assign(new_x)`.

    Args:
        x: A variable.
        new_x: Numbers of x's shape, or a symbolic tensor.

    Returns:
        The variable; for a symbolic tensor the pair (x, new_x), for `K.function(..., updates=[...])`.

    Raises:
        TypeError: for an x that is not a variable.

    Example:
        >>> v = K.variable([1.0, 2.0])
        >>> K.update(v, v * 10).numpy()
        array([10., 20.], dtype=float32)
    """
    return (_written(x), new_x) if is_keras_tensor(new_x) else _written(x).assign(new_x)


@entry
def update_add(x: Variable, increment) -> Variable | tuple:
    """Add to a variable in place, as `K.update` writes. Today: `x.assign_add(increment)`.

    Args:
        increment: Numbers that broadcast to x's shape, or a symbolic tensor.

    Example:
        >>> K.update_add(K.variable([1.0, 2.0]), 1.0).numpy()
        array([2., 3.], dtype=float32)
    """
    return update(x, ops.add(x, increment))


@entry
def update_sub(x: Variable, decrement) -> Variable | tuple:
    """Subtract from a variable in place, as `K.update` writes. Today: `x.assign_sub(decrement)`.

    Args:
        decrement: Numbers that broadcast to x's shape, or a symbolic tensor.

    Example:
        >>> K.update_sub(K.variable([1.0, 2.0]), 1.0).numpy()
        array([0., 1.], dtype=float32)
    """
    return update(x, ops.subtract(x, decrement))


def moving_average_update(x: Variable, value, momentum: float) -> Variable | tuple:
    """x = x * momentum + value * (1 - momentum), in place, as `K.update` writes.

    Args:
        value: Numbers of x's shape, or a symbolic tensor.
        momentum: The weight of the old value, from 0 to 1.

    Example:
        >>> K.moving_average_update(K.variable([1.0, 2.0]), [0.0, 0.0], 0.5).numpy()
        array([0.5, 1. ], dtype=float32)
    """
    return update(x, ops.add(ops.multiply(x, momentum), ops.multiply(value, ops.subtract(1.0, momentum))))


def zeros(shape, dtype=None, name: str | None = None) -> Variable:
    """A variable of zeros, as `K.variable` makes it; `ops.zeros` makes a tensor.

    Example:
        >>> K.zeros((2, 3))
        <Variable path=variable, shape=(2, 3), dtype=float32, value=[[0. 0. 0.]
         [0. 0. 0.]]>
    """
    return Variable(ops.zeros(shape, dtype).data, name=name)


def ones(shape, dtype=None, name: str | None = None) -> Variable:
    """A variable of ones, as `K.variable` makes it; `ops.ones` makes a tensor.

    Example:
        >>> K.update_add(K.ones((2,)), 1.0).numpy()
        array([2., 2.], dtype=float32)
    """
    return Variable(ops.ones(shape, dtype).data, name=name)


def eye(size, dtype=None, name: str | None = None) -> Variable:
    """A variable with ones on the diagonal, as `K.variable` makes it; `ops.eye` makes a tensor.

    Args:
        size: The number of rows and columns, or a pair (rows, columns).

    Example:
        >>> K.eye((2, 3)).numpy()
        array([[1., 0., 0.],
               [0., 1., 0.]], dtype=float32)
    """
    rows, columns = pair_of("eye", "size", size)
    return Variable(ops.eye(rows, columns, 0, dtype).data, name=name)


def random_uniform_variable(shape, low, high, dtype=None, name: str | None = None, seed=None) -> Variable:
    """A variable of uniformly distributed numbers, as `K.variable` makes it.

    `random.uniform(shape, low, high, dtype, seed)` makes a tensor.

    Example:
        >>> v = K.random_uniform_variable((1000,), 2.0, 3.0, seed=1)
        >>> round(float(K.mean(v)), 1)
        2.5
    """
    return Variable(random.uniform(shape, low, high, dtype, seed), name=name)


def random_normal_variable(shape, mean, scale, dtype=None, name: str | None = None, seed=None) -> Variable:
    """A variable of normally distributed numbers, as `K.variable` makes it.

    `random.normal(shape, mean, scale, dtype, seed)` makes a tensor.

    Example:
        >>> v = K.random_normal_variable((10000,), 2.0, 3.0, seed=1)
        >>> round(float(K.mean(v))), round(float(K.std(v)))
        (2, 3)
    """
    return Variable(random.normal(shape, mean, scale, dtype, seed), name=name)


def identity(x, name: str | None = None) -> Tensor:
    """x unchanged. Today: `ops.linear`.

    Args:
        name: Accepted and ignored.

    Example:
        >>> K.identity(K.constant([1.0, 2.0])).numpy()
        array([1., 2.], dtype=float32)
    """
    return ops.linear(x)
