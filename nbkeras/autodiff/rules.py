"""Floor 1: rules of ops. They give derivatives of any order, in forward and reverse mode.

The vjp of an op computes with arrays, which no tape records. So inside nested tapes (`tape.keeps_calls`), each Record also keeps
its op's Call. Derivatives are then computed from the op's rule, by ops, which the outer tape records. There are four kinds of
rules. They need no extra code for second and higher derivatives:

* `Elementwise`: the op has a partial derivative for each input, given as a function of tensors;
* `Linear`: linear in all inputs together: the gradient is the transposed map, and its transposed map is the op again;
* `Multilinear`: linear in each input, for fixed others: the gradient is multilinear in dy and the other inputs;
* `Composed`: the op is a composition of other ops, which run instead of it.

`Explicit` is for all other ops: the gradient as a function of tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from nbkeras import ops
from nbkeras.engine import tape, user_errors
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, Variable, apply, apply_plainly
from nbkeras.kernels.runtime import device

Array = np.ndarray
Found = Sequence[Tensor | None]
UNSAVED = object()  # replaces the saved values of an op, in a Record on mapped tensors of `autodiff.vmap`


class Call(NamedTuple):
    """A call of an op: its inputs as Tensors, its constants, and its outputs as arrays.

    Outputs as Tensors would keep their Record, and the Record its Call, in a cycle.
    """

    op: Callable
    op_vjp: Callable
    inputs: tuple[Tensor | None, ...]
    constants: dict[str, Any]
    outputs: tuple[Array, ...]

    def results(self, record: tape.Record) -> list[Tensor]:
        """The outputs as Tensors."""
        return [Tensor(array, record, i) for i, array in enumerate(self.outputs)]

    def whole(self, dys: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients of the outputs, with zeros for None."""
        return [zeros_of(array) if dy is None else dy for dy, array in zip(dys, self.outputs, strict=True)]

    def again(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The outputs of the op for new inputs."""
        y = apply(self.op, self.op_vjp, inputs, **self.constants)
        return y if isinstance(y, tuple) else (y,)


class Rule:
    """Differentiates an op by ops."""

    def vjp(self, record: tape.Record, dys: Found, needs: Sequence[bool]) -> Found:
        """The gradient of each input that needs one.

        Args:
            record: The record of the op: `record.call.inputs` are its inputs, `record.call.results(record)` its outputs, as
                tensors; `record.call.constants` has its constants. Do not use `record.call.outputs`: these are arrays, which
                no tape sees.
            dys: The gradient of each output, a tensor; None for zeros.
            needs: For each input, whether its gradient is needed.
        """
        raise NotImplementedError

    def jvp(self, record: tape.Record, tangents: Found) -> Found | None:
        """The tangent of each output; None if applying the vjp twice is as fast.

        Args:
            record: The record of the op, as for `vjp`.
            tangents: The tangent of each input; None for zeros.
        """
        return None


def define(op: Callable, rule: Rule) -> None:
    """Give your own op a rule, so that it has higher-order derivatives.

    Args:
        op: The function of arrays that is passed to `apply`.
        rule: An `Elementwise`, `Linear`, `Multilinear`, `Composed` or `Explicit`.

    Raises:
        TypeError: if it is not a rule, or if `op` is a function of tensors.

    Example:
        >>> from nbkeras import autodiff
        >>> from nbkeras.kernels.runtime import device
        >>> from nbkeras.tensor import apply, as_tensor
        >>> def cube_op(x):
        ...     y = device.empty(x.shape, x.dtype)
        ...     device.launch(np.power, x, 3, y)
        ...     return y, x
        >>> def cube_vjp(x, dy, needs):
        ...     dx = device.output(needs[0], x.shape, x.dtype)
        ...     device.launch(np.square, x, dx)
        ...     device.launch(np.multiply, dx, dy, dx)
        ...     device.launch(np.multiply, dx, 3, dx)
        ...     return (dx,)
        >>> autodiff.define(cube_op, autodiff.Elementwise(lambda x, y: 3 * x * x))
        >>> slope = autodiff.grad(lambda x: apply(cube_op, cube_vjp, [x]))
        >>> autodiff.grad(slope)(2.0).item()
        12.0
    """
    if not isinstance(rule, Rule):
        raise TypeError(
            "define: expected a rule, such as autodiff.Elementwise(slope) or autodiff.Composed(function), "
            f"received {briefly(rule)}"
        )
    if user_errors.is_marked(op):
        raise TypeError(
            f"define: {op.__name__!r} is a function of tensors. Pass the function of arrays that it passes to `apply` first"
        )
    op.derivative = rule  # type: ignore[attr-defined]


def without_values(op: Callable, op_vjp: Any, tensors: Found, constants: dict[str, Any]) -> Tensor:
    """The result of an op as an unfilled array with its Record, for gradients that do not depend on the values."""

    def shaped(*arrays, **constants):
        with device.dry():
            y, saved = op(*arrays, **constants)
        return device.empty(y.shape, y.dtype), saved

    shaped.__name__ = op.__name__
    y = apply_plainly(shaped, op_vjp, tensors, constants)
    keep_call(op, op_vjp, tensors, constants, y)
    return y


def keep_call(op: Callable, op_vjp: Callable, tensors: Sequence[Tensor | None], constants: dict, result: Any) -> None:
    """Store the call of an op in the Record of its result."""
    outputs = result if isinstance(result, tuple) else (result,)
    record = next((each.record for each in outputs if each.record is not None), None)
    if record is not None:
        # variables by their current values
        inputs = tuple(Tensor(t.data, t.record, t.index) if isinstance(t, Variable) else t for t in tensors)
        record.call = Call(op, op_vjp, inputs, constants, tuple(each.data for each in outputs))


# -------------------- kinds of rules --------------------


class Elementwise(Rule):
    """An elementwise op with broadcasting: each output element depends on the input elements at the same index.

    Args:
        slopes: For each input, the partial derivative of the op: a number, or a function of the inputs and the output as tensors.

    Example:
        >>> from nbkeras import autodiff
        >>> from nbkeras.kernels import device
        >>> from nbkeras.tensor import apply
        >>> def square_op(x):
        ...     y = device.empty(x.shape, x.dtype)
        ...     device.launch(np.square, x, y)
        ...     return y, x
        >>> def square_vjp(x, dy, needs):
        ...     dx = device.output(needs[0], x.shape, x.dtype)
        ...     device.launch(np.multiply, x, dy, dx)
        ...     device.launch(np.multiply, dx, 2, dx)
        ...     return (dx,)
        >>> autodiff.define(square_op, autodiff.Elementwise(lambda x, y: 2 * x))
        >>> slope = autodiff.grad(lambda x: apply(square_op, square_vjp, [x]))
        >>> autodiff.grad(slope)(5.0).item()
        2.0
    """

    def __init__(self, *slopes: Any):
        self.slopes = slopes

    def _slope(self, record: tape.Record, i: int) -> Any:
        """The partial derivative with respect to input i: a tensor or a number; None for 0."""
        if i >= len(self.slopes):
            return None
        slope, call = self.slopes[i], record.call
        return slope(*call.inputs, *call.results(record), **call.constants) if callable(slope) else slope

    def vjp(self, record, dys, needs):
        (dy,), found = dys, []
        for i, need in enumerate(needs):
            slope = self._slope(record, i) if need else None
            found.append(None if slope is None else _scaled(dy, slope))
        return found

    def jvp(self, record, tangents):
        total, shape = None, record.call.outputs[0].shape
        for i, tangent in enumerate(tangents):
            slope = None if tangent is None else self._slope(record, i)
            if slope is not None:
                total = plus(total, _scaled(tangent, slope))
        return [None if total is None else of_shape(total, shape)]


def _scaled(x: Tensor, factor: Any) -> Tensor:
    if isinstance(factor, Tensor):
        return ops.where(factor, x, 0) if factor.dtype == np.bool_ else ops.multiply(x, factor)
    return x if factor == 1 else ops.negative(x) if factor == -1 else ops.multiply(x, factor)


def of_shape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else ops.broadcast_to(x, shape)


def plus(x: Tensor | None, y: Tensor) -> Tensor:
    """x + y, where x may be None."""
    return y if x is None else ops.add(x, y)


class Linear(Rule):
    """An op that is linear in all its float inputs together. Other inputs and constants select the linear map.

    Args:
        transpose: A function of (call, dys, needs) that returns the gradients of the inputs by ops; None uses the op's vjp.
        constants: Values of the op's constants for which it maps zeros to zeros.

    Example:
        >>> from nbkeras import autodiff
        >>> from nbkeras.kernels import device
        >>> from nbkeras.tensor import apply
        >>> def double_op(x):
        ...     y = device.empty(x.shape, x.dtype)
        ...     device.launch(np.multiply, x, 2, y)
        ...     return y, None
        >>> def double_vjp(saved, dy, needs):
        ...     return (double_op(dy)[0],)
        >>> autodiff.define(double_op, autodiff.Linear())
        >>> slope = autodiff.grad(lambda x: apply(double_op, double_vjp, [x]) ** 2)
        >>> autodiff.grad(slope)(3.0).item()
        8.0
    """

    def __init__(self, transpose: Callable | None = None, **constants: Any):
        self.transpose = transpose
        self.constants = constants

    def vjp(self, record, dys, needs):
        call = self._linear(record.call)
        if self.transpose is not None:
            return self.transpose(call, dys, needs)
        which = [i for i, need in enumerate(needs) if need]
        dys = call.whole(dys)
        dys = of_members(record, dys)
        forward, backward = _transposed(call, record.saved, which)
        choosing = [each for each in call.inputs if each is not None and each.dtype.kind != "f"]  # they select the map
        found = apply(forward, backward, [*dys, *choosing])
        by_input = dict(zip(which, found, strict=True))
        return [by_input.get(i) for i in range(len(needs))]

    def _linear(self, call: Call) -> Call:
        return call._replace(constants={**call.constants, **self.constants}) if self.constants else call

    def jvp(self, record, tangents):
        call = self._linear(record.call)
        inputs = [
            each if each is None or each.dtype.kind != "f" else zeros_of(each.data) if tangent is None else tangent
            for each, tangent in zip(call.inputs, tangents, strict=True)
        ]
        return call.again(of_members(record, inputs))


def of_members(record: tape.Record, tensors: Found) -> Found:
    """Make float tensors mapped, for an op under `autodiff.vmap`: an op that draws random numbers differs by member."""
    if record.saved is not UNSAVED:
        return tensors
    like: Any = record.call.outputs[0]
    return [each if each is None or each.dtype.kind != "f" else like.spread(each) for each in tensors]


def _transposed(call: Call, saved: Any, which: list[int]) -> tuple[Callable, Callable]:
    """The gradients of some inputs of a linear op, as an op of the outputs' gradients and the inputs that select the map."""
    count, needs = len(call.outputs), tuple(i in which for i in range(len(call.inputs)))

    def inputs_with(others: Sequence[Array], gradients: dict[int, Array | None]) -> list[Array | None]:
        chosen, inputs = iter(others), []
        for i, each in enumerate(call.inputs):
            given = gradients.get(i)
            if each is not None and each.dtype.kind != "f":
                given = next(chosen)
            inputs.append(_zero_array(each.shape, each.dtype) if given is None and each is not None else given)
        return inputs

    def transposed(*arrays):
        dys, others = arrays[:count], arrays[count:]
        found = _gradients(call, saved, dys, needs)
        return tuple(found[i] for i in which), others

    def transposed_vjp(others, gradients, needs):
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return *_outputs(call, inputs_with(others, dict(zip(which, gradients, strict=True)))), *[None] * len(others)

    def batched(mapped):
        others, inputs, mapped_inputs = iter(range(count, len(mapped.tensors))), [], []
        for each in call.inputs:
            at = next(others) if each is not None and each.dtype.kind != "f" else None
            inputs.append(None if each is None else zeros_of(each.data) if at is None else mapped.tensors[at])
            mapped_inputs.append(at is not None and mapped.mapped[at])
        dys = [mapped.front(i) for i in range(count)]
        return tuple(mapped.pulled(call, inputs, mapped_inputs, which, dys))

    transposed.__name__ = f"transposed {call.op.__name__}"
    transposed.batching = batched  # type: ignore[attr-defined]
    define(transposed, Linear())
    return transposed, transposed_vjp


def _gradients(call: Call, saved: Any, dys: Sequence[Array], needs: tuple) -> list[Array | None]:
    """The gradients that an op's vjp returns, as arrays of the inputs' shapes."""
    found = call.op_vjp(saved, dys[0] if len(dys) == 1 else tuple(dys), needs)
    return [
        _array_of(gradient, each.shape, each.dtype) if need and each is not None else None
        for each, gradient, need in zip(call.inputs, found, needs, strict=True)
    ]


def _outputs(call: Call, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    y, _ = call.op(*inputs, **call.constants)
    return y if isinstance(y, tuple) else (y,)


def _zero_array(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    array = device.empty(shape, dtype)
    device.launch(device.fill, array, 0)
    return array


def zeros_of(like: Array) -> Tensor:
    """A tensor of zeros of an array's shape and dtype."""
    return ops.zeros(like.shape, like.dtype)


class Multilinear(Rule):
    """An op with one output that is linear in each float input, for fixed other inputs.

    Args:
        transpose: A function of (call, dys, needs) that returns the gradients of the inputs by ops; None uses the op's vjp.
        saves_inputs: Whether the op's vjp does not use the op's results.

    Example:
        >>> from nbkeras import autodiff
        >>> from nbkeras.kernels import device
        >>> from nbkeras.tensor import apply
        >>> def product(x, y):
        ...     z = device.empty(x.shape, x.dtype)
        ...     device.launch(np.multiply, x, y, z)
        ...     return z
        >>> def product_op(x, y):
        ...     return product(x, y), (x, y)
        >>> def product_vjp(saved, dz, needs):
        ...     x, y = saved
        ...     return product(dz, y), product(dz, x)
        >>> autodiff.define(product_op, autodiff.Multilinear())
        >>> slope = autodiff.grad(lambda x: apply(product_op, product_vjp, [x, x]))
        >>> autodiff.grad(slope)(3.0).item()
        2.0
    """

    def __init__(self, transpose: Callable | None = None, saves_inputs: bool = False):
        self.transpose = transpose
        self.saves_inputs = saves_inputs

    def vjp(self, record, dys, needs):
        call, (dy,) = record.call, dys
        if self.transpose is not None:
            return self.transpose(call, dys, needs)
        return [gradient_of_input(call, i, dy, self.saves_inputs) if need else None for i, need in enumerate(needs)]

    def jvp(self, record, tangents):
        call, total = record.call, None
        for i, tangent in enumerate(tangents):
            if tangent is not None:
                (part,) = call.again([tangent if j == i else each for j, each in enumerate(call.inputs)])
                total = plus(total, part)
        return [total]


def gradient_of_input(call: Call, i: int, dy: Tensor, saves_inputs: bool = False) -> Tensor:
    """The gradient of input i as an op of dy and the other inputs. It is multilinear too.

    <c, gradient i of (dy, others)> = <op(others, and c as input i), dy>, so the gradients of this gradient are the op's.
    """
    inputs = call.inputs

    def at(arrays: Sequence, value: Array) -> list[Array | None]:
        return [*arrays[:i], value, *arrays[i:]]

    def gradient_of(arrays: Sequence, dy: Array, which: int) -> Array:
        with device.dry() if saves_inputs else contextlib.nullcontext():
            _, saved = call.op(*arrays, **call.constants)
        needs = tuple(j == which for j in range(len(inputs)))
        return cast(Array, _gradients(call, saved, [dy], needs)[which])

    def partial(dy, *others):
        known = inputs[i].data  # the values of this array do not matter
        known = known if isinstance(known, device.ARRAYS) else _zero_array(known.shape, known.dtype)
        return gradient_of(at(others, known), dy, i), (dy, others)

    def partial_vjp(saved, c, needs):
        dy, others = saved
        arrays = at(others, c)
        first = None if needs[0] is False else _outputs(call, arrays)[0]
        rest = [j for j in range(len(inputs)) if j != i]
        return first, *(
            None if need is False else gradient_of(arrays, dy, j) for j, need in zip(rest, needs[1:], strict=True)
        )

    def batched(mapped):
        given, mapped_inputs = list(mapped.tensors[1:]), list(mapped.mapped[1:])
        given.insert(i, None)
        mapped_inputs.insert(i, False)
        dys = [mapped.front(0)]
        return mapped.pulled(call, given, mapped_inputs, [i], dys, computes=not saves_inputs)[0]

    partial.__name__ = f"gradient {i} of {call.op.__name__}"
    partial.batching = batched  # type: ignore[attr-defined]
    define(partial, Multilinear())
    return apply(partial, partial_vjp, [dy, *(each for j, each in enumerate(inputs) if j != i)])


class Composed(Rule):
    """An op that is computed by other ops if higher-order derivatives are needed.

    Args:
        function: A function of the op's inputs and constants that returns its outputs by ops, or None to use `otherwise`.
        otherwise: The rule if `function` returns None.

    Example:
        >>> from nbkeras import autodiff
        >>> from nbkeras.kernels import device
        >>> from nbkeras.tensor import apply
        >>> def exp_op(x):
        ...     y = device.empty(x.shape, x.dtype)
        ...     device.launch(np.exp, x, y)
        ...     return y, y
        >>> def exp_vjp(y, dy, needs):
        ...     dx = device.output(needs[0], y.shape, y.dtype)
        ...     device.launch(np.multiply, y, dy, dx)
        ...     return (dx,)
        >>> autodiff.define(exp_op, autodiff.Composed(ops.exp))
        >>> slope = autodiff.grad(lambda x: apply(exp_op, exp_vjp, [x]))
        >>> autodiff.grad(slope)(0.0).item()
        1.0
    """

    def __init__(self, function: Callable, otherwise: Rule | None = None):
        self.function = function
        self.otherwise = otherwise


class Explicit(Rule):
    """An op whose gradient is a function of tensors.

    Args:
        gradient: A function of (record, dys, needs) that returns a tuple: the gradient of each input, by ops. The inputs are
            `record.call.inputs`, the outputs `record.call.results(record)`, both as tensors; dys has the gradient of each
            output, or None for zeros. `record.call.outputs` are arrays, which no tape sees: do not use them.
        tangent: A function of (record, tangents) that returns the tangents of the outputs, as the method `jvp` does; None
            computes them by the gradient.

    Example:
        >>> from nbkeras import autodiff
        >>> from nbkeras.kernels import device
        >>> from nbkeras.tensor import apply
        >>> def exp_op(x):
        ...     y = device.empty(x.shape, x.dtype)
        ...     device.launch(np.exp, x, y)
        ...     return y, y
        >>> def exp_vjp(y, dy, needs):
        ...     dx = device.output(needs[0], y.shape, y.dtype)
        ...     device.launch(np.multiply, y, dy, dx)
        ...     return (dx,)
        >>> def gradient(record, dys, needs):
        ...     (y,) = record.call.results(record)
        ...     return (dys[0] * y,)
        >>> autodiff.define(exp_op, autodiff.Explicit(gradient))
        >>> slope = autodiff.grad(lambda x: apply(exp_op, exp_vjp, [x]))
        >>> autodiff.grad(slope)(0.0).item()
        1.0
    """

    def __init__(self, gradient: Callable, tangent: Callable | None = None):
        self._gradient = gradient
        if tangent is not None:
            self.jvp = tangent  # type: ignore[method-assign]

    def vjp(self, record, dys, needs):
        found = self._gradient(record, dys, needs)
        if not isinstance(found, tuple | list) or len(found) != len(needs):
            received = (
                f"{len(found)} in a {type(found).__name__}" if isinstance(found, tuple | list) else briefly(found)
            )
            raise TypeError(
                f"{record.name!r}: the gradient of its rule autodiff.Explicit returns a tuple with an entry for each of "
                f"{len(needs)} inputs, received {received}"
            )
        return found


class OfSaved(Rule):
    """An op whose gradients are slopes(*saved, *dys). All its saved arrays must be inputs or outputs of the op."""

    def __init__(self, slopes: Callable):
        self.slopes = slopes

    def vjp(self, record, dys, needs):
        call, saved = record.call, record.saved
        tensors = [each for each in call.inputs if each is not None] + call.results(record)
        known = [each.data for each in tensors]
        if saved is UNSAVED:  # find which inputs and outputs the op saves, by a dry run
            with device.dry():
                arrays = [None if each is None else device.empty(each.shape, each.dtype) for each in call.inputs]
                y, saved = call.op(*arrays, **call.constants)
            known = [each for each in arrays if each is not None] + list(y if isinstance(y, tuple) else (y,))
        found = self.slopes(*(_tensor_of(array, tensors, known) for array in saved), *dys)
        return found if isinstance(found, tuple) else (found,)


class NoRule(Rule):
    """The gradient of an op that has only a first derivative."""

    def __init__(self, name: str):
        self.name = name

    def vjp(self, record, dys, needs):
        raise NotImplementedError(
            f"the op {self.name!r} has only a first derivative here. If it is yours, give it a rule: autodiff.define(op, rule). "
            "If it has a rule, compute the gradient in the block of the tape whose gradient is differentiated"
        )

    def jvp(self, record, tangents):
        return self.vjp(record, tangents, ())


class Once(Rule):
    """Uses an op's own vjp, for `autodiff.vmap`. The gradient has no derivative. The Record may have no Call."""

    def vjp(self, record, dys, needs):
        call = record.call
        inputs = () if call is None else call.inputs
        which = [i for i, need in enumerate(needs) if need]

        def backward(*arrays):
            given, slopes = arrays[: len(inputs)], arrays[len(inputs) :]
            op_vjp, saved = record.vjp, record.saved
            if call is not None:
                op_vjp, saved = call.op_vjp, call.op(*given, **call.constants)[1]
            found = op_vjp(saved, slopes[0] if len(slopes) == 1 else slopes, tuple(needs))
            return tuple(_array_of(found[i], *record.forms[i]) for i in which), None

        def batched(mapped):
            return NotImplemented if call is None else mapped.backwards(call, which)

        backward.__name__ = f"gradient of {record.name}"
        backward.batching = batched  # type: ignore[attr-defined]
        results = dict(zip(which, applied_once(backward, record.name, [*inputs, *dys]), strict=True))
        return [results.get(i) for i in range(len(needs))]


def applied_once(backward: Callable, name: str, tensors: Found) -> Any:
    """Apply the gradient of the op `name`; the gradient itself has no derivative."""

    def no_vjp(saved, dy, needs):
        return NoRule(name).vjp(None, dy, needs)

    define(backward, NoRule(name))
    return apply(backward, no_vjp, tensors)


def _array_of(gradient: Any, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """A gradient of a vjp, as an array of its input's shape."""
    if gradient is None:
        return _zero_array(shape, dtype)
    array = gradient if isinstance(gradient, device.ARRAYS) else gradient.dense(None)
    return tape.unbroadcast(array, shape)


def _tensor_of(array: Array, tensors: list[Tensor], known: list[Array]) -> Tensor:
    """The tensor that holds an array; a constant if none does. known: the arrays of the tensors."""
    for each, own in zip(tensors, known, strict=True):
        if own.shape == array.shape and device.address(own) == device.address(array):
            return each
    return Tensor(array)
