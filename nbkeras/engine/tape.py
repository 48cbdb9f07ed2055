"""Floor 1: the tape. Records of computed ops, and the backward pass over them that computes gradients.

The tape does not depend on ops, Tensors and layers: a Record holds a vjp, the values that the op saved, and its parent
Records.

A gradient is an array, or an object that represents one. Such an object has a `shape`; `joined(other)` is the sum with another
such gradient; `dense(into)` is the array, which the tape calls as soon as it needs an array.
"""

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from nbkeras.engine.layer_stack import layer_stack
from nbkeras.kernels import reduce
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.messages import named, short_description, takes

Array = np.ndarray


class Record:
    """One op on the tape: its `vjp` with the values that it `saved`, its `parents`, and its inputs' shapes and dtypes.

    `forms[i]` is input i's shape and dtype, `parents[i]` its `(record, output_index)`, or None if it needs no gradient. A
    leaf (a variable or a watched tensor) has no vjp and no parents. `layer` is the layer that made it: see layer_stack.py.
    """

    __slots__ = ("name", "vjp", "saved", "parents", "forms", "outputs", "layer")

    def __init__(
        self, name: str, vjp: Callable | None, saved: Any, parents: tuple, forms: tuple, outputs: int, layer: str = ""
    ):
        self.name, self.vjp, self.saved = name, vjp, saved
        self.parents, self.forms, self.outputs, self.layer = parents, forms, outputs, layer


Source = tuple[Record, int]


def leaf(name: str) -> Record:
    """A Record without parents, for a variable or a watched tensor."""
    return Record(name, None, None, (), (), 1)


def gradient_record(sources: Sequence[Source]) -> Record:
    """A Record for gradients with respect to `sources`, which cannot be differentiated: `backward` raises an error."""
    return Record("gradient", _no_second_gradient, None, tuple(sources), (None,) * len(sources), 1)


def _no_second_gradient(saved: Any, dy: Any, needs: tuple) -> tuple:
    raise NotImplementedError(
        "gradients of gradients are not offered: this value was computed from a result of GradientTape.gradient or "
        "K.gradients. To use that result as a constant, write ops.stop_gradient(gradient)"
    )


class _Thread(threading.local):
    recording = False


_thread = _Thread()


def is_recording() -> bool:
    """Whether ops in this thread make Records."""
    return _thread.recording


class Recording:
    """In the block ops on tensors that need gradients make Records; with `Recording(False)` they do not."""

    def __init__(self, on: bool = True):
        self._on = on

    def __enter__(self) -> "Recording":
        self._before, _thread.recording = _thread.recording, self._on
        return self

    def __exit__(self, *error) -> None:
        _thread.recording = self._before


def _count_users(targets: Sequence[Record]) -> dict[Record, int]:
    """For each Record reachable from the targets, the number of Records that use it. Iterative: long chains cannot overflow."""
    users: dict[Record, int] = dict.fromkeys(targets, 0)
    todo = list(users)
    while todo:
        for parent in todo.pop().parents:
            if parent is None:
                continue
            record = parent[0]
            if record not in users:
                users[record] = 0
                todo.append(record)
            users[record] += 1
    return users


def unreached(targets: Sequence[Source], sources: Sequence[Source]) -> list[int]:
    """The positions of sources that no target depends on."""
    reached = _count_users([record for record, _ in targets])
    return [i for i, (record, _) in enumerate(sources) if record not in reached]


def _leading(users: dict[Record, int], sources: Sequence[Source]) -> Collection[Record]:
    """The sources' Records and those through which gradients reach them; all of `users`, unless there are other leaves."""
    wanted = {record for record, _ in sources}
    if all(record.parents or record in wanted for record in users):
        return users
    counts, order = dict(users), [record for record, count in users.items() if count == 0]
    for record in order:  # grows: each Record comes after all that use it
        for parent in record.parents:
            if parent is not None:
                counts[parent[0]] -= 1
                if counts[parent[0]] == 0:
                    order.append(parent[0])
    found: set[Record] = set()
    for record in reversed(order):
        if record in wanted or _leads(record, found):
            found.add(record)
    return found


