"""Floor 1: Program, a recorded function that is replayed over planned memory.

While a step runs, a Program records every buffer and every launch. `seal` then places the buffers in one arena by
first and last use, and `run` replays the launches: it walks no Python graph and allocates nothing.

A program depends on the arrays and objects of its recording. `outdate` reports that some were replaced or changed: it drops
the programs that depend on them, and their steps are recorded again.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import copy_on_write, settings
from nbkeras.engine.layer_stack import LayerScope, layer_stack
from nbkeras.engine.user_errors import user_line
from nbkeras.kernels.runtime import cache, cache_files, cgroups, device, fork_safety, processor, threads
from nbkeras.kernels.runtime.messages import named, short_description

Array = np.ndarray
profile = device.profile  # `with nbkeras.profile() as p: ...; print(p)`: launches by kernel, counted and timed
Profile = device.Profile
set_threads, get_threads, usable_processors = threads.set_threads, threads.get_threads, cgroups.usable_processors
compilations = cache.compilations  # `with compilations(listener):` calls listener() before each compilation
SPARE_KERNELS = cache_files.SPARE  # the variable with a folder for kernels that cannot be kept elsewhere
variables_of, PROCESSOR_LEVELS, processor_levels = processor.variables_of, tuple(processor.LEVELS), processor.levels


class View(NamedTuple):
    """The position of an argument in a planned buffer; it does not hold the array itself."""

    buffer: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype

    @classmethod
    def contiguous(cls, buffer: int, offset: int, shape: tuple, dtype: np.dtype) -> View:
        """The position of a C-contiguous array.

        Args:
            buffer: The buffer that holds it.
            offset: Its first byte in the buffer.
            shape: Its shape.
            dtype: Its dtype.
        """
        strides = tuple(np.cumprod((dtype.itemsize, *shape[:0:-1]))[::-1].tolist())
        return cls(buffer, offset, shape, strides, dtype)

    def is_contiguous(self) -> bool:
        """Whether the array is C-contiguous."""
        step = self.dtype.itemsize
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != step:
                return False
            step *= n
        return True


class OpCall(NamedTuple):
    """An op that a step called, or a launch outside of ops (outputs None). Arrays are described as in launches."""

    function: Callable
    inputs: tuple
    constants: dict[str, Any]
    outputs: tuple | None
    place: LayerScope


class Buffer(NamedTuple):
    """An array of the arena: its bytes, and the first and the last launch that use it."""

    offset: int
    nbytes: int
    first: int
    last: int


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


class Preparation:
    """The launches of a program that depend only on weights. They run again after a weight may have been written.

    It records the launches in `device.preparing`, as a Program does. Its arrays keep their values between runs.
    """

    def __init__(self) -> None:
        self.stale, self.reason = False, None
        self.nbytes = 0  # bytes of its arrays
        self.steps: list[tuple[Callable, tuple]] = []
        self._own: set[int] = set()  # ids of the owners of its arrays
        self._read: set[int] = set()  # ids of the owners of the weights
        self._replay: Any = None

    def allocated(self, array: Array) -> Array:
        array = device.persistent_empty(array.shape, array.dtype)
        self._own.add(id(device.root(array)))
        self.nbytes += array.nbytes
        return array

    def called(self, function: Callable, inputs: tuple, rest: tuple, constants: dict[str, Any]) -> Any:
        return function(*inputs, *rest, **constants)

    def launched(self, function: Callable, args: tuple) -> None:
        read = {id(device.root(arg)) for arg in args if isinstance(arg, device.ARRAYS)} - self._own - self._read
        device.watch(read, self)  # before the launch reads them: another thread may write them meanwhile
        self._read |= read
        self.steps.append((function, args))

    def value_read(self) -> None:
        raise device.ValueReadError("a value was read while weights are prepared")

    def knows(self, array: Array) -> bool:
        """Whether programs may read an array: always True."""
        return True

    def seal(self) -> set[int]:
        """End recording. Returns the ids of the owners of the arrays that it reads."""
        self._replay = device.Replayer(self.steps)
        return self._read

    def run(self) -> None:
        """Compute the values again."""
        self.stale = False  # before the replay: a write by another thread during it must set this again
        self._replay()


class Program:
    """The launches of one step for one signature, recorded by running the step once inside `device.record(program)`.

    `check_op` uses it, and `fit`; see docs/tape.md.

    Example:
        >>> from nbkeras.kernels.runtime import device
        >>> from nbkeras.testing import Program
        >>> x, program = device.persistent(np.ones(2)), Program()
        >>> with device.record(program):
        ...     y = ops.add(keras.Tensor(x), 1.0)
        >>> (result,) = program.seal([y.data])
        >>> device.write(x, np.array([5.0, 6.0]))
        >>> program.run()
        >>> result.copy()
        array([6., 7.])
    """

    outer: Program | None = None  # the program that this one is a part of
    nests = True  # whether loops become programs in it; if not, they are unrolled
    launches_wait = True  # whether launches may wait for their code while it records: nothing reads values then

    def __init__(self, changing: Collection[int] = (), preparation: Preparation | None = None) -> None:
        self.steps: list[tuple[Callable, tuple]] = []
        self.places: list[LayerScope] = []  # the layer of each step, for profiles
        self.buffers: list[Buffer] = []  # the buffers of the arena, once sealed
        self.reason: str | None = None  # why the step cannot be replayed
        # ids of the earlier arrays and the objects that the recording used
        self.depends: set[int] = {id(settings.values)}
        self.outdated = False  # whether one of them has changed
        self.nbytes = 0
        self.arena: Array = np.empty(0, np.uint8)  # the memory of all buffers, once sealed
        self.start = 0  # the address of the first buffer in it
        self.calls: list[OpCall] = []  # the recorded calls, until the program is sealed
        self.has_gradients = False  # whether a vjp was called, whose launches are not in `calls`
        self.written: set[int] = set()  # ids of earlier arrays that it may write
        self.place: LayerScope | None = None  # the layer of the next launches; None: this thread's current layer
        self._preparation, self._changing = preparation, changing  # changing: ids of arrays that are not weights
        self._in_op = False
        self._before: list[Callable[[], None]] = []  # called before each replay
        self._replay: Any = device.Replayer([])
        self._recorded: list[tuple[Callable, tuple]] = []
        self._places: dict[int, LayerScope] = {}  # id of a recorded launch's arguments: its layer
        self._sizes: list[int] = []
        self.inner_arrays: dict[int, tuple[weakref.ref, int]] = {}  # arrays of recorded bodies, which have no values
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

    def wrote(self, described: Iterable) -> None:
        """Note that the step may write the earlier arrays among these descriptions.

        Args:
            described: Descriptions of arguments.
        """
        self.written.update(id(device.root(each)) for each in described if isinstance(each, device.ARRAYS))

    def _known(self, function: Callable, arg: Any) -> Any:
        return self._describe(function, arg) if isinstance(arg, device.ARRAYS) else arg

    def preparation_of(self, arrays: Sequence[Array | None]) -> Preparation | None:
        """The preparation, if there is one and these arrays are all weights or prepared arrays; for `device.prepared`.

        Args:
            arrays: The arrays; None counts as a weight.
        """
        if self._preparation is None or not all(a is None or self._is_weight(a) for a in arrays):
            return None
        return self._preparation

    @property
    def prepared_nbytes(self) -> int:
        """The size in bytes of kept values that depend only on weights: weights in panels, transformed kernels."""
        return 0 if self._preparation is None else self._preparation.nbytes

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
            return View(buffer, device.address(array) - device.address(owner), array.shape, array.strides, array.dtype)
        if device.is_persistent(owner) or array.size == 0:
            self.depends.add(id(owner))
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
        """Descriptions of arrays, as in `calls`: a View for a buffer of the step, or the array itself if it was made earlier.

        Args:
            arrays: The arrays.
        """
        return [self._describe(Program.describe, array) for array in arrays]

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

    # Sealing and replaying

    def seal(self, outputs: list[Array], inputs: Sequence[Array] = ()) -> list[Array]:
        """Plan the memory, at the end of recording.

        Args:
            outputs: The arrays that can be read after each run.
            inputs: The arrays that `run_on` fills.

        Returns:
            The outputs' arrays in the arena.
        """
        kept = self.describe(outputs)
        launches = without_unread_copies(self._recorded, kept)
        self._recorded = fused(launches, kept)
        self.places = _places(self._places, launches, self._recorded)
        lives = lifetimes(self._recorded, [view for view in kept if isinstance(view, View)])
        offsets, size = plan(self._sizes, lives)
        self.buffers = [Buffer(offsets[b], self._sizes[b], *lives[b]) for b in lives]
        self.arena = arena = device.persistent_empty((size,), np.uint8)
        self.start = device.address(arena)
        views: dict[View, Array] = {}

        def in_arena(arg: Any) -> Any:
            if not isinstance(arg, View):
                return arg
            if arg not in views:
                at = offsets[arg.buffer] + arg.offset
                views[arg] = device.view_at(arena, at, arg.shape, arg.dtype, arg.strides)
            return views[arg]

        self.steps = [(function, tuple(in_arena(arg) for arg in args)) for function, args in self._recorded]
        placed = [in_arena(view) for view in kept]
        self._replay = device.Replayer(self.steps, inputs, placed)
        self.nbytes = size
        self._recorded, self._alive, self._sizes, self._places, self.calls = [], {}, [], {}, []
        if self._preparation is not None:
            self.depends.update(self._preparation.seal())
        return placed

    def run(self) -> None:
        """Replay the step."""
        if self._before:
            for function in self._before:
                function()
        if self._preparation is not None and self._preparation.stale:
            self._preparation.run()
        copy_on_write.will_replay(self.written)
        self._replay()
        if self.written:
            device.changed(self.written)

    def run_on(self, *arrays: Array) -> bool:
        """Replay the step in one native call: copy the inputs from arrays, and copy the outputs into the arrays after them.

        Args:
            *arrays: C-contiguous arrays of the shapes and dtypes of the inputs, then of the outputs.

        Returns:
            True if the step ran. False if the arrays do not fit or the step cannot run natively; then nothing was done.
        """
        if self._before:
            return False
        if self._preparation is not None and self._preparation.stale:
            self._preparation.run()
        if not self.written:
            return self._replay.copying(*arrays)
        copy_on_write.will_replay(self.written)
        has_run = self._replay.copying(*arrays)
        if has_run:
            device.changed(self.written)
        return has_run


def without_unread_copies(recorded: list, kept: list) -> list:
    """The launches without unread copies: a copy kept a value from being overwritten, but nothing used it afterwards."""
    users = Counter(arg.buffer for _, args in recorded for arg in args if isinstance(arg, View))
    users.update(view.buffer for view in kept if isinstance(view, View))
    gpu = device.gpu()
    copy = device.copy if gpu is None else gpu.twin(device.copy)

    def is_read(target: Any) -> bool:
        return not isinstance(target, View) or users[target.buffer] > 1

    return [(function, args) for function, args in recorded if function is not copy or is_read(args[1])]


def fused(recorded: list, kept: list) -> list:
    """The launches. On a GPU, chains of elementwise launches are fused into one."""

    def memory(arg: Any) -> Any:
        if isinstance(arg, View):
            return arg.buffer
        return ("persistent", id(device.root(arg))) if isinstance(arg, device.ARRAYS) else None

    last = {memory(arg): step for step, (_, args) in enumerate(recorded) for arg in args}
    kept_buffers = {memory(view) for view in kept}

    def needed_after(arg: Any, step: int) -> bool:
        return not isinstance(arg, View) or arg.buffer in kept_buffers or last[arg.buffer] > step

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


def lifetimes(recorded: list, kept: list[View]) -> dict[int, tuple[int, int]]:
    """For each buffer, the first and the last launch that use it. Buffers of `kept` live beyond the last launch."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, (_, args) in enumerate(recorded):
        for arg in args:
            if isinstance(arg, View):
                first.setdefault(arg.buffer, step)
                last[arg.buffer] = step
    for view in kept:
        first.setdefault(view.buffer, 0)
        last[view.buffer] = len(recorded)
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


