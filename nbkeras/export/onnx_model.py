"""`model.export("m.onnx")`: writing a model's inference as an ONNX file."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

from nbkeras.building import lora
from nbkeras.engine import settings, structures
from nbkeras.engine.progress import print_message
from nbkeras.engine.user_errors import optional_import
from nbkeras.export import onnx_elementwise
from nbkeras.export.left_outside import note
from nbkeras.export.onnx_graph import OPSET, OnnxGraph
from nbkeras.export.onnx_ops import HANDLERS
from nbkeras.export.onnx_simplify import simplify
from nbkeras.export.op import Op
from nbkeras.export.trace import Size, Trace, TracedOp, Unsupported
from nbkeras.inference import signature
from nbkeras.saving.archive import atomic_file


def export_onnx(
    model: Any, filepath: Any, input_signature: Sequence[Any] | None = None, verbose: bool | None = None
) -> None:
    """Write a model's inference with its weights to an ONNX file (opset 18); needs the package onnx.

    Open axes stay open: the batch, and other axes if the model computes the same ops for all sizes.

    Args:
        model: A built model.
        filepath: The name of the file, with any extension.
        input_signature: The shape of each input (a tuple with None for an open size, an InputSpec or an Input),
            for models without a graph and to fix sizes.
        verbose: False prints nothing; None and True print the file's name.

    Raises:
        ImportError: if the package onnx is not installed.
        ValueError: for a stateful model, for layers that compute with floats of 8 or 16 bits, and for an op without a counterpart
            in ONNX.

    Example:
        >>> from nbkeras.export import export_onnx
        >>> export_onnx(keras.Sequential([layers.Dense(2, input_shape=(3,))]), "model.onnx")
        Saved the ONNX model at 'model.onnx'.
    """
    with optional_import("exporting to ONNX needs the package onnx", "onnx"):
        import onnx
        import onnx.numpy_helper
    if getattr(model, "stateful", False):
        raise ValueError(
            f"model {model.name!r} is stateful: an ONNX file has no memory. Export one with stateful=False, or one that takes "
            "and returns its states (return_state=True and initial_state)"
        )
    names, specs, pack = signature.inputs_of(model, input_signature)
    shapes = [_open_names(name, shape) for name, (shape, _) in zip(names, specs, strict=True)]
    dtypes = [dtype for _, dtype in specs]
    with lora.merged(model):
        trace = Trace(lambda tensors: model(pack(tensors)), shapes, dtypes)
    output_names = signature.output_names(model, len(trace.runs[0].outputs), names)
    _check_modes(model, trace)
    graph = OnnxGraph(onnx, trace, names, output_names)
    for number, call in trace.calls():
        _write(graph, number, call, model.name)
    graph.op = None
    outputs = list(zip(*(run.outputs for run in trace.runs), strict=True))
    for name, versions in zip(output_names, outputs, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [graph.value(versions)], [name]))
    simplify(graph, output_names)
    info = onnx.helper.make_tensor_value_info
    proto = onnx.helper.make_graph(
        graph.nodes,
        model.name,
        [info(n, graph.type_of(d), s) for n, d, s in zip(names, dtypes, shapes, strict=True)],
        [
            info(name, graph.type_of(versions[0].dtype), _named(trace, versions, name))
            for name, versions in zip(output_names, outputs, strict=True)
        ],
        graph.initializers(),
    )
    onnx_model = onnx.helper.make_model(
        proto, producer_name="nbkeras", opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=8
    )
    onnx.checker.check_model(onnx_model)
    with atomic_file(os.fspath(filepath)) as file:
        file.write(onnx_model.SerializeToString())
    if verbose is None or verbose:
        print_message(f"Saved the ONNX model at {os.fspath(filepath)!r}.{note(model)}")


def _check_modes(model: Any, trace: Trace) -> None:
    """ValueError names a layer that computes with floats of 8 or 16 bits."""
    used = {name for _, call in trace.calls() for name in call.layer.split("/")}
    for layer in model._all_layers():
        is_small = layer.quantization_mode == "float8" or getattr(layer, "compute_dtype", "") in settings.HALVES
        if is_small and layer.name in used:
            raise ValueError(
                f"model {model.name!r} cannot be exported: layer {layer.name!r} has the policy {layer.dtype_policy.name!r}, "
                "and ONNX files of nbkeras compute with float32 or float64: make the model with the policy 'float32' and give it "
                "this one's kernels and other weights"
            )


def _write(graph: OnnxGraph, number: int, call: TracedOp, model: str) -> None:
    """Write one op's nodes. ValueError names the op and the layer if ONNX has no counterpart."""
    constants: dict[str, Any] = {}
    try:
        handler = HANDLERS.get(call.name)
        if handler is None and call.formula is not None:
            handler = functools.partial(onnx_elementwise.of_formula, formula=call.formula)
        if handler is None:
            raise Unsupported("ONNX has no counterpart")
        constants, graph.op = graph.trace.constants(number), None
        graph.op = Op(graph, number, call)
        results = handler(graph, graph.op, **constants)
    except (Unsupported, TypeError) as error:
        if not isinstance(error, Unsupported) and not _has_sizes(constants):
            raise
        where = f" of layer {call.layer!r}" if call.layer else ""
        raise ValueError(f"model {model!r} cannot be exported: op {call.name}{where}: {error}") from error
    for tensor, name in zip(call.outputs, [results] if isinstance(results, str) else results, strict=True):
        graph.bind(tensor, name)


def _has_sizes(constants: dict[str, Any]) -> bool:
    """Whether constants include Sizes, where a handler expects numbers."""
    return any(isinstance(leaf, Size) for leaf in structures.flatten(list(constants.values())))


def _open_names(name: str, shape: tuple) -> tuple:
    return tuple(
        size if size is not None else ("batch" if axis == 0 else f"{name}_axis_{axis}")
        for axis, size in enumerate(shape)
    )


def _named(trace: Trace, versions: Sequence[Any], output: str) -> list:
    """An output's shape with names for open sizes: the name of an equal open axis, else a new name."""
    of_axis = {axis: name for name, axis in trace.names.items()}
    shape: list[Any] = []
    for position, size in enumerate(trace.shape(versions)):
        if isinstance(size, Size):
            same = size.constant == 0 and size.factors and len(size.factors) == 1 and size.factors[0][1] == 1
            shape.append(of_axis[size.factors[0][0]] if same and size.factors else f"{output}_axis_{position}")
        else:
            shape.append(size)
    return shape
