"""Floor 3: Model, a graph of layers or a subclass with a call of its own."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from nbkeras import export, saving
from nbkeras.building.call_history import OverridableProperty
from nbkeras.building.graph import Graph, SymbolicTensor, is_symbolic, symbols
from nbkeras.building.layer import Layer, layers
from nbkeras.data import batches
from nbkeras.engine import behaviour, structures
from nbkeras.engine.registry import custom_object_scope, nearest
from nbkeras.engine.tensor import Tensor, as_tensor, on_own_device, shapes_only
from nbkeras.engine.user_errors import set_by_init
from nbkeras.metrics import Mean, Metric
from nbkeras.ops.arguments import as_index
from nbkeras.saving import serialization
from nbkeras.training import input_matching
from nbkeras.training.loop import Trainer, training_phase
from nbkeras.training.summary import print_summary

Array = np.ndarray

_GRAPH = ("layers", "input_layers", "output_layers")  # of a configuration


class Model(Trainer):
    """Layers that learn together: `Model(inputs, outputs)` from symbolic tensors, or a subclass that writes `call`."""

    def __init__(self, inputs=None, outputs=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self._graph: Graph | None = None
        self._extended: Graph | None = None  # the graph with the symbolic losses and metrics that were added
        self._added_metrics: list[
            Metric | None
        ] = []  # what takes those metrics' values, None if they did so themselves
        self._loss_layers: list[Layer] = []  # those with weights that only such losses need
        self._output_names: list[str] = []
        if (inputs is None) != (outputs is None):
            raise ValueError("a functional model needs both inputs and outputs: Model(inputs=..., outputs=...)")
        if inputs is not None:
            self._set_graph(inputs, outputs)

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        self._graph, self._tables = Graph(behaviour.current.ends(inputs), behaviour.current.ends(outputs)), None
        names = collections.Counter(layer.name for layer in self._graph.layers)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(
                f"the names of a model's layers must be unique, but {sorted(twice)} are used more than once"
            )
        self._output_names = _output_names(self._graph)
        self.built = True

    # -------------------- what it consists of --------------------

    def _sublayers(self) -> list:
        from_graph = [] if self._graph is None else self._graph.layers
        return list(dict.fromkeys([*from_graph, *super()._sublayers()]))

    @property
    def layers(self) -> list[Layer]:
        """The model's layers, in Keras's order."""
        return self._sublayers()

    @OverridableProperty
    def inputs(self) -> list[SymbolicTensor]:
        return self._functional("inputs").input_list

    @OverridableProperty
    def outputs(self) -> list[SymbolicTensor]:
        return self._functional("outputs").output_list

    @property
    def input(self) -> Any:
        return self._functional("input").inputs

    @property
    def output(self) -> Any:
        return self._functional("output").outputs

    @OverridableProperty
    def input_shape(self) -> Any:
        return _one_or_all([tensor.shape for tensor in self.inputs])

    @OverridableProperty
    def output_shape(self) -> Any:
        return _one_or_all([tensor.shape for tensor in self.outputs])

    def _functional(self, what: str) -> Graph:
        if self._graph is None:
            raise AttributeError(
                f"model {self.name!r} has no defined {what}: it was not made from symbolic tensors and has no input shape yet"
            )
        return self._graph

    @OverridableProperty
    def input_names(self) -> list[str]:
        """Names of the inputs, as in a dict of arrays given to `fit`."""
        return [] if self._graph is None else [t.node.layer.name if t.node else t.name for t in self._graph.input_list]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, as in dicts of targets, losses and metrics."""
        return self._output_names

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its position."""
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"there is no layer {index}: the model has {len(layers)} layers")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in layers]
        raise ValueError(f"there is no layer {name!r}.{nearest(str(name), names)} Layers: {names}")

    @OverridableProperty
    def stateful(self) -> bool:
        """Whether any layer keeps states from batch to batch."""
        return any(getattr(layer, "stateful", False) for layer in self._all_layers()[1:])

    def reset_states(self, samples=None) -> None:
        """Set the states of stateful layers to zero; `samples` (a bool mask or indices) resets only these rows."""
        for layer in self._all_layers()[1:]:
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states() if samples is None else layer.reset_states(samples=samples)

    def summary(
        self,
        line_length=None,
        positions=None,
        print_fn=None,
        expand_nested=False,
        show_trainable=False,
        layer_range=None,
    ) -> None:
        """Print a table of layers, output shapes and parameter counts, with print_fn line by line.

        positions: where columns end, in characters or parts of line_length. layer_range: names (or patterns of them) of
        the first and the last layer to show.
        """
        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def add_loss(self, loss) -> None:
        """Add to what training minimises: tensors in `call`; or symbolic ones, made of the model's inputs and layers."""
        losses = list(loss) if isinstance(loss, list | tuple) else [loss]
        if is_symbolic(losses):
            self._extend(losses, [])
        else:
            super().add_loss(losses)

    def add_metric(self, value, name: str | None = None, aggregation: str | None = "mean") -> None:
        """Report a value under a name: one computed in `call`; or a symbolic one, made of the model's inputs and layers."""
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

    # -------------------- saving --------------------

    @on_own_device
    def __reduce__(self) -> tuple:
        """Pickled and copied as the file that `save` writes, which needs h5py."""
        return saving.from_bytes, (saving.to_bytes(self),)

    @on_own_device
    def save(self, filepath, overwrite=True, include_optimizer=True, save_format=None, zipped=True) -> None:
        """Write the whole model to a file; `load_model` reads it and training resumes exactly. See saving.save_model."""
        saving.save_model(self, filepath, overwrite, include_optimizer, save_format, zipped)

    @on_own_device
    def save_weights(self, filepath, overwrite=True, save_format=None) -> None:
        """Write the weights to a file: see saving.save_weights."""
        saving.save_weights(self, filepath, overwrite, save_format)

    @on_own_device
    def load_weights(self, filepath, by_name=False, skip_mismatch=False) -> None:
        """Read weights that `save_weights` or `save` wrote, or Keras: see saving.load_weights."""
        saving.load_weights(self, filepath, by_name, skip_mismatch)

    def export(self, filepath, format="onnx", verbose=None, input_signature=None) -> None:
        """Write what the model computes in inference to an ONNX file; see `nbkeras.export.export_onnx`.

        format: 'onnx' only; verbose: False says nothing.
        """
        if format != "onnx":
            raise ValueError(
                f"format must be 'onnx', received {format!r}: nbkeras writes no other format for inference"
            )
        export.export_onnx(self, filepath, input_signature, verbose)

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` as JSON could hold them; None before it."""
        return saving.compile_config(self) if self.compiled else None

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """`compile` with what `get_compile_config` returned."""
        self.compile(**saving.read_compile_config(config))
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_weights)

    def to_json(self, **options) -> str:
        """The architecture as JSON, in Keras 3's form."""
        return saving.model_to_json(self, **options)

    def get_config(self):
        """The graph of a functional model; what a subclass was made with."""
        if self._graph is None:
            return super().get_config()
        return {"name": self.name, "trainable": self._trainable, **serialization.graph_config(self._graph)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A model with new weights from `get_config`; custom_objects: classes and functions of your own, by name."""
        if "input_layers" not in config:
            return super().from_config(config)
        with custom_object_scope(custom_objects or {}):
            inputs, outputs = serialization.build_graph(config)
        own = {key: value for key, value in config.items() if key not in _GRAPH}
        return cls(inputs=inputs, outputs=outputs, **{"trainable": True, **own})

    # -------------------- calling --------------------

    @on_own_device
    def build(self, input_shape=None) -> None:
        """Make the weights for inputs of this shape (a tuple with None for the batch, or a structure of them)."""
        if self.built or input_shape is None:
            return
        shape = tuple(input_shape) if structures.is_shape(input_shape) else input_shape
        stand_ins = structures.map_leaves(
            lambda s: Tensor(np.empty([2 if n is None else n for n in s.shape], s.dtype)), symbols(shape, self.dtype)
        )
        self.build_shapes, self.built = (
            structures.shapes(stand_ins),
            True,
        )  # so that the call does not build it once more
        try:
            with shapes_only(), training_phase(False):
                self._set_output_names(self(stand_ins))
        except BaseException:
            self.built = False
            raise

    def _ensure_built(self, inputs: Any) -> None:
        if self._graph is None and not self.built:
            if type(self).build is not Model.build:
                super()._ensure_built(inputs)
            self.build_shapes = structures.shapes(inputs)
        self.built = True

    def call(self, inputs, training=None, mask=None):
        """Run the graph on tensors; of a list of one output, as in Keras, that one."""
        if self._graph is None:
            raise NotImplementedError(
                f"{type(self).__name__} must define call(self, inputs), or be given inputs and outputs"
            )
        tensors = self._arrange(inputs)
        if mask is not None:
            for tensor, each in zip(tensors, structures.flatten(mask), strict=False):
                if each is not None:
                    tensor.mask = each
        if self._extended is None:
            return _one_or_all(self._graph.run(tensors))
        outputs, losses, values = self._extended.run(tensors)
        super().add_loss(losses)
        for metric, value in zip(self._added_metrics, values, strict=True):
            if metric is not None:
                metric.update_state(value)
        return _one_or_all(outputs)

    def _arrange(self, inputs: Any) -> list:
        """The inputs in the graph's order, checked, each in its input's dtype."""
        graph = self._functional("inputs")
        by_name = isinstance(inputs, dict)
        given = (
            list(input_matching.by_key(inputs, self).values()) if by_name else input_matching.by_position(inputs, self)
        )
        leaves = structures.flatten(given)
        if len(leaves) != len(graph.input_list):
            raise ValueError(
                f"model {self.name!r} expects {len(graph.input_list)} inputs {self.input_names}, received {len(leaves)}"
            )
        return [
            _cast(self._called_on(leaf, symbol), symbol.dtype) if input_matching.given(leaf, symbol) else None
            for leaf, symbol in zip(leaves, graph.input_list, strict=True)
        ]

    def _called_on(self, leaf: Any, symbol: SymbolicTensor) -> Any:
        """What the model is called on, in another model or by hand: checked, in the rank of its input."""
        if not behaviour.current.checks_shapes_of_calls:
            return leaf
        leaf = input_matching.fitted(leaf, symbol)
        self._check_shape(tuple(leaf.shape), symbol)
        return leaf

    def _check_shape(self, shape: tuple, symbol: SymbolicTensor) -> None:
        name = symbol.node.layer.name if symbol.node else symbol.name
        fits = (
            len(shape) == symbol.ndim
            and all(  # the batch axis may differ: who keeps states by sample checks it
                a is None or b is None or a == b for a, b in zip(shape[1:], symbol.shape[1:], strict=True)
            )
        )
        if not fits:
            raise ValueError(f"input {name!r} of model {self.name!r} expects shape {symbol.shape}, received {shape}")

    def _set_masks(self, inputs, masks, outputs) -> None:
        """The outputs carry the masks of the layers that made them."""

    def _symbolic_call(self, args, kwargs):
        if self._graph is not None and args:
            args = (self._arrange_symbols(args[0]), *args[1:])
        return super()._symbolic_call(args, kwargs)

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """As the graph has them: a list of one stays one in a graph."""
        outputs = super().compute_output_spec(*args, **kwargs)
        return outputs if self._graph is None else structures.pack(self._graph.outputs, structures.flatten(outputs))

    def _arrange_symbols(self, inputs: Any) -> Any:
        """Symbolic inputs checked like arrays; the structure is kept as given."""
        if is_symbolic(inputs):
            leaves = structures.flatten(inputs)
            graph = self._functional("inputs")
            if not isinstance(inputs, dict) and len(leaves) == len(graph.input_list):
                pairs = zip(leaves, graph.input_list, strict=True)
                return structures.pack(inputs, [self._called_on(leaf, symbol) for leaf, symbol in pairs])
        return inputs

    # -------------------- what training asks --------------------

    def _is_ready(self) -> bool:
        has_no_call = type(self).call is Model.call  # a train_step of its own calls the parts
        return self._graph is not None or bool(self._output_names) or has_no_call

    def _set_output_names(self, outputs: Any) -> None:
        if isinstance(outputs, dict):
            self._output_names = sorted(outputs)
        else:
            count = len(structures.flatten(outputs))
            self._output_names = ["output"] if count == 1 else [f"output_{i + 1}" for i in range(count)]

    def _output_shapes(self) -> list[tuple]:
        return [()] * len(self._output_names) if self._graph is None else [t.shape for t in self._graph.output_list]

    def _fixed_batch_size(self) -> int | None:
        return None if self._graph is None else self._graph.input_list[0].shape[0]

    def _input_count(self) -> int:
        return 1 if self._graph is None else len(self._graph.input_list)

    def _prepare_inputs(self, x: Any) -> tuple[Any, list[Array]]:
        """(structure, arrays) of what the user passed as x, checked against the inputs and in their dtypes."""
        if x is None:
            raise ValueError("x is missing: pass an array, a list or dict of arrays, a generator or a Sequence")
        steps_of_its_own = self._overrides("train_step") or self._overrides("test_step")  # which take x as it is
        if self._graph is None or steps_of_its_own:
            if isinstance(x, list | tuple) and x and not any(hasattr(item, "shape") for item in x):
                x = batches.to_array(x, "x")
            given = structures.flatten(x)
            if not given:
                raise ValueError(f"x holds no array, received {x!r}")
            return structures.map_leaves(lambda _: 0, x), [batches.to_array(leaf, "x") for leaf in given]
        symbols_, names = self._graph.input_list, self.input_names
        by_key = input_matching.by_key(x, self) if input_matching.has_keys(x, self) else None
        if by_key is None:
            leaves = input_matching.arrays_by_position(input_matching.by_position(x, self), len(names), self)
        else:
            leaves = list(by_key.values())
        arrays: list = []
        for leaf, symbol, name in zip(leaves, symbols_, names, strict=True):
            if not input_matching.given(leaf, symbol):
                arrays.append(None)
                continue
            array = input_matching.fitted(batches.to_array(leaf, f"input {name!r}", symbol.dtype), symbol)
            self._check_shape((None, *array.shape[1:]), symbol)
            arrays.append(array)
        if self._tables is None:  # not known yet for this graph
            self._tables = input_matching.tables(self._graph)
        self._check_numbers(arrays)
        if by_key is not None:
            of = dict(zip(by_key, arrays, strict=True))
            return dict.fromkeys(by_key, 0), [of[key] for key in structures.keys(by_key)]
        return (0 if len(arrays) == 1 else [0] * len(arrays)), arrays

    def _check_numbers(self, arrays: list[Array | None]) -> None:
        for position, (rows, layer) in (self._tables or {}).items():
            array = arrays[position]
            if array is not None:
                input_matching.check_numbers(array, rows, layer, self.input_names[position])


def _one_or_all(values: Any) -> Any:
    """The one value in a list or tuple of one, as Keras 3's functional models have it."""
    return values[0] if isinstance(values, list | tuple) and len(values) == 1 else values


def _cast(leaf: Any, dtype: np.dtype) -> Any:
    """In the input's dtype; wider integers as they are, since others would come out if they do not fit."""
    narrower = dtype.kind in "iu" and leaf.dtype.kind in "iu" and not np.can_cast(leaf.dtype, dtype)
    if leaf.dtype == dtype or narrower or isinstance(leaf, SymbolicTensor):
        return leaf
    cast = as_index if dtype in (np.int32, np.int64) else as_tensor  # NaN must not become 0, nor 2.0**40
    return input_matching.keep_mask(leaf, cast(leaf, dtype))


def _output_names(graph: Graph) -> list[str]:
    """The names of the layers that make the outputs; numbered where one layer makes several."""
    if isinstance(graph.outputs, dict):
        return sorted(graph.outputs)
    names: dict[str, None] = {}
    numbers: dict[str, int] = {}  # the next one to try for each name
    for tensor in graph.output_list:
        name = base = tensor.node.layer.name if tensor.node else tensor.name
        while name in names:
            numbers[base] = numbers.get(base, 0) + 1
            name = f"{base}_{numbers[base]}"
        names[name] = None
    return list(names)


set_by_init(Model, "_graph")
layers.register(Model, "Functional")
layers.publish(Model, "keras.src.models.functional", "Functional")
