"""Fusion: a chain of launches of NumPy's loops in a recorded program becomes one kernel.

The kernel's source code is generated for each chain that occurs, then compiled. Its name is the chain's description: see
runtime/chains.py, which finds the chains.

Products are rounded before anything is added to them, so a fused chain gives the results of its single steps.
"""

import functools
import math
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.sources import SOURCES
from nbkeras.kernels.cuda.machine.kernel import SIMULATED, Kernel, start_each
from nbkeras.kernels.runtime.chains import Chain
from nbkeras.kernels.runtime.device_array import DeviceArray

_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_SHARED = ("add", "subtract", "divide", "clip", "negative", "absolute", "sqrt", "exp", "expm1", "log", "log1p")
FORMULAS = {
    **{name: SOURCES[name] for name in _SHARED},
    **{f"{name}?": SOURCES[name] for name in (*_COMPARISONS, "logical_and", "logical_or")},
    **{name: f"one if {SOURCES[name]} else zero" for name in _COMPARISONS},
    **{name: f"math.{name}({{}})" for name in ("sin", "cos", "tan", "floor", "ceil")},
    "arctan": "math.atan({})",
    "multiply": "product({}, {})",
    "square": "product({0}, {0})",
    "reciprocal": "one / {}",
    "maximum": "{0} if {0} >= {1} or {0} != {0} else {1}",
    "minimum": "{0} if {0} <= {1} or {0} != {0} else {1}",
    "logical_xor?": "{} != {}",
    "logical_not?": "not {}",
    "isnan?": "{0} != {0}",
    "select": SOURCES["where"],
    "relu": "zero if {0} < zero else {0}",
    "relu_slope": "{1} if {0} > zero else zero",
}


def _product(x, y):
    """The simulator's x * y."""
    return x * y


if SIMULATED:
    _PRODUCTS = {"float32": _product, "float64": _product}
else:
    _PRODUCTS = {"float32": cuda.libdevice.fmul_rn, "float64": cuda.libdevice.dmul_rn}  # type: ignore[attr-defined]


@functools.cache
def kernel_of(description: str) -> Kernel:
    """Returns the kernel of a description. Its arguments are the inputs, then the arrays to store to."""
    dtype, kinds, ops, stored, _ = Chain.parsed(description)
    inputs = [f"x{i}" for i in range(len(kinds))]
    outputs = [f"y{i}" for i in range(len(stored))]
    lines = [f"def fused({', '.join(inputs + outputs)}):", "    i = cuda.grid(1)", "    if i < y0.size:"]
    lines += ["        zero, one = real(0), real(1)"]
    reads = {
        "a": "{}[i]",
        "b": "{}[i] != 0",
        "s": "{}[0]",
        "v": "{0}[np.uint32(i) % np.uint32({0}.size)]",
        "r": "{0}[np.uint32(i) // np.uint32(y0.size // {0}.size)]",
        "n": "{}",
    }
    lines += [
        f"        v{i} = {reads[kind].format(name)}" for i, (kind, name) in enumerate(zip(kinds, inputs, strict=True))
    ]
    for number, (name, operands) in enumerate(ops, len(inputs)):
        lines.append(f"        v{number} = {FORMULAS[name].format(*(f'v{operand}' for operand in operands))}")
    lines += [f"        {name}[i] = v{value}" for name, value in zip(outputs, stored, strict=True)]
    names: dict[str, Any] = {"cuda": cuda, "math": math, "np": np, "product": _PRODUCTS[dtype], "__name__": __name__}
    names["real"] = np.dtype(dtype).type
    exec(compile("\n".join(lines), f"<{description}>", "exec"), names)  # noqa: S102 - generated above
    function = names["fused"]
    function.__name__ = description
    return Kernel(function, {})


def __getattr__(name: str) -> Kernel:
    """Returns a fused kernel by its description, for benchmarks/cuda_resources.py."""
    if name.count("|") != 2:
        raise AttributeError(name)
    return kernel_of(name)


class Fused:
    """The function that programs record for a chain. It takes the inputs (arrays and numbers), then the outputs."""

    def __init__(self, chain: Chain):
        self.__name__ = str(chain)
        self._kernel = kernel_of(str(chain))
        self._real = np.dtype(chain.dtype).type

    def __call__(self, *args: Any) -> None:
        flat = [_flat(arg) if isinstance(arg, DeviceArray) else self._real(arg) for arg in args]
        start_each(self._kernel, flat[-1].size, *flat)


def _flat(array: DeviceArray) -> DeviceArray:
    return array.reshape(-1).view(np.uint8) if array.dtype == np.bool_ else array.reshape(-1)
