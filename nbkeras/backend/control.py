"""Keras 2's control flow on tensors: choices, loops over slices and time steps, functions of symbolic tensors.

Loops are Python loops: the ops of each iteration are recorded. So sizes must be known when the step runs, and many iterations
make long programs. Layers (LSTM, RNN) are faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nbkeras import ops
from nbkeras.building import graph, layer
from nbkeras.building.operation import Operation
from nbkeras.engine import structures
from nbkeras.engine.tensor import GradientTape, Tensor, as_tensor

learning_phase_scope = layer.training_phase


def _called(value: Any) -> Any:
    return value() if callable(value) else value


def switch(condition, then_expression, else_expression) -> Tensor:
    """One tensor where a condition holds, the other elsewhere; both are computed. Both may be functions without arguments."""
    first, second = _called(then_expression), _called(else_expression)
    for _ in range(ops.ndim(first) - ops.ndim(condition) if ops.ndim(condition) else 0):
        condition = ops.expand_dims(condition, -1)
    return ops.where(condition, first, second)


def in_train_phase(x, alt, training=None):
    """x in training, else alt; both may be functions without arguments."""
    return _called(x if (layer.learning_phase() if training is None else training) else alt)


def in_test_phase(x, alt, training=None):
    """alt in training, else x; both may be functions without arguments."""
    return in_train_phase(alt, x, training)


def map_fn(fn: Callable, elems, name: str | None = None, dtype=None) -> Tensor:
    """The results of fn for the slices along the first axis, stacked."""
    return ops.stack([fn(each) for each in ops.unstack(elems)])


def foldl(fn: Callable, elems, initializer=None, name: str | None = None) -> Tensor:
    """fn(... fn(fn(start, first), second) ...) over slices along the first axis; the start is the first slice by default."""
    items = ops.unstack(elems)
    if not items and initializer is None:
        raise ValueError("K.foldl: elems has no slice to start with, give an initializer")
    total = items[0] if initializer is None else initializer
    for each in items[1:] if initializer is None else items:
        total = fn(total, each)
    return total


def foldr(fn: Callable, elems, initializer=None, name: str | None = None) -> Tensor:
    """`foldl`, from the last slice to the first."""
    return foldl(fn, ops.flip(elems, 0), initializer)


def rnn(
    step_function: Callable,
    inputs,
    initial_states,
    go_backwards: bool = False,
    mask=None,
    constants=None,
    unroll: bool = False,
    input_length: int | None = None,
):
    """step_function(input, states + constants) -> (output, states) over axis 1: (last output, all outputs, last states).

    mask: (batch, steps); where it is False, the states and the output keep their values. Layers are much faster. unroll and
    input_length are accepted and have no effect.
    """
    steps = ops.unstack(inputs, axis=1)
    masks = [None] * len(steps) if mask is None else ops.unstack(ops.cast(mask, "bool"), axis=1)
    states, outputs, output = list(initial_states), [], None
    for i in reversed(range(len(steps))) if go_backwards else range(len(steps)):
        new_output, new_states = step_function(steps[i], [*states, *(constants or [])])
        if masks[i] is not None:
            before = ops.zeros_like(new_output) if output is None else output
            new_output = switch(masks[i], new_output, before)
            new_states = [switch(masks[i], new, old) for new, old in zip(new_states, states, strict=True)]
        output, states = new_output, list(new_states)
        outputs.append(output)
    return output, ops.stack(outputs, axis=1), states


def function(inputs: Sequence, outputs: Any, updates: Sequence | None = None, name: str | None = None) -> Callable:
    """A function from arrays for symbolic inputs to arrays of symbolic outputs: `K.function([m.input], [layer.output])`.

    updates: pairs (variable, tensor or symbolic tensor), as `K.update` returns them, written after the outputs are computed.
    Only expressions with a symbolic tensor are computed at each call; an expression of variables alone is computed once.
    """
    targets = [variable for variable, _ in updates or ()]
    values = [value for _, value in updates or ()]
    known = [(i, value) for i, value in enumerate(values) if not isinstance(value, graph.SymbolicTensor)]
    symbolic = [value for value in values if isinstance(value, graph.SymbolicTensor)]
    part = graph.Graph(list(inputs), [outputs, symbolic])

    def run(arrays: Sequence, training: bool = False) -> Any:
        if len(arrays) != len(part.input_list):
            raise ValueError(f"expected {len(part.input_list)} arrays, received {len(arrays)}")
        tensors = [as_tensor(array, symbol.dtype) for array, symbol in zip(arrays, part.input_list, strict=True)]
        with layer.training_phase(training):
            results, new = part.run(tensors)
        results = structures.map_leaves(ops.convert_to_numpy, results)
        for i, value in known:
            new.insert(i, value)
        for variable, value in zip(targets, new, strict=True):
            variable.assign(value)
        return results

    return run


def gradients(loss, variables) -> list:
    """The symbolic gradients of the sum of a symbolic tensor with respect to variables and symbolic tensors, for `function`.

    None for a variable or tensor on which the loss does not depend. For gradients of computed tensors use GradientTape. Gradients
    of gradients are not supported.
    """
    sources = list(variables) if isinstance(variables, list | tuple) else [variables]
    if not isinstance(loss, graph.SymbolicTensor):
        raise TypeError(
            f"K.gradients takes a symbolic tensor, made of Inputs or placeholders, received {loss!r}: of what is computed "
            "under `with nbkeras.GradientTape() as tape` the gradients are tape.gradient(loss, variables)"
        )
    symbolic = [source for source in sources if isinstance(source, graph.SymbolicTensor)]
    part = graph.Graph(graph.get_source_inputs(loss), [loss, symbolic])
    there: list[bool] = []

    def gradients_of(*inputs: Tensor) -> list:
        with GradientTape() as tape:
            tape.watch([each for each in inputs if each.dtype.kind == "f"])
            value, between = part.run(list(inputs))
        computed = iter(between)
        wanted = [next(computed) if isinstance(source, graph.SymbolicTensor) else source for source in sources]
        results = tape.gradient(value, wanted)
        there[:] = [each is not None for each in results]
        return [each for each in results if each is not None]

    results = iter(Operation(gradients_of)(*part.input_list))
    return [next(results) if known else None for known in there]
