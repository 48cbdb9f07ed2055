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

from nbkeras.engine import copy_on_write
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.temporary import temporarily
from nbkeras.kernels import reduce
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.messages import named, short_description, takes

Array = np.ndarray


class Record:
    """One op on the tape: its `vjp` with the values that it `saved`, its `parents`, and its inputs' shapes and dtypes.

    `forms[i]` is input i's shape and dtype. `parents[i]` is its `(record, output_index)`, or None if it needs no gradient. A
    leaf (a variable or a watched tensor) has no vjp and no parents. `layer` is the layer that made it: see layer_stack.py.
    `tapes` are the recordings that were active when it was made. `call` is the op's call, for higher-order derivatives: see
    autodiff/rules.py. It is None if only one recording was active.
    """

    __slots__ = ("name", "vjp", "saved", "parents", "forms", "outputs", "layer", "tapes", "call", "__weakref__")

    def __init__(
        self, name: str, vjp: Callable | None, saved: Any, parents: tuple, forms: tuple, outputs: int, layer: str = ""
    ):
        self.name, self.vjp, self.saved = name, vjp, saved
        self.parents, self.forms, self.outputs, self.layer = parents, forms, outputs, layer
        self.tapes = thread.tapes
        self.call: Any = None

    def holds(self, arrays: Sequence[Array | None]) -> None:
        """Keep the inputs' values when variables are overwritten; the op may have saved them. See copy_on_write.py."""
        last = None  # often all weights have one owner: the optimizer's buffer
        for array in arrays:
            if array is not None and (array.base is not None or device.gpu_used):
                owner = device.root(array)
                if owner is not last:
                    copy_on_write.hold(self, _keep, owner)
                    last = owner


def _keep(record: Record, preserved: copy_on_write.Preserved) -> None:
    if record.saved is not _DROPPED:
        record.saved = copy_on_write.replaced(record.saved, preserved)
    if record.call is not None:
        record.call = record.call._replace(outputs=copy_on_write.replaced(record.call.outputs, preserved))


Source = tuple[Record, int]


def leaf(name: str) -> Record:
    """A Record without parents, for a variable or a watched tensor."""
    return Record(name, None, None, (), (), 1)


class _Thread(threading.local):
    """How this thread applies ops: see GradientRecording, and `apply` in tensor.py."""

    tapes: tuple = ()  # the active recordings, the outermost one first
    keeps = False  # whether Records always keep the calls of their ops
    # While calls are kept: whether an op whose derivatives are computed by other ops is itself computed by those ops.
    composes = True
    levels = 0  # the number of active levels of autodiff.vmap
    listener: Callable | None = None
    checker: Any = None  # checks results and gradients, see numerics.py
    rerun: Any = None  # the active run of autodiff.checkpoint, or StatelessScope
    autocast: Any = None  # the dtype of 16 bits that Variables are cast to: see half.py
    leaves_fast_path = False  # whether `apply` must do more than its fast path

    def needs_slow_path(self) -> bool:
        """Whether `apply` must do more than its fast path."""
        asked = self.listener, self.checker, self.rerun
        return bool(keeps_calls() or self.levels or any(each is not None for each in asked))

    def now(self, **values: Any) -> "_Now":
        """`with thread.now(name=value):` sets attributes of this thread for the block."""
        return _Now(self, **values)


class _Now(temporarily):
    def _exchange(self) -> None:
        super()._exchange()
        if "leaves_fast_path" not in self._values:
            thread.leaves_fast_path = thread.needs_slow_path()


thread = _Thread()


def is_recording() -> bool:
    """Whether ops in this thread make Records."""
    return bool(thread.tapes)


def keeps_calls() -> bool:
    """Whether Records keep the calls of their ops, which higher-order derivatives need."""
    return thread.keeps or len(thread.tapes) > (0 if thread.levels else 1)


def handler() -> Callable | None:
    """The innermost recording's function that applies ops while Records keep their calls; None if `apply` does it."""
    return thread.tapes[-1].applied if thread.tapes and keeps_calls() else None


