"""What `keras.backend` had in Keras 2 and `nbkeras.backend` has not: the learning phase as a value, symbolic gradients."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbkeras import backend, control, graph, layer, ops, tensor


class LearningPhase:
    """What `K.learning_phase()` returns: an input for `K.function`, and as a condition whether this is training."""

    def __bool__(self) -> bool:
        return layer.learning_phase()

    def __int__(self) -> int:
        return int(bool(self))

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return int(self) == other

    __hash__ = object.__hash__


_phase = LearningPhase()


def learning_phase() -> LearningPhase:
    """Whether layers called now are in training: as a condition, a number, or an input of `K.function`."""
    return _phase


def function(inputs: Sequence, outputs: Any, updates=None, **kwargs) -> Callable:
    """`nbkeras.backend.function`, whose inputs may have `K.learning_phase()` among them: 0 or 1, by default 0."""
    symbols = [each for each in inputs if not isinstance(each, LearningPhase)]
    run = control.function(symbols, outputs, updates)

    def call(arrays: Sequence) -> Any:
        if len(arrays) == len(symbols):
            return run(arrays)
        phases = [bool(a) for a, each in zip(arrays, inputs, strict=True) if isinstance(each, LearningPhase)]
        rest = [a for a, each in zip(arrays, inputs, strict=True) if not isinstance(each, LearningPhase)]
        return run(rest, training=phases[0])

    return call


class _Gradient(layer.Layer):
    """The gradient of a symbolic tensor's sum with respect to a symbolic tensor or a Variable, as a layer of the graph."""

    def __init__(self, loss: graph.SymbolicTensor, inputs: list, variable: Any):
        super().__init__()
        self._part = graph.Graph(inputs, loss)
        self._variable = variable

    def call(self, inputs):
        values = {id(symbol): value for symbol, value in zip(self._part.input_list, inputs, strict=True)}
        wanted = values.get(id(self._variable), self._variable)
        with tensor.GradientTape() as tape:
            tape.watch(wanted)
            loss = ops.sum(self._part.run(list(inputs)))
        gradient = tape.gradient(loss, wanted)
        return ops.zeros_like(wanted) if gradient is None else gradient


def gradients(loss: graph.SymbolicTensor, variables: Any) -> list[graph.SymbolicTensor]:
    """d loss / d each of `variables`, symbolic tensors that `loss` was computed from or Variables; all symbolic.

    Of tensors with values there is no graph to go back through: use `nbkeras.GradientTape` for them.
    """
    if not isinstance(loss, graph.SymbolicTensor):
        raise TypeError(
            f"K.gradients takes a symbolic tensor, made of a model's inputs, received {loss!r}; with nbkeras.GradientTape() "
            "takes gradients of what is computed inside it"
        )
    found = []
    for each in variables if isinstance(variables, list | tuple) else [variables]:
        inputs = [each] if isinstance(each, graph.SymbolicTensor) else []
        inputs += _sources(loss, inputs)
        found.append(_Gradient(loss, inputs, each)(inputs))
    return found


def _sources(loss: graph.SymbolicTensor, stops: Sequence[graph.SymbolicTensor]) -> list[graph.SymbolicTensor]:
    """The Inputs that `loss` is computed from, not looking behind `stops`."""
    found: dict[int, graph.SymbolicTensor] = {}
    seen, todo = {id(each) for each in stops}, [loss]
    while todo:
        symbol = todo.pop()
        if id(symbol) in seen:
            continue
        seen.add(id(symbol))
        parents = symbol.node.inputs if symbol.node is not None else []
        todo.extend(parents)
        if not parents:
            found[id(symbol)] = symbol
    return list(found.values())


@contextlib.contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Nothing: there is no graph of names."""
    yield


def manual_variable_initialization(value: bool) -> None:
    """Nothing: a variable has its value from the start."""


def is_sparse(tensor: Any) -> bool:
    """False: there are no sparse tensors."""
    return False


def to_dense(tensor: Any) -> Any:
    """The tensor, which is dense."""
    return tensor


def set_learning_phase(value: int) -> None:
    """Set the phase for calls outside fit, evaluate and predict: 0 or 1."""
    if value not in (0, 1):
        raise ValueError(f"the learning phase must be 0 or 1, received {value!r}")
    backend.set_learning_phase(value)
