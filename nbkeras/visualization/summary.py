"""The table that `model.summary()` prints."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.progress import print_message
from nbkeras.visualization.pictures import html_table

_NARROWEST = 8  # characters of the narrowest column


def _shape_text(layer: Any) -> str:
    if not layer._inbound_nodes:  # in a subclassed model: use the shape that the layer was built for
        try:
            return "?" if layer.build_shapes is None else str(layer.compute_output_shape(layer.build_shapes))
        except (NotImplementedError, TypeError, ValueError):
            return "?"
    shapes = [structures.shapes(node.outputs) for node in layer._inbound_nodes]
    return str(shapes[0]) if all(shape == shapes[0] for shape in shapes) else "multiple"


def _sources(layer: Any, relevant: set[int]) -> str:
    names: list[str] = []
    for node in layer._inbound_nodes:
        if id(node) in relevant:
            names.extend(f"{t.node.layer.name}[{t.node.number}][{t.index}]" for t in node.inputs if t.node is not None)
    return ", ".join(names)


def _rows(model: Any, layers: list, depth: int, expand: bool, trainable: bool, connections: bool) -> list[list[str]]:
    rows = []
    graph = getattr(model, "_graph", None)
    relevant = {id(node) for node in graph.nodes} if graph is not None else set()
    for layer in layers:
        count = sum(v.size for v in layer.weights)
        parameters = f"{count:,}" if layer.built or count else "0 (unbuilt)"
        row = [f"{'  ' * depth}{layer.name} ({type(layer).__name__})", _shape_text(layer), parameters]
        if connections:
            row.append(_sources(layer, relevant) or "-")
        if trainable:
            row.append("-" if not layer.weights else "Y" if layer.trainable else "N")
        rows.append(row)
        if expand and hasattr(layer, "layers"):
            rows.extend(_rows(layer, layer.layers, depth + 1, expand, trainable, connections))
    return rows


def _is_chain(model: Any) -> bool:
    graph = getattr(model, "_graph", None)
    return (
        graph is None
        or all(len(node.inputs) == 1 and len(structures.flatten(node.outputs)) == 1 for node in graph.nodes)
        and len({id(t) for node in graph.nodes for t in node.inputs}) == len(graph.nodes)
    )


def _count(variables: Sequence) -> str:
    """The number of elements of variables, and their memory size."""
    number = sum(v.size for v in variables)
    size: float = sum(v.data.nbytes for v in variables)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{number:,} ({size:.2f} {unit})"


def _in_range(layers: list, layer_range: Sequence[str] | None) -> list:
    """The layers from the first with a name matching the first pattern to the last with a name matching the second."""
    if layer_range is None:
        return layers
    if isinstance(layer_range, str) or len(layer_range) != 2 or not all(isinstance(name, str) for name in layer_range):
        raise ValueError(
            f"layer_range must be the names of the first and the last layer, received {briefly(layer_range)}"
        )
    fitting = [[i for i, layer in enumerate(layers) if re.match(name, layer.name)] for name in layer_range]
    if not all(fitting):
        raise ValueError(f"no layer's name fits {briefly(layer_range)}. Layers: {[layer.name for layer in layers]}")
    first, last = sorted((fitting[0][0], fitting[1][-1]))
    return layers[first : last + 1]


def _widths(positions: Sequence[float], line_length: int, columns: int) -> list[int]:
    """The widths of columns that end at these positions, given in characters or as fractions of the line."""
    ends = [int(line_length * end) if positions[-1] <= 1 else int(end) for end in positions][:columns]
    ends += [line_length + 12 * i for i in range(1, columns - len(ends) + 1)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _fitted(widths: list[int], total: int) -> list[int]:
    """The widths of columns for a line of `total` characters: the widest shrink first; all except the last grow equally."""
    widths = list(widths)
    while sum(widths) > total and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    more = max(total - sum(widths), 0)
    growing = max(len(widths) - 1, 1)
    return [
        width + (more * (i + 1) // growing - more * i // growing if i < growing else 0)
        for i, width in enumerate(widths)
    ]


def _wrapped(row: list[str], widths: Sequence[int]) -> list[str]:
    """The lines of a row, each cell in its column; a string that is too long continues on the next line."""
    columns = []
    for text, width in zip(row, widths, strict=True):
        indent = " " * (len(text) - len(text.lstrip()))
        columns.append(textwrap.wrap(text, max(width - 1, 1), subsequent_indent=indent, break_on_hyphens=False) or [""])
    height = max(map(len, columns))
    padded = [lines + [""] * (height - len(lines)) for lines in columns]
    return ["".join(map(str.ljust, cells, widths)).rstrip() for cells in zip(*padded, strict=True)]


def print_summary(
    model: Any,
    line_length: int | None = None,
    positions: Sequence[float] | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
    layer_range: Sequence[str] | None = None,
) -> None:
    """Print a table of a model's layers, output shapes and parameter counts, line by line with `print_fn`.

    The table has the width line_length, or as much as its cells need, but at most the terminal's width. A string that does not
    fit continues on the next line.
    """
    say = print_fn or print_message
    selected = _in_range(model.layers, layer_range)
    connections = not _is_chain(model)
    header = _header(connections, show_trainable)
    rows = _rows(model, selected, 0, expand_nested, show_trainable, connections)
    natural = [max(len(row[i]) for row in [header, *rows]) + 2 for i in range(len(header))]
    if positions is not None:
        widths = _widths(positions, line_length or sum(natural), len(header))
    else:
        terminal = shutil.get_terminal_size((0, 0)).columns or sum(natural)
        widths = _fitted(natural, line_length or min(sum(natural), terminal))
    total = sum(widths)
    cells = [_wrapped(row, widths) for row in rows]
    separate = any(len(lines) > 1 for lines in cells)

    say(f'Model: "{model.name}"')
    say("_" * total)
    for line in _wrapped(header, widths):
        say(line)
    say("=" * total)
    for number, lines in enumerate(cells):
        if separate and number:
            say("-" * total)
        for line in lines:
            say(line)
    say("=" * total)
    for line in _totals(model):
        say(line)
    say("_" * total)


def _totals(model: Any) -> list[str]:
    """The lines below the table."""
    optimizer = list(model.optimizer.variables) if getattr(model.optimizer, "built", False) else []
    return [
        f"Total params: {_count([*model.weights, *optimizer])}",
        f"Trainable params: {_count(model.trainable_weights)}",
        f"Non-trainable params: {_count(model.non_trainable_weights)}",
        *([f"Optimizer params: {_count(optimizer)}"] if optimizer else []),
    ]


def _header(connections: bool, trainable: bool) -> list[str]:
    return ["Layer (type)", "Output Shape", "Param #", *["Connected to"] * connections, *["Trainable"] * trainable]


def summary_html(model: Any) -> str:
    """The summary as a table in HTML, for notebooks."""
    connections = not _is_chain(model)
    rows = _rows(model, model.layers, 0, False, False, connections)
    return html_table(_header(connections, False), rows, f'Model: "{model.name}"', _totals(model))
