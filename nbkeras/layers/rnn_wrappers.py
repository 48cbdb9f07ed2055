"""Wrappers of layers: Bidirectional runs recurrent layers in both directions, TimeDistributed a layer at each time step."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.building import graph
from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.layer import BasicOptions, InputSpec, Layer
from nbkeras.building.operation import Operation
from nbkeras.engine import option, sharding, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor
from nbkeras.layers.recurrent_cells import sequences_and_states, sequences_of, with_named_states
from nbkeras.layers.wrapper import Wrapper

_MergeMode = Annotated[Any, option.choice("sum", "mul", "ave", "concat", None)]
_ForwardLayer = Annotated[option.Layers, "forward_layer"]


class Bidirectional(option.Declared, Layer):
    """Runs a recurrent layer forwards and a copy of it backwards, and merges their outputs (Schuster and Paliwal, 1997).

    With `return_sequences` the second output is first reversed into the order of the input. At masked steps the outputs of
    sequences are 0, as in Keras 3.

    Args:
        layer (a recurrent layer): It is copied for both directions, each with new weights.
        merge_mode: 'concat' joins the outputs along the last axis; 'sum', 'mul' and 'ave' (the mean) keep its size; None gives
            a list of both.
        backward_layer (a recurrent layer, or None): A layer for the other direction, instead of a copy; it must have the opposite
            `go_backwards`.

    Call arguments:
        sequences: A tensor (batch, steps, features); float.
        initial_state: A list of the states that the sequences start from; None for zeros, or the kept ones if stateful.
        mask: Bool (batch, steps): a step with False keeps the states. By default the mask that Masking or Embedding made.
        training: Whether dropout is active.

    Input shape:
        The layer's input shape.

    Output shape:
        The layer's output shape, with twice the last size for 'concat'. With `return_state` the first direction's states follow,
        then the second direction's; `initial_state` has the same order.

    Raises:
        ValueError: for a layer that is not recurrent, or for two layers without opposite directions or with different results.

    Example:
        >>> layers.Bidirectional(layers.LSTM(4))(np.ones((2, 5, 3))).shape
        (2, 8)
        >>> layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="sum")(np.ones((2, 5, 3))).shape
        (2, 5, 4)
    """

    supports_masking = True
    input_spec = InputSpec()
    forward_layer: Any
    backward_layer: Any

    def __init__(
        self,
        layer: _ForwardLayer,
        merge_mode: _MergeMode = "concat",
        weights=None,
        backward_layer: option.Layers = None,
        **kwargs: Unpack[BasicOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        layer = self.forward_layer
        for each in (layer, layer if self.backward_layer is None else self.backward_layer):
            if not (isinstance(each, Layer) and hasattr(each, "go_backwards")):
                raise ValueError(f"Bidirectional wraps a recurrent layer such as LSTM(32), received {briefly(each)}")
        given, self.backward_layer = self.backward_layer, None
        self.forward_layer = _copy(layer, "forward_", layer.go_backwards)
        # assigned last, because its weights come last
        self.backward_layer = given or _copy(layer, "backward_", not layer.go_backwards)
        self._check_pair()
        for each in (self.forward_layer, self.backward_layer):
            if hasattr(each, "zero_output_for_mask"):
                each.zero_output_for_mask = each.return_sequences

    def _check_pair(self) -> None:
        first, second = self.forward_layer, self.backward_layer
        if first.go_backwards == second.go_backwards:
            raise ValueError(
                "Bidirectional's two layers must run in opposite directions, but both have "
                f"go_backwards={first.go_backwards}: create backward_layer with go_backwards={not first.go_backwards}"
            )
        for name in ("stateful", "return_sequences", "return_state"):
            if getattr(first, name) != getattr(second, name):
                raise ValueError(
                    f"Bidirectional's two layers must have the same {name}, received {getattr(first, name)} and "
                    f"{getattr(second, name)}"
                )

    @property
    def stateful(self) -> bool:
        """True if the two layers keep their states between batches."""
        return self.forward_layer.stateful

    @property
    def return_sequences(self) -> bool:
        """True if outputs are sequences."""
        return self.forward_layer.return_sequences

    @property
    def return_state(self) -> bool:
        """True if the last states are outputs too."""
        return self.forward_layer.return_state

    def build(self, input_shape):
        shape = tuple(input_shape) if structures.is_shape(input_shape) else tuple(input_shape[0])
        for each in (self.forward_layer, self.backward_layer):
            each._ensure_built(SymbolicTensor(shape, self.compute_dtype))

    def _checked_inputs(self, inputs):
        return super()._checked_inputs(sequences_of(inputs))

    def compute_output_shape(self, input_shape):
        first = self.forward_layer.compute_output_shape(input_shape)
        second = self.backward_layer.compute_output_shape(input_shape)
        first, second, states = self._without_states(first, second)
        if self.merge_mode is None:
            return [first, second, *states]
        merged = (*first[:-1], first[-1] + second[-1]) if self.merge_mode == "concat" else first
        return [merged, *states] if self.return_state else merged

    def _without_states(self, first: Any, second: Any) -> tuple[Any, Any, list]:
        """The outputs of both layers, and their states in one list."""
        return (first[0], second[0], [*first[1:], *second[1:]]) if self.return_state else (first, second, [])

    def compute_mask(self, inputs, mask=None):
        """The input's mask for sequences, else None; None for states."""
        kept = structures.flatten(mask)[0] if self.return_sequences else None
        outputs = [kept, kept] if self.merge_mode is None else [kept]
        return outputs if self.merge_mode is None or self.return_state else kept

    def _symbolic_call(self, args, kwargs):
        return super()._symbolic_call(*with_named_states(args, kwargs))

    def call(self, sequences, initial_state=None, mask=None, training=None):
        sequences, initial_state = sequences_and_states(sequences, initial_state)
        first_state, second_state = self._halves(initial_state, "initial_state")
        mask = None if mask is None else structures.flatten(mask)[0]
        first = self.forward_layer(sequences, initial_state=first_state, mask=mask, training=training)
        second = self.backward_layer(sequences, initial_state=second_state, mask=mask, training=training)
        first, second, states = self._without_states(first, second)
        if self.return_sequences:
            second = ops.flip(second, axis=1)
        if self.merge_mode is None:
            return [first, second, *states]
        merged = self._merged(first, second)
        return [merged, *states] if self.return_state else merged

    def _merged(self, first: Tensor, second: Tensor) -> Tensor:
        if self.merge_mode == "concat":
            return ops.concatenate([first, second], axis=-1)
        if self.merge_mode == "mul":
            return ops.multiply(first, second)
        total = ops.add(first, second)
        return ops.multiply(total, 0.5) if self.merge_mode == "ave" else total

    def _halves(self, states: Any, what: str) -> tuple[Any, Any]:
        """The states of the two layers."""
        if states is None:
            return None, None
        if not isinstance(states, list | tuple) or len(states) % 2:
            count = len(states) if isinstance(states, list | tuple) else 1
            raise ValueError(
                f"{what} of Bidirectional {self.name!r} must be a list of the forward layer's states, then the "
                f"backward layer's, received {count}"
            )
        half = len(states) // 2
        return list(states[:half]), list(states[half:])

    @property
    def states(self) -> list | None:
        """The states of both directions of a stateful layer in one list; None before the batch size is known."""
        first, second = self.forward_layer.states, self.backward_layer.states
        return None if first is None or second is None else [*first, *second]

    @states.setter
    def states(self, values) -> None:
        self.reset_states(values)

    def reset_states(self, states=None, samples=None) -> None:
        """Set the states of both directions to zero or to given values; see `RNN.reset_states`.

        Args:
            states: The states of the first direction, then of the second; None for zeros.
            samples: A bool mask (batch,) or indices: only these rows change; None for all.
        """
        halves = self._halves(states, "states")
        for each, own in zip((self.forward_layer, self.backward_layer), halves, strict=True):
            each.reset_states(own, samples)

    reset_state = reset_states


