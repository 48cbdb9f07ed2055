"""The functions of a library, as LLVM code. They fill frames and call the entries of kernels, row by row.

    int NAME(inputs and outputs, void *workspace, const void *weights)

returns 0, or one of the numbers below. It uses only the memory of its arguments and its stack, so any number of threads may call
it.
"""

import contextlib
import functools
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
_TOGETHER = 8192  # the max number of words of rows that run together: the different ones of them are on the stack


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
    triple, reloc, features = (
        f(machine) for f in (processor.triple_of, processor.relocation_of, processor.features_of)
    )
    made = binding.Target.from_triple(triple).create_target_machine("", features, 2, reloc, "default")
    writer = _Writer(weights, key)
    for function in functions:
        writer.function(function)
    for name, size in sizes.items():
        writer.number(name, size)
    if functions:
        writer.write_run()
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
        self._index = ir.IntType(16)
        self._outer: dict[str, Any] = {}
        self._entries: dict[str, int] = {}
        self._used = self._frame = 0  # the max number of words
        self._weights: Any = None
        if key is None:
            self._weights = ir.GlobalVariable(self.module, ir.IntType(8), weights)

    @functools.cached_property
    def _run(self) -> Any:
        """The function that `write_run` writes."""
        words, indices = self._word.as_pointer(), self._index.as_pointer()
        kind = ir.FunctionType(self._word, [words, indices, words, self._word, indices, self._word])
        function = ir.Function(self.module, kind, "nbkeras_run")
        function.linkage = "internal"
        return function

    def _constant(self, value: int) -> Any:
        return ir.Constant(self._word, value)

    def number(self, name: str, value: int) -> None:
        function = ir.Function(self.module, ir.FunctionType(self._word, []), name)
        ir.IRBuilder(function.append_basic_block()).ret(self._constant(value))

    def function(self, wanted: LibraryFunction) -> None:
        """Writes a function that checks its arguments and runs the rows."""
        numbers = {"int64": self._word, "float64": ir.DoubleType()}
        kinds = [numbers.get(each.number, self._bytes) for each in wanted.arguments]
        function = ir.Function(self.module, ir.FunctionType(self._result, kinds), wanted.name)
        builder = ir.IRBuilder(function.append_basic_block())
        memories: dict[Any, Any] = {0: self._constant(0)}  # where a word begins: a number begins at 0
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
        words = itertools.chain(*(row.instructions for row in wanted.all_rows()))
        memories |= {word: self._value(builder, word, memories) for word in words if isinstance(word, CFunctionRef)}
        with builder.goto_entry_block():
            table = self._memory(builder, len(memories))
        for at, start in enumerate(memories.values()):
            builder.store(start, builder.gep(table, [self._constant(at)]))
        for error, rows in wanted.checks:
            self._leave_if(builder, self._failed(builder, memories, table, rows), error)
        for source, target, nbytes in wanted.copies:
            self._copied(builder, source, self._value(builder, target, memories), nbytes, memories)
        failed = self._failed(builder, memories, table, wanted.rows)
        if wanted.guard is None:
            self._leave_if(builder, failed, FAILED)
        else:
            guard = self._pointer(builder, self._value(builder, wanted.guard, memories))
            with builder.if_then(failed):
                builder.store(self._constant(0), guard)
            also = self._failed(builder, memories, table, wanted.last)
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

    def _failed(self, builder: Any, memories: dict[Any, Any], table: Any, rows: Sequence[LibraryRow]) -> Any:
        """Writes the run of rows, up to the first that fails. Returns whether one failed. table: the starts of memories."""
        end, failed = builder.append_basic_block(), []
        for part in _parts(rows):
            result = builder.call(self._run, [table, *self._encoded(list(memories), part)])
            failed.append(builder.block)
            following = builder.append_basic_block()
            builder.cbranch(builder.icmp_unsigned("!=", result, self._constant(0)), end, following)
            builder.position_at_end(following)
        builder.branch(end)
        last = builder.block
        builder.position_at_end(end)
        result = builder.phi(ir.IntType(1))
        for block in failed:
            result.add_incoming(ir.Constant(ir.IntType(1), 1), block)
        result.add_incoming(ir.Constant(ir.IntType(1), 0), last)
        return result

    def _encoded(self, memories: Sequence[Any], rows: Sequence[LibraryRow]) -> list[Any]:
        """Writes rows as numbers. Returns the arguments of `write_run` for them."""
        used: dict[Word, int] = {}
        numbers: list[int] = []
        for row in rows:
            self._function(row.symbol, self._entry)
            numbers.append(self._entries.setdefault(row.symbol, len(self._entries)))
            size = len(row.frame) + len(row.instructions)
            numbers += [len(row.flags), len(row.frame) if row.instructions else 0, size]
            numbers += [used.setdefault(word, len(used)) for word in _words(row)]
            self._frame = max(self._frame, size)
        self._used = max(self._used, len(used))
        starts = {start: at for at, start in enumerate(memories)}
        parts = [
            word if isinstance(word, BufferRef) else (0, word) if isinstance(word, int) else (word, 0) for word in used
        ]
        kinds = self._array(self._index, [starts[start] for start, _ in parts])
        offsets = self._array(self._word, [offset for _, offset in parts])
        return [kinds, offsets, self._constant(len(used)), self._array(self._index, numbers), self._constant(len(rows))]

    def write_run(self) -> None:
        """Writes the function that runs rows. It returns 0, or the result of the entry that failed.

        Arguments: the starts of memories; for each word the index of its start, and its offset from there; the number of words;
        the rows, and their number. A row has: the number of its entry, the number of its flags, the number of words before its
        instructions (0 if there are none), the number of words of frame and instructions, then the indices of its words: the
        shares, the flags, the frame, the instructions. Rows have most words in common, so indices make a small library.
        """
        starts, kinds, offsets, used, rows, count = self._run.args
        builder = ir.IRBuilder(self._run.append_basic_block())
        entries = self._array(self._entry.as_pointer(), [self._outer[name] for name in self._entries])
        words, frame = self._memory(builder, self._used), self._memory(builder, self._frame)
        position, shares = builder.alloca(rows.type), builder.alloca(self._word)
        builder.store(rows, position)
        with self._loop(builder, used) as at:
            start = self._at(builder, starts, self._at(builder, kinds, at))
            builder.store(builder.add(start, self._at(builder, offsets, at)), builder.gep(words, [at]))
        with self._loop(builder, count):
            row = builder.load(position)
            entry, flags, code, size, share = (self._at(builder, row, self._constant(at)) for at in range(5))
            row = builder.gep(row, [self._constant(5)])
            builder.store(self._at(builder, words, share), shares)
            with self._loop(builder, flags) as at:
                flag = self._pointer(builder, self._at(builder, words, self._at(builder, row, at)))
                with builder.if_then(builder.icmp_unsigned("==", builder.load(flag), self._constant(0))):
                    builder.store(self._constant(0), shares)
            row = builder.gep(row, [flags])
            with self._loop(builder, size) as at:
                builder.store(self._at(builder, words, self._at(builder, row, at)), builder.gep(frame, [at]))
            builder.store(builder.gep(row, [size]), position)
            with builder.if_then(builder.icmp_unsigned("!=", code, self._constant(0))):
                place = builder.ptrtoint(builder.gep(frame, [code]), self._word)
                builder.store(place, builder.gep(frame, [self._constant(1)]))
            called, every = builder.load(builder.gep(entries, [entry])), builder.load(shares)
            with self._loop(builder, every) as share:
                failure = builder.call(called, [builder.bitcast(frame, self._bytes), share, every])
                with builder.if_then(builder.icmp_unsigned("!=", failure, self._constant(0))):
                    builder.ret(failure)
        builder.ret(self._constant(0))

    def _memory(self, builder: Any, words: int) -> Any:
        """Memory on the stack."""
        memory = builder.alloca(self._word, max(2, words))
        memory.align = ALIGNMENT
        return memory

    def _array(self, kind: Any, values: Sequence[Any]) -> Any:
        """Writes constants. Returns a pointer to the first."""
        whole = ir.ArrayType(kind, len(values))
        array = ir.GlobalVariable(self.module, whole, f"nbkeras_constants_{len(self.module.globals)}")
        array.linkage, array.global_constant = "internal", True
        array.initializer = ir.Constant(whole, list(values))
        return array.bitcast(kind.as_pointer())

    def _at(self, builder: Any, array: Any, at: Any) -> Any:
        """The number at an index, as a word."""
        number = builder.load(builder.gep(array, [at]))
        return number if number.type == self._word else builder.zext(number, self._word)

    def _pointer(self, builder: Any, number: Any) -> Any:
        return builder.inttoptr(number, self._word.as_pointer())

    def _leave_if(self, builder: Any, condition: Any, result: int) -> None:
        with builder.if_then(condition):
            builder.ret(ir.Constant(self._result, result))

    @contextlib.contextmanager
    def _loop(self, builder: Any, count: Any, step: int = 1) -> Iterator[Any]:
        """Writes a loop over 0, step, ... below `count`."""
        before = builder.block
        loop, body, end = (builder.append_basic_block() for _ in range(3))
        builder.branch(loop)
        builder.position_at_end(loop)
        number = builder.phi(self._word)
        number.add_incoming(self._constant(0), before)
        builder.cbranch(builder.icmp_unsigned("<", number, count), body, end)
        builder.position_at_end(body)
        yield number
        number.add_incoming(builder.add(number, self._constant(step)), builder.block)
        builder.branch(loop)
        builder.position_at_end(end)

    def _copied(self, builder: Any, word: Word, target: Any, nbytes: int, memories: dict[str, Any]) -> None:
        """Copies words in order, or repeats one; does nothing if the source is the target."""
        source = self._value(builder, word, memories)
        is_other = builder.icmp_unsigned("!=", source, target) if isinstance(word, BufferRef) else None
        condition = contextlib.nullcontext() if is_other is None else builder.if_then(is_other)
        with condition, self._loop(builder, self._constant(nbytes), 8) as at:
            value = source
            if is_other is not None:
                value = builder.load(self._pointer(builder, builder.add(source, at)), align=1)
            builder.store(value, self._pointer(builder, builder.add(target, at)), align=1)

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


def _words(row: LibraryRow) -> list[Word]:
    return [row.shares, *row.flags, *row.frame, *row.instructions]


def _parts(rows: Sequence[LibraryRow]) -> Iterator[list[LibraryRow]]:
    """Splits rows so that the words of a part are few enough for an index, and for the stack."""
    part, size = list[LibraryRow](), 0
    for row in rows:
        count = len(_words(row))
        if part and size + count > _TOGETHER:
            yield part
            part, size = [], 0
        part.append(row)
        size += count
    if part:
        yield part
