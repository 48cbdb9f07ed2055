"""Activation functions with parameters, as layers."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

from nbkeras import activations, ops
from nbkeras.building.layer import InputSpec, LayerOptions, SameShape
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly


def _not_negative(name: str, what: str, value: Any) -> Any:
    if value is None or not value >= 0:
        raise ValueError(f"{name}'s {what} must not be negative, received {briefly(value)}")
    return value


def _shared_axes(name: str, what: str, axes: Any) -> list[int] | None:
    return None if axes is None else list(option.integers_of(name, what, [axes] if isinstance(axes, int) else axes))


_NotNegative = Annotated[float, option.kind(_not_negative, "a number, not negative")]
_MaxValue = Annotated[Any, option.optional(_NotNegative)]
_SoftmaxAxis = Annotated[
    Any,
    option.kind(lambda name, what, axis: tuple(axis) if isinstance(axis, list) else axis, "an integer, or several"),
]
_SharedAxes = Annotated[Any, option.kind(_shared_axes, "an integer, or several, or None")]


class _EachAlone(SameShape):
    """Base of activations that compute each number by itself.

    Input shape:
        Any.
    """

    each_step_alone = True  # as an activation of a layer that continues a sequence


class ReLU(_EachAlone):
    """x where x is above a threshold, else 0: max(x, 0) by default.

    In general: max_value where x >= max_value; x where threshold < x < max_value; else negative_slope * (x -
    threshold).

    Args:
        max_value: The maximum output; None for no limit.
        negative_slope: The slope at and below the threshold.
        threshold: The number up to which x counts as negative.

    Raises:
        ValueError: if an argument is negative.

    Example:
        >>> x = np.array([-2.0, 0.0, 4.0, 8.0])
        >>> layers.ReLU()(x).numpy()
        array([0., 0., 4., 8.], dtype=float32)
        >>> layers.ReLU(max_value=6.0, negative_slope=0.5)(x).numpy()
        array([-1.,  0.,  4.,  6.], dtype=float32)
    """

    def __init__(
        self,
        max_value: _MaxValue = None,
        negative_slope: _NotNegative = 0.0,
        threshold: _NotNegative = 0.0,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return ops.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(_EachAlone):
    """x where x > 0, else negative_slope * x.

    Args:
        negative_slope: The slope below 0.

    Raises:
        ValueError: if negative_slope is negative.

    Example:
        >>> layers.LeakyReLU(negative_slope=0.5)(np.array([-2.0, 0.0, 4.0])).numpy()
        array([-1.,  0.,  4.], dtype=float32)
    """

    def __init__(self, negative_slope: _NotNegative = 0.3, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return ops.leaky_relu(inputs, self.negative_slope)


class ELU(_EachAlone):
    """x where x > 0, else alpha * (exp(x) - 1).

    Args:
        alpha: The factor below 0; -alpha is the limit of the output.

    Example:
        >>> layers.ELU()(np.array([-100.0, -1.0, 0.0, 2.0])).numpy().round(3)
        array([-1.   , -0.632,  0.   ,  2.   ], dtype=float32)
    """

    def __init__(self, alpha: option.Number = 1.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return ops.elu(inputs, self.alpha)


class ThresholdedReLU(_EachAlone):
    """x where x > theta, else 0. From Keras 2.

    Args:
        theta: The threshold.

    Raises:
        ValueError: if theta is negative.

    Example:
        >>> layers.ThresholdedReLU(theta=1.0)(np.array([-1.0, 0.5, 1.0, 2.0])).numpy()
        array([0., 0., 0., 2.], dtype=float32)
    """

    def __init__(self, theta: _NotNegative = 1.0, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return ops.threshold(inputs, self.theta, 0.0)


class Softmax(SameShape):
    """exp(x) / sum(exp(x)) along one or several axes: positive numbers that sum to 1.

    Args:
        axis: The axes along which the outputs sum to 1.

    Call arguments:
        inputs: Scores of any shape.
        mask: A tensor that broadcasts to the input: the output is 0 where it is False (or at most 0.5). By
            default the input's mask.

    Raises:
        ValueError: for a mask that does not broadcast to the input.

    Example:
        >>> layers.Softmax()(np.log([[1.0, 1.0, 2.0]])).numpy()
        array([[0.25, 0.25, 0.5 ]], dtype=float32)
        >>> layers.Softmax()(np.array([[0.0, 0.0, 9.0]]), mask=np.array([[True, True, False]])).numpy()
        array([[0.5, 0.5, 0. ]], dtype=float32)
    """

    def __init__(self, axis: _SoftmaxAxis = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs, mask=None):
        if mask is not None:
            mask = ops.convert_to_tensor(mask)
            axes = zip(reversed(mask.shape), reversed(inputs.shape), strict=False)
            if len(mask.shape) > len(inputs.shape) or any(m not in (1, n) for m, n in axes):
                raise ValueError(
                    f"Softmax {self.name!r} needs a mask that broadcasts to its input of shape {tuple(inputs.shape)}, "
                    f"received shape {tuple(mask.shape)}"
                )
            mask = mask if mask.dtype.kind == "b" else ops.greater(mask, 0.5)
            inputs = ops.where(mask, inputs, -1e9)
        if isinstance(self.axis, int):
            outputs = ops.softmax(inputs, self.axis)
        else:
            outputs = ops.exp(ops.subtract(inputs, ops.logsumexp(inputs, self.axis, keepdims=True)))
        return outputs if mask is None else ops.where(mask, outputs, 0.0)


class PReLU(SameShape):
    """x where x > 0, else alpha * x with a learned alpha for each element. He et al., 2015.

    Args:
        shared_axes: The axes, counted from 1 (the batch axis is 0), along which alpha is shared: (1, 2) for
            images gives one alpha for each channel.

    Input shape:
        (batch, ...); sizes must be known, except along shared axes.

    Raises:
        ValueError: if the input lacks a shared axis.

    Example:
        >>> layer = layers.PReLU(alpha_initializer=keras.initializers.Constant(0.5))
        >>> layer(np.array([[-2.0, 0.0, 4.0]])).numpy()
        array([[-1.,  0.,  4.]], dtype=float32)
        >>> layer.alpha.shape
        (3,)
    """

    def __init__(
        self,
        alpha_initializer: option.Initializer = "zeros",
        alpha_regularizer: option.Regularizer = None,
        alpha_constraint: option.Constraint = None,
        shared_axes: _SharedAxes = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape):
        shape = list(input_shape[1:])
        for axis in self.shared_axes or []:
            if not 1 <= axis < len(input_shape):
                raise ValueError(
                    f"PReLU {self.name!r} shares axis {axis}, but its input has shape {tuple(input_shape)}"
                )
            shape[axis - 1] = 1
        self.alpha = self._option_weight(tuple(shape), "alpha")
        fixed = {axis: size for axis, size in enumerate(input_shape) if axis and axis not in (self.shared_axes or [])}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=fixed)

    def call(self, inputs):
        return ops.subtract(ops.relu(inputs), ops.multiply(self.alpha, ops.relu(ops.negative(inputs))))


for _layer in (ReLU, LeakyReLU, ELU, Softmax, PReLU):  # files name them if a layer was given as an activation
    activations.registry.register(_layer)
    activations.registry.publish(_layer, "keras.layers", _layer.__name__)
