"""Random numbers by rejection sampling: gamma, beta, binomial. Pure functions of a key, like those in random.py.

Each number uses its own counters (its position, the attempt), in streams 16 and above, so that numbers are independent. The
kernels run on the CPU, even for arrays on a GPU. Sources: Marsaglia and Tsang, "A simple method for
generating gamma variables", 2000; Hormann, "The generation of binomial random variates", 1993.
"""

import math

import numpy as np

from nbkeras.kernels.loops.random_numbers import unit64
from nbkeras.kernels.random import Rows, philox
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.cache import compiled

Array = np.ndarray
_U = np.uint32


@compiled(inline="always")
def _two_units(key, stream, i, attempt):
    """Two uniform numbers in [0, 1) for one attempt to generate number i."""
    a, b, c, d = philox(_U(i), _U(attempt), key[1], _U(stream), key[0], _U(0))
    return unit64(a, b), unit64(c, d)


@compiled
def _log_gamma_number(key, stream, i, alpha):
    """Returns the log of a gamma-distributed number; for alpha < 1, of a number for alpha + 1 times u^(1 / alpha)."""
    shape = alpha if alpha >= 1.0 else alpha + 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    attempt = 0
    while True:
        u, v = _two_units(key, stream, i, attempt)
        normal = math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(2.0 * math.pi * v)
        cube = (1.0 + c * normal) ** 3
        w, rest = _two_units(key, stream + 1, i, attempt)
        if cube > 0.0 and math.log(1.0 - w) < 0.5 * normal * normal + d * (1.0 - cube + math.log(cube)):
            found = math.log(d * cube)
            return found if alpha >= 1.0 else found + math.log(1.0 - rest) / alpha
        attempt += 1


def _drawn(kernel, key: Array, rows: Rows, *parameters: Array):
    """Draws a number for each element of the parameters, which all have the same shape. rows: see random.py."""
    y = device.empty(parameters[0].shape, parameters[0].dtype)
    first = 0 if rows is None else rows[0]
    device.launch(kernel, key, first, *(parameter.reshape(-1) for parameter in parameters), y.reshape(-1))
    return y, None


def gamma(key: Array, alpha: Array, rows: Rows = None):
    """Gamma-distributed numbers of scale 1, one per alpha; NaN unless alpha > 0."""
    return _drawn(draw_gamma, key, rows, alpha)


@device.host
@compiled
def draw_gamma(key, first, alpha, out):
    """Kernel: see `gamma`."""
    for i in range(out.size):
        out[i] = math.exp(_log_gamma_number(key, 16, first + i, np.float64(alpha[i]))) if alpha[i] > 0 else math.nan


def beta(key: Array, alpha: Array, beta: Array, rows: Rows = None):
    """Beta-distributed numbers, one per alpha and beta; NaN unless both are above 0."""
    return _drawn(draw_beta, key, rows, alpha, beta)


@device.host
@compiled
def draw_beta(key, first, alpha, beta, out):
    """Kernel: see `beta`. Computes x / (x + y) of gamma-distributed numbers from their logarithms, because they may be tiny."""
    for i in range(out.size):
        if alpha[i] > 0 and beta[i] > 0:
            x = _log_gamma_number(key, 16, first + i, np.float64(alpha[i]))
            y = _log_gamma_number(key, 18, first + i, np.float64(beta[i]))
            out[i] = 1.0 / (1.0 + math.exp(y - x))
        else:
            out[i] = math.nan


def binomial(key: Array, counts: Array, probabilities: Array, rows: Rows = None):
    """The number of successes in `counts` trials, for each count and probability; NaN for invalid arguments."""
    return _drawn(draw_binomial, key, rows, counts, probabilities)


@device.host
@compiled
def draw_binomial(key, first, counts, probabilities, out):
    """Kernel: see `binomial`."""
    for i in range(out.size):
        n, p = math.floor(counts[i]), np.float64(probabilities[i])
        if not (n >= 0 and 0.0 <= p <= 1.0):
            out[i] = math.nan
            continue
        smaller = min(p, 1.0 - p)
        found = (
            _binomial_by_search(key, first + i, n, smaller)
            if n * smaller < 10.0
            else _binomial(key, first + i, n, smaller)
        )
        out[i] = found if p <= 0.5 else n - found


@compiled
def _binomial_by_search(key, i, n, p):
    """Inverts the distribution function at a random number, by a search from 0."""
    rest, _ = _two_units(key, 20, i, 0)
    probability = math.exp(n * math.log1p(-p))
    k = 0.0
    while rest >= probability and k < n:
        rest -= probability
        k += 1.0
        probability *= (n - k + 1.0) / k * (p / (1.0 - p))
    return k


@compiled
def _binomial(key, i, n, p):
    """Transformed rejection with squeeze (BTRS); n p must be at least 10."""
    spread = math.sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    quick = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    mode = math.floor((n + 1.0) * p)
    odds = math.log(p / (1.0 - p))
    top = math.lgamma(mode + 1.0) + math.lgamma(n - mode + 1.0)
    attempt = 0
    while True:
        u, v = _two_units(key, 20, i, attempt)
        u -= 0.5
        v = 1.0 - v
        near = 0.5 - abs(u)
        attempt += 1
        if near <= 0.0:
            continue
        k = math.floor((2.0 * a / near + b) * u + n * p + 0.5)
        if near >= 0.07 and v <= quick:
            return k
        if 0.0 <= k <= n:
            bound = top - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0) + (k - mode) * odds
            if math.log(v * alpha / (a / (near * near) + b)) <= bound:
                return k
