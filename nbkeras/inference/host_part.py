"""Floor 3: the host part of a frozen model, which makes numbers of strings before the recorded program runs.

It is a model of copies of the layers, with the model's inputs, whose outputs are the inputs of the program. Bundles hold its
configuration, so a file of a frozen model runs no code of its own: only registered classes are made.
"""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np

from nbkeras.building.graph import name_of
from nbkeras.building.host_graph import HostGraph
from nbkeras.building.layer import layers
from nbkeras.data.input_matching import check_numbers
from nbkeras.engine import load_budget, structures
from nbkeras.engine.strings import characters, strings_of
from nbkeras.inference.bundle import BundleSpec, TensorSpec

Array = np.ndarray
_TEXT = np.dtype(object)
_ROOM, _SLACK = 8, 32 << 20  # its layers may use _ROOM times the bytes of the text, plus _SLACK bytes


def text_of(model: Any) -> str | None:
    """The host part of a model as a bundle holds it; None for a model of numbers."""
    host: HostGraph | None = getattr(model, "_host_part", None)
    if host is None:
        return None

    def new(each: Any) -> Any:
        return layers.get("InputLayer", batch_shape=each.shape, dtype=each.dtype.name, name=name_of(each)).output

    inputs = structures.map_leaves(new, host.whole.inputs)

    @functools.cache
    def copied(layer: Any) -> Any:
        if layer.weights:
            raise ValueError(
                f"model {model.name!r} cannot be frozen: layer {layer.name!r} has weights, and layers that take strings need its "
                "output"
            )
        return layers.deserialize(layers.serialize(layer))

    made = host.run(structures.flatten(inputs), copied)
    try:
        return json.dumps(layers.serialize(layers.get("Functional", inputs=inputs, outputs=made)))
    except TypeError as error:
        raise ValueError(
            f"model {model.name!r} cannot be frozen: the configuration of a layer is no JSON: {error}"
        ) from None


class HostPart:
    """The host part of a bundle.

    inputs, structure: the model's inputs, strings among them. Raises ValueError for a text that does not fit the program.
    """

    def __init__(self, text: str, spec: BundleSpec):
        with load_budget.limited(_ROOM * len(text) + _SLACK):
            self._model = layers.deserialize(json.loads(text))
        self._host: HostGraph = self._model._host_part
        self._spec = spec
        self.structure = structures.pack(self._model.input, range(len(self._model.inputs)))
        self.inputs = tuple(
            TensorSpec(name_of(each), (None, *each.shape[1:]), _TEXT if each.is_text else each.dtype)
            for each in self._model.inputs
        )
        count = len(self._host.numeric) + len(self._host.symbols)
        rows = [(math.prod(size or 1 for size in each.shape[1:]), each.dtype.itemsize) for each in spec.inputs]
        self._row_bytes = 2 * sum(size * itemsize for size, itemsize in rows)
        if count != len(spec.inputs):
            raise ValueError(f"its host part makes {count} arrays, and its program takes {len(spec.inputs)}")

    def memory(self, values: Any) -> int:
        """An upper bound of the bytes that `numbers` takes for arrays of a request, with its results."""
        texts = [value for value in values if value.dtype == _TEXT]
        strings, length = sum(value.size for value in texts), sum(map(characters, texts))
        return self._host.memory(strings, length) + len(values[0]) * self._row_bytes

    def arrays_in_order(self, x: Any) -> tuple[list[Array], None]:
        """The inputs of the program for the user's data."""
        return self.numbers(self._model._graph_inputs.arrays_in_order(x)[0]), None

    def numbers(self, values: Any) -> list[Array]:
        """The inputs of the program for the model's inputs in order: arrays, also of str."""
        given = [
            strings_of(value, f"input {spec.name!r}") if spec.dtype == _TEXT else value
            for value, spec in zip(values, self.inputs, strict=True)
        ]
        found: list[Any] = [*(given[place] for place in self._host.numeric), *self._host.arrays(given)]
        found = list(map(np.ascontiguousarray, found))
        for array, (name, shape, dtype) in zip(found, self._spec.inputs, strict=True):
            if array.dtype != dtype or array.shape[1:] != shape[1:]:
                raise ValueError(
                    f"the strings became an array {name!r} of shape {array.shape} and dtype {array.dtype}, but the model was "
                    f"frozen for {shape} and {dtype}: texts of other lengths need another input_signature"
                )
        for position, rows, layer in self._spec.tables:
            check_numbers(found[position], rows, layer, self._spec.inputs[position].name)
        return found
