"""Floor 3: matches arrays, tensors or symbols to the inputs of a functional model."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.building.graph import Graph, SymbolicTensor, is_symbolic, name_of
from nbkeras.data import tables
from nbkeras.data.arrays import largest, to_array
from nbkeras.engine import compatibility, structures
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import Tensor, as_index, as_tensor

Array = np.ndarray


class GraphInputs:
    """The inputs of a graph: it matches arrays, tensors or symbols by name or by position, and checks each.

    model: the model's name, for messages. sizes_vary: lengths and image sizes may differ from the inputs' shapes, as in
    Keras's Sequential, because layers check them. graph: a Graph, or an object with `inputs` and `input_list` but no nodes;
    then `tables` must be given. host: the part of the graph for strings, or None.
    """

    def __init__(
        self,
        graph: Graph | Any,
        model: str,
        sizes_vary: bool = False,
        tables: dict[int, tuple[int, str]] | None = None,
        host: Any = None,
    ):
        self._graph, self._model, self._sizes_vary, self._tables, self.host = graph, model, sizes_vary, tables, host
        self.count, self.batch_size = len(graph.input_list), graph.input_list[0].shape[0]

    @property
    def names(self) -> list[str]:
        """The inputs' names, in the graph's order."""
        return [name_of(symbol) for symbol in self._graph.input_list]

    # -------------------- arrays, tensors, symbols --------------------

    def arrays(self, x: Any) -> tuple[Any, list[Array | None]]:
        """(structure, arrays) of the user's data, in the inputs' dtypes."""
        found, given = self.arrays_in_order(x)
        if given is None:
            given = structures.one_or_all(found)
        return structures.map_leaves(lambda _: 0, given), structures.flatten(given)

    def arrays_in_order(self, x: Any) -> tuple[list[Array | None], Any]:
        """The arrays in the graph's order, and in the structure of x, if x has keys or the structure of nested inputs."""
        nested = self._nested(x)
        by_key = self._by_key(x) if nested is None and self._has_keys(x) else None
        if nested is not None:
            leaves = structures.flatten(nested)
        else:
            leaves = self._arrays_by_position(x) if by_key is None else list(by_key.values())
        found: list = []
        for leaf, symbol, name in zip(leaves, self._graph.input_list, self.names, strict=True):
            if not is_given(leaf, symbol):
                found.append(None)
                continue
            array = fitted(to_array(leaf, f"input {name!r}", symbol.dtype), symbol)
            self._check_shape(array.shape, symbol, (None, *array.shape[1:]))
            found.append(array)
        self.check_numbers(found)
        if nested is not None:
            return found, structures.pack(nested, found)
        return found, None if by_key is None else dict(zip(by_key, found, strict=True))

    def in_order(self, x: Any) -> list:
        """The user's value for each input, in the graph's order, unchanged."""
        return list(self._by_key(x).values()) if self._has_keys(x) else self._arrays_by_position(x)

    def in_order_of_graph(self, inputs: Any) -> list:
        """The inputs of a call in the graph's order, unchanged."""
        given = list(self._by_key(inputs).values()) if isinstance(inputs, dict) else self._by_position(inputs)
        return structures.flatten(given)

    def tensors(self, inputs: Any) -> list:
        """The inputs of a call in the graph's order, each in its input's dtype."""
        symbols = self._graph.input_list
        if type(inputs) is Tensor and len(symbols) == 1:
            return [in_dtype(self.fit_call(inputs, symbols[0]), symbols[0].dtype)]
        leaves = self.in_order_of_graph(inputs)
        if len(leaves) != len(symbols):
            raise ValueError(
                f"model {self._model!r} expects {len(symbols)} inputs {self.names}, received {len(leaves)}"
            )
        return [
            in_dtype(self.fit_call(leaf, symbol), symbol.dtype) if is_given(leaf, symbol) else None
            for leaf, symbol in zip(leaves, symbols, strict=True)
        ]

    def symbols(self, inputs: Any) -> Any:
        """Symbolic inputs of a call, checked like arrays, in their own structure."""
        if is_symbolic(inputs) and not isinstance(inputs, dict):
            leaves = structures.flatten(inputs)
            if len(leaves) == len(self._graph.input_list):
                pairs = zip(leaves, self._graph.input_list, strict=True)
                return structures.pack(inputs, [self.fit_call(leaf, symbol) for leaf, symbol in pairs])
        return inputs

    def fit_call(self, leaf: Any, symbol: SymbolicTensor) -> Any:
        """One input of a direct call, or of a call in another model, checked and with the rank of the symbol."""
        if not compatibility.current.checks_shapes_of_calls:
            return leaf
        if type(leaf) is Tensor and leaf.ndim == symbol.ndim and leaf.shape[1:] == symbol.shape[1:]:
            return leaf
        leaf = fitted(leaf, symbol)
        self._check_shape(tuple(leaf.shape), symbol, tuple(leaf.shape))
        return leaf

    # -------------------- matching --------------------

    def _nested(self, x: Any) -> Any:
        """The entries of x in the structure of the inputs, if that is nested and x has it; else None."""
        try:
            return None if structures.nested(self._graph.inputs) is None else _like(self._graph.inputs, x)
        except LookupError:
            return None

    def _has_keys(self, x: Any) -> bool:
        """True if x has arrays by name: a dict, or a table if the inputs are several or a dict."""
        several = len(self._graph.input_list) > 1 or isinstance(self._graph.inputs, dict)
        return isinstance(x, dict) or (several and tables.is_frame(x))

    def _by_key(self, x: Any) -> dict:
        """The entry of a dict or table for each input, by its key or name, in the graph's order; other entries are ignored."""
        names, inputs = self.names, self._graph.inputs
        wanted = structures.keys(inputs) if isinstance(inputs, dict) else names
        pairs = list(zip(wanted, names, strict=False))  # there are fewer keys than names if a key holds several inputs
        missing = [key for key, name in pairs if key not in x and name not in x]
        if missing:
            hints = "".join(nearest(str(key), missing) for key in x if key not in wanted and key not in names)
            raise ValueError(f"inputs {missing} are missing: received {sorted(x, key=str)}.{hints}")
        used = [key if key in x else name for key, name in pairs]
        return {key: x[key] for key in used}

    def _by_position(self, x: Any) -> Any:
        """Inputs that are not in a dict, unchanged; raises ValueError if their order is not defined."""
        inputs = self._graph.inputs
        if isinstance(inputs, dict) and list(inputs) != structures.keys(inputs):
            raise ValueError(
                f"the inputs of model {self._model!r} are a dict with the keys {list(inputs)}, so the order of a "
                f"{type(x).__name__} is not defined: pass a dict"
            )
        return x

    def _arrays_by_position(self, x: Any) -> list:
        """The array for each input, from one array or a list."""
        x, count = self._by_position(x), len(self._graph.input_list)
        leaves = arrays_in_order(x, count)
        if len(leaves) != count:
            raise ValueError(
                f"model {self._model!r} has {count} inputs {self.names}: pass a list of as many arrays or a dict by "
                f"name; received {len(leaves)}"
            )
        return leaves

    # -------------------- checks --------------------

    def _check_shape(self, shape: tuple, symbol: SymbolicTensor, shown: tuple) -> None:
        if self._sizes_vary and symbol.ndim > 2 and len(shape) == symbol.ndim:
            return
        # the batch axis may differ: layers that keep states by sample check it
        if len(shape) != symbol.ndim or not _agree(shape[1:], symbol.shape[1:]):
            one = " for a single sample: pass x[None], a batch of one" if _agree(shape, symbol.shape[1:]) else ""
            raise ValueError(
                f"input {name_of(symbol)!r} of model {self._model!r} expects shape {symbol.shape}, received "
                f"{shape if one else shown}{one}"
            )

    @property
    def tables(self) -> dict[int, tuple[int, str]]:
        """(rows, layer's name) of the table that an input's numbers index, by the position of the input."""
        if self._tables is None:
            self._tables = tables_of(self._graph)
        return self._tables

    def check_numbers(self, arrays: list[Array | None]) -> None:
        """Raise ValueError for numbers without a row in a table. arrays: one for each input."""
        for position, (rows, layer) in self.tables.items():
            array = arrays[position]
            if array is not None:
                check_numbers(array, rows, layer, name_of(self._graph.input_list[position]))


