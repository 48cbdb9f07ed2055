"""Kernels that compute a formula for each element of flat arrays, on the CPU; their twin is kernels/cuda/loops/map.py.

`Map` makes a kernel from a formula (expressions.py). LLVM's instructions are written directly, some vectors at a time: that
takes a tenth of the time of Numba, and does not depend on whether LLVM recognises a loop that it can vectorise. What does not
differ from element to element is computed once, before the loop. The elements of a block are loaded before any is stored, so an
output may be an input, but must not overlap one otherwise.
"""

from __future__ import annotations

import inspect
import types as python_types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbkeras.kernels.loops import expressions
from nbkeras.kernels.loops.expressions import CELL, ELEMENT, NUMBER, Expression, Value
from nbkeras.kernels.loops.vmath import FORMULAS, Float
from nbkeras.kernels.runtime import cache, code, forks, native, threads
from nbkeras.kernels.runtime.lazy import binding, intrinsic, ir, types
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.processor import has
from nbkeras.kernels.runtime.signatures import ArrayType, Type, text_of

_DTYPES = (np.float32, np.float64)
# Bytes of a block: two vector registers, or one where many arrays and numbers are in registers. Measured with gelu and adam: with
# two each, adam took 1.14 times as long with AVX2; with one each, gelu 1.25 times as long with AVX-512.
_REGISTER = 64 if has("avx512f") else 32
_FEW = 3  # arrays
_ROUND = 64  # shares are cut at multiples of so many elements, see threads.stretch


class Map(cache.Kernel):
    """A kernel of a formula, `kernel(*inputs, *outputs, *cells, *numbers, share, shares)`.

    Args:
        name: The kernel's name at the top level of its module.
        module: The `__name__` of that module.
        formula: The function. Its parameters up to `/` are elements of arrays, those up to `*` are elements of arrays of one
            number, the others are numbers.
        to: The names of its results. One that is the name of an array is written to that array, another one is an array more.
        times: The name of one more array whose elements are multiplied by the result, a slope; see `expressions.scaled`.
        least: The fewest elements of a share: about 3 us of work.
        fuses_as: The name of its op in chains (runtime/chains.py), if there is one.
    """

    def __init__(
        self, name: str, module: str, formula: Callable, to: str, times: str = "", least: int = 8192, fuses_as: str = ""
    ):
        own = formula.__code__
        names = own.co_varnames[: own.co_argcount + own.co_kwonlyargcount]
        self.inputs = (*names[: own.co_posonlyargcount], *times.split())
        self.cells = names[own.co_posonlyargcount : own.co_argcount]
        self.numbers, self.results, self.formula = names[own.co_argcount :], tuple(to.split()), formula
        self.arrays = (*self.inputs, *(each for each in self.results if each not in self.inputs))
        super().__init__(_declared(name, module, formula, (*self.arrays, *self.cells, *self.numbers, "share", "shares")))
        self.takes_shares, self._calls = True, native.Calls(self, 0, 2)
        self.is_slope, self.least, self.fuses_as = bool(times), least, fuses_as

    def launch(self, *args: Any) -> None:
        """Launch the kernel, on several threads if its first array is large."""
        threads.launch_shares(self, threads.share_count(args[0].size, self.least), *args)

    @forks.cached_property
    def expression(self) -> Expression:
        """The formula, read."""
        kinds = [ELEMENT] * len(self.inputs) + [CELL] * len(self.cells) + [NUMBER] * len(self.numbers)
        return expressions.trace(self._result, kinds)

    def _result(self, *values: Value) -> Any:
        count, first = len(self.inputs) - self.is_slope, len(self.inputs)
        others = values[first:]
        cells, numbers = others[: len(self.cells)], others[len(self.cells) :]
        result = self.formula(*values[:count], *cells, **dict(zip(self.numbers, numbers, strict=True)))
        return expressions.scaled(values[count], result) if self.is_slope else result

    def signature(self, args: tuple) -> tuple[Type, ...]:
        """The types of arguments; TypeError if the kernel does not take them."""
        found = super().signature(args)
        arrays, cells = found[: len(self.arrays)], found[len(self.arrays) :][: len(self.cells)]
        flat = all(isinstance(kind, ArrayType) and kind.contiguous and kind.ndim == 1 for kind in (*arrays, *cells))
        if not flat or len({kind.dtype for kind in arrays}) != 1 or arrays[0].dtype not in (np.float32, np.float64):
            raise TypeError(
                f"the kernel {named(self)} takes contiguous arrays of one axis, {', '.join(self.arrays)} of one float dtype; "
                f"received {text_of(found)}"
            )
        return found

    def object_for(self, signature: tuple[Type, ...]) -> bytes:
        """The object file whose symbol ENTRY is the entry for a signature; compiled if need be."""
        what = f"{text_of(signature)} {self.expression}"
        content = code.find(self._origin, what)
        self.found += content is not None
        if content is None:
            machine = code.compiler(self.py_func).target_machine()
            content = machine.emit_object(_optimized(machine, _Emitter(self, signature).module))
            self.compiled += 1
            code.keep(self._origin, what, content, True)
        return content

    @property
    def _origin(self) -> Callable:
        """The function by which code is found on disk: that of this file, under the kernel's name."""
        origin = python_types.FunctionType(_Emitter.loop.__code__, globals(), self.__name__)
        origin.__module__, origin.__qualname__ = self.__module__, self.__name__
        return origin


