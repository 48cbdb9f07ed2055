"""LLVM code that the emitters of kernels share: counting loops, and numbers in all lanes of a vector."""

import contextlib
from collections.abc import Iterator
from typing import Any

from nbkeras.kernels.runtime.lazy import ir


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
