"""Draws a model's layers and their connections: pydot describes the graph, Graphviz arranges and draws it."""

from __future__ import annotations

import collections
import os
import shutil
import sys
from typing import Any, NamedTuple

from nbkeras.building.graph import Graph, Node
from nbkeras.engine import structures
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.user_errors import entry, optional_import, warn


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

    It needs pydot and Graphviz. Without Graphviz it writes the description of the graph instead, which Graphviz and its viewers
    on the web draw: a file with the ending .dot beside the image file, with a warning.

    Args:
        model: A functional model, or a Sequential with a known input.
        to_file: The name of the file: .png, .svg, .pdf or another format of Graphviz; .dot for the description of the graph.
        show_shapes: Whether boxes show the shapes of inputs and outputs.
        show_dtype: Whether boxes show the dtypes of outputs.
        show_layer_names: Whether boxes show the names of layers.
        rankdir: 'TB' draws downwards, 'LR' to the right, 'BT' upwards, 'RL' to the left.
        expand_nested: Whether a nested model is drawn as a frame with its layers instead of one box.
        dpi: The resolution in dots per inch.
        show_layer_activations: Whether boxes show the activations of layers.
        show_trainable: Whether boxes show which layers are trainable or frozen.
        splines: The form of arrows, as Graphviz names it: 'ortho', 'curved', 'polyline', ...

    Returns:
        None; in IPython the picture, so that notebooks show it.

    Raises:
        ImportError: if pydot is not installed.
        ValueError: for a model without a graph.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> keras.utils.plot_model(model, "model.dot", show_shapes=True)
        >>> with open("model.dot") as file:
        ...     "(None, 3)" in file.read()
        True
    """
    form = show_layer_names, rankdir, expand_nested, dpi, False, show_layer_activations, show_trainable, splines
    dot = model_to_dot(model, show_shapes, show_dtype, *form)
    path = os.fspath(to_file)
    stem, ending = os.path.splitext(path)
    if ending not in (".dot", ".gv"):
        if shutil.which("dot") is not None:
            dot.write(path, format=ending[1:] or "png", encoding="utf-8")
            ipython = sys.modules.get("IPython")
            shows = ipython is not None and ipython.get_ipython() is not None and ending not in (".pdf", ".svg")
            return ipython.display.Image(filename=path) if ipython is not None and shows else None
        warn(
            f"Graphviz is not installed, so plot_model cannot draw {path!r}: it writes the description of the graph to "
            f"{stem + '.dot'!r} instead. Install Graphviz (https://graphviz.org/download), or use model.summary()"
        )
        path = f"{stem}.dot"
    dot.write(path, encoding="utf-8")
    return None


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
        rankdir: 'TB' draws downwards, 'LR' to the right, 'BT' upwards, 'RL' to the left.
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
    one_of("plot_model", "rankdir", rankdir, ("TB", "LR", "BT", "RL"))
    graph = getattr(model, "_graph", None)
    if graph is None:
        raise ValueError(
            "a picture needs a model made of symbolic tensors, or a Sequential with an input shape: "
            f"{briefly(model)} has no graph"
        )
    with optional_import("plot_model and model_to_dot need pydot", "dot"):
        import pydot
    dot: Any
    if subgraph:
        dot = pydot.Cluster(model.name, label=_quoted(model.name), style="dashed")
    else:
        dot = pydot.Dot(graph_type="digraph", rankdir=rankdir, dpi=str(dpi), splines=splines)
    content = _Content(show_shapes, show_dtype, show_layer_names, show_layer_activations, show_trainable, expand_nested)
    diagram = _Diagram(pydot, dot, content)
    sources = {}
    for symbol in graph.input_list:
        sources[id(symbol)] = diagram.box(_lines(symbol.node, content) if symbol.node else [symbol.name], dot)
    diagram.add(graph, dot, sources)
    return dot


class _Content(NamedTuple):
    """The kinds of information in the boxes."""

    shapes: bool
    dtypes: bool
    names: bool
    activations: bool
    trainable: bool
    nested: bool


class _Diagram:
    """Adds boxes to a graph of pydot or to a part of it, and arrows to the whole."""

    def __init__(self, pydot: Any, whole: Any, content: _Content):
        self._pydot, self._whole, self._content, self._count = pydot, whole, content, 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def box(self, lines: list[str], place: Any) -> str:
        """Add a box to a part; returns its name."""
        name = self._name("box")
        place.add_node(self._pydot.Node(name, label=_quoted("\\n".join(lines)), shape="box"))
        return name

    def add(self, graph: Graph, place: Any, sources: dict[int, str]) -> list[str]:
        """Add the calls of a graph to a part. Returns the names of the boxes that make its outputs.

        sources: the name of the box that makes a symbolic tensor, by the tensor's id; at first of the inputs.
        """
        calls: collections.Counter[int] = collections.Counter()
        for node in graph.nodes:
            lines, outputs = _lines(node, self._content), list(map(id, structures.flatten(node.outputs)))
            calls[id(node.layer)] += 1
            if calls[id(node.layer)] > 1:
                lines[0] += f" (call {calls[id(node.layer)]})"
            given = [sources[id(symbol)] for symbol in node.inputs if id(symbol) in sources]
            inner = getattr(node.layer, "_graph", None) if self._content.nested else None
            if inner is None:
                name = self.box(lines, place)
                sources |= dict.fromkeys(outputs, name)
                for source in dict.fromkeys(given):
                    self._whole.add_edge(self._pydot.Edge(source, name))
            else:
                frame = self._pydot.Cluster(self._name("frame"), label=_quoted(lines[0]))
                place.add_subgraph(frame)
                made = self.add(inner, frame, dict(zip(map(id, inner.input_list), given, strict=False)))
                sources |= dict(zip(outputs, made, strict=False))
        return [sources[id(symbol)] for symbol in graph.output_list]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


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
