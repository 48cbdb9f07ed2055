"""exp, expm1, log1p, tanh, sigmoid, erfc that LLVM can vectorise: polynomials in float32, the C library in float64.

Kernels made of formulas use FORMULAS; loops written for Numba call `exp`, `tanh` and `sigmoid`.

Numba has no vector math library, so `math.exp` in a loop is a scalar call (tanh takes 4.6 ns instead of 0.26). The float32
formulas are emitted as LLVM instructions, because in Python, inlined by Numba, each use took 0.15 s to compile.
Errors in float32, compared with float64 (tests/ops/test_activations.py): exp 1 ulp, expm1 and log1p 2 ulp, sigmoid 2.5
ulp, tanh 4.6 ulp, erfc 8 ulp up to x = 2 and 70 ulp at 9 (its value is 1e-37 there).

Sources: exp and expm1 after Cephes' expf (S. Moshier); tanh is the rational minimax approximation used by Eigen; log1p
is 2 artanh(x / (2 + x)) and erfc is exp(-x^2) times a polynomial in 1 / (1 + 0.3 x), both fitted for the least relative error.
"""

import math

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.runtime.lazy import emitted, ir, types

# These flags keep NaN, infinity and the rounding trick in `exp`; Numba's code gets the same (runtime/code.py).
_FLAGS = ("nsz", "contract")


class Float:
    """A float, or a vector of floats, in the LLVM code under construction, with the operators of formulas."""

    __slots__ = ("builder", "value")

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def count(self) -> int:
        """The number of lanes of a vector; 0 for a single float."""
        return getattr(self.value.type, "count", 0)

    @property
    def is_double(self) -> bool:
        """True if it is a float64."""
        return getattr(self.value.type, "element", self.value.type) == ir.DoubleType()

    def like(self, kind):
        """Returns an LLVM type with the same number of lanes."""
        return ir.VectorType(kind, self.count) if self.count else kind

    def constant(self, number):
        """Returns an LLVM value with the number in each lane."""
        return ir.Constant(self.value.type, [number] * self.count if self.count else number)

    def _operand(self, other):
        return other.value if isinstance(other, Float) else self.constant(other)

    def _new(self, value) -> "Float":
        return Float(self.builder, value)

    def __add__(self, other):
        return self._new(self.builder.fadd(self.value, self._operand(other), flags=_FLAGS))

    def __sub__(self, other):
        return self._new(self.builder.fsub(self.value, self._operand(other), flags=_FLAGS))

    def __mul__(self, other):
        return self._new(self.builder.fmul(self.value, self._operand(other), flags=_FLAGS))

    def __truediv__(self, other):
        return self._new(self.builder.fdiv(self.value, self._operand(other), flags=_FLAGS))

    def __neg__(self):
        return self._new(self.builder.fneg(self.value, flags=_FLAGS))

    def __abs__(self):
        return self._where("<", 0.0, -self, self)

    def compare(self, comparison, other):
        """Returns bits, 1 where a comparison holds; for NaN only != holds."""
        compare = self.builder.fcmp_unordered if comparison == "!=" else self.builder.fcmp_ordered
        return compare(comparison, self.value, self._operand(other))

    def choose(self, bits, yes, no):
        """Returns yes where the bits are 1, else no."""
        return self._new(self.builder.select(bits, self._operand(yes), self._operand(no)))

    def called(self, name, *others):
        """Calls a function of LLVM or the C library by name."""
        values = [self.value, *(self._operand(other) for other in others)]
        return self._new(llvm.call(self.builder, name, self.value.type, values))

    def intrinsic(self, name, *others):
        """Calls LLVM's intrinsic of this name for this type."""
        return self.called(f"llvm.{name}.{llvm.name_of(self.value.type)}", *others)

    def _where(self, comparison, other, yes, no):
        return self.choose(self.compare(comparison, other), yes, no)

    def clip(self, low, high):
        """Limits it to at least low and at most high; NaN stays NaN."""
        bounded = self._where(">", high, high, self)
        return bounded._where("<", low, low, bounded)

    def polynomial(self, *coefficients):
        """Evaluates a polynomial by Horner's rule; the highest power comes first."""
        total = self * coefficients[0] + coefficients[1]
        for coefficient in coefficients[2:]:
            total = total * self + coefficient
        return total


