"""Scalar formulas for numbers from random words, which random.py and its twin share; see `device_module`."""

import math

import numpy as np

from nbkeras.kernels.runtime.cache import compiled

_f, _u = np.float32, np.uint32
formula = compiled(inline="always")


@formula
def unit32(word):
    """Returns a float32 in [0, 1) from a word."""
    return _f(np.int32(word >> _u(8))) * _f(2.0**-24)


@formula
def unit64(high, low):
    """Returns a float64 in [0, 1) from two words."""
    whole, rest = np.float64(np.int32(high >> _u(5))), np.float64(np.int32(low >> _u(6)))
    return (whole * 67108864.0 + rest) * (1.0 / 9007199254740992.0)


@formula
def word64(high, low):
    """Returns two words as one 64-bit word."""
    return (np.uint64(high) << np.uint64(32)) | np.uint64(low)


@formula
def probability32(word, cut):
    """Returns a float32 in (cut, 1/2) from a word; it is exact near 0."""
    p = (_f(np.int32(word >> _u(1))) + _f(0.5)) * _f(2.0**-32)
    return cut + p * (_f(1) - cut - cut)


@formula
def probability64(high, low, cut):
    """Returns a float64 in (cut, 1/2) from two words."""
    p = (np.float64(np.int32(high >> _u(1))) + (np.float64(low) + 0.5) * 2.0**-32) * 2.0**-32
    return cut + p * (1.0 - 2.0 * cut)


@formula
def refined(z, p):
    """Refines a quantile z >= 0 of p by a step of Halley's method, which triples the number of correct digits."""
    f = (0.5 * math.erfc(z * 0.7071067811865476) - p) * 2.5066282746310002 * math.exp(0.5 * z * z)
    return z + f / (1.0 - 0.5 * z * f)


@formula
def signed(z, word):
    return z if (word & _u(1)) == _u(0) else -z


# The z >= 0 with P(normal > z) = p is sqrt(2) erfinv(1 - 2p). In float32, for 2**-33 <= p <= 1/2, two polynomials in
# w = -log(4 p (1 - p)) compute it: M. Giles, "Approximating the erfinv function", GPU Computing Gems 2, 2010.


@formula
def argument(p):
    """Returns the argument of the logarithm in w: 4 p (1 - p)."""
    return _f(4) * p * (_f(1) - p)


@formula
def central(w):
    """Evaluates the polynomial for w < 5."""
    a = w - _f(2.5)
    y = _f(2.81022636e-08) * a + _f(3.43273939e-07)
    y = y * a + _f(-3.5233877e-06)
    y = y * a + _f(-4.39150654e-06)
    y = y * a + _f(0.00021858087)
    y = y * a + _f(-0.00125372503)
    y = y * a + _f(-0.00417768164)
    y = y * a + _f(0.246640727)
    return y * a + _f(1.50140941)


@formula
def outer(w):
    """Evaluates the polynomial for w >= 5."""
    b = math.sqrt(w) - _f(3)
    y = _f(-0.000200214257) * b + _f(0.000100950558)
    y = y * b + _f(0.00134934322)
    y = y * b + _f(-0.00367342844)
    y = y * b + _f(0.00573950773)
    y = y * b + _f(-0.0076224613)
    y = y * b + _f(0.00943887047)
    y = y * b + _f(1.00167406)
    return y * b + _f(2.83297682)


@formula
def quantile_of(p, y):
    """Returns z for p, from the value of p's polynomial."""
    return _f(1.4142135623730951) * (_f(1) - p - p) * y
