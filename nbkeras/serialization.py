"""Floor 3: a model as a configuration, in Keras 3's form, and back. Only registered classes can be named by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nbkeras import nest
from nbkeras.graph import Graph, SymbolicTensor
from nbkeras.inputs import InputLayer
from nbkeras.layer import Layer, layers
from nbkeras.registry import custom_object_scope
from nbkeras.tensor import Tensor


def serialize_layer(layer: Layer) -> dict[str, Any]:
    """{'class_name', 'config'} of a layer or model."""
    return layers.serialize(layer)


def graph_config(graph: Graph) -> dict[str, Any]:
    """The layers, the calls between them, and where they start and end."""
    node_keys: dict[int, int] = {}  # a layer's calls in this model, counted from 0: it may have others elsewhere
    calls: dict[int, list] = {id(layer): [] for layer in graph.layers}
    starts = [t.node for t in graph.input_list if t.node is not None and not t.node.inputs]
    for node in [*starts, *graph.nodes]:
        node_keys[id(node)] = len(calls[id(node.layer)])
        calls[id(node.layer)].append(node)

    def reference(tensor: SymbolicTensor) -> list:
        if tensor.node is None or id(tensor.node) not in node_keys:
            raise ValueError(f"{tensor!r} is not part of the model, so the model has no configuration")
        return [tensor.node.layer.name, node_keys[id(tensor.node)], tensor.index]

    def written(leaf: Any) -> Any:
        if isinstance(leaf, SymbolicTensor):
            config = {"shape": list(leaf.shape), "dtype": leaf.dtype.name, "keras_history": reference(leaf)}
            return {"class_name": "__keras_tensor__", "config": config}
        return plain(leaf)

    entries = []
    for layer in graph.layers:
        nodes = [
            {"args": _map_json(written, list(node.args)), "kwargs": _map_json(written, node.kwargs)}
            for node in calls[id(layer)]
            if node.inputs
        ]
        entries.append({**serialize_layer(layer), "name": layer.name, "inbound_nodes": nodes})
    return {
        "layers": entries,
        "input_layers": nest.map_leaves(reference, graph.inputs),
        "output_layers": nest.map_leaves(reference, graph.outputs),
    }


def _map_json(function: Callable, structure: Any) -> Any:
    """Like nest.map_leaves, with tuples marked, since JSON has lists only."""
    if isinstance(structure, dict):
        return {str(key): _map_json(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        items = [_map_json(function, value) for value in structure]
        return items if isinstance(structure, list) else {"class_name": "__tuple__", "items": items}
    return function(structure)


def plain(value: Any) -> Any:
    """A value that JSON can hold; raises TypeError for others."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, np.ndarray | Tensor):
        array = np.asarray(value)
        return {"class_name": "__numpy__", "config": {"value": array.tolist(), "dtype": array.dtype.name}}
    if isinstance(value, slice):
        return {"class_name": "__slice__", "config": [plain(value.start), plain(value.stop), plain(value.step)]}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"cannot write {value!r} of type {type(value).__name__} into a configuration")


def _read_leaf(value: Any, tensors: Callable[[list], SymbolicTensor]) -> Any:
    """The inverse of what graph_config wrote for an argument."""
    if isinstance(value, list):
        return [_read_leaf(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    config: Any = value.get("config")
    if kind == "__keras_tensor__":
        return tensors(config["keras_history"])
    if kind == "__tuple__":
        return tuple(_read_leaf(item, tensors) for item in value["items"])
    if kind == "__numpy__":
        return np.array(config["value"], config["dtype"])
    if kind == "__slice__":
        return slice(*config)
    if kind == "__ellipsis__":
        return Ellipsis
    return {key: _read_leaf(item, tensors) for key, item in value.items()}


def build_graph(config: Mapping[str, Any], make: Callable[[Mapping], Layer] = layers.deserialize) -> tuple[Any, Any]:
    """(inputs, outputs) of the graph that `graph_config` described, of new layers."""
    made: dict[str, Layer] = {}
    waiting: list[tuple[str, Layer, int, dict]] = []
    before: dict[str, int] = {}
    for entry in config["layers"]:
        layer = make({"class_name": entry["class_name"], "config": entry["config"]})
        made[entry["name"]] = layer
        before[entry["name"]] = 0 if isinstance(layer, InputLayer) else len(layer.nodes)
        waiting += [(entry["name"], layer, number, node) for number, node in enumerate(entry["inbound_nodes"])]

    def tensor(history: list) -> SymbolicTensor:
        name, node, index = history
        if name not in made:
            raise ValueError(f"the configuration refers to a layer {name!r} that it does not have")
        return nest.flatten(made[name].nodes[before[name] + node].outputs)[index]

    while waiting:
        later = []
        for name, layer, number, node in waiting:
            try:
                if len(layer.nodes) - before[name] != number:
                    raise IndexError
                args = _read_leaf(node["args"], tensor)
                kwargs = _read_leaf(node["kwargs"], tensor)
            except IndexError:  # an input is not made yet
                later.append((name, layer, number, node))
                continue
            layer(*args, **kwargs)
        if len(later) == len(waiting):
            raise ValueError(f"the configuration's calls wait for each other: {[name for name, *_ in later]}")
        waiting = later
    return _references(config["input_layers"], tensor), _references(config["output_layers"], tensor)


def _references(value: Any, tensor: Callable[[list], SymbolicTensor]) -> Any:
    if isinstance(value, dict):
        return {key: _references(item, tensor) for key, item in value.items()}
    if len(value) == 3 and isinstance(value[0], str):
        return tensor(value)
    return [_references(item, tensor) for item in value]


def model_to_json(model: Layer, **options) -> str:
    """A model's architecture as JSON, without weights; `model_from_json` reads it."""
    return json.dumps(serialize_layer(model), default=plain, **options)


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """A model with new weights from `model.to_json()`."""
    try:
        config = json.loads(json_string)
    except ValueError as error:
        raise ValueError(f"this is no JSON: {error}") from None
    with custom_object_scope(custom_objects or {}):
        return layers.deserialize(config)
