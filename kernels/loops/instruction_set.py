"""The instructions of interpreter.py: names, dtypes, formulas; and the format of its programs.

A frame is FRAME words of 8 bytes:
     next, code, prologue, body, epilogue,             the next frame or 0; the instructions' address; their number in each
     section tasks, inner, outer_step, inner_step, block, end, position of a task's block, in elements
     result_outer_step, result_inner_step, results, result_end     and position of its results
Tasks are divided among the shares. The prologue runs once, then body and epilogue for each task. The body of task t begins at
position t / inner * outer_step + t % inner * inner_step and has `block` elements, but ends at the next multiple of `end`. The
epilogue likewise, by the last four. So results never depend on the number of shares.

An instruction is WORDS words: opcode, information, then address and bytes per element of the output and of three operands. A
pointer is address + position * bytes. REGISTER as the bytes marks a register, at offset `address` in the scratch memory.
REGISTER and SPLAT mark a register of LANES equal elements: one vector stands for a block.

Products are not contracted with sums, except within exp and the like, so a program gives the same bits as NumPy's loops.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from nbkeras.kernels.loops import rounding
from nbkeras.kernels.loops.expressions import COMPARISONS

LANES = 16  # elements of a register
SCRATCH = 65536  # bytes of all registers
REGISTER, SPLAT = -1, -2
WORDS, FRAME = 10, 15
DEEPEST = 12  # most dimensions of an array that is read or written by strides
TILE = {4: 16, 8: 8}  # rows of a transposed block, by bytes per element: they fill a cache line

FLOATS = ("f4", "f8")
PRECISION = {"f4": 24, "f8": 53}  # bits of a float's digits
NUMBERS = (*FLOATS, "i4", "i8")  # dtypes with arithmetic; b1 is a boolean, other dtypes are only cast
COPIED = {1: "u1", 2: "i2", 4: "i4", 8: "i8"}  # the dtype that copies elements of these bytes


class Vector:
    """LANES numbers (or one) in the LLVM code under construction, with operators."""

    def __init__(self, made: Any, value: Any, kind: str, flags: tuple = ()):
        self.made, self.value, self.kind, self.flags = made, value, kind, flags
        self.builder, self.is_float = made.builder, kind in FLOATS

    def new(self, value: Any) -> "Vector":
        return Vector(self.made, value, self.kind, self.flags)

    def of(self, other: Any) -> Any:
        """Returns the value of another vector, or of a constant."""
        return other.value if isinstance(other, Vector) else self.made.ir.Constant(self.value.type, other)

    def _combined(self, name: str, other: Any) -> "Vector":
        if self.is_float:
            return self.new(getattr(self.builder, "f" + name)(self.value, self.of(other), flags=self.flags))
        return self.new(getattr(self.builder, name)(self.value, self.of(other)))

    def __add__(self, other: Any) -> "Vector":
        return self._combined("add", other)

    def __sub__(self, other: Any) -> "Vector":
        return self._combined("sub", other)

    def __mul__(self, other: Any) -> "Vector":
        return self._combined("mul", other)

    def __truediv__(self, other: Any) -> "Vector":
        return self._combined("div", other)

    def __neg__(self) -> "Vector":
        return self.new(self.builder.fneg(self.value) if self.is_float else self.builder.neg(self.value))

    def __and__(self, other: Any) -> "Vector":
        return self.new(self.builder.and_(self.value, self.of(other)))

    def __or__(self, other: Any) -> "Vector":
        return self.new(self.builder.or_(self.value, self.of(other)))

    def __xor__(self, other: Any) -> "Vector":
        return self.new(self.builder.xor(self.value, self.of(other)))

    def test(self, sign: str, other: Any) -> Any:
        """Returns bits, 1 where the comparison holds; for NaN only != holds."""
        if not self.is_float:
            return self.builder.icmp_signed(sign, self.value, self.of(other))
        compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return compare(sign, self.value, self.of(other))

    def compare(self, other: Any, sign: str) -> "Vector":
        """Returns booleans, true where the comparison holds."""
        return self.made.truth(self.test(sign, other))

    def choose(self, sign: str, other: Any, yes: Any, no: Any) -> "Vector":
        """Returns yes where the comparison holds, else no."""
        return self.new(self.builder.select(self.test(sign, other), self.of(yes), self.of(no)))

    def larger(self, sign: str, other: "Vector") -> "Vector":
        """Returns the larger (">=") or smaller ("<=") of two; NaN if one is NaN."""
        mine = self.test(sign, other)
        if self.is_float:
            mine = self.builder.or_(mine, self.test("!=", self))
        return self.pick(mine, self, other)

    def intrinsic(self, name: str) -> "Vector":
        return self.new(self.made.intrinsic(name, self.value))

    def absolute(self) -> "Vector":
        return self.intrinsic("fabs") if self.is_float else self.choose("<", 0, -self, self)

    def sign(self) -> "Vector":
        low = self.choose("<", 0, -1, self.choose("==", 0, 0, self))
        return self.choose(">", 0, 1, low)

    def polynomial(self, *coefficients: float) -> "Vector":
        """Evaluates a polynomial by Horner's rule; the highest power comes first."""
        total = self * coefficients[0] + coefficients[1]
        for coefficient in coefficients[2:]:
            total = total * self + coefficient
        return total

    def pick(self, bits: Any, yes: "Vector", no: "Vector") -> "Vector":
        return self.new(self.builder.select(bits, yes.value, no.value))

    def seen_as(self, letter: str, flags: tuple = ()) -> "Vector":
        """Returns the same bits as integers or floats."""
        kind = letter + self.kind[1]
        return Vector(self.made, self.builder.bitcast(self.value, self.made.like(self.value, kind)), kind, flags)

    def bits(self) -> "Vector":
        return self.seen_as("i")

    def as_float(self) -> "Vector":
        return self.seen_as("f", ("contract",))

    def shifted(self, name: str, places: int) -> "Vector":
        return self.new(getattr(self.builder, name)(self.value, self.of(places)))


