"""Floor 1: the formulas of kernels (kernels/formulas.py), evaluated on Tensors, so that they can be differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from nbkeras import ops
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.kernels.loops.expressions import ELEMENT, NUMBER, Expression, Value, trace
from nbkeras.kernels.loops.operations import VARIANTS, of_numbers


@functools.cache
def _expression(formula: Callable, kinds: tuple[str, ...], names: tuple[str, ...]) -> Expression:
    """The Expression of a formula whose last arguments have names."""
    first = len(kinds) - len(names)
    return trace(lambda *values: formula(*values[:first], **dict(zip(names, values[first:], strict=True))), kinds)


def of_tensors(formula: Callable, *inputs: Tensor | float, axis: int = -1, **constants: float) -> Any:
    """The result of a formula, or a tuple of results, for tensors and numbers. `constants` are its arguments by name.

    axis: the axis of rows; a value per row keeps it with size 1. `largest` is treated as a constant: it only shifts exponents.
    """
    given = [*inputs, *constants.values()]
    kinds = tuple(ELEMENT if isinstance(each, Tensor) else NUMBER for each in given)
    dtype = next(each.dtype for each in given if isinstance(each, Tensor))

    def compute(value: Value, operands: list) -> Any:
        if value.op == "columns":
            return next(each for each in given if isinstance(each, Tensor)).shape[axis]
        if not any(isinstance(each, Tensor) for each in operands):
            return of_numbers(value.op, *operands)
        if value.op == "largest":
            return ops.stop_gradient(ops.max(operands[0], axis=axis, keepdims=True))
        if value.op == "total":
            return ops.sum(operands[0], axis=axis, keepdims=True)
        if value.op == "where":  # for two numbers, the result would have the default dtype
            operands[1:] = [each if isinstance(each, Tensor) else as_tensor(each, dtype) for each in operands[1:]]
        return operands[0] if value.op == "real" else getattr(ops, VARIANTS.get(value.op, value.op))(*operands)

    found = _expression(formula, kinds, tuple(constants)).computed(given, compute)
    return found[0] if len(found) == 1 else tuple(found)


def slopes_of(op: Any) -> list[Callable]:
    """The slopes of an op for a rule: functions of the tensors that are its inputs and its result, and of its constants."""

    def of_kept(slope: Callable) -> Callable:
        kept = slice(None, -1) if op.keeps == "x" else slice(-1, None)
        return lambda *tensors, **constants: of_tensors(slope, *tensors[kept], **constants)

    return [of_kept(slope) for slope in op.slopes]
