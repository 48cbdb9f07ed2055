"""Fusion: a chain of launches of NumPy's loops in a recorded program becomes one kernel.

A GPU spends its time on such loops reading and writing. In a fused kernel the values between them stay in registers, and an
array that no other launch reads is never made. The kernel is written as text for each chain that occurs, then compiled.

A chain is described by a line, which is its kernel's name too: `dtype:kinds of the inputs|ops|values to store`, as in
`float32:aan|multiply 0 1;add 3 2|4`, where value 0 and 1 are arrays, 2 a number, and the ops make values 3 and 4. Kinds of
inputs are: a, an array; b, one of booleans; s, one with a single element; v, one of the last axes (a bias); r, one number
for each row of the last axis; n, a number. An op whose name ends in ? makes booleans.

Products are rounded before anything is added to them, so that a fused chain gives what its steps gave one by one.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import cuda

from nbkeras.kernels.cuda.machine.kernel import SIMULATED, Kernel, start_each
from nbkeras.kernels.runtime.device_array import DeviceArray

_MOST_ARRAYS = 24  # pointers of a kernel
_MOST_ELEMENTS = 2**31  # indices are computed in 32 bits

_COMPARISONS = {
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}
_OF_BOOLEANS = {"logical_and?", "logical_or?", "logical_xor?", "logical_not?"}
_FORMULAS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "product({0}, {1})",
    "divide": "{0} / {1}",
    "maximum": "{0} if {0} >= {1} or {0} != {0} else {1}",
    "minimum": "{0} if {0} <= {1} or {0} != {0} else {1}",
    **{f"{name}?": f"{{0}} {sign} {{1}}" for name, sign in _COMPARISONS.items()},
    **{name: f"one if {{0}} {sign} {{1}} else zero" for name, sign in _COMPARISONS.items()},
    "logical_and?": "{0} and {1}",
    "logical_or?": "{0} or {1}",
    "logical_xor?": "{0} != {1}",
    "logical_not?": "not {0}",
    "isnan?": "{0} != {0}",
    "select": "{1} if {0} else {2}",
    "clip": "{1} if {0} < {1} else {2} if {0} > {2} else {0}",
    "relu": "zero if {0} < zero else {0}",
    "relu_slope": "{1} if {0} > zero else zero",
    "negative": "-{0}",
    "absolute": "math.fabs({0})",
    "square": "product({0}, {0})",
    "reciprocal": "one / {0}",
    "sqrt": "math.sqrt({0})",
    "exp": "math.exp({0})",
    "expm1": "math.expm1({0})",
    "log": "math.log({0})",
    "log1p": "math.log1p({0})",
    "sin": "math.sin({0})",
    "cos": "math.cos({0})",
    "tan": "math.tan({0})",
    "arctan": "math.atan({0})",
    "floor": "math.floor({0})",
    "ceil": "math.ceil({0})",
}


def _product(x, y):
    """x * y, in the simulator."""
    return x * y


if SIMULATED:
    _PRODUCTS = {"float32": _product, "float64": _product}
else:
    _PRODUCTS = {"float32": cuda.libdevice.fmul_rn, "float64": cuda.libdevice.dmul_rn}  # type: ignore[attr-defined]


@functools.cache
def kernel_of(description: str) -> Kernel:
    """The kernel of a description; its arguments are the inputs, then the arrays to store to."""
    head, *parts = description.split("|")
    dtype, kinds = head.split(":")
    ops, stored = (part.split(";") for part in parts)
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
    for number, op in enumerate(ops, len(inputs)):
        name, *operands = op.split()
        lines.append(f"        v{number} = {_FORMULAS[name].format(*(f'v{operand}' for operand in operands))}")
    lines += [f"        {name}[i] = v{value}" for name, value in zip(outputs, stored, strict=True)]
    names: dict[str, Any] = {"cuda": cuda, "math": math, "np": np, "product": _PRODUCTS[dtype], "__name__": __name__}
    names["real"] = np.dtype(dtype).type
    exec(compile("\n".join(lines), f"<{description}>", "exec"), names)  # noqa: S102 - the text is made above
    function = names["fused"]
    function.__name__ = description
    return Kernel(function, {})


def __getattr__(name: str) -> Kernel:
    """A fused kernel by its description, for benchmarks/cuda_resources.py."""
    if name.count("|") != 2:
        raise AttributeError(name)
    return kernel_of(name)


class Fused:
    """The function that is recorded instead of a chain: its arguments are the inputs (arrays and numbers), then the outputs."""

    def __init__(self, description: str):
        self.__name__ = description
        self._kernel = kernel_of(description)
        self._real = np.dtype(description.partition(":")[0]).type

    def __call__(self, *args: Any) -> None:
        flat = [_flat(arg) if isinstance(arg, DeviceArray) else self._real(arg) for arg in args]
        start_each(self._kernel, flat[-1].size, *flat)


def _flat(array: DeviceArray) -> DeviceArray:
    return array.reshape(-1).view(np.uint8) if array.dtype == np.bool_ else array.reshape(-1)


Step = tuple[Callable, tuple]


def fuse(
    steps: Sequence[Step], memory_of: Callable[[Any], Any], needed_after: Callable[[Any, int], bool]
) -> list[Step]:
    """The steps with chains of them replaced by one each.

    Arguments that stand for arrays have a shape, strides and a dtype. memory_of(array): a key of its memory, None for a value
    that is not an array. needed_after(array, step): whether its memory is read after a step or the program.
    """
    result: list[Step] = []
    chain: _Chain | None = None
    for index, (function, args) in enumerate(steps):
        name = getattr(function, "fuses_as", "")
        if chain is not None and not chain.take(name, args):
            result += chain.finish(index - 1, needed_after)
            chain = None
        if chain is None:
            chain = _Chain(memory_of)
            if not chain.take(name, args):
                chain = None
                result.append((function, args))
                continue
        chain.steps.append((function, args))
    return result if chain is None else result + chain.finish(len(steps) - 1, needed_after)


class _Chain:
    """The steps that are one kernel so far, and the value that each memory holds."""

    def __init__(self, memory_of: Callable[[Any], Any]):
        self.steps: list[Step] = []
        self._memory_of = memory_of
        self._inputs: list[tuple[str, Any]] = []  # kind and argument
        self._ops: list[tuple[str, list]] = []  # name and operands: ("in", i) or ("op", i)
        self._holds: dict[Any, tuple] = {}  # by memory: (array, the value it has now, how that is read)
        self._written: dict[Any, Any] = {}  # by memory: the array that holds it
        self._size: int | None = None
        self._dtype: Any = None

    def take(self, name: str, args: tuple) -> bool:
        """Add a step if it belongs to the chain."""
        if len(self._holds) + len(args) > _MOST_ARRAYS or not args or self._memory_of(args[-1]) is None:
            return False
        *operands, out = args
        if out.dtype == np.bool_:
            name += "?"
        size, dtype = math.prod(out.shape), self._dtype
        if (
            name not in _FORMULAS
            or not 0 < size < _MOST_ELEMENTS
            or self._size not in (None, size)
            or not self._fits(out)
        ):
            return False
        kinds = [self._kind(operand, out) for operand in operands]
        for position, (kind, operand) in enumerate(zip(kinds, operands, strict=True)):
            truth = name in _OF_BOOLEANS or (name == "select" and position == 0)
            if kind == "" or truth != (kind == "b") or (kind != "n" and not self._fits(operand)):
                return False
            if kind in "svr" and self._memory_of(operand) in {*self._written, self._memory_of(out)}:
                return False  # elements that other threads write
        arrays = [*(operand for kind, operand in zip(kinds, operands, strict=True) if kind != "n"), out]
        for one, other in itertools.combinations(arrays, 2):
            if self._memory_of(one) == self._memory_of(other) and not _same(one, other):
                return False
        dtypes = {array.dtype for kind, array in [*zip(kinds, operands, strict=True), ("a", out)] if kind != "n"}
        dtypes = (dtypes | {dtype}) - {np.dtype(np.bool_), None}
        if len(dtypes) != 1 or next(iter(dtypes)).kind != "f":
            return False
        self._size, self._dtype = size, dtypes.pop()
        values = [self._value(kind, operand) for kind, operand in zip(kinds, operands, strict=True)]
        self._ops.append((name, values))
        memory = self._memory_of(out)
        self._holds[memory] = (out, ("op", len(self._ops) - 1), "b" if out.dtype == np.bool_ else "a")
        self._written[memory] = out
        return True

    def _kind(self, operand: Any, out: Any) -> str:
        """The kind of an operand beside an output; '' where it has none."""
        if self._memory_of(operand) is None:
            return "n"
        shape, size = tuple(operand.shape), math.prod(operand.shape)
        if size == math.prod(out.shape):
            return "b" if operand.dtype == np.bool_ else "a"
        bare = shape[next((i for i, n in enumerate(shape) if n != 1), len(shape)) :]
        if operand.dtype == np.bool_ or size == 0:
            return ""
        if size == 1:
            return "s"
        if bare == tuple(out.shape[len(out.shape) - len(bare) :]):
            return "v"
        return "r" if shape == (*out.shape[:-1], 1) else ""

    def _fits(self, array: Any) -> bool:
        """Whether an array is contiguous, and not another view of memory that the chain uses."""
        expected = array.dtype.itemsize
        for n, stride in zip(reversed(array.shape), reversed(array.strides), strict=True):
            if n != 1 and stride != expected:
                return False
            expected *= n
        known = self._holds.get(self._memory_of(array))
        return known is None or _same(known[0], array)

    def _value(self, kind: str, operand: Any) -> tuple:
        memory = self._memory_of(operand)
        if memory is not None and memory in self._holds and self._holds[memory][2] == kind:
            return self._holds[memory][1]
        self._inputs.append((kind, operand))
        value = ("in", len(self._inputs) - 1)
        if memory is not None and memory not in self._holds:
            self._holds[memory] = (operand, value, kind)
        return value

    def finish(self, last: int, needed_after: Callable[[Any, int], bool]) -> list[Step]:
        """The chain's steps as they are recorded; last: the number of its last step."""
        stored = [array for array in self._written.values() if needed_after(array, last)]
        if len(self.steps) < 2 or not stored:
            return self.steps if stored else []
        number = {("in", i): i for i in range(len(self._inputs))}
        number.update({("op", i): len(self._inputs) + i for i in range(len(self._ops))})
        kinds = "".join(kind for kind, _ in self._inputs)
        ops = ";".join(" ".join([name, *(str(number[v]) for v in values)]) for name, values in self._ops)
        outputs = ";".join(str(number[self._holds[self._memory_of(array)][1]]) for array in stored)
        return [(Fused(f"{self._dtype}:{kinds}|{ops}|{outputs}"), (*(arg for _, arg in self._inputs), *stored))]


def _same(one: Any, other: Any) -> bool:
    """Whether two contiguous views of one memory have the same elements."""
    if one.dtype != other.dtype or math.prod(one.shape) != math.prod(other.shape):
        return False
    attribute = "address" if isinstance(one, DeviceArray) else "offset"
    return type(one) is type(other) and getattr(one, attribute) == getattr(other, attribute)
