"""Floor 2: Module, which owns weights and states, and the modules in its attributes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import numpy as np

from nbkeras import constraints, initializers, regularizers
from nbkeras.engine import compatibility, dlpack, load_budget, naming, nested, structures, tape, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import known_dtype
from nbkeras.engine.observed import WITHOUT_PARTS, Observed, notices_all, watched
from nbkeras.engine.tensor import Tensor, Variable, as_tensor
from nbkeras.metrics.metric import Mean, Metric
from nbkeras.random import SeedGenerator

_NESTED = (dict, list, tuple)
_ADDED = "_added_metric_"  # prefix of the attributes that add_metric sets
_LAYER = 4096  # approximate size in bytes of a layer without weights


class _Kept(NamedTuple):
    """The layers below a layer, the weights of all, the count of assignments then, and whether all changes increase it.

    The layer itself is not in it: without a cycle of references its memory is freed at once.
    """

    below: list[Module] = []
    weights: list[list[Variable]] = []
    assignments: int | None = None
    is_certain: bool = False

    def __reduce__(self) -> tuple:
        return _Kept, ()  # a copy or a pickle knows nothing: another process counts other assignments


class Module(Observed):
    """The part of a layer that does not compute: its variables and its sublayers."""

    name: str
    dtype: str
    built: bool
    # attributes that are not searched for sublayers
    _without_parts = frozenset({"_weights", "_states", "_losses", "_part_order", "_found_weights"})
    # a configuration of `quantizers`, and its mode if it makes the variables of the weights or changes the call
    quantization_config: Any = None
    quantization_mode: str | None = None
    # weight that `quantize` converts to integers -> its axes that have separate scales
    quantized_channels: Mapping[str, tuple[int, ...]] = {}
    _kept_losses: tuple[Tensor, ...] = ()  # constants that belong to the losses of each call
    _thawed_itself = False  # whether its `trainable` was set to True after that of the layers around it
    _losses_exist = False  # whether a module of this process has added a loss

    def __init__(self, trainable: bool = True):
        load_budget.take(_LAYER, "one more layer")
        if not isinstance(trainable, bool | int | np.bool_):
            raise ValueError(f"trainable must be True or False, received {briefly(trainable)}")
        self._trainable = bool(trainable)
        self._weights: list[Variable] = watched([])
        self._states: list[Variable] = watched([])
        self._losses: list[Tensor] = []

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if name not in self._without_parts and own.get(name) is not value and _may_hold_parts(value):
            # To move the attribute to the end of `own` would remove it for a moment, and another thread may read it.
            order = own.setdefault("_part_order", {})
            order[name] = 1 + max(list(order.values()), default=0)
        super().__setattr__(name, value)

    def add_weight(
        self,
        shape: Any = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        name: str | None = None,
        autocast: bool = True,
    ) -> Variable:
        """Make a Variable that is saved with the layer; training updates it if it is trainable. Call it in `build`.

        Args:
            shape: A tuple of sizes, or an integer; None for a scalar.
            initializer: A name, an object or a function of (shape, dtype); None for 'glorot_uniform', or zeros for integers.
            dtype: The dtype; None for the layer's.
            trainable: Whether training updates it. The layer itself may write a non-trainable weight by `assign`.
            regularizer: A name, an object or a function of the weight: a penalty that is added to the loss.
            constraint: A name, an object or a function of the weight: its result replaces the weight after each update.
            name: The last part of the weight's path.
            autocast: Whether the layer uses it in the dtype of its results.

        Returns:
            The Variable.

        Raises:
            ValueError: for a shape with unknown sizes.

        Example:
            >>> layer = keras.layers.Layer()
            >>> layer.add_weight(shape=(2, 3), initializer="ones", name="kernel").numpy()
            array([[1., 1., 1.],
                   [1., 1., 1.]], dtype=float32)
        """
        if isinstance(shape, str):
            raise TypeError(f"add_weight takes the shape first: write add_weight(name={briefly(shape)}, shape=...)")
        dtype = known_dtype(dtype or self.dtype)
        shape = () if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        if not structures.is_shape(shape) or any(size is None or size < 0 for size in shape):
            raise ValueError(f"a weight of {self.name!r} needs a full shape, received {shape}")
        if self.quantization_mode is not None and name in self.quantized_channels:
            encoded = self.quantization_config._add_weight(self, name, shape)
            if encoded is not None:
                return encoded
        self._reserve_memory(shape, dtype)
        if initializer is None:
            initializer = "glorot_uniform" if dtype.kind == "f" else "zeros"
        make = initializers.get(initializer)
        value = np.zeros(shape, dtype) if self._gets_weights_from_file() else make(shape, dtype=dtype.name)  # type: ignore[misc]
        name = name or f"variable_{len(self._weights)}"
        variable = Variable(value, dtype=dtype, trainable=trainable and self._trainable, autocast=autocast, name=name)
        variable.path = self._path_of_weight(variable.name)
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.declared_trainable = trainable
        self._weights.append(variable)
        return variable

    def _path_of_weight(self, name: str) -> str:
        outer = None if compatibility.current.paths_name_one_layer else getattr(self, "path", None)
        return f"{outer or naming.scoped(self.name)}/{name}"

    def _gets_weights_from_file(self) -> bool:
        """Whether a file will overwrite all weights of this module. False for models, and for modules that load themselves."""
        own = type(self).load_own_variables is not Module.load_own_variables or hasattr(type(self), "layers")
        return load_budget.is_unfilled() and not own

    def add_variable(self, shape, initializer, dtype=None, trainable=True, autocast=True, **options) -> Variable:
        """Make a weight: `add_weight` with Keras 3's order of arguments.

        Args:
            shape: A tuple of sizes.
            initializer: A name, an object or a function of (shape, dtype).
            dtype: The dtype; None for the layer's.
            trainable: Whether training updates it.
            autocast: As for `add_weight`.
            **options: `regularizer`, `constraint` and `name` of `add_weight`.
        """
        return self.add_weight(shape, initializer, dtype, trainable, autocast=autocast, **options)

    def add_state(self, shape, dtype=None, name: str = "state", value=0) -> Variable:
        """Make a Variable that the layer writes, such as a recurrent state or a counter. It is not in `weights`.

        Args:
            shape: A tuple of sizes.
            dtype: The dtype; None for the layer's.
            name: The name of the Variable.
            value: The number that fills it initially.

        Example:
            >>> class Counter(layers.Layer):
            ...     def build(self, input_shape):
            ...         self.count = self.add_state((), "int32", name="count")
            ...     def call(self, inputs):
            ...         self.count.assign_add(1)
            ...         return inputs
            >>> layer = Counter()
            >>> outputs = layer(layer(np.ones((1, 2))))
            >>> int(layer.count), layer.weights
            (2, [])
        """
        self._reserve_memory(tuple(shape) if isinstance(shape, list | tuple) else (shape,), dtype or self.dtype)
        variable = Variable(np.full(shape, value), None, dtype or self.dtype, name=name, trainable=False)
        self._states.append(variable)
        return variable

    def add_seed_generator(self, seed=None) -> SeedGenerator:
        """Make a random number generator for the layer's `call`: pass it as `seed` to functions of `nbkeras.random`.

        Args:
            seed: An integer for the same numbers in each run; None takes one from the global seed.

        Example:
            >>> class Shaken(layers.Layer):
            ...     def build(self, input_shape):
            ...         self.noise = self.add_seed_generator(seed=1)
            ...     def call(self, inputs):
            ...         return inputs + keras.random.normal(inputs.shape, seed=self.noise)
            >>> layer, zeros = Shaken(), np.zeros((1, 2))
            >>> bool(ops.all(layer(zeros) == layer(zeros)))  # each call draws new numbers
            False
        """
        generator = SeedGenerator(seed)
        self._states.append(generator.state)
        return generator

    def _reserve_memory(self, shape: tuple[int, ...], dtype: Any) -> None:
        size = math.prod(shape) * np.dtype(known_dtype(dtype)).itemsize
        load_budget.take(size, f"layer {briefly(self.name)} is described with an array of shape {shape}, which")

    def add_loss(self, loss) -> None:
        """Add to the loss that training minimises. Call it in every `call`.

        Args:
            loss: A tensor (its elements are summed), or a list of tensors.

        Example:
            >>> class Bound(layers.Layer):
            ...     def call(self, inputs):
            ...         self.add_loss(0.5 * ops.sum(inputs))
            ...         return inputs
            >>> layer = Bound()
            >>> outputs = layer(np.ones((2, 3)))
            >>> [float(loss) for loss in layer.losses]
            [3.0]
        """
        nested.needs_python("a layer adds a loss")
        Module._losses_exist = True
        for each in loss if isinstance(loss, list | tuple) else [loss]:
            added = as_tensor(each)
            if tape.thread.rerun is None or not tape.thread.rerun.add_loss(added):
                self._losses.append(added)

    def add_metric(self, value, name: str | None = None, aggregation: str | None = "mean") -> None:
        """Report a value under a name, as the mean over the batches of an epoch; call it in `call`. From Keras 2.

        If an attribute of the layer is a metric of this name, that metric reports its own values, and this call does nothing.

        Args:
            value: A tensor.
            name: The name in logs and in the history.
            aggregation: Accepted and ignored: it is always the mean.

        Example:
            >>> class Watched(layers.Layer):
            ...     def call(self, inputs):
            ...         self.add_metric(ops.mean(inputs), name="mean_input")
            ...         return inputs
            >>> model = keras.Sequential([Watched(), layers.Dense(1)])
            >>> model.compile("sgd", "mse")
            >>> history = model.fit(np.full((4, 1), 3.0), np.ones((4, 1)), verbose=0)
            >>> history.history["mean_input"]
            [3.0]
        """
        if not name:
            raise ValueError(f"add_metric in {self.name!r} needs a name to report the value under: name=...")
        own = [m for m in list(vars(self).values()) if isinstance(m, Metric) and m.name == name]
        if len(own) > 1:
            raise ValueError(f"{self.name!r} has several metrics named {name!r}: give each a different name")
        if not own:
            with tensor.outside_program():
                own = [Mean(name)]
            setattr(self, f"{_ADDED}{name}", own[0])
        if hasattr(self, f"{_ADDED}{name}"):
            own[0].update_state(value)

    @property
    def metrics(self) -> list[Metric]:
        """The metrics of this layer and its sublayers, from their attributes and from add_metric."""
        return [metric for layer in self._all_layers() for metric in layer._held(Metric)]

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def _sublayers(self) -> list[Module]:
        """Layers held in attributes, directly or in lists, tuples and dicts, in the order of assignment."""
        return self._held(Module)

    def _held(self, kind: type) -> list[Any]:
        """The objects of a class in attributes, and in lists, tuples and dicts there, without duplicates."""
        kinds, others = (kind, *_NESTED), self._without_parts
        attributes = [
            (name, value)
            for name, value in list(vars(self).items())  # a copy, since another thread may set an attribute
            if type(value) not in WITHOUT_PARTS and isinstance(value, kinds) and name not in others
        ]
        if not attributes:
            return []
        if len(attributes) > 1:
            order = vars(self).get("_part_order", {})  # the order of the last assignments, as in Keras
            attributes.sort(key=lambda item: order.get(item[0], 0))
        return structures.find(kind, [value for _, value in attributes])

    def observed_parts(self) -> Iterator[Any]:
        for layer in self._all_layers():
            yield layer
            for weight in layer._own_weights():
                yield from (weight.regularizer, weight.constraint)

    def _all_layers(self, frozen: bool = True) -> list[Module]:
        """This layer and all layers below it, depth first, without duplicates. frozen=False skips frozen layers and sublayers."""
        found: dict[int, Module] = {}
        todo: list[Module] = [self]
        while todo:
            layer = todo.pop()
            if id(layer) not in found and (frozen or layer._trainable):
                found[id(layer)] = layer
                todo.extend(reversed(layer._sublayers()))
        return list(found.values())

    def _weights_by_layer(self) -> dict[Module, list[Variable]]:
        """The weights of this layer and of all layers below it, by layer.

        A second search with the same result is kept until an object may have other parts.
        """
        kept, count = vars(self).get("_found_weights") or _Kept(), Observed.assignments
        if kept.assignments == count and kept.is_certain:
            return dict(zip([self, *kept.below], kept.weights, strict=True))
        layers = self._all_layers()
        weights = [layer._own_weights() for layer in layers]
        vars(self)["_found_weights"] = _Kept(
            layers[1:], weights, count, kept.assignments == count and notices_all(layers)
        )
        return dict(zip(layers, weights, strict=True))

    def _own_weights(self) -> list[Variable]:
        """This layer's weights without its sublayers': first from add_weight, then Variables in attributes and containers."""
        own, known = self._weights, {id(v) for v in (*self._weights, *self._states)}
        others = [v for v in self._held(Variable) if id(v) not in known]
        if others:
            direct = {id(v): v for v in list(vars(self).values()) if isinstance(v, Variable) and id(v) not in known}
            listed = [v for v in others if id(v) not in direct]
            if listed:  # a list may hold weights of the layers below
                theirs = {id(v) for layer in self._all_layers()[1:] for v in layer._own_weights()}
                listed = [v for v in listed if id(v) not in theirs]
            own = [*own, *direct.values(), *listed]
        return [v for v in own if v.declared_trainable] + [v for v in own if not v.declared_trainable]

    def _stored_weights(self) -> list[Variable]:
        """`_own_weights` in the order of Keras's files: scales come just before the next quantized weight, or at the end."""
        if self.quantization_mode is None:
            return self._own_weights()
        stored: list[Variable] = []
        beside: list[Variable] = []
        for variable in dict.fromkeys((*self._weights, *self._own_weights())):
            if variable.is_quantized:
                stored += beside
                beside = [variable, *variable.companions]  # type: ignore[attr-defined]
                if not variable.is_last_in_files:  # type: ignore[attr-defined]
                    stored.append(beside.pop(0))
            elif all(variable is not each for each in beside):
                stored.append(variable)
        return [*stored, *beside]

    def _stored_arrays(self) -> list[np.ndarray]:
        """The arrays of `_stored_weights`, as Keras's files have them."""
        return [variable.numpy() for variable in self._stored_weights()]

    def _reset_by_files(self) -> list[tuple[Variable, Any]]:
        """Variables that files do not contain, with the values that they get when a file is read."""
        return []

    @property
    def weights(self) -> list[Variable]:
        """All weights of this layer and its sublayers, without duplicates. The trainable weights of each layer come first."""
        return list(dict.fromkeys(v for layer in self._all_layers() for v in layer._own_weights()))

    @property
    def variables(self) -> list[Variable]:
        """The weights and the states: counters of random numbers, recurrent states. For metrics see `metrics_variables`."""
        return list(
            dict.fromkeys(v for layer in self._all_layers() for v in (*layer._own_weights(), *layer._own_states()))
        )

    def _own_states(self) -> list[Variable]:
        """This layer's states without its sublayers': from add_state, and from generators in attributes."""
        return [*self._states, *(generator.state for generator in self._held(SeedGenerator))]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that training updates. A frozen layer has none; one around it has those of parts unfrozen later."""
        own = self._weights_by_layer()
        if tensor.is_step_recorded():  # the step depends on which layers are frozen
            tensor.depend_on(*own)
        thawed = list(own)
        if not all([layer._trainable for layer in own]):
            thawed = self._all_layers(frozen=False)
            if self._trainable and not compatibility.current.frozen_layers_freeze_parts:
                thawed += [part for layer in own if layer._thawed_itself for part in layer._all_layers(frozen=False)]
        found = {id(v) for layer in thawed for v in own[layer] if v.trainable}
        return [v for v in dict.fromkeys(itertools.chain(*own.values())) if id(v) in found]

    trainable_variables = trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that training does not update."""
        trained = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in trained]

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that training does not update: `non_trainable_weights`, and the states."""
        trained = {id(v) for v in self.trainable_weights}
        return [v for v in self.variables if id(v) not in trained]

    @property
    def _states_variables(self) -> list[Variable]:
        """The variables of this layer and its sublayers that are not weights."""
        return [v for layer in self._all_layers() for v in layer._states]

    @property
    def trainable(self) -> bool:
        """Whether training updates the weights. Setting it sets all sublayers too. Compile again for it to affect training."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        """Freeze or unfreeze this layer and its sublayers. Compile again for it to affect training."""
        value, changed = bool(value), []
        for layer in self._all_layers():
            wanted = {v: value and bool(v.declared_trainable) for v in layer._own_weights()}
            if layer._trainable != value or any(v.trainable != each for v, each in wanted.items()):
                changed.append(layer)
            layer._trainable, layer._thawed_itself = value, value and layer is self
            for variable, each in wanted.items():
                variable.trainable = each
        tensor.outdate(*changed)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights as NumPy arrays, in the order of `weights`.

        Example:
            >>> layer = keras.layers.Dense(2, kernel_initializer="ones")
            >>> layer.build((None, 3))
            >>> [array.shape for array in layer.get_weights()]
            [(3, 2), (2,)]
        """
        return [v.numpy() for v in self.weights]

    def set_weights(self, weights) -> None:
        """Write all weights in place, in the order of `weights`. All are checked before any is written.

        Other threads may predict at the same time: a prediction uses only old weights or only new weights.

        Args:
            weights: A list of arrays, as `get_weights` returns it.

        Raises:
            ValueError: for a wrong number of arrays, or for an array of a wrong shape.

        Example:
            >>> layer = layers.Dense(1)
            >>> layer.build((None, 2))
            >>> layer.set_weights([np.array([[1.0], [2.0]]), np.array([0.5])])
            >>> layer(np.array([[10.0, 100.0]])).numpy()
            array([[210.5]], dtype=float32)
        """
        listed = structures.listed(weights)
        if isinstance(weights, str) or not isinstance(listed, tuple):
            raise TypeError(f"layer {self.name!r} takes a list of arrays as weights, received {briefly(weights)}")
        own, arrays = self.weights, [_as_weight(self.name, each) for each in listed]
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
        tensor.assign_all(zip(own, arrays, strict=True))

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Write this layer's own weights, without its sublayers', to its part of a file: '0', '1', ... -> array.

        Args:
            store: A dict-like object that takes arrays by name.
        """
        for number, array in enumerate(self._stored_arrays()):
            store[str(number)] = array

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Read this layer's own weights as `save_own_variables` wrote them.

        Args:
            store: A dict-like object with arrays by name.

        Raises:
            ValueError: for a store with a wrong number of arrays.
        """
        own = self._stored_weights()
        if len(store) != len(own):
            raise ValueError(f"layer {self.name!r} has {len(own)} own weights, the file has {len(store)}")
        pairs = [(variable, store[str(number)]) for number, variable in enumerate(own)]
        tensor.assign_all(pairs + self._reset_by_files())

    def count_params(self) -> int:
        """The number of elements of all weights.

        Raises:
            ValueError: for a layer that is not built yet.

        Example:
            >>> layer = keras.layers.Dense(2)
            >>> layer.build((None, 3))
            >>> layer.count_params()  # 3 * 2 of the kernel, 2 of the bias
            8
        """
        if not self.built and not self.weights:
            raise ValueError(f"layer {self.name!r} is not built yet: call it, or give the model an input shape")
        return sum(v.size for v in self.weights)

    @property
    def losses(self) -> list[Tensor]:
        """The losses of add_loss and activity regularizers in the last call, and of the weights' regularizers."""
        collected = [loss for layer in self._all_layers() for loss in (*layer._kept_losses, *layer._losses)]
        penalties = [v.regularizer(v) for v in self.trainable_weights if v.regularizer is not None]
        return collected + penalties

    def forget_recorded(self) -> None:
        self.clear_losses()

    def clear_losses(self) -> None:
        """Drop the losses of the last call, of this layer and its sublayers."""
        if Module._losses_exist:  # without losses, each call of a model would search it in vain
            for layer in self._all_layers():
                layer._losses.clear()


def _may_hold_parts(value: Any) -> bool:
    return isinstance(value, Module) or structures.is_nested(value)


def _as_weight(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(dlpack.on_host(value))
    except ValueError:  # ragged lists, or a list that contains itself
        raise ValueError(f"layer {name!r} takes arrays as weights, received {briefly(value)}") from None
