"""Twins of optimizers.py: one kernel per step, which reads and writes each number once.

A thread takes elements a grid apart, and loads all it needs of one before it stores anything, since for all the compiler knows
arrays overlap. With all its threads at work, loads of four bytes keep a GPU's memory busy. What a step takes from `rate` and
`step` one thread works out for its block: float64 is slow on most GPUs.
"""

import math

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, device_function, kernel, size, start
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

_THREADS = size(512, simulated=8)
_RESIDENT = 4  # blocks of a processor: 2048 threads, the most that one has


def run(kernel: Kernel, first: DeviceArray, *args) -> None:
    """Start a kernel whose threads go over flat arrays of the first one's size."""
    start(kernel, min(blocks(first.size, _THREADS), _RESIDENT * device.gpu().processors), _THREADS, first, *args)


def smallest(array: DeviceArray) -> np.floating:
    return np.finfo(array.dtype).tiny


@device_function
def normal(x, tiny):
    """x, or zero where it is subnormal; NaN stays."""
    return tiny - tiny if math.fabs(x) < tiny else x


@device_function
def places(array):
    """A thread's first element, how many elements there are, and how far apart the thread's are.

    Unsigned: no place counts from the end. All three, as Numba compares an unsigned with a signed integer in float64.
    """
    return np.uint64(cuda.grid(1)), np.uint64(array.size), np.uint64(cuda.gridsize(1))


@device_function
def rates(like, rate, decay):
    """(rate, decay * rate) in the dtype of `like`, by one thread for its block; all of them must call this."""
    numbers = cuda.shared.array(2, like.dtype)
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        numbers[0] = rate[0]
        numbers[1] = decay * rate[0]
    cuda.syncthreads()
    return numbers[0], numbers[1]


@device_function
def _power(base, exponent):
    """base ** exponent, an integer >= 0, in float64.

    Rounded to float32 that is the CPU's power. A GPU's powf may be off by some ulp, and 1 - beta**t then by a thousand.
    """
    result, factor = 1.0, np.float64(base)
    while exponent > 0:
        if exponent & 1:
            result *= factor
        factor *= factor
        exponent >>= 1
    return result


# SGD


@device_function
def sgd_weight(w, g, lr, shrink):
    return w - w * shrink - g * lr


@kernel
def _sgd(w, g, rate, decay):
    lr, shrink = rates(w, rate, decay)
    i, count, apart = places(w)
    while i < count:
        w[i] = sgd_weight(w[i], g[i], lr, shrink)
        i += apart


def sgd(w, g, rate, decay):
    run(_sgd, w, g, rate, decay)


@kernel
def _sgd_momentum(w, g, m, rate, decay, momentum, of_momentum, nesterov, tiny):
    lr, shrink = rates(w, rate, decay)
    of_gradient = lr if nesterov else lr - lr
    i, count, apart = places(w)
    while i < count:
        weight, gradient = w[i], g[i]
        velocity = normal(m[i] * momentum - gradient * lr, tiny)
        m[i] = velocity
        w[i] = weight - weight * shrink + (velocity * of_momentum - gradient * of_gradient)
        i += apart


def sgd_momentum(w, g, m, rate, decay, momentum, nesterov):
    mu = w.dtype.type(momentum)
    of_momentum = mu if nesterov else w.dtype.type(1)
    run(_sgd_momentum, w, g, m, rate, decay, mu, of_momentum, bool(nesterov), smallest(w))


# RMSprop


@device_function
def rmsprop_square(v, g, keep, take, tiny):
    return normal(keep * v + take * (g * g), tiny)


@device_function
def scaled_weight(w, g, square, lr, shrink, epsilon):
    """A weight after a step of RMSprop or Adagrad."""
    return w - w * shrink - lr * g / math.sqrt(square + epsilon)


@kernel
def _rmsprop(w, g, v, rate, decay, keep, take, epsilon, tiny):
    lr, shrink = rates(w, rate, decay)
    i, count, apart = places(w)
    while i < count:
        weight, gradient = w[i], g[i]
        square = rmsprop_square(v[i], gradient, keep, take, tiny)
        v[i] = square
        w[i] = scaled_weight(weight, gradient, square, lr, shrink, epsilon)
        i += apart


