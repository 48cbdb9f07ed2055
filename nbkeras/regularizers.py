"""Regularizers: penalties on weights and activations that are added to the loss.

A regularizer is called with a tensor and returns a scalar tensor; any such function can serve.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np

from nbkeras import config as settings
from nbkeras import ops
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registered, Registry


class _Regularizers(Registry):
    """Regularizers by name; `l1`, `l2` and `l1_l2` give the regularizer that they return by default."""

    def get(self, identifier: Any, **kwargs) -> Any:
        found = super().get(identifier, **kwargs)
        return found() if found in _MAKERS else found


registry = _Regularizers("regularizer")


class Regularizer(Observed, option.Configured, Registered, registry=registry):
    """Base of regularizers: callables that return a penalty that is added to the loss.

    A regularizer is called with a tensor and returns a scalar tensor, computed by `ops`. Any such function can
    be passed as a regularizer; a subclass that defines `get_config` can be saved too.

    Call arguments:
        x: The weight, or the output of a layer for an activity_regularizer.

    Example:
        >>> class Largest(keras.regularizers.Regularizer):
        ...     def __call__(self, x):
        ...         return 0.5 * ops.max(ops.abs(x))
        >>> float(Largest()(np.array([[1.0, -4.0]])))
        2.0
    """

    def __call__(self, x) -> Any:
        return 0.0

    def get_config(self) -> dict[str, Any]:
        """The arguments that recreate this regularizer.

        Raises:
            NotImplementedError: for a subclass that does not define it.
        """
        config = super().get_config()
        if not config and type(self).get_config is Regularizer.get_config:
            raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")
        return config


def _factor(name: str, what: str, value: Any, default: float | None = None) -> float:
    """A penalty's factor, checked; the default for None."""
    value = default if value is None else value
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: {what} must be a finite number, 0 or more, received {briefly(value)}")
    return float(value)


Factor = Annotated[float, option.kind(_factor, "a finite number, 0 or more")]
Mode = Annotated[str, option.choice("rows", "columns")]
FactorOrNone = Annotated[float, option.kind(_factor, "a finite number, 0 or more, or None for 0.01", 0.01)]
Part = Annotated[float, option.kind(_factor, "a finite number, 0 or more, or None for 0", 0.0)]


class L1L2(Regularizer, names=("l1l2",)):
    """The penalty l1 * sum(|x|) + l2 * sum(x**2).

    Args:
        l1: The factor of the sum of magnitudes.
        l2: The factor of the sum of squares.

    Raises:
        ValueError: for a factor that is negative or not finite.

    Example:
        >>> penalty = keras.regularizers.L1L2(l1=1.0, l2=0.5)
        >>> float(penalty(np.array([1.0, -2.0])))  # 3 + 0.5 * 5
        5.5
    """

    def __init__(self, l1: Part = 0.0, l2: Part = 0.0):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, x):
        if self.l1 and self.l2:
            return self.l1 * ops.sum(ops.abs(x)) + self.l2 * ops.sum(ops.square(x))
        return self.l1 * ops.sum(ops.abs(x)) if self.l1 else self.l2 * ops.sum(ops.square(x))


class L1(Regularizer):
    """The penalty l1 * sum(|x|), which drives weights to 0.

    Args:
        l1: The factor of the sum of magnitudes.

    Raises:
        ValueError: for a factor that is negative or not finite.

    Example:
        >>> float(keras.regularizers.L1(0.5)(np.array([1.0, -2.0])))
        1.5
    """

    def __init__(self, l1: FactorOrNone = 0.01):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, x):
        return self.l1 * ops.sum(ops.abs(x))


