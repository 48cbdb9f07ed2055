"""`model.export("m.onnx")`: what a model computes, in inference, as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbkeras import nest
from nbkeras.export.onnx_graph import OPSET, OnnxGraph, Unsupported
from nbkeras.export.onnx_ops import HANDLERS
from nbkeras.export.op import Op
from nbkeras.export.trace import Size, Trace
from nbkeras.saving.archive import atomic_file

_INSTALL = "exporting to ONNX needs the package onnx: pip install 'nbkeras[onnx]'"


def export_onnx(model: Any, filepath: Any, input_signature: Sequence[Any] | None = None) -> None:
    """Write the model's inference to an ONNX file (opset 18) with its weights.

    input_signature: the shape of each input (a tuple with None where any size fits), for models without a graph of their
    own and to fix sizes. Open axes stay open: batch, and others where what the model computes is the same for all sizes.
    Raises ImportError without the package onnx, ValueError for a stateful model and for ops that ONNX does not have.
    """
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError:
        raise ImportError(_INSTALL) from None
    if getattr(model, "stateful", False):
        raise ValueError(
            f"model {model.name!r} is stateful: an ONNX file has no memory. Export one with stateful=False, or one that takes "
            "and returns its states (return_state=True and initial_state)"
        )
    names, shapes, dtypes, function = _signature(model, input_signature)
    trace = Trace(function, shapes, dtypes)
    output_names = _output_names(model, len(trace.runs[0].outputs), names)
    graph = OnnxGraph(onnx, trace, names, output_names)
    for number, call, constants in trace.calls():
        handler = HANDLERS.get(call.name)
        try:
            if handler is None:
                raise Unsupported("ONNX has no counterpart")
            results = handler(graph, Op(graph, number, call), **constants)
        except Unsupported as error:
            raise ValueError(f"model {model.name!r} cannot be exported: op {call.name}: {error}") from None
        for tensor, name in zip(call.outputs, [results] if isinstance(results, str) else results, strict=True):
            graph.bind(tensor, name)
    outputs = list(zip(*(run.outputs for run in trace.runs), strict=True))
    for name, versions in zip(output_names, outputs, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [graph.value(versions)], [name]))
    info = onnx.helper.make_tensor_value_info
    proto = onnx.helper.make_graph(
        graph.nodes,
        model.name,
        [info(n, graph.type_of(d), s) for n, d, s in zip(names, dtypes, shapes, strict=True)],
        [
            info(name, graph.type_of(versions[0].dtype), _named(trace, versions))
            for name, versions in zip(output_names, outputs, strict=True)
        ],
        graph.initializers,
    )
    made = onnx.helper.make_model(
        proto, producer_name="nbkeras", opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8
    )
    onnx.checker.check_model(made)
    with atomic_file(os.fspath(filepath)) as file:
        file.write(made.SerializeToString())


def _signature(model: Any, given: Sequence[Any] | None) -> tuple[list[str], list[tuple], list[Any], Any]:
    """Names, shapes with names for open axes and dtypes of the inputs, and the model as a function of a list of them."""
    if getattr(model, "_graph", None) is not None:
        symbols = model.inputs
        names = [str(name) for name in model.input_names]
        shapes, dtypes = [tuple(s.shape) for s in symbols], [s.dtype for s in symbols]

        def function(tensors):
            return model(nest.pack(model.input, tensors))

    else:
        if given is None and model.build_shapes is None:
            raise ValueError(f"model {model.name!r} has no input shapes: call it once, or give input_signature")
        own: Any = given if model.build_shapes is None else model.build_shapes
        single = nest.is_shape(own)
        shapes = [tuple(own)] if single else [tuple(shape) for shape in own]
        if given is None:
            shapes = [(None, *shape[1:]) for shape in shapes]
        names, dtypes = [f"input_{i}" for i in range(len(shapes))], [np.dtype(model.dtype)] * len(shapes)

        def function(tensors):
            return model(tensors[0] if single else tensors)

    if given is not None:
        shapes = [tuple(shape) for shape in ([given] if nest.is_shape(given) else given)]
        if len(shapes) != len(names):
            raise ValueError(f"model {model.name!r} has {len(names)} inputs, received {len(shapes)} shapes")
    return names, [_open_names(name, shape) for name, shape in zip(names, shapes, strict=True)], dtypes, function


def _open_names(name: str, shape: tuple) -> tuple:
    return tuple(
        size if size is not None else ("batch" if axis == 0 else f"{name}_axis_{axis}")
        for axis, size in enumerate(shape)
    )


def _output_names(model: Any, count: int, taken: list[str]) -> list[str]:
    names = [str(name) for name in model.output_names]
    names = names if len(set(names)) == count else [f"output_{i}" for i in range(count)]
    return [f"{name}_output" if name in taken else name for name in names]


def _named(trace: Trace, versions: Sequence[Any]) -> list:
    """An output's shape with names: of the open axis where it is one, '' for other open sizes."""
    of_axis = {axis: name for name, axis in trace.names.items()}
    shape: list[Any] = []
    for position, size in enumerate(trace.shape(versions)):
        if isinstance(size, Size):
            same = size.constant == 0 and size.factors and len(size.factors) == 1 and size.factors[0][1] == 1
            shape.append(of_axis[size.factors[0][0]] if same and size.factors else f"open_{position}")
        else:
            shape.append(size)
    return shape
