"""Differentiable activation functions. An activation with its own kernel is fast; the others are composed of ops.

Each takes a float tensor of any shape (integers become floatx) and returns a tensor of the same shape. Formulas and
defaults are Keras 3's except where a docstring says otherwise. At the kink of relu, its variants, elu and selu the
gradient is the left derivative. At infinity silu, gelu, mish, hard_silu and their gradients return their limits,
where Keras returns NaN.
"""

# A described function gets its body from its decorator.
# mypy: disable-error-code="empty-body"

import math
from collections.abc import Callable
from typing import Any

from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, apply, as_float, as_tensor, op, value_of
from nbkeras.engine.user_errors import warn
from nbkeras.kernels import activations, formulas
from nbkeras.kernels import softmax as softmax_kernels
from nbkeras.ops import elementwise
from nbkeras.ops.arguments import axes_of, axis_of
from nbkeras.ops.formula import formula
from nbkeras.ops.shape import _over_axes, split


@op
def linear(x) -> Any:
    """x unchanged.

    Args:
        x: Anything; it is returned unchanged.

    Example:
        >>> ops.linear(ops.array([-1.0, 2.0])).numpy()
        array([-1.,  2.], dtype=float32)
    """
    return x


@op
def relu(x, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Tensor:
    """The rectified linear unit: x above the threshold, else negative_slope * (x - threshold).

    With the defaults, this is max(x, 0). The gradient at the threshold is the left derivative.

    Args:
        x: Numbers of any shape; integers become floatx, unless all options are the defaults.
        negative_slope: The slope below the threshold.
        max_value: The upper limit of the result, not negative; None for no limit. With a limit, values above the
            threshold are clipped at 0 too.
        threshold: The number above which x passes.

    Raises:
        ValueError: for a negative max_value.

    Example:
        >>> ops.relu([-2.0, 0.5, 9.0]).numpy()
        array([0. , 0.5, 9. ], dtype=float32)
        >>> ops.relu([-2.0, 0.5, 9.0], negative_slope=0.1, max_value=6.0, threshold=1.0).numpy()
        array([-0.3 , -0.05,  6.  ], dtype=float32)
    """
    plain = not negative_slope and max_value is None and not threshold
    if plain and as_tensor(x).dtype.kind in "iu":
        return elementwise.maximum(x, 0)
    x = as_float(x)
    if plain:
        return apply(activations.relu, activations.relu_vjp, [x])
    if max_value is not None and max_value < 0:
        raise ValueError(f"relu: max_value must not be negative, received {briefly(max_value)}")
    if max_value is not None and not 0 <= threshold < max_value:
        above, below = elementwise.clip(x, 0.0, max_value), elementwise.multiply(x - threshold, negative_slope)
        return elementwise.where(x > threshold, above, below)
    top = math.nan if max_value is None else max_value
    constants = {"negative_slope": negative_slope, "threshold": threshold, "max_value": top}
    return apply(activations.piecewise, activations.piecewise_vjp, [x], **constants)


@op
def relu6(x) -> Tensor:
    """min(max(x, 0), 6): a relu that is limited to 6.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.relu6([-2.0, 3.0, 9.0]).numpy()
        array([0., 3., 6.], dtype=float32)
    """
    return relu(x, max_value=6.0)


@op
def leaky_relu(x, negative_slope: float = 0.2) -> Tensor:
    """x where x > 0, else negative_slope * x. Maas et al., 2013.

    Args:
        x: Numbers of any shape; integers become floatx.
        negative_slope: The slope below 0.

    Example:
        >>> ops.leaky_relu([-1.0, 2.0]).numpy()
        array([-0.2,  2. ], dtype=float32)
    """
    return relu(x, negative_slope=negative_slope)


@op
def elu(x, alpha: float = 1.0) -> Tensor:
    """The exponential linear unit: x where x > 0, else alpha (e^x - 1). Clevert et al., 2015.

    Args:
        x: Numbers of any shape; integers become floatx.
        alpha: The result tends to -alpha as x goes to minus infinity.

    Example:
        >>> ops.elu([-1.0, 2.0]).numpy().round(4)
        array([-0.6321,  2.    ], dtype=float32)
    """
    return apply(activations.elu, activations.elu_vjp, [as_float(x)], alpha=alpha, scale=1.0)


@op
def celu(x, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (e^(x / alpha) - 1): an elu without a kink at 0 for every alpha. Barron, 2017.

    Args:
        x: Numbers of any shape; integers become floatx.
        alpha: The result tends to -alpha as x goes to minus infinity.

    Raises:
        ValueError: if alpha is 0.

    Example:
        >>> ops.celu([-1.0, 2.0], alpha=2.0).numpy().round(4)
        array([-0.7869,  2.    ], dtype=float32)
    """
    if not alpha:
        raise ValueError("celu's alpha must not be 0")
    return elementwise.multiply(elu(elementwise.divide(x, alpha)), alpha)


@op
def selu(x) -> Tensor:
    """The scaled exponential linear unit: 1.0507 x where x > 0, else 1.7581 (e^x - 1). Klambauer et al., 2017.

    It moves mean and variance towards 0 and 1, layer by layer, with kernels of the initializer 'lecun_normal'.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.selu([-1.0, 2.0]).numpy().round(4)
        array([-1.1113,  2.1014], dtype=float32)
    """
    constants = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}
    return apply(activations.elu, activations.elu_vjp, [as_float(x)], **constants)


@op
def gelu(x, approximate: bool = True) -> Tensor:
    """The Gaussian error linear unit x Phi(x), Phi the normal distribution function. Hendrycks and Gimpel, 2016.

    Args:
        x: Numbers of any shape; integers become floatx.
        approximate: Whether to compute 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), which is close to it. The
            default is the same as in keras.ops.gelu; `keras.activations.gelu` is exact by default.

    Example:
        >>> ops.gelu([-1.0, 1.0], approximate=False).numpy().round(4)
        array([-0.1587,  0.8413], dtype=float32)
    """
    x = as_float(x)
    if approximate:
        return apply(activations.gelu_tanh, activations.gelu_tanh_vjp, [x])
    return apply(activations.gelu, activations.gelu_vjp, [x])


@elementwise._of_floats(activations)
def silu(x) -> Tensor:
    """x sigmoid(x), also called swish. Elfwing et al., 2017; Ramachandran et al., 2017.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.silu([-1.0, 2.0]).numpy().round(4)
        array([-0.2689,  1.7616], dtype=float32)
    """


swish = silu


@elementwise._of_floats(activations)
def mish(x) -> Tensor:
    """x tanh(softplus(x)). Misra, 2019.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.mish([-1.0, 2.0]).numpy().round(4)
        array([-0.3034,  1.944 ], dtype=float32)
    """


@elementwise._of_floats(activations)
def softplus(x) -> Tensor:
    """log(1 + e^x), a smooth relu; without overflow.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.softplus([-1.0, 0.0, 20.0]).numpy().round(4)
        array([ 0.3133,  0.6931, 20.    ], dtype=float32)
    """


@formula
def softsign(x) -> Tensor:
    """x / (1 + |x|), from -1 to 1.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.softsign([-1.0, 3.0]).numpy()
        array([-0.5 ,  0.75], dtype=float32)
    """
    return formulas.softsign(x)


@op
def sigmoid(x) -> Tensor:
    """The logistic function 1 / (1 + e^-x), from 0 to 1.

    The result keeps a reference to x, so that a cross-entropy of it is computed from x, which is more accurate.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sigmoid([0.0, 2.0]).numpy().round(4)
        array([0.5   , 0.8808], dtype=float32)
    """
    x = as_float(x)
    y = apply(activations.sigmoid, activations.sigmoid_vjp, [x])
    y.logits = ("sigmoid", value_of(x))
    return y


@op
def log_sigmoid(x) -> Tensor:
    """log(sigmoid(x)), without overflow.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.log_sigmoid([-20.0, 0.0]).numpy().round(4)
        array([-20.    ,  -0.6931], dtype=float32)
    """
    return elementwise.negative(softplus(elementwise.negative(as_float(x))))


@op
def hard_sigmoid(x) -> Tensor:
    """relu6(x + 3) / 6, a piecewise linear sigmoid, as in Keras 3; `legacy_hard_sigmoid` is the version of Keras 2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.hard_sigmoid([-3.0, 0.0, 1.5]).numpy()
        array([0.  , 0.5 , 0.75], dtype=float32)
    """
    return elementwise.divide(relu6(elementwise.add(as_float(x), 3.0)), 6.0)


@op
def legacy_hard_sigmoid(x) -> Tensor:
    """min(max(0.2 x + 0.5, 0), 1): the hard_sigmoid of Keras 2.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.legacy_hard_sigmoid([-3.0, 0.0, 1.0]).numpy()
        array([0. , 0.5, 0.7], dtype=float32)
    """
    line = elementwise.add(elementwise.multiply(as_float(x), 0.2), 0.5)
    return elementwise.clip(line, 0.0, 1.0)


@elementwise._of_floats(activations)
def hard_silu(x) -> Tensor:
    """x hard_sigmoid(x), also called hard_swish. Howard et al., 2019.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.hard_silu([-1.5, 1.5, 4.0]).numpy()
        array([-0.375,  1.125,  4.   ], dtype=float32)
    """


hard_swish = hard_silu


@elementwise._of_floats(activations)
def tanh(x) -> Tensor:
    """The hyperbolic tangent, from -1 to 1.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.tanh([0.0, 1.0]).numpy().round(4)
        array([0.    , 0.7616], dtype=float32)
    """


@op
def hard_tanh(x) -> Tensor:
    """min(max(x, -1), 1), a piecewise linear tanh.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.hard_tanh([-2.0, 0.5, 3.0]).numpy()
        array([-1. ,  0.5,  1. ], dtype=float32)
    """
    return elementwise.clip(as_float(x), -1.0, 1.0)


@op
def tanh_shrink(x) -> Tensor:
    """x - tanh(x).

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.tanh_shrink([0.0, 1.0]).numpy().round(4)
        array([0.    , 0.2384], dtype=float32)
    """
    return elementwise.subtract(x, tanh(x))


@op
def hard_shrink(x, threshold: float = 0.5) -> Tensor:
    """x where |x| > threshold, else 0.

    Args:
        x: Numbers of any shape; integers become floatx.
        threshold: The absolute value up to which x becomes 0.

    Example:
        >>> ops.hard_shrink([-1.0, 0.5, 0.75]).numpy()
        array([-1.  ,  0.  ,  0.75], dtype=float32)
    """
    x = as_float(x)
    return elementwise.where(elementwise.greater(elementwise.absolute(x), threshold), x, 0.0)


@op
def soft_shrink(x, threshold: float = 0.5) -> Tensor:
    """x moved towards 0 by the threshold; 0 where |x| <= threshold.

    Args:
        x: Numbers of any shape; integers become floatx.
        threshold: The distance, at least 0.

    Example:
        >>> ops.soft_shrink([-1.0, 0.5, 0.75]).numpy()
        array([-0.5 ,  0.  ,  0.25], dtype=float32)
    """
    x = as_float(x)
    return elementwise.subtract(x, elementwise.clip(x, -float(threshold), float(threshold)))


@op
def threshold(x, threshold: float, default_value: float) -> Tensor:
    """x where x is above the threshold, else the default value.

    Args:
        x: Numbers of any shape; integers become floatx.
        threshold: The number above which x passes.
        default_value: The result elsewhere.

    Example:
        >>> ops.threshold([1.0, 2.0, 3.0], threshold=1.5, default_value=0.0).numpy()
        array([0., 2., 3.], dtype=float32)
    """
    x = as_float(x)
    return elementwise.where(elementwise.greater(x, threshold), x, float(default_value))


@op
def squareplus(x, b: float = 4.0) -> Tensor:
    """(x + sqrt(x^2 + b)) / 2, a smooth relu without exponentials. Barron, 2021.

    Args:
        x: Numbers of any shape; integers become floatx.
        b: How smooth the bend is; 0 gives relu.

    Example:
        >>> ops.squareplus([0.0, 1.5]).numpy()
        array([1., 2.], dtype=float32)
    """
    x = as_float(x)
    root = elementwise.sqrt(elementwise.add(elementwise.square(x), float(b)))
    return elementwise.multiply(elementwise.add(x, root), 0.5)


@op
def glu(x, axis: int = -1) -> Tensor:
    """The gated linear unit: the first half along an axis times the sigmoid of the second half. Dauphin et al., 2016.

    Args:
        x: Numbers with an axis of even size; integers become floatx.
        axis: The axis that is cut into halves.

    Returns:
        A tensor of x's shape, with half the size along the axis.

    Raises:
        ValueError: if the axis has an odd size, or does not exist.

    Example:
        >>> ops.glu([4.0, 6.0, 0.0, 0.0]).numpy()  # sigmoid(0) is 0.5
        array([2., 3.], dtype=float32)
    """
    x = as_float(x)
    at = axis_of("glu", axis, x.ndim)
    if x.shape[at] % 2:
        raise ValueError(f"glu: axis {axis} must have an even size, received shape {x.shape}")
    first, second = split(x, 2, axis=at)
    return elementwise.multiply(first, sigmoid(second))


@op
def exponential(x) -> Tensor:
    """The exponential function e^x, as an activation.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.exponential([0.0, 1.0]).numpy().round(4)
        array([1.    , 2.7183], dtype=float32)
    """
    return elementwise.exp(x)


def _over(name: str, kernel: Callable, vjp: Callable, x: Tensor, axis: Any) -> tuple[Tensor, tuple[int, ...]]:
    """Apply a kernel along one axis or over several; return the result and the axes. A scalar counts as one element."""
    axes = axes_of(name, axis, x.ndim) if x.ndim else ()
    if len(axes) == 1:
        return apply(kernel, vjp, [x], axis=axes[0]), axes
    return _over_axes(x, axes, lambda rows: apply(kernel, vjp, [rows], axis=1)), axes


@op
def softmax(x, axis: Any = -1) -> Tensor:
    """e^x / sum(e^x) along an axis: positive numbers that sum to 1.

    Along the last axis, the result keeps a reference to x, so that a cross-entropy of it is computed from x, which
    is more accurate.

    Args:
        x: Numbers of any shape; integers become floatx.
        axis: The axis of the sum, or several of them; None for all.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.softmax([[1.0, 2.0], [5.0, 5.0]]).numpy().round(4)
        array([[0.2689, 0.7311],
               [0.5   , 0.5   ]], dtype=float32)
    """
    x = as_float(x)
    if isinstance(axis, int) and x.ndim and x.shape[axis_of("softmax", axis, x.ndim)] == 1:
        warn(f"softmax over axis {axis} of shape {x.shape} always gives 1: did you mean a sigmoid?")
    y, axes = _over("softmax", softmax_kernels.softmax, softmax_kernels.softmax_vjp, x, axis)
    if axes == (x.ndim - 1,):
        y.logits = ("softmax", value_of(x))
    return y


@op
def log_softmax(x, axis: Any = -1) -> Tensor:
    """The logarithm of the softmax, x - log(sum(e^x)), without overflow.

    Args:
        x: Numbers of any shape; integers become floatx.
        axis: The axis of the sum, or several of them; None for all.

    Raises:
        ValueError: for an axis that x does not have.

    Example:
        >>> ops.log_softmax([1.0, 2.0]).numpy().round(4)
        array([-1.3133, -0.3133], dtype=float32)
    """
    x = as_float(x)
    return _over("log_softmax", softmax_kernels.log_softmax, softmax_kernels.log_softmax_vjp, x, axis)[0]


# -------------------- sparse results --------------------


@op
def sparse_plus(x) -> Tensor:
    """0 where x <= -1, (x + 1)^2 / 4 up to x = 1, then x: a softplus with exact zeros.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sparse_plus([-2.0, 0.0, 3.0]).numpy()
        array([0.  , 0.25, 3.  ], dtype=float32)
    """
    x = as_float(x)
    middle = elementwise.multiply(elementwise.square(elementwise.add(elementwise.clip(x, -1.0, 1.0), 1)), 0.25)
    return elementwise.where(elementwise.greater(x, 1), x, middle)


@op
def sparse_sigmoid(x) -> Tensor:
    """0 where x <= -1, (x + 1) / 2 up to x = 1, then 1: the derivative of `sparse_plus`.

    Args:
        x: Numbers of any shape; integers become floatx.

    Example:
        >>> ops.sparse_sigmoid([-2.0, 0.0, 3.0]).numpy()
        array([0. , 0.5, 1. ], dtype=float32)
    """
    return elementwise.multiply(elementwise.add(elementwise.clip(as_float(x), -1.0, 1.0), 1), 0.5)
