"""Floor 1: the formulas of kernels (nbkeras/kernels/formulas.py), computed with Tensors, so that they can be differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nbkeras import ops
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.kernels.loops.expressions import ELEMENT, NUMBER, Expression, Value, of_numbers, trace


def slope_of(op: Callable) -> Callable:
    """The slope of an op of one tensor, as a rule has it: a function of the tensors x and y, and the op's constants."""
    read = functools.cache(lambda names: _of_slope(op.slope, names))

    def slope(x: Tensor, y: Tensor, **constants: float) -> Any:
        found = computed(read(tuple(constants)), [x if op.keeps == "x" else y, *constants.values()])
        return found[0]

    return slope


def _of_slope(slope: Callable, names: tuple[str, ...]) -> Expression:
    kinds = [ELEMENT, *[NUMBER] * len(names)]
    return trace(lambda x, *numbers: slope(x, **dict(zip(names, numbers, strict=True))), kinds)


def computed(expression: Expression, inputs: Sequence[Any]) -> list:
    """The results of a formula of Tensors and numbers."""
    dtype = next(each.dtype for each in inputs if isinstance(each, Tensor))

    def compute(value: Value, operands: list) -> Any:
        if not any(isinstance(each, Tensor) for each in operands):
            return of_numbers(value.op, *operands)
        if value.op == "where":  # of two numbers it would have the dtype of new tensors
            operands[1:] = [each if isinstance(each, Tensor) else as_tensor(each, dtype) for each in operands[1:]]
        return operands[0] if value.op == "real" else getattr(ops, value.op)(*operands)

    return expression.computed(inputs, compute)
