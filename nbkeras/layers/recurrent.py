"""Recurrent layers: RNN runs any cell step by step; SimpleRNN, GRU and LSTM run a sequence as one op."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import CommonOptions, InputSpec, Layer, LayerOptions
from nbkeras.engine import build_lock, compatibility, dtype_policy, option, sharding, structures, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.naming import snake_case
from nbkeras.engine.tensor import Tensor, Variable, as_tensor, outside_program
from nbkeras.layers.recurrent_cells import (
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    build_cell,
    call_cell,
    check_cell,
    drop_ignored,
    initial_state_of,
    output_size_of,
    sequences_and_states,
    sequences_of,
    with_named_states,
)
from nbkeras.ops.control import _becomes_program
from nbkeras.ops.recurrent import RECURRENT_ACTIVATIONS


class RNN(option.Declared, Layer):
    """A recurrent layer that runs a cell, or a stack of cells, over the steps of sequences.

    At a masked step the states stay and the previous output is repeated (at the first step the first state, if the
    sizes agree); with `zero_output_for_mask` the output is 0. A stateful layer stops gradients at the start of each batch.

    Args:
        cell (a cell, or a list of cells): A layer such as LSTMCell, or any object with `call(inputs, states)`, which returns
            (output, new states), and `state_size`. A list becomes a StackedRNNCells.

    Call arguments:
        sequences: A tensor (batch, steps, features...); float.
        initial_state: A list of initial states; None for zeros, or for the kept states if stateful.
        mask: Bool (batch, steps): a step with False keeps the states. By default the mask from Masking or Embedding.
        training: Whether dropout is active.

    Input shape:
        (batch, steps, features...), one step or more.

    Output shape:
        (batch, output_size); with `return_sequences` (batch, steps, output_size), in the order of computation. With
        `return_state` a list of the output and the last states.

    Raises:
        TypeError: for a cell without `call` or `state_size`.
        ValueError: if the shapes of sequences, mask or states do not fit.

    Example:
        >>> layers.RNN(layers.LSTMCell(4))(np.ones((2, 5, 3))).shape
        (2, 4)
        >>> stack = layers.RNN([layers.GRUCell(4), layers.GRUCell(6)], return_sequences=True)
        >>> stack(np.ones((2, 5, 3))).shape
        (2, 5, 6)
    """

    supports_masking = True
    cell: Any

    def __init__(
        self,
        cell: option.Layers,
        return_sequences: option.Flag = False,
        return_state: option.Flag = False,
        go_backwards: option.Flag = False,
        stateful: option.Flag = False,
        unroll: option.Flag = False,
        zero_output_for_mask: option.Flag = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**drop_ignored(kwargs))
        option.keep(self, locals())
        if isinstance(self.cell, list):
            self.cell = StackedRNNCells(self.cell)
        check_cell(self.cell)
        self.input_spec = InputSpec(min_ndim=3)
        self._kept: list[Variable] | None = None  # the states of a stateful layer, flat; None before the first batch

    # -------------------- shapes --------------------

    @property
    def state_size(self) -> Any:
        """The state size of the cell: an integer, or a list of integers or lists of integers."""
        return self.cell.state_size

    @property
    def _state_count(self) -> int:
        return len(structures.flatten(self.state_size))

    def _state_shapes(self, batch: Any) -> list[tuple]:
        """The shapes of all states, in a flat list."""
        return [(batch, n) for n in structures.flatten(self.state_size)]

    def build(self, input_shape):
        shape = _first(input_shape)
        if len(shape) < 3:
            raise ValueError(f"layer {self.name!r} needs an input (batch, steps, features), received shape {shape}")
        build_cell(self.cell, (shape[0], *shape[2:]))
        self.input_spec = InputSpec(ndim=len(shape), axes={-1: shape[-1]})
        if self.stateful and self._kept is None and shape[0] is not None:
            self._make_states(shape[0])

    def _checked_inputs(self, inputs):
        return super()._checked_inputs(sequences_of(inputs))

    def compute_output_shape(self, input_shape):
        batch, steps = _first(input_shape)[:2]
        size = output_size_of(self.cell)
        output = (batch, steps, size) if self.return_sequences else (batch, size)
        return [output, *self._returned(self._state_shapes(batch))] if self.return_state else output

    def compute_mask(self, inputs, mask=None):
        """The input's mask with return_sequences, else None; None for states."""
        kept = structures.flatten(mask)[0] if self.return_sequences else None
        return [kept, *[None] * self._state_count] if self.return_state else kept

    def _packed(self, flat: list) -> list:
        """A flat list in the structure of state_size: a list; for stacked cells a list of lists."""
        leaves = iter(flat)
        if isinstance(self.cell, StackedRNNCells):
            return [[next(leaves) for _ in structures.flatten(cell.state_size)] for cell in self.cell.cells]
        size = self.state_size
        return [
            structures.map_leaves(lambda _: next(leaves), part)
            for part in (size if isinstance(size, list | tuple) else [size])
        ]

    def _returned(self, flat: list) -> list:
        """A flat list of states, in the form that a call returns after its output."""
        return flat if compatibility.current.flat_states else self._packed(flat)

    # -------------------- states --------------------

    def get_initial_state(self, batch_size=None) -> list:
        """The initial states of a sequence: the cell's, or zeros.

        Args:
            batch_size: The number of samples.
        """
        return initial_state_of(self.cell, batch_size, self.compute_dtype)

    @property
    def states_of_rows(self) -> list[Variable]:
        """The kept states, with one row per sample of the batch; each of several processes writes its own rows."""
        return list(self._kept or ())

    @property
    def states(self) -> list | None:
        """The states of a stateful layer, Variables in the structure of state_size; None before the batch size is known."""
        if self._kept is not None:
            return self._packed(list(self._kept))
        return [None] * self._state_count if compatibility.current.lists_absent_states else None

    @states.setter
    def states(self, values) -> None:
        self.reset_states(values)

    def reset_states(self, states=None, samples=None) -> None:
        """Set the states of a stateful layer to zero or to given values.

        After all samples' states are set to zero, the next batch may have another size.

        Args:
            states: Arrays (batch, size) in the structure of `state_size`; None for zeros.
            samples: A bool mask (batch,) or indices: only these rows change; None for all.

        Raises:
            AttributeError: if the layer is not stateful.
            ValueError: if the number or shapes of the states do not fit.

        Example:
            >>> layer = layers.SimpleRNN(1, stateful=True, activation="linear", kernel_initializer="ones",
            ...                          recurrent_initializer="ones")
            >>> layer(np.ones((1, 2, 1))).numpy()  # 1 + 1
            array([[2.]], dtype=float32)
            >>> layer(np.ones((1, 2, 1))).numpy()  # goes on from 2
            array([[4.]], dtype=float32)
            >>> layer.reset_states()
            >>> layer(np.ones((1, 2, 1))).numpy()
            array([[2.]], dtype=float32)
        """
        if not self.stateful:
            raise AttributeError(f"layer {self.name!r} keeps no states: create it with stateful=True")
        held = None if self._kept is None else self._kept[0].shape[0]
        values = None if states is None else self._checked(states, "states", None if samples is None else held)
        if values is not None and values[0].shape[0] != held:
            self._make_states(values[0].shape[0])
        chosen = None if samples is None or self._kept is None else self._rows(samples)
        for position, variable in enumerate(self._kept or ()):
            value = ops.zeros(variable.shape, variable.dtype) if values is None else values[position]
            variable.assign(value if chosen is None else ops.where(chosen, value, variable))

    reset_state = reset_states

    def _rows(self, samples) -> Tensor:
        """A bool mask (batch, 1, ...) of the samples."""
        batch, *rest = self._kept[0].shape  # type: ignore[index]
        if isinstance(samples, Tensor):
            if samples.dtype != np.bool_ or samples.shape != (batch,):
                raise ValueError(
                    f"samples must be a bool mask of shape ({batch},) or indices, received a tensor of shape "
                    f"{samples.shape} and dtype {samples.dtype}"
                )
            return ops.reshape(samples, (batch, *[1] * len(rest)))
        given = np.asarray(samples)
        if given.dtype == np.bool_ and given.shape != (batch,):
            raise ValueError(
                f"samples must be a bool mask of shape ({batch},) or indices, received shape {given.shape}"
            )
        chosen = np.zeros(batch, bool)
        try:
            chosen[given if given.size else given.astype(int)] = True
        except IndexError as error:
            raise ValueError(
                f"samples must be indices from 0 to {batch - 1}, received {briefly(samples)}: {error}"
            ) from None
        return as_tensor(chosen.reshape(batch, *[1] * len(rest)))

    def _make_states(self, batch: int) -> None:
        """Create zero states; programs recorded with the old states are recorded again."""
        if self._kept is not None:
            self._states[:] = [v for v in self._states if all(v is not old for old in self._kept)]
            tensor.outdate(*(old.data for old in self._kept))
        self._kept = [self.add_state(shape, name=f"state_{i}") for i, shape in enumerate(self._state_shapes(batch))]

    def _kept_states(self, rows: int) -> list:
        """The final states of the previous batch, flat; only this rank's rows if several processes share the batch."""
        part = sharding.current()
        batch = rows if part is None else part.total
        kept = self._all_kept_states(batch)
        if part is None or batch == rows:
            return kept
        return [each[part.start : part.start + rows] for each in kept]

    def _keep(self, variable: Variable, state: Tensor) -> None:
        """Write a state of this rank's rows into the batch's state."""
        if state.shape == variable.shape:
            variable.assign(state)
        elif (part := sharding.current()) is not None and part.own:
            before, after = variable[: part.first], variable[part.first + part.own :]
            variable.assign(ops.concatenate([before, state, after], axis=0))

    def _all_kept_states(self, batch: int) -> list:
        if tensor.is_shapes_only() and (self._kept is None or self._kept[0].shape[0] != batch):
            return [ops.zeros(shape, self.compute_dtype) for shape in self._state_shapes(batch)]
        if self._kept is None or self._kept[0].shape[0] != batch:
            if self._kept is not None and any(v.data.copy().any() for v in self._kept):
                held = self._kept[0].shape[0]
                raise ValueError(
                    f"layer {self.name!r} is stateful and holds the states of a batch of {held} samples, but received a "
                    f"batch of {batch}. Pass batches of {held} samples (batch_size={held} and a number of samples that "
                    f"is a multiple of it), or call reset_states() before the batch size changes"
                )
            with outside_program(), build_lock.building(self):
                if self._kept is None or self._kept[0].shape[0] != batch:  # otherwise another thread made them
                    self._make_states(batch)
        return list(self._kept or ())

    def _checked(self, states, what: str, batch: int | None = None) -> list[Tensor]:
        """Given states as a flat list of tensors with checked shapes."""
        given = structures.flatten(list(states) if isinstance(states, list | tuple) else states)
        if len(given) != self._state_count:
            raise ValueError(
                f"layer {self.name!r} has {self._state_count} states (state_size {self.state_size}), "
                f"received {len(given)} in {what}"
            )
        found = [as_tensor(value, self.compute_dtype) for value in given]
        batch = found[0].shape[0] if batch is None and found[0].ndim else batch
        shapes = self._state_shapes(batch)
        if [value.shape for value in found] != shapes:
            raise ValueError(
                f"{what} of layer {self.name!r} must have shapes {shapes}, received {[v.shape for v in found]}"
            )
        return found

    # -------------------- running --------------------

    def _symbolic_call(self, args, kwargs):
        return super()._symbolic_call(*with_named_states(args, kwargs))

    def call(self, sequences, initial_state=None, mask=None, training=None):
        sequences, initial_state = sequences_and_states(sequences, initial_state)
        batch, states = sequences.shape[0], None
        if initial_state is not None:
            states = self._checked(initial_state, "initial_state", batch)
        if self.stateful:
            kept = self._kept_states(batch)
            states = kept if states is None else states
        output, states = self.go_on(sequences, states, mask, training)
        if self.stateful and not tensor.is_shapes_only():
            for variable, state in zip(self._kept or (), states, strict=True):
                self._keep(variable, state)
        return self.returned(output, states)

    def go_on(self, sequences, states: list | None, mask=None, training=None) -> tuple[Tensor, list[Tensor]]:
        """(output, states after the last step) of a call with given initial states; a stateful layer's states stay unchanged.

        Args:
            sequences: A tensor (batch, steps, features...).
            states: The states in a flat list; None for the initial states of a sequence.
            mask: Bool (batch, steps), or None.
            training: Whether dropout is active.
        """
        mask = None if mask is None else (structures.flatten(mask) or [None])[0]
        if mask is not None:
            mask = self._time_mask(mask, sequences)
        if sequences.shape[1] == 0:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) needs sequences of one step or more, received "
                f"shape {sequences.shape}"
            )
        cells: list[Any] = [cell for cell in self._all_layers() if hasattr(cell, "start_sequence")]
        for cell in cells:
            cell.start_sequence()
        try:
            return self._run(sequences, states, mask, training)
        finally:
            for cell in cells:
                cell.end_sequence()

    def returned(self, output: Tensor, states: list[Tensor]) -> Any:
        """The result of a call: the output, and with `return_state` followed by the states.

        Args:
            output: The output.
            states: The states after the last step, in a flat list.
        """
        return [output, *self._returned(states)] if self.return_state else output

    def _time_mask(self, mask, sequences) -> Tensor:
        mask = as_tensor(mask, "bool")
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = ops.squeeze(mask, 2)
        if mask.shape != sequences.shape[:2]:
            raise ValueError(
                f"the mask of layer {self.name!r} must have shape (batch, steps) = {sequences.shape[:2]}, "
                f"received {mask.shape}"
            )
        return mask

    def _run(self, sequences, states: list | None, mask, training) -> tuple[Tensor, list[Tensor]]:
        """Run the cell step by step; return (output, last states in a flat list)."""
        if states is None:
            states = structures.flatten(self.get_initial_state(sequences.shape[0]))
        if self.stateful:  # copies: they are overwritten before the backward pass, which needs these values
            states = [ops.add(state, 0.0) for state in states]
        lives = None if mask is None else ops.expand_dims(mask, 2)
        if _becomes_program(sequences.shape[1] - 1, self.unroll):
            return self._run_as_program(sequences, states, lives, training)
        steps = list(ops.unstack(sequences, axis=1))
        masks = [None] * len(steps) if lives is None else list(ops.unstack(lives, axis=1))
        if self.go_backwards:
            steps, masks = steps[::-1], masks[::-1]
        outputs: list[Any] = [None]
        for step, live in zip(steps, masks, strict=True):
            output, states = self._advance(step, live, outputs[-1], states, training)
            outputs.append(output)
            if not self.return_sequences:
                del outputs[0]
        return ops.stack(outputs[1:], axis=1) if self.return_sequences else outputs[-1], states

    def _run_as_program(self, sequences, states: list, lives: Tensor | None, training) -> tuple[Tensor, list[Tensor]]:
        """`_run` in a recorded step: a scan, which records the cell once.

        The first step comes before it: there a cell may draw the dropout masks of the whole sequence.
        """
        parts = [sequences] if lives is None else [sequences, lives]
        if self.go_backwards:
            parts = [ops.flip(part, 1) for part in parts]

        def advance(slices: list, previous: Tensor | None, states: list) -> tuple[Tensor, list[Tensor]]:
            return self._advance(slices[0], None if lives is None else slices[1], previous, states, training)

        def step(carry: tuple, slices: list) -> tuple[tuple, Tensor | None]:
            after = advance(slices, *carry)
            return after, after[0] if self.return_sequences else None

        output, states = advance([part[:, 0] for part in parts], None, states)

        rest = [ops.moveaxis(part[:, 1:], 1, 0) for part in parts]
        (last, states), outputs = ops.scan(step, (output, states), rest)
        if not self.return_sequences:
            return last, states
        return ops.concatenate([ops.expand_dims(output, 1), ops.moveaxis(outputs, 0, 1)], axis=1), states

    def _advance(self, step, live, previous: Tensor | None, states: list, training) -> tuple[Tensor, list[Tensor]]:
        """(output, new states) of a step. live: the mask (batch, 1), or None. previous: the output of the step before."""
        output, new_states = self._step(step, self._packed(states), training)
        new = structures.flatten(new_states)
        if live is not None:
            before = self._before(previous, states, output)
            output = ops.where(_as_rank(live, output), output, before)
            new = [ops.where(_as_rank(live, n), n, old) for n, old in zip(new, states, strict=True)]
        return output, new

    def _step(self, step, states: list, training) -> tuple[Tensor, list]:
        return call_cell(self.cell, step, states, training)

    def _before(self, previous: Tensor | None, states: list[Tensor], output: Tensor):
        """The output of a masked step."""
        if self.zero_output_for_mask:
            return ops.zeros_like(output)
        if previous is not None:
            return previous
        last = self._packed(states)[-1] if isinstance(self.cell, StackedRNNCells) else states
        first = structures.flatten(last)[0]
        return first if first.shape == output.shape else ops.zeros_like(output)


