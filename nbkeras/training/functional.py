"""Floor 3: Functional, a graph of layers: its inputs, outputs and layers, and how it is called, built and configured."""

from __future__ import annotations

import collections
import inspect
from typing import Any, Self

from nbkeras.building.graph import (
    Graph,
    OverridableProperty,
    SymbolicTensor,
    infer,
    is_op,
    is_symbolic,
    symbols,
    twin_of,
)
from nbkeras.building.inputs import input_layer_of
from nbkeras.building.layer import Layer
from nbkeras.data.input_matching import GraphInputs
from nbkeras.data.output_matching import output_names
from nbkeras.engine import compatibility, load_budget, structures
from nbkeras.engine.annotations import overridable
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.registry import custom_object_scope
from nbkeras.engine.structures import one_or_all
from nbkeras.metrics import Mean, Metric
from nbkeras.saving import serialization
from nbkeras.training.trainer import Trainer

host_graph = LazyModule("nbkeras.building.host_graph")
_GRAPH = ("layers", "input_layers", "output_layers")  # the keys of a graph in a configuration


class Functional(Trainer, registered=False):
    """The part of Model that holds its graph, if it was made from symbolic tensors. A subclass without a graph defines `call`."""

    _without_parts = Trainer._without_parts | {"_parts_before_graph"}
    _parts_before_graph: list[Any] = []
    _sizes_vary = False  # whether lengths and image sizes may differ from the inputs' shapes

    _host_part: Any = None  # the part of the graph for strings, a HostGraph

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self._graph: Graph | None = None
        self._extended: Graph | None = None  # the graph with the symbolic losses and metrics that were added
        # the metric of each added value; None if the metric updates itself
        self._added_metrics: list[Metric | None] = []
        self._loss_layers: list[Layer] = []  # layers with weights that only the added losses need
        if (inputs is None) != (outputs is None):
            raise ValueError("a functional model needs both inputs and outputs: Model(inputs=..., outputs=...)")
        if inputs is not None:
            self._set_graph(inputs, outputs)

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        graph = Graph(compatibility.current.ends(inputs), compatibility.current.ends(outputs))
        names = collections.Counter(layer.name for layer in graph.layers)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(
                f"the names of a model's layers must be unique, but {sorted(twice)} are used more than once"
            )
        self._takes_strings = graph.has_strings
        self._host_part = host_graph.HostGraph(graph) if self._takes_strings else None
        self._graph_inputs = GraphInputs(graph, self.name, self._sizes_vary, host=self._host_part)
        self._output_names, self._nested_outputs = output_names(graph), structures.nested(graph.outputs)
        self._parts_before_graph = super()._sublayers()
        self._graph = graph  # last: other threads use it as soon as it is set
        self.built = True

    # -------------------- parts --------------------

    def _sublayers(self) -> list:
        held = dict.fromkeys(super()._sublayers())
        if self._graph is None:
            return list(held)
        # Keras's order: the attributes that existed before the graph, the graph, later attributes
        first = [each for each in self._parts_before_graph if each in held]
        return list(dict.fromkeys([*first, *self._graph.layers, *held]))

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model's graph in Keras's order, without ops on symbolic tensors; without a graph, all sublayers."""
        if self._graph is None:
            return self._sublayers()
        return [each for each in dict.fromkeys([*self._graph.layers, *self._loss_layers]) if not is_op(each)]

    @OverridableProperty
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs in a list; raises AttributeError for a model without a graph."""
        return self._functional("inputs").input_list

    @OverridableProperty
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs in a list; raises AttributeError for a model without a graph."""
        return self._functional("outputs").output_list

    @property
    def input(self) -> Any:
        """The symbolic inputs in the model's structure; raises AttributeError for a model without a graph."""
        return self._functional("input").inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs in the model's structure; raises AttributeError for a model without a graph."""
        return self._functional("output").outputs

    @OverridableProperty
    def input_shape(self) -> Any:
        """The shape of the input with None where any size fits, or a list of shapes if there are several inputs."""
        return one_or_all([symbol.shape for symbol in self.inputs])

    @OverridableProperty
    def output_shape(self) -> Any:
        """The shape of the output with None where any size fits, or a list of shapes if there are several outputs."""
        return one_or_all([symbol.shape for symbol in self.outputs])

    def _functional(self, what: str) -> Graph:
        if self._graph is None:
            raise AttributeError(
                f"model {self.name!r} has no defined {what}: it was not made from symbolic tensors and has no input shape yet"
            )
        return self._graph

    @OverridableProperty
    def input_names(self) -> list[str]:
        """Names of the inputs, as in a dict of arrays given to `fit`."""
        return [] if self._graph_inputs is None else self._graph_inputs.names

    # -------------------- calling --------------------

    @overridable
    def build(self, input_shape: Any = None) -> None:
        """Make the weights.

        Args:
            input_shape: The shape of the input, a tuple with None for the batch and other unknown sizes, or a structure of
                shapes. Sizes are tried for None.

        Raises:
            ValueError: without a shape, for a model that has none, and if `call` fails with all sizes that are tried.

        Example:
            >>> class Two(keras.Model):
            ...     def __init__(self):
            ...         super().__init__()
            ...         self.dense = layers.Dense(2)
            ...     def call(self, inputs):
            ...         return self.dense(inputs)
            >>> model = Two()
            >>> model.build((None, 3))
            >>> model.count_params()
            8
        """
        if self.built:
            return
        if self._needs_more_arguments():  # a subclass made the weights before it called this method
            self.built = True
            return
        if input_shape is None:
            raise ValueError(
                f"model {self.name!r} has no input shape yet: give one, such as build((None, 3)), or call it"
            )
        self.built = True  # so that the call does not build it again
        inputs = symbols(input_shape, self.dtype)
        try:
            with training_phase(False):
                self._set_output_names(infer(self, (inputs,), {}))
            self.clear_losses()  # symbolic losses have no values
        except BaseException as error:
            self.built = False
            if isinstance(error, ValueError) and any(None in each.shape[1:] for each in structures.flatten(inputs)):
                raise ValueError(
                    f"model {self.name!r} cannot be built for the shape {input_shape}: its call fails with all sizes that were "
                    f"tried for None, first with: {error}. Make the model again and give build the sizes"
                ) from error
            raise

    def _needs_more_arguments(self) -> bool:
        """Whether `call` has a second argument that must be given, whose shape `build` does not know."""
        parameters = list(inspect.signature(self.call).parameters.values())[1:]
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return any(each.default is inspect.Parameter.empty and each.kind in kinds for each in parameters)

    def _build_for(self, inputs: Any, named: dict[str, Any] | None) -> None:
        if type(self).build is Functional.build:
            self.build_shapes = structures.shapes(inputs)  # the call makes the weights
            self.built = True
        else:
            super()._build_for(inputs, named)

    @overridable
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph on tensors. A subclass overrides it to write its computation with nbkeras.ops.

        Args:
            inputs: Tensors in the structure of the model's inputs.
            training: Whether layers such as Dropout behave as in training.
            mask: The masks of the inputs, in their structure.

        Returns:
            The outputs in the model's structure; a list of one output becomes that output, as in Keras.
        """
        if self._graph is None:
            raise NotImplementedError(
                f"{type(self).__name__} must define call(self, inputs), or be given inputs and outputs"
            )
        if self._host_part is None:
            tensors, call = self._graph_inputs.tensors(inputs), None  # type: ignore[union-attr] # set with the graph
        else:
            tensors, call = self._host_part.begin(inputs, self._graph_inputs)
        if mask is not None:
            for given, each in zip(tensors, structures.flatten(mask), strict=False):
                if each is not None:
                    given.mask = each
        if self._extended is None:
            return one_or_all(self._graph.run(tensors, call))
        outputs, losses, values = self._extended.run(tensors, call)
        super().add_loss(losses)
        for metric, value in zip(self._added_metrics, values, strict=True):
            if metric is not None:
                metric.update_state(value)
        return one_or_all(outputs)

    def _convert(self, value):
        if not self._takes_strings or type(value) is host_graph.Numbers:
            return super()._convert(value)
        return host_graph.converted(value, super()._convert)

    def _set_masks(self, inputs, masks, outputs) -> None:
        """Do nothing: the layers that made the outputs set their masks."""

    def _symbolic_call(self, args, kwargs):
        if self._graph_inputs is not None and args:
            args = (self._graph_inputs.symbols(args[0]), *args[1:])
        return super()._symbolic_call(args, kwargs)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Symbolic outputs for symbolic inputs, without computing; a list of one output stays a list.

        Args:
            *args: The arguments of `call`.
            **kwargs: The keyword arguments of `call`.
        """
        if self._host_part is not None:  # a dry run has no strings
            self._host_part.check_kinds(self._graph_inputs.in_order_of_graph(args[0]))  # type: ignore[union-attr]
            return structures.map_leaves(twin_of, self._graph.outputs)  # type: ignore[union-attr]
        try:
            outputs = super().compute_output_spec(*args, **kwargs)
        except (ValueError, IndexError) as error:
            if isinstance(error, load_budget.TooMuchError) or not self._is_called_as_made(args, kwargs):
                raise
            return structures.map_leaves(twin_of, self._graph.outputs)  # type: ignore[union-attr] # checked
        return outputs if self._graph is None else structures.pack(self._graph.outputs, structures.flatten(outputs))

    def _is_called_as_made(self, args: tuple, kwargs: dict) -> bool:
        """Whether the symbolic inputs of a call have no size that the graph's inputs lack: then its outputs have no other shapes.

        A dry run may fail although such a call is possible, if an unknown size must be that of a weight.
        """
        inputs = args[0] if args else kwargs.get("inputs")
        if self._graph is None or type(self).call is not Functional.call or not is_symbolic(inputs):
            return False
        given = self._graph_inputs.in_order_of_graph(inputs)  # type: ignore[union-attr] # set with the graph
        return all(map(_is_as_general, given, self._graph.input_list))

    # -------------------- symbolic losses and metrics --------------------

    def add_loss(self, loss) -> None:
        """Add to what training minimises: tensors in `call`, or symbolic ones made of the model's inputs.

        Args:
            loss: A tensor or a list of tensors; the sum of their elements is added.

        Example:
            >>> x = layers.Input((3,))
            >>> y = layers.Dense(2)(x)
            >>> model = keras.Model(x, y)
            >>> model.add_loss(0.1 * ops.mean(ops.square(y)))
            >>> model.compile("sgd")
            >>> list(model.fit(np.ones((8, 3)), verbose=0).history)
            ['loss']
        """
        losses = list(loss) if isinstance(loss, list | tuple) else [loss]
        if is_symbolic(losses):
            self._extend(losses, [])
        else:
            super().add_loss(losses)

    def add_metric(self, value, name: str | None = None, aggregation: str | None = "mean") -> None:
        """Report a value under a name: one computed in `call`, or a symbolic one made of the model's inputs.

        Only Keras 2 has this method. For code that also runs in Keras 3, keep a metric in an attribute and call its
        `update_state`.

        Args:
            value: A tensor, or a symbolic tensor.
            name: The name in logs; required in `call`.
            aggregation: Accepted and ignored: the mean over batches is reported.

        Example:
            >>> x = layers.Input((3,))
            >>> model = keras.Model(x, layers.Dense(2)(x))
            >>> model.add_metric(ops.mean(x), name="input_mean")
            >>> model.compile("sgd", "mse")
            >>> model.evaluate(np.full((8, 3), 0.5), np.zeros((8, 2)), verbose=0, return_dict=True)["input_mean"]
            0.5
        """
        if not is_symbolic(value):
            return super().add_metric(value, name, aggregation)
        measured = getattr(getattr(value.node and value.node.layer, "function", None), "metric", None)
        metric = measured or Mean(name or value.name)
        setattr(self, f"_metric_{metric.name}", metric)
        self._added_metrics.append(None if measured else metric)
        self._extend([], [value])

    def _extend(self, losses: list, values: list) -> None:
        graph = self._functional("inputs")
        before = [[], []] if self._extended is None else self._extended.outputs[1:]
        self._extended = Graph(graph.inputs, [graph.outputs, [*before[0], *losses], [*before[1], *values]])
        known = [each for layer in graph.layers for each in layer._all_layers()]
        self._loss_layers = [each for each in self._extended.layers if each.weights and each not in known]
        self._reset_steps()

    # -------------------- data --------------------

    def _output_shapes(self) -> list[tuple]:
        return super()._output_shapes() if self._graph is None else [symbol.shape for symbol in self._graph.output_list]

    def _is_described(self) -> bool:
        calls_parts = type(self).call is Functional.call or self._has_own_step_only()
        return self._graph is not None or calls_parts or super()._is_described()

    def _has_own_step_only(self) -> bool:
        """Whether the user's train_step decides what is computed and all layers are built: as in Keras, `call` may differ."""
        measured = any(self.compile_arguments.get(name) for name in ("loss", "metrics", "weighted_metrics"))
        return self._overrides("train_step") and not measured and all(layer.built for layer in self._all_layers())

    # -------------------- configuration --------------------

    def get_config(self) -> dict[str, Any]:
        """The graph of a functional model, or the constructor's arguments of a subclass, for `from_config`.

        A subclass that makes its graph itself gets no graph when it calls this method in its own `get_config`.
        """
        if self._graph is None or (type(self).get_config is not Functional.get_config and not self._takes_graph()):
            return super().get_config()
        starts = list(map(input_layer_of, self._graph.input_list))
        return {"name": self.name, "trainable": self._trainable, **serialization.graph_config(self._graph, starts)}

    @classmethod
    def _takes_graph(cls) -> bool:
        """Whether the constructor can take `inputs` and `outputs`."""
        parameters = inspect.signature(cls.__init__).parameters
        kinds = {each.kind for each in parameters.values()}
        return "inputs" in parameters or kinds >= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """A model with new weights from the result of `get_config`.

        Args:
            config: The configuration.
            custom_objects: Your own classes and functions in the configuration, by name.
        """
        if "input_layers" not in config:
            return super().from_config(config)
        with custom_object_scope(custom_objects):
            inputs, outputs = serialization.build_graph(config)
        own = {key: value for key, value in config.items() if key not in _GRAPH}
        return cls(inputs=inputs, outputs=outputs, **{"trainable": True, **own})


def _is_as_general(given: Any, own: SymbolicTensor) -> bool:
    """Whether a symbolic tensor fits an input and has no size that the input does not have."""
    if not isinstance(given, SymbolicTensor) or given.ndim != own.ndim:
        return False
    return all(size is None or size == known for size, known in zip(given.shape, own.shape, strict=True))
