"""Keras's activation functions by name; each is the op of that name, but gelu is exact by default."""

from collections.abc import Callable
from typing import Any

from nbkeras import ops
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.registry import Registry, function_config, is_sharing
from nbkeras.ops import (
    celu,
    elu,
    exponential,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    legacy_hard_sigmoid,
    linear,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    tanh,
    tanh_shrink,
    threshold,
)


class _Activations(Registry):
    """Activations by name. `legacy_hard_sigmoid` is written as a function of the user's: Keras 3 does not have it."""

    def serialize(self, item) -> Any:
        of_keras_2 = item is legacy_hard_sigmoid and is_sharing()
        return function_config(item) if of_keras_2 else super().serialize(item)


registry = _Activations("activation")


@registry.register
def gelu(x, approximate: bool = False):
    """x Phi(x), Phi the normal distribution function; approximate: by tanh. Hendrycks and Gimpel, 2016."""
    return ops.gelu(x, approximate=approximate)


for _function in (
    *(celu, elu, exponential, glu, hard_shrink, hard_sigmoid, hard_tanh, leaky_relu, legacy_hard_sigmoid, linear),
    *(log_sigmoid, log_softmax, mish, relu, relu6, selu, sigmoid, soft_shrink, softmax, softplus, softsign),
    *(sparse_plus, sparse_sigmoid, sparsemax, squareplus),
    *(tanh, tanh_shrink, threshold),
):
    registry.register(_function)
registry.register(silu, "swish")
registry.register(hard_silu, "hard_swish")
swish, hard_swish = silu, hard_silu


def get(identifier) -> Callable[..., Any]:
    """An activation from its name, a function, or None (linear)."""
    return ops.linear if identifier is None else registry.get(identifier)


def serialize(activation) -> Any:
    """The name or the configuration that stands for an activation in a configuration."""
    return registry.serialize(activation)


def deserialize(config, custom_objects=None) -> Callable[..., Any]:
    """An activation from what `serialize` returned."""
    return registry.deserialize(config, custom_objects)


__getattr__, __dir__, __all__ = _lazy_names.names(globals(), shows=["nbkeras.ops"])
