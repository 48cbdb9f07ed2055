"""Optimizer steps on flat arrays: one pass over memory per step, in place.

Arguments of all steps: `w` weights, `g` gradients, then the optimizer's slots, all 1-D, of one size and one float dtype; `rate`
float64 (1,), the learning rate; `step` int64 (1,), the number of steps made before; `decay`, decoupled weight decay
(w -= w * decay * rate, before the step); `share` and `shares`, which `launch` adds. Numbers that change from step to step are
read from `rate` and `step`, so a replayed step follows them. Nothing here needs a vjp, and nothing is returned.

The formula of each step is a function of one weight in loops/update_rules.py.
"""

from collections.abc import Callable, Iterator

import numpy as np

from nbkeras.kernels.loops import update_rules
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.chains import of_steps
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray

CHUNK = 16384  # elements: a share has at least so many (2 to 10 us of work), a partial sum of squares exactly so many


def launch(kernel: Callable, first: Array, *args) -> None:
    """Launch a kernel of this file that has shares, for arrays of the first one's size."""
    launch_shares(kernel, share_count(first.size, CHUNK), first, *args)


@compiled(inline="always")
def share_range(size, share, shares):
    """The indices of a share's elements. Unsigned: a signed index might count from the end, and loops would not be vectorised."""
    first, last = stretch(size, share, shares)
    return range(np.uint64(first), np.uint64(last))


@compiled(inline="always")
def rates(w, rate, decay):
    """(lr, shrink) of the update rules, in the dtype of w."""
    real = w.dtype.type
    return real(rate[0]), real(decay * rate[0])


@compiled(inline="always")
def smallest(w):
    """The smallest normal number of the dtype of w."""
    return w.dtype.type(np.finfo(w.dtype).tiny)


# SGD


@compiled
def sgd(w, g, rate, decay, share, shares):
    lr, shrink = rates(w, rate, decay)
    for i in share_range(w.size, share, shares):
        w[i] = update_rules.sgd(w[i], g[i], lr, shrink)


@compiled
def sgd_momentum(w, g, m, rate, decay, momentum, nesterov, share, shares):
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    mu = real(momentum)
    of_momentum, of_gradient = (mu, lr) if nesterov else (real(1), real(0))
    for i in share_range(w.size, share, shares):
        w[i], m[i] = update_rules.sgd_momentum(w[i], g[i], m[i], lr, shrink, mu, of_momentum, of_gradient, tiny)


# RMSprop


@compiled
def rmsprop(w, g, v, rate, decay, rho, epsilon, share, shares):
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], v[i] = update_rules.rmsprop(w[i], g[i], v[i], lr, shrink, keep, take, eps, tiny)


@compiled
def rmsprop_general(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered, share, shares):
    """With momentum > 0 or centered; the slot of the one that is not used may be empty."""
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    keep, take, eps, mu, zero = real(rho), real(1 - rho), real(epsilon), real(momentum), real(0)
    has_momentum = momentum > 0
    for i in share_range(w.size, share, shares):
        velocity, average = m[i] if has_momentum else zero, mean[i] if centered else zero
        w[i], v[i], velocity, average = update_rules.rmsprop_general(
            w[i], g[i], v[i], velocity, average, lr, shrink, keep, take, eps, mu, has_momentum, centered, tiny
        )
        if has_momentum:
            m[i] = velocity
        if centered:
            mean[i] = average


# Adagrad, Adadelta


@compiled
def adagrad(w, g, accumulator, rate, decay, epsilon, share, shares):
    real, (lr, shrink) = w.dtype.type, rates(w, rate, decay)
    eps = real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], accumulator[i] = update_rules.adagrad(w[i], g[i], accumulator[i], lr, shrink, eps)


@compiled
def adadelta(w, g, squares, changes, rate, decay, rho, epsilon, share, shares):
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], squares[i], changes[i] = update_rules.adadelta(
            w[i], g[i], squares[i], changes[i], lr, shrink, keep, take, eps, tiny
        )


# Adam and its kin. Powers of the betas are taken in the weights' dtype, as Keras does.


@compiled(inline="always")
def _adam_rate(w, rate, step, beta_1, beta_2):
    real = w.dtype.type
    one, t = real(1), real(step[0] + 1)
    return update_rules.adam_rate(real(rate[0]), real(beta_1) ** t, real(beta_2) ** t, one)