# -------------------- formulas (1 or 2 ulp), after Cephes (S. Moshier) --------------------

# The bits of a float's mantissa, its exponent of 1, and 1.5 * 2**bits; adding the latter leaves the nearest integer in the low
# bits.
_FORMAT = {"f4": (23, 127, 12582912.0), "f8": (52, 1023, 6755399441055744.0)}
# log(2) in two parts
_LOG_2 = {"f4": (0.693359375, -2.12194440e-4), "f8": (0.693145751953125, 1.42860682030941723212e-6)}
_TINY = {"f4": 1.1754943508222875e-38, "f8": 2.2250738585072014e-308}
_INFINITY, _NAN = float("inf"), float("nan")


def _exp_parts(x: Vector) -> tuple[Vector, ...]:
    """Returns a, b, c with e**x = (a + 1) * b * c. Two powers of 2, b and c, let the result be subnormal or infinite."""
    end, one, magic = _FORMAT[x.kind]
    rounded = x * 1.4426950408889634074 + magic
    n = rounded - magic
    for part in _LOG_2[x.kind]:
        x = x - n * part
    square = x * x
    if x.kind == "f4":
        y = x.polynomial(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)
        y = y * square + x
    else:
        p = square.polynomial(1.26177193074810590878e-4, 3.02994407707441961300e-2, 9.99999999999999999910e-1) * x
        y = square.polynomial(3.00198505138664455042e-6, 2.52448340349684104192e-3, 2.27265548208155028766e-1, 2.0)
        y = (p + p) / (y - p)
    e = rounded.bits() - (((one + end) << end) | (1 << end - 1))  # without the bits of `magic`
    half = e.shifted("ashr", 1)
    return y, *((part + one).shifted("shl", end).as_float() for part in (half, e - half))


def _exp(x: Vector) -> Vector:
    low, high = (-104.0, 89.0) if x.kind == "f4" else (-746.0, 710.0)
    x = x.choose(">", high, high, x)
    a, b, c = _exp_parts(x.choose("<", low, low, x))
    return (a + 1.0) * b * c


