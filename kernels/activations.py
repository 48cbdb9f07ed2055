"""Elementwise activations, forward and vjp: relu and its variants, elu, sigmoid, tanh, silu, gelu, mish, softplus.

Their formulas are in formulas.py; NaN stays NaN. Softmax is in softmax.py.
"""

from collections.abc import Callable

import numpy as np

from nbkeras.kernels import formulas
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime import device

Array = np.ndarray
_PRODUCTS = 32768  # least elements of a share, for loops without exponentials

# The ops. Each has the attributes `formula`, `slope` and `keeps` ("x" or "y": the argument of the slope).
OPS: list[Callable] = []


def _activation(
    name: str, formula: Callable, slope: Callable, keeps: str = "x", cheap: str = ""
) -> tuple[Callable, Callable]:
    """Returns an op and its vjp, and gives their kernels names in this module.

    cheap: names the passes without exponentials: "forward", "backward" or both.
    """
    fused = ("relu", "relu_slope") if name == "relu" else ("", "")
    least = [{"least": _PRODUCTS} if way in cheap else {} for way in ("forward", "backward")]
    forward = Map(f"{name}_forward", __name__, formula, "y", fuses_as=fused[0], **least[0])
    backward = Map(f"{name}_backward", __name__, slope, "dx", times="dy", fuses_as=fused[1], **least[1])
    globals().update({kernel.__name__: kernel for kernel in (forward, backward)})

    def op(x: Array, **constants: float):
        y = device.empty(x.shape, x.dtype)
        numbers = tuple(float(constants[each]) for each in forward.numbers)
        forward.launch(x.reshape(-1), y.reshape(-1), *numbers)
        return y, (x if keeps == "x" else y, numbers)

    def vjp(saved, dy, needs):
        kept, numbers = saved
        dx = device.output(needs[0], dy.shape, dy.dtype)
        backward.launch(kept.reshape(-1), dy.reshape(-1), dx.reshape(-1), *numbers)
        return (dx,)

    op.__name__ = op.__qualname__ = name
    vjp.__name__ = vjp.__qualname__ = f"{name}_vjp"
    op.__doc__ = formula.__doc__
    op.formula, op.slope, op.keeps = formula, slope, keeps  # type: ignore[attr-defined]
    OPS.append(op)
    return op, vjp


relu, relu_vjp = _activation("relu", formulas.relu, formulas.relu_slope, "y", "forward backward")
piecewise, piecewise_vjp = _activation(
    "piecewise", formulas.piecewise, formulas.piecewise_slope, cheap="forward backward"
)
elu, elu_vjp = _activation("elu", formulas.elu, formulas.elu_slope)
sigmoid, sigmoid_vjp = _activation("sigmoid", formulas.logistic, formulas.logistic_slope, "y", "backward")
tanh, tanh_vjp = _activation("tanh", formulas.hyperbolic_tangent, formulas.hyperbolic_tangent_slope, "y", "backward")
silu, silu_vjp = _activation("silu", formulas.silu, formulas.silu_slope)
gelu, gelu_vjp = _activation("gelu", formulas.gelu, formulas.gelu_slope)
gelu_tanh, gelu_tanh_vjp = _activation("gelu_tanh", formulas.gelu_tanh, formulas.gelu_tanh_slope)
mish, mish_vjp = _activation("mish", formulas.mish, formulas.mish_slope)
hard_silu, hard_silu_vjp = _activation(
    "hard_silu", formulas.hard_silu, formulas.hard_silu_slope, cheap="forward backward"
)
softplus, softplus_vjp = _activation("softplus", formulas.softplus, formulas.softplus_slope)
