"""Loads and stores by flat offset inside CUDA kernels: of one element, or of four neighbours at once.

`array[i]` carries Python's wrap-around of negative indices, and four neighbours would be four instructions. An array is taken
as flat memory. What is loaded or stored by four must lie at a multiple of 16 bytes (of 4 for bytes): see `aligned`. In the
simulator, which has no intrinsics, these are Python functions that check it.
"""

from typing import Any

from nbkeras.kernels.cuda_kernel import SIMULATED
from nbkeras.kernels.device_array import DeviceArray

_MOST = 16  # bytes that one instruction loads


def _alignment(itemsize: int) -> int:
    return min(_MOST, 4 * itemsize)


def aligned(*arrays: DeviceArray) -> bool:
    """Whether arrays start where `load4` may read their first elements."""
    return all(array.address % _alignment(array.itemsize) == 0 for array in arrays)


if SIMULATED:

    def _place(array: Any, at: Any, count: int) -> Any:
        flat = array.reshape(-1)
        if not 0 <= at <= flat.size - count:
            raise IndexError(f"{count} elements at {at} of {flat.size} were loaded or stored")
        if count > 1 and flat[at:].__array_interface__["data"][0] % _alignment(flat.itemsize):
            raise ValueError(f"{count} elements at {at} are not aligned")
        return flat[at : at + count]

    def load(array, at):
        """array.ravel()[at]."""
        return _place(array, at, 1)[0]

    def store(array, at, value):
        """array.ravel()[at] = value."""
        _place(array, at, 1)[0] = value

    def load4(array, at):
        """A tuple of the four elements from array.ravel()[at] on."""
        return tuple(_place(array, at, 4))

    def store4(array, at, a, b, c, d):
        """array.ravel()[at : at + 4] = a, b, c, d."""
        _place(array, at, 4)[:] = a, b, c, d

else:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic
    from numba.cuda.np.arrayobj import make_array

    def _pointer(context, builder, array_type, array, at, count):
        pointer = builder.gep(make_array(array_type)(context, builder, array).data, [at], inbounds=True)
        if count == 1:
            return pointer
        return builder.bitcast(pointer, ir.VectorType(context.get_data_type(array_type.dtype), count).as_pointer())

    def _index(i):
        return ir.Constant(ir.IntType(32), i)

    @intrinsic
    def load(typing, array, at):
        """array.ravel()[at]."""

        def generate(context, builder, signature, args):
            value = builder.load(_pointer(context, builder, signature.args[0], *args, 1))
            value.align = array.dtype.bitwidth // 8
            return value

        return array.dtype(array, types.int64), generate

    @intrinsic
    def store(typing, array, at, value):
        """array.ravel()[at] = value."""

        def generate(context, builder, signature, args):
            stored = builder.store(args[2], _pointer(context, builder, signature.args[0], *args[:2], 1))
            stored.align = array.dtype.bitwidth // 8
            return context.get_dummy_value()

        return types.void(array, types.int64, array.dtype), generate

    @intrinsic
    def load4(typing, array, at):
        """A tuple of the four elements from array.ravel()[at] on."""

        def generate(context, builder, signature, args):
            four = builder.load(_pointer(context, builder, signature.args[0], *args, 4))
            four.align = _alignment(array.dtype.bitwidth // 8)
            values = [builder.extract_element(four, _index(i)) for i in range(4)]
            return context.make_tuple(builder, signature.return_type, values)

        return types.UniTuple(array.dtype, 4)(array, types.int64), generate

    @intrinsic
    def store4(typing, array, at, a, b, c, d):
        """array.ravel()[at : at + 4] = a, b, c, d."""

        def generate(context, builder, signature, args):
            pointer = _pointer(context, builder, signature.args[0], *args[:2], 4)
            four = ir.Constant(pointer.type.pointee, ir.Undefined)
            for i, value in enumerate(args[2:]):
                four = builder.insert_element(four, value, _index(i))
            builder.store(four, pointer).align = _alignment(array.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(array, types.int64, *[array.dtype] * 4), generate
