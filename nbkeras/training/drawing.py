"""Draws a model's layers and their connections; needs the optional packages pillow or pydot."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nbkeras.building.graph import Graph, Node
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.user_errors import entry, optional_import, warn
from nbkeras.training import diagram_layout

_INK, _PAPER, _FILL, _FRAME = "#303030", "#ffffff", "#eef3f8", "#8a97a5"
_MARGIN = 24  # around a picture, in pixels at 96 dpi
_MAX_PIXELS = 32_000  # of a side: browsers show no more than 32,767, and JPEG files have 65,535


class _Content(NamedTuple):
    """The kinds of information in the boxes."""

    shapes: bool
    dtypes: bool
    names: bool
    activations: bool
    trainable: bool
    nested: bool


@dataclass(eq=False)
class _Box:
    """A call of a layer: its lines of text and, for an expanded model, its layers. A box without lines is a port of a frame."""

    lines: list[str]
    inner: _Level | None = None
    at: tuple[float, float] = (0.0, 0.0)  # its corner within its level
    size: tuple[float, float] = (0.0, 0.0)


class _Edge(NamedTuple):
    """An arrow between boxes. `leaves` and `enters` are port numbers, used if the box is a frame."""

    source: _Box
    leaves: int
    target: _Box
    enters: int


@dataclass(eq=False)
class _Level:
    """The boxes of a model, and the ports where edges of the surrounding model enter and leave."""

    boxes: list[_Box] = field(default_factory=list)
    edges: list[_Edge] = field(default_factory=list)
    entries: list[_Box] = field(default_factory=list)
    exits: list[_Box] = field(default_factory=list)
    routes: list[list[tuple[float, float]]] = field(default_factory=list)  # the points of the edges
    size: tuple[float, float] = (0.0, 0.0)


@entry
def plot_model(
    model: Any,
    to_file: str | os.PathLike = "model.png",
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = False,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Any:
    """Draw each call of a layer as a box, in rows from inputs to outputs, into an image file.

    It needs pillow, but not Graphviz.

    Args:
        model: A functional model, or a Sequential with a known input.
        to_file: The name of the file: .png, .jpg, .pdf or another format of pillow.
        show_shapes: Whether boxes show the shapes of inputs and outputs.
        show_dtype: Whether boxes show the dtypes of outputs.
        show_layer_names: Whether boxes show the names of layers.
        rankdir: 'TB' draws downwards, 'LR' to the right.
        expand_nested: Whether a nested model is drawn as a frame with its layers instead of one box.
        dpi: The resolution; 96 draws letters of 12 pixels. If a side had more than 32,000 pixels, it is less, with a warning.
        show_layer_activations: Whether boxes show the activations of layers.
        show_trainable: Whether boxes show which layers are trainable or frozen.
        splines: Accepted and ignored: it is for Graphviz.

    Returns:
        None; in IPython the picture, so that notebooks show it.

    Raises:
        ImportError: if pillow is not installed.
        ValueError: for a model without a graph, and for Graphviz's formats (.svg, .dot): use `model_to_dot`.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> keras.utils.plot_model(model, "model.png", show_shapes=True)
        >>> keras.utils.load_img("model.png").width > 100
        True
    """
    if os.fspath(to_file).endswith((".svg", ".dot", ".gv")):
        raise ValueError(
            f"plot_model writes pixel formats, not {os.fspath(to_file)!r}: use a name that ends in .png, or use "
            "model_to_dot(model).write_svg(...) or .write_dot(...), which need pydot and Graphviz"
        )
    content = _Content(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, expand_nested)
    _draw(_level_of(model, rankdir, content), os.fspath(to_file), rankdir == "LR", dpi / 96)
    ipython = sys.modules.get("IPython")
    running = ipython is not None and ipython.get_ipython() is not None and not os.fspath(to_file).endswith(".pdf")
    return ipython.display.Image(filename=os.fspath(to_file)) if ipython is not None and running else None


@entry
def model_to_dot(
    model: Any,
    show_shapes: bool = False,
    show_dtype: bool = False,
    show_layer_names: bool = True,
    rankdir: str = "TB",
    expand_nested: bool = False,
    dpi: int = 200,
    subgraph: bool = False,
    show_layer_activations: bool = False,
    show_trainable: bool = False,
    splines: str = "ortho",
) -> Any:
    """The boxes and arrows of `plot_model` as a `pydot.Dot`, which Graphviz arranges and writes; needs pydot.

    Args:
        model: A functional model, or a Sequential with a known input.
        show_shapes: Whether boxes show the shapes of inputs and outputs.
        show_dtype: Whether boxes show the dtypes of outputs.
        show_layer_names: Whether boxes show the names of layers.
        rankdir: 'TB' draws downwards, 'LR' to the right.
        expand_nested: Whether a nested model is drawn as a frame with its layers instead of one box.
        dpi: The dots per inch of pictures.
        subgraph: Whether to return a `pydot.Cluster`, a part of another graph.
        show_layer_activations: Whether boxes show the activations of layers.
        show_trainable: Whether boxes show which layers are trainable or frozen.
        splines: The form of arrows, as Graphviz names it: 'ortho', 'curved', 'polyline', ...

    Returns:
        A `pydot.Dot`, or a Cluster with the model's name; its methods write_svg and write_dot write files.

    Raises:
        ImportError: if pydot is not installed.
        ValueError: for a model without a graph.

    Example:
        >>> dot = keras.utils.model_to_dot(keras.Sequential([layers.Dense(2, name="out", input_shape=(3,))]))
        >>> "out: Dense" in dot.to_string()
        True
    """
    with optional_import("model_to_dot needs pydot", "dot"):
        import pydot
    content = _Content(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, expand_nested)
    level = _level_of(model, rankdir, content)
    dot: Any
    if subgraph:
        dot = pydot.Cluster(model.name, label=f'"{model.name}"', style="dashed")
    else:
        dot = pydot.Dot(graph_type="digraph", rankdir=rankdir, dpi=str(dpi), compound="true", splines=splines)
    names: dict[int, str] = {}

    def add(level: _Level, graph: Any) -> None:
        for box in level.boxes:
            if box.inner is not None:
                label = '"' + box.lines[0].replace('"', "'") + '"'
                frame = pydot.Cluster(f"frame{len(names)}", label=label, color=_FRAME)
                names[id(box)] = ""
                add(box.inner, frame)
                graph.add_subgraph(frame)
            elif box.lines:
                names[id(box)] = f"box{len(names)}"
                text = "\\n".join(line.replace('"', "'") for line in box.lines)
                graph.add_node(pydot.Node(names[id(box)], label=f'"{text}"', shape="box"))

    add(level, dot)
    for source, target in dict.fromkeys(_plain_edges(level)):
        dot.add_edge(pydot.Edge(names[source], names[target]))
    return dot


def _level_of(model: Any, rankdir: str, content: _Content) -> _Level:
    """The boxes of a model's graph; raises ValueError if the model has no graph."""
    one_of("plot_model", "rankdir", rankdir, ("TB", "LR"))
    graph = getattr(model, "_graph", None)
    if graph is None:
        raise ValueError(
            "a picture needs a model made of symbolic tensors, or a Sequential with an input shape: "
            f"{briefly(model)} has no graph"
        )
    return _collected(graph, content, within=False)


