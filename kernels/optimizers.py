"""Optimizer steps on flat arrays: one pass over memory per step, in place.

Arguments shared by all steps: `w` weights, `g` gradients, then the optimizer's slots, all 1-D of one size and one float
dtype; `rate` float64 (1,), the learning rate; `step` int64 (1,), how many steps were made before; `decay`, decoupled
weight decay (w -= w * decay * rate, before the step). What changes from step to step is read from `rate` and `step`, so
a replayed step follows it. Nothing here needs a vjp, and nothing is returned.

Slots that shrink for ever (a dead unit's moments) are set to zero before they become subnormal numbers, which are many
times slower to compute with on most CPUs. Formulas, their order and their dtype: keras/src/optimizers (Keras 3.15).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from nbkeras.kernels import device
from nbkeras.kernels.cache import compiled

Array = np.ndarray

PARALLEL_SIZE = 65536  # elements from which a parallel region pays for itself
CHUNK = 16384  # elements per task: five arrays of it stay in L2


class Step(NamedTuple):
    """A step as a serial kernel and the same split over threads by fixed chunks; called like the kernel itself."""

    serial: Callable
    parallel: Callable

    def __call__(self, first: Array, *args) -> None:
        device.launch(self.parallel if first.size >= PARALLEL_SIZE else self.serial, first, *args)


def chunks(size: int) -> int:
    """How many chunks `size` elements make."""
    return -(-size // CHUNK)


@compiled(inline="always")
def _chunk(index, size):
    """First element of a chunk and the one after its last."""
    return index * CHUNK, min(size, (index + 1) * CHUNK)


@compiled(inline="always")
def _count(size):
    return (size + CHUNK - 1) // CHUNK


@compiled(inline="always")
def normal(x, tiny):
    """x, or zero where it is subnormal; NaN stays. tiny: the smallest normal number of x's dtype."""
    return tiny - tiny if abs(x) < tiny else x


# SGD


@compiled
def _sgd(w, g, rate, decay):
    real = w.dtype.type
    lr, shrink = real(rate[0]), real(decay * rate[0])
    for i in range(w.size):
        w[i] = w[i] - w[i] * shrink - g[i] * lr


@compiled(parallel=True)
def _sgd_parallel(w, g, rate, decay):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _sgd(w[a:b], g[a:b], rate, decay)


@compiled
def _sgd_momentum(w, g, m, rate, decay, momentum, nesterov):
    real = w.dtype.type
    lr, shrink, mu, tiny = real(rate[0]), real(decay * rate[0]), real(momentum), real(np.finfo(w.dtype).tiny)
    # nesterov: w += mu * m - lr * g, else w += m
    of_momentum, of_gradient = (mu, lr) if nesterov else (real(1), real(0))
    for i in range(w.size):
        velocity = normal(m[i] * mu - g[i] * lr, tiny)
        m[i] = velocity
        w[i] = w[i] - w[i] * shrink + (velocity * of_momentum - g[i] * of_gradient)


@compiled(parallel=True)
def _sgd_momentum_parallel(w, g, m, rate, decay, momentum, nesterov):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _sgd_momentum(w[a:b], g[a:b], m[a:b], rate, decay, momentum, nesterov)


sgd = Step(_sgd, _sgd_parallel)
sgd_momentum = Step(_sgd_momentum, _sgd_momentum_parallel)


# RMSprop


@compiled
def _rmsprop(w, g, v, rate, decay, rho, epsilon):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in range(w.size):
        square = normal(keep * v[i] + take * (g[i] * g[i]), tiny)
        v[i] = square
        w[i] = w[i] - w[i] * shrink - lr * g[i] / math.sqrt(square + eps)


