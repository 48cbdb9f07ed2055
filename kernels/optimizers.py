"""Optimizer steps on flat arrays, in place. A step is one pass over memory. Each formula is written only here, and is the kernel.

The parameters of a step's formula: the weight `w`, its gradient `g`, then the optimizer's slots;
after `/` the numbers that change from step to step: `rate`, the learning rate, and `step`, the number of earlier steps; after `*`
the numbers of an optimizer, and `decay`, the decoupled weight decay (w -= w * decay * rate, before the step). It returns the new
weight, then the new slots.

The kernel takes 1-D arrays of the same size and float dtype; `rate`, float64 (1,), and `step`, int64 (1,), which it reads, so
that a replayed step follows them; then the numbers. Nothing here needs a vjp.
Formulas, their order and their dtype: keras/src/optimizers (Keras 3.15).
"""

from collections.abc import Callable

import numpy as np

from nbkeras.kernels.loops.expressions import is_nan, real, sqrt, tiny, where
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray

CHUNK = 16384  # minimum elements of a share (2 to 10 us of work); also the elements of a partial sum of squares


def launch(kernel: Callable, first: Array, *args) -> None:
    """Launches a kernel with shares; the first array has the size of all."""
    launch_shares(kernel, share_count(first.size, CHUNK), first, *args)


def step_formula(formula: Callable) -> Map:
    """Decorator that makes the kernel of a formula at the top level of a module. It writes all its arrays except `g`."""
    names = formula.__code__.co_varnames[: formula.__code__.co_posonlyargcount]
    return Map(formula.__name__, formula.__module__, formula, " ".join(name for name in names if name != "g"))


def normal(x):
    """Returns x, or zero where x is subnormal; NaN stays NaN.

    Slots that shrink for ever (a dead unit's moments) become zero before they are subnormal numbers, which are many times
    slower to compute with on most CPUs.
    """
    return where(abs(x) < tiny(), 0.0, x)


def moved(mean, x, take):
    """A running mean after a step towards x: mean + take * (x - mean)."""
    return normal(mean + (x - mean) * take)


def mixed(mean, x, keep, take):
    """A running mean after a step: keep * mean + take * x. `moved` rounds differently; Keras uses both."""
    return normal(keep * mean + take * x)


def sgd_rule(w, g, lr, shrink, /):
    return w - w * shrink - g * lr


@step_formula
def sgd(w, g, /, rate, *, decay):
    return sgd_rule(w, g, rate, decay * rate)


@step_formula
def shrink(w, /, rate, *, decay):
    """Weight decay alone."""
    return w - w * (decay * rate)


@step_formula
def sgd_momentum(w, g, m, /, rate, *, decay, momentum, nesterov):
    m = normal(m * momentum - g * rate)
    of_momentum, of_gradient = where(nesterov > 0, momentum, 1.0), where(nesterov > 0, rate, 0.0)
    return w - w * (decay * rate) + (m * of_momentum - g * of_gradient), m


def rmsprop_rule(w, g, v, lr, shrink, keep, take, epsilon, /):
    v = mixed(v, g * g, keep, take)
    return w - w * shrink - lr * g / sqrt(v + epsilon), v


@step_formula
def rmsprop(w, g, v, /, rate, *, decay, rho, epsilon):
    return rmsprop_rule(w, g, v, rate, decay * rate, rho, 1 - rho, epsilon)


@step_formula
def rmsprop_momentum(w, g, v, m, /, rate, *, decay, rho, epsilon, momentum):
    v = mixed(v, g * g, rho, 1 - rho)
    m = normal(momentum * m + rate * g / sqrt(v + epsilon))
    return w - w * (decay * rate) - m, v, m


@step_formula
def rmsprop_centered(w, g, v, mean, /, rate, *, decay, rho, epsilon):
    v, mean = mixed(v, g * g, rho, 1 - rho), mixed(mean, g, rho, 1 - rho)
    return w - w * (decay * rate) - rate * g / sqrt(v - mean * mean + epsilon), v, mean


