"""Layers that regularize: dropout, noise, and a penalty on activations. All except the penalty act in training only.

Each layer has its own seed generator. Its state is saved with the model, so that training resumes with the same numbers.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Unpack

from nbkeras import random
from nbkeras.building.input_spec import DataFormat
from nbkeras.building.layer import CommonOptions, InputSpec, LayerOptions, SameShape
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly, check_rate
from nbkeras.regularizers import L1L2


def _noise_shape(name: str, what: str, shape: Any) -> tuple | None:
    sizes = shape if isinstance(shape, list | tuple) else [shape]
    if shape is not None and any(size is not None and (not isinstance(size, int) or size <= 0) for size in sizes):
        raise ValueError(f"{name}'s {what} must be a list of positive integers or None, received {briefly(shape)}")
    return None if shape is None else tuple(sizes)


def _deviation(name: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"{name}'s {what} must be a number, 0 or more, received {briefly(value)}")
    return value


_NoiseShape = Annotated[Any, option.kind(_noise_shape, "a list of positive integers or None")]
_Deviation = Annotated[float, option.kind(_deviation, "a number, 0 or more")]
_RateBelowOne = Annotated[float, option.kind(check_rate, "a number at least 0 and below 1", True)]


class _Random(SameShape):
    """A layer that draws numbers in training and keeps the shape.

    Args:
        seed (an integer or None): An integer for the same random numbers in each run; None for others.
    """

    _takes_structures = True  # outside training, structures are returned unchanged, as in Keras

    def __init__(self, seed: option.Anything = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.seed_generator = self.add_seed_generator(seed)


class Dropout(_Random):
    """Sets random elements to 0 in training, and divides the others by 1 - rate.

    The division keeps the mean of each element. In inference the layer returns its input. Srivastava et al.,
    2014.

    Args:
        rate: The probability that an element is set to 0.
        noise_shape: The input's shape with 1 for axes along which elements are dropped together; None in it
            means the input's size. None drops each element independently.

    Call arguments:
        inputs: Numbers of any shape.
        training: Whether to drop; by default True in `fit`, else False.

    Example:
        >>> layer = layers.Dropout(0.5, seed=3)
        >>> layer(np.ones((2, 4)), training=True).numpy()
        array([[2., 0., 0., 2.],
               [2., 0., 2., 2.]], dtype=float32)
        >>> layer(np.ones((1, 4))).numpy()
        array([[1., 1., 1., 1.]], dtype=float32)
    """

    def __init__(self, rate: option.Rate, noise_shape: _NoiseShape = None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        return random.dropout(inputs, self.rate, self._noise_shape(inputs), self.seed_generator)

    def _noise_shape(self, inputs) -> tuple | None:
        return self.noise_shape


class _SpatialDropout(Dropout):
    """Dropout of whole feature maps (Tompson et al., 2014).

    Args:
        rate: The probability that a channel is set to 0.
    """

    spatial_axes: int
    _left_out = ("noise_shape",)
    _unwritten = ("trainable",)  # Keras omits it too

    def __init__(self, rate, data_format: DataFormat = None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(rate, None, seed, **kwargs)
        option.keep(self, locals())
        self.input_spec = InputSpec(ndim=self.spatial_axes + 2)

    def _noise_shape(self, inputs):
        ones = (1,) * self.spatial_axes
        return (None, *ones, None) if self.data_format == "channels_last" else (None, None, *ones)


class SpatialDropout1D(_SpatialDropout):
    """Sets whole channels of sequences to 0 in training, and divides the others by 1 - rate.

    Neighboring steps resemble each other, so dropping single elements hides little. In inference the layer
    returns its input. Tompson et al., 2014.

    Call arguments:
        inputs: Sequences.
        training: Whether to drop; by default True in `fit`, else False.

    Input shape:
        (batch, steps, channels).

    Example:
        >>> layers.SpatialDropout1D(0.5, seed=3)(np.ones((1, 3, 4)), training=True).numpy()
        array([[[2., 0., 2., 2.],
                [2., 0., 2., 2.],
                [2., 0., 2., 2.]]], dtype=float32)
    """

    spatial_axes = 1
    _left_out = ("data_format",)

    def __init__(self, rate, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(rate, "channels_last", seed, **kwargs)


class SpatialDropout2D(_SpatialDropout):
    """Sets whole channels of images to 0 in training, and divides the others by 1 - rate.

    Neighboring pixels resemble each other, so dropping single elements hides little. In inference the layer
    returns its input. Tompson et al., 2014.

    Call arguments:
        inputs: Images.
        training: Whether to drop; by default True in `fit`, else False.

    Input shape:
        (batch, rows, columns, channels), or (batch, channels, rows, columns) for 'channels_first'.

    Example:
        >>> outputs = layers.SpatialDropout2D(0.5, seed=3)(np.ones((1, 8, 8, 4)), training=True)
        >>> outputs.numpy().mean(axis=(0, 1, 2))
        array([2., 0., 2., 2.], dtype=float32)
    """

    spatial_axes = 2


class SpatialDropout3D(_SpatialDropout):
    """Sets whole channels of volumes to 0 in training, and divides the others by 1 - rate.

    Neighboring positions resemble each other, so dropping single elements hides little. In inference the layer
    returns its input. Tompson et al., 2014.

    Call arguments:
        inputs: Volumes.
        training: Whether to drop; by default True in `fit`, else False.

    Input shape:
        (batch, depth, rows, columns, channels), or (batch, channels, depth, rows, columns) for
        'channels_first'.

    Example:
        >>> outputs = layers.SpatialDropout3D(0.5, seed=3)(np.ones((1, 4, 4, 4, 4)), training=True)
        >>> outputs.numpy().mean(axis=(0, 1, 2, 3))
        array([2., 0., 2., 2.], dtype=float32)
    """

    spatial_axes = 3


class GaussianNoise(_Random):
    """Adds normal noise of mean 0 in training. In inference it returns its input.

    Args:
        stddev: The standard deviation of the noise.

    Call arguments:
        inputs: Numbers of any shape.
        training: Whether to add noise; by default True in `fit`, else False.

    Example:
        >>> layer = layers.GaussianNoise(0.1, seed=0)
        >>> outputs = layer(np.ones((100, 100)), training=True).numpy()
        >>> print(round(float(outputs.mean()), 2), round(float(outputs.std()), 2))
        1.0 0.1
    """

    def __init__(self, stddev: _Deviation, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs, training=None):
        if not training or self.stddev == 0:
            return inputs
        return inputs + random.normal(inputs.shape, 0.0, self.stddev, self.compute_dtype, self.seed_generator)


class GaussianDropout(_Random):
    """Multiplies by normal noise of mean 1 in training. In inference it returns its input.

    The noise has the standard deviation sqrt(rate / (1 - rate)), as Dropout with this rate (Srivastava
    et al., 2014).

    Args:
        rate: The rate of the equivalent Dropout.

    Call arguments:
        inputs: Numbers of any shape.
        training: Whether to multiply; by default True in `fit`, else False.

    Example:
        >>> layer = layers.GaussianDropout(0.5, seed=0)
        >>> outputs = layer(np.ones((100, 100)), training=True).numpy()
        >>> print(round(float(outputs.mean()), 1), round(float(outputs.std()), 1))
        1.0 1.0
    """

    def __init__(self, rate: _RateBelowOne, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        stddev = math.sqrt(self.rate / (1 - self.rate))
        return inputs * random.normal(inputs.shape, 1.0, stddev, self.compute_dtype, self.seed_generator)


class AlphaDropout(_Random):
    """Dropout for networks with SELU: it keeps the mean and variance of the inputs.

    In training, random elements become SELU's lower limit, -1.7581; then all are scaled and shifted so that
    inputs of mean 0 and variance 1 keep both. In inference the layer returns its input. Klambauer et al.,
    2017.

    Args:
        rate: The probability that an element is replaced.
        noise_shape (a list of positive integers or None): The input's shape with 1 for axes along which
            elements are replaced together; None in it means the input's size. None replaces each element
            independently.

    Call arguments:
        inputs: Numbers of any shape, such as the outputs of `selu`.
        training: Whether to replace elements; by default True in `fit`, else False.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 200))
        >>> outputs = layers.AlphaDropout(0.2, seed=0)(x, training=True).numpy()
        >>> print(abs(round(float(outputs.mean()), 1)), round(float(outputs.std()), 1))
        0.0 1.0
    """

    def __init__(self, rate: _RateBelowOne, noise_shape: _NoiseShape = None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs, training=None):
        if not training or self.rate == 0:
            return inputs
        limit = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717
        shape = self.noise_shape or inputs.shape
        if len(shape) != len(inputs.shape):
            raise ValueError(
                f"AlphaDropout {self.name!r} has noise_shape {shape}, which must have a size for each axis of the input, "
                f"received shape {inputs.shape}"
            )
        shape = [n if size is None else size for size, n in zip(shape, inputs.shape, strict=True)]
        kept = random.bernoulli(shape, 1 - self.rate, self.compute_dtype, self.seed_generator)
        scale = ((1 - self.rate) * (1 + self.rate * limit**2)) ** -0.5
        return (inputs * kept + limit * (1 - kept)) * scale - scale * limit * self.rate


class ActivityRegularization(SameShape):
    """Returns its input and adds (l1 * sum(|x|) + l2 * sum(x**2)) / batch size to the loss.

    Args:
        l1: The factor of the absolute values.
        l2: The factor of the squares.

    Input shape:
        Any.

    Example:
        >>> layer = layers.ActivityRegularization(l1=0.1)
        >>> outputs = layer(np.array([[1.0, -2.0], [3.0, 0.0]]))
        >>> print(round(float(layer.losses[0]), 4))
        0.3
    """

    _left_out = _unwritten = ("activity_regularizer",)  # l1 and l2 replace it
    _takes_structures = True

    def __init__(self, l1: option.Number = 0.0, l2: option.Number = 0.0, **kwargs: Unpack[CommonOptions]):
        super().__init__(activity_regularizer=L1L2(l1, l2), **kwargs)
        option.keep(self, locals())

    def call(self, inputs):
        return inputs
