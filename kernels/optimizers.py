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

from nbkeras.kernels.cache import compiled
from nbkeras.kernels.threads import launch_shares, share_count, stretch

Array = np.ndarray

CHUNK = 16384  # elements: at least so many to a share (2 to 10 us of work), exactly so many to a partial sum of squares


def launch(kernel: Callable, first: Array, *args) -> None:
    """Launch a kernel of this file that has shares, for arrays of the first one's size."""
    launch_shares(kernel, share_count(first.size, CHUNK), first, *args)


@compiled(inline="always")
def _places(size, share, shares):
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
    for i in _places(w.size, share, shares):
        w[i] = w[i] - w[i] * shrink - g[i] * lr


@compiled
def sgd_momentum(w, g, m, rate, decay, momentum, nesterov, share, shares):
    real = w.dtype.type
    lr, shrink, mu, tiny = real(rate[0]), real(decay * rate[0]), real(momentum), real(np.finfo(w.dtype).tiny)
    # nesterov: w += mu * m - lr * g, else w += m
    of_momentum, of_gradient = (mu, lr) if nesterov else (real(1), real(0))
    for i in _places(w.size, share, shares):
        velocity = normal(m[i] * mu - g[i] * lr, tiny)
        m[i] = velocity
        w[i] = w[i] - w[i] * shrink + (velocity * of_momentum - g[i] * of_gradient)


# RMSprop


@compiled
def rmsprop(w, g, v, rate, decay, rho, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in _places(w.size, share, shares):
        square = normal(keep * v[i] + take * (g[i] * g[i]), tiny)
        v[i] = square
        w[i] = w[i] - w[i] * shrink - lr * g[i] / math.sqrt(square + eps)


@compiled
def rmsprop_general(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered, share, shares):
    """With momentum > 0 or centered; the slot of the one that is not used may be empty."""
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps, mu = real(rho), real(1 - rho), real(epsilon), real(momentum)
    for i in _places(w.size, share, shares):
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
    for i in _places(w.size, share, shares):
        total = accumulator[i] + g[i] * g[i]
        accumulator[i] = total
        w[i] = w[i] - w[i] * shrink - lr * g[i] / math.sqrt(total + eps)


@compiled
def adadelta(w, g, squares, changes, rate, decay, rho, epsilon, share, shares):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in _places(w.size, share, shares):
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
    for i in _places(w.size, share, shares):
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
    for i in _places(w.size, share, shares):
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
    for i in _places(w.size, share, shares):
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
    for i in _places(w.size, share, shares):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        m[i] = mean
        v[i] = square
        ahead = of_mean * mean + of_gradient * g[i]
        w[i] = w[i] - w[i] * shrink - lr * ahead / (math.sqrt(square * correction) + eps)


# Weights averaged over steps


@compiled
def moving_average(w, average, step, momentum, every, share, shares):
    """average = momentum * average + (1 - momentum) * w; then w = average in every `every`-th step, 0 for never."""
    real = w.dtype.type
    keep = real(momentum if step[0] > 0 else 0.0)
    take = real(1) - keep
    for i in _places(w.size, share, shares):
        average[i] = keep * average[i] + take * w[i]
    if every > 0 and (step[0] + 1) % every == 0:
        for i in _places(w.size, share, shares):
            w[i] = average[i]


# Clipping


def chunks(size: int) -> int:
    """How many sums `square_sums` makes of `size` elements."""
    return -(-size // CHUNK)


@compiled(fastmath={"nsz", "contract", "reassoc"})
def _square_sum(g):
    """'reassoc' lets it vectorise."""
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@compiled
def square_sums(g, sums, share, shares):
    """sums float64 (chunks(g.size),): of squares, each of a fixed chunk, so they do not depend on threads."""
    for c in range(sums.size * share // shares, sums.size * (share + 1) // shares):
        sums[c] = _square_sum(g[c * CHUNK : (c + 1) * CHUNK])


@compiled
def limit_norm(g, sums, limit, share, shares):
    """g *= limit / norm where norm = sqrt(sum(sums)) > limit."""
    total = 0.0
    for c in range(sums.size):
        total += sums[c]
    norm = math.sqrt(total)
    if norm <= limit:
        return
    scale = g.dtype.type(limit / norm + (norm - norm))  # NaN where the norm is infinite or NaN
    for i in _places(g.size, share, shares):
        g[i] *= scale


def clip(g: Array, limit: float) -> None:
    """Kernel: each element of g into [-limit, limit], in place."""
    np.clip(g, -limit, limit, out=g)


def shrink(w: Array, rate: Array, decay: float) -> None:
    """Kernel: weight decay alone, w -= w * decay * rate, any shape."""
    w -= w * w.dtype.type(decay * rate[0])
