"""Twins of activations.py: a thread computes four neighbours, loaded and stored together if the arrays are 16-byte aligned.

There are two kernels forward and two backward, without and with exponentials, so that the former need few registers. A code
selects the activation.
"""

import math
from typing import Any

from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import in_fours, load_four, store_four
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, device_function, kernel, start_each
from nbkeras.kernels.runtime.device_array import DeviceArray

_RELU, _PIECEWISE, _HARD_SILU, _ELU, _SIGMOID, _TANH, _SILU, _GELU, _GELU_TANH, _MISH, _SOFTPLUS = range(11)


# -------------------- forward --------------------


@device_function
def _straight(code, v, a, b, c, zero):
    if code == _RELU:
        return zero if v < zero else v
    if code == _HARD_SILU:  # a: 3, b: 1 / 6
        return zero if v <= -a else v if v >= a else v * ((v + a) * b)
    below = a * (v - b) if a != zero else zero
    return c if v >= c else below if v <= b else v


@device_function
def _curved(code, v, a, b, zero, one, far):
    if code == _ELU:
        return b * v if v > zero else a * math.expm1(v)
    if code == _SIGMOID:
        return _sigmoid(v, zero, one)
    if code == _TANH:
        return math.tanh(v)
    if code == _SILU:
        v = _not_below(v, far)
        return v * _sigmoid(v, zero, one)
    if code == _GELU:
        v = _not_below(v, far)
        return b * v * math.erfc(-a * v)
    if code == _GELU_TANH:
        v = _not_below(v, far)
        return v * _sigmoid(v * (a + b * (v * v)), zero, one)
    if code == _MISH:  # a: 20, b: 2
        w = math.exp(a if v > a else v)
        n = w * (w + b)
        return _not_below(v, far) * (n / (n + b))
    return (zero if v < zero else v) + math.log1p(math.exp(-math.fabs(v)))


@device_function
def _not_below(v, far):
    """v, at least -far; far is 1000, see activations.py."""
    return -far if v < -far else v


@device_function
def _within(v, far):
    """v, at least -far and at most far."""
    return -far if v < -far else far if v > far else v


@device_function
def _sigmoid(v, zero, one):
    power = math.exp(-math.fabs(v))  # the power of -|v|, so that a small result keeps the power's accuracy
    return (one if v >= zero else power) / (one + power)


@kernel
def _straight_forward(code, at_once, x, a, b, c, y):
    in_fours(_straight, code, at_once, x, (a, b, c, x.dtype.type(0)), y)


@kernel
def _curved_forward(code, at_once, x, a, b, y):
    real = x.dtype.type
    in_fours(_curved, code, at_once, x, (a, b, real(0), real(1), real(1000)), y)


# -------------------- backward --------------------


@device_function
def _straight_slope(code, v, dy, a, b, c, zero, one):
    """dx; v is the output, except for _PIECEWISE and _HARD_SILU, where it is the input."""
    if code == _RELU:
        return dy if v > zero else zero
    if code == _HARD_SILU:
        return zero if v <= -a else dy if v >= a else dy * ((v + v + a) * b)
    if code == _PIECEWISE:
        return zero if v >= c else a * dy if v <= b else dy
    if code == _SIGMOID:
        return dy * (v * (one - v))
    return dy * (one - v * v)


@device_function
def _curved_slope(code, v, dy, a, b, c, zero, one, far):
    """dx; v is the input."""
    if code == _ELU:
        return dy * (b if v > zero else a * math.exp(v))
    v = _within(v, far)
    if code == _SILU:
        s = _sigmoid(v, zero, one)
        return dy * (s + v * s * (one - s))
    if code == _GELU:
        z = a * v
        return dy * (c * math.erfc(-z) + b * v * math.exp(-(z * z)))
    if code == _GELU_TANH:
        s = _sigmoid(v * (a + b * (v * v)), zero, one)
        return dy * (s + v * (s * (one - s)) * (a + c * b * (v * v)))
    if code == _MISH:  # a: 20, b: 2
        v = a if v > a else v
        w = math.exp(v)
        n = w * (w + b)
        d = one / (n + b)
        return dy * (n * d + b * b * v * (w * d) * ((w + one) * d))
    return dy * _sigmoid(v, zero, one)


@device_function
def _slopes_in_fours(slope, code, at_once, x, dy, numbers, dx):
    """dx = slope(code, number of x, number of dy, *numbers), as `in_fours`."""
    n, zero = 4 * cuda.grid(1), x.dtype.type(0)
    if n < x.size:
        wide = at_once and n + 4 <= x.size
        p, q, r, s = load_four(x, n, x.size, 1, wide, zero)
        e, f, g, h = load_four(dy, n, x.size, 1, wide, zero)
        p, q = slope(code, p, e, *numbers), slope(code, q, f, *numbers)
        r, s = slope(code, r, g, *numbers), slope(code, s, h, *numbers)
        store_four(dx, n, x.size, 1, wide, (p, q, r, s))


@kernel
def _straight_backward(code, at_once, x, dy, a, b, c, dx):
    real = x.dtype.type
    _slopes_in_fours(_straight_slope, code, at_once, x, dy, (a, b, c, real(0), real(1)), dx)


@kernel
def _curved_backward(code, at_once, x, dy, a, b, c, dx):
    real = x.dtype.type
    _slopes_in_fours(_curved_slope, code, at_once, x, dy, (a, b, c, real(0), real(1), real(1000)), dx)


# -------------------- twins --------------------


