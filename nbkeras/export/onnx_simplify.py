"""Simplifies an ONNX graph: batch normalizations are folded into the weights before them, and transposes cancel.

Runtimes do this only for some patterns of nodes, and without it take up to three times as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph, names_read

# Nodes that compute each element by itself
_ELEMENTWISE = set(
    "Abs Add Ceil Clip Cos Div Elu Erf Exp Floor HardSigmoid HardSwish Identity Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid "
    "Sign Sin Softplus Sqrt Sub Tanh".split()
)


def simplify(graph: OnnxGraph, outputs: Sequence[str]) -> None:
    """Simplify the nodes in place; outputs: the names of the graph's outputs."""
    _drop_unused(graph, outputs)
    _Folding(graph).run()
    _cancel_transposes(graph, outputs)
    _drop_unused(graph, outputs)


def _drop_unused(graph: OnnxGraph, outputs: Sequence[str]) -> None:
    needed, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.output):
            needed.update(names_read(node))
            kept.append(node)
    graph.nodes[:] = reversed(kept)


def _rename(node: Any, names: dict[str, str]) -> None:
    """Rename the values that a node reads, including those in a loop's graph."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, names)


# -------------------- transposes --------------------


def _cancel_transposes(graph: OnnxGraph, outputs: Sequence[str]) -> None:
    """Move Transposes behind elementwise nodes until two meet, which become one or none."""
    turned: dict[str, tuple[str, list[int]]] = {}  # transposed value -> the value before, and its axes in the new order
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        _rename(node, renamed)
        if node.op_type == "Transpose":
            axes = node.attribute[0].ints
            source, before = turned.get(node.input[0], (node.input[0], list(range(len(axes)))))
            node.input[0], axes[:] = source, [before[axis] for axis in axes]
            if list(axes) == list(range(len(axes))):
                renamed[node.output[0]] = source
                continue
            turned[node.output[0]] = source, list(axes)
        inputs = _before_transposes(graph, node, turned)
        kept.append(node)
        if inputs and node.output[0] not in outputs:
            axes = next(turned[name][1] for name in node.input if name in turned)
            if node.op_type == "Concat":
                node.attribute[0].i = axes[node.attribute[0].i]
            name, node.input[:] = node.output[0], inputs
            node.output[0] = graph.fresh(node.op_type.lower())
            turned[name] = node.output[0], axes
            kept.append(graph.onnx.helper.make_node("Transpose", [node.output[0]], [name], perm=axes))
    graph.nodes[:] = kept


def _before_transposes(graph: OnnxGraph, node: Any, turned: dict[str, tuple[str, list[int]]]) -> list[str]:
    """The inputs before the Transposes, if an elementwise node or a Concat can be computed before them; else []."""
    orders = [turned[name][1] for name in node.input if name in turned]
    if node.op_type not in (*_ELEMENTWISE, "Concat") or not orders or any(order != orders[0] for order in orders):
        return []
    inputs = []
    for name in node.input:
        constant = graph.constants.get(name)
        if name in turned:
            inputs.append(turned[name][0])
        elif node.op_type == "Concat" or constant is None or constant.ndim > 1:
            return []
        elif constant.ndim == 0:
            inputs.append(name)
        else:  # along the last axis
            place = orders[0][-1]
            inputs.append(graph.instead(constant.reshape(-1, *[1] * (len(orders[0]) - 1 - place)), name))
    return inputs


# -------------------- folding --------------------


class _Folding:
    """Folds Sub, Mul and Add of one number per channel into the weights of the Conv or MatMul before them."""

    def __init__(self, graph: OnnxGraph):
        self.graph = graph
        self.makers = {name: node for node in graph.nodes for name in node.output}
        self.uses = Counter(name for node in graph.nodes for name in names_read(node))
        self.renamed: dict[str, str] = {}

    def run(self) -> None:
        kept = []
        for node in self.graph.nodes:
            _rename(node, self.renamed)
            if node.op_type in ("Sub", "Mul", "Add") and self._folded(node):
                self.renamed[node.output[0]] = node.input[0]
                self.uses[node.input[0]] = self.uses[node.output[0]]
            else:
                kept.append(node)
        self.graph.nodes[:] = kept

    def _folded(self, node: Any) -> bool:
        """Fold the node if possible; its first input is then its result. Returns whether it was folded."""
        vector = self.graph.constants.get(node.input[1])
        if vector is None or vector.ndim != 1 or vector.dtype.kind != "f":
            return False
        if node.op_type == "Sub":
            vector = -vector
        before = self._only(node.input[0])
        if before is None:
            return False
        if before.op_type == "Transpose":
            return self._into_convolution(before, node, vector)
        return self._into_product(before, node, vector)

    def _only(self, name: str) -> Any:
        """The node that made a value, if the value has one use."""
        return self.makers.get(name) if self.uses[name] == 1 else None

    def _into_convolution(self, transpose: Any, node: Any, vector: np.ndarray) -> bool:
        """Fold into a Conv, if the Transpose moves its channels to the last axis."""
        axes, conv = list(transpose.attribute[0].ints), self._only(transpose.input[0])
        if conv is None or conv.op_type != "Conv" or axes != [0, *range(2, len(axes)), 1]:
            return False
        weights, *bias = (self.graph.constants.get(name) for name in conv.input[1:])
        if weights is None or any(b is None for b in bias) or vector.shape != weights.shape[:1]:
            return False
        if node.op_type == "Mul":
            self._replace(conv, 1, weights * vector.reshape(-1, *[1] * (weights.ndim - 1)))
            if bias:
                self._replace(conv, 2, bias[0] * vector)
        elif bias:
            self._replace(conv, 2, bias[0] + vector)
        else:
            conv.input.append(self.graph.instead(vector, node.input[1]))
        return True

    def _into_product(self, before: Any, node: Any, vector: np.ndarray) -> bool:
        """Fold into a MatMul and its bias; the first Add or Sub after a MatMul becomes its bias."""
        bias, product = None, before
        if before.op_type == "Add":
            bias, product = self.graph.constants.get(before.input[1]), self._only(before.input[0])
            if bias is None or bias.shape != vector.shape:
                return False
        if product is None or product.op_type != "MatMul":
            return False
        weights = self.graph.constants.get(product.input[1])
        if weights is None or weights.ndim != 2 or vector.shape != weights.shape[1:]:
            return False
        if node.op_type == "Mul":
            self._replace(product, 1, weights * vector)
        elif bias is None:
            if node.op_type == "Sub":
                self._replace(node, 1, vector)
                node.op_type = "Add"
            return False
        if bias is not None:
            self._replace(before, 1, bias * vector if node.op_type == "Mul" else bias + vector)
        return True

    def _replace(self, node: Any, position: int, array: np.ndarray) -> None:
        node.input[position] = self.graph.instead(array, node.input[position])
