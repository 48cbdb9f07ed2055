"""Elementwise activations, forward and vjp: relu and its kin, elu, sigmoid, tanh, silu, gelu, softplus. Softmax: softmax.py.

Each activation is a small loop of its own, compiled when first used (0.2 s with its vjp): all of them in one kernel behind a
code took 0.8 s to compile, and 2 s more in parallel. NaN stays NaN.
"""

import math

import numpy as np
from numba import prange

from nbkeras.kernels import blocks, device, vmath
from nbkeras.kernels.cache import compiled

Array = np.ndarray


def _forward(serial, parallel, x: Array, *constants: float) -> Array:
    y = device.empty(x.shape, x.dtype)
    blocks.launch(serial, parallel, (x.reshape(-1), y.reshape(-1)), *[x.dtype.type(c) for c in constants])
    return y


def _backward(serial, parallel, saved: Array, dy: Array, need, *constants: float) -> tuple[Array]:
    dx = device.output(need, dy.shape, dy.dtype)
    flat = (saved.reshape(-1), dy.reshape(-1), dx.reshape(-1))
    blocks.launch(serial, parallel, flat, *[dy.dtype.type(c) for c in constants])
    return (dx,)


# -------------------- relu --------------------


def relu(x: Array):
    """max(x, 0)."""
    y = _forward(relu_forward, relu_forward_parallel, x)
    return y, y


def relu_vjp(y, dy, needs):
    return _backward(relu_backward, relu_backward_parallel, y, dy, needs[0])


@compiled
def relu_forward(x, y):
    """Kernel: y = x, but 0 where x < 0."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] < zero else x[i]


@compiled(parallel=True)
def relu_forward_parallel(x, y):
    """Kernel: relu_forward of each row."""
    for t in prange(x.shape[0]):
        relu_forward(x[t], y[t])


@compiled
def relu_backward(y, dy, dx):
    """Kernel: dx = dy where y > 0, else 0."""
    zero = y.dtype.type(0)
    for i in range(y.size):
        dx[i] = dy[i] if y[i] > zero else zero


@compiled(parallel=True)
def relu_backward_parallel(y, dy, dx):
    """Kernel: relu_backward of each row."""
    for t in prange(y.shape[0]):
        relu_backward(y[t], dy[t], dx[t])


def piecewise(x: Array, negative_slope: float, threshold: float, max_value: float):
    """max_value where x >= max_value, x where x >= threshold, else negative_slope * (x - threshold)."""
    constants = (negative_slope, threshold, max_value)
    y = _forward(piecewise_forward, piecewise_forward_parallel, x, *constants)
    return y, (x, constants)


def piecewise_vjp(saved, dy, needs):
    x, constants = saved
    return _backward(piecewise_backward, piecewise_backward_parallel, x, dy, needs[0], *constants)


@compiled
def piecewise_forward(x, y, negative_slope, threshold, max_value):
    """Kernel: see piecewise."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        below = negative_slope * (v - threshold) if negative_slope != zero else zero
        y[i] = max_value if v >= max_value else (below if v < threshold else v)


@compiled(parallel=True)
def piecewise_forward_parallel(x, y, negative_slope, threshold, max_value):
    """Kernel: piecewise_forward of each row."""
    for t in prange(x.shape[0]):
        piecewise_forward(x[t], y[t], negative_slope, threshold, max_value)


@compiled
def piecewise_backward(x, dy, dx, negative_slope, threshold, max_value):
    """Kernel: dx = dy times 0, 1 or negative_slope."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        below = negative_slope * dy[i]
        dx[i] = zero if x[i] >= max_value else (below if x[i] < threshold else dy[i])


@compiled(parallel=True)
def piecewise_backward_parallel(x, dy, dx, negative_slope, threshold, max_value):
    """Kernel: piecewise_backward of each row."""
    for t in prange(x.shape[0]):
        piecewise_backward(x[t], dy[t], dx[t], negative_slope, threshold, max_value)


# -------------------- elu --------------------


def elu(x: Array, alpha: float, scale: float):
    """scale * x where x > 0, else scale * alpha * (e^x - 1)."""
    y = _forward(elu_forward, elu_forward_parallel, x, alpha * scale, scale)
    return y, (x, alpha * scale, scale)


def elu_vjp(saved, dy, needs):
    x, low, high = saved
    return _backward(elu_backward, elu_backward_parallel, x, dy, needs[0], low, high)


@compiled
def elu_forward(x, y, low, high):
    """Kernel: y = high * x where x > 0, else low * (e^x - 1)."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = high * x[i] if x[i] > zero else low * vmath.expm1(x[i])


