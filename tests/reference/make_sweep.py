"""Write sweep.npz: values and derivatives to the third order of elementwise ops, for autodiff/test_sweep.py.

python tests/reference/make_sweep.py    (with mpmath)

Differences of 1500 digits, whose step is 1e-100 times the point or less, so that nothing cancels.
"""

import math

import mpmath as mp
import numpy as np
from arrays import store
from mpmath import mpf
from sweep_points import CHOSEN, PAIRS, POINTS, TWO, points_of

mp.mp.dps = 1500


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def softplus(x):
    return mp.log1p(mp.exp(x)) if x < 1e4 else x


def limited(x, low, high):
    return min(max(x, mpf(low)), mpf(high))


def elu(x, alpha=1, scale=1):
    return scale * x if x > 0 else alpha * scale * mp.expm1(x)


def sinc(x):
    return mp.sin(mp.pi * x) / (mp.pi * x) if x else mpf(1)


def gelu_tanh(x):
    return x * sigmoid(2 * mp.sqrt(2 / mp.pi) * (x + mpf("0.044715") * x**3))


def arcsinh(x):
    return mp.sign(x) * mp.log(abs(x) + mp.sqrt(x * x + 1))


def erf(x):
    return mp.erf(x) if abs(x) < 1e4 else mp.sign(x)


def erfc(x):
    return mp.erfc(x) if abs(x) < 1e4 else 1 - mp.sign(x)


def mish(x):
    return x * mp.tanh(softplus(x))


def same(x):
    return x


SELU = mpf(1.6732632423543772), mpf(1.0507009873554805)
ONE = {
    "negative": lambda x: -x,
    "absolute": abs,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x,
    "exp": mp.exp,
    "exponential": mp.exp,
    "expm1": mp.expm1,
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "arctan": mp.atan,
    "erf": erf,
    "erfc": erfc,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "arcsinh": arcsinh,
    "exp2": lambda x: mpf(2) ** x,
    "cbrt": lambda x: mp.sign(x) * mp.cbrt(abs(x)),
    "deg2rad": lambda x: x * mp.pi / 180,
    "rad2deg": lambda x: x * 180 / mp.pi,
    "fabs": abs,
    "nan_to_num": same,
    "real": same,
    "cast": same,
    "print_tensor": same,
    "relu": lambda x: max(x, mpf(0)),
    "relu6": lambda x: limited(x, 0, 6),
    "leaky_relu": lambda x: x if x > 0 else mpf(0.2) * x,
    "relu_all": lambda x: mpf(2) if x >= 2 else x if x > mpf(0.3) else mpf(0.1) * (x - mpf(0.3)),
    "elu": elu,
    "selu": lambda x: elu(x, *SELU),
    "celu": lambda x: x if x > 0 else 2 * mp.expm1(x / 2),
    "sigmoid": sigmoid,
    "tanh": mp.tanh,
    "silu": lambda x: x * sigmoid(x),
    "gelu": gelu_tanh,
    "gelu_exact": lambda x: x * erfc(-x / mp.sqrt(2)) / 2,
    "mish": mish,
    "softplus": softplus,
    "hard_sigmoid": lambda x: limited(x + 3, 0, 6) / 6,
    "legacy_hard_sigmoid": lambda x: limited(mpf(0.2) * x + 0.5, 0, 1),
    "hard_silu": lambda x: x * limited(x + 3, 0, 6) / 6,
    "hard_tanh": lambda x: limited(x, -1, 1),
    "log_sigmoid": lambda x: -softplus(-x),
    "softsign": lambda x: x / (1 + abs(x)),
    "tanh_shrink": lambda x: x - mp.tanh(x),
    "hard_shrink": lambda x: x if abs(x) > 0.5 else mpf(0),
    "soft_shrink": lambda x: x - limited(x, -0.5, 0.5),
    "threshold": lambda x: x if x > 1 else mpf(7),
    "squareplus": lambda x: (x + mp.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: x if x > 1 else (limited(x, -1, 1) + 1) ** 2 / 4,
    "sparse_sigmoid": lambda x: (limited(x, -1, 1) + 1) / 2,
    "clip": lambda x: limited(x, -1, 1.5),
    "power_2": lambda x: x**2,
    "power_3": lambda x: x**3,
    "sqrt": mp.sqrt,
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "log": mp.log,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "log10": lambda x: mp.log(x) / mp.log(10),
    "log1p": mp.log1p,
    "arcsin": mp.asin,
    "arccos": mp.acos,
    "arctanh": mp.atanh,
    "erfinv": mp.erfinv,
    "arccosh": mp.acosh,
    "i0": lambda x: mp.besseli(0, x),
    "sinc": sinc,
}


def quotient(a, b):
    return mpf(0) if not b else a / b


def whole(rounded):
    return lambda a, b: a - b * rounded(a / b)


def trunc(x):
    return mp.floor(x) if x > 0 else mp.ceil(x)


TWO_FORMULAS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "divide_no_nan": quotient,
    "maximum": max,
    "minimum": min,
    "fmax": max,
    "fmin": min,
    "hypot": lambda a, b: mp.sqrt(a * a + b * b),
    "arctan2": mp.atan2,
    "logaddexp": lambda a, b: max(a, b) + softplus(-abs(a - b)),
    "logaddexp2": lambda a, b: max(a, b) + softplus(-abs(a - b) * mp.log(2)) / mp.log(2),
    "mod": whole(mp.floor),
    "fmod": whole(trunc),
    "power": lambda a, b: a**b,
    "sigmoid_crossentropy": lambda t, x: max(x, mpf(0)) - x * t + softplus(-abs(x)),
    "where": lambda a, b: a,
}