@step_formula
def rmsprop_centered_momentum(w, g, v, m, mean, /, rate, *, decay, rho, epsilon, momentum):
    v, mean = mixed(v, g * g, rho, 1 - rho), mixed(mean, g, rho, 1 - rho)
    m = normal(momentum * m + rate * g / sqrt(v - mean * mean + epsilon))
    return w - w * (decay * rate) - m, v, m, mean


# the kernel for (has momentum, is centered)
RMSPROP = {
    (False, False): rmsprop,
    (True, False): rmsprop_momentum,
    (False, True): rmsprop_centered,
    (True, True): rmsprop_centered_momentum,
}


def rmsprop_faded(v, keep, /):
    """Returns v after a step of RMSprop with a gradient of 0."""
    return normal(keep * v)


def rmsprop_faded_four_times(v, keep, /):
    """v after four such steps. v never grows, so a number that becomes subnormal in between is subnormal at the end too."""
    return normal(keep * (keep * (keep * (keep * v))))


def adagrad_rule(w, g, accumulator, lr, shrink, epsilon, /):
    accumulator = accumulator + g * g
    return w - w * shrink - lr * g / sqrt(accumulator + epsilon), accumulator


@step_formula
def adagrad(w, g, accumulator, /, rate, *, decay, epsilon):
    return adagrad_rule(w, g, accumulator, rate, decay * rate, epsilon)


@step_formula
def adadelta(w, g, squares, changes, /, rate, *, decay, rho, epsilon):
    squares = mixed(squares, g * g, rho, 1 - rho)
    change = sqrt(changes + epsilon) * g / sqrt(squares + epsilon)
    changes = mixed(changes, change * change, rho, 1 - rho)
    return w - w * (decay * rate) - rate * change, squares, changes


def beta_power(beta, step):
    """beta**t in step t (the first step has t = 1), in the weights' dtype as in Keras."""
    return real(beta) ** real(step + 1)


def adam_rate(rate, step, beta_1, beta_2):
    """The learning rate with Adam's correction for moments that start at zero."""
    return real(rate) * sqrt(1 - beta_power(beta_2, step)) / (1 - beta_power(beta_1, step))


@step_formula
def adam(w, g, m, v, /, rate, step, *, decay, beta_1, beta_2, epsilon):
    m, v = moved(m, g, 1 - beta_1), moved(v, g * g, 1 - beta_2)
    alpha = adam_rate(rate, step, beta_1, beta_2)
    return w - w * (decay * rate) - m * alpha / (sqrt(v) + epsilon), m, v


@step_formula
def amsgrad(w, g, m, v, peak, /, rate, step, *, decay, beta_1, beta_2, epsilon):
    m, v = moved(m, g, 1 - beta_1), moved(v, g * g, 1 - beta_2)
    peak = where((v > peak) | is_nan(v), v, peak)
    alpha = adam_rate(rate, step, beta_1, beta_2)
    return w - w * (decay * rate) - m * alpha / (sqrt(peak) + epsilon), m, v, peak


@step_formula
def adamax(w, g, m, u, /, rate, step, *, decay, beta_1, beta_2, epsilon):
    m = moved(m, g, 1 - beta_1)
    size, faded = abs(g), normal(beta_2 * u)
    u = where((size > faded) | is_nan(size), size, faded)
    return w - w * (decay * rate) - rate * m / ((1 - beta_power(beta_1, step)) * (u + epsilon)), m, u


def nadam_momentum(beta_1, t):
    """Nadam's momentum of step t."""
    return real(beta_1) * (1 - 0.5 * 0.96**t)


@step_formula
def nadam_product(product, /, step, *, beta_1):
    """The product of Nadam's momenta."""
    return product * nadam_momentum(beta_1, real(step + 1))


