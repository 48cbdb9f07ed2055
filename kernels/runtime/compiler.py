"""Uses Numba only as a compiler: a kernel becomes an object file with one symbol. Imported when something is compiled.

The entry of a kernel is `int64 entry(int8* frame, int64 share, int64 shares)`. The frame holds the arguments in slots of 8 bytes:
an array takes its address and its shape (and its strides if it is not C-contiguous), a tuple its elements, a number itself.
The entry makes Numba's arguments from the slots, without counting references: the caller keeps the arrays alive. The entry
returns 0, or the address of Numba's description of the exception that the kernel raised.
"""

import functools
import os
import re
import sys
import types as python_types
from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import binding, ir
from numba import njit as njit
from numba import typeof, types
from numba.core import callconv, cgutils, codegen, compiler, errors, lowering
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher, cpu_target
from numba.extending import typeof_impl
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from nbkeras.kernels.runtime import messages, processor
from nbkeras.kernels.runtime.device_array import StandIn
from nbkeras.kernels.runtime.signatures import ArrayType, Type

ENTRY = "entry"
I64, BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
_ENTRY_TYPE = ir.FunctionType(I64, [BYTES, I64, I64])


def numba_type(kind: Type) -> Any:
    """Returns Numba's type of an argument."""
    if isinstance(kind, ArrayType):
        make: Any = types.Array
        layout = "C" if kind.contiguous else "A"
        return make(from_dtype(kind.dtype), kind.ndim, layout, not kind.writeable, aligned=kind.aligned)
    if isinstance(kind, tuple):
        return types.BaseTuple.from_types([numba_type(each) for each in kind])
    return types.none if kind is None else from_dtype(kind)


# -------------------- helpers: compiled functions that kernels call --------------------


class _Context(type(cpu_target.target_context)):  # type: ignore[misc]
    """Numba's context, for code that becomes part of objects.

    Only the environment variable turns bounds checks on, not `numba.config`, because names of stored objects contain the former.
    """

    @property
    def enable_boundscheck(self) -> bool:
        chosen = os.environ.get("NUMBA_BOUNDSCHECK", "")
        return chosen != "0" if chosen else self._boundscheck

    @enable_boundscheck.setter
    def enable_boundscheck(self, value: bool) -> None:
        self._boundscheck = value

    @property
    def call_conv(self) -> Any:
        return _CallConvention(self)


class _CallConvention(callconv.CPUCallConv):
    """Numba's calling convention, which also gives a source location to the exceptions that Numba raises itself.

    A location names a module, not its file: code is the same wherever the files are, and holds no path of this machine.
    """

    def return_user_exc(
        self, builder: Any, exc: Any, exc_args: Any = None, loc: Any = None, func_name: Any = None
    ) -> None:
        super().return_user_exc(builder, exc, exc_args, loc or _source_location(), func_name)

    def build_excinfo_struct(self, exc: Any, exc_args: Any, loc: Any, func_name: Any) -> tuple:
        *kind, place = super().build_excinfo_struct(exc, exc_args, loc, func_name)
        return *kind, place and (place[0], messages.module_at(place[1]), place[2])


def _source_location() -> Any:
    """Returns the source location of the statement that Numba is compiling, from a stack frame above."""
    frame: Any = sys._getframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), lowering.BaseLower):
        frame = frame.f_back
    return frame and frame.f_locals["self"].loc


@functools.cache
def _context() -> Any:
    kind = _ForeignCodegen if processor.foreign_triple() else _Codegen
    context = cpu_target.target_context.subtarget(_internal_codegen=kind("nbkeras", "host"), aot_mode=True)
    context.__class__ = _Context
    return context


def prepare() -> None:
    """Loads what Numba loads before its first compilation."""
    cpu_target.typing_context.refresh()
    _context().refresh()


def target_machine() -> Any:
    """Returns LLVM's target machine for the objects."""
    return _context().codegen()._tm


class _Target:
    """Numba's target with this context."""

    typing_context, options = cpu_target.typing_context, cpu_target.options

    @property
    def target_context(self) -> Any:
        return _context()


