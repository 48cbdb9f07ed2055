"""Loads and stores by flat offset inside kernels, which LLVM can vectorise.

`a[o + j]` carries Python's wrap-around of negative indices, and that keeps LLVM from vectorising a loop over j; slices do
vectorise but cost time to compile and, in short loops, to make. These take any C-contiguous array as flat memory, and an
offset that the caller knows to be inside it.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array


def _pointer(context, builder, array_type, array, offset):
    return builder.gep(make_array(array_type)(context, builder, array).data, [offset], inbounds=True)


@intrinsic
def load(typing, array, offset):
    """array.ravel()[offset]."""
    if not isinstance(array, types.Array):
        return None

    def generate(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]))
        value.align = array.dtype.bitwidth // 8
        return value

    return array.dtype(array, types.intp), generate


@intrinsic
def store(typing, array, offset, value):
    """array.ravel()[offset] = value."""
    if not isinstance(array, types.Array):
        return None

    def generate(context, builder, signature, args):
        stored = builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]))
        stored.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def opaque(typing, offset):
    """The same offset, of which LLVM knows nothing.

    For the start of a row whose loops read or write several parts of it (the gates of a cell). LLVM checks for overlap
    once for all rows if it can follow a row's start from the row's number; taken over all rows the parts do overlap, and
    the loops run unvectorised: 4.7 ns for a step back through an LSTM's cell against 0.8.
    """
    integer = ir.IntType(64)

    def generate(context, builder, signature, args):
        return builder.asm(ir.FunctionType(integer, [integer]), "", "=r,0", [args[0]], False)

    return types.int64(types.int64), generate
