"""Floor 3: models as configurations in Keras 3's form, and back. A configuration can name only registered classes."""

from __future__ import annotations

import heapq
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nbkeras.building.graph import Graph, Node, SymbolicTensor, is_input, is_op
from nbkeras.building.layer import Layer, layers
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import function_config, registry_of
from nbkeras.engine.tensor import Tensor
from nbkeras.saving import keras_ops


def graph_config(graph: Graph, input_layers: Sequence[Layer]) -> dict[str, Any]:
    """The layers, the calls between them, and the inputs and outputs, as Keras 3 writes them.

    input_layers: an InputLayer for each input.
    """
    inputs: dict[int, Any] = {
        id(each): layer.output for each, layer in zip(graph.input_list, input_layers, strict=True)
    }
    starts = [each.node for each in inputs.values()]
    # Keras makes an InputLayer for an input that a layer outside of the model computes
    known = [*(node.layer for node in starts if node.layer not in graph.layers), *graph.layers]
    node_keys: dict[int, int] = {}  # number of each call of a layer within this model; other models may call it too
    calls: dict[int, list] = {id(layer): [] for layer in known}
    for node in [*starts, *graph.nodes]:
        node_keys[id(node)] = len(calls[id(node.layer)])
        calls[id(node.layer)].append(node)

    def reference(tensor: SymbolicTensor) -> list:
        found: Any = inputs.get(id(tensor), tensor)
        return [found.node.layer.name, node_keys[id(found.node)], found.index]

    def written(leaf: Any) -> Any:
        if isinstance(leaf, SymbolicTensor):
            config = {"shape": list(leaf.shape), "dtype": leaf.dtype.name, "keras_history": reference(leaf)}
            return {"class_name": "__keras_tensor__", "config": config}
        return plain(leaf)

    def end(tensor: SymbolicTensor) -> list:
        name, number, index = reference(tensor)
        layer = inputs.get(id(tensor), tensor).node.layer
        return [name, number + first_call(layers.public_name(type(layer))), index]

    entries = []
    for layer in known:
        entry, nodes = _entry(layer, [node for node in calls[id(layer)] if node.inputs])
        inbound = [{"args": _map_json(written, args), "kwargs": _map_json(written, kwargs)} for args, kwargs in nodes]
        entries.append({**entry, "name": layer.name, "inbound_nodes": inbound})
    return {
        "layers": entries,
        "input_layers": structures.map_leaves(end, graph.inputs),
        "output_layers": structures.map_leaves(end, graph.outputs),
    }


def first_call(class_name: str) -> int:
    """The number of a layer's first call in a configuration's inputs and outputs: 1 for functional models, as in Keras."""
    return 1 if class_name in ("Functional", "Model") else 0


def _entry(layer: Layer, nodes: list[Node]) -> tuple[dict[str, Any], list[tuple]]:
    """(configuration, arguments of the calls) of a layer. For an op of Keras, the configuration has the constants."""
    calls = [(node.args, node.kwargs) for node in nodes]
    if is_op(layer) and hasattr(layer, "function") and len(calls) == 1:
        op = keras_ops.written(layer.function, *calls[0])  # type: ignore[attr-defined]
        if op is not None and not any(isinstance(leaf, SymbolicTensor) for leaf in structures.flatten(op[0]["config"])):
            config = {"name": layer.name, **_map_json(plain, op[0]["config"])}
            return {**op[0], "config": config, "registered_name": op[0]["class_name"]}, [op[1:]]
    return layers.serialize(layer), calls


