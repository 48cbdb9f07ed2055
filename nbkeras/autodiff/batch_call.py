"""Floor 1: kinds of batching, which compute an op for all members of a vmap at once: see batching.py.

An entry of table.py names the batching of its op. The default is `elementwise` for an `Elementwise` rule, `in_front` for others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbkeras import ops
from nbkeras.autodiff import rules
from nbkeras.engine.tensor import Tensor, apply, stand_in
from nbkeras.kernels import dense


def _members_first(sizes: tuple[int, ...], size: int) -> tuple[int, ...]:
    return (size, *sizes)


# Constants that depend on the number of axes: from the constant for a member and the number of members
_OF_ALL: dict[str, Callable] = {
    "axis": lambda axis, size: axis + 1,
    "axes": lambda axes, size: tuple(axis + 1 for axis in axes),
    "widths": lambda widths, size: ((0, 0), *widths),
    "key": lambda key, size: (slice(None), *key),
    **dict.fromkeys(["shape", "seen_as", "over"], _members_first),
}


class BatchCall(NamedTuple):
    """A call of an op for all members. `tensors[i]` is physical if `mapped[i]`, else all members share it."""

    op: Callable
    op_vjp: Callable | None
    tensors: tuple[Any, ...]
    mapped: tuple[bool, ...]
    size: int
    constants: dict[str, Any]
    computes: bool = True  # whether to compute the outputs' values: a gradient may need only the saved values

    def run(self, tensors: Sequence[Tensor | None], **changed: Any) -> Any:
        """Run the op on given tensors, with some of its constants changed."""
        constants = {**self.constants, **changed}
        if self.computes or stand_in(tensors) is not None:
            return apply(self.op, self.op_vjp, tensors, **constants)
        return rules.without_values(self.op, self.op_vjp, tensors, constants)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product that replaces the op."""
        return self._replace(op=dense.matmul, op_vjp=dense.matmul_vjp, constants={}).run([a, b])

    def shape(self, i: int) -> tuple[int, ...]:
        """The shape of input i of one member."""
        x = self.tensors[i]
        return x.shape[1:] if self.mapped[i] else x.shape

    def front(self, i: int) -> Any:
        """Input i with all members along its first axis; None if the input is None."""
        x = self.tensors[i]
        if x is None or self.mapped[i]:
            return x
        return ops.broadcast_to(x, (self.size, *x.shape))

    def aligned(self, i: int, ndim: int) -> Any:
        """Input i, reshaped to broadcast with inputs of up to `ndim` axes per member."""
        x = self.tensors[i]
        if x is None or not self.mapped[i] or x.ndim - 1 == ndim:
            return x
        return ops.reshape(x, (self.size, *[1] * (ndim - x.ndim + 1), *x.shape[1:]))

    def folded(self, i: int) -> Any:
        """Input i with the members concatenated along its own first axis."""
        x = self.front(i)
        return None if x is None else ops.reshape(x, (self.size * x.shape[1], *x.shape[2:]))

    def apart(self, y: Any) -> Any:
        """Undo `folded` in results: put the members along a separate first axis."""
        if isinstance(y, tuple):
            return tuple(map(self.apart, y))
        return ops.reshape(y, (self.size, y.shape[0] // max(self.size, 1), *y.shape[1:]))


Batch = Callable[[BatchCall], Any]


def elementwise(call: BatchCall) -> Any:
    """For ops whose inputs broadcast, or whose leading axes broadcast, as in a matrix product."""
    inputs = range(len(call.tensors))
    ndim = max(len(call.shape(i)) for i in inputs if call.tensors[i] is not None)
    return call.run([call.aligned(i, ndim) for i in inputs])


def in_front(call: BatchCall, **changed: Any) -> Any:
    """For ops over given axes of inputs of equal shapes. changed: constants whose names do not say how they change."""
    for name in _OF_ALL.keys() & call.constants.keys() - changed.keys():
        changed[name] = _OF_ALL[name](call.constants[name], call.size)
    return call.run([call.front(i) for i in range(len(call.tensors))], **changed)


def folded(*shared: int) -> Batch:
    """For ops on samples: one call computes all members' samples, if the inputs `shared` are not mapped."""

    def batch(call: BatchCall) -> Any:
        if any(call.mapped[i] for i in shared):
            return NotImplemented
        inputs = [x if i in shared else call.folded(i) for i, x in enumerate(call.tensors)]
        return call.apart(call.run(inputs))

    return batch


def of_one(i: int) -> Batch:
    """For ops that treat all leading axes of input i equally, if no other input is mapped."""

    def batch(call: BatchCall) -> Any:
        return call.run(call.tensors) if call.mapped[i] and sum(call.mapped) == 1 else NotImplemented

    return batch
