"""Floor 3: `nbkeras.profile`, the time of a step by layer and by kernel."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, overload

import numpy as np

from nbkeras.data.adapters import is_stream
from nbkeras.engine import launch_costs, pictures, program, tensor
from nbkeras.engine.annotations import briefly
from nbkeras.engine.batch import ALL, Batch
from nbkeras.engine.launch_costs import Launch
from nbkeras.engine.program import Buffer
from nbkeras.engine.tensor import assign_all
from nbkeras.training import profile_pictures
from nbkeras.training.conversion import batch_of
from nbkeras.training.jit import Jitted
from nbkeras.training.model import Model


class Row(NamedTuple):
    """The costs of some launches in one step.

    Args:
        layer: The path of the layer's name, with '/' after each outer layer. For launches outside of layers, the part of the
            step: 'loss', 'metrics' or 'optimizer'.
        direction: 'forward', 'backward', or 'update' for the optimizer.
        kernel: The kernel's name; '' if the row is the sum of several kernels.
        calls: The number of launches.
        seconds: The time in one step.
        read: The bytes of the arrays that are read.
        written: The bytes of the arrays that are written.
        flops: The additions and multiplications of products; None for kernels without products.
    """

    layer: str
    direction: str
    kernel: str
    calls: int
    seconds: float
    read: int
    written: int
    flops: int | None


class StepProfile:
    """The time of a model's step by layer and kernel; `nbkeras.profile(model, x, y)` returns it.

    `print(p)` shows two tables, by layer and by kernel. The attributes hold the same numbers: `rows` by layer, direction and
    kernel, `layers` by layer and direction, and `kernels` by kernel, each a list of rows with `layer`, `direction`, `kernel`,
    `calls`, `seconds`, `read`, `written` and `flops`. `step_seconds` is the time of a whole step without the profile.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="hidden"), layers.Dense(1, name="last")])
        >>> p = keras.profile(model, np.zeros((16, 4)))
        >>> [(row.layer, row.direction, row.flops) for row in p.layers]
        [('hidden', 'forward', 1024), ('last', 'forward', 256)]
    """

    def __init__(
        self,
        name: str,
        kind: str,
        batch_size: int,
        launches: list[Launch],
        step_seconds: float,
        buffers: list[Buffer],
        prepared_nbytes: int = 0,
    ):
        self.name, self.kind, self.batch_size, self.step_seconds = name, kind, batch_size, step_seconds
        self.prepared_nbytes = prepared_nbytes  # bytes of weights that the step also keeps in another form
        self._launches, self._buffers = launches, buffers
        each = [self._row(launch) for launch in launches]
        self.rows: list[Row] = _summed(each, lambda row: row)
        self.layers: list[Row] = _summed(each, lambda row: row._replace(kernel=""))
        self.kernels: list[Row] = sorted(
            _summed(each, lambda row: row._replace(layer="", direction="")), key=lambda row: -row.seconds
        )

    def _row(self, launch: Launch) -> Row:
        layer = launch.place.layer.removeprefix(f"{self.name}/") or "(other)"
        direction = "update" if layer == "optimizer" else "backward" if launch.place.is_backward else "forward"
        seconds = float(np.median(launch.seconds)) if launch.seconds else 0.0
        return Row(layer, direction, launch.kernel, 1, seconds, launch.read, launch.written, launch.flops)

    @property
    def seconds(self) -> float:
        """The time of all kernels of one step."""
        return sum(row.seconds for row in self.layers)

    def __str__(self) -> str:
        width = shutil.get_terminal_size().columns
        per = {"train": "one training step of", "predict": "one prediction of"}.get(self.kind)
        what = "one call" if per is None else f"{per} {self.batch_size} rows"
        title = (
            f"{self.name}, {what}: {self.step_seconds * 1e3:.3f} ms; its {len(self._launches)} "
            f"launches, each timed alone: {self.seconds * 1e3:.3f} ms"
        )
        if self.prepared_nbytes:
            title += f"; weights that it also keeps in another form: {self.prepared_nbytes / 1e6:.2f} MB"
        by_layer = _table(
            ["layer", "", *_NUMBERS], [[r.layer, r.direction, *self._cells(r)] for r in self.layers], width
        )
        by_kernel = _table(["kernel", *_NUMBERS], [[r.kernel, *self._cells(r)] for r in self.kernels], width)
        return "\n".join([*textwrap.wrap(title, max(width, 20)), "", *by_layer, "", *by_kernel])

    __repr__ = __str__

    def _cells(self, row: Row) -> list[str]:
        rate = "-" if row.flops is None or not row.seconds else f"{row.flops / row.seconds / 1e9:.1f}"
        return [
            f"{row.seconds * 1e3:.3f}",
            f"{row.seconds / (self.seconds or 1):.1%}",
            str(row.calls),
            f"{row.read / 1e6:.2f}",
            f"{row.written / 1e6:.2f}",
            "-" if row.flops is None else f"{row.flops / 1e6:.2f}",
            rate,
        ]

    def _repr_html_(self) -> str:
        """The table by layer and the picture, for notebooks."""
        rows = [[row.layer, row.direction, *self._cells(row)] for row in self.layers]
        return pictures.html_table(["layer", "", *_NUMBERS], rows) + self._svg()

    def _svg(self) -> str:
        title = f"{self.name}: {self.seconds * 1e3:.3f} ms in kernels"
        return profile_pictures.flame(title, [(r.direction, r.layer, r.kernel, r.seconds) for r in self.rows])

    def save(self, filepath: Any) -> None:
        """Write the profile as a picture or as a trace.

        Args:
            filepath: A name that ends in '.svg' for a picture (a bar's width is its time), or in '.json' for a trace of the last
                measured step. https://ui.perfetto.dev and chrome://tracing show traces.

        Raises:
            ValueError: The name has another ending.
        """
        name = str(filepath)
        if name.endswith(".svg"):
            text = self._svg()
        elif name.endswith(".json"):
            text = profile_pictures.trace([(self._row(launch), launch) for launch in self._launches if launch.seconds])
        else:
            raise ValueError(f"a profile is written as .svg (a picture) or .json (a trace), received {briefly(name)}")
        with open(filepath, "w", encoding="utf-8") as file:
            file.write(text)

    def memory(self, filepath: Any) -> None:
        """Draw the planned memory over a step: a rectangle for each array, from its first to its last launch.

        Args:
            filepath: A name that ends in '.svg'.

        Raises:
            ValueError: The name has another ending, or the step runs eagerly and so has no plan.
        """
        if not str(filepath).endswith(".svg"):
            raise ValueError(f"the memory is drawn as .svg, received {briefly(str(filepath))}")
        if not self._buffers:
            raise ValueError("there is no planned memory: this step runs eagerly, see docs/tape.md")
        labels = [f"{launch.kernel} ({self._row(launch).layer})" for launch in self._launches]
        with open(filepath, "w", encoding="utf-8") as file:
            file.write(profile_pictures.memory(f"{self.name}: planned memory of a step", self._buffers, labels))


_NUMBERS = ["ms", "share", "calls", "MB read", "MB written", "MFLOP", "GFLOP/s"]


def _summed(rows: Iterable[Row], key: Callable[[Row], Row]) -> list[Row]:
    """The sums of rows with equal keys, in the order of their first rows."""
    found: dict[tuple, Row] = {}
    for row in rows:
        key_row = key(row)
        names = key_row[:3]
        known = found.get(names)
        if known is None:
            found[names] = key_row
            continue
        flops = None if known.flops is None and row.flops is None else (known.flops or 0) + (row.flops or 0)
        found[names] = known._replace(
            calls=known.calls + row.calls,
            seconds=known.seconds + row.seconds,
            read=known.read + row.read,
            written=known.written + row.written,
            flops=flops,
        )
    return list(found.values())


def _table(header: list[str], rows: list[list[str]], width: int) -> list[str]:
    """The lines of a table. If it is too wide, names are shortened first, then columns are dropped from the right."""
    texts = sum(not name or name in ("layer", "kernel") for name in header)  # name columns come first, then numbers
    while True:
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        over = sum(widths) + 2 * (len(widths) - 1) - width
        shortest = min(widths[0], 16)
        if over <= widths[0] - shortest or len(header) == texts + 1:
            break
        header, rows = header[:-1], [row[:-1] for row in rows]
    widths[0] = max(4, widths[0] - max(over, 0))
    lines = []
    for row in [header, *rows]:
        name = row[0] if len(row[0]) <= widths[0] else f"…{row[0][1 - widths[0] :]}"  # the end distinguishes layers
        cells = [name, *row[1:]]
        padded = [c.ljust(w) if i < texts else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        lines.append("  ".join(padded).rstrip())
    return lines


@overload
def profile() -> AbstractContextManager[program.Profile]: ...
@overload
def profile(model: Any, x: Any, y: Any = ..., batch_size: int | None = ..., steps: int = ...) -> StepProfile: ...
def profile(model: Any = None, x: Any = None, y: Any = None, batch_size: int | None = 32, steps: int = 10) -> Any:
    """Measure the time of a model's step or of a jitted function, by layer and by kernel.

    The step is a training step if y is given and the model is compiled, else a prediction. Weights, the optimizer's state and
    the metrics do not change. A jitted function that has no program yet for such arguments is called first, which may change
    variables; the measurement changes none. Without arguments it is a context, `with nbkeras.profile() as p:`. It counts and
    times the kernels that this thread launches or replays in the block: `p.calls` and `p.seconds` by kernel.

    Args:
        model: The model, or a function of `nbkeras.jit`; None for the context.
        x: Inputs, as for `model.fit`; the profile uses the first rows. For a function its arguments: a tuple, or one argument.
        y: Targets, as for `model.fit`; None to profile a prediction.
        batch_size: The number of rows of the step; None for all rows of x.
        steps: The number of measurements; times are their medians.

    Returns:
        A profile: `print(p)` shows tables, `p.save("p.svg")` draws it, `p.save("p.json")` writes a trace for Perfetto,
        `p.memory("m.svg")` draws the planned memory. `p.layers`, `p.kernels` and `p.rows` hold the numbers.

    Raises:
        TypeError: model is neither a model nor a jitted function, or x is missing.
        ValueError: x or y do not match the model, or a count is not positive.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> p = keras.profile(model, np.ones((64, 8)), np.ones((64, 1)), steps=2)
        >>> sorted({row.direction for row in p.layers})
        ['backward', 'forward', 'update']
        >>> with keras.profile() as counts:
        ...     _ = model.predict(np.ones((64, 8)))
        >>> "multiply" in counts.calls
        True
    """
    if model is None and x is None and y is None:
        return program.profile()
    if not isinstance(model, Model | Jitted):
        raise TypeError(
            f"profile needs a model or a jitted function first: profile(model, x, y). Received {briefly(model)}"
        )
    if x is None:
        raise TypeError("profile needs inputs: profile(model, x) for a prediction, profile(model, x, y) for training")
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if not (value is None and name == "batch_size") and (not isinstance(value, int) or value < 1):
            raise ValueError(f"profile: {name} must be a positive integer, received {briefly(value)}")
    if isinstance(model, Jitted):
        return _of_function(model, x if isinstance(x, tuple) else (x,), steps)
    if y is not None and not model.compiled:
        raise ValueError("profile got targets, but the model is not compiled: call model.compile(...), or leave y out")
    if is_stream(x):
        raise ValueError(
            "profile needs arrays, but x is a generator or a Sequence: pass one of its batches, profile(model, x, y)"
        )
    return _measured(model, x, y, batch_size, steps)


def _measured(model: Model, x: Any, y: Any, batch_size: int | None, steps: int) -> StepProfile:
    kind = "predict" if y is None else "train"
    with tensor.on_gpu(model._gpu):
        whole, step = batch_of(x, y, None, None, model._data_spec_for(x)), model._step_for(kind)
        rows = whole.size if batch_size is None else min(batch_size, whole.size)
        batch = Batch([None if leaf is None else leaf[:rows] for leaf in whole.leaves], ALL, rows, whole.layout)
        if not batch.size:
            raise ValueError("the data has no samples")
        if kind == "train":
            model._check_compiled("training").prepare_to_train(model)
        kept = [(variable, variable.numpy()) for variable in _state(model)]
        try:
            step(batch)  # compiles and records
            times = []
            for _ in range(steps):
                start = time.perf_counter()
                step(batch)
                times.append(time.perf_counter() - start)
            recorded = step.program(batch)
            if recorded is None:
                launches = launch_costs.measure_eagerly(lambda: step(batch), steps)
            else:
                launches = launch_costs.measure(recorded, steps)
        finally:
            assign_all(kept)
            if kind == "train":
                model.reset_metrics()
    buffers, prepared = ([], 0) if recorded is None else (recorded.buffers, recorded.prepared_nbytes)
    return StepProfile(model.name, kind, batch.size, launches, float(np.median(times)), buffers, prepared)


def _of_function(function: Jitted, args: tuple, steps: int) -> StepProfile:
    for _ in range(2):  # a first call that builds layers leaves no program
        if (recorded := function.program_of(*args)) is None:
            function(*args)
    if (recorded := function.program_of(*args)) is None:
        raise ValueError(
            f"the function {function.__name__!r} runs eagerly, so it has no program to profile: count its kernels by "
            "`with nbkeras.profile() as p:`"
        )
    with launch_costs.restoring(recorded):
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            function(*args)
            times.append(time.perf_counter() - start)
        launches = launch_costs.measure(recorded, steps)
    return StepProfile(function.__name__, "call", 0, launches, float(np.median(times)), recorded.buffers)


def _state(model: Model) -> list[Any]:
    """All that a step changes, except metrics."""
    own = [] if model.optimizer is None else model.optimizer.variables
    return list(dict.fromkeys([*model.weights, *model._states_variables, *own]))