def _collected(graph: Graph, content: _Content, within: bool) -> _Level:
    """The boxes of a graph; within: the graph is drawn in a frame."""
    level = _Level()
    sources: dict[int, tuple[_Box, int]] = {}  # a symbolic tensor's source box, and its exit number there
    calls: dict[int, int] = {}
    for symbol in graph.input_list:
        lines = [] if within else _lines(symbol.node, content) if symbol.node else [symbol.name]
        box = _Box(lines)
        level.boxes.append(box)
        level.entries += [box] * within
        sources[id(symbol)] = box, 0
    for node in graph.nodes:
        inner = getattr(node.layer, "_graph", None) if content.nested else None
        box = _Box(_lines(node, content), None if inner is None else _collected(inner, content, within=True))
        calls[id(node.layer)] = calls.get(id(node.layer), 0) + 1
        if calls[id(node.layer)] > 1:
            box.lines[0] += f" (call {calls[id(node.layer)]})"
        level.boxes.append(box)
        for position, parent in enumerate(node.inputs):
            enters = 0 if box.inner is None else min(position, len(box.inner.entries) - 1)
            level.edges.append(_Edge(*sources[id(parent)], box, enters))
        for position, symbol in enumerate(structures.flatten(node.outputs)):
            sources[id(symbol)] = box, 0 if box.inner is None else position
    for symbol in graph.output_list if within else ():
        level.exits.append(_Box([]))
        level.edges.append(_Edge(*sources[id(symbol)], level.exits[-1], 0))
    level.boxes += level.exits
    level.edges = list(dict.fromkeys(level.edges))
    return level