def _reduced(x: Float) -> tuple[Float, Float, Float]:
    """For x = n log 2 + r with |r| <= log(2) / 2 and |x| < 88, returns 2**n, r and e**r - 1 - r."""
    builder = x.builder
    rounded = x * 1.44269504088896341 + 12582912.0  # adding 1.5 * 2**23 leaves the nearest integer in the low bits
    n = rounded - 12582912.0
    r = x - n * 0.693359375
    r = r - n * -2.12194440e-4
    tail = r.polynomial(
        1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1
    ) * (r * r)
    bits = Float(builder, builder.bitcast(rounded.value, x.like(ir.IntType(32))))
    exponent = builder.sub(bits.value, bits.constant(0x4B400000 - 127))
    power = builder.bitcast(builder.shl(exponent, bits.constant(23)), x.value.type)
    return Float(builder, power), r, tail


def _exp_within_range(x: Float) -> Float:
    power, r, tail = _reduced(x)
    return power * (tail + r + 1.0)


def _exp32(x: Float) -> Float:
    power = _exp_within_range(x.clip(-87.3365447504019, 88.3762626647949))
    return x._where("<", -87.3365447504019, 0.0, power)


def _expm1_32(x: Float) -> Float:
    power, r, tail = _reduced(x.clip(-87.3365447504019, 88.3762626647949))
    return power * (tail + r) + (power - 1.0)


def _sigmoid32(x: Float) -> Float:
    y = Float(x.builder, x.constant(1.0)) / (_exp_within_range(-x.clip(-87.3, 87.3)) + 1.0)
    return x._where("<", -87.3, 0.0, y)


def _tanh32(x: Float) -> Float:
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
    y = x._where(">", 7.95, 1.0, x * numerator / denominator)
    return x._where("<", -7.95, -1.0, y)


def _log1p32(x: Float) -> Float:
    s = x / (x + 2.0)
    square = s * s
    series = (
        square.polynomial(0.1408916301255028, 0.13980302364667113, 0.20012455072421567, 0.3333315734251786) * square
    )
    return (series * s + s) * 2.0


def _erfc32(x: Float) -> Float:
    z = abs(x).clip(0.0, 9.19)
    t = Float(x.builder, x.constant(1.0)) / (z * 0.3 + 1.0)
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
    tail = z._where(">=", 9.19, 0.0, scaled * _exp_within_range(-(z * z)))
    return x._where("<", 0.0, -tail + 2.0, tail)


# The functions of formulas (expressions.py) in float32. float64 uses the C library.
FORMULAS = {
    "exp": _exp32,
    "expm1": _expm1_32,
    "log1p": _log1p32,
    "tanh": _tanh32,
    "sigmoid": _sigmoid32,
    "erfc": _erfc32,
}


def _of_float(x):
    return x(x) if x in (types.float32, types.float64) else None


@emitted(_of_float)
def exp(context, builder, signature, x):
    """Returns e**x; float32 gives 0 instead of subnormal numbers and at most 2.4e38 instead of infinity; NaN stays NaN."""
    if signature.return_type == types.float32:
        return _exp32(Float(builder, x)).value
    return context.get_function(math.exp, signature)(builder, [x])


@emitted(_of_float)
def tanh(context, builder, signature, x):
    """Hyperbolic tangent."""
    if signature.return_type == types.float32:
        return _tanh32(Float(builder, x)).value
    return context.get_function(math.tanh, signature)(builder, [x])


@emitted(_of_float)
def sigmoid(context, builder, signature, x):
    """Returns 1 / (1 + e**-x); float32 gives 0 instead of subnormal numbers."""
    if signature.return_type == types.float32:
        return _sigmoid32(Float(builder, x)).value
    power = Float(builder, context.get_function(math.exp, signature)(builder, [builder.fneg(x)]))
    return (Float(builder, ir.Constant(ir.DoubleType(), 1.0)) / (power + 1.0)).value
