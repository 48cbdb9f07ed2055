"""Optimizer steps on flat arrays: one pass over memory per step, in place.

Arguments shared by all steps: `w` weights, `g` gradients, then the optimizer's slots, all 1-D of one size and one float
dtype; `rate` float64 (1,), the learning rate; `step` int64 (1,), how many steps were made before; `decay`, decoupled
weight decay (w -= w * decay * rate, before the step); `share` and `shares`, which `launch` adds. What changes from step
to step is read from `rate` and `step`, so a replayed step follows it. Nothing here needs a vjp, and nothing is returned.

Slots that shrink for ever (a dead unit's moments) are set to zero before they become subnormal numbers, which are many
times slower to compute with on most CPUs. Formulas, their order and their dtype: keras/src/optimizers (Keras 3.15).
"""

import math
from collections.abc import Callable

import numpy as np

from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray

CHUNK = 16384  # elements: at least so many to a share (2 to 10 us of work), exactly so many to a partial sum of squares


def launch(kernel: Callable, first: Array, *args) -> None:
    """Launch a kernel of this file that has shares, for arrays of the first one's size."""
    launch_shares(kernel, share_count(first.size, CHUNK), first, *args)


@compiled(inline="always")
def places(size, share, shares):
    """A share's places; unsigned, since a place that might count from the end keeps a loop from being vectorised."""
    first, last = stretch(size, share, shares)
    return range(np.uint64(first), np.uint64(last))


@compiled(inline="always")
def normal(x, tiny):
    """x, or zero where it is subnormal; NaN stays. tiny: the smallest normal number of x's dtype."""
    return tiny - tiny if abs(x) < tiny else x


# SGD


@compiled
def sgd(w, g, rate, decay, share, shares):
    real = w.dtype.type
    lr, shrink = real(rate[0]), real(decay * rate[0])
    for i in places(w.size, share, shares):
        w[i] = w[i] - w[i] * shrink - g[i] * lr


@compiled
def sgd_momentum(w, g, m, rate, decay, momentum, nesterov, share, shares):
    real = w.dtype.type
    lr, shrink, mu, tiny = real(rate[0]), real(decay * rate[0]), real(momentum), real(np.finfo(w.dtype).tiny)
    # nesterov: w += mu * m - lr * g, else w += m
    of_momentum, of_gradient = (mu, lr) if nesterov else (real(1), real(0))
    for i in places(w.size, share, shares):
        velocity = normal(m[i] * mu - g[i] * lr, tiny)
        m[i] = velocity
        w[i] = w[i] - w[i] * shrink + (velocity * of_momentum - g[i] * of_gradient)


# RMSprop