def _plain_edges(level: _Level) -> list[tuple[int, int]]:
    """The edges between boxes that are not frames, by the boxes' ids."""

    def ends(level: _Level, box: _Box, port: int, forward: bool) -> list[_Box]:
        """The boxes inside a frame that are connected to one of its ports."""
        if box.inner is None:
            return [box]
        ports = box.inner.entries if forward else box.inner.exits
        connected = [edge for edge in box.inner.edges if (edge.source if forward else edge.target) is ports[port]]
        found = [(edge.target, edge.enters) if forward else (edge.source, edge.leaves) for edge in connected]
        return [end for other, own in found for end in ends(box.inner, other, own, forward)]

    pairs = [
        (id(source), id(target))
        for edge in level.edges
        if edge.source not in level.entries and edge.target not in level.exits
        for source in ends(level, edge.source, edge.leaves, forward=False)
        for target in ends(level, edge.target, edge.enters, forward=True)
    ]
    return pairs + [pair for box in level.boxes if box.inner is not None for pair in _plain_edges(box.inner)]


def _lines(node: Node, content: _Content) -> list[str]:
    """The lines in the box of a call."""
    layer, kind = node.layer, type(node.layer).__name__
    lines = [f"{layer.name}: {kind}" if content.names else kind]
    for what, tensors in (("input", node.call_inputs), ("output", node.outputs)):
        if content.shapes and tensors is not None:
            lines.append(f"{what}: {structures.shapes(tensors)}")
    if content.dtypes:
        lines.append(", ".join(sorted({str(symbol.dtype) for symbol in structures.flatten(node.outputs)})))
    if content.activations and getattr(layer, "activation", None) is not None:
        lines.append(f"activation: {getattr(layer.activation, '__name__', type(layer.activation).__name__)}")
    if content.trainable and layer.weights:
        lines.append("trainable" if layer.trainable else "frozen")
    return lines


def _draw(level: _Level, path: str, sideways: bool, scale: float) -> None:
    with optional_import("plot_model needs pillow", "images"):
        from PIL import Image, ImageDraw, ImageFont

    def size() -> tuple[int, int]:
        """Lay out the boxes. Returns the size of the picture in pixels."""
        _lay_out(level, ImageFont.load_default(size=12 * scale), sideways, scale)
        return tuple(int(length + 2 * _MARGIN * scale) for length in level.size)  # type: ignore[return-value]

    pixels = size()
    if max(pixels) > _MAX_PIXELS:
        scale *= _MAX_PIXELS / max(pixels)
        warn(
            f"a picture of {pixels[0]} x {pixels[1]} pixels is too large for viewers: it is drawn with dpi={int(96 * scale)}. "
            "model_to_dot(model).write_svg(...) draws it with any number of layers"
        )
        pixels = size()
    font, margin = ImageFont.load_default(size=12 * scale), _MARGIN * scale
    image = Image.new("RGB", pixels, _PAPER)
    _paint(ImageDraw.Draw(image), level, (margin, margin), font, sideways, scale)
    image.save(path, None if os.path.splitext(path)[1] else "png")


def _margins(scale: float) -> tuple[float, float]:
    """The margins of a frame at its sides, and at its top, where its title is."""
    return 14 * scale, 28 * scale


