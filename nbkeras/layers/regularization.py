"""Layers that regularize: dropout, noise, and a penalty on activations. All except the penalty act in training only.

Each layer has its own seed generator, whose state is saved with the model, so that training resumes with the same numbers.
"""

import math

from nbkeras import random
from nbkeras.building.layer import InputSpec
from nbkeras.engine.annotations import check_rate
from nbkeras.engine.options import config_from
from nbkeras.layers.same_shape import SameShape
from nbkeras.ops.window import data_format_of
from nbkeras.regularizers import L1L2


class _Random(SameShape):
    """A layer that draws numbers in training and keeps the shape."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = self.add_seed_generator(seed)

    get_config = config_from(__init__)


class Dropout(_Random):
    """Sets elements to 0 with probability `rate` and divides the others by 1 - rate.

    noise_shape: the input's shape with 1 for axes along which elements are dropped together; None in it stands for the
    input's size. Srivastava et al., 2014.
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.rate = check_rate(type(self).__name__, "rate", rate)
        if noise_shape is not None:
            sizes = noise_shape if isinstance(noise_shape, list | tuple) else [noise_shape]
            if any(size is not None and (not isinstance(size, int) or size <= 0) for size in sizes):
                raise ValueError(
                    f"Dropout's noise_shape must be a list of positive integers or None, received {noise_shape!r}"
                )
            noise_shape = tuple(sizes)
        self.noise_shape = noise_shape

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self._noise_shape(inputs), self.seed_generator)

    def _noise_shape(self, inputs) -> tuple | None:
        return self.noise_shape

    get_config = config_from(__init__)


class _SpatialDropout(Dropout):
    """Dropout of whole feature maps (Tompson et al., 2014)."""

    spatial_axes: int

    def __init__(self, rate, data_format=None, seed=None, **kwargs):
        super().__init__(rate, None, seed, **kwargs)
        self.data_format = data_format_of(type(self).__name__, data_format)
        self.input_spec = InputSpec(ndim=self.spatial_axes + 2)

    def _noise_shape(self, inputs):
        ones = (1,) * self.spatial_axes
        return (None, *ones, None) if self.data_format == "channels_last" else (None, None, *ones)

    get_config = config_from(__init__, leave_out="noise_shape trainable")


class SpatialDropout1D(_SpatialDropout):
    """Drops whole channels of sequences (batch, steps, channels)."""

    spatial_axes = 1

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(rate, "channels_last", seed, **kwargs)

    get_config = config_from(__init__, leave_out="data_format")


class SpatialDropout2D(_SpatialDropout):
    """Drops whole channels of images (batch, rows, columns, channels), or with the channels second (channels_first)."""

    spatial_axes = 2


class SpatialDropout3D(_SpatialDropout):
    """Drops whole channels of volumes (batch, a, b, c, channels), or with the channels second (channels_first)."""

    spatial_axes = 3


class GaussianNoise(_Random):
    """Adds normal noise of mean 0."""

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        if isinstance(stddev, bool) or not isinstance(stddev, int | float) or not stddev >= 0:
            raise ValueError(f"GaussianNoise's stddev must be a number, 0 or more, received {stddev!r}")
        self.stddev = stddev

    def call(self, inputs, training=None):
        if not training or self.stddev == 0:
            return inputs
        return inputs + random.normal(inputs.shape, 0.0, self.stddev, inputs.dtype, self.seed_generator)

    get_config = config_from(__init__)


class GaussianDropout(_Random):
    """Multiplies by normal noise of mean 1 and standard deviation sqrt(rate / (1 - rate)) (Srivastava et al., 2014)."""

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.rate = check_rate(type(self).__name__, "rate", rate, below_one=True)

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return inputs * random.normal(inputs.shape, 1.0, stddev, inputs.dtype, self.seed_generator)

    get_config = config_from(__init__)


class AlphaDropout(_Random):
    """Dropout that keeps mean and variance of SELU's outputs: elements dropped take SELU's lower limit (Klambauer, 2017)."""

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.rate, self.noise_shape = check_rate(type(self).__name__, "rate", rate, below_one=True), noise_shape

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        limit = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
        shape = self.noise_shape or inputs.shape
        shape = [n if size is None else size for size, n in zip(shape, inputs.shape, strict=True)]
        kept = random.bernoulli(shape, 1 - self.rate, inputs.dtype, self.seed_generator)
        scale = ((1 - self.rate) * (1 + self.rate * limit**2)) ** -0.5
        return (inputs * kept + limit * (1 - kept)) * scale - scale * limit * self.rate

    get_config = config_from(__init__)


class ActivityRegularization(SameShape):
    """Passes its input on and adds l1 * sum(|x|) + l2 * sum(x**2), divided by the batch size, to the loss."""

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        super().__init__(activity_regularizer=L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2

    def call(self, inputs):
        return inputs

    get_config = config_from(__init__, leave_out="activity_regularizer")
