"""The formulas of elementwise kernels: activations and their slopes, losses, steps of optimizers. Each is written only here.

loops/expressions.py explains how to write a formula and what computes it. The parameters of a kernel's formula: before `/`
elements of arrays, before `*` the elements of one-element arrays, then numbers; see loops/map.py.
"""

import math

from nbkeras.kernels.loops.expressions import (
    clip,
    columns,
    cos,
    erfc,
    exp,
    expm1,
    is_at,
    is_inside,
    is_nan,
    largest,
    log,
    log1p,
    pick,
    real,
    sigmoid,
    sin,
    sqrt,
    tanh,
    tiny,
    total,
    where,
    with_slope,
)

# -------------------- activations --------------------

# A slope is the factor of dy in the gradient, a function of the input x or the output y. A condition means dy where it holds,
# else 0.

# Beyond -1000 and 1000, the factors that vanish (sigmoid, erfc, e^x and their slopes) are 0 in float32 and float64. Inputs are
# clipped to this range, because infinity times 0 is NaN, where the limit is 0.
_FAR = 1000.0
_LINEAR = 2 * math.sqrt(2 / math.pi)  # twice the factors of x and x^3 in gelu_tanh's tanh
_CUBIC = _LINEAR * 0.044715


def relu(x, /):
    """Returns max(x, 0)."""
    return where(x < 0, 0.0, x)


def relu_slope(y, /):
    return y > 0


def piecewise(x, /, *, negative_slope, threshold, max_value):
    """Returns max_value where x >= max_value, x where x > threshold, else negative_slope * (x - threshold).

    A max_value of NaN means no maximum, because every comparison with NaN is false. If infinity meant this, an infinite input
    would be at the maximum and have slope 0.
    """
    below = where(negative_slope == 0, 0.0, negative_slope * (x - threshold))
    return where(x >= max_value, max_value, where(x <= threshold, below, x))


def piecewise_slope(x, /, *, negative_slope, threshold, max_value):
    """Returns 0, 1 or negative_slope. At the threshold it is negative_slope, as in TensorFlow and PyTorch."""
    return where(x >= max_value, 0.0, where(x <= threshold, negative_slope, 1.0))


def elu(x, /, *, alpha, scale):
    """Returns scale * x where x > 0, else scale * alpha * (e^x - 1)."""
    return where(x > 0, scale * x, alpha * scale * expm1(x))


def elu_slope(x, /, *, alpha, scale):
    below = clip(x, -_FAR, 0.0)  # e^x may be infinite for x > 0, and its derivative there is multiplied by 0
    return where(x > 0, scale, alpha * scale * exp(below))


def logistic(x, /):
    """Returns 1 / (1 + e^-x)."""
    return sigmoid(x)


def logistic_slope(y, /):
    return y * (1 - y)


def hyperbolic_tangent(x, /):
    """Returns tanh(x)."""
    return tanh(x)


def hyperbolic_tangent_slope(y, /):
    return 1 - y * y


def silu(x, /):
    """Returns x sigmoid(x)."""
    x = clip(x, -_FAR, math.inf)
    return x * sigmoid(x)


def silu_slope(x, /):
    x = clip(x, -_FAR, _FAR)
    s = sigmoid(x)
    return s + x * s * (1 - s)


def gelu(x, /):
    """x Phi(x) = x erfc(-x / sqrt(2)) / 2, where Phi is the normal distribution function."""
    x = clip(x, -_FAR, math.inf)
    return 0.5 * x * erfc(-math.sqrt(0.5) * x)


def gelu_slope(x, /):
    """Phi(x) + x phi(x)."""
    x = clip(x, -_FAR, _FAR)
    z = math.sqrt(0.5) * x
    return 0.5 * erfc(-z) + math.sqrt(0.5 / math.pi) * x * exp(-(z * z))


def gelu_tanh(x, /):
    """x (1 + tanh(a)) / 2 with a = sqrt(2 / pi) (x + 0.044715 x^3), computed as x * sigmoid(2 a)."""
    x = clip(x, -_FAR, math.inf)
    return x * sigmoid(x * (_LINEAR + _CUBIC * (x * x)))


def gelu_tanh_slope(x, /):
    x = clip(x, -_FAR, _FAR)
    s = sigmoid(x * (_LINEAR + _CUBIC * (x * x)))
    return s + x * (s * (1 - s)) * (_LINEAR + 3 * _CUBIC * (x * x))


def mish(x, /):
    """x tanh(softplus(x)) = x n / (n + 2) with n = w (w + 2), w = e^x. For x >= 20, n / (n + 2) is 1."""
    w = exp(clip(x, -_FAR, 20.0))
    n = w * (w + 2)
    return clip(x, -_FAR, math.inf) * (n / (n + 2))