def _declared(name: str, module: str, formula: Callable, parameters: tuple[str, ...]) -> Callable:
    """A function with the kernel's name and parameters, in the formula's file, for messages."""
    declared = python_types.FunctionType(formula.__code__, formula.__globals__, name)
    declared.__module__, declared.__qualname__, declared.__doc__ = module, name, formula.__doc__
    declared.__signature__ = _signature(parameters)  # type: ignore[attr-defined]
    return declared


def _signature(names: tuple[str, ...]) -> inspect.Signature:
    return inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names])


def _optimized(machine: Any, module: Any) -> Any:
    module = binding.parse_assembly(str(module))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    passes = binding.create_new_module_pass_manager()
    passes.add_instruction_combine_pass()
    passes.add_new_gvn_pass()
    passes.run(module, builder)
    return module


class _Emitter:
    """Writes a kernel's entry, `int64 entry(frame, share, shares)`, as LLVM code."""

    def __init__(self, kernel: Map, signature: tuple[Type, ...]):
        self.expression, self.word, self.double = kernel.expression, ir.IntType(64), ir.DoubleType()
        self.dtype = signature[0].dtype  # type: ignore[union-attr]
        self.real = ir.FloatType() if self.dtype == np.float32 else self.double
        self.module = ir.Module(kernel.__name__)
        kind = ir.FunctionType(self.word, [ir.IntType(8).as_pointer(), self.word, self.word])
        function = ir.Function(self.module, kind, cache.ENTRY)
        self.builder = b = ir.IRBuilder(function.append_basic_block())
        self.instructions = _Instructions(b, self.real)
        frame, share, shares = function.args
        slots = self._slots(b.bitcast(frame, self.word.as_pointer()))
        pointers, sizes = [], []
        for _ in kernel.arrays:
            pointers.append(b.inttoptr(next(slots), self.real.as_pointer()))
            sizes.append(next(slots))
        rest = signature[len(kernel.arrays) :]
        scalars = [self._cell(next(slots), next(slots), kind.dtype) for kind in rest[: len(kernel.cells)]]  # type: ignore[union-attr]
        scalars += [self._number(next(slots), kind) for kind in rest[len(kernel.cells) :]]
        inputs = dict(zip(kernel.inputs, pointers, strict=False))
        outputs = dict(zip(kernel.arrays, pointers, strict=True))
        self.inputs, self.outputs = list(inputs.values()), [outputs[name] for name in kernel.results]
        self.uniform = self._uniform(scalars)
        first, last = self._share(sizes[0], share, shares)
        lanes = _REGISTER * (2 if len(kernel.arrays) <= _FEW else 1) // self.dtype.itemsize
        exact = {"power", *(_EXACT if self.real == self.double else ())}  # functions of C's library
        if any(value.varies and value.op in exact for value in self.expression.values):
            lanes = 1
        stopped = first
        for width in dict.fromkeys((lanes, 1)):
            stopped = self.loop(stopped, last, width)
        b.ret(ir.Constant(self.word, 0))

    def _slots(self, frame: Any) -> Iterator[Any]:
        at = 0
        while True:
            yield self.builder.load(self.builder.gep(frame, [ir.Constant(self.word, at)]))
            at += 1

    def _cell(self, pointer: Any, size: Any, dtype: np.dtype) -> Float:
        """The number of an array of one element, as a float64."""
        kind = {"i": self.word, "f": self.real if dtype == self.dtype else self.double}[dtype.kind]
        value = self.builder.load(self.builder.inttoptr(pointer, kind.as_pointer()))
        return self._double(value, dtype.kind == "i")

    def _number(self, slot: Any, dtype: np.dtype) -> Float:
        """A number of a frame, as a float64."""
        b = self.builder
        if dtype.kind in "biu":
            return self._double(slot, True)
        half = b.trunc(slot, ir.IntType(32)) if dtype.itemsize == 4 else slot
        return self._double(b.bitcast(half, ir.FloatType() if dtype.itemsize == 4 else self.double), False)

    def _double(self, value: Any, is_integer: bool) -> Float:
        if is_integer:
            value = self.builder.sitofp(value, self.double)
        elif value.type != self.double:
            value = self.builder.fpext(value, self.double)
        return Float(self.builder, value)

    def _share(self, size: Any, share: Any, shares: Any) -> tuple[Any, Any]:
        """The first element of a share and the end, as threads.stretch."""
        b = self.builder

        def cut(number: Any) -> Any:
            at = b.udiv(b.mul(size, number), shares)
            return b.and_(at, ir.Constant(self.word, -_ROUND))

        following = b.add(share, ir.Constant(self.word, 1))
        return cut(share), b.select(b.icmp_unsigned("==", following, shares), size, cut(following))

    def _uniform(self, scalars: list[Float]) -> dict[Value, Any]:
        """What is the same for all elements."""
        values = self.expression.values
        known: dict[Value, Any] = dict(zip(values[len(self.inputs) :], scalars, strict=False))
        for value in values[len(self.inputs) + len(scalars) :]:
            if not value.varies:
                known[value] = self._computed(value, known)
        return known

    def _computed(self, value: Value, known: dict[Value, Any]) -> Any:
        operands = [known[each] if isinstance(each, Value) else each for each in value.operands]
        return self.instructions.compute(value, operands)

    def loop(self, first: Any, last: Any, lanes: int) -> Any:
        """Compute elements from `first` to `last`, as far as whole vectors go; the first one that is left."""
        b = self.builder
        used = {each for value in self.expression.values if value.varies for each in value.operands}
        used.update(self.expression.results)
        spread = {value: self._spread(x, lanes) for value, x in self.uniform.items() if value in used}
        before = b.block
        head, body, end = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(self.word)
        i.add_incoming(first, before)
        after = b.add(i, ir.Constant(self.word, lanes))
        b.cbranch(b.icmp_signed("<=", after, last), body, end)
        b.position_at_end(body)
        kind = ir.VectorType(self.real, lanes) if lanes > 1 else self.real

        def at(pointer: Any) -> Any:
            return b.bitcast(b.gep(pointer, [i]), kind.as_pointer())

        known: dict[Value, Any] = dict(spread)
        for value, pointer in zip(self.expression.values, self.inputs, strict=False):
            known[value] = Float(b, b.load(at(pointer), align=self.dtype.itemsize))
        for value in self.expression.values[len(self.inputs) :]:
            if value.varies:
                known[value] = self._computed(value, known)
        for result, pointer in zip(self.expression.results, self.outputs, strict=True):
            b.store(known[result].value, at(pointer), align=self.dtype.itemsize)
        i.add_incoming(after, b.block)
        b.branch(head)
        b.position_at_end(end)
        return i

    def _spread(self, x: Any, lanes: int) -> Any:
        """A number in the arrays' dtype, or bits, in all lanes."""
        if isinstance(x, Float):
            x = self.instructions.converted(x, self.real)
        if lanes == 1:
            return x
        value = x.value if isinstance(x, Float) else x
        single = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        filled = self.builder.insert_element(single, value, ir.Constant(ir.IntType(32), 0))
        where = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        filled = self.builder.shuffle_vector(filled, single, where)
        return Float(self.builder, filled) if isinstance(x, Float) else filled


