"""Floor 1: ProgramCache, a function of tensors that is recorded once for each signature and replayed from then on.

It is the only place that records functions to replay them: steps of models, streams and `nbkeras.jit` have one each.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import step_lock, structures, tape, tensor
from nbkeras.engine.batch import Batch
from nbkeras.engine.program import Bound, Program, caches
from nbkeras.engine.recorder import Recorder, is_step_recorded
from nbkeras.engine.replays import Inputs, Pack, Replays, copy_of, copy_on_device
from nbkeras.engine.tensor import Tensor, take_as_constants
from nbkeras.engine.user_errors import warn
from nbkeras.kernels.runtime import device, fork_safety

Array = np.ndarray
_MAX_UNRECORDABLE = 256


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
        improve: Callable[[Recorder, list[Array], list[Array]], Any] | None = None,
        on_device: bool = False,
    ):
        self._subject, self._advice, self._capacity, self._improve = subject, advice, capacity, improve
        self._copy = copy_on_device if on_device else copy_of
        self._kept: OrderedDict[tuple, Replays] = OrderedDict()
        self._recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()  # of functions that are being recorded
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
        try:
            replays = self._kept[key]
            self._kept.move_to_end(key)
        except KeyError:  # not recorded, or dropped by another thread
            return None
        outputs = replays.run_batch(batch)
        return None if outputs is None else (outputs, replays.pack)

    def _recorded(self, function: Callable, batch: Batch, key: tuple | None) -> tuple[list[Array], Pack]:
        """Run the function. A key: record it, and keep the program."""
        turn = step_lock.enter()
        try:
            inputs = Inputs.of(batch)
            if key is None:
                outputs, pack = _computed(function, inputs.all)
                return [self._copy(array) for array in outputs], pack
            recorder = Recorder()
            with self._lock:
                self._recorders.add(recorder)
            with device.record(recorder):
                outputs, pack = _computed(function, inputs.all)
            results = [self._copy(device.plain(array)) for array in outputs]
            self.recordings += 1
            if recorder.reason is not None:
                self._run_eagerly(key, recorder)
            elif (
                not recorder.outdated
            ):  # the function itself may have outdated it: building an optimizer moves the weights
                program, is_exact = self._improved(recorder, inputs.arrays, outputs)
                nones = [number for number, array in enumerate(inputs.all) if array is None]
                replays = self._keep(key, Replays(program, nones, pack, self._copy))
                if not is_exact:  # the first run must give the same bits
                    results = replays.run_batch(batch) or results
            return results, pack
        finally:
            step_lock.leave(turn)

    def _improved(self, recorder: Recorder, inputs: list[Array], outputs: list[Array]) -> tuple[Program, bool]:
        """The program or a better one, and whether it gives the same bits."""
        better = self._improve and self._improve(recorder, inputs, outputs)
        if better is None:
            return recorder.sealed(outputs, inputs), True
        with self._lock:
            self._recorders.add(better.recorder)
        return better.recorder.sealed(better.outputs, inputs), better.is_exact or bool(recorder.written)

    def _keep(self, key: tuple, replays: Replays) -> Replays:
        with self._lock:
            self._kept[key] = replays
            self._kept.move_to_end(key)
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)[1].drop()  # other holders of it must not keep memory alive
        return replays

    def _run_eagerly(self, key: tuple, recorder: Recorder) -> None:
        """Remember that the function cannot be recorded, and warn the first time."""
        if not self._unrecordable:
            warn(
                f"{recorder.reason}, so {self._subject} cannot be recorded and runs eagerly from now on: correct, but slower. "
                f"Compute with nbkeras.ops instead, or {self._advice}"
            )
        with self._lock:
            self._unrecordable[key] = recorder.depends
            if len(self._unrecordable) > _MAX_UNRECORDABLE:  # a key may hold objects, so the oldest goes
                del self._unrecordable[next(iter(self._unrecordable))]

    def drop(self, changed: set[int] | None = None) -> None:
        """Drop the programs that depend on any of these ids, with their memory. Running programs are dropped when they end.

        changed: the ids; None for all programs.
        """

        def depends(ids: set[int]) -> bool:
            return changed is None or not ids.isdisjoint(changed)

        with self._lock:
            for recorder in self._recorders:
                recorder.outdated = recorder.outdated or depends(recorder.depends)
            for key in [key for key, replays in self._kept.items() if depends(replays.program.depends)]:
                self._kept.pop(key).drop()
            for key in [key for key, ids in self._unrecordable.items() if depends(ids)]:
                del self._unrecordable[key]

    def replays(self, key: Any, signature: tuple) -> Replays | None:
        """The program that `run` replays for this key and signature, with its instances."""
        with self._lock:
            return self._kept.get((key, signature))

    def programs(self) -> list[Program]:
        """The kept programs, the most recently used last."""
        with self._lock:
            return [replays.program for replays in self._kept.values()]

    def bounds(self) -> list[Bound]:
        """An instance with memory of each kept program, the most recently used program last."""
        with self._lock:
            return [replays.bound() for replays in self._kept.values()]


def _computed(function: Callable[[list], Any], inputs: list) -> tuple[list[Array], Pack]:
    """The function's outputs on tensors of these arrays."""
    returned = function([None if array is None else Tensor(array) for array in inputs])
    leaves = structures.flatten(returned)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if is_step_recorded():
        take_as_constants(tensors)
    pack = structures.packer(returned, lambda leaf: isinstance(leaf, Tensor))
    return [each.data for each in tensors], pack if tensor.halves is None else tensor.halves.packer(pack, tensors)
