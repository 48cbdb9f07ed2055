"""Layers that change colours and sharpness of each image at random in training.

value_range: the smallest and the largest value of a pixel. A direct call runs in training mode, as in Keras.
"""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import config, ops, random
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.layers.augmentation import Part, RandomImages, ValueRange, bounds
from nbkeras.layers.images import Images


def _in_limits(layer: Any, what: str, factor: Any) -> tuple[float, float]:
    return bounds(option.name_of(layer), what, factor, *layer.limits)


FactorInLimits = Annotated[Any, option.Kind(_in_limits, "a number within the layer's limits, or two")]


class RandomColors(RandomImages, registered=False):
    """Base of the colour layers: value_range, and a factor within limits from which one number per image is drawn."""

    limits = (0.0, 1.0)

    def __init__(
        self,
        factor: FactorInLimits,
        value_range: ValueRange = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(seed, data_format, **kwargs)
        option.keep(self, locals())

    def in_range(self, images):
        """Images with their values clipped to value_range."""
        return ops.clip(images, *self.value_range)

    def scaled(self, images, source: tuple, target: tuple):
        """Images with their values mapped linearly from one range to another."""
        if tuple(source) == tuple(target):
            return images
        factor = (target[1] - target[0]) / (source[1] - source[0])
        return ops.add(ops.multiply(ops.subtract(images, float(source[0])), factor), float(target[0]))


class RandomBrightness(RandomColors):
    """Adds a number from factor times the width of value_range. factor: f up to 1, for -f to f, or a pair."""

    limits = (-1.0, 1.0)

    def change(self, images):
        width = float(self.value_range[1] - self.value_range[0])
        return self.in_range(ops.add(images, ops.multiply(self.draw(images, *self.factor), width)))


class RandomContrast(RandomColors):
    """Multiplies differences from a channel's mean by 1 - lower to 1 + upper of factor; f stands for (0, f), as in Keras."""

    def change(self, images):
        factor = self.draw(images, 1 - self.factor[0], 1 + self.factor[1])
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        return self.in_range(ops.add(ops.multiply(ops.subtract(images, mean), factor), mean))


class RandomColorDegeneration(RandomColors):
    """Blends RGB images with their grayscale version by a number from factor; 1 removes all colour."""

    def change(self, images):
        gray = ops.image.rgb_to_grayscale(images, data_format="channels_last")
        return self.in_range(ops.add(images, ops.multiply(self.draw(images, *self.factor), ops.subtract(gray, images))))


class RandomInvert(RandomColors):
    """Inverts pixel values within value_range, with a probability drawn from factor."""

    def __init__(self, factor=1.0, value_range=(0, 255), seed=None, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(factor, value_range, seed, data_format, **kwargs)

    def change(self, images):
        probability = self.draw(images, *self.factor)
        chosen = ops.less(self.draw(images, 0.0, 1.0), probability)
        return ops.where(chosen, ops.subtract(float(self.value_range[1]), images), images)


class RandomSaturation(RandomColors):
    """Multiplies saturation by f / (1 - f), f drawn from factor: 0.5 changes nothing, 0 removes all colour."""

    def change(self, images):
        factor = self.draw(images, *self.factor)
        factor = ops.divide(factor, ops.add(ops.subtract(1.0, factor), config.epsilon()))
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(images, data_format="channels_last"), 3, axis=-1)
        changed = ops.concatenate([hue, self.in_range(ops.multiply(saturation, factor)), value], axis=-1)
        return ops.image.hsv_to_rgb(changed, data_format="channels_last")


class RandomHue(RandomColors):
    """Shifts hues by half of a number from factor, in a random direction."""

    def change(self, images):
        way = ops.where(ops.greater(self.draw(images, 0.0, 1.0), 0.5), -0.5, 0.5)
        turn = ops.multiply(self.draw(images, *self.factor), ops.cast(way, self.dtype))
        unit = self.scaled(images, self.value_range, (0, 1))
        hue, saturation, value = ops.split(ops.image.rgb_to_hsv(unit, data_format="channels_last"), 3, axis=-1)
        hue = ops.add(hue, turn)
        hue = ops.where(ops.greater(hue, 1.0), ops.subtract(hue, 1.0), hue)
        hue = ops.where(ops.less(hue, 0.0), ops.add(hue, 1.0), hue)
        changed = ops.concatenate([hue, saturation, value], axis=-1)
        changed = ops.clip(ops.image.hsv_to_rgb(changed, data_format="channels_last"), 0.0, 1.0)
        return self.scaled(changed, (0, 1), self.value_range)


class RandomPosterization(RandomColors):
    """Reduces pixel values to fewer bits: a whole number from factor, 1 to 8."""

    limits = (1.0, 8.0)

    def change(self, images):
        low, high = (int(f) for f in self.factor)
        bits = ops.floor(self.draw(images, float(low), float(max(high, low + 1))))
        step = ops.power(2.0, ops.subtract(8.0, bits))
        whole = ops.floor(self.scaled(images, self.value_range, (0, 255)))
        return self.scaled(ops.multiply(ops.floor(ops.divide(whole, step)), step), (0, 255), self.value_range)


class RandomSharpness(RandomColors):
    """Blends images with smoothed ones by a number from factor: 0.5 changes nothing, less smooths, more sharpens."""

    def change(self, images):
        kernel = np.full((3, 3, images.shape[3], 1), 1 / 13, self.dtype)
        kernel[1, 1] = 5 / 13
        smooth = ops.depthwise_conv(images, kernel, padding="same", data_format="channels_last")
        factor = ops.subtract(1.0, ops.multiply(self.draw(images, *self.factor), 2.0))
        return self.in_range(ops.add(images, ops.multiply(factor, ops.subtract(smooth, images))))


def _odd_sizes(name: str, what: str, value: Any) -> tuple[int, int]:
    sizes = (value, value) if isinstance(value, int) else tuple(value)
    if len(sizes) != 2 or any(not isinstance(size, int) or size % 2 == 0 for size in sizes):
        raise ValueError(f"{name}'s {what} must be an odd integer or two, received {value!r}")
    return sizes


OddSizes = Annotated[Any, option.kind(_odd_sizes, "an odd integer, or two")]


class RandomGaussianBlur(RandomColors):
    """Blurs images, with a probability from factor, by a Gaussian of kernel_size (odd); its two widths are drawn from sigma."""

    def __init__(
        self,
        factor=1.0,
        kernel_size: OddSizes = 3,
        sigma: Part = 1.0,
        value_range=(0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(factor, value_range, seed, data_format, **kwargs)
        option.keep(self, locals())

    def change(self, images):
        chosen = ops.less(self.draw(images, 0.0, 1.0), self.draw(images, *self.factor))
        sigma = ops.add(random.uniform((2,), *self.sigma, self.dtype, self.seed_generator), 1e-6)
        blurred = ops.image.gaussian_blur(images, self.kernel_size, sigma, data_format="channels_last")
        return self.in_range(ops.where(chosen, blurred, images))


class RandomColorJitter(RandomImages):
    """Applies RandomBrightness, RandomContrast, RandomSaturation and RandomHue in turn, each if its factor is given."""

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
        super().__init__(seed, data_format, **kwargs)
        option.keep(self, locals())
        factors = brightness_factor, contrast_factor, saturation_factor, hue_factor
        kinds = (RandomBrightness, RandomContrast, RandomSaturation, RandomHue)
        self.parts = [
            kind(factor, value_range, seed, dtype=self.dtype)
            for kind, factor in zip(kinds, factors, strict=True)
            if factor is not None
        ]

    def change(self, images):
        for part in self.parts:
            images = part.change(images)
        return images


class AutoContrast(Images):
    """Stretches each channel to all of value_range, also in inference; a channel of one single value is unchanged."""

    def __init__(self, value_range: ValueRange = (0, 255), data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(data_format, **kwargs)
        option.keep(self, locals())

    def change(self, images):
        low, high = (each(images, axis=(1, 2), keepdims=True) for each in (ops.min, ops.max))
        bottom, width = float(self.value_range[0]), float(self.value_range[1] - self.value_range[0])
        one = ops.equal(low, high)
        part = ops.divide(ops.subtract(images, low), ops.where(one, 1.0, ops.subtract(high, low)))
        return ops.where(one, images, ops.add(ops.multiply(part, width), bottom))

    def call(self, inputs):
        return self.changed(ops.cast(inputs, self.dtype))


class RandomGrayscale(RandomImages):
    """Converts RGB images to gray, with probability factor."""

    def __init__(self, factor: option.Rate = 0.5, data_format=None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(seed, data_format, **kwargs)
        option.keep(self, locals())

    def change(self, images):
        gray = ops.image.rgb_to_grayscale(images, data_format="channels_last")
        return ops.where(ops.less(self.draw(images, 0.0, 1.0), self.factor), gray, images)


class Solarization(RandomImages):
    """Adds a number, then inverts values above a threshold. Both factors are fractions of 255: f, for 0 to f, or a pair."""

    def __init__(
        self,
        addition_factor: option.Anything = 0.0,
        threshold_factor: option.Anything = 0.0,
        value_range: ValueRange = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(seed, data_format, **kwargs)
        option.keep(self, locals())
        self._additions = _from_zero("addition_factor", addition_factor)
        self._thresholds = _from_zero("threshold_factor", threshold_factor)

    def change(self, images):
        additions = self.draw(images, self._additions[0], self._additions[1] * 255)
        thresholds = self.draw(images, self._thresholds[0], self._thresholds[1] * 255)
        low, width = float(self.value_range[0]), float(self.value_range[1] - self.value_range[0])
        bright = ops.multiply(ops.subtract(images, low), 255 / width)
        bright = ops.clip(ops.add(bright, additions), 0.0, 255.0)
        changed = ops.where(ops.less(bright, thresholds), bright, ops.subtract(255.0, bright))
        return ops.add(ops.multiply(changed, width / 255), low)


def _from_zero(what: str, factor: Any) -> tuple[float, float]:
    pair = bounds("Solarization", what, factor, 0.0)
    return pair if isinstance(factor, list | tuple) else (0.0, pair[1])
