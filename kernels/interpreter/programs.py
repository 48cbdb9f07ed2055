"""Translates launches of NumPy's loops to programs for the interpreter (emitter.py), on the CPU.

`parts_of(function, args)` returns the programs that a native loop runs instead of function(*args), or None if the interpreter
cannot do it.
"""

import ctypes
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nbkeras.kernels.interpreter.chains import Chain, operation
from nbkeras.kernels.interpreter.instruction_set import (
    CASTS,
    COPIED,
    DEEPEST,
    ELEMENTWISE,
    FLOATS,
    FOLDS,
    LANES,
    OPCODES,
    REGISTER,
    SCRATCH,
    SPLAT,
    TILE,
    WORDS,
)
from nbkeras.kernels.loops.operations import COMPARISONS
from nbkeras.kernels.runtime.device_array import address_of

Array = np.ndarray
_BLOCK, _PLAIN_BLOCK = 1024, 8192  # max elements of a block, with registers and without
_MINIMUM = 64  # minimum elements of a block
_CACHE = 16384  # bytes of a block, over all arrays and registers
_FOLDED = 1024  # elements of a row that are combined in one piece
_ROWS = 128  # rows that a task sums in sequence
_SHARE = 65536  # minimum work of a share: elements times the cost of their instructions
_MAX_SHARES = 32
_COSTS = {"exp": 8, "expm1": 12, "log": 8, "log1p": 10, "divide": 2, "sqrt": 2}  # other instructions cost 1
_SMALL = {"u1", "i1", "u2", "i2", "u4", "b1"}  # dtypes that are computed in int64
_OF_BOOLEANS = {"add": "logical_or", "maximum": "logical_or", "multiply": "logical_and", "minimum": "logical_and"}
_LOGICAL = {"logical_and", "logical_or", "logical_xor", "logical_not"}
_MAX_CALLS = 4096
CALLED = {
    name: name
    for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp2", "log2", "log10", "cbrt", "hypot", "fmod")
}
CALLED |= {"power": "pow", "arctan2": "atan2", "fmax": "fmax", "fmin": "fmin", "arctan": "atan", "arcsin": "asin"}
CALLED |= {"arccos": "acos", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh"}
_BOOLEANS = (*_LOGICAL, *COMPARISONS, "isnan", "isinf", "isfinite")
# the ops of chains: ops on floats, and ops with boolean results
NAMES = {"copy", "select", "clip", "fold", *(name for name, each in ELEMENTWISE.items() if FLOATS[0] in each.dtypes)}
NAMES |= {f"{name}?" for name in _BOOLEANS}


class ProgramRow(NamedTuple):
    """A program: the interpreter runs a frame, in shares.

    addresses: (index of a word of the code, the array whose address it holds). They keep the arrays alive.
    """

    frame: Array
    shares: int
    code: Array
    addresses: list[tuple[int, Array]]


class _UnknownError(Exception):
    """The interpreter cannot run the launch."""


def _code(dtype: Any) -> str:
    """Returns the interpreter's name of a dtype. It can only copy dtypes that it does not know."""
    dtype = np.dtype(dtype)
    if not dtype.isnative or dtype.kind not in "fiub":
        raise _UnknownError
    return dtype.str[1:]


def _joined(sizes: tuple, strides: tuple) -> tuple[tuple, tuple]:
    """Joins neighbouring axes where one continues the other; returns sizes and strides."""
    axes: list[tuple[int, int]] = []
    for n, stride in zip(sizes, strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] == stride * n:
            axes[-1] = axes[-1][0] * n, stride
        else:
            axes.append((n, stride))
    return tuple(zip(*axes, strict=True)) or ((1,), (0,))  # type: ignore[return-value]


class _Value:
    """A value of a program: an array in memory, or a register that `part` chooses."""

    def __init__(self, dtype: str, array: Array | None = None, step: int = REGISTER):
        self.dtype, self.array, self.step = dtype, array, step
        self.address = 0 if array is None else address_of(array)

    @property
    def size(self) -> int:
        return int(self.dtype[1])


class _Instruction:
    def __init__(self, name: str, out: _Value, values: tuple, information: int | Array = 0, period: int = 0):
        self.name, self.out, self.values, self.information = name, out, values, information
        self.period = period  # the read repeats after this many elements, so the prologue can do it


class InstructionProgram:
    """A program over arrays of `size` elements, which are numbered in C order of some shape."""

    def __init__(self, size: int):
        self._size = size
        self._body: list[_Instruction] = []
        self._epilogue: list[_Instruction] = []
        self._section = self._body
        self._numbers: dict[tuple, _Value] = {}
        self._task_words: tuple[
            int, ...
        ] = ()  # the frame's words from `tasks` on, if a reduction or a transpose set them

    def _add(self, name: str, dtype: str, *values: _Value, information: int | Array = 0, period: int = 0) -> _Value:
        out = _Value(dtype, step=SPLAT if period == 1 else REGISTER)
        self._section.append(_Instruction(name, out, values, information, period))
        return out

    # Values

    def number(self, value: Any, dtype: str) -> _Value:
        """Returns a constant as a value."""
        constant = np.asarray(value).astype(dtype)
        # in comparisons, NumPy accepts numbers that are too large
        if constant.dtype.kind in "iu" and constant != value:
            raise _UnknownError
        key = dtype, constant.tobytes()
        if key not in self._numbers:
            self._numbers[key] = self.at(dtype, constant, (max(self._size, 2),), (0,))
        return self._numbers[key]

    def at(self, dtype: str, array: Array, sizes: tuple, strides: tuple) -> _Value:
        """Returns elements from the start of an array on, as many as the program's size. strides: in bytes."""
        sizes, strides = _joined(sizes, strides)
        size = int(dtype[1])
        if strides == (size,) or sizes == (1,):
            return _Value(dtype, array, size)
        if len(sizes) > DEEPEST:
            raise _UnknownError
        period = 1 if strides == (0,) else math.prod(sizes[1:]) if strides[0] == 0 else 0
        source, table = _Value(dtype, array, 0), _words(len(sizes), *sizes, *strides)
        return self._add(f"load.{size}", dtype, source, information=table, period=period)

    def read(self, operand: Any, shape: tuple, order: tuple) -> _Value:
        """Reads an array, after it is broadcast to a shape and its axes are put in the given order."""
        array = np.broadcast_to(operand, shape).transpose(order)
        return self.at(_code(array.dtype), array, array.shape, array.strides)

    def _spread(self, value: _Value) -> _Value:
        """Returns a value with all elements, even if it was a single number."""
        return value if value.step != SPLAT else self._add(f"copy.{COPIED[value.size]}", value.dtype, value)

    def write(self, value: _Value, array: Array, order: tuple | None = None) -> None:
        """Stores a value, cast to the array's dtype."""
        value, size = self._spread(self.cast(value, _code(array.dtype))), array.itemsize
        array = array if order is None else array.transpose(order)
        sizes, strides = _joined(array.shape, array.strides)
        last = self._section[-1] if self._section else None
        if strides != (size,) and sizes != (1,):
            out = _Value(value.dtype, array, 0)
            table = _words(len(sizes), *sizes, *strides)
            self._section.append(_Instruction(f"store.{size}", out, (value,), table))
        elif last and last.out is value and not last.period and not last.name.startswith(("rows", "columns")):
            value.array, value.address, value.step = array, address_of(array), size
        else:
            copied = _Value(value.dtype, array, size)
            self._section.append(_Instruction(f"copy.{COPIED[size]}", copied, (value,)))

    def cast(self, value: _Value, dtype: str) -> _Value:
        source = "u1" if value.dtype == "b1" else value.dtype
        if value.dtype == dtype:
            return value
        if (source, dtype) in CASTS:
            return self._add(f"cast.{source}.{dtype}", dtype, value)
        if source != "i8" and (source, "i8") in CASTS:
            return self.cast(self.cast(value, "i8"), dtype)
        narrow = {"i1": "u1", "u2": "i2", "u4": "i4"}.get(dtype)  # the sign does not matter: the bits are the same
        if value.dtype == "i8" and narrow:
            return self._add(f"cast.i8.{narrow}", dtype, value)
        raise _UnknownError

    def compute(self, name: str, *values: _Value) -> _Value:
        """Computes an op of values of one dtype (a condition may be boolean). Small integers are computed in int64."""
        name = name.rstrip("?")
        if name in _COMPOSED:
            return _COMPOSED[name](self, *values)
        if name in _LOGICAL:
            values = tuple(self.cast(value, "b1") for value in values)
        dtype = values[-1].dtype
        if name in CALLED and dtype in FLOATS:
            return self._call(name, dtype, *values)
        if name in ("copy", "select") or (name.startswith("bitwise") and dtype not in FLOATS):
            kind = COPIED[values[-1].size]
            return self._add(f"{name}.{kind}", dtype, *values)
        if dtype == "b1":
            name = _OF_BOOLEANS.get(name, name)
        each = ELEMENTWISE.get(name)
        if each is None:
            raise _UnknownError
        if dtype in each.dtypes:
            return self._add(f"{name}.{dtype}", each.kinds_of(dtype)[0], *values)
        compares = name in COMPARISONS
        if dtype not in _SMALL or "i8" not in each.dtypes or (dtype == "b1" and not compares):
            raise _UnknownError
        result = self.compute(name, *(self.cast(value, "i8") for value in values))
        return result if compares else self.cast(result, dtype)

    def _call(self, name: str, dtype: str, *values: _Value) -> _Value:
        """Calls a function of the C library, which is exact and slow, for a few numbers."""
        if self._size > _MAX_CALLS:
            raise _UnknownError
        function = getattr(_c_library(), CALLED[name] + ("f" if dtype == "f4" else ""), None)
        if function is None:
            raise _UnknownError
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        return self._add(f"call.{dtype}", dtype, *map(self._spread, (*values, values[0])[:2]), information=address)

    def constant_like(self, value: _Value, number: Any) -> _Value:
        return self.number(number, value.dtype)

    # Reductions

    def fold_rows(self, name: str, value: _Value, rows: int, length: int) -> tuple[_Value, int]:
        """Combines the elements of each row, or of each piece of a long row. Also returns the number of pieces per row."""
        places: tuple[int, ...]
        if length <= _FOLDED:
            several, pieces = max(1, min(_BLOCK // length, rows)), 1
            places = (-(-rows // several), -(-rows // several), 0, several * length, several * length, rows * length)
            places += (0, several, several, rows)
        else:
            several, pieces = 0, -(-length // _FOLDED)
            places = (rows * pieces, pieces, length, _FOLDED, _FOLDED, length, pieces, 1, 1, rows * pieces)
        self._task_words, value = places, self._spread(value)
        out = self._add(f"rows.{name}.{value.dtype}", value.dtype, value, information=min(length, _FOLDED))
        self._section = self._epilogue
        return out, pieces

    def fold_columns(self, name: str, value: _Value, shape: tuple) -> tuple[_Value, int]:
        """Combines the rows of (matrices, rows, columns) in chunks. Also returns the number of chunks."""
        matrices, rows, columns = shape
        chunks, width = -(-rows // _ROWS), min(columns, _BLOCK)
        across = -(-columns // width)
        places = (matrices * chunks * across, across, columns, width, width, columns)
        self._task_words = (*places, *places[2:])
        step = columns * value.size
        table = _words(rows, chunks, step, rows * step, width, across)
        out = self._add(f"columns.{name}.{value.dtype}", value.dtype, value, information=table)
        self._section = self._epilogue
        return out, chunks

    def transpose(self, value: _Value, sizes: tuple, strides: tuple, out: Array) -> None:
        """Copies an array that is contiguous along its second-to-last axis to another one, in C order."""
        tile, (rows, length) = TILE[value.size], sizes[-2:]
        strips, matrices = -(-rows // tile), math.prod(sizes[:-2])
        step = tile * length
        places = (matrices * strips, strips, rows * length, step, step, rows * length, 0, 0, 0, 1)
        self._task_words = places
        table = _words(len(sizes), *sizes, *strides)
        target = _Value(value.dtype, out, value.size)
        self._body.append(_Instruction(f"transpose.{value.size}", target, (value,), table))

    # The end

    def part(self) -> ProgramRow:
        """Returns the finished program."""
        prologue = [i for i in self._body if i.period == 1 or (i.period and not self._task_words)]
        block = self._choose_registers(prologue)
        period = math.lcm(*(i.period for i in prologue))
        if period > block // 2 and self._size > block:  # too large for the prologue, so read them for each block
            prologue, period = [i for i in prologue if i.period == 1], 1
            block = self._choose_registers(prologue)
        block = block // period * period if self._size > block else self._size
        tasks = -(-self._size // max(block, 1))
        places = self._task_words or (tasks, max(tasks, 1), 0, block, block, max(self._size, 1), 0, 0, 0, 1)
        body = [i for i in self._body if i not in prologue]
        instructions = (*prologue, *body, *self._epilogue)
        code = np.array([_row(i) for i in instructions], np.int64)
        addresses = [(WORDS * i + word, x) for i, each in enumerate(instructions) for word, x in _addresses(each)]
        frame = (0, address_of(code), len(prologue), len(body), len(self._epilogue), *places)
        work = self._size * sum(_COSTS.get(i.name.partition(".")[0], 1) for i in body)
        shares = max(1, min(_MAX_SHARES, work // _SHARE, places[0]))
        return ProgramRow(np.array(frame, np.int64), shares, code, addresses)

    def _choose_registers(self, prologue: list) -> int:
        """Puts the values that are in no array into registers, and chooses the size of a block.

        Free registers are reused, except those that the prologue fills.
        """
        rest = [i for i in (*self._body, *self._epilogue) if i not in prologue]
        last = {id(value): number for number, each in enumerate(rest) for value in (each.out, *each.values)}
        used = {id(value): value for i in (*prologue, *rest) for value in (i.out, *i.values)}.values()
        kept = {id(i.out) for i in prologue}
        splats = [value for value in used if value.step == SPLAT]
        numbers: dict[int, int] = {}  # a value's register
        free: list[int] = []
        count = 0
        for number, each in [(-1, each) for each in prologue] + list(enumerate(rest)):
            if each.out.step == REGISTER:
                numbers[id(each.out)] = free.pop() if free else count
                count += numbers[id(each.out)] == count
            for key in {id(value) for value in (each.out, *each.values) if value.step == REGISTER} - kept:
                if last[key] == number:
                    free.append(numbers[key])
        arrays = {value.address for value in used if value.step > 0}
        width = max((value.size for value in used if value.step != SPLAT), default=1)
        block = _PLAIN_BLOCK
        if self._task_words:
            block = max(self._task_words[4], self._task_words[8])
        elif count:
            block = min(_BLOCK, max(_CACHE // (width * (count + len(arrays))), _MINIMUM) // LANES * LANES)
        # not a multiple of 4096, because addresses at such distances share cache sets
        stride = -(-block * width // 64) * 64 + 64
        first = len(splats) * LANES * 8
        if count and first + count * stride > SCRATCH:
            raise _UnknownError
        for i, value in enumerate(splats):
            value.address = i * LANES * 8
        for value in used:
            if value.step == REGISTER:
                value.address = first + numbers[id(value)] * stride
        return block


def _words(*numbers: int) -> Array:
    """Returns a table that an instruction reads."""
    return np.array(numbers, np.int64)


def _addresses(instruction: _Instruction) -> Iterator[tuple[int, Array]]:
    """Yields (index of a word of the instruction, the array whose address it holds)."""
    if isinstance(instruction.information, Array):
        yield 1, instruction.information
    for number, value in enumerate((instruction.out, *instruction.values), 1):
        if value.array is not None:
            yield 2 * number, value.array


def _row(instruction: _Instruction) -> list[int]:
    """Returns the words of an instruction."""
    name, values = instruction.name, (instruction.out, *instruction.values)
    information = instruction.information
    if isinstance(information, Array):
        information = address_of(information)
    if name.partition(".")[0] in ELEMENTWISE or name.startswith("cast"):
        information = sum(value.size << 8 * i for i, value in enumerate(values))
    row = [OPCODES[name], information]
    for value in values:
        row += [value.address, value.step]
    return row + [0] * (WORDS - len(row))


def _infinite(program: InstructionProgram, x: _Value, name: str) -> _Value:
    if x.dtype not in FLOATS:
        raise _UnknownError
    return program.compute(name, program.compute("absolute", x), program.constant_like(x, np.inf))


_COMPOSED: dict[str, Callable[..., _Value]] = {
    "isnan": lambda program, x: program.compute("not_equal", x, x),
    "isinf": lambda program, x: _infinite(program, x, "equal"),
    "isfinite": lambda program, x: _infinite(program, x, "less"),
    "clip": lambda program, x, low, high: program.compute("minimum", program.compute("maximum", x, low), high),
    "ratio": lambda program, x, y: program.compute(
        "select",
        program.compute("not_equal", y, program.constant_like(y, 0)),
        program.compute("divide", x, y),
        program.constant_like(y, 0),
    ),
    "keep_finite": lambda program, x: program.compute(
        "select", program.compute("isfinite", x), x, program.constant_like(x, 0)
    ),
}


# -------------------- launches --------------------


def _order(array: Array) -> tuple[int, ...]:
    """Returns the axes of an array, from the largest to the smallest stride."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def _check_overlap(out: Array, *inputs: Any) -> None:
    """Rejects an output that partly overlaps an input, because NumPy copies the input first. The output may equal an input."""
    for x in inputs:
        if isinstance(x, Array) and np.may_share_memory(x, out):
            same = (x.shape, x.strides, address_of(x)) == (out.shape, out.strides, address_of(out))
            try:
                if not same and np.shares_memory(x, out, max_work=10_000):  # type: ignore[arg-type]
                    raise _UnknownError
            except np.exceptions.TooHardError:
                raise _UnknownError from None


def _elementwise(name: str, dtypes: tuple, operands: tuple, out: Array) -> list[ProgramRow]:
    """Translates an op. dtypes: the dtypes to convert the operands to."""
    _check_overlap(out, *operands)
    order, program = _order(out), InstructionProgram(out.size)
    values = []
    for operand, dtype in zip(operands, dtypes, strict=True):
        if isinstance(operand, Array):
            values.append(program.cast(program.read(operand, out.shape, order), _code(dtype)))
        else:
            values.append(program.number(operand, _code(dtype)))
    program.write(program.compute(name, *values), out, order)
    return [program.part()]


def _copied(source: Array, target: Array) -> list[ProgramRow]:
    _check_overlap(target, source)
    source = np.broadcast_to(source, target.shape)
    order, size = _order(target), target.itemsize
    program = InstructionProgram(target.size)
    if source.dtype == target.dtype and size in COPIED:  # a copy, of any dtype
        source, target = source.view(COPIED[size]), target.view(COPIED[size])
        turned = source.transpose(order)
        sizes, strides = _joined(turned.shape, turned.strides)
        if size in TILE and strides[-2:-1] == (size,) and len(sizes) <= DEEPEST:
            if _joined(turned.shape, target.transpose(order).strides)[1] == (size,):
                program.transpose(_Value(COPIED[size], source, 0), sizes, strides, target)
                return [program.part()]
    program.write(program.read(source, target.shape, order), target, order)
    return [program.part()]


def _folded(x: Array, name: str, axes: tuple[int, ...], out: Array) -> list[ProgramRow]:
    """Translates a reduction. Small integers are combined in int64."""
    if not x.size or not out.flags.c_contiguous or np.may_share_memory(x, out):
        raise _UnknownError
    dtype = _code(out.dtype)
    if dtype == "b1":
        name = _OF_BOOLEANS.get(name, name)
    wide = "i8" if dtype in _SMALL and name not in _LOGICAL else "b1" if name in _LOGICAL else dtype
    if wide not in FOLDS.get(name, ()):
        raise _UnknownError
    long = [axis for axis in range(x.ndim) if x.shape[axis] != 1]
    groups = [  # runs of axes that are all kept, or all reduced
        (reduced, math.prod(x.shape[axis] for axis in run))
        for reduced, run in itertools.groupby(long, axes.__contains__)
    ]
    if 2 <= len(groups) <= 3 and not groups[-1][0]:
        sizes = [n for _, n in groups]
        return _columns(x, name, wide, (1, *sizes)[-3:], out)
    order = (*(i for i in range(x.ndim) if i not in axes), *axes)
    return _rows(x.transpose(order), name, wide, out.size, out)


def _rows(x: Array, name: str, dtype: str, rows: int, out: Array) -> list[ProgramRow]:
    """Combines the elements of each row of an array, in several steps if the rows are long."""
    program = InstructionProgram(x.size)
    value = program.cast(program.read(x, x.shape, tuple(range(x.ndim))), dtype)
    return _rows_of(program, value, name, rows, x.size // rows, out)


def _rows_of(
    program: InstructionProgram, value: _Value, name: str, rows: int, length: int, out: Array
) -> list[ProgramRow]:
    """Ends a program by combining the rows of a value; returns the program and those after it."""
    value, pieces = program.fold_rows(name, value, rows, length)
    if pieces == 1:
        program.write(value, out)
        return [program.part()]
    partial = np.empty((rows, pieces), value.dtype)
    program.write(value, partial)
    return [program.part(), *_rows(partial, name, value.dtype, rows, out)]


def _columns(x: Array, name: str, dtype: str, shape: tuple, out: Array) -> list[ProgramRow]:
    """Combines the rows of (matrices, rows, columns), in several steps if there are many."""
    if _code(x.dtype) != dtype or not x.flags.c_contiguous:
        copy = np.empty(x.shape, dtype)
        return [*_copied(x, copy), *_columns(copy, name, dtype, shape, out)]
    program = InstructionProgram(x.size)
    value, chunks = program.fold_columns(name, _Value(dtype, x, 0), shape)
    if chunks == 1:
        program.write(value, out)
        return [program.part()]
    partial = np.empty((shape[0], chunks, shape[2]), dtype)
    program.write(value, partial)
    return [program.part(), *_columns(partial, name, dtype, partial.shape, out)]


def _chained(chain: Chain, args: tuple) -> list[ProgramRow]:
    """Translates a chain, in two parts if its reduction needs longer blocks than its registers allow."""
    try:
        return _fused(chain, args)
    except _UnknownError:
        if chain.fold is None:
            raise
        *others, out = args
        name, number, length = chain.fold
        if number in chain.stored:
            value = others[len(chain.kinds) + chain.stored.index(number)].reshape(-1, length)
        else:
            value = np.empty((out.size, length), chain.dtype)
            others, chain = [*others, value], chain._replace(stored=(*chain.stored, number))
        computed = _fused(chain._replace(fold=None), tuple(others))
        return [*computed, *_rows(value, name, _code(chain.dtype), out.size, out)]


def _fused(chain: Chain, args: tuple) -> list[ProgramRow]:
    inputs, outputs = args[: len(chain.kinds)], args[len(chain.kinds) :]
    size, dtype = outputs[-1].size * (chain.fold[2] if chain.fold else 1), _code(chain.dtype)
    program = InstructionProgram(size)
    values: list[_Value] = []
    for kind, x in zip(chain.kinds, inputs, strict=True):
        if kind == "n":
            values.append(program.number(x, dtype))
            continue
        step, n = x.itemsize, x.size
        layouts = {"s": ((max(size, 2),), (0,)), "v": ((size // n, n), (0, step)), "r": ((n, size // n), (step, 0))}
        values.append(program.at(_code(x.dtype), x, *layouts.get(kind, ((size,), (step,)))))
    targets = dict(zip(chain.stored, outputs, strict=False))
    for number, (name, operands) in enumerate(chain.ops, len(inputs)):
        value = program.compute(name, *(values[i] for i in operands))
        if not name.endswith("?"):
            value = program.cast(value, dtype)  # a comparison that is stored as floats
        values.append(value)
        if number in targets:
            program.write(value, targets[number].reshape(-1))
    if chain.fold:
        name, number, length = chain.fold
        return _rows_of(program, values[number], name, outputs[-1].size, length, outputs[-1])
    return [program.part()]


def _parts(function: Callable, args: tuple) -> list[ProgramRow]:
    if hasattr(function, "chain"):
        return _chained(function.chain, args)
    if hasattr(function, "steps"):
        return [part for each, *rest in function.steps(*args) for part in _parts(each, tuple(rest))]
    name = operation(function)
    if name == "copy":
        return _copied(*args)
    if name == "fill":
        target, value = args
        program = InstructionProgram(target.size)
        program.write(program.number(value, _code(target.dtype)), target, _order(target))
        return [program.part()]
    if name == "fold":
        x, ufunc, axes, out = args
        return _folded(x, ufunc.__name__, axes, out)
    if name == "transpose":
        matrices, out = args
        return _copied(matrices.transpose(0, 2, 1), out)
    if isinstance(function, np.ufunc):
        if function.nout != 1 or len(args) != function.nin + 1:
            raise _UnknownError
        given = tuple(arg.dtype if isinstance(arg, np.ndarray | np.generic) else type(arg) for arg in args)
        dtypes = function.resolve_dtypes(given)[:-1]
    elif name:
        condition = (np.dtype(np.bool_),) if name == "select" else ()
        numbers = args[len(condition) : -1]
        dtype = next((x.dtype for x in numbers if isinstance(x, Array)), args[-1].dtype)
        dtypes = (*condition, *[dtype] * len(numbers))
        if any(isinstance(x, Array) and x.dtype != dtype for x, dtype in zip(args, dtypes, strict=False)):
            raise _UnknownError
    else:
        raise _UnknownError
    return _elementwise(name, dtypes, args[:-1], args[-1])


def parts_of(function: Callable, args: tuple) -> list[ProgramRow] | None:
    """Returns the parts of a native program that compute function(*args) in order; None if the interpreter cannot."""
    try:
        return [part for part in _parts(function, args) if part.frame[5]]  # a part for arrays of size 0 has no tasks
    except (_UnknownError, TypeError, ValueError):  # NumPy then reports what is wrong with the arguments
        return None


def linked(parts: list[ProgramRow]) -> list[ProgramRow]:
    """Returns the parts with consecutive parts of one share joined. The caller keeps the old parts, but must not run them."""
    result: list[ProgramRow] = []
    for before, part in zip([None, *parts], parts, strict=False):
        if before is not None and before.shares == part.shares == 1:
            before.frame[0] = address_of(part.frame)
        else:
            result.append(part)
    return result


@functools.cache
def _c_library() -> ctypes.CDLL:
    # None is this process, which has loaded the C library
    return ctypes.CDLL(None if os.name == "posix" else "ucrtbase")
