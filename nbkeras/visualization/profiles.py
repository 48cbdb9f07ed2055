"""StepProfile, the costs of a step as tables, as pictures in SVG, and as a trace for Perfetto and Chrome."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.launch_costs import Launch
from nbkeras.engine.program import Buffer
from nbkeras.visualization.pictures import box, color, html_table, svg, text

_WIDTH, _BAR = 1000.0, 22.0


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
        return html_table(["layer", "", *_NUMBERS], rows) + self._svg()

    def _svg(self) -> str:
        title = f"{self.name}: {self.seconds * 1e3:.3f} ms in kernels"
        return _flame(title, [(r.direction, r.layer, r.kernel, r.seconds) for r in self.rows])

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
            text = _trace([(self._row(launch), launch) for launch in self._launches if launch.seconds])
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
            file.write(_memory(f"{self.name}: planned memory of a step", self._buffers, labels))


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


def _flame(title: str, times: Sequence[tuple[str, str, str, float]]) -> str:
    """A flame graph: bars as wide as their times; directions on top, below them layers, below these kernels.

    times: (direction, layer, kernel, seconds).
    """
    total = sum(seconds for *_, seconds in times) or 1.0
    layers = list(dict.fromkeys(layer for _, layer, _, _ in times))
    parts, x = [text(0, 14, title)], 0.0
    for names, seconds in _sums(times, 1).items():
        parts += _bar(names[0], seconds, total, x, 0, "#555")
        layer_x = x
        for (_, layer), of_layer in _sums([t for t in times if t[:1] == names], 2).items():
            parts += _bar(layer, of_layer, total, layer_x, 1, color(layers.index(layer)))
            kernel_x = layer_x
            for (*_, kernel), of_kernel in _sums([t for t in times if t[:2] == (names[0], layer)], 3).items():
                parts += _bar(kernel, of_kernel, total, kernel_x, 2, color(layers.index(layer)), 0.75)
                kernel_x += of_kernel
            layer_x += of_layer
        x += seconds
    return svg(_WIDTH, 24 + 3 * _BAR, parts)


def _sums(times: Sequence[tuple[str, str, str, float]], depth: int) -> dict[tuple, float]:
    """Seconds by the first `depth` names."""
    found: dict[tuple, float] = {}
    for row in times:
        found[row[:depth]] = found.get(row[:depth], 0.0) + row[3]
    return found


def _bar(name: str, seconds: float, total: float, start: float, row: int, fill: str, opacity: float = 1.0) -> list[str]:
    title = f"{name}: {seconds * 1e3:.3f} ms, {seconds / total:.1%}"
    scale = _WIDTH / total
    return [box(start * scale, 22 + row * _BAR, seconds * scale, _BAR, fill, title, name, opacity)]


def _memory(title: str, buffers: Sequence[Buffer], launches: Sequence[str]) -> str:
    """A picture of the arena: a row is an offset in it, a column is a launch. launches: the names."""
    left, top, height = 70.0, 24.0, 400.0
    size = max(buffer.offset + buffer.nbytes for buffer in buffers) or 1
    count = max(len(launches), 1)
    across, up = (_WIDTH - left) / count, height / size
    parts = [
        text(left, 14, f"{title}: {size / 1e6:.3g} MB, {len(buffers)} arrays, {len(launches)} launches"),
        f'<rect x="{left:g}" y="{top:g}" width="{_WIDTH - left:g}" height="{height:g}" fill="none" stroke="#bbb"/>',
        text(left - 5, top + 9, f"{size / 1024:.4g} KB", "end"),
        text(left - 5, top + height, "0", "end"),
        text(left, top + height + 16, "first launch"),
        text(_WIDTH, top + height + 16, "last launch", "end"),
    ]
    for number, buffer in enumerate(sorted(buffers)):
        last = min(buffer.last, count - 1)
        names = [launches[at] if at < len(launches) else "" for at in (buffer.first, last)]
        about = f"{buffer.nbytes:,} bytes at {buffer.offset:,}, from {names[0]} to {names[1]}"
        at = (left + buffer.first * across, top + height - (buffer.offset + buffer.nbytes) * up)
        parts.append(
            box(*at, (last - buffer.first + 1) * across, buffer.nbytes * up, color(number), about, opacity=0.85)
        )
    return svg(_WIDTH, top + height + 24, parts)


def _trace(launches: Sequence[tuple[Row, Launch]]) -> str:
    """Events in Chrome's format from pairs of a Row and a Launch: a track of layers, and below it a track of kernels."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
        for tid, name in ((1, "layers"), (2, "kernels"))
    ]
    origin = launches[0][1].starts[-1] if launches else 0.0
    open_layer: dict[str, Any] | None = None
    for row, launch in launches:
        start, duration = (launch.starts[-1] - origin) * 1e6, launch.seconds[-1] * 1e6
        name = f"{row.layer} ({row.direction})"
        if open_layer is None or open_layer["name"] != name:
            open_layer = {"ph": "X", "pid": 1, "tid": 1, "name": name, "cat": row.direction, "ts": start, "dur": 0.0}
            events.append(open_layer)
        open_layer["dur"] = start + duration - open_layer["ts"]
        costs = {"bytes read": row.read, "bytes written": row.written, "flops": row.flops}
        about = {"layer": row.layer, "direction": row.direction, **{k: v for k, v in costs.items() if v is not None}}
        events.append(
            {"ph": "X", "pid": 1, "tid": 2, "name": row.kernel, "cat": row.direction, "ts": start, "dur": duration}
            | {"args": about}
        )
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, indent=1)
