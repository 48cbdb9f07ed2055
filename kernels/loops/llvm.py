"""LLVM code that emitters of kernels share: counting loops, calls, vectors with operators, and vectors in memory, with masks."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from nbkeras.kernels.runtime.lazy import ir

_SIZES = {"i8": 1, "i32": 4, "float": 4, "double": 8}  # bytes of LLVM's types


@contextlib.contextmanager
def counting(builder: Any, first: Any, last: Any, step: int, carried: dict[Any, Any] | None = None) -> Iterator[Any]:
    """Emits `for i in range(first, last, step)` for whole steps, and gives i. After the loop, it is the first remaining i.

    carried: values that change with each iteration. The body replaces them; they are current in the body and afterwards.
    """
    carried, before = {} if carried is None else carried, builder.block
    head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(first.type)
    i.add_incoming(first, before)
    phis = {}
    for key, value in carried.items():
        phis[key] = builder.phi(value.type)
        phis[key].add_incoming(value, before)
    after = builder.add(i, ir.Constant(first.type, step))
    builder.cbranch(builder.icmp_signed("<=", after, last), body, end)
    builder.position_at_end(body)
    carried.update(phis)
    yield i
    i.add_incoming(after, builder.block)
    for key, phi in phis.items():
        phi.add_incoming(carried[key], builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    carried.update(phis)


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """Emits a vector with a number in all lanes."""
    kind, number = ir.VectorType(value.type, lanes), ir.IntType(32)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(number, 0))
    return builder.shuffle_vector(
        one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(number, lanes), [0] * lanes)
    )


def call(builder: Any, name: str, result: Any, values: Sequence[Any]) -> Any:
    """Emits a call of a function of LLVM or of a library, by name. result: the type of its result."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), values)


def load(builder: Any, pointer: Any, kind: Any, mask: Any = None, align: int = 0) -> Any:
    """Emits a vector of a type from a pointer on; 0 where the mask is 0. No mask: all lanes. align: 0 for a number's size."""
    at, align = builder.bitcast(pointer, kind.as_pointer()), align or _SIZES[str(kind.element)]
    if mask is None:
        return builder.load(at, align=align)
    values = [at, ir.Constant(ir.IntType(32), align), mask, ir.Constant(kind, None)]
    return call(builder, f"llvm.masked.load.{name_of(kind)}.p0", kind, values)


def store(builder: Any, value: Any, pointer: Any, mask: Any = None) -> None:
    """Emits a store of a vector, where the mask is 1. No mask stores all lanes."""
    at, size = builder.bitcast(pointer, value.type.as_pointer()), _SIZES[str(value.type.element)]
    if mask is None:
        builder.store(value, at, align=size)
    else:
        values = [value, at, ir.Constant(ir.IntType(32), size), mask]
        call(builder, f"llvm.masked.store.{name_of(value.type)}.p0", ir.VoidType(), values)


def prefetch(builder: Any, pointer: Any, level: int) -> None:
    """Emits a prefetch of the cache line at a pointer, which may be outside the array. level: 3 for L1, 2 for L2."""
    at = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    call(builder, "llvm.prefetch.p0", ir.VoidType(), [at, *(ir.Constant(ir.IntType(32), n) for n in (0, level, 1))])


def name_of(kind: Any) -> str:
    """Returns how LLVM writes a number's type, or a vector's, in the names of its functions."""
    element = str(getattr(kind, "element", kind))
    lanes = f"v{kind.count}" if hasattr(kind, "count") else ""
    return f"{lanes}{'i' if element.startswith('i') else 'f'}{8 * _SIZES[element]}"


# These flags keep NaN, infinity and the rounding trick in `exp`; Numba's code gets the same (runtime/code.py).
FLAGS = ("nsz", "contract")