@compiled
def adam(w, g, m, v, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real, (_, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    alpha = _adam_rate(w, rate, step, beta_1, beta_2)
    take_1, take_2, eps = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], m[i], v[i] = update_rules.adam(w[i], g[i], m[i], v[i], alpha, shrink, take_1, take_2, eps, tiny)


@compiled
def amsgrad(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real, (_, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    alpha = _adam_rate(w, rate, step, beta_1, beta_2)
    take_1, take_2, eps = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], m[i], v[i], peak[i] = update_rules.amsgrad(
            w[i], g[i], m[i], v[i], peak[i], alpha, shrink, take_1, take_2, eps, tiny
        )


@compiled
def adamax(w, g, m, u, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    correction = real(1) - real(beta_1) ** real(step[0] + 1)
    take, keep, eps = real(1 - beta_1), real(beta_2), real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], m[i], u[i] = update_rules.adamax(w[i], g[i], m[i], u[i], lr, shrink, correction, take, keep, eps, tiny)


@compiled
def nadam_product(product, step, beta_1):
    """Nadam's schedule of momenta multiplied up: product (1,) *= beta_1 * (1 - 0.96**(step + 1) / 2)."""
    real = product.dtype.type
    product[0] = product[0] * real(beta_1) * (real(1) - real(0.5) * real(0.96) ** real(step[0] + 1))


@compiled
def nadam(w, g, m, v, product, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    one, half, fade, first, t = real(1), real(0.5), real(0.96), real(beta_1), real(step[0] + 1)
    now = update_rules.nadam_momentum(first, fade**t, half, one)
    following = update_rules.nadam_momentum(first, fade ** (t + one), half, one)
    of_mean, of_gradient = update_rules.nadam_factors(now, following, real(product[0]), one)
    correction = one / (one - real(beta_2) ** t)
    take_1, take_2, eps = one - first, one - real(beta_2), real(epsilon)
    for i in share_range(w.size, share, shares):
        w[i], m[i], v[i] = update_rules.nadam(
            w[i], g[i], m[i], v[i], lr, shrink, of_mean, of_gradient, correction, take_1, take_2, eps, tiny
        )


# Lion


@compiled
def lion(w, g, m, rate, decay, beta_1, beta_2, share, shares):
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    keep_1, take_1, keep_2, take_2 = real(beta_1), real(1 - beta_1), real(beta_2), real(1 - beta_2)
    for i in share_range(w.size, share, shares):
        w[i], m[i] = update_rules.lion(w[i], g[i], m[i], lr, shrink, keep_1, take_1, keep_2, take_2, tiny)


# Follow the regularized leader


@compiled
def ftrl(w, g, accumulator, linear, rate, decay, power, l1, l2, l2_shrinkage, beta, share, shares):
    """power: Keras's learning_rate_power, at most 0."""
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    up, most, penalty = real(-power), real(l1), real(2) * (real(l2) + real(beta) / (real(2) * lr))
    doubled = real(2 * l2_shrinkage)
    for i in share_range(w.size, share, shares):
        w[i], accumulator[i], linear[i] = update_rules.ftrl(
            w[i], g[i], accumulator[i], linear[i], lr, shrink, up, most, penalty, doubled, tiny
        )


# Adam without a schedule


@compiled
def schedule_free_adam(w, g, z, v, rate, step, decay, beta_1, beta_2, epsilon, warmup, share, shares):
    """`z`: the weights after plain steps, started at w; w lies between z and the mean of all z. warmup: steps."""
    real, (lr, shrink), tiny = w.dtype.type, rates(w, rate, decay), smallest(w)
    one, t = real(1), real(step[0] + 1)
    if warmup > 0:
        lr = lr * min(t / real(warmup), one)
    keep, take, eps, weight = real(beta_1), one - real(beta_2), real(epsilon), one / t
    correction = one - real(beta_2) ** t
    for i in share_range(w.size, share, shares):
        w[i], z[i], v[i] = update_rules.schedule_free_adam(
            w[i], g[i], z[i], v[i], lr, shrink, keep, take, weight, correction, eps, one, tiny
        )


# Weights averaged over steps


@compiled
def moving_average(w, average, step, momentum, every, share, shares):
    """Move the average: momentum * average + (1 - momentum) * w; then w = average in every `every`-th step, 0 for never."""
    real = w.dtype.type
    keep = real(momentum if step[0] > 0 else 0.0)
    take = real(1) - keep
    for i in share_range(w.size, share, shares):
        average[i] = keep * average[i] + take * w[i]
    if every > 0 and (step[0] + 1) % every == 0:
        for i in share_range(w.size, share, shares):
            w[i] = average[i]


@of_steps
def shrink(w: Array, rate: Array, decay: float) -> Iterator[tuple]:
    """Kernel: weight decay alone, w -= w * decay * rate, any shape."""
    factor, loss = np.empty((), w.dtype), np.empty(w.shape, w.dtype)
    yield np.multiply, rate.reshape(()), decay, factor
    yield np.multiply, w, factor, loss
    yield np.subtract, w, loss, w
