"""Keras's activation functions by name; each is the op of that name."""

from collections.abc import Callable
from typing import Any

from nbkeras import ops
from nbkeras.ops import (
    celu,
    elu,
    exponential,
    gelu,
    hard_sigmoid,
    hard_silu,
    leaky_relu,
    linear,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    tanh,
)
from nbkeras.registry import Registry

registry = Registry("activation")
for _function in (relu, relu6, leaky_relu, elu, celu, selu, gelu, mish, softplus, softsign, sigmoid, hard_sigmoid):
    registry.register(_function)
for _function in (log_sigmoid, tanh, exponential, softmax, log_softmax, linear):
    registry.register(_function)
registry.register(silu, "swish")
registry.register(hard_silu, "hard_swish")
swish, hard_swish = silu, hard_silu


def get(identifier) -> Callable[..., Any]:
    """An activation from its name, a function, or None (linear)."""
    return ops.linear if identifier is None else registry.get(identifier)


def serialize(activation) -> Any:
    """The name that a configuration holds for an activation."""
    return registry.serialize(activation)


def deserialize(config, custom_objects=None) -> Callable[..., Any]:
    """An activation from what `serialize` returned."""
    return registry.deserialize(config, custom_objects)