class _Instructions:
    """Writes the operations of a formula, for numbers or vectors; `real` is LLVM's type of the arrays' elements."""

    def __init__(self, builder: Any, real: Any):
        self.builder, self.real, self.double = builder, real, ir.DoubleType()

    def compute(self, value: Value, operands: list) -> Any:
        """The result of an operation: a Float, or bits."""
        if value.op == "tiny":
            return Float(self.builder, ir.Constant(self.real, float(np.finfo(_DTYPES[self.real == self.double]).tiny)))
        if value.op == "real":
            return self.converted(operands[0], self.real)
        kind = self.real if value.is_real or value.varies else self.double
        operands = [self.converted(each, kind) if isinstance(each, Float) else each for each in operands]
        if value.op == "where":
            return self._choice(kind, *operands)
        if value.op in _OF_BITS:
            return getattr(self.builder, _OF_BITS[value.op])(*operands)
        like = next(each for each in operands if isinstance(each, Float))
        operands = [each if isinstance(each, Float) else Float(self.builder, like.constant(float(each))) for each in operands]
        if value.op in _COMPARISONS:
            return operands[0].compare(_COMPARISONS[value.op], operands[1])
        if value.op in _EXACT and kind == self.double:
            return _EXACT[value.op](*operands)
        return _OPERATIONS[value.op](*operands)

    def _choice(self, kind: Any, condition: Any, yes: Any, no: Any) -> Float:
        """yes or no: Floats or literals, which get the condition's number of lanes."""
        lanes = getattr(condition.type, "count", 0)
        like = Float(self.builder, ir.Constant(ir.VectorType(kind, lanes) if lanes else kind, ir.Undefined))
        return like.choose(condition, *(each if isinstance(each, Float) else float(each) for each in (yes, no)))

    def converted(self, x: Float, kind: Any) -> Float:
        """A number in another type."""
        if getattr(x.value.type, "element", x.value.type) == kind:
            return x
        convert = self.builder.fptrunc if kind == ir.FloatType() else self.builder.fpext
        return Float(self.builder, convert(x.value, x.like(kind)))


