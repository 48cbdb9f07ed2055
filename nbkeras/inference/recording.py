"""A model's step as a program, recorded once for fixed shapes, for libraries and frozen models."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbkeras.engine import step_lock, structures
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.program import LIVE, Bound, Program
from nbkeras.engine.recorder import OnlyConstants, Recorder
from nbkeras.engine.rewriting import improved
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels.runtime import device

Array = np.ndarray


@dataclass
class Recording:
    """A recorded step. bound: the program over memory; its arrays for inputs have values. structure: of the outputs.

    states: the parts of live memory that steps keep from call to call, (begin, end) by the number of the memory. scratch: the
    parts of live memory that each step writes before it reads them.
    """

    bound: Bound
    structure: object
    states: dict[int, tuple[int, int]] = field(default_factory=dict)
    scratch: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def program(self) -> Program:
        """The recorded program."""
        return self.bound.program

    def owners(self) -> dict[int, Array]:
        """The arrays of live memory, by the number of the memory."""
        program = self.program
        return {
            ref.memory: device.root(array)
            for ref, array in program.arrays.items()
            if program.memories[ref.memory].kind == LIVE
        }

    def parts(self, owners: Container[int]) -> dict[int, tuple[int, int]]:
        """The parts of live memory that the launches use, of the arrays with these ids, by the number of the memory."""
        wanted = {number for number, owner in self.owners().items() if id(owner) in owners}
        found: dict[int, tuple[int, int]] = {}
        for ref in self.program.refs():
            if ref.memory in wanted:
                low, high = ref.bounds()
                before = found.get(ref.memory, (low, high))
                found[ref.memory] = min(low, before[0]), max(high, before[1])
        return found


class _FileRecorder(Recorder):
    """A recorder that notes which layer needs Python to compute values before each replay."""

    nests = False  # files hold no loops

    def __init__(self) -> None:
        super().__init__()
        self.computes: str | None = None

    def before_replays(self, function: Callable[[], None]) -> None:
        self.computes = self.computes or _reader()
        super().before_replays(function)


def _reader() -> str:
    return f"layer {layer_stack.names[-1]!r}" if layer_stack.names else "it"


def record(
    name: str,
    function: Callable[[list[Tensor]], object],
    specs: Sequence[tuple],
    purpose: str,
    states: Callable[[], Sequence[Array]] = tuple,
    training: bool | None = None,
) -> Recording:
    """Record a function of tensors of these shapes and dtypes. Raises ValueError if that is impossible. No array changes.

    name: the model's. purpose: for messages, such as 'become a library'. states(): arrays that the model keeps from call to
    call. Other arrays that it changes are detected. training: the phase of layers, for a model whose weights change; None for
    inference with constant weights, and only then are states found.
    """
    check_device(name, device.gpu(), purpose)
    inputs = [_example(*spec) for spec in specs]
    recorder = _FileRecorder()
    turn = step_lock.enter()
    try:
        with device.run_by(OnlyConstants()), device.record(recorder), training_phase(bool(training)):
            returned = function([Tensor(array) for array in inputs])
        outputs = structures.flatten(returned)
        if recorder.reason is not None:
            raise ValueError(f"model {name!r} cannot {purpose}: {recorder.reason}, which needs Python")
        if recorder.computes is not None:
            raise ValueError(
                f"model {name!r} cannot {purpose}: {recorder.computes} needs Python to compute values before each run"
            )
        results = [output.data for output in outputs]
        better = improved(recorder, inputs, results) if training is None else None
        program = recorder.sealed(results, inputs) if better is None else better.recorder.sealed(better.outputs, inputs)
        recording = Recording(program.bind(), structures.map_leaves(lambda _: 0, returned))
        for own, array in zip(recording.bound.inputs, inputs, strict=True):
            own[...] = array
        if training is None:
            recording.states = _changed(recording, states())
        recording.bound.prepare()
    finally:
        step_lock.leave(turn)
    return recording


def check_device(name: str, gpu: Any, purpose: str) -> None:
    """Refuse a model on a GPU. gpu: None for the CPU."""
    if gpu is not None:
        raise ValueError(
            f"model {name!r} is on a GPU and cannot {purpose}, which is for the CPU: make the model with nbkeras.device('cpu')"
        )


def _example(shape: tuple, dtype: np.dtype) -> Array:
    """Random numbers, or zeros for integers, so that all rows of a table exist."""
    array = device.persistent_empty(shape, dtype)
    array[...] = np.random.default_rng(0).normal(size=shape) if dtype.kind == "f" else 0
    return array


def _changed(recording: Recording, states: Sequence[Array]) -> dict[int, tuple[int, int]]:
    """The parts of live memory that hold the given arrays or that a run changes. All but the inputs keep their values."""
    bound, owners = recording.bound, recording.owners()
    kept = {id(device.root(state)) for state in states}
    before_runs = {number: owner.copy("K") for number, owner in owners.items() if id(owner) in bound.program.written}
    if before_runs:
        try:
            for _ in range(2):
                bound.run()
                for array in bound.inputs:  # a sum in a layer may be 0 for the first example
                    np.subtract(1, array, out=array, casting="unsafe")
            kept |= {id(owners[number]) for number, old in before_runs.items() if not _same_bytes(owners[number], old)}
        finally:
            for number, old in before_runs.items():
                owners[number][...] = old
    return recording.parts(kept)


def _same_bytes(array: Array, other: Array) -> bool:
    return np.array_equal(array.ravel("K").view(np.uint8), other.ravel("K").view(np.uint8))