def differences(f, step):
    """f(0) and the derivatives to the third order at 0."""
    below, low, at, high, above = (f(step * i) for i in (-2, -1, 0, 1, 2))
    return (
        at,
        (high - low) / (2 * step),
        (high - 2 * at + low) / step**2,
        (above - 2 * high + 2 * low - below) / (2 * step**3),
    )


def number(x):
    """A float, NaN for a complex number."""
    return nan if isinstance(x, mp.mpc) and x.imag else float(x.real)


nan = math.nan


def step_at(*xs):
    return min([abs(x) for x in xs if x] + [mpf(1)]) * mpf(10) ** -100


def value_at(f, x):
    try:
        return number(f(mpf(x)))
    except (ValueError, ZeroDivisionError):  # infinite at 0
        return math.copysign(math.inf, x)


def row_of_one(f, x, chosen):
    """The value and three derivatives; NaN where there are none."""
    try:
        if x in chosen:
            return [value_at(f, x), nan, nan, nan]
        return [number(y) for y in differences(lambda t: f(mpf(x) + t), step_at(mpf(x)))]
    except (ValueError, ZeroDivisionError):
        return [nan] * 4


def along(f, a, b, way):
    return differences(lambda t: f(a + t * way[0], b + t * way[1]), step_at(a, b))


def row_of_two(f, a, b):
    """The value, and along (1, 1) the derivatives of the gradients of both, of orders 0, 1 and 2."""
    a, b = mpf(a), mpf(b)
    h, found = step_at(a, b), [number(f(a, b))]
    for way in ((1, 0), (0, 1)):

        def slope(t, way=way):
            c, d = a + t, b + t
            return (f(c + h * way[0], d + h * way[1]) - f(c - h * way[0], d - h * way[1])) / (2 * h)

        found += [number(y) for y in differences(slope, h)[:3]]
    return found


def main() -> None:
    arrays = {}
    for name in POINTS:
        points, count = points_of(name)
        rows = [row_of_one(ONE[name], x, CHOSEN.get(name, {})) for x in points[:count]]
        arrays[name] = np.array(rows).T
    for name in TWO:
        rows = []
        for a, b in PAIRS:
            try:
                rows.append(row_of_two(TWO_FORMULAS[name], a, b))
            except (ValueError, ZeroDivisionError):
                rows.append([nan] * 7)
        arrays[f"two.{name}"] = np.array(rows).T
    store("sweep.npz", arrays)


if __name__ == "__main__":
    main()
