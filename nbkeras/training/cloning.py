"""Floor 3: `clone_model`, the same architecture with new or changed layers."""

from collections.abc import Callable
from typing import Any

from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.inputs import InputLayer, input_layer_of
from nbkeras.building.layer import Layer
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.metrics import Metric
from nbkeras.optimizers import Optimizer
from nbkeras.training.model import Model
from nbkeras.training.sequential import Sequential


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
) -> Model:
    """A model of the same architecture with new weights: each layer is remade from its configuration.

    The clone of a compiled model is compiled with the same arguments, and has its own optimizer and metrics.

    Args:
        model: A functional model, a Sequential, or a subclass that from_config can remake.
        input_tensors: Symbolic tensors to start from instead of new inputs.
        clone_function: A function of a layer that returns the layer to use instead.
        call_function: A function (layer, *args, **kwargs) that calls the layer and returns the outputs. It may
            call other layers too. Only for functional models.
        recursive: True clones nested models in the same way; False gives clone_function each of them as one
            layer.

    Raises:
        ValueError: for call_function with a Sequential, for the wrong number of input_tensors, and for any
            argument besides model if the model has no graph.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, activation="relu", input_shape=(3,))])
        >>> model.set_weights([np.ones((3, 2)), np.ones(2)])
        >>> keras.models.clone_model(model).get_weights()[1]
        array([0., 0.], dtype=float32)
    """
    made = _clone(model, input_tensors, clone_function, call_function, recursive)
    if model.compiled:
        made.compile(**{name: structures.map_leaves(_fresh, value) for name, value in model.compile_arguments.items()})
    return made


def _fresh(value: Any) -> Any:
    """A copy of an optimizer or metric without its state; other values unchanged."""
    return _copied(value) if isinstance(value, Optimizer | Metric) else value


def _clone(model: Model, input_tensors: Any, clone_function: Any, call_function: Any, recursive: bool) -> Model:
    has_layers = isinstance(model, Sequential) or model._graph is not None
    described = not has_layers or type(model).get_config not in (Model.get_config, Sequential.get_config)
    if described and not recursive and input_tensors is clone_function is call_function is None:
        return _copied(model)
    clones: dict[int, Layer] = {}

    def clone(layer: Layer) -> Layer:
        if id(layer) not in clones:
            if recursive and isinstance(layer, Model):
                inner_call = None if isinstance(layer, Sequential) else call_function
                clones[id(layer)] = _clone(layer, None, clone_function, inner_call, True)
            else:
                clones[id(layer)] = (clone_function or _copied)(layer)
        return clones[id(layer)]

    if isinstance(model, Sequential):
        return _clone_sequential(model, input_tensors, clone, call_function)
    if not has_layers:
        raise ValueError(
            f"{type(model).__name__} is not a functional model, so clone_model does not know its layers: make a copy with "
            "its class, for example from_config(get_config())"
        )
    return _clone_graph(
        model, input_tensors, clone, call_function or (lambda layer, *args, **kwargs: layer(*args, **kwargs))
    )


def _clone_sequential(model: Sequential, input_tensors: Any, clone: Callable, call_function: Any) -> Sequential:
    if call_function is not None:
        raise ValueError(
            "clone_model(call_function=...) is for functional models: a Sequential calls layer after layer"
        )
    first = [] if model._input is None or model._input.node is None else [_copied(model._input.node.layer)]
    if input_tensors is not None:
        (given,) = _symbols(input_tensors, 1)
        first = [InputLayer(batch_shape=given.shape, dtype=given.dtype.name)]
    return Sequential([*first, *map(clone, model.layers)], name=model.name)


def _clone_graph(model: Model, input_tensors: Any, clone: Callable, call: Callable) -> Model:
    graph: Any = model._graph
    if input_tensors is None:
        starts = [_copied(input_layer_of(symbol)).output for symbol in graph.input_list]
    else:
        starts = _symbols(input_tensors, len(graph.input_list))
    made = {id(old): new for old, new in zip(graph.input_list, starts, strict=True)}

    def new(leaf: Any) -> Any:
        return made[id(leaf)] if isinstance(leaf, SymbolicTensor) else leaf

    for node in graph.nodes:
        outputs = call(
            clone(node.layer), *structures.map_leaves(new, node.args), **structures.map_leaves(new, node.kwargs)
        )
        made.update(zip(map(id, structures.flatten(node.outputs)), structures.flatten(outputs), strict=True))
    inputs, outputs = structures.map_leaves(new, graph.inputs), structures.map_leaves(new, graph.outputs)
    kind = type(model) if type(model).__init__ is Model.__init__ else Model
    return kind(inputs, outputs, name=model.name, trainable=model.trainable)


def _symbols(input_tensors: Any, count: int) -> list[SymbolicTensor]:
    given = structures.flatten(input_tensors)
    if len(given) != count or not all(isinstance(each, SymbolicTensor) for each in given):
        raise ValueError(
            f"input_tensors must be {count} symbolic tensors, made by Input(), received {briefly(input_tensors)}"
        )
    return given


def _copied(original: Any) -> Any:
    return type(original).from_config(original.get_config())