class GradientRecording:
    """In the block, ops on tensors that need gradients make Records; with `GradientRecording(False)` they do not.

    Inside another recording, the outer one is used. A `Tape` of autodiff/nesting.py is always a separate recording, for
    derivatives of derivatives. Its `applied` says how ops are applied there.
    """

    is_spent = True  # whether no more gradients will be taken from it
    # applies ops while calls are kept; None: no op computes gradients from this recording
    applied: Callable | None = None

    def __init__(self, on: bool = True):
        self._on = on

    def __enter__(self) -> "GradientRecording":
        self._before = thread.tapes, thread.leaves_fast_path
        thread.tapes = (thread.tapes or (self,)) if self._on else ()
        thread.leaves_fast_path = thread.needs_slow_path()
        return self

    def __exit__(self, *error) -> None:
        thread.tapes, thread.leaves_fast_path = self._before


def gradient_record(sources: Sequence[Source]) -> Record:
    """A Record for gradients that a tape computed inside its own block: no backward pass can go through them."""
    return Record("gradient", _no_second_gradient, None, tuple(sources), (None,) * len(sources), 1)


def _no_second_gradient(saved: Any, dy: Any, needs: tuple) -> tuple:
    raise NotImplementedError(
        "this value was computed from a gradient that the same tape computed in its own block. For gradients of gradients "
        "compute the first one by a second tape inside the block of the outer tape; to use it as a constant, write "
        "ops.stop_gradient(gradient)"
    )


def _count_users(targets: Sequence[Record], within: GradientRecording | None = None) -> dict[Record, int]:
    """For each Record reachable from the targets, the number of Records that use it. A loop: long chains cannot overflow."""
    users: dict[Record, int] = dict.fromkeys(targets, 0)
    todo = list(users)
    while todo:
        user = todo.pop()
        if within is not None and within not in user.tapes:
            continue
        for parent in user.parents:
            if parent is None:
                continue
            record = parent[0]
            if record not in users:
                users[record] = 0
                todo.append(record)
            users[record] += 1
    return users


def in_order(
    targets: Sequence[Record], sources: Collection[Source], within: GradientRecording | None = None
) -> tuple[list[Record], set[Record]]:
    """The Records between targets and sources, as a list and as a set. In the list each Record comes after its users.

    within: only Records of this tape are followed.
    """
    users = _count_users(targets, within)
    ready, order = [record for record, count in users.items() if count == 0], []
    while ready:
        record = ready.pop()
        if record.vjp is None or (within is not None and within not in record.tapes):
            continue
        order.append(record)
        for parent in record.parents:
            if parent is not None:
                users[parent[0]] -= 1
                if users[parent[0]] == 0:
                    ready.append(parent[0])
    between: set[Record] = set()
    for record in reversed(order):
        for parent in record.parents:
            if parent is not None and (parent[0] in between or parent in sources):
                between.add(record)
                break
    return order if len(between) == len(order) else [record for record in order if record in between], between


def unreached(targets: Sequence[Source], sources: Sequence[Source]) -> list[int]:
    """The positions of sources that no target depends on."""
    reached = _count_users([record for record, _ in targets])
    return [i for i, (record, _) in enumerate(sources) if record not in reached]