def _lay_out(level: _Level, font: Any, sideways: bool, scale: float) -> None:
    """Compute the size and the corner of each box, and the points of each edge, relative to the level's corner."""
    side, top = _margins(scale)
    for box in level.boxes:
        widest = max((font.getlength(line) for line in box.lines), default=0)
        if box.inner is not None:
            _lay_out(box.inner, font, sideways, scale)
            width, height = box.inner.size
            box.size = max(width, widest) + 2 * side, height + side + top
        elif box.lines:
            box.size = widest + 20 * scale, len(box.lines) * 16 * scale + 12 * scale

    def turned(point: tuple[float, float]) -> tuple[float, float]:
        return (point[1], point[0]) if sideways else point

    def shift(box: _Box, ports: list[_Box], port: int) -> float:
        """The distance from the middle of a frame to the point where an edge meets it."""
        return (turned(_origin(box, scale))[0] + turned(ports[port].at)[0]) - turned(box.size)[0] / 2

    numbers = {id(box): number for number, box in enumerate(level.boxes)}
    arrows = [
        diagram_layout.Arrow(
            numbers[id(edge.source)],
            numbers[id(edge.target)],
            0.0 if edge.source.inner is None else shift(edge.source, edge.source.inner.exits, edge.leaves),
            0.0 if edge.target.inner is None else shift(edge.target, edge.target.inner.entries, edge.enters),
        )
        for edge in level.edges
    ]
    ports = [{numbers[id(box)] for box in boxes} for boxes in (level.entries, level.exits)]
    found = diagram_layout.arrange([turned(box.size) for box in level.boxes], arrows, 26 * scale, *ports)
    for box, corner in zip(level.boxes, found.corners, strict=True):
        box.at = turned(corner)
    level.routes = [[turned(point) for point in route] for route in found.routes]
    level.size = turned(found.size)


def _origin(box: _Box, scale: float) -> tuple[float, float]:
    """The corner of the layers inside a frame, relative to the frame's corner."""
    side, top = _margins(scale)
    return (box.size[0] - box.inner.size[0]) / 2 if box.inner else side, top


def _paint(
    draw: Any, level: _Level, corner: tuple[float, float], font: Any, sideways: bool, scale: float, reach: Any = None
) -> None:
    """Draw a level; reach: the distances to the surrounding frame at the start and at the end of the rows."""
    for box in level.boxes:
        left, top = corner[0] + box.at[0], corner[1] + box.at[1]
        right, bottom = left + box.size[0], top + box.size[1]
        if box.inner is not None:
            draw.rectangle((left, top, right, bottom), outline=_FRAME, width=max(1, int(scale)))
            origin = _origin(box, scale)
            ends = [(box.size[i] - origin[i] - box.inner.size[i]) for i in (0, 1)]
            reach_within = (origin[0], ends[0]) if sideways else (origin[1], ends[1])
            _paint(draw, box.inner, (left + origin[0], top + origin[1]), font, sideways, scale, reach_within)
    for edge, route in zip(level.edges, level.routes, strict=True):
        points = [(corner[0] + x, corner[1] + y) for x, y in route]
        if edge.source in level.entries:
            points.insert(0, _beyond(points[0], -reach[0], sideways))
        if edge.target in level.exits:
            points.append(_beyond(points[-1], reach[1], sideways))
        draw.line(points, fill=_INK, width=max(1, int(scale)), joint="curve")
        if edge.target.inner is None and edge.target not in level.exits:
            draw.polygon(_head(points, scale), fill=_INK)
    for box in level.boxes:
        if box.inner is not None:
            title = (corner[0] + box.at[0] + 6 * scale, corner[1] + box.at[1] + 4 * scale)
            draw.rectangle(draw.textbbox(title, box.lines[0], font), fill=_PAPER)  # over an edge that enters there
            draw.text(title, box.lines[0], _FRAME, font)
        elif box.lines:
            left, top = corner[0] + box.at[0], corner[1] + box.at[1]
            right, bottom = left + box.size[0], top + box.size[1]
            draw.rectangle((left, top, right, bottom), fill=_FILL, outline=_INK, width=max(1, int(scale)))
            text = "\n".join(box.lines)
            draw.multiline_text(((left + right) / 2, (top + bottom) / 2), text, _INK, font, anchor="mm", align="center")


def _head(points: list[tuple[float, float]], scale: float) -> list[tuple[float, float]]:
    """The corners of the head of an arrow through these points: it lies along the last line."""
    end = points[-1]
    start = next((each for each in reversed(points) if each != end), (end[0], end[1] - 1))
    length = math.dist(start, end)
    x, y = ((end[i] - start[i]) / length * scale for i in (0, 1))  # the arrow's direction
    return [end, *((end[0] - 7 * x - side * y, end[1] - 7 * y + side * x) for side in (-4, 4))]


def _beyond(point: tuple[float, float], distance: float, sideways: bool) -> tuple[float, float]:
    return (point[0] + distance, point[1]) if sideways else (point[0], point[1] + distance)
