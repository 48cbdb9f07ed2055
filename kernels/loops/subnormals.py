"""Treats subnormal numbers as zero while a kernel runs: `mode = flush()`, then the loops, then `restore(mode)`.

A gradient that vanishes over hundreds of time steps gets below the smallest normal number (1.2e-38 in float32).
Most processors are a hundred times slower with such numbers: a step of an LSTM on 512 time steps took 520 ms instead of 26.
The processor's mode belongs to the thread and is restored at the kernel's end.
"""

from nbkeras.kernels.loops import llvm
from nbkeras.kernels.runtime.lazy import binding, cgutils, emitted, ir, types
from nbkeras.kernels.runtime.processor import foreign_triple

_FLUSH = 0x8040  # the bits "flush to zero" and "denormals are zero" of x86's MXCSR


def _is_x86() -> bool:
    return (foreign_triple() or binding.get_process_triple()).startswith(("x86_64", "i686", "i386"))


def _access(builder, name, slot):
    llvm.call(builder, name, ir.VoidType(), [builder.bitcast(slot, ir.IntType(8).as_pointer())])


@emitted(lambda: types.int32())
def flush(context, builder, signature):
    """Treats subnormal numbers as zero from now on; returns the old mode. It does nothing on processors other than x86."""
    if not _is_x86():
        return ir.Constant(ir.IntType(32), 0)
    slot = cgutils.alloca_once(builder, ir.IntType(32))
    _access(builder, "llvm.x86.sse.stmxcsr", slot)
    before = builder.load(slot)
    builder.store(builder.or_(before, ir.Constant(ir.IntType(32), _FLUSH)), slot)
    _access(builder, "llvm.x86.sse.ldmxcsr", slot)
    return before


@emitted(lambda mode: types.void(types.int32))
def restore(context, builder, signature, mode):
    """Restores the mode that `flush` returned."""
    if _is_x86():
        _access(builder, "llvm.x86.sse.ldmxcsr", cgutils.alloca_once_value(builder, mode))
