"""Constraints on weights after each update. Called with a weight, they return the tensor to assign to it.

`axis` is the axis (or axes) over which a norm is taken: 0 for a Dense kernel (input_dim, units), (0, 1, 2) for a Conv2D
kernel (rows, columns, input channels, filters).
"""

from typing import Any

from nbkeras import config as settings
from nbkeras import ops
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registry

registry = Registry("constraint")


class Constraint(Observed, option.Configured):
    """Callable `tensor -> tensor of the same shape`, with a configuration."""

    def __call__(self, w) -> Any:
        return w


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


@registry.register("max_norm", "maxnorm")
class MaxNorm(Constraint):
    """Scales weight vectors longer than max_value down to it: w * clip(norm, 0, max_value) / (epsilon + norm)."""

    def __init__(self, max_value: option.Anything = 2, axis: option.Anything = 0):
        super().__init__()
        option.keep(self, locals())

    def __call__(self, w):
        norms = _norms(w, self.axis)
        return w * (ops.clip(norms, 0.0, self.max_value) / (settings.epsilon() + norms))


@registry.register("non_neg", "nonneg")
class NonNeg(Constraint):
    """Sets negative weights to zero."""

    def __call__(self, w):
        return ops.maximum(w, 0.0)


@registry.register("unit_norm", "unitnorm")
class UnitNorm(Constraint):
    """Gives weight vectors length 1: w / (epsilon + norm)."""

    def __init__(self, axis: option.Anything = 0):
        super().__init__()
        option.keep(self, locals())

    def __call__(self, w):
        return w / (settings.epsilon() + _norms(w, self.axis))


@registry.register("min_max_norm", "minmaxnorm")
class MinMaxNorm(Constraint):
    """Moves the lengths of weight vectors towards [min_value, max_value], a fraction `rate` of the way each time."""

    def __init__(
        self,
        min_value: option.Anything = 0.0,
        max_value: option.Anything = 1.0,
        rate: option.Anything = 1.0,
        axis: option.Anything = 0,
    ):
        super().__init__()
        option.keep(self, locals())

    def __call__(self, w):
        norms = _norms(w, self.axis)
        wanted = self.rate * ops.clip(norms, self.min_value, self.max_value) + (1.0 - self.rate) * norms
        return w * (wanted / (settings.epsilon() + norms))


get, deserialize = registry.get, registry.deserialize


def serialize(constraint) -> Any:
    """The configuration of a constraint."""
    return registry.serialize(constraint)


max_norm, non_neg, unit_norm, min_max_norm = MaxNorm, NonNeg, UnitNorm, MinMaxNorm

_lazy_names.attach(globals(), registry)