class Helper(CPUDispatcher):
    """A function for calls by kernels. Its code becomes part of their objects; it has no separate object."""

    targetdescr: Any = _Target()

    def __init__(self, function: Callable, options: dict):
        super().__init__(function, targetoptions={"nopython": True, **options})
        self._compiler._customize_flags = _without_wrappers  # type: ignore[attr-defined]

    def add_overload(self, cres: Any) -> None:
        args = tuple(cres.signature.args)
        key = cres.fndesc.mangled_name  # calls of this signature look this name up
        self.targetctx.insert_user_function(key, cres.fndesc, [cres.library])
        self.overloads[args] = cres._replace(entry_point=key)


def _without_wrappers(flags: Any) -> Any:
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    return flags


# -------------------- objects --------------------


class _Library(codegen.AOTCodeLibrary):
    """The code of a kernel or a helper. A kernel has one public symbol, so that LLVM inlines or drops all others.

    The others lose the names that Numba gives, since these differ between processes: equal kernels have equal objects.
    """

    public: str | None = None

    def _optimize_final_module(self) -> None:
        if self.public is not None:
            module = self._final_module
            variables = [each for each in module.global_variables if each.name.startswith("_Z")]
            for value in (*module.functions, *variables):
                if not value.is_declaration and value.name != self.public:
                    value.linkage = "internal"
                    if value.name.startswith("_Z"):
                        value.name = "inner"  # LLVM adds a number
        super()._optimize_final_module()


class _Codegen(codegen.AOTCPUCodegen):
    """Makes code for this processor, or the one of NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""

    _library_class = _Library

    def _get_host_cpu_name(self) -> str:
        return processor.level() or super()._get_host_cpu_name()

    def _customize_tm_features(self) -> str:
        # LLVM knows the instructions of a level by its name. Numba would add this processor's, such as AVX-512, to x86-64-v3.
        added = ",".join(f"+{name}" for name in processor.extras())
        return added if processor.level() else self._get_host_cpu_features()


class _ForeignCodegen(_Codegen):
    """Makes code for another kind of machine, which this process never runs."""

    def _init(self, llvm_module: Any) -> None:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
        options: dict[str, Any] = {"opt": 3}
        self._tm_features = self._customize_tm_features()
        self._customize_tm_options(options)
        options["reloc"] = processor.relocation_of(processor.machine())
        self._tm = binding.Target.from_triple(processor.foreign_triple()).create_target_machine(**options)
        self._engine = None
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)
        self._loopvect, self._opt_level = False, 0

    def _create_empty_module(self, name: str) -> ir.Module:
        module = super()._create_empty_module(name)
        module.triple = processor.foreign_triple()
        return module


class _Compilation:
    """The context that compiles a kernel; it writes the entry in place of Numba's wrapper for CPython."""

    def __init__(self, symbol: str, write: Callable):
        self.context = _context().subtarget()
        self.context.create_cpython_wrapper = python_types.MethodType(self._write, self.context)
        self._symbol, self._write_entry = symbol, write
        self.returns: Any = None

    def _write(self, context: Any, library: Any, fndesc: Any, env: Any, call_helper: Any, release_gil: bool = False):
        self.returns = fndesc.restype
        module = context.create_module("entry")
        self._write_entry(context, module, fndesc, self._symbol)
        library.public = self._symbol
        library.add_ir_module(module)

    def compile(self, function: Callable, options: dict, args: tuple) -> bytes:
        flags: Any = compiler.Flags()
        cpu_target.options.parse_as_flags(flags, {"nopython": True, **options})
        flags.no_cpython_wrapper, flags.no_cfunc_wrapper, flags.no_compile = False, True, True
        flags.release_gil = False
        found = compiler.compile_extra(cpu_target.typing_context, self.context, function, args, None, flags, {})
        if found.typing_error is not None:
            raise found.typing_error
        self.is_lasting = not found.library.has_dynamic_globals
        return found.library.emit_native_object()


class Compiled(NamedTuple):
    """The object of a kernel, whether another process can use it, and whether the kernel returns a value."""

    content: bytes
    is_lasting: bool
    returns_value: bool


@global_compiler_lock
def compile_kernel(function: Callable, options: dict, signature: tuple[Type, ...], takes_shares: bool) -> Compiled:
    """Compiles a kernel to an object with the symbol ENTRY. Raises NumbaError if it cannot be compiled."""
    args = tuple(numba_type(kind) for kind in signature)
    if takes_shares:
        args += (types.int64, types.int64)

    def write(context: Any, module: ir.Module, fndesc: Any, symbol: str) -> None:
        _write_entry(context, module, fndesc, symbol, takes_shares)

    compilation = _Compilation(ENTRY, write)
    content = compilation.compile(function, options, args)
    return Compiled(content, compilation.is_lasting, compilation.returns != types.none)


