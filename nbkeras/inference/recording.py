"""A model's inference as launches, recorded once for fixed shapes, for libraries and frozen models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nbkeras.engine import step_lock, structures
from nbkeras.engine.layer_stack import layer_stack
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.program import OnlyConstants, Program
from nbkeras.engine.rewriting import improved
from nbkeras.engine.tensor import Tensor
from nbkeras.kernels.runtime import device, library

Array = np.ndarray


@dataclass
class Recording:
    """A recorded inference: its launches, and the arrays for inputs and outputs.

    states: (start, end) of the memory that steps keep from call to call. structure: of the outputs.
    """

    steps: list[tuple[Callable, tuple]]
    layers: list[str]  # the layer of each step
    program: Program
    inputs: list[Array]
    outputs: list[Array]
    structure: object
    states: list[tuple[int, int]] = field(default_factory=list)


class _Recorder(Program):
    """A program that records which layer needs Python to compute values before each replay."""

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
) -> Recording:
    """Record a function of tensors of these shapes and dtypes, in inference mode. Raises ValueError if that is impossible.

    name: the model's. purpose: for messages, such as 'become a library'. states(): arrays that the model keeps from call to
    call. Other arrays that it changes are detected.
    """
    if device.gpu() is not None:
        raise ValueError(
            f"model {name!r} is on a GPU and cannot {purpose}, which is for the CPU: make the model with nbkeras.device('cpu')"
        )
    inputs = [_example(*spec) for spec in specs]
    program: Program = (recorder := _Recorder())
    turn = step_lock.enter()
    try:
        with device.run_by(OnlyConstants()), device.record(program), training_phase(False):
            returned = function([Tensor(array) for array in inputs])
        outputs = structures.flatten(returned)
        if program.reason is not None:
            raise ValueError(f"model {name!r} cannot {purpose}: {program.reason}, which needs Python")
        if recorder.computes is not None:
            raise ValueError(
                f"model {name!r} cannot {purpose}: {recorder.computes} needs Python to compute values before each prediction"
            )
        results = [output.data for output in outputs]
        if (better := improved(program, inputs, results)) is not None:
            program, results = better.program, better.outputs
        results = program.seal(results)
        steps, layers = list(program.steps), [place.layer for place in program.places]
        structure = structures.map_leaves(lambda _: 0, returned)
        recording = Recording(steps, layers, program, inputs, results, structure)
        recording.states = _changed(recording, states())
    finally:
        step_lock.leave(turn)
    return recording


def _example(shape: tuple, dtype: np.dtype) -> Array:
    """Random numbers, or zeros for integers, so that all rows of a table exist."""
    array = device.persistent_empty(shape, dtype)
    array[...] = np.random.default_rng(0).normal(size=shape) if dtype.kind == "f" else 0
    return array


def _changed(recording: Recording, states: Sequence[Array]) -> list[tuple[int, int]]:
    """The memory of the given arrays and of persistent arrays that a run changes. All but the inputs keep their values."""
    program = recording.program
    known = {id(device.root(array)) for array in (*recording.inputs, program.arena)}
    kept = {id(device.root(state)) for state in states}
    owners: dict[int, Array] = {}
    reach: dict[int, tuple[int, int]] = {}  # the memory that the steps use
    for _, args in recording.steps:
        for array in args:
            key = id(device.root(array)) if isinstance(array, np.ndarray) and array.size else 0
            if key and key not in known:
                owners[key] = device.root(array)
                low, high = library.bounds_of(array)
                before = reach.get(key, (low, high))
                reach[key] = min(low, before[0]), max(high, before[1])
    before_runs = {key: owner.copy("K") for key, owner in owners.items() if key in program.written}
    if before_runs:
        try:
            for _ in range(2):
                program.run()
                for array in recording.inputs:  # a sum in a layer may be 0 for the first example
                    np.subtract(1, array, out=array, casting="unsafe")
            changed = {key for key, old in before_runs.items() if not _same_bytes(owners[key], old)}
        finally:
            for key, old in before_runs.items():
                owners[key][...] = old
        kept |= changed
    return [reach[key] for key in owners if key in kept]


def _same_bytes(array: Array, other: Array) -> bool:
    return np.array_equal(array.ravel("K").view(np.uint8), other.ravel("K").view(np.uint8))
