"""NumPy's loops on a GPU: the twins of ufuncs, for arrays of any strides that broadcast together, and of eager.py's fuse.

Arrays have the same dtype, and numbers are converted to it. An output may be one of the inputs; it must not overlap otherwise.

A chain of launches in a recorded program becomes one kernel. Its source code is generated for each chain that occurs, then
compiled. Its name is the chain's description: see runtime/chains.py, which finds the chains.

Products are rounded before anything is added to them, so a fused chain gives the results of its single steps.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops import ufuncs
from nbkeras.kernels.cuda.loops.sources import SOURCES
from nbkeras.kernels.cuda.loops.walk import numeric, start_walk
from nbkeras.kernels.cuda.machine import SIMULATED, host
from nbkeras.kernels.cuda.machine.kernel import Kernel, blocks, start_each
from nbkeras.kernels.loops.expressions import COMPARISONS
from nbkeras.kernels.runtime import chains
from nbkeras.kernels.runtime.chains import Chain, Step
from nbkeras.kernels.runtime.device_array import DeviceArray

# -------------------- ufuncs --------------------


def unary(kernel: Kernel, code: int, x: DeviceArray, out: DeviceArray) -> None:
    if kernel is ufuncs.plain and _in_quads(out, x):
        start_each(ufuncs.plain_quads, blocks(out.size, 4), code, x.reshape(-1), out.reshape(-1))
    else:
        start_walk(kernel, (x, out), code)


def _in_quads(out: DeviceArray, *arrays: DeviceArray) -> bool:
    """True if all arrays are contiguous, 16-byte aligned, and of the same shape and dtype."""
    return all(
        array.shape == out.shape and array.dtype == out.dtype and array.flags.c_contiguous and array.address % 16 == 0
        for array in (out, *arrays)
    )


def _binary(kernel: Kernel, code: int, x: Any, y: Any, out: DeviceArray) -> None:
    if not out.size:
        return
    is_number, number = ufuncs.NEITHER, 0
    if not isinstance(x, DeviceArray):
        is_number, number, x = ufuncs.FIRST, x, y
    elif not isinstance(y, DeviceArray):
        is_number, number, y = ufuncs.SECOND, y, x
    if x.dtype != y.dtype:
        raise TypeError(
            f"a GPU kernel of two arrays needs one dtype, received {x.dtype} and {y.dtype}: cast one of them"
        )
    number = x.dtype.type(number)
    if kernel is ufuncs.combine and _in_quads(out, x, y):
        x, y, out = (array.reshape(-1) for array in (x, y, out))
        start_each(ufuncs.combine_quads, blocks(out.size, 4), code, number, is_number, x, y, out)
    else:
        start_walk(kernel, (x, y, out), code, numeric(x).dtype.type(number), is_number)


_OF_BOOLEANS: dict[np.ufunc, np.ufunc] = {
    np.add: np.logical_or,
    np.multiply: np.logical_and,
    np.maximum: np.logical_or,
    np.minimum: np.logical_and,
}


_FLOATS: dict[Any, tuple[Callable, Kernel, int]] = {
    ufunc: (run, kernel, code)
    for run, kernel, codes in (
        (unary, ufuncs.plain, ufuncs.PLAIN),
        (unary, ufuncs.test, ufuncs.TESTS),
        (unary, ufuncs.curve, ufuncs.CURVES),
        (unary, ufuncs.rare, ufuncs.RARE),
        (_binary, ufuncs.combine, ufuncs.SUMS),
        (_binary, ufuncs.combine_quotients, ufuncs.QUOTIENTS),
        (_binary, ufuncs.combine_rarely, ufuncs.RARE_PAIRS),
        (_binary, ufuncs.compare, ufuncs.COMPARISONS),
    )
    for ufunc, code in codes.items()
}
_OTHERS: dict[Any, tuple[Callable, Kernel, int]] = {
    ufunc: (run, kernel, code)
    for run, kernel, codes in (
        (unary, ufuncs.plain_integers, ufuncs.PLAIN_INTEGERS),
        (unary, ufuncs.test, ufuncs.TESTS),
        (_binary, ufuncs.combine_integers, ufuncs.INTEGERS),
        (_binary, ufuncs.compare, ufuncs.COMPARISONS),
    )
    for ufunc, code in codes.items()
}


@functools.cache
def twin(ufunc: np.ufunc) -> Callable:
    """Returns the twin of a NumPy ufunc. It takes the inputs, arrays or numbers, and the output.

    If the ufunc has no CUDA kernel, it runs on the CPU. Integers divided by 0 give 0. An integer to a negative power, where NumPy
    raises an error, is rounded towards 0.
    """
    if ufunc not in _FLOATS:
        return host.on_copies(ufunc)

    def run_ufunc(*args: Any) -> None:
        dtype = next(arg.dtype for arg in args if isinstance(arg, DeviceArray))
        meant = _OF_BOOLEANS.get(ufunc, ufunc) if dtype.kind == "b" else ufunc
        known = (_FLOATS if dtype.kind == "f" else _OTHERS).get(meant)
        if known is None:
            raise TypeError(f"numpy.{ufunc.__name__} of {dtype} gives floats: cast to a float first on a GPU")
        run, kernel, code = known
        run(kernel, code, *args)

    run_ufunc.__name__ = run_ufunc.fuses_as = ufunc.__name__  # type: ignore[attr-defined]
    return run_ufunc


# -------------------- chains --------------------

_SHARED = (
    "add subtract divide maximum minimum clip negative absolute reciprocal sqrt exp expm1 log log1p sin cos tan arctan"
).split()
FORMULAS = {
    **{name: SOURCES[name] for name in _SHARED},
    **{f"{name}?": SOURCES[name] for name in (*COMPARISONS, "logical_and", "logical_or")},
    **{name: f"one if {SOURCES[name]} else zero" for name in COMPARISONS},
    **{name: f"math.{name}({{}})" for name in ("floor", "ceil")},
    "multiply": "product({}, {})",
    "square": "product({0}, {0})",
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


def fuse(
    steps: Sequence[Step], memory_of: Callable[[Any], Any], needed_after: Callable[[Any, int], bool]
) -> list[Step]:
    """Recorded launches, with chains joined; see chains.fuse."""
    return chains.fuse(steps, memory_of, needed_after, FORMULAS, Fused)


def _flat(array: DeviceArray) -> DeviceArray:
    return array.reshape(-1).view(np.uint8) if array.dtype == np.bool_ else array.reshape(-1)