@step_formula
def nadam(w, g, m, v, /, product, rate, step, *, decay, beta_1, beta_2, epsilon):
    """Adam with Nesterov's momentum. product: the product of the momenta up to this step."""
    first, second, t = real(beta_1), real(beta_2), real(step + 1)
    now, following = nadam_momentum(first, t), nadam_momentum(first, t + 1)
    of_mean = following / (1 - real(product) * following)
    of_gradient = (1 - now) / (1 - real(product))
    m, v = moved(m, g, 1 - first), moved(v, g * g, 1 - second)
    ahead = of_mean * m + of_gradient * g
    return w - w * (decay * rate) - rate * ahead / (sqrt(v * (1 / (1 - second**t))) + epsilon), m, v


@step_formula
def lion(w, g, momentum, /, rate, *, decay, beta_1, beta_2):
    ahead = momentum * beta_1 + g * (1 - beta_1)
    step = where(ahead > 0, rate, where(ahead < 0, -rate, rate * ahead))  # `rate * ahead` keeps zero and NaN
    return w - w * (decay * rate) - step, normal(momentum * beta_2 + g * (1 - beta_2))


def ftrl_rule(w, g, accumulator, linear, rate, decay, l1, l2, l2_shrinkage, beta, raised):
    w, lr, l1 = w - w * (decay * rate), real(rate), real(l1)
    total = accumulator + g * g
    z = linear + (g + 2 * l2_shrinkage * w - (raised(total) - raised(accumulator)) / lr * w)
    z = normal(z)
    clipped = where(z > l1, l1, where(z < -l1, -l1, z))
    return (clipped - z) / (raised(total) / lr + 2 * (real(l2) + real(beta) / (2 * lr))), total, z


@step_formula
def ftrl(w, g, accumulator, linear, /, rate, *, decay, l1, l2, l2_shrinkage, beta):
    """Follows the regularized leader, with the usual learning_rate_power of -0.5."""
    return ftrl_rule(w, g, accumulator, linear, rate, decay, l1, l2, l2_shrinkage, beta, sqrt)


@step_formula
def ftrl_power(w, g, accumulator, linear, /, rate, *, decay, l1, l2, l2_shrinkage, beta, learning_rate_power):
    """`ftrl` with any learning_rate_power <= 0. It is separate, because loops with powers are not vectorised."""

    def raised(x):
        return x ** (-learning_rate_power)

    return ftrl_rule(w, g, accumulator, linear, rate, decay, l1, l2, l2_shrinkage, beta, raised)


@step_formula
def schedule_free_adam(w, g, z, v, /, rate, step, *, decay, beta_1, beta_2, epsilon, warmup_steps):
    """Schedule-free Adam. z: the weights after plain steps, initially w. w is between z and the mean of all z."""
    t, keep, take = real(step + 1), real(beta_1), 1 - real(beta_2)
    share = t / real(warmup_steps)
    lr = where(warmup_steps > 0, real(rate) * where(share < 1, share, 1.0), real(rate))
    w = w - w * (decay * rate)
    v = moved(v, g * g, take)
    after = normal(z - lr * g / (sqrt(v / (1 - beta_power(beta_2, step))) + epsilon))
    mean = (1 - 1 / t) * ((w - (1 - keep) * z) / keep) + 1 / t * after
    return (1 - keep) * after + keep * mean, after, v


# Weights averaged over steps


@compiled(inline="always")
def share_range(size, share, shares):
    """Returns the unsigned indices of a share's elements. Signed ones may count from the end, which prevents vectorisation."""
    first, last = stretch(size, share, shares)
    return range(np.uint64(first), np.uint64(last))


@compiled
def moving_average(w, average, step, momentum, every, share, shares):
    """average = momentum * average + (1 - momentum) * w. In each `every`-th step (0: never), then w = average."""
    real = w.dtype.type
    keep = real(momentum if step[0] > 0 else 0.0)
    take = real(1) - keep
    for i in share_range(w.size, share, shares):
        average[i] = keep * average[i] + take * w[i]
    if every > 0 and (step[0] + 1) % every == 0:
        for i in share_range(w.size, share, shares):
            w[i] = average[i]
