"""Recurrent cells: one time step of a recurrence, for RNN, StackedRNNCells, or a custom loop.

A cell has `state_size` (an integer, or a list of them), `output_size`, and `call(inputs, states) -> output, new states`,
with states as a list of tensors (batch, size). Any object with these is a cell.
"""

from __future__ import annotations

import inspect
from typing import Any, Unpack

import numpy as np

from nbkeras import initializers, ops, random
from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.engine import compatibility, option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor


def drop_ignored(kwargs: Any) -> dict[str, Any]:
    """The arguments without Keras's choice of an implementation: there is only one."""
    return {name: value for name, value in kwargs.items() if name not in ("implementation", "use_cudnn")}


def output_size_of(cell: Any) -> int:
    """The size of a cell's output: its `output_size`, otherwise the size of its first state."""
    size = getattr(cell, "output_size", None)
    return structures.flatten(cell.state_size)[0] if size is None else size


def check_cell(cell: Any) -> None:
    """Raise TypeError unless an object has the methods and attributes of a cell."""
    if isinstance(cell, type) or not callable(getattr(cell, "call", None)) or not hasattr(cell, "state_size"):
        raise TypeError(
            "a recurrent cell must be an object with call(inputs, states) and state_size (an integer, or a list of "
            f"integers, one per state), received {briefly(cell)}"
        )


def build_cell(cell: Any, step_shape: tuple) -> None:
    """Make a cell's weights once, for a step's input of this shape."""
    states = [(step_shape[0], size) for size in structures.flatten(cell.state_size)]
    if isinstance(cell, Layer) and cell._build_takes and not cell.built:
        cell.build(step_shape, states)
    elif isinstance(cell, Layer):
        cell._ensure_built(SymbolicTensor(step_shape, cell.dtype))
    elif callable(getattr(cell, "build", None)) and not getattr(cell, "built", False):
        cell.build(step_shape)


