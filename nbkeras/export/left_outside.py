"""The inputs of exported files of models with strings: a file holds the part of the model that computes with numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.data.input_matching import GraphInputs


def host_inputs(model: Any, x: Any) -> dict[str, np.ndarray]:
    """The arrays that an exported file of a model with strings takes, by the names of the file's inputs.

    `model.export` writes the part of the model that computes with numbers. This function does the rest in Python.

    Args:
        model: The model that was exported.
        x: The inputs as for `predict`.

    Returns:
        A dict of NumPy arrays: the numeric inputs of the model, and what the layers that take strings make of the others.

    Raises:
        ValueError: for a model without strings.

    Example:
        >>> from nbkeras.export import host_inputs
        >>> text = keras.Input((1,), dtype="string")
        >>> number = layers.StringLookup(vocabulary=["a", "b"], name="number")(text)
        >>> model = keras.Model(text, layers.Embedding(3, 2)(number))
        >>> host_inputs(model, np.array([["b"], ["z"]]))
        {'number': array([[2],
               [0]])}
    """
    host = getattr(model, "_host_part", None)
    if host is None:
        raise ValueError(f"model {model.name!r} takes no strings: its file takes the arrays that `predict` takes")
    matching: GraphInputs = model._graph_inputs
    values, _ = matching.arrays_in_order(x)
    names, _ = host.inputs_of_rest()
    arrays: list[Any] = [*(values[place] for place in host.numeric), *host.arrays(values)]
    return dict(zip(names, arrays, strict=True))


def note(model: Any) -> str:
    """A sentence about the part of a model that its exported file does not have; empty for a model of numbers."""
    host = getattr(model, "_host_part", None)
    if host is None:
        return ""
    names = ", ".join(host.inputs_of_rest()[0])
    return f" Layers that take strings are outside: the file takes {names}, which nbkeras.export.host_inputs(model, x) makes."
