"""Update rules of the optimizers for one weight: the scalar formulas that kernels on the CPU and on the GPU share.

A rule takes a weight `w`, its gradient `g` and its slots, then numbers that are the same for all weights of a step: `lr`, the
learning rate; `shrink`, the learning rate times the decoupled weight decay; the optimizer's constants; `tiny`, see `normal`.
It returns the new weight, then the new slots. All numbers have one float dtype, constants too: a float literal is a float64,
in which a whole loop over float32 would then compute.

optimizers.py and row_updates.py call these functions directly. Their twins call the same code compiled for CUDA, see
`device_module` in cuda/machine/kernel.py. Formulas, their order and their dtype: keras/src/optimizers (Keras 3.15).
"""

import math

from nbkeras.kernels.runtime.cache import compiled

rule = compiled(inline="always")


@rule
def normal(x, tiny):
    """x, or zero where it is subnormal; NaN stays. tiny: the smallest normal number of x's dtype.

    Slots that shrink for ever (a dead unit's moments) become zero before they are subnormal numbers, which are many times
    slower to compute with on most CPUs.
    """
    return tiny - tiny if abs(x) < tiny else x


@rule
def moved(mean, x, take, tiny):
    """A running mean, moved towards x by the fraction `take`."""
    return normal(mean + (x - mean) * take, tiny)


@rule
def mixed(mean, x, keep, take, tiny):
    """A running mean: keep * mean + take * x. `moved` rounds differently; Keras uses both."""
    return normal(keep * mean + take * x, tiny)


# SGD


@rule
def sgd(w, g, lr, shrink):
    return w - w * shrink - g * lr


@rule
def sgd_momentum(w, g, m, lr, shrink, momentum, of_momentum, of_gradient, tiny):
    """of_momentum, of_gradient: 1 and 0, or with Nesterov momentum `momentum` and `lr`."""
    m = normal(m * momentum - g * lr, tiny)
    return w - w * shrink + (m * of_momentum - g * of_gradient), m


# RMSprop


@rule
def rmsprop(w, g, v, lr, shrink, keep, take, epsilon, tiny):
    v = mixed(v, g * g, keep, take, tiny)
    return w - w * shrink - lr * g / math.sqrt(v + epsilon), v


@rule
def rmsprop_general(w, g, v, m, mean, lr, shrink, keep, take, epsilon, momentum, has_momentum, centered, tiny):
    v = mixed(v, g * g, keep, take, tiny)
    variance = v
    if centered:
        mean = mixed(mean, g, keep, take, tiny)
        variance = v - mean * mean
    change = lr * g / math.sqrt(variance + epsilon)
    if has_momentum:
        change = normal(momentum * m + change, tiny)
        m = change
    return w - w * shrink - change, v, m, mean


@rule
def rmsprop_faded(v, keep, tiny):
    """v after a step of RMSprop with a gradient of 0."""
    return normal(keep * v, tiny)


@rule
def rmsprop_faded_four_times(v, keep, tiny):
    """v after four such steps. A number that becomes subnormal on the way is subnormal at the end too, since none grows."""
    return normal(keep * (keep * (keep * (keep * v))), tiny)


# Adagrad, Adadelta


@rule
def adagrad(w, g, accumulator, lr, shrink, epsilon):
    accumulator = accumulator + g * g
    return w - w * shrink - lr * g / math.sqrt(accumulator + epsilon), accumulator


@rule
def adadelta(w, g, squares, changes, lr, shrink, keep, take, epsilon, tiny):
    squares = mixed(squares, g * g, keep, take, tiny)
    change = math.sqrt(changes + epsilon) * g / math.sqrt(squares + epsilon)
    changes = mixed(changes, change * change, keep, take, tiny)
    return w - w * shrink - lr * change, squares, changes


# Adam and its kin. power_1, power_2: beta_1**t and beta_2**t in step t, counted from 1.


