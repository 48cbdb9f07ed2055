"""LSTMs with convolutions in place of products (Shi et al., 2015): over sequences of sequences, of images and of volumes.

All computation has the channels last: 'channels_first' data is transposed once for a whole sequence.
"""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building.input_spec import DataFormat
from nbkeras.building.layer import InputSpec
from nbkeras.engine import option
from nbkeras.layers.recurrent import RNN, _first, _RNNOptions, _WholeSequence
from nbkeras.layers.recurrent_cells import CellOptions, LSTMCell, build_cell
from nbkeras.layers.spatial import Padding, WindowSize, check_lengths
from nbkeras.ops.window import output_length


class _ConvCellOptions(CellOptions, total=False):
    """The options of LSTMCell that the cells here accept as **kwargs."""

    unit_forget_bias: option.Flag


class _ConvLSTMCell(LSTMCell):
    """One step of ConvLSTM. The states h and c have the output's shape. Gates and weights are in the order i, f, c, o.

    Args:
        kernel_size: The size of the window, for inputs and states.
        strides: The distance from one window to the next, for inputs; it is 1 for states.
    """

    rank = 2
    _left_out = ("units",)  # `filters` takes the place of `units`
    paddings = ("valid", "same")

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: DataFormat = None,
        dilation_rate: WindowSize = 1,
        activation: option.Activation = "tanh",
        recurrent_activation: option.Activation = "sigmoid",
        use_bias: option.Flag = True,
        **kwargs: Unpack[_ConvCellOptions],
    ):
        units = option.size_of(option.name_of(self), "filters", filters)
        super().__init__(units, activation, recurrent_activation, use_bias, **kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self.state_shape: tuple | None = None  # the shape of a sample's state, set by `build`

    def build(self, input_shape):
        shape = tuple(input_shape)
        if len(shape) != self.rank + 2 or None in shape[1:]:
            raise ValueError(
                f"layer {self.name!r} needs {self.rank + 2} axes of known size in a step, received shape {shape}"
            )
        channels = shape[-1] if self.data_format == "channels_last" else shape[1]
        if channels == 0:
            raise ValueError(f"layer {self.name!r} needs steps of one channel or more, received shape {shape}")
        self.state_shape = self.output_shape_of(shape)[1:]
        self.kernel = self._weight("kernel", (*self.kernel_size, channels, 4 * self.filters))
        self.recurrent_kernel = self._weight("recurrent", (*self.kernel_size, self.filters, 4 * self.filters))
        self.bias = self._weight("bias", self._bias_shape()) if self.use_bias else None

    def output_shape_of(self, step_shape) -> tuple:
        """The shape of a step's output and of both states.

        Args:
            step_shape: The shape of a step's input, with the batch axis.
        """
        last = self.data_format == "channels_last"
        windows = zip(
            step_shape[1:-1] if last else step_shape[2:],
            self.kernel_size,
            self.strides,
            self.dilation_rate,
            strict=True,
        )
        lengths = [output_length(*window, self.padding) for window in windows]
        check_lengths(self, step_shape, lengths, f"kernel_size={self.kernel_size}")
        return (step_shape[0], *lengths, self.filters) if last else (step_shape[0], self.filters, *lengths)

    def get_initial_state(self, batch_size=None):
        """Zeros for h and c, in the shape of the output.

        Args:
            batch_size: The number of samples.
        """
        return [ops.zeros((batch_size, *self.state_shape), self.compute_dtype) for _ in range(2)]

    def to_last(self, x, axis: int = 1):
        """x with its channels last.

        Args:
            x: A tensor in the layer's data format.
            axis: The axis of the channels in 'channels_first' data.
        """
        return x if self.data_format == "channels_last" else ops.moveaxis(x, axis, -1)

    def from_last(self, x, axis: int = 1):
        """x converted from channels last to the layer's data format.

        Args:
            x: A tensor with its channels last.
            axis: The axis of the channels in 'channels_first' data.
        """
        return x if self.data_format == "channels_last" else ops.moveaxis(x, -1, axis)

    def project(self, inputs):
        """The inputs' part of all gates, channels last; several steps may be passed at once as more samples.

        Args:
            inputs: A tensor (batch, ..., channels).
        """
        convolution = (ops.conv1d, ops.conv2d, ops.conv3d)[self.rank - 1]
        window = self.strides, self.padding, self.dilation_rate, "channels_last"
        return convolution(inputs, self.kernel, self.bias, *window)

    def step(self, z, states, training) -> tuple[Any, list]:
        """(output, new states), channels last, from projected inputs.

        Args:
            z: The inputs' part of all gates, from `project`.
            states: h and c, channels last.
            training: Whether recurrent dropout is active.
        """
        h, c = states
        operand = self.dropped_state(h, training)
        # floats, if it is quantized: states stay floats too
        recurrent_kernel = ops.convert_to_tensor(self.recurrent_kernel)
        return self._next(ops.add(z, ops.conv(operand, recurrent_kernel, 1, "same", "channels_last")), c)

    def call(self, inputs, states, training=None):
        z = self.project(self.to_last(self.dropped_inputs(inputs, training)))
        h, states = self.step(z, [self.to_last(state) for state in self.states_of(states)], training)
        return self.from_last(h), [self.from_last(state) for state in states]

    def dropped_inputs(self, inputs, training):
        if not training or self.dropout == 0:
            return inputs
        step = (inputs.shape[0], *inputs.shape[-self.rank - 1 :])
        mask = self._mask("inputs", step, self.dropout, 2)
        return ops.multiply(inputs, mask if inputs.ndim == len(step) else ops.expand_dims(mask, 1))

    def dropped_state(self, h, training):
        if not training or self.recurrent_dropout == 0:
            return h
        return ops.multiply(h, self._mask("state", h.shape, self.recurrent_dropout, 2))


class ConvLSTM1DCell(_ConvLSTMCell):
    """One step of ConvLSTM1D.

    Call arguments:
        inputs: The step, (batch, steps, channels).
        states: A list of the states h and c, each (batch, new steps, filters).

    Output shape:
        (output, new states): h of shape (batch, new steps, filters), and the list [h, c].

    Example:
        >>> cell = layers.ConvLSTM1DCell(4, 3)
        >>> cell.build((2, 8, 3))
        >>> output, states = cell(np.ones((2, 8, 3)), cell.get_initial_state(2))
        >>> output.shape, len(states)
        ((2, 6, 4), 2)
    """

    rank = 1


class ConvLSTM2DCell(_ConvLSTMCell):
    """One step of ConvLSTM2D.

    Call arguments:
        inputs: The step, (batch, rows, columns, channels).
        states: A list of the states h and c, each (batch, new rows, new columns, filters).

    Output shape:
        (output, new states): h of shape (batch, new rows, new columns, filters), and the list [h, c].

    Example:
        >>> cell = layers.ConvLSTM2DCell(4, 3)
        >>> cell.build((2, 8, 8, 3))
        >>> output, states = cell(np.ones((2, 8, 8, 3)), cell.get_initial_state(2))
        >>> output.shape, len(states)
        ((2, 6, 6, 4), 2)
    """


class ConvLSTM3DCell(_ConvLSTMCell):
    """One step of ConvLSTM3D.

    Call arguments:
        inputs: The step, (batch, depth, rows, columns, channels).
        states: A list of the states h and c, each (batch, new depth, new rows, new columns, filters).

    Output shape:
        (output, new states): h of shape (batch, new depth, new rows, new columns, filters), and the list [h, c].

    Example:
        >>> cell = layers.ConvLSTM3DCell(2, 3)
        >>> cell.build((1, 4, 4, 4, 3))
        >>> output, states = cell(np.ones((1, 4, 4, 4, 3)), cell.get_initial_state(1))
        >>> output.shape, len(states)
        ((1, 2, 2, 2, 2), 2)
    """

    rank = 3


class _ConvLSTM(_WholeSequence):
    """Base of the ConvLSTM layers.

    Args:
        kernel_size: The size of the window, for inputs and states.
        strides: The distance from one window to the next, for inputs; it is 1 for states.
        unit_forget_bias: Whether the bias of the forget gate starts at 1.
    """

    def __init__(
        self,
        filters: option.Size,
        kernel_size: WindowSize,
        strides: WindowSize = 1,
        padding: Padding = "valid",
        data_format: DataFormat = None,
        dilation_rate: WindowSize = 1,
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
        **kwargs: Unpack[_RNNOptions],
    ):
        super().__init__(locals(), **kwargs)
        self.input_spec = InputSpec(ndim=self.cell.rank + 3)

    def build(self, input_shape):
        shape = _first(input_shape)
        if len(shape) == self.cell.rank + 3:
            build_cell(self.cell, (shape[0], *shape[2:]))
        super().build(input_shape)
        self.input_spec = InputSpec(shape=(None, None, *shape[2:]))

    def compute_output_shape(self, input_shape):
        shape = _first(input_shape)
        state = self.cell.output_shape_of((shape[0], *shape[2:]))
        output = (shape[0], shape[1], *state[1:]) if self.return_sequences else state
        return [output, state, state] if self.return_state else output

    def _state_shapes(self, batch):
        return [(batch, *self.cell.state_shape)] * 2

    def get_initial_state(self, batch_size=None):
        """Zeros for h and c.

        Args:
            batch_size: The number of samples, or as in Keras 2 a tensor of inputs.
        """
        return self.cell.get_initial_state(getattr(batch_size, "shape", [batch_size])[0])

    def _run(self, sequences, states, mask, training):
        cell = self.cell
        x = cell.to_last(cell.dropped_inputs(sequences, training), 2)
        batch, steps, *sizes = x.shape
        z = cell.project(ops.reshape(x, (batch * steps, *sizes)))
        states = states or self.get_initial_state(batch)
        z, states = ops.reshape(z, (batch, steps, *z.shape[1:])), [cell.to_last(state) for state in states]
        output, states = RNN._run(self, z, states, mask, training)
        return cell.from_last(output, 2 if self.return_sequences else 1), [cell.from_last(state) for state in states]

    def _step(self, step, states, training):
        return self.cell.step(step, states, training)


class ConvLSTM1D(_ConvLSTM):
    """An LSTM over sequences of sequences, with convolutions in place of products (Shi et al., 2015).

    The formula is LSTM's, with `conv(x, W)` for x @ W and `conv(h, U)` for h @ U; the convolution of h has padding 'same'.
    Dropout masks are the same at all time steps and for all gates.

    Call arguments:
        sequences: A tensor (batch, time, steps, channels); float.

    Input shape:
        (batch, time, steps, channels), or (batch, time, channels, steps) for 'channels_first'.

    Output shape:
        (batch, new steps, filters), or (batch, time, new steps, filters) with `return_sequences`; with `return_state` a list
        of the output and the last states h and c, both (batch, new steps, filters).

    Example:
        >>> layers.ConvLSTM1D(4, 3)(np.ones((2, 5, 8, 3))).shape
        (2, 6, 4)
    """

    cell_class = ConvLSTM1DCell


class ConvLSTM2D(_ConvLSTM):
    """An LSTM over sequences of images, with convolutions in place of products (Shi et al., 2015).

    The formula is LSTM's with `conv(x, W)` for x @ W and `conv(h, U)` for h @ U; the convolution of h has padding 'same'.
    Dropout masks are the same at all time steps and for all gates.

    Call arguments:
        sequences: A tensor (batch, time, rows, columns, channels); float.

    Input shape:
        (batch, time, rows, columns, channels), or (batch, time, channels, rows, columns) for 'channels_first'.

    Output shape:
        (batch, new rows, new columns, filters), or the same with time after the batch with `return_sequences`; with
        `return_state` a list of the output and the last states h and c.

    Example:
        >>> frames = np.ones((2, 5, 8, 8, 3))
        >>> layers.ConvLSTM2D(4, 3)(frames).shape
        (2, 6, 6, 4)
        >>> layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(frames).shape
        (2, 5, 8, 8, 4)
    """

    cell_class = ConvLSTM2DCell


class ConvLSTM3D(_ConvLSTM):
    """An LSTM over sequences of volumes, with convolutions in place of products (Shi et al., 2015).

    The formula is LSTM's with `conv(x, W)` for x @ W and `conv(h, U)` for h @ U; the convolution of h has padding 'same'.
    Dropout masks are the same at all time steps and for all gates.

    Call arguments:
        sequences: A tensor (batch, time, depth, rows, columns, channels); float.

    Input shape:
        (batch, time, depth, rows, columns, channels), or with the channels after time for 'channels_first'.

    Output shape:
        (batch, new depth, new rows, new columns, filters), or the same with time after the batch with `return_sequences`; with
        `return_state` a list of this and the last states h and c.

    Example:
        >>> layers.ConvLSTM3D(2, 3)(np.ones((1, 2, 4, 4, 4, 3))).shape
        (1, 2, 2, 2, 2)
    """

    cell_class = ConvLSTM3DCell
