"""Atomic reads, writes and additions for threads, and the instructions by which they wait, in compiled code.

`state` is the address of numbers of 64 bits, `at` the index of one of them.
"""

import os
import time

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_word = types.int64


def _pointer(builder, args):
    pointer = builder.inttoptr(args[0], _I64.as_pointer())
    return builder.gep(pointer, [args[1]])


@intrinsic
def read(typing, state, at):
    """The number at index `at`. Afterwards all that was written before it can be read."""
    return _word(_word, _word), lambda _, builder, __, args: builder.load_atomic(_pointer(builder, args), "acquire", 8)


@intrinsic
def write(typing, state, at, value):
    """Write a number. A thread that reads it sees all earlier writes too."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[2], _pointer(builder, args), "release", 8)
        return context.get_dummy_value()

    return types.void(_word, _word, _word), generate


@intrinsic
def add(typing, state, at, value):
    """Add to a number; returns the old one."""
    signature = _word(_word, _word, _word)
    return signature, lambda _, builder, __, args: builder.atomic_rmw(
        "add", _pointer(builder, args), args[2], "seq_cst"
    )


@intrinsic
def exchange(typing, state, at, value):
    """Write a number; returns the old one."""
    signature = _word(_word, _word, _word)
    return signature, lambda _, builder, __, args: builder.atomic_rmw(
        "xchg", _pointer(builder, args), args[2], "seq_cst"
    )


@intrinsic
def relax(typing):
    """Tell the processor that this is a waiting loop."""

    def generate(context, builder, signature, args):
        machine, void, number = llvm.get_process_triple().split("-")[0], ir.VoidType(), ir.IntType(32)
        if machine in ("x86_64", "i686", "i386"):
            pause = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, []), "llvm.x86.sse2.pause")
            builder.call(pause, [])
        elif machine in ("aarch64", "arm64"):
            hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [number]), "llvm.aarch64.hint")
            builder.call(hint, [ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def nap(typing):
    """Sleep for about 0.1 ms, or let another thread run."""

    def generate(context, builder, signature, args):
        number = ir.IntType(32)
        if os.name == "nt":
            kind, name, operands = ir.FunctionType(number, []), "SwitchToThread", []
        else:
            kind, name, operands = ir.FunctionType(number, [number]), "usleep", [ir.Constant(number, 20)]
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)
        return context.get_dummy_value()

    return types.void(), generate


# -1: not available on Windows
WALL, OWN = getattr(time, "CLOCK_MONOTONIC", -1), getattr(time, "CLOCK_THREAD_CPUTIME_ID", -1)


@intrinsic
def nanoseconds(typing, clock):
    """The time of a clock of the C library; 0 where there is none."""

    def generate(context, builder, signature, args):
        if OWN < 0:
            return ir.Constant(_I64, 0)
        times = ir.LiteralStructType([_I64, _I64])
        number, result = ir.IntType(32), cgutils.alloca_once(builder, times)
        kind = ir.FunctionType(number, [number, times.as_pointer()])
        clock_gettime = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(clock_gettime, [builder.trunc(args[0], number), result])
        seconds, rest = (builder.load(cgutils.gep_inbounds(builder, result, 0, i)) for i in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(_I64, 10**9)), rest)

    return _word(_word), generate