@global_compiler_lock
def compile_symbol(function: Callable, options: dict, signature: str, symbol: str) -> bytes:
    """Compiles a function of numbers and pointers to an object with a C symbol. signature: such as "int64(int64, float32*)"."""
    result, args = re.fullmatch(r"(\w+)\((.*)\)", signature).groups()  # type: ignore[union-attr]
    kinds = tuple(_c_type(text.strip()) for text in args.split(","))

    def write(context: Any, module: ir.Module, fndesc: Any, symbol: str) -> None:
        kernel = context.declare_function(module, fndesc)
        operands = [context.get_value_type(kind) for kind in kinds]
        returned = ir.VoidType() if result == "void" else context.get_value_type(_c_type(result))
        function = ir.Function(module, ir.FunctionType(returned, operands), symbol)
        builder = ir.IRBuilder(function.append_basic_block())
        _, value = context.call_conv.call_function(builder, kernel, fndesc.restype, kinds, function.args)
        builder.ret_void() if result == "void" else builder.ret(value)

    return _Compilation(symbol, write).compile(function, options, kinds)


def _c_type(text: str) -> Any:
    return types.CPointer(_c_type(text[:-1])) if text.endswith("*") else getattr(types, text)


def _write_entry(context: Any, module: ir.Module, fndesc: Any, symbol: str, takes_shares: bool) -> None:
    """Writes the function `symbol(frame, share, shares)`, which calls the kernel."""
    kernel = context.declare_function(module, fndesc)
    function = ir.Function(module, _ENTRY_TYPE, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    frame, *share = function.args
    slots = _Slots(builder, frame)
    own = fndesc.argtypes[:-2] if takes_shares else fndesc.argtypes
    values = [_value(context, builder, kind, slots) for kind in own]
    if takes_shares:
        values += share
    status, _ = context.call_conv.call_function(builder, kernel, fndesc.restype, fndesc.argtypes, values)
    raised = builder.ptrtoint(status.excinfoptr, I64)
    builder.ret(builder.select(status.is_error, raised, ir.Constant(I64, 0)))


class _Slots:
    """Reads the slots of a frame in order."""

    def __init__(self, builder: ir.IRBuilder, frame: Any):
        self._builder, self._slots, self._next = builder, builder.bitcast(frame, I64.as_pointer()), 0

    def read(self, kind: Any = I64) -> Any:
        pointer = self._builder.gep(self._slots, [ir.Constant(I64, self._next)])
        self._next += 1
        return self._builder.load(self._builder.bitcast(pointer, kind.as_pointer()))


def _value(context: Any, builder: ir.IRBuilder, kind: Any, slots: _Slots) -> Any:
    """Returns an argument in Numba's representation."""
    if isinstance(kind, types.Array):
        return _array(context, builder, kind, slots)
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, [_value(context, builder, each, slots) for each in kind.types])  # type: ignore[attr-defined]
    if kind == types.none:
        return context.get_dummy_value()
    value = slots.read(context.get_data_type(kind))
    return context.data_model_manager[kind].from_data(builder, value)


def _array(context: Any, builder: ir.IRBuilder, kind: types.Array, slots: _Slots) -> Any:
    array = context.make_array(kind)(context, builder)
    itemsize = ir.Constant(I64, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    data = builder.inttoptr(slots.read(), array.data.type)
    shape = [slots.read() for _ in range(kind.ndim)]
    if kind.layout == "C":
        strides: list[Any] = []
        step = itemsize
        for size in reversed(shape):
            strides.insert(0, step)
            step = builder.mul(step, size)
    else:
        strides = [slots.read() for _ in range(kind.ndim)]
    populate_array(array, data, shape, strides, itemsize, meminfo=cgutils.get_null_value(array.meminfo.type))
    return array._getvalue()


@typeof_impl.register(StandIn)
def _typeof_stand_in(array: Any, context: Any) -> Any:
    return typeof(array.for_kernel(), context.purpose)


# Numba raises it for a function that it cannot compile
ERRORS = errors.NumbaError, errors.UnsupportedBytecodeError, AttributeError, TypeError
