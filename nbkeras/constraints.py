"""Constraints on weights after each update. Called with a weight, they return the tensor to assign to it.

`axis` is the axis (or axes) of a norm: 0 for a Dense kernel (input_dim, units), (0, 1, 2) for a Conv2D
kernel (rows, columns, input channels, filters).
"""

from typing import Any

from nbkeras import config as settings
from nbkeras import ops
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registered, Registry

registry = Registry("constraint")


class Constraint(Observed, option.Configured, Registered, registry=registry):
    """Base of constraints: callables that return the new value of a weight after each update.

    A constraint is called with a weight and returns a tensor of its shape, computed by `ops`. Any such function
    can be passed as a constraint; a subclass can be saved too. This class returns the weight unchanged.

    Call arguments:
        w: The weight.

    Example:
        >>> class AtMostOne(keras.constraints.Constraint):
        ...     def __call__(self, w):
        ...         return ops.minimum(w, 1.0)
        >>> AtMostOne()(np.array([0.5, 3.0], "float32")).numpy()
        array([0.5, 1. ], dtype=float32)
    """

    def __call__(self, w) -> Any:
        return w


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


class MaxNorm(Constraint, names=("max_norm", "maxnorm")):
    """Scales longer vectors down to max_value: w * clip(norm, 0, max_value) / (epsilon + norm).

    Args:
        max_value: The maximum norm.
        axis (an integer or a tuple of integers): The axis or axes of a vector: 0 for a Dense kernel (inputs,
            units), (0, 1, 2) for a Conv2D kernel (rows, columns, input channels, filters).

    Example:
        >>> w = np.array([[3.0, 0.6], [4.0, 0.8]], "float32")  # columns of norms 5 and 1
        >>> keras.constraints.MaxNorm(2)(w).numpy().round(3)
        array([[1.2, 0.6],
               [1.6, 0.8]], dtype=float32)
        >>> layer = layers.Dense(4, kernel_constraint=keras.constraints.MaxNorm(2))
    """

    def __init__(self, max_value: option.AnyNumber = 2, axis: option.Anything = 0):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, w):
        norms = _norms(w, self.axis)
        return w * (ops.clip(norms, 0.0, self.max_value) / (settings.epsilon() + norms))


class NonNeg(Constraint, names=("non_neg", "nonneg")):
    """Sets negative weights to 0.

    Example:
        >>> keras.constraints.NonNeg()(np.array([-1.0, 2.0], "float32")).numpy()
        array([0., 2.], dtype=float32)
    """

    def __call__(self, w):
        return ops.maximum(w, 0.0)


class UnitNorm(Constraint, names=("unit_norm", "unitnorm")):
    """Scales vectors to norm 1: w / (epsilon + norm).

    Args:
        axis (an integer or a tuple of integers): The axis or axes of a vector: 0 for a Dense kernel (inputs,
            units), (0, 1, 2) for a Conv2D kernel (rows, columns, input channels, filters).

    Example:
        >>> keras.constraints.UnitNorm()(np.array([[3.0, 0.0], [4.0, 2.0]], "float32")).numpy().round(3)
        array([[0.6, 0. ],
               [0.8, 1. ]], dtype=float32)
    """

    def __init__(self, axis: option.Anything = 0):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, w):
        return w / (settings.epsilon() + _norms(w, self.axis))


class MinMaxNorm(Constraint, names=("min_max_norm", "minmaxnorm")):
    """Moves the lengths of vectors towards the interval from min_value to max_value.

    The new norm is rate * clip(norm, min_value, max_value) + (1 - rate) * norm.

    Args:
        min_value: The minimum norm.
        max_value: The maximum norm.
        rate: The fraction of the distance to the interval that a norm moves in each update; 1 for all of it.
        axis (an integer or a tuple of integers): The axis or axes of a vector: 0 for a Dense kernel (inputs,
            units), (0, 1, 2) for a Conv2D kernel (rows, columns, input channels, filters).

    Example:
        >>> w = np.array([[3.0, 0.3], [4.0, 0.4]], "float32")  # columns of norms 5 and 0.5
        >>> keras.constraints.MinMaxNorm(1.0, 3.0)(w).numpy().round(3)
        array([[1.8, 0.6],
               [2.4, 0.8]], dtype=float32)
        >>> keras.constraints.MinMaxNorm(1.0, 3.0, rate=0.5)(w).numpy().round(3)  # norms 4 and 0.75
        array([[2.4 , 0.45],
               [3.2 , 0.6 ]], dtype=float32)
    """

    def __init__(
        self,
        min_value: option.AnyNumber = 0.0,
        max_value: option.AnyNumber = 1.0,
        rate: option.AnyNumber = 1.0,
        axis: option.Anything = 0,
    ):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, w):
        norms = _norms(w, self.axis)
        wanted = self.rate * ops.clip(norms, self.min_value, self.max_value) + (1.0 - self.rate) * norms
        return w * (wanted / (settings.epsilon() + norms))


get, deserialize = registry.get, registry.deserialize


def serialize(constraint) -> Any:
    """The configuration of a constraint, from which `deserialize` recreates it.

    Args:
        constraint: A Constraint, or a function.

    Returns:
        A dict with 'class_name' and 'config'; for a function, a name or a dict.

    Example:
        >>> keras.constraints.serialize(keras.constraints.MaxNorm(2))["config"]
        {'max_value': 2, 'axis': 0}
    """
    return registry.serialize(constraint)


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

_lazy_names.attach(globals(), registry)
