"""Pictures of a model's layers and what flows between them, by the optional packages pillow and pydot."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nbkeras import nest
from nbkeras.graph import Graph, Node
from nbkeras.mistakes import entry

_INK, _PAPER, _FILL = "#303030", "#ffffff", "#eef3f8"


class _Shown(NamedTuple):
    """What the boxes say."""

    shapes: bool
    dtypes: bool
    names: bool
    activations: bool
    trainable: bool
    nested: bool


@dataclass
class _Box:
    """A call of a layer: its lines of text, the boxes that feed it, and the row it stands in."""

    lines: list[str]
    parents: list[_Box]
    row: int = 0
    place: tuple[float, float, float, float] = field(default=(0.0, 0.0, 0.0, 0.0))  # left, top, right, bottom


@entry
def plot_model(
    model: Any,
    to_file: str | os.PathLike = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 96,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> None:
    """Draw each call of a layer as a box, rows from inputs to outputs, into a file (.png, .jpg, .pdf and what pillow writes).

    rankdir: 'TB' downwards, 'LR' to the right. expand_nested: the layers of a model within, instead of one box. A model
    needs a graph: functional, or a Sequential that knows its input. Needs pillow, and no Graphviz, for whose formats (.svg,
    .dot) there is `model_to_dot`: ValueError for those.
    """
    if os.fspath(to_file).endswith((".svg", ".dot", ".gv")):
        raise ValueError(
            f"plot_model draws pictures of pixels, not {os.fspath(to_file)!r}: give it a name that ends in .png, or use "
            "model_to_dot(model).write_svg(...) or .write_dot(...), which need pydot and Graphviz"
        )
    what = (show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, expand_nested)
    boxes = _boxes(model, rankdir, *what)
    _draw(boxes, os.fspath(to_file), rankdir == "LR", dpi / 96)


@entry
def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
) -> Any:
    """The boxes and arrows of `plot_model` as a `pydot.Dot`, for Graphviz to lay out and write (.svg, .dot). Needs pydot."""
    try:
        import pydot
    except ImportError:
        raise ImportError("model_to_dot needs pydot: pip install 'nbkeras[dot]'") from None
    what = (show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, expand_nested)
    boxes = _boxes(model, rankdir, *what)
    dot = pydot.Dot(graph_type="digraph", rankdir=rankdir, dpi=str(dpi))
    names = {id(box): f"box{number}" for number, box in enumerate(boxes)}
    for box in boxes:
        text = "\\n".join(line.replace('"', "'") for line in box.lines)
        dot.add_node(pydot.Node(names[id(box)], label=f'"{text}"', shape="box"))
    for box in boxes:
        for parent in box.parents:
            dot.add_edge(pydot.Edge(names[id(parent)], names[id(box)]))
    return dot


def _boxes(model: Any, rankdir: str, *shown: bool) -> list[_Box]:
    """The boxes of a model's graph; ValueError if it has none."""
    if rankdir not in ("TB", "LR"):
        raise ValueError(f"rankdir must be 'TB' or 'LR', received {rankdir!r}")
    graph = getattr(model, "_graph", None)
    if graph is None:
        raise ValueError(
            f"a picture needs a model made of symbolic tensors, or a Sequential with an input shape: {model!r} has no graph"
        )
    boxes: list[_Box] = []
    _collect(graph, boxes, None, _Shown(*map(bool, shown)))
    return boxes


def _collect(graph: Graph, boxes: list[_Box], feeding: list[list[_Box]] | None, shown: _Shown) -> list[_Box]:
    """Add a graph's boxes, and return those of its outputs. feeding: of a model within another, what feeds its inputs."""
    of: dict[int, list[_Box]] = {}  # the boxes that a symbolic tensor comes from
    for position, symbol in enumerate(graph.input_list):
        if feeding is None:
            lines = _lines(symbol.node, shown) if symbol.node else [symbol.name]
            boxes.append(_Box(lines, []))
            of[id(symbol)] = boxes[-1:]
        else:
            of[id(symbol)] = feeding[position] if position < len(feeding) else []
    for node in graph.nodes:
        inner = getattr(node.layer, "_graph", None) if shown.nested else None
        if inner is not None:
            ends = _collect(inner, boxes, [of[id(parent)] for parent in node.inputs], shown)
        else:
            parents = list({id(box): box for parent in node.inputs for box in of[id(parent)]}.values())
            boxes.append(_Box(_lines(node, shown), parents, 1 + max((box.row for box in parents), default=-1)))
            ends = boxes[-1:]
        of.update({id(symbol): ends for symbol in nest.flatten(node.outputs)})
    return list({id(box): box for symbol in graph.output_list for box in of[id(symbol)]}.values())


