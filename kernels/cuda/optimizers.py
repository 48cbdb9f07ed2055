"""Twins of optimizers.py: one kernel per step, which reads and writes each number once.

A thread takes elements a grid apart. It loads all it needs of one element before it stores anything, since the compiler must
assume that arrays overlap. With all its threads at work, loads of four bytes keep a GPU's memory busy. One thread of a block
computes the numbers that depend on `rate` and `step`: float64 is slow on most GPUs.
"""

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, device_function, device_module, kernel, size, start
from nbkeras.kernels.loops import update_rules
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.device_array import DeviceArray

rules = device_module(update_rules)
_THREADS = size(512, simulated=8)
_RESIDENT = 4  # blocks of a processor: 2048 threads, the most that one has


def run(kernel: Kernel, first: DeviceArray, *args) -> None:
    """Start a kernel whose threads go over flat arrays of the first one's size."""
    start(kernel, min(blocks(first.size, _THREADS), _RESIDENT * device.gpu().processors), _THREADS, first, *args)


def constants(array: DeviceArray, *numbers: float) -> tuple:
    """Numbers in an array's dtype, as one argument of a kernel, and the last of them its smallest normal number."""
    return (*map(array.dtype.type, numbers), np.finfo(array.dtype).tiny)


@device_function
def grid_range(array):
    """A thread's first element, the number of elements, and the distance between two elements of the thread.

    All three unsigned: an index does not count from the end, and Numba compares an unsigned with a signed integer in float64.
    """
    return np.uint64(cuda.grid(1)), np.uint64(array.size), np.uint64(cuda.gridsize(1))


@device_function
def rates(like, rate, decay):
    """(lr, shrink) of the update rules in the dtype of `like`, by one thread for its block; all of them must call this."""
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


@kernel
def _sgd(w, g, rate, decay):
    lr, shrink = rates(w, rate, decay)
    i, count, stride = grid_range(w)
    while i < count:
        w[i] = rules.sgd(w[i], g[i], lr, shrink)
        i += stride


def sgd(w, g, rate, decay):
    run(_sgd, w, g, rate, decay)


@kernel
def _sgd_momentum(w, g, m, rate, decay, nesterov, numbers):
    lr, shrink = rates(w, rate, decay)
    momentum, of_momentum, tiny = numbers
    of_gradient = lr if nesterov else lr - lr
    i, count, stride = grid_range(w)
    while i < count:
        w[i], m[i] = rules.sgd_momentum(w[i], g[i], m[i], lr, shrink, momentum, of_momentum, of_gradient, tiny)
        i += stride


def sgd_momentum(w, g, m, rate, decay, momentum, nesterov):
    numbers = constants(w, momentum, momentum if nesterov else 1)
    run(_sgd_momentum, w, g, m, rate, decay, bool(nesterov), numbers)


# RMSprop


@kernel
def _rmsprop(w, g, v, rate, decay, numbers):
    lr, shrink = rates(w, rate, decay)
    i, count, stride = grid_range(w)
    while i < count:
        w[i], v[i] = rules.rmsprop(w[i], g[i], v[i], lr, shrink, *numbers)
        i += stride


def rmsprop(w, g, v, rate, decay, rho, epsilon):
    run(_rmsprop, w, g, v, rate, decay, constants(w, rho, 1 - rho, epsilon))


@kernel
def _rmsprop_general(w, g, v, m, mean, rate, decay, has_momentum, centered, numbers):
    lr, shrink = rates(w, rate, decay)
    keep, take, epsilon, momentum, tiny = numbers
    zero = tiny - tiny
    i, count, stride = grid_range(w)
    while i < count:
        velocity, average = m[i] if has_momentum else zero, mean[i] if centered else zero
        w[i], v[i], velocity, average = rules.rmsprop_general(
            w[i], g[i], v[i], velocity, average, lr, shrink, keep, take, epsilon, momentum, has_momentum, centered, tiny
        )
        if has_momentum:
            m[i] = velocity
        if centered:
            mean[i] = average
        i += stride


def rmsprop_general(w, g, v, m, mean, rate, decay, rho, epsilon, momentum, centered):
    numbers = constants(w, rho, 1 - rho, epsilon, momentum)
    run(_rmsprop_general, w, g, v, m, mean, rate, decay, momentum > 0, bool(centered), numbers)


# Adagrad, Adadelta


