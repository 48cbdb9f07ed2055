"""The common code of Map (map.py) and Rows (row_passes.py): kernels made of formulas (expressions.py) for the CPU.

This module emits LLVM instructions directly, several vectors at a time. That takes a tenth of Numba's time. It does not depend on
LLVM recognising that a loop can be vectorised.
"""

from __future__ import annotations

import inspect
import types as python_types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nbkeras.kernels.loops import expressions, llvm
from nbkeras.kernels.loops.expressions import ELEMENT, OF_ELEMENT, UNIFORM, Expression, Value
from nbkeras.kernels.loops.llvm import Vector
from nbkeras.kernels.loops.operations import OF_LIBRARY_IN_FLOAT64, OPERATIONS, SCALAR
from nbkeras.kernels.runtime import cache, code, native
from nbkeras.kernels.runtime.lazy import binding, intrinsic, ir, types
from nbkeras.kernels.runtime.messages import named
from nbkeras.kernels.runtime.processor import has
from nbkeras.kernels.runtime.signatures import ArrayType, Type, signature_string

REGISTER = 64 if has("avx512f") else 32  # bytes of a vector register


class FormulaKernel(cache.Kernel):
    """A kernel of a formula, `kernel(*arrays, *others, *numbers, share, shares)`.

    Args:
        name: The kernel's name at the top level of its module.
        module: The `__name__` of that module.
        formula: The function. Its parameters before `/` are elements of arrays; those after `*` are numbers.
        to: The names of its results. A result with the name of an array is written to that array; others get a new array.
        times: The name of an additional array; its elements are multiplied by each result, a slope; see `expressions.scaled`.
        elements: The number of parameters that are elements of arrays, if no `/` follows them.

    Attributes:
        others: The names of the parameters between `/` and `*`.
    """

    emitter: type[Emitter]  # set by subclasses
    fuses_as = ""  # the name of its op in chains (interpreter/chains.py), if it has one

    def __init__(
        self, name: str, module: str, formula: Callable, to: str, times: str = "", elements: int | None = None
    ):
        own = inspect.unwrap(formula).__code__
        names = own.co_varnames[: own.co_argcount + own.co_kwonlyargcount]
        count = own.co_posonlyargcount if elements is None else elements
        self.inputs = (*names[:count], *times.split())
        self.others = names[count : own.co_argcount]
        self.numbers, self.results, self.formula = names[own.co_argcount :], tuple(to.split()), formula
        self.arrays = (*self.inputs, *(each for each in self.results if each not in self.inputs))
        self._is_slope = bool(times)
        super().__init__(
            _declared(
                name, module, inspect.unwrap(formula), (*self.arrays, *self.others, *self.numbers, "share", "shares")
            )
        )
        self.takes_shares, self._calls = True, native.Calls(self, 0, 2)

    def read(self, *values: Value) -> Any:
        """Calls the formula with inputs, others and numbers in order; returns its results."""
        count, first = len(self.inputs) - self._is_slope, len(self.inputs)
        others, numbers = values[first:][: len(self.others)], values[first + len(self.others) :]
        result = self.formula(*values[:count], *others, **dict(zip(self.numbers, numbers, strict=True)))
        results = result if isinstance(result, tuple) else (result,)
        return tuple(expressions.scaled(values[count], each) for each in results) if self._is_slope else results

    def expression(self, signature: tuple[Type, ...]) -> Expression:
        """Returns the Expression of the formula for some argument types."""
        raise NotImplementedError

    def takes_numbers(self, found: tuple[Type, ...]) -> bool:
        """True if the last arguments are numbers."""
        return all(isinstance(kind, np.dtype) for kind in found[len(self.arrays) + len(self.others) :])

    def refuse(self, what: str, found: tuple[Type, ...]) -> TypeError:
        """Returns the error for arguments that the kernel does not take."""
        return TypeError(f"the kernel {named(self)} takes {what}; received {signature_string(found)}")

    def identified(self, signature: tuple[Type, ...]) -> tuple[Callable, str]:
        """Returns what names the code for a signature on disk: a function, and a string with the types and the formula."""
        return self._origin, f"{signature_string(signature)} {self.expression(signature)}"

    def _compiled(self, signature: tuple[Type, ...]) -> tuple[bytes, bool]:
        """Returns a new object file, and True if other processes can use it."""
        machine = code.compiler(self.py_func, signature).target_machine()
        return machine.emit_object(_optimized(machine, self.emitter(self, signature).module)), True

    @property
    def _origin(self) -> Callable:
        """Returns a function that names the code on disk: its file is the emitter's, and its name is the kernel's."""
        origin = python_types.FunctionType(self.emitter.emit.__code__, {}, self.__name__)
        origin.__module__, origin.__qualname__ = self.__module__, self.__name__
        return origin