def _like(inputs: Any, x: Any) -> Any:
    """The entries of x in the structure of the inputs; LookupError if x does not have it."""
    if not structures.is_nested(inputs):
        return x
    if isinstance(inputs, dict) != isinstance(x, dict) or not (structures.is_nested(x) and len(x) >= len(inputs)):
        raise LookupError
    return structures.made_of(inputs, [_like(part, x[key]) for key, part in structures.parts(inputs)])


def arrays_in_order(x: Any, count: int) -> list:
    """The arrays for `count` inputs, from one array or a list."""
    if isinstance(x, list | tuple) and any(hasattr(item, "shape") for item in x):
        return [x] if count == 1 and len(x) != 1 else list(x)
    return list(x) if isinstance(x, list | tuple) and count > 1 else [x]


def is_given(value: Any, symbol: SymbolicTensor) -> bool:
    """Whether an input was given; raises ValueError for None if the input is not optional."""
    if value is None and not (symbol.node and getattr(symbol.node.layer, "optional", False)):
        raise ValueError(
            f"input {name_of(symbol)!r} is not optional, received None: pass an array, or make it Input(optional=True)"
        )
    return value is not None


def _agree(shape: tuple, expected: tuple) -> bool:
    """Whether the known sizes of two shapes are equal."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


def fitted(value: Any, symbol: SymbolicTensor) -> Any:
    """An array or tensor; a last axis of size 1 is dropped or added if the input has one axis fewer or more."""
    if isinstance(value, tables.SparseRows):
        return value
    ndim = len(structures.shape_of(value))
    if ndim == symbol.ndim - 1 and symbol.shape[-1] == 1:
        return _keep_mask(value, value[..., None])
    if ndim == symbol.ndim + 1 and value.shape[-1] == 1:
        return _keep_mask(value, value[..., 0])
    return value


def in_dtype(leaf: Any, dtype: np.dtype) -> Any:
    """A leaf in the input's dtype; wider integers stay unchanged, because a cast could change their values."""
    narrower = dtype.kind in "iu" and leaf.dtype.kind in "iu" and not np.can_cast(leaf.dtype, dtype)
    if leaf.dtype == dtype or narrower or isinstance(leaf, SymbolicTensor):
        return leaf
    cast = as_index if dtype in (np.int32, np.int64) else as_tensor  # NaN and 2.0**40 must not become 0
    return _keep_mask(leaf, cast(leaf, dtype))


