"""Elementwise activations, forward and vjp: relu and its variants, elu, sigmoid, tanh, silu, gelu, mish, softplus.

Each activation has its own small loop, compiled at first use: one kernel for all of them, selected by a code, took 0.8 s
to compile. NaN stays NaN. Softmax is in softmax.py.
"""

import math

import numpy as np

from nbkeras.kernels.loops import vmath
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled
from nbkeras.kernels.runtime.threads import launch_shares, share_count, stretch

Array = np.ndarray
# elements of a share, about 3 us: for loops without and with exponentials
_PRODUCTS, _EXPONENTIALS = 32768, 8192


def _forward(kernel, x: Array, *constants: float, least: int = _EXPONENTIALS) -> Array:
    y = device.empty(x.shape, x.dtype)
    numbers = [x.dtype.type(c) for c in constants]
    launch_shares(kernel, share_count(x.size, least), x.reshape(-1), y.reshape(-1), *numbers)
    return y


def _backward(kernel, saved: Array, dy: Array, need, *constants: float, least: int = _EXPONENTIALS) -> tuple[Array]:
    dx = device.output(need, dy.shape, dy.dtype)
    flat = (saved.reshape(-1), dy.reshape(-1), dx.reshape(-1))
    launch_shares(kernel, share_count(dy.size, least), *flat, *[dy.dtype.type(c) for c in constants])
    return (dx,)


# -------------------- relu --------------------


def relu(x: Array):
    """max(x, 0)."""
    y = _forward(relu_forward, x, least=_PRODUCTS)
    return y, y


def relu_vjp(y, dy, needs):
    return _backward(relu_backward, y, dy, needs[0], least=_PRODUCTS)


@compiled
def relu_forward(x, y, share, shares):
    """Kernel: y = x, but 0 where x < 0."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] < zero else x[i]


@compiled
def relu_backward(y, dy, dx, share, shares):
    """Kernel: dx = dy where y > 0, else 0."""
    first, last = stretch(y.size, share, shares)
    y, dy, dx = y[first:last], dy[first:last], dx[first:last]
    zero = y.dtype.type(0)
    for i in range(y.size):
        dx[i] = dy[i] if y[i] > zero else zero


def piecewise(x: Array, negative_slope: float, threshold: float, max_value: float):
    """max_value where x >= max_value, x where x > threshold, else negative_slope * (x - threshold).

    max_value NaN means no maximum, because every comparison with NaN is false. With infinity, an input of infinity would be at
    the maximum and have slope 0.
    """
    constants = (negative_slope, threshold, max_value)
    y = _forward(piecewise_forward, x, *constants, least=_PRODUCTS)
    return y, (x, constants)


def piecewise_vjp(saved, dy, needs):
    x, constants = saved
    return _backward(piecewise_backward, x, dy, needs[0], *constants, least=_PRODUCTS)


@compiled
def piecewise_forward(x, y, negative_slope, threshold, max_value, share, shares):
    """Kernel: see piecewise."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        below = negative_slope * (v - threshold) if negative_slope != zero else zero
        y[i] = max_value if v >= max_value else (below if v <= threshold else v)


@compiled
def piecewise_backward(x, dy, dx, negative_slope, threshold, max_value, share, shares):
    """Kernel: dx = dy times 0, 1 or negative_slope; at the threshold negative_slope, as in TensorFlow and PyTorch."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        below = negative_slope * dy[i]
        dx[i] = zero if x[i] >= max_value else (below if x[i] <= threshold else dy[i])


# -------------------- elu --------------------


def elu(x: Array, alpha: float, scale: float):
    """scale * x where x > 0, else scale * alpha * (e^x - 1)."""
    y = _forward(elu_forward, x, alpha * scale, scale)
    return y, (x, alpha * scale, scale)


def elu_vjp(saved, dy, needs):
    x, low, high = saved
    return _backward(elu_backward, x, dy, needs[0], low, high)


@compiled
def elu_forward(x, y, low, high, share, shares):
    """Kernel: y = high * x where x > 0, else low * (e^x - 1)."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = high * x[i] if x[i] > zero else low * vmath.expm1(x[i])