def _copy(layer: Any, prefix: str, go_backwards: bool) -> Any:
    """A new layer with the same configuration and separate weights.

    Objects in the configuration are serialized, as in Keras: the layer's `from_config` creates new ones.
    """
    written = structures.map_leaves(
        lambda value: value if isinstance(value, type) else option.written(value), layer.get_config()
    )
    config = {**written, "name": prefix + layer.name.removeprefix(prefix), "go_backwards": go_backwards}
    return type(layer).from_config(config)


class TimeDistributed(Wrapper):
    """Applies a layer or a model to each time step, with the same weights at each.

    All steps go through the layer as one batch of batch * steps samples. So BatchNormalization computes statistics over
    samples and steps, as in Keras 2. A layer that accepts a mask gets the mask of its sample and step.

    Args:
        layer (a layer): The layer or model.

    Call arguments:
        inputs: A tensor (batch, steps, ...).
        training: Passed to the layer if it accepts it.
        mask: Bool (batch, steps, ...), passed to the layer if it accepts it.

    Input shape:
        (batch, steps, ...), 3 axes or more.

    Output shape:
        (batch, steps, ...), with the layer's output for a step at the end.

    Example:
        >>> layers.TimeDistributed(layers.Dense(4))(np.ones((2, 5, 3))).shape
        (2, 5, 4)
        >>> layers.TimeDistributed(layers.Conv2D(4, 3))(np.ones((2, 5, 8, 8, 3))).shape
        (2, 5, 6, 6, 4)
    """

    supports_masking = True
    input_spec = InputSpec()

    def _step_shape(self, input_shape) -> tuple:
        shape = tuple(input_shape)
        if len(shape) < 3:
            raise ValueError(
                f"TimeDistributed {self.name!r} needs an input (batch, steps, features...), received shape {shape}"
            )
        return (None, *shape[2:])

    def build(self, input_shape):
        self.layer._ensure_built(
            SymbolicTensor(self._step_shape(input_shape), self.layer.input_dtype or self.compute_dtype)
        )

    def compute_output_shape(self, input_shape):
        output = self.layer.compute_output_shape(self._step_shape(input_shape))
        batch, steps = tuple(input_shape)[:2]
        if structures.is_shape(output):
            return (batch, steps, *output[1:])
        return type(output)((batch, steps, *shape[1:]) for shape in output)

    def call(self, inputs, training=None, mask=None):
        batch, steps = inputs.shape[:2]
        mask = self._checked(mask, inputs)
        options: dict[str, Any] = {}
        takes = self.layer._call_takes
        if "training" in takes:
            options["training"] = training
        if mask is not None and "mask" in takes:
            options["mask"] = _joined(mask)
        with sharding.repeated(steps):
            outputs = self.layer(_joined(inputs), **options)

        def parted(tensor):
            return ops.reshape(tensor, (batch, steps, *tensor.shape[1:]))

        return structures.map_leaves(parted, outputs)

    def compute_mask(self, inputs, mask=None):
        """The mask that the layer computes, by steps; otherwise the input's mask, True where any element is."""
        if not graph.is_symbolic([inputs, mask]):
            return self._mask(inputs, mask)
        there = graph.infer(self._mask, (inputs, mask), {}) is not None
        return Operation(self._mask, name=f"{self.name}_mask")(inputs, mask) if there else None

    def _checked(self, mask: Any, inputs: Tensor) -> Tensor | None:
        mask = None if mask is None else ops.convert_to_tensor(mask)
        if mask is not None and tuple(mask.shape[:2]) != tuple(inputs.shape[:2]):
            raise ValueError(
                f"TimeDistributed {self.name!r} needs a mask (batch, steps, ...) for its input of shape "
                f"{tuple(inputs.shape)}, received shape {tuple(mask.shape)}"
            )
        return mask

    def _mask(self, inputs, mask):
        mask = self._checked(mask, inputs)
        made = self.layer.compute_mask(_joined(inputs), None if mask is None or mask.ndim == 2 else _joined(mask))
        if isinstance(made, Tensor):
            return ops.reshape(made, (*inputs.shape[:2], *made.shape[1:]))
        while mask is not None and mask.ndim > 2:
            mask = ops.any(mask, axis=-1)
        return mask


def _joined(tensor: Tensor) -> Tensor:
    """(batch, steps, ...) as (batch * steps, ...)."""
    return ops.reshape(tensor, (tensor.shape[0] * tensor.shape[1], *tensor.shape[2:]))
