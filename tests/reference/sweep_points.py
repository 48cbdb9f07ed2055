"""Where the sweep (autodiff/test_sweep.py) differentiates elementwise ops, and what is chosen where there is no derivative.

For make_sweep.py too, which runs without nbkeras.
"""

import numpy as np

inf, nan = np.inf, np.nan
ZEROS, SMALL, LARGE = [0.0, -0.0], [1e-20, -1e-20, 1e-200, -1e-200], [1e20, -1e20, 1e200, -1e200]
PLAIN = [1.0, -1.0, 1.5, -1.5, 30.0, -30.0]
EVERYWHERE = [*ZEROS, *PLAIN, *SMALL, *LARGE]
POSITIVE = [0.0, *[x for x in EVERYWHERE if x > 0]]
INSIDE = [*ZEROS, 1.0, -1.0, 0.5, -0.5, 1 - 2**-20, *SMALL]
MIDDLE = [*ZEROS, *PLAIN, *SMALL]  # of functions whose values are infinite for large numbers

POINTS = {  # the names of ops of one tensor, and their finite points; all get infinity, -infinity and NaN too
    **dict.fromkeys(
        (
            *("negative", "absolute", "square", "reciprocal", "exp", "expm1", "sin", "cos", "arctan", "erf", "sinh"),
            *("cosh", "arcsinh", "exp2", "cbrt", "deg2rad", "rad2deg", "fabs", "erfc", "nan_to_num", "real", "cast"),
            *("print_tensor", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "sigmoid", "tanh", "silu", "gelu"),
            *("gelu_exact", "mish", "softplus", "hard_sigmoid", "legacy_hard_sigmoid", "hard_silu", "hard_tanh"),
            *("log_sigmoid", "softsign", "tanh_shrink", "hard_shrink", "soft_shrink", "threshold", "squareplus"),
            *("sparse_plus", "sparse_sigmoid", "exponential", "relu_all", "clip", "power_2", "power_3"),
        ),
        EVERYWHERE,
    ),
    **dict.fromkeys(("sqrt", "rsqrt", "log", "log2", "log10"), POSITIVE),
    "log1p": [-1.0, -1 + 2**-20, *[x for x in EVERYWHERE if x > -1]],
    **dict.fromkeys(("arcsin", "arccos", "arctanh", "erfinv"), INSIDE),
    "arccosh": [1.0, 1 + 2**-20, *[x for x in POSITIVE if x > 1]],
    **dict.fromkeys(("i0", "squareplus"), MIDDLE),
    **dict.fromkeys(("tan", "sinc"), [*MIDDLE, 1e20]),
    "relu_all": [*EVERYWHERE, 0.3, 2.0],
    "clip": [*EVERYWHERE, -1.0, 1.5],
    "relu6": [*EVERYWHERE, 6.0],
    **dict.fromkeys(("hard_sigmoid", "hard_silu"), [*EVERYWHERE, 3.0, -3.0]),
    "legacy_hard_sigmoid": [*EVERYWHERE, 2.5, -2.5],
    **dict.fromkeys(("hard_shrink", "soft_shrink"), [*EVERYWHERE, 0.5, -0.5]),
}

