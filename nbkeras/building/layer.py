"""Floor 2: Layer, the class of every layer and model: building, calling, masks, and the shapes of symbolic calls."""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypedDict

import numpy as np

from nbkeras import building, ops, regularizers
from nbkeras.building import graph
from nbkeras.building.graph import CallHistory, SymbolicTensor, is_symbolic
from nbkeras.building.input_spec import InputSpec as InputSpec
from nbkeras.building.input_spec import mismatch
from nbkeras.building.module import Module
from nbkeras.engine import (
    build_lock,
    compatibility,
    dtype_policy,
    learning_phase,
    load_budget,
    option,
    settings,
    step_lock,
    structures,
    tape,
    tensor,
)
from nbkeras.engine.annotations import briefly
from nbkeras.engine.documentation import ConstructorSignature
from nbkeras.engine.dtype_policy import DTypePolicy
from nbkeras.engine.naming import checked, scopes, snake_case, unique_name
from nbkeras.engine.observed import observe
from nbkeras.engine.registry import Registered, Registry, custom_object_scope, is_sharing, nearest
from nbkeras.engine.temporary import temporarily
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, on_own_device
from nbkeras.engine.user_errors import set_by_init, warn


def _takes(method: Any, *arguments: Any) -> bool:
    """Whether a method has parameters for these arguments."""
    try:
        inspect.signature(method).bind(*arguments)
    except TypeError:
        return False
    return True


class _Layers(Registry):
    """Layers by name. A file also has the `build_config` of a layer that defines one or is built for several arguments."""

    def _written(self, item):
        written = super()._written(item)
        # files hold an InputLayer instead; Keras 3 does not have this argument
        if compatibility.current.writes_input_shape:
            written["config"].pop("batch_input_shape", None)
        if item._build_takes or type(item).get_build_config is not Layer.get_build_config:
            written["build_config"] = item.get_build_config()
        return written

    def _made(self, cls, config):
        # code may name a file to read, but a model file may not
        if isinstance(config["config"].get("vocabulary"), str):
            raise ValueError(
                f"the configuration of {cls.__name__} names a file for its vocabulary: loading a model may not read other files"
            )
        layer = super()._made(cls, config)
        if config.get("build_config") and getattr(cls, "build_from_config", None) is not Layer.build_from_config:
            layer.build_from_config(config["build_config"])
            layer.built = True
        return layer


layers = _Layers("layer")
_FLOATS = {name: np.dtype(name) for name in ("float32", "float64")}


class _Context(threading.local):
    building: Any = None  # the layer whose `build` runs
    path = ""  # its path
    depth = 0  # the number of layers whose call was running when its `build` began
    made: Callable | None = None  # called with each new layer; for RematScope


context = _Context()


@contextlib.contextmanager
def naming_parts(layer: Layer) -> Iterator[None]:
    """In the block, the paths of the layers that are built begin with this layer's path."""
    names = tensor.layer_stack.names
    outer = [*scopes.names, *names] if context.building is None else [context.path, *names[context.depth :]]
    layer.path = "/".join([*outer, layer.name])
    with temporarily(context, building=layer, path=layer.path, depth=len(names)):
        yield


def _entered(build: Callable) -> Callable:
    """Wrap a class's `build`: the wrapper also keeps the shapes, sets the initial weights and marks the layer as built.

    If `build` calls the `build` of a base class, only the outer call does this.
    """
    names = tuple(inspect.signature(build).parameters)[1:]

    @on_own_device
    @functools.wraps(build)
    def enter(self, *args, **kwargs) -> None:
        if context.building is self:
            return build(self, *args, **kwargs)
        with build_lock.building(self):
            if self.built and self._weights:
                raise ValueError(f"{self!r} is built already: its weights exist. Make a new layer for another shape")
            before, keeps_losses = len(self._losses), compatibility.current.keeps_losses_of_build
            recording = tape.GradientRecording() if keeps_losses else contextlib.nullcontext()
            with tensor.outside_program(), naming_parts(self), recording:
                if isinstance(self._policy, dtype_policy.DTypePolicyMap) and self.quantized_channels:
                    self.quantization_mode = self._policy[self.path].quantization_mode
                if self.quantization_mode is not None:
                    self.quantization_config = dtype_policy.quantized.config_of_layer(self)
                build(self, *args, **kwargs)
                if self.quantization_mode is not None:
                    self.quantization_config._built(self)
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            shapes = {name: shape for name, shape in given.items() if shape is not None}
            if shapes:
                self.build_shapes = shapes if self._build_takes else next(iter(shapes.values()))
            self.built = True
            if self._initial_weights is not None:
                self.set_weights(self._initial_weights)
                self._initial_weights = None
            if keeps_losses:
                self._keep_losses(before)

    return enter


class BasicOptions(TypedDict, total=False):
    """The options that each layer takes as **kwargs, for type checkers and editors."""

    name: str | None
    dtype: Any
    trainable: bool
    autocast: bool
    batch_size: int | None
    input_shape: Any
    batch_input_shape: Any
    batch_shape: Any


class CommonOptions(BasicOptions, total=False):
    """The options of layers whose signature does not name any of these."""

    input_dim: int
    input_length: int
    weights: Any
    quantization_config: Any


