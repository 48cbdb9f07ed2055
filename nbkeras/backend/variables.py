"""Keras 2's backend functions that make, read and write variables, constants and placeholders; part of `backend`."""

# ruff: noqa: F811 (arguments named as in Keras)

import gc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras import ops, random
from nbkeras.building import inputs
from nbkeras.building.graph import SymbolicTensor
from nbkeras.config import floatx
from nbkeras.engine import naming
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.engine.user_errors import entry
from nbkeras.ops import cast, shape
from nbkeras.ops.window import data_format_of

random_normal, random_uniform = random.normal, random.uniform

# -------------------- settings --------------------


def backend() -> str:
    """'nbkeras'."""
    return "nbkeras"


def cast_to_floatx(x) -> np.ndarray | Tensor:
    """An array or tensor in floatx."""
    return cast(x, floatx()) if ops.is_tensor(x) else np.asarray(x, floatx())


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
    reset_uids()
    if free_memory:
        gc.collect()


_uids: Counter[str] = Counter()


def get_uid(prefix: str = "") -> int:
    """The next of the numbers 1, 2, ... for a prefix."""
    _uids[prefix] += 1
    return _uids[prefix]


def reset_uids() -> None:
    """Restart the numbers of `get_uid`."""
    _uids.clear()


def normalize_data_format(value: str | None) -> str:
    """A data format in lower case; None: the configured one. ValueError for an unknown one."""
    return data_format_of("data_format", value)


# -------------------- tensors and variables --------------------


def variable(value, dtype=None, name: str | None = None, constraint=None) -> Variable:
    """A Variable, floatx by default."""
    made = Variable(value, name=name, dtype=dtype or floatx())
    made.constraint = constraint
    return made


def constant(value, dtype=None, shape=None, name: str | None = None) -> Tensor:
    """A constant tensor, floatx by default; shape: that of the values, or one to fill with a number."""
    array = np.asarray(value, dtype or floatx())
    if shape is None:
        return as_tensor(array)
    return as_tensor(array.reshape(shape) if array.size == np.prod(shape) else np.broadcast_to(array, shape).copy())


def placeholder(shape=None, ndim: int | None = None, dtype=None, sparse: bool = False, name: str | None = None):
    """A symbolic input of a shape with the batch axis, or of a number of axes."""
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
    """Whether x is a Variable."""
    return isinstance(x, Variable)


def is_placeholder(x) -> bool:
    """Whether x was made by Input()."""
    return is_keras_tensor(x) and x.node is not None and not x.node.inputs


int_shape = get_variable_shape = shape


def dtype(x) -> str:
    """The dtype's name."""
    return np.dtype(x.dtype if ops.is_tensor(x) else as_tensor(x).dtype).name


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


@entry
def set_value(x: Variable, value) -> None:
    """Write a value into a variable."""
    _written(x).assign(value)


def _written(x: Any) -> Variable:
    if not isinstance(x, Variable):
        raise TypeError(f"expected a variable to write into, as K.variable(value) makes it, received {briefly(x)}")
    return x


def batch_set_value(tuples: Sequence[tuple[Variable, Any]]) -> None:
    """Write values into variables: [(variable, value), ...]."""
    for x, value in tuples:
        set_value(x, value)


@entry
def update(x: Variable, new_x) -> Variable | tuple:
    """Write a tensor into a variable; for a symbolic tensor return the pair (x, new_x) for `function(updates=...)`."""
    return (_written(x), new_x) if is_keras_tensor(new_x) else _written(x).assign(new_x)


@entry
def update_add(x: Variable, increment) -> Variable | tuple:
    """Add a tensor to a variable in place, as `update` does."""
    return update(x, ops.add(x, increment))


@entry
def update_sub(x: Variable, decrement) -> Variable | tuple:
    """Subtract a tensor from a variable in place, as `update` does."""
    return update(x, ops.subtract(x, decrement))


def moving_average_update(x: Variable, value, momentum: float) -> Variable | tuple:
    """x = x * momentum + value * (1 - momentum), in place, as `update` does."""
    return update(x, ops.add(ops.multiply(x, momentum), ops.multiply(value, 1.0 - momentum)))


def zeros(shape, dtype=None, name: str | None = None) -> Variable:
    """A variable of zeros."""
    return Variable(ops.zeros(shape, dtype).data, name=name)


def ones(shape, dtype=None, name: str | None = None) -> Variable:
    """A variable of ones."""
    return Variable(ops.ones(shape, dtype).data, name=name)


def eye(size, dtype=None, name: str | None = None) -> Variable:
    """A variable with ones on the diagonal; size: one number, or (rows, columns)."""
    rows, columns = size if isinstance(size, list | tuple) else (size, size)
    return Variable(ops.eye(rows, columns, 0, dtype).data, name=name)


def random_uniform_variable(shape, low, high, dtype=None, name: str | None = None, seed=None) -> Variable:
    """A variable of uniform numbers."""
    return Variable(random.uniform(shape, low, high, dtype, seed), name=name)


def random_normal_variable(shape, mean, scale, dtype=None, name: str | None = None, seed=None) -> Variable:
    """A variable of normal numbers."""
    return Variable(random.normal(shape, mean, scale, dtype, seed), name=name)


def identity(x, name: str | None = None) -> Tensor:
    """x."""
    return ops.linear(x)