def _keep_mask(source: Any, target: Any) -> Any:
    """The target, with the source's mask if it is a tensor."""
    if isinstance(target, Tensor):
        target.mask = source.mask
    return target


# -------------------- numbers that are looked up in a table --------------------


def tables_of(graph: Graph) -> dict[int, tuple[int, str]]:
    """A map from an input's position to (rows, layer's name) of the smallest table that its unchanged numbers index.

    An input may reach its Embedding through layers that only move elements (Reshape, Flatten, ...) and through nested models.
    """
    found: dict[int, tuple[int, str]] = {}
    position_of = {id(symbol): position for position, symbol in enumerate(graph.input_list)}
    for node in graph.nodes:
        layer, given = node.layer, [position_of.get(id(tensor)) for tensor in node.inputs]
        if not str(type(layer).call.__module__).startswith("nbkeras."):  # a user's layer may change the numbers
            continue
        inner = getattr(layer, "_graph", None)
        if inner is not None and len(given) == len(inner.input_list) and not isinstance(node.call_inputs, dict):
            looked_up = tables_of(inner)
        elif len(given) == 1 and layer._indexed_rows is not None and not node.kwargs.get("reverse"):
            looked_up = {0: (layer._indexed_rows, layer.name)}
        else:
            looked_up = {}
            if len(given) == 1 and given[0] is not None and layer.output_dtype == "input":
                position_of.update((id(output), given[0]) for output in structures.flatten(node.outputs))
        for number, table in looked_up.items():
            position = given[number]
            if position is not None:
                found[position] = min(table, found.get(position, table))
    return found


def check_numbers(array: Any, rows: int, layer: str, name: str) -> None:
    """Raise ValueError for numbers outside a table; the kernel would return NaN without an error."""
    if isinstance(array, tables.SparseRows):
        array = array.values  # the other elements are 0, which every table has
    if not array.size or (array.dtype == np.int32 and largest(array.view(np.uint32), None) < rows):
        return  # one pass, 1 us: as uint32 negative numbers are large
    low, high = array.min(), array.max()
    if not (low > -rows - 1 and high < rows):
        raise ValueError(
            f"input {name!r} holds numbers from {low} to {high}, but layer {layer!r} looks them up in a table of {rows} rows, "
            f"so they must be 0 to {rows - 1} (or -{rows} to -1, which count from the end): give Embedding a larger input_dim"
        )
    if array.dtype.kind == "f" and max(high, -low) >= 2 ** (np.finfo(array.dtype).nmant + 1):
        raise ValueError(
            f"input {name!r} has dtype {array.dtype}, which cannot represent all integers up to {int(max(high, -low))}, "
            f"and layer {layer!r} looks them up in a table: make it Input(..., dtype='int32')"
        )
