"""Op: an op of a traced model, passed to a handler that writes it in another format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.trace import TracedOp

Handler = Callable[..., Any]  # handler(graph, op, **constants) -> value, or list of values


class Op:
    """An op's inputs as names of graph values ('' for an omitted one), and its tensors."""

    def __init__(self, graph: OnnxGraph, number: int, call: TracedOp):
        self._graph, self._number = graph, number
        self.tensors: list[Any] = call.inputs
        self.outputs = call.outputs
        self.inputs = [graph.value(graph.trace.versions(number, i)) for i in range(len(call.inputs))]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the first input."""
        return self.tensors[0].dtype

    def sizes(self, position: int) -> tuple:
        """The shape of an input, with Sizes for sizes that depend on open axes."""
        return self._graph.trace.shape(self._graph.trace.versions(self._number, position))


def along(kind: str) -> Handler:
    """A handler that adds one node with the op's inputs and its axis."""
    return lambda g, op, axis: g.add(kind, *op.inputs, axis=axis)


def scalar(graph: OnnxGraph, op: Op, value: float) -> str:
    """A number in the dtype of the op's first input."""
    return graph.constant(value, op.dtype)
