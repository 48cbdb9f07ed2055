"""Layers that change colours and sharpness of each image at random in training.

value_range: the smallest and the largest value of a pixel. A direct call runs in training mode, as in Keras.
"""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import config, ops, random
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option, sharding
from nbkeras.engine.annotations import briefly
from nbkeras.layers.augmenting.images import Images, Part, RandomImages, ValueRange, bounds, each


def _in_limits(layer: Any, what: str, factor: Any) -> tuple[float, float]:
    return bounds(option.name_of(layer), what, factor, *layer._FACTOR_BOUNDS)


_FactorInLimits = Annotated[Any, option.Kind(_in_limits, "a number within the layer's limits, or two")]


class _RandomColors(RandomImages, registered=False):
    """Base of the colour layers: value_range, and a factor within limits; one number per image is drawn from it.

    Args:
        factor: The random number for an image, drawn from (lowest, highest); f means (0, f).
    """

    _FACTOR_BOUNDS = (0.0, 1.0)

    def __init__(
        self,
        factor: _FactorInLimits,
        value_range: ValueRange = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        return {"factor": self.uniform(seed, self.factor, shape[0])}

    def in_range(self, images):
        """Images with their values clipped to value_range.

        Args:
            images: The batch.
        """
        return ops.clip(images, *self.value_range)


def _scaled(images: Any, source: tuple, target: tuple) -> Any:
    """Images with their values mapped linearly from one range, (lowest, highest), to another."""
    if tuple(source) == tuple(target):
        return images
    factor = (target[1] - target[0]) / (source[1] - source[0])
    return ops.add(ops.multiply(ops.subtract(images, float(source[0])), factor), float(target[0]))


class RandomBrightness(_RandomColors):
    """Adds a random number to all pixels of each image, and clips to `value_range`.

    Args:
        factor (a number from -1 to 1, or two): The number as a fraction of the width of `value_range`, drawn from (lowest,
            highest); f means (-f, f).

    Example:
        >>> layers.RandomBrightness((0.5, 0.5))(np.array([[[0.0, 100.0, 200.0]]])).numpy()
        array([[[127.5, 227.5, 255. ]]], dtype=float32)
    """

    _FACTOR_BOUNDS = (-1.0, 1.0)

    def drawn(self, shape, seed):
        width = float(self.value_range[1] - self.value_range[0])
        return {"rgb_delta": ops.multiply(self.uniform(seed, self.factor, shape[0], 1, 1, 1), width)}

    def change(self, images, transformation):
        return self.in_range(ops.add(images, ops.cast(transformation["rgb_delta"], self.compute_dtype)))


class RandomContrast(_RandomColors):
    """Multiplies the differences from each channel's mean by a random number for each image, and clips to `value_range`.

    Args:
        factor (a number from 0 to 1, or two): (lower, upper) for numbers from 1 - lower to 1 + upper; f means (0, f), as in
            Keras.

    Example:
        >>> layers.RandomContrast((0.0, 0.5))(np.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    def drawn(self, shape, seed):
        return {"contrast_factor": self.uniform(seed, (1 - self.factor[0], 1 + self.factor[1]), shape[0], 1, 1, 1)}

    def change(self, images, transformation):
        factor = ops.cast(transformation["contrast_factor"], self.compute_dtype)
        mean = ops.mean(images, axis=(self.height_axis, self.width_axis), keepdims=True)
        return self.in_range(ops.add(ops.multiply(ops.subtract(images, mean), factor), mean))


class RandomColorDegeneration(_RandomColors):
    """Blends each RGB image with its grayscale version.

    Args:
        factor (a number from 0 to 1, or two): The fraction of the gray image, drawn from (lowest, highest); f means (0, f). 1
            removes all colour.

    Example:
        >>> layers.RandomColorDegeneration((1.0, 1.0))(np.array([[[100.0, 50.0, 0.0]]])).numpy().round(2)
        array([[[59.24, 59.24, 59.24]]], dtype=float32)
    """

    def drawn(self, shape, seed):
        return {"factor": self.uniform(seed, self.factor, shape[0], 1, 1, 1)}

    def change(self, images, transformation):
        gray = ops.image.rgb_to_grayscale(images, data_format=self.data_format)
        factor = ops.cast(transformation["factor"], self.compute_dtype)
        return self.in_range(ops.add(images, ops.multiply(factor, ops.subtract(gray, images))))


class RandomInvert(_RandomColors, defaults={"factor": 1.0}):
    """Turns pixels x of an image into value_range[1] - x, with a random probability.

    Args:
        factor (a number from 0 to 1, or two): The probability of inverting an image, itself drawn from (lowest, highest); f
            means (0, f), and (1, 1) always inverts.

    Example:
        >>> layers.RandomInvert((1.0, 1.0))(np.array([[[100.0, 50.0, 0.0]]])).numpy()
        array([[[155., 205., 255.]]], dtype=float32)
    """

    def drawn(self, shape, seed):
        return {"apply_inversion": self.chosen(shape[0], seed)}

    def change(self, images, transformation):
        chosen = each(transformation["apply_inversion"], "bool")
        return ops.where(chosen, ops.subtract(float(self.value_range[1]), images), images)


class RandomSaturation(_RandomColors):
    """Multiplies the saturation of each RGB image by f / (1 - f), with a random f.

    As in Keras, saturations are clipped to `value_range`, although they range from 0 to 1: with (0, 255) and f above 0.5, pixels
    may leave the range.

    Args:
        factor (a number from 0 to 1, or two): f is drawn from (lowest, highest); b means (0, b). 0.5 changes nothing, 0
            removes all colour.

    Example:
        >>> layer = layers.RandomSaturation((0.0, 0.0), value_range=(0, 1))
        >>> layer(np.array([[[0.5, 0.25, 0.0]]])).numpy()
        array([[[0.5, 0.5, 0.5]]], dtype=float32)
    """

    def drawn(self, shape, seed):
        factor = self.uniform(seed, self.factor, shape[0])
        return {"factor": ops.divide(factor, ops.add(ops.subtract(1.0, factor), config.epsilon()))}

    def change(self, images, transformation):
        form, axis = self.data_format, self.channel_axis
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(images, data_format=form), 3, axis=axis)
        saturation = self.in_range(ops.multiply(saturation, each(transformation["factor"], self.compute_dtype)))
        return ops.image.hsv_to_rgb(ops.concatenate([hue, saturation, value], axis=axis), data_format=form)


class RandomHue(_RandomColors):
    """Shifts the hues of each RGB image by a random fraction of the colour circle.

    Args:
        factor (a number from 0 to 1, or two): Twice the fraction, drawn from (lowest, highest); f means (0, f). The
            direction is random; 1 is half a turn, to the complementary colours.

    Example:
        >>> layers.RandomHue((1.0, 1.0))(np.array([[[255.0, 0.0, 0.0]]])).numpy().round()
        array([[[  0., 255., 255.]]], dtype=float32)
    """

    def drawn(self, shape, seed):
        way = ops.where(ops.greater(self.uniform(seed, (0.0, 1.0), shape[0]), 0.5), -0.5, 0.5)
        return {"factor": ops.multiply(self.uniform(seed, self.factor, shape[0]), ops.cast(way, self.compute_dtype))}

    def change(self, images, transformation):
        form, axis = self.data_format, self.channel_axis
        unit = _scaled(images, self.value_range, (0, 1))
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(unit, data_format=form), 3, axis=axis)
        hue = ops.add(hue, each(transformation["factor"], self.compute_dtype))
        hue = ops.where(ops.greater(hue, 1.0), ops.subtract(hue, 1.0), hue)
        hue = ops.where(ops.less(hue, 0.0), ops.add(hue, 1.0), hue)
        changed = ops.concatenate([hue, saturation, value], axis=axis)
        changed = ops.clip(ops.image.hsv_to_rgb(changed, data_format=form), 0.0, 1.0)
        return _scaled(changed, (0, 1), self.value_range)


class RandomPosterization(_RandomColors):
    """Reduces the pixels of each image to a random number of bits.

    Args:
        factor (a number from 1 to 8, or two): The bits n: f for 1 <= n < f, or (low, high) for low <= n < high; equal numbers
            give exactly that number.

    Example:
        >>> layers.RandomPosterization((2, 2))(np.array([[[100.0, 50.0, 200.0]]])).numpy()  # multiples of 64
        array([[[ 64.,   0., 192.]]], dtype=float32)
    """

    _FACTOR_BOUNDS = (1.0, 8.0)

    def drawn(self, shape, seed):
        low, high = (int(f) for f in self.factor)
        return {"shift_factor": ops.subtract(8, random.randint(shape[:1], low, max(high, low + 1), seed=seed))}

    def change(self, images, transformation):
        step = ops.power(2.0, each(transformation["shift_factor"], self.compute_dtype))
        whole = ops.floor(_scaled(images, self.value_range, (0, 255)))
        return _scaled(ops.multiply(ops.floor(ops.divide(whole, step)), step), (0, 255), self.value_range)


class RandomSharpness(_RandomColors):
    """Blends each image with its smoothed version: a 3 x 3 window has weights 5 / 13 in the middle and 1 / 13 around.

    Args:
        factor (a number from 0 to 1, or two): Drawn from (lowest, highest); f means (0, f). 0 smooths, 0.5 changes nothing, 1
            sharpens.

    Example:
        >>> image = np.zeros((3, 3, 1))
        >>> image[1, 1] = 13.0
        >>> layers.RandomSharpness((0.0, 0.0))(image).numpy()[:, :, 0]
        array([[1., 1., 1.],
               [1., 5., 1.],
               [1., 1., 1.]], dtype=float32)
    """

    def change(self, images, transformation):
        kernel = np.full((3, 3, images.shape[self.channel_axis], 1), 1 / 13)
        kernel[1, 1] = 5 / 13
        kernel = ops.convert_to_tensor(kernel, self.compute_dtype)
        smooth = ops.depthwise_conv(images, kernel, padding="same", data_format=self.data_format)
        factor = ops.subtract(1.0, ops.multiply(each(transformation["factor"], self.compute_dtype), 2.0))
        return self.in_range(ops.add(images, ops.multiply(factor, ops.subtract(smooth, images))))


def _odd_sizes(name: str, what: str, value: Any) -> tuple[int, int]:
    sizes = (value, value) if isinstance(value, int) else tuple(value)
    if len(sizes) != 2 or any(not isinstance(size, int) or size % 2 == 0 for size in sizes):
        raise ValueError(f"{name}'s {what} must be an odd integer or two, received {briefly(value)}")
    return sizes


_OddSizes = Annotated[Any, option.kind(_odd_sizes, "an odd integer, or two")]


class RandomGaussianBlur(_RandomColors):
    """Blurs an image with a random probability, by a Gaussian of random width.

    Args:
        factor (a number from 0 to 1, or two): The probability of blurring an image, itself drawn from (lowest, highest); f
            means (0, f), and (1, 1) always blurs.
        kernel_size: The size of the window: one number, or one for rows and one for columns.
        sigma: The standard deviation for rows and for columns of a batch, drawn from (lowest, highest); s means (0, s).

    Example:
        >>> layers.RandomGaussianBlur((1.0, 1.0), kernel_size=3, sigma=(1.0, 1.0))(np.eye(4)[:, :, None]).shape
        (4, 4, 1)
    """

    def __init__(
        self,
        factor: Any = 1.0,
        kernel_size: _OddSizes = 3,
        sigma: Part = 1.0,
        value_range: Any = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        with sharding.within(None):  # one number for all images
            sigma = ops.add(self.uniform(seed, self.sigma, 2), 1e-6)
        return {"should_apply_blur": self.chosen(shape[0], seed), "blur_factor": sigma}

    def change(self, images, transformation):
        sigma = ops.cast(transformation["blur_factor"], self.compute_dtype)
        blurred = ops.image.gaussian_blur(images, self.kernel_size, sigma, data_format=self.data_format)
        return self.in_range(ops.where(each(transformation["should_apply_blur"], "bool"), blurred, images))


class RandomColorJitter(RandomImages):
    """Changes brightness, contrast, saturation and hue of each image in turn, if the factor is given.

    Args:
        brightness_factor (a number, two, or None): The factor of RandomBrightness; None to skip it.
        contrast_factor (a number, two, or None): The factor of RandomContrast.
        saturation_factor (a number, two, or None): The factor of RandomSaturation.
        hue_factor (a number, two, or None): The factor of RandomHue.

    Example:
        >>> layer = layers.RandomColorJitter(brightness_factor=0.2, hue_factor=0.1)
        >>> layer(np.ones((2, 4, 4, 3))).shape
        (2, 4, 4, 3)
    """

    def __init__(
        self,
        value_range: ValueRange = (0, 255),
        brightness_factor: option.Anything = None,
        contrast_factor: option.Anything = None,
        saturation_factor: option.Anything = None,
        hue_factor: option.Anything = None,
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        factors = brightness_factor, contrast_factor, saturation_factor, hue_factor
        kinds = (RandomBrightness, RandomContrast, RandomSaturation, RandomHue)
        self.parts = [
            kind(factor, value_range, seed, self.data_format, dtype=self.dtype)
            for kind, factor in zip(kinds, factors, strict=True)
            if factor is not None
        ]

    def drawn(self, shape, seed):
        return [part.drawn(shape, seed) for part in self.parts]

    def change(self, images, transformation):
        for part, numbers in zip(self.parts, transformation, strict=True):
            images = part.change(images, numbers)
        return images


class AutoContrast(Images):
    """Stretches each channel of an image to the full `value_range`, also outside training; constant channels stay.

    Example:
        >>> layers.AutoContrast()(np.array([[[100.0], [150.0], [200.0]]])).numpy()[0, :, 0]
        array([  0. , 127.5, 255. ], dtype=float32)
    """

    def __init__(self, value_range: ValueRange = (0, 255), data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def transform_images(self, images, transformation=None, training=True):
        images, axes = ops.cast(images, self.compute_dtype), (self.height_axis, self.width_axis)
        low, high = (fold(images, axis=axes, keepdims=True) for fold in (ops.min, ops.max))
        bottom, width = float(self.value_range[0]), float(self.value_range[1] - self.value_range[0])
        one = ops.equal(low, high)
        part = ops.divide(ops.subtract(images, low), ops.where(one, 1.0, ops.subtract(high, low)))
        return ops.where(one, images, ops.add(ops.multiply(part, width), bottom))


class RandomGrayscale(RandomImages):
    """Makes each RGB image gray with a given probability; it keeps three channels.

    Args:
        factor: The probability.

    Example:
        >>> layers.RandomGrayscale(1.0)(np.array([[[100.0, 50.0, 0.0]]])).numpy().round(2)
        array([[[59.24, 59.24, 59.24]]], dtype=float32)
    """

    def __init__(self, factor: option.Rate = 0.5, data_format=None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        return ops.less(self.uniform(seed, (0.0, 1.0), shape[0], 1, 1, 1), self.factor)

    def change(self, images, transformation):
        gray = ops.image.rgb_to_grayscale(images, data_format=self.data_format)
        return ops.where(transformation, gray, images)


class Solarization(RandomImages):
    """Adds a random number to each image, then inverts the pixels that are not below a random threshold.

    Pixels are first mapped to [0, 255] and clipped.

    Args:
        addition_factor (a number from 0 to 1, or two): (low, high) draws from low to 255 high, as in Keras; f draws from 0 to
            255 f.
        threshold_factor (a number from 0 to 1, or two): The threshold, like addition_factor.

    Example:
        >>> layers.Solarization()(np.array([[[100.0, 50.0, 0.0]]])).numpy()  # all are at or above 0
        array([[[155., 205., 255.]]], dtype=float32)
    """

    def __init__(
        self,
        addition_factor: Part = 0.0,
        threshold_factor: Part = 0.0,
        value_range: ValueRange = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        pairs = (("additions", self.addition_factor), ("thresholds", self.threshold_factor))
        return {name: self.uniform(seed, (low, high * 255), shape[0], 1, 1, 1) for name, (low, high) in pairs}

    def change(self, images, transformation):
        additions, thresholds = (
            ops.cast(transformation[name], self.compute_dtype) for name in ("additions", "thresholds")
        )
        low, width = float(self.value_range[0]), float(self.value_range[1] - self.value_range[0])
        bright = ops.multiply(ops.subtract(images, low), 255 / width)
        bright = ops.clip(ops.add(bright, additions), 0.0, 255.0)
        changed = ops.where(ops.less(bright, thresholds), bright, ops.subtract(255.0, bright))
        return ops.add(ops.multiply(changed, width / 255), low)
