"""Memory by address, for the runtime's compiled functions: loads, stores, calls, atomic operations, and waiting threads.

`state` is the address of 64-bit numbers, `at` the index of one of them.
"""

import os
import platform
import sys
import time

from nbkeras.kernels.runtime.lazy import binding, cgutils, intrinsic, ir, types


def _pointer(builder, args):
    pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
    return builder.gep(pointer, [args[1]])


def _number(count, emit):
    """Returns the type and the code of a function of `count` numbers. It returns the value of `emit(builder, *numbers)`."""
    return types.int64(*[types.int64] * count), lambda context, builder, signature, args: emit(builder, *args)


def _nothing(count, emit):
    """Does what `_number` does, for a function that returns nothing."""

    def generate(context, builder, signature, args):
        emit(builder, *args)
        return context.get_dummy_value()

    return types.void(*[types.int64] * count), generate


@intrinsic
def read(typing, state, at):
    """Loads the number at index `at` (acquire): the writes before its store are then visible."""
    return _number(2, lambda builder, *place: builder.load_atomic(_pointer(builder, place), "acquire", 8))


@intrinsic
def write(typing, state, at, value):
    """Stores a number (release): a thread that loads it sees all earlier writes too."""
    return _nothing(3, lambda builder, *args: builder.store_atomic(args[2], _pointer(builder, args), "release", 8))


@intrinsic
def add(typing, state, at, value):
    """Adds to a number; returns the old one."""
    return _number(3, lambda builder, *args: builder.atomic_rmw("add", _pointer(builder, args), args[2], "seq_cst"))


@intrinsic
def exchange(typing, state, at, value):
    """Writes a number; returns the old one."""
    return _number(3, lambda builder, *args: builder.atomic_rmw("xchg", _pointer(builder, args), args[2], "seq_cst"))


@intrinsic
def relax(typing):
    """Tells the processor that this is a spin loop."""

    def emit(builder):
        machine, void, number = binding.get_process_triple().split("-")[0], ir.VoidType(), ir.IntType(32)
        if machine in ("x86_64", "i686", "i386"):
            pause = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, []), "llvm.x86.sse2.pause")
            builder.call(pause, [])
        elif machine in ("aarch64", "arm64"):
            hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [number]), "llvm.aarch64.hint")
            builder.call(hint, [ir.Constant(number, 1)])

    return _nothing(0, emit)


def _nap(builder, microseconds):
    number = ir.IntType(32)
    if os.name == "nt":
        kind, name, operands = ir.FunctionType(number, []), "SwitchToThread", []
    else:
        kind, name, operands = ir.FunctionType(number, [number]), "usleep", [ir.Constant(number, microseconds)]
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


@intrinsic
def nap(typing):
    """Sleeps for about 0.1 ms, or lets another thread run."""
    return _nothing(0, lambda builder: _nap(builder, 20))


@intrinsic
def load(typing, address, at):
    """Loads the number at index `at`."""
    return _number(2, lambda builder, *place: builder.load(_pointer(builder, place)))


@intrinsic
def load32(typing, address):
    """Loads the int32 at an address."""

    def emit(builder, address):
        value = builder.load(builder.inttoptr(address, ir.IntType(32).as_pointer()))
        return builder.sext(value, ir.IntType(64))

    return _number(1, emit)


@intrinsic
def store(typing, address, at, value):
    """Stores a number."""
    return _nothing(3, lambda builder, *args: builder.store(args[2], _pointer(builder, args)))


@intrinsic(prefer_literal=True)
def stack(typing, count):
    """Returns the address of `count` numbers on the function's stack; count: a literal."""
    size = count.literal_value

    def generate(context, builder, signature, args):
        with builder.goto_entry_block():
            memory = builder.alloca(ir.IntType(64), size)
        return builder.ptrtoint(memory, ir.IntType(64))

    return types.int64(count), generate


@intrinsic
def call(typing, code, *args):
    """Calls the C function at an address with numbers; returns its int64 result."""
    count = len(args)

    def generate(context, builder, signature, values):
        numbers = [values[0], *cgutils.unpack_tuple(builder, values[1], count)]
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)] * count)
        return builder.call(builder.inttoptr(numbers[0], kind.as_pointer()), numbers[1:])

    return types.int64(types.int64, types.StarArgTuple.from_types(args)), generate


# -1: not available on Windows
WALL, OWN = getattr(time, "CLOCK_MONOTONIC", -1), getattr(time, "CLOCK_THREAD_CPUTIME_ID", -1)


@intrinsic
def nanoseconds(typing, clock):
    """Returns the time of a clock of the C library; 0 if it does not exist."""

    def emit(builder, clock):
        if OWN < 0:
            return ir.Constant(ir.IntType(64), 0)
        times = ir.LiteralStructType([ir.IntType(64), ir.IntType(64)])
        number, result = ir.IntType(32), cgutils.alloca_once(builder, times)
        kind = ir.FunctionType(number, [number, times.as_pointer()])
        clock_gettime = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(clock_gettime, [builder.trunc(clock, number), result])
        seconds, rest = (builder.load(cgutils.gep_inbounds(builder, result, 0, i)) for i in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(ir.IntType(64), 10**9)), rest)

    return _number(1, emit)


# -------------------- sleeping --------------------

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if sys.platform == "linux" else None
_WAIT, _WAKE = 128, 129  # FUTEX_WAIT and FUTEX_WAKE, within this process


def _futex(builder, state, at, operation, number):
    kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)], var_arg=True)
    function = cgutils.get_or_insert_function(builder.module, kind, "syscall")
    numbers = [
        ir.Constant(ir.IntType(64), _FUTEX),
        _pointer(builder, (state, at)),
        ir.Constant(ir.IntType(64), operation),
        number,
    ]
    builder.call(function, [*numbers, ir.Constant(ir.IntType(64), 0)])


@intrinsic
def sleep_while(typing, state, at, value):
    """Sleeps until `wake` while a number (below 2**31) has a value; without futexes, sleeps for a short time."""

    def emit(builder, state, at, value):
        if _FUTEX is not None and sys.byteorder == "little":
            _futex(builder, state, at, _WAIT, value)
        else:
            _nap(builder, 500)

    return _nothing(3, emit)


@intrinsic
def wake(typing, state, at):
    """Wakes the thread that sleeps on a number."""

    def emit(builder, state, at):
        if _FUTEX is not None and sys.byteorder == "little":
            _futex(builder, state, at, _WAKE, ir.Constant(ir.IntType(64), 1))

    return _nothing(2, emit)
