"""Floor 1: Recorder, which records a function while it runs, as a Program.

It notes every buffer and every launch. `sealed` then places the buffers in one arena by first and last use.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import copy_on_write, settings
from nbkeras.engine.layer_stack import LayerScope, layer_stack
from nbkeras.engine.program import ARENA, INPUT, LIVE, PREPARED, Buffer, Memory, Program
from nbkeras.engine.user_errors import user_line
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.messages import named, short_description
from nbkeras.kernels.runtime.ref import Ref

Array = np.ndarray


class OpCall(NamedTuple):
    """An op that a step called, or a launch outside of ops (outputs None). Arrays are described as in launches."""

    function: Callable
    inputs: tuple
    constants: dict[str, Any]
    outputs: tuple | None
    place: LayerScope


def _made_outside(who: str, array: Array) -> RuntimeError:
    return RuntimeError(
        f"{who} an array of shape {array.shape} and dtype {array.dtype} that was made outside device.empty and "
        "device.persistent: computed by NumPy outside a launch, it would be stale on replay. Make it with "
        "device.empty(shape, dtype) and fill it by device.launch(kernel, ...); a constant is device.persistent(array)"
    )


def adopt(array: Array | None) -> Array | None:
    """Returns the array. If it was made before the current recording began, it becomes a constant of the program."""
    recorder = device.recorder()
    if recorder is not None and array is not None and not recorder.knows(array):
        device.persistent(array)
    return array


def compute(op: Callable, arrays: Sequence[Array | None], constants: dict[str, Any]) -> tuple[Any, Any]:
    """Returns (outputs, saved) of an op of the kernels. An op whose inputs are all constants runs now and is not replayed."""
    if hasattr(op, "changes_inputs"):
        copy_on_write.will_write(*(arrays[number] for number in op.changes_inputs))
    if device.is_plain():
        return _pair(op, op(*arrays, **constants))
    recorder = device.recorder()
    if recorder is None and not device.is_dry():
        return _pair(op, op(*arrays, **constants))
    if arrays and all(map(device.is_readable_constant, arrays)):
        with device.ordinary(), device.on(device.gpu_of(arrays[0])):
            y, saved = _pair(op, op(*arrays, **constants))
        device.mark_constant(*y if isinstance(y, tuple) else (y,))
        return y, saved
    inputs = tuple(device.unread(adopt(array)) for array in arrays)
    if recorder is None:
        return _pair(op, op(*inputs, **constants))
    y, saved = _pair(op, recorder.called(op, inputs, (), constants))
    if recorder.reason is None:
        for array in y if isinstance(y, tuple) else (y,):
            if not recorder.knows(array):
                raise _made_outside(f"the op {named(op)} returned", array)
    return y, saved


def _pair(op: Callable, returned: Any) -> tuple[Any, Any]:
    """Returns the pair that an op returned. Raises TypeError if it is not (y, saved)."""
    if type(returned) is not tuple or len(returned) != 2:
        raise TypeError(
            f"the op {named(op)} must return (y, saved): its output array or a tuple of them, and what its vjp needs, or "
            f"None. Received {short_description(returned)}: write `return y, None` if the vjp needs nothing"
        )
    if type(returned[0]) is np.ndarray:
        return returned
    for array in returned[0] if isinstance(returned[0], tuple) else returned[:1]:
        if not isinstance(array, device.ARRAYS):
            raise TypeError(
                f"the op {named(op)} must return arrays of device.empty as its outputs, received {short_description(array)}"
            )
    return returned


class OnlyConstants:
    """Runs only launches on constants and none that is recorded, so that a recording changes nothing."""

    def run(self, function: Callable, args: tuple) -> None:
        if device.recorder() is None:
            device.run(function, args)


class PreparationRecorder:
    """Records the launches of a program that depend only on weights, in blocks of `device.preparing`."""

    reason = None

    def __init__(self) -> None:
        self.launches: list[tuple[Callable, tuple]] = []
        self.made: list[Array] = []  # the arrays that it made, which keep their values between runs
        self.read: set[int] = set()  # ids of the owners of the weights
        self._own: set[int] = set()  # ids of the owners of the arrays that it made

    def allocated(self, array: Array) -> Array:
        array = device.persistent_empty(array.shape, array.dtype)
        self._own.add(id(device.root(array)))
        self.made.append(array)
        return array

    def called(self, function: Callable, inputs: tuple, rest: tuple, constants: dict[str, Any]) -> Any:
        return function(*inputs, *rest, **constants)

    def launched(self, function: Callable, args: tuple) -> None:
        self.read |= {id(device.root(arg)) for arg in args if isinstance(arg, device.ARRAYS)} - self._own
        self.launches.append((function, args))

    def value_read(self) -> None:
        raise device.ValueReadError("a value was read while weights are prepared")

    def knows(self, array: Array) -> bool:
        """Whether programs may read an array: always True."""
        return True


class Recorder:
    """Records one run of a function, in a block `device.record(recorder)`.

    changing: ids of arrays that are not weights. preparation: records what depends only on weights.
    """

    outer: Recorder | None = None  # the recorder of the program that this one's program is a part of
    nests = True  # whether loops become programs in it; if not, they are unrolled
    launches_wait = True  # whether launches may wait for their code while it records: nothing reads values then

    def __init__(self, changing: Collection[int] = (), preparation: PreparationRecorder | None = None) -> None:
        self.reason: str | None = None  # why the function cannot be replayed
        # ids of the earlier arrays and the objects that the recording used
        self.depends: set[int] = {id(settings.values)}
        self._owners: dict[
            int, Array
        ] = {}  # those of the earlier arrays, by id: an id is used again when its object is freed
        self.outdated = False  # whether one of them has changed
        self.calls: list[OpCall] = []
        self.has_gradients = False  # whether a vjp was called, whose launches are not in `calls`
        self.written: set[int] = set()  # ids of earlier arrays that it may write
        self.place: LayerScope | None = None  # the layer of the next launches; None: this thread's current layer
        self.inner_arrays: dict[int, tuple[weakref.ref, int]] = {}  # arrays of recorded bodies, which have no values
        self._preparation, self._changing = preparation, changing
        self._in_op = False
        self._before: list[Callable[[], None]] = []  # called before each replay
        self._recorded: list[tuple[Callable, tuple]] = []
        self._places: dict[int, LayerScope] = {}  # id of a recorded launch's arguments: its layer
        self._sizes: list[int] = []
        self._alive: dict[int, tuple[weakref.ref, int]] = {}

    # Called by runtime/device.py while recording. Only descriptions of arrays are kept, so that their memory can be freed.

    def allocated(self, array: Array) -> Array:
        self._alive[id(array)] = (weakref.ref(array), len(self._sizes))
        self._sizes.append(array.nbytes)
        return array

    def called(self, function: Callable, inputs: tuple, rest: tuple, constants: dict[str, Any]) -> Any:
        if self._in_op or self.reason is not None:
            return function(*inputs, *rest, **constants)
        self.has_gradients = self.has_gradients or bool(rest)
        described = tuple(self._known(function, array) for array in inputs)
        self.wrote(described[number] for number in getattr(function, "changes_inputs", ()))
        self._in_op = True
        try:
            result = function(*inputs, *rest, **constants)
        finally:
            self._in_op = False
        if not rest and type(result) is tuple and self.reason is None:  # an op, not a vjp
            outputs = result[0] if isinstance(result[0], tuple) else result[:1]
            if all(isinstance(array, device.ARRAYS) and self.knows(array) for array in outputs):
                own = tuple(self._describe(function, array) for array in outputs)
                self.calls.append(OpCall(function, described, constants, own, (self.place or layer_stack.place())))
        return result

    def launched(self, function: Callable, args: tuple) -> None:
        if self.reason is not None:
            return
        described = tuple(self._known(function, arg) for arg in args)
        self._recorded.append((function, described))
        self._places[id(described)] = self.place or layer_stack.place()
        if not self._in_op:
            self.wrote(described)
            self.calls.append(OpCall(function, described, {}, None, (self.place or layer_stack.place())))

    def depend_like(self, other: Recorder) -> None:
        """Depend on all that another recorder depends on.

        Args:
            other: The recorder.
        """
        self.depends |= other.depends
        self._owners |= other._owners

    def wrote(self, described: Iterable) -> None:
        """Note that the step may write the earlier arrays among these descriptions.

        Args:
            described: Descriptions of arguments.
        """
        self.written.update(id(device.root(each)) for each in described if isinstance(each, device.ARRAYS))

    def _known(self, function: Callable, arg: Any) -> Any:
        return self._describe(function, arg) if isinstance(arg, device.ARRAYS) else arg

    def preparation_of(self, arrays: Sequence[Array | None]) -> PreparationRecorder | None:
        """The preparation, if there is one and these arrays are all weights or prepared arrays; for `device.prepared`.

        Args:
            arrays: The arrays; None counts as a weight.
        """
        if self._preparation is None or not all(a is None or self._is_weight(a) for a in arrays):
            return None
        return self._preparation

    def _is_weight(self, array: Array) -> bool:
        owner = device.root(array)
        return array.size == 0 or (device.is_persistent(owner) and id(owner) not in self._changing)

    def value_read(self, what: str = "a tensor's value was read") -> None:
        """Note that a replay would be wrong. what: what happened that it cannot repeat, a passive sentence."""
        if self.reason is None:
            device.run_waiting()
            layer = f" in layer {layer_stack.names[-1]!r}" if layer_stack.names else ""
            self.reason = f"{what}{layer}{user_line()}"
            self.calls.clear()
            self._recorded.clear()
            self._places.clear()

    def buffer_of(self, array: Array) -> int | None:
        """The number of the buffer that holds an array; None if the step did not allocate it.

        Args:
            array: The array.
        """
        owner: Any = device.root(array)
        known = self._alive.get(id(owner))
        return (
            known[1] if known is not None and known[0]() is owner else None
        )  # the id of a freed array may be used again

    def _describe(self, function: Callable, array: Array) -> Any:
        owner, buffer = device.root(array), self.buffer_of(array)
        if buffer is not None:
            return Ref(buffer, device.address(array) - device.address(owner), array.shape, array.strides, array.dtype)
        if device.is_persistent(owner) or array.size == 0:
            self.depends.add(id(owner))
            self._owners[id(owner)] = owner
            return device.plain(array)
        raise _made_outside(f"the kernel {named(function)} was given", array)

    def knows(self, array: Array) -> bool:
        """Whether programs may read an array: it was allocated in the step, or it is persistent.

        Args:
            array: The array.
        """
        if self.inner_arrays and (known := self.inner_arrays.get(id(device.root(array)))) is not None:
            if known[0]() is device.root(array):
                raise ValueError(
                    f"a tensor of shape {array.shape} that the body of a loop or branch made is used outside of it, where it has "
                    "no value: return it from the body"
                )
        return self.buffer_of(array) is not None or device.is_persistent(device.root(array)) or array.size == 0

    def describe(self, arrays: Sequence[Array]) -> list:
        """Descriptions of arrays, as in `calls`: a Ref for a buffer of the step, or the array itself if it was made earlier.

        Args:
            arrays: The arrays.
        """
        return [self._describe(Recorder.describe, array) for array in arrays]

    def has_conditions(self) -> bool:
        """Whether a launch is conditional, or Python computes values before each replay."""
        return bool(self._before) or any(isinstance(function, device.Conditional) for function, _ in self._recorded)

    def before_replays(self, function: Callable[[], None]) -> None:
        """Call a function before each replay.

        A function that is registered twice needs values from within the step, so the step cannot be replayed.

        Args:
            function: A function without arguments.
        """
        if function in self._before:
            self.value_read("a value that Python computes before each step was needed twice in a step")
        self._before.append(function)

    # Sealing

    def sealed(self, outputs: Sequence[Array], inputs: Sequence[Array] = ()) -> Program:
        """The recorded program. The recording ends.

        Args:
            outputs: The arrays that can be read after each run.
            inputs: Persistent arrays that a run may find changed: its inputs.

        Returns:
            A Program with the memory of all buffers planned.
        """
        kept = self.describe(outputs)
        recorded = without_unread_copies(self._recorded, kept)
        launches = fused(recorded, kept)
        lives = lifetimes(launches, [each for each in kept if isinstance(each, Ref)])
        offsets, nbytes = plan(self._sizes, lives)
        preparation = self._preparation
        names = _Names(offsets, nbytes, inputs, () if preparation is None else preparation.made)
        given = {id(device.root(array)) for array in inputs}
        program = Program(
            launches=[names.launch(*each) for each in launches],
            layers=_places(self._places, recorded, launches),
            inputs=[names.ref(array) for array in inputs],
            outputs=[names.ref(each) for each in kept],
            memories=names.memories,
            arrays=names.arrays,
            buffers=[Buffer(offsets[b], self._sizes[b], *lives[b]) for b in lives],
            written=frozenset(self.written),
            depends=self.depends - given,
            held=[owner for key, owner in self._owners.items() if key not in given],
            before=tuple(self._before),
            gpu=device.gpu(),
            outdated=self.outdated,
        )
        if preparation is not None:
            program.prepares = [names.launch(*each) for each in preparation.launches]
            program.prepared_from = preparation.read
            program.depends |= preparation.read
        self._recorded, self._alive, self._sizes, self._places, self.calls = [], {}, [], {}, []
        return program


class _Names:
    """Gives each array of a recording its Ref in the program."""

    def __init__(self, offsets: list[int], nbytes: int, inputs: Sequence[Array], prepared: Sequence[Array]):
        self.memories = [Memory(ARENA, nbytes)]
        self.arrays: dict[Ref, Array] = {}  # the arrays of memory that the program does not own
        self._offsets = offsets
        # id of an owner: the number of its memory, and the address where it starts
        self._known: dict[int, tuple[int, int]] = {}
        for kind, owned in ((INPUT, inputs), (PREPARED, prepared)):
            for array in owned:
                self._add(kind, array)

    def _add(self, kind: str, array: Array) -> tuple[int, int]:
        self.memories.append(Memory(kind, array.nbytes))
        known = len(self.memories) - 1, device.address(array)
        self._known[id(device.root(array))] = known
        return known

    def launch(self, function: Callable, args: tuple) -> tuple[Callable, tuple]:
        return function, tuple(map(self.ref, args))

    def ref(self, arg: Any) -> Any:
        """The Ref of a buffer or an array; other arguments as they are."""
        if isinstance(arg, Ref):
            return arg._replace(memory=0, offset=self._offsets[arg.memory] + arg.offset)
        if not isinstance(arg, device.ARRAYS):
            return arg
        if not arg.size:
            return Ref(0, 0, arg.shape, arg.strides, arg.dtype)
        owner = device.root(arg)
        number, start = self._known.get(id(owner)) or self._add(LIVE, owner)
        ref = Ref(number, device.address(arg) - start, arg.shape, arg.strides, arg.dtype)
        if self.memories[number].kind == LIVE:
            self.arrays.setdefault(ref, arg)
        return ref


def without_unread_copies(recorded: list, kept: list) -> list:
    """The launches without unread copies: a copy kept a value from being overwritten, but nothing used it afterwards."""
    users = Counter(arg.memory for _, args in recorded for arg in args if isinstance(arg, Ref))
    users.update(view.memory for view in kept if isinstance(view, Ref))
    gpu = device.gpu()
    copy = device.copy if gpu is None else gpu.twin(device.copy)

    def is_read(target: Any) -> bool:
        return not isinstance(target, Ref) or users[target.memory] > 1

    return [(function, args) for function, args in recorded if function is not copy or is_read(args[1])]


def fused(recorded: list, kept: list) -> list:
    """The launches. On a GPU, chains of elementwise launches are fused into one."""

    def memory(arg: Any) -> Any:
        if isinstance(arg, Ref):
            return arg.memory
        return ("persistent", id(device.root(arg))) if isinstance(arg, device.ARRAYS) else None

    last = {memory(arg): step for step, (_, args) in enumerate(recorded) for arg in args}
    kept_buffers = {memory(view) for view in kept}

    def needed_after(arg: Any, step: int) -> bool:
        return not isinstance(arg, Ref) or arg.memory in kept_buffers or last[arg.memory] > step

    return device.fuse(recorded, memory, needed_after)


def _places(known: dict[int, LayerScope], launches: list, steps: list) -> list[LayerScope]:
    """The layer of each step; a step fused from several launches has the layer of the first one."""
    found, position = [], 0
    numbers = {id(args): number for number, (_, args) in enumerate(launches)}
    for _, args in steps:
        position = numbers.get(id(args), position)
        found.append(known[id(launches[position][1])])
        position = min(position + 1, len(launches) - 1)
    return found


def lifetimes(recorded: list, kept: list[Ref]) -> dict[int, tuple[int, int]]:
    """For each buffer, the first and the last launch that use it. Buffers of `kept` live beyond the last launch."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, (_, args) in enumerate(recorded):
        for arg in args:
            if isinstance(arg, Ref):
                first.setdefault(arg.memory, step)
                last[arg.memory] = step
    for view in kept:
        first.setdefault(view.memory, 0)
        last[view.memory] = len(recorded)
    return {buffer: (first[buffer], last[buffer]) for buffer in first}


