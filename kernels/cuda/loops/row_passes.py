"""Kernels that compute a formula with sums and maxima over each row on the GPU: the twins of kernels/loops/row_passes.py.

Several lanes (see lanes.py) compute a row, in the passes of the formula's PassPlan. For a softmax, one pass finds the maximum and
the sum of exponentials.
"""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.kernels.cuda.loops.lanes import (
    ADD,
    LANES,
    LARGEST,
    WARP,
    fold_lanes,
    load_four,
    row_and_lane,
    share_of_lane,
    start_rows,
    store_four,
)
from nbkeras.kernels.cuda.loops.sources import LANES as FOUR
from nbkeras.kernels.cuda.loops.sources import compiled, known_of_numbers, literal, source_of
from nbkeras.kernels.cuda.machine.kernel import Kernel, device_function
from nbkeras.kernels.loops.expressions import ELEMENT, FOLDS, LABEL, OF_ELEMENT, OF_ROW, ROW, Expression, Value
from nbkeras.kernels.loops.row_passes import PassPlan, Rows
from nbkeras.kernels.runtime.device_array import DeviceArray

_IDENTITY = {"largest": "real(-math.inf)", "total": "zero"}


@device_function
def _larger(a, b):
    return a if a > b else b


@device_function
def logsumexp_parts(x, first, end, step, bits, wide, shared):
    """Returns max(x) and the sum of e^(x - max) of a row to each of its lanes. NaN and +inf make the sum NaN."""
    minimum, zero = x.dtype.type(-math.inf), x.dtype.type(0)
    top, total, at = minimum, zero, first
    while at < end:
        a, b, c, d = load_four(x, at, end, step, wide, minimum)
        maximum = _larger(_larger(a, b), _larger(c, d))
        if maximum > top:
            total *= math.exp(top - maximum)
            top = maximum
        shift = top if top > minimum else zero  # -inf then contributes 0
        total += (math.exp(a - shift) + math.exp(b - shift)) + (math.exp(c - shift) + math.exp(d - shift))
        at += 4 << bits
    highest = fold_lanes(LARGEST, top, bits, shared)
    if top != highest:
        total *= math.exp(top - highest)
    return highest, fold_lanes(ADD, total, bits, shared)


_NAMES = {
    "WARP": WARP,
    "row_and_lane": row_and_lane,
    "share_of_lane": share_of_lane,
    "load_four": load_four,
    "store_four": store_four,
    "fold_lanes": fold_lanes,
    "logsumexp_parts": logsumexp_parts,
    "largest": LARGEST,
    "total": ADD,
}


