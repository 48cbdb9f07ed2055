"""Layers that regularize: dropout, noise, and a penalty on activations. All except the penalty act in training only.

Each layer has its own seed generator, whose state is saved with the model, so that training resumes with the same numbers.
"""

import math
from typing import Annotated, Any, Unpack

from nbkeras import random
from nbkeras.building.layer import CommonOptions, InputSpec, LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import check_rate
from nbkeras.layers.same_shape import SameShape
from nbkeras.layers.spatial import DataFormat
from nbkeras.regularizers import L1L2


def _noise_shape(name: str, what: str, shape: Any) -> tuple | None:
    sizes = shape if isinstance(shape, list | tuple) else [shape]
    if shape is not None and any(size is not None and (not isinstance(size, int) or size <= 0) for size in sizes):
        raise ValueError(f"{name}'s {what} must be a list of positive integers or None, received {shape!r}")
    return None if shape is None else tuple(sizes)


def _deviation(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name}'s {what} must be a number, 0 or more, received {value!r}")
    return value


NoiseShape = Annotated[Any, option.kind(_noise_shape, "a list of positive integers or None")]
Deviation = Annotated[float, option.kind(_deviation, "a number, 0 or more")]
RateBelowOne = Annotated[float, option.kind(check_rate, "a number at least 0 and below 1", True)]


class _Random(SameShape):
    """A layer that draws numbers in training and keeps the shape."""

    def __init__(self, seed: option.Anything = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**kwargs)
        option.keep(self, locals())
        self.seed_generator = self.add_seed_generator(seed)


class Dropout(_Random):
    """Sets elements to 0 with probability `rate` and divides the others by 1 - rate.

    noise_shape: the input's shape with 1 for axes along which elements are dropped together; None in it stands for the
    input's size. Srivastava et al., 2014.
    """

    noise_shape: tuple | None

    def __init__(self, rate: option.Rate, noise_shape: NoiseShape = None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(seed, **kwargs)
        option.keep(self, locals())

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self._noise_shape(inputs), self.seed_generator)

    def _noise_shape(self, inputs) -> tuple | None:
        return self.noise_shape


class _SpatialDropout(Dropout):
    """Dropout of whole feature maps (Tompson et al., 2014)."""

    spatial_axes: int
    _left_out = ("noise_shape",)

    def __init__(self, rate, data_format: DataFormat = None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(rate, None, seed, **kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(ndim=self.spatial_axes + 2)

    def _noise_shape(self, inputs):
        ones = (1,) * self.spatial_axes
        return (None, *ones, None) if self.data_format == "channels_last" else (None, None, *ones)

    def get_config(self):
        config = super().get_config()
        del config["trainable"]  # as in Keras
        return config


class SpatialDropout1D(_SpatialDropout):
    """Drops whole channels of sequences (batch, steps, channels)."""

    spatial_axes = 1
    _left_out = ("data_format",)

    def __init__(self, rate, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(rate, "channels_last", seed, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Drops whole channels of images (batch, rows, columns, channels), or with the channels second (channels_first)."""

    spatial_axes = 2


class SpatialDropout3D(_SpatialDropout):
    """Drops whole channels of volumes (batch, a, b, c, channels), or with the channels second (channels_first)."""

    spatial_axes = 3


class GaussianNoise(_Random):
    """Adds normal noise of mean 0."""

    def __init__(self, stddev: Deviation, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(seed, **kwargs)
        option.keep(self, locals())

    def call(self, inputs, training=None):
        if not training or self.stddev == 0:
            return inputs
        return inputs + random.normal(inputs.shape, 0.0, self.stddev, inputs.dtype, self.seed_generator)


class GaussianDropout(_Random):
    """Multiplies by normal noise of mean 1 and standard deviation sqrt(rate / (1 - rate)) (Srivastava et al., 2014)."""

    def __init__(self, rate: RateBelowOne, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(seed, **kwargs)
        option.keep(self, locals())

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return inputs * random.normal(inputs.shape, 1.0, stddev, inputs.dtype, self.seed_generator)


class AlphaDropout(_Random):
    """Dropout that keeps mean and variance of SELU's outputs: elements dropped take SELU's lower limit (Klambauer, 2017)."""

    def __init__(
        self, rate: RateBelowOne, noise_shape: option.Anything = None, seed=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(seed, **kwargs)
        option.keep(self, locals())

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        limit = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
        shape = self.noise_shape or inputs.shape
        shape = [n if size is None else size for size, n in zip(shape, inputs.shape, strict=True)]
        kept = random.bernoulli(shape, 1 - self.rate, inputs.dtype, self.seed_generator)
        scale = ((1 - self.rate) * (1 + self.rate * limit**2)) ** -0.5
        return (inputs * kept + limit * (1 - kept)) * scale - scale * limit * self.rate


class ActivityRegularization(SameShape):
    """Passes its input on and adds l1 * sum(|x|) + l2 * sum(x**2), divided by the batch size, to the loss."""

    def __init__(self, l1: option.Anything = 0.0, l2: option.Anything = 0.0, **kwargs: Unpack[CommonOptions]):
        super().__init__(activity_regularizer=L1L2(l1, l2), **kwargs)
        option.keep(self, locals())

    def call(self, inputs):
        return inputs

    def get_config(self):
        config = super().get_config()
        del config["activity_regularizer"]  # it is l1 and l2 here
        return config