@kernel
def _adagrad(w, g, accumulator, rate, decay, epsilon):
    lr, shrink = rates(w, rate, decay)
    i, count, stride = grid_range(w)
    while i < count:
        w[i], accumulator[i] = rules.adagrad(w[i], g[i], accumulator[i], lr, shrink, epsilon)
        i += stride


def adagrad(w, g, accumulator, rate, decay, epsilon):
    run(_adagrad, w, g, accumulator, rate, decay, w.dtype.type(epsilon))


@kernel
def _adadelta(w, g, squares, changes, rate, decay, numbers):
    lr, shrink = rates(w, rate, decay)
    i, count, stride = grid_range(w)
    while i < count:
        w[i], squares[i], changes[i] = rules.adadelta(w[i], g[i], squares[i], changes[i], lr, shrink, *numbers)
        i += stride


def adadelta(w, g, squares, changes, rate, decay, rho, epsilon):
    run(_adadelta, w, g, squares, changes, rate, decay, constants(w, rho, 1 - rho, epsilon))


# Adam and its kin


@device_function
def _adam_rates(like, rate, step, decay, betas):
    """(alpha, shrink) of the update rules, as `rates`."""
    numbers = cuda.shared.array(2, like.dtype)
    if cuda.threadIdx.x == 0:
        real, t = like.dtype.type, step[0] + 1
        numbers[0] = rules.adam_rate(real(rate[0]), real(_power(betas[0], t)), real(_power(betas[1], t)), real(1))
        numbers[1] = decay * rate[0]
    cuda.syncthreads()
    return numbers[0], numbers[1]


@kernel
def _adam(w, g, m, v, rate, step, decay, betas, numbers):
    alpha, shrink = _adam_rates(w, rate, step, decay, betas)
    i, count, stride = grid_range(w)
    while i < count:
        w[i], m[i], v[i] = rules.adam(w[i], g[i], m[i], v[i], alpha, shrink, *numbers)
        i += stride


@kernel
def _amsgrad(w, g, m, v, peak, rate, step, decay, betas, numbers):
    alpha, shrink = _adam_rates(w, rate, step, decay, betas)
    i, count, stride = grid_range(w)
    while i < count:
        w[i], m[i], v[i], peak[i] = rules.amsgrad(w[i], g[i], m[i], v[i], peak[i], alpha, shrink, *numbers)
        i += stride


def adam(w, g, m, v, rate, step, decay, beta_1, beta_2, epsilon):
    betas = w.dtype.type(beta_1), w.dtype.type(beta_2)
    run(_adam, w, g, m, v, rate, step, decay, betas, constants(w, 1 - beta_1, 1 - beta_2, epsilon))


def amsgrad(w, g, m, v, peak, rate, step, decay, beta_1, beta_2, epsilon):
    betas = w.dtype.type(beta_1), w.dtype.type(beta_2)
    run(_amsgrad, w, g, m, v, peak, rate, step, decay, betas, constants(w, 1 - beta_1, 1 - beta_2, epsilon))


@kernel
def _adamax(w, g, m, u, rate, step, decay, beta_1, numbers):
    shared = cuda.shared.array(1, w.dtype)
    if cuda.threadIdx.x == 0:
        shared[0] = w.dtype.type(1) - w.dtype.type(_power(beta_1, step[0] + 1))
    lr, shrink = rates(w, rate, decay)
    correction = shared[0]
    i, count, stride = grid_range(w)
    while i < count:
        w[i], m[i], u[i] = rules.adamax(w[i], g[i], m[i], u[i], lr, shrink, correction, *numbers)
        i += stride


def adamax(w, g, m, u, rate, step, decay, beta_1, beta_2, epsilon):
    numbers = constants(w, 1 - beta_1, beta_2, epsilon)
    run(_adamax, w, g, m, u, rate, step, decay, w.dtype.type(beta_1), numbers)


@kernel
def _nadam_product(product, step, first, half, fade):
    real = product.dtype.type
    product[0] = product[0] * first * (real(1) - half * real(_power(fade, step[0] + 1)))


def nadam_product(product, step, beta_1):
    real = product.dtype.type
    start(_nadam_product, 1, 1, product, step, real(beta_1), real(0.5), real(0.96))


