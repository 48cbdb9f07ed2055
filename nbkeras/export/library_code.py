"""The functions of a library, as LLVM code. They fill frames and call the entries of kernels, row by row.

    int NAME(inputs and outputs, void *workspace, const void *weights)

returns 0, or one of the numbers below. It uses only the memory of its arguments and its stack, so any number of threads may call
it.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nbkeras.export.library_rows import BufferRef, CFunctionRef, LibraryRow, Word
from nbkeras.kernels.runtime import processor
from nbkeras.kernels.runtime.lazy import binding, ir
from nbkeras.kernels.runtime.messages import no_compiler

# What a function returns instead of 0: a name, and a comment for the header
ERRORS = {
    (FAILED := 1): ("FAILED", "a kernel failed"),
    (NULL_POINTER := 2): ("NULL_POINTER", "a pointer is NULL"),
    (OTHER_WEIGHTS := 3): ("OTHER_WEIGHTS", "the weights belong to another library"),
    (UNALIGNED := 4): ("UNALIGNED", "an array is not aligned for its type"),
    (OVERLAP := 5): ("OVERLAP", "memory that the function writes overlaps another argument"),
    (OTHER_STATE := 6): ("OTHER_STATE", "the state belongs to another library or version, or m_init did not make it"),
    (OUT_OF_RANGE := 7): ("OUT_OF_RANGE", "an input is not finite, or a class or index does not exist"),
    (NOT_FINITE := 8): ("NOT_FINITE", "the loss is not finite"),
}
ALIGNMENT = 64
_TOGETHER = 64  # rows of a function; LLVM is slow for very long functions
_UNROLLED = 4  # up to this many shares are called without a loop


class Argument(NamedTuple):
    """An argument of a function: a pointer to a memory, or a number, which the rows find in a memory of this name.

    nbytes: the size of the memory, which must overlap no other memory if the function writes one of the two; 0 allows it.
    number: 'int64' or 'float64'.
    """

    name: str
    nbytes: int = 0
    alignment: int = 1
    is_written: bool = False
    number: str = ""


class LibraryFunction(NamedTuple):
    """A function that runs rows.

    arguments: in order, with the memory 'weights' unless it is in the library. copies: (source, target, bytes, a multiple of
    8), made before the rows run, unless source and target are the same; the source may be a word to repeat. checks: (error,
    rows that fail if the error is found), run before anything is written. guard: an int64 number; the rows in `last` run in any
    case, after it has become 0 if one of `rows` failed, and if it is 0 at the end the error is NOT_FINITE.
    """

    name: str
    arguments: Sequence[Argument]
    rows: Sequence[LibraryRow] = ()
    copies: Sequence[tuple[Word, BufferRef, int]] = ()
    checks: Sequence[tuple[int, Sequence[LibraryRow]]] = ()
    guard: BufferRef | None = None
    last: Sequence[LibraryRow] = ()

    @property
    def workspace(self) -> int:
        """The bytes of its workspace."""
        return sum(each.nbytes for each in self.arguments if each.name == "workspace")

    def all_rows(self) -> Iterator[LibraryRow]:
        """All rows of the function."""
        return itertools.chain(*(rows for _, rows in self.checks), self.rows, self.last)


def object_code(
    target: str, functions: Sequence[LibraryFunction], sizes: dict[str, int], weights: str, key: bytes | None
) -> bytes:
    """The functions as an object file.

    sizes: functions that return a number, by name. weights: the symbol of the weights if they are in the library. key: the 8
    bytes at the start of the weights if they are not; the last argument of each function is then the weights.
    """
    machine = processor.machine_of(target)
    try:
        binding.load()
    except ModuleNotFoundError:
        raise no_compiler("writing a library") from None
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple, reloc = processor.triple_of(machine), processor.relocation_of(machine)
    made = binding.Target.from_triple(triple).create_target_machine(opt=2, reloc=reloc, codemodel="default")
    writer = _Writer(weights, key)
    for function in functions:
        writer.function(function)
    for name, size in sizes.items():
        writer.number(name, size)
    writer.module.triple, writer.module.data_layout = triple, str(made.target_data)
    module = binding.parse_assembly(str(writer.module))
    module.verify()
    return made.emit_object(module)


class _Writer:
    def __init__(self, weights: str, key: bytes | None):
        self.module = ir.Module("library")
        self._key = key
        self._word, self._result = ir.IntType(64), ir.IntType(32)
        self._bytes = ir.IntType(8).as_pointer()
        self._entry = ir.FunctionType(self._word, [self._bytes, self._word, self._word])
        self._outer: dict[str, Any] = {}
        self._parts = 0
        self._weights: Any = None
        if key is None:
            self._weights = ir.GlobalVariable(self.module, ir.IntType(8), weights)

    def _constant(self, value: int) -> Any:
        return ir.Constant(self._word, value)

    def number(self, name: str, value: int) -> None:
        function = ir.Function(self.module, ir.FunctionType(self._word, []), name)
        ir.IRBuilder(function.append_basic_block()).ret(self._constant(value))

    def function(self, wanted: LibraryFunction) -> None:
        """Writes a function that checks its arguments and runs the rows, in groups."""
        numbers = {"int64": self._word, "float64": ir.DoubleType()}
        kinds = [numbers.get(each.number, self._bytes) for each in wanted.arguments]
        function = ir.Function(self.module, ir.FunctionType(self._result, kinds), wanted.name)
        builder = ir.IRBuilder(function.append_basic_block())
        memories = {}
        for each, value in zip(wanted.arguments, function.args, strict=True):
            pointer = builder.alloca(value.type) if each.number else value
            if each.number:
                builder.store(value, pointer)
            memories[each.name] = builder.ptrtoint(pointer, self._word)
        self._check_arguments(builder, wanted.arguments, memories)
        if self._key is not None:
            found = builder.load(self._pointer(builder, memories["weights"]), align=1)
            (key,) = struct.unpack("<q", self._key)
            self._leave_if(builder, builder.icmp_unsigned("!=", found, self._constant(key)), OTHER_WEIGHTS)
        else:
            memories["weights"] = builder.ptrtoint(self._weights, self._word)
        if "workspace" in memories:
            aligned = builder.add(memories["workspace"], self._constant(ALIGNMENT - 1))
            memories["workspace"] = builder.and_(aligned, self._constant(-ALIGNMENT))
        names = list(memories)
        table = builder.alloca(ir.ArrayType(self._word, len(names)))
        for position, name in enumerate(names):
            builder.store(memories[name], builder.gep(table, [self._constant(0), self._constant(position)]))
        table = builder.bitcast(table, self._bytes)
        for error, rows in wanted.checks:
            self._leave_if(builder, self._failed(builder, names, rows, table), error)
        for source, target, nbytes in wanted.copies:
            self._copied(builder, source, self._value(builder, target, memories), nbytes, memories)
        failed = self._failed(builder, names, wanted.rows, table)
        if wanted.guard is None:
            self._leave_if(builder, failed, FAILED)
        else:
            guard = self._pointer(builder, self._value(builder, wanted.guard, memories))
            with builder.if_then(failed):
                builder.store(self._constant(0), guard)
            also = self._failed(builder, names, wanted.last, table)
            self._leave_if(builder, builder.or_(failed, also), FAILED)
            self._leave_if(builder, builder.icmp_unsigned("==", builder.load(guard), self._constant(0)), NOT_FINITE)
        builder.ret(ir.Constant(self._result, 0))

    def _check_arguments(self, builder: Any, arguments: Sequence[Argument], memories: dict[str, Any]) -> None:
        pointers = [each for each in arguments if not each.number]
        for each in pointers:
            self._leave_if(builder, builder.icmp_unsigned("==", memories[each.name], self._constant(0)), NULL_POINTER)
        for each in pointers:
            if each.alignment > 1:
                rest = builder.and_(memories[each.name], self._constant(each.alignment - 1))
                self._leave_if(builder, builder.icmp_unsigned("!=", rest, self._constant(0)), UNALIGNED)
        for one, two in itertools.combinations([each for each in pointers if each.nbytes], 2):
            if one.is_written or two.is_written:
                first, second = memories[one.name], memories[two.name]
                begins = builder.icmp_unsigned("<", first, builder.add(second, self._constant(two.nbytes)))
                ends = builder.icmp_unsigned("<", second, builder.add(first, self._constant(one.nbytes)))
                self._leave_if(builder, builder.and_(begins, ends), OVERLAP)

    def _failed(self, builder: Any, names: list[str], rows: Sequence[LibraryRow], table: Any) -> Any:
        """Writes the calls of rows, up to the first that fails. Returns whether one failed."""
        parts = [self._part(names, rows[start : start + _TOGETHER]) for start in range(0, len(rows), _TOGETHER)]
        end, failed = builder.append_basic_block(), []
        for part in parts:
            failure = builder.icmp_unsigned("!=", builder.call(part, [table]), self._constant(0))
            failed.append(builder.block)
            following = builder.append_basic_block()
            builder.cbranch(failure, end, following)
            builder.position_at_end(following)
        builder.branch(end)
        last = builder.block
        builder.position_at_end(end)
        result = builder.phi(ir.IntType(1))
        for block in failed:
            result.add_incoming(ir.Constant(ir.IntType(1), 1), block)
        result.add_incoming(ir.Constant(ir.IntType(1), 0), last)
        return result

    def _pointer(self, builder: Any, number: Any) -> Any:
        return builder.inttoptr(number, self._word.as_pointer())

    def _leave_if(self, builder: Any, condition: Any, result: int) -> None:
        with builder.if_then(condition):
            builder.ret(ir.Constant(self._result, result))

    @contextlib.contextmanager
    def _loop(self, builder: Any, count: int, step: int = 1) -> Iterator[Any]:
        """Writes a loop over 0, step, ... below `count`, which must not be 0."""
        loop, before = builder.append_basic_block(), builder.block
        builder.branch(loop)
        builder.position_at_end(loop)
        number = builder.phi(self._word)
        number.add_incoming(self._constant(0), before)
        yield number
        following, end = builder.add(number, self._constant(step)), builder.append_basic_block()
        number.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_unsigned("<", following, self._constant(count)), loop, end)
        builder.position_at_end(end)

    def _copied(self, builder: Any, word: Word, target: Any, nbytes: int, memories: dict[str, Any]) -> None:
        """Copies words in order, or repeats one; does nothing if the source is the target."""
        source = self._value(builder, word, memories)
        is_other = builder.icmp_unsigned("!=", source, target) if isinstance(word, BufferRef) else None
        condition = contextlib.nullcontext() if is_other is None else builder.if_then(is_other)
        with condition, self._loop(builder, nbytes, 8) as at:
            value = source
            if is_other is not None:
                value = builder.load(self._pointer(builder, builder.add(source, at)), align=1)
            builder.store(value, self._pointer(builder, builder.add(target, at)), align=1)

    def _part(self, names: list[str], rows: Sequence[LibraryRow]) -> Any:
        """Writes an internal function that runs rows. It returns 0, or the result of the entry that failed."""
        function = ir.Function(self.module, ir.FunctionType(self._word, [self._bytes]), f"nbkeras_rows_{self._parts}")
        function.linkage = "internal"
        self._parts += 1
        builder = ir.IRBuilder(function.append_basic_block())
        table = builder.bitcast(function.args[0], self._word.as_pointer())
        memories = {
            name: builder.load(builder.gep(table, [self._constant(position)])) for position, name in enumerate(names)
        }
        frame = builder.alloca(self._word, max(len(row.frame) for row in rows))
        instructions = builder.alloca(self._word, max(1, *(len(row.instructions) for row in rows)))
        frame.align = instructions.align = ALIGNMENT
        for row in rows:
            with contextlib.ExitStack() as conditions:
                for flag in row.flags:
                    found = builder.load(self._pointer(builder, self._value(builder, flag, memories)))
                    conditions.enter_context(builder.if_then(builder.icmp_unsigned("!=", found, self._constant(0))))
                for position, word in enumerate(row.frame):
                    value = self._value(builder, word, memories)
                    if position == 1 and row.instructions:
                        value = builder.ptrtoint(instructions, self._word)
                    builder.store(value, builder.gep(frame, [self._constant(position)]))
                for position, word in enumerate(row.instructions):
                    value = self._value(builder, word, memories)
                    builder.store(value, builder.gep(instructions, [self._constant(position)]))
                self._call(builder, row, builder.bitcast(frame, self._bytes))
        builder.ret(self._constant(0))
        return function

    def _value(self, builder: Any, word: Word, memories: dict[str, Any]) -> Any:
        if isinstance(word, BufferRef):
            start = memories[word.memory]
            return builder.add(start, self._constant(word.offset)) if word.offset else start
        if isinstance(word, CFunctionRef):
            return builder.ptrtoint(self._called(word), self._word)
        return self._constant(word)

    def _called(self, word: CFunctionRef) -> Any:
        """Writes a function of two numbers that calls one of the C library: WebAssembly checks the types of calls."""
        name = f"nbkeras_call_{word.function}"
        if name not in self._outer:
            real = ir.FloatType() if word.function.endswith("f") else ir.DoubleType()
            function = self._function(name, ir.FunctionType(real, [real, real]))
            function.linkage, builder = "internal", ir.IRBuilder(function.append_basic_block())
            target = self._function(word.function, ir.FunctionType(real, [real] * word.arguments))
            builder.ret(builder.call(target, function.args[: word.arguments]))
        return self._outer[name]

    def _function(self, name: str, kind: Any) -> Any:
        if name not in self._outer:
            self._outer[name] = ir.Function(self.module, kind, name)
        return self._outer[name]

    def _call(self, builder: Any, row: LibraryRow, frame: Any) -> None:
        """Writes a call of an entry for each share."""
        entry, shares = self._function(row.symbol, self._entry), self._constant(row.shares)

        def call(share: Any) -> None:
            failure = builder.call(entry, [frame, share, shares])
            with builder.if_then(builder.icmp_unsigned("!=", failure, self._constant(0))):
                builder.ret(failure)

        if row.shares <= _UNROLLED:
            for share in range(row.shares):
                call(self._constant(share))
        else:
            with self._loop(builder, row.shares) as share:
                call(share)
