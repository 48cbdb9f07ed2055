"""Floor 2: strings in functional graphs. The graph is cut where numbers begin.

The host part of a graph are the calls that take or give strings, and the calls that these need. They run in plain NumPy on each
batch, before the recorded step, which gets their numbers in place of the strings. So programs know nothing of strings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.building import graph
from nbkeras.building.graph import Graph, Node, SymbolicTensor
from nbkeras.engine import naming, structures, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.strings import STRING, Strings, holds_strings, texts_of
from nbkeras.engine.tensor import as_tensor

Array = np.ndarray


class SymbolicStrings(SymbolicTensor):
    """A symbolic tensor of strings: an `Input` of dtype 'string', or what a layer makes of one."""

    is_text = True

    def __init__(self, shape: Any, dtype: Any = None, name: str | None = None):
        super().__init__(shape, "bool", name)
        self.dtype = STRING  # type: ignore[assignment] # not a dtype of NumPy

    def _stand_in(self, sizes: list[int]) -> Any:
        return Strings(np.full(sizes, "a", object))


def converted(value: Any, convert: Callable[[Any], Any]) -> Any:
    """The argument of a call with each array or list of str as Strings; `convert` makes the other values."""
    if isinstance(value, dict):
        return {key: converted(item, convert) for key, item in value.items()}
    texts = texts_of(value)
    if texts is not None:
        return Strings(texts)
    if isinstance(value, list | tuple) and any(map(holds_strings, value)):
        return type(value)(converted(item, convert) for item in value)
    return convert(value)


class Numbers(list):
    """The inputs of the rest of a graph, after its host part: its numeric inputs, then the numbers made of strings."""


class HostGraph:
    """The host part of a graph, whose nodes are the graph's own.

    numeric: the positions of the graph's inputs of numbers. used: the positions of the inputs that it needs.
    symbols: the symbolic tensors of the numbers that it makes, in order, also of models in the graph. tables: the tables that
    these numbers index, once `data.host_batches.tables` has found them.
    """

    def __init__(self, whole: Graph):
        for symbol in whole.output_list:
            if symbol.is_text:
                raise ValueError(
                    f"the output {graph.name_of(symbol)!r} holds strings, but the outputs of a model are numbers: end the model "
                    "before that layer, and call the layer on the model's predictions"
                )
        self.whole, self.used = whole, list[int]()
        self.tables: dict[int, tuple[int, str]] | None = None
        self.numeric = [place for place, symbol in enumerate(whole.input_list) if not symbol.is_text]
        self._steps: list[Node] = []  # the nodes of the host part, in order
        needed: set[int] = set()  # ids of the symbols that it reads
        for node in reversed(whole.nodes):
            inner, wanted = (
                host_of(node.layer),
                any(id(symbol) in needed for symbol in structures.flatten(node.outputs)),
            )
            if inner is not None and wanted:
                raise ValueError(
                    f"a layer that takes strings also takes the output of model {node.layer.name!r}, which itself has strings as "
                    "inputs: call that model first, and give its output to this model as an input"
                )
            if inner is not None:
                given = _in_order(node.layer, node.call_inputs)
                needed.update(id(given[place]) for place in inner.used)
            elif wanted or _is_direct(node):
                needed.update(map(id, node.inputs))
            else:
                continue
            self._steps.insert(0, node)
        self.used = [place for place, symbol in enumerate(whole.input_list) if id(symbol) in needed]
        self.symbols: list[SymbolicTensor] = []
        self._places: dict[int, slice] = {}  # by node, the place of its numbers among all
        for node in self._steps:
            inner, start = host_of(node.layer), len(self.symbols)
            if inner is not None or _is_direct(node):
                self.symbols += _numbers(node) if inner is None else inner.symbols
                self._places[id(node)] = slice(start, len(self.symbols))

    def memory(self, strings: int, length: int) -> int:
        """An upper bound of the bytes that its layers take besides their results, for strings of a total length in characters."""
        found = 0
        for node in self._steps:
            inner, cost = host_of(node.layer), getattr(node.layer, "text_cost", 128)
            found += 128 * strings + cost * length if inner is None else inner.memory(strings, length)
        return found

    @property
    def models(self) -> list[Any]:
        """The models in the graph that have host parts of their own."""
        return [node.layer for node in self._steps if host_of(node.layer) is not None]

    def arrays(self, values: Sequence[Any]) -> list[Array]:
        """The arrays of `symbols` for the graph's inputs in order: Strings, arrays or tensors, and None."""
        if tensor.is_step_recorded():
            raise ValueError(
                "strings cannot be in a recorded step: call the layers that take strings before it, as `fit` and `predict` do"
            )
        return list(map(np.asarray, self.run(values)))

    def run(self, values: Sequence[Any], called: Callable[[Any], Any] = lambda layer: layer) -> list[Any]:
        """The values of `symbols` for the graph's inputs in order. called(layer): what is called in place of a layer."""
        known: dict[SymbolicTensor, Any] = dict(zip(self.whole.input_list, values, strict=True))
        found: list[Any] = []

        def value(leaf: Any) -> Any:
            return known.get(leaf) if isinstance(leaf, SymbolicTensor) else leaf

        for node in self._steps:
            args, kwargs = structures.map_leaves(value, node.args), structures.map_leaves(value, node.kwargs)
            inner = host_of(node.layer)
            if inner is not None:
                found += inner.run(_in_order(node.layer, args[0]), called)
                continue
            results = structures.flatten(called(node.layer)(*args, **kwargs))
            known.update(zip(structures.flatten(node.outputs), results, strict=True))
            if id(node) in self._places:
                found += [known[symbol] for symbol in _numbers(node)]
        return found

    def inputs_of_rest(self) -> tuple[list[str], list[SymbolicTensor]]:
        """The names and the symbolic tensors of the numeric inputs and of `symbols`: what Numbers hold."""
        found = [*(self.whole.input_list[place] for place in self.numeric), *self.symbols]
        names: list[str] = []
        for symbol in found:
            names.append(naming.numbered(graph.name_of(symbol), names))
        return names, found

    def begin(self, inputs: Any, matching: Any) -> tuple[list[Any], Callable]:
        """Run the host part, unless `inputs` are Numbers. Returns the inputs for `Graph.run`, and its `call`."""
        if type(inputs) is not Numbers:
            self.check_kinds(matching.in_order_of_graph(inputs))
            values = matching.tensors(inputs)
            inputs = [*(values[place] for place in self.numeric), *map(as_tensor, self.arrays(values))]
        given: list[Any] = [None] * len(self.whole.input_list)
        for place, leaf in zip(self.numeric, inputs, strict=False):
            given[place] = leaf
        made = inputs[len(self.numeric) :]

        def call(node: Node, args: tuple, kwargs: dict) -> Any:
            place = self._places.get(id(node))
            inner = host_of(node.layer)
            if inner is not None:
                own = _in_order(node.layer, args[0])
                return node.layer(Numbers([*(own[k] for k in inner.numeric), *made[place]]), *args[1:], **kwargs)
            if place is None:
                return node.layer(*args, **kwargs)
            numbers = iter(made[place])
            return [None if symbol.is_text else next(numbers) for symbol in structures.flatten(node.outputs)]

        return given, call

    def check_kinds(self, values: Sequence[Any]) -> None:
        """Raise TypeError for strings where the graph's inputs are numbers, and for numbers where they are strings."""
        for value, symbol in zip(values, self.whole.input_list, strict=False):
            if value is not None and isinstance(value, Strings | SymbolicStrings) != symbol.is_text:
                wanted = "strings, an array or a list of str" if symbol.is_text else "numbers"
                raise TypeError(f"input {graph.name_of(symbol)!r} takes {wanted}, received {briefly(value)}")


def host_of(layer: Any) -> HostGraph | None:
    """The host part of a model in a graph; None for other layers."""
    return getattr(layer, "_host_part", None)


def _in_order(model: Any, inputs: Any) -> list:
    return model._graph_inputs.in_order_of_graph(inputs)


def _numbers(node: Node) -> list[SymbolicTensor]:
    return [symbol for symbol in structures.flatten(node.outputs) if not symbol.is_text]


def _is_direct(node: Node) -> bool:
    """Whether a call takes or gives strings."""
    return any(symbol.is_text for symbol in [*node.inputs, *structures.flatten(node.outputs)])
