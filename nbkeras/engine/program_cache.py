"""Floor 1: ProgramCache, a function of tensors that is recorded once for each signature and replayed from then on.

It is the only place that records functions to replay them: steps of models, streams and `nbkeras.jit` have one each.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras.engine import step_lock, structures, tape, tensor
from nbkeras.engine.batch import Batch, copy_to
from nbkeras.engine.program import Program, caches, is_step_recorded
from nbkeras.engine.tensor import Tensor, take_as_constants
from nbkeras.engine.user_errors import warn
from nbkeras.kernels.runtime import device, fork_safety

Array = np.ndarray
_empty = np.empty
_MOST_UNRECORDABLE = 256
Pack = Callable[[list], Any]  # the outputs' structure: takes the leaves that were tensors


class _Inputs:
    """The input arrays of a program, and how batches like one get there. all: with None for each leaf that is None."""

    __slots__ = ("all", "arrays", "_staging")

    def __init__(self, batch: Batch):
        self.all: list[Any] = [None if item is None else device.persistent_empty(*item) for item in batch.signature]
        self.arrays = [array for array in self.all if array is not None]
        self._staging = device.input_staging(self.all)
        self.fill(batch)

    def fill(self, batch: Batch) -> None:
        """Copy a batch to the arrays."""
        if device.gpu() is None:
            batch.write(self._staging.arrays)
            return
        here = [device.gpu_of(leaf) is not None for leaf in batch.leaves]
        batch.write([None if is_here else array for is_here, array in zip(here, self._staging.arrays, strict=True)])
        self._staging.send()
        for is_here, leaf, array in zip(here, batch.leaves, self.all, strict=True):
            if is_here:
                device.launch(device.copy, leaf, array)


class _Recorded:
    """A program with its input buffers, its output arrays and the structure of its outputs."""

    __slots__ = ("program", "pack", "_inputs", "_outputs", "_forms", "_copy")

    def __init__(self, program: Program, inputs: _Inputs, outputs: list[Array], pack: Pack, copy: Callable):
        self.program, self.pack, self._inputs, self._copy = program, pack, inputs, copy
        self._outputs = program.seal(outputs, inputs.arrays)
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
        self._inputs.fill(batch)
        self.program.run()
        return [self._copy(array) for array in self._outputs]


class Replays:
    """The idle programs of one signature: no thread is running them."""

    __slots__ = ("free",)

    def __init__(self) -> None:
        self.free: list[_Recorded] = []

    def run(self, *arrays: Array) -> tuple[list[Array], Pack] | None:
        """Run on arrays of the signature. Returns copies of the outputs, and their structure.

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
            return None if outputs is None else (outputs, recorded.pack)
        except IndexError:
            return None
        finally:
            step_lock.leave(turn)


