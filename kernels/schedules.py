"""Learning rates that follow the step count: the formulas of optimizers/schedules.py and of Keras 2's `decay`.

A kernel reads the number of steps made before, `step` (1,), and writes `rate`, float64 (1,), so that a replayed step follows its
step count. The other parameters have the names of a schedule's options. A call of a schedule from Python runs the kernel's Python
function on lists, and gets the same bits: both compute in float64 by `math`, which is the C library, without fused operations.
So no operation may raise an error in Python.
Nothing here has a twin: on a GPU, Python computes the rate.
"""

import functools
import math

from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.code import CompiledFunction

_exact = functools.partial(compiled, fastmath=False)
_LARGEST_LOG = 709.78  # of a float64, rounded down


class _Helper(CompiledFunction):
    """A function of numbers that kernels call. In Python it is an ordinary function, and nothing is compiled."""

    def __call__(self, *numbers: float) -> float:
        return self.py_func(*numbers)


_helper = functools.partial(_Helper, fastmath=False)


@_helper
def _power(base, exponent):
    """base ** exponent as in arrays: infinite for an overflow or a division by 0, NaN if it is not real."""
    if base < 0 and exponent % 1 != 0:
        return math.nan
    if exponent < 0 if base == 0 else exponent * math.log(abs(base)) > _LARGEST_LOG:
        return math.inf
    return math.pow(base, exponent)


@_helper
def _periods(step, decay_steps, staircase):
    periods = step / decay_steps
    return float(math.floor(periods)) if staircase != 0 else periods


@_exact
def exponential_decay(step, rate, initial_learning_rate, decay_steps, decay_rate, staircase):
    rate[0] = initial_learning_rate * _power(decay_rate, _periods(step[0], decay_steps, staircase))


@_exact
def inverse_time_decay(step, rate, initial_learning_rate, decay_steps, decay_rate, staircase):
    divisor = 1 + decay_rate * _periods(step[0], decay_steps, staircase)
    rate[0] = initial_learning_rate / divisor if divisor != 0 else math.inf


@_exact
def piecewise_constant_decay(step, rate, boundaries, values):
    i = 0
    while i < len(boundaries) and step[0] > boundaries[i]:
        i += 1
    rate[0] = values[i]


@_exact
def polynomial_decay(step, rate, initial_learning_rate, decay_steps, end_learning_rate, power, cycle):
    now, length = float(step[0]), decay_steps
    if cycle != 0:
        length *= max(1.0, float(math.ceil(now / length)))
    done = min(now, length) / length
    rate[0] = (initial_learning_rate - end_learning_rate) * _power(1 - done, power) + end_learning_rate


@_exact
def cosine_decay(step, rate, initial_learning_rate, decay_steps, alpha, warmup_target, warmup_steps):
    """warmup_target: NaN for no warmup."""
    now, start = float(step[0]), initial_learning_rate
    if not math.isnan(warmup_target):
        if now < warmup_steps:
            rate[0] = (warmup_target - start) * now / warmup_steps + start
            return
        now, start = now - warmup_steps, warmup_target
    cosine = 0.5 * (1 + math.cos(math.pi * min(now, decay_steps) / decay_steps))
    rate[0] = start * ((1 - alpha) * cosine + alpha)


@_exact
def cosine_decay_restarts(step, rate, initial_learning_rate, first_decay_steps, t_mul, m_mul, alpha):
    done, length, restarts = step[0] / first_decay_steps, 1.0, 0.0
    if t_mul == 1:
        restarts = float(math.floor(done))
        done -= restarts
    else:
        while done >= length:
            done, length, restarts = done - length, length * t_mul, restarts + 1
    cosine = 0.5 * _power(m_mul, restarts) * (1 + math.cos(math.pi * done / length))
    rate[0] = initial_learning_rate * ((1 - alpha) * cosine + alpha)


@_exact
def time_decay(step, rate, learning_rate, decay):
    """Keras 2's `decay` of a learning rate that is in an array (1,)."""
    rate[0] = learning_rate[0] / (1 + decay * step[0])