# What is chosen where there is no derivative: the first and the second. Docs: "At kinks and ties" in docs/autodiff.md.
_LEFT = {0.0: (0, 0)}
CHOSEN: dict = {
    **dict.fromkeys(("absolute", "fabs"), _LEFT),
    "reciprocal": {0.0: (-inf, None)},  # the second has the sign of the zero
    "sqrt": {0.0: (inf, -inf)},
    "rsqrt": {0.0: (-inf, inf)},
    **dict.fromkeys(("log", "log2", "log10"), {0.0: (inf, -inf)}),
    "log1p": {-1.0: (inf, -inf)},
    "cbrt": {0.0: (inf, None)},  # the second has the opposite sign of the zero
    "arcsin": {1.0: (inf, inf), -1.0: (inf, -inf)},
    "arccos": {1.0: (-inf, -inf), -1.0: (-inf, inf)},
    "arctanh": {1.0: (inf, inf), -1.0: (inf, -inf)},
    "erfinv": {1.0: (inf, inf), -1.0: (inf, -inf)},
    "arccosh": {1.0: (inf, -inf)},
    "relu": _LEFT,
    "relu6": _LEFT | {6.0: (0, 0)},
    "relu_all": {0.3: (0.1, 0), 2.0: (0, 0)},
    "leaky_relu": {0.0: (0.2, 0)},
    "elu": {0.0: (1, 1)},
    "celu": {0.0: (1, 0.5)},
    "selu": {0.0: (1.7580993408473766,) * 2},
    "clip": {-1.0: (1, 0), 1.5: (1, 0)},
    "hard_tanh": {-1.0: (1, 0), 1.0: (1, 0)},
    "hard_sigmoid": {-3.0: (0, 0), 3.0: (0, 0)},
    "legacy_hard_sigmoid": {-2.5: (0.2, 0), 2.5: (0.2, 0)},
    "hard_silu": {-3.0: (0, 0), 3.0: (1, 0)},
    "hard_shrink": {-0.5: (0, 0), 0.5: (0, 0)},
    "soft_shrink": {-0.5: (0, 0), 0.5: (0, 0)},
    "threshold": {1.0: (0, 0)},
    "softsign": {0.0: (1, 0)},
    "sparse_plus": {-1.0: (0, 0.5), 1.0: (1, 0.5)},
    "sparse_sigmoid": {-1.0: (0.5, 0), 1.0: (0.5, 0)},
}


def points_of(name: str) -> tuple[np.ndarray, int]:
    """All points of an op of one tensor, and how many are finite: those come first."""
    finite = POINTS[name]
    return np.array([*finite, inf, -inf, nan]), len(finite)


PAIRS = [(a, b) for a in (0.0, 1.0, -1.0, 1.5, 1e-20, -1e20, 1e-200, 1e200) for b in (0.0, 1.0, -2.5, 1e-20, 1e200)]
NOT_FINITE = [(inf, 1.0), (1.0, inf), (-inf, 1.0), (1.0, -inf), (inf, inf), (nan, 1.0), (1.0, nan), (nan, nan)]
TWO = (
    *("add", "subtract", "multiply", "divide", "maximum", "minimum", "hypot", "arctan2", "logaddexp", "logaddexp2"),
    *("fmax", "fmin", "divide_no_nan", "mod", "fmod", "power", "sigmoid_crossentropy", "where"),
)


def _equal(a, b):
    return a == b


def _by_zero(a, b):
    return b == 0


def _whole(a, b):
    return (b == 0) | (np.fmod(a, b) == 0) | (np.abs(a / b) > 2**53)


KINKS = {  # pairs without a derivative
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _equal),
    **dict.fromkeys(("divide", "divide_no_nan"), _by_zero),
    **dict.fromkeys(("mod", "fmod"), _whole),
    "hypot": lambda a, b: (a == 0) & (b == 0),
    "arctan2": lambda a, b: (a == 0) & (b <= 0),  # where the angle jumps
    "power": lambda a, b: (a < 1e-100) | (b > 1e100),  # also where factors of higher derivatives overflow
}
_HALVES = {(0.0, 0.0): (0.5, 0.5), (1.0, 1.0): (0.5, 0.5), (1e200, 1e200): (0.5, 0.5)}
CHOSEN_OF_TWO: dict = {
    **dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _HALVES),
    "divide": {(1.0, 0.0): (inf, -inf), (0.0, 0.0): (inf, nan)},
    "divide_no_nan": {(1.0, 0.0): (0, 0), (0.0, 0.0): (0, 0)},
    **dict.fromkeys(("mod", "fmod"), {(0.0, 1.0): (1, 0), (1.0, 1.0): (1, -1), (0.0, 0.0): (1, nan)}),
    "hypot": {(0.0, 0.0): (0, 0)},
    "arctan2": {(0.0, 0.0): (nan, nan), (0.0, -2.5): (-0.4, 0)},
}