class L2(Regularizer):
    """The penalty l2 * sum(x**2), which keeps weights small.

    Args:
        l2: The factor of the sum of squares.

    Raises:
        ValueError: for a factor that is negative or not finite.

    Example:
        >>> float(keras.regularizers.L2(0.5)(np.array([1.0, -2.0])))
        2.5
        >>> layer = layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.5), kernel_initializer="ones")
        >>> layer(np.ones((1, 3))).numpy(), float(layer.losses[0])
        (array([[3.]], dtype=float32), 1.5)
    """

    def __init__(self, l2: FactorOrNone = 0.01):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, x):
        return self.l2 * ops.sum(ops.square(x))


class OrthogonalRegularizer(Regularizer, names=("orthogonal_regularizer",)):
    """A penalty on vectors of a matrix that are not orthogonal: factor times the mean |cosine| of all pairs of them.

    Args:
        factor: The factor of the mean.
        mode: The vectors are the 'rows' or the 'columns'.

    Raises:
        ValueError: for a factor that is negative or not finite, an unknown mode, and a tensor that is not a matrix.

    Example:
        >>> penalty = keras.regularizers.OrthogonalRegularizer(factor=1.0)
        >>> float(penalty(np.array([[2.0, 0.0], [0.0, 3.0]]))), round(float(penalty(np.array([[1.0, 1.0], [2.0, 2.0]]))), 3)
        (0.0, 1.0)
    """

    def __init__(self, factor: Factor = 0.01, mode: Mode = "rows"):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, x):
        x = ops.convert_to_tensor(x)
        if len(x.shape) != 2:
            raise ValueError(f"OrthogonalRegularizer takes a matrix, received a tensor of shape {tuple(x.shape)}")
        vectors = x if self.mode == "rows" else ops.transpose(x)
        lengths = ops.sqrt(ops.sum(ops.square(vectors), axis=1, keepdims=True))
        vectors = vectors / ops.maximum(lengths, settings.epsilon())
        size = vectors.shape[0]
        others = 1.0 - np.eye(size, dtype=x.dtype)
        products = ops.matmul(vectors, ops.transpose(vectors)) * others
        pairs = max(1, size * (size - 1) / 2)  # at least 1: for a single vector the sum is 0
        return (0.5 * self.factor / pairs) * ops.sum(ops.abs(products))


@registry.register
def l1(l1: float = 0.01) -> L1:
    """The regularizer `L1(l1)`: l1 * sum(|x|).

    Args:
        l1: The factor of the sum of magnitudes.

    Example:
        >>> float(keras.regularizers.l1(0.5)(np.array([1.0, -2.0])))
        1.5
    """
    return L1(l1)


@registry.register
def l2(l2: float = 0.01) -> L2:
    """The regularizer `L2(l2)`: l2 * sum(x**2).

    Args:
        l2: The factor of the sum of squares.

    Example:
        >>> float(keras.regularizers.l2(0.5)(np.array([1.0, -2.0])))
        2.5
    """
    return L2(l2)


@registry.register
def l1_l2(l1: float = 0.0, l2: float = 0.0) -> L1L2:
    """The regularizer `L1L2(l1, l2)`: l1 * sum(|x|) + l2 * sum(x**2).

    Args:
        l1: The factor of the sum of magnitudes.
        l2: The factor of the sum of squares.

    Example:
        >>> float(keras.regularizers.l1_l2(1.0, 0.5)(np.array([1.0, -2.0])))
        5.5
    """
    return L1L2(l1, l2)


orthogonal_regularizer = OrthogonalRegularizer
_MAKERS = (l1, l2, l1_l2)  # functions that return a regularizer; a user's function is a regularizer itself


get, deserialize = registry.get, registry.deserialize


def serialize(regularizer) -> Any:
    """The configuration of a regularizer, from which `deserialize` recreates it.

    Args:
        regularizer: A Regularizer, or a function.

    Returns:
        A dict with 'class_name' and 'config'; of a function, a name or a dict.

    Example:
        >>> keras.regularizers.serialize(keras.regularizers.L2(0.5))["config"]
        {'l2': 0.5}
    """
    return registry.serialize(regularizer)


_lazy_names.attach(globals(), registry)
