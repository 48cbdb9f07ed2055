"""A library that trains: a compiled model's steps over one state, which holds all that training changes."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras import ops, random
from nbkeras.data.conversion import batch_of
from nbkeras.engine import structures
from nbkeras.engine.layer_stack import LayerScope
from nbkeras.engine.program import ARENA, INPUT, STATE, Launch, Memory, Program
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.export import library_code
from nbkeras.export.library_files import FunctionSpec, TensorSpec, TrainingSpec, arguments_of
from nbkeras.export.library_rows import BufferRef
from nbkeras.export.native_code import Code, LibraryFunction
from nbkeras.inference import signature
from nbkeras.inference.constants import FrozenPrograms, State
from nbkeras.inference.recording import Recording, record
from nbkeras.kernels import library_steps
from nbkeras.kernels import random as random_kernels
from nbkeras.kernels.runtime import device
from nbkeras.kernels.runtime.ref import Ref
from nbkeras.optimizers import Optimizer
from nbkeras.optimizers.guard import Guard
from nbkeras.optimizers.slots import Slot

Array = np.ndarray
HEADER = 64  # bytes of the state before its arrays: what it is, which arrays follow, and their bytes
_MAGIC = int.from_bytes(b"nbkeras\1", "little")  # the last byte is the version; read in another byte order it differs
_PURPOSE = "become a library that trains"
_WORD = np.dtype(np.int64)


def variables_by_name(model: Any) -> dict[str, Variable]:
    """The variables of a model that training changes, with their names in the state of a library that trains.

    Args:
        model: A compiled model that has made a step, or was exported.

    Example:
        >>> from nbkeras.export import variables_by_name
        >>> model = keras.Sequential([keras.Input((1,)), layers.Dense(2)])
        >>> model.compile("sgd", "mse")
        >>> [name for name in variables_by_name(model) if name.startswith("model")]
        ['model/0', 'model/1']
    """
    shared = {f"random/{device}": each.state for device, each in random._shared.items()}
    return {**dict(model._state_variables()), **shared}


class StateArray(NamedTuple):
    """A variable in the state. name: as in `variables_by_name`. path: the variable's."""

    name: str
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


class _Step(NamedTuple):
    """A recorded function. guard: for a train step, the array that is 0 after a loss that is not finite."""

    name: str
    inputs: list[TensorSpec]
    names: list[str]  # of the outputs
    recording: Recording
    guard: Array | None = None