@rule
def adam_rate(lr, power_1, power_2, one):
    """The learning rate, corrected for moments that start at zero."""
    return lr * math.sqrt(one - power_2) / (one - power_1)


@rule
def adam(w, g, m, v, alpha, shrink, take_1, take_2, epsilon, tiny):
    """alpha: `adam_rate`."""
    m = moved(m, g, take_1, tiny)
    v = moved(v, g * g, take_2, tiny)
    return w - w * shrink - m * alpha / (math.sqrt(v) + epsilon), m, v


@rule
def amsgrad(w, g, m, v, peak, alpha, shrink, take_1, take_2, epsilon, tiny):
    """alpha: `adam_rate`."""
    m = moved(m, g, take_1, tiny)
    v = moved(v, g * g, take_2, tiny)
    peak = v if v > peak or v != v else peak
    return w - w * shrink - m * alpha / (math.sqrt(peak) + epsilon), m, v, peak


@rule
def adamax(w, g, m, u, lr, shrink, correction, take, keep, epsilon, tiny):
    """correction: 1 - power_1."""
    m = moved(m, g, take, tiny)
    size, faded = abs(g), normal(keep * u, tiny)
    u = size if size > faded or size != size else faded
    return w - w * shrink - lr * m / (correction * (u + epsilon)), m, u


@rule
def nadam_momentum(beta_1, fade_power, half, one):
    """Nadam's momentum of a step; fade_power: 0.96**t."""
    return beta_1 * (one - half * fade_power)


@rule
def nadam_factors(now, following, product, one):
    """Factors of the mean and of the gradient: from the momenta of this step and the next and the product up to this one."""
    return following / (one - product * following), (one - now) / (one - product)


@rule
def nadam(w, g, m, v, lr, shrink, of_mean, of_gradient, correction, take_1, take_2, epsilon, tiny):
    """of_mean, of_gradient: `nadam_factors`. correction: 1 / (1 - power_2)."""
    m = moved(m, g, take_1, tiny)
    v = moved(v, g * g, take_2, tiny)
    ahead = of_mean * m + of_gradient * g
    return w - w * shrink - lr * ahead / (math.sqrt(v * correction) + epsilon), m, v


# Lion


@rule
def lion(w, g, m, lr, shrink, keep_1, take_1, keep_2, take_2, tiny):
    ahead, zero = m * keep_1 + g * take_1, tiny - tiny
    step = lr if ahead > zero else (-lr if ahead < zero else lr * ahead)  # zero, and NaN stays
    return w - w * shrink - step, normal(m * keep_2 + g * take_2, tiny)


# Follow the regularized leader


@rule
def _raised(x, up):
    """x ** up. Loops with the usual root are vectorised, loops with powers are not."""
    return math.sqrt(x) if up == 0.5 else x**up


@rule
def ftrl(w, g, accumulator, linear, lr, shrink, up, l1, penalty, doubled_shrinkage, tiny):
    """up: -learning_rate_power. penalty: 2 * l2 + beta / lr. doubled_shrinkage: 2 * l2_shrinkage."""
    w = w - w * shrink
    total = accumulator + g * g
    raised = _raised(total, up)
    z = linear + (g + doubled_shrinkage * w - (raised - _raised(accumulator, up)) / lr * w)
    z = normal(z, tiny)
    clipped = l1 if z > l1 else (-l1 if z < -l1 else z)
    return (clipped - z) / (raised / lr + penalty), total, z


# Adam without a schedule


@rule
def schedule_free_adam(w, g, z, v, lr, shrink, keep, take, weight, correction, epsilon, one, tiny):
    """weight: 1 / t, of the newest z in the mean of all. correction: 1 - power_2."""
    w = w - w * shrink
    v = moved(v, g * g, take, tiny)
    after = normal(z - lr * g / (math.sqrt(v / correction) + epsilon), tiny)
    mean = (one - weight) * ((w - (one - keep) * z) / keep) + weight * after
    return (one - keep) * after + keep * mean, after, v
