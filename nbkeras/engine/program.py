"""Floor 1: Program, a recorded function as plain data, and Bound, a program with memory, which runs.

A Program names its memory by numbers. `bind` gives it memory: it walks no Python graph to run, and allocates nothing. A second
thread binds the same program again; it copies the native code's words and records nothing.

A program depends on the arrays and objects of its recording. `outdate` reports that some were replaced or changed: it drops
the programs that depend on them, and their functions are recorded again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine import copy_on_write, settings
from nbkeras.engine.layer_stack import LayerScope
from nbkeras.kernels.runtime import cache, cache_files, cgroups, device, fork_safety, processor, threads
from nbkeras.kernels.runtime.ref import Ref

Array = np.ndarray
profile = device.profile  # `with nbkeras.profile() as p: ...; print(p)`: launches by kernel, counted and timed
Profile = device.Profile
set_threads, get_threads, usable_processors = threads.set_threads, threads.get_threads, cgroups.usable_processors
compilations = cache.compilations  # `with compilations(listener):` calls listener() before each compilation
SPARE_KERNELS = cache_files.SPARE  # the variable with a folder for kernels that cannot be kept elsewhere
variables_of, PROCESSOR_LEVELS, processor_levels = processor.variables_of, tuple(processor.LEVELS), processor.levels


# Kinds of memory. A Bound owns the first five. Live memory belongs to the weights and states of the function. A frozen program
# has constants instead: programs of a model share them.
ARENA, INPUT, OUTPUT, STATE, PREPARED, LIVE, CONST = "arena", "input", "output", "state", "prepared", "live", "const"


class Memory(NamedTuple):
    """A memory of a program: its kind and its bytes."""

    kind: str
    nbytes: int


class Buffer(NamedTuple):
    """An array of the arena: its bytes, and the first and the last launch that use it."""

    offset: int
    nbytes: int
    first: int
    last: int


Launch = tuple[Callable, tuple]


@dataclass(eq=False)
class Program:
    """A recorded function: its launches, with a Ref for each array, and the memories that the Refs name by numbers.

    layers: the layer of each launch, for profiles. outputs: they may be in any memory. memories: the first one is the arena.
    arrays: those of live memory and constants. prepares: the launches that depend only on weights; they write the prepared
    memory. prepared_from: ids of the owners of these weights. buffers: of the arena. written: the ids of the owners of live
    memory that the launches may write. depends: ids of the arrays and objects of the recording. held: these arrays, because the
    id of a freed array may be used again. before: called before each run. gpu: the device that it runs on.
    """

    launches: list[Launch]
    layers: list[LayerScope]
    inputs: list[Ref]
    outputs: list[Ref]
    memories: list[Memory]
    arrays: dict[Ref, Array]
    prepares: list[Launch] = field(default_factory=list)
    prepared_from: set[int] = field(default_factory=set)
    buffers: list[Buffer] = field(default_factory=list)
    written: frozenset[int] = frozenset()
    depends: set[int] = field(default_factory=set)
    held: list[Array] = field(default_factory=list)
    before: tuple[Callable[[], None], ...] = ()
    gpu: Any = None
    outdated: bool = False  # whether something that it depends on has changed
    _bound: weakref.ref | None = field(default=None, repr=False)  # a Bound that others are made of

    @property
    def is_frozen(self) -> bool:
        """Whether it depends on nothing: it reads constants, and no step writes them."""
        return not self.depends

    @property
    def nbytes(self) -> int:
        """The bytes of the arena."""
        return self.memories[0].nbytes

    @property
    def prepared_nbytes(self) -> int:
        """The bytes of kept values that depend only on weights: weights in panels, transformed kernels."""
        return sum(memory.nbytes for memory in self.memories if memory.kind == PREPARED)

    def bind(self) -> Bound:
        """The program with memory of its own."""
        with device.on(self.gpu):
            known = None if self._bound is None else self._bound()
            made = None if known is None else known.again()
            if made is None:
                made = Bound(self)
                self._bound = weakref.ref(made)
            return made

    def refs(self) -> Iterator[Ref]:
        """The Refs of the launches, inputs and outputs."""
        yield from self.inputs
        for _, args in self.launches:
            yield from (arg for arg in args if isinstance(arg, Ref))
        yield from self.outputs

    def offsets(self) -> tuple[list[int], int]:
        """Where the memories that a Bound owns begin in its memory, and the bytes of it."""
        starts, end = [], 0
        for memory in self.memories:
            starts.append(end)
            if memory.kind not in (LIVE, CONST):
                end += -(-memory.nbytes // device.ALIGNMENT) * device.ALIGNMENT
        return starts, end


class Bound:
    """A program with memory of its own. Several threads may each run one.

    Attributes:
        program: The program.
        inputs: The arrays that a run reads, for `run`.
        outputs: The arrays that a run writes.
        staging: For the cache of programs: how batches get to the inputs.
        native: Copies arrays to the inputs, runs the launches, and copies the outputs to the remaining arrays, as `run_on` does.
        stale: Whether the prepared values must be computed again: a weight may have been written.
    """

    __slots__ = (
        "program",
        "inputs",
        "outputs",
        "native",
        "stale",
        "staging",
        "_memory",
        "_replay",
        "_prepare",
        "__weakref__",
    )

    def __init__(self, program: Program):
        self._own(program)
        view = self.view()
        self.inputs, self.outputs = list(map(view, program.inputs)), list(map(view, program.outputs))
        self._replay = device.Replayer(placed(program.launches, view), self.inputs, self.outputs)
        self.native = self._replay.copying
        self._prepare = device.Replayer(placed(program.prepares, view)) if program.prepares else None
        self._watch()

    def _own(self, program: Program) -> None:
        self.program = program
        self.staging: Any = None
        self._memory = device.persistent_empty((program.offsets()[1],), np.uint8)

    def _watch(self) -> None:
        """Notice writes to the weights that prepared values depend on. These must be computed before the first run."""
        self.stale = self._prepare is not None
        if self.stale:
            device.watch(self.program.prepared_from, self)

    def view(self) -> Callable[[Any], Any]:
        """A function that makes the array of a Ref; it returns other arguments as they are."""
        known, (starts, _) = dict(self.program.arrays), self.program.offsets()

        def view(arg: Any) -> Any:
            if not isinstance(arg, Ref):
                return arg
            if arg not in known:
                at = starts[arg.memory] + arg.offset
                known[arg] = device.view_at(self._memory, at, arg.shape, arg.dtype, arg.strides)
            return known[arg]

        return view

    def again(self) -> Bound | None:
        """The same program with other memory; None if a launch runs in Python or on a GPU."""
        made: Bound = object.__new__(Bound)
        made._own(self.program)
        view = made.view()
        made.inputs, made.outputs = list(map(view, self.program.inputs)), list(map(view, self.program.outputs))
        replay = self._replay.over(self._memory, made._memory, made.inputs, made.outputs)
        if replay is None:
            return None
        made._replay, made.native, made._prepare = replay, replay.copying, None
        if self._prepare is not None:
            made._prepare = self._prepare.over(self._memory, made._memory)
            if made._prepare is None:
                return None
        made._watch()
        return made

    @property
    def steps(self) -> list[Launch]:
        """The launches with arrays, for profiles."""
        return placed(self.program.launches, self.view())

    @property
    def arena(self) -> Array:
        """The memory of all temporary arrays."""
        return device.view_at(self._memory, 0, (self.program.nbytes,), np.dtype(np.uint8))

    def run(self) -> None:
        """Run with the present values of `inputs`."""
        program = self.program
        for function in program.before:
            function()
        if self.stale:
            self.prepare()
        copy_on_write.will_replay(program.written)
        is_apart = program.is_frozen and device.recorder() is not None  # a frozen model is not part of a recording
        if device.runner() is None or is_apart:
            self._replay()
        else:  # it sees each launch
            device.play(self.steps)
        if program.written:
            device.changed(program.written)

    def run_on(self, *arrays: Array) -> bool:
        """Run in one native call: copy the inputs from arrays, and copy the outputs into the arrays after them.

        Args:
            *arrays: C-contiguous arrays of the shapes and dtypes of the inputs, then of the outputs.

        Returns:
            True if it ran. False if the arrays do not fit or the program cannot run natively; then nothing was done.
        """
        program = self.program
        if program.before or device.runner() is not None:
            return False
        if self.stale:
            self.prepare()
        written = program.written
        if not written:
            return self.native(*arrays)
        copy_on_write.will_replay(written)
        has_run = self.native(*arrays)
        if has_run:
            device.changed(written)
        return has_run

    def prepare(self) -> None:
        """Compute the prepared values."""
        self.stale = False  # before the computation: a write by another thread during it must set this again
        if self._prepare is not None:
            self._prepare()


def placed(launches: Sequence[Launch], view: Callable[[Any], Any]) -> list[Launch]:
    """Launches with arrays. view: makes the array of a Ref, and returns other arguments as they are."""
    return [(function, tuple(map(view, args))) for function, args in launches]


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


def outdate(*things: Any) -> None:
    """Drop the programs that depend on any of these changed arrays or objects; their steps are recorded again."""
    caches.drop({id(device.root(thing) if isinstance(thing, device.ARRAYS) else thing) for thing in things})