def mish_slope(x, /):
    """Returns n / (n + 2) + 4 x w (w + 1) / (n + 2)^2, with n and w as in `mish`."""
    x = clip(x, -_FAR, 20.0)
    w = exp(x)
    n = w * (w + 2)
    d = 1 / (n + 2)
    return n * d + 4 * x * (w * d) * ((w + 1) * d)


def hard_silu(x, /):
    """Returns 0 for x <= -3, x for x >= 3, x (x + 3) / 6 between."""
    x = clip(x, -3.0, math.inf)
    return x * ((clip(x, -3.0, 3.0) + 3) * (1 / 6))


def hard_silu_slope(x, /):
    return where(x >= 3, 1.0, where(x <= -3, 0.0, (2 * x + 3) * (1 / 6)))


def softplus(x, /):
    """Returns log(1 + e^x)."""
    return where(x > 0, x, 0.0) + log1p(exp(-abs(x)))


def softplus_slope(x, /):
    return sigmoid(x)


# -------------------- functions --------------------


def sinc(x, /):
    """Returns sin(pi x) / (pi x), and 1 at 0."""
    return _sinc(math.pi * x, 0)


def _sinc(z, order):
    """The derivative of an order of sin(z) / z.

    The derivatives S_k follow from z S_k + k S_(k-1) = sin(z + k pi / 2), the derivatives of z S_0 = sin z. Divided by z, errors
    are multiplied by k / z in each step. So the power series is used for small z.
    """

    def derivative(z):
        waves = sin(z), cos(z), -sin(z), -cos(z)
        y = where(z == 0, 1.0, waves[0] / z)
        for k in range(1, order + 1):
            y = (waves[k % 4] - k * y) / z
        limit = (order + 1) / 2
        return where(abs(z) < limit, _sinc_series(z, order, limit), y) if order else y

    return with_slope(derivative, lambda z: _sinc(z, order + 1), "x")(z)


def _sinc_series(z, order, limit):
    """The derivative of an order of the sum of (-1)^m z^(2 m) / (2 m + 1)!, exact to float64 for |z| <= limit."""
    factors, m = [], (order + 1) // 2
    while not factors or abs(factors[-1]) * limit ** (2 * m) > 1e-20:
        factors.append((-1) ** m * math.perm(2 * m, order) / math.factorial(2 * m + 1))
        m += 1
    square, y = z * z, 0.0
    for factor in reversed(factors):
        y = y * square + factor
    return y * z if order % 2 else y


def softsign(x, /):
    """Returns x / (1 + |x|)."""
    return with_slope(lambda x: x / (1 + abs(x)), _softsign_slope, "x")(x)


def _softsign_slope(x):
    root = 1 / (1 + abs(x))
    return root * root


# -------------------- losses --------------------


def sigmoid_crossentropy(target, logits, /):
    """-t log s - (1 - t) log(1 - s), s = sigmoid(x), as max(x, 0) - x t + log(1 + e^-|x|)."""
    return where(logits > 0, logits, 0.0) - logits * target + log1p(exp(-abs(logits)))


def sigmoid_crossentropy_slope(target, logits, /):
    """The derivative of `sigmoid_crossentropy` by the logits: s - t, but (1 - t) - (1 - s) where s is near 1."""
    positive = logits > 0
    small = sigmoid(where(positive, -logits, logits))
    return where(positive, 1 - target - small, small - target)


# -------------------- optimizers --------------------

# A rule takes a weight `w`, its gradient `g` and its slots, then numbers that are the same for all weights of a step: `lr`, the
# learning rate; `shrink`, the learning rate times the decoupled weight decay. It returns the new weight, then the new slots. A
# step computes these numbers from `rate` and `step`, the number of earlier steps.
# Formulas, their order and their dtype: keras/src/optimizers (Keras 3.15).


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


def sgd(w, g, /, rate, *, decay):
    return sgd_rule(w, g, rate, decay * rate)


def shrink(w, /, rate, *, decay):
    """Weight decay alone."""
    return w - w * (decay * rate)


def sgd_momentum(w, g, m, /, rate, *, decay, momentum, nesterov):
    m = normal(m * momentum - g * rate)
    of_momentum, of_gradient = where(nesterov > 0, momentum, 1.0), where(nesterov > 0, rate, 0.0)
    return w - w * (decay * rate) + (m * of_momentum - g * of_gradient), m


def rmsprop_rule(w, g, v, lr, shrink, keep, take, epsilon, /):
    v = mixed(v, g * g, keep, take)
    return w - w * shrink - lr * g / sqrt(v + epsilon), v


def rmsprop(w, g, v, /, rate, *, decay, rho, epsilon):
    return rmsprop_rule(w, g, v, rate, decay * rate, rho, 1 - rho, epsilon)