@compiled(parallel=True)
def _rmsprop_parallel(w, g, v, rate, decay, rho, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _rmsprop(w[a:b], g[a:b], v[a:b], rate, decay, rho, epsilon)


@compiled
def _rmsprop_general(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps, mu = real(rho), real(1 - rho), real(epsilon), real(momentum)
    for i in range(w.size):
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


@compiled(parallel=True)
def _rmsprop_general_parallel(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _rmsprop_general(w[a:b], g[a:b], v[a:b], m[a:b], mean[a:b], rate, decay, rho, epsilon, momentum, centered)


rmsprop = Step(_rmsprop, _rmsprop_parallel)
# with momentum > 0 or centered; the slot of the one that is not used may be empty
rmsprop_general = Step(_rmsprop_general, _rmsprop_general_parallel)


# Adagrad, Adadelta


@compiled
def _adagrad(w, g, accumulator, rate, decay, epsilon):
    real = w.dtype.type
    lr, shrink, eps = real(rate[0]), real(decay * rate[0]), real(epsilon)
    for i in range(w.size):
        total = accumulator[i] + g[i] * g[i]
        accumulator[i] = total
        w[i] = w[i] - w[i] * shrink - lr * g[i] / math.sqrt(total + eps)


@compiled(parallel=True)
def _adagrad_parallel(w, g, accumulator, rate, decay, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _adagrad(w[a:b], g[a:b], accumulator[a:b], rate, decay, epsilon)


@compiled
def _adadelta(w, g, squares, changes, rate, decay, rho, epsilon):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    keep, take, eps = real(rho), real(1 - rho), real(epsilon)
    for i in range(w.size):
        square = normal(keep * squares[i] + take * (g[i] * g[i]), tiny)
        squares[i] = square
        change = math.sqrt(changes[i] + eps) * g[i] / math.sqrt(square + eps)
        changes[i] = normal(keep * changes[i] + take * (change * change), tiny)
        w[i] = w[i] - w[i] * shrink - lr * change


@compiled(parallel=True)
def _adadelta_parallel(w, g, squares, changes, rate, decay, rho, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _adadelta(w[a:b], g[a:b], squares[a:b], changes[a:b], rate, decay, rho, epsilon)


adagrad = Step(_adagrad, _adagrad_parallel)
adadelta = Step(_adadelta, _adadelta_parallel)


# Adam and its kin. Powers of the betas are taken in the weights' dtype, as Keras does.


@compiled
def _adam(w, g, m, v, rate, step, decay, beta_1, beta_2, epsilon):
    real = w.dtype.type
    shrink, tiny = real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    one, t = real(1), real(step[0] + 1)
    alpha = real(rate[0]) * math.sqrt(one - real(beta_2) ** t) / (one - real(beta_1) ** t)
    take_1, take_2, eps = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in range(w.size):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        m[i] = mean
        v[i] = square
        w[i] = w[i] - w[i] * shrink - mean * alpha / (math.sqrt(square) + eps)


@compiled(parallel=True)
def _adam_parallel(w, g, m, v, rate, step, decay, beta_1, beta_2, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _adam(w[a:b], g[a:b], m[a:b], v[a:b], rate, step, decay, beta_1, beta_2, epsilon)


@compiled
def _amsgrad(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, epsilon):
    real = w.dtype.type
    shrink, tiny = real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    one, t = real(1), real(step[0] + 1)
    alpha = real(rate[0]) * math.sqrt(one - real(beta_2) ** t) / (one - real(beta_1) ** t)
    take_1, take_2, eps = real(1 - beta_1), real(1 - beta_2), real(epsilon)
    for i in range(w.size):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        highest = square if square > peak[i] or square != square else peak[i]
        m[i] = mean
        v[i] = square
        peak[i] = highest
        w[i] = w[i] - w[i] * shrink - mean * alpha / (math.sqrt(highest) + eps)


@compiled(parallel=True)
def _amsgrad_parallel(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _amsgrad(w[a:b], g[a:b], m[a:b], v[a:b], peak[a:b], rate, step, decay, beta_1, beta_2, epsilon)


@compiled
def _adamax(w, g, m, u, rate, step, decay, beta_1, beta_2, epsilon):
    real = w.dtype.type
    lr, shrink, tiny = real(rate[0]), real(decay * rate[0]), real(np.finfo(w.dtype).tiny)
    correction = real(1) - real(beta_1) ** real(step[0] + 1)
    take, keep, eps = real(1 - beta_1), real(beta_2), real(epsilon)
    for i in range(w.size):
        mean = normal(m[i] + (g[i] - m[i]) * take, tiny)
        size, faded = abs(g[i]), normal(keep * u[i], tiny)
        norm = size if size > faded or size != size else faded
        m[i] = mean
        u[i] = norm
        w[i] = w[i] - w[i] * shrink - lr * mean / (correction * (norm + eps))


@compiled(parallel=True)
def _adamax_parallel(w, g, m, u, rate, step, decay, beta_1, beta_2, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _adamax(w[a:b], g[a:b], m[a:b], u[a:b], rate, step, decay, beta_1, beta_2, epsilon)


@compiled
def nadam_product(product, step, beta_1):
    """Nadam's schedule of momenta multiplied up: product (1,) *= beta_1 * (1 - 0.96**(step + 1) / 2)."""
    real = product.dtype.type
    product[0] = product[0] * real(beta_1) * (real(1) - real(0.5) * real(0.96) ** real(step[0] + 1))


@compiled
def _nadam(w, g, m, v, product, rate, step, decay, beta_1, beta_2, epsilon):
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
    for i in range(w.size):
        mean = normal(m[i] + (g[i] - m[i]) * take_1, tiny)
        square = normal(v[i] + (g[i] * g[i] - v[i]) * take_2, tiny)
        m[i] = mean
        v[i] = square
        ahead = of_mean * mean + of_gradient * g[i]
        w[i] = w[i] - w[i] * shrink - lr * ahead / (math.sqrt(square * correction) + eps)


@compiled(parallel=True)
def _nadam_parallel(w, g, m, v, product, rate, step, decay, beta_1, beta_2, epsilon):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _nadam(w[a:b], g[a:b], m[a:b], v[a:b], product, rate, step, decay, beta_1, beta_2, epsilon)


adam = Step(_adam, _adam_parallel)
amsgrad = Step(_amsgrad, _amsgrad_parallel)
adamax = Step(_adamax, _adamax_parallel)
nadam = Step(_nadam, _nadam_parallel)


# Weights averaged over steps


@compiled
def _moving_average(w, average, step, momentum, every):
    real = w.dtype.type
    keep = real(momentum if step[0] > 0 else 0.0)
    take = real(1) - keep
    for i in range(w.size):
        average[i] = keep * average[i] + take * w[i]
    if every > 0 and (step[0] + 1) % every == 0:
        for i in range(w.size):
            w[i] = average[i]


@compiled(parallel=True)
def _moving_average_parallel(w, average, step, momentum, every):
    for c in prange(_count(w.size)):
        a, b = _chunk(c, w.size)
        _moving_average(w[a:b], average[a:b], step, momentum, every)


moving_average = Step(_moving_average, _moving_average_parallel)  # every: steps between overwriting w, 0 for never


# Clipping. Sums are taken per fixed chunk in float64, so they do not depend on threads; 'reassoc' lets them vectorise.


@compiled(fastmath={"nsz", "contract", "reassoc"})
def _square_sum(g):
    total = 0.0
    for i in range(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@compiled
def _square_sums(g, sums):
    for c in range(sums.size):
        a, b = _chunk(c, g.size)
        sums[c] = _square_sum(g[a:b])


@compiled(parallel=True)
def _square_sums_parallel(g, sums):
    for c in prange(sums.size):
        a, b = _chunk(c, g.size)
        sums[c] = _square_sum(g[a:b])


@compiled
def _limit_norm(g, sums, limit):
    total = 0.0
    for c in range(sums.size):
        total += sums[c]
    norm = math.sqrt(total)
    if norm <= limit:
        return
    scale = g.dtype.type(limit / norm + (norm - norm))  # NaN where the norm is infinite or NaN
    for i in range(g.size):
        g[i] *= scale


@compiled(parallel=True)
def _limit_norm_parallel(g, sums, limit):
    for c in prange(_count(g.size)):
        a, b = _chunk(c, g.size)
        _limit_norm(g[a:b], sums, limit)


square_sums = Step(_square_sums, _square_sums_parallel)  # sums float64 (chunks(g.size),): of squares, per chunk
limit_norm = Step(_limit_norm, _limit_norm_parallel)  # g *= limit / norm where norm = sqrt(sum(sums)) > limit


def clip(g: Array, limit: float) -> None:
    """Kernel: each element of g into [-limit, limit], in place."""
    np.clip(g, -limit, limit, out=g)


def shrink(w: Array, rate: Array, decay: float) -> None:
    """Kernel: weight decay alone, w -= w * decay * rate, any shape."""
    w -= w * w.dtype.type(decay * rate[0])
