"""Kernels that compute a formula for each element of flat arrays on the GPU: the twins of those in kernels/loops/map.py.

The source code of a kernel is generated for each formula and dtype, then compiled. A thread computes four neighbours, and loads
and stores them together if the arrays are 16-byte aligned. The host computes the values that depend only on numbers before the
launch. One thread of each block computes the values that depend on one-element arrays, because float64 is slow on most GPUs. The
grid is small, so that few blocks compute them.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.kernels.cuda.loops.lanes import load_four, store_four
from nbkeras.kernels.cuda.loops.sources import LANES, SOURCES, compiled, known_of_numbers, literal, source_of
from nbkeras.kernels.cuda.machine.kernel import THREADS, Kernel, blocks, device_function, size, start
from nbkeras.kernels.loops.expressions import CELL, ELEMENT, Value, trace
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime import cache, device

_RESIDENT = size(8, simulated=8)  # blocks per multiprocessor: 2048 threads, the most that one runs
# Powers for a block are computed in float64: a GPU's powf errs by some ulp, and 1 - beta**t would then err by a thousand.
_POWER = "real(math.pow(np.float64({}), np.float64({})))"


class _MapSource:
    """Writes the source code of a formula's kernel. A Value's name contains its index: `v3`.

    The element function gets Values that are the same for all elements as `r3`, in the arrays' dtype.

    Attributes:
        given: The kernel's arguments that depend only on numbers, as (Value, whether it has the arrays' dtype).
        shared: The Values that one thread of each block computes.
    """

    def __init__(self, kernel: Map):
        self.kernel, expression = kernel, kernel.expression()
        self.index = {value: i for i, value in enumerate(expression.values)}
        computed = expression.values[len(expression.kinds) :]
        self.each = [value for value in computed if value.varies]
        self.cells = [value for value in expression.values if value.op == CELL]
        in_block = set(self.cells)
        for value in computed:
            if not value.varies and any(each in in_block for each in value.inputs):
                in_block.add(value)
        self.by_block = [value for value in computed if value in in_block]
        wanted = [each for value in self.each for each in value.inputs] + list(expression.results)
        uniform = dict.fromkeys(value for value in wanted if not value.varies)
        self.shared = [value for value in uniform if value in in_block]
        self.given = [(value, True) for value in uniform if value not in in_block]
        before = dict.fromkeys(each for value in self.by_block for each in value.inputs if each not in in_block)
        self.given += [(value, False) for value in before]

    def _of_element(self, x: Any) -> str:
        """Returns the source of a Value or a literal in the element function, where all numbers have the arrays' dtype."""
        if isinstance(x, Value):
            return f"{'v' if x.varies else 'r'}{self.index[x]}"
        return f"real({literal(x)})"

    def _of_block(self, x: Any, real: bool) -> str:
        """Returns the source of a Value or a literal in the code that runs once per block."""
        source = f"v{self.index[x]}" if isinstance(x, Value) else literal(x)
        return f"real({source})" if real and not (isinstance(x, Value) and x.is_real) else source

    def _line_of_element(self, value: Value) -> str:
        return f"v{self.index[value]} = {source_of(value.op, list(map(self._of_element, value.operands)))}"

    def _line_of_block(self, value: Value) -> str:
        real = value.is_real and value.op != "real"
        source = _POWER if value.op == "power" else SOURCES[value.op]
        return f"v{self.index[value]} = {source.format(*(self._of_block(each, real) for each in value.operands))}"

    def source(self) -> str:
        """Returns the source code of the functions `each` and `kernel`."""
        kernel = self.kernel
        uniform = [f"r{self.index[value]}" for value, real in self.given if real]
        uniform += [f"r{self.index[value]}" for value in self.shared]
        passed = ", ".join([*uniform, "zero", "one"])
        numbers = ", ".join(f"v{i}" for i in range(len(kernel.inputs)))
        results = ", ".join(map(self._of_element, kernel.expression().results))
        lines = [f"def each({numbers}, {passed}):", *(f"    {self._line_of_element(value)}" for value in self.each)]
        lines += [f"    return ({results},)", ""]
        arrays, cells = (
            [f"{name}{i}" for i in range(n)] for name, n in (("array", len(kernel.arrays)), ("cell", len(self.cells)))
        )
        given = [f"{'r' if real else 'v'}{self.index[value]}" for value, real in self.given]
        lines += [f"def kernel({', '.join([*arrays, *cells, *given, 'at_once'])}):", "    zero, one = real(0), real(1)"]
        if self.shared:
            lines += [f"    shared = cuda.shared.array({len(self.shared)}, real_type)", "    if cuda.threadIdx.x == 0:"]
            lines += [
                f"        v{self.index[cell]} = np.float64({name}[0])"
                for cell, name in zip(self.cells, cells, strict=True)
            ]
            lines += [f"        {self._line_of_block(value)}" for value in self.by_block]
            lines += [f"        shared[{i}] = {self._of_block(value, True)}" for i, value in enumerate(self.shared)]
            lines += ["    cuda.syncthreads()"]
            lines += [f"    r{self.index[value]} = shared[{i}]" for i, value in enumerate(self.shared)]
        lines += ["    n, count = 4 * cuda.grid(1), array0.size", "    while n < count:"]
        lines += ["        wide = at_once and n + 4 <= count"]
        for i in range(len(kernel.inputs)):
            four = ", ".join(f"x{i}{lane}" for lane in LANES)
            lines += [f"        {four} = load_four(array{i}, n, count, 1, wide, zero)"]
        for lane in LANES:
            own = ", ".join(f"x{i}{lane}" for i in range(len(kernel.inputs)))
            lines += [f"        {lane} = each({own}, {passed})"]
        for i, name in enumerate(kernel.results):
            four = ", ".join(f"{lane}[{i}]" for lane in LANES)
            lines += [f"        store_four(array{kernel.arrays.index(name)}, n, count, 1, wide, ({four}))"]
        return "\n".join([*lines, "        n += 4 * cuda.gridsize(1)"])


