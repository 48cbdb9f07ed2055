"""TensorFlow's classes and the names that are nbkeras's own: `tf.Variable`, `tf.function`, `tf.GradientTape`."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from nbkeras import initializers, tree
from nbkeras.autodiff.gradient_tape import GradientTape as GradientTape
from nbkeras.building import module
from nbkeras.compat.tensorflow.shapes import TensorShape as TensorShape
from nbkeras.compat.tensorflow.shapes import TensorSpec as TensorSpec
from nbkeras.engine import naming, tensor
from nbkeras.engine.tensor import Tensor as Tensor
from nbkeras.training.jit import jit

newaxis = None
constant_initializer = initializers.Constant
ones_initializer = initializers.Ones
random_normal_initializer = initializers.RandomNormal
random_uniform_initializer = initializers.RandomUniform
zeros_initializer = initializers.Zeros


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


class Module:
    """TensorFlow's Module: its variables are those in its attributes, and in lists, dicts, modules and layers there."""

    def __init__(self, name: str | None = None):
        self._name = name

    @property
    def name(self) -> str:
        """The name that was given, or that of the class in snake case."""
        return getattr(self, "_name", None) or naming.snake_case(type(self).__name__)

    def _found(self, known: dict[int, Any]) -> dict[int, Any]:
        """Add the variables and modules within this one to those that are known, by their ids."""
        leaves = [leaf for _, value in sorted(vars(self).items()) for leaf in tree.flatten(value)]
        new = {id(leaf): leaf for leaf in leaves if isinstance(leaf, _PARTS) and id(leaf) not in known}
        known |= new
        for part in new.values():
            if isinstance(part, Module):
                part._found(known)
            elif isinstance(part, module.Module):
                known |= {id(each): each for each in part.variables}
        return known

    @property
    def variables(self) -> tuple[tensor.Variable, ...]:
        """Its variables, each once."""
        return tuple(each for each in self._found({}).values() if isinstance(each, tensor.Variable))

    @property
    def trainable_variables(self) -> tuple[tensor.Variable, ...]:
        """Its trainable variables."""
        return tuple(each for each in self.variables if each.trainable)

    @property
    def submodules(self) -> tuple[Any, ...]:
        """The modules and layers within it."""
        return tuple(
            each for each in self._found({}).values() if each is not self and not isinstance(each, tensor.Variable)
        )


_PARTS = (tensor.Variable, Module, module.Module)


class UnconnectedGradients:
    """The gradient of a source that the targets do not depend on: None, or zeros."""

    NONE = "none"
    ZERO = "zero"