class Vector:
    """A number or a vector, of floats or signed integers. flags: LLVM's, of arithmetic with floats."""

    __slots__ = ("builder", "flags", "value")

    def __init__(self, builder: Any, value: Any, flags: tuple[str, ...] = FLAGS):
        self.builder, self.value, self.flags = builder, value, flags

    @property
    def element(self) -> Any:
        """The type of its numbers."""
        return getattr(self.value.type, "element", self.value.type)

    @property
    def is_float(self) -> bool:
        return not isinstance(self.element, ir.IntType)

    @property
    def is_double(self) -> bool:
        """True if it is of float64."""
        return self.element == ir.DoubleType()

    def like(self, kind: Any) -> Any:
        """Returns an LLVM type with the same number of lanes. kind: the type of its numbers."""
        count = getattr(self.value.type, "count", 0)
        return ir.VectorType(kind, count) if count else kind

    def of(self, other: Any) -> Any:
        """Returns the value of another vector, or of a constant in each lane."""
        return other.value if isinstance(other, Vector) else ir.Constant(self.value.type, other)

    def new(self, value: Any) -> "Vector":
        """Returns a vector with another value; a constant is in each lane."""
        return Vector(self.builder, value if isinstance(value, ir.Value) else self.of(value), self.flags)

    def _combined(self, name: str, other: Any) -> "Vector":
        if self.is_float:
            return self.new(getattr(self.builder, f"f{name}")(self.value, self.of(other), flags=self.flags))
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
        return self.new(
            self.builder.fneg(self.value, flags=self.flags) if self.is_float else self.builder.neg(self.value)
        )

    def __abs__(self) -> "Vector":
        return self.intrinsic("fabs") if self.is_float else self.where("<", 0, -self, self)

    # Of integers and booleans

    def __and__(self, other: Any) -> "Vector":
        return self.new(self.builder.and_(self.value, self.of(other)))

    def __or__(self, other: Any) -> "Vector":
        return self.new(self.builder.or_(self.value, self.of(other)))

    def __xor__(self, other: Any) -> "Vector":
        return self.new(self.builder.xor(self.value, self.of(other)))

    def shifted(self, name: str, places: int) -> "Vector":
        """Returns its bits shifted by LLVM's instruction of this name."""
        return self.new(getattr(self.builder, name)(self.value, self.of(places)))

    # Choices

    def compare(self, sign: str, other: Any) -> "Vector":
        """Returns a condition, a bit in each lane: 1 where the comparison holds; for NaN only != holds."""
        if not self.is_float:
            return self.new(self.builder.icmp_signed(sign, self.value, self.of(other)))
        compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return self.new(compare(sign, self.value, self.of(other)))

    def choose(self, condition: "Vector", yes: Any, no: Any) -> "Vector":
        """Returns yes where the condition holds, else no; constants are of this type."""
        return self.new(self.builder.select(condition.value, self.of(yes), self.of(no)))

    def where(self, sign: str, other: Any, yes: Any, no: Any) -> "Vector":
        """Returns yes where the comparison holds, else no."""
        return self.choose(self.compare(sign, other), yes, no)

    def clip(self, low: Any, high: Any) -> "Vector":
        """Limits it to at least low and at most high; NaN stays NaN."""
        bounded = self.where("<", low, low, self)
        return bounded.where(">", high, high, bounded)

    def larger(self, other: Any, sign: str = ">=") -> "Vector":
        """Returns the larger of two, or the smaller for the sign "<="; NaN if one is NaN."""
        mine = self.compare(sign, other)
        if self.is_float:
            mine = mine | self.compare("!=", self)
        return self.choose(mine, self, other)

    def sign(self) -> "Vector":
        """Returns -1, 0 or 1; NaN stays NaN."""
        return self.where(">", 0, 1, self.where("<", 0, -1, self.where("==", 0, 0, self)))

    # Functions

    def called(self, name: str, *others: Any) -> "Vector":
        """Calls a function of LLVM or the C library by name."""
        return self.new(call(self.builder, name, self.value.type, [self.value, *map(self.of, others)]))

    def intrinsic(self, name: str, *others: Any) -> "Vector":
        """Calls LLVM's intrinsic of this name for this type."""
        return self.called(f"llvm.{name}.{name_of(self.value.type)}", *others)

    def polynomial(self, *coefficients: float) -> "Vector":
        """Evaluates a polynomial by Horner's rule; the highest power comes first."""
        total = self * coefficients[0] + coefficients[1]
        for coefficient in coefficients[2:]:
            total = total * self + coefficient
        return total

    def _seen_as(self, kind: Any) -> "Vector":
        return self.new(self.builder.bitcast(self.value, self.like(kind)))

    def bits(self) -> "Vector":
        """Returns the bits of floats as integers."""
        return self._seen_as(ir.IntType(64 if self.is_double else 32))

    def as_float(self) -> "Vector":
        """Returns integers as the floats with these bits."""
        return self._seen_as(ir.DoubleType() if self.element == ir.IntType(64) else ir.FloatType())