class Trainer:
    """The functions of a library that trains a model.

    example: (x, y) or (x, y, sample_weight), a batch. prefix: of the functions' names. ValueError names what cannot be part of a
    library.
    """

    def __init__(self, model: Any, prefix: str, example: Any):
        compiled = model._check_compiled("exporting it with training=True")
        self.model, self._prefix = model, prefix
        batch = batch_of(model._data_spec, *example)
        compiled.prepare_to_train(model)
        self._leaves, self._layout, self.rows = batch.leaves, batch.layout, batch.size
        self.inputs = self._named_inputs()
        data = [each for each in self.inputs if each is not None]
        self._steps = [self._recorded("test_step", data, functools.partial(self._measure, "test", None), False)]
        unguarded = self._recorded("train_step", data, functools.partial(self._measure, "train", None), True)
        self._written = unguarded.recording.program.written
        guard = Guard(only_loss=True)
        train = functools.partial(self._measure, "train", guard)
        self._steps.append(self._recorded("train_step", data, train, True, guard.sound))
        xs = [each for each in self.inputs[: self._layout.inputs] if each is not None]
        self._steps.append(self._recorded("predict", xs, self._predict, False))
        self._steps.append(self._recorded("reset_metrics", [], lambda _: model.reset_metrics(), False))
        if any(getattr(layer, "stateful", False) for layer in model._all_layers()):
            self._steps.append(self._recorded("reset_states", [], lambda _: model.reset_states(), False))
        lagging = [v for _, v in model._state_variables() if isinstance(v, Slot) and v.fading is not None]
        if lagging:
            self._steps.append(self._recorded("settle", [], lambda _: _settled(lagging), False))
        self._share_state(guard)

    @property
    def recordings(self) -> dict[str, Recording]:
        """The recorded functions by name."""
        return {each.name: each.recording for each in self._steps}

    # -------------------- recording --------------------

    def _named_inputs(self) -> list[TensorSpec | None]:
        """The arrays of a batch; None where there is none."""
        layout, names = self._layout, list(self.model.output_names)
        known = [str(name) for name in getattr(self.model, "input_names", None) or []]
        xs = (
            known
            if len(known) == layout.inputs
            else [f"x_{i}" if layout.inputs > 1 else "x" for i in range(layout.inputs)]
        )
        ys = names if len(names) == layout.targets else [f"output_{i}" for i in range(layout.targets)]
        targets = [f"{name}_target" if name in xs else name for name in ys]
        weights = ["sample_weight"] if layout.targets <= 1 else [f"{name}_weight" for name in ys]
        return [
            None if leaf is None else TensorSpec(name, leaf.shape, leaf.dtype)
            for name, leaf in zip([*xs, *targets, *weights], self._leaves, strict=True)
        ]

    def _recorded(
        self, name: str, inputs: list[TensorSpec], function: Callable, training: bool, guard: Array | None = None
    ) -> _Step:
        names: list[str] = []

        def call(tensors: list[Tensor]) -> Any:
            made = function(tensors)
            if isinstance(made, dict):
                names.extend(made)
                return list(made.values())
            return made or []

        recording = record(self.model.name, call, [each[1:] for each in inputs], _PURPOSE, training=training)
        return _Step(name, inputs, names, recording, guard)

    def _packed(self, tensors: list[Tensor]) -> list[Tensor | None]:
        given = iter(tensors)
        return [None if each is None else next(given, None) for each in self.inputs]

    def _measure(self, kind: str, guard: Guard | None, tensors: list[Tensor]) -> dict[str, Tensor]:
        """A train or test step. Its output is an array of all logs."""
        model, data = self.model, self._layout.pack(self._packed(tensors))
        if guard is None:
            logs = model._logs_of_step(kind, data)
        else:
            for gap in (gap for part in self._optimizers() for gap in part.buffers.gaps()):
                device.launch(device.fill, gap, 0)
            with guard.keeping(self._kept()):
                logs = model._logs_of_step(kind, data)
        self.logs = [
            label
            for name, value in logs.items()
            for label in ([name] if value.size == 1 else _numbered(name, value.size))
        ]
        wide = any(value.dtype == np.float64 for value in logs.values())
        flat = [ops.reshape(ops.cast(value, "float64" if wide else "float32"), (-1,)) for value in logs.values()]
        return {"logs": ops.concatenate(flat)}

    def _kept(self) -> list[Variable]:
        """The variables that a step writes before its loss is known."""
        model = self.model
        own = [v for v in model.variables if not (v.declared_trainable or v.is_quantized)]
        measured = [v for metric in model.metrics for v in metric.variables]
        found = dict.fromkeys([*own, *measured, *(each.state for each in random._shared.values())])
        return [each for each in found if id(device.root(each.data)) in self._written]

    def _predict(self, tensors: list[Tensor]) -> Any:
        made = self.model.predict_step(structures.pack(self._layout.x, self._packed(tensors)[: self._layout.inputs]))
        leaves = structures.flatten(made)
        inputs = [each.name for each in self.inputs[: self._layout.inputs] if each is not None]
        names = signature.output_names(self.model, len(leaves), inputs)
        return dict(zip(names, leaves, strict=True))

    def _share_state(self, guard: Guard) -> None:
        """Decide which arrays are kept from call to call: all that a function writes, except gradients."""
        scratch = {id(device.root(flat)) for part in self._optimizers() for flat in part.buffers.flat_gradients()}
        scratch.add(id(device.root(guard.sound)))
        kept = {key for each in self.recordings.values() for key in each.program.written} - scratch
        kept.update(id(device.root(rate)) for rate in self._rates())
        for each in self.recordings.values():
            each.states, each.scratch = each.parts(kept), each.parts(scratch)

    def _rates(self) -> list[Array]:
        """The arrays of the learning rates that programs may set."""
        return [part.learning_rate.data for part in self._optimizers() if not part.follows_schedule]

    def _optimizers(self) -> list[Optimizer]:
        """The optimizers that update weights."""
        parts = [part for each in self.model._optimizers() for part in each.parts]
        return [each for each in dict.fromkeys(parts) if each.built]

    # -------------------- code --------------------

    def made(self, code: Code, frozen: FrozenPrograms) -> tuple[list[FunctionSpec], list[LibraryFunction]]:
        """The functions, for the header and as code."""
        maker = _Maker(code, frozen.state, self.arrays(frozen.state))
        for step in self._steps:
            maker.add_step(self._spec(step), frozen.programs[step.name], self._checks(step), self._split(step))
        seeds = {
            args[0].offset
            for program in frozen.programs.values()
            for function, args in program.launches
            if function is random_kernels.take_key and program.memories[args[0].memory].kind == STATE
        }
        maker.add_init(f"{self._prefix}_init", sorted(seeds))
        rates = [frozen.state.offset(rate) for rate in self._rates()]
        if len(rates) == 1 and rates[0] is not None:
            maker.add_learning_rate(self._prefix, rates[0])
        return maker.specs, maker.functions

    def about(self, state: State) -> TrainingSpec:
        """The description of the state and the logs, for the files beside the library."""
        return TrainingSpec(self.logs, [(*each[:3], each.dtype.name, each.offset) for each in self.arrays(state)])

    def arrays(self, state: State) -> list[StateArray]:
        """The variables in the state."""
        found = []
        for name, variable in variables_by_name(self.model).items():
            data = variable.rows if isinstance(variable, Slot) else variable.data
            offset = state.offset(data)
            if offset is not None:
                found.append(StateArray(name, str(variable.path), data.shape, data.dtype, offset))
        return found

    def _spec(self, step: _Step) -> FunctionSpec:
        arrays = step.recording.program.outputs
        outputs = [TensorSpec(name, each.shape, each.dtype) for name, each in zip(step.names, arrays, strict=True)]
        name = f"{self._prefix}_{step.name}"
        return FunctionSpec(name, self.rows, step.inputs, outputs, "read" if step.name == "predict" else "written")

    def _checks(self, step: _Step) -> list[tuple[Callable, tuple] | None]:
        """A kernel that checks each input of a train or test step, with its arguments after the input."""
        if step.name not in ("train_step", "test_step"):
            return []
        tables = getattr(self.model._graph_inputs, "tables", None) or {}
        ranges: dict[int, tuple[int, int, int]] = {at: (-rows, rows - 1, 0) for at, (rows, _) in tables.items()}
        for at, output in enumerate(self.model._data_spec().outputs):
            if output.classes is not None:
                ignored = 0 if output.ignored is None else output.ignored
                ranges[self._layout.inputs + at] = 0, output.classes - 1, ignored
        found: list[tuple[Callable, tuple] | None] = []
        for at, each in enumerate(self.inputs):
            if each is not None and at in ranges:
                found.append((library_steps.check_within, ranges[at]))
            elif each is not None:
                found.append((library_steps.check_finite, ()) if each.dtype.kind == "f" else None)
        return found

    def _split(self, step: _Step) -> int | None:
        """The number of the launch that begins to undo a step whose loss was not finite; see Guard.keeping."""
        if step.guard is None:
            return None
        owner = device.root(step.guard)
        number = next(at for at, each in step.recording.owners().items() if each is owner)
        return next(
            at
            for at, (function, args) in enumerate(step.recording.program.launches)
            if function is np.subtract and isinstance(args[1], Ref) and args[1].memory == number
        )