@compiled(parallel=True)
def elu_forward_parallel(x, y, low, high):
    """Kernel: elu_forward of each row."""
    for t in prange(x.shape[0]):
        elu_forward(x[t], y[t], low, high)


@compiled
def elu_backward(x, dy, dx, low, high):
    """Kernel: dx = dy times high where x > 0, else low * e^x."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        dx[i] = dy[i] * (high if x[i] > zero else low * vmath.exp(x[i]))


@compiled(parallel=True)
def elu_backward_parallel(x, dy, dx, low, high):
    """Kernel: elu_backward of each row."""
    for t in prange(x.shape[0]):
        elu_backward(x[t], dy[t], dx[t], low, high)


# -------------------- sigmoid and tanh --------------------


def sigmoid(x: Array):
    """1 / (1 + e^-x)."""
    y = _forward(sigmoid_forward, sigmoid_forward_parallel, x)
    return y, y


def sigmoid_vjp(y, dy, needs):
    return _backward(sigmoid_backward, sigmoid_backward_parallel, y, dy, needs[0])


@compiled
def sigmoid_forward(x, y):
    """Kernel: y = 1 / (1 + e^-x)."""
    for i in range(x.size):
        y[i] = vmath.sigmoid(x[i])


@compiled(parallel=True)
def sigmoid_forward_parallel(x, y):
    """Kernel: sigmoid_forward of each row."""
    for t in prange(x.shape[0]):
        sigmoid_forward(x[t], y[t])


@compiled
def sigmoid_backward(y, dy, dx):
    """Kernel: dx = dy y (1 - y)."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dx[i] = dy[i] * (y[i] * (one - y[i]))


@compiled(parallel=True)
def sigmoid_backward_parallel(y, dy, dx):
    """Kernel: sigmoid_backward of each row."""
    for t in prange(y.shape[0]):
        sigmoid_backward(y[t], dy[t], dx[t])


def tanh(x: Array):
    """tanh(x)."""
    y = _forward(tanh_forward, tanh_forward_parallel, x)
    return y, y


def tanh_vjp(y, dy, needs):
    return _backward(tanh_backward, tanh_backward_parallel, y, dy, needs[0])


@compiled
def tanh_forward(x, y):
    """Kernel: y = tanh(x)."""
    for i in range(x.size):
        y[i] = vmath.tanh(x[i])


@compiled(parallel=True)
def tanh_forward_parallel(x, y):
    """Kernel: tanh_forward of each row."""
    for t in prange(x.shape[0]):
        tanh_forward(x[t], y[t])


@compiled
def tanh_backward(y, dy, dx):
    """Kernel: dx = dy (1 - y^2)."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dx[i] = dy[i] * (one - y[i] * y[i])


@compiled(parallel=True)
def tanh_backward_parallel(y, dy, dx):
    """Kernel: tanh_backward of each row."""
    for t in prange(y.shape[0]):
        tanh_backward(y[t], dy[t], dx[t])


# -------------------- silu, gelu, softplus --------------------


def silu(x: Array):
    """x sigmoid(x)."""
    return _forward(silu_forward, silu_forward_parallel, x), x


def silu_vjp(x, dy, needs):
    return _backward(silu_backward, silu_backward_parallel, x, dy, needs[0])


@compiled
def silu_forward(x, y):
    """Kernel: y = x sigmoid(x)."""
    for i in range(x.size):
        y[i] = x[i] * vmath.sigmoid(x[i])


@compiled(parallel=True)
def silu_forward_parallel(x, y):
    """Kernel: silu_forward of each row."""
    for t in prange(x.shape[0]):
        silu_forward(x[t], y[t])


@compiled
def silu_backward(x, dy, dx):
    """Kernel: dx = dy s (1 + x (1 - s)), s = sigmoid(x)."""
    one = x.dtype.type(1)
    for i in range(x.size):
        s = vmath.sigmoid(x[i])
        dx[i] = dy[i] * (s + x[i] * s * (one - s))


@compiled(parallel=True)
def silu_backward_parallel(x, dy, dx):
    """Kernel: silu_backward of each row."""
    for t in prange(x.shape[0]):
        silu_backward(x[t], dy[t], dx[t])


def gelu(x: Array):
    """x Phi(x) = x erfc(-x / sqrt(2)) / 2, with the normal distribution's Phi."""
    return _forward(gelu_forward, gelu_forward_parallel, x, math.sqrt(0.5)), x


