"""Keras 2's control flow on tensors: choices, loops over slices and time steps, functions of symbolic tensors.

Loops are Python loops: the ops of each iteration are recorded. Sizes must be known when the step runs, and many iterations
make long programs. Layers (LSTM, RNN) are faster.
"""

from collections.abc import Callable, Sequence
from typing import Any

from nbkeras import ops
from nbkeras.autodiff.gradient_tape import GradientTape
from nbkeras.building import graph
from nbkeras.building.operation import Operation
from nbkeras.engine import option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.engine.learning_phase import learning_phase, training_phase
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.engine.user_errors import checked

learning_phase_scope = training_phase


def _called(value: Any) -> Any:
    return value() if callable(value) else value


def switch(condition, then_expression, else_expression) -> Tensor:
    """One tensor where a condition is true, the other elsewhere. Both are computed.

    Today: `ops.where(condition, then_expression, else_expression)`, or `ops.cond`, which takes functions.

    Args:
        condition: Booleans. With fewer axes than the tensors, they choose rows.
        then_expression: A tensor, or a function without arguments that returns it.
        else_expression: The same, where the condition is false.

    Example:
        >>> K.switch([True, False], [[1, 2], [3, 4]], lambda: K.zeros((2, 2), "int32")).numpy()
        array([[1, 2],
               [0, 0]], dtype=int32)
    """
    first, second = _called(then_expression), _called(else_expression)
    for _ in range(ops.ndim(first) - ops.ndim(condition) if ops.ndim(condition) else 0):
        condition = ops.expand_dims(condition, -1)
    return ops.where(condition, first, second)


def in_train_phase(x, alt, training=None):
    """One value in training, another outside training.

    Args:
        x: The value in training, or a function without arguments that returns it.
        alt: The same, outside training.
        training: Whether this is training; None for `K.learning_phase()`.

    Example:
        >>> K.in_train_phase("train", "test"), K.in_train_phase("train", "test", training=True)
        ('test', 'train')
    """
    return _called(
        x if (learning_phase() if training is None else option.flag_of("in_train_phase", "training", training)) else alt
    )


def in_test_phase(x, alt, training=None):
    """One value outside training, another in training: `K.in_train_phase(alt, x, training)`.

    Args:
        x: The value outside training, or a function without arguments that returns it.
        alt: The same, in training.

    Example:
        >>> K.in_test_phase("test", "train"), K.in_test_phase("test", "train", training=True)
        ('test', 'train')
    """
    return in_train_phase(alt, x, training)


@checked
def map_fn(fn: Callable, elems, name: str | None = None, dtype=None) -> Tensor:
    """The results of a function for the slices along the first axis, stacked. Today: `ops.map`.

    Args:
        fn: Function of a slice that returns a tensor.
        elems: A tensor.
        name: Accepted and ignored.
        dtype: Accepted and ignored.

    Example:
        >>> K.map_fn(K.sum, [[1, 2], [3, 4]]).numpy()
        array([3, 7], dtype=int32)
    """
    return ops.stack([fn(each) for each in ops.unstack(elems)])


@checked
def foldl(fn: Callable, elems, initializer=None, name: str | None = None) -> Tensor:
    """fn(... fn(fn(start, first), second) ...) over the slices along the first axis.

    Args:
        fn: Function of the current value and a slice that returns the next value.
        elems: A tensor.
        initializer: The start; None for the first slice.
        name: Accepted and ignored.

    Raises:
        ValueError: without a start and without slices.

    Example:
        >>> K.foldl(lambda total, x: 10 * total + x, [1, 2, 3]).numpy()
        array(123, dtype=int32)
    """
    items = ops.unstack(elems)
    if not items and initializer is None:
        raise ValueError("K.foldl: elems has no slice to start with, give an initializer")
    total = items[0] if initializer is None else initializer
    for each in items[1:] if initializer is None else items:
        total = fn(total, each)
    return total


@checked
def foldr(fn: Callable, elems, initializer=None, name: str | None = None) -> Tensor:
    """`K.foldl` from the last slice to the first.

    Args:
        initializer: The start; None for the last slice.

    Example:
        >>> K.foldr(lambda total, x: 10 * total + x, [1, 2, 3]).numpy()
        array(321, dtype=int32)
    """
    return foldl(fn, ops.flip(elems, 0), initializer)


