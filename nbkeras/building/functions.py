"""Floor 2: Keras's Operation and Function: computations in a graph that are not layers."""

from __future__ import annotations

import inspect
from typing import Any

from nbkeras.building.graph import Graph, SymbolicTensor
from nbkeras.building.layer import Layer
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly


class _Kind(type):
    """The class of Operation: in Keras layers and models are Operations too, so `isinstance` and `issubclass` say so."""

    def __instancecheck__(cls, item: Any) -> bool:
        return cls.__subclasscheck__(type(item))

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, Layer) if cls is Operation else type.__subclasscheck__(cls, other)


class Operation(Layer, registered=False, metaclass=_Kind):
    """A computation without weights that takes tensors, and symbolic tensors: a subclass defines `call`.

    A call on symbolic tensors adds the operation to their graph. The dtypes of the arguments do not change. Layers and models
    count as operations too.

    Args:
        name (str, or None): A name without '/'; by default one is made from the class.

    Raises:
        ValueError: for a name that is not a string, or has a '/'.

    Example:
        >>> class Scale(keras.Operation):
        ...     def __init__(self, factor, name=None):
        ...         super().__init__(name=name)
        ...         self.factor = factor
        ...     def call(self, x):
        ...         return x * self.factor
        >>> Scale(3.0)(np.array([1.0, 2.0])).numpy(), Scale(3.0)(keras.Input((2,))).shape
        (array([3., 6.]), (None, 2))
    """

    _is_op = True

    def __init__(self, name: str | None = None):
        if name is not None and (not isinstance(name, str) or "/" in name):
            raise ValueError(f"an operation's name must be a string without '/', received {briefly(name)}")
        super().__init__(name=name, autocast=False)
        self.built = True

    def _has_no_get_config(self) -> bool:
        return type(self).get_config is Operation.get_config

    def get_config(self) -> dict[str, Any]:
        """The name, and the constructor's arguments unless the class defines `get_config` itself."""
        config = {**self._passed_arguments(), "name": self.name} if self._has_no_get_config() else {"name": self.name}
        taken = inspect.signature(type(self).__init__).parameters.values()
        if not any(each.name == "name" or each.kind is each.VAR_KEYWORD for each in taken):
            del config["name"]
        return config


class Function(Operation, registered=False):
    """The outputs of a graph of symbolic tensors as a function of its inputs: a model without a layer's methods.

    Args:
        inputs: Symbolic tensors, or a structure of them.
        outputs: Symbolic tensors that depend on the inputs only, or a structure of them.
        name (str, or None): A name without '/'.

    Raises:
        ValueError: without inputs or outputs, and if an output depends on anything else.

    Example:
        >>> a, b = keras.KerasTensor((None, 2)), keras.KerasTensor((None, 2))
        >>> function = keras.Function([a, b], ops.add(a, b))
        >>> function([np.ones((1, 2)), np.ones((1, 2))]).numpy()
        array([[2., 2.]])
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        super().__init__(name)
        for what, tensors in (("inputs", inputs), ("outputs", outputs)):
            if not structures.flatten(tensors):
                raise ValueError(f"a Function needs {what}: symbolic tensors, or a structure of them; received none")
        self._graph = Graph(*(structures.map_leaves(lambda leaf: leaf, each) for each in (inputs, outputs)))

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs in a list."""
        return self._graph.input_list

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs in a list."""
        return self._graph.output_list

    @property
    def operations(self) -> list[Layer]:
        """The layers and operations of the graph, the first one first."""
        return list(self._graph.layers)

    def call(self, inputs: Any) -> Any:
        """Compute the outputs.

        Args:
            inputs: Tensors, in the structure of the inputs.
        """
        given = structures.flatten(inputs)
        if structures.map_leaves(lambda _: 0, inputs) != structures.map_leaves(lambda _: 0, self._graph.inputs):
            raise ValueError(f"{self.name} takes the structure {self._graph.inputs}, received {briefly(inputs)}")
        for symbol, each in zip(self.inputs, given, strict=True):
            sizes = zip(symbol.shape, each.shape, strict=False)
            if len(symbol.shape) != len(each.shape) or any(wanted not in (None, size) for wanted, size in sizes):
                raise ValueError(
                    f"{self.name}: input {symbol.name!r} must have shape {symbol.shape}, received {tuple(each.shape)}"
                )
        return self._graph.run(given)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for a shape of the inputs.

        Args:
            input_shape: A shape, or shapes in the structure of the inputs.
        """
        shapes: list[Any] = []
        structures.map_shapes(shapes.append, input_shape)
        symbols = [SymbolicTensor(shape, each.dtype) for shape, each in zip(shapes, self.inputs, strict=True)]
        return structures.shapes(self.compute_output_spec(structures.pack(self._graph.inputs, symbols)))

    def _given_shapes(self, args: tuple, kwargs: dict) -> None:
        """None: the dry run of `call` finds the shapes, also for `compute_output_shape`."""

    def get_config(self) -> dict[str, Any]:
        """Raises NotImplementedError: a Function has no configuration; make a Model to save it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{self.name} is a Function, which files do not hold: save a Model of its inputs and outputs"
        )
