"""Floor 1: Program, a recorded step that is replayed over planned memory, and ProgramCache, which keeps one per signature.

While a step runs, a Program records every buffer and every launch. `seal` then places the buffers in one arena by
first and last use, and `run` replays the launches: it walks no Python graph and allocates nothing.

A program depends on the arrays and objects of its recording. `outdate` reports that some were replaced or changed: it drops
the programs that depend on them, and their steps are recorded again.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import copy_on_write, step_lock
from nbkeras.engine.batch import Batch, copy_to
from nbkeras.engine.layer_stack import LayerScope, layer_stack
from nbkeras.engine.user_errors import warn
from nbkeras.kernels.runtime import cache, cache_files, cgroups, code, device, fork_safety, processor, threads
from nbkeras.kernels.runtime.messages import named, short_description

Array = np.ndarray
_empty = np.empty
profile = device.profile  # `with nbkeras.profile() as p: ...; print(p)`: launches by kernel, counted and timed
Profile = device.Profile
set_threads, get_threads, usable_processors = threads.set_threads, threads.get_threads, cgroups.usable_processors
compilations = cache.compilations  # `with compilations(listener):` calls listener() before each compilation
keep_kernels_in_package = code.keep_in_package
SPARE_KERNELS = cache_files.SPARE  # the variable with a folder for kernels that cannot be kept elsewhere
variables_of, PROCESSOR_LEVELS, processor_keys = processor.variables_of, tuple(processor.LEVELS), processor.keys


class View(NamedTuple):
    """The position of an argument in a planned buffer; it does not hold the array itself."""

    buffer: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype


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

    def __init__(self, changing: Collection[int] = (), preparation: Preparation | None = None) -> None:
        self.steps: list[tuple[Callable, tuple]] = []
        self.places: list[LayerScope] = []  # the layer of each step, for profiles
        self.buffers: list[Buffer] = []  # the buffers of the arena, once sealed
        self.reason: str | None = None  # why the step cannot be replayed
        self.depends: set[int] = set()  # ids of the earlier arrays and the objects that the recording used
        self.outdated = False  # whether one of them has changed
        self.on_read: Callable[[], str] = lambda: "a tensor's value was read"
        self.nbytes = 0
        self.arena: Array = np.empty(0, np.uint8)  # the memory of all buffers, once sealed
        self.start = 0  # the address of the first buffer in it
        self.calls: list[OpCall] = []  # the recorded calls, until the program is sealed
        self.written: set[int] = set()  # ids of earlier arrays that it may write
        self.place: LayerScope | None = None  # the layer of the next launches; None: this thread's current layer
        self._preparation, self._changing = preparation, changing  # changing: ids of arrays that are not weights
        self._in_op = False
        self._before: list[Callable[[], None]] = []  # called before each replay
        self._replay: Any = device.Replayer([])
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
        described = tuple(self._known(function, array) for array in inputs)
        for number in getattr(function, "changes_inputs", ()):
            if isinstance(described[number], device.ARRAYS):
                self.written.add(id(device.root(described[number])))
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
            self.written.update(id(device.root(each)) for each in described if isinstance(each, device.ARRAYS))
            self.calls.append(OpCall(function, described, {}, None, (self.place or layer_stack.place())))

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

    def value_read(self) -> None:
        if self.reason is None:
            self.reason = self.on_read()
            self.calls.clear()
            self._recorded.clear()
            self._places.clear()

    def _describe(self, function: Callable, array: Array) -> Any:
        owner: Any = device.root(array)
        known = self._alive.get(id(owner))
        if known is not None and known[0]() is owner:  # the id of a freed array may be used again
            offset = device.address(array) - device.address(owner)
            return View(known[1], offset, array.shape, array.strides, array.dtype)
        if device.is_persistent(owner) or array.size == 0:
            self.depends.add(id(owner))
            return device.plain(array)
        raise _made_outside(f"the kernel {named(function)} was given", array)

    def knows(self, array: Array) -> bool:
        """Whether programs may read an array: it was allocated in the step, or it is persistent.

        Args:
            array: The array.
        """
        owner: Any = device.root(array)
        known = self._alive.get(id(owner))
        return (known is not None and known[0]() is owner) or device.is_persistent(owner) or array.size == 0

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
            self.value_read()
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
        launches = _without_unread_copies(self._recorded, kept)
        self._recorded = _fused(launches, kept)
        self.places = _places(self._places, launches, self._recorded)
        lives = _lifetimes(self._recorded, [view for view in kept if isinstance(view, View)])
        offsets, size = _plan(self._sizes, lives)
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
        if self._before or self.written:
            return False
        if self._preparation is not None and self._preparation.stale:
            self._preparation.run()
        return self._replay.copying(*arrays)


def _without_unread_copies(recorded: list, kept: list) -> list:
    """The launches without unread copies: a copy kept a value from being overwritten, but nothing used it afterwards."""
    users = Counter(arg.buffer for _, args in recorded for arg in args if isinstance(arg, View))
    users.update(view.buffer for view in kept if isinstance(view, View))
    gpu = device.gpu()
    copy = device.copy if gpu is None else gpu.twin(device.copy)

    def is_read(target: Any) -> bool:
        return not isinstance(target, View) or users[target.buffer] > 1

    return [(function, args) for function, args in recorded if function is not copy or is_read(args[1])]


def _fused(recorded: list, kept: list) -> list:
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


def _lifetimes(recorded: list, kept: list[View]) -> dict[int, tuple[int, int]]:
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


def _plan(sizes: list[int], lives: dict[int, tuple[int, int]]) -> tuple[list[int], int]:
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


_caches: weakref.WeakSet = weakref.WeakSet()  # all caches of programs
_caches_lock = fork_safety.lock()


def before_replays(function: Callable[[], None]) -> None:
    """Call a function now, and before each replay of the step being recorded. It computes values in Python."""
    recorder = device.recorder()
    with device.ordinary():
        function()
    if isinstance(recorder, Program):
        recorder.before_replays(function)


def depend_on(*things: Any) -> None:
    """Make the program that this thread is recording, if any, depend on these objects; see `outdate`."""
    recorder = device.recorder()
    if isinstance(recorder, Program):
        recorder.depends.update(map(id, things))


def outdate(*things: Any) -> None:
    """Drop the programs that depend on any of these changed arrays or objects; their steps are recorded again."""
    changed = {id(device.root(thing) if isinstance(thing, device.ARRAYS) else thing) for thing in things}
    with _caches_lock:
        caches = list(_caches)
    for each in caches:
        each.drop(changed)


def is_step_recorded() -> bool:
    """Whether this thread is recording a step as a program; for gradients see `tape.is_recording`."""
    return device.recorder() is not None


class _Recorded:
    """A program with its input buffers and its output arrays."""

    __slots__ = ("program", "info", "_staging", "_outputs", "_forms")

    def __init__(self, program: Program, staging: Any, outputs: list[Array], info: Any):
        inputs = [array for array in staging.arrays if array is not None]
        self.program, self.info, self._staging = program, info, staging
        self._outputs = program.seal(outputs, inputs)
        self._forms = [(array.shape, array.dtype) for array in self._outputs]

    def run_on(self, arrays: Sequence[Array]) -> list[Array] | None:
        """Run on arrays. Returns copies of the outputs, or None if the arrays must be copied first; then nothing was done."""
        copies = [_empty(shape, dtype) for shape, dtype in self._forms]
        return copies if self.program.run_on(*arrays, *copies) else None

    def run(self, batch: Batch) -> list[Array]:
        """Run on a batch. Returns copies of the outputs."""
        arrays = batch.ready
        outputs = None if arrays is None else self.run_on(arrays)
        if outputs is not None:
            return outputs
        batch.write(self._staging.arrays)
        self._staging.send()
        self.program.run()
        return [_copy(array) for array in self._outputs]


class Replays:
    """The idle programs of one signature: no thread is running them."""

    __slots__ = ("free",)

    def __init__(self) -> None:
        self.free: list[_Recorded] = []

    def run(self, *arrays: Array) -> tuple[list[Array], Any] | None:
        """Run on arrays of the signature. Returns copies of the outputs, and info.

        Returns None if there is no program, or it cannot use these arrays directly. The caller then uses `ProgramCache`.
        """
        turn = step_lock.enter()
        try:
            # No lock: threads that run short steps would contend for it at every step.
            recorded = self.free.pop()
            if recorded.program.outdated:
                return None
            outputs = recorded.run_on(arrays)
            self.free.append(recorded)  # if the signature was dropped meanwhile, nothing refers to this list
            return None if outputs is None else (outputs, recorded.info)
        except IndexError:
            return None
        finally:
            step_lock.leave(turn)


class StepRecording:
    """One eager run of a step: its input arrays and its results.

    inputs: arrays that hold the batch. The block of `ProgramCache.recording` sets outputs (arrays) and info (anything else).
    results: copies of the outputs, after the block.
    """

    __slots__ = ("inputs", "staging", "outputs", "info", "results")

    def __init__(self, batch: Batch):
        self.inputs: list[Any] = [None if item is None else device.persistent_empty(*item) for item in batch.signature]
        self.staging = device.input_staging(self.inputs)
        self.outputs: list[Array] = []
        self.info: Any = None
        self.results: list[Array] = []
        batch.write(self.staging.arrays)
        self.staging.send()


class ProgramCache:
    """The programs of one step: recorded once for each signature and replayed from then on.

    A step whose `recording` reads a value always runs without a program, after one warning. Threads that run at the same time
    each get their own program. where: returns a string that names the reader of a value. capacity: the number of signatures
    kept; the least recently used one is dropped. improve: see folding.improved.
    """

    def __init__(
        self,
        name: str,
        where: Callable[[], str],
        capacity: int = 8,
        improve: Callable[[Program, list[Array], list[Array]], Any] | None = None,
    ):
        self._name, self._where, self._capacity = name, where, capacity
        self._improve = improve
        self._replays: OrderedDict[tuple, Replays] = OrderedDict()
        self._made: weakref.WeakSet[Program] = weakref.WeakSet()  # idle, running, or being recorded
        self._unrecordable: dict[tuple, set[int]] = {}  # key -> ids of the objects that the step depends on
        self._lock = fork_safety.lock()
        self.recordings = 0
        with _caches_lock:
            _caches.add(self)

    def run(self, key: Any, batch: Batch) -> tuple[list[Array], Any] | None:
        """Replay the step on a batch. Returns copies of the outputs, and info; None if there is no program: use `recording`.

        key: selects the program, together with the batch's signature.
        """
        key, turn = (key, batch.signature), step_lock.enter()
        try:
            replays = self._replays.get(key)
            try:
                recorded = replays.free.pop()  # type: ignore[union-attr]
                self._replays.move_to_end(key)
            except (AttributeError, IndexError, KeyError):  # not recorded, all in use, or dropped by another thread
                return None
            if recorded.program.outdated:
                return None
            outputs = recorded.run(batch)
            replays.free.append(recorded)  # type: ignore[union-attr]
            return outputs, recorded.info
        finally:
            step_lock.leave(turn)

    @contextlib.contextmanager
    def recording(self, key: Any, batch: Batch, eagerly: bool = False) -> Iterator[StepRecording]:
        """`with recording(key, batch) as step:` the block computes the step; `run` replays it from then on.

        The block must compute only by launches. eagerly: make no program.
        """
        key, turn = (key, batch.signature), step_lock.enter()
        try:
            step = StepRecording(batch)
            if eagerly or key in self._unrecordable:
                yield step
                step.results = [_copy(array) for array in step.outputs]
                return
            program = Program()
            program.on_read = self._where
            with self._lock:
                self._made.add(program)
            with device.record(program):
                yield step
            step.results = [_copy(device.plain(array)) for array in step.outputs]
            self.recordings += 1
            if program.reason is not None:
                self._run_eagerly(key, program)
            elif not program.outdated:  # the step itself may have outdated it: building an optimizer moves the weights
                self._keep(key, program, step, batch)
        finally:
            step_lock.leave(turn)

    def _keep(self, key: tuple, program: Program, step: StepRecording, batch: Batch) -> None:
        """Keep the program of a step, or a better one of the same step."""
        outputs = step.outputs
        better = self._improve and self._improve(program, [a for a in step.inputs if a is not None], outputs)
        if better is not None:
            program, outputs = better.program, better.outputs
            with self._lock:
                self._made.add(program)
        recorded = _Recorded(program, step.staging, outputs, step.info)
        if better is not None and not better.is_exact and not program.written:  # the first run must give the same bits
            step.results = recorded.run(batch)
        with self._lock:
            self._replays.setdefault(key, Replays()).free.append(recorded)
            self._replays.move_to_end(key)
            while len(self._replays) > self._capacity:
                _, dropped = self._replays.popitem(last=False)
                dropped.free.clear()  # other holders of `dropped` must not keep memory alive

    def _run_eagerly(self, key: tuple, program: Program) -> None:
        """Remember that this step cannot be recorded, and warn the first time."""
        if not self._unrecordable:
            warn(
                f"{program.reason}, so the model's {self._name} step cannot be recorded and runs eagerly from now on: "
                "correct, but slower. Compute with nbkeras.ops instead, or compile with run_eagerly=True to say so"
            )
        with self._lock:
            self._unrecordable[key] = program.depends

    def drop(self, changed: set[int] | None = None) -> None:
        """Drop the programs that depend on any of these ids, with their memory. Running programs are dropped when they end.

        changed: the ids; None for all programs.
        """

        def depends(ids: set[int]) -> bool:
            return changed is None or not ids.isdisjoint(changed)

        with self._lock:
            outdated = [program for program in self._made if depends(program.depends)]
            for program in outdated:
                program.outdated = True
            if outdated:
                for replays in self._replays.values():
                    replays.free[:] = [recorded for recorded in replays.free if not recorded.program.outdated]
            for key in [key for key, ids in self._unrecordable.items() if depends(ids)]:
                del self._unrecordable[key]

    def replays(self, key: Any, signature: tuple) -> Replays:
        """The programs that `run` replays for this key and signature."""
        with self._lock:
            return self._replays.get((key, signature)) or Replays()

    def programs(self) -> list[Program]:
        """The kept programs, the most recently used last."""
        with self._lock:
            return [recorded.program for replays in self._replays.values() for recorded in replays.free]


def _copy(array: Array) -> Array:
    if not isinstance(array, np.ndarray):  # on a GPU
        return array.copy()
    copy = np.empty(array.shape, array.dtype)
    copy_to(array, copy)
    return copy