@checked
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
    """A recurrence over axis 1: output, states = step_function(input, states + constants). Layers are much faster.

    Args:
        step_function: Function of the input at a step, (batch, ...), and a list of the states and constants. It returns
            the output and a list of the new states.
        inputs: Numbers (batch, steps, ...).
        initial_states: A list of tensors.
        go_backwards: Whether to run from the last step to the first.
        mask: Booleans (batch, steps); False keeps the states and the output of the last step. Or None.
        constants: A list of tensors for each step, or None.
        unroll: Accepted and ignored: a recorded loop is unrolled already.
        input_length: Accepted and ignored.

    Returns:
        The last output, all outputs (batch, steps, ...), and a list of the last states.

    Example:
        >>> def step(x, states):
        ...     total = states[0] + x
        ...     return total, [total]
        >>> last, outputs, states = K.rnn(step, [[[1.0], [2.0], [3.0]]], [[[0.0]]])
        >>> outputs.numpy().ravel()
        array([1., 3., 6.], dtype=float32)
    """
    steps = ops.unstack(inputs, axis=1)
    masks = [None] * len(steps) if mask is None else ops.unstack(ops.cast(mask, "bool"), axis=1)
    if not isinstance(initial_states, list | tuple):
        raise TypeError(f"K.rnn: initial_states must be a list of tensors, received {briefly(initial_states)}")
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
    """A function that maps arrays for symbolic inputs to arrays of symbolic outputs. Today: `keras.Model(inputs, outputs)`.

    Only expressions with a symbolic tensor are computed at each call; an expression of only variables is computed once.

    Args:
        inputs: A list of symbolic tensors.
        outputs: A list (or another structure) of symbolic tensors.
        updates: Pairs (variable, tensor or symbolic tensor), as `K.update` returns them, to write after the
            outputs are computed; or None.
        name: Accepted and ignored.

    Returns:
        A function of a list of arrays, and of `training`, which is False by default.

    Raises:
        ValueError: raised by that function for a wrong number of arrays.

    Example:
        >>> x = K.placeholder((None, 2))
        >>> f = K.function([x], [x * 10, K.sum(x)])
        >>> f([np.ones((1, 2))])
        [array([[10., 10.]], dtype=float32), array(2., dtype=float32)]
    """
    if not isinstance(inputs, list | tuple) or not isinstance(updates, list | tuple | None):
        raise TypeError(
            f"K.function takes lists of inputs and updates, received {briefly(inputs)} and {briefly(updates)}"
        )
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in updates or ()):
        raise TypeError(f"K.function: updates must be pairs (variable, tensor), received {briefly(updates)}")
    targets = [variable for variable, _ in updates or ()]
    values = [value for _, value in updates or ()]
    known = [(i, value) for i, value in enumerate(values) if not isinstance(value, graph.SymbolicTensor)]
    symbolic = [value for value in values if isinstance(value, graph.SymbolicTensor)]
    part = graph.Graph(list(inputs), [outputs, symbolic])

    def run(arrays: Sequence, training: bool = False) -> Any:
        if len(arrays) != len(part.input_list):
            raise ValueError(f"expected {len(part.input_list)} arrays, received {len(arrays)}")
        tensors = [as_tensor(array, symbol.dtype) for array, symbol in zip(arrays, part.input_list, strict=True)]
        with training_phase(training):
            results, new = part.run(tensors)
        results = structures.map_leaves(ops.convert_to_numpy, results)
        for i, value in known:
            new.insert(i, value)
        for variable, value in zip(targets, new, strict=True):
            variable.assign(value)
        return results

    return run


def gradients(loss, variables) -> list:
    """The symbolic gradients of the sum of a symbolic tensor, for `K.function`.

    For gradients of computed tensors use `keras.GradientTape`.

    Args:
        loss: A symbolic tensor.
        variables: A variable or symbolic tensor, or a list of them.

    Returns:
        A list of symbolic tensors, with None for a variable or tensor that the loss does not depend on.

    Raises:
        TypeError: for a loss that is not symbolic.

    Example:
        >>> x = K.placeholder((3,))
        >>> K.function([x], K.gradients(x ** 2, x))([[1.0, 2.0, 3.0]])
        [array([2., 4., 6.], dtype=float32)]
    """
    sources = list(variables) if isinstance(variables, list | tuple) else [variables]
    if not isinstance(loss, graph.SymbolicTensor):
        raise TypeError(
            f"K.gradients takes a symbolic tensor, made of Inputs or placeholders, received {briefly(loss)}: for values computed "
            "under `with nbkeras.GradientTape() as tape` use tape.gradient(loss, variables)"
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
