"""What a model computes, as the ops that it applied: the same calls with several sizes of its open axes.

The sizes in an op's constants and in tensors' shapes follow the open axes (batch, steps); how is found by comparing runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbkeras import nest
from nbkeras.layer import training_phase
from nbkeras.tensor import Tensor, listening

Axis = tuple[int, int]  # (input, axis): an axis whose size is open


@dataclass(frozen=True)
class Size:
    """A size that follows open axes: `constant` plus each axis's size times a factor; factors None: in some other way."""

    constant: int
    factors: tuple[tuple[Axis, int], ...] | None


@dataclass
class Call:
    """One op: its name ('family.op'), its tensors, its constants and its outputs."""

    name: str
    inputs: list[Tensor | None]
    constants: dict[str, Any]
    outputs: list[Tensor]


@dataclass
class Run:
    """One run of a model."""

    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)


class Trace:
    """Runs of a function of tensors: the first with small sizes, then each open axis larger by one, then all larger.

    function(inputs) -> structure of tensors. shapes: of the inputs, with a name or None for an open axis; axes of one name
    are of one size. Raises ValueError where the ops differ between runs.
    """

    def __init__(self, function: Callable, shapes: Sequence[tuple], dtypes: Sequence[Any]):
        self.names: dict[str, Axis] = {}  # of the open axes: where the first of a name is
        for number, shape in enumerate(shapes):
            for axis, size in enumerate(shape):
                if isinstance(size, str):
                    self.names.setdefault(size, (number, axis))
        self.trials = [{name: 3 + 2 * i for i, name in enumerate(self.names)}]
        self.trials += [{**self.trials[0], name: self.trials[0][name] + 1} for name in self.names]
        self.trials.append({name: size + 2 for name, size in self.trials[0].items()})
        self.runs = [self._run(function, shapes, dtypes, sizes, seed) for seed, sizes in enumerate(self.trials)]
        self._check()

    def _run(self, function: Callable, shapes, dtypes, sizes: dict[str, int], seed: int) -> Run:
        random = np.random.default_rng(seed)
        tensors = []
        for shape, dtype in zip(shapes, dtypes, strict=True):
            whole = [sizes[size] if isinstance(size, str) else size for size in shape]
            integers = np.dtype(dtype).kind != "f"
            tensors.append(Tensor(np.zeros(whole, dtype) if integers else random.random(whole).astype(dtype)))
        run = Run(tensors)

        def applied(op: Callable, inputs: Sequence, constants: dict, result: Any) -> None:
            name = f"{op.__module__.rpartition('.')[2]}.{op.__name__}"
            run.calls.append(
                Call(name, list(inputs), constants, list(result) if isinstance(result, tuple) else [result])
            )

        with training_phase(False), listening(applied):
            run.outputs = nest.flatten(function(tensors))
        return run

    def _check(self) -> None:
        def made(run: Run) -> list[tuple]:
            return [(call.name, len(call.inputs), len(call.outputs)) for call in run.calls]

        for run, sizes in zip(self.runs[1:], self.trials[1:], strict=True):
            if made(run) != made(self.runs[0]):
                raise ValueError(
                    f"the model computes something else for inputs of other sizes ({self.trials[0]} and {sizes}): give "
                    "input_signature the sizes that it will get"
                )

    def merged(self, values: Sequence[Any]) -> Any:
        """A constant's values in the runs as one, with Sizes where they differ."""
        first = values[0]
        if isinstance(first, tuple | list):
            return tuple(self.merged(each) for each in zip(*values, strict=True))
        if isinstance(first, slice):
            return slice(*(self.merged([getattr(v, part) for v in values]) for part in ("start", "stop", "step")))
        if isinstance(first, int | np.integer) and not isinstance(first, bool) and any(v != first for v in values):
            return self._size([int(v) for v in values])
        return first

    def _size(self, values: list[int]) -> Size:
        base = self.trials[0]
        slopes = {name: value - values[0] for name, value in zip(base, values[1:], strict=False)}
        constant = values[0] - sum(slopes[name] * base[name] for name in base)
        if values[-1] != constant + sum(slopes[name] * size for name, size in self.trials[-1].items()):
            return Size(0, None)
        return Size(constant, tuple((self.names[name], slope) for name, slope in slopes.items() if slope))

    def calls(self) -> Iterator[tuple[int, Call, dict[str, Any]]]:
        """(number, call of the first run, its constants with Sizes) of the calls that the outputs depend on."""
        run = self.runs[0]
        wanted, needed = {id(tensor.data) for tensor in run.outputs}, set()
        for number, call in reversed(list(enumerate(run.calls))):
            if any(id(out.data) in wanted for out in call.outputs):
                needed.add(number)
                wanted.update(id(tensor.data) for tensor in call.inputs if tensor is not None)
        for number in sorted(needed):
            call = run.calls[number]
            everywhere = [run.calls[number].constants for run in self.runs]
            yield number, call, {key: self.merged([c[key] for c in everywhere]) for key in call.constants}

    def shape(self, tensors: Sequence[Tensor]) -> tuple:
        """The shape of one tensor, given as it was in each run, with Sizes."""
        return self.merged([tensor.shape for tensor in tensors])

    def versions(self, number: int, position: int) -> list[Tensor]:
        """One input of a call, as it was in each run."""
        return [run.calls[number].inputs[position] for run in self.runs]  # type: ignore[misc]
