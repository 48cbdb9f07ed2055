"""Floor 3: batches of models with strings: the host part of the graph runs on each batch, and the step gets its numbers."""

from __future__ import annotations

from nbkeras.building.graph import Graph, name_of
from nbkeras.building.host_graph import HostGraph, Numbers
from nbkeras.data.adapters import Layout
from nbkeras.data.input_matching import GraphInputs, check_numbers, tables_of
from nbkeras.engine import structures
from nbkeras.engine.batch import ALL, Batch


class HostLayout(Layout):
    """The layout of a batch with strings; `prepared` makes the batch that a step takes, of numbers.

    matching: the inputs of the graph, which has a host part.
    """

    __slots__ = ("_matching", "_rest")

    def __init__(self, of: Layout, matching: GraphInputs):
        super().__init__(of.x, of.y, of.inputs, of.targets)
        host: HostGraph = matching.host
        count = len(host.numeric) + len(host.symbols)
        self._matching, self._rest = matching, Layout(Numbers([0] * count), of.y, count, of.targets)

    def prepared(self, batch: Batch) -> Batch:
        host: HostGraph = self._matching.host
        leaves = [leaf if leaf is None or batch.rows is ALL else leaf[batch.rows] for leaf in batch.leaves]
        values = self._matching.in_order_of_graph(structures.pack(self.x, leaves[: self.inputs]))
        made = host.arrays(values)
        for array, symbol in zip(made, host.symbols, strict=True):
            if (table := tables(host).get(id(symbol))) is not None:
                check_numbers(array, *table, name_of(symbol))
        numbers = [values[place] for place in host.numeric] + made
        return Batch([*numbers, *leaves[self.inputs :]], ALL, batch.size, self._rest, batch.part)


def tables(host: HostGraph) -> dict[int, tuple[int, str]]:
    """(rows, layer's name) of the table that a number made of strings indexes, by the id of its symbol; found once."""
    if host.tables is None:
        inputs = [*host.whole.input_list, *host.symbols]
        host.tables = {
            id(inputs[place]): table for place, table in tables_of(Graph(inputs, host.whole.outputs)).items()
        }
        for model in host.models:
            host.tables |= tables(model._host_part)
    return host.tables


def tables_of_rest(host: HostGraph) -> dict[int, tuple[int, str]]:
    """The tables that the inputs of the rest of a graph index, by their position among Numbers."""
    inputs = [*(host.whole.input_list[place] for place in host.numeric), *host.symbols]
    found = tables(host)
    return {place: found[id(symbol)] for place, symbol in enumerate(inputs) if id(symbol) in found}