def is_flat(kind: Type) -> bool:
    """True if an argument is a contiguous array with one axis."""
    return isinstance(kind, ArrayType) and kind.contiguous and kind.ndim == 1


def _declared(name: str, module: str, formula: Callable, parameters: tuple[str, ...]) -> Callable:
    """Returns a function for messages, with the kernel's name and parameters, in the formula's file."""
    declared = python_types.FunctionType(formula.__code__, formula.__globals__, name, None, formula.__closure__)
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


class Emitter:
    """Writes a kernel's entry, `int64 entry(frame, share, shares)`, as LLVM code.

    Attributes:
        expression: The Expression of the kernel's formula.
        dtype, real: The type of the arrays' elements in NumPy and in LLVM.
        known: The computed form of each Value: a Vector. It does not contain array inputs.
    """

    def __init__(self, kernel: FormulaKernel, signature: tuple[Type, ...]):
        self.kernel, self.expression = kernel, kernel.expression(signature)
        self.word, self.double = ir.IntType(64), ir.DoubleType()
        self.dtype = signature[0].dtype  # type: ignore[union-attr]
        self.real = ir.FloatType() if self.dtype == np.float32 else self.double
        self.module = ir.Module(kernel.__name__)
        kind = ir.FunctionType(self.word, [ir.IntType(8).as_pointer(), self.word, self.word])
        function = ir.Function(self.module, kind, cache.ENTRY)
        self.builder = b = ir.IRBuilder(function.append_basic_block())
        self.instructions = Instructions(b, self.real)
        frame, share, shares = function.args
        self._frame, self._next_slot = b.bitcast(frame, self.word.as_pointer()), 0
        self.known: dict[Value, Any] = {}
        self.emit(signature, share, shares)
        b.ret(self.integer(0))

    def emit(self, signature: tuple[Type, ...], share: Any, shares: Any) -> None:
        """Writes the body."""
        raise NotImplementedError

    def integer(self, number: int) -> Any:
        return ir.Constant(self.word, number)

    # The slots of the frame

    def slot(self) -> Any:
        """Reads the next slot of the frame as an int64."""
        self._next_slot += 1
        return self.builder.load(self.builder.gep(self._frame, [self.integer(self._next_slot - 1)]))

    def pointer(self, kind: Any) -> Any:
        """Reads the next slot of the frame as an address."""
        return self.builder.inttoptr(self.slot(), kind.as_pointer())

    def cell(self, dtype: np.dtype) -> Vector:
        """Reads a one-element array; returns its element as a float64."""
        kind = ir.IntType(8 * dtype.itemsize) if dtype.kind == "i" else self._float(dtype.itemsize)
        value = self.builder.load(self.pointer(kind))
        self.slot()  # the array's size
        return self._as_double(value, dtype.kind == "i")

    def number(self, dtype: np.dtype) -> Vector:
        """Reads a number; returns it as a float64."""
        value = self.slot()
        if dtype.kind == "f":
            value = self.builder.trunc(value, ir.IntType(32)) if dtype.itemsize == 4 else value
            value = self.builder.bitcast(value, self._float(dtype.itemsize))
        return self._as_double(value, dtype.kind != "f")

    def _float(self, size: int) -> Any:
        return ir.FloatType() if size == 4 else self.double

    def _as_double(self, value: Any, is_integer: bool) -> Vector:
        if is_integer:
            value = self.builder.sitofp(value, self.double)
        elif value.type != self.double:
            value = self.builder.fpext(value, self.double)
        return Vector(self.builder, value)

    # Operations

    def compute(self, values: Iterable[Value], known: dict[Value, Any]) -> None:
        """Computes Values and adds them to `known`."""
        for value in values:
            if value not in known:
                operands = [known[each] if isinstance(each, Value) else each for each in value.operands]
                known[value] = self.instructions.compute(value, operands)

    def compute_uniform(self) -> None:
        """Computes the Values that are the same for all elements; the numbers must be known."""
        inputs = len(self.expression.kinds)
        self.compute((value for value in self.expression.values[inputs:] if value.level == UNIFORM), self.known)

    def calls_library(self, values: Iterable[Value]) -> bool:
        """True if the elements need functions of the C library, which take one number at a time."""
        functions = {*SCALAR, *(OF_LIBRARY_IN_FLOAT64 if self.real == self.double else ())}
        return any(value.level == OF_ELEMENT and value.op in functions for value in values)

    def spread(self, x: Vector, lanes: int) -> Vector:
        """Returns a vector with a number (in the arrays' dtype) or a condition in all lanes."""
        x = self.instructions.converted(x, self.real)
        return x if lanes == 1 else x.new(llvm.spread(self.builder, x.value, lanes))

    # Memory

    def place(self, pointer: Any, i: Any, lanes: int) -> Any:
        """Returns the address of the elements from `i` on, as a pointer to a vector."""
        kind = ir.VectorType(self.real, lanes) if lanes > 1 else self.real
        return self.builder.bitcast(self.builder.gep(pointer, [i]), kind.as_pointer())

    def load(self, pointer: Any, i: Any, lanes: int) -> Vector:
        return Vector(self.builder, self.builder.load(self.place(pointer, i, lanes), align=self.dtype.itemsize))

    def store(self, value: Vector, pointer: Any, i: Any, lanes: int) -> None:
        self.builder.store(value.value, self.place(pointer, i, lanes), align=self.dtype.itemsize)