def plan(sizes: list[int], lives: dict[int, tuple[int, int]]) -> tuple[list[int], int]:
    """Offsets of the buffers in one arena, and the arena's size. Buffers with overlapping lifetimes share no memory.

    Greedy: the largest first, each in the lowest gap between the placed buffers with overlapping lifetimes.
    """
    offsets = [0] * len(sizes)
    order = sorted(lives, key=lambda b: (-sizes[b], b))
    # offsets and lifetimes of the buffers that have a place
    starts, ends, firsts, lasts = (np.zeros(len(order), np.int64) for _ in range(4))
    for count, buffer in enumerate(order):
        size = -(-sizes[buffer] // device.ALIGNMENT) * device.ALIGNMENT
        firsts[count], lasts[count] = first, last = lives[buffer]
        alive = np.flatnonzero((lasts[:count] >= first) & (firsts[:count] <= last))
        alive = alive[np.argsort(starts[alive], kind="stable")]
        tops = np.maximum.accumulate(np.concatenate(([0], ends[alive])))  # the end of the memory in use below each gap
        gaps = np.flatnonzero(starts[alive] - tops[:-1] >= size)
        offsets[buffer] = starts[count] = int(tops[gaps[0]] if gaps.size else tops[-1])
        ends[count] = starts[count] + size
    return offsets, int(ends.max(initial=0))


def current_recorder() -> Recorder | None:
    """The recorder of the program that this thread is recording."""
    recorder = device.recorder()
    return recorder if isinstance(recorder, Recorder) else None


def before_replays(function: Callable[[], None]) -> None:
    """Call a function now, and before each replay of the step being recorded. It computes values in Python."""
    recorder = current_recorder()
    if recorder is not None:
        recorder.before_replays(function)
    with device.ordinary():
        function()


def depend_on(*things: Any) -> None:
    """Make the program that this thread is recording, if any, depend on these objects; see `outdate`."""
    recorder = current_recorder()
    if recorder is not None:
        recorder.depends.update(map(id, things))


def is_step_recorded() -> bool:
    """Whether this thread is recording a step as a program; for gradients see `tape.is_recording`."""
    return device.recorder() is not None
