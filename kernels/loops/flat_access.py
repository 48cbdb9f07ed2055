"""Loads and stores by flat offset inside kernels, which LLVM can vectorise.

`a[o + j]` includes Python's wrap-around of negative indices, which prevents LLVM from vectorising a loop over j. Loops over
slices are vectorised, but slices take time to compile and, in short loops, to create. These functions treat any C-contiguous
array as flat memory; the caller guarantees that the offset is inside it.
"""

from nbkeras.kernels.runtime.lazy import arrayobj, intrinsic, ir, types


def _pointer(context, builder, array_type, array, offset):
    return builder.gep(arrayobj.make_array(array_type)(context, builder, array).data, [offset], inbounds=True)


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
    """The same offset, hidden from LLVM's analysis.

    Use it for the start of a row if loops read or write several parts of the row (the gates of a cell). If LLVM can compute a
    row's start from the row's number, it checks for overlap once for all rows; over all rows the parts do overlap, and the loops
    run without vectors: 4.7 ns instead of 0.8 for a backward step through an LSTM's cell.
    """
    integer = ir.IntType(64)

    def generate(context, builder, signature, args):
        return builder.asm(ir.FunctionType(integer, [integer]), "", "=r,0", [args[0]], False)

    return types.int64(types.int64), generate
