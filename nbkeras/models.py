"""Floor 3: Keras's `models`: Model, Sequential, and what makes models of files, configurations and other models."""

from nbkeras import serialization
from nbkeras.inputs import InputLayer
from nbkeras.layer import Layer
from nbkeras.model import Model as Model
from nbkeras.saving import load_model as load_model
from nbkeras.saving import save_model as save_model
from nbkeras.sequential import Sequential as Sequential
from nbkeras.serialization import model_from_json as model_from_json


def clone_model(model: Model, input_tensors=None, clone_function=None) -> Model:
    """The same architecture with new weights; `clone_function(layer) -> layer` may change layers on the way."""
    if input_tensors is not None:
        raise ValueError("clone_model(input_tensors=...) is not offered: call the clone on your tensors instead")
    if clone_function is None:
        return type(model).from_config(model.get_config())
    if isinstance(model, Sequential):
        first = [] if model._input is None or model._input.node is None else [model._input.node.layer]
        return Sequential([*map(_copy_layer, first), *map(clone_function, model.layers)], name=model.name)
    originals = {layer.name: layer for layer in model.layers}

    def make(entry):
        original = originals[entry["config"]["name"]]
        return _copy_layer(original) if isinstance(original, InputLayer) else clone_function(original)

    inputs, outputs = serialization.build_graph(model.get_config(), make)
    return Model(inputs, outputs, name=model.name)


def _copy_layer(layer: Layer) -> Layer:
    return type(layer).from_config(layer.get_config())
