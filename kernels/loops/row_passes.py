"""Kernels that compute a formula with sums and maxima over each row of matrices, on the CPU.

Their twins are in kernels/cuda/loops/row_passes.py.

A formula such as softmax makes a few *passes* over a row. Each pass except the last ends in folds (`largest`, `total`), and later
passes use their results. The last pass writes. Rows are read in blocks of vectors, then in single vectors; the last one is
masked. With AVX-512, a row of ten classes is one vector.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbkeras.kernels.loops import expressions, llvm
from nbkeras.kernels.loops.emission import REGISTER, Emitter, FormulaKernel
from nbkeras.kernels.loops.expressions import (
    ELEMENT,
    FOLDS,
    LABEL,
    NUMBER,
    OF_ELEMENT,
    OF_ROW,
    ROW,
    Expression,
    Value,
)
from nbkeras.kernels.loops.llvm import Vector
from nbkeras.kernels.loops.operations import CURVES
from nbkeras.kernels.runtime import threads
from nbkeras.kernels.runtime.lazy import ir
from nbkeras.kernels.runtime.processor import has
from nbkeras.kernels.runtime.signatures import ArrayType, Type

_SHARE = 4096  # minimum elements of a share: 2 us for wide rows, 12 us for ten classes
_IDENTITY = {"largest": -math.inf, "total": 0.0}
_ANY_ORDER = ("nsz", "contract", "reassoc")
_FAST = ("nnan", "nsz")  # without them LLVM emits no max instruction
MASKS = has("avx")


class PassPlan:
    """The division of an expression into passes.

    Attributes:
        folds: The folds of each pass except the last.
        needed: The element Values that each pass computes.
        kept: The Value that an earlier pass writes to an output, so that the last pass need not recompute it. It may be None.
        keeps: The number of that earlier pass.
        last_anew: The element Values that the last pass computes if nothing is kept.
        of_rows: For each row Value, the number of passes that must come before it.
    """

    def __init__(self, expression: Expression):
        depth: dict[Value, int] = {}
        for value in expression.values:
            depth[value] = max((depth[each] for each in value.inputs), default=0) + (value.op in FOLDS)
        found = [value for value in expression.values if value.op in FOLDS]
        count = max(depth[value] for value in (*found, *expression.results))
        self.folds = [[fold for fold in found if depth[fold] == number + 1] for number in range(count)]
        self.of_rows = {value: depth[value] for value in expression.values if value.level == OF_ROW}
        self.results = [value for value in expression.results if value.level == OF_ELEMENT]
        last = _elements(self.results, set())
        computed = {value for folds in self.folds for value in _elements([fold.operands[0] for fold in folds], set())}
        costly = [value for value in last if value.op in CURVES and value in computed]
        self.kept = costly[0] if len(costly) == 1 and self.results else None
        self.needed = [_elements([fold.operands[0] for fold in folds], set()) for folds in self.folds]
        self.keeps = next((i for i, each in enumerate(self.needed) if self.kept in each), None)
        self.last_anew = last
        self.needed.append(_elements(self.results, set() if self.kept is None else {self.kept}))


def _elements(wanted: list[Value], known: set[Value]) -> list[Value]:
    """Returns the element Values that `wanted` depends on, in order, without known ones."""
    found: dict[Value, None] = {}

    def note(value: Value) -> None:
        if value.level == OF_ELEMENT and value not in found and value not in known:
            for each in value.inputs:
                note(each)
            found[value] = None

    for value in wanted:
        note(value)
    return list(found)


class _RowsEmitter(Emitter):
    """Emits a loop over rows, with loops over elements inside."""

    def emit(self, signature: tuple[Type, ...], share: Any, shares: Any) -> None:
        kernel, b, values = self.kernel, self.builder, self.expression.values
        self.plan = PassPlan(self.expression)
        self._kept_rest: Vector | None = None  # the kept Value of the last, partial vector of a row
        kinds: list[ArrayType] = [kind for kind in signature if isinstance(kind, ArrayType)]
        names = [*kernel.arrays, *kernel.others]
        pointers, shapes = {}, {}
        for name, kind in zip(names, kinds, strict=True):
            element = self.real if kind.dtype == self.dtype else ir.IntType(8 * kind.dtype.itemsize)
            pointers[name] = self.pointer(element)
            shapes[name] = [self.slot() for _ in range(kind.ndim)]
        self.ndims = dict(zip(names, [kind.ndim for kind in kinds], strict=True))
        rows, self.columns = shapes[kernel.matrix(signature)]
        first_number = len(kernel.inputs) + len(kernel.others)
        for value, number in zip(values[first_number:], signature[len(names) :], strict=False):
            self.known[value] = self.number(number)  # type: ignore[arg-type]
        for value in values:
            if value.op == "columns":
                self.known[value] = Vector(b, b.sitofp(self.columns, self.real))
        self.compute_uniform()
        self._pointers = pointers
        following = b.add(share, self.integer(1))
        first, last = (b.sdiv(b.mul(rows, each), shares) for each in (share, following))
        before_rows = self._spread_uniform()
        with llvm.counting(b, first, last, 1) as row:
            self._row(row, before_rows)

    def _widths(self, values: list[Value]) -> list[int]:
        """Returns the number of lanes of each loop of a pass."""
        if self.calls_library(values):
            return [1]
        one = REGISTER // self.dtype.itemsize
        return [one * (2 if any(value.op in CURVES for value in values) else 4), one]

    def _spread_uniform(self) -> dict[int, dict[Value, Any]]:
        widths = {1, *(width for values in self.plan.needed for width in self._widths(values))}
        used = {each for value in self.expression.values if value.level == OF_ELEMENT for each in value.inputs}
        used.update(self.expression.results)
        spread = {
            lanes: {v: self.spread(x, lanes) for v, x in self.known.items() if lanes == 1 or v in used}
            for lanes in sorted(widths)
        }
        one = REGISTER // self.dtype.itemsize
        self._rest = self.builder.and_(self.columns, self.integer(one - 1))
        if MASKS:
            places = ir.Constant(ir.VectorType(ir.IntType(32), one), list(range(one)))
            end = llvm.spread(self.builder, self.builder.trunc(self._rest, ir.IntType(32)), one)
            self._mask = self.builder.icmp_signed("<", places, end)
        return spread

    def _row(self, row: Any, uniform: dict[int, dict[Value, Any]]) -> None:
        kernel, b, expression = self.kernel, self.builder, self.expression
        start = b.mul(row, self.columns)
        self._at = {
            name: b.gep(self._pointers[name], [start]) if self.ndims[name] == 2 else self._pointers[name]
            for name in kernel.arrays
        }
        known = dict(uniform[1])
        for value, name in zip(expression.values[len(kernel.inputs) :], kernel.others, strict=False):
            number = b.load(b.gep(self._pointers[name], [row]))
            known[value] = Vector(b, number) if value.op == ROW else b.sext(number, self.word)
        for number, folds in enumerate([*self.plan.folds, None]):
            self._compute_rows(number, known)
            if folds is not None:
                self._pass(number, folds, known, uniform)
            elif self.plan.results:
                self._pass(number, [], known, uniform)
        for value, name in zip(expression.results, kernel.results, strict=True):
            if value.level != OF_ELEMENT:
                b.store(self.spread(known[value], 1).value, b.gep(self._pointers[name], [row]))

    def _compute_rows(self, number: int, known: dict[Value, Any]) -> None:
        """Computes the row Values that depend on the folds of `number` passes."""
        for value, depth in self.plan.of_rows.items():
            if depth != number or value.op in (*FOLDS, ROW, LABEL):
                continue
            if value.op == "is_inside":
                known[value] = Vector(self.builder, self._is_inside(known[value.operands[0]]))
            elif value.op == "pick":
                x, label = value.operands
                at = known[label]
                safe = self.builder.select(self._is_inside(at), at, self.integer(0))
                known[value] = self.load(self._at[self.kernel.inputs[x.operands[0]]], safe, 1)
            else:
                self.compute([value], known)

    def _is_inside(self, label: Any) -> Any:
        b = self.builder
        return b.and_(b.icmp_signed(">=", label, self.integer(0)), b.icmp_signed("<", label, self.columns))

    def _pass(
        self, number: int, folds: list[Value], of_row: dict[Value, Any], uniform: dict[int, dict[Value, Any]]
    ) -> None:
        """Emits a pass over the row; the results of folds go to `of_row`."""
        b, values = self.builder, self.plan.needed[number]
        # in order, so that each process writes the same code
        used = dict.fromkeys(each for value in values for each in value.inputs if each.level == OF_ROW)
        first, before = self.integer(0), 0
        sums: dict[Value, Any] = {}
        widths = self._widths(values)
        for lanes in widths:
            known = uniform[lanes] | {
                v: of_row[v] if v.op == LABEL else self.spread(of_row[v], lanes) for v in used if v in of_row
            }
            if before:
                sums = {fold: self._halved(fold, x, before // lanes) for fold, x in sums.items()}
            else:
                sums = {fold: self._identity(fold, lanes) for fold in folds}
            with llvm.counting(b, first, self.columns, lanes, sums) as i:
                self._block(number, folds, values, known, sums, i, lanes, None)
            first, before = i, lanes
        if before > 1:
            if MASKS:
                sums = self._masked(number, folds, values, known, sums, first, before)
            else:
                sums = {fold: self._folded(fold, x) for fold, x in sums.items()}
                known = uniform[1] | of_row
                with llvm.counting(b, first, self.columns, 1, sums) as i:
                    self._block(number, folds, values, known, sums, i, 1, None)
                before = 1
        for fold in folds:
            of_row[fold] = Vector(b, self._folded(fold, sums[fold]))

    def _masked(self, number, folds, values, known, sums, first, lanes) -> dict[Value, Any]:
        """Computes the last vector of a row, if it is partial."""
        b = self.builder
        before, body, end = b.block, b.append_basic_block(), b.append_basic_block()
        b.cbranch(b.icmp_signed("!=", self._rest, self.integer(0)), body, end)
        b.position_at_end(body)
        changed = dict(sums)
        self._block(number, folds, values, known, changed, first, lanes, self._mask)
        after = b.block
        b.branch(end)
        b.position_at_end(end)
        # keep it in a register: a load right after a masked store to the same memory stalls
        if self.plan.keeps == number:
            kept = self._kept_rest.value  # type: ignore[union-attr]
            phi = b.phi(kept.type)
            phi.add_incoming(ir.Constant(kept.type, ir.Undefined), before)
            phi.add_incoming(kept, after)
            self._kept_rest = Vector(b, phi)
        for fold in folds:
            phi = b.phi(sums[fold].type)
            phi.add_incoming(sums[fold], before)
            phi.add_incoming(changed[fold], after)
            changed[fold] = phi
        return changed

    def _block(self, number, folds, values, known, sums, i, lanes, mask) -> None:
        """Computes a block of elements from `i` on, with its folds or stores."""
        known, b, plan, last = dict(known), self.builder, self.plan, number == len(self.plan.folds)
        output = self._at[self.kernel.results[self.expression.results.index(plan.results[0])]] if plan.results else None
        if last and plan.kept is not None:
            kept = None if mask is None else self._kept_rest
            known[plan.kept] = self._get(output, i, lanes, mask) if kept is None else kept
        for value in values:
            if value.op == ELEMENT:
                known[value] = self._get(self._at[self.kernel.inputs[value.operands[0]]], i, lanes, mask)
            elif value.op == "is_at":
                known[value] = self._is_at(known[value.operands[0]], i, lanes)
            else:
                self.compute([value], known)
        for fold in folds:
            x = known[fold.operands[0]].value
            if mask is not None:
                x = b.select(mask, x, self._identity(fold, lanes))
            sums[fold] = self._combined(fold, sums[fold], x)
        if plan.keeps == number and mask is None:
            self._put(known[plan.kept], output, i, lanes, mask)
        elif plan.keeps == number:
            self._kept_rest = known[plan.kept]
        if last:
            for value, name in zip(self.expression.results, self.kernel.results, strict=True):
                if value.level == OF_ELEMENT:
                    self._put(known[value], self._at[name], i, lanes, mask)

    def _is_at(self, label: Any, i: Any, lanes: int) -> Vector:
        b = self.builder
        if lanes == 1:
            return Vector(b, b.icmp_signed("==", label, i))
        distance = llvm.spread(b, b.trunc(b.sub(label, i), ir.IntType(32)), lanes)
        return Vector(b, b.icmp_signed("==", distance, ir.Constant(distance.type, list(range(lanes)))))

    # Memory accesses; a mask selects lanes of a vector

    def _get(self, pointer: Any, i: Any, lanes: int, mask: Any) -> Vector:
        if mask is None:
            return self.load(pointer, i, lanes)
        kind = ir.VectorType(self.real, lanes)
        return Vector(self.builder, llvm.load(self.builder, self.place(pointer, i, lanes), kind, mask))

    def _put(self, value: Vector, pointer: Any, i: Any, lanes: int, mask: Any) -> None:
        if mask is None:
            self.store(value, pointer, i, lanes)
        else:
            llvm.store(self.builder, value.value, self.place(pointer, i, lanes), mask)

    # Folds

    def _identity(self, fold: Value, lanes: int) -> Any:
        number = _IDENTITY[fold.op]
        return (
            ir.Constant(ir.VectorType(self.real, lanes), [number] * lanes)
            if lanes > 1
            else ir.Constant(self.real, number)
        )

    def _combined(self, fold: Value, x: Any, y: Any) -> Any:
        if fold.op == "total":
            return self.builder.fadd(x, y, flags=_ANY_ORDER)
        return self.builder.select(self.builder.fcmp_ordered(">", y, x, flags=_FAST), y, x, flags=_FAST)

    def _halved(self, fold: Value, x: Any, parts: int) -> Any:
        """Combines the halves of a vector until it has the given number of lanes."""
        b = self.builder
        lanes = x.type.count // parts
        pieces = [
            b.shuffle_vector(
                x, x, ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(lanes * p, lanes * (p + 1))))
            )
            for p in range(parts)
        ]
        while len(pieces) > 1:
            pieces = [self._combined(fold, *pieces[at : at + 2]) for at in range(0, len(pieces), 2)]
        return pieces[0]

    def _folded(self, fold: Value, x: Any) -> Any:
        """Combines all lanes."""
        lanes = getattr(x.type, "count", 1)
        while lanes > 1:
            x, lanes = self._halved(fold, x, 2), lanes // 2
            if lanes == 1:
                x = self.builder.extract_element(x, ir.Constant(ir.IntType(32), 0))
        return x


class Rows(FormulaKernel):
    """A kernel that computes a formula for each row of matrices, `kernel(*arrays, *of_rows, *numbers, share, shares)`.

    The formula's parameters between `/` and `*` are elements of arrays with one number, or label, per row. An array of elements
    with one axis is shared by all rows. A result that does not vary within a row has an array with one number per row. Other
    arguments are those of FormulaKernel.
    """

    emitter = _RowsEmitter

    def launch(self, *args: Any) -> None:
        """Launches the kernel, on several threads if its matrices are large."""
        matrix = next(each for each in args if each.ndim == 2)
        threads.launch_shares(self, threads.share_count(matrix.size, _SHARE, len(matrix)), *args)

    def matrix(self, signature: tuple[Type, ...]) -> str:
        """The name of an array that is a matrix."""
        return next(name for name, kind in zip(self.arrays, signature, strict=False) if kind.ndim == 2)  # type: ignore[union-attr]

    def expression(self, signature: tuple[Type, ...]) -> Expression:
        others = signature[len(self.arrays) :][: len(self.others)]
        return self.expression_of("".join(kind.dtype.kind for kind in others))  # type: ignore[union-attr]

    def expression_of(self, kinds: str) -> Expression:
        """Returns the Expression of the formula. kinds: "i" for each array of labels, "f" for each array of numbers."""
        others = [LABEL if kind == "i" else ROW for kind in kinds]
        return expressions.trace(self.read, [ELEMENT] * len(self.inputs) + others + [NUMBER] * len(self.numbers))

    def signature(self, args: tuple) -> tuple[Type, ...]:
        """Returns the types of arguments. Raises TypeError if the kernel does not take them."""
        found = super().signature(args)
        arrays, others = found[: len(self.arrays)], found[len(self.arrays) :][: len(self.others)]
        fits = all(isinstance(kind, ArrayType) and kind.contiguous and kind.ndim <= 2 for kind in (*arrays, *others))
        fits = fits and self.takes_numbers(found)
        fits = fits and arrays[0].dtype in (np.float32, np.float64)  # type: ignore[union-attr]
        fits = fits and all(kind.dtype == arrays[0].dtype for kind in arrays)  # type: ignore[union-attr]
        fits = fits and any(kind.ndim == 2 for kind in arrays)  # type: ignore[union-attr]
        if not fits or any(kind.dtype != arrays[0].dtype and kind.dtype.kind != "i" for kind in others):  # type: ignore[union-attr]
            raise self.refuse("contiguous arrays, and one float dtype for " + ", ".join(self.arrays), found)
        return found
