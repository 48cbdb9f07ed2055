"""Frozen models with weights of bfloat16, in half of the memory of float32; see `Model.frozen`.

While such a model is recorded, its large matrices are QuantizedVariables whose integers are the bits of bfloat16 numbers. So the
products, lookups and sums of products of int8 weights (ops/quantized.py) read them, and widen each number in a register.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.engine import step_lock
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable
from nbkeras.ops.elementwise import cast
from nbkeras.ops.quantized import QuantizedVariable

MINIMUM = 16384  # fewest numbers of a matrix that is kept as bfloat16: smaller ones stay in a processor's caches


def freeze(model: Any, weights: Any, frozen: Callable[[], Any]) -> Any:
    """The result of `frozen()`, in which the model's large matrices are bfloat16."""
    if weights != "bfloat16":
        raise ValueError(f"weights must be 'bfloat16', or None for float32, received {briefly(weights)}")
    if not model.built:
        frozen()  # it creates the weights
    with step_lock.alone(), _in_16_bits(model):
        return frozen()


@contextlib.contextmanager
def _in_16_bits(model: Any) -> Iterator[None]:
    """In the block, the attributes of layers hold QuantizedVariables in place of large matrices."""
    made: dict[Variable, QuantizedVariable] = {}
    changed: list[tuple[dict, str, Variable]] = []
    try:
        for layer in model._all_layers():
            for name in layer.quantized_channels if layer.is_quantized_by_keras else ():
                weight = vars(layer).get(name)
                if isinstance(weight, Variable) and weight.dtype == np.float32 and weight.size >= MINIMUM:
                    if weight not in made:
                        made[weight] = _bits_of(layer, name, weight)
                    changed.append((vars(layer), name, weight))
        for attributes, name, weight in changed:
            attributes[name] = made[weight]  # not by setattr, which drops the model's programs
        yield
    finally:
        for attributes, name, weight in changed:
            attributes[name] = weight


def _bits_of(layer: Any, name: str, weight: Variable) -> QuantizedVariable:
    bits = (np.asarray(cast(weight, "bfloat16"), np.float32).view(np.uint32) >> 16).astype(np.uint16)
    channels, stored = layer.channels_of_scale(name, weight.shape)
    return QuantizedVariable(bits, Variable(np.ones(stored, np.float32), trainable=False), channels, None, weight.name)
