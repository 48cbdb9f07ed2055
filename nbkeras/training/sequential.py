"""Floor 3: Sequential, layers one after another."""

from __future__ import annotations

from typing import Any, Self

from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.inputs import Input, InputLayer
from nbkeras.building.layer import Layer, layers, naming_parts
from nbkeras.data.arrays import to_array
from nbkeras.data.input_matching import arrays_in_order
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import unique_name
from nbkeras.training.model import Model


class Sequential(Model):
    """Layers one after another.

    Without an input shape the weights are made at the first call, `fit` or `build`.

    Args:
        layers: A list of layers; the first may be an `Input`, or have the argument input_shape. `add` appends
            more.

    Raises:
        TypeError: for something that is not a layer.
        ValueError: for two layers with the same name, and for an `Input` after other layers.

    Example:
        >>> model = keras.Sequential([layers.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(2)])
        >>> model.output_shape, model.count_params()
        ((None, 2), 58)
    """

    _sizes_vary = True  # as in Keras: the layers decide

    _left_out = ("inputs", "outputs")

    def __init__(self, layers: Any = None, name: str | None = None, **kwargs: Any) -> None:
        for key in self._left_out:
            if key in kwargs:
                raise TypeError(
                    f"Sequential got an unexpected argument {key!r}: it takes layers; use Model(inputs, outputs)"
                )
        super().__init__(name=name, **kwargs)
        self._chain: list[Layer] = []
        self._input: SymbolicTensor | None = None
        self._extend_by(layers if isinstance(layers, list | tuple) else [] if layers is None else [layers])

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, without the input."""
        return list(self._chain)

    def _sublayers(self) -> list:
        return list(dict.fromkeys([*self._chain, *Layer._sublayers(self)]))

    def add(self, layer: Any) -> None:
        """Append a layer.

        Args:
            layer: A layer or a model; an `Input` only as the first.

        Example:
            >>> model = keras.Sequential()
            >>> model.add(layers.Dense(2, input_shape=(3,)))
            >>> model.output_shape
            (None, 2)
        """
        self._extend_by([layer])

    def _extend_by(self, layers) -> None:
        """Append layers; the graph is made once."""
        names = {layer.name for layer in self._chain}
        outputs = self._input if self._graph is None else self._graph.outputs
        before = outputs
        for layer in layers:
            node = layer.node if isinstance(layer, SymbolicTensor) else None
            if node is not None and isinstance(node.layer, InputLayer):
                layer = node.layer
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"a Sequential is made of layers, received {briefly(layer)} of type {type(layer).__name__}"
                )
            if isinstance(layer, InputLayer):
                if self._chain or self._input is not None:
                    raise ValueError("an Input must be the first thing in a Sequential")
                outputs = self._input = layer.output
                continue
            if layer.name in names:
                raise ValueError(
                    f"the names of a Sequential's layers must be unique: {briefly(layer.name)} is already there"
                )
            names.add(layer.name)
            if self._input is None and not self._chain:
                self._start_from(layer)
                outputs = self._input
            self._chain.append(layer)
            if outputs is not None:
                with naming_parts(self):
                    outputs = layer(outputs)
        if outputs is not before and self._chain:
            self._set_graph(self._input, outputs)
        elif self._chain:
            self._takes_strings = self._chain[0]._takes_strings
        self._reset_steps()

    def pop(self) -> Layer:
        """Remove the last layer and return it.

        Raises:
            TypeError: if there are no layers.

        Example:
            >>> model = keras.Sequential([layers.Dense(4, input_shape=(3,)), layers.Dense(2)])
            >>> model.pop().units, model.output_shape
            (2, (None, 4))
        """
        if not self._chain:
            raise TypeError("there are no layers in the model")
        layer = self._chain.pop()
        self._graph = self._graph_inputs = None
        self.built = False
        if self._input is not None:
            layer._inbound_nodes.pop()
            if self._chain:
                self._set_graph(self._input, self._chain[-1]._inbound_nodes[-1].outputs)
        self._reset_steps()
        return layer

    def _start_from(self, layer: Layer) -> None:
        shape = layer._batch_input_shape
        if shape is None and isinstance(layer, Model) and layer._graph is not None:
            shape = layer.input_shape
        if shape is not None:
            nested = layer.inputs[0].dtype if isinstance(layer, Model) and layer._graph is not None else None
            dtype = nested or layer.input_dtype or layer.dtype
            self._input = Input(batch_shape=shape, dtype=dtype, name=unique_name(f"{layer.name}_input"))

    def build(self, input_shape=None) -> None:
        """Make the weights.

        Args:
            input_shape: The shape of the input, with None for the batch.

        Raises:
            ValueError: if there are no layers or no shape, or if the model already has another input shape.

        Example:
            >>> model = keras.Sequential([layers.Dense(2)])
            >>> model.build((None, 3))
            >>> model.count_params()
            8
        """
        if self._graph is not None and input_shape is not None:
            known = self._graph.input_list[0].shape
            sizes = zip(known, input_shape, strict=False)
            if len(known) != len(input_shape) or any(a != b for a, b in sizes if None not in (a, b)):
                raise ValueError(
                    f"Sequential {self.name!r} has inputs of shape {known} and cannot be built for {tuple(input_shape)}"
                )
        if self._graph is not None:
            return
        if not self._chain:
            raise ValueError(f"Sequential {self.name!r} has no layers: add some before building it")
        if input_shape is None:
            raise ValueError(f"Sequential {self.name!r} has no input shape yet: give one, such as build((None, 3))")
        first = self._chain[0]
        self._input = Input(batch_shape=input_shape, dtype=first.input_dtype or first.dtype)
        outputs: Any = self._input
        for layer in self._chain:
            outputs = layer(outputs)
        self._set_graph(self._input, outputs)

    def _build_for(self, inputs: Any, named: dict[str, Any] | None) -> None:
        if not hasattr(inputs, "shape"):
            raise ValueError(f"Sequential {self.name!r} takes one array or tensor, received {briefly(inputs)}")
        shape = tuple(inputs.shape)
        self.build(shape if self.stateful else (None, *shape[1:]))

    def _is_described(self) -> bool:
        return self._graph is not None

    def _build_for_data(self, x: Any) -> None:
        """Build for inputs of x's shape."""
        if isinstance(x, dict):
            raise ValueError(
                f"Sequential {self.name!r} has no input name yet for the keys of a dict, received {list(x)}: pass an "
                "array, or start with an Input or input_shape"
            )
        (x,) = arrays_in_order(self._convert(x) if self._takes_strings else x, 1)
        shape = tuple((x if hasattr(x, "shape") else to_array(x, "x")).shape)
        batch = None if not self.stateful else min(32, shape[0])
        self.build((batch, *shape[1:]))

    def get_config(self) -> dict[str, Any]:
        """The name and the configurations of the layers, for `from_config`."""
        first = [] if self._input is None else [self._input.node.layer]  # type: ignore[union-attr]
        return {"name": self.name, "layers": [layers.serialize(layer) for layer in (*first, *self._chain)]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """A Sequential with new weights from the result of `get_config`.

        Args:
            config: The configuration.
            custom_objects: Your own classes and functions in the configuration, by name.
        """
        return cls([layers.deserialize(entry, custom_objects) for entry in config["layers"]], name=config.get("name"))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for a shape of the input.

        Args:
            input_shape: A tuple with None for the batch.
        """
        shape: Any = tuple(input_shape)
        for layer in self._chain:
            shape = layer.compute_output_shape(shape)
        return shape


layers.publish(Sequential, "keras", "Sequential")
