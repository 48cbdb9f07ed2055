"""Floor 1: loops of a recorded step, as programs in its program.

`repeat` records the body of a loop once, by running it without computing. The loop is then one op of the step. Its launch repeats
the launches of the body; the values that go from one iteration to the next are at fixed places of its arena. If gradients are
recorded, the backward pass of the body is recorded too. The forward loop then keeps the values that an iteration's backward pass
reads as a row of an array, and the backward loop runs through the rows from the last one to the first.

A branch of a condition is a loop of at most one iteration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import copy_on_write, recorder, tape, tensor
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.recorder import OnlyConstants, Recorder
from nbkeras.engine.temporary import temporarily
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels import control
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.ref import Ref
from nbkeras.kernels.runtime.repeated import Loop, Parts

Array = np.ndarray
Launches = list[tuple[Callable, tuple]]
_ENDLESS = 2**62  # the limit of a loop that only its condition ends


class UnrecordableError(Exception):
    """The body of a loop cannot be a program: Python must run it in each iteration."""


class ChangedError(Exception):
    """A value that goes from iteration to iteration changes its shape or dtype: its number, and the two forms."""

    def __init__(self, number: int, expected: tuple, received: tuple):
        super().__init__(number, expected, received)
        self.number, self.expected, self.received = number, expected, received


def is_possible() -> bool:
    """Whether loops of this thread become programs: it records a step, and applies ops in the ordinary way."""
    current = device.recorder()
    return (
        isinstance(current, Recorder)
        and current.nests
        and current.reason is None
        and not device.is_dry()
        and not tape.thread.leaves_fast_path
    )


def needs_python(reason: str) -> None:
    """Say that Python must run this code in each iteration of a loop. reason: a sentence. Elsewhere it does nothing."""
    current = device.recorder()
    if isinstance(current, _Inner):
        current.refuse(reason)


class _Inner(Recorder):
    """The program of a body. It may use the arrays of the program that it is a part of."""

    def __init__(self, outer: Recorder) -> None:
        super().__init__()
        self.outer: Recorder = outer
        self.changed: dict[tuple, Array] = {}  # the earlier arrays that it may write
        self.is_refused = False
        self.is_stale = False  # whether an earlier value was copied, so that the body must be recorded again
        self._runner = device.runner()

    def refuse(self, reason: str) -> None:
        """Stop the recording of the body."""
        self.is_refused = True  # code of users may catch the exception
        raise UnrecordableError(reason)

    def value_read(self, what: str = "a value was read") -> None:
        self.refuse(what)

    def before_replays(self, function: Callable[[], None]) -> None:
        self.refuse("the body computes values in Python")

    def wrote(self, described: Iterable) -> None:
        self.changed.update((_key(each), each) for each in described if isinstance(each, device.ARRAYS))

    def knows(self, array: Array) -> bool:
        return super().knows(array) or self.outer.knows(array)

    def _describe(self, function: Callable, array: Array) -> Any:
        if self.buffer_of(array) is None and self.outer.knows(array):
            return device.plain(array)
        return super()._describe(function, array)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record the launches of the block without running them."""
        with device.run_by(OnlyConstants()), device.always(), device.record(self):
            yield

    @contextlib.contextmanager
    def interrupted(self, by: Recorder) -> Iterator[None]:
        """Record the block into the enclosing program `by`, so that its launches run before the loop."""
        self.is_stale = True
        if by is self.outer:
            with device.run_by(self._runner), device.record(by):
                yield
        else:
            with self.outer.interrupted(by):  # type: ignore[attr-defined]
                yield

    def plainly(self) -> temporarily:
        """In the block, launches are not noted as writing earlier arrays."""
        return temporarily(self, _in_op=True)

    def end(self) -> None:
        """Note that the arrays of the body have no values outside of it."""
        known = (self.inner_arrays | self._alive).items()
        self.outer.inner_arrays.update((key, each) for key, each in known if each[0]() is not None)

    def take(self) -> Launches:
        """The launches that were recorded since the last call."""
        taken, self._recorded = self._recorded, []
        return taken

    @property
    def sizes(self) -> list[int]:
        """The bytes of each buffer."""
        return self._sizes


def _key(array: Array) -> tuple:
    return device.address(array), array.shape, array.strides, array.dtype