def inlined(formula: Callable) -> Any:
    """A formula of elements alone, as a function of numbers of one float dtype that other compiled loops call."""
    count = formula.__code__.co_argcount

    def called(typing, *args):
        if len(args) != count or len(set(args)) != 1 or args[0] not in (types.float32, types.float64):
            return None
        expression = expressions.trace(formula, [ELEMENT] * count)
        several = len(expression.results) > 1
        result = types.UniTuple(args[0], len(expression.results)) if several else args[0]

        def generate(context, builder, signature, values):
            instructions = _Instructions(builder, values[0].type)
            found = expression.computed([Float(builder, value) for value in values], instructions.compute)
            numbers = [each.value for each in found]
            return context.make_tuple(builder, signature.return_type, numbers) if several else numbers[0]

        return result(*args), generate

    names = ("typing", *formula.__code__.co_varnames[:count])
    called.__signature__ = _signature(names)  # type: ignore[attr-defined]  # Numba takes the number of arguments from it
    called.__name__, called.__doc__ = formula.__name__, formula.__doc__
    return intrinsic(called)


def _clip(x: Float, low: Float, high: Float) -> Float:
    bounded = x.choose(x.compare("<", low), low, x)
    return bounded.choose(bounded.compare(">", high), high, bounded)


_COMPARISONS = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!="}
_OF_BITS = {"logical_or": "or_", "logical_and": "and_"}
_OPERATIONS: dict[str, Callable[..., Float]] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / y,
    "negative": lambda x: -x,
    "absolute": lambda x: x.intrinsic("fabs"),
    "sqrt": lambda x: x.intrinsic("sqrt"),
    "power": lambda x, y: x.intrinsic("pow", y),
    "clip": _clip,
    **FORMULAS,
}


def _exactly(name: str) -> Callable[[Float], Float]:
    return lambda x: x.called(name)


# In float64 the functions of C's library
_EXACT: dict[str, Callable[..., Float]] = {name: _exactly(name) for name in ("exp", "expm1", "log1p", "tanh", "erfc")}
_EXACT["sigmoid"] = lambda x: Float(x.builder, x.constant(1.0)) / ((-x).called("exp") + 1.0)