class _RowsSource:
    """Writes the source code of a formula's kernel. A Value's name contains its index: `v3`."""

    def __init__(self, kernel: Rows, expression: Expression, ndims: dict[str, int]):
        self.kernel, self.expression, self.ndims, self.plan = kernel, expression, ndims, PassPlan(expression)
        self.index = {value: i for i, value in enumerate(expression.values)}
        wanted = [each for value in expression.values if value.level for each in value.inputs]
        uniform = dict.fromkeys([*wanted, *expression.results])
        self.given = [value for value in uniform if value.level not in (OF_ROW, OF_ELEMENT)]

    def _name(self, x: Any) -> str:
        return f"v{self.index[x]}" if isinstance(x, Value) else f"real({literal(x)})"

    def _array(self, x: Value) -> str:
        """Returns the array of an element input."""
        return f"array{self.kernel.arrays.index(self.kernel.inputs[x.operands[0]])}"

    def _of_row(self, value: Value) -> str:
        """Returns the source line of a Value of a row."""
        name, operands = self._name(value), list(map(self._name, value.operands))
        if value.op == "is_inside":
            return f"{name} = 0 <= {operands[0]} < n"
        if value.op == "pick":
            array = self._array(value.operands[0])
            return f"{name} = {array}[np.uint64(base + {operands[1]})] if 0 <= {operands[1]} < n else zero"
        return f"{name} = {source_of(value.op, operands)}"

    def _function(self, number: int, values: list[Value], wanted: list[Value]) -> tuple[list[str], list[Value], str]:
        """Returns a function of an element: its lines, its element inputs, and the names of its other arguments."""
        inputs = [value for value in values if value.op == ELEMENT]
        other = dict.fromkeys(each for value in values for each in value.inputs if each.level != OF_ELEMENT)
        other |= dict.fromkeys(value for value in wanted if value.level != OF_ELEMENT)
        passed = ", ".join(["here", *map(self._name, other), "zero", "one"])
        lines = [f"def each{number}({', '.join([*map(self._name, inputs), passed])}):"]
        for value in values:
            if value.op == "is_at":
                lines += [f"    {self._name(value)} = here == {self._name(value.operands[0])}"]
            elif value.op != ELEMENT:
                lines += [f"    {self._name(value)} = {source_of(value.op, list(map(self._name, value.operands)))}"]
        return [*lines, f"    return ({', '.join(map(self._name, wanted))},)", ""], inputs, passed

    def _loop(self, number: int, inputs: list[Value], passed: str) -> list[str]:
        """Returns a loop over the four elements of a lane, which calls the function."""
        lines = ["    at = first", "    while at < end:"]
        for value in inputs:
            names = ", ".join(f"x{self.index[value]}{lane}" for lane in FOUR)
            array = self._array(value)
            where = "at, end" if self.ndims[self.kernel.inputs[value.operands[0]]] == 2 else "at - base, n"
            lines += [f"        {names} = load_four({array}, {where}, step, wide, zero)"]
        for i, lane in enumerate(FOUR):
            own = "".join(f"x{self.index[value]}{lane}, " for value in inputs)
            here = passed.replace("here", f"at + {i} * step - base", 1)
            lines += [f"        {lane} = each{number}({own}{here})"]
        return lines

    def _folds(self, number: int, folds: list[Value]) -> tuple[list[str], list[str]]:
        """Returns a pass that ends in folds: its function, and its lines of the kernel."""
        wanted = [fold.operands[0] for fold in folds]
        function, inputs, passed = self._function(number, self.plan.needed[number], wanted)
        lines = [f"    {self._name(fold)} = {_IDENTITY[fold.op]}" for fold in folds]
        lines += self._loop(number, inputs, passed)
        for i, fold in enumerate(folds):
            name, identity = self._name(fold), _IDENTITY[fold.op]
            four = [f"{lane}[{i}]" for lane in FOUR]
            if fold.op != "total" or not _vanishes(fold.operands[0]):  # elements beyond the end do not count
                four[1:] = [
                    f"({each} if wide != 0 or at + {k} * step < end else {identity})"
                    for k, each in enumerate(four[1:], 1)
                ]
            if fold.op == "total":
                lines += [f"        {name} += ({four[0]} + {four[1]}) + ({four[2]} + {four[3]})"]
            else:
                lines += [f"        {name} = max({name}, {each})" for each in four]
        lines += ["        at += 4 << bits"]
        return function, [
            *lines,
            *(f"    {self._name(f)} = fold_lanes({f.op}, {self._name(f)}, bits, shared)" for f in folds),
        ]

    def _is_logsumexp(self) -> bool:
        """True if the first two passes are the maximum of an input and the sum of exponentials."""
        if len(self.plan.folds) < 2 or any(len(folds) != 1 for folds in self.plan.folds[:2]):
            return False
        top, whole = self.plan.folds[0][0], self.plan.folds[1][0]
        x, power = top.operands[0], whole.operands[0]
        shifted = power.operands[0] if power.op == "exp" else None
        return (top.op, whole.op, x.op) == ("largest", "total", ELEMENT) and (
            shifted is not None and shifted.op == "subtract" and shifted.operands[0] is x and shifted.operands[1] is top
        )

    def source(self) -> str:
        """Returns the source code of the functions of elements, and of `kernel`."""
        kernel, plan, values = self.kernel, self.plan, self.expression.values
        others = values[len(kernel.inputs) :][: len(kernel.others)]
        arrays = [f"array{i}" for i in range(len(kernel.arrays))]
        names = [
            *arrays,
            *(f"other{i}" for i in range(len(others))),
            *map(self._name, self.given),
            "rows",
            "n",
            "bits",
            "wide",
        ]
        functions: list[str] = []
        lines = [f"def kernel({', '.join(names)}):", "    shared = cuda.shared.array(WARP, real_type)"]
        lines += ["    row, lane = row_and_lane(bits)", "    base, zero, one = row * n, real(0), real(1)"]
        lines += ["    first, end, step = share_of_lane(row, rows, n, lane, bits, wide)"]
        for i, value in enumerate(others):
            own, none = f"other{i}[np.uint64(row)]", "zero"
            if value.op == LABEL:
                own, none = f"np.int64({own})", "np.int64(-1)"
            lines += [f"    {self._name(value)} = {own} if row < rows else {none}"]
        numbers = list(range(len(plan.folds)))
        if self._is_logsumexp():
            (top,), (whole,) = plan.folds[:2]
            x = self._array(top.operands[0])
            lines += [
                f"    {self._name(top)}, {self._name(whole)} = logsumexp_parts({x}, first, end, step, bits, wide, shared)"
            ]
            numbers = numbers[2:]
            lines += self._rows(0) + self._rows(1)
        for number in numbers:
            function, of_pass = self._folds(number, plan.folds[number])
            functions += function
            lines += [*self._rows(number), *of_pass]
        lines += self._rows(len(plan.folds))
        if plan.results:
            function, inputs, passed = self._function(len(plan.folds), plan.last_anew, plan.results)
            functions += function
            lines += self._loop(len(plan.folds), inputs, passed)
            for i, value in enumerate(plan.results):
                array = arrays[kernel.arrays.index(kernel.results[self.expression.results.index(value)])]
                four = ", ".join(f"{lane}[{i}]" for lane in FOUR)
                lines += [f"        store_four({array}, at, end, step, wide, ({four}))"]
            lines += ["        at += 4 << bits"]
        for value, name in zip(self.expression.results, kernel.results, strict=True):
            if value.level != OF_ELEMENT:
                array = arrays[kernel.arrays.index(name)]
                lines += ["    if lane == 0 and row < rows:", f"        {array}[np.uint64(row)] = {self._name(value)}"]
        return "\n".join([*functions, *lines])

    def _rows(self, number: int) -> list[str]:
        """Returns the lines of Values of a row that depend on the folds of `number` passes."""
        skipped = (*FOLDS, ROW, LABEL)
        return [
            f"    {self._of_row(v)}"
            for v, depth in self.plan.of_rows.items()
            if depth == number and v.op not in skipped
        ]