def _start(kernel: Kernel, code: int, arrays: tuple[DeviceArray, ...], *constants: Any) -> None:
    """Run a kernel over flat arrays; the last one is its output."""
    *inputs, out = arrays
    at_once = all(array.address % 16 == 0 for array in arrays)
    numbers = [out.dtype.type(constant) for constant in constants]
    start_each(kernel, blocks(out.size, 4), code, at_once, *inputs, *numbers, out)


def relu_forward(x: DeviceArray, y: DeviceArray) -> None:
    """y = x, but 0 where x < 0."""
    _start(_straight_forward, _RELU, (x, y), 0, 0, 0)


def relu_backward(y: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy where y > 0, else 0."""
    _start(_straight_backward, _RELU, (y, dy, dx), 0, 0, 0)


relu_forward.fuses_as, relu_backward.fuses_as = "relu", "relu_slope"  # type: ignore[attr-defined]


def piecewise_forward(x: DeviceArray, y: DeviceArray, negative_slope: Any, threshold: Any, max_value: Any) -> None:
    """max_value where x >= max_value, x where x > threshold, else negative_slope * (x - threshold)."""
    _start(_straight_forward, _PIECEWISE, (x, y), negative_slope, threshold, max_value)


def piecewise_backward(
    x: DeviceArray, dy: DeviceArray, dx: DeviceArray, negative_slope: Any, threshold: Any, max_value: Any
) -> None:
    """dx = dy times 0, 1 or negative_slope."""
    _start(_straight_backward, _PIECEWISE, (x, dy, dx), negative_slope, threshold, max_value)


def elu_forward(x: DeviceArray, y: DeviceArray, low: Any, high: Any) -> None:
    """y = high * x where x > 0, else low * (e^x - 1)."""
    _start(_curved_forward, _ELU, (x, y), low, high)


def elu_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray, low: Any, high: Any) -> None:
    """dx = dy times high where x > 0, else low * e^x."""
    _start(_curved_backward, _ELU, (x, dy, dx), low, high, 0)


def sigmoid_forward(x: DeviceArray, y: DeviceArray) -> None:
    """y = 1 / (1 + e^-x)."""
    _start(_curved_forward, _SIGMOID, (x, y), 0, 0)


def sigmoid_backward(y: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy y (1 - y)."""
    _start(_straight_backward, _SIGMOID, (y, dy, dx), 0, 0, 0)


def tanh_forward(x: DeviceArray, y: DeviceArray) -> None:
    """y = tanh(x)."""
    _start(_curved_forward, _TANH, (x, y), 0, 0)


def tanh_backward(y: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy (1 - y^2)."""
    _start(_straight_backward, _TANH, (y, dy, dx), 0, 0, 0)


def silu_forward(x: DeviceArray, y: DeviceArray) -> None:
    """y = x sigmoid(x)."""
    _start(_curved_forward, _SILU, (x, y), 0, 0)


def silu_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy s (1 + x (1 - s)), s = sigmoid(x)."""
    _start(_curved_backward, _SILU, (x, dy, dx), 0, 0, 0)


def gelu_forward(x: DeviceArray, y: DeviceArray, root_half: Any) -> None:
    """y = x erfc(-x / sqrt(2)) / 2."""
    _start(_curved_forward, _GELU, (x, y), root_half, 0.5)


def gelu_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray, root_half: Any, height: Any) -> None:
    """dx = dy (Phi(x) + x phi(x)); height: the normal density at 0."""
    _start(_curved_backward, _GELU, (x, dy, dx), root_half, height, 0.5)


def gelu_tanh_forward(x: DeviceArray, y: DeviceArray, linear: Any, cubic: Any) -> None:
    """y = x sigmoid(linear x + cubic x^3)."""
    _start(_curved_forward, _GELU_TANH, (x, y), linear, cubic)


def gelu_tanh_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray, linear: Any, cubic: Any) -> None:
    """dx = dy (s + x s (1 - s) u'), s = sigmoid(u), u = linear x + cubic x^3."""
    _start(_curved_backward, _GELU_TANH, (x, dy, dx), linear, cubic, 3)


def mish_forward(x: DeviceArray, y: DeviceArray) -> None:
    """y = x n / (n + 2), n = w (w + 2), w = e^x."""
    _start(_curved_forward, _MISH, (x, y), 20, 2)


def mish_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy (n / (n + 2) + 4 x w (w + 1) / (n + 2)^2), n = w (w + 2), w = e^x."""
    _start(_curved_backward, _MISH, (x, dy, dx), 20, 2, 0)


def hard_silu_forward(x: DeviceArray, y: DeviceArray, sixth: Any) -> None:
    """y = 0 for x <= -3, x for x >= 3, x (x + 3) / 6 between."""
    _start(_straight_forward, _HARD_SILU, (x, y), 3, sixth, 0)


def hard_silu_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray, sixth: Any) -> None:
    """dx = 0 for x <= -3, dy for x >= 3, dy (2 x + 3) / 6 between."""
    _start(_straight_backward, _HARD_SILU, (x, dy, dx), 3, sixth, 0)


def softplus_forward(x: DeviceArray, y: DeviceArray) -> None:
    """y = max(x, 0) + log(1 + e^-|x|)."""
    _start(_curved_forward, _SOFTPLUS, (x, y), 0, 0)


def softplus_backward(x: DeviceArray, dy: DeviceArray, dx: DeviceArray) -> None:
    """dx = dy sigmoid(x)."""
    _start(_curved_backward, _SOFTPLUS, (x, dy, dx), 0, 0, 0)
