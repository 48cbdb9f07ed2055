"""LSTM, GRU and SimpleRNN as ONNX's recurrent nodes, or with a mask as a Scan over steps.

ONNX's LSTM and GRU support masks only as lengths. In nbkeras any step may be masked, and its state then stays unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.export.onnx_graph import OnnxGraph
from nbkeras.export.onnx_shapes import flipped
from nbkeras.export.op import Op
from nbkeras.ops.recurrent import RECURRENT_ACTIVATIONS

# code -> an activation's ONNX name, alpha and beta
_ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "linear": ("Affine", (1.0, 0.0)),
    "tanh": ("Tanh", ()),
    "sigmoid": ("Sigmoid", ()),
    "relu": ("Relu", ()),
    "hard_sigmoid": ("HardSigmoid", (1 / 6, 0.5)),
    "legacy_hard_sigmoid": ("HardSigmoid", (0.2, 0.5)),
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_LSTM_ORDER = (0, 3, 1, 2)  # ONNX orders the gates i, o, f, c; Keras i, f, c, o


def _activations(*codes: int) -> dict[str, Any]:
    """Attributes of ONNX's recurrent nodes for activations, given by code."""
    chosen = [_ACTIVATIONS[RECURRENT_ACTIVATIONS[code]] for code in codes]
    numbers = [pair for _, pair in chosen if pair]
    more = {"activation_alpha": [p[0] for p in numbers], "activation_beta": [p[1] for p in numbers]} if numbers else {}
    return {"activations": [name for name, _ in chosen], **more}


def _activate(g: OnnxGraph, name: str, code: int) -> str:
    kind, numbers = _ACTIVATIONS[RECURRENT_ACTIVATIONS[code]]
    if kind == "Affine":
        return name
    settings: dict[str, Any] = dict(zip(("alpha", "beta"), numbers, strict=False))
    return g.add(kind, name, **settings)


# -------------------- sequences --------------------


def _by_steps(g: OnnxGraph, name: str, ndim: int, backwards: bool) -> str:
    """(batch, steps, ...) as (steps, batch, ...), in the order of computation."""
    turned = g.add("Transpose", name, perm=[1, 0, *range(2, ndim)])
    return flipped(g, turned, (0,)) if backwards else turned


def _gates(g: OnnxGraph, name: str, count: int, axis: int, order: Any = None) -> list[str]:
    """The parts of a weight, one for each gate."""
    if count == 1:
        return [name]
    parts = g.add("Split", name, outputs=count, axis=axis, num_outputs=count)
    return [parts[i] for i in order] if order else parts


def _stacked(g: OnnxGraph, name: str, count: int, order: Any) -> str:
    """(k, gates * units) as ONNX's (1, gates * units, k)."""
    parts = _gates(g, name, count, 1, order)
    whole = g.add("Concat", *parts, axis=1) if order else name
    return g.add("Unsqueeze", g.add("Transpose", whole, perm=[1, 0]), g.constant([0], np.int64))


def _native(g: OnnxGraph, op: Op, kind: str, biases: tuple[str, str], states: list[str], options: dict) -> list[str]:
    """Add ONNX's recurrent node; returns [all outputs (steps, batch, units), last state, ...]."""
    gates, order = _GATES[kind], _LSTM_ORDER if kind == "LSTM" else None
    units, first = op.tensors[2].shape[0], g.constant([0], np.int64)
    both, (of_input, of_state) = None, biases
    if of_input:  # ONNX's bias has the shape (1, 2 * gates * units)
        of_input = g.add("Concat", *_gates(g, of_input, gates, 0, order), axis=0) if order else of_input
        of_state = of_state or g.constant(np.zeros(gates * units), op.dtype)
        both = g.add("Unsqueeze", g.add("Concat", of_input, of_state, axis=0), first)
    before = [g.add("Unsqueeze", state, first) if state else "" for state in states]
    x, *weights = op.inputs[:3]
    whole, *last = g.add(
        kind,
        _by_steps(g, x, 3, options.pop("backwards")),
        *(_stacked(g, weight, gates, order) for weight in weights),
        both,
        "",
        *before,
        outputs=1 + len(states),
        hidden_size=units,
        **options,
    )
    return [g.add("Squeeze", whole, g.constant([1], np.int64)), *[g.add("Squeeze", state, first) for state in last]]


def _scan(g: OnnxGraph, op: Op, states: list[str], sequences: list[str], step: Callable) -> list[str]:
    """Add a loop over steps, step(states, elements) -> (new states, output); returns [outputs, last state, ...]."""
    before, g.nodes = g.nodes, []
    inside = [g.fresh("state") for _ in states], [g.fresh("element") for _ in sequences]
    new_states, output = step(*inside)
    results = [g.add("Identity", name) for name in (*new_states, output)]
    nodes, g.nodes = g.nodes, before
    info, kind = g.onnx.helper.make_tensor_value_info, g.type_of(op.dtype)
    kinds = [kind] * len(states) + [kind, g.type_of(bool)]
    body = g.onnx.helper.make_graph(
        nodes,
        g.fresh("step"),
        [info(name, k, None) for name, k in zip([*inside[0], *inside[1]], kinds, strict=True)],
        [info(name, kind, None) for name in results],
    )
    *last, outputs = g.add("Scan", *states, *sequences, outputs=len(results), body=body, num_scan_inputs=len(sequences))
    return [outputs, *last]


