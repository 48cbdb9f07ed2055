"""The inputs and outputs of an exported model: names, shapes and dtypes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.building.host_graph import Numbers
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly

Spec = tuple[tuple, np.dtype]  # a shape, with None for an open size, and a dtype


def inputs_of(model: Any, given: Any) -> tuple[list[str], list[Spec], Callable[[list], Any]]:
    """The inputs' names and specs, and a function that packs a list of tensors in the model's structure.

    given: the shape of each input, for models without a graph and to fix sizes.
    """
    pack: Callable[[list], Any]
    expected = None if given is None else [_spec(item) for item in ([given] if _is_one(given) else given)]
    if getattr(model, "_host_part", None) is not None:  # its recorded part, which takes numbers in place of strings
        names, symbols = model._host_part.inputs_of_rest()
        specs = [(tuple(symbol.shape), symbol.value_dtype) for symbol in symbols]
        pack = Numbers
    elif getattr(model, "_graph", None) is not None:
        names = [str(name) for name in model.input_names]
        specs = [(tuple(symbol.shape), symbol.dtype) for symbol in model.inputs]
        pack = functools.partial(structures.pack, model.input)
    elif given is None and model.build_shapes is None:
        raise ValueError(f"model {model.name!r} has no input shapes: call it once, or give input_signature")
    else:
        own = model.build_shapes
        if own is None:  # as in Keras, a list of one shape is also one input
            own = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
        by_name = isinstance(own, dict)
        leaves = [own] if _is_one(own) else [own[key] for key in sorted(own)] if by_name else list(own)
        known = getattr(model, "argument_names", None)
        names = known or (sorted(own) if by_name else [f"input_{i}" for i in range(len(leaves))])
        specs = [((None, *_spec(leaf)[0][1:]), None) for leaf in leaves]

        def pack(tensors):
            return dict(zip(names, tensors, strict=True)) if by_name else tensors[0] if _is_one(own) else tensors

    expected = specs if expected is None else expected
    if len(expected) != len(names):
        raise ValueError(f"model {model.name!r} has {len(names)} inputs, received {len(expected)} shapes")
    chosen = zip(expected, specs, strict=True)
    return names, [(shape, np.dtype(dtype or own or model.dtype)) for (shape, dtype), (_, own) in chosen], pack


def _is_one(value: Any) -> bool:
    return structures.is_shape(value) or hasattr(value, "shape")


def _spec(value: Any) -> tuple[tuple, Any]:
    """(shape, dtype or None) of a shape, an InputSpec or an Input."""
    if hasattr(value, "shape"):
        return tuple(value.shape), value.dtype
    return tuple(value), None


def closed(model: Any, name: str, spec: Spec, rows: int, purpose: str) -> Spec:
    """A spec with the number of rows. Raises ValueError if another size is open. purpose: see `recording.record`."""
    shape, dtype = spec
    if None in shape[1:]:
        words = f", or output_sequence_length of {name!r}" if getattr(model, "_host_part", None) is not None else ""
        raise ValueError(
            f"model {model.name!r} cannot {purpose}: the size of axis {shape.index(None, 1)} of input {name!r} is open, "
            f"{shape}: give the inputs' shapes, as in input_signature=[{(None, *(n or 16 for n in shape[1:]))}]{words}"
        )
    return (rows, *shape[1:]), dtype


def counts(name: str, given: Any) -> list[int]:
    """The positive integers in an argument, one or a list of them, each once."""
    numbers = [given] if isinstance(given, int | np.integer) else list(given)
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in numbers):
        raise ValueError(f"{name} must be a positive integer or a list of them, received {briefly(given)}")
    return list(dict.fromkeys(map(int, numbers)))


def check_rows(model: Any, name: str, shape: tuple[int, ...], rows: int, purpose: str) -> None:
    """Refuse an output without a row for each sample."""
    if shape[:1] != (rows,):
        raise ValueError(
            f"model {model.name!r} cannot {purpose}: output {name!r} has no row for each of {rows} samples, its shape is {shape}"
        )


def output_names(model: Any, count: int, taken: list[str]) -> list[str]:
    """Names of the outputs, different from each other and from the inputs' names."""
    names = [str(name) for name in model.output_names]
    names = names if len(set(names)) == count else [f"output_{i}" for i in range(count)]
    for position, name in enumerate(names):
        while name in taken or name in names[:position]:
            name += "_output"
        names[position] = name
    return names
