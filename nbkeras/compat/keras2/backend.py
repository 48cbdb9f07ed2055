"""Functions of Keras 2's `keras.backend` that `nbkeras.backend` lacks: the learning phase as a value."""

from collections.abc import Callable, Sequence
from typing import Any

from nbkeras import backend, ops
from nbkeras.backend import control, variables
from nbkeras.compat.keras2.updates import VariableUpdate, once, postponed
from nbkeras.engine import learning_phase as phase
from nbkeras.engine.annotations import briefly, one_of


class LearningPhase:
    """The result of `K.learning_phase()`: an input for `K.function`. As a condition, True if layers are in training."""

    def __bool__(self) -> bool:
        return phase.learning_phase()

    def __int__(self) -> int:
        return int(bool(self))

    __index__ = __int__

    def __eq__(self, other: object) -> bool:
        return int(self) == other

    __hash__ = object.__hash__


_phase = LearningPhase()


def learning_phase() -> LearningPhase:
    """The learning phase: usable as a condition, as a number, and as an input of `K.function`."""
    return _phase


def function(inputs: Sequence, outputs: Any, updates=None, **kwargs) -> Callable:
    """`nbkeras.backend.function`, whose inputs may include `K.learning_phase()`: 0 or 1, by default 0.

    updates: may include the result of an optimizer's `get_updates`.
    """
    symbols = [each for each in inputs if not isinstance(each, LearningPhase)]
    steps = [each for each in updates or () if isinstance(each, VariableUpdate)]
    pairs = [each for each in updates or () if not isinstance(each, VariableUpdate)]
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


# In an optimizer's `get_updates`, these make variables and read values only at the first call.
variable, eye = once(variables.variable), once(variables.eye)
zeros, ones = once(variables.zeros), once(variables.ones)
random_uniform_variable = once(variables.random_uniform_variable)
random_normal_variable = once(variables.random_normal_variable)
get_value, batch_get_value = once(variables.get_value), once(variables.batch_get_value)

# There these return pairs, which are written after the step is computed.
update = postponed(variables.update, lambda x, new_x: new_x)
update_add = postponed(variables.update_add, ops.add)
update_sub = postponed(variables.update_sub, ops.subtract)
moving_average_update = postponed(
    variables.moving_average_update, lambda x, value, momentum: x * momentum + value * (1.0 - momentum)
)


def set_learning_phase(value: int) -> None:
    """Set the phase, 0 or 1, of calls outside fit, evaluate and predict, and of all calls of layers connected from now on."""
    if value not in (0, 1):
        raise ValueError(f"the learning phase must be 0 or 1, received {briefly(value)}")
    backend.set_learning_phase(value)


def clear_session() -> None:
    """Restart the numbers in layer names and unset the phase."""
    backend.clear_session()
    backend.set_learning_phase(0)
    phase.forget_learning_phase()


def image_dim_ordering() -> str:
    """The data format by its names in Keras 1: 'th' for channels first, 'tf' for channels last."""
    return "th" if backend.image_data_format() == "channels_first" else "tf"


def set_image_dim_ordering(dim_ordering: str) -> None:
    """Set the data format: 'th' or 'tf'."""
    one_of("set_image_dim_ordering", "the order of axes", dim_ordering, ("th", "tf"))
    backend.set_image_data_format("channels_first" if dim_ordering == "th" else "channels_last")