class _Caches:
    """All caches of programs. Each has a method `drop`, see ProgramCache."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet = weakref.WeakSet()
        self._lock = fork_safety.lock()

    def add(self, cache: Any) -> None:
        """Tell a cache from now on what was outdated."""
        with self._lock:
            self._all.add(cache)

    def drop(self, changed: set[int]) -> None:
        """Drop the programs that depend on any of these ids."""
        with self._lock:
            found = list(self._all)
        for each in found:
            each.drop(changed)


caches = _Caches()
settings.change_listeners.append(lambda: outdate(settings.values))


def current_program() -> Program | None:
    """The program that this thread is recording."""
    recorder = device.recorder()
    return recorder if isinstance(recorder, Program) else None


def before_replays(function: Callable[[], None]) -> None:
    """Call a function now, and before each replay of the step being recorded. It computes values in Python."""
    program = current_program()
    if program is not None:
        program.before_replays(function)
    with device.ordinary():
        function()


def depend_on(*things: Any) -> None:
    """Make the program that this thread is recording, if any, depend on these objects; see `outdate`."""
    program = current_program()
    if program is not None:
        program.depends.update(map(id, things))


def outdate(*things: Any) -> None:
    """Drop the programs that depend on any of these changed arrays or objects; their steps are recorded again."""
    caches.drop({id(device.root(thing) if isinstance(thing, device.ARRAYS) else thing) for thing in things})


def is_step_recorded() -> bool:
    """Whether this thread is recording a step as a program; for gradients see `tape.is_recording`."""
    return device.recorder() is not None
