"""The formulas of elementwise kernels: activations and their slopes, losses, softmax. Each is written only here.

loops/expressions.py explains how to write a formula and what computes it. The parameters of a kernel's formula: before `/`
elements of arrays, before `*` the elements of one-element arrays, then numbers; see loops/map.py.
"""

import math

from nbkeras.kernels.loops.expressions import (
    bounded_exp,
    bounded_expm1,
    bounded_log1p,
    clip,
    columns,
    cos,
    erfc,
    is_at,
    is_inside,
    largest,
    pick,
    real,
    scalar_log,
    sigmoid,
    sin,
    sqrt,
    tanh,
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
    return where(x > 0, scale * x, alpha * scale * bounded_expm1(x))


def elu_slope(x, /, *, alpha, scale):
    below = clip(x, -_FAR, 0.0)  # e^x may be infinite for x > 0, and its derivative there is multiplied by 0
    return where(x > 0, scale, alpha * scale * bounded_exp(below))


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
    return 0.5 * erfc(-z) + math.sqrt(0.5 / math.pi) * x * bounded_exp(-(z * z))


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
    w = bounded_exp(clip(x, -_FAR, 20.0))
    n = w * (w + 2)
    return clip(x, -_FAR, math.inf) * (n / (n + 2))


def mish_slope(x, /):
    """Returns n / (n + 2) + 4 x w (w + 1) / (n + 2)^2, with n and w as in `mish`."""
    x = clip(x, -_FAR, 20.0)
    w = bounded_exp(x)
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
    return where(x > 0, x, 0.0) + bounded_log1p(bounded_exp(-abs(x)))


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
    return where(logits > 0, logits, 0.0) - logits * target + bounded_log1p(bounded_exp(-abs(logits)))


def sigmoid_crossentropy_slope(target, logits, /):
    """The derivative of `sigmoid_crossentropy` by the logits: s - t, but (1 - t) - (1 - s) where s is near 1."""
    positive = logits > 0
    small = sigmoid(where(positive, -logits, logits))
    return where(positive, 1 - target - small, small - target)


# -------------------- gradients --------------------


def unscale(g, /, scale):
    return g / scale


def clip_both_ways(g, /, *, limit):
    """Limits g to at least -limit and at most limit; NaN stays NaN."""
    return clip(g, -limit, limit)


# -------------------- rows: see loops/row_passes.py --------------------


def softmax(x, /):
    """Returns e^x / sum(e^x) of each row."""
    powers = bounded_exp(x - largest(x))
    return powers * (1 / total(powers))


def softmax_backward(y, dy, /):
    """dx = y (dy - sum(dy y)) of each row."""
    return y * (dy - total(y * dy))


def log_softmax(x, /):
    """Returns x - log(sum(e^x)) of each row."""
    top = largest(x)
    return (x - top) - scalar_log(total(bounded_exp(x - top)))


def log_softmax_backward(y, dy, /):
    """dx = dy - e^y sum(dy) of each row."""
    return dy - bounded_exp(y) * total(dy)


def softmax_crossentropy(target, logits, /):
    """The softmax and the loss -sum(target * log_softmax(logits)) of each row."""
    top = largest(logits)
    powers = bounded_exp(logits - top)
    whole = total(powers)
    logarithm = scalar_log(whole)
    return powers * (1 / whole), total(target * (logarithm - (logits - top)))


def softmax_crossentropy_backward(target, probabilities, /, slope):
    """dlogits = slope (probabilities sum(target) - target) of each row."""
    return slope * (probabilities * total(target) - target)


def softmax_crossentropy_target(logits, /, slope):
    """dtarget = -slope log_softmax(logits) of each row."""
    top = largest(logits)
    return slope * (scalar_log(total(bounded_exp(logits - top))) - (logits - top))


def sparse_crossentropy(logits, /, label):
    """The softmax and the loss of each row; NaN for a label out of range."""
    top = largest(logits)
    powers = bounded_exp(logits - top)
    whole = total(powers)
    loss = where(is_inside(label), scalar_log(whole) - (pick(logits, label) - top), math.nan)
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
