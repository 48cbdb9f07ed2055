"""NumPy's loops on a GPU: chains of elementwise operations. The twins of ufuncs and of kernels with `fuses_as`, and fuse.

A kernel's source code is generated from the description of a chain, which is its name (see interpreter/chains.py), then
compiled. A launch of a ufunc is a chain of one operation. If its arrays are not contiguous or broadcast together, its
description has the kind w for each of them: an array of any strides. Booleans are uint8 here.

The arrays of a launch have the same dtype, and numbers are converted to it. An output may be one of the inputs; it must not
overlap otherwise. Products are rounded before anything is added to them, so a fused chain gives the results of its single steps.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.loops.sources import SOURCES
from nbkeras.kernels.cuda.loops.walk import index_of_one, numeric, start_walk
from nbkeras.kernels.cuda.machine import SIMULATED, host
from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function, start_each
from nbkeras.kernels.interpreter import chains
from nbkeras.kernels.interpreter.chains import Chain, Step
from nbkeras.kernels.loops.operations import COMPARISONS
from nbkeras.kernels.runtime.device_array import DeviceArray

# -------------------- operations --------------------


@device_function
def _remainder(a, b, zero):
    """Computes the remainder as NumPy does: a remainder of 0 has the divisor's sign."""
    rest = math.fmod(a, b)
    if b == zero:
        return rest
    if rest == zero:
        return math.copysign(zero, b)
    return rest + b if (b < zero) != (rest < zero) else rest


@device_function
def _quotient(a, b, zero, one):
    """Computes floor_divide as NumPy does, so that it agrees with the remainder."""
    if b == zero:
        return a / b
    rest = math.fmod(a, b)
    whole = (a - rest) / b
    if rest != zero and (b < zero) != (rest < zero):
        whole = whole - one
    if whole == zero:
        return math.copysign(zero, a / b)
    down = math.floor(whole)
    return down + one if whole - down > one / (one + one) else down


@device_function
def _power(base, exponent):
    """Computes base to a whole power. For a negative power, where NumPy raises an error, it rounds towards 0."""
    one = base - base + 1
    if exponent < 0:
        return one if base == 1 or base == -1 and exponent & 1 == 0 else base if base == -1 else one - one
    result = one
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    return result


def _with_tests(operations: dict[str, str], tests: dict[str, str]) -> dict[str, str]:
    """Adds tests to operations. As in chains, the name of a test ends in ? if it makes booleans; else it makes 0 and 1."""
    found = {**operations, **{f"{name}?": source for name, source in tests.items()}}
    return found | {name: f"one if {source} else zero" for name, source in tests.items()}


