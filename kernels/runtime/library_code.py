"""The functions of a library, as LLVM code. They fill frames and call the entries of kernels, row by row.

    int NAME(inputs and outputs, void *workspace, const void *weights)

returns 0, or one of the numbers below. It uses only the memory of its arguments and its stack, so any number of threads may call
it.
"""

import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nbkeras.kernels.runtime import processor
from nbkeras.kernels.runtime.lazy import binding, ir
from nbkeras.kernels.runtime.library import BufferRef, CFunctionRef, LibraryRow, Word
from nbkeras.kernels.runtime.messages import no_compiler

# a kernel raised an exception; a pointer is NULL; the weights belong to another library
FAILED, NULL_POINTER, OTHER_WEIGHTS = (1, 2, 3)
ALIGNMENT = 64
_TOGETHER = 64  # rows of a function; LLVM is slow for very long functions
_UNROLLED = 4  # up to this many shares are called without a loop


class LibraryFunction(NamedTuple):
    """A function that runs rows.

    arguments: the names of memories, in the order of the function's pointers, with 'weights' unless they are in the library.
    copies: (source, target, bytes, a multiple of 8), made before the rows run, unless source and target are the same.
    """

    name: str
    arguments: Sequence[str]
    rows: Sequence[LibraryRow] = ()
    copies: Sequence[tuple[BufferRef, BufferRef, int]] = ()


def object_code(
    target: str, functions: Sequence[LibraryFunction], sizes: dict[str, int], weights: str, key: bytes | None
) -> bytes:
    """The functions as an object file.

    sizes: functions that return a number, by name. weights: the symbol of the weights if they are in the library. key: the 8
    bytes at the start of the weights if they are not; the last pointer of each function is then the weights.
    """
    machine = processor.machine_of(target)
    try:
        binding.load()
    except ModuleNotFoundError:
        raise no_compiler("writing a library") from None
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    triple = processor.triple_of(machine)
    made = binding.Target.from_triple(triple).create_target_machine(opt=2, reloc="pic", codemodel="default")
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
        """Writes a function that checks its pointers and runs the rows, in groups."""
        count = len(wanted.arguments)
        kind = ir.FunctionType(self._result, [self._bytes] * count)
        function = ir.Function(self.module, kind, wanted.name)
        builder = ir.IRBuilder(function.append_basic_block())
        memories = dict(
            zip(wanted.arguments, (builder.ptrtoint(each, self._word) for each in function.args), strict=True)
        )
        for value in memories.values():
            self._leave_if(builder, builder.icmp_unsigned("==", value, self._constant(0)), NULL_POINTER)
        if self._key is not None:
            found = builder.load(self._pointer(builder, memories["weights"]), align=1)
            (key,) = struct.unpack("<q", self._key)
            self._leave_if(builder, builder.icmp_unsigned("!=", found, self._constant(key)), OTHER_WEIGHTS)
        else:
            memories["weights"] = builder.ptrtoint(self._weights, self._word)
        if "workspace" in memories:
            aligned = builder.add(memories["workspace"], self._constant(ALIGNMENT - 1))
            memories["workspace"] = builder.and_(aligned, self._constant(-ALIGNMENT))
        for source, target, nbytes in wanted.copies:
            self._copied(
                builder, self._value(builder, source, memories), self._value(builder, target, memories), nbytes
            )
        names = list(memories)
        table = builder.alloca(ir.ArrayType(self._word, len(names)))
        for position, name in enumerate(names):
            builder.store(memories[name], builder.gep(table, [self._constant(0), self._constant(position)]))
        for start in range(0, len(wanted.rows), _TOGETHER):
            part = self._part(names, wanted.rows[start : start + _TOGETHER])
            failure = builder.call(part, [builder.bitcast(table, self._bytes)])
            self._leave_if(builder, builder.icmp_unsigned("!=", failure, self._constant(0)), FAILED)
        builder.ret(ir.Constant(self._result, 0))

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

    def _copied(self, builder: Any, source: Any, target: Any, nbytes: int) -> None:
        """Copies words in order; does nothing if the source is the target."""
        with builder.if_then(builder.icmp_unsigned("!=", source, target)), self._loop(builder, nbytes, 8) as at:
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
            words = list(row.frame)
            for position, word in enumerate(words):
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
            return builder.add(memories[word.memory], self._constant(word.offset))
        if isinstance(word, CFunctionRef):
            return builder.ptrtoint(self._function(word.function, ir.FunctionType(ir.VoidType(), [])), self._word)
        return self._constant(word)

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