class LayerOptions(CommonOptions, total=False):
    """The options of layers whose signature does not name activity_regularizer either."""

    activity_regularizer: option.Regularizer


class Layer(Module, CallHistory, Registered, registry=layers):
    """A callable with weights and states: the base of all layers and models.

    A subclass makes its weights in `build` and computes its output in `call`. It defines `get_config` if its arguments are
    not all plain values, and `compute_output_shape` if a dry run of `call` is not enough. Layers in its attributes, or in lists,
    tuples and dicts there, are sublayers: their weights and losses belong to the layer too.

    The first call builds the layer for the shape of its input. The first layer of a Sequential also takes this shape as an
    argument: `input_shape=(...)` without the batch axis, `input_dim=n` for (n,), with `input_length=m` for (m, n), or
    `batch_input_shape=(...)` with the batch axis.

    Args:
        name (str, or None): A name that is unique in a model; by default one is made from the class.
        dtype (str, or None): The dtype of weights and computation, or a policy such as 'mixed_bfloat16'; None for the default.
            'int8_from_float32': the weights that `quantize` converts are integers, initially zero.
        trainable (bool): Whether training changes the weights.
        batch_size (an integer, or None): The size of each batch, used with `input_shape` or `input_dim`; None for any.
        weights (a list of arrays, or None): Initial values of all weights, in the order of `set_weights`.
        activity_regularizer (a regularizer, or None): Penalty on the outputs: added to the loss, divided by the batch size.
        autocast (bool): Whether floating-point inputs are cast to the layer's dtype.

    Raises:
        TypeError: for an argument that the layer does not have.
        ValueError: for an argument with a wrong value, and for an input whose shape does not fit.

    Example:
        >>> class Scale(layers.Layer):
        ...     def build(self, input_shape):
        ...         self.factor = self.add_weight(shape=input_shape[-1:], initializer="ones", name="factor")
        ...     def call(self, inputs):
        ...         return inputs * self.factor
        >>> layer = Scale()
        >>> layer(np.array([[2.0, 3.0]])).numpy()
        array([[2., 3.]], dtype=float32)
        >>> [weight.shape for weight in layer.weights]
        [(2,)]
    """

    _passed: tuple[tuple, dict[str, Any]]  # the constructor's arguments
    _phase: bool | None = None  # the fixed learning phase; None: the phase of the call
    _without_parts = Module._without_parts | {"_passed", "_inbound_nodes", "input_spec", "build_shapes"}
    supports_masking = False
    # the names of the layers that built it and its own, such as 'block/query'; None before that
    path: str | None = None
    input_spec: Any = None
    # whether its inputs may be strings; only layers of the host part of a graph: see host_graph.py
    _takes_strings = False
    _takes_structures = False  # whether a layer of nbkeras also takes its single input in a list or dict
    input_dtype: str | None = None  # dtype of the input if the layer is first in a Sequential; None: the layer's
    trains_by_default = False  # the default of `training` outside fit, evaluate and predict
    output_dtype = "layer"  # 'input' for layers that only move elements: their output has the input's dtype
    _indexed_rows: int | None = None  # the rows of the table that its input indexes, if it looks them up
    variable_dtype = property(lambda layer: layer.dtype, doc="The dtype of weights, the same as `dtype`.")
    compute_dtype = property(
        lambda layer: layer.dtype if layer._policy is None else layer._policy.compute_dtype, doc="The dtype of results."
    )
    # whether it computes in float32 if its policy has 16 bits, as Keras's normalizations do
    computes_in_float32 = False
    is_quantized_by_keras = False  # whether Keras's `quantize` takes layers of this class too
    _unwritten: tuple[str, ...] = ()  # entries that `get_config` omits
    _policy: DTypePolicy | None = None  # the policy argument, if it contains more than a dtype

    def __init_subclass__(cls, defaults: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """registered=False: an abstract class, which no file may name. defaults: they override the base class's defaults."""
        inherits = cls.__module__.startswith("nbkeras.") and "__init__" not in vars(cls)
        if defaults is not None or inherits and option.has_required(cls.__init__):
            cls.__init__ = option.inherited_init(cls, defaults or {})  # type: ignore[method-assign]
        parameters = inspect.signature(cls.call).parameters if "call" in cls.__dict__ else None
        if parameters is not None:
            cls._call_takes, cls._call_names = frozenset(parameters), tuple(parameters)[1:]
            positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
            places = [place for place, name in enumerate(positional[1:]) if place and name in ("training", "mask")]
            cls._call_filled = range(places[0] + 1, len(positional)) if places else range(0)
            cls._call_masked = tuple(name for name in cls._call_names if f"{name}_mask" in parameters)
            cls._call_takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        # the class's `build` or a mixin's
        if cls.build not in [base.build for base in cls.__mro__[1:] if issubclass(base, Layer)]:
            shapes = tuple(name for name in inspect.signature(cls.build).parameters if name.endswith("_shape"))
            cls._build_takes = shapes if len(shapes) > 1 else ()
            cls.build = _entered(cls.build)  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    _call_takes: frozenset[str] = frozenset()
    _call_takes_any = False
    _call_names: tuple[str, ...] = ()
    # the arguments whose masks are other arguments, such as `query` and `query_mask`
    _call_masked: tuple[str, ...] = ()
    # The counts of positional arguments that include `training` or `mask`; a call fills these two in by name.
    _call_filled = range(0)
    _build_takes: tuple[str, ...] = ()  # query_shape, value_shape, ... of a layer that is built for several arguments

    def __init__(
        self,
        name: str | None = None,
        dtype: Any = None,
        trainable: bool = True,
        batch_size: int | None = None,
        weights: Any = None,
        activity_regularizer: Any = None,
        autocast: bool = True,
        **kwargs,
    ):
        for key in kwargs:
            unused = kwargs[key] is None or kwargs[key] is False  # a file may hold an unused option of another Keras
            if key not in LayerOptions.__annotations__ and not (unused and is_sharing()):
                raise TypeError(
                    f"{type(self).__name__} got an unexpected argument {briefly(key)}.{nearest(key, self._argument_names())}"
                )
        Module.__init__(self, trainable)
        CallHistory.__init__(self)
        self.name: str = checked("layer", name) or unique_name(snake_case(type(self).__name__))
        policy = dtype_policy.of(dtype)
        self.dtype, self.quantization_mode = policy.variable_dtype, policy.quantization_mode
        self._policy = None if policy == DTypePolicy(self.dtype) else policy
        if self.quantization_mode is not None and not self.quantized_channels:
            raise ValueError(
                f"{type(self).__name__} has no weights that can be integers: use dtype={briefly(self.dtype)}"
            )
        if kwargs.get("quantization_config") is not None:
            self.quantization_config = dtype_policy.quantized.config_from(kwargs["quantization_config"])
        self.built = False
        self.activity_regularizer: Any = regularizers.get(activity_regularizer)
        self.autocast = option.flag_of(type(self).__name__, "autocast", autocast)
        self._initial_weights = weights
        shape = self._input_shape_argument(batch_size, kwargs)
        self._batch_input_shape = None if shape is None else tuple(n if n is None else int(n) for n in shape)
        self.build_shapes: Any = None
        self._gpu = tensor.gpu()  # the current device: its weights stay there, and it computes there

    def _argument_names(self) -> list[str]:
        own = inspect.signature(type(self).__init__).parameters
        return [*own, *option.of_class(type(self)), *LayerOptions.__annotations__]

    @staticmethod
    def _input_shape_argument(batch_size: int | None, kwargs: dict) -> tuple | None:
        batch_shape = kwargs.get("batch_input_shape", kwargs.get("batch_shape"))
        if batch_shape is not None:
            if not structures.is_shape(batch_shape := structures.listed(batch_shape)):
                raise ValueError(f"batch_shape must be a tuple of integers or None, received {briefly(batch_shape)}")
            return batch_shape
        shape = kwargs.get("input_shape")
        if shape is not None:
            shape = (shape,) if isinstance(shape, int) else structures.listed(shape)
            if not structures.is_shape(shape):
                raise ValueError(f"input_shape must be a tuple of integers or None, received {briefly(shape)}")
            return (batch_size, *shape)
        if kwargs.get("input_dim") is not None:
            if "input_length" in kwargs:
                return (batch_size, kwargs["input_length"], kwargs["input_dim"])
            return (batch_size, kwargs["input_dim"])
        return None

    # -------------------- methods for subclasses --------------------

    @_entered
    def build(self, input_shape) -> None:
        """Make the weights, once, before the first call. Subclasses override it; afterwards the layer is `built`.

        A layer whose `call` has several arguments may take their shapes by name: `build(self, query_shape, value_shape)`.

        Args:
            input_shape: The shape of the input, a tuple with None for unknown sizes; a list or dict of shapes for several inputs.
        """
        self.built = True  # set it now, because a subclass's `build` may call the layer after `super().build`

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the output with nbkeras.ops. Each subclass overrides it.

        Args:
            inputs: A tensor, or a list or dict of tensors.
            *args: Further tensors or options.
            **kwargs: Further tensors or options. A `call` that names `training` gets True in `fit` and False in `predict`; one
                that names `mask` gets the mask of the inputs.

        Returns:
            A tensor, or a structure of tensors.

        Raises:
            NotImplementedError: if the subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define call(self, inputs)")

    def compute_output_shape(self, input_shape) -> Any:
        """The output shape for an input shape. The default makes a dry run of `call`, which builds the layer.

        Args:
            input_shape: The shape with the batch axis, None for unknown sizes; a list or dict of shapes for several inputs.

        Returns:
            A tuple, or a structure of tuples.

        Example:
            >>> layers.Dense(4).compute_output_shape((None, 3))
            (None, 4)
        """
        if compatibility.current.own_layers_keep_shape:
            asking = next(cls for cls in type(self).__mro__ if "compute_output_shape" in vars(cls))
            if not asking.__module__.startswith("nbkeras."):
                return input_shape
        inputs = graph.symbols(input_shape, self.compute_dtype)
        self._ensure_built(inputs)
        return structures.shapes(graph.infer(self._plain_call, (inputs,), {}))

    def compute_mask(self, inputs, mask=None) -> Any:
        """The mask of the output: the input's mask for layers with `supports_masking`, else None.

        Args:
            inputs: The inputs of the call.
            mask: Their masks, in the same structure; None for no mask.
        """
        return mask if self.supports_masking else None

    def get_config(self) -> dict[str, Any]:
        """The configuration, without weights; `from_config` makes the layer again from it.

        The configuration has `name`, `trainable`, `dtype` and the options that the class declares. Your own subclass adds its
        arguments. If it does not define `get_config`, the configuration has the constructor's arguments.

        Returns:
            A dict of values that JSON can write.

        Raises:
            NotImplementedError: for a class without `get_config`, if an argument of its constructor is not a plain value.

        Example:
            >>> layers.RepeatVector(3, name="again").get_config()
            {'name': 'again', 'trainable': True, 'dtype': 'float32', 'n': 3}
        """
        values: dict[str, Any] = {"name": self.name, "trainable": self._trainable, **self._written_policy()}
        if self.activity_regularizer is not None:
            values["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        if not self.autocast and "autocast" in self._passed[1]:  # a class may pass it to its base class itself
            values["autocast"] = False
        declared = option.config_of(self)
        undeclared = not declared and type(self).__init__ is not Layer.__init__
        if undeclared and self._has_no_get_config():
            values = {**self._passed_arguments(), "name": self.name}
        values |= declared
        if self._batch_input_shape is not None and compatibility.current.writes_input_shape:
            values["batch_input_shape"] = self._batch_input_shape
        return {name: value for name, value in values.items() if name not in self._unwritten}

    @property
    def dtype_policy(self) -> DTypePolicy:
        """`dtype` as a policy, which also says whether weights are integers; set it before the weights exist."""
        if isinstance(self._policy, dtype_policy.DTypePolicyMap):
            return self._policy
        if self.quantization_mode is None:
            return self._policy or DTypePolicy(self.dtype)
        return dtype_policy.quantized.policy_of_layer(self)

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        policy = dtype_policy.get(value)
        if self._weights and policy.variable_dtype != self.dtype:
            raise ValueError(
                f"layer {self.name!r} has weights of dtype {self.dtype!r} already: make a layer with dtype={briefly(policy.name)}"
            )
        self._policy, self.dtype = policy, policy.variable_dtype
        if policy.quantization_mode is not None and self.quantization_mode is None:
            self.quantize(policy.quantization_mode)

    def quantize(
        self, mode: Any = None, config: Any = None, *, type_check: bool = True, beyond_keras: bool = False
    ) -> None:
        """Convert the layer's kernels to integers of 8 or 4 bits with scales; see `Model.quantize`.

        Args:
            mode: 'int8', 'int4' or 'float8'.
            config: A configuration of `quantizers`, instead of `mode` or together with it.
            type_check: Whether to refuse your own classes that extend a layer of nbkeras, as Keras does.
            beyond_keras: Whether to convert convolutions and recurrent cells too.

        Raises:
            NotImplementedError: for a class without kernels that can be integers.
            ValueError: for another mode, and for a layer that is not built yet, or quantized already.

        Example:
            >>> layer = layers.Dense(2)
            >>> layer.build((None, 3))
            >>> layer.quantize("int8")
            >>> layer.kernel.dtype.name, layer.kernel_scale.shape, layer.quantization_mode
            ('int8', (2,), 'int8')
        """
        dtype_policy.quantized.quantize_layer(self, mode, config, type_check, beyond_keras)

    def channels_of_scale(self, name: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of a quantized weight that have separate scales, and the shape of its stored scale.

        Args:
            name: The weight's name.
            shape: The weight's shape.
        """
        channels = tuple(axis % len(shape) for axis in self.quantized_channels[name])
        return channels, tuple(shape[axis] for axis in channels)

    def _option_weight(
        self, shape: Any, what: str, name: str | None = None, initializer: Any = None, **flags: bool
    ) -> Variable:
        """Make a weight with the layer's initializer, regularizer and constraint for `what` ('kernel').

        name: the weight's name, if it is not `what`. initializer: replaces the layer's.
        """
        initializer = initializer or getattr(self, f"{what}_initializer")
        others: dict[str, Any] = {each: getattr(self, f"{what}_{each}", None) for each in ("regularizer", "constraint")}
        return self.add_weight(shape, initializer, name=name or what, **others, **flags)

    def _attribute_of(self, name: str) -> str:
        """The attribute that holds the weight of this name."""
        return name

    def _made_parts(self) -> list[Layer]:
        """The sublayers that this layer makes itself and that are not in its configuration."""
        return []

    def _written_policy(self) -> dict[str, Any]:
        """The configuration's entry for `dtype`, and `quantization_config` if it is not the default.

        Keras reads no such entry of an attention layer, and its ReversibleEmbedding of int4 needs one: without it, inputs are
        rounded.
        """
        parts = [part for part in self._made_parts() if part.quantization_mode is not None]
        if self.quantization_mode is None and not parts:
            policy = self.dtype_policy
            is_map = isinstance(policy, dtype_policy.DTypePolicyMap)
            return {"dtype": dtype_policy.serialize(policy) if is_map else policy.name}
        first, policy = self, self.dtype_policy
        if parts:
            first, policies = parts[0], {f"{self.name}/{part.name}": part.dtype_policy for part in parts}
            policy = dtype_policy.DTypePolicyMap(self.dtype, policies)
        written: dict[str, Any] = {"dtype": dtype_policy.serialize(policy)}
        config = first.quantization_config
        if config is not None and not (config.is_usual and (parts or not config._is_written_always)):
            written["quantization_config"] = option.written(config)
        return written

    def dtype_of_part(self, name: str) -> str:
        """The name of the dtype policy of a sublayer that this layer makes itself.

        Args:
            name: The sublayer's name.
        """
        if not isinstance(self._policy, dtype_policy.DTypePolicyMap):
            return self.dtype if self._policy is None else self._policy.name
        own = f"{self.name}/{name}"  # in a file, the path starts at the outermost layer
        return self._policy[next((path for path in self._policy if path.endswith(f"/{own}")), own)].name

    __signature__ = ConstructorSignature()

    def __new__(cls, *args, **kwargs):
        layer = super().__new__(cls)
        layer._passed = (args, kwargs)
        if context.made is not None:
            context.made(layer)
        return layer

    def _has_no_get_config(self) -> bool:
        """Whether the class does not define `get_config`."""
        return type(self).get_config is Layer.get_config

    def _passed_arguments(self) -> dict[str, Any]:
        """The constructor's arguments, which must be plain values: the configuration of a class without a `get_config`."""
        args, kwargs = self._passed
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for key, value in given.items():
            if not all(
                leaf is None or isinstance(leaf, str | bool | int | float) for leaf in structures.flatten(value)
            ):
                raise NotImplementedError(
                    f"{type(self).__name__} was made with {key}={briefly(value)}, which is not a plain value: define "
                    "get_config (and from_config) in the class"
                )
        return given

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Self:
        """Make a layer with new weights from a result of `get_config`.

        Args:
            config: The configuration.
            custom_objects: Your own classes and functions that the configuration names: name -> object.

        Example:
            >>> config = layers.Dense(4, activation="relu").get_config()
            >>> layers.Dense.from_config(config).units
            4
        """
        with custom_object_scope(custom_objects):
            try:
                inspect.signature(cls.__init__).bind(None, **config)
            except TypeError as error:
                raise TypeError(
                    f"{cls.__name__} cannot be made from its configuration, {briefly(list(config))}: {error}. Let its __init__ "
                    "take **kwargs and call super().__init__(**kwargs); get_config must return all other arguments"
                ) from None
            return cls(**config)

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes for which the layer was built; `build_from_config` makes the weights from them. None before `build`.

        If `build` takes several shapes, the entry is 'shapes_dict', with a shape for each argument.
        """
        if self.build_shapes is None:
            return None
        return {"shapes_dict" if self._build_takes else "input_shape": self.build_shapes}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Make the weights from a result of `get_build_config`. It does nothing if the layer is built.

        Args:
            config: The result; JSON files turn its tuples into lists.

        Example:
            >>> layer, same = layers.Dense(2), layers.Dense(2)
            >>> outputs = layer(np.ones((1, 3)))
            >>> same.build_from_config(layer.get_build_config())
            >>> same.kernel.shape
            (3, 2)
        """
        shapes = structures.map_shapes(tuple, config.get("shapes_dict" if self._build_takes else "input_shape"))
        if shapes is not None and not self.built:
            self.build(**shapes) if self._build_takes else self.build(shapes)

    # -------------------- calling --------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._gpu is not tensor.gpu():
            with tensor.on_gpu(self._gpu):
                return self(*args, **kwargs)
        if len(args) in self._call_filled:  # pass the rest by name, since `training` and `mask` are filled in by name
            first = self._call_filled.start - 1
            rest = dict(zip(self._call_names[first:], args[first:], strict=False))
            if not rest.keys() & kwargs.keys():
                args, kwargs = args[:first], {**rest, **kwargs}
        for value in (*args, *kwargs.values()) if kwargs else args:
            if type(value) not in tensor.NOT_SYMBOLIC and is_symbolic(value):
                return self._symbolic_call(args, kwargs)
        if tensor.layer_stack.names:
            return self.call_by(self.call, args, kwargs)
        turn = step_lock.enter()  # `set_weights` in another thread waits: a call uses only old or only new weights
        try:
            return self.call_by(self.call, args, kwargs)
        finally:
            step_lock.leave(turn)

    def call_by(self, call: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call the layer with another function in place of `call`.

        The function takes the same arguments. Everything else is as in a call.

        Args:
            call: The function.
            args: The arguments, tensors or arrays.
            kwargs: The keyword arguments.
        """
        args = tuple(map(self._convert, args))
        kwargs = {key: self._convert_array(value) for key, value in kwargs.items()} if kwargs else {}
        inputs, masks = self._prepared(args, kwargs)
        if not tensor.layer_stack.names:  # the outermost call drops the losses of the last one, as in Keras
            self.clear_losses()
        named = self._by_name(args, kwargs) if self._call_masked else {}
        if masks is not None or "training" in self._call_takes:
            self._fill_arguments(args, kwargs, masks)
        for name in self._call_masked:
            mask = f"{name}_mask"
            if name in named and mask in self._call_names[len(args) :] and named.get(mask) is None:
                kwargs[mask] = graph.masks(named[name])
        outputs = self._named_call(call, args, kwargs)
        if masks is not None or "mask" in kwargs or self._makes_masks():
            self._pass_masks(inputs, masks, kwargs, outputs)
        if self.activity_regularizer is not None:
            for output in structures.flatten(outputs):
                self.add_loss(ops.divide(self.activity_regularizer(output), max((*output.shape[:1], 1))))
        return outputs

    def _prepared(self, args: tuple, kwargs: dict) -> tuple[Any, Any]:
        """Check a call's arguments and build the layer. Returns the first argument and its masks."""
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        self._check_input(inputs)
        if not self.built or build_lock.unfinished:
            self._ensure_built(inputs, self._by_name(args, kwargs))
        return inputs, _masks(inputs)

    def _by_name(self, args: tuple, kwargs: dict) -> dict[str, Any]:
        """All arguments of a call by name."""
        return {**dict(zip(self._call_names, args, strict=False)), **kwargs}

    def _fill_arguments(self, args: tuple, kwargs: dict, masks: Any) -> None:
        """Add `training` and the first argument's masks to the keyword arguments, if `call` takes them."""
        if "training" in self._call_takes and kwargs.get("training") is None:
            phase = learning_phase.thread.training
            kwargs["training"] = self.trains_by_default if phase is None else phase
        if masks is not None and "mask" in self._call_takes and kwargs.get("mask") is None:
            if self._takes_mask(self._by_name(args, kwargs)):
                kwargs["mask"] = masks

    def _named_call(self, call: Callable, args: tuple, kwargs: dict) -> Any:
        load_budget.step()
        if tensor.is_step_recorded():
            observe(self)
        names = tensor.layer_stack.names
        names.append(self.name)
        if self._phase is not None:
            kwargs = {**kwargs, "training": self._phase}
        if tensor.halves is not None:
            call = tensor.halves.scoped(self, call)
        phase = learning_phase.thread
        before = phase.training
        training = kwargs.get("training", before)
        # it still applies to the sublayers
        if "training" in kwargs and "training" not in self._call_takes and not self._call_takes_any:
            kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        phase.training = training
        try:
            outputs = call(*args, **kwargs)
        finally:
            names.pop()
            phase.training = before
        if type(outputs) is Tensor:
            return outputs
        for output in structures.flatten(outputs):
            if isinstance(output, SymbolicTensor) and not structures.find(SymbolicTensor, [args, kwargs]):
                raise ValueError(
                    f"{self!r} computes with a symbolic tensor that is not among its inputs: call it on a list with that tensor "
                    "in it, such as Lambda(function)([x, other])"
                )
            if not isinstance(output, Tensor | SymbolicTensor) and output is not None:
                raise TypeError(
                    f"{type(self).__name__}.call of layer {self.name!r} must return tensors, received "
                    f"{type(output).__name__}: compute with nbkeras.ops (or nbkeras.backend), not with NumPy"
                )
        return outputs

    def _takes_mask(self, named: dict[str, Any]) -> bool:
        """Whether to pass the first argument's mask to `call`. In Keras 3, no other argument may be a tensor."""
        tensors = [value for value in named.values() if structures.find((Tensor, np.ndarray), value)]
        return len(tensors) < 2 or compatibility.current.masks_reach_calls_with_several_tensors

    def _plain_call(self, *args, **kwargs) -> Any:
        """`call` with `training` and the mask filled in, for dry runs."""
        self._fill_arguments(args, kwargs, _masks(args[0] if args else None))
        losses = {id(each): list(each._losses) for each in self._all_layers()}
        outputs = self._named_call(self.call, args, kwargs)
        for each in self._all_layers():
            each._losses[:] = losses.get(id(each), [])
        return outputs

    def _convert(self, value: Any) -> Any:
        """Convert arrays, numbers and lists of numbers to tensors; floats get the layer's dtype if it is a float dtype."""
        if isinstance(value, Tensor):
            if tensor.halves is None and value.data.dtype is _FLOATS.get(self.dtype):
                return as_tensor(value)
            return as_tensor(value, self._dtype_for(value))
        if isinstance(value, dict):
            return {key: self._convert(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, int | float | bool) for item in structures.flatten(value)):
                return self._convert(as_tensor(value))
            return type(value)(self._convert(item) for item in value)
        return self._convert_array(value)

    def _dtype_for(self, value: Any) -> str | None:
        """The dtype to which a call casts an argument; None for its own."""
        casts = value.dtype.kind in "fV" and self.autocast and "float" in self.compute_dtype  # V: bfloat16
        return self.compute_dtype if casts else None

    def _convert_array(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return as_tensor(value, self._dtype_for(value))
        if isinstance(value, Tensor) or not (hasattr(value, "__array__") or hasattr(value, "toarray")):
            return value
        return self._convert(as_tensor(value))  # pandas tables, tensors of other libraries; raises for scipy's matrices

    def _check_input(self, inputs: Any) -> None:
        if self.input_spec is None:
            return
        if type(inputs) is Tensor and isinstance(self.input_spec, InputSpec) and not mismatch(self.input_spec, inputs):
            return
        specs = [self.input_spec] if isinstance(self.input_spec, InputSpec) else list(self.input_spec)
        by_name = isinstance(inputs, dict) and all(spec is not None and spec.name for spec in specs)
        tensors = [inputs.get(spec.name) for spec in specs] if by_name else self._checked_inputs(inputs)
        if len(tensors) != len(specs):
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) takes {len(specs)} input{'s' * (len(specs) > 1)}, received "
                f"{len(tensors)}: call it on each of them, or put them together by ops.stack or ops.concatenate"
            )
        for position, (spec, each) in enumerate(zip(specs, tensors, strict=True)):
            problem = mismatch(spec, each)
            if problem:
                received = f"shape {tuple(each.shape)}, dtype {each.dtype}" if hasattr(each, "shape") else briefly(each)
                raise ValueError(
                    f"input {spec.name or position} of layer {self.name!r} ({type(self).__name__}) is incompatible with it: "
                    f"expected {problem}, received {received}"
                )

    def _checked_inputs(self, inputs: Any) -> list:
        """The inputs that `input_spec` describes. Raises ValueError for a list or dict around a single input."""
        tensors = structures.flatten(inputs)
        if len(tensors) == 1 and structures.is_nested(inputs) and isinstance(self.input_spec, InputSpec):
            # a user's layer may take any structure
            by_nbkeras = type(self).call.__module__.startswith("nbkeras.layers.")
            if by_nbkeras and not self._takes_structures:
                received = f"a dict with the keys {list(inputs)}" if isinstance(inputs, dict) else "a list of one"
                raise ValueError(
                    f"layer {self.name!r} ({type(self).__name__}) takes a tensor, received {received}: pass the tensor itself"
                )
        return tensors

    def _ensure_built(self, inputs: Any, named: dict[str, Any] | None = None) -> None:
        """Build once, for the first argument, or for all arguments if `build` takes several shapes.

        named: the arguments by name; None if the first is the only one.
        """
        if self.built and self not in build_lock.unfinished:
            return
        with build_lock.building(self):
            if not self.built:
                self._build_for(inputs, named)

    def _build_for(self, inputs: Any, named: dict[str, Any] | None) -> None:
        if self._build_takes:
            named = {self._call_names[0]: inputs} if named is None else named
            self._check_given(named)
            given = {name: named.get(name.removesuffix("_shape")) for name in self._build_takes}
            shapes: Any = {name: structures.shapes(value) for name, value in given.items() if value is not None}
        else:
            shapes = (
                structures.shapes(inputs) if not isinstance(inputs, list) else [structures.shapes(i) for i in inputs]
            )
        self.build(**shapes) if self._build_takes else self.build(shapes)
        self.built = True  # needed if `build` is an attribute of the object

    def _check_given(self, inputs: dict[str, Any]) -> None:
        """Raises TypeError unless the call has every argument for which `build` has no default."""
        parameters = inspect.signature(self.build).parameters
        needed = [name for name in self._build_takes if parameters[name].default is inspect.Parameter.empty]
        missing = [name.removesuffix("_shape") for name in needed if inputs.get(name.removesuffix("_shape")) is None]
        if missing:
            raise TypeError(
                f"a call of layer {self.name!r} ({type(self).__name__}) lacks {', '.join(map(repr, missing))}: it takes "
                f"({', '.join(self._call_names)})"
            )

    def _keep_losses(self, before: int) -> None:
        """Keep the losses that `build` added after the first ones, as parts of all later losses."""
        added = self._losses[before:]
        del self._losses[before:]
        targets = [(loss.record, loss.index) for loss in added if loss.record is not None]
        sources = [(weight.record, weight.index) for weight in self.trainable_weights]
        if len(tape.unreached(targets, sources)) < len(sources):  # type: ignore[arg-type]
            raise NotImplementedError(
                f"{self!r} adds a loss in build, which would always be computed from the initial weights: add it in call"
            )
        self._kept_losses = (*self._kept_losses, *added)

    def _pass_masks(self, inputs: Any, masks: Any, kwargs: dict, outputs: Any) -> None:
        """Set the masks of the outputs, if the inputs or the arguments have masks or the layer makes masks."""
        given = kwargs.get("mask", masks)
        if masks is not None or given is not None or self._makes_masks():
            self._set_masks(inputs, given, outputs)

    def _makes_masks(self) -> bool:
        return type(self).compute_mask is not Layer.compute_mask

    def _set_masks(self, inputs: Any, masks: Any, outputs: Any) -> None:
        try:
            result = self.compute_mask(inputs, masks)
        except TypeError:
            # without masks, the method does not need a parameter for them; other errors are the user's
            if structures.flatten(masks) != [None] or _takes(self.compute_mask, inputs, masks):
                raise
            result = None
        if result is None:
            handled = self.supports_masking or "mask" in self._call_takes or self._makes_masks()
            if not handled and any(mask is not None for mask in structures.flatten(masks)):
                self._warn_mask_lost()
            return
        leaves = structures.flatten(outputs)
        for output, mask in zip(leaves, structures.flatten(result), strict=False):
            if output is not None:
                output.mask = mask

    def _warn_mask_lost(self) -> None:
        if not getattr(self, "_mask_warned", False):
            self._mask_warned = True
            warn(
                f"layer {self.name!r} ({type(self).__name__}) was given an input with a mask but does not support "
                "masking, so the mask ends here"
            )

    @on_own_device
    def stateless_call(
        self,
        trainable_variables: Any,
        non_trainable_variables: Any,
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Call the layer with given values for its variables. It changes neither the layer nor the values.

        Gradients with respect to the given values equal the gradients with respect to variables in an ordinary call.

        Args:
            trainable_variables: A tensor or array for each of `trainable_variables`.
            non_trainable_variables: A tensor or array for each of `non_trainable_variables`.
            *args: The arguments of the call.
            return_losses: Whether to return the layer's losses in this call too.
            **kwargs: The keyword arguments of the call.

        Returns:
            A tuple: the outputs; a list of the values of `non_trainable_variables` after the call (moving statistics, counters of
            random numbers); and the list of losses if `return_losses` is true.

        Raises:
            ValueError: for a layer that is not built, and for a wrong number of values or values of wrong shapes.

        Example:
            >>> layer = layers.Dense(1)
            >>> layer.build((None, 2))
            >>> values = [ops.ones((2, 1)), ops.zeros((1,))]
            >>> outputs, states = layer.stateless_call(values, layer.non_trainable_variables, np.array([[2.0, 3.0]]))
            >>> outputs.numpy()
            array([[5.]], dtype=float32)
        """
        given = trainable_variables, non_trainable_variables
        return building.stateless_call(self, *given, args, kwargs, return_losses)

    # -------------------- symbolic calls and nodes --------------------

    def _symbolic_call(self, args: tuple, kwargs: dict) -> Any:
        for name in () if self._call_takes_any else kwargs.keys() - self._call_takes - {"training", "mask"}:
            raise TypeError(f"{type(self).__name__}.call() got an unexpected keyword argument {briefly(name)}")
        self._check_strings([args, kwargs])
        if compatibility.current.keeps_learning_phase:
            self._phase = settings.values.kept_learning_phase if kwargs.get("training") is None else None
        inputs, masks = self._prepared(args, kwargs)
        outputs = graph.connect(self, args, kwargs, self.compute_output_spec(*args, **kwargs))
        self._pass_masks(inputs, masks, kwargs, outputs)
        return outputs

    def _check_strings(self, arguments: Any) -> None:
        if not self._takes_strings and any(each.is_text for each in structures.find(SymbolicTensor, arguments)):
            raise TypeError(
                f"layer {self.name!r} ({type(self).__name__}) takes numbers, received a tensor of strings: strings go into "
                "TextVectorization, StringLookup, Hashing, HashedCrossing, or your own subclass of layers.HostLayer"
            )

    def compute_output_spec(self, *args, **kwargs) -> Any:
        """Symbolic outputs, with shape and dtype, for symbolic inputs; nothing is computed.

        Args:
            *args: The arguments of `call`, with symbolic tensors.
            **kwargs: The keyword arguments of `call`.

        Example:
            >>> layers.Dense(4).compute_output_spec(keras.Input((3,))).shape
            (None, 4)
        """
        shapes = self._given_shapes(args, kwargs)
        if shapes is not None:
            if type(self).build is Layer.build and not all(each.built for each in self._all_layers()):
                with contextlib.suppress(Exception):  # as in Keras, a call on arrays builds what this dry run cannot
                    graph.infer(self._plain_call, args, kwargs)
            dtypes = [t.dtype for t in structures.flatten(args[:1]) if isinstance(t, SymbolicTensor)]
            keeps = self.output_dtype == "input" and dtypes
            return graph.symbols(self.compute_output_shape(**shapes), dtypes[0] if keeps else self.compute_dtype)
        return graph.infer(self._plain_call, args, kwargs)

    def _given_shapes(self, args: tuple, kwargs: dict) -> dict[str, Any] | None:
        """The arguments of the class's own `compute_output_shape` in a symbolic call; None if a dry run is to find the shapes.

        A method of nbkeras is asked in calls with one argument only, one of a user's class in all calls, as in Keras.
        """
        if type(self).compute_output_shape is Layer.compute_output_shape:
            return None
        asked = next(cls for cls in type(self).__mro__ if "compute_output_shape" in vars(cls))
        own = asked.__module__.startswith("nbkeras.")
        if own and (len(args) != 1 or self._build_takes):
            return None
        parameters = inspect.signature(self.compute_output_shape).parameters.values()
        names = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
        named = self._by_name(args, kwargs)
        given = dict(zip(names[:1], named.values(), strict=False)) if own or len(names) == 1 else {}
        for name in names if not given else ():
            if name.removesuffix("_shape") in named:
                given[name] = named[name.removesuffix("_shape")]
            elif not name.endswith("_shape") or name.removesuffix("_shape") not in self._call_takes:
                return None
        shapes = {name: structures.shapes(value) for name, value in given.items() if value is not None}
        return shapes or None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _masks(inputs: Any) -> Any:
    """The structure of the inputs' masks; None if no input has a mask."""
    if type(inputs) is Tensor:
        return inputs.mask
    masks = graph.masks(inputs)
    return masks if any(mask is not None for mask in structures.flatten(masks)) else None


set_by_init(Layer, "name dtype built _trainable _weights _states _losses _inbound_nodes _gpu")


class SameShape(option.Declared, Layer, registered=False):
    """The base of layers that change values, and keep the shape and the mask of their one input.

    Output shape:
        The input's shape.
    """

    supports_masking = True
    input_spec = InputSpec()

    def compute_output_shape(self, input_shape):
        return structures.map_shapes(tuple, input_shape)