def rmsprop(w, g, v, rate, decay, rho, epsilon):
    real = w.dtype.type
    run(_rmsprop, w, g, v, rate, decay, real(rho), real(1 - rho), real(epsilon), smallest(w))


@kernel
def _rmsprop_general(w, g, v, m, mean, rate, decay, keep, take, epsilon, momentum, has_momentum, centered, tiny):
    lr, shrink = rates(w, rate, decay)
    i, count, apart = places(w)
    while i < count:
        weight, gradient, square = w[i], g[i], v[i]
        average = mean[i] if centered else lr - lr
        velocity = m[i] if has_momentum else lr - lr
        square = rmsprop_square(square, gradient, keep, take, tiny)
        v[i] = square
        if centered:
            average = normal(keep * average + take * gradient, tiny)
            mean[i] = average
            square = square - average * average
        change = lr * gradient / math.sqrt(square + epsilon)
        if has_momentum:
            change = normal(momentum * velocity + change, tiny)
            m[i] = change
        w[i] = weight - weight * shrink - change
        i += apart


def rmsprop_general(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered):
    real = w.dtype.type
    how = (real(rho), real(1 - rho), real(epsilon), real(momentum), momentum > 0, bool(centered), smallest(w))
    run(_rmsprop_general, w, g, v, m, mean, rate, decay, *how)


# Adagrad, Adadelta


@kernel
def _adagrad(w, g, accumulator, rate, decay, epsilon):
    lr, shrink = rates(w, rate, decay)
    i, count, apart = places(w)
    while i < count:
        weight, gradient = w[i], g[i]
        total = accumulator[i] + gradient * gradient
        accumulator[i] = total
        w[i] = scaled_weight(weight, gradient, total, lr, shrink, epsilon)
        i += apart


def adagrad(w, g, accumulator, rate, decay, epsilon):
    run(_adagrad, w, g, accumulator, rate, decay, w.dtype.type(epsilon))


@kernel
def _adadelta(w, g, squares, changes, rate, decay, keep, take, epsilon, tiny):
    lr, shrink = rates(w, rate, decay)
    i, count, apart = places(w)
    while i < count:
        weight, gradient, changed = w[i], g[i], changes[i]
        square = normal(keep * squares[i] + take * (gradient * gradient), tiny)
        squares[i] = square
        change = math.sqrt(changed + epsilon) * gradient / math.sqrt(square + epsilon)
        changes[i] = normal(keep * changed + take * (change * change), tiny)
        w[i] = weight - weight * shrink - lr * change
        i += apart


def adadelta(w, g, squares, changes, rate, decay, rho, epsilon):
    real = w.dtype.type
    how = (real(rho), real(1 - rho), real(epsilon), smallest(w))
    run(_adadelta, w, g, squares, changes, rate, decay, *how)


# Adam and its kin


@device_function
def _adam_rates(like, rate, step, decay, beta_1, beta_2):
    """(rate * sqrt(1 - beta_2**t) / (1 - beta_1**t), decay * rate), as `rates`."""
    numbers = cuda.shared.array(2, like.dtype)
    if cuda.threadIdx.x == 0:
        real = like.dtype.type
        one, t = real(1), step[0] + 1
        correction = math.sqrt(one - real(_power(beta_2, t))) / (one - real(_power(beta_1, t)))
        numbers[0] = real(rate[0]) * correction
        numbers[1] = decay * rate[0]
    cuda.syncthreads()
    return numbers[0], numbers[1]


@kernel
def _adam(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, take_1, take_2, epsilon, tiny):
    """And AMSGrad, where `peak` has elements."""
    alpha, shrink = _adam_rates(w, rate, step, decay, beta_1, beta_2)
    amsgrad = peak.size > 0
    i, count, apart = places(w)
    while i < count:
        weight, gradient, mean, square = w[i], g[i], m[i], v[i]
        highest = peak[i] if amsgrad else square
        mean = normal(mean + (gradient - mean) * take_1, tiny)
        square = normal(square + (gradient * gradient - square) * take_2, tiny)
        m[i] = mean
        v[i] = square
        if amsgrad:
            highest = square if square > highest or square != square else highest
            peak[i] = highest
            square = highest
        w[i] = weight - weight * shrink - mean * alpha / (math.sqrt(square) + epsilon)
        i += apart


