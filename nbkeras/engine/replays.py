"""Floor 1: Replays, a program with its instances, for any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from nbkeras.engine import step_lock
from nbkeras.engine.batch import Batch, copy_to
from nbkeras.engine.program import ARENA, Bound, Memory, Program
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.pool import Pool

Array = np.ndarray
Pack = Callable[[list], Any]  # the outputs' structure: takes the leaves that were tensors
_KEPT = 64 << 20  # bytes of idle instances kept for each program, but at least one instance for each processor
_FORMS = 64  # of arrays whose calls are known
_empty = np.empty
T = TypeVar("T")


class Inputs:
    """The input arrays of a program, and how batches like one get there. all: with None for each leaf that is None."""

    __slots__ = ("all", "arrays", "_staging")

    def __init__(self, all_inputs: list[Array | None]):
        self.all: list[Any] = all_inputs
        self.arrays = [array for array in all_inputs if array is not None]
        self._staging = device.input_staging(self.all)

    @classmethod
    def of(cls, batch: Batch) -> Inputs:
        """New arrays, filled with a batch."""
        made = cls([None if item is None else device.persistent_empty(*item) for item in batch.signature])
        made.fill(batch)
        return made

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


class KnownForms(dict[tuple, T]):
    """Facts about calls, by the shapes and dtypes of their arrays. After 64 forms it is emptied: data may have many lengths."""

    __slots__ = ()

    def __setitem__(self, form: tuple, known: T) -> None:
        if len(self) >= _FORMS:
            self.clear()
        super().__setitem__(form, known)


# Takes the place of a dropped program: a holder of its Replays would keep its arrays alive, such as old weights
_DROPPED = Program([], [], [], [], [Memory(ARENA, 0)], {}, outdated=True)


class Replays:
    """A program, and its instances that no thread is running.

    nones: the positions of leaves of a batch that are None. pack: makes the outputs' structure of the leaves that were tensors.
    copy: copies an output.
    """

    __slots__ = ("program", "pack", "_free", "_copy", "_forms", "_nones", "_limit", "_is_frozen")

    def __init__(self, program: Program, nones: Sequence[int] = (), pack: Pack = list, copy: Callable | None = None):
        self.program, self.pack, self._copy, self._nones = program, pack, copy or copy_of, nones
        self._forms = [(each.shape, each.dtype) for each in program.outputs]
        self._is_frozen = program.is_frozen
        self._free = [program.bind()]
        self._limit = max(
            Pool.maximum, _KEPT // max(program.offsets()[1], 1)
        )  # of instances kept after a burst of calls

    def run(self, *arrays: Array) -> list[Array] | None:
        """Run on arrays of the signature. Returns copies of the outputs.

        Returns None if the program is outdated, or cannot use these arrays directly. The caller then uses `run_batch`, or
        `ProgramCache.run`.
        """
        program = self.program
        try:
            # No lock: threads that run short steps would contend for it at every step.
            bound = self._free.pop()
        except IndexError:
            if program.outdated:
                return None
            bound = program.bind()
        outputs = [_empty(shape, dtype) for shape, dtype in self._forms]
        if self._is_frozen:
            done = device.runner() is None and bound.native(*arrays, *outputs)
        else:
            turn = step_lock.enter()
            try:
                if program.outdated:
                    return None
                done = bound.run_on(*arrays, *outputs)
            finally:
                step_lock.leave(turn)
        if len(self._free) < self._limit:
            self._free.append(bound)
        return outputs if done else None

    def run_batch(self, batch: Batch) -> list[Array] | None:
        """Run on a batch. Returns copies of the outputs, or None if the program is outdated."""
        arrays = batch.ready
        outputs = None if arrays is None else self.run(*arrays)
        if outputs is not None:
            return outputs
        turn = step_lock.enter()
        try:
            program = self.program
            if program.outdated:  # asked here: until now a writer may have moved weights
                return None
            try:
                bound = self._free.pop()
            except IndexError:
                bound = program.bind()
            inputs = bound.staging
            if inputs is None:
                own = iter(bound.inputs)
                every = [None if number in self._nones else next(own) for number in range(len(batch.leaves))]
                inputs = bound.staging = Inputs(every)
            inputs.fill(batch)
            bound.run()
            outputs = [self._copy(array) for array in bound.outputs]
            if len(self._free) < self._limit:
                self._free.append(bound)
            return outputs
        finally:
            step_lock.leave(turn)

    def drop(self) -> None:
        """Free the memory, now or when the running instances end."""
        self.program.outdated = True
        self.program = _DROPPED
        self._limit = 0
        self._free.clear()

    def bound(self) -> Bound:
        """One of the instances, the last one that ran if it is idle."""
        return self._free[-1] if self._free else self.program.bind()


def copy_of(array: Array) -> Array:
    if not isinstance(array, np.ndarray):  # on a GPU
        return array.copy()
    copy = np.empty(array.shape, array.dtype)
    copy_to(array, copy)
    return copy


def copy_on_device(array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return copy_of(array)
    with device.ordinary(), device.on(device.gpu_of(array)):
        copy = device.empty(array.shape, array.dtype)
        device.launch(device.copy, array, copy)
    return copy
