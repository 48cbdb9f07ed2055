"""The table that `model.summary()` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkeras import nest


def _shape_text(layer: Any) -> str:
    if not layer.nodes:
        return "?" if not layer.built else ""
    shapes = [nest.shapes(node.outputs) for node in layer.nodes]
    return str(shapes[0]) if all(shape == shapes[0] for shape in shapes) else "multiple"


def _sources(layer: Any, relevant: set[int]) -> str:
    names: list[str] = []
    for node in layer.nodes:
        if id(node) in relevant:
            names.extend(f"{t.node.layer.name}[{t.node.number}][{t.index}]" for t in node.inputs if t.node is not None)
    return ", ".join(names)


def _rows(model: Any, depth: int, expand: bool, trainable: bool, connections: bool) -> list[list[str]]:
    rows = []
    graph = getattr(model, "_graph", None)
    relevant = {id(node) for node in graph.nodes} if graph is not None else set()
    for layer in model.layers:
        count = sum(v.size for v in layer.weights)
        parameters = f"{count:,}" if layer.built or count else "0 (unbuilt)"
        row = [f"{'  ' * depth}{layer.name} ({type(layer).__name__})", _shape_text(layer), parameters]
        if connections:
            row.append(_sources(layer, relevant))
        if trainable:
            row.append("Y" if layer.trainable else "N")
        rows.append(row)
        if expand and hasattr(layer, "layers"):
            rows.extend(_rows(layer, depth + 1, expand, trainable, connections))
    return rows


def _is_chain(model: Any) -> bool:
    graph = getattr(model, "_graph", None)
    return (
        graph is None
        or all(len(node.inputs) == 1 and len(nest.flatten(node.outputs)) == 1 for node in graph.nodes)
        and len({id(t) for node in graph.nodes for t in node.inputs}) == len(graph.nodes)
    )


def _count(variables: Any) -> str:
    number = sum(v.size for v in variables)
    size: float = sum(v.data.nbytes for v in variables)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{number:,} ({size:.2f} {unit})"


def print_summary(
    model: Any,
    line_length: int | None = None,
    print_fn: Callable[[str], Any] | None = None,
    expand_nested: bool = False,
    show_trainable: bool = False,
) -> None:
    """Print a table of a model's layers, output shapes and parameter counts by `print_fn`, by default `print`."""
    say = print_fn or print
    connections = not _is_chain(model)
    header = ["Layer (type)", "Output Shape", "Param #"]
    header += ["Connected to"] * connections + ["Trainable"] * show_trainable
    rows = _rows(model, 0, expand_nested, show_trainable, connections)
    widths = [max(len(row[i]) for row in [header, *rows]) + 2 for i in range(len(header))]
    if line_length is not None:
        scale = line_length / sum(widths)
        widths = [max(8, int(width * scale)) for width in widths]
    total = sum(widths)

    def line(row: list[str]) -> str:
        return "".join(text[: width - 1].ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()

    say(f'Model: "{model.name}"')
    say("_" * total)
    say(line(header))
    say("=" * total)
    for row in rows:
        say(line(row))
    say("=" * total)
    say(f"Total params: {_count(model.weights)}")
    say(f"Trainable params: {_count(model.trainable_weights)}")
    say(f"Non-trainable params: {_count(model.non_trainable_weights)}")
    say("_" * total)