def gelu_vjp(x, dy, needs):
    constants = (math.sqrt(0.5), math.sqrt(0.5 / math.pi))
    return _backward(gelu_backward, gelu_backward_parallel, x, dy, needs[0], *constants)


@compiled
def gelu_forward(x, y, root_half):
    """Kernel: y = x erfc(-x / sqrt(2)) / 2."""
    half = x.dtype.type(0.5)
    for i in range(x.size):
        y[i] = half * x[i] * vmath.erfc(-root_half * x[i])


@compiled(parallel=True)
def gelu_forward_parallel(x, y, root_half):
    """Kernel: gelu_forward of each row."""
    for t in prange(x.shape[0]):
        gelu_forward(x[t], y[t], root_half)


@compiled
def gelu_backward(x, dy, dx, root_half, height):
    """Kernel: dx = dy (Phi(x) + x phi(x)); height: of the normal density at 0."""
    half = x.dtype.type(0.5)
    for i in range(x.size):
        z = root_half * x[i]
        dx[i] = dy[i] * (half * vmath.erfc(-z) + height * x[i] * vmath.exp(-(z * z)))


@compiled(parallel=True)
def gelu_backward_parallel(x, dy, dx, root_half, height):
    """Kernel: gelu_backward of each row."""
    for t in prange(x.shape[0]):
        gelu_backward(x[t], dy[t], dx[t], root_half, height)


_GELU_TANH = (2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715)


def gelu_tanh(x: Array):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, as x times a sigmoid of twice that."""
    return _forward(gelu_tanh_forward, gelu_tanh_forward_parallel, x, *_GELU_TANH), x


def gelu_tanh_vjp(x, dy, needs):
    return _backward(gelu_tanh_backward, gelu_tanh_backward_parallel, x, dy, needs[0], *_GELU_TANH)


@compiled
def gelu_tanh_forward(x, y, linear, cubic):
    """Kernel: y = x sigmoid(linear x + cubic x^3)."""
    for i in range(x.size):
        v = x[i]
        y[i] = v * vmath.sigmoid(v * (linear + cubic * (v * v)))


@compiled(parallel=True)
def gelu_tanh_forward_parallel(x, y, linear, cubic):
    """Kernel: gelu_tanh_forward of each row."""
    for t in prange(x.shape[0]):
        gelu_tanh_forward(x[t], y[t], linear, cubic)


@compiled
def gelu_tanh_backward(x, dy, dx, linear, cubic):
    """Kernel: dx = dy (s + x s (1 - s) u'), s = sigmoid(u), u = linear x + cubic x^3."""
    one, three = x.dtype.type(1), x.dtype.type(3)
    for i in range(x.size):
        v = x[i]
        s = vmath.sigmoid(v * (linear + cubic * (v * v)))
        dx[i] = dy[i] * (s + v * (s * (one - s)) * (linear + three * cubic * (v * v)))


@compiled(parallel=True)
def gelu_tanh_backward_parallel(x, dy, dx, linear, cubic):
    """Kernel: gelu_tanh_backward of each row."""
    for t in prange(x.shape[0]):
        gelu_tanh_backward(x[t], dy[t], dx[t], linear, cubic)


def softplus(x: Array):
    """log(1 + e^x)."""
    return _forward(softplus_forward, softplus_forward_parallel, x), x


def softplus_vjp(x, dy, needs):
    return _backward(softplus_backward, softplus_backward_parallel, x, dy, needs[0])


@compiled
def softplus_forward(x, y):
    """Kernel: y = max(x, 0) + log(1 + e^-|x|)."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        v = x[i]
        y[i] = (v if v > zero else zero) + vmath.log1p(vmath.exp(-abs(v)))


@compiled(parallel=True)
def softplus_forward_parallel(x, y):
    """Kernel: softplus_forward of each row."""
    for t in prange(x.shape[0]):
        softplus_forward(x[t], y[t])


@compiled
def softplus_backward(x, dy, dx):
    """Kernel: dx = dy sigmoid(x)."""
    for i in range(x.size):
        dx[i] = dy[i] * vmath.sigmoid(x[i])


@compiled(parallel=True)
def softplus_backward_parallel(x, dy, dx):
    """Kernel: softplus_backward of each row."""
    for t in prange(x.shape[0]):
        softplus_backward(x[t], dy[t], dx[t])
