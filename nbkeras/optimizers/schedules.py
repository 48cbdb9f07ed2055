"""Learning rates that follow the step count: Keras's schedules, as plain functions of a number.

A schedule is called with the number of steps made before (a number or anything `float` takes) and returns a float; an
optimizer does so before each step. Formulas: keras/src/optimizers/schedules (Keras 3.15), computed in float64 here.
"""

import math
from typing import Annotated, Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.registry import Registry

registry = Registry("learning rate schedule", "keras.optimizers.schedules")


class LearningRateSchedule(option.Configured):
    """Base of schedules; subclasses define `__call__(step) -> float` and, to be saved, `get_config`."""

    def __call__(self, step) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, step)")

    def get_config(self) -> dict[str, Any]:
        """The options with which `from_config` makes this schedule again; a subclass adds its own."""
        config = super().get_config()
        if not config and type(self).get_config is LearningRateSchedule.get_config:
            raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")
        return config


def _positive(name: str, what: str, value: Any) -> Any:
    if value <= 0:
        raise ValueError(f"{name}: {what} must be > 0, received {value!r}")
    return value


def _growth(name: str, what: str, value: Any) -> Any:
    if value < 1:
        raise ValueError(f"{name}: {what} must be >= 1 (periods may not shrink), received {value!r}")
    return value


List = Annotated[list, option.Kind(lambda item, what, value: list(value), "numbers")]
Positive = Annotated[Any, option.kind(_positive, "a number above 0")]
Growth = Annotated[Any, option.kind(_growth, "a number, 1 or more")]
Name = Annotated[Any, option.Kind(lambda item, what, value: value or type(item).__name__, "a string, or None")]


class _Decay(LearningRateSchedule):
    """Base of schedules that decay by a rate in each `decay_steps` steps; staircase: at once, at their end."""

    def __init__(
        self,
        initial_learning_rate: option.Anything,
        decay_steps: Positive,
        decay_rate: option.Anything,
        staircase: option.Flag = False,
        name: Name = None,
    ):
        super().__init__()
        option.keep(self, locals())

    def _periods(self, step) -> float:
        periods = float(step) / self.decay_steps
        return math.floor(periods) if self.staircase else periods


@registry.register
class ExponentialDecay(_Decay):
    """Exponential decay: initial_learning_rate * decay_rate ** (step / decay_steps); staircase: round the exponent down."""

    def __call__(self, step) -> float:
        return self.initial_learning_rate * self.decay_rate ** self._periods(step)


@registry.register
class InverseTimeDecay(_Decay):
    """Decay by 1 / time: initial_learning_rate / (1 + decay_rate * step / decay_steps).

    staircase: round step / decay_steps down.
    """

    def __call__(self, step) -> float:
        return self.initial_learning_rate / (1 + self.decay_rate * self._periods(step))


@registry.register
class PiecewiseConstantDecay(LearningRateSchedule):
    """Constant values: values[i] up to and including step boundaries[i], the last value after the last boundary."""

    def __init__(self, boundaries: List, values: List, name: option.Anything = "PiecewiseConstant"):
        super().__init__()
        option.keep(self, locals())
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                f"there must be one value more than boundaries, received {len(self.values)} values {self.values} "
                f"for {len(self.boundaries)} boundaries {self.boundaries}"
            )

    def __call__(self, step) -> float:
        for boundary, value in zip(self.boundaries, self.values, strict=False):
            if float(step) <= boundary:
                return float(value)
        return float(self.values[-1])


@registry.register
class PolynomialDecay(LearningRateSchedule):
    """Polynomial decay: (initial - end) * (1 - step / decay_steps) ** power + end.

    cycle: begin again when decay_steps are over, with decay_steps multiplied so that they reach the step.
    """

    def __init__(
        self,
        initial_learning_rate: option.Anything,
        decay_steps: Positive,
        end_learning_rate: option.Anything = 0.0001,
        power: option.Anything = 1.0,
        cycle: option.Flag = False,
        name: option.Anything = "PolynomialDecay",
    ):
        super().__init__()
        option.keep(self, locals())

    def __call__(self, step) -> float:
        step, length = float(step), float(self.decay_steps)
        if self.cycle:
            length *= max(1, math.ceil(step / length))
        done = min(step, length) / length
        span = self.initial_learning_rate - self.end_learning_rate
        return span * (1 - done) ** self.power + self.end_learning_rate


@registry.register
class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate to alpha times it in decay_steps.

    With warmup_target, the rate first rises on a straight line from the initial rate to warmup_target in warmup_steps, and the
    cosine starts there.
    """

    def __init__(
        self,
        initial_learning_rate: option.Anything,
        decay_steps: Positive,
        alpha: option.Anything = 0.0,
        name: option.Anything = "CosineDecay",
        warmup_target: option.Anything = None,
        warmup_steps: option.Anything = 0,
    ):
        super().__init__()
        option.keep(self, locals())

    def __call__(self, step) -> float:
        step, start = float(step), self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return (self.warmup_target - start) * step / self.warmup_steps + start
            step, start = step - self.warmup_steps, self.warmup_target
        cosine = 0.5 * (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps))
        return start * ((1 - self.alpha) * cosine + self.alpha)


@registry.register
class CosineDecayRestarts(LearningRateSchedule):
    """Half cosines one after another (SGDR, arXiv:1608.03983), each t_mul times as long and m_mul times as high as the last."""

    def __init__(
        self,
        initial_learning_rate: option.Anything,
        first_decay_steps: Positive,
        t_mul: Growth = 2.0,
        m_mul: option.Anything = 1.0,
        alpha: option.Anything = 0.0,
        name: option.Anything = "SGDRDecay",
    ):
        super().__init__()
        option.keep(self, locals())

    def __call__(self, step) -> float:
        done, length, restarts = float(step) / self.first_decay_steps, 1.0, 0
        if self.t_mul == 1:
            restarts = math.floor(done)
            done -= restarts
        else:
            while done >= length:
                done, length, restarts = done - length, length * self.t_mul, restarts + 1
        cosine = 0.5 * self.m_mul**restarts * (1 + math.cos(math.pi * done / length))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


get, deserialize = registry.get, registry.deserialize


def serialize(learning_rate_schedule) -> Any:
    """A schedule's {'class_name', 'config'}."""
    return registry.serialize(learning_rate_schedule)


_lazy_names.attach(globals(), registry)