def _leads(record: Record, leading: Collection[Record]) -> bool:
    """Whether a gradient goes on from a Record to one of these."""
    return any(parent is not None and parent[0] in leading for parent in record.parents)


class _Sum:
    """The gradient of one output while it is summed; `owned` if it may be changed in place."""

    __slots__ = ("gradient", "owned")

    def __init__(self, gradient: Any, owned: bool):
        self.gradient, self.owned = gradient, owned

    def dense(self, into: Array | None) -> Array:
        if not isinstance(self.gradient, device.ARRAYS):
            self.gradient, self.owned = self.gradient.dense(into), True
        return self.gradient

    def add(self, other: Any, into: Array | None) -> None:
        if not isinstance(other, device.ARRAYS):
            if not isinstance(self.gradient, device.ARRAYS):
                self.gradient = self.gradient.joined(other)
                return
            other = other.dense(None)
        array = self.dense(into)
        total = array if self.owned else device.output(into, array.shape, array.dtype)
        device.launch(np.add, array, other, total)
        self.gradient, self.owned = total, True


def unbroadcast(gradient: Any, shape: tuple) -> Any:
    """Sum a gradient over the axes along which its operand of `shape` was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, size in enumerate(shape) if size == 1 and gradient.shape[extra + i] != 1
    )
    total, _ = reduce.sum(gradient, axes, keepdims=False)
    return total.reshape(shape)


def backward(
    targets: Sequence[tuple[Source, Array]],
    sources: Sequence[Source],
    into: Sequence[Array | None] | None = None,
    retain: bool = False,
    as_is: Sequence[bool] | None = None,
) -> list[Any]:
    """Gradients of the targets' weighted sum with respect to `sources`; None for a source that no target depends on.

    targets: pairs of an output and its incoming gradient. into: an array for each source to write its gradient to.
    retain: keep the values saved in the Records for another backward pass; by default they are dropped. as_is: for each source,
    whether its gradient may be an object that represents an array, without writing to `into`; by default all are arrays.
    """
    wanted = {source: i for i, source in enumerate(sources)}
    destinations: dict[Source, Array] = {}
    if into is not None:
        destinations = {source: array for source, array in zip(sources, into, strict=True) if array is not None}
    sums: dict[Source, _Sum] = {}
    for source, gradient in targets:
        _accumulate(sums, source, gradient, destinations)
    users = _count_users([source[0] for source, _ in targets])
    # before other errors, about shapes and dropped values
    if any(record.vjp is _no_second_gradient for record in users):
        _no_second_gradient(None, None, ())
    leading = _leading(users, sources)
    ready = [record for record, count in users.items() if count == 0]
    outer = layer_stack.back
    try:
        while ready:
            record = ready.pop()
            if record.vjp is not None:
                layer_stack.back = record.layer
                if leading is users or _leads(record, leading):
                    _step(record, sums, wanted, leading, destinations, retain)
                elif not retain:
                    record.saved = _DROPPED
            for parent in record.parents:
                if parent is not None:
                    users[parent[0]] -= 1
                    if users[parent[0]] == 0:
                        ready.append(parent[0])
    finally:
        layer_stack.back = outer
    keep = as_is or [False] * len(sources)
    return [_delivered(sums.get(s), destinations.get(s), kept) for s, kept in zip(sources, keep, strict=True)]


def _step(
    record: Record, sums: dict, wanted: dict, leading: Collection[Record], destinations: dict, retain: bool
) -> None:
    """Go back through one Record: take its outputs' gradients, and add gradients to those parents that lead to sources."""
    incoming: list[Array | None] = []
    for index in range(record.outputs):
        source = (record, index)
        total = sums.get(source) if source in wanted else sums.pop(source, None)
        incoming.append(None if total is None else total.dense(destinations.get(source)))
    if record.saved is _DROPPED:
        raise RuntimeError(
            f"the gradient through {record.name!r} was already computed and its saved values were dropped; "
            "use GradientTape(persistent=True) to take several gradients of one computation"
        )
    if all(gradient is None for gradient in incoming):
        return
    needs: list[Any] = []
    for i, parent in enumerate(record.parents):
        if parent is None or parent[0] not in leading:
            needs.append(False)
        elif parent in sums or parent in record.parents[:i]:
            # a destination can hold one gradient; others are added to it
            needs.append(True)
        else:
            needs.append(destinations.get(parent, True))
    dy = incoming[0] if record.outputs == 1 else tuple(incoming)
    gradients = _call_vjp(record, dy, tuple(needs))
    if not retain:
        record.saved = _DROPPED
    for i, (parent, gradient) in enumerate(zip(record.parents, gradients, strict=True)):
        if gradient is not None and parent is not None and parent[0] in leading:
            _check_gradient(record, i, gradient)
            _accumulate(sums, parent, unbroadcast(gradient, record.forms[i][0]), destinations)