def boundary(results: Sequence[Any], within: GradientRecording) -> list[tuple[Source, Any]]:
    """The sources outside of a tape that its Records use, with their shapes and dtypes."""
    found: dict[Source, Any] = {}
    todo = [each.record for each in results if each.record is not None]
    seen = set(todo)
    while todo:
        record = todo.pop()
        for parent, form in zip(record.parents, record.forms, strict=True):
            if parent is None:
                continue
            if parent[0].vjp is None or within not in parent[0].tapes:
                found[parent] = form
            elif parent[0] not in seen:
                seen.add(parent[0])
                todo.append(parent[0])
    return list(found.items())


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
    within: GradientRecording | None = None,
    delivered: Callable[[int], None] | None = None,
) -> list[Any]:
    """Gradients of the targets' weighted sum with respect to `sources`; None for a source that no target depends on.

    targets: pairs of an output and its incoming gradient. into: an array for each source to write its gradient to.
    retain: keep the saved values of the Records for another backward pass; by default they are dropped, unless another tape may
    still need them. as_is: for each source, whether its gradient may be an object that represents an array, without writing to
    `into`; by default all are arrays. within: the tape whose Records are followed; other Records count as constants; None for
    all Records. delivered: called with the index of each source as soon as its gradient is complete, during the pass.
    """
    if within is not None:
        within.is_spent = within.is_spent or not retain
    wanted = {source: i for i, source in enumerate(sources)}
    destinations: dict[Source, Array] = {}
    if into is not None:
        destinations = {source: array for source, array in zip(sources, into, strict=True) if array is not None}
    sums: dict[Source, _Sum] = {}
    for source, gradient in targets:
        _accumulate(sums, source, gradient, destinations)
    order, between = in_order([source[0] for source, _ in targets], wanted, within)
    for record in order:
        if record.vjp is _no_second_gradient:  # checked first, before errors about shapes and dropped values
            _no_second_gradient(None, None, ())
    keep = as_is or [False] * len(sources)
    results: dict[int, Any] = {}

    def deliver(i: int) -> None:
        results[i] = _delivered(sums.get(sources[i]), destinations.get(sources[i]), keep[i])
        if delivered is not None:
            delivered(i)

    users = {} if delivered is None else _users_of(wanted, order)
    outer = layer_stack.back
    try:
        for record in order:
            layer_stack.back = record.layer
            others = len(record.tapes) > 1 and within is not None
            drop = not retain and not (others and any(not each.is_spent for each in record.tapes))
            _step(record, sums, wanted, between, destinations, drop)
            for parent in record.parents if users else ():
                if parent in users:
                    users[parent] -= 1
                    if not users[parent]:
                        deliver(wanted[parent])
    finally:
        layer_stack.back = outer
    for i in range(len(sources)):
        if i not in results:
            deliver(i)
    return [results[i] for i in range(len(sources))]


def _users_of(wanted: Collection[Source], order: Sequence[Record]) -> dict[Any, int]:
    """For each wanted source, the number of uses by Records of the pass."""
    users: dict[Any, int] = {}
    for record in order:
        for parent in record.parents:
            if parent in wanted:
                users[parent] = users.get(parent, 0) + 1
    return users


def _step(record: Record, sums: dict, wanted: dict, between: set, destinations: dict, drop: bool) -> None:
    """Go back through one Record: take its outputs' gradients, and add gradients to its parents."""
    incoming: list[Array | None] = []
    for index in range(record.outputs):
        source = (record, index)
        total = sums.get(source) if source in wanted else sums.pop(source, None)
        incoming.append(None if total is None else total.dense(destinations.get(source)))
    check_is_kept(record)
    if all([gradient is None for gradient in incoming]):
        return
    needs: list[Any] = []
    for i, parent in enumerate(record.parents):
        if parent is None or not (parent in wanted or parent[0] in between):
            needs.append(False)
        elif parent in sums or parent in record.parents[:i]:
            # a destination can hold one gradient; others are added to it
            needs.append(True)
        else:
            needs.append(destinations.get(parent, True))
    dy = incoming[0] if record.outputs == 1 else tuple(incoming)
    gradients = _call_vjp(record, dy, tuple(needs))
    if thread.checker is not None:
        thread.checker.gradients(record, incoming, gradients)
    if drop:
        record.saved, record.call = _DROPPED, None
    for i, (parent, gradient) in enumerate(zip(record.parents, gradients, strict=True)):
        if needs[i] is not False and gradient is not None:
            _check_gradient(record, i, gradient)
            _accumulate(sums, parent, unbroadcast(gradient, record.forms[i][0]), destinations)


def check_is_kept(record: Record) -> None:
    """Raises RuntimeError if an earlier backward pass dropped a Record's saved values."""
    if record.saved is _DROPPED:
        raise RuntimeError(
            f"the gradient through {record.name!r} was already computed and its saved values were dropped; "
            "use GradientTape(persistent=True) to take several gradients of one computation"
        )


def _call_vjp(record: Record, dy: Any, needs: tuple) -> Sequence[Any]:
    """Call a vjp. Returns its gradients, one or None for each input. Raises TypeError for an invalid result."""
    vjp: Any = record.vjp
    try:
        recorder = device.recorder()
        if recorder is None:
            gradients = vjp(record.saved, dy, needs)
        else:
            gradients = recorder.called(vjp, (record.saved, dy), (needs,), {})
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
    """Raises TypeError or ValueError if a value cannot be the gradient of input i."""
    shape, dtype = record.forms[i]
    if type(gradient) is np.ndarray and gradient.shape == shape and gradient.dtype is dtype:
        return
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
    """The gradient of a source, in its destination if it has one. Without a gradient, the destination is filled with zeros."""
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