def with_named_states(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The arguments of a recurrent layer's call, with Keras 2's [sequences, state, ...] as Keras 3's `initial_state`.

    A list is kept if its sequences have a mask: Keras 2 uses that mask, but Keras 3 ignores it beside `initial_state`.
    """
    first = args[0] if args else None
    if not isinstance(first, list | tuple) or len(first) < 2 or getattr(first[0], "mask", None) is not None:
        return args, kwargs
    if len(args) > 1 or kwargs.get("initial_state") is not None:
        return args, kwargs
    return (first[0],), {**kwargs, "initial_state": list(first[1:])}


def sequences_of(inputs: Any) -> Any:
    """The sequences in the first argument of a call, which may be Keras 2's list [sequences, state, ...]."""
    return inputs[0] if isinstance(inputs, list | tuple) and inputs else inputs


def sequences_and_states(inputs: Any, initial_state: Any) -> tuple[Any, Any]:
    """(sequences, initial_state) of a call whose first argument may be Keras 2's list [sequences, state, ...]."""
    if not isinstance(inputs, list | tuple):
        return inputs, initial_state
    return inputs[0], list(inputs[1:]) if len(inputs) > 1 and initial_state is None else initial_state


def initial_state_of(cell: Any, batch_size: int, dtype: str) -> Any:
    """The initial states of a cell, in lists like its state_size; zeros unless it has `get_initial_state`."""
    if callable(getattr(cell, "get_initial_state", None)):
        states = cell.get_initial_state(batch_size=batch_size)
        return list(states) if isinstance(states, list | tuple) else [states]
    return [ops.zeros((batch_size, size), dtype) for size in structures.flatten(cell.state_size)]


def call_cell(cell: Any, inputs: Tensor, states: Any, training: Any) -> tuple[Tensor, list]:
    """(output, list of new states) of a step."""
    function = cell if isinstance(cell, Layer) else cell.call
    parameters = cell._call_takes if isinstance(cell, Layer) else inspect.signature(cell.call).parameters
    result = function(inputs, states, training=training) if "training" in parameters else function(inputs, states)
    if not isinstance(result, list | tuple) or len(result) != 2:
        raise TypeError(
            f"the cell {briefly(cell)} must return (output, new states) from its call, received {briefly(result)}"
        )
    output, new_states = result
    new_states = list(new_states) if isinstance(new_states, list | tuple) else [new_states]
    if len(structures.flatten(new_states)) != len(structures.flatten(cell.state_size)):
        raise ValueError(
            f"the cell {briefly(cell)} has state_size {cell.state_size}, but its call returned "
            f"{len(structures.flatten(new_states))} states"
        )
    return output, new_states


class _Cell(option.Declared, Layer):
    """Base of the built-in cells: options, weights, and dropout masks that stay the same for a sequence.

    Args:
        units: The size of the output and of each state.

    Call arguments:
        inputs: The step, (batch, features).
        states: A list of the state h, (batch, units).
        training: Whether dropout is active.
    """

    input_spec = InputSpec(ndim=2)
    quantized_channels = {"kernel": (-1,), "recurrent_kernel": (-1,)}
    gates = 1

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
        kernel_constraint: option.Constraint = None,
        recurrent_constraint: option.Constraint = None,
        bias_constraint: option.Constraint = None,
        dropout: option.Rate = 0.0,
        recurrent_dropout: option.Rate = 0.0,
        seed: option.Anything = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**drop_ignored(kwargs))
        option.keep(self, locals())
        self.output_size = self.units
        self.seed_generator = self.add_seed_generator(seed)
        self._masks: dict[str, Tensor] | None = None  # the masks for the sequence that RNN currently runs

    @property
    def state_size(self) -> Any:
        """The size of the state, or the list of the sizes of all states."""
        return self.units

    def get_initial_state(self, batch_size=None) -> list[Tensor]:
        """Zeros for each state: a list of tensors (batch_size, units).

        Args:
            batch_size: The number of samples.
        """
        return [ops.zeros((batch_size, size), self.compute_dtype) for size in structures.flatten(self.state_size)]

    def build(self, input_shape):
        features, width = input_shape[-1] if input_shape else None, self.gates * self.units
        if features is None:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs the size of the last axis, received {tuple(input_shape)}"
            )
        self.kernel = self._weight("kernel", (features, width))
        self.recurrent_kernel = self._weight("recurrent", (self.units, width))
        self.bias = self._weight("bias", self._bias_shape()) if self.use_bias else None

    def _weight(self, kind: str, shape: tuple[int, ...], initializer=None):
        initializer = initializer or getattr(self, f"{kind}_initializer")
        by_gate = kind == "recurrent" and compatibility.current.identity_for_each_gate
        if by_gate and isinstance(initializer, initializers.Identity):
            initializer = _for_each_gate(initializer)
        name = "recurrent_kernel" if kind == "recurrent" else kind
        return self._option_weight(shape, kind, name, initializer)

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def start_sequence(self) -> None:
        """Use the same dropout masks for all calls until `end_sequence`."""
        self._masks = {}

    def end_sequence(self) -> None:
        """Discard the dropout masks; calls outside a sequence draw new ones each time."""
        self._masks = None

    def dropped_inputs(self, inputs, training):
        """The inputs after dropout; a whole sequence gets one mask for all its steps.

        Args:
            inputs: A tensor (batch, features) or (batch, steps, features).
            training: Whether dropout is active.
        """
        if not training or self.dropout == 0:
            return inputs
        return ops.multiply(
            inputs, self._mask("inputs", (inputs.shape[0], inputs.shape[-1]), self.dropout, inputs.ndim)
        )

    def dropped_state(self, h, training):
        """h after recurrent dropout, for its product with the recurrent kernel.

        Args:
            h: The state (batch, units).
            training: Whether dropout is active.
        """
        mask = self.recurrent_mask(h.shape[0], training)
        return h if mask is None else ops.multiply(h, mask)

    def recurrent_mask(self, batch: int, training) -> Tensor | None:
        """The dropout mask (batch, units) for h before its product with the recurrent kernel, or None.

        Args:
            batch: The number of samples.
            training: Whether dropout is active.
        """
        if not training or self.recurrent_dropout == 0:
            return None
        return self._mask("state", (batch, self.units), self.recurrent_dropout, 2)

    def _mask(self, key: str, shape: tuple[int, ...], rate: float, ndim: int) -> Tensor:
        masks: dict[str, Tensor] = {} if self._masks is None else self._masks
        if key not in masks:
            masks[key] = random.dropout(ops.ones(shape, self.compute_dtype), rate, seed=self.seed_generator)
        return masks[key] if ndim == 2 else ops.expand_dims(masks[key], 1)

    def states_of(self, states: Any) -> list:
        """The states of a call as a list with a tensor for each of `state_size`; a single state may come without a list.

        Args:
            states: A list of tensors, or a tensor.

        Raises:
            ValueError: for a wrong number of states.
        """
        given = list(states) if isinstance(states, list | tuple) else [states]
        needed = len(structures.flatten(self.state_size))
        if len(given) != needed or any(len(getattr(state, "shape", ())) < 2 for state in given):
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) needs {needed} state{'s' * (needed > 1)} of shape (batch, ...), "
                f"received {briefly(states)}"
            )
        return given


