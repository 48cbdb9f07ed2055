"""Floor 3: which of the things that a user passed belongs to which input of a functional model, and whether it may."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.building.graph import Graph, SymbolicTensor
from nbkeras.data import tables as tabular
from nbkeras.engine import structures
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Tensor
from nbkeras.layers.embedding import Embedding


def has_keys(x: Any, model: Any) -> bool:
    """Whether x has what belongs to the inputs by name: a dict, or a table for a model of several inputs or of a dict."""
    several = len(model.input_names) > 1 or isinstance(model.input, dict)
    return isinstance(x, dict) or (several and tabular.is_frame(x))


def by_key(x: Any, model: Any) -> dict:
    """The entry of a dict or table for each input, under the input's key or name, in the graph's order; the rest is not used."""
    names, inputs = model.input_names, model.input
    wanted = structures.keys(inputs) if isinstance(inputs, dict) else names
    pairs = list(zip(wanted, names, strict=False))  # fewer keys than names where a key holds several inputs
    missing = [key for key, name in pairs if key not in x and name not in x]
    if missing:
        hints = "".join(nearest(str(key), missing) for key in x if key not in wanted and key not in names)
        raise ValueError(f"inputs {missing} are missing: received {sorted(x, key=str)}.{hints}")
    used = [key if key in x else name for key, name in pairs]
    return {key: x[key] for key in used}


def by_position(x: Any, model: Any) -> Any:
    """Inputs that are not in a dict, as they are; ValueError where nobody can tell in which order they must be."""
    inputs = model.input
    if isinstance(inputs, dict) and list(inputs) != structures.keys(inputs):
        raise ValueError(
            f"the inputs of model {model.name!r} are a dict with the keys {list(inputs)}, and nobody can tell in which "
            f"order a {type(x).__name__} has them: pass a dict too"
        )
    return x


def arrays_by_position(x: Any, count: int, model: Any) -> list:
    """The arrays for each input: the one that was passed, or those in a list."""
    if isinstance(x, list | tuple) and any(hasattr(item, "shape") for item in x):
        if count == 1 and len(x) != 1:
            return [x]
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
    if isinstance(value, tabular.SparseRows):
        return value
    ndim = len(structures.shape_of(value))
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


# -------------------- numbers that are looked up in a table --------------------


def tables(graph: Graph) -> dict[int, tuple[int, str]]:
    """By the position of an input: (rows, layer's name) of the smallest table in which its numbers are looked up as they are.

    Between an input and its Embedding may be layers that only move elements (Reshape, Flatten, ...) and models' borders.
    """
    found: dict[int, tuple[int, str]] = {}
    position_of = {id(symbol): position for position, symbol in enumerate(graph.input_list)}
    for node in graph.nodes:
        layer, given = node.layer, [position_of.get(id(tensor)) for tensor in node.inputs]
        if not type(layer).call.__module__.startswith("nbkeras."):  # the user's own may change the numbers
            continue
        inner = getattr(layer, "_graph", None)
        if inner is not None and len(given) == len(inner.input_list) and not isinstance(node.call_inputs, dict):
            looked_up = tables(inner)
        elif len(given) == 1 and isinstance(layer, Embedding) and not node.kwargs.get("reverse"):
            looked_up = {0: (layer.input_dim, layer.name)}
        else:
            looked_up = {}
            if len(given) == 1 and given[0] is not None and layer.output_dtype == "input":
                position_of.update((id(output), given[0]) for output in structures.flatten(node.outputs))
        for place, table in looked_up.items():
            position = given[place]
            if position is not None:
                found[position] = min(table, found.get(position, table))
    return found


_largest = np.maximum.reduce


def check_numbers(array: Any, rows: int, layer: str, name: str) -> None:
    """ValueError for numbers outside a table: a kernel cannot say so, and makes NaN of them."""
    if isinstance(array, tabular.SparseRows):
        array = array.values  # 0, the others, is always there
    if not array.size or (array.dtype == np.int32 and _largest(array.view(np.uint32), None) < rows):
        return  # in one pass, 1 us: negative numbers are large ones there
    low, high = array.min(), array.max()
    if not (low > -rows - 1 and high < rows):
        raise ValueError(
            f"input {name!r} holds numbers from {low} to {high}, but layer {layer!r} looks them up in a table of {rows} rows, "
            f"so they must be 0 to {rows - 1} (or -{rows} to -1, which count from the end): give Embedding a larger input_dim"
        )
    if array.dtype.kind == "f" and max(high, -low) >= 2 ** (np.finfo(array.dtype).nmant + 1):
        raise ValueError(
            f"input {name!r} is of {array.dtype}, which does not tell apart whole numbers as large as {int(max(high, -low))}, "
            f"and layer {layer!r} looks them up in a table: make it Input(..., dtype='int32')"
        )
