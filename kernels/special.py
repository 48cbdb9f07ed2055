"""Elementwise functions that NumPy does not have, for contiguous arrays: erfc, the inverse of erf, Bessel functions.

They are rarely used.
"""

import math

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
        square = half * half
        term = half if order else 1.0
        total, k = term, 1.0
        while abs(term) > 1e-17 * abs(total) and total - total == 0.0:
            term *= square / (k * (k + order))
            total += term
            k += 1.0
        y[i] = total


@device.host
def i0(x, y):
    """Kernel: computes the modified Bessel function of the first kind of order 0."""
    _bessel(0, x.reshape(-1), y.reshape(-1))


@device.host
def i1(x, y):
    """Kernel: computes the modified Bessel function of the first kind of order 1, the derivative of the function of order 0."""
    _bessel(1, x.reshape(-1), y.reshape(-1))
