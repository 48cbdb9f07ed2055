"""Floor 1: a recorded step that can be played again, over planned memory; and Steps, which keeps one per signature.

While a step runs, a Program hears of every buffer and every launch. `seal` then lays the buffers out in one arena by
first and last use, and `run` plays the launches again: no Python graph walk, no allocation.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import step_lock
from nbkeras.engine.user_errors import warn
from nbkeras.kernels.runtime import cache, cache_files, device, threads
from nbkeras.kernels.runtime.messages import described, named

Array = np.ndarray
profile = device.profile  # `with nbkeras.profile() as p: ...; print(p)`: launches by kernel, counted and timed
set_threads = threads.set_threads
compilations = cache.compilations  # `with compilations(listener):` listener() is called before each
keep_kernels_in_package = cache_files.keep_in_package
_ALIGNMENT = 64


class _View(NamedTuple):
    """Where an argument lies: in a planned buffer, described without holding the array itself."""

    buffer: int
    offset: int
    shape: tuple
    strides: tuple
    dtype: np.dtype


def _made_outside(who: str, array: Array) -> RuntimeError:
    return RuntimeError(
        f"{who} an array of shape {array.shape} and dtype {array.dtype} that was made outside device.empty and "
        "device.persistent: computed by NumPy outside a launch, it would be stale on replay. Make it with "
        "device.empty(shape, dtype) and fill it by device.launch(kernel, ...); a constant is device.persistent(array)"
    )


def adopt(array: Array | None) -> Array | None:
    """An array; in a recorded step one from before it, such as a tensor that a layer keeps, is a constant of the program."""
    recorder = device.recorder()
    if recorder is not None and array is not None and not recorder.knows(array):
        device.persistent(array)
    return array


def compute(op: Callable, arrays: Sequence[Array | None], constants: dict[str, Any]) -> tuple[Any, Any]:
    """(outputs, saved) of a kernels' op; what comes from numbers alone is worked out now, not again on each replay."""
    recorder = device.recorder()
    if recorder is None and not device.is_dry():
        return _pair(op, op(*arrays, **constants))
    if arrays and all(map(device.is_known, arrays)):
        with device.ordinary(), device.on(device.place_of(arrays[0])):
            y, saved = _pair(op, op(*arrays, **constants))
        device.know(*y if isinstance(y, tuple) else (y,))
        return y, saved
    y, saved = _pair(op, device.call(op, tuple(device.unread(adopt(array)) for array in arrays), **constants))
    if recorder is not None and recorder.reason is None:
        for array in y if isinstance(y, tuple) else (y,):
            if not recorder.knows(array):
                raise _made_outside(f"the op {named(op)} returned", array)
    return y, saved


def _pair(op: Callable, returned: Any) -> tuple[Any, Any]:
    """The pair that an op returned; TypeError if it is not (y, saved)."""
    if type(returned) is not tuple or len(returned) != 2:
        raise TypeError(
            f"the op {named(op)} must return (y, saved): its output array or a tuple of them, and what its vjp needs, or "
            f"None. Received {described(returned)}: write `return y, None` if the vjp needs nothing"
        )
    for array in returned[0] if isinstance(returned[0], tuple) else returned[:1]:
        if not isinstance(array, device.ARRAYS):
            raise TypeError(
                f"the op {named(op)} must return arrays of device.empty as its outputs, received {described(array)}"
            )
    return returned