def amsgrad(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, epsilon):
    real = w.dtype.type
    how = (real(beta_1), real(beta_2), real(1 - beta_1), real(1 - beta_2), real(epsilon), smallest(w))
    run(_adam, w, g, m, v, peak, rate, step, decay, *how)


def adam(w, g, m, v, rate, step, decay, beta_1, beta_2, epsilon):
    amsgrad(w, g, m, v, v[:0], rate, step, decay, beta_1, beta_2, epsilon)


@kernel
def _adamax(w, g, m, u, rate, step, decay, beta_1, keep, take, epsilon, tiny):
    numbers = cuda.shared.array(1, w.dtype)
    if cuda.threadIdx.x == 0:
        numbers[0] = w.dtype.type(1) - w.dtype.type(_power(beta_1, step[0] + 1))
    lr, shrink = rates(w, rate, decay)
    correction = numbers[0]
    i, count, apart = places(w)
    while i < count:
        weight, gradient, mean, norm = w[i], g[i], m[i], u[i]
        mean = normal(mean + (gradient - mean) * take, tiny)
        largest, faded = math.fabs(gradient), normal(keep * norm, tiny)
        norm = largest if largest > faded or largest != largest else faded
        m[i] = mean
        u[i] = norm
        w[i] = weight - weight * shrink - lr * mean / (correction * (norm + epsilon))
        i += apart


def adamax(w, g, m, u, rate, step, decay, beta_1, beta_2, epsilon):
    real = w.dtype.type
    how = (real(beta_1), real(beta_2), real(1 - beta_1), real(epsilon), smallest(w))
    run(_adamax, w, g, m, u, rate, step, decay, *how)


@kernel
def _nadam_product(product, step, first, half, fade):
    real = product.dtype.type
    product[0] = product[0] * first * (real(1) - half * real(_power(fade, step[0] + 1)))


def nadam_product(product, step, beta_1):
    real = product.dtype.type
    start(_nadam_product, 1, 1, product, step, real(beta_1), real(0.5), real(0.96))


@kernel
def _nadam(w, g, m, v, product, rate, step, decay, beta_1, beta_2, half, fade, epsilon, tiny):
    real = w.dtype.type
    numbers = cuda.shared.array(3, w.dtype)
    one = real(1)
    if cuda.threadIdx.x == 0:
        t = step[0] + 1
        now = beta_1 * (one - half * real(_power(fade, t)))
        following = beta_1 * (one - half * real(_power(fade, t + 1)))
        product_now = real(product[0])
        numbers[0] = following / (one - product_now * following)
        numbers[1] = (one - now) / (one - product_now)
        numbers[2] = one / (one - real(_power(beta_2, t)))
    lr, shrink = rates(w, rate, decay)
    of_mean, of_gradient, correction = numbers[0], numbers[1], numbers[2]
    take_1, take_2 = one - beta_1, one - beta_2
    i, count, apart = places(w)
    while i < count:
        weight, gradient, mean, square = w[i], g[i], m[i], v[i]
        mean = normal(mean + (gradient - mean) * take_1, tiny)
        square = normal(square + (gradient * gradient - square) * take_2, tiny)
        m[i] = mean
        v[i] = square
        ahead = of_mean * mean + of_gradient * gradient
        w[i] = weight - weight * shrink - lr * ahead / (math.sqrt(square * correction) + epsilon)
        i += apart


def nadam(w, g, m, v, product, rate, step, decay, beta_1, beta_2, epsilon):
    real = w.dtype.type
    how = (real(beta_1), real(beta_2), real(0.5), real(0.96), real(epsilon), smallest(w))
    run(_nadam, w, g, m, v, product, rate, step, decay, *how)


# Lion, FTRL, Adam without a schedule


