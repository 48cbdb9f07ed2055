"""A compiled function, `nbkeras_interpret`, that runs programs of NumPy-like instructions over blocks of numbers.

A step launches many of NumPy's loops: sums, copies, casts, counters. Here each of them is a short program that a native loop can
run. A chain of them is a single program that reads and writes each array once. An instruction processes a whole block (about
1,000 numbers, which stay in the first-level cache), so dispatch costs little. instruction_set.py defines the instructions and the
format of programs; programs.py writes programs.

int64 nbkeras_interpret(int8 *frame, int64 share, int64 shares) returns 0. llvmlite is imported only to compile it.
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

from nbkeras.kernels.interpreter.instruction_set import (
    CASTS,
    COPIED,
    DEEPEST,
    ELEMENTWISE,
    ELEMENTWISE_CODES,
    FLOATS,
    FRAME,
    LANES,
    OPCODES,
    OTHER_CODES,
    REGISTER,
    SCRATCH,
    SPLAT,
    TILE,
    WORDS,
)
from nbkeras.kernels.loops import llvm
from nbkeras.kernels.loops.llvm import FLAGS, Vector
from nbkeras.kernels.loops.operations import CURVES, format_of
from nbkeras.kernels.runtime import code
from nbkeras.kernels.runtime.lazy import binding, ir

SYMBOL = "nbkeras_interpret"


class _Emitter:
    """Writes the function as LLVM code."""

    def __init__(self) -> None:
        self.word = ir.IntType(64)
        self.bytes = ir.IntType(8).as_pointer()
        integers = {f"{sign}{size}": ir.IntType(8 * size) for sign in "iu" for size in COPIED}
        self.types = {**integers, "f4": ir.FloatType(), "f8": ir.DoubleType(), "b1": ir.IntType(8)}
        self.module = ir.Module(SYMBOL)
        self.builder: Any = None

    # The structure of functions

    def constant(self, value: int) -> Any:
        return ir.Constant(self.word, value)

    def vector(self, kind: str, lanes: int = LANES) -> Any:
        return ir.VectorType(self.types[kind], lanes) if lanes > 1 else self.types[kind]

    def function(self, name: str, pointers: int, words: int) -> Any:
        """Begins an internal function; returns its arguments."""
        kind = ir.FunctionType(ir.VoidType(), [self.bytes] * pointers + [self.word] * words)
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        return function.args

    def loop(self, stop: Any, start: Any = None, step: int = 1) -> contextlib.AbstractContextManager:
        """Emits `for i in range(start, stop, step)` for whole steps; see `llvm.counting`."""
        return llvm.counting(self.builder, self.constant(0) if start is None else start, stop, step)

    @contextlib.contextmanager
    def repeat(self, condition: Callable[[], Any]) -> Iterator[None]:
        """Emits `while condition(): ...`."""
        b = self.builder
        head, body, end = (b.append_basic_block(name) for name in ("head", "body", "end"))
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(condition(), body, end)
        b.position_at_end(body)
        yield
        b.branch(head)
        b.position_at_end(end)

    def variable(self, value: Any) -> Any:
        with self.builder.goto_entry_block():
            slot = self.builder.alloca(value.type)
        self.builder.store(value, slot)
        return slot

    def increase(self, slot: Any, by: Any) -> None:
        self.builder.store(self.builder.add(self.builder.load(slot), by), slot)

    def at(self, pointer: Any, offset: Any) -> Any:
        """Returns a pointer advanced by some bytes."""
        return self.builder.gep(pointer, [offset if isinstance(offset, ir.Value) else self.constant(offset)])

    def get(self, pointer: Any, offset: Any, kind: str, lanes: int = 1) -> Any:
        place = self.builder.bitcast(self.at(pointer, offset), self.vector(kind, lanes).as_pointer())
        return self.builder.load(place, align=1)

    def put(self, value: Any, pointer: Any, offset: Any) -> None:
        place = self.builder.bitcast(self.at(pointer, offset), value.type.as_pointer())
        self.builder.store(value, place, align=1)

    def times(self, index: Any, size: int) -> Any:
        return self.builder.mul(index, self.constant(size))

    def smaller(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)

    # Instructions

    def elementwise(self, name: str, kinds: tuple[str, ...], formula: Callable) -> Any:
        """Emits a function of: output, operands, the distance in bytes of each operand's vectors, the number of vectors."""
        out, *operands, step_0, step_1, step_2, count = self.function(name, 4, 4)
        flags = FLAGS if name.partition(".")[0] in CURVES else ()
        with self.loop(count) as i:
            values = [
                Vector(self.builder, self.get(pointer, self.builder.mul(i, step), kind, LANES), flags)
                for kind, pointer, step in zip(kinds[1:], operands, (step_0, step_1, step_2), strict=False)
            ]
            result = formula(*values)
            if result.element == ir.IntType(1):  # a condition becomes booleans
                result = result.new(self.builder.zext(result.value, self.vector("b1")))
            self.put(result.value, out, self.times(i, LANES * int(kinds[0][1])))
        return self.builder.ret_void()

    def cast(self, source: str, target: str, x: Vector) -> Vector:
        b, kind = self.builder, x.like(self.types[target])
        if target == "b1":
            return x.compare("!=", 0)
        if source in FLOATS and target in FLOATS:
            value = b.fpext(x.value, kind) if target == "f8" else b.fptrunc(x.value, kind)
        elif source in FLOATS:
            return self.whole(target, x)
        elif target in FLOATS:
            value = b.uitofp(x.value, kind) if source == "u1" else b.sitofp(x.value, kind)
        elif int(source[1]) < int(target[1]):
            value = b.sext(x.value, kind) if source[0] == "i" else b.zext(x.value, kind)
        else:
            value = b.trunc(x.value, kind)
        return x.new(value)

    def whole(self, target: str, x: Vector) -> Vector:
        """Truncates floats to integers. NaN becomes 0, a number out of range the nearest integer."""
        b, kind, size = self.builder, x.like(self.types[target]), 8 * int(target[1])
        signed = target[0] == "i"
        minimum, past = (-(2.0 ** (size - 1)), 2.0 ** (size - 1)) if signed else (0.0, 2.0**size)
        inside = x.where(">", minimum, x, minimum)  # also for NaN
        is_exact = size <= format_of(x).end  # whether past - 1 is a float too
        if is_exact:
            inside = inside.where("<", past - 1, inside, past - 1)
        y = x.new((b.fptosi if signed else b.fptoui)(inside.value, kind))
        if not is_exact:
            y = y.choose(x.compare(">=", past), (1 << (size - 1)) - 1 if signed else -1, y)
        return y.choose(x.compare("!=", x), 0, y) if signed else y

    def walk(self, information: Any, position: Any) -> tuple[Any, Any, Callable[[Any], Any], Callable[[Any], Any]]:
        """Emits the indices of a position in an array of several dimensions.

        information: the number of dimensions, sizes, strides. Returns indices and offset (variables), and size(k), stride(k).
        """
        b = self.builder
        dimensions = self.get(information, 0, "i8")

        def size(k: Any) -> Any:
            return self.get(information, self.times(b.add(k, self.constant(1)), 8), "i8")

        def stride(k: Any) -> Any:
            return self.get(information, self.times(b.add(b.add(k, dimensions), self.constant(1)), 8), "i8")

        with b.goto_entry_block():
            indices = b.alloca(self.word, DEEPEST)
        rest, offset = self.variable(position), self.variable(self.constant(0))
        k = self.variable(b.sub(dimensions, self.constant(1)))
        with self.repeat(lambda: b.icmp_signed(">", b.load(k), self.constant(0))):
            number, length = b.load(k), size(b.load(k))
            quotient = b.sdiv(b.load(rest), length)
            index = b.sub(b.load(rest), b.mul(quotient, length))
            b.store(index, b.gep(indices, [number]))
            self.increase(offset, b.mul(index, stride(number)))
            b.store(quotient, rest)
            self.increase(k, self.constant(-1))
        b.store(b.load(rest), b.gep(indices, [self.constant(0)]))
        self.increase(offset, b.mul(b.load(rest), stride(self.constant(0))))
        return indices, offset, size, stride

    def strided(self, name: str, bytes_: int, load: bool) -> None:
        """Emits reads or writes of a block of an array with any strides, run by run of its last dimension."""
        out, source, _, information, position, count, _ = self.function(name, 4, 3)
        b, kind, zero = self.builder, f"i{bytes_}", self.constant(0)
        indices, offset, size, stride = self.walk(information, position)
        last = b.sub(self.get(information, 0, "i8"), self.constant(1))
        length, step = size(last), stride(last)
        place = b.gep(indices, [last])
        done = self.variable(zero)
        with self.repeat(lambda: b.icmp_signed("<", b.load(done), count)):
            left = b.sub(count, b.load(done))
            run = b.select(b.icmp_signed("==", last, zero), left, self.smaller(b.sub(length, b.load(place)), left))
            near = self.at(out if load else source, self.times(b.load(done), bytes_))
            far = self.at(source if load else out, b.load(offset))
            one = self.constant(bytes_)

            def move(i: Any, lanes: int, far_offset: Any, near: Any = near, far: Any = far) -> None:
                here = self.times(i, bytes_)
                if load:
                    self.put(self.get(far, far_offset, kind, lanes), near, here)
                else:
                    self.put(self.get(near, here, kind, lanes), far, far_offset)

            with b.if_else(b.icmp_signed("==", step, one)) as (together, apart):
                with together:
                    with self.loop(run, step=LANES) as i:
                        move(i, LANES, self.times(i, bytes_))
                    with self.loop(run, i) as i:
                        move(i, 1, self.times(i, bytes_))
                with apart:
                    start = zero
                    if load:
                        value = self.get(far, 0, kind)
                        with b.if_else(b.icmp_signed("==", step, zero)) as (same, other):
                            with same:
                                with self.loop(run, step=LANES) as i:
                                    self.put(llvm.spread(b, value, LANES), near, self.times(i, bytes_))
                                began, same_end = i, b.block
                            with other:
                                other_end = b.block
                        start = b.phi(self.word)
                        start.add_incoming(began, same_end)
                        start.add_incoming(zero, other_end)
                    with self.loop(run, start) as i:
                        move(i, 1, b.mul(i, step))
            self.increase(done, run)
            self.increase(offset, b.mul(run, step))
            self.increase(place, run)
            k = self.variable(last)

            def full() -> Any:
                number = b.load(k)
                end = b.icmp_signed("==", b.load(b.gep(indices, [number])), size(number))
                return b.and_(b.icmp_signed(">", number, zero), end)

            with self.repeat(full):  # go to the next row, or the next matrix, ...
                number = b.load(k)
                self.increase(offset, b.neg(b.mul(size(number), stride(number))))
                b.store(zero, b.gep(indices, [number]))
                before = b.sub(number, self.constant(1))
                self.increase(b.gep(indices, [before]), self.constant(1))
                self.increase(offset, stride(before))
                b.store(before, k)
        b.ret_void()

    def shuffled(self, x: Any, y: Any, lanes: list[int]) -> Any:
        number = ir.IntType(32)
        return self.builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(number, len(lanes)), lanes))

    def transpose(self, name: str, bytes_: int) -> None:
        """Emits a copy of some rows (at most TILE) of an array whose second-to-last dimension is contiguous in memory."""
        out, source, _, information, position, count, _ = self.function(name, 4, 3)
        b, kind, tile = self.builder, f"i{bytes_}", TILE[bytes_]
        _, offset, size, stride = self.walk(information, position)
        last = b.sub(self.get(information, 0, "i8"), self.constant(1))
        length, step = size(last), stride(last)
        source, rows = self.at(source, b.load(offset)), b.sdiv(count, length)

        def piece(start: Any) -> None:
            with self.loop(length, start) as i, self.loop(rows) as row:
                value = self.get(source, b.add(b.mul(i, step), self.times(row, bytes_)), kind)
                self.put(value, out, self.times(b.add(b.mul(row, length), i), bytes_))

        with b.if_else(b.icmp_signed("==", rows, self.constant(tile))) as (whole, part):
            with whole:
                with self.loop(length, step=tile) as i:
                    columns = [
                        self.get(source, b.mul(b.add(i, self.constant(j)), step), kind, tile) for j in range(tile)
                    ]
                    low = [n // 2 + tile * (n % 2) for n in range(tile)]
                    for _ in range(tile.bit_length() - 1):
                        pairs = [(columns[j], columns[j + tile // 2]) for j in range(tile // 2)]
                        columns = [
                            self.shuffled(x, y, [n + high for n in low]) for x, y in pairs for high in (0, tile // 2)
                        ]
                    for j, row in enumerate(columns):
                        self.put(row, out, self.times(b.add(self.times(length, j), i), bytes_))
                piece(i)
            with part:
                piece(self.constant(0))
        b.ret_void()

    def call(self, name: str, dtype: str) -> None:
        """Emits out = f(operands) for a function of the C library, of one or two operands. information: its address."""
        out, x, y, information, _, count, _ = self.function(name, 4, 3)
        kind = self.types[dtype]
        function = self.builder.bitcast(information, ir.FunctionType(kind, [kind, kind]).as_pointer())
        with self.loop(count) as i:
            at = self.times(i, int(dtype[1]))
            self.put(self.builder.call(function, [self.get(x, at, dtype), self.get(y, at, dtype)]), out, at)
        self.builder.ret_void()

    # Reductions

    def _identity(self, name: str, dtype: str, lanes: int) -> Any:
        bits = 8 * int(dtype[1]) - 1
        extremes = (float("-inf"), float("inf")) if dtype in FLOATS else (-(1 << bits), (1 << bits) - 1)
        values = {"add": -0.0 if dtype in FLOATS else 0, "multiply": 1, "maximum": extremes[0], "minimum": extremes[1]}
        values |= {"logical_and": 1, "logical_or": 0}  # not 0, because 0 + -0 is 0, while -0 + x is always x
        return ir.Constant(self.vector(dtype, lanes), values[name])

    def _fold_into(self, total: Any, name: str, dtype: str, value: Any) -> None:
        b = self.builder
        b.store(self._folded(name, dtype, b.load(total), value), total)

    def _folded(self, name: str, dtype: str, x: Any, y: Any) -> Any:
        return ELEMENTWISE[name].formula(Vector(self.builder, x, ()), Vector(self.builder, y, ())).value

    def fold_rows(self, symbol: str, name: str, dtype: str) -> None:
        """Emits out[i] = the combined elements of row i. information: the length of a row, if there are several rows."""
        out, source, _, information, _, count, _ = self.function(symbol, 4, 3)
        b, size = self.builder, int(dtype[1])
        length = self.smaller(b.ptrtoint(information, self.word), count)
        with self.loop(b.sdiv(count, length)) as row:
            x = self.at(source, self.times(b.mul(row, length), size))
            total = self.variable(self._identity(name, dtype, 1))
            start = self.variable(self.constant(0))
            with b.if_then(b.icmp_signed(">=", length, self.constant(LANES))):
                parts = [self.variable(self._identity(name, dtype, LANES)) for _ in range(8)]
                with self.loop(length, step=8 * LANES) as i:
                    for j, part in enumerate(parts):
                        there = self.times(b.add(i, self.constant(j * LANES)), size)
                        self._fold_into(part, name, dtype, self.get(x, there, dtype, LANES))
                with self.loop(length, i, LANES) as i:
                    self._fold_into(parts[0], name, dtype, self.get(x, self.times(i, size), dtype, LANES))
                b.store(i, start)
                values = [b.load(part) for part in parts]
                while len(values) > 1:
                    values = [self._folded(name, dtype, *values[i : i + 2]) for i in range(0, len(values), 2)]
                value, half = values[0], LANES // 2
                while half:
                    ends = [self.shuffled(value, value, [first + i for i in range(half)]) for first in (0, half)]
                    value, half = self._folded(name, dtype, *ends), half // 2
                b.store(b.extract_element(value, ir.Constant(ir.IntType(32), 0)), total)
            with self.loop(length, b.load(start)) as i:
                self._fold_into(total, name, dtype, self.get(x, self.times(i, size), dtype))
            self.put(b.load(total), out, self.times(row, size))
        b.ret_void()

    def fold_columns(self, symbol: str, name: str, dtype: str) -> None:
        """Emits out[k] = the combination of a chunk of rows.

        information: rows, chunks of them, bytes between rows, bytes between matrices, columns per task, tasks per chunk. The
        task's number determines matrix, chunk and columns.
        """
        out, source, _, information, _, count, task = self.function(symbol, 4, 3)
        b, size = self.builder, int(dtype[1])
        rows, chunks, step, matrix, width, tasks = (self.get(information, 8 * i, "i8") for i in range(6))
        number, column = b.sdiv(task, tasks), b.srem(task, tasks)
        chunk = b.srem(number, chunks)
        first = b.sdiv(b.mul(rows, chunk), chunks)
        last = b.sdiv(b.mul(rows, b.add(chunk, self.constant(1))), chunks)
        x = self.at(source, b.mul(b.sdiv(number, chunks), matrix))
        x = self.at(x, self.times(b.mul(column, width), size))
        zero = self.constant(0)

        def across(combine: Callable[[Any, Any, int], Any]) -> None:
            """Emits out[k] = combine(k, out[k]) by vectors, then by single elements."""
            start = zero
            for lanes in (LANES, 1):
                with self.loop(count, start, lanes) as k:
                    place = self.times(k, size)
                    self.put(combine(place, self.get(out, place, dtype, lanes), lanes), out, place)
                start = k

        across(lambda place, total, lanes: self._identity(name, dtype, lanes))
        for together in (4, 1):
            with self.loop(last, first, together) as row:
                starts = [self.at(x, b.mul(b.add(row, self.constant(i)), step)) for i in range(together)]

                def added(place: Any, total: Any, lanes: int, starts: list = starts) -> Any:
                    for start in starts:
                        total = self._folded(name, dtype, total, self.get(start, place, dtype, lanes))
                    return total

                across(added)
            first = row
        b.ret_void()

    # The function itself

    def dispatcher(self, name: str, opcodes: list[str], pointers: int, words: int) -> Any:
        """Emits a function that calls an instruction by number. It takes the number, then the instruction's arguments."""
        kind = ir.FunctionType(ir.VoidType(), [self.word] + [self.bytes] * pointers + [self.word] * words)
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        self.builder = b = ir.IRBuilder(function.append_basic_block("entry"))
        end = function.append_basic_block("end")
        choice = b.switch(function.args[0], end)
        for opcode in opcodes:
            block = function.append_basic_block(opcode)
            choice.add_case(self.constant(OPCODES[opcode]), block)
            b.position_at_end(block)
            b.call(self.module.globals[opcode], function.args[1:])
            b.ret_void()
        b.position_at_end(end)
        b.ret_void()
        return function

    def move_few(self) -> None:
        """Emits a copy of fewer than LANES * 8 bytes."""
        out, source, count = self.function("move_few", 2, 1)
        b, start = self.builder, self.constant(0)
        for size in (8, 1):
            with self.loop(count, start, size) as i:
                self.put(self.get(source, i, f"i{size}"), out, i)
            start = i
        b.ret_void()

    def instruction(self, vectors: Any, special: Any) -> Any:
        """Emits the function that runs an instruction. It takes its row, the scratch memory, position, count and task."""
        row, scratch, position, count, task = self.function("instruction", 2, 3)
        b, lanes = self.builder, self.constant(LANES)
        opcode, information = (self.get(row, 8 * i, "i8") for i in range(2))
        pointers, steps, sizes = [], [], []
        for i in range(4):
            address, step = (self.get(row, 8 * (2 * i + j + 2), "i8") for j in range(2))
            splat = b.icmp_signed("==", step, self.constant(SPLAT))
            inside = b.or_(splat, b.icmp_signed("==", step, self.constant(REGISTER)))
            memory = b.add(address, b.mul(position, step))
            address = b.select(inside, b.add(b.ptrtoint(scratch, self.word), address), memory)
            pointers.append(b.inttoptr(address, self.bytes))
            sizes.append(b.and_(b.lshr(information, self.constant(8 * i)), self.constant(255)))
            steps.append(b.select(splat, self.constant(0), b.mul(lanes, sizes[i])))
            if i == 0:
                count = b.select(splat, lanes, count)
        whole, rest = b.sdiv(count, lanes), b.srem(count, lanes)
        with b.if_else(b.icmp_signed("<", opcode, self.constant(len(ELEMENTWISE_CODES)))) as (simple, other):
            with simple:
                with b.if_then(b.icmp_signed(">", whole, self.constant(0))):
                    b.call(vectors, [opcode, *pointers, *steps[1:], whole])
                # the last few elements are copied to vectors
                with b.if_then(b.icmp_signed(">", rest, self.constant(0))):
                    with b.goto_entry_block():
                        copies = [b.alloca(self.types["u1"], LANES * 8) for _ in range(4)]
                    ends = [self.at(pointer, b.mul(whole, step)) for pointer, step in zip(pointers, steps, strict=True)]
                    move = self.module.globals["move_few"]
                    for copy, end, size in list(zip(copies, ends, sizes, strict=True))[1:]:
                        b.call(move, [copy, end, b.mul(rest, size)])
                    b.call(vectors, [opcode, *copies, *steps[1:], self.constant(1)])
                    b.call(move, [ends[0], copies[0], b.mul(rest, sizes[0])])
            with other:
                given = [*pointers[:3], b.inttoptr(information, self.bytes), position, count, task]
                b.call(special, [opcode, *given])
        b.ret_void()
        return self.module.globals["instruction"]

    def interpreter(self, instruction: Any) -> None:
        kind = ir.FunctionType(self.word, [self.bytes, self.word, self.word])
        function = ir.Function(self.module, kind, SYMBOL)
        self.builder = b = ir.IRBuilder(function.append_basic_block("entry"))
        first, share, shares = function.args
        scratch = b.alloca(self.types["u1"], SCRATCH)
        scratch.align = 64
        frame = self.variable(b.ptrtoint(first, self.word))

        def section(code: Any, begin: Any, end: Any, *where: Any) -> None:
            with self.loop(end, begin) as i:
                b.call(instruction, [self.at(code, self.times(i, 8 * WORDS)), scratch, *where])

        with self.repeat(lambda: b.icmp_signed("!=", b.load(frame), self.constant(0))):
            pointer = b.inttoptr(b.load(frame), self.bytes)
            slots = [self.get(pointer, 8 * i, "i8") for i in range(FRAME)]
            following, code, prologue, body, epilogue, tasks, inner, *places = slots
            code = b.inttoptr(code, self.bytes)
            ends = [prologue, b.add(prologue, body), b.add(b.add(prologue, body), epilogue)]
            section(code, self.constant(0), ends[0], self.constant(0), places[2], self.constant(0))
            last = b.sdiv(b.mul(tasks, b.add(share, self.constant(1))), shares)
            with self.loop(last, b.sdiv(b.mul(tasks, share), shares)) as task:
                number, index = b.sdiv(task, inner), b.srem(task, inner)
                for i in range(2):
                    outer_step, inner_step, maximum, end = places[4 * i : 4 * i + 4]
                    position = b.add(b.mul(number, outer_step), b.mul(index, inner_step))
                    limit = b.mul(b.add(b.sdiv(position, end), self.constant(1)), end)
                    section(code, ends[i], ends[i + 1], position, self.smaller(maximum, b.sub(limit, position)), task)
            b.store(following, frame)
        b.ret(self.constant(0))

    def emit(self, opcodes: Collection[str]) -> str:
        """Emits the function with some instructions; a program must have no others."""
        for name, each in ELEMENTWISE.items():
            for dtype in each.dtypes:
                if (opcode := f"{name}.{dtype}") in opcodes:
                    self.elementwise(opcode, each.kinds_of(dtype), each.formula)
        for source, target in CASTS:
            if (opcode := f"cast.{source}.{target}") in opcodes:
                self.elementwise(opcode, (target, source), functools.partial(self.cast, source, target))
        for opcode in OTHER_CODES:
            if opcode in opcodes:
                self.other(*opcode.split("."))
        self.move_few()
        vectors = self.dispatcher("vectors", [each for each in ELEMENTWISE_CODES if each in opcodes], 4, 4)
        special = self.dispatcher("special", [each for each in OTHER_CODES if each in opcodes], 4, 3)
        self.interpreter(self.instruction(vectors, special))
        return str(self.module)

    def other(self, what: str, *which: str) -> None:
        """Emits an instruction that is not elementwise."""
        name = ".".join((what, *which))
        if what in ("load", "store"):
            self.strided(name, int(which[0]), load=what == "load")
        elif what == "transpose":
            self.transpose(name, int(which[0]))
        elif what == "call":
            self.call(name, *which)
        else:
            (self.fold_rows if what == "rows" else self.fold_columns)(name, *which)


def assembly(machine: Any, opcodes: Collection[str] = OPCODES) -> Any:
    """Returns the function as an optimized LLVM module for a target machine. opcodes: the instructions that it can run."""
    module = binding.parse_assembly(_Emitter().emit(opcodes))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    module.verify()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    passes = binding.create_new_module_pass_manager()  # only these passes, so that no loop becomes a call of memcpy
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_new_gvn_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)
    return module


def object_code(machine: Any, opcodes: Collection[str] = OPCODES) -> bytes:
    """Returns the function as an object file. Its only symbol is `nbkeras_interpret`, and it needs no others."""
    return machine.emit_object(assembly(machine, opcodes))


code.entry_symbol(SYMBOL, object_code)