@kernel
def _nadam(w, g, m, v, product, rate, step, decay, numbers):
    beta_1, beta_2, half, fade, epsilon, tiny = numbers
    real = w.dtype.type
    shared = cuda.shared.array(3, w.dtype)
    one = real(1)
    if cuda.threadIdx.x == 0:
        t = step[0] + 1
        now = rules.nadam_momentum(beta_1, real(_power(fade, t)), half, one)
        following = rules.nadam_momentum(beta_1, real(_power(fade, t + 1)), half, one)
        shared[0], shared[1] = rules.nadam_factors(now, following, real(product[0]), one)
        shared[2] = one / (one - real(_power(beta_2, t)))
    lr, shrink = rates(w, rate, decay)
    of_mean, of_gradient, correction = shared[0], shared[1], shared[2]
    take_1, take_2 = one - beta_1, one - beta_2
    i, count, stride = grid_range(w)
    while i < count:
        w[i], m[i], v[i] = rules.nadam(
            w[i], g[i], m[i], v[i], lr, shrink, of_mean, of_gradient, correction, take_1, take_2, epsilon, tiny
        )
        i += stride


def nadam(w, g, m, v, product, rate, step, decay, beta_1, beta_2, epsilon):
    run(_nadam, w, g, m, v, product, rate, step, decay, constants(w, beta_1, beta_2, 0.5, 0.96, epsilon))


# Lion, FTRL, Adam without a schedule


@kernel
def _lion(w, g, m, rate, decay, numbers):
    lr, shrink = rates(w, rate, decay)
    i, count, stride = grid_range(w)
    while i < count:
        w[i], m[i] = rules.lion(w[i], g[i], m[i], lr, shrink, *numbers)
        i += stride


def lion(w, g, m, rate, decay, beta_1, beta_2):
    run(_lion, w, g, m, rate, decay, constants(w, beta_1, 1 - beta_1, beta_2, 1 - beta_2))


@kernel
def _ftrl(w, g, accumulator, linear, rate, decay, numbers):
    lr, shrink = rates(w, rate, decay)
    up, most, doubled_l2, doubled_shrinkage, beta, tiny = numbers
    penalty = doubled_l2 + beta / lr
    i, count, stride = grid_range(w)
    while i < count:
        w[i], accumulator[i], linear[i] = rules.ftrl(
            w[i], g[i], accumulator[i], linear[i], lr, shrink, up, most, penalty, doubled_shrinkage, tiny
        )
        i += stride


def ftrl(w, g, accumulator, linear, rate, decay, power, l1, l2, l2_shrinkage, beta):
    numbers = constants(w, -power, l1, 2 * l2, 2 * l2_shrinkage, beta)
    run(_ftrl, w, g, accumulator, linear, rate, decay, numbers)


@kernel
def _schedule_free_adam(w, g, z, v, rate, step, decay, numbers):
    keep, beta_2, epsilon, warmup, tiny = numbers
    real = w.dtype.type
    shared = cuda.shared.array(3, w.dtype)
    one = real(1)
    if cuda.threadIdx.x == 0:
        t = real(step[0] + 1)
        shared[0] = min(t / warmup, one) if warmup > 0 else one
        shared[1] = one / t
        shared[2] = one - real(_power(beta_2, step[0] + 1))
    lr, shrink = rates(w, rate, decay)
    lr = lr * shared[0]
    weight, correction, take = shared[1], shared[2], one - beta_2
    i, count, stride = grid_range(w)
    while i < count:
        w[i], z[i], v[i] = rules.schedule_free_adam(
            w[i], g[i], z[i], v[i], lr, shrink, keep, take, weight, correction, epsilon, one, tiny
        )
        i += stride


def schedule_free_adam(w, g, z, v, rate, step, decay, beta_1, beta_2, epsilon, warmup):
    run(_schedule_free_adam, w, g, z, v, rate, step, decay, constants(w, beta_1, beta_2, epsilon, warmup))


# Weights averaged over steps


@kernel
def _moving_average(w, average, step, momentum, every):
    one = w.dtype.type(1)
    keep = momentum if step[0] > 0 else one - one
    overwrite = every > 0 and (step[0] + 1) % every == 0
    i, count, stride = grid_range(w)
    while i < count:
        now = keep * average[i] + (one - keep) * w[i]
        average[i] = now
        if overwrite:
            w[i] = now
        i += stride


def moving_average(w, average, step, momentum, every):
    run(_moving_average, w, average, step, w.dtype.type(momentum), every)


@kernel
def _shrink(w, rate, decay):
    _, shrink = rates(w, rate, decay)
    i, count, stride = grid_range(w)
    while i < count:
        w[i] -= w[i] * shrink
        i += stride


def shrink(w, rate, decay):
    run(_shrink, w.reshape(-1), rate, decay)