class Instructions:
    """Writes the operations of a formula for numbers or vectors. real: LLVM's type of the arrays' elements."""

    def __init__(self, builder: Any, real: Any):
        self.builder, self.real, self.double = builder, real, ir.DoubleType()

    def compute(self, value: Value, operands: list) -> Vector:
        """Returns the result of an operation. Its operands are Vectors and literals."""
        if value.op == "tiny":
            dtype = np.float64 if self.real == self.double else np.float32
            return Vector(self.builder, ir.Constant(self.real, float(np.finfo(dtype).tiny)))
        kind = self.real if value.is_real or value.level else self.double
        some = next(each for each in operands if isinstance(each, Vector))
        like = Vector(self.builder, ir.Constant(some.like(kind), ir.Undefined))
        operands = [
            self.converted(each, kind) if isinstance(each, Vector) else like.new(float(each)) for each in operands
        ]
        return OPERATIONS[value.op].emit(*operands)

    def converted(self, x: Vector, kind: Any) -> Vector:
        """Converts a number to another type; a condition stays one."""
        if x.element == kind or not x.is_float:
            return x
        convert = self.builder.fptrunc if kind == ir.FloatType() else self.builder.fpext
        return x.new(convert(x.value, x.like(kind)))


def inlined(formula: Callable) -> Any:
    """Makes a function for other compiled loops from a formula with only element parameters; it takes numbers of one dtype."""
    count = formula.__code__.co_argcount

    def called(typing, *args):
        if len(args) != count or len(set(args)) != 1 or args[0] not in (types.float32, types.float64):
            return None
        expression = expressions.trace(formula, [ELEMENT] * count)
        several = len(expression.results) > 1
        result = types.UniTuple(args[0], len(expression.results)) if several else args[0]

        def generate(context, builder, signature, values):
            instructions = Instructions(builder, values[0].type)
            found = expression.computed([Vector(builder, value) for value in values], instructions.compute)
            numbers = [each.value for each in found]
            return context.make_tuple(builder, signature.return_type, numbers) if several else numbers[0]

        return result(*args), generate

    names = ("typing", *formula.__code__.co_varnames[:count])
    called.__signature__ = _signature(names)  # type: ignore[attr-defined]  # Numba reads the number of arguments from it
    called.__name__, called.__doc__ = formula.__name__, formula.__doc__
    return intrinsic(called)