@compiled
def elu_backward(x, dy, dx, low, high, share, shares):
    """Kernel: dx = dy times high where x > 0, else low * e^x."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        dx[i] = dy[i] * (high if x[i] > zero else low * vmath.exp(x[i]))


# -------------------- sigmoid and tanh --------------------


def sigmoid(x: Array):
    """1 / (1 + e^-x)."""
    y = _forward(sigmoid_forward, x)
    return y, y


def sigmoid_vjp(y, dy, needs):
    return _backward(sigmoid_backward, y, dy, needs[0], least=_PRODUCTS)


@compiled
def sigmoid_forward(x, y, share, shares):
    """Kernel: y = 1 / (1 + e^-x)."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = vmath.sigmoid(x[i])


@compiled
def sigmoid_backward(y, dy, dx, share, shares):
    """Kernel: dx = dy y (1 - y)."""
    first, last = stretch(y.size, share, shares)
    y, dy, dx = y[first:last], dy[first:last], dx[first:last]
    one = y.dtype.type(1)
    for i in range(y.size):
        dx[i] = dy[i] * (y[i] * (one - y[i]))


def tanh(x: Array):
    """tanh(x)."""
    y = _forward(tanh_forward, x)
    return y, y


def tanh_vjp(y, dy, needs):
    return _backward(tanh_backward, y, dy, needs[0], least=_PRODUCTS)


@compiled
def tanh_forward(x, y, share, shares):
    """Kernel: y = tanh(x)."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        y[i] = vmath.tanh(x[i])


@compiled
def tanh_backward(y, dy, dx, share, shares):
    """Kernel: dx = dy (1 - y^2)."""
    first, last = stretch(y.size, share, shares)
    y, dy, dx = y[first:last], dy[first:last], dx[first:last]
    one = y.dtype.type(1)
    for i in range(y.size):
        dx[i] = dy[i] * (one - y[i] * y[i])


# -------------------- silu, gelu, mish, softplus --------------------

# Beyond -1000 and 1000 the vanishing factors (sigmoid, erfc, e^x and their slopes) are 0 in float32 and float64. Inputs are
# clipped there, because infinity times 0 is NaN and the limit is 0.


def silu(x: Array):
    """x sigmoid(x)."""
    return _forward(silu_forward, x), x


def silu_vjp(x, dy, needs):
    return _backward(silu_backward, x, dy, needs[0])


@compiled
def silu_forward(x, y, share, shares):
    """Kernel: y = x sigmoid(x)."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, math.inf)
        y[i] = v * vmath.sigmoid(v)


@compiled
def silu_backward(x, dy, dx, share, shares):
    """Kernel: dx = dy s (1 + x (1 - s)), s = sigmoid(x)."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    one = x.dtype.type(1)
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, 1000.0)
        s = vmath.sigmoid(v)
        dx[i] = dy[i] * (s + v * s * (one - s))


def gelu(x: Array):
    """x Phi(x) = x erfc(-x / sqrt(2)) / 2, with the normal distribution's Phi."""
    return _forward(gelu_forward, x, math.sqrt(0.5)), x


def gelu_vjp(x, dy, needs):
    constants = (math.sqrt(0.5), math.sqrt(0.5 / math.pi))
    return _backward(gelu_backward, x, dy, needs[0], *constants)


@compiled
def gelu_forward(x, y, root_half, share, shares):
    """Kernel: y = x erfc(-x / sqrt(2)) / 2."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    half = x.dtype.type(0.5)
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, math.inf)
        y[i] = half * v * vmath.erfc(-root_half * v)


@compiled
def gelu_backward(x, dy, dx, root_half, height, share, shares):
    """Kernel: dx = dy (Phi(x) + x phi(x)); height: the normal density at 0."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    half = x.dtype.type(0.5)
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, 1000.0)
        z = root_half * v
        dx[i] = dy[i] * (half * vmath.erfc(-z) + height * v * vmath.exp(-(z * z)))


_GELU_TANH = (2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715)


def gelu_tanh(x: Array):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as x times a sigmoid of twice that."""
    return _forward(gelu_tanh_forward, x, *_GELU_TANH), x


def gelu_tanh_vjp(x, dy, needs):
    return _backward(gelu_tanh_backward, x, dy, needs[0], *_GELU_TANH)


@compiled
def gelu_tanh_forward(x, y, linear, cubic, share, shares):
    """Kernel: y = x sigmoid(linear x + cubic x^3)."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, math.inf)
        y[i] = v * vmath.sigmoid(v * (linear + cubic * (v * v)))