def rmsprop_momentum(w, g, v, m, /, rate, *, decay, rho, epsilon, momentum):
    v = mixed(v, g * g, rho, 1 - rho)
    m = normal(momentum * m + rate * g / sqrt(v + epsilon))
    return w - w * (decay * rate) - m, v, m


def rmsprop_centered(w, g, v, mean, /, rate, *, decay, rho, epsilon):
    v, mean = mixed(v, g * g, rho, 1 - rho), mixed(mean, g, rho, 1 - rho)
    return w - w * (decay * rate) - rate * g / sqrt(v - mean * mean + epsilon), v, mean


def rmsprop_centered_momentum(w, g, v, m, mean, /, rate, *, decay, rho, epsilon, momentum):
    v, mean = mixed(v, g * g, rho, 1 - rho), mixed(mean, g, rho, 1 - rho)
    m = normal(momentum * m + rate * g / sqrt(v - mean * mean + epsilon))
    return w - w * (decay * rate) - m, v, m, mean


def rmsprop_faded(v, keep, /):
    """Returns v after a step of RMSprop with a gradient of 0."""
    return normal(keep * v)


def rmsprop_faded_four_times(v, keep, /):
    """v after four such steps. v never grows, so a number that becomes subnormal in between is subnormal at the end too."""
    return normal(keep * (keep * (keep * (keep * v))))


def adagrad_rule(w, g, accumulator, lr, shrink, epsilon, /):
    accumulator = accumulator + g * g
    return w - w * shrink - lr * g / sqrt(accumulator + epsilon), accumulator


def adagrad(w, g, accumulator, /, rate, *, decay, epsilon):
    return adagrad_rule(w, g, accumulator, rate, decay * rate, epsilon)


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


def adam(w, g, m, v, /, rate, step, *, decay, beta_1, beta_2, epsilon):
    m, v = moved(m, g, 1 - beta_1), moved(v, g * g, 1 - beta_2)
    alpha = adam_rate(rate, step, beta_1, beta_2)
    return w - w * (decay * rate) - m * alpha / (sqrt(v) + epsilon), m, v


def amsgrad(w, g, m, v, peak, /, rate, step, *, decay, beta_1, beta_2, epsilon):
    m, v = moved(m, g, 1 - beta_1), moved(v, g * g, 1 - beta_2)
    peak = where((v > peak) | is_nan(v), v, peak)
    alpha = adam_rate(rate, step, beta_1, beta_2)
    return w - w * (decay * rate) - m * alpha / (sqrt(peak) + epsilon), m, v, peak


def adamax(w, g, m, u, /, rate, step, *, decay, beta_1, beta_2, epsilon):
    m = moved(m, g, 1 - beta_1)
    size, faded = abs(g), normal(beta_2 * u)
    u = where((size > faded) | is_nan(size), size, faded)
    return w - w * (decay * rate) - rate * m / ((1 - beta_power(beta_1, step)) * (u + epsilon)), m, u


def nadam_momentum(beta_1, t):
    """Nadam's momentum of step t."""
    return real(beta_1) * (1 - 0.5 * 0.96**t)


def nadam_product(product, /, step, *, beta_1):
    """The product of Nadam's momenta."""
    return product * nadam_momentum(beta_1, real(step + 1))


def nadam(w, g, m, v, /, product, rate, step, *, decay, beta_1, beta_2, epsilon):
    """Adam with Nesterov's momentum. product: the product of the momenta up to this step."""
    first, second, t = real(beta_1), real(beta_2), real(step + 1)
    now, following = nadam_momentum(first, t), nadam_momentum(first, t + 1)
    of_mean = following / (1 - real(product) * following)
    of_gradient = (1 - now) / (1 - real(product))
    m, v = moved(m, g, 1 - first), moved(v, g * g, 1 - second)
    ahead = of_mean * m + of_gradient * g
    return w - w * (decay * rate) - rate * ahead / (sqrt(v * (1 / (1 - second**t))) + epsilon), m, v


def lion(w, g, m, /, rate, *, decay, beta_1, beta_2):
    ahead = m * beta_1 + g * (1 - beta_1)
    step = where(ahead > 0, rate, where(ahead < 0, -rate, rate * ahead))  # `rate * ahead` keeps zero and NaN
    return w - w * (decay * rate) - step, normal(m * beta_2 + g * (1 - beta_2))


def _ftrl(w, g, accumulator, linear, lr, l1, l2, l2_shrinkage, beta, raised):
    total = accumulator + g * g
    z = linear + (g + 2 * l2_shrinkage * w - (raised(total) - raised(accumulator)) / lr * w)
    z = normal(z)
    clipped = where(z > l1, l1, where(z < -l1, -l1, z))
    return (clipped - z) / (raised(total) / lr + 2 * (l2 + beta / (2 * lr))), total, z