class ProgramCache:
    """The programs of one function. `run` replays or records it.

    A function that reads a value always runs eagerly, after one warning. Threads that run at the same time each get their own
    program. subject, advice: for the warning: what runs eagerly, and what to do instead. capacity: the number of signatures
    kept; the least recently used one is dropped. improve: see rewriting.improved. on_device: whether the outputs stay on a GPU
    where they were computed.
    """

    def __init__(
        self,
        subject: str,
        advice: str,
        capacity: int = 8,
        improve: Callable[[Program, list[Array], list[Array]], Any] | None = None,
        on_device: bool = False,
    ):
        self._subject, self._advice, self._capacity, self._improve = subject, advice, capacity, improve
        self._copy = _copy_on_device if on_device else _copy
        self._replays: OrderedDict[tuple, Replays] = OrderedDict()
        self._made: weakref.WeakSet[Program] = weakref.WeakSet()  # idle, running, or being recorded
        self._unrecordable: dict[tuple, set[int]] = {}  # key -> ids of the objects that the function depends on
        self._lock = fork_safety.lock()
        self.recordings = 0  # the number of programs recorded
        caches.add(self)

    def run(
        self, function: Callable[[list], Any], batch: Batch, key: Any = None, eagerly: bool = False
    ) -> tuple[list[Array], Pack]:
        """Compute function(tensors), with a tensor for each leaf of the batch. Returns (arrays, their structure).

        function: it must compute only by launches. Its result is a structure; leaves that are not tensors are repeated by
        replays. key: selects the program, together with the batch's signature. eagerly: neither replay nor record.
        """
        if eagerly or tape.thread.checker is not None:
            return self._recorded(function, batch, None)
        key = key, batch.signature
        return self._replayed(key, batch) or self._recorded(function, batch, None if key in self._unrecordable else key)

    def _replayed(self, key: tuple, batch: Batch) -> tuple[list[Array], Pack] | None:
        turn = step_lock.enter()
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
            return outputs, recorded.pack
        finally:
            step_lock.leave(turn)

    def _recorded(self, function: Callable, batch: Batch, key: tuple | None) -> tuple[list[Array], Pack]:
        """Run the function. A key: record it, and keep the program."""
        turn = step_lock.enter()
        try:
            inputs = _Inputs(batch)
            if key is None:
                outputs, pack = _computed(function, inputs.all)
                return [self._copy(array) for array in outputs], pack
            program = Program()
            with self._lock:
                self._made.add(program)
            with device.record(program):
                outputs, pack = _computed(function, inputs.all)
            results = [self._copy(device.plain(array)) for array in outputs]
            self.recordings += 1
            if program.reason is not None:
                self._run_eagerly(key, program)
            elif (
                not program.outdated
            ):  # the function itself may have outdated it: building an optimizer moves the weights
                recorded, is_exact = self._improved(program, inputs, outputs, pack)
                if not is_exact:  # the first run must give the same bits
                    results = recorded.run(batch)
                self._keep(key, recorded)
            return results, pack
        finally:
            step_lock.leave(turn)

    def _improved(self, program: Program, inputs: _Inputs, outputs: list[Array], pack: Pack) -> tuple[_Recorded, bool]:
        """The program or a better one, and whether it gives the same bits."""
        better = self._improve and self._improve(program, inputs.arrays, outputs)
        if better is None:
            return _Recorded(program, inputs, outputs, pack, self._copy), True
        with self._lock:
            self._made.add(better.program)
        is_exact = better.is_exact or bool(program.written)
        return _Recorded(better.program, inputs, better.outputs, pack, self._copy), is_exact

    def _keep(self, key: tuple, recorded: _Recorded) -> None:
        with self._lock:
            self._replays.setdefault(key, Replays()).free.append(recorded)
            self._replays.move_to_end(key)
            while len(self._replays) > self._capacity:
                _, dropped = self._replays.popitem(last=False)
                dropped.free.clear()  # other holders of `dropped` must not keep memory alive

    def _run_eagerly(self, key: tuple, program: Program) -> None:
        """Remember that the function cannot be recorded, and warn the first time."""
        if not self._unrecordable:
            warn(
                f"{program.reason}, so {self._subject} cannot be recorded and runs eagerly from now on: correct, but slower. "
                f"Compute with nbkeras.ops instead, or {self._advice}"
            )
        with self._lock:
            self._unrecordable[key] = program.depends
            if len(self._unrecordable) > _MOST_UNRECORDABLE:  # a key may hold objects, so the oldest goes
                del self._unrecordable[next(iter(self._unrecordable))]

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


def _computed(function: Callable[[list], Any], inputs: list) -> tuple[list[Array], Pack]:
    """The function's outputs on tensors of these arrays."""
    returned = function([None if array is None else Tensor(array) for array in inputs])
    leaves = structures.flatten(returned)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if is_step_recorded():
        take_as_constants(tensors)
    pack = structures.packer(returned, lambda leaf: isinstance(leaf, Tensor))
    return [each.data for each in tensors], pack if tensor.halves is None else tensor.halves.packer(pack, tensors)


def _copy(array: Array) -> Array:
    if not isinstance(array, np.ndarray):  # on a GPU
        return array.copy()
    copy = np.empty(array.shape, array.dtype)
    copy_to(array, copy)
    return copy


def _copy_on_device(array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return _copy(array)
    with device.ordinary(), device.on(device.gpu_of(array)):
        copy = device.empty(array.shape, array.dtype)
        device.launch(device.copy, array, copy)
    return copy
