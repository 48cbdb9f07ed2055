"""Floor 3: Model, a graph of layers or a subclass with a call of its own, which learns from data.

`fit`, `evaluate` and `predict` put together three objects that know no model: a Feed of batches (feed.py), a Step for a batch
(step.py) and a Loop over both (loop.py). The step calls `train_step`, `test_step` or `predict_step` below.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from nbkeras import building, optimizers, saving
from nbkeras.building.call_history import OverridableProperty
from nbkeras.building.graph import Graph, SymbolicTensor, is_symbolic, symbols
from nbkeras.building.layer import Layer, layers, training_phase
from nbkeras.callbacks.callback_list import CallbackList, History
from nbkeras.callbacks.plain import TerminateOnNaN
from nbkeras.data import batches
from nbkeras.data.input_matching import GraphInputs
from nbkeras.engine import behaviour, build_lock, ranks, step_lock, structures, tape, tensor, user_errors
from nbkeras.engine.annotations import briefly, overridable
from nbkeras.engine.lazy_names import Later
from nbkeras.engine.observed import Observed, names_in_methods
from nbkeras.engine.registry import custom_object_scope, nearest
from nbkeras.engine.structures import one_or_all
from nbkeras.engine.tensor import Tensor, on_own_device, shapes_only
from nbkeras.engine.user_errors import set_by_init, warn
from nbkeras.metrics import Mean, Metric
from nbkeras.optimizers.guard import Guard
from nbkeras.saving import serialization
from nbkeras.training.arguments import (
    callback_list,
    check_counts,
    check_validation,
    logged,
    returned,
)
from nbkeras.training.compiled import Compiled
from nbkeras.training.deployment import Deployment
from nbkeras.training.feed import Data, Examples, Feed, Layout, Signature, Validation, first_tensors, training_feeds
from nbkeras.training.loop import Loop, joined
from nbkeras.training.output_matching import Output, names_by_structure, nested, output_names
from nbkeras.training.resuming import TrainingState
from nbkeras.training.step import Again, MetricResults, Step, log_tensors
from nbkeras.training.summary import print_summary, summary_html

if TYPE_CHECKING:
    from nbkeras.training.together import Together

several = Later("nbkeras.training.together")
Array = np.ndarray

_GRAPH = ("layers", "input_layers", "output_layers")  # of a configuration


class Model(Deployment, Layer):
    """Layers that learn together: `Model(inputs, outputs)` from symbolic tensors, or a subclass that writes `call`.

    A subclass may also override `train_step`, `test_step`, `predict_step`, `compute_loss` and
    `compute_metrics`.

    Args:
        inputs: A symbolic tensor made by `Input`, or a list, tuple or dict of them; None in a subclass.
        outputs: The symbolic tensors to compute from the inputs, in a structure of the same kinds; None in a
            subclass.

    Raises:
        ValueError: if only one of inputs and outputs is given, if they are not symbolic tensors, if the outputs
            need an input that is not given, or if two layers have one name.

    Example:
        >>> x = layers.Input((3,))
        >>> model = keras.Model(x, layers.Dense(2)(x))
        >>> model.predict(np.ones((4, 3))).shape
        (4, 2)
        >>> class Doubled(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.dense = layers.Dense(2)
        ...     def call(self, inputs):
        ...         return 2.0 * self.dense(inputs)
        >>> Doubled().predict(np.ones((4, 3))).shape
        (4, 2)
    """

    _sizes_vary = False  # whether lengths and sizes of images may differ from those of the inputs

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.optimizer: Any = None
        self.stop_training = self.stop_evaluating = self.stop_predicting = False  # set by callbacks, seen after a batch
        self.initial_epoch = 0  # where `fit` starts; BackupAndRestore sets it
        self._training: TrainingState | None = None  # within `fit`
        self.jit_compile = True
        self.steps_per_execution = 1
        self._run_eagerly = False
        self._compiled: Compiled | None = None
        self._steps: dict[str, Step] = {}
        self._ranks: Together | None = None  # the processes that train it together
        self._guard: Guard | None = None  # of TerminateOnNaN
        self._reset_steps()
        self._graph: Graph | None = None
        self._graph_inputs: GraphInputs | None = None  # the inputs of the graph
        self._extended: Graph | None = None  # the graph with the symbolic losses and metrics that were added
        self._added_metrics: list[
            Metric | None
        ] = []  # each gets an added metric's values; None for a metric that has updated itself
        self._loss_layers: list[Layer] = []  # layers with weights that only such losses need
        self._output_names: list[str] = []
        self._nested_outputs: Any = None  # their structure, if it is a nested one
        if (inputs is None) != (outputs is None):
            raise ValueError("a functional model needs both inputs and outputs: Model(inputs=..., outputs=...)")
        if inputs is not None:
            self._set_graph(inputs, outputs)

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        graph = Graph(behaviour.current.ends(inputs), behaviour.current.ends(outputs))
        names = collections.Counter(layer.name for layer in graph.layers)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(
                f"the names of a model's layers must be unique, but {sorted(twice)} are used more than once"
            )
        self._graph_inputs = GraphInputs(graph, self.name, self._sizes_vary)
        self._output_names, self._nested_outputs = output_names(graph), nested(graph.outputs)
        self._graph = graph  # at last: other threads then use all of it
        self.built = True

    # -------------------- parts --------------------

    def _sublayers(self) -> list:
        from_graph = [] if self._graph is None else self._graph.layers
        return list(dict.fromkeys([*from_graph, *super()._sublayers()]))

    @property
    def layers(self) -> list[Layer]:
        """The model's layers, in Keras's order."""
        return self._sublayers()

    @OverridableProperty
    def inputs(self) -> list[SymbolicTensor]:
        """The symbolic inputs in a list; AttributeError for a model without a graph."""
        return self._functional("inputs").input_list

    @OverridableProperty
    def outputs(self) -> list[SymbolicTensor]:
        """The symbolic outputs in a list; AttributeError for a model without a graph."""
        return self._functional("outputs").output_list

    @property
    def input(self) -> Any:
        """The symbolic inputs in the structure that was given; AttributeError for a model without a graph."""
        return self._functional("input").inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs in the structure that was given; AttributeError for a model without a graph."""
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

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, as in dicts of targets, losses and metrics."""
        return self._output_names

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its position.

        Args:
            name: The layer's name.
            index: The position in `layers`, counted from the end if negative; it is used if both are given.

        Raises:
            ValueError: if there is no such layer.

        Example:
            >>> model = keras.Sequential([layers.Dense(4, name="first", input_shape=(3,)), layers.Dense(2)])
            >>> model.get_layer("first").units, model.get_layer(index=-1).units
            (4, 2)
        """
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
        """Set the states of stateful layers to zero.

        Args:
            samples: Which rows of the batch to reset, as a bool mask or indices; None for all.
        """
        for layer in self._all_layers()[1:]:
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states() if samples is None else layer.reset_states(samples=samples)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print a table of layers, output shapes and numbers of parameters.

        Args:
            line_length: The number of characters of a line; None for as many as the texts need, at most the
                terminal's width.
            positions: Where columns end, in characters, or as parts of the line if the last one is at most 1.
            print_fn: A function that gets each line; None prints it.
            expand_nested: Whether the layers of models within the model are shown too.
            show_trainable: Whether a column says Y for layers that are trained, N for frozen ones.
            layer_range: The names of the first and the last layer to show, or regular expressions of them.

        Raises:
            ValueError: if layer_range is not two texts, or if no layer's name fits.

        Example:
            >>> keras.Sequential([layers.Dense(2, name="out", input_shape=(3,))], name="small").summary()
            Model: "small"
            _____________________________________
            Layer (type)  Output Shape  Param #
            =====================================
            out (Dense)   (None, 2)     8
            =====================================
            Total params: 8 (32.00 B)
            Trainable params: 8 (32.00 B)
            Non-trainable params: 0 (0.00 B)
            _____________________________________
        """
        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return summary_html(self)

    def add_loss(self, loss) -> None:
        """Add to what training minimises: tensors in `call`, or symbolic ones made of the model's inputs.

        Args:
            loss: A tensor, of which the sum is added, or a list of tensors.

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

        Only Keras 2 has this method: for Keras 3 too, keep a metric in an attribute and call its
        `update_state`.

        Args:
            value: A tensor, or a symbolic tensor.
            name: The name in logs; in `call` it is needed.
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

    # -------------------- saving --------------------

    @on_own_device
    def __reduce__(self) -> tuple:
        """Pickle and copy the model as the file that `save` writes, which needs h5py."""
        return saving.from_bytes, (saving.to_bytes(self),)

    @on_own_device
    def save(
        self,
        filepath: Any,
        overwrite: bool = True,
        include_optimizer: bool = True,
        save_format: str | None = None,
        zipped: bool = True,
        weights_dtype: str | None = None,
    ) -> None:
        """Write the whole model to a file; `load_model` reads it, and training goes on exactly where it stopped.

        It holds the architecture, weights, states, the arguments of `compile` and the optimizer's state. Needs
        h5py.

        Args:
            filepath: A name that ends in .keras, or a binary file to write: Keras 3's format. Any other name,
                or an open h5py.File: Keras 2's HDF5.
            overwrite: Whether an existing file is replaced.
            include_optimizer: Whether the optimizer's state is written.
            save_format: 'keras' or 'h5' to choose the format independent of the name; None for the name's.
            zipped: False writes Keras 3's files into a folder instead of a zip file.
            weights_dtype: 'bfloat16' rounds the weights in the file to half of their bytes: two to three digits are left. Keras 3
                reads it too. None for the weights as they are.

        Raises:
            FileExistsError: for an existing file with overwrite=False.
            ValueError: for another save_format or weights_dtype, and for names in .onnx and .weights.json.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.save("model.keras")
            >>> x = np.ones((1, 3))
            >>> bool(np.all(keras.models.load_model("model.keras").predict(x) == model.predict(x)))
            True
        """
        saving.save_model(self, filepath, overwrite, include_optimizer, save_format, zipped, weights_dtype)

    @on_own_device
    def save_weights(
        self, filepath: Any, overwrite: bool = True, save_format: str | None = None, weights_dtype: str | None = None
    ) -> None:
        """Write the weights to a file.

        Args:
            filepath: The ending decides the format: .weights.h5 is Keras 3's, with the state of the optimizer
                if it is built; .safetensors; any other is Keras 2's HDF5.
            overwrite: Whether an existing file is replaced.
            save_format: 'h5' for Keras 2's HDF5 whatever the name is; None for the name's.
            weights_dtype: 'bfloat16' rounds the weights in a file .weights.h5 to half of their bytes; see `save`.

        Raises:
            FileExistsError: for an existing file with overwrite=False.
            ValueError: if the model has no weights yet, and for another weights_dtype or one of another file.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.save_weights("model.weights.h5")
            >>> model.load_weights("model.weights.h5")
        """
        saving.save_weights(self, filepath, overwrite, save_format, weights_dtype)

    @on_own_device
    def load_weights(self, filepath: Any, by_name: bool = False, skip_mismatch: bool = False) -> None:
        """Read weights from a file of weights or of a whole model, written by nbkeras or Keras.

        Shapes must agree. All weights are checked before any is written. If a file of Keras 3 holds an
        optimizer's state and the model's optimizer is built, the state is read too.

        Args:
            filepath: The file; its content decides the format.
            by_name: Match the layers of HDF5 files of Keras 2 by their names; other layers keep their values.
            skip_mismatch: Keep the values of layers (of single weights for Keras 2's files) that do not fit,
                with a warning.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the model has no weights yet, if the file does not fit the model or is no weights
                file, and for by_name=True with a file that is not Keras 2's.
        """
        saving.load_weights(self, filepath, by_name, skip_mismatch)

    @on_own_device
    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, dict]:
        """The values of all variables as nested dicts: of the layers, the optimizer and the metrics.

        Args:
            value_format: 'backend_tensor' or 'numpy_array', the kind of the values.

        Returns:
            A dict with 'trainable_variables', 'non_trainable_variables', 'optimizer_variables' and 'metrics_variables'; in it
            a dict for each name in a variable's path.

        Raises:
            ValueError: for another value_format, and for two variables with one path.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="last")], name="small")
            >>> model.get_state_tree("numpy_array")["trainable_variables"]["small"]["last"]["bias"]
            array([0.], dtype=float32)
        """
        return saving.tree_of(self, value_format)

    @on_own_device
    def set_state_tree(self, state_tree: dict[str, dict]) -> None:
        """Write the values of variables that `get_state_tree` returned; the tree may have some of them only.

        Values without a variable are ignored with a warning: those of an optimizer that is not built, for example.

        Args:
            state_tree: That dict, or a part of it.

        Raises:
            ValueError: for an unknown group of variables, and for a value of another shape; nothing is written then.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="last")], name="small")
            >>> model.set_state_tree({"trainable_variables": {"small": {"last": {"bias": np.array([3.0])}}}})
            >>> model.layers[-1].bias.numpy()
            array([3.], dtype=float32)
        """
        saving.write_tree(self, state_tree)

    def quantize(
        self,
        mode: Any = None,
        config: Any = None,
        filters: Any = None,
        *,
        type_check: bool = True,
        beyond_keras: bool = False,
    ) -> None:
        """Make integers of 8 bits of kernels, with a scale for each output: files and memory become a quarter.

        As in Keras, it takes Dense, EinsumDense, Embedding and ReversibleEmbedding, also inside of other layers, and products of
        these quantize each row of their input too. Kernels can no longer be trained; biases and other layers can.

        Args:
            mode: 'int8'.
            config: A `quantizers.Int8QuantizationConfig`, instead of `mode` or besides: without an activation_quantizer the
                inputs of products stay floats.
            filters: A pattern (regular expression) or several, one of which must be found in a layer's name; or a function of a
                layer that returns whether to take it.
            type_check: Whether classes of your own that extend a layer of nbkeras are left as they are, as in Keras.
            beyond_keras: Whether convolutions and recurrent layers are taken too; docs/quantization.md says which of their
                inputs stay floats. Keras has no such layers, and does not read a file with them.

        Raises:
            ValueError: for another mode, a model without weights, and layers that are quantized already.

        Example:
            >>> model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)])
            >>> model.quantize("int8")
            >>> [weight.dtype.name for weight in model.layers[0].weights]
            ['float32', 'int8', 'float32']
        """
        building.quantize_model(self, mode, config, filters, type_check, beyond_keras)
        if self.optimizer is not None and self.optimizer.built:  # for weights that are no more
            for weight in self.weights:
                weight.move_out()
            self.optimizer = type(self.optimizer).from_config(self.optimizer.get_config())
            self._reset_steps()

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` in a form for JSON.

        Returns:
            A dict for `compile_from_config`; None before `compile`, and, with a warning, if an argument has no
            name.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.compile("sgd", loss="mse")
            >>> model.get_compile_config()["loss"]
            'mse'
        """
        return saving.compile_config(self) if self.compiled else None

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Call `compile` with the arguments that `get_compile_config` returned.

        Args:
            config: The result of `get_compile_config`, of this model or of another one.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.compile("sgd", loss="mse")
            >>> other = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> other.compile_from_config(model.get_compile_config())
            >>> other.loss
            'mse'
        """
        self._compile_as_saved(saving.read_compile_config(config))
        if self.compiled and self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_weights)

    def _compile_from_file(self, config: dict[str, Any]) -> None:
        """Compile as a file says; the optimizer is built only if the file has its state."""
        if self._overrides("compile_from_config"):
            self.compile_from_config(config)
        else:
            self._compile_as_saved(saving.read_compile_config(config))

    def _compile_as_saved(self, arguments: dict[str, Any]) -> None:
        """Call `compile`; a warning if it is a subclass's own and does not take these arguments."""
        if self._overrides("compile"):
            try:
                inspect.signature(self.compile).bind(**arguments)
            except TypeError as error:
                warn(
                    f"the model is not compiled: the compile method of {type(self).__name__} does not take what "
                    f"get_compile_config wrote ({error}). Call compile after loading, or define get_compile_config and "
                    "compile_from_config in the class"
                )
                return
        self.compile(**arguments)

    def to_json(self, **options) -> str:
        """The architecture as JSON, in Keras 3's form, without weights; `models.model_from_json` reads it.

        Args:
            **options: Arguments of `json.dumps`, such as indent=2.

        Example:
            >>> text = keras.Sequential([layers.Dense(2, input_shape=(3,))]).to_json()
            >>> keras.models.model_from_json(text).output_shape
            (None, 2)
        """
        return saving.model_to_json(self, **options)

    def get_config(self) -> dict[str, Any]:
        """The graph of a functional model, or the constructor's arguments of a subclass, for `from_config`."""
        if self._graph is None:
            return super().get_config()
        return {"name": self.name, "trainable": self._trainable, **serialization.graph_config(self._graph)}

    def _has_no_get_config(self) -> bool:  # a model without an __init__ of its own has no other arguments
        return not self._overrides("get_config") and type(self).__init__ is not Model.__init__

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """A model with new weights from the result of `get_config`.

        Args:
            config: The configuration.
            custom_objects: Classes and functions of your own that it names, by name.
        """
        if "input_layers" not in config:
            return super().from_config(config)
        with custom_object_scope(custom_objects):
            inputs, outputs = serialization.build_graph(config)
        own = {key: value for key, value in config.items() if key not in _GRAPH}
        return cls(inputs=inputs, outputs=outputs, **{"trainable": True, **own})

    # -------------------- calling --------------------

    @overridable
    def build(self, input_shape: Any = None) -> None:
        """Make the weights.

        Args:
            input_shape: The shape of the input, a tuple with None for the batch, or a structure of shapes.

        Raises:
            ValueError: without a shape, for a model that has none.

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
        if input_shape is None:
            raise ValueError(
                f"model {self.name!r} has no input shape yet: give one, such as build((None, 3)), or call it"
            )
        stand_ins = structures.map_leaves(
            lambda s: Tensor(np.empty([2 if n is None else n for n in s.shape], s.dtype)),
            symbols(input_shape, self.dtype),
        )
        self.built = True  # so that the call does not build it once more
        try:
            with shapes_only(), training_phase(False):
                self._set_output_names(self(stand_ins))
            self.clear_losses()  # they have no values
        except BaseException:
            self.built = False
            raise

    def _build_for(self, inputs: Any, named: dict[str, Any] | None) -> None:
        if type(self).build is Model.build:
            self.build_shapes = structures.shapes(inputs)  # the call makes the weights
            self.built = True
        else:
            super()._build_for(inputs, named)

    @overridable
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the graph on tensors; a subclass writes its computation here, with nbkeras.ops.

        Args:
            inputs: Tensors in the structure of the model's inputs.
            training: Whether layers such as Dropout behave as in training.
            mask: The masks of the inputs, in their structure.

        Returns:
            The outputs in the structure that was given; a list of one output becomes that output, as in Keras.
        """
        if self._graph is None:
            raise NotImplementedError(
                f"{type(self).__name__} must define call(self, inputs), or be given inputs and outputs"
            )
        tensors = self._graph_inputs.tensors(inputs)  # type: ignore[union-attr] # set with the graph
        if mask is not None:
            for given, each in zip(tensors, structures.flatten(mask), strict=False):
                if each is not None:
                    given.mask = each
        if self._extended is None:
            return one_or_all(self._graph.run(tensors))
        outputs, losses, values = self._extended.run(tensors)
        super().add_loss(losses)
        for metric, value in zip(self._added_metrics, values, strict=True):
            if metric is not None:
                metric.update_state(value)
        return one_or_all(outputs)

    def _set_masks(self, inputs, masks, outputs) -> None:
        """Do nothing: the outputs have the masks of the layers that made them."""

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
        outputs = super().compute_output_spec(*args, **kwargs)
        return outputs if self._graph is None else structures.pack(self._graph.outputs, structures.flatten(outputs))

    # -------------------- compile --------------------

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """The names in methods that the user wrote; those of nbkeras read only attributes that `compile` or the loop sets."""
        return names_in_methods(*(base for base in cls.__mro__[:-1] if not base.__module__.startswith("nbkeras.")))

    @on_own_device
    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss=None,
        metrics=None,
        loss_weights=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile: Any = "auto",
        auto_scale_loss=True,
        **kwargs,
    ) -> None:
        """Choose the optimizer, the losses and the metrics of `fit` and `evaluate`.

        Args:
            optimizer: A name, an Optimizer or a configuration; None for a train_step with optimizers of its
                own.
            loss: A name, a Loss, or a function(y_true, y_pred) of tensors. For several outputs: one for all, a
                list, or a dict by output name, in which None means that an output has no loss.
            metrics: A list of names, functions and Metrics; for several outputs also a list of lists, or a dict
                by output name. 'accuracy' and 'crossentropy' mean the kind that fits the shapes of targets and
                outputs.
            loss_weights: Factors of the losses in the sum that training minimises: a list, or a dict by output
                name.
            weighted_metrics: Metrics, like `metrics`, that use sample weights and class weights.
            run_eagerly: Whether steps are never recorded, so that Python can look at values in every step;
                slower.
            steps_per_execution: Accepted and ignored.
            jit_compile: Accepted and ignored: kernels are always compiled.
            auto_scale_loss: Accepted and ignored: there are no float16 computations.
            **kwargs: Nothing; any other argument is an error.

        Raises:
            TypeError: for an unknown argument, and for metrics that are a string.
            ValueError: for an unknown name of an optimizer, loss, metric or output.

        Example:
            >>> model = keras.Sequential([layers.Dense(10, activation="softmax", input_shape=(64,))])
            >>> model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
            >>> type(model.optimizer).__name__
            'Adam'
        """
        arguments = {
            "optimizer": optimizer,
            "loss": loss,
            "metrics": metrics,
            "loss_weights": loss_weights,
            "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
        }
        for key in kwargs:
            raise TypeError(f"compile got an unexpected argument {key!r}.{nearest(key, arguments)}")
        if isinstance(metrics, str) or isinstance(weighted_metrics, str):
            raise TypeError(
                f"metrics must be a list, such as metrics=['accuracy'], received {briefly(metrics or weighted_metrics)}"
            )
        new_optimizer = optimizers.get(optimizer)
        own_loss = any(self._overrides(name) for name in ("train_step", "test_step", "compute_loss"))
        compiled = Compiled(arguments, own_loss)
        if self.output_names:
            compiled.resolve(self.output_names, self._nested_outputs)
        self.optimizer, self._compiled = new_optimizer, compiled
        self.run_eagerly, self.jit_compile = run_eagerly, bool(jit_compile)
        self.steps_per_execution = steps_per_execution
        self.stop_training = False
        compiled.choose_variables(self)
        self._reset_steps()

    def _check_compiled(self, purpose: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(
                f"you must compile the model before {purpose}: call model.compile(optimizer=..., loss=..., metrics=[...])"
            )
        return self._compiled

    @OverridableProperty
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def compile_arguments(self) -> dict[str, Any]:
        """The arguments of `compile` by name, as they were passed."""
        return {} if self._compiled is None else self._compiled.arguments

    @property
    def run_eagerly(self) -> bool:
        """Whether steps are never recorded; may be set at any time."""
        return self._run_eagerly

    @run_eagerly.setter
    def run_eagerly(self, value: bool) -> None:
        self._run_eagerly = bool(value)
        for step in self._steps.values():
            step.eagerly = self._run_eagerly

    @OverridableProperty
    def loss(self) -> Any:
        """The loss as given to `compile`."""
        return self.compile_arguments.get("loss")

    @property
    def metrics(self) -> list:
        """The metric objects: the loss's mean first, then those of compile, then those set as attributes.

        In a train_step or test_step those of compile are one object, called as `update_state(y, y_pred)`.
        """
        compiled = [] if self._compiled is None else self._compiled.metric_objects()
        return list(dict.fromkeys([*compiled, *super().metrics]))

    @property
    def metrics_names(self) -> list[str]:
        """Names of the values that `evaluate` returns, 'loss' first; complete after the first batch."""
        if self._overrides("metrics"):
            return [metric.name for metric in self.metrics]
        return [] if self._compiled is None else [name for name, _ in self._compiled.named()]

    @on_own_device
    def reset_metrics(self) -> None:
        """Set all metrics back to the start."""
        for metric in self.metrics:
            metric.reset_state()

    @on_own_device
    def get_metrics_result(self) -> dict[str, Any]:
        """The current values of the metrics.

        Returns:
            A dict of tensors by name; a metric whose result is a dict gives several entries, by its keys.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile(loss="mse", metrics=["mae"])
            >>> values = model.evaluate(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
            >>> {name: float(value) for name, value in model.get_metrics_result().items()}
            {'loss': 4.0, 'mae': 2.0}
        """
        if self._overrides("metrics") or self._compiled is None:  # the user chooses the metrics
            named = [(metric.name, metric) for metric in self.metrics]
        else:
            named = self._compiled.named()
            known = {id(metric) for _, metric in named}
            named = [*named, *((metric.name, metric) for metric in super().metrics if id(metric) not in known)]
        return log_tensors({name: metric.result() for name, metric in named}, "get_metrics_result")

    # -------------------- one batch --------------------

    def train_step(self, data: Any) -> dict[str, Any]:
        """Learn from one batch. Override it for a step of your own; `fit` records it and replays it.

        Args:
            data: (x, y) or (x, y, sample_weight) of tensors; see `utils.unpack_x_y_sample_weight`.

        Returns:
            The logs: a dict of numbers or tensors by name.

        Example:
            >>> class Model(keras.Model):
            ...     def train_step(self, data):
            ...         x, y = data
            ...         with keras.GradientTape() as tape:
            ...             loss = ops.mean(ops.square(self(x, training=True) - y))
            ...         gradients = tape.gradient(loss, self.trainable_weights)
            ...         self.optimizer.apply(gradients, self.trainable_weights)
            ...         return {"loss": loss}
            >>> inputs = layers.Input((3,))
            >>> model = Model(inputs, layers.Dense(1)(inputs))
            >>> model.compile("sgd")
            >>> history = model.fit(np.ones((8, 3)), np.zeros((8, 1)), epochs=3, verbose=0)
            >>> history.history["loss"][0] > history.history["loss"][-1]
            True
        """
        x, y, sample_weight = batches.unpack_x_y_sample_weight(data)
        with tape.Recording():
            y_pred = self._call_in_phase(x, training=True)
            loss = self._loss_of(x, y, y_pred, sample_weight, training=True)
        logs = self._measure_batch(loss, x, y, y_pred, sample_weight)
        del y_pred  # so that the backward pass can reuse its memory
        compiled = self._check_compiled("training")
        variables = compiled.variables or compiled.choose_variables(self)  # none yet before the first `fit`
        if variables:
            self.optimizer.learn(loss, variables)
        return logs

    def test_step(self, data: Any) -> dict[str, Any]:
        """Measure one batch; `evaluate` calls it, and `fit` for validation.

        Args:
            data: (x, y) or (x, y, sample_weight) of tensors.

        Returns:
            The logs: a dict of numbers or tensors by name.

        Example:
            >>> class Errors(keras.Model):
            ...     def test_step(self, data):
            ...         x, y = data
            ...         return {"worst": ops.max(ops.abs(self(x, training=False) - y))}
            >>> inputs = keras.Input((1,))
            >>> model = Errors(inputs, layers.Dense(1, kernel_initializer="ones")(inputs))
            >>> model.compile()
            >>> model.evaluate(np.array([[1.0], [5.0]]), np.zeros((2, 1)), verbose=0, return_dict=True)
            {'worst': 5.0}
        """
        x, y, sample_weight = batches.unpack_x_y_sample_weight(data)
        y_pred = self._call_in_phase(x, training=False)
        loss = self._loss_of(x, y, y_pred, sample_weight, training=False)
        return self._measure_batch(loss, x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """Compute the outputs for one batch; `predict` calls it.

        Args:
            data: The inputs, as tensors.

        Example:
            >>> class Classes(keras.Model):
            ...     def predict_step(self, data):
            ...         return ops.argmax(super().predict_step(data), axis=-1)
            >>> inputs = keras.Input((3,))
            >>> Classes(inputs, layers.Softmax()(inputs)).predict(np.array([[0.0, 5.0, 1.0]]))
            array([1], dtype=int32)
        """
        return self._call_in_phase(data[0] if isinstance(data, tuple) else data, training=False)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True) -> Tensor:
        """The scalar that training minimises: the losses of `compile`, and those that layers added.

        Args:
            x: The inputs.
            y: The targets.
            y_pred: The outputs.
            sample_weight: Weights of the samples, or None.
            training: Whether the step is one of training.

        Raises:
            ValueError: if there is neither a loss of `compile` nor one that was added.

        Example:
            >>> class Doubled(keras.Model):
            ...     def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            ...         return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)
            >>> inputs = keras.Input((2,))
            >>> model = Doubled(inputs, layers.Dense(1, kernel_initializer="ones")(inputs))
            >>> model.compile(loss="mse")
            >>> model.evaluate(np.ones((4, 2)), np.zeros((4, 1)), verbose=0)
            8.0
        """
        compiled = self._check_compiled("training")
        if not self.output_names and y_pred is not None:  # a model without `call`, whose own step makes the outputs
            self._set_output_names(y_pred)
            compiled.resolve(self.output_names, self._nested_outputs)
        return compiled.compute_loss(y, y_pred, sample_weight, self.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict[str, Any]:
        """Add a batch to the metrics of `compile`.

        Args:
            x: The inputs.
            y: The targets.
            y_pred: The outputs.
            sample_weight: Weights of the samples, or None.

        Returns:
            The results so far: a dict of tensors by name, with 'loss'.
        """
        compiled = self._check_compiled("metrics")
        compiled.update_metrics(y, y_pred, sample_weight)
        return MetricResults(self.get_metrics_result) if compiled.in_step else self.get_metrics_result()

    @on_own_device
    def stateless_compute_loss(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        metrics_variables: Any,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tuple[Tensor, tuple[list[Tensor], list[Tensor], list[Tensor]]]:
        """`compute_loss` with given values of the variables, which changes nothing.

        Args:
            trainable_variables: A tensor or array for each of `trainable_variables`.
            non_trainable_variables: One for each of `non_trainable_variables`.
            metrics_variables: One for each of `metrics_variables`.
            x: The inputs.
            y: The targets.
            y_pred: The outputs.
            sample_weight: Weights of the samples, or None.
            training: Whether the step is one of training.

        Returns:
            The loss, and a tuple of the lists of all three kinds of values after it.

        Raises:
            ValueError: for another number of values, or values of other shapes.
        """
        given = trainable_variables, non_trainable_variables, metrics_variables
        return building.stateless_compute_loss(self, *given, (x, y, y_pred, sample_weight, training))

    def _call_in_phase(self, x: Any, training: bool) -> Any:
        return self(x, training=training) if "training" in self._call_takes else self(x)

    @tensor.layer_stack.part("loss")
    def _loss_of(self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool) -> Tensor:
        """The result of `compute_loss`, which gets `training` if it accepts it: one written for Keras 2 does not."""
        takes = inspect.signature(self.compute_loss).parameters.values()
        asks = any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in takes)
        return self.compute_loss(x, y, y_pred, sample_weight, **({"training": training} if asks else {}))

    @tensor.layer_stack.part("metrics")
    def _measure_batch(self, loss: Tensor, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, Any]:
        """Add a batch to the loss's mean and to the metrics; returns logs."""
        size = float(next(leaf for leaf in structures.flatten(x) if leaf is not None).shape[0])
        self._check_compiled("training").loss_tracker.update_state(loss, sample_weight=size)
        logs = self.compute_metrics(x, y, y_pred, sample_weight)
        self.clear_losses()
        return logs

    def _overrides(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(Model, name)

    # -------------------- steps --------------------

    def _step_for(self, name: str) -> Step:
        """The train, test or predict step, or 'guarded', a train step for TerminateOnNaN."""
        step = self._steps.get(name)
        if step is None:
            with tensor.on_gpu(self._gpu):
                kind, run = name, functools.partial(self._run_step, name)
                if name == "guarded":
                    self._guard = Guard()
                    kind, run = "train", functools.partial(self._run_guarded, self._guard)
                step = self._steps[name] = Step(kind, run, self._run_eagerly, self._observed_parts)
        return step

    def _run_guarded(self, guard: Guard, data: Any) -> Any:
        """A train step that changes metrics alone if the loss or a gradient is not finite."""
        with guard.keeping(v for v in self.variables if not (v.declared_trainable or v.is_quantized)):
            return self._run_step("train", data)

    def _run_step(self, kind: str, data: Any) -> Any:
        """Call `train_step`, `test_step` or `predict_step`."""
        step = getattr(self, f"{kind}_step")
        if kind == "predict":
            return step(data)
        with self._check_compiled(kind).step(thaw=kind == "train"):
            return step(data)

    def _reset_steps(self) -> None:
        """Drop the programs of the steps, because their computation has changed."""
        for step in self._steps.values():
            step.forget()
        self._known_inputs: dict[tuple, Again] = {}  # of predict: see _remember_inputs

    def _observed_parts(self) -> Iterator[Any]:
        """The objects whose attributes a step may have read."""
        for layer in self._all_layers():
            yield layer
            yield from layer._held(Observed)
        if self._compiled is not None:
            yield from self._compiled.losses
            yield from (metric for _, metric in self._compiled.named())

    # -------------------- data --------------------

    def _data_signature(self) -> Signature:
        """The inputs and outputs against which data are checked."""
        if not self._is_described():
            return Signature(complete=self._complete_signature)
        graph, names = self._graph, self.output_names
        outputs: tuple[Output, ...] = tuple(map(Output, names or ["output"]))
        if names and self._compiled is not None:
            shapes = [()] * len(names) if graph is None else [symbol.shape for symbol in graph.output_list]
            outputs = self._compiled.outputs(names, shapes, self._nested_outputs)
        own_step = self._overrides("train_step") or self._overrides("test_step")  # it gets x and y as they are
        options: Any = {"nested": self._nested_outputs, "has_own_step": own_step or self._overrides("compute_loss")}
        if graph is None:
            return Signature(None, outputs, **options)
        inputs = None if own_step else self._graph_inputs
        first = graph.input_list[0].shape
        return Signature(inputs, outputs, len(graph.input_list), first[0], **options)

    def _is_described(self) -> bool:
        """Whether inputs and outputs are known, or a dry run cannot find them because there is no `call`."""
        has_no_call = type(self).call is Model.call  # a train_step of its own calls the parts
        return self._graph is not None or bool(self._output_names) or has_no_call

    @on_own_device
    def _complete_signature(self, x: Any) -> Signature:
        """Make weights and output names by a dry run on the first rows of x; returns the signature."""
        rows = first_tensors(x)
        with build_lock.building(self):
            if not self._is_described():
                with training_phase(False):
                    try:
                        with shapes_only():
                            outputs = self(rows)
                    except tensor.ValueReadError:  # `call` reads values, so it must be run
                        outputs = self(rows)
                self.clear_losses()
                self._set_output_names(outputs)
        return self._data_signature()

    def _set_output_names(self, outputs: Any) -> None:
        """Name the outputs after their structure."""
        self._nested_outputs = nested(outputs)
        self._output_names = names_by_structure(outputs)

    # -------------------- fit, evaluate, predict --------------------

    @on_own_device
    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
    ) -> History:
        """Train for a number of passes over the data.

        Args:
            x: The inputs: an array, a list of arrays, or a dict of arrays by input name; or a generator,
                Sequence or other iterable of batches (x, y) or (x, y, sample_weight). Tables of pandas are
                matrices, or dicts of columns where there are several inputs; sparse matrices of scipy are made
                dense batch by batch.
            y: The targets, in the same forms; None for a generator or Sequence.
            batch_size: The number of samples of a batch; None for 32, or for what gives steps_per_epoch
                batches.
            epochs: The number of the last epoch, counted from 1.
            verbose: 0 prints nothing, 1 or 'auto' draws a bar, 2 prints a line for each epoch.
            callbacks: A list of Callbacks, or a CallbackList.
            validation_split: The fraction of the arrays, from their end and before shuffling, to validate with.
            validation_data: (x, y), (x, y, sample_weight), or a generator or Sequence, to measure after each
                epoch; then validation_split is not used.
            shuffle: Whether samples of arrays, or batches of a Sequence, come in another order in each epoch;
                'batch' moves whole batches of arrays.
            class_weight: A dict from class number to the weight of its samples; for several outputs a dict or
                list of these.
            sample_weight: An array with a weight for each sample.
            initial_epoch: The number of epochs that were done before, in an earlier call.
            steps_per_epoch: The number of batches of an epoch; None for one pass over the data. The next epoch
                continues where the last one stopped.
            validation_steps: The number of batches to validate with; None for all.
            validation_batch_size: The number of samples of a batch in validation; None for batch_size.
            validation_freq: Validate after every so many epochs, or a list of the epochs after which to
                validate.

        Returns:
            The History callback: `history.history` has a list of values by epoch for each name, 'val_...' for
            validation.

        Raises:
            RuntimeError: if the model is not compiled.
            ValueError: for data that do not fit the model or each other.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, input_shape=(1,))])
            >>> model.compile(keras.optimizers.SGD(0.3), loss="mse")
            >>> x = np.linspace(0, 1, 64).reshape(64, 1)
            >>> history = model.fit(x, 2 * x + 1, epochs=100, validation_split=0.25, verbose=0)
            >>> list(history.history), len(history.history["loss"])
            (['loss', 'val_loss'], 100)
            >>> np.round(model.predict(np.array([[0.5]])), 1)
            array([[2.]], dtype=float32)
        """
        compiled = self._check_compiled("fit")
        check_counts(
            epochs=epochs,
            initial_epoch=initial_epoch,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            validation_steps=validation_steps,
            validation_batch_size=validation_batch_size,
        )
        check_validation(validation_split, validation_freq)
        feed, validation_feed = training_feeds(
            Data(x, y, sample_weight, class_weight),
            self._data_signature,
            {"batch_size": batch_size, "steps": steps_per_epoch, "shuffle": shuffle},
            Validation(validation_split, validation_data, validation_batch_size or batch_size, validation_steps),
        )
        callbacks = callback_list(self, callbacks, verbose, epochs, feed.source.steps)
        behaviour.current.show_validation(
            callbacks.callbacks, validation_data, validation_feed and validation_feed.source
        )
        validation = None if validation_feed is None else self._test_loop(validation_feed, callbacks)
        self.stop_training = False
        compiled.prepare_to_train(self)
        self.initial_epoch = initial_epoch
        name = "guarded" if any(isinstance(each, TerminateOnNaN) for each in callbacks.callbacks) else "train"
        loop, together = self._measuring_loop(name, feed, callbacks, self.reset_metrics), self._together()
        outer = self._training
        try:
            with TrainingState(self, callbacks, loop, validation) as self._training:
                callbacks.on_train_begin()
                if together is not None:
                    together.agree()
                logs = loop.train(range(self.initial_epoch, epochs), validation, validation_freq)
        finally:  # also when training is interrupted
            self._training = outer
            if self.optimizer is not None and self.optimizer.built and int(self.optimizer.iterations):
                self.optimizer.finalize_variable_values(compiled.variables)
        callbacks.on_train_end(logs)
        if together is not None:
            together.meet()
        return callbacks.history

    @overload
    def evaluate(
        self,
        x: Any = ...,
        y: Any = ...,
        batch_size: int | None = ...,
        verbose: int | str = ...,
        sample_weight: Any = ...,
        steps: int | None = ...,
        callbacks: Any = ...,
        *,
        return_dict: Literal[True],
    ) -> dict[str, Any]: ...
    @overload
    def evaluate(
        self,
        x: Any = ...,
        y: Any = ...,
        batch_size: int | None = ...,
        verbose: int | str = ...,
        sample_weight: Any = ...,
        steps: int | None = ...,
        callbacks: Any = ...,
        return_dict: bool = ...,
    ) -> Any: ...
    @on_own_device
    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Measure the loss and the metrics over data, in inference mode.

        Args:
            x: The inputs, in the forms of `fit`.
            y: The targets.
            batch_size: The number of samples of a batch; None for 32.
            verbose: 0 prints nothing, 1 or 'auto' draws a bar, 2 prints a line.
            sample_weight: An array with a weight for each sample.
            steps: The number of batches; None for all.
            callbacks: A list of Callbacks.
            return_dict: Whether to return a dict by name.

        Returns:
            A list of numbers in the order of `metrics_names`, a number if there is only the loss, or a dict.

        Raises:
            RuntimeError: if the model is not compiled.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile(loss="mse", metrics=["mae"])
            >>> model.evaluate(np.ones((4, 2)), np.zeros((4, 1)), verbose=0, return_dict=True)
            {'loss': 4.0, 'mae': 2.0}
        """
        self._check_compiled("evaluate")
        check_counts(batch_size=batch_size, steps=steps)
        feed = Feed.of(x, y, sample_weight, signature=self._data_signature(), batch_size=batch_size, steps=steps)
        callbacks = callback_list(self, callbacks, verbose, 1, feed.source.steps, history=False)
        return returned(self._test_loop(feed, callbacks).test(), return_dict)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The model's outputs in inference mode, computed batch by batch; several threads may call it at once.

        Args:
            x: The inputs, in the forms of `fit`.
            batch_size: The number of samples of a batch; None for 32.
            verbose: 1 draws a bar; 0 and 'auto' do not (in Keras 'auto' does).
            steps: The number of batches; None for all.
            callbacks: A list of Callbacks.

        Returns:
            A NumPy array (samples, ...), or a structure of arrays if there are several outputs.

        Raises:
            ValueError: for data that do not fit the model, and if there are no batches.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.predict(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        try:  # here, not in a wrapper around: that would take longer
            draw = verbose not in ("auto", 0) if isinstance(verbose, int | str) else True
            simple = callbacks is batch_size is steps is None and not draw and type(x) is np.ndarray
            known = self._known_inputs.get((x.shape, x.dtype, False)) if simple else None
            if known is not None:  # saves 8 us of checks, more than a small model takes
                return known(x)
            return self._predict(x, batch_size, steps, callbacks, draw, simple)
        except Exception as error:
            user_errors.shorten(error)
            raise

    user_errors.is_entry(predict)

    def _predict(
        self, x: Any, batch_size: int | None, steps: int | None, callbacks: Any, draw: bool, simple: bool
    ) -> Any:
        """Predict batch by batch; simple: x is one array and all other arguments have their defaults."""
        x = behaviour.current.inputs_to_predict(x)
        check_counts(batch_size=batch_size, steps=steps)
        signature = self._data_signature()
        feed = Feed.of(x, signature=signature, inputs_only=True, batch_size=batch_size, steps=steps)
        listens = callbacks is not None or draw
        callbacks = callback_list(self, callbacks, int(draw), 1, feed.source.steps, history=False) if listens else None
        owner = self if listens else None
        step, together = self._step_for("predict"), self._together()
        run = step if together is None else together.prediction(step)
        loop = Loop("predict", feed, run, callbacks, lambda outputs: {"outputs": outputs}, owner)
        # All batches of arrays use the same weights; a stream and callbacks may wait for who writes them.
        alike = callbacks is None and isinstance(feed.source, batches.ArraySource) and feed.source.steps != 1
        with step_lock.series() if alike else contextlib.nullcontext():
            parts = loop.predict()
        if together is not None:
            simple, parts = False, together.gather(parts)
        if not parts:
            raise ValueError("predict got no batches")
        if len(parts) == 1:
            if simple and isinstance(feed.source, batches.ArraySource):
                self._remember_inputs(x, feed.source.leaves, feed.layout, False)
            return parts[0]
        return joined(parts)

    def _remember_inputs(self, x: Array, leaves: list, layout: Layout, one_batch: bool) -> None:
        """If x was taken as it is, arrays of its shape and dtype are not checked again; one_batch: of `predict_on_batch`."""
        if leaves[0].shape == x.shape and leaves[0].dtype == x.dtype:
            if len(self._known_inputs) >= 64:
                self._known_inputs.clear()
            inputs = self._data_signature().inputs
            check = inputs.check_numbers if inputs is not None and inputs.tables else None
            self._known_inputs[x.shape, x.dtype, one_batch] = Again(self._step_for("predict"), layout, x, check)

    @overload
    def train_on_batch(
        self,
        x: Any,
        y: Any = ...,
        sample_weight: Any = ...,
        class_weight: Any = ...,
        *,
        return_dict: Literal[True],
        reset_metrics: bool = ...,
    ) -> dict[str, Any]: ...
    @overload
    def train_on_batch(
        self,
        x: Any,
        y: Any = ...,
        sample_weight: Any = ...,
        class_weight: Any = ...,
        return_dict: bool = ...,
        reset_metrics: bool = ...,
    ) -> Any: ...
    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
        reset_metrics: bool = True,
    ) -> Any:
        """Learn from one batch.

        Args:
            x: The inputs of the batch: an array, or a list or dict of arrays.
            y: The targets.
            sample_weight: An array with a weight for each sample.
            class_weight: A dict from class number to the weight of its samples.
            return_dict: Whether to return a dict by name.
            reset_metrics: Whether metrics start anew, so that the values are those of this batch alone.

        Returns:
            The loss, [loss, *metrics], or a dict.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile("sgd", loss="mse")
            >>> model.train_on_batch(np.ones((4, 2)), np.zeros((4, 1)))
            4.0
        """
        return self._on_batch("train", x, y, sample_weight, class_weight, return_dict, reset_metrics)

    @overload
    def test_on_batch(
        self, x: Any, y: Any = ..., sample_weight: Any = ..., *, return_dict: Literal[True], reset_metrics: bool = ...
    ) -> dict[str, Any]: ...
    @overload
    def test_on_batch(
        self, x: Any, y: Any = ..., sample_weight: Any = ..., return_dict: bool = ..., reset_metrics: bool = ...
    ) -> Any: ...
    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False, reset_metrics: bool = True
    ) -> Any:
        """Measure the loss and the metrics of one batch.

        Args:
            x: The inputs of the batch.
            y: The targets.
            sample_weight: An array with a weight for each sample.
            return_dict: Whether to return a dict by name.
            reset_metrics: Whether metrics start anew, so that the values are those of this batch alone.

        Returns:
            The loss, [loss, *metrics], or a dict.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.compile(loss="mse", metrics=["mae"])
            >>> model.test_on_batch(np.ones((4, 2)), np.zeros((4, 1)))
            [4.0, 2.0]
        """
        return self._on_batch("test", x, y, sample_weight, None, return_dict, reset_metrics)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, in inference mode.

        Args:
            x: The inputs of the batch: an array, or a list or dict of arrays.

        Returns:
            A NumPy array, or a structure of arrays.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> model.predict_on_batch(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        simple = type(x) is np.ndarray
        known = self._known_inputs.get((x.shape, x.dtype, True)) if simple else None
        if known is not None:
            return known(x)
        examples = Examples.of(x, None, None, self._data_signature())
        outputs = self._step_for("predict")(examples.batch(), examples.layout)
        if simple:
            self._remember_inputs(x, examples.leaves, examples.layout, True)
        return outputs

    @on_own_device
    def _on_batch(self, kind, x, y, sample_weight, class_weight, return_dict, reset_metrics):
        compiled = self._check_compiled(f"{kind}_on_batch")
        examples = Examples.of(x, y, sample_weight, self._data_signature()).weighed(class_weight)
        batch = examples.batch()
        if not batch.size:
            raise ValueError("the data has no samples")
        if reset_metrics:
            self.reset_metrics()
        if kind == "train":
            compiled.prepare_to_train(self)
        step, together = self._step_for(kind), self._together()
        if together is None:
            return returned(self._logs(step(batch, examples.layout))(), return_dict)
        return returned(together.on_batch(step, kind, batch, examples.layout, self._logs), return_dict)

    # -------------------- what loops need --------------------

    def _logs(self, own: dict) -> Callable[[], dict[str, Any]]:
        """A function that returns the logs so far, so that values are read only if used; own: the logs that a step returned."""
        return lambda: {name: logged(value) for name, value in (own or self.get_metrics_result()).items()}

    def _together(self) -> Together | None:
        """The processes that train this model together; None if this one trains alone."""
        group = ranks.current()
        if group is None:
            return None
        if self._ranks is None or self._ranks.group is not group:
            self._ranks = several.Together(self, group)
        return self._ranks

    def settle_ranks(self) -> None:
        """Where several processes train together: give this one the states and metrics of all, as at the end of an epoch.

        All processes must call it. A callback that saves the model in the middle of an epoch does so before.
        """
        together = self._together()
        if together is not None:
            together.settle()

    def _measuring_loop(self, name: str, feed: Feed, callbacks: CallbackList, reset: Callable[[], None]) -> Loop:
        """A loop of steps that train or test; name: of the step."""
        step, together = self._step_for(name), self._together()
        kind = "test" if name == "test" else "train"
        if together is None:
            return Loop(kind, feed, step, callbacks, self._logs, self, reset)
        run = together.step(step, kind == "train")
        read = together.reader(self._logs)
        return Loop(kind, feed, run, callbacks, read, self, reset, together.settle)

    def _test_loop(self, feed: Feed, callbacks: CallbackList) -> Loop:
        return self._measuring_loop("test", feed, callbacks, self._prepare_to_test)

    def _prepare_to_test(self) -> None:
        self.reset_metrics()
        together = self._together()
        if together is not None:
            together.settle_weights()

    def _training_state(self) -> TrainingState:
        """The state of the training that runs; that of the model alone in a loop of the user's own."""
        return self._training or TrainingState(self)


set_by_init(Model, "_graph")
layers.register(Model, "Functional")
layers.publish(Model, "keras.src.models.functional", "Functional")