@kernel
def _lion(w, g, m, rate, decay, keep_1, take_1, keep_2, take_2, tiny):
    lr, shrink = rates(w, rate, decay)
    zero = lr - lr
    i, count, apart = places(w)
    while i < count:
        weight, gradient, mean = w[i], g[i], m[i]
        ahead = mean * keep_1 + gradient * take_1
        step = lr if ahead > zero else (-lr if ahead < zero else lr * ahead)
        m[i] = normal(mean * keep_2 + gradient * take_2, tiny)
        w[i] = weight - weight * shrink - step
        i += apart


def lion(w, g, m, rate, decay, beta_1, beta_2):
    real = w.dtype.type
    how = (real(beta_1), real(1 - beta_1), real(beta_2), real(1 - beta_2), smallest(w))
    run(_lion, w, g, m, rate, decay, *how)


@kernel
def _ftrl(w, g, accumulator, linear, rate, decay, up, most, doubled_l2, doubled_shrinkage, beta, tiny):
    lr, shrink = rates(w, rate, decay)
    penalty = doubled_l2 + beta / lr
    i, count, apart = places(w)
    while i < count:
        weight, gradient, before = w[i], g[i], accumulator[i]
        weight = weight - weight * shrink
        total = before + gradient * gradient
        raised = total**up
        z = linear[i] + (gradient + doubled_shrinkage * weight - (raised - before**up) / lr * weight)
        z = normal(z, tiny)
        clipped = most if z > most else (-most if z < -most else z)
        accumulator[i] = total
        linear[i] = z
        w[i] = (clipped - z) / (raised / lr + penalty)
        i += apart


def ftrl(w, g, accumulator, linear, rate, decay, power, l1, l2, l2_shrinkage, beta):
    real = w.dtype.type
    how = (real(-power), real(l1), real(2 * l2), real(2 * l2_shrinkage), real(beta), smallest(w))
    run(_ftrl, w, g, accumulator, linear, rate, decay, *how)


@kernel
def _schedule_free_adam(w, g, z, v, rate, step, decay, keep, beta_2, epsilon, warmup, tiny):
    real = w.dtype.type
    numbers = cuda.shared.array(3, w.dtype)
    one = real(1)
    if cuda.threadIdx.x == 0:
        t = real(step[0] + 1)
        numbers[0] = min(t / warmup, one) if warmup > 0 else one
        numbers[1] = one / t
        numbers[2] = one - real(_power(beta_2, step[0] + 1))
    lr, shrink = rates(w, rate, decay)
    lr = lr * numbers[0]
    share, correction, take = numbers[1], numbers[2], one - beta_2
    i, count, apart = places(w)
    while i < count:
        now, gradient, before, square = w[i], g[i], z[i], v[i]
        now = now - now * shrink
        square = normal(square + (gradient * gradient - square) * take, tiny)
        after = normal(before - lr * gradient / (math.sqrt(square / correction) + epsilon), tiny)
        mean = (one - share) * ((now - (one - keep) * before) / keep) + share * after
        v[i] = square
        z[i] = after
        w[i] = (one - keep) * after + keep * mean
        i += apart


def schedule_free_adam(w, g, z, v, rate, step, decay, beta_1, beta_2, epsilon, warmup):
    real = w.dtype.type
    how = (real(beta_1), real(beta_2), real(epsilon), real(warmup), smallest(w))
    run(_schedule_free_adam, w, g, z, v, rate, step, decay, *how)


# Weights averaged over steps


@kernel
def _moving_average(w, average, step, momentum, every):
    one = w.dtype.type(1)
    keep = momentum if step[0] > 0 else one - one
    overwrite = every > 0 and (step[0] + 1) % every == 0
    i, count, apart = places(w)
    while i < count:
        now = keep * average[i] + (one - keep) * w[i]
        average[i] = now
        if overwrite:
            w[i] = now
        i += apart


def moving_average(w, average, step, momentum, every):
    run(_moving_average, w, average, step, w.dtype.type(momentum), every)


@kernel
def _shrink(w, rate, decay):
    _, shrink = rates(w, rate, decay)
    i, count, apart = places(w)
    while i < count:
        w[i] -= w[i] * shrink
        i += apart


def shrink(w, rate, decay):
    run(_shrink, w.reshape(-1), rate, decay)
