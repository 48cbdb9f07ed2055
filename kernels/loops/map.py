"""Kernels that compute a formula for each element of flat arrays on the CPU. Their twins are in kernels/cuda/loops/map.py.

Values that are the same for all elements are computed once, before the loop. A block's elements are loaded before any is stored,
so an output may also be an input. It must not partly overlap one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.kernels.loops import expressions, llvm
from nbkeras.kernels.loops.emission import REGISTER, Emitter, FormulaKernel, is_flat
from nbkeras.kernels.loops.expressions import CELL, ELEMENT, NUMBER, Expression
from nbkeras.kernels.runtime import fork_safety, threads
from nbkeras.kernels.runtime.signatures import Type

_FEW = 3  # max arrays of a kernel that takes two vectors at a time
_ROUND = 64  # shares begin at multiples of this many elements, see threads.stretch


class _MapEmitter(Emitter):
    """Emits a loop over vectors, then a loop over single elements."""

    def emit(self, signature: tuple[Type, ...], share: Any, shares: Any) -> None:
        kernel, b, values = self.kernel, self.builder, self.expression.values
        pointers, sizes = [], []
        for _ in kernel.arrays:
            pointers.append(self.pointer(self.real))
            sizes.append(self.slot())
        rest = signature[len(kernel.arrays) :]
        scalars = [self.cell(kind.dtype) for kind in rest[: len(kernel.others)]]  # type: ignore[union-attr]
        scalars += [self.number(kind) for kind in rest[len(kernel.others) :]]  # type: ignore[arg-type]
        self.known.update(zip(values[len(kernel.inputs) :], scalars, strict=False))
        self.compute_uniform()
        of_name = dict(zip(kernel.arrays, pointers, strict=True))
        self._inputs, self._outputs = pointers[: len(kernel.inputs)], [of_name[name] for name in kernel.results]

        def cut(number: Any) -> Any:
            return b.and_(b.udiv(b.mul(sizes[0], number), shares), self.integer(-_ROUND))

        following = b.add(share, self.integer(1))
        first = cut(share)
        last = b.select(b.icmp_unsigned("==", following, shares), sizes[0], cut(following))
        # A Value takes two vector registers, or one if there are many arrays and numbers. Measured: adam with two took 1.14 times
        # as long with AVX2; gelu with one took 1.25 times as long with AVX-512.
        lanes = REGISTER * (2 if len(kernel.arrays) <= _FEW else 1) // self.dtype.itemsize
        for width in dict.fromkeys((1 if self.calls_library(values) else lanes, 1)):
            first = self._elements(first, last, width)

    def _elements(self, first: Any, last: Any, lanes: int) -> Any:
        """Emits the loop over whole vectors; returns the first remaining index."""
        used = {each for value in self.expression.values if value.varies for each in value.inputs}
        used.update(self.expression.results)
        spread = {value: self.spread(x, lanes) for value, x in self.known.items() if value in used}
        with llvm.counting(self.builder, first, last, lanes) as i:
            known = dict(spread)
            for value, pointer in zip(self.expression.values, self._inputs, strict=False):
                known[value] = self.load(pointer, i, lanes)
            self.compute((value for value in self.expression.values if value.varies), known)
            for result, pointer in zip(self.expression.results, self._outputs, strict=True):
                self.store(known[result], pointer, i, lanes)
        return i


class Map(FormulaKernel):
    """A kernel that computes a formula for each element, `kernel(*arrays, *cells, *numbers, share, shares)`.

    The formula's parameters between `/` and `*` are the elements of one-element arrays. Other arguments are those of
    FormulaKernel.

    Args:
        minimum: The fewest elements of a share: about 3 us of work.
        fuses_as: The name of its op in chains (interpreter/chains.py), if it has one.
    """

    emitter = _MapEmitter

    def __init__(
        self,
        name: str,
        module: str,
        formula: Callable,
        to: str,
        times: str = "",
        minimum: int = 8192,
        fuses_as: str = "",
        elements: int | None = None,
    ):
        super().__init__(name, module, formula, to, times, elements)
        self.minimum, self.fuses_as = minimum, fuses_as

    def launch(self, *args: Any) -> None:
        """Launches the kernel, on several threads if its first array is large."""
        threads.launch_shares(self, threads.share_count(args[0].size, self.minimum), *args)

    @fork_safety.cached_property
    def formula_read(self) -> Expression:
        """The Expression of the formula. It is the same for all types."""
        kinds = [ELEMENT] * len(self.inputs) + [CELL] * len(self.others) + [NUMBER] * len(self.numbers)
        return expressions.trace(self.read, kinds)

    def expression(self, signature: tuple[Type, ...] = ()) -> Expression:
        return self.formula_read

    def signature(self, args: tuple) -> tuple[Type, ...]:
        """Returns the types of arguments. Raises TypeError if the kernel does not take them."""
        found = super().signature(args)
        arrays, cells = found[: len(self.arrays)], found[len(self.arrays) :][: len(self.others)]
        dtypes = {kind.dtype for kind in arrays if is_flat(kind)}  # type: ignore[union-attr]
        fits = (
            all(map(is_flat, found[: len(self.arrays) + len(self.others)]))
            and len(dtypes) == 1
            and self.takes_numbers(found)
        )
        known = {np.dtype(np.float32), np.dtype(np.float64)}
        if not fits or not dtypes <= known or any(kind.dtype.kind not in "if" for kind in cells):  # type: ignore[union-attr]
            raise self.refuse(
                "contiguous arrays with one axis, and one float dtype for " + ", ".join(self.arrays), found
            )
        return found