def _map_json(function: Callable, structure: Any) -> Any:
    """nest.map_leaves with lists in place of tuples."""
    if isinstance(structure, dict):
        return {str(key): _map_json(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_map_json(function, value) for value in structure]
    return function(structure)


def plain(value: Any) -> Any:
    """A value that JSON can hold, for `json.dumps(..., default=plain)`.

    Args:
        value: A number, dtype, array, slice, function, or object with get_config.

    Returns:
        Numbers and strings unchanged; dtypes as names; arrays, functions and objects as configurations.

    Raises:
        TypeError: for other objects, and for a lambda.

    Example:
        >>> from nbkeras.testing import plain
        >>> plain(np.float32(0.5)), plain(np.dtype("int32")), plain(slice(1, 3))["config"]
        (0.5, 'int32', {'start': 1, 'stop': 3, 'step': None})
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, np.ndarray | Tensor):
        array = np.asarray(value)
        return {"class_name": "__numpy__", "config": {"value": array.tolist(), "dtype": array.dtype.name}}
    if isinstance(value, slice):
        return {
            "class_name": "__slice__",
            "config": {name: plain(getattr(value, name)) for name in ("start", "stop", "step")},
        }
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "get_config") and not isinstance(value, type):
        return registry_of(type(value)).serialize(value)
    if callable(value) and not isinstance(value, type):
        return function_config(value)
    raise TypeError(f"cannot write {briefly(value)} of type {type(value).__name__} into a configuration")


def numbers(config: Mapping[str, Any]) -> np.ndarray:
    """The array of a configuration {"value", "dtype"}. Raises ValueError unless it holds numbers or booleans."""
    dtype = np.dtype(config["dtype"])
    if dtype.kind not in "fiub":
        raise ValueError(f"the configuration has an array of dtype {dtype}, expected numbers or booleans")
    return np.array(config["value"], dtype)


def read_plain(written: Mapping[str, Any]) -> Any:
    """The array, slice or ellipsis that `plain` wrote; a slice may be a list, as tf.keras writes it."""
    if written["class_name"] == "__ellipsis__":
        return Ellipsis
    config = written["config"]
    if written["class_name"] == "__slice__":
        return slice(*(config if isinstance(config, list) else [config.get(key) for key in ("start", "stop", "step")]))
    return numbers(config)


def _read_leaf(value: Any, tensors: Callable[[list], SymbolicTensor]) -> Any:
    """The argument of a call that graph_config wrote."""
    if isinstance(value, list | tuple):
        return type(value)(_read_leaf(item, tensors) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind == "__keras_tensor__":
        return tensors(value["config"]["keras_history"])
    if kind == "__tuple__":
        return tuple(_read_leaf(item, tensors) for item in value["items"])
    if kind in ("__numpy__", "__tensor__", "__slice__", "__ellipsis__"):
        return read_plain(value)
    return {key: _read_leaf(item, tensors) for key, item in value.items()}


def build_graph(config: Mapping[str, Any], make: Callable[[Mapping], Layer] = layers.deserialize) -> tuple[Any, Any]:
    """(inputs, outputs) of the graph of a `graph_config`, made of new layers."""
    made: dict[str, Layer] = {}
    calls: list[tuple[str, int, dict]] = []
    for entry in config["layers"]:
        name, (layer, nodes) = entry["name"], _read_entry(entry, make)
        if name in made:
            raise ValueError(f"the configuration has two layers named {briefly(name)}")
        made[name] = layer
        calls += [(name, number, node) for number, node in enumerate(nodes)]
    inputs = {name for name, layer in made.items() if is_input(layer)}
    before = {name: 0 if name in inputs else len(layer._inbound_nodes) for name, layer in made.items()}
    found: dict[tuple[str, int], list[SymbolicTensor]] = {}  # the outputs of each call

    def source(history: Any) -> tuple[str, int]:
        if not isinstance(history, list) or len(history) != 3:
            raise ValueError(f"the configuration refers to {briefly(history)}, expected [layer, call, output]")
        name, node, index = history
        if name not in made:
            raise ValueError(f"the configuration refers to a layer {briefly(name)} that it does not have")
        if node < 0 or index < 0:
            raise ValueError(f"the configuration refers to call {node}, output {index} of layer {briefly(name)}")
        return name, node

    def tensor(history: Any) -> SymbolicTensor:
        call = name, node = source(history)
        nodes, number = made[name]._inbound_nodes, before[name] + node
        if call not in found and number < len(nodes):
            found[call] = structures.flatten(nodes[number].outputs)
        if history[2] >= len(found.get(call, ())):
            raise ValueError(
                f"the configuration refers to {briefly(history)}, but layer {briefly(name)} has no such output"
            )
        return found[call][history[2]]

    firsts = {entry["name"]: first_call(entry["class_name"]) for entry in config["layers"]}

    def end(history: list) -> SymbolicTensor:
        name, node, index = history
        return tensor([name, node - firsts.get(name, 0), index])

    for name, _, node in _in_order(calls, {(name, 0) for name in inputs}, source):
        made[name](*_read_leaf(node["args"], tensor), **_read_leaf(node["kwargs"], tensor))
    return map_references(end, config["input_layers"]), map_references(end, config["output_layers"])


def _in_order(calls: list[tuple[str, int, dict]], known: set, source: Callable) -> Iterator[tuple[str, int, dict]]:
    """Calls (layer, number, node), each after the calls that it depends on, else in the order of the configuration."""
    waiting: dict[tuple[str, int], list[int]] = {}
    missing: list[int] = []
    for position, (name, number, node) in enumerate(calls):
        taken = {source(history) for history in _histories([node["args"], node["kwargs"]])}
        if not taken:  # a call on constants would compute, but reading a file must not
            raise ValueError(f"the configuration calls layer {briefly(name)} on no tensor of the model")
        needed = (taken | {(name, number - 1)} if number else taken) - known
        missing.append(len(needed))
        for each in needed:
            waiting.setdefault(each, []).append(position)
    ready = [position for position, count in enumerate(missing) if not count]
    done = 0
    while ready:
        position = heapq.heappop(ready)
        yield calls[position]
        done += 1
        for later in waiting.pop(calls[position][:2], []):
            missing[later] -= 1
            if not missing[later]:
                heapq.heappush(ready, later)
    if done < len(calls):
        left = sorted({calls[position][0] for position, count in enumerate(missing) if count})
        raise ValueError(f"the configuration's calls wait for each other: {', '.join(map(briefly, left[:10]))}")


def _histories(value: Any) -> Iterator[Any]:
    """The references of the tensors in a call's arguments."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _histories(item)
    elif isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"]
        else:
            yield from _histories(list(value.values()))


def _read_entry(entry: Mapping[str, Any], make: Callable[[Mapping], Layer]) -> tuple[Layer, list[dict]]:
    """(layer, its calls) of an entry. An op of Keras becomes an Operation, and its constants become arguments of the call."""
    if not keras_ops.is_op(entry.get("module")):
        return make(entry), entry["inbound_nodes"]
    constants = {key: value for key, value in entry["config"].items() if key != "name"}
    function = keras_ops.function_of(entry["module"], entry["class_name"])
    if function == "convert_to_tensor":  # it returns symbolic tensors unchanged
        function = "cast" if constants.get("dtype") else "copy"
    layer: Any = make({"class_name": "Operation", "config": {"function": function, "name": entry["name"]}})
    parameters = inspect.signature(layer.function).parameters
    constants = {key: value for key, value in constants.items() if key in parameters or value is not None}
    first = list(itertools.takewhile(constants.__contains__, parameters))
    nodes = []
    for node in entry["inbound_nodes"]:
        args = [*(constants[key] for key in first), *node["args"]]
        if function == "getitem" and isinstance(args[-1], list):  # JSON has no tuples
            args[-1] = tuple(args[-1])
        rest = {key: value for key, value in constants.items() if key not in first}
        nodes.append({"args": args, "kwargs": {**node["kwargs"], **rest}})
    return layer, nodes


def map_references(function: Callable[[list], Any], value: Any) -> Any:
    """Apply a function to each [layer, call, output] in a structure of lists and dicts."""
    if isinstance(value, dict):
        return {key: map_references(function, item) for key, item in value.items()}
    if len(value) == 3 and isinstance(value[0], str):
        return function(value)
    return [map_references(function, item) for item in value]
