"""Calling a compiled kernel by its address from another one, so that its code is not compiled again into the caller.

Numba links a callee's whole code into each caller and optimises it anew, four times for a `parallel=True` caller: 5 s for a
wrapper of three lines around an LSTM. Such a wrapper takes the callee's address instead, and compiles in 0.6 s:

    @compiled
    def scale_share(x, factor, share, shares):
        for i in range(x.size * share // shares, x.size * (share + 1) // shares):
            x[i] *= factor

    @compiled(parallel=True)
    def scale(address, shares, *args):
        for share in prange(shares):
            call(address, args, share, shares)

    launch_shares(scale, scale_share, shares, x, factor)
"""

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbkeras.kernels import device

_addresses: dict = {}


def launch_shares(parallel, kernel, shares: int, *args) -> None:
    """Launch `kernel(*args, share, shares)` for each share, by `parallel`, the wrapper shown above; one share: directly."""
    if shares == 1:
        device.launch(kernel, *args, 0, 1)
    elif not device.is_dry():
        device.launch(parallel, _address(kernel, *args, 0, shares), shares, *args)


def _address(kernel, *args) -> int:
    """The address of a kernel's code for the types of these arguments; compiled or loaded if need be."""
    key = (kernel, *[(a.dtype, a.ndim) if isinstance(a, np.ndarray) else type(a) for a in args])
    address = _addresses.get(key)
    if address is None:
        device.start()
        signature = tuple(typeof(a) for a in args)
        kernel.compile(signature)
        code = kernel.overloads[signature]
        address = _addresses[key] = code.library.get_pointer_to_function(code.fndesc.llvm_func_name)
    return address


@intrinsic
def call(typing, address, args, share, shares):
    """Call the kernel at `address` with the elements of the tuple `args`, then `share` and `shares`."""
    signature = types.void(types.int64, args, types.int64, types.int64)

    def generate(context, builder, signature, values):
        kinds = [*args.types, types.int64, types.int64]
        operands = [*cgutils.unpack_tuple(builder, values[1]), values[2], values[3]]
        pointer = ir.PointerType(context.call_conv.get_function_type(types.none, kinds))
        function = builder.inttoptr(values[0], pointer)
        context.call_conv.call_function(builder, function, types.none, kinds, operands)
        return context.get_dummy_value()

    return signature, generate