class CellOptions(LayerOptions, total=False):
    """The options of `_Cell` that its subclasses accept as **kwargs."""

    kernel_initializer: option.Initializer
    recurrent_initializer: option.Initializer
    bias_initializer: option.Initializer
    kernel_regularizer: option.Regularizer
    recurrent_regularizer: option.Regularizer
    bias_regularizer: option.Regularizer
    kernel_constraint: option.Constraint
    recurrent_constraint: option.Constraint
    bias_constraint: option.Constraint
    dropout: option.Rate
    recurrent_dropout: option.Rate
    seed: Any


class SimpleRNNCell(_Cell):
    """One step of SimpleRNN: h' = activation(x @ kernel + h @ recurrent_kernel + bias).

    Output shape:
        (output, new states): (batch, units), and a list with the same tensor.

    Example:
        >>> cell = layers.SimpleRNNCell(4)
        >>> output, states = cell(np.ones((2, 3)), cell.get_initial_state(2))
        >>> output.shape, len(states)
        ((2, 4), 1)
    """

    def call(self, inputs, states, training=None):
        (h,) = self.states_of(states)
        product = ops.matmul(self.dropped_inputs(inputs, training), self.kernel)
        z = ops.add(product, ops.matmul(self.dropped_state(h, training), self.recurrent_kernel))
        h = self.activation(z if self.bias is None else ops.add(z, self.bias))
        return h, [h]


class GRUCell(_Cell):
    """One step of GRU, see there for the formula; gates and weights in the order z, r, h.

    Args:
        reset_after: Whether the reset gate multiplies the product of h, which has a separate bias; otherwise h itself.

    Output shape:
        (output, new states): (batch, units), and a list of the same tensor.

    Example:
        >>> cell = layers.GRUCell(4)
        >>> output, states = cell(np.ones((2, 3)), cell.get_initial_state(2))
        >>> output.shape, len(states)
        ((2, 4), 1)
    """

    gates = 3

    def __init__(
        self,
        units: option.Size,
        activation: option.Activation = "tanh",
        recurrent_activation: option.Activation = "sigmoid",
        use_bias: option.Flag = True,
        *,
        reset_after: option.Flag = True,
        **kwargs: Unpack[CellOptions],
    ):
        super().__init__(units, activation, use_bias, **kwargs)
        option.keep(self, locals())

    def _bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def call(self, inputs, states, training=None):
        (h,), n = self.states_of(states), self.units
        x = ops.matmul(self.dropped_inputs(inputs, training), self.kernel)
        operand = self.dropped_state(h, training)
        if self.bias is not None:
            x = ops.add(x, self.bias[0] if self.reset_after else self.bias)
        x_z, x_r, x_h = ops.split(x, 3, axis=-1)
        if self.reset_after:
            product = ops.matmul(operand, self.recurrent_kernel)
            if self.bias is not None:
                product = ops.add(product, self.bias[1])
            h_z, h_r, h_h = ops.split(product, 3, axis=-1)
        else:
            gates, candidate = ops.split(self.recurrent_kernel, [2 * n], axis=-1)
            h_z, h_r = ops.split(ops.matmul(operand, gates), 2, axis=-1)
        z = self.recurrent_activation(ops.add(x_z, h_z))
        r = self.recurrent_activation(ops.add(x_r, h_r))
        h_h = ops.multiply(r, h_h) if self.reset_after else ops.matmul(ops.multiply(r, operand), candidate)
        new = self.activation(ops.add(x_h, h_h))
        h = ops.add(ops.multiply(z, h), ops.multiply(ops.subtract(1.0, z), new))
        return h, [h]


