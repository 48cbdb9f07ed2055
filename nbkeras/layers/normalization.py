"""Normalization by the batch, by samples, by groups of channels, and to unit length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Unpack

from nbkeras import ops
from nbkeras.building.layer import InputSpec, Layer, LayerOptions, SameShape
from nbkeras.engine import compatibility, option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable
from nbkeras.ops.normalization import _masked_moments


def _axes(name: str, what: str, axis: Any) -> int | list[int]:
    """Accepts an axis or a list of axes, and returns it unchanged."""
    axes = list(axis) if isinstance(axis, list | tuple) else axis
    if not all(isinstance(each, int) for each in (axes if isinstance(axes, list) else [axes])):
        raise TypeError(f"{name}: {what} must be an integer or a list of integers, received {briefly(axis)}")
    return axes


def _groups(name: str, what: str, groups: Any) -> int:
    if isinstance(groups, bool) or not isinstance(groups, int) or (groups < 1 and groups != -1):
        raise ValueError(f"{name}: {what} must be a positive integer or -1, received {briefly(groups)}")
    return groups


def _one_axis(name: str, what: str, axis: Any) -> int:
    axes = _axes(name, what, axis)
    if isinstance(axes, list) and len(axes) != 1:
        raise TypeError(f"{name}: {what} must be one integer, received {briefly(axis)}")
    return axes[0] if isinstance(axes, list) else axes


def _clipping(name: str, what: str, bounds: Any) -> dict[str, float] | None:
    known = ("rmax", "rmin", "dmax")
    if bounds is not None and (not isinstance(bounds, Mapping) or set(bounds) - set(known)):
        raise ValueError(f"{name}: {what} must be a dict with the keys {', '.join(known)}, received {briefly(bounds)}")
    found = {key: option.number_of(name, f"{what}[{key!r}]", value) for key, value in (bounds or {}).items()}
    if found.get("rmax", math.inf) < found.get("rmin", -math.inf) or found.get("dmax", 0) < 0:
        raise ValueError(f"{name}: {what} needs rmax >= rmin and dmax >= 0, received {briefly(bounds)}")
    return None if bounds is None else found


_Clipping = Annotated[Any, option.kind(_clipping, "a dict, or None")]
_Axis = Annotated[Any, option.kind(_one_axis, "an integer")]
_Axes = Annotated[Any, option.kind(_axes, "an integer or a list of integers")]
_Groups = Annotated[int, option.kind(_groups, "a positive integer, or -1 for as many groups as channels")]


def _axis_size(layer: Layer, input_shape: Any, axis: int) -> int:
    """The size of an axis that weights depend on."""
    if not -len(input_shape) <= axis < len(input_shape):
        raise ValueError(f"layer {layer.name!r} normalizes axis {axis}, which an input of shape {input_shape} lacks")
    size = input_shape[axis]
    if size is None:
        raise ValueError(
            f"layer {layer.name!r} has weights for axis {axis}, so its size must be known; received shape {input_shape}"
        )
    return size


class _Scaled(SameShape):
    """Base of layers with gamma and beta, whose options it keeps."""

    input_spec = InputSpec()
    computes_in_float32 = True

    gamma = beta = None

    def _build_for_axis(self, input_shape, size):
        self.gamma = self._option_weight((size,), "gamma") if self.scale else None
        self.beta = self._option_weight((size,), "beta") if self.center else None
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: size})


class BatchNormalization(_Scaled):
    """Normalizes each channel by the mean and variance of the batch.

    The output is gamma * (x - mean) / sqrt(variance + epsilon) + beta, with one mean, variance, gamma and
    beta for each index of the axis. In training, mean and (biased) variance are computed from the batch over all
    other axes, and update the moving statistics: moving = momentum * moving + (1 - momentum) * batch. In
    inference, and with trainable=False, the moving statistics are used. Ioffe and Szegedy, 2015.

    With `renorm` the output in training is gamma * (r * (x - mean) / s + d) + beta, where s = sqrt(variance + epsilon), and
    r = s / renorm_stddev and d = (mean - renorm_mean) / renorm_stddev have no gradients. Then the output depends less on the
    other samples of a small batch. The moving statistics follow mean and s. Ioffe, 2017.

    Args:
        axis: The axis of the channels: usually -1, or 1 for 'channels_first'.
        momentum: The fraction of the moving statistics that a step keeps.
        epsilon: A small number that is added to the variance.
        renorm: Whether to use batch renormalization.
        renorm_clipping: For renorm: bounds of r and d, a dict with some of the keys 'rmax', 'rmin' and 'dmax'; None for none.
        renorm_momentum: The fraction of renorm_mean and renorm_stddev that a step keeps.
        synchronized: If several processes train together (`distribution.DataParallel`): whether mean and
            variance cover the whole batch. If False, each process normalizes by its own rows, and the
            moving statistics are averaged over the processes at the end of each epoch.

    Call arguments:
        inputs: Numbers of any shape; the size of the axis must be known.
        training: Whether to use the batch's statistics; by default True in `fit`, else False.
        mask: A bool tensor of the input's shape without its last axis, whose sizes may be 1: in training,
            only positions where it is True count for the statistics. By default the input's mask.

    Raises:
        ValueError: for contradicting bounds, and if the input lacks the axis or its size is unknown.

    Example:
        >>> layer = layers.BatchNormalization()
        >>> layer(np.array([[1.0], [3.0]]), training=True).numpy().round(2)
        array([[-1.],
               [ 1.]], dtype=float32)
        >>> layer.moving_mean.numpy()  # 0.99 * 0 + 0.01 * 2
        array([0.02], dtype=float32)
    """

    renorm_clipping: Any

    def __init__(
        self,
        axis: _Axis = -1,
        momentum: option.Rate = 0.99,
        epsilon: option.Number = 1e-3,
        center: option.Flag = True,
        scale: option.Flag = True,
        beta_initializer: option.Initializer = "zeros",
        gamma_initializer: option.Initializer = "ones",
        moving_mean_initializer: option.Initializer = "zeros",
        moving_variance_initializer: option.Initializer = "ones",
        beta_regularizer: option.Regularizer = None,
        gamma_regularizer: option.Regularizer = None,
        beta_constraint: option.Constraint = None,
        gamma_constraint: option.Constraint = None,
        renorm: option.Flag = False,
        renorm_clipping: _Clipping = None,
        renorm_momentum: option.Rate = 0.99,
        synchronized: option.Flag = False,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        if self.renorm:
            self.renorm_clipping = self.renorm_clipping or {}

    def build(self, input_shape):
        size = _axis_size(self, input_shape, self.axis)
        self._build_for_axis(input_shape, size)
        self.moving_mean = self._option_weight((size,), "moving_mean", trainable=False, autocast=False)
        self.moving_variance = self._option_weight((size,), "moving_variance", trainable=False, autocast=False)
        if self.renorm:

            def stddev(shape, dtype=None):
                return ops.sqrt(self.moving_variance_initializer(shape, dtype=dtype))

            starts = {"moving_stddev": stddev, "renorm_mean": self.moving_mean_initializer, "renorm_stddev": stddev}
            for name, start in starts.items():
                setattr(self, name, self.add_weight((size,), start, trainable=False, name=name, autocast=False))

    @property
    def statistics_of_rank(self) -> list[Variable]:
        """The moving statistics, if each of several processes updates them from its own rows."""
        return [] if self.synchronized else [each for each in self._weights if not each.declared_trainable]

    def call(self, inputs, training=None, mask=None):
        frozen = not self.trainable
        if not training or (frozen and not compatibility.current.frozen_normalizes_by_batch):
            return ops.batch_normalization(
                inputs, self.moving_mean, self.moving_variance, self.axis, self.beta, self.gamma, self.epsilon
            )
        if self.renorm:
            return self._renormalized(inputs, mask, keeps=frozen)
        return ops.batch_normalization_training(
            inputs,
            self.moving_mean,
            self.moving_variance,
            self.axis,
            self.beta,
            self.gamma,
            1.0 if frozen else self.momentum,  # 1 keeps the moving statistics
            self.epsilon,
            mask,
            self.synchronized,
        )

    def _renormalized(self, inputs, mask, keeps):
        """The output in training with renorm. keeps: whether the moving statistics stay as they are."""
        axis = self.axis % inputs.ndim
        if mask is None:
            mean, variance = ops.moments(
                inputs, [i for i in range(inputs.ndim) if i != axis], synchronized=self.synchronized
            )
        else:
            everywhere = ops.broadcast_to(ops.expand_dims(ops.cast(mask, "bool"), -1), inputs.shape)
            mean, variance = _masked_moments(inputs, everywhere, axis, self.synchronized)
        stddev = ops.sqrt(variance + self.epsilon)
        known = ops.maximum(self.renorm_stddev, math.sqrt(self.epsilon))
        bounds = self.renorm_clipping
        r = ops.minimum(ops.maximum(stddev / known, bounds.get("rmin", -math.inf)), bounds.get("rmax", math.inf))
        shift = bounds.get("dmax", math.inf)
        d = ops.minimum(ops.maximum((mean - self.renorm_mean) / known, -shift), shift)
        r, d = ops.stop_gradient(r), ops.stop_gradient(d)
        scale, offset = (r, d) if self.gamma is None else (r * self.gamma, d * self.gamma)
        offset = offset if self.beta is None else offset + self.beta
        if not keeps:
            for moving, found, momentum in (
                (self.renorm_mean, mean, self.renorm_momentum),
                (self.renorm_stddev, stddev, self.renorm_momentum),
                (self.moving_mean, mean, self.momentum),
                (self.moving_stddev, stddev, self.momentum),
            ):
                moving.assign(moving * momentum + found * (1 - momentum))
            self.moving_variance.assign(ops.relu(ops.square(self.moving_stddev) - self.epsilon))
        return ops.batch_normalization(inputs, mean, variance, axis, offset, scale, self.epsilon)


class LayerNormalization(_Scaled):
    """Normalizes each sample by its own mean and variance over one or several axes.

    The output is gamma * (x - mean) / sqrt(variance + epsilon) + beta; gamma and beta have the sizes of the
    axes. It is the same in training and inference. Ba, Kiros and Hinton, 2016.

    Args:
        axis: The axes over which mean and variance are computed, usually the last one.
        epsilon: A small number that is added to the variance.
        rms_scaling: Whether to divide by the standard deviation without subtracting the mean, and without
            beta. It is an old option of Keras; RMSNormalization divides by the root mean square.

    Input shape:
        Any; the sizes of the axes must be known.

    Raises:
        ValueError: if the input lacks an axis or its size is unknown.

    Example:
        >>> layers.LayerNormalization()(np.array([[1.0, 3.0], [10.0, 30.0]])).numpy().round(2)
        array([[-1.,  1.],
               [-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        axis: _Axes = -1,
        epsilon: option.Number = 1e-3,
        center: option.Flag = True,
        scale: option.Flag = True,
        rms_scaling: option.Flag = False,
        beta_initializer: option.Initializer = "zeros",
        gamma_initializer: option.Initializer = "ones",
        beta_regularizer: option.Regularizer = None,
        gamma_regularizer: option.Regularizer = None,
        beta_constraint: option.Constraint = None,
        gamma_constraint: option.Constraint = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape):
        sizes = _sizes(self, input_shape, self.axis)
        self.gamma = self._option_weight(sizes, "gamma") if self.scale or self.rms_scaling else None
        self.beta = self._option_weight(sizes, "beta") if self.center and not self.rms_scaling else None

    def call(self, inputs):
        if not self.rms_scaling:
            return ops.layer_normalization(inputs, self.gamma, self.beta, self.axis, self.epsilon)
        axes = sorted(axis % inputs.ndim for axis in ([self.axis] if isinstance(self.axis, int) else self.axis))
        gamma = ops.reshape(self.gamma, [size if i in axes else 1 for i, size in enumerate(inputs.shape)])
        variance = ops.var(inputs, axis=axes, keepdims=True)
        return inputs * ops.rsqrt(variance + self.epsilon) * gamma


class RMSNormalization(SameShape):
    """Divides each sample by its root mean square over one or several axes, and multiplies by a learned scale.

    The output is scale * x / sqrt(mean(x**2) + epsilon); scale starts as 1 and has the sizes of the axes. A
    mask ends here, as in Keras. Zhang and Sennrich, 2019.

    Args:
        axis: The axes over which the mean is computed, usually the last one.
        epsilon: A small number that is added to the mean square.

    Input shape:
        Any; the sizes of the axes must be known.

    Raises:
        ValueError: if the input lacks an axis or its size is unknown.

    Example:
        >>> layers.RMSNormalization()(np.array([[1.0, 7.0]])).numpy().round(3)  # divided by 5
        array([[0.2, 1.4]], dtype=float32)
    """

    supports_masking = False

    computes_in_float32 = True

    def __init__(self, axis: _Axes = -1, epsilon: option.Number = 1e-6, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape):
        self.scale = self.add_weight(_sizes(self, input_shape, self.axis), "ones", name="scale")

    def call(self, inputs):
        return ops.rms_normalization(inputs, self.scale, self.axis, self.epsilon)


class GroupNormalization(_Scaled):
    """Normalizes each sample over groups of channels and all positions.

    The output is gamma * (x - mean) / sqrt(variance + epsilon) + beta. Each sample and group has its own mean and
    variance, over the channels of the group and all other axes; gamma and beta have a number for each
    channel. It is the same in training and inference. Wu and He, 2018.

    Args:
        groups: The number of groups; it must divide the number of channels. 1 is layer normalization over all
            channels; -1 is instance normalization.
        axis: The axis of the channels, which is divided into groups.
        epsilon: A small number that is added to the variance.

    Input shape:
        (batch, ...); the number of channels must be known.

    Raises:
        ValueError: if groups does not divide the number of channels, that number is unknown, or axis is the batch
            axis.

    Example:
        >>> layers.GroupNormalization(groups=2)(np.array([[1.0, 3.0, 10.0, 30.0]])).numpy().round(2)
        array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        groups: _Groups = 32,
        axis: _Axis = -1,
        epsilon: option.Number = 1e-3,
        center: option.Flag = True,
        scale: option.Flag = True,
        beta_initializer: option.Initializer = "zeros",
        gamma_initializer: option.Initializer = "ones",
        beta_regularizer: option.Regularizer = None,
        gamma_regularizer: option.Regularizer = None,
        beta_constraint: option.Constraint = None,
        gamma_constraint: option.Constraint = None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def build(self, input_shape):
        size = _axis_size(self, input_shape, self.axis)
        self.groups = size if self.groups == -1 else self.groups
        if self.axis % len(input_shape) == 0 or size % self.groups:
            raise ValueError(
                f"GroupNormalization {self.name!r} divides axis {self.axis} of an input of shape {tuple(input_shape)} into "
                f"{self.groups} groups: its size must be a multiple of that, and it must not be the batch axis"
            )
        self._build_for_axis(input_shape, size)

    def call(self, inputs):
        return ops.group_normalization(inputs, self.groups, self.gamma, self.beta, self.axis, self.epsilon)


class UnitNormalization(SameShape):
    """Divides by the Euclidean norm over one or several axes: the result has norm 1.

    A norm below 1e-12 counts as 1e-12, so that zeros stay zeros.

    Args:
        axis: The axes that form a vector.

    Input shape:
        Any.

    Example:
        >>> layers.UnitNormalization()(np.array([[3.0, 4.0], [0.0, 0.0]])).numpy()
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """

    input_spec = InputSpec()

    def __init__(self, axis: _Axes = -1, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return ops.l2_normalize(inputs, self.axis, epsilon=1e-24)  # epsilon is for the squared norm


def _sizes(layer: Layer, input_shape: Any, axis: int | list[int]) -> tuple[int, ...]:
    """The sizes of the axes, in the input's order."""
    given = [axis] if isinstance(axis, int) else axis
    return tuple(
        _axis_size(layer, input_shape, each) for each in sorted(given, key=lambda a: a % max(1, len(input_shape)))
    )
