"""Learning rates that follow the step count: Keras's schedules, as plain functions of a number.

A schedule is called with the number of steps made before (a number or anything that `float` accepts) and returns a float. An
optimizer calls it before each step. Formulas: keras/src/optimizers/schedules (Keras 3.15), computed in float64 by kernels, which
recorded steps launch.
"""

import math
from typing import Annotated, Any

import numpy as np

from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.observed import Observed
from nbkeras.engine.registry import Registry
from nbkeras.kernels import schedules as kernels
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import Kernel

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


List = Annotated[list, option.kind(_list, "numbers")]
_NOT_SHRINKING = ">= 1 (periods may not shrink)"
Growth = Annotated[Any, option.bounded("a number, 1 or more", lambda value: value >= 1, _NOT_SHRINKING)]
Name = Annotated[Any, option.Kind(lambda item, what, value: value or type(item).__name__, "a string, or None")]


class _Compiled(Observed, LearningRateSchedule):
    """Base class of schedules whose formula is a kernel. Its parameters have the names of the options that it needs."""

    kernel: Kernel
    has_kernel = True  # False for a subclass of the user's that computes the rate in Python

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        cls.has_kernel = cls.__call__ is _Compiled.__call__

    @classmethod
    def names_read_in_steps(cls) -> frozenset[str]:
        """The options, if a recorded step keeps them."""
        return frozenset(cls._parameters() if cls.has_kernel else ())

    @classmethod
    def _parameters(cls) -> tuple[str, ...]:
        code = cls.kernel.py_func.__code__
        return code.co_varnames[2 : code.co_argcount]

    def _numbers(self) -> list[Any]:
        """The kernel's arguments after the step and the rate: floats, and lists of them. None is NaN."""
        values = [getattr(self, name) for name in self._parameters()]
        return [
            math.nan if each is None else list(map(float, each)) if np.ndim(each) else float(each) for each in values
        ]

    def __call__(self, step) -> float:
        rate = [0.0]
        self.kernel.py_func([_step_of(step)], rate, *self._numbers())
        return rate[0]

    def launch(self, step: np.ndarray, rate: np.ndarray) -> None:
        """Write the learning rate of a step.

        Args:
            step: The number of steps made before, int64 (1,).
            rate: The learning rate, float64 (1,).
        """
        numbers = [device.persistent(np.array(each)) if isinstance(each, list) else each for each in self._numbers()]
        device.launch(self.kernel, step, rate, *numbers)


class _Decay(_Compiled):
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

    kernel = kernels.exponential_decay


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

    kernel = kernels.inverse_time_decay


@registry.register
class PiecewiseConstantDecay(_Compiled):
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

    kernel = kernels.piecewise_constant_decay

    def __init__(self, boundaries: List, values: List, name: option.Anything = "PiecewiseConstant"):
        super().__init__(**option.keep(self, locals()))
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError(
                f"there must be one value more than boundaries, received {len(self.values)} values {self.values} "
                f"for {len(self.boundaries)} boundaries {self.boundaries}"
            )


@registry.register
class PolynomialDecay(_Compiled):
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

    kernel = kernels.polynomial_decay

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


@registry.register
class CosineDecay(_Compiled):
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

    kernel = kernels.cosine_decay

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


@registry.register
class CosineDecayRestarts(_Compiled):
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

    kernel = kernels.cosine_decay_restarts

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