def _masked(
    g: OnnxGraph, op: Op, states: list[str], mask: str, bias: str, cell: Callable, backwards: bool, zero_masked: bool
) -> list[str]:
    """Add a Scan of `cell(z, states) -> new states`; masked steps keep the states. z: the input's products.

    An omitted state starts as zeros; without a mask all steps are computed.
    """
    units = op.tensors[2].shape[0]
    zeros = g.constant(np.zeros((1, units)), op.dtype)
    first = [state or g.add("Expand", zeros, g.shape([op.sizes(0)[0], units])) for state in states]
    mask = mask or g.add("Expand", g.constant([[True]]), g.shape(op.sizes(0)[:2]))
    product = g.add("MatMul", op.inputs[0], op.inputs[1])
    z = _by_steps(g, g.add("Add", product, bias) if bias else product, 3, backwards)
    seen = _by_steps(g, g.add("Unsqueeze", mask, g.constant([2], np.int64)), 3, backwards)
    zero = g.constant(0, op.dtype)

    def step(old: list[str], elements: list[str]) -> tuple[list[str], str]:
        z_t, counts = elements
        new = [g.add("Where", counts, n, o) for n, o in zip(cell(z_t, old), old, strict=True)]
        return new, g.add("Where", counts, new[0], zero) if zero_masked else new[0]

    return _scan(g, op, first, [z, seen], step)


def _output(g: OnnxGraph, outputs: str, sequences: bool) -> str:
    """(batch, steps, units), or the last step's (batch, units)."""
    if sequences:
        return g.add("Transpose", outputs, perm=[1, 0, 2])
    return g.add("Gather", outputs, g.constant(-1, np.int64), axis=0)


def _dropped(g: OnnxGraph, h: str, drop: str) -> str:
    return g.add("Mul", h, drop) if drop else h


def _layer(
    g, op, kind, states, biases, cell, activations, sequences, backwards, zero_masked, **options: Any
) -> list[str]:
    """Outputs and last states of a layer, by ONNX's node or a loop of `cell`. biases: of the input's and the state's products."""
    mask, drop = op.inputs[-2:]
    if mask or drop or op.dtype == np.float64:  # ONNX Runtime has no recurrent node for these
        outputs, *last = _masked(g, op, states, mask, biases[0], cell, backwards, zero_masked)
    else:
        options |= {"backwards": backwards, **_activations(*activations)}
        outputs, *last = _native(g, op, kind, biases, states, options)
    return [_output(g, outputs, sequences), *last]


# -------------------- the three families --------------------


def _lstm(g, op, activation, recurrent_activation, sequences, backwards, zero_masked, differentiable) -> list[str]:
    x, kernel, recurrent_kernel, bias, h, c, mask, drop = op.inputs

    def cell(z: str, old: list[str]) -> list[str]:
        z = g.add("Add", z, g.add("MatMul", _dropped(g, old[0], drop), recurrent_kernel))
        i, f, candidate, o = _gates(g, z, 4, 1)
        i, f, o = (_activate(g, gate, recurrent_activation) for gate in (i, f, o))
        kept = g.add("Mul", f, old[1])
        new_c = g.add("Add", kept, g.add("Mul", i, _activate(g, candidate, activation)))
        return [g.add("Mul", o, _activate(g, new_c, activation)), new_c]

    activations = (recurrent_activation, activation, activation)
    return _layer(g, op, "LSTM", [h, c], (bias, ""), cell, activations, sequences, backwards, zero_masked)


def _gru(
    g, op, activation, recurrent_activation, reset_after, sequences, backwards, zero_masked, differentiable
) -> list[str]:
    x, kernel, recurrent_kernel, bias, h, mask, drop = op.inputs
    units = op.tensors[2].shape[0]
    first, second = bias, ""
    if bias and reset_after:
        halves = g.add("Split", bias, outputs=2, axis=0, num_outputs=2)
        first, second = (g.add("Squeeze", half, g.constant([0], np.int64)) for half in halves)
    of_gates = g.add("Split", recurrent_kernel, g.constant([2 * units, units], np.int64), outputs=2, axis=1)

    def cell(z: str, old: list[str]) -> list[str]:
        (state,) = old
        seen = _dropped(g, state, drop)
        if reset_after:
            inner = g.add("MatMul", seen, recurrent_kernel)
            inner = g.add("Add", inner, second) if second else inner
            update, reset, candidate = _gates(g, inner, 3, 1)
        else:
            update, reset = _gates(g, g.add("MatMul", seen, of_gates[0]), 2, 1)
        zu, zr, zg = _gates(g, z, 3, 1)
        update = _activate(g, g.add("Add", zu, update), recurrent_activation)
        reset = _activate(g, g.add("Add", zr, reset), recurrent_activation)
        if reset_after:
            candidate = g.add("Mul", reset, candidate)
        else:
            candidate = g.add("MatMul", g.add("Mul", reset, seen), of_gates[1])
        new = _activate(g, g.add("Add", zg, candidate), activation)
        return [g.add("Add", new, g.add("Mul", update, g.add("Sub", state, new)))]

    how = ((recurrent_activation, activation), sequences, backwards, zero_masked)
    return _layer(g, op, "GRU", [h], (first, second), cell, *how, linear_before_reset=int(reset_after))


def _simple_rnn(g, op, activation, sequences, backwards, zero_masked) -> list[str]:
    x, kernel, recurrent_kernel, bias, h, mask, drop = op.inputs

    def cell(z: str, old: list[str]) -> list[str]:
        inner = g.add("MatMul", _dropped(g, old[0], drop), recurrent_kernel)
        return [_activate(g, g.add("Add", z, inner), activation)]

    return _layer(g, op, "RNN", [h], (bias, ""), cell, (activation,), sequences, backwards, zero_masked)


HANDLERS: dict[str, Callable] = {"lstm.lstm": _lstm, "gru.gru": _gru, "simple_rnn.simple_rnn": _simple_rnn}