_TESTS = {
    **{name: SOURCES[name] for name in COMPARISONS},
    "logical_and": "bool({}) and bool({})",
    "logical_or": "bool({}) or bool({})",
    "logical_xor": "bool({}) != bool({})",
    "logical_not": "not {}",
    "isnan": "{0} != {0}",
    "isinf": "{0} == {0} and {0} - {0} != zero",
    "isfinite": "{0} - {0} == zero",
}
FORMULAS = _with_tests(
    {
        **{
            name: SOURCES[name]
            for name in (
                "add subtract divide maximum minimum clip negative absolute sign reciprocal sqrt exp expm1 log log1p log2 "
                "sin cos tan sinh cosh erf power"
            ).split()
        },
        **{name: f"math.{name}({{}})" for name in ("floor", "ceil", "log10")},
        **{f"arc{name}": f"math.a{name}({{}})" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
        **{"hypot": "math.hypot({}, {})", "arctan2": "math.atan2({}, {})", "fmod": "math.fmod({}, {})"},
        "multiply": "product({}, {})",
        "square": "product({0}, {0})",
        "deg2rad": f"product({{}}, real({math.pi / 180}))",
        "rad2deg": f"product({{}}, real({180 / math.pi}))",
        "exp2": "math.pow(one + one, {})",
        "trunc": "math.copysign(math.floor(math.fabs({0})), {0})",
        "floor_divide": "quotient({}, {}, zero, one)",
        "remainder": "remainder({}, {}, zero)",
        "fmax": "{0} if {0} >= {1} or {1} != {1} else {1}",
        "fmin": "{0} if {0} <= {1} or {1} != {1} else {1}",
        # equal operands may be infinite
        "logaddexp": f"{{0}} + real({math.log(2)}) if {{0}} == {{1}} else ({SOURCES['maximum']}) + "
        "math.log1p(math.exp(-math.fabs({0} - {1})))",
        "select": SOURCES["where"],
        "ratio": "{0} / {1} if {1} != zero else zero",
        "keep_finite": "{0} if {0} - {0} == zero else zero",
        "relu": "zero if {0} < zero else {0}",
        "relu_slope": "{1} if {0} > zero else zero",
    },
    _TESTS,
)
# of integers; those divided by 0 give 0
_OF_INTEGERS = _with_tests(
    {
        **{
            name: SOURCES[name]
            for name in ("add", "subtract", "multiply", "maximum", "minimum", "negative", "square", "clip")
        },
        "absolute": "{0} if {0} >= 0 else -{0}",
        "sign": "1 if {0} > 0 else 0 if {0} == 0 else -1",
        "reciprocal": "{0} if {0} == 1 or {0} == -1 else 0",
        "floor_divide": "{0} // {1} if {1} != 0 else 0",
        "remainder": "{0} - {0} // {1} * {1} if {1} != 0 else 0",
        "power": "power({}, {})",
        "select": SOURCES["where"],
    },
    _TESTS,
)
_OF_BOOLEANS = {"add": "logical_or", "multiply": "logical_and", "maximum": "logical_or", "minimum": "logical_and"}


def _product(x, y):
    """The simulator's x * y."""
    return x * y


if SIMULATED:
    _PRODUCTS = {"float32": _product, "float64": _product}
else:
    _PRODUCTS = {"float32": cuda.libdevice.fmul_rn, "float64": cuda.libdevice.dmul_rn}  # type: ignore[attr-defined]


# -------------------- kernels --------------------

_READS = {
    "a": "{}[i]",
    "b": "{}[i] != 0",
    "s": "{}[0]",
    "v": "{0}[np.uint32(i) % np.uint32({0}.size)]",
    "r": "{0}[np.uint32(i) // np.uint32(y0.size // {0}.size)]",
    "n": "{}",
    "w": "{0}[np.uint64(index_of_one(i, sizes, multipliers, shifts, {0}_steps))]",
}
_NAMES: dict[str, Any] = {
    **{"cuda": cuda, "math": math, "np": np, "index_of_one": index_of_one, "__name__": __name__},
    **{"remainder": _remainder, "quotient": _quotient, "power": _power},
}


@functools.cache
def kernel_of(description: str) -> Kernel:
    """Returns the kernel of a description. Its arguments are the inputs, then the arrays to store to.

    If arrays have any strides (the kind w), numbers come first, then what `start_walk` adds.
    """
    dtype, kinds, ops, stored, _ = Chain.parsed(description)
    real = np.dtype(dtype)
    formulas = FORMULAS if real.kind == "f" else _OF_INTEGERS
    inputs = [f"x{i}" for i in range(len(kinds))]
    outputs = [f"y{i}" for i in range(len(stored))]
    arguments, count, target = inputs + outputs, "y0.size", "a"
    if "w" in kinds:
        arrays = [name for name, kind in zip(inputs, kinds, strict=True) if kind == "w"] + outputs
        arguments = [name for name, kind in zip(inputs, kinds, strict=True) if kind == "n"]
        arguments += ["count", "sizes", "multipliers", "shifts", *(f"{name}, {name}_steps" for name in arrays)]
        count, target = "count", "w"
    lines = [f"def fused({', '.join(arguments)}):", "    i = cuda.grid(1)", f"    if i < {count}:"]
    lines += ["        zero, one = real(0), real(1)"]
    lines += [
        f"        v{i} = {_READS[kind].format(name)}" for i, (kind, name) in enumerate(zip(kinds, inputs, strict=True))
    ]
    for number, (name, operands) in enumerate(ops, len(inputs)):
        lines.append(f"        v{number} = {formulas[name].format(*(f'v{operand}' for operand in operands))}")
    lines += [f"        {_READS[target].format(name)} = v{value}" for name, value in zip(outputs, stored, strict=True)]
    names = {**_NAMES, "product": _PRODUCTS.get(dtype), "real": real.type}
    exec(compile("\n".join(lines), f"<{description}>", "exec"), names)  # noqa: S102 - generated above
    function = names["fused"]
    function.__name__ = description
    return Kernel(function, {})


def __getattr__(name: str) -> Kernel:
    """Returns a fused kernel by its description, for benchmarks/cuda_resources.py."""
    if name.count("|") != 2:
        raise AttributeError(name)
    return kernel_of(name)


# -------------------- single operations --------------------


def run(name: str, *args: Any) -> None:
    """Computes one operation of inputs, arrays of one dtype or numbers, into the output, the last argument."""
    *inputs, out = args
    is_array = [isinstance(x, DeviceArray) for x in inputs]
    arrays = [*itertools.compress(inputs, is_array), out]
    dtype = out.dtype if name == "select" else arrays[0].dtype
    name = _OF_BOOLEANS.get(name, name) if dtype.kind == "b" else name
    formulas = FORMULAS if dtype.kind == "f" else _OF_INTEGERS
    name += "?" if out.dtype == np.bool_ and f"{name}?" in formulas else ""
    if name not in formulas:
        raise TypeError(f"numpy.{name} of {dtype} gives floats: cast to a float first on a GPU")
    for array in arrays[name == "select" : -1]:
        if array.dtype != dtype:
            raise TypeError(
                f"a GPU kernel of two arrays needs one dtype, received {dtype} and {array.dtype}: cast one of them"
            )
    if not out.size:
        return
    real = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    numbers = [real.type(x) for x, is_one in zip(inputs, is_array, strict=True) if not is_one]
    is_flat = all(array.shape == out.shape and array.flags.c_contiguous for array in arrays)
    kinds = "".join(("a" if is_flat else "w") if each else "n" for each in is_array)
    ops = ((name, tuple(range(len(inputs)))),)
    found = kernel_of(str(Chain(str(real), kinds, ops, (len(inputs),))))
    if is_flat:
        _start_flat(found, real, args)
    else:
        start_walk(found, arrays, *numbers)


@functools.cache
def twin(function: Callable) -> Callable | None:
    """Returns the twin of a function that computes an operation for each element: a ufunc, or a kernel with `fuses_as`.

    It takes the inputs, arrays or numbers, and the output. A ufunc without a formula runs on the CPU; other functions have no
    such twin. Integers divided by 0 give 0. An integer to a negative power, where NumPy raises an error, is rounded towards 0.
    """
    name = chains.operation(function)
    if name not in FORMULAS:
        return host.on_copies(function) if isinstance(function, np.ufunc) else None

    def run_operation(*args: Any) -> None:
        run(name, *args)

    run_operation.__name__ = function.__name__
    run_operation.fuses_as = name  # type: ignore[attr-defined]
    return run_operation


def _start_flat(kernel: Kernel, real: np.dtype, args: Sequence[Any]) -> None:
    flat = [numeric(arg).reshape(-1) if isinstance(arg, DeviceArray) else real.type(arg) for arg in args]
    start_each(kernel, flat[-1].size, *flat)


# -------------------- chains --------------------


class Fused:
    """The function that programs record for a chain. It takes the inputs (arrays and numbers), then the outputs."""

    def __init__(self, chain: Chain):
        self.__name__ = str(chain)
        self._kernel = kernel_of(str(chain))
        self._real = np.dtype(chain.dtype)

    def __call__(self, *args: Any) -> None:
        _start_flat(self._kernel, self._real, args)


def fuse(
    steps: Sequence[Step], memory_of: Callable[[Any], Any], needed_after: Callable[[Any, int], bool]
) -> list[Step]:
    """Recorded launches, with chains joined; see chains.fuse."""
    return chains.fuse(steps, memory_of, needed_after, FORMULAS, Fused)