def _lines(node: Node, shown: _Shown) -> list[str]:
    """What the box of a call says."""
    layer, kind = node.layer, type(node.layer).__name__
    lines = [f"{layer.name}: {kind}" if shown.names else kind]
    for what, tensors in (("input", node.call_inputs), ("output", node.outputs)):
        if shown.shapes and tensors is not None:
            lines.append(f"{what}: {nest.shapes(tensors)}")
    if shown.dtypes:
        lines.append(", ".join(sorted({str(symbol.dtype) for symbol in nest.flatten(node.outputs)})))
    if shown.activations and getattr(layer, "activation", None) is not None:
        lines.append(f"activation: {getattr(layer.activation, '__name__', type(layer.activation).__name__)}")
    if shown.trainable and layer.weights:
        lines.append("trainable" if layer.trainable else "frozen")
    return lines


def _draw(boxes: list[_Box], path: str, sideways: bool, scale: float) -> None:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise ImportError("plot_model needs pillow: pip install 'nbkeras[images]'") from None
    font = ImageFont.load_default(size=12 * scale)
    gap = 24 * scale
    width, height = _arrange(boxes, [_size(box, font, scale) for box in boxes], sideways, gap)
    image = Image.new("RGB", (int(width), int(height)), _PAPER)
    draw = ImageDraw.Draw(image)
    for box in boxes:
        for parent in box.parents:
            _arrow(draw, parent.place, box.place, sideways, scale)
    for box in boxes:
        left, top, right, bottom = box.place
        draw.rectangle(box.place, fill=_FILL, outline=_INK, width=max(1, int(scale)))
        text = "\n".join(box.lines)
        draw.multiline_text(((left + right) / 2, (top + bottom) / 2), text, _INK, font, anchor="mm", align="center")
    image.save(path)


def _size(box: _Box, font: Any, scale: float) -> tuple[float, float]:
    widest = max(font.getlength(line) for line in box.lines)
    return widest + 20 * scale, len(box.lines) * 16 * scale + 12 * scale


def _arrange(boxes: list[_Box], sizes: list[tuple[float, float]], sideways: bool, gap: float) -> tuple[float, float]:
    """Give each box its place, rows centred; returns the picture's width and height."""
    along, across = (1, 0) if not sideways else (0, 1)  # the axis on which rows follow each other, and the other
    rows: dict[int, list[int]] = {}
    for index, box in enumerate(boxes):
        rows.setdefault(box.row, []).append(index)
    spans = {row: sum(sizes[i][across] for i in items) + gap * (len(items) - 1) for row, items in rows.items()}
    total, at = max(spans.values()) + 2 * gap, gap
    for row in sorted(rows):
        thickness = max(sizes[i][along] for i in rows[row])
        start = (total - spans[row]) / 2
        for i in rows[row]:
            first = at + (thickness - sizes[i][along]) / 2
            corner = (first, start) if sideways else (start, first)
            boxes[i].place = (*corner, corner[0] + sizes[i][0], corner[1] + sizes[i][1])
            start += sizes[i][across] + gap
        at += thickness + gap
    return (at, total) if sideways else (total, at)


def _arrow(draw: Any, source: tuple, target: tuple, sideways: bool, scale: float) -> None:
    """A line from the end of one box to the start of another, with a head."""
    if sideways:
        a = (source[2], (source[1] + source[3]) / 2)
        b = (target[0], (target[1] + target[3]) / 2)
        head = [b, (b[0] - 7 * scale, b[1] - 4 * scale), (b[0] - 7 * scale, b[1] + 4 * scale)]
    else:
        a = ((source[0] + source[2]) / 2, source[3])
        b = ((target[0] + target[2]) / 2, target[1])
        head = [b, (b[0] - 4 * scale, b[1] - 7 * scale), (b[0] + 4 * scale, b[1] - 7 * scale)]
    draw.line([a, b], fill=_INK, width=max(1, int(scale)))
    draw.polygon(head, fill=_INK)