def _expm1(x: Vector) -> Vector:
    low = x.choose("<", -80.0, -80.0, x)
    a, b, c = _exp_parts(low.choose(">", 80.0, 80.0, low))
    power = b * c
    near = power * a + (power - 1.0)
    return x.choose(">", 40.0, _exp(x), x.choose("==", 0.0, x, near))


def _log(x: Vector) -> Vector:
    end, one, _ = _FORMAT[x.kind]
    tiny = x.test("<", _TINY[x.kind])
    bits = x.pick(tiny, x * float(1 << end), x).bits()
    m = ((bits & ((1 << end) - 1)) | ((one - 1) << end)).as_float()  # m is from 0.5 to 1
    e = bits.shifted("ashr", end) - (one - 1)
    e = e.pick(tiny, e - end, e)
    low = m.test("<", 0.70710678118654752440)
    e, m = e.pick(low, e - 1, e), m.pick(low, m + m, m) - 1.0
    n = x.new(x.builder.sitofp(e.value, x.value.type))
    coefficients: tuple[float, ...]
    if x.kind == "f4":
        coefficients = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1)
        y = m.polynomial(*coefficients, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
    else:
        coefficients = (1.01875663804580931796e-4, 4.97494994976747001425e-1, 4.70579119878881725854)
        y = m.polynomial(*coefficients, 1.44989225341610930846e1, 1.79368678507819816313e1, 7.70838733755885391666)
        coefficients = (1.0, 1.12873587189167450590e1, 4.52279145837532221105e1, 8.29875266912776603211e1)
        y = y / m.polynomial(*coefficients, 7.11544750618563894466e1, 2.31251620126765340583e1)
    square = m * m
    y = y * m * square + n * -2.121944400546905827679e-4 - square * 0.5
    y = m + y + n * 0.693359375
    rest = x.choose("==", 0.0, -_INFINITY, _NAN)  # the result for 0, negative numbers and NaN
    return x.choose(">", 0.0, x.choose("==", _INFINITY, x, y), rest)


def _log1p(x: Vector) -> Vector:
    u = x + 1.0
    log = _log(u)
    near = log - ((u - 1.0) - x) / u  # corrects the rounding of 1 + x
    y = u.choose("<=", 0.0, log, u.choose("==", _INFINITY, log, near))
    return x.choose("==", 0.0, x, y)


# -------------------- the instructions --------------------


class ElementwiseInstruction(NamedTuple):
    """An elementwise instruction: its dtypes, its formula, and the kinds of its result and operands ("x" is the dtype)."""

    dtypes: tuple[str, ...]
    formula: Callable[..., Vector]
    kinds: tuple[str, ...]

    def kinds_of(self, dtype: str) -> tuple[str, ...]:
        return tuple(dtype if kind == "x" else kind for kind in self.kinds)


def _select(condition: Vector, x: Vector, y: Vector) -> Vector:
    return x.pick(condition.test("!=", 0), x, y)


def _divided(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """Returns the quotient (rounded down) and remainder of integers; 0 and 0 for a divisor of 0."""
    b, plain = x.builder, y.choose("==", 0, 1, y.choose("==", -1, 1, y))  # x / 0 and (least integer) / -1 would trap
    quotient, rest = x.new(b.sdiv(x.value, plain.value)), x.new(b.srem(x.value, plain.value))
    down = b.and_(rest.test("!=", 0), (rest ^ plain).test("<", 0))
    quotient, rest = x.pick(down, quotient - 1, quotient), x.pick(down, rest + plain, rest)
    return y.choose("==", 0, 0, y.choose("==", -1, -x, quotient)), rest.pick(y.test("==", 0), rest.new(x.of(0)), rest)


_ANY, _INTEGERS = tuple(COPIED.values()), ("i4", "i8")
_UNARY: dict[str, tuple[tuple[str, ...], Callable]] = {
    "copy": (_ANY, lambda x: x),
    "logical_not": (("b1",), lambda x: x ^ 1),
    "negative": (NUMBERS, lambda x: -x),
    "absolute": (NUMBERS, Vector.absolute),
    "square": (NUMBERS, lambda x: x * x),
    "sign": (NUMBERS, Vector.sign),
    "reciprocal": (FLOATS, lambda x: x.new(x.of(1.0)) / x),
    "exp": (FLOATS, _exp),
    "expm1": (FLOATS, _expm1),
    "log": (FLOATS, _log),
    "log1p": (FLOATS, _log1p),
    "bfloat16": (FLOATS[:1], rounding.bfloat16),
    "float16": (FLOATS[:1], rounding.float16),
}
for _name in ("sqrt", "floor", "ceil", "trunc", "rint"):  # these have LLVM's names
    _UNARY[_name] = FLOATS, functools.partial(Vector.intrinsic, name=_name)
_BINARY: dict[str, tuple[tuple[str, ...], Callable]] = {
    "add": (NUMBERS, lambda x, y: x + y),
    "subtract": (NUMBERS, lambda x, y: x - y),
    "multiply": (NUMBERS, lambda x, y: x * y),
    "divide": (FLOATS, lambda x, y: x / y),
    "maximum": (NUMBERS, lambda x, y: x.larger(">=", y)),
    "minimum": (NUMBERS, lambda x, y: x.larger("<=", y)),
    "logical_and": (("b1",), lambda x, y: x & y),
    "logical_or": (("b1",), lambda x, y: x | y),
    "logical_xor": (("b1",), lambda x, y: x ^ y),
    "bitwise_and": (_ANY, lambda x, y: x & y),
    "bitwise_or": (_ANY, lambda x, y: x | y),
    "bitwise_xor": (_ANY, lambda x, y: x ^ y),
    "floor_divide": (_INTEGERS, lambda x, y: _divided(x, y)[0]),
    "remainder": (_INTEGERS, lambda x, y: _divided(x, y)[1]),
}
CONTRACTED = (_exp, _expm1, _log, _log1p)  # formulas whose products and sums may be contracted
ELEMENTWISE = {name: ElementwiseInstruction(*each, ("x", "x")) for name, each in _UNARY.items()}
ELEMENTWISE |= {name: ElementwiseInstruction(*each, ("x", "x", "x")) for name, each in _BINARY.items()}
ELEMENTWISE |= {
    name: ElementwiseInstruction(NUMBERS, functools.partial(Vector.compare, sign=sign), ("b1", "x", "x"))
    for name, sign in COMPARISONS.items()
}
ELEMENTWISE["select"] = ElementwiseInstruction(_ANY, _select, ("x", "b1", "x", "x"))

# These casts are one instruction. Others go through int64, and booleans are cast as uint8.
CASTS = [
    *((source, "i8") for source in ("u1", "i1", "u2", "i2", "u4", "i4")),
    *(("i8", target) for target in ("u1", "i2", "i4", "f4", "f8", "b1")),
    *(("f4", "f8"), ("f8", "f4"), ("i4", "f4"), ("i4", "f8"), ("u1", "f4")),
    *((source, f"{sign}{size}") for source in FLOATS for sign in "iu" for size in COPIED),
    *((source, "b1") for source in ("u1", "i4", "f4", "f8")),
]
FOLDS: dict[str, tuple[str, ...]] = dict.fromkeys(("add", "multiply", "maximum", "minimum"), NUMBERS)
FOLDS |= dict.fromkeys(("logical_and", "logical_or"), ("b1",))

ELEMENTWISE_CODES = [f"{name}.{dtype}" for name, each in ELEMENTWISE.items() for dtype in each.dtypes]
ELEMENTWISE_CODES += [f"cast.{source}.{target}" for source, target in CASTS]
OTHER_CODES = [f"{name}.{size}" for name in ("load", "store") for size in COPIED]
OTHER_CODES += [f"transpose.{size}" for size in TILE] + [f"call.{dtype}" for dtype in FLOATS]
OTHER_CODES += [f"{way}.{name}.{t}" for way in ("rows", "columns") for name, dtypes in FOLDS.items() for t in dtypes]
OPCODES = {name: code for code, name in enumerate([*ELEMENTWISE_CODES, *OTHER_CODES])}
