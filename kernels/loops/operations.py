"""The table of elementwise operations: how each target computes them. Names are NumPy's, or those of nbkeras.ops.

LLVM code is for kernels of formulas (emission.py), loops written for Numba (vmath.py) and the interpreter's instructions. CUDA
source code is for kernels of formulas and chains.

exp, log and the like are polynomials, which LLVM can vectorise. tanh and erfc of float64 call the C library. Errors in float32,
compared with float64 (tests/ops/test_activations.py): exp 1 ulp, expm1 and log1p 2 ulp, sigmoid 2.5 ulp, tanh 4.6 ulp, erfc 8 ulp
up to x = 2 and 70 ulp at 9 (its value is 1e-37 there).

The functions `bounded_...` are faster, and take only numbers in a range. There they give the same bits, except where exp is
subnormal, and except for log1p in float32.

Sources: exp, expm1 and log after Cephes (S. Moshier); tanh is the rational minimax approximation used by Eigen; the bounded log1p
is 2 artanh(x / (2 + x)) and erfc is exp(-x^2) times a polynomial in 1 / (1 + 0.3 x), both fitted for the smallest relative error.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Vector = Any  # llvm.Vector: this module imports no emitter, because expressions.py imports it

_INFINITY, _NAN = float("inf"), float("nan")


class _Format:
    """The numbers that differ between float32 and float64.

    Attributes:
        end, one: The bits of a float's mantissa, and its exponent of 1.
        magic: 1.5 * 2**end; adding it leaves the nearest integer in the low bits.
        log_2: log(2) in two parts.
        tiny: The smallest normal number.
        vanishing, infinite: e**x is 0 up to the first, infinite from the second on.
    """

    def __init__(self, end: int, one: int, log_2: tuple[float, float], vanishing: float, infinite: float):
        self.end, self.one, self.log_2, self.vanishing, self.infinite = end, one, log_2, vanishing, infinite
        self.magic, self.tiny = 1.5 * 2.0**end, 2.0 ** (1 - one)


_FLOAT = _Format(23, 127, (0.693359375, -2.12194440e-4), -104.0, 89.0)
_DOUBLE = _Format(52, 1023, (0.693145751953125, 1.42860682030941723212e-6), -746.0, 710.0)


def format_of(x: Vector) -> _Format:
    """Returns the format of floats."""
    return _DOUBLE if x.is_double else _FLOAT


def _reduced(x: Vector) -> tuple[Vector, Vector]:
    """For x = n log(2) + r with |r| <= log(2) / 2, returns e**r - 1 and the integer n."""
    f = format_of(x)
    rounded = x * 1.4426950408889634074 + f.magic
    n = rounded - f.magic
    for part in f.log_2:
        x = x - n * part
    square = x * x
    if x.is_double:
        p = square.polynomial(1.26177193074810590878e-4, 3.02994407707441961300e-2, 9.99999999999999999910e-1) * x
        y = square.polynomial(3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0)
        y = (p + p) / (y - p)
    else:
        y = x.polynomial(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
        y = y * square + x
    return y, rounded.bits() - (((f.one + f.end) << f.end) | (1 << f.end - 1))  # without the bits of `magic`


def _power_of_2(n: Vector, f: _Format) -> Vector:
    return (n + f.one).shifted("shl", f.end).as_float()


def _scales(n: Vector, f: _Format) -> list[Vector]:
    """Returns two powers of 2 with the product 2**n, which may be subnormal or infinite."""
    half = n.shifted("ashr", 1)
    return [_power_of_2(part, f) for part in (half, n - half)]


def _exp(x: Vector) -> Vector:
    f = format_of(x)
    y, n = _reduced(x.clip(f.vanishing, f.infinite))
    first, second = _scales(n, f)
    return (y + 1.0) * first * second


def _expm1(x: Vector) -> Vector:
    f = format_of(x)
    y, n = _reduced(x.clip(-80.0, 80.0))
    first, second = _scales(n, f)
    power = first * second
    near = power * y + (power - 1.0)
    return x.where(">", 40.0, _exp(x), x.where("==", 0.0, x, near))


def _log(x: Vector) -> Vector:
    f = format_of(x)
    tiny = x.compare("<", f.tiny)
    bits = x.choose(tiny, x * float(1 << f.end), x).bits()
    m = ((bits & ((1 << f.end) - 1)) | ((f.one - 1) << f.end)).as_float()  # m is from 0.5 to 1
    e = bits.shifted("ashr", f.end) - (f.one - 1)
    e = e.choose(tiny, e - f.end, e)
    low = m.compare("<", 0.70710678118654752440)
    e, m = e.choose(low, e - 1, e), m.choose(low, m + m, m) - 1.0
    n = x.new(x.builder.sitofp(e.value, x.value.type))
    coefficients: tuple[float, ...]
    if x.is_double:
        coefficients = (1.01875663804580931796e-4, 4.97494994976747001425e-1, 4.70579119878881725854)
        y = m.polynomial(*coefficients, 1.44989225341610930846e1, 1.79368678507819816313e1, 7.70838733755885391666)
        coefficients = (1.0, 1.12873587189167450590e1, 4.52279145837532221105e1, 8.29875266912776603211e1)
        y = y / m.polynomial(*coefficients, 7.11544750618563894466e1, 2.31251620126765340583e1)
    else:
        coefficients = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1)
        y = m.polynomial(*coefficients, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
    square = m * m
    y = y * m * square + n * -2.121944400546905827679e-4 - square * 0.5
    y = m + y + n * 0.693359375
    rest = x.where("==", 0.0, -_INFINITY, _NAN)  # the result for 0, negative numbers and NaN
    return x.where(">", 0.0, x.where("==", _INFINITY, x, y), rest)


def _log1p(x: Vector) -> Vector:
    u = x + 1.0
    log = _log(u)
    near = log - ((u - 1.0) - x) / u  # corrects the rounding of 1 + x
    y = u.where("<=", 0.0, log, u.where("==", _INFINITY, log, near))
    return x.where("==", 0.0, x, y)


# -------------------- bounded --------------------


def _exp_within_range(x: Vector) -> Vector:
    y, n = _reduced(x)
    return _power_of_2(n, format_of(x)) * (y + 1.0)


def _bounded_exp(x: Vector) -> Vector:
    return x.where("<", math.log(format_of(x).tiny), 0.0, _exp_within_range(x))


def _bounded_expm1(x: Vector) -> Vector:
    y, n = _reduced(x.where("<", -80.0, -80.0, x))
    power = _power_of_2(n, format_of(x))
    return power * y + (power - 1.0)


def _bounded_log1p(x: Vector) -> Vector:
    if x.is_double:
        return _log1p(x)
    s = x / (x + 2.0)
    square = s * s
    series = (
        square.polynomial(0.1408916301255028, 0.13980302364667113, 0.20012455072421567, 0.3333315734251786) * square
    )
    return (series * s + s) * 2.0


# -------------------- tanh, sigmoid, erfc --------------------


def _sigmoid(x: Vector) -> Vector:
    if x.is_double:
        return x.new(1.0) / (_exp(-x) + 1.0)
    y = x.new(1.0) / (_exp_within_range(-x.clip(-87.3, 87.3)) + 1.0)
    return x.where("<", -87.3, 0.0, y)


def _tanh(x: Vector) -> Vector:
    if x.is_double:
        return x.called("tanh")
    square = x * x
    numerator = square.polynomial(
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    )
    denominator = square.polynomial(
        1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03
    )
    y = x.where(">", 7.95, 1.0, x * numerator / denominator)
    return x.where("<", -7.95, -1.0, y)


def _erfc(x: Vector) -> Vector:
    if x.is_double:
        return x.called("erfc")
    z = abs(x).clip(0.0, 9.19)
    t = x.new(1.0) / (z * 0.3 + 1.0)
    scaled = t * t.polynomial(
        -0.12937569003998914,
        0.48478909569852274,
        -0.510532625386784,
        0.545519013022036,
        -0.09295557040363511,
        0.2141107719023436,
        0.1485779387433216,
        0.17067635097494727,
        0.1691906961316068,
    )
    tail = z.where(">=", 9.19, 0.0, scaled * _exp_within_range(-(z * z)))
    return x.where("<", 0.0, -tail + 2.0, tail)


# These functions by name. Their vectors take many registers.
CURVES: dict[str, Callable[[Vector], Vector]] = {
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "bounded_exp": _bounded_exp,
    "bounded_expm1": _bounded_expm1,
    "bounded_log1p": _bounded_log1p,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "erfc": _erfc,
}
OF_LIBRARY_IN_FLOAT64 = ("tanh", "erfc")


# -------------------- the table --------------------


class Operation(NamedTuple):
    """An elementwise operation.

    Attributes:
        emit: Writes LLVM code: takes and returns Vectors. A condition has one bit per lane.
        source: The source code in CUDA kernels; it may use `zero` and `one`. "" if they do not have the operation.
        of_numbers: Computes it for NumPy's or Python's numbers; None for NumPy's function of the same name.
    """

    emit: Callable[..., Vector]
    source: str = ""
    of_numbers: Callable | None = None


COMPARISONS = {
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}
# Other code for a function: for numbers in a range; for one number of a row, where the C library is faster than a vector's code
VARIANTS = {f"bounded_{name}": name for name in ("exp", "expm1", "log1p")} | {"scalar_log": "log"}
_OF_LIBRARY = {"arctan": "atan"} | {name: name for name in ("sin", "cos", "tan", "sinh", "cosh", "erf")}
SCALAR = {"power", "log2", "scalar_log", *_OF_LIBRARY}  # functions of the C library, which take one number at a time


def _comparison(sign: str) -> Operation:
    return Operation(lambda x, y: x.compare(sign, y), f"{{}} {sign} {{}}")


def _called(name: str) -> Operation:
    return Operation(lambda x: x.called(name if x.is_double else f"{name}f"), f"math.{name}({{}})")


OPERATIONS: dict[str, Operation] = {
    "add": Operation(lambda x, y: x + y, "{} + {}"),
    "subtract": Operation(lambda x, y: x - y, "{} - {}"),
    "multiply": Operation(lambda x, y: x * y, "{} * {}"),
    "divide": Operation(lambda x, y: x / y, "{} / {}"),
    "negative": Operation(lambda x: -x, "-{}"),
    "absolute": Operation(abs, "math.fabs({})"),
    "sign": Operation(
        lambda x: x.sign(), "one if {0} > zero else -one if {0} < zero else zero if {0} == zero else {0}"
    ),
    "square": Operation(lambda x: x * x, "{0} * {0}"),
    "sqrt": Operation(lambda x: x.intrinsic("sqrt"), "math.sqrt({})"),
    "reciprocal": Operation(lambda x: x.new(1.0) / x, "one / {}"),
    "rsqrt": Operation(lambda x: x.new(1.0) / x.intrinsic("sqrt"), "one / math.sqrt({})", lambda x: 1 / np.sqrt(x)),
    "maximum": Operation(lambda x, y: x.larger(y), "{0} if {0} >= {1} or {0} != {0} else {1}"),
    "minimum": Operation(lambda x, y: x.larger(y, "<="), "{0} if {0} <= {1} or {0} != {0} else {1}"),
    "where": Operation(
        lambda bits, x, y: x.choose(bits, x, y), "{1} if {0} else {2}", lambda condition, x, y: x if condition else y
    ),
    "clip": Operation(
        lambda x, low, high: x.clip(low, high),
        "{2} if {0} > {2} or {0} < {1} and {1} > {2} else {1} if {0} < {1} else {0}",
    ),
    "real": Operation(lambda x: x, "real({})", lambda x: x),
    "power": Operation(lambda x, y: x.intrinsic("pow", y), "math.pow({}, {})"),
    "log2": Operation(lambda x: x.intrinsic("log2"), "math.log2({})"),
    "scalar_log": Operation(lambda x: x.intrinsic("log"), "math.log({})"),
    "logical_or": Operation(lambda x, y: x | y, "{} or {}"),
    "logical_and": Operation(lambda x, y: x & y, "{} and {}"),
    "logical_xor": Operation(lambda x, y: x ^ y, "{} != {}"),
    **{name: _comparison(sign) for name, sign in COMPARISONS.items()},
    **{op: _called(name) for op, name in _OF_LIBRARY.items()},
    **{name: Operation(emit, f"math.{VARIANTS.get(name, name)}({{}})") for name, emit in CURVES.items()},
}
OPERATIONS["sigmoid"] = Operation(CURVES["sigmoid"], "sigmoid({}, zero, one)", lambda x: 1 / (1 + np.exp(-x)))
for _name in ("floor", "ceil", "trunc", "rint"):  # these have LLVM's names
    OPERATIONS[_name] = Operation(lambda x, name=_name: x.intrinsic(name))
for _name in ("floor", "ceil"):
    OPERATIONS[_name] = OPERATIONS[_name]._replace(source=f"math.{_name}({{}})")
for _name in ("erf", "erfc"):
    OPERATIONS[_name] = OPERATIONS[_name]._replace(of_numbers=getattr(math, _name))


def of_numbers(op: str, *operands: Any) -> Any:
    """Returns the result of an operation on NumPy or Python numbers."""
    compute = OPERATIONS[op].of_numbers or getattr(np, VARIANTS.get(op, op))
    with np.errstate(all="ignore"):
        return compute(*operands)
