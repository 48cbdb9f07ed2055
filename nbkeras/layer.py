"""Floor 2: Layer, what every layer and model is; Input; and the layer that an op on symbolic tensors becomes."""

from __future__ import annotations

import contextlib
import inspect
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nbkeras import config, constraints, graph, initializers, nest, ops, regularizers, tensor
from nbkeras.graph import Node, SymbolicTensor, is_symbolic
from nbkeras.registry import Registry, nearest
from nbkeras.tensor import Tensor, Variable, as_tensor

layers = Registry("layer")


class InputSpec(NamedTuple):
    """What a layer expects of an input: its rank, its least rank, the sizes of some axes, its dtype or whole shape."""

    shape: tuple | None = None
    ndim: int | None = None
    min_ndim: int | None = None
    axes: dict[int, int | None] | None = None
    dtype: Any = None


class _Context(threading.local):
    training: bool | None = None


_context = _Context()


@contextlib.contextmanager
def training_phase(value: bool | None) -> Iterator[None]:
    """Layers called inside get this as their `training` unless they are told otherwise."""
    before, _context.training = _context.training, value
    try:
        yield
    finally:
        _context.training = before


def learning_phase() -> bool:
    """Whether layers called now, in this thread, are in training unless they are told otherwise."""
    return bool(_context.training)


def set_learning_phase(value) -> None:
    """Set it for calls outside fit, evaluate and predict, which set their own."""
    _context.training = bool(value)


_name_counts: dict[str, int] = {}
_name_lock = threading.Lock()


def unique_name(prefix: str) -> str:
    """prefix, prefix_1, prefix_2, ..."""
    with _name_lock:
        count = _name_counts.get(prefix, 0)
        _name_counts[prefix] = count + 1
    return f"{prefix}_{count}" if count else prefix


def clear_names() -> None:
    """Start counting layer names anew."""
    with _name_lock:
        _name_counts.clear()


