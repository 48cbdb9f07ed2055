"""NumPy's ufuncs as CUDA kernels: arithmetic, comparisons, functions of one number; cuda/elementwise.py starts them.

A group of ufuncs has one kernel, made from their source code. An argument chooses the ufunc; the choice costs nothing, because
memory bounds the kernel. Arithmetic on contiguous floats takes four numbers at a time. Booleans are uint8 here.
"""

import hashlib
import math
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.lanes import load_four, store_four
from nbkeras.kernels.cuda.loops.sources import SOURCES
from nbkeras.kernels.cuda.loops.walk import indices_of_three, indices_of_two
from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function
from nbkeras.kernels.loops import expressions

NEITHER, FIRST, SECOND = range(3)  # the operand that is a number


@device_function
def _remainder(a, b, zero):
    """Computes the remainder as NumPy does: a remainder of 0 has the divisor's sign."""
    rest = math.fmod(a, b)
    if b == zero:
        return rest
    if rest == zero:
        return math.copysign(zero, b)
    return rest + b if (b < zero) != (rest < zero) else rest


@device_function
def _quotient(a, b, zero, one):
    """Computes floor_divide as NumPy does, so that it agrees with mod."""
    if b == zero:
        return a / b
    rest = math.fmod(a, b)
    whole = (a - rest) / b
    if rest != zero and (b < zero) != (rest < zero):
        whole = whole - one
    if whole == zero:
        return math.copysign(zero, a / b)
    down = math.floor(whole)
    return down + one if whole - down > one / (one + one) else down


@device_function
def _power(base, exponent):
    """Computes base to a whole power. For a negative power, where NumPy raises an error, it rounds towards 0."""
    one = base - base + 1
    if exponent < 0:
        return one if base == 1 or base == -1 and exponent & 1 == 0 else base if base == -1 else one - one
    result = one
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    return result


_NAMES = {
    **{"cuda": cuda, "math": math, "np": np, "load_four": load_four, "store_four": store_four},
    **{"indices_of_two": indices_of_two, "indices_of_three": indices_of_three, "FIRST": FIRST, "SECOND": SECOND},
    **{"remainder": _remainder, "quotient": _quotient, "power": _power},
}
_OF_ONE = """
def {name}(code, count, sizes, multipliers, shifts, x, x_steps, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, k = indices_of_two(n, sizes, multipliers, shifts, x_steps, out_steps)
        v = function(code, x[np.uint64(i)], x.dtype.type(0), x.dtype.type(1))
        out[np.uint64(k)] = {stored}
"""
_OF_TWO = """
def {name}(code, number, is_number, count, sizes, multipliers, shifts, x, x_steps, y, y_steps, out, out_steps):
    n = cuda.grid(1)
    if n < count:
        i, j, k = indices_of_three(n, sizes, multipliers, shifts, x_steps, y_steps, out_steps)
        a = number if is_number == FIRST else x[np.uint64(i)]
        b = number if is_number == SECOND else y[np.uint64(j)]
        v = function(code, a, b, x.dtype.type(0), x.dtype.type(1))
        out[np.uint64(k)] = {stored}
"""
# for contiguous arrays: a thread computes four neighbours
_FOUR_OF_ONE = """
def {name}(code, x, out):
    n, zero, one = 4 * cuda.grid(1), x.dtype.type(0), x.dtype.type(1)
    if n < out.size:
        wide = n + 4 <= out.size
        a, b, c, d = load_four(x, n, out.size, 1, wide, zero)
        a, b = function(code, a, zero, one), function(code, b, zero, one)
        c, d = function(code, c, zero, one), function(code, d, zero, one)
        store_four(out, n, out.size, 1, wide, (a, b, c, d))
"""
_FOUR_OF_TWO = """
def {name}(code, number, is_number, x, y, out):
    n, zero, one = 4 * cuda.grid(1), x.dtype.type(0), x.dtype.type(1)
    if n < out.size:
        wide = n + 4 <= out.size
        a = b = c = d = p = q = r = s = number
        if is_number != FIRST:
            a, b, c, d = load_four(x, n, out.size, 1, wide, number)
        if is_number != SECOND:
            p, q, r, s = load_four(y, n, out.size, 1, wide, number)
        a, b = function(code, a, p, zero, one), function(code, b, q, zero, one)
        c, d = function(code, c, r, zero, one), function(code, d, s, zero, one)
        store_four(out, n, out.size, 1, wide, (a, b, c, d))
"""


def _codes(sources: dict[Any, str]) -> dict[Any, int]:
    """Returns the code of each ufunc of a group."""
    return {ufunc: code for code, ufunc in enumerate(sources)}


def _kernel(name: str, sources: dict[Any, str], template: str, stored: str = "v") -> Kernel:
    """Makes the kernel of a group: a template around a function that evaluates the ufuncs' source for operands `a` and `b`."""
    operands = "a, b" if template in (_OF_TWO, _FOUR_OF_TWO) else "a"
    lines = [f"def function(code, {operands}, zero, one):"]
    *others, last = sources.values()
    for code, each in enumerate(others):
        lines += [f"    if code == {code}:", f"        return {each.format('a', 'b')}"]
    source = "\n".join([*lines, f"    return {last.format('a', 'b')}", template.format(name=name, stored=stored)])
    names: dict[str, Any] = {**_NAMES, "__name__": __name__}
    exec(compile(source, __file__, "exec"), names)  # noqa: S102 - the source is made above
    names["function"] = device_function(names["function"])
    # the source is part of the compiled code's name on disk
    names[name].__qualname__ = f"{name}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return Kernel(names[name], {})