def _call_vjp(record: Record, dy: Any, needs: tuple) -> Sequence[Any]:
    """Call a vjp and return its gradients, one or None for each input; TypeError for another result."""
    vjp: Any = record.vjp
    try:
        gradients = device.call(vjp, (record.saved, dy), needs)
    except TypeError as error:
        if takes(vjp, record.saved, dy, needs):  # the error comes from inside the vjp
            raise
        raise TypeError(
            f"{_of(record)} must take (saved, dy, needs): the op's saved values, the gradient of its output, and for each input "
            f"whether its gradient is needed. Received: {error}"
        ) from None
    expected = f"must return a tuple with one gradient, or None, for each of the op's {len(record.parents)} inputs"
    if not isinstance(gradients, tuple | list):
        raise TypeError(f"{_of(record)} {expected}: (dx,) for one input. Received {short_description(gradients)}")
    if len(gradients) != len(record.parents):
        raise TypeError(f"{_of(record)} {expected}. Received {len(gradients)}")
    return gradients


def _of(record: Record) -> str:
    return f"the vjp {named(record.vjp)} of {record.name!r}"


def _check_gradient(record: Record, i: int, gradient: Any) -> None:
    """Raise TypeError or ValueError for a value that cannot be the gradient of input i."""
    shape, dtype = record.forms[i]
    if not (isinstance(gradient, device.ARRAYS) or hasattr(gradient, "dense")):
        raise TypeError(f"{_of(record)} must return arrays, received {short_description(gradient)} as gradient {i}")
    extra = len(gradient.shape) - len(shape)
    fits = gradient.shape == shape or (
        extra >= 0 and all(size in (1, have) for size, have in zip(shape, gradient.shape[extra:], strict=True))
    )
    if not fits or getattr(gradient, "dtype", dtype) != dtype:
        raise ValueError(
            f"{_of(record)} must return as gradient {i} an array of its input's shape {shape} and dtype {dtype}, as "
            f"device.output(needs[{i}], x.shape, x.dtype) makes it. Received {short_description(gradient)}"
        )


def _accumulate(sums: dict, source: Source, gradient: Any, destinations: dict) -> None:
    total, into = sums.get(source), destinations.get(source)
    if total is None:
        sums[source] = _Sum(gradient, gradient is into)
    else:
        total.add(gradient, into)


def _delivered(total: _Sum | None, into: Array | None, as_is: bool) -> Any:
    """The gradient of a source, in its destination if it has one; a source without one gets zeros there."""
    if total is not None and as_is and not isinstance(total.gradient, device.ARRAYS):
        return total.gradient
    if into is None:
        return None if total is None else total.dense(None)
    if total is None:
        device.launch(device.fill, into, 0)
    elif total.dense(into) is not into:
        device.launch(device.copy, total.gradient, into)
    return into


_DROPPED = object()