def inlined(formula: Callable) -> Callable:
    """Makes a function for CUDA kernels from a formula with only element parameters. It also takes `zero, tiny` of the dtype.

    The source code does not depend on the dtype, so it has no other literals.
    """
    count = formula.__code__.co_argcount
    expression = trace(formula, [ELEMENT] * count)
    names = {value: "tiny" if value.op == "tiny" else f"v{i}" for i, value in enumerate(expression.values)}

    def name(x: Any) -> str:
        if not isinstance(x, Value) and x != 0:
            raise ValueError(
                f"the formula {formula.__name__!r} has the literal {x}, expected only 0: make it an argument"
            )
        return names[x] if isinstance(x, Value) else "zero"

    lines = [f"def each({', '.join(f'v{i}' for i in range(count))}, zero, tiny):"]
    for value in expression.values[count:]:
        if value.op != "tiny":
            lines.append(f"    {names[value]} = {source_of(value.op, list(map(name, value.operands)))}")
    lines += [f"    return {', '.join(map(name, expression.results))}"]
    found: dict[str, Any] = {"math": math, "__name__": __name__}
    exec(compile("\n".join(lines), f"<{formula.__name__}>", "exec"), found)  # noqa: S102 - generated above
    return device_function(found["each"])


_known = functools.lru_cache(1024)(known_of_numbers)


@functools.cache
def _kernel_of(kernel: Map, dtype: np.dtype) -> tuple[Kernel, list[tuple[Value, bool]], bool]:
    """Returns the CUDA kernel, its arguments, and whether its blocks compute shared values first."""
    writer = _MapSource(kernel)
    names = {"load_four": load_four, "store_four": store_four}
    found = compiled(kernel, __file__, __name__, dtype, writer.source(), **names)
    return found, writer.given, bool(writer.shared)


def __getattr__(name: str) -> Kernel:
    """Returns a kernel by its name, for benchmarks/cuda_resources.py."""
    if name.count(":") != 2:
        raise AttributeError(name)
    module, kernel, dtype = name.split(":")
    return _kernel_of(cache.named(module, kernel), np.dtype(dtype))[0]


@functools.cache
def twin(kernel: Map) -> Callable:
    """Returns the twin of a Map: a function of the same arguments without `share, shares`."""

    def run(*args: Any) -> None:
        arrays, rest = args[: len(kernel.arrays)], args[len(kernel.arrays) :]
        cells, numbers = rest[: len(kernel.others)], rest[len(kernel.others) :]
        dtype = arrays[0].dtype
        found, given, is_by_block = _kernel_of(kernel, dtype)
        known = _known(kernel.expression(), dtype, tuple(map(float, numbers)))
        wanted = [dtype.type(known[value]) if real else known[value] for value, real in given]
        at_once = all(array.address % 16 == 0 for array in arrays)
        count = blocks(arrays[0].size, 4 * THREADS)
        count = min(count, _RESIDENT * device.gpu().processors) if is_by_block else count
        start(found, count, THREADS, *arrays, *cells, *wanted, at_once)

    run.__name__ = kernel.__name__
    run.fuses_as = kernel.fuses_as  # type: ignore[attr-defined]
    return run