_TRUTH = "out.dtype.type(1) if v else out.dtype.type(0)"


def _named(*names: str) -> dict[Any, str]:
    """Returns the source of ufuncs that formulas have too."""
    return {getattr(np, name): SOURCES[name] for name in names}


def _of_math(**names: str) -> dict[Any, str]:
    """Returns the source of ufuncs that are functions of `math`, by the same or another name."""
    return {getattr(np, ufunc): f"math.{name}({{0}})" for ufunc, name in names.items()}


# -------------------- one argument --------------------

_PLAIN: dict[Any, str] = {
    **_named("negative", "absolute", "square", "sign", "reciprocal", "sqrt"),
    **_of_math(floor="floor", ceil="ceil"),
}
_PLAIN_INTEGERS: dict[Any, str] = {
    **{np.negative: "-{0}", np.absolute: "{0} if {0} >= 0 else -{0}", np.square: "{0} * {0}"},
    **{np.sign: "1 if {0} > 0 else 0 if {0} == 0 else -1", np.reciprocal: "{0} if {0} == 1 or {0} == -1 else 0"},
}
_TESTS: dict[Any, str] = {
    **{np.logical_not: "{0} == zero", np.isnan: "{0} != {0}"},
    **{np.isinf: "{0} == {0} and {0} - {0} != zero", np.isfinite: "{0} - {0} == zero"},
}
_CURVES: dict[Any, str] = {
    **_named("exp", "expm1", "log", "log1p", "log2", "sin", "cos", "tan", "arctan"),
    "erf": SOURCES["erf"],
}
_RARE: dict[Any, str] = {
    **_of_math(arcsin="asin", arccos="acos", arcsinh="asinh", arccosh="acosh", arctanh="atanh"),
    **_named("sinh", "cosh"),
    **_of_math(log10="log10"),
    **{np.exp2: "math.pow(one + one, {0})", np.trunc: "math.copysign(math.floor(math.fabs({0})), {0})"},
    **{np.deg2rad: f"{{0}} * {math.pi / 180}", np.rad2deg: f"{{0}} * {180 / math.pi}"},
}
PLAIN, PLAIN_INTEGERS, TESTS = _codes(_PLAIN), _codes(_PLAIN_INTEGERS), _codes(_TESTS)
CURVES, RARE = _codes(_CURVES), _codes(_RARE)
plain, plain_quads = _kernel("plain", _PLAIN, _OF_ONE), _kernel("plain_quads", _PLAIN, _FOUR_OF_ONE)
plain_integers, test = _kernel("plain_integers", _PLAIN_INTEGERS, _OF_ONE), _kernel("test", _TESTS, _OF_ONE, _TRUTH)
curve, rare = _kernel("curve", _CURVES, _OF_ONE), _kernel("rare", _RARE, _OF_ONE)

# -------------------- two arguments --------------------

_SUMS: dict[Any, str] = _named("add", "subtract", "multiply", "divide", "maximum", "minimum")
_QUOTIENTS: dict[Any, str] = {
    np.floor_divide: "quotient({0}, {1}, zero, one)",
    np.mod: "remainder({0}, {1}, zero)",
    np.power: "math.pow({0}, {1})",
}
_RARE_PAIRS: dict[Any, str] = {
    **{np.hypot: "math.hypot({0}, {1})", np.arctan2: "math.atan2({0}, {1})", np.fmod: "math.fmod({0}, {1})"},
    **{np.fmax: "{0} if {0} >= {1} or {1} != {1} else {1}", np.fmin: "{0} if {0} <= {1} or {1} != {1} else {1}"},
    # equal operands may be infinite
    np.logaddexp: f"{{0}} + {math.log(2)} if {{0}} == {{1}} else ({SOURCES['maximum']}) + "
    "math.log1p(math.exp(-math.fabs({0} - {1})))",
}
_INTEGERS: dict[Any, str] = {
    **_named("add", "subtract", "multiply", "maximum", "minimum"),
    **{np.floor_divide: "{0} // {1} if {1} != 0 else 0", np.mod: "{0} - {0} // {1} * {1} if {1} != 0 else 0"},
    **{np.power: "power({0}, {1})"},
}
_COMPARISONS: dict[Any, str] = {
    **_named(*expressions.COMPARISONS),
    **{np.logical_and: "{0} != zero and {1} != zero", np.logical_or: "{0} != zero or {1} != zero"},
    **{np.logical_xor: "({0} != zero) != ({1} != zero)"},
}
SUMS, QUOTIENTS, RARE_PAIRS = _codes(_SUMS), _codes(_QUOTIENTS), _codes(_RARE_PAIRS)
INTEGERS, COMPARISONS = _codes(_INTEGERS), _codes(_COMPARISONS)
combine, combine_quads = _kernel("combine", _SUMS, _OF_TWO), _kernel("combine_quads", _SUMS, _FOUR_OF_TWO)
combine_quotients = _kernel("combine_quotients", _QUOTIENTS, _OF_TWO)
combine_rarely = _kernel("combine_rarely", _RARE_PAIRS, _OF_TWO)
combine_integers = _kernel("combine_integers", _INTEGERS, _OF_TWO)
compare = _kernel("compare", _COMPARISONS, _OF_TWO, _TRUTH)
