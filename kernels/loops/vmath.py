"""exp, tanh and sigmoid for loops written for Numba, which LLVM can vectorise: those of formulas (operations.py).

Numba has no vector math library, so `math.exp` in a loop is a scalar call (tanh takes 4.6 ns instead of 0.26). The formulas are
emitted as LLVM instructions, because in Python, inlined by Numba, each use took 0.15 s to compile.
"""

from collections.abc import Callable

from nbkeras.kernels.loops.llvm import Vector
from nbkeras.kernels.loops.operations import CURVES
from nbkeras.kernels.runtime.lazy import emitted, types


def _for_numba(name: str, doc: str) -> Callable:
    def function(context, builder, signature, x):
        return CURVES[name](Vector(builder, x)).value

    function.__name__, function.__doc__ = name, doc
    return emitted(lambda x: x(x) if x in (types.float32, types.float64) else None)(function)


exp = _for_numba("exp", "Returns e**x.")
bounded_exp = _for_numba("bounded_exp", "Returns e**x for x <= 80, and 0 instead of subnormal numbers.")
tanh = _for_numba("tanh", "Returns the hyperbolic tangent.")
sigmoid = _for_numba("sigmoid", "Returns 1 / (1 + e**-x); float32 gives 0 instead of subnormal numbers.")
