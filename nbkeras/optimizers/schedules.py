"""Learning rates that follow the step count: Keras's schedules, as plain functions of a number.

A schedule is called with the number of steps made before (a number or anything that `float` accepts) and returns a float. An
optimizer calls it before each step. Formulas: keras/src/optimizers/schedules (Keras 3.15), computed in float64 here.
"""

import math
from typing import Annotated, Any

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.registry import Registry

registry = Registry("learning rate schedule", "keras.optimizers.schedules")


class LearningRateSchedule(option.Configured):
    """Base class of schedules: learning rates that follow the number of steps made.

    A subclass defines `__call__(step)`, which returns a float, and `get_config`, so that it can be saved. An optimizer calls
    its schedule before each step.

    Call arguments:
        step: The number of steps made before: a number, or a tensor or array with one number.

    Example:
        >>> class Halving(keras.optimizers.schedules.LearningRateSchedule):
        ...     def __call__(self, step):
        ...         return 0.1 * 0.5 ** (step // 1000)
        >>> optimizer = keras.optimizers.SGD(learning_rate=Halving())
        >>> Halving()(0), Halving()(2500)
        (0.1, 0.025)
    """

    def __call__(self, step) -> float:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, step)")

    def get_config(self) -> dict[str, Any]:
        """The configuration for `from_config`; a subclass adds its own options.

        Raises:
            NotImplementedError: for a subclass that does not define it.
        """
        config = super().get_config()
        if not config and type(self).get_config is LearningRateSchedule.get_config:
            raise NotImplementedError(f"{type(self).__name__} must define get_config() to be saved")
        return config


def _list(name: str, what: str, value: Any) -> list:
    for each in value:
        option.number_of(name, what, each)
    return list(value)


def _step_of(step: Any) -> float:
    """The number of steps made, the argument of a schedule."""
    try:
        number = float(step)
    except (TypeError, ValueError):
        raise TypeError(f"a schedule is called with the number of steps made, received {briefly(step)}") from None
    if not number >= 0:
        raise ValueError(f"a schedule is called with the number of steps made, 0 or more, received {briefly(step)}")
    return number


def _power(base: float, exponent: float) -> float:
    """base ** exponent as in arrays: infinite for an overflow or a division by 0, NaN if it is not real."""
    try:
        power = base**exponent
    except (OverflowError, ZeroDivisionError):
        return math.inf
    return math.nan if isinstance(power, complex) else power


List = Annotated[list, option.kind(_list, "numbers")]
_NOT_SHRINKING = ">= 1 (periods may not shrink)"
Growth = Annotated[Any, option.bounded("a number, 1 or more", lambda value: value >= 1, _NOT_SHRINKING)]
Name = Annotated[Any, option.Kind(lambda item, what, value: value or type(item).__name__, "a string, or None")]


class _Decay(LearningRateSchedule):
    """Base class of schedules that decay by a rate every `decay_steps` steps.

    Args:
        initial_learning_rate: The learning rate of the first step.
        decay_steps: The number of steps of a period.
        decay_rate: The decay in a period; see the formula.
        staircase: Whether the rate changes at the end of each period instead of in each step: step / decay_steps is
            rounded down.
        name (str): A name; it is saved.
    """

    def __init__(
        self,
        initial_learning_rate: option.AnyNumber,
        decay_steps: option.Above0,
        decay_rate: option.AnyNumber,
        staircase: option.Flag = False,
        name: Name = None,
    ):
        super().__init__(**option.keep(self, locals()))

    def _periods(self, step) -> float:
        periods = _step_of(step) / self.decay_steps
        return math.floor(periods) if self.staircase else periods


@registry.register
class ExponentialDecay(_Decay):
    """Exponential decay: initial_learning_rate * decay_rate ** (step / decay_steps).

    Raises:
        ValueError: for decay_steps of 0 or less.

    Example:
        >>> schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=100, decay_rate=0.5)
        >>> schedule(0), schedule(100), schedule(200)
        (0.1, 0.05, 0.025)
        >>> optimizer = keras.optimizers.Adam(learning_rate=schedule)
    """

    def __call__(self, step) -> float:
        return self.initial_learning_rate * _power(self.decay_rate, self._periods(step))


@registry.register
class InverseTimeDecay(_Decay):
    """Decay by 1 / time: initial_learning_rate / (1 + decay_rate * step / decay_steps).

    Raises:
        ValueError: for decay_steps of 0 or less.

    Example:
        >>> schedule = keras.optimizers.schedules.InverseTimeDecay(0.1, decay_steps=100, decay_rate=1.0)
        >>> schedule(0), schedule(100), schedule(300)
        (0.1, 0.05, 0.025)
    """

    def __call__(self, step) -> float:
        return self.initial_learning_rate / (1 + self.decay_rate * self._periods(step))


@registry.register
class PiecewiseConstantDecay(LearningRateSchedule):
    """Constant values: values[i] up to and including step boundaries[i], the last value after the last boundary.

    Args:
        boundaries: Increasing step numbers.
        values: The learning rates, one more than boundaries.
        name (str): A name; it is saved.

    Raises:
        ValueError: if the number of values is not the number of boundaries + 1.

    Example:
        >>> schedule = keras.optimizers.schedules.PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
        >>> schedule(100), schedule(101), schedule(500)
        (0.1, 0.01, 0.001)
    """

    def __init__(self, boundaries: List, values: List, name: option.Anything = "PiecewiseConstant"):
        super().__init__(**option.keep(self, locals()))
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                f"there must be one value more than boundaries, received {len(self.values)} values {self.values} "
                f"for {len(self.boundaries)} boundaries {self.boundaries}"
            )

    def __call__(self, step) -> float:
        for boundary, value in zip(self.boundaries, self.values, strict=False):
            if _step_of(step) <= boundary:
                return float(value)
        return float(self.values[-1])