class Program:
    """Launches of one step for one signature; made by running the step once inside `device.record(program)`."""

    def __init__(self) -> None:
        self.steps: list[tuple[Callable, tuple]] = []
        self.reason: str | None = None  # why the step cannot be replayed
        self.on_read: Callable[[], str] = lambda: "a tensor's value was read"
        self.nbytes = 0
        self.arena: Array = np.empty(0, np.uint8)  # the memory of all buffers, once sealed
        self._before: list[Callable[[], None]] = []  # called before each replay
        self._replay: Callable[[], None] = lambda: None
        self._recorded: list[tuple[Callable, tuple]] = []
        self._sizes: list[int] = []
        self._alive: dict[int, tuple[weakref.ref, int]] = {}

    # What the recorder of kernels/runtime/device.py hears. Arrays are described, not kept, so that memory returns while recording.

    def allocated(self, array: Array) -> Array:
        self._alive[id(array)] = (weakref.ref(array), len(self._sizes))
        self._sizes.append(array.nbytes)
        return array

    def called(self, function: Callable, inputs: tuple, rest: tuple, constants: dict[str, Any]) -> Any:
        return function(*inputs, *rest, **constants)

    def launched(self, function: Callable, args: tuple) -> None:
        if self.reason is None:
            described = tuple(self._describe(function, a) if isinstance(a, device.ARRAYS) else a for a in args)
            self._recorded.append((function, described))

    def value_read(self) -> None:
        if self.reason is None:
            self.reason = self.on_read()
            self._recorded.clear()

    def _describe(self, function: Callable, array: Array) -> Any:
        owner: Any = device.root(array)
        known = self._alive.get(id(owner))
        if known is not None and known[0]() is owner:  # an id is used again once its array is gone
            offset = device.address(array) - device.address(owner)
            return _View(known[1], offset, array.shape, array.strides, array.dtype)
        if device.is_persistent(owner) or array.size == 0:
            return device.plain(array)
        raise _made_outside(f"the kernel {named(function)} was given", array)

    def knows(self, array: Array) -> bool:
        """Whether an array belongs to the step or was there before it as one that programs may read."""
        owner: Any = device.root(array)
        known = self._alive.get(id(owner))
        return (known is not None and known[0]() is owner) or device.is_persistent(owner) or array.size == 0

    def before_replays(self, function: Callable[[], None]) -> None:
        """Call a function before each replay. One that is asked for twice needs values from within the step: no replay then."""
        if function in self._before:
            self.value_read()
        self._before.append(function)

    # Sealing and playing

    def seal(self, outputs: list[Array]) -> list[Array]:
        """Plan the memory; `outputs` stay readable after each run. Returns them as they will be in the arena."""
        kept = [self._describe(Program.seal, array) for array in outputs]
        self._recorded = _fused(self._recorded, kept)
        offsets, size = _plan(self._sizes, self._recorded, [view for view in kept if isinstance(view, _View)])
        self.arena = arena = device.persistent_empty((size + _ALIGNMENT,), np.uint8)
        start = -device.address(arena) % _ALIGNMENT
        views: dict[_View, Array] = {}

        def place(arg: Any) -> Any:
            if not isinstance(arg, _View):
                return arg
            if arg not in views:
                at = start + offsets[arg.buffer] + arg.offset
                views[arg] = device.view_at(arena, at, arg.shape, arg.dtype, arg.strides)
            return views[arg]

        self.steps = [(function, tuple(place(arg) for arg in args)) for function, args in self._recorded]
        self._replay = device.replayer(self.steps)
        self.nbytes = size
        self._recorded, self._alive, self._sizes = [], {}, []
        return [place(view) for view in kept]

    def run(self) -> None:
        """Play the step again."""
        if self._before:
            for function in self._before:
                function()
        self._replay()


def _fused(recorded: list, kept: list) -> list:
    """The launches with chains of elementwise ones joined, on a GPU."""

    def memory(arg: Any) -> Any:
        if isinstance(arg, _View):
            return arg.buffer
        return ("persistent", id(device.root(arg))) if isinstance(arg, device.ARRAYS) else None

    last = {memory(arg): step for step, (_, args) in enumerate(recorded) for arg in args}
    kept_buffers = {memory(view) for view in kept}

    def needed_after(arg: Any, step: int) -> bool:
        return not isinstance(arg, _View) or arg.buffer in kept_buffers or last[arg.buffer] > step

    return device.fuse(recorded, memory, needed_after)


