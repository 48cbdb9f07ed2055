"""Floor 3: a profile as pictures in SVG, and as a trace for Perfetto and Chrome."""

import json
from collections.abc import Sequence
from typing import Any

from nbkeras.engine.pictures import box, color, svg, text
from nbkeras.engine.program import Buffer

_WIDTH, _BAR = 1000.0, 22.0


def flame(title: str, times: Sequence[tuple[str, str, str, float]]) -> str:
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


def memory(title: str, buffers: Sequence[Buffer], launches: Sequence[str]) -> str:
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


def trace(launches: Sequence[tuple[Any, Any]]) -> str:
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