@registry.register
class PolynomialDecay(LearningRateSchedule):
    """Polynomial decay: (initial - end) * (1 - step / decay_steps) ** power + end; end after decay_steps.

    Args:
        initial_learning_rate: The learning rate of the first step.
        decay_steps: The number of steps to the end.
        end_learning_rate: The learning rate at the end.
        power: The exponent; 1 for a straight line.
        cycle: Whether the rate rises again at the end: decay_steps then becomes its least multiple that is not
            below step.
        name (str): A name; it is saved.

    Raises:
        ValueError: for decay_steps of 0 or less.

    Example:
        >>> schedule = keras.optimizers.schedules.PolynomialDecay(1.0, decay_steps=100, end_learning_rate=0.0, power=2.0)
        >>> schedule(0), schedule(50), schedule(100)
        (1.0, 0.25, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: option.AnyNumber,
        decay_steps: option.Above0,
        end_learning_rate: option.AnyNumber = 0.0001,
        power: option.AnyNumber = 1.0,
        cycle: option.Flag = False,
        name: option.Anything = "PolynomialDecay",
    ):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, step) -> float:
        step, length = _step_of(step), float(self.decay_steps)
        if self.cycle:
            length *= max(1, math.ceil(step / length))
        done = min(step, length) / length
        span = self.initial_learning_rate - self.end_learning_rate
        return span * _power(1 - done, self.power) + self.end_learning_rate


@registry.register
class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate to alpha times it, in decay_steps (SGDR, arXiv:1608.03983, without restarts).

    With s = min(step, decay_steps) / decay_steps the rate is initial * ((1 - alpha) * (1 + cos(pi * s)) / 2 + alpha).

    Args:
        initial_learning_rate: The learning rate of the first step.
        decay_steps: The number of steps of the cosine, after the warmup.
        alpha: The learning rate at the end, as a fraction of the rate at the start of the cosine.
        name (str): A name; it is saved.
        warmup_target: The rate at the end of the warmup: the rate first rises on a straight line from the initial
            rate to this one, then the cosine starts. None for no warmup.
        warmup_steps: The number of steps of the warmup.

    Raises:
        ValueError: for decay_steps of 0 or less.

    Example:
        >>> schedule = keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)
        >>> schedule(5), schedule(10), round(schedule(60), 4), schedule(110)
        (0.05, 0.1, 0.05, 0.0)
    """

    def __init__(
        self,
        initial_learning_rate: option.AnyNumber,
        decay_steps: option.Above0,
        alpha: option.AnyNumber = 0.0,
        name: option.Anything = "CosineDecay",
        warmup_target: Annotated[Any, option.optional(option.Number)] = None,
        warmup_steps: option.AtLeast0 = 0,
    ):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, step) -> float:
        step, start = _step_of(step), self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return (self.warmup_target - start) * step / self.warmup_steps + start
            step, start = step - self.warmup_steps, self.warmup_target
        cosine = 0.5 * (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps))
        return start * ((1 - self.alpha) * cosine + self.alpha)


@registry.register
class CosineDecayRestarts(LearningRateSchedule):
    """Successive half cosines (SGDR, arXiv:1608.03983).

    Args:
        initial_learning_rate: The learning rate of the first step.
        first_decay_steps: The number of steps of the first cosine.
        t_mul: Each cosine is t_mul times as long as the last.
        m_mul: Each cosine is m_mul times as high as the last.
        alpha: The learning rate at the end of each cosine, as a fraction of the initial rate.
        name (str): A name; it is saved.

    Raises:
        ValueError: for first_decay_steps of 0 or less, and t_mul below 1.

    Example:
        >>> schedule = keras.optimizers.schedules.CosineDecayRestarts(0.1, first_decay_steps=100, m_mul=0.5)
        >>> schedule(0), round(schedule(50), 4), schedule(100), round(schedule(200), 4), schedule(300)
        (0.1, 0.05, 0.05, 0.025, 0.025)
    """

    def __init__(
        self,
        initial_learning_rate: option.AnyNumber,
        first_decay_steps: option.Above0,
        t_mul: Growth = 2.0,
        m_mul: option.AnyNumber = 1.0,
        alpha: option.AnyNumber = 0.0,
        name: option.Anything = "SGDRDecay",
    ):
        super().__init__(**option.keep(self, locals()))

    def __call__(self, step) -> float:
        done, length, restarts = _step_of(step) / self.first_decay_steps, 1.0, 0
        if self.t_mul == 1:
            restarts = math.floor(done)
            done -= restarts
        else:
            while done >= length:
                done, length, restarts = done - length, length * self.t_mul, restarts + 1
        cosine = 0.5 * _power(self.m_mul, restarts) * (1 + math.cos(math.pi * done / length))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


get, deserialize = registry.get, registry.deserialize


def serialize(learning_rate_schedule) -> Any:
    """The configuration of a schedule for `deserialize`.

    Args:
        learning_rate_schedule: A LearningRateSchedule.

    Returns:
        A dict with 'class_name' and 'config'.

    Example:
        >>> schedule = keras.optimizers.schedules.PiecewiseConstantDecay([100], [0.1, 0.01])
        >>> keras.optimizers.schedules.serialize(schedule)["config"]
        {'boundaries': [100], 'values': [0.1, 0.01], 'name': 'PiecewiseConstant'}
    """
    return registry.serialize(learning_rate_schedule)


_lazy_names.attach(globals(), registry)