def _plan(sizes: list[int], recorded: list, kept: list[_View]) -> tuple[list[int], int]:
    """Offsets of buffers in one arena so that no two that live at once overlap, and the arena's size.

    Greedy, largest first, each at the lowest gap among those already placed that live at the same time.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for step, (_, args) in enumerate(recorded):
        for arg in args:
            if isinstance(arg, _View):
                first.setdefault(arg.buffer, step)
                last[arg.buffer] = step
    for view in kept:
        first.setdefault(view.buffer, 0)
        last[view.buffer] = len(recorded)
    offsets = [0] * len(sizes)
    order = sorted(first, key=lambda b: (-sizes[b], b))
    starts, ends, firsts, lasts = (np.zeros(len(order), np.int64) for _ in range(4))  # of the buffers placed so far
    for count, buffer in enumerate(order):
        size = -(-sizes[buffer] // _ALIGNMENT) * _ALIGNMENT
        firsts[count], lasts[count] = first[buffer], last[buffer]
        alive = np.flatnonzero((lasts[:count] >= first[buffer]) & (firsts[:count] <= last[buffer]))
        alive = alive[np.argsort(starts[alive], kind="stable")]
        tops = np.maximum.accumulate(np.concatenate(([0], ends[alive])))  # memory taken below each gap
        gaps = np.flatnonzero(starts[alive] - tops[:-1] >= size)
        offsets[buffer] = starts[count] = int(tops[gaps[0]] if gaps.size else tops[-1])
        ends[count] = starts[count] + size
    return offsets, int(ends.max(initial=0))


def before_replays(function: Callable[[], None]) -> None:
    """Call a function now, and before each replay of the step that is recorded: for values that Python works out."""
    recorder = device.recorder()
    with device.ordinary():
        function()
    if isinstance(recorder, Program):
        recorder.before_replays(function)


_generation = 0  # counts what makes recorded programs wrong: moved weights, frozen layers


def invalidate_programs() -> None:
    """Make every program recorded so far be recorded again before its next use."""
    global _generation
    _generation += 1


def is_step_recorded() -> bool:
    """Whether this thread records a step as a program; `tape.is_recording` is about gradients."""
    return device.recorder() is not None


def program_generation() -> int:
    """Programs recorded in another generation than this are out of date."""
    return _generation


class _Recorded(NamedTuple):
    """A program with the way to the buffers that it reads, and those that it leaves its outputs in."""

    program: Program
    inlet: Any
    outputs: list[Array]
    info: Any


class Steps:
    """Plays `function` again and again: recorded once per signature, replayed from then on.

    function(arrays, context) -> (list of output arrays, info); everything it computes must be launched. A step in which a
    value is read runs as it is each time, with one warning. Each thread that runs at the same time gets a program of its
    own. where: says what read a value. capacity: signatures kept, the least recently used go first.
    """

    def __init__(self, name: str, function: Callable, where: Callable[[], str], capacity: int = 8):
        self._name, self._function, self._where, self._capacity = name, function, where, capacity
        self._free: OrderedDict[tuple, list[_Recorded]] = OrderedDict()
        self._unrecordable: set[tuple] = set()
        self._lock = threading.Lock()
        self.recordings = 0

    def run(
        self, key: Any, batch: Any, context: Any, use: Callable[[list[Array], Any], Any], eagerly: bool = False
    ) -> Any:
        """Run the step on a batch (`batch.signature`, `batch.write(buffers)`) and return `use(outputs, info)`.

        `outputs` are overwritten by the next run, so `use` copies what it keeps. key: what else the program depends on.
        """
        whole, turn = (key, batch.signature), step_lock.enter()
        try:
            if eagerly or whole in self._unrecordable:
                buffers, inlet = _buffers(batch.signature)
                batch.write(inlet.arrays)
                inlet.send()
                return use(*self._function(buffers, context))
            with self._lock:
                free = self._free.get(whole)
                recorded = None
                if free is not None:
                    self._free.move_to_end(whole)
                    recorded = free.pop() if free else None
            if free is None or recorded is None:
                return self._record(whole, batch, context, use)
            batch.write(recorded.inlet.arrays)
            recorded.inlet.send()
            recorded.program.run()
            result = use(recorded.outputs, recorded.info)
            free.append(recorded)  # to a list that nobody has any more, if the signature had to make room meanwhile
            return result
        finally:
            step_lock.leave(turn)

    def _record(self, key: tuple, batch: Any, context: Any, use: Callable) -> Any:
        program, (buffers, inlet) = Program(), _buffers(batch.signature)
        program.on_read = self._where
        batch.write(inlet.arrays)
        inlet.send()
        with device.record(program):
            outputs, info = self._function(buffers, context)
        result = use([device.plain(array) for array in outputs], info)
        self.recordings += 1
        if program.reason is None:
            self._give_back(key, _Recorded(program, inlet, program.seal(outputs), info))
            return result
        if not self._unrecordable:
            warn(
                f"{program.reason}, so the model's {self._name} step cannot be recorded and runs eagerly from now on: "
                "right, but slower. Compute with nbkeras.ops instead, or compile with run_eagerly=True to say so"
            )
        self._unrecordable.add(key)
        return result

    def _give_back(self, key: tuple, recorded: _Recorded) -> None:
        with self._lock:
            self._free.setdefault(key, []).append(recorded)
            self._free.move_to_end(key)
            while len(self._free) > self._capacity:
                self._free.popitem(last=False)

    def programs(self) -> list[Program]:
        """The programs kept, the most recently used last."""
        with self._lock:
            return [recorded.program for free in self._free.values() for recorded in free]


def _buffers(signature: Sequence) -> tuple[list[Array | None], Any]:
    """Input buffers for a signature, and the inlet that fills them."""
    buffers = [None if item is None else device.persistent_empty(*item) for item in signature]
    return buffers, device.inlet(buffers)