def _first(shape: Any) -> tuple:
    """The shape of the sequences among a call's shapes."""
    return tuple(shape) if structures.is_shape(shape) else tuple(shape[0])


def _as_rank(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (batch, 1) with axes of 1 up to the rank of `like`."""
    return ops.reshape(mask, (mask.shape[0], *[1] * (like.ndim - 1))) if like.ndim != 2 else mask


class _WholeSequence(RNN):
    """Base of SimpleRNN, GRU and LSTM: accepts the arguments of a built-in cell, and runs all steps as one op.

    The op supports some activations (nbkeras.ops.recurrent); with other activations the cell runs step by step.

    Args:
        units: The size of the output and of each state.

    Input shape:
        (batch, steps, features)
    """

    cell_class: type[Layer]
    _left_out = ("cell",)  # its options are the layer's options
    _op: Callable  # the op for whole sequences

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name in option.of_class(cls).keys() & option.of_class(getattr(cls, "cell_class", Layer)).keys():
            setattr(cls, name, property(operator.attrgetter(f"cell.{name}"), doc=f"The cell's {name}."))

    def __init__(self, arguments, **kwargs):
        """arguments: the `locals()` of the extending class's `__init__`, with the options of the cell and of RNN."""
        of_cell = {name: arguments[name] for name in option.of_class(self.cell_class) if name in arguments}
        # as in Keras, these cells have no numbers, and ConvLSTM1D, 2D and 3D the same cell
        cell_name = snake_case(re.sub(r"\dD", "", self.cell_class.__name__))
        both = {name: kwargs[name] for name in ("dtype", "trainable", "quantization_config") if name in kwargs}
        if "dtype" in both:
            both["dtype"] = dtype_policy.of_only_part(both["dtype"])
        own = {name: arguments[name] for name in (*option.of_class(RNN), "activity_regularizer") if name in arguments}
        super().__init__(self.cell_class(name=cell_name, **of_cell, **both), **own, **kwargs)
        self.input_spec = InputSpec(ndim=3)

    def _run(self, sequences, states, mask, training):
        cell = self.cell
        names = [_FUSED.get(function) for function in self._activations()]
        if None in names or 0 in sequences.shape:  # no samples: the op has nothing to do
            return super()._run(sequences, states, mask, training)
        output, *last = self._op(
            cell.dropped_inputs(sequences, training),
            cell.kernel,
            cell.recurrent_kernel,
            cell.bias,
            *(states or [None] * self._state_count),
            mask,
            cell.recurrent_mask(sequences.shape[0], training),
            *names,
            return_sequences=self.return_sequences,
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )
        return output, last

    def _activations(self) -> list:
        """The functions that the op takes by name: the activation, and the gates' activation if there are gates."""
        return [getattr(self, name) for name in ("activation", "recurrent_activation") if hasattr(self, name)]

    def _made_parts(self):
        return [self.cell]


_FUSED = {getattr(ops, name): name for name in RECURRENT_ACTIVATIONS if hasattr(ops, name)}


class _RNNOptions(CommonOptions, total=False):
    """The options of RNN that its subclasses accept as **kwargs."""

    zero_output_for_mask: option.Flag
    implementation: int


class SimpleRNN(_WholeSequence):
    """A fully connected recurrent layer: its output is its next state (Elman, 1990).

        new_h = activation(x @ kernel + h @ recurrent_kernel + bias)

    Dropout masks are the same at all steps of a sequence.

    Output shape:
        (batch, units), or (batch, steps, units) with `return_sequences`; with `return_state` a list of the output and the last
        state (batch, units).

    Example:
        >>> layers.SimpleRNN(4)(np.ones((2, 5, 3))).shape
        (2, 4)
        >>> total = layers.SimpleRNN(1, activation="linear", kernel_initializer="ones", recurrent_initializer="ones",
        ...                          return_sequences=True)
        >>> total(np.array([[[1.0], [2.0], [3.0]]])).numpy()
        array([[[1.],
                [3.],
                [6.]]], dtype=float32)
    """

    cell_class = SimpleRNNCell

    def __init__(
        self,
        units: option.Size,
        activation: option.Activation = "tanh",
        use_bias: option.Flag = True,
        kernel_initializer: option.Initializer = "glorot_uniform",
        recurrent_initializer: option.Initializer = "orthogonal",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        recurrent_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        kernel_constraint: option.Constraint = None,
        recurrent_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        dropout: option.Rate = 0.0,
        recurrent_dropout: option.Rate = 0.0,
        return_sequences: option.Flag = False,
        return_state: option.Flag = False,
        go_backwards: option.Flag = False,
        stateful: option.Flag = False,
        unroll: option.Flag = False,
        seed: option.Anything = None,
        **kwargs: Unpack[_RNNOptions],
    ):
        super().__init__(locals(), **kwargs)

    _op = staticmethod(ops.simple_rnn)


class GRU(_WholeSequence):
    """The gated recurrent unit (Cho et al., 2014).

    With r_a = recurrent_activation, and the columns of the weights in the order z, r, h:

        z = r_a(x @ W_z + h @ U_z + b_z)
        r = r_a(x @ W_r + h @ U_r + b_r)
        n = activation(x @ W_h + r * (h @ U_h + c_h) + b_h)
        new_h = z * h + (1 - z) * n

    With `reset_after=False`: n = activation(x @ W_h + (r * h) @ U_h + b_h). Dropout masks are the same at all steps of a
    sequence and for all gates.

    Args:
        reset_after: Whether the reset gate r multiplies the product of h, which has a separate bias; otherwise h itself.

    Output shape:
        (batch, units), or (batch, steps, units) with `return_sequences`; with `return_state` a list of the output and the last
        state (batch, units).

    Example:
        >>> layers.GRU(4)(np.ones((2, 5, 3))).shape
        (2, 4)
        >>> output, state = layers.GRU(4, return_sequences=True, return_state=True)(np.ones((2, 5, 3)))
        >>> output.shape, state.shape
        ((2, 5, 4), (2, 4))
    """

    cell_class = GRUCell

    def __init__(
        self,
        units: option.Size,
        activation: option.Activation = "tanh",
        recurrent_activation: option.Activation = "sigmoid",
        use_bias: option.Flag = True,
        kernel_initializer: option.Initializer = "glorot_uniform",
        recurrent_initializer: option.Initializer = "orthogonal",
        bias_initializer: option.Initializer = "zeros",
        kernel_regularizer: option.Regularizer = None,
        recurrent_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        kernel_constraint: option.Constraint = None,
        recurrent_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        dropout: option.Rate = 0.0,
        recurrent_dropout: option.Rate = 0.0,
        seed: option.Anything = None,
        return_sequences: option.Flag = False,
        return_state: option.Flag = False,
        go_backwards: option.Flag = False,
        stateful: option.Flag = False,
        unroll: option.Flag = False,
        reset_after: option.Flag = True,
        use_cudnn: Any = "auto",
        **kwargs: Unpack[_RNNOptions],
    ):
        super().__init__(locals(), **kwargs)

    def _op(self, *arguments, **options):
        return ops.gru(*arguments, reset_after=self.reset_after, **options)


class LSTM(_WholeSequence):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget gate.

    With r_a = recurrent_activation, and the columns of the weights in the order i, f, c, o:

        i = r_a(x @ W_i + h @ U_i + b_i)
        f = r_a(x @ W_f + h @ U_f + b_f)
        o = r_a(x @ W_o + h @ U_o + b_o)
        new_c = f * c + i * activation(x @ W_c + h @ U_c + b_c)
        new_h = o * activation(new_c)

    Dropout masks are the same at all steps of a sequence and for all gates.

    Args:
        unit_forget_bias: Whether the bias b_f of the forget gate starts at 1.

    Output shape:
        (batch, units), or (batch, steps, units) with `return_sequences`; with `return_state` a list of the output and the last
        states h and c, both (batch, units).

    Example:
        >>> layers.LSTM(4)(np.ones((2, 5, 3))).shape
        (2, 4)
        >>> encoder = layers.LSTM(4, return_state=True)
        >>> output, h, c = encoder(np.ones((2, 5, 3)))
        >>> layers.LSTM(4, return_sequences=True)(np.ones((2, 7, 3)), initial_state=[h, c]).shape
        (2, 7, 4)
    """

    cell_class = LSTMCell

    def __init__(
        self,
        units: option.Size,
        activation: option.Activation = "tanh",
        recurrent_activation: option.Activation = "sigmoid",
        use_bias: option.Flag = True,
        kernel_initializer: option.Initializer = "glorot_uniform",
        recurrent_initializer: option.Initializer = "orthogonal",
        bias_initializer: option.Initializer = "zeros",
        unit_forget_bias: option.Flag = True,
        kernel_regularizer: option.Regularizer = None,
        recurrent_regularizer: option.Regularizer = None,
        bias_regularizer: option.Regularizer = None,
        activity_regularizer=None,
        kernel_constraint: option.Constraint = None,
        recurrent_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        dropout: option.Rate = 0.0,
        recurrent_dropout: option.Rate = 0.0,
        seed: option.Anything = None,
        return_sequences: option.Flag = False,
        return_state: option.Flag = False,
        go_backwards: option.Flag = False,
        stateful: option.Flag = False,
        unroll: option.Flag = False,
        use_cudnn: Any = "auto",
        **kwargs: Unpack[_RNNOptions],
    ):
        super().__init__(locals(), **kwargs)

    _op = staticmethod(ops.lstm)
