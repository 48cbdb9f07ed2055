"""Tracing a model: the ops that it applies, recorded in runs with several sizes of its open axes.

Sizes in an op's constants and in tensors' shapes may depend on the open axes (batch, steps). Comparing runs reveals the
dependence.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbkeras.engine import structures, tape
from nbkeras.engine.learning_phase import training_phase
from nbkeras.engine.tensor import Tensor, layer_stack, listening, shapes_only

Axis = tuple[int, int]  # (input, axis): an axis whose size is open
# the smallest size of an open axis and the step between sizes, tried until the model accepts them
_TRIES = ((3, 1), (35, 1), (131, 1), (64, 32))
_FAR = (0, 1056, 1056, 128, 64, 32)  # a large size, by the number of open axes besides the batch
_BATCH = 3


class Unsupported(ValueError):
    """The error for a value or op without a counterpart in ONNX."""


@dataclass(frozen=True)
class Size:
    """A size that depends on open axes: `constant` plus each axis's size times a factor. factors: None for another dependence.

    values: the size in each run.
    """

    constant: int
    factors: tuple[tuple[Axis, int], ...] | None
    values: tuple[int, ...]


@dataclass
class TracedOp:
    """One op: its name ('family.op'), the layer that applied it, its tensors, its constants and its outputs.

    formula: the formula of an op that is made of one, else None.
    """

    name: str
    formula: Callable | None
    layer: str
    inputs: list[Tensor | None]
    constants: dict[str, Any]
    outputs: list[Tensor]


@dataclass
class Run:
    """One run of a model."""

    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    calls: list[TracedOp] = field(default_factory=list)


class Trace:
    """Runs of a function of tensors: one with small sizes, one with each open axis larger by one, and one with all larger.

    function(inputs) -> structure of tensors. shapes: the inputs' shapes, with a name or None for an open axis; axes with one
    name have one size, and the first axis is the batch. Raises ValueError if the ops differ between runs.
    """

    def __init__(self, function: Callable, shapes: Sequence[tuple], dtypes: Sequence[Any]):
        self.names: dict[str, Axis] = {}  # the first open axis of each name
        for number, shape in enumerate(shapes):
            for axis, size in enumerate(shape):
                if isinstance(size, str):
                    self.names.setdefault(size, (number, axis))
        error = None
        for attempt in _TRIES:
            self.trials = self._sizes(*attempt)
            try:
                self.runs = [self._run(function, shapes, dtypes, *trial) for trial in enumerate(self.trials)]
            except ValueError as reason:  # the size is smaller than a window, or not a multiple of it
                error = error or reason
                continue
            break
        else:
            raise error  # type: ignore[misc]
        self._run_with_large_sizes(function, shapes, dtypes)
        self._check()

    def _sizes(self, minimum: int, step: int) -> list[dict[str, int]]:
        steps = {name: 1 if axis == 0 else step for name, (_, axis) in self.names.items()}
        first = {name: minimum + 2 * i * steps[name] for i, name in enumerate(self.names)}
        first |= {name: _BATCH for name, (_, axis) in self.names.items() if axis == 0}
        one_larger = [{**first, name: first[name] + steps[name]} for name in self.names]
        return [first, *one_larger, {name: size + 2 * steps[name] for name, size in first.items()}]

    def _run_with_large_sizes(self, function: Callable, shapes: Sequence[tuple], dtypes: Sequence[Any]) -> None:
        """One more run, of shapes only, with large sizes, since a layer may compute different ops for large sizes.

        If a model does not accept large sizes, for example with a table of positions, the other runs suffice.
        """
        axes = sum(axis > 0 for _, axis in self.names.values())
        if not 0 < axes < len(_FAR):
            return
        sizes = {
            name: _BATCH + 4 if self.names[name][1] == 0 else _FAR[axes] + 64 * i for i, name in enumerate(self.names)
        }
        with contextlib.suppress(Exception), shapes_only():
            self.runs.append(self._run(function, shapes, dtypes, 0, sizes))
            self.trials.append(sizes)

    def _run(self, function: Callable, shapes, dtypes, seed: int, sizes: dict[str, int]) -> Run:
        random = np.random.default_rng(seed)
        tensors = []
        for shape, dtype in zip(shapes, dtypes, strict=True):
            run_shape = [sizes[size] if isinstance(size, str) else size for size in shape]
            floats = np.dtype(dtype).kind == "f"
            tensors.append(
                Tensor(random.random(run_shape).astype(dtype) if floats else np.full(run_shape, seed % 2, dtype))
            )
        run = Run(tensors)

        def applied(op: Callable, inputs: Sequence, constants: dict, result: Any) -> None:
            module = op.__module__.rpartition(".")[2] if str(op.__module__).startswith("nbkeras.") else op.__module__
            name = f"{module}.{op.__name__}"
            outputs = list(result) if isinstance(result, tuple) else [result]
            formula, layer = getattr(op, "formula", None), "/".join(layer_stack.names)
            run.calls.append(TracedOp(name, formula, layer, list(inputs), constants, outputs))

        # keeps=True: the model may compute gradients, and ops must compute them
        with training_phase(False), listening(applied), tape.thread.now(keeps=True):
            run.outputs = structures.flatten(function(tensors))
        return run

    def _check(self) -> None:
        def made(run: Run) -> list[tuple]:
            return [(call.name, len(call.inputs), len(call.outputs)) for call in run.calls]

        for run, sizes in zip(self.runs[1:], self.trials[1:], strict=True):
            if made(run) != made(self.runs[0]):
                raise ValueError(
                    f"the model computes different ops for inputs of other sizes ({self.trials[0]} and {sizes}): give the "
                    "sizes of its inputs in input_signature"
                )

    def merged(self, values: Sequence[Any]) -> Any:
        """Merge a constant's values in the runs into one, with Sizes where they differ."""
        first = values[0]
        if isinstance(first, tuple | list):
            if any(len(value) != len(first) for value in values):
                raise Unsupported("an argument has more or fewer parts for inputs of other sizes")
            return tuple(self.merged(parts) for parts in zip(*values, strict=True))
        if isinstance(first, slice):
            return slice(*(self.merged([getattr(v, part) for v in values]) for part in ("start", "stop", "step")))
        if all(_same(value, first) for value in values):
            return first
        if not all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values):
            raise Unsupported(f"an argument depends on the sizes of open axes: {first!r}, {values[-1]!r}")
        return self._size([int(value) for value in values])

    def _size(self, values: list[int]) -> Size:
        base = self.trials[0]
        slopes = {}
        for name, value, trial in zip(base, values[1:], self.trials[1:], strict=False):
            slopes[name], rest = divmod(value - values[0], trial[name] - base[name])
            if rest:
                return Size(0, None, tuple(values))
        constant = values[0] - sum(slopes[name] * base[name] for name in base)
        for value, trial in zip(values, self.trials, strict=True):
            if value != constant + sum(slopes[name] * size for name, size in trial.items()):
                return Size(0, None, tuple(values))
        factors = tuple((self.names[name], slope) for name, slope in slopes.items() if slope)
        return Size(constant, factors, tuple(values))

    def calls(self) -> Iterator[tuple[int, TracedOp]]:
        """(number, call in the first run) of the calls that the outputs depend on."""
        run = self.runs[0]
        wanted, needed = {id(tensor.data) for tensor in run.outputs}, set()
        for number, call in reversed(list(enumerate(run.calls))):
            if any(id(out.data) in wanted for out in call.outputs):
                needed.add(number)
                wanted.update(id(tensor.data) for tensor in call.inputs if tensor is not None)
        for number in sorted(needed):
            yield number, run.calls[number]

    def constants(self, number: int) -> dict[str, Any]:
        """A call's constants, with Sizes for values that depend on the open axes."""
        everywhere = [run.calls[number].constants for run in self.runs]
        return {key: self.merged([constants[key] for constants in everywhere]) for key in everywhere[0]}

    def shape(self, tensors: Sequence[Tensor]) -> tuple:
        """The shape of one tensor, with Sizes, from the tensor's version of each run."""
        return self.merged([tensor.shape for tensor in tensors])

    def versions(self, number: int, position: int) -> list[Tensor]:
        """The versions of one input of a call in each run."""
        return [run.calls[number].inputs[position] for run in self.runs]  # type: ignore[misc]


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(value, other)
    return value is other or bool(value == other) or (value != value and other != other)  # NaN counts as equal to NaN
