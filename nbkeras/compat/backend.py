"""What `keras.backend` had in Keras 2 and `nbkeras.backend` has not: the learning phase as a value, names of graphs."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from nbkeras import backend, layer
from nbkeras.backend import control


class LearningPhase:
    """`K.learning_phase()`: an input for `K.function`, and as a condition whether this is training."""

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


class Step(NamedTuple):
    """What `optimizer.get_updates` returns a list of: a step to make with symbolic gradients."""

    optimizer: Any
    gradients: list
    variables: list


def function(inputs: Sequence, outputs: Any, updates=None, **kwargs) -> Callable:
    """`nbkeras.backend.function`, whose inputs may have `K.learning_phase()` among them: 0 or 1, by default 0.

    updates: also what an optimizer's `get_updates` returned.
    """
    symbols = [each for each in inputs if not isinstance(each, LearningPhase)]
    steps = [each for each in updates or () if isinstance(each, Step)]
    pairs = [each for each in updates or () if not isinstance(each, Step)]
    compute = control.function(symbols, [outputs, [step.gradients for step in steps]], pairs)

    def run(arrays: Sequence, training: bool = False) -> Any:
        results, gradients = compute(arrays, training)
        for step, own in zip(steps, gradients, strict=True):
            step.optimizer.apply(own, step.variables)
        return results

    def call(arrays: Sequence) -> Any:
        if len(arrays) == len(symbols):
            return run(arrays)
        phases = [bool(a) for a, each in zip(arrays, inputs, strict=True) if isinstance(each, LearningPhase)]
        rest = [a for a, each in zip(arrays, inputs, strict=True) if not isinstance(each, LearningPhase)]
        return run(rest, training=phases[0])

    return call


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
    """Set the phase, 0 or 1: for calls outside fit, evaluate and predict, there too for layers that are connected now."""
    if value not in (0, 1):
        raise ValueError(f"the learning phase must be 0 or 1, received {value!r}")
    backend.set_learning_phase(value)


def clear_session() -> None:
    """Start counting layer names anew, with no phase set."""
    backend.clear_session()
    backend.set_learning_phase(0)
    layer.forget_learning_phase()


def image_dim_ordering() -> str:
    """The data format in Keras 1's words: 'th' for channels first, 'tf' for channels last."""
    return "th" if backend.image_data_format() == "channels_first" else "tf"


def set_image_dim_ordering(dim_ordering: str) -> None:
    """Set the data format: 'th' or 'tf'."""
    if dim_ordering not in ("th", "tf"):
        raise ValueError(f"the order of axes must be 'th' or 'tf', received {dim_ordering!r}")
    backend.set_image_data_format("channels_first" if dim_ordering == "th" else "channels_last")