class LSTMCell(_Cell):
    """One step of LSTM, see there for the formula; gates and weights in the order i, f, c, o.

    Args:
        unit_forget_bias: Whether the bias of the forget gate starts at 1.

    Call arguments:
        states: A list of the states h and c, each (batch, units).

    Output shape:
        (output, new states): h of shape (batch, units), and the list [h, c].

    Example:
        >>> cell = layers.LSTMCell(4)
        >>> output, states = cell(np.ones((2, 3)), cell.get_initial_state(2))
        >>> output.shape, len(states)
        ((2, 4), 2)
    """

    gates = 4

    def __init__(
        self,
        units: option.Size,
        activation: option.Activation = "tanh",
        recurrent_activation: option.Activation = "sigmoid",
        use_bias: option.Flag = True,
        *,
        unit_forget_bias: option.Flag = True,
        **kwargs: Unpack[CellOptions],
    ):
        super().__init__(units, activation, use_bias, **kwargs)
        option.keep(self, locals())

    @property
    def state_size(self):
        """The sizes of the states h and c."""
        return [self.units, self.units]

    def _weight(self, kind, shape, initializer=None):
        if kind == "bias" and self.unit_forget_bias:
            initializer = self._bias_with_forget_gate
        return super()._weight(kind, shape, initializer)

    def _bias_with_forget_gate(self, shape, dtype=None):
        n = self.units
        make: Any = initializers.get(self.bias_initializer or "glorot_uniform")  # the default of `add_weight` for None
        parts = [make((n,), dtype=dtype), np.ones(n), make((2 * n,), dtype=dtype)]
        return ops.concatenate([ops.convert_to_tensor(part, dtype) for part in parts])

    def call(self, inputs, states, training=None):
        h, c = self.states_of(states)
        product = ops.matmul(self.dropped_inputs(inputs, training), self.kernel)
        z = ops.add(product, ops.matmul(self.dropped_state(h, training), self.recurrent_kernel))
        return self._next(z if self.bias is None else ops.add(z, self.bias), c)

    def _next(self, z, c):
        """The output and the states after a step, from the gates before activation and the state c."""
        i, f, g, o = ops.split(z, 4, axis=-1)
        kept = ops.multiply(self.recurrent_activation(f), c)
        c = ops.add(kept, ops.multiply(self.recurrent_activation(i), self.activation(g)))
        h = ops.multiply(self.recurrent_activation(o), self.activation(c))
        return h, [h, c]


def _for_each_gate(initializer: Any) -> Any:
    """An initializer that repeats one square matrix for each gate, side by side."""
    return lambda shape, dtype=None: np.tile(initializer(shape[:1] * 2, dtype), shape[1] // shape[0])


class StackedRNNCells(option.Declared, Layer):
    """Several cells as one cell: each takes the output of the previous one. RNN wraps a list of cells in it.

    Args:
        cells (a list of cells): The cells, from the input to the output; see RNN for what a cell is.

    Call arguments:
        inputs: The step, (batch, features).
        states: A list with one list of states for each cell.
        training: Whether dropout is active.

    Output shape:
        (output, new states): the output of the last cell, and states like those passed.

    Raises:
        ValueError: without cells.
        TypeError: for an object that is not a cell.

    Example:
        >>> cells = layers.StackedRNNCells([layers.GRUCell(4), layers.LSTMCell(6)])
        >>> cells.state_size, cells.output_size
        ([4, [6, 6]], 6)
        >>> layers.RNN(cells)(np.ones((2, 5, 3))).shape
        (2, 6)
    """

    input_spec = InputSpec()

    def __init__(self, cells: option.Layers, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        if not isinstance(cells, list | tuple) or not cells:
            raise ValueError(f"StackedRNNCells needs a list of cells, received {briefly(cells)}")
        option.keep(self, locals())
        for cell in self.cells:
            check_cell(cell)

    @property
    def state_size(self):
        """The state sizes of the cells, in a list."""
        sizes = [cell.state_size for cell in self.cells]
        return tuple(structures.flatten(sizes)) if compatibility.current.flat_states else sizes

    @property
    def output_size(self):
        """The size of the last cell's output."""
        return output_size_of(self.cells[-1])

    def get_initial_state(self, batch_size=None):
        """The initial states of each cell, or zeros.

        Args:
            batch_size: The number of samples.
        """
        return [initial_state_of(cell, batch_size, self.compute_dtype) for cell in self.cells]

    def build(self, input_shape):
        shape = tuple(input_shape)
        for cell in self.cells:
            build_cell(cell, shape)
            shape = (shape[0], output_size_of(cell))

    def call(self, inputs, states, training=None):
        new_states = []
        for cell, own in zip(self.cells, states, strict=True):
            inputs, own = call_cell(cell, inputs, own, training)
            new_states.append(own)
        return inputs, new_states
