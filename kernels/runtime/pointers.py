"""Memory by address, for the runtime's compiled functions: loads, stores, calls, atomic operations, and waiting threads.

`state` is the address of 64-bit numbers, `at` the index of one of them.
"""

import os
import sys
import time

from nbkeras.kernels.runtime import processor
from nbkeras.kernels.runtime.lazy import cgutils, emitted, intrinsic, ir, types


def _pointer(builder, state, at):
    return builder.gep(builder.inttoptr(state, ir.IntType(64).as_pointer()), [at])


def _number(*given):
    """Returns the signature of a function of numbers that returns a number."""
    return types.int64(*[types.int64] * len(given))


def _nothing(*given):
    """Returns the signature of a function of numbers that returns nothing."""
    return types.void(*[types.int64] * len(given))


@emitted(_number)
def read(context, builder, signature, state, at):
    """Loads the number at index `at` (acquire): the writes before its store are then visible."""
    return builder.load_atomic(_pointer(builder, state, at), "acquire", 8)


@emitted(_nothing)
def write(context, builder, signature, state, at, value):
    """Stores a number (release): a thread that loads it sees all earlier writes too."""
    builder.store_atomic(value, _pointer(builder, state, at), "release", 8)


@emitted(_number)
def add(context, builder, signature, state, at, value):
    """Adds to a number; returns the old one."""
    return builder.atomic_rmw("add", _pointer(builder, state, at), value, "seq_cst")


@emitted(_number)
def exchange(context, builder, signature, state, at, value):
    """Writes a number; returns the old one."""
    return builder.atomic_rmw("xchg", _pointer(builder, state, at), value, "seq_cst")


@emitted(_nothing)
def relax(context, builder, signature):
    """Tells the processor that this is a spin loop."""
    machine, void, number = processor.machine().lower(), ir.VoidType(), ir.IntType(32)
    if machine in ("x86_64", "amd64", "i686", "i386"):
        pause = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, []), "llvm.x86.sse2.pause")
        builder.call(pause, [])
    elif machine in ("aarch64", "arm64"):
        hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [number]), "llvm.aarch64.hint")
        builder.call(hint, [ir.Constant(number, 1)])


def _nap(builder, microseconds):
    number = ir.IntType(32)
    if os.name == "nt":
        kind, name, operands = ir.FunctionType(number, []), "SwitchToThread", []
    else:
        kind, name, operands = ir.FunctionType(number, [number]), "usleep", [ir.Constant(number, microseconds)]
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


@emitted(_nothing)
def nap(context, builder, signature):
    """Sleeps for about 0.1 ms, or lets another thread run."""
    _nap(builder, 20)


@emitted(_number)
def load(context, builder, signature, address, at):
    """Loads the number at index `at`."""
    return builder.load(_pointer(builder, address, at))


@emitted(_number)
def load32(context, builder, signature, address):
    """Loads the int32 at an address."""
    value = builder.load(builder.inttoptr(address, ir.IntType(32).as_pointer()))
    return builder.sext(value, ir.IntType(64))


@emitted(_nothing)
def store(context, builder, signature, address, at, value):
    """Stores a number."""
    builder.store(value, _pointer(builder, address, at))


@emitted(lambda count: types.int64(count), prefer_literal=True)
def stack(context, builder, signature, count):
    """Returns the address of `count` numbers on the function's stack; count: a literal."""
    with builder.goto_entry_block():
        memory = builder.alloca(ir.IntType(64), signature.args[0].literal_value)
    return builder.ptrtoint(memory, ir.IntType(64))


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


@emitted(_number)
def nanoseconds(context, builder, signature, clock):
    """Returns the time of a clock of the C library; 0 if it does not exist."""
    if OWN < 0:
        return ir.Constant(ir.IntType(64), 0)
    times = ir.LiteralStructType([ir.IntType(64), ir.IntType(64)])
    number, result = ir.IntType(32), cgutils.alloca_once(builder, times)
    kind = ir.FunctionType(number, [number, times.as_pointer()])
    clock_gettime = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    builder.call(clock_gettime, [builder.trunc(clock, number), result])
    seconds, rest = (builder.load(cgutils.gep_inbounds(builder, result, 0, i)) for i in range(2))
    return builder.add(builder.mul(seconds, ir.Constant(ir.IntType(64), 10**9)), rest)


# -------------------- sleeping --------------------

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(processor.machine()) if sys.platform == "linux" else None
_WAIT, _WAKE = 128, 129  # FUTEX_WAIT and FUTEX_WAKE, within this process


def _futex(builder, state, at, operation, number):
    kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64)], var_arg=True)
    function = cgutils.get_or_insert_function(builder.module, kind, "syscall")
    numbers = [
        ir.Constant(ir.IntType(64), _FUTEX),
        _pointer(builder, state, at),
        ir.Constant(ir.IntType(64), operation),
        number,
    ]
    builder.call(function, [*numbers, ir.Constant(ir.IntType(64), 0)])


@emitted(_nothing)
def sleep_while(context, builder, signature, state, at, value):
    """Sleeps until `wake` while a number (below 2**31) has a value; without futexes, sleeps for a short time."""
    if _FUTEX is not None and sys.byteorder == "little":
        _futex(builder, state, at, _WAIT, value)
    else:
        _nap(builder, 500)


@emitted(_nothing)
def wake(context, builder, signature, state, at):
    """Wakes the thread that sleeps on a number."""
    if _FUTEX is not None and sys.byteorder == "little":
        _futex(builder, state, at, _WAKE, ir.Constant(ir.IntType(64), 1))
