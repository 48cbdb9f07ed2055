"""LLVM code that the emitters of kernels share: counting loops, calls, and vectors in memory, with masks."""

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
