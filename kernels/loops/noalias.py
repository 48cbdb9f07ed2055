"""Loads and stores by flat offset. LLVM may assume that they do not overlap, so that it vectorises loops over many arrays.

Otherwise LLVM does not vectorise loops over many arrays, because each pair needs an overlap check at run time: the gradient of
max-pooling took 3.7 ms instead of 0.4. A function that uses these must not `load` from an array that it `store`s to. LLVM never
inlines the function: inside a caller, the assumption would cover other calls' loads and stores too.
"""

from nbkeras.kernels.loops.flat_access import pointer, types_of_load, types_of_store
from nbkeras.kernels.runtime.lazy import emitted

_LOADS, _STORES = range(2)


def _access(context, builder, array_type, array, offset, kind, value=None):
    """Emits the load (value None) or store with its alias scopes, and forbids inlining of the function around it."""
    module = builder.module
    domain = module.add_metadata(["nbkeras noalias"])
    scopes = [module.add_metadata([["nbkeras loads", "nbkeras stores"][i], domain]) for i in (_LOADS, _STORES)]
    at = pointer(context, builder, array_type, array, offset)
    instruction = builder.load(at) if value is None else builder.store(value, at)
    instruction.align = array_type.dtype.bitwidth // 8
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[kind]]))
    instruction.set_metadata("noalias", module.add_metadata([scopes[1 - kind]]))
    builder.function.attributes.add("noinline")
    return instruction


@emitted(types_of_load)
def load(context, builder, signature, array, offset):
    """Returns array.ravel()[offset] of a C-contiguous array that the function does not store into."""
    return _access(context, builder, signature.args[0], array, offset, _LOADS)


@emitted(types_of_store)
def store(context, builder, signature, array, offset, value):
    """Sets array.ravel()[offset] = value in a C-contiguous array that the function does not load from."""
    _access(context, builder, signature.args[0], array, offset, _STORES, value)
