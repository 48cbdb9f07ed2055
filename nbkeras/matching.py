"""Floor 3: which of the things that a user passed belongs to which input of a functional model."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras import nest
from nbkeras.graph import SymbolicTensor
from nbkeras.registry import nearest
from nbkeras.tensor import Tensor


def by_key(x: dict, model: Any) -> dict:
    """What a dict has for each input, under the input's key or name, in the graph's order; the rest is not used."""
    names, inputs = model.input_names, model.input
    wanted = nest.keys(inputs) if isinstance(inputs, dict) else names
    pairs = list(zip(wanted, names, strict=False))  # fewer keys than names where a key holds several inputs
    missing = [key for key, name in pairs if key not in x and name not in x]
    if missing:
        hints = "".join(nearest(str(key), missing) for key in x if key not in wanted and key not in names)
        raise ValueError(f"inputs {missing} are missing: received {sorted(x)}.{hints}")
    used = [key if key in x else name for key, name in pairs]
    return {key: x[key] for key in used}


def by_position(x: Any, model: Any) -> Any:
    """Inputs that are not in a dict, as they are; ValueError where nobody can tell in which order they must be."""
    inputs = model.input
    if isinstance(inputs, dict) and list(inputs) != nest.keys(inputs):
        raise ValueError(
            f"the inputs of model {model.name!r} are a dict with the keys {list(inputs)}, and nobody can tell in which "
            f"order a {type(x).__name__} has them: pass a dict too"
        )
    return x


def arrays_by_position(x: Any, count: int, model: Any) -> list:
    """The arrays for each input: the one that was passed, or those in a list."""
    if isinstance(x, list | tuple) and any(hasattr(item, "shape") for item in x):
        if count == 1 and len(x) != 1:
            return [np.asarray(x)]
        leaves = list(x)
    elif isinstance(x, list | tuple) and count > 1:
        leaves = list(x)
    else:
        leaves = [x]
    if len(leaves) != count:
        raise ValueError(
            f"model {model.name!r} has {count} inputs {model.input_names}: pass a list of as many arrays or a dict by "
            f"name; received {len(leaves)}"
        )
    return leaves


def given(value: Any, symbol: SymbolicTensor) -> bool:
    """Whether there is something for an input; ValueError for None where the input is not optional."""
    if value is None and not (symbol.node and getattr(symbol.node.layer, "optional", False)):
        name = symbol.node.layer.name if symbol.node else symbol.name
        raise ValueError(
            f"input {name!r} is not optional, received None: pass an array, or make it Input(optional=True)"
        )
    return value is not None


def fitted(value: Any, symbol: SymbolicTensor) -> Any:
    """An array or tensor, with a last axis of size 1 dropped or added where the input has one axis fewer or more."""
    ndim = len(nest.shape_of(value))
    if ndim == symbol.ndim - 1 and symbol.shape[-1] == 1:
        return keep_mask(value, value[..., None])
    if ndim == symbol.ndim + 1 and value.shape[-1] == 1:
        return keep_mask(value, value[..., 0])
    return value


def keep_mask(source: Any, target: Any) -> Any:
    """The target, with the source's mask if it is a tensor."""
    if isinstance(target, Tensor):
        target.mask = source.mask
    return target
