"""LSTMs whose products are convolutions (Shi et al., 2015): over sequences of sequences, of images and of volumes.

All computation has the channels last: 'channels_first' data is transposed once for a whole sequence.
"""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import InputSpec
from nbkeras.engine import option
from nbkeras.layers.recurrent import RNN, RNNOptions, _first, _WholeSequence
from nbkeras.layers.recurrent_cells import CellOptions, LSTMCell, build_cell
from nbkeras.layers.spatial import DataFormat, Padding, WindowSize, check_lengths
from nbkeras.ops.window import output_length


class ConvCellOptions(CellOptions, total=False):
    """The options of LSTMCell that the cells here take as **kwargs."""

    unit_forget_bias: option.Flag


class _ConvLSTMCell(LSTMCell):
    """One step of ConvLSTM; states h and c have the shape of the output, gates and weights the order i, f, c, o."""

    rank = 2
    _left_out = ("units",)  # they are `filters` here
    paddings = ("valid", "same")
    activation: Any
    recurrent_activation: Any
    data_format: str
    padding: str
    filters: int
    kernel_size: tuple
    strides: tuple
    dilation_rate: tuple

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
        **kwargs: Unpack[ConvCellOptions],
    ):
        units = option.size_of(option.name_of(self), "filters", filters)
        super().__init__(units, activation, recurrent_activation, use_bias, **kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(ndim=self.rank + 2)
        self.state_shape: tuple | None = None  # of a sample, once built

    def build(self, input_shape):
        shape = tuple(input_shape)
        if len(shape) != self.rank + 2 or None in shape[1:]:
            raise ValueError(
                f"layer {self.name!r} needs inputs of {self.rank + 2} axes a step whose sizes are known, received shape {shape}"
            )
        channels = shape[-1] if self.data_format == "channels_last" else shape[1]
        self.state_shape = self.output_shape_of(shape)[1:]
        self.kernel = self._weight("kernel", (*self.kernel_size, channels, 4 * self.filters))
        self.recurrent_kernel = self._weight("recurrent", (*self.kernel_size, self.filters, 4 * self.filters))
        self.bias = self._weight("bias", self._bias_shape()) if self.use_bias else None
        self.built = True

    def output_shape_of(self, step_shape) -> tuple:
        """The shape of a step's output and of both states."""
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
        """Zeros for each state."""
        return [ops.zeros((batch_size, *self.state_shape), self.dtype) for _ in range(2)]

    def to_last(self, x, axis: int = 1):
        """x with its channels last."""
        return x if self.data_format == "channels_last" else ops.moveaxis(x, axis, -1)

    def from_last(self, x, axis: int = 1):
        """x, whose channels are last, in the layer's data format."""
        return x if self.data_format == "channels_last" else ops.moveaxis(x, -1, axis)

    def project(self, inputs):
        """The inputs' part of all gates, channels last; several steps may be passed at once as more samples."""
        convolution = (ops.conv1d, ops.conv2d, ops.conv3d)[self.rank - 1]
        window = self.strides, self.padding, self.dilation_rate, "channels_last"
        return convolution(inputs, self.kernel, self.bias, *window)

    def step(self, z, states, training) -> tuple[Any, list]:
        """(output, new states), channels last, from projected inputs."""
        h, c = states
        operand = self.dropped_state(h, training)
        z = ops.add(z, ops.conv(operand, self.recurrent_kernel, 1, "same", "channels_last"))
        i, f, g, o = ops.split(z, 4, axis=-1)
        kept = ops.multiply(self.recurrent_activation(f), c)
        c = ops.add(kept, ops.multiply(self.recurrent_activation(i), self.activation(g)))
        h = ops.multiply(self.recurrent_activation(o), self.activation(c))
        return h, [h, c]

    def call(self, inputs, states, training=None):
        z = self.project(self.to_last(self.dropped_inputs(inputs, training)))
        h, states = self.step(z, [self.to_last(state) for state in states], training)
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
    """One step of ConvLSTM1D: (batch, steps, channels), [h, c] -> h, [h, c]."""

    rank = 1


class ConvLSTM2DCell(_ConvLSTMCell):
    """One step of ConvLSTM2D: (batch, rows, columns, channels), [h, c] -> h, [h, c]."""


class ConvLSTM3DCell(_ConvLSTMCell):
    """One step of ConvLSTM3D: (batch, depth, rows, columns, channels), [h, c] -> h, [h, c]."""

    rank = 3


class _ConvLSTM(_WholeSequence):
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
        **kwargs: Unpack[RNNOptions],
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
        """Zeros for h and c; batch_size: a number, or as in Keras 2 a tensor of inputs."""
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
    """An LSTM over (batch, time, steps, channels) with convolutions for products: -> (batch, new steps, filters).

    filters, kernel_size, strides, padding ('valid' or 'same'), data_format, dilation_rate: of the convolution of inputs; the
    states' has the same kernel size, no strides and padding 'same'. Then the arguments of LSTM (activation,
    recurrent_activation, use_bias, unit_forget_bias, initializers, regularizers, constraints, dropout, recurrent_dropout, seed)
    and of RNN (return_sequences, return_state, go_backwards, stateful). Dropout masks are the same at all steps and for all
    gates. All inputs are convolved at once; the steps are unrolled.
    """

    cell_class = ConvLSTM1DCell


class ConvLSTM2D(_ConvLSTM):
    """ConvLSTM1D over images: (batch, time, rows, columns, channels) -> (batch, new rows, new columns, filters)."""

    cell_class = ConvLSTM2DCell


class ConvLSTM3D(_ConvLSTM):
    """ConvLSTM1D over volumes: (batch, time, depth, rows, columns, channels) -> (batch, ..., filters)."""

    cell_class = ConvLSTM3DCell
