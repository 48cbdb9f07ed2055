"""Activation functions with parameters, as layers."""

from __future__ import annotations

from nbkeras import activations, ops
from nbkeras.building.layer import InputSpec
from nbkeras.engine.options import config_from
from nbkeras.layers.same_shape import SameShape
from nbkeras.layers.weight_options import add_option_weight, keep_options


class ReLU(SameShape):
    """x where x > threshold (at most max_value), else negative_slope * (x - threshold)."""

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        if max_value is not None and max_value < 0:
            raise ValueError(f"ReLU's max_value must not be negative, received {max_value!r}")
        if negative_slope is None or negative_slope < 0 or threshold is None or threshold < 0:
            raise ValueError(
                f"ReLU's negative_slope and threshold must not be negative, received {negative_slope!r} and {threshold!r}"
            )
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs):
        return ops.relu(inputs, self.negative_slope, self.max_value, self.threshold)

    get_config = config_from(__init__)


class LeakyReLU(SameShape):
    """x where x > 0, else negative_slope * x."""

    def __init__(self, negative_slope=0.3, **kwargs):
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ValueError(f"LeakyReLU's negative_slope must not be negative, received {negative_slope!r}")
        self.negative_slope = negative_slope

    def call(self, inputs):
        return ops.leaky_relu(inputs, self.negative_slope)

    get_config = config_from(__init__)


class ELU(SameShape):
    """x where x > 0, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs):
        return ops.elu(inputs, self.alpha)

    get_config = config_from(__init__)


class ThresholdedReLU(SameShape):
    """x where x > theta, else 0."""

    def __init__(self, theta=1.0, **kwargs):
        super().__init__(**kwargs)
        if theta is None or theta < 0:
            raise ValueError(f"ThresholdedReLU's theta must not be negative, received {theta!r}")
        self.theta = theta

    def call(self, inputs):
        return ops.threshold(inputs, self.theta, 0.0)

    get_config = config_from(__init__)


class Softmax(SameShape):
    """exp(x) / sum(exp(x)) along an axis or several; a `mask` that broadcasts to the input leaves elements out, as 0."""

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = tuple(axis) if isinstance(axis, list | tuple) else axis

    def call(self, inputs, mask=None):
        if mask is not None:
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

    get_config = config_from(__init__)


class PReLU(SameShape):
    """x where x > 0, else alpha * x with a learned alpha per element; shared along the axes in shared_axes."""

    def __init__(
        self,
        alpha_initializer="zeros",
        alpha_regularizer=None,
        alpha_constraint=None,
        shared_axes=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        keep_options(self, locals())
        self.shared_axes = [shared_axes] if isinstance(shared_axes, int) else shared_axes

    def build(self, input_shape):
        shape = list(input_shape[1:])
        for axis in self.shared_axes or []:
            if not 1 <= axis < len(input_shape):
                raise ValueError(
                    f"PReLU {self.name!r} shares axis {axis}, but its input has shape {tuple(input_shape)}"
                )
            shape[axis - 1] = 1
        self.alpha = add_option_weight(self, tuple(shape), "alpha")
        fixed = {axis: size for axis, size in enumerate(input_shape) if axis and axis not in (self.shared_axes or [])}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=fixed)
        self.built = True

    def call(self, inputs):
        return ops.subtract(ops.relu(inputs), ops.multiply(self.alpha, ops.relu(ops.negative(inputs))))

    get_config = config_from(__init__)


for _layer in (ReLU, LeakyReLU, ELU, Softmax, PReLU):  # files name them where a layer was given as an activation
    activations.registry.register(_layer)
    activations.registry.publish(_layer, "keras.layers", _layer.__name__)