class _Planned(NamedTuple):
    """A loop, the bytes of its arena, and the arrays that it gets after the arena, instead of buffers of its program."""

    loop: Loop
    nbytes: int
    arguments: list[Ref]


# A planned loop, and the earlier arrays that it gets after its other arguments. Only the plan is kept: arrays can be freed.
_Use = tuple[_Planned, list[Array]]


class _Body:
    """The body of a loop while it is recorded."""

    def __init__(
        self, name: str, carries: list[Tensor], xs: list[Tensor], limit: int | None, reverse: bool, varies: bool
    ):
        outer: Any = device.recorder()
        self.name, self.inner, self.carries, self.xs = name, _Inner(outer), carries, xs
        self.limit, self.varies = _ENDLESS if limit is None else limit, varies
        self.last = self.limit - 1 if reverse else -1
        self.condition: Launches = []
        self.rereads: dict[int, tuple] = {}  # buffer of a slice: the launch that reads it
        self.stacked: set[int] = set()  # buffers of arguments that launches use as rows of bytes
        self.flag: Array | None = None

    # -------------------- recording --------------------

    def record(self, body: Callable, condition: Callable | None) -> None:
        tapes = (tape.GradientRecording(),) if tape.is_recording() else ()
        with self.inner.recording(), tape.thread.now(tapes=tapes):
            self._record_forward(body, condition, bool(tapes))
            within: Any = next(iter(tapes), None)
            self.sources = self._sources(within) if tapes else []
            self.needs_gradient = any(t.record is not None for t in (*self.carries, *self.xs)) or bool(self.sources)
            if self.needs_gradient:
                if self.limit == _ENDLESS:
                    raise UnrecordableError("gradients need the maximum number of iterations")
                with tape.thread.now(tapes=()):
                    self._record_backward(within)

    def _record_forward(self, body: Callable, condition: Callable | None, has_tape: bool) -> None:
        inner = self.inner
        with inner.plainly():
            self.counter = device.empty((1,), np.int64)
            self.held = [device.empty(each.shape, each.dtype) for each in self.carries]
        if condition is not None:
            with tape.thread.now(tapes=()):
                found = condition([Tensor(array) for array in self.held])
            with inner.plainly():
                self.flag = device.empty((1,), np.int64)
                device.launch(device.copy, found.data.reshape(1), self.flag)
            self.condition = inner.take()
        self.leaves = [tape.leaf("carry") if has_tape and each.dtype.kind == "f" else None for each in self.carries]
        self.x_leaves = [None if each.record is None or not has_tape else tape.leaf("x") for each in self.xs]
        slices = [self._slice(each.data) for each in self.xs]
        values = [Tensor(array, leaf) for array, leaf in zip(self.held, self.leaves, strict=True)]
        parts = [Tensor(array, leaf) for array, leaf in zip(slices, self.x_leaves, strict=True)]
        new, results = body(Tensor(self.counter.reshape(())), values, parts)
        for number, (before, after) in enumerate(zip(self.carries, new, strict=True)):
            if (before.shape, before.dtype) != (after.shape, after.dtype):
                raise ChangedError(number, (before.shape, before.dtype), (after.shape, after.dtype))
        self.new, self.results = new, results
        with inner.plainly():
            moved = [self._moved(each.data, held, self.held) for each, held in zip(new, self.held, strict=True)]
            self.outputs = [self._written_row(each.data) for each in results]
        # The body's Records keep what it overwrites, for the backward pass of the same iteration.
        copy_on_write.will_write(*inner.changed.values())
        self.forward = inner.take()
        with inner.plainly():
            for source, held in zip(moved, self.held, strict=True):
                if source is not held:
                    device.launch(device.copy, source, held)
            self.updates = inner.take()
            last = [self._argument(each.shape, each.dtype) for each in self.carries]
            for array, each in zip(self.held, self.carries, strict=True):
                device.launch(device.copy, each.data, array)
            for output in self.outputs:
                if self.varies:
                    device.launch(device.fill, output[1], 0)
            self.before = inner.take()
            for array, (_, stand_in) in zip(self.held, last, strict=True):
                device.launch(device.copy, array, stand_in)
            self.after = inner.take()
        self.last_values = last

    def _slice(self, rows: Array) -> Array:
        """A launch that copies the iteration's row of an array, and the copy."""
        row = device.empty(rows.shape[1:], rows.dtype)
        if row.size:
            with self.inner.plainly():
                source = control.rows_of(rows, rows.shape[0])
                device.launch(control.read_row, source, self.counter, self.last, control.rows_of(row, 1))
            self.rereads[self._buffer(row)] = self.inner._recorded[-1]
        return row

    def _buffer(self, array: Array) -> int:
        return self.inner.buffer_of(array)  # type: ignore[return-value]  # it is an array of the body

    def _moved(self, array: Array, own: Array, held: list[Array]) -> Array:
        """An array that later writes to `held` do not change: a copy of another held value, else the array itself."""
        array = device.plain(array)
        if _key(array) == _key(device.plain(own)):
            return own
        if self.inner.buffer_of(array) not in {self._buffer(each) for each in held}:
            return array
        copy = device.empty(array.shape, array.dtype)
        device.launch(device.copy, array, copy)
        return copy

    def _argument(self, shape: tuple, dtype: Any) -> tuple[Ref, Array]:
        """An array that the loop is given, and its stand-in for launches."""
        stand_in = device.empty(shape, dtype)
        return Ref.contiguous(self._buffer(stand_in), 0, shape, stand_in.dtype), stand_in

    def _rows(self, row: Array) -> tuple[Ref, Array]:
        """An array with a row for each iteration, and the stand-in of its rows."""
        form = control.rows_of(row, 1)
        stand_in = device.empty(form.shape, form.dtype)
        self.stacked.add(self._buffer(stand_in))
        return Ref.contiguous(self._buffer(stand_in), 0, (self.limit, *row.shape), row.dtype), stand_in

    def _written_row(self, row: Array) -> tuple[Ref, Array]:
        """An array whose row of this iteration a launch writes."""
        row = device.contiguous(row)
        argument, stand_in = self._rows(row)
        if row.size:
            device.launch(control.write_row, control.rows_of(row, 1), self.counter, self.last, stand_in)
        return argument, stand_in

    def _sources(self, within: tape.GradientRecording) -> list:
        """The tensors with gradients that the body takes from outside: their sources, with shapes and dtypes."""
        own = {(leaf, 0) for leaf in (*self.leaves, *self.x_leaves) if leaf is not None}
        returned = [each for each in (*self.new, *self.results) if each.record is not None]
        made, given = [], {}
        for each in returned:
            if each.record.vjp is not None and within in each.record.tapes:
                made.append(each)
            else:
                given[each.record, each.index] = each.shape, each.dtype
        found: dict = given | dict(tape.boundary(made, within))
        return [(source, form) for source, form in found.items() if source not in own]

    def _record_backward(self, within: tape.GradientRecording) -> None:
        inner = self.inner
        with inner.plainly():
            self.d_held = [
                device.empty(a.shape, a.dtype) for a, leaf in zip(self.held, self.leaves, strict=True) if leaf
            ]
            self.dys, slices = [], []
            for each in self.results:
                if each.dtype.kind == "f":
                    slices.append(device.empty(each.shape, each.dtype))
                    self.dys.append(self._rows(slices[-1]))
                    if each.size:
                        row = control.rows_of(slices[-1], 1)
                        device.launch(control.read_row, self.dys[-1][1], self.counter, self.last, row)
        floats = [each for each in (*self.new, *self.results) if each.dtype.kind == "f"]
        targets = [
            ((each.record, each.index), dy)
            for each, dy in zip(floats, (*self.d_held, *slices), strict=True)
            if each.record is not None
        ]
        wanted = [(leaf, 0) for leaf in (*self.leaves, *self.x_leaves) if leaf is not None]
        gradients = tape.backward(targets, [*wanted, *(source for source, _ in self.sources)], within=within)
        own, of_xs = len(self.d_held), sum(leaf is not None for leaf in self.x_leaves)
        with inner.plainly():
            moved = [
                None if each is None else self._moved(each, held, self.d_held)
                for each, held in zip(gradients[:own], self.d_held, strict=True)
            ]
            self.dxs: list[tuple[Ref, Array]] = []
            for x in (x for x, leaf in zip(self.xs, self.x_leaves, strict=True) if leaf is not None):
                gradient = gradients[own + len(self.dxs)]
                row = device.empty(x.shape[1:], x.dtype) if gradient is None else device.contiguous(gradient)
                self.dxs.append(self._rows(row) if gradient is None else self._written_row(row))
            self.sums = [self._argument(*form) for _, form in self.sources]
            for (_, total), gradient in zip(self.sums, gradients[own + of_xs :], strict=True):
                if gradient is not None:
                    device.launch(np.add, total, gradient, total)
            self.backward = inner.take()
            for source, held in zip(moved, self.d_held, strict=True):
                if source is None:
                    device.launch(device.fill, held, 0)
                elif source is not held:
                    device.launch(device.copy, source, held)
            self.d_updates = inner.take()
            self.d_last = [self._argument(a.shape, a.dtype) for a in self.d_held]
            for held, (_, given) in zip(self.d_held, self.d_last, strict=True):
                device.launch(device.copy, given, held)
            whole = gradients[own : own + of_xs]
            for (_, rows), gradient in zip(self.dxs, whole, strict=True):
                if self.varies or gradient is None:
                    device.launch(device.fill, rows, 0)
            for _, total in self.sums:
                device.launch(device.fill, total, 0)
            self.d_before = inner.take()
            self.d_first = [self._argument(a.shape, a.dtype) for a in self.d_held]
            for held, (_, last) in zip(self.d_held, self.d_first, strict=True):
                device.launch(device.copy, held, last)
            self.d_after = inner.take()

    # -------------------- planning --------------------

    def planned(self, count: Array | None) -> tuple[_Use, _Use | None]:
        """The loop, and the loop of the backward pass."""
        inner, internal, saving, restoring = self.inner, [], [], []
        kept, size = self._kept() if self.needs_gradient else ({}, 0)
        done: Array | None = None
        with inner.recording(), inner.plainly():
            if self.needs_gradient and self.varies:
                internal.append(self._argument((1,), np.int64))
                done = internal[0][1]
            if size:
                region = device.empty((size,), np.uint8)
                row, history = control.rows_of(region, 1), self._rows(region)
                internal.append(history)
                device.launch(control.write_row, row, self.counter, -1, history[1])
                saving = inner.take()
                device.launch(control.read_row, history[1], self.counter, -1, row)
                restoring = inner.take()
                start = self._buffer(region)
                kept = {buffer: (start, offset) for buffer, offset in kept.items()}
        forward = self._loop(
            self.name,
            Parts(
                self.before, self.condition, self._in_place([*self.forward, *saving], self.updates, kept), self.after
            ),
            [*self.last_values, *self.outputs, *internal],
            [*self.held, *([] if self.flag is None else [self.flag])],
            kept,
            {"flag": self.flag, "count": count, "done": done},
        )
        if not self.needs_gradient:
            return forward, None
        again = [launch for buffer, launch in self.rereads.items() if buffer in _buffers(self.backward)]
        backward = self._loop(
            f"{self.name} backward",
            Parts(
                self.d_before,
                [],
                self._in_place([*restoring, *again, *self.backward], self.d_updates, kept),
                self.d_after,
            ),
            # the gradients, what the forward loop made, and the gradients of the outputs
            [*self.d_first, *self.dxs, *self.sums, *internal, *self.d_last, *self.dys],
            self.d_held,
            kept,
            {"count": done, "backwards": True},
        )
        return forward, backward

    def _in_place(self, launches: Launches, updates: Launches, kept: dict[int, Any]) -> Launches:
        """The launches of an iteration. A new value is computed in the memory of the old one if the old one is read before."""
        lives = recorder.lifetimes(launches, [])
        renamed: dict[int, int] = {}
        rest = []
        for update in updates:
            source, target = update[1]
            if (
                isinstance(source, Ref)
                and isinstance(target, Ref)  # else the update fills an array with a number
                and source == target._replace(memory=source.memory)
                and self.inner.sizes[source.memory] == self.inner.sizes[target.memory]
                and not {source.memory, target.memory} & (kept.keys() | renamed.keys())
                and lives.get(source.memory, (-1, -1))[0] > lives.get(target.memory, (-1, -1))[1]
            ):
                renamed[source.memory] = target.memory
            else:
                rest.append(update)

        def named(arg: Any) -> Any:
            return arg._replace(memory=renamed.get(arg.memory, arg.memory)) if isinstance(arg, Ref) else arg

        return [(function, tuple(map(named, args))) for function, args in (*launches, *rest)]

    def _kept(self) -> tuple[dict[int, Any], int]:
        """The buffers that the backward pass of an iteration reads, with their offsets in a row, and the bytes of a row."""
        made = _buffers([*self.condition, *self.forward])
        read = _buffers(self.backward) - {self._buffer(self.counter)} - self.rereads.keys()
        kept, size = {}, 0
        for buffer in sorted(made & read):
            kept[buffer] = size
            size += -(-self.inner.sizes[buffer] // device.ALIGNMENT) * device.ALIGNMENT
        return kept, size

    def _loop(
        self,
        name: str,
        parts: Parts,
        arguments: list[tuple[Ref, Array]],
        held: list[Array],
        kept: dict[int, tuple[int, int]],
        options: dict[str, Any],
    ) -> _Use:
        """Plan the memory of a loop.

        held: arrays that keep their values from iteration to iteration. kept: buffers that are parts of another one, and their
        offsets in it. options: of the Loop, with arrays in place of Refs.
        """
        inner = self.inner
        given = {argument.memory: number for number, (argument, _) in enumerate(arguments, 1)}
        lasting = {self._buffer(each) for each in (self.counter, *held)} | {start for start, _ in kept.values()}
        lasting |= _buffers(parts.condition) & _buffers(parts.body)
        views = [Ref(buffer, 0, (), (), np.dtype(np.uint8)) for buffer in lasting | given.keys() | kept.keys()]
        fused = Parts(*(recorder.fused(recorder.without_unread_copies(part, views), views) for part in parts))
        launches = [*fused.condition, *fused.body]
        lives = recorder.lifetimes(launches, [])
        lives.update(dict.fromkeys(lasting, (0, len(launches))))
        for buffer in (*given, *kept):
            lives.pop(buffer, None)
        offsets, nbytes = recorder.plan(inner.sizes, lives)
        captured: dict[tuple, tuple[int, Array]] = {}

        def place(each: Any) -> Any:
            if isinstance(each, device.ARRAYS):
                number, _ = captured.setdefault(_key(each), (1 + len(arguments) + len(captured), each))
                return Ref(number, 0, each.shape, each.strides, each.dtype)
            if not isinstance(each, Ref):
                return each
            if (number := given.get(each.memory, 0)) > 0:
                rows = arguments[number - 1][0].shape[:1]
                shape = (*rows, each.shape[1]) if each.memory in self.stacked else each.shape
                return Ref(number, each.offset, shape, each.strides, each.dtype)
            start, offset = kept.get(each.memory, (each.memory, 0))
            return Ref(0, offsets[start] + offset + each.offset, each.shape, each.strides, each.dtype)

        def placed(option: Any) -> Any:
            return place(inner.describe([option])[0]) if isinstance(option, device.ARRAYS) else option

        placed_parts = Parts(*([(function, tuple(map(place, args))) for function, args in part] for part in fused))
        chosen = {key: placed(option) for key, option in options.items()}
        loop = Loop(name, placed_parts, self.limit, placed(self.counter), **chosen)
        plan = _Planned(loop, nbytes, [argument for argument, _ in arguments])
        return plan, [each for _, each in captured.values()]


def _buffers(launches: Launches) -> set[int]:
    return {arg.memory for _, args in launches for arg in args if isinstance(arg, Ref)}


# -------------------- the op --------------------


def recorded(
    name: str,
    body: Callable,
    carries: Sequence[Tensor],
    xs: Sequence[Tensor] = (),
    limit: int | None = None,
    count: Tensor | None = None,
    condition: Callable | None = None,
    reverse: bool = False,
) -> Recorded:
    """Record the body of a loop: carries, results = body(number, carries, slices) in each iteration. Nothing is computed.

    name: of the loop, for messages and profiles. body: gets the number of the iteration, a tensor, and returns two lists of
    tensors. xs: tensors whose row of the iteration the body gets. limit: the most iterations; None for no limit. count: an int64
    tensor of shape (1,), the number of iterations up to `limit`. condition: takes the carries and returns a bool tensor of one
    element; the loop ends when it is false. reverse: whether the rows of xs and results are used from the last one on.

    Raises UnrecordableError or ChangedError if the body cannot be recorded.
    """
    carries = [tensor.value_of(each) for each in carries]
    xs = [each if each.data.flags.c_contiguous else tensor.copied(each) for each in map(tensor.value_of, xs)]
    varies = count is not None or condition is not None
    while True:
        found = _Body(name, carries, xs, limit, reverse, varies)
        try:
            found.record(body, condition)
        except Exception:
            if found.inner.is_refused:
                raise UnrecordableError from None
            raise
        finally:
            found.inner.end()
        if not found.inner.is_stale:
            return Recorded(found, count)


class Recorded:
    """The recorded body of a loop. forms: the shapes and dtypes of the body's results."""

    def __init__(self, body: _Body, count: Tensor | None):
        self._body, self._count = body, count
        self.forms = [(each.shape, each.dtype) for each in body.results]

    def apply(self) -> tuple[list[Tensor], list[Tensor]]:
        """Make the loop an op of the step: it runs now, and in each replay.

        Returns the last carries, and the results of all iterations as rows of new tensors. Rows of iterations that do not run
        are 0.
        """
        forward, backward = self._body.planned(None if self._count is None else self._count.data)
        outer: Any = device.recorder()
        outer.depend_like(self._body.inner)
        return _applied(self._body, forward, backward)


def _applied(body: _Body, forward: _Use, backward: _Use | None) -> tuple[list[Tensor], list[Tensor]]:
    plan, captured = forward
    of_backward = [] if backward is None else backward[1]
    inputs = {_key(each): each for each in (*captured, *of_backward, *body.inner.changed.values())}
    order = {key: number for number, key in enumerate(inputs)}
    use = [order[_key(each)] for each in captured]
    results = len(body.last_values) + len(body.outputs)

    def loop(*arrays: Array) -> tuple:
        made = [device.empty(each.shape, each.dtype) for each in plan.arguments]
        arena = device.empty((max(plan.nbytes, 1),), np.uint8)
        device.launch(plan.loop, arena, *made, *(arrays[number] for number in use))
        plan.loop.forget()
        return tuple(made[:results]), (tuple(made[results:]), arrays)

    loop.__name__ = body.name
    changed = [order[key] for key in body.inner.changed]
    if changed:
        loop.changes_inputs = changed  # type: ignore[attr-defined]
    outputs, saved = recorder.compute(loop, list(inputs.values()), {})
    record = None
    if backward is not None:
        record = _record(body, backward[0], [order[_key(each)] for each in of_backward], saved, list(inputs.values()))
    made = [
        Tensor(each, record if each.dtype.kind == "f" and record is not None else None, number)
        for number, each in enumerate(outputs)
    ]
    return made[: len(body.last_values)], made[len(body.last_values) :]


def _record(body: _Body, plan: _Planned, use: list[int], saved: Any, inputs: list[Array]) -> tape.Record:
    """The loop's Record. Its parents are the carries and xs with gradients, and the tensors that the body takes from outside.

    use: the numbers of the inputs that the backward loop gets.
    """
    given = [each for each, leaf in zip(body.carries, body.leaves, strict=True) if leaf is not None]
    given += [each for each, leaf in zip(body.xs, body.x_leaves, strict=True) if leaf is not None]
    parents = [None if each.record is None else (each.record, each.index) for each in given]
    parents += [source for source, _ in body.sources]
    forms = [(each.shape, each.dtype) for each in given] + [form for _, form in body.sources]
    values = [*body.carries, *body.results]
    numbers = [number for number, each in enumerate(values) if each.dtype.kind == "f"]

    def vjp(saved: Any, dy: Any, needs: tuple) -> tuple:
        (internal, arrays), dys = saved, dy if isinstance(dy, tuple) else (dy,)
        made = [device.output(need, *form) for need, form in zip(needs, forms, strict=True)]
        rest = plan.arguments[len(made) + len(internal) :]
        incoming = [_filled(dys[number], each) for number, each in zip(numbers, rest, strict=True)]
        arena = device.empty((max(plan.nbytes, 1),), np.uint8)
        device.launch(plan.loop, arena, *made, *internal, *incoming, *(arrays[number] for number in use))
        plan.loop.forget()
        return tuple(None if need is False else each for need, each in zip(needs, made, strict=True))

    outputs = len(body.last_values) + len(body.outputs)
    record = tape.Record(body.name, vjp, saved, tuple(parents), tuple(forms), outputs, layer_stack.layer)
    record.holds(inputs)
    return record


def _filled(dy: Array | None, form: Ref) -> Array:
    """The gradient of an output, contiguous; zeros if there is none."""
    if dy is not None:
        return device.contiguous(dy)
    zeros = device.empty(form.shape, form.dtype)
    device.launch(device.fill, zeros, 0)
    return zeros