def _settled(slots: Sequence[Slot]) -> None:
    for slot in slots:
        slot.settle()


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(count)]


class _Maker:
    """Makes functions over a state."""

    def __init__(self, code: Code, state: State, arrays: Sequence[StateArray]):
        self.specs: list[FunctionSpec] = []
        self.functions: list[LibraryFunction] = []
        self._code, self._state = code, state
        described = [(each.name, each.shape, each.dtype.str, each.offset) for each in arrays]
        text = json.dumps([described, [part[:2] for part in state.parts]])
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
        self._header = device.persistent(np.array([_MAGIC, key, state.nbytes, 0, 0, 0, 0, 0], _WORD))

    def add_step(
        self, spec: FunctionSpec, program: Program, checks: Sequence[tuple[Callable, tuple] | None], split: int | None
    ) -> None:
        """Add a recorded function. checks: for each input. split: for a train step."""
        inputs = [(check, ref) for check, ref in zip(checks, program.inputs, strict=False) if check is not None]
        refused: list[Launch] = [(kernel, (_flat(ref), *rest)) for (kernel, rest), ref in inputs]
        guard = None if split is None else BufferRef("workspace", program.launches[split][1][1].offset)
        self._add(spec, program, refused, split, guard)

    def add_init(self, name: str, seeds: Sequence[int]) -> None:
        """Add the function that writes the first values, for which the state needs no header. seeds: offsets of generators."""
        program = self._program(INPUT)
        words, seed = Ref.contiguous(2, 0, (HEADER // 8,), _WORD), Ref.contiguous(1, 0, (1,), _WORD)
        program.launches.append((library_steps.write_words, (self._header, words)))
        for at in seeds:
            program.launches.append((library_steps.reseed, (Ref.contiguous(2, at, (2,), np.dtype(np.uint32)), seed)))
        spec = FunctionSpec(name, 0, [], [], "written", ("seed", "int64"), has_workspace=False)
        self._add(spec, program, None, copies=self._code.first_values(self._state))

    def add_learning_rate(self, prefix: str, offset: int) -> None:
        """Add the functions that read and set the learning rate."""
        here, there = BufferRef("state", offset), BufferRef("out 0", 0)
        rate = TensorSpec("rate", (), np.dtype(np.float64))
        spec = FunctionSpec(f"{prefix}_learning_rate", 0, [], [rate], "read", has_workspace=False)
        self._add(spec, self._program(INPUT), [], copies=[(here, there, 8)])
        program, given = self._program(INPUT), Ref.contiguous(1, 0, (1,), rate.dtype)
        check: Launch = (library_steps.check_within, (given, 0.0, np.finfo(float).max, 0.0))
        spec = FunctionSpec(
            f"{prefix}_set_learning_rate", 0, [], [], "written", ("rate", "float64"), has_workspace=False
        )
        self._add(spec, program, [check], copies=[(BufferRef("in 0", 0), here, 8)])

    def _program(self, kind: str) -> Program:
        """A program without launches: memory 1 holds a number, memory 2 is the state."""
        return Program([], [], [], [], [Memory(ARENA, 0), Memory(kind, 8), Memory(STATE, self._state.nbytes)], {})

    def _add(
        self,
        spec: FunctionSpec,
        program: Program,
        refused: Sequence[Launch] | None,
        split: int | None = None,
        guard: BufferRef | None = None,
        copies: Sequence[tuple[Any, BufferRef, int]] = (),
    ) -> None:
        """Add a function. refused: launches that check its arguments, after a check of the state's header; None: no check."""
        before: list[Launch] = []
        if refused is not None:
            memories = program.memories
            if STATE not in [each.kind for each in memories]:
                memories.append(Memory(STATE, self._state.nbytes))
            number = [each.kind for each in memories].index(STATE)
            header = Ref.contiguous(number, 0, (3,), _WORD)
            before = [(library_steps.check_words, (header, self._header[:3])), *refused]
        program.launches[:0] = before
        program.layers[:0] = [LayerScope("", False)] * (len(program.launches) - len(program.layers))
        end = len(program.launches) if split is None else len(before) + split
        rows = self._code.rows(program, min(1, len(before)), len(before), end)
        header_rows, refused_rows, main, last = rows.groups
        checks = [(library_code.OTHER_STATE, header_rows), (library_code.OUT_OF_RANGE, refused_rows)]
        arguments = arguments_of(spec, self._state.nbytes, rows.workspace, self._code.is_inside)
        self.specs.append(spec)
        self.functions.append(LibraryFunction(spec.name, arguments, main, copies, checks, guard, last))


def _flat(ref: Ref) -> Ref:
    return Ref.contiguous(ref.memory, ref.offset, (ref.nbytes // ref.dtype.itemsize,), ref.dtype)
