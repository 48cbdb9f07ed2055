"""Elementwise activations, forward and vjp: relu and its variants, elu, sigmoid, tanh, silu, gelu, mish, softplus.

Their formulas are in formulas.py; NaN stays NaN. Softmax is in softmax.py.
"""

from collections.abc import Callable
from typing import Any

from nbkeras.kernels import formulas
from nbkeras.kernels.formula_ops import op_of

# The ops; formula_ops.py says what attributes they have
OPS: list[Callable] = []


def _activation(formula: Callable, slope: Callable, name: str = "", **options: Any) -> tuple[Callable, Callable]:
    """An op and its vjp."""
    op, vjp = op_of(name or formula.__name__, __name__, formula, [slope], **options)
    OPS.append(op)
    return op, vjp


_CHEAP = "forward backward"

relu, relu_vjp = _activation(
    formulas.relu, formulas.relu_slope, keeps="y", cheap=_CHEAP, fuses_as=("relu", "relu_slope")
)
piecewise, piecewise_vjp = _activation(formulas.piecewise, formulas.piecewise_slope, cheap=_CHEAP)
elu, elu_vjp = _activation(formulas.elu, formulas.elu_slope)
sigmoid, sigmoid_vjp = _activation(formulas.logistic, formulas.logistic_slope, "sigmoid", keeps="y", cheap="backward")
tanh, tanh_vjp = _activation(
    formulas.hyperbolic_tangent, formulas.hyperbolic_tangent_slope, "tanh", keeps="y", cheap="backward"
)
silu, silu_vjp = _activation(formulas.silu, formulas.silu_slope)
gelu, gelu_vjp = _activation(formulas.gelu, formulas.gelu_slope)
gelu_tanh, gelu_tanh_vjp = _activation(formulas.gelu_tanh, formulas.gelu_tanh_slope)
mish, mish_vjp = _activation(formulas.mish, formulas.mish_slope)
hard_silu, hard_silu_vjp = _activation(formulas.hard_silu, formulas.hard_silu_slope, cheap=_CHEAP)
softplus, softplus_vjp = _activation(formulas.softplus, formulas.softplus_slope)
