"""The source code of formulas (kernels/loops/expressions.py) in CUDA kernels, shared by map.py and row_passes.py."""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function
from nbkeras.kernels.loops.expressions import NUMBER, UNIFORM, Expression, Value
from nbkeras.kernels.loops.operations import OPERATIONS, of_numbers

SOURCES = {name: each.source for name, each in OPERATIONS.items() if each.source}
LANES = "abcd"  # the names of the four numbers that a thread computes together


@device_function
def _sigmoid(x, zero, one):
    power = math.exp(-math.fabs(x))  # of -|x|, so that a small result is accurate
    return (one if x >= zero else power) / (one + power)


def source_of(op: str, operands: Sequence[str]) -> str:
    """Returns the source code of an operation."""
    return SOURCES[op].format(*operands)


def literal(number: float) -> str:
    """Returns the source code of a literal."""
    number = float(number)
    return (
        repr(number) if math.isfinite(number) else "math.nan" if math.isnan(number) else f"{'-' * (number < 0)}math.inf"
    )


def known_of_numbers(
    expression: Expression, dtype: np.dtype, numbers: tuple[float, ...], columns: int = 0
) -> dict[Value, Any]:
    """Computes the Values that depend only on numbers and on the number of columns."""
    known: dict[Value, Any] = {}
    waiting = iter(numbers)
    for value in expression.values:
        operands = [known.get(each) if isinstance(each, Value) else each for each in value.operands]
        real = dtype.type if value.is_real else np.float64
        if value.op == NUMBER:
            known[value] = np.float64(next(waiting))
        elif value.op == "tiny":
            known[value] = np.finfo(dtype).tiny
        elif value.op == "columns":
            known[value] = dtype.type(columns)
        elif value.level == UNIFORM and value.inputs and None not in operands:
            known[value] = of_numbers(value.op, *map(real, operands))
    return known


def compiled(
    kernel: Any,
    file: str,
    module: str,
    dtype: np.dtype,
    source: str,
    kinds: str = "",
    options: dict | None = None,
    **names: Any,
) -> Kernel:
    """Compiles the function `kernel` of a source code as a CUDA kernel; its other functions become device functions.

    Args:
        kernel: The kernel on the CPU.
        file, module: The caller's. The disk cache and benchmarks/cuda_resources.py find the kernel under them.
        kinds: The kinds of the kernel's arguments, if they vary.
        options: The options of `cuda.jit`.
        names: The names that the source code uses.
    """
    own: dict[str, Any] = {"cuda": cuda, "math": math, "np": np, "sigmoid": _sigmoid, **names, "__name__": module}
    own |= {"real": dtype.type, "real_type": dtype}
    before = set(own)
    exec(compile(source, file, "exec"), own)  # noqa: S102 - generated above
    function: Callable = own["kernel"]
    function.__name__ = ":".join([kernel.__module__, kernel.__name__, dtype.name, *([kinds] if kinds else [])])
    # the source code is part of the compiled code's name on disk
    function.__qualname__ = f"{kernel.__name__}_{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    for name in set(own) - before - {"kernel", "__builtins__"}:
        own[name] = device_function(own[name])
    return Kernel(function, options or {})