@compiled
def gelu_tanh_backward(x, dy, dx, linear, cubic, share, shares):
    """Kernel: dx = dy (s + x s (1 - s) u'), s = sigmoid(u), u = linear x + cubic x^3."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    one, three = x.dtype.type(1), x.dtype.type(3)
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, 1000.0)
        s = vmath.sigmoid(v * (linear + cubic * (v * v)))
        dx[i] = dy[i] * (s + v * (s * (one - s)) * (linear + three * cubic * (v * v)))


def mish(x: Array):
    """x tanh(softplus(x)) = x n / (n + 2), n = w (w + 2), w = e^x."""
    return _forward(mish_forward, x), x


def mish_vjp(x, dy, needs):
    return _backward(mish_backward, x, dy, needs[0])


@compiled
def mish_forward(x, y, share, shares):
    """Kernel: y = x n / (n + 2), n = w (w + 2), w = e^x; the factor of x is 1 for x >= 20."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    two = x.dtype.type(2)
    for i in range(x.size):
        w = vmath.exp(vmath.clip(x[i], -1000.0, 20.0))
        n = w * (w + two)
        y[i] = vmath.clip(x[i], -1000.0, math.inf) * (n / (n + two))


@compiled
def mish_backward(x, dy, dx, share, shares):
    """Kernel: dx = dy (n / (n + 2) + 4 x w (w + 1) / (n + 2)^2), n = w (w + 2), w = e^x."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    one, two, four = x.dtype.type(1), x.dtype.type(2), x.dtype.type(4)
    for i in range(x.size):
        v = vmath.clip(x[i], -1000.0, 20.0)
        w = vmath.exp(v)
        n = w * (w + two)
        d = one / (n + two)
        dx[i] = dy[i] * (n * d + four * v * (w * d) * ((w + one) * d))


def hard_silu(x: Array):
    """x min(max(x + 3, 0), 6) / 6."""
    return _forward(hard_silu_forward, x, 1 / 6, least=_PRODUCTS), x


def hard_silu_vjp(x, dy, needs):
    return _backward(hard_silu_backward, x, dy, needs[0], 1 / 6, least=_PRODUCTS)


@compiled
def hard_silu_forward(x, y, sixth, share, shares):
    """Kernel: y = 0 for x <= -3, x for x >= 3, x (x + 3) / 6 between."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    three = x.dtype.type(3)
    for i in range(x.size):
        v = vmath.clip(x[i], -3.0, math.inf)
        y[i] = v * ((vmath.clip(v, -3.0, 3.0) + three) * sixth)


@compiled
def hard_silu_backward(x, dy, dx, sixth, share, shares):
    """Kernel: dx = 0 for x <= -3, dy for x >= 3, dy (2 x + 3) / 6 between."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    zero, one, two, three = x.dtype.type(0), x.dtype.type(1), x.dtype.type(2), x.dtype.type(3)
    for i in range(x.size):
        v = x[i]
        slope = zero if v <= -three else (two * v + three) * sixth
        dx[i] = dy[i] * (one if v >= three else slope)


def softplus(x: Array):
    """log(1 + e^x)."""
    return _forward(softplus_forward, x), x


def softplus_vjp(x, dy, needs):
    return _backward(softplus_backward, x, dy, needs[0])


@compiled
def softplus_forward(x, y, share, shares):
    """Kernel: y = max(x, 0) + log(1 + e^-|x|)."""
    first, last = stretch(x.size, share, shares)
    x, y = x[first:last], y[first:last]
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        y[i] = (v if v > zero else zero) + vmath.log1p(vmath.exp(-abs(v)))


@compiled
def softplus_backward(x, dy, dx, share, shares):
    """Kernel: dx = dy sigmoid(x)."""
    first, last = stretch(x.size, share, shares)
    x, dy, dx = x[first:last], dy[first:last], dx[first:last]
    for i in range(x.size):
        dx[i] = dy[i] * vmath.sigmoid(x[i])
