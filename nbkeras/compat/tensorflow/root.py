"""TensorFlow's classes and the names that are nbkeras's own: `tf.Variable`, `tf.function`, `tf.GradientTape`."""

import functools
import logging
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nbkeras import initializers
from nbkeras.autodiff.gradient_tape import GradientTape as GradientTape
from nbkeras.engine import tensor
from nbkeras.engine.tensor import Tensor as Tensor
from nbkeras.training.jit import jit

constant_initializer = initializers.Constant
ones_initializer = initializers.Ones
random_normal_initializer = initializers.RandomNormal
random_uniform_initializer = initializers.RandomUniform
zeros_initializer = initializers.Zeros


class TensorShape(tuple):
    """A shape: a tuple of sizes, with None for unknown ones."""

    def __new__(cls, dims: Any = ()) -> "TensorShape":
        return super().__new__(cls, (None if each is None else int(each) for each in dims))

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self)

    ndims = rank

    @property
    def dims(self) -> list:
        """The sizes."""
        return list(self)

    def as_list(self) -> list:
        """The sizes as a list."""
        return list(self)

    def is_fully_defined(self) -> bool:
        """Whether all sizes are known."""
        return None not in self

    def num_elements(self) -> int | None:
        """The number of elements; None if a size is unknown."""
        return math.prod(self) if self.is_fully_defined() else None


class _Spec(NamedTuple):
    shape: Any
    dtype: Any
    name: Any


class TensorSpec(_Spec):
    """The shape and dtype of a tensor: elements of a data set, arguments of a function."""

    def __new__(cls, shape: Any = None, dtype: Any = np.float32, name: Any = None) -> "TensorSpec":
        return super().__new__(cls, None if shape is None else TensorShape(shape), np.dtype(dtype), name)


class _VariableType(type):
    """The type of `tf.Variable`: a call makes one of nbkeras's variables, and each of these is an instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, tensor.Variable)

    def __call__(
        cls,
        initial_value: Any = None,
        trainable: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        import_scope: Any = None,
        constraint: Any = None,
        synchronization: Any = None,
        aggregation: Any = None,
        shape: Any = None,
    ) -> tensor.Variable:
        value = initial_value() if callable(initial_value) else initial_value
        made = tensor.Variable(value, dtype=dtype, trainable=trainable is not False, name=name)
        made.constraint = constraint
        return made


class Variable(metaclass=_VariableType):
    """nbkeras's Variable, with TensorFlow's arguments."""


def function(
    func: Callable | None = None,
    input_signature: Any = None,
    autograph: bool = True,
    jit_compile: Any = None,
    reduce_retracing: bool = False,
    experimental_implements: Any = None,
    experimental_autograph_options: Any = None,
    experimental_attributes: Any = None,
    experimental_relax_shapes: Any = None,
    experimental_compile: Any = None,
    experimental_follow_type_hints: Any = None,
) -> Any:
    """`nbkeras.jit`: a function that is recorded at its first call. The other arguments do not change results."""
    return functools.partial(function, input_signature=input_signature) if func is None else jit(func)


def get_logger() -> logging.Logger:
    """The logger named 'tensorflow', which nbkeras does not use."""
    return logging.getLogger("tensorflow")


def group(*inputs: Any, name: Any = None) -> None:
    """Do nothing: assignments have happened when they are called."""