def ftrl(w, g, accumulator, linear, /, rate, *, decay, l1, l2, l2_shrinkage, beta):
    """Follows the regularized leader, with the usual learning_rate_power of -0.5."""
    w = w - w * (decay * rate)
    return _ftrl(w, g, accumulator, linear, real(rate), real(l1), real(l2), l2_shrinkage, real(beta), sqrt)


def ftrl_power(w, g, accumulator, linear, /, rate, *, decay, l1, l2, l2_shrinkage, beta, power):
    """`ftrl` with any learning_rate_power <= 0. It is separate, because loops with powers are not vectorised."""
    w = w - w * (decay * rate)
    return _ftrl(
        w, g, accumulator, linear, real(rate), real(l1), real(l2), l2_shrinkage, real(beta), lambda x: x ** (-power)
    )


def schedule_free_adam(w, g, z, v, /, rate, step, *, decay, beta_1, beta_2, epsilon, warmup):
    """Schedule-free Adam. z: the weights after plain steps, initially w. w is between z and the mean of all z."""
    t, keep, take = real(step + 1), real(beta_1), 1 - real(beta_2)
    share = t / real(warmup)
    lr = where(warmup > 0, real(rate) * where(share < 1, share, 1.0), real(rate))
    w = w - w * (decay * rate)
    v = moved(v, g * g, take)
    after = normal(z - lr * g / (sqrt(v / (1 - beta_power(beta_2, step))) + epsilon))
    mean = (1 - 1 / t) * ((w - (1 - keep) * z) / keep) + 1 / t * after
    return (1 - keep) * after + keep * mean, after, v


# -------------------- gradients --------------------


def unscale(g, /, scale):
    return g / scale


def clip_both_ways(g, /, *, limit):
    """Limits g to at least -limit and at most limit; NaN stays NaN."""
    return clip(g, -limit, limit)


# -------------------- rows: see loops/row_passes.py --------------------


def softmax(x, /):
    """Returns e^x / sum(e^x) of each row."""
    powers = exp(x - largest(x))
    return powers * (1 / total(powers))


def softmax_backward(y, dy, /):
    """dx = y (dy - sum(dy y)) of each row."""
    return y * (dy - total(y * dy))


def log_softmax(x, /):
    """Returns x - log(sum(e^x)) of each row."""
    top = largest(x)
    return (x - top) - log(total(exp(x - top)))


def log_softmax_backward(y, dy, /):
    """dx = dy - e^y sum(dy) of each row."""
    return dy - exp(y) * total(dy)


def softmax_crossentropy(target, logits, /):
    """The softmax and the loss -sum(target * log_softmax(logits)) of each row."""
    top = largest(logits)
    powers = exp(logits - top)
    whole = total(powers)
    logarithm = log(whole)
    return powers * (1 / whole), total(target * (logarithm - (logits - top)))


def softmax_crossentropy_backward(target, probabilities, /, slope):
    """dlogits = slope (probabilities sum(target) - target) of each row."""
    return slope * (probabilities * total(target) - target)


def softmax_crossentropy_target(logits, /, slope):
    """dtarget = -slope log_softmax(logits) of each row."""
    top = largest(logits)
    return slope * (log(total(exp(logits - top))) - (logits - top))


def sparse_crossentropy(logits, /, label):
    """The softmax and the loss of each row; NaN for a label out of range."""
    top = largest(logits)
    powers = exp(logits - top)
    whole = total(powers)
    loss = where(is_inside(label), log(whole) - (pick(logits, label) - top), math.nan)
    return powers * (1 / whole), loss


def sparse_crossentropy_backward(probabilities, /, label, slope):
    """dlogits = slope (probabilities - 1 at the label) of each row."""
    weight = where(is_inside(label), slope, math.nan)
    return weight * where(is_at(label), probabilities - 1, probabilities)


def layer_normalization(x, gamma, beta, /, *, epsilon):
    """Returns (x - mean) / sqrt(variance + epsilon) * gamma + beta, the mean, and 1 / sqrt(variance + epsilon)."""
    mean = total(x) * (1 / columns())
    distance = x - mean
    inverse = 1 / sqrt(total(distance * distance) * (1 / columns()) + epsilon)
    return distance * inverse * gamma + beta, mean, inverse


def rms_normalization(x, gamma, beta, /, *, epsilon):
    """`layer_normalization` with a mean of 0: the variance is the mean square (Zhang and Sennrich, 2019)."""
    inverse = 1 / sqrt(total(x * x) * (1 / columns()) + epsilon)
    return x * inverse * gamma + beta, 0 * real(epsilon), inverse