def _vanishes(value: Value) -> bool:
    """True if a Value is 0 where all elements are 0, as they are beyond the end of a row. Values of the row may be infinite."""
    if value.op in ("add", "subtract", "multiply"):
        return all(isinstance(each, Value) and _vanishes(each) for each in value.operands)
    return value.op == ELEMENT


_known = functools.lru_cache(1024)(known_of_numbers)


def _most_lanes(dtype: np.dtype) -> int:
    """Returns the most lanes of a row. Threads that compute exponentials in float64 need twice the registers."""
    return LANES * 4 // dtype.itemsize


@functools.cache
def _kernel_of(kernel: Rows, dtype: np.dtype, kinds: str) -> tuple[Kernel, list[Value], Expression]:
    """Returns the CUDA kernel and its arguments. kinds: the dtype kinds of the per-row arrays, then the ndims of the others."""
    others, axes = kinds.split("_")
    expression = kernel.expression_of(others)
    writer = _RowsSource(kernel, expression, dict(zip(kernel.arrays, map(int, axes), strict=True)))
    lanes = _most_lanes(dtype)
    # With a minimum of one block, the assembler does not save registers for more blocks; it spilled those of float64.
    options = {"launch_bounds": (lanes, 1) if dtype.itemsize == 8 else lanes}
    found = compiled(kernel, __file__, __name__, dtype, writer.source(), kinds, options, **_NAMES)
    return found, writer.given, expression


def __getattr__(name: str) -> Kernel:
    """Returns a kernel by its name, for benchmarks/cuda_resources.py."""
    if name.count(":") != 3:
        raise AttributeError(name)
    module, kernel, dtype, kinds = name.split(":")
    return _kernel_of(getattr(importlib.import_module(module), kernel), np.dtype(dtype), kinds)[0]


@functools.cache
def twin(kernel: Rows) -> Callable:
    """Returns the twin of Rows: a function of the same arguments without `share, shares`."""

    def run(*args: Any) -> None:
        count = len(kernel.arrays) + len(kernel.others)
        arrays: tuple[DeviceArray, ...] = args[:count]
        own, numbers = arrays[: len(kernel.arrays)], tuple(map(float, args[count:]))
        dtype = own[0].dtype
        kinds = (
            "".join(array.dtype.kind for array in arrays[len(own) :]) + "_" + "".join(str(array.ndim) for array in own)
        )
        found, given, expression = _kernel_of(kernel, dtype, kinds)
        rows, n = next(array.shape for array in own if array.ndim == 2)
        known = _known(expression, dtype, numbers, n)
        wanted = [dtype.type(known[value]) for value in given]
        start_rows(found, n, rows, arrays, *wanted, maximum=_most_lanes(dtype))

    run.__name__ = kernel.__name__
    return run
