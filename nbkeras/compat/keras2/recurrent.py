"""Keras 2's `constants` for the cells of recurrent layers; `keras2.install` sets these members, as in methods.py."""

import copy
import inspect
from typing import Any

from nbkeras import layers, ops
from nbkeras.building.graph import SymbolicTensor
from nbkeras.building.layer import Layer
from nbkeras.compat.keras2.generic_utils import to_list
from nbkeras.engine.tensor import Tensor
from nbkeras.layers import recurrent, recurrent_cells
from nbkeras.layers.recurrent_cells import with_named_states

_rnn, _both = vars(recurrent.RNN).copy(), vars(layers.Bidirectional).copy()


def _takes_constants(cell: Any) -> bool:
    return "constants" in inspect.signature(cell.call).parameters


class _Fed:
    """A cell together with its constants, in the form of a cell without constants."""

    def __init__(self, cell: Any, constants: list):
        self.cell, self.constants, self.state_size = cell, constants, cell.state_size

    def call(self, inputs, states, training=None):
        """One step of the cell with its constants."""
        takes = inspect.signature(self.cell.call).parameters
        given = {"constants": self.constants, "training": training}
        function = self.cell if isinstance(self.cell, Layer) else self.cell.call
        return function(inputs, states, **{name: value for name, value in given.items() if name in takes})


def _fed(cell: Any, constants: list) -> Any:
    if not hasattr(cell, "cells"):
        return _Fed(cell, constants)
    stacked = copy.copy(cell)
    stacked.cells = [_fed(each, constants) for each in cell.cells]
    return stacked


class _WithConstants:
    """Members of RNN and Bidirectional: constants are the last inputs of a call, as in Keras 2's files."""

    _num_constants = None  # the number of constants of the layer's calls
    _passed_constants = None  # the constants of a Bidirectional, while it calls this layer

    def __call__(self, *args, constants=None, **kwargs):
        """`Layer.__call__`. constants: a tensor or a list of tensors for the `constants` of the cell's `call`."""
        constants = self._passed_constants if constants is None else constants
        if constants is not None:
            constants = to_list(constants, allow_tuple=True)
            states = kwargs.pop("initial_state", None)
            states = [] if states is None else to_list(states, allow_tuple=True)
            self._num_constants = len(constants)
            args = ([*to_list(args[0], allow_tuple=True), *states, *constants], *args[1:])
        elif args:
            self._parted(args[0])
        return Layer.__call__(self, *args, **kwargs)  # type: ignore[arg-type]

    def _symbolic_call(self, args, kwargs):
        """Connect the layer, with the constants among its inputs."""
        return Layer._symbolic_call(self, *(args, kwargs) if self._num_constants else with_named_states(args, kwargs))  # type: ignore[arg-type]

    def _parted(self, inputs: Any) -> tuple[Any, list]:
        """(other inputs, constants)."""
        count = self._num_constants or 0
        if not count:
            return inputs, []
        if not isinstance(inputs, list | tuple) or len(inputs) <= count:
            raise ValueError(f"layer {self.name!r} takes {count} constants: call it with constants=...")  # type: ignore
        return inputs[:-count], list(inputs[-count:])

    def get_config(self):
        """`get_config`, with the number of constants."""
        config = Layer.get_config(self)  # type: ignore[arg-type]
        return {**config, "num_constants": self._num_constants} if self._num_constants else config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A layer with new weights from `get_config`."""
        config = dict(config)
        count = config.pop("num_constants", None)
        layer = Layer.from_config.__func__(cls, config, custom_objects)  # type: ignore[attr-defined]
        layer._num_constants = count
        return layer


class RNN(_WithConstants):
    """Members of every recurrent layer."""

    _cell_fed = None  # the cell with its constants during a call

    def build(self, input_shape):
        """`build`. A cell with constants is built for a list of shapes: its input's, then the constants'."""
        _, constants = self._parted(input_shape)
        if constants:
            first = tuple(input_shape[0])
            shape, cells = (first[0], *first[2:]), getattr(self.cell, "cells", [self.cell])  # type: ignore[attr-defined]
            if not any(map(_takes_constants, cells)):
                raise ValueError(f"layer {self.name!r} received constants, but its cell's call does not take them")  # type: ignore
            for cell in cells:
                if _takes_constants(cell) and isinstance(cell, Layer):
                    cell._ensure_built([SymbolicTensor(tuple(each), cell.dtype) for each in (shape, *constants)])
                shape = (shape[0], recurrent_cells.output_size_of(cell))
        _rnn["build"](self, input_shape)

    def get_initial_state(self, inputs=None, batch_size=None):
        """The initial states of sequences. inputs: the sequences, or their number."""
        if not isinstance(inputs, Tensor | SymbolicTensor):
            return _rnn["get_initial_state"](self, batch_size if inputs is None else inputs)
        zeros = ops.sum(ops.zeros_like(inputs), axis=tuple(range(1, inputs.ndim)))
        shapes = self._state_shapes(None)  # type: ignore[attr-defined]
        return [ops.tile(ops.expand_dims(zeros, -1), (1, size)) for _, size in shapes]

    def call(self, sequences, initial_state=None, mask=None, training=None):
        """`call`, with the constants for the cell."""
        sequences, constants = self._parted(sequences)
        self._cell_fed = _fed(self.cell, constants) if constants else None  # type: ignore[attr-defined]
        try:
            return _rnn["call"](self, sequences, initial_state, mask, training)
        finally:
            self._cell_fed = None

    def _step(self, step, states, training):
        return recurrent_cells.call_cell(self._cell_fed or self.cell, step, states, training)  # type: ignore


class Bidirectional(_WithConstants):
    """Members of Bidirectional."""

    layer = property(lambda self: self.forward_layer)

    def build(self, input_shape):
        """`build`, with the number of constants set on both layers."""
        if self._num_constants:
            for each in (self.forward_layer, self.backward_layer):  # type: ignore[attr-defined]
                each._num_constants = self._num_constants
                each._ensure_built([SymbolicTensor(tuple(shape), each.dtype) for shape in input_shape])
        _both["build"](self, input_shape)

    def call(self, sequences, initial_state=None, mask=None, training=None):
        """`call`, with the constants for both layers."""
        sequences, constants = self._parted(sequences)
        pair = (self.forward_layer, self.backward_layer)  # type: ignore[attr-defined]
        for each in pair:
            each._passed_constants = constants or None
        try:
            return _both["call"](self, sequences, initial_state, mask, training)
        finally:
            for each in pair:
                each._passed_constants = None