def snake_case(name: str) -> str:
    """'MaxPooling2D' -> 'max_pooling2d', as Keras names layers."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


_ARGUMENTS = (
    "name",
    "dtype",
    "trainable",
    "input_shape",
    "batch_input_shape",
    "batch_shape",
    "input_dim",
    "input_length",
)


class Layer:
    """A callable with weights. Subclasses write `build`, `call`, `compute_output_shape` and `get_config`.

    name: unique within a model. dtype: of weights and computation, floatx by default. trainable: False freezes it.
    input_shape (without the batch axis), input_dim (+ input_length), batch_input_shape, batch_size: the shape of the input
    when the layer is first in a Sequential. weights: initial values, as for `set_weights`.
    """

    supports_masking = False
    input_spec: Any = None
    input_dtype: str | None = None  # of the input of a Sequential that starts with this layer; None: the layer's own
    output_dtype = "layer"  # 'input' for layers that only move elements: their output has the input's dtype

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        parameters = inspect.signature(cls.call).parameters if "call" in cls.__dict__ else None
        if parameters is not None:
            cls._call_takes = frozenset(parameters)
        if cls.__module__.startswith("nbkeras.") and not cls.__name__.startswith("_"):
            layers.register(cls)

    _call_takes: frozenset[str] = frozenset()

    def __init__(self, name=None, dtype=None, trainable=True, batch_size=None, weights=None, **kwargs):
        for key in kwargs:
            if key not in _ARGUMENTS:
                raise TypeError(
                    f"{type(self).__name__} got an unexpected argument {key!r}.{nearest(key, self._argument_names())}"
                )
        if name is not None and not isinstance(name, str):
            raise TypeError(f"a layer's name must be a string, received {name!r}")
        self.name: str = name or unique_name(snake_case(type(self).__name__))
        self.dtype = np.dtype(config.floatx() if dtype is None else dtype).name
        if self.dtype in ("float16", "bfloat16"):
            raise ValueError(f"dtype {self.dtype!r} is not offered: use 'float32' or 'float64'")
        self.built = False
        self.nodes: list[Node] = []
        self.activity_regularizer: Any = None
        self._trainable = bool(trainable)
        self._weights: list[Variable] = []
        self._states: list[Variable] = []
        self._losses: list[Tensor] = []
        self._initial_weights = weights
        self._batch_input_shape = self._input_shape_argument(batch_size, kwargs)
        self.build_shapes: Any = None

    def _argument_names(self) -> list[str]:
        return [*inspect.signature(type(self).__init__).parameters, *_ARGUMENTS, "batch_size", "weights"]

    @staticmethod
    def _input_shape_argument(batch_size: int | None, kwargs: dict) -> tuple | None:
        whole = kwargs.get("batch_input_shape", kwargs.get("batch_shape"))
        if whole is not None:
            return tuple(whole)
        shape = kwargs.get("input_shape")
        if shape is not None:
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            if not nest.is_shape(shape):
                raise ValueError(f"input_shape must be a tuple of integers or None, received {shape!r}")
            return (batch_size, *shape)
        if kwargs.get("input_dim") is not None:
            if "input_length" in kwargs:
                return (batch_size, kwargs["input_length"], kwargs["input_dim"])
            return (batch_size, kwargs["input_dim"])
        return None

    # -------------------- what subclasses write --------------------

    def build(self, input_shape) -> None:
        """Make the weights for an input of this shape (a tuple, or a structure of them)."""
        self.built = True

    def call(self, inputs, *args, **kwargs):
        """Compute the output from tensors with nbkeras.ops; may take `training` and `mask`."""
        raise NotImplementedError(f"{type(self).__name__} must define call(self, inputs)")

    def compute_output_shape(self, input_shape) -> Any:
        """Shape of the output for a shape of the input; by default found by a dry run of `call`."""
        inputs = graph.symbols(tuple(input_shape) if nest.is_shape(input_shape) else input_shape, self.dtype)
        self._ensure_built(inputs)
        return nest.shapes(graph.infer(self._plain_call, (inputs,), {}))

    def compute_mask(self, inputs, mask=None) -> Any:
        """Mask of the output: the input's for layers with `supports_masking`, else None."""
        return mask if self.supports_masking else None

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs to make this layer again, without its weights.

        A subclass with arguments of its own adds them; one that does not override this gets them as they were passed.
        """
        values: dict[str, Any] = {"name": self.name, "trainable": self._trainable, "dtype": self.dtype}
        if self._batch_input_shape is not None:
            values["batch_input_shape"] = list(self._batch_input_shape)
        if type(self).get_config is Layer.get_config and type(self).__init__ is not Layer.__init__:
            values = {**self._passed_arguments(), "name": self.name}
        return values

    def __new__(cls, *args, **kwargs):
        layer = super().__new__(cls)
        layer._passed = (args, kwargs)
        return layer

    def _passed_arguments(self) -> dict[str, Any]:
        """What the layer was made with, if it is plain values: the configuration of a class that writes none."""
        args, kwargs = self._passed
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for key, value in given.items():
            if not all(leaf is None or isinstance(leaf, str | bool | int | float) for leaf in nest.flatten(value)):
                raise NotImplementedError(
                    f"{type(self).__name__} was made with {key}={value!r}, which cannot be written as it is: define "
                    "get_config (and from_config) in the class"
                )
        return given

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """A layer from what `get_config` returned."""
        return cls(**config)

    # -------------------- weights --------------------

    def add_weight(
        self, shape=None, initializer=None, dtype=None, trainable=True, regularizer=None, constraint=None, name=None
    ) -> Variable:
        """A Variable that training updates and saving keeps; non-trainable ones are written by the layer itself."""
        if isinstance(shape, str):  # Keras 2's order: name, shape, dtype, initializer
            name, shape, dtype, initializer = shape, initializer, dtype if not callable(dtype) else None, name
        dtype = np.dtype(dtype or self.dtype)
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        if any(size is None or size < 0 for size in shape):
            raise ValueError(f"a weight of {self.name!r} needs a full shape, received {shape}")
        if initializer is None:
            initializer = "glorot_uniform" if dtype.kind == "f" else "zeros"
        value = initializers.get(initializer)(shape, dtype=dtype.name)
        variable = Variable(value, name or f"variable_{len(self._weights)}", trainable and self._trainable, dtype)
        variable.path = f"{self.name}/{variable.name}"
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.declared_trainable = trainable
        self._weights.append(variable)
        return variable

    def add_state(self, shape, dtype=None, name: str = "state", value=0) -> Variable:
        """A Variable that the layer writes and that is no weight: a recurrent state, a counter."""
        variable = Variable(np.full(shape, value, dtype or self.dtype), name, trainable=False)
        self._states.append(variable)
        return variable

    def add_loss(self, loss) -> None:
        """Add a scalar (or a tensor, summed) to what training minimises; call it in `call`."""
        for each in loss if isinstance(loss, list | tuple) else [loss]:
            self._losses.append(as_tensor(each))

    def sublayers(self) -> list[Layer]:
        """Layers held in attributes, directly or in lists, tuples and dicts, in the order of assignment."""
        found: dict[int, Layer] = {}
        todo = [value for name, value in reversed(vars(self).items()) if name not in _NOT_SEARCHED]
        while todo:
            value = todo.pop()
            if isinstance(value, Layer):
                found.setdefault(id(value), value)
            elif isinstance(value, dict):
                todo.extend(reversed(value.values()))
            elif isinstance(value, list | tuple):
                todo.extend(reversed(value))
        return list(found.values())

    def all_layers(self) -> list[Layer]:
        """This layer and all below it, each once, depth first."""
        found: dict[int, Layer] = {}
        todo: list[Layer] = [self]
        while todo:
            layer = todo.pop()
            if id(layer) not in found:
                found[id(layer)] = layer
                todo.extend(reversed(layer.sublayers()))
        return list(found.values())

    def own_weights(self) -> list[Variable]:
        """Weights of this layer alone: from add_weight, then Variables set as attributes."""
        known = {id(v) for v in (*self._weights, *self._states)}
        loose = [v for v in vars(self).values() if isinstance(v, Variable) and id(v) not in known]
        own = [*self._weights, *dict.fromkeys(loose)]
        return [v for v in own if v.declared_trainable] + [v for v in own if not v.declared_trainable]

    @property
    def weights(self) -> list[Variable]:
        return list(dict.fromkeys(v for layer in self.all_layers() for v in layer.own_weights()))

    variables = weights

    @property
    def trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable]

    trainable_variables = trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if not v.trainable]

    non_trainable_variables = non_trainable_weights

    @property
    def states_variables(self) -> list[Variable]:
        """Variables of this layer and those below that are no weights."""
        return [v for layer in self.all_layers() for v in layer._states]

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        """Freeze or unfreeze this layer and all below it; compile again for it to take effect on training."""
        for layer in self.all_layers():
            layer._trainable = bool(value)
            for variable in layer.own_weights():
                variable.trainable = bool(value) and variable.declared_trainable
        tensor.invalidate_programs()

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in the order of `weights`."""
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights) -> None:
        """Write all weights in place, in the order of `weights`; all are checked before any is written."""
        own, arrays = self.weights, [np.asarray(w) for w in weights]
        if len(own) != len(arrays):
            raise ValueError(
                f"layer {self.name!r} has {len(own)} weights, received {len(arrays)}. Expected shapes: "
                f"{[v.shape for v in own]}, received {[a.shape for a in arrays]}"
            )
        for variable, array in zip(own, arrays, strict=True):
            if variable.shape != array.shape:
                raise ValueError(
                    f"weight {variable.path!r} has shape {variable.shape}, received an array of shape {array.shape}"
                )
        for variable, array in zip(own, arrays, strict=True):
            variable.assign(array)

    def count_params(self) -> int:
        """Number of weights' elements."""
        if not self.built and not self.weights:
            raise ValueError(f"layer {self.name!r} is not built yet: call it, or give the model an input shape")
        return sum(v.size for v in self.weights)

    @property
    def losses(self) -> list[Tensor]:
        """What add_loss and activity regularizers collected in the last call, and the weights' regularizers."""
        collected = [loss for layer in self.all_layers() for loss in layer._losses]
        penalties = [v.regularizer(v) for v in self.weights if v.regularizer is not None and v.trainable]
        return collected + penalties

    def clear_losses(self) -> None:
        """Forget what the last call collected, here and below."""
        for layer in self.all_layers():
            layer._losses.clear()

    # -------------------- calling --------------------

    def __call__(self, *args, **kwargs):
        if is_symbolic([args, kwargs]):
            return self._symbolic_call(args, kwargs)
        args = tuple(self._convert(arg) for arg in args)
        kwargs = {key: self._convert_array(value) for key, value in kwargs.items()}
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        self._check_input(inputs)
        self._ensure_built(inputs)
        masks = nest.map_leaves(lambda t: getattr(t, "mask", None), inputs)
        has_mask = any(mask is not None for mask in nest.flatten(masks))
        if "training" in self._call_takes and kwargs.get("training") is None:
            kwargs["training"] = bool(_context.training)
        if has_mask and "mask" in self._call_takes and kwargs.get("mask") is None:
            kwargs["mask"] = masks
        outputs = self._named_call(args, kwargs)
        if has_mask or kwargs.get("mask") is not None or type(self).compute_mask is not Layer.compute_mask:
            self._set_masks(inputs, kwargs.get("mask", masks if has_mask else None), outputs)
        if self.activity_regularizer is not None:
            for output in nest.flatten(outputs):
                self.add_loss(ops.divide(self.activity_regularizer(output), output.shape[0]))
        return outputs

    def _named_call(self, args: tuple, kwargs: dict) -> Any:
        names = tensor.layer_stack.names
        names.append(self.name)
        training = kwargs.get("training", _context.training)
        try:
            with training_phase(training):
                outputs = self.call(*args, **kwargs)
        finally:
            names.pop()
        for output in nest.flatten(outputs):
            if not isinstance(output, Tensor | SymbolicTensor) and output is not None:
                raise TypeError(
                    f"{type(self).__name__}.call of layer {self.name!r} must return tensors, received "
                    f"{type(output).__name__}: compute with nbkeras.ops (or nbkeras.backend), not with NumPy"
                )
        return outputs

    def _plain_call(self, *args, **kwargs) -> Any:
        """`call` with `training` filled in, for dry runs."""
        if "training" in self._call_takes and kwargs.get("training") is None:
            kwargs["training"] = bool(_context.training)
        inputs = args[0] if args else None
        masks = nest.map_leaves(lambda t: getattr(t, "mask", None), inputs)
        if "mask" in self._call_takes and "mask" not in kwargs and any(m is not None for m in nest.flatten(masks)):
            kwargs["mask"] = masks
        losses = list(self._losses)
        outputs = self._named_call(args, kwargs)
        self._losses[:] = losses
        return outputs

    def _convert(self, value: Any) -> Any:
        """Arrays, numbers and lists of numbers become tensors; floats get the layer's dtype."""
        if isinstance(value, Tensor):
            return as_tensor(value, self.dtype) if value.dtype.kind == "f" and value.dtype != self.dtype else value
        if isinstance(value, dict):
            return {key: self._convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, int | float | bool) for item in nest.flatten(value)):
                return self._convert(as_tensor(value))
            return type(value)(self._convert(item) for item in value)
        return self._convert_array(value)

    def _convert_array(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return as_tensor(value, self.dtype if value.dtype.kind == "f" else None)
        return value

    def _check_input(self, inputs: Any) -> None:
        if self.input_spec is None:
            return
        specs = self.input_spec if isinstance(self.input_spec, list) else [self.input_spec]
        tensors = nest.flatten(inputs)
        for position, (spec, each) in enumerate(zip(specs, tensors, strict=False)):
            problem = _mismatch(spec, each)
            if problem:
                raise ValueError(
                    f"input {position} of layer {self.name!r} ({type(self).__name__}) is incompatible with it: "
                    f"expected {problem}, received shape {tuple(each.shape)}"
                )

    def _ensure_built(self, inputs: Any) -> None:
        if self.built:
            return
        shapes = nest.shapes(inputs) if not isinstance(inputs, list) else [nest.shapes(i) for i in inputs]
        with tensor.outside_program():
            self.build(shapes)
        self.build_shapes = shapes
        self.built = True
        if self._initial_weights is not None:
            self.set_weights(self._initial_weights)
            self._initial_weights = None

    def _set_masks(self, inputs: Any, masks: Any, outputs: Any) -> None:
        try:
            result = self.compute_mask(inputs, masks)
        except TypeError:
            if nest.flatten(masks) != [None]:
                raise
            result = None
        if result is None:
            if masks is not None and any(m is not None for m in nest.flatten(masks)) and not self._handles_masks():
                self._warn_mask_lost()
            return
        leaves = nest.flatten(outputs)
        given = nest.flatten(result) if isinstance(result, list | tuple | dict) else [result] * len(leaves)
        for output, mask in zip(leaves, given, strict=False):
            if output is not None:
                output.mask = mask

    def _handles_masks(self) -> bool:
        return self.supports_masking or "mask" in self._call_takes or type(self).compute_mask is not Layer.compute_mask

    def _warn_mask_lost(self) -> None:
        if not getattr(self, "_mask_warned", False):
            self._mask_warned = True
            warnings.warn(
                f"layer {self.name!r} ({type(self).__name__}) was given an input with a mask but does not support "
                "masking, so the mask ends here",
                stacklevel=4,
            )

    # -------------------- symbolic calls and nodes --------------------

    def _symbolic_call(self, args: tuple, kwargs: dict) -> Any:
        inputs = args[0] if args else next(iter(kwargs.values()))
        self._check_input(inputs)
        self._ensure_built(inputs)
        masks = nest.map_leaves(lambda t: getattr(t, "mask", None), inputs)
        outputs = self._symbolic_outputs(args, kwargs)
        outputs = graph.connect(self, args, kwargs, outputs)
        has_mask = any(mask is not None for mask in nest.flatten(masks))
        if has_mask or kwargs.get("mask") is not None or type(self).compute_mask is not Layer.compute_mask:
            self._set_masks(inputs, kwargs.get("mask", masks if has_mask else None), outputs)
        return outputs

    def _symbolic_outputs(self, args: tuple, kwargs: dict) -> Any:
        if type(self).compute_output_shape is not Layer.compute_output_shape and len(args) == 1:
            shape = self.compute_output_shape(nest.shapes(args[0]))
            dtypes = [t.dtype for t in nest.flatten(args[0]) if isinstance(t, SymbolicTensor)]
            keeps = self.output_dtype == "input" and dtypes
            return graph.symbols(shape, dtypes[0] if keeps else self.dtype)
        return graph.infer(self._plain_call, args, kwargs)

    def _node(self, index: int, what: str) -> Node:
        if not self.nodes:
            raise AttributeError(f"Layer {self.name} has no inbound nodes: it was never called on a symbolic tensor")
        if not -len(self.nodes) <= index < len(self.nodes):
            raise ValueError(
                f"asked to get {what} at node {index}, but layer {self.name} has only {len(self.nodes)} inbound nodes"
            )
        return self.nodes[index]

    def _single(self, what: str) -> Node:
        if len(self.nodes) > 1:
            raise AttributeError(
                f'Layer {self.name} has multiple inbound nodes, hence the notion of "layer {what}" is ill-defined. '
                f"Use `get_{what.replace(' ', '_')}_at(node_index)` instead."
            )
        return self._node(0, what)

    def _agreed(self, what: str, get: Callable[[Node], Any]) -> Any:
        if not self.nodes:
            raise AttributeError(f"Layer {self.name} has never been called and thus has no defined {what}.")
        shapes = [get(node) for node in self.nodes]
        if any(shape != shapes[0] for shape in shapes):
            raise AttributeError(
                f'Layer {self.name} has multiple inbound nodes, with different {what}s. Hence the notion of "{what}" '
                f"is ill-defined for the layer. Use `get_{what.replace(' ', '_')}_at(node_index)` instead."
            )
        return shapes[0]

    @property
    def input(self) -> Any:
        return self._single("input").call_inputs

    @property
    def output(self) -> Any:
        return self._single("output").outputs

    @property
    def input_mask(self) -> Any:
        return nest.map_leaves(lambda t: t.mask, self._single("input mask").call_inputs)

    @property
    def output_mask(self) -> Any:
        return nest.map_leaves(lambda t: t.mask, self._single("output mask").outputs)

    @property
    def input_shape(self) -> Any:
        return self._agreed("input shape", lambda node: nest.shapes(node.call_inputs))

    @property
    def output_shape(self) -> Any:
        return self._agreed("output shape", lambda node: nest.shapes(node.outputs))

    def get_input_at(self, node_index: int) -> Any:
        """The input of the layer's node_index-th call."""
        return self._node(node_index, "input").call_inputs

    def get_output_at(self, node_index: int) -> Any:
        """The output of the layer's node_index-th call."""
        return self._node(node_index, "output").outputs

    def get_input_shape_at(self, node_index: int) -> Any:
        """The shape of the input of the layer's node_index-th call."""
        return nest.shapes(self.get_input_at(node_index))

    def get_output_shape_at(self, node_index: int) -> Any:
        """The shape of the output of the layer's node_index-th call."""
        return nest.shapes(self.get_output_at(node_index))

    def get_input_mask_at(self, node_index: int) -> Any:
        """The mask of the input of the layer's node_index-th call."""
        return nest.map_leaves(lambda t: t.mask, self.get_input_at(node_index))

    def get_output_mask_at(self, node_index: int) -> Any:
        """The mask of the output of the layer's node_index-th call."""
        return nest.map_leaves(lambda t: t.mask, self.get_output_at(node_index))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


_NOT_SEARCHED = {"_passed", "nodes", "_weights", "_states", "_losses"}


def _mismatch(spec: InputSpec, each: Any) -> str:
    """What a spec wants that an input lacks, or ''."""
    shape = tuple(each.shape)
    if spec.ndim is not None and len(shape) != spec.ndim:
        return f"ndim={spec.ndim}"
    if spec.min_ndim is not None and len(shape) < spec.min_ndim:
        return f"min_ndim={spec.min_ndim}"
    for axis, size in (spec.axes or {}).items():
        if size is not None and (axis >= len(shape) or shape[axis] not in (size, None)):
            return f"axis {axis} of the input to have size {size}"
    if spec.shape is not None:
        agree = len(shape) == len(spec.shape) and all(
            a is None or b is None or a == b for a, b in zip(shape, spec.shape, strict=True)
        )
        if not agree:
            return f"shape {spec.shape}"
    return ""


class InputLayer(Layer):
    """Where a functional model's input enters."""

    def __init__(self, shape=None, batch_size=None, dtype=None, name=None, batch_shape=None, **kwargs):
        batch_shape = batch_shape if batch_shape is not None else kwargs.pop("batch_input_shape", None)
        shape = shape if shape is not None else kwargs.pop("input_shape", None)
        if batch_shape is None:
            if shape is None:
                raise ValueError("Input needs shape=(...), without the batch axis, or batch_shape=(batch, ...)")
            if isinstance(shape, int) or not nest.is_shape(shape):
                raise ValueError(f"Input's shape must be a tuple of integers or None, received {shape!r}")
            batch_shape = (batch_size, *shape)
        super().__init__(name=name or unique_name("input_layer"), **kwargs)
        self.dtype = np.dtype(dtype or config.floatx()).name
        self._batch_input_shape = tuple(batch_shape)
        self.built = True
        symbol = SymbolicTensor(batch_shape, self.dtype, self.name)
        Node(self, (), {}, symbol)

    @property
    def batch_shape(self) -> tuple:
        return self._batch_input_shape  # type: ignore[return-value]

    def call(self, inputs):
        return inputs

    def get_config(self):
        return {"batch_shape": list(self.batch_shape), "dtype": self.dtype, "name": self.name}


def Input(shape=None, batch_size=None, dtype=None, name=None, batch_shape=None, tensor=None, **kwargs):  # noqa: N802
    """A symbolic input of a functional model: `shape` without the batch axis, or the whole `batch_shape`."""
    if tensor is not None:
        raise ValueError("Input(tensor=...) is not offered: pass the array to fit, predict or the model itself")
    return InputLayer(shape, batch_size, dtype, name, batch_shape, **kwargs).output


class Operation(Layer):
    """An op of nbkeras.ops in a functional graph: what `x + y` or `ops.mean(x)` on symbolic tensors becomes."""

    def __init__(self, function, name=None, **kwargs):
        if isinstance(function, str):
            found = getattr(ops, function, None)
            if function.startswith("_") or not hasattr(found, "__wrapped__"):
                raise ValueError(f"{function!r} is not an op of nbkeras.ops{nearest(function, vars(ops))}")
            function = found
        super().__init__(name=name or unique_name(function.__name__), **kwargs)
        self.function = function
        self.built = True

    def call(self, *args, **kwargs):
        return self.function(*args, **kwargs)

    def _convert(self, value):  # ops convert their own arguments; shapes among them must stay tuples
        return value

    def _convert_array(self, value):
        return value

    def _symbolic_outputs(self, args, kwargs):
        return graph.infer(self.function, args, kwargs)

    def _warn_mask_lost(self):  # an op on a tensor drops its mask, as in Keras
        pass

    def get_config(self):
        return {"function": self.function.__name__, "name": self.name}


SymbolicTensor.operation = Operation