@compiled
def rmsprop(w, g, v, rate, decay, rho, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in places(w.size, share, shares):
        square = normal(keep * v[i] + take * (g[i] * g[i]), tiny)
        v[i] = square
        w[i] = w[i] - w[i] * shrink - lr * g[i] / math.sqrt(square + eps)


@compiled
def rmsprop_general(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered, share, shares):
    """With momentum > 0 or centered; the slot of the one that is not used may be empty."""
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps, mu = real(rho), real(1 - rho), real(epsilon), real(momentum)
    for i in places(w.size, share, shares):
        square = normal(keep * v[i] + take * (g[i] * g[i]), tiny)
        v[i] = square
        if centered:
            average = normal(keep * mean[i] + take * g[i], tiny)
            mean[i] = average
            square = square - average * average
        change = lr * g[i] / math.sqrt(square + eps)
        if momentum > 0:
            change = normal(mu * m[i] + change, tiny)
            m[i] = change
        w[i] = w[i] - w[i] * shrink - change


# Adagrad, Adadelta


@compiled
def adagrad(w, g, accumulator, rate, decay, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, eps = real(rate[0]), real(decay * rate[0]), real(epsilon)
    for i in places(w.size, share, shares):
        total = accumulator[i] + g[i] * g[i]
        accumulator[i] = total
        w[i] = w[i] - w[i] * shrink - lr * g[i] / math.sqrt(total + eps)


@compiled
def adadelta(w, g, squares, changes, rate, decay, rho, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in places(w.size, share, shares):
        square = normal(keep * squares[i] + take * (g[i] * g[i]), tiny)
        squares[i] = square
        change = math.sqrt(changes[i] + eps) * g[i] / math.sqrt(square + eps)
        changes[i] = normal(keep * changes[i] + take * (change * change), tiny)
        w[i] = w[i] - w[i] * shrink - lr * change


# Adam and its kin. Powers of the betas are taken in the weights' dtype, as Keras does.


@compiled
def adam(w, g, m, v, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real = w.dtype.type
    shrink, tiny = real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    one, t = real(1), real(step[0] + 1)
    alpha = real(rate[0]) * math.sqrt(one - real(beta_2) ** t) / (one - real(beta_1) ** t)
    take_1, take_2, eps = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in places(w.size, share, shares):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        m[i] = mean
        v[i] = square
        w[i] = w[i] - w[i] * shrink - mean * alpha / (math.sqrt(square) + eps)


@compiled
def amsgrad(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real = w.dtype.type
    shrink, tiny = real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    one, t = real(1), real(step[0] + 1)
    alpha = real(rate[0]) * math.sqrt(one - real(beta_2) ** t) / (one - real(beta_1) ** t)
    take_1, take_2, eps = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in places(w.size, share, shares):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        highest = square if square > peak[i] or square != square else peak[i]
        m[i] = mean
        v[i] = square
        peak[i] = highest
        w[i] = w[i] - w[i] * shrink - mean * alpha / (math.sqrt(highest) + eps)


@compiled
def adamax(w, g, m, u, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    correction = real(1) - real(beta_1) ** real(step[0] + 1)
    take, keep, eps = real(1 - beta_1), real(beta_2), real(epsilon)
    for i in places(w.size, share, shares):
        mean = normal(m[i] + (g[i] - m[i]) * take, tiny)
        size, faded = abs(g[i]), normal(keep * u[i], tiny)
        norm = size if size > faded or size != size else faded
        m[i] = mean
        u[i] = norm
        w[i] = w[i] - w[i] * shrink - lr * mean / (correction * (norm + eps))


@compiled
def nadam_product(product, step, beta_1):
    """Nadam's schedule of momenta multiplied up: product (1,) *= beta_1 * (1 - 0.96**(step + 1) / 2)."""
    real = product.dtype.type
    product[0] = product[0] * real(beta_1) * (real(1) - real(0.5) * real(0.96) ** real(step[0] + 1))


@compiled
def nadam(w, g, m, v, product, rate, step, decay, beta_1, beta_2, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    one, half, fade, first = real(1), real(0.5), real(0.96), real(beta_1)
    t = real(step[0] + 1)
    now, following = first * (one - half * fade**t), first * (one - half * fade ** (t + one))
    product_now = real(product[0])
    of_mean = following / (one - product_now * following)
    of_gradient = (one - now) / (one - product_now)
    correction = one / (one - real(beta_2) ** t)
    take_1, take_2, eps = one - first, one - real(beta_2), real(epsilon)
    for i in places(w.size, share, shares):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        m[i] = mean
        v[i] = square
        ahead = of_mean * mean + of_gradient * g[i]
        w[i] = w[i] - w[i] * shrink - lr * ahead / (math.sqrt(square * correction) + eps)


# Lion


@compiled
def lion(w, g, m, rate, decay, beta_1, beta_2, share, shares):
    real = w.dtype.type
    lr, shrink, tiny, zero = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny), real(0)
    keep_1, take_1, keep_2, take_2 = real(beta_1), real(1 - beta_1), real(beta_2), real(1 - beta_2)
    for i in places(w.size, share, shares):
        ahead = m[i] * keep_1 + g[i] * take_1
        step = lr if ahead > zero else (-lr if ahead < zero else lr * ahead)  # zero, and NaN stays
        m[i] = normal(m[i] * keep_2 + g[i] * take_2, tiny)
        w[i] = w[i] - w[i] * shrink - step


# Follow the regularized leader


@compiled
def _raised(x, up):
    """x ** up. Loops with the usual root run in vectors, those with powers do not."""
    return math.sqrt(x) if up == 0.5 else x**up


@compiled
def ftrl(w, g, accumulator, linear, rate, decay, power, l1, l2, l2_shrinkage, beta, share, shares):
    """power: Keras's learning_rate_power, at most 0."""
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    up, most, penalty = real(-power), real(l1), real(2) * (real(l2) + real(beta) / (real(2) * lr))
    doubled = real(2 * l2_shrinkage)
    for i in places(w.size, share, shares):
        weight = w[i] - w[i] * shrink
        total = accumulator[i] + g[i] * g[i]
        raised, before = _raised(total, up), _raised(accumulator[i], up)
        z = linear[i] + (g[i] + doubled * weight - (raised - before) / lr * weight)
        z = normal(z, tiny)
        clipped = most if z > most else (-most if z < -most else z)
        accumulator[i] = total
        linear[i] = z
        w[i] = (clipped - z) / (raised / lr + penalty)


# Adam without a schedule


@compiled
def schedule_free_adam(w, g, z, v, rate, step, decay, beta_1, beta_2, epsilon, warmup, share, shares):
    """`z`: where plain steps lead, started at w; w lies between z and the mean of all z. warmup: steps."""
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    one, t = real(1), real(step[0] + 1)
    if warmup > 0:
        lr = lr * min(t / real(warmup), one)
    keep, take, eps, weight = real(beta_1), one - real(beta_2), real(epsilon), one / t
    correction = one - real(beta_2) ** t
    for i in places(w.size, share, shares):
        now, before = w[i] - w[i] * shrink, z[i]
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take, tiny)
        after = normal(before - lr * g[i] / (math.sqrt(square / correction) + eps), tiny)
        mean = (one - weight) * ((now - (one - keep) * before) / keep) + weight * after
        v[i] = square
        z[i] = after
        w[i] = (one - keep) * after + keep * mean


# Weights averaged over steps


@compiled
def moving_average(w, average, step, momentum, every, share, shares):
    """average = momentum * average + (1 - momentum) * w; then w = average in every `every`-th step, 0 for never."""
    real = w.dtype.type
    keep = real(momentum if step[0] > 0 else 0.0)
    take = real(1) - keep
    for i in places(w.size, share, shares):
        average[i] = keep * average[i] + take * w[i]
    if every > 0 and (step[0] + 1) % every == 0:
        for i in places(w.size, share, shares):
            w[i] = average[i]


def shrink(w: Array, rate: Array, decay: float) -> None:
    """Kernel: weight decay alone, w -= w * decay * rate, any shape."""
    w -= w * w.dtype.type(decay * rate[0])
