"""Elementwise functions that NumPy does not have, for contiguous arrays: erfc, the inverse of erf, Bessel functions.

They are rarely used.
"""

import math

import numpy as np

from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled


@device.host
def erfc(x, y):
    """Kernel: y = 1 - erf(x), accurate where erf(x) is near 1."""
    _erfc(x.reshape(-1), y.reshape(-1))


@compiled
def _erfc(x, y):
    for i in range(x.size):
        y[i] = math.erfc(x[i])


@device.host
def erfinv(x, y):
    """Kernel: computes the inverse of erf."""
    _erfinv(x.reshape(-1), y.reshape(-1))


@compiled
def _erfinv(x, y):
    """Winitzki's approximation (2008), refined by Halley's method. For large |x| it uses the tail 1 - |x|."""
    for i in range(x.size):
        p = abs(float(x[i]))
        if not 0.0 < p < 1.0:
            y[i] = x[i] if p == 0.0 else math.copysign(math.inf, x[i]) if p == 1.0 else math.nan
            continue
        b = 0.5 * math.log1p(-p * p)
        a = 2.0 / (math.pi * 0.147) + b
        z = math.sqrt(math.sqrt(a * a - 2.0 * b / 0.147) - a)
        for _ in range(3):
            error = (1.0 - p) - math.erfc(z) if p > 0.5 else math.erf(z) - p
            step = error / (2.0 / math.sqrt(math.pi) * math.exp(-z * z))
            z -= step / (1.0 + z * step)
        y[i] = math.copysign(z, x[i])


@compiled
def _bessel(order, x, y):
    """y = I_order(x) by its power series (all terms have one sign): Abramowitz and Stegun 9.6.10."""
    for i in range(x.size):
        half = 0.5 * float(x[i])
        square, term = half * half, 1.0
        for k in range(1, order + 1):
            term *= half / k
        total, k = term, 1.0
        while abs(term) > 1e-17 * abs(total) and total - total == 0.0:
            term *= square / (k * (k + order))
            total += term
            k += 1.0
        y[i] = total


@device.host
def compute_bessel(x, order, y):
    """Kernel: computes the modified Bessel function of the first kind of a whole order."""
    _bessel(order, x.reshape(-1), y.reshape(-1))


def bessel(x, order: int):
    """The modified Bessel function of the first kind, I_order(x)."""
    y = device.empty(x.shape, x.dtype)
    device.launch(compute_bessel, x, order, y)
    return y, (x, order)


def bessel_vjp(saved, dy, needs):
    """The derivative is (I_(order - 1) + I_(order + 1)) / 2, where I_(-1) is I_1: Abramowitz and Stegun 9.6.26."""
    x, order = saved
    slope, _ = bessel(x, abs(order - 1))
    device.launch(np.add, slope, bessel(x, order + 1)[0], slope)
    device.launch(np.multiply, slope, dy.dtype.type(0.5), slope)
    dx = device.output(needs[0], dy.shape, dy.dtype)
    device.launch(np.multiply, slope, dy, dx)
    return (dx,)
