"""Layers that move the pixels of each image at random in training, and with them its boxes and masks.

A direct call runs in training mode, as in Keras. Masks get the nearest pixel, so their classes are not averaged. Boxes are the
smallest ones around what the old boxes become, clipped to the image; the label of a box that is outside becomes -1.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Unpack

from nbkeras import ops, random
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option, sharding
from nbkeras.layers.augmenting.images import (
    Factor,
    FillMode,
    Interpolation,
    Part,
    RandomImages,
    ValueRange,
    bounds,
    each,
)
from nbkeras.ops import boxes, coordinates
from nbkeras.random.elastic_transform import distorted

_FlipMode = Annotated[str, option.choice("horizontal", "vertical", "horizontal_and_vertical")]
_DistortionFillMode = Annotated[str, option.choice("reflect", "wrap", "constant", "nearest", "mirror")]


class _Moving(RandomImages):
    """Base of layers that move pixels: `moved` moves those of images and of masks, and `moved_boxes` boxes."""

    interpolation = "bilinear"

    def moved(self, images, transformation, interpolation) -> Any:
        """The moved images of a batch. Subclasses override it.

        Args:
            images: The images or masks.
            transformation: The result of `get_random_transformation`.
            interpolation: How values between pixels are computed.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define moved(self, images, transformation, interpolation)"
        )

    def change(self, images, transformation):
        return self.moved(images, transformation, self.interpolation)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        if not training:
            return segmentation_masks
        masks = ops.convert_to_tensor(segmentation_masks)
        return ops.cast(self.moved(masks, transformation, "nearest"), masks.dtype)

    def moved_boxes(self, xyxy, transformation, height, width) -> Any:
        """The moved boxes of a batch. Subclasses override it.

        Args:
            xyxy: The boxes (batch, boxes, 4) in pixels.
            transformation: The result of `get_random_transformation`.
            height: The height of the images.
            width: Their width.
        """
        raise NotImplementedError(self._missing("bounding_boxes"))

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        if not training:
            return bounding_boxes
        if "image_height" in transformation:
            size = transformation["image_height"], transformation["image_width"]
        else:
            size = self._size(transformation["input_shape"])
        return self._moved(bounding_boxes, size, size, lambda xyxy: self.moved_boxes(xyxy, transformation, *size))


class RandomFlip(_Moving):
    """Mirrors each image with a probability of 1/2.

    Args:
        mode: The axes that are mirrored; 'horizontal_and_vertical' mirrors both together.

    Example:
        >>> image = np.array([[[1.0], [2.0]]])  # one row
        >>> flipped = layers.RandomFlip("horizontal")(np.stack([image] * 6))
        >>> flipped.numpy()[:, 0, :, 0].tolist()
        [[2.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(
        self, mode: _FlipMode = "horizontal_and_vertical", seed=None, data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        flips = ops.less_equal(self.uniform(seed, (0.0, 1.0), shape[0], 1, 1, 1), 0.5)
        return {"flips": flips, "input_shape": shape}

    def moved(self, images, transformation, interpolation):
        axes = [
            axis
            for axis, name in ((self.height_axis, "vertical"), (self.width_axis, "horizontal"))
            if name in self.mode
        ]
        return ops.where(transformation["flips"], ops.flip(images, axes), images)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_images(segmentation_masks, transformation, training)

    def moved_boxes(self, xyxy, transformation, height, width):
        left, top, right, bottom = ops.split(xyxy, 4, axis=-1)
        across = ("horizontal" in self.mode, width, left, right)
        down = ("vertical" in self.mode, height, top, bottom)
        sides = [
            (ops.subtract(size, high), ops.subtract(size, low)) if flips else (low, high)
            for flips, size, low, high in (across, down)
        ]
        flipped = ops.concatenate([side for pair in zip(*sides, strict=True) for side in pair], axis=-1)
        return ops.where(ops.reshape(transformation["flips"], (-1, 1, 1)), flipped, xyxy)


class _Moved(_Moving):
    """Base of layers that move pixels by matrices. fill_mode: values outside the image; interpolation: values between pixels."""

    def __init__(
        self,
        fill_mode: FillMode = "reflect",
        interpolation: Interpolation = "bilinear",
        seed=None,
        fill_value: option.Number = 0.0,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def matrix(self, transformation, height, width) -> Any:
        """The numbers (a0, a1, a2, b0, b1, b2) of each image: pixel (x, y) comes from (a0 x + a1 y + a2, b0 x + b1 y + b2).

        Args:
            transformation: The result of `get_random_transformation`.
            height: The height of the images.
            width: Their width.
        """
        raise NotImplementedError(f"{type(self).__name__} must define matrix(self, transformation, height, width)")

    def moved(self, images, transformation, interpolation):
        height, width = self._size(images.shape)
        numbers = [*self.matrix(transformation, height, width), 0.0, 0.0]
        columns = [
            ops.broadcast_to(ops.reshape(ops.cast(number, self.compute_dtype), (-1, 1)), (images.shape[0], 1))
            for number in numbers
        ]
        options = (interpolation, self.fill_mode, self.fill_value, self.data_format)
        return ops.image.affine_transform(images, ops.concatenate(columns, axis=1), *options)


class _MovedOptions(LayerOptions, total=False):
    """The options of `_Moved` that its subclasses accept as **kwargs."""

    seed: Any
    fill_value: option.Number
    data_format: str | None


class RandomTranslation(_Moved):
    """Moves each image down and right by random fractions of its height and width.

    Args:
        height_factor (a number from -1 to 1, or two): The fraction for down, negative for up: drawn from (lowest, highest); f
            means (-f, f).
        width_factor (a number from -1 to 1, or two): The fraction for right, negative for left; like height_factor.

    Example:
        >>> image = np.arange(9.0).reshape((3, 3, 1))
        >>> layer = layers.RandomTranslation(height_factor=(1 / 3, 1 / 3), width_factor=0.0, fill_mode="constant")
        >>> layer(image).numpy()[:, :, 0].round()
        array([[0., 0., 0.],
               [0., 1., 2.],
               [3., 4., 5.]], dtype=float32)
    """

    def __init__(
        self,
        height_factor: option.Anything,
        width_factor: option.Anything,
        fill_mode="reflect",
        interpolation="bilinear",
        **kwargs: Unpack[_MovedOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._down = bounds("RandomTranslation", "height_factor", height_factor)
        self._right = bounds("RandomTranslation", "width_factor", width_factor)

    def drawn(self, shape, seed):
        height, width = self._size(shape)
        down = ops.multiply(self.uniform(seed, self._down, shape[0], 1), float(height))
        right = ops.multiply(self.uniform(seed, self._right, shape[0], 1), float(width))
        return {"translations": ops.concatenate([right, down], axis=1), "input_shape": shape}

    def matrix(self, transformation, height, width):
        right, down = ops.unstack(ops.negative(transformation["translations"]), axis=1)
        return 1.0, 0.0, right, 0.0, 1.0, down

    def moved_boxes(self, xyxy, transformation, height, width):
        moves = ops.expand_dims(transformation["translations"], 1)
        return ops.add(xyxy, ops.concatenate([moves, moves], axis=-1))


class RandomRotation(_Moved):
    """Rotates each image about its centre by a random angle.

    Args:
        factor: The angle, counter-clockwise, as a fraction of a full turn: drawn from (lowest, highest); f means (-f, f).

    Example:
        >>> image = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape((2, 2, 1))
        >>> layers.RandomRotation((0.25, 0.25))(image).numpy()[:, :, 0].round()
        array([[2., 4.],
               [1., 3.]], dtype=float32)
    """

    def __init__(self, factor: Factor, fill_mode="reflect", interpolation="bilinear", **kwargs: Unpack[_MovedOptions]):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        height, width = self._size(shape)
        angle = self.uniform(seed, tuple(360.0 * part for part in self.factor), shape[0])
        turn = ops.multiply(angle, math.pi / 180)
        cosine, sine = ops.cos(turn), ops.sin(turn)
        x, y, zero = (width - 1) / 2, (height - 1) / 2, ops.zeros_like(angle)
        across = x - ops.multiply(cosine, x) + ops.multiply(sine, y)
        down = y - ops.multiply(sine, x) - ops.multiply(cosine, y)
        numbers = ops.stack([cosine, ops.negative(sine), across, sine, cosine, down, zero, zero], axis=1)
        sizes = {"image_height": height, "image_width": width, "batch_size": shape[0]}
        return {"angle": angle, "rotation_matrix": numbers, **sizes}

    def matrix(self, transformation, height, width):
        return ops.unstack(transformation["rotation_matrix"], axis=1)[:6]

    def moved_boxes(self, xyxy, transformation, height, width):
        return boxes.affine_transform(xyxy, transformation["angle"], 0.0, 0.0, 1.0, 0.0, 0.0, height, width)


class RandomZoom(_Moved):
    """Zooms each image in (factors below 0) or out (above 0) by a random factor.

    Args:
        height_factor (a number from -1 to 1, or two): Drawn from (lowest, highest); f means (-f, f). -0.5 shows half of the
            rows, 1 shows twice the rows.
        width_factor (a number from -1 to 1, or two, or None): The same for columns; None for the rows' factor.

    Example:
        >>> image = np.arange(16.0).reshape((4, 4, 1))
        >>> layers.RandomZoom((-0.5, -0.5), interpolation="nearest")(image).numpy()[:, :, 0]
        array([[ 5.,  5.,  6.,  6.],
               [ 5.,  5.,  6.,  6.],
               [ 9.,  9., 10., 10.],
               [ 9.,  9., 10., 10.]], dtype=float32)
    """

    def __init__(
        self,
        height_factor: option.Anything,
        width_factor: option.Anything = None,
        fill_mode="reflect",
        interpolation="bilinear",
        **kwargs: Unpack[_MovedOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._rows = bounds("RandomZoom", "height_factor", height_factor)
        self._columns = None if width_factor is None else bounds("RandomZoom", "width_factor", width_factor)

    def drawn(self, shape, seed):
        rows, columns = (
            None if part is None else self.uniform(seed, (1 + part[0], 1 + part[1]), shape[0], 1)
            for part in (self._rows, self._columns)
        )
        return {"height_zoom": rows, "width_zoom": rows if columns is None else columns, "input_shape": shape}

    def matrix(self, transformation, height, width):
        rows, columns = transformation["height_zoom"], transformation["width_zoom"]
        across, down = (ops.multiply((size - 1) / 2, 1.0 - zoom) for size, zoom in ((width, columns), (height, rows)))
        return columns, 0.0, across, 0.0, rows, down

    def moved_boxes(self, xyxy, transformation, height, width):
        across, _, left, _, down, top = self.matrix(transformation, height, width)
        starts, zooms = (
            ops.expand_dims(ops.concatenate(pair * 2, axis=1), 1) for pair in ([left, top], [across, down])
        )
        return ops.divide(ops.subtract(xyxy, starts), zooms)


class RandomShear(_Moved):
    """Shears each image: rows and columns move in proportion to their distance from the top and from the left.

    The factors are random, and so is the direction, which both share.

    Args:
        x_factor (a number from -1 to 1, or two): The factor for rows, drawn from (lowest, highest); f means (-f, f).
        y_factor (a number from -1 to 1, or two): The factor for columns, like x_factor.

    Example:
        >>> layers.RandomShear(x_factor=0.3)(np.ones((2, 4, 4, 1))).shape
        (2, 4, 4, 1)
    """

    def __init__(
        self,
        x_factor: Factor = 0.0,
        y_factor: Factor = 0.0,
        interpolation="bilinear",
        fill_mode="reflect",
        **kwargs: Unpack[_MovedOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        upper_half = ops.greater(self.uniform(seed, (0.0, 1.0), shape[0], 1), 0.5)
        factors = [self.uniform(seed, limits, shape[0], 1) for limits in (self.x_factor, self.y_factor)]
        way = ops.cast(ops.where(upper_half, -1.0, 1.0), self.compute_dtype)
        return {"shear_factor": ops.multiply(ops.concatenate(factors, axis=1), way), "input_shape": shape}

    def matrix(self, transformation, height, width):
        across, down = ops.unstack(transformation["shear_factor"], axis=1)
        return 1.0, across, 0.0, down, 1.0, 0.0

    def moved_boxes(self, xyxy, transformation, height, width):
        left, top, right, bottom = ops.unstack(xyxy, axis=-1)
        across, down = ops.split(transformation["shear_factor"], 2, axis=1)
        moves = [ops.multiply(across, side) for side in (top, bottom)]
        left, right = ops.subtract(left, ops.maximum(*moves)), ops.subtract(right, ops.minimum(*moves))
        moves = [ops.multiply(down, side) for side in (left, right)]
        top, bottom = ops.subtract(top, ops.maximum(*moves)), ops.subtract(bottom, ops.minimum(*moves))
        return ops.stack([left, top, right, bottom], axis=-1)


class RandomPerspective(_Moving):
    """Moves the corners of each image by random distances, with a random probability; lines stay straight.

    Args:
        factor: The probability of moving the corners of an image, itself drawn from (lowest, highest); f means (0, f), and
            (1, 1) always moves them.
        scale: Each coordinate of a corner is multiplied by a random number from 1 - scale / 2 to 1 + scale / 2.
        interpolation: How values between pixels are computed.
        fill_value: The value outside the image.

    Example:
        >>> layers.RandomPerspective((1.0, 1.0), scale=0.4)(np.ones((2, 4, 4, 1))).shape
        (2, 4, 4, 1)
    """

    _FACTOR_BOUNDS = (0.0, 1.0)

    def __init__(
        self,
        factor: Part = 1.0,
        scale: option.Rate = 1.0,
        interpolation: Interpolation = "bilinear",
        fill_value: option.Number = 0.0,
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        (height, width), count = self._size(shape), shape[0]
        corners = [[0.0, 0.0], [width - 1.0, 0.0], [0.0, height - 1.0], [width - 1.0, height - 1.0]]
        start = ops.broadcast_to(ops.convert_to_tensor(corners, self.compute_dtype), (count, 4, 2))
        factors = self.uniform(seed, (1 - self.scale / 2, 1 + self.scale / 2), count, 4, 2)
        chosen = self.chosen(count, seed)
        end = ops.multiply(start, factors)
        return {"apply_perspective": chosen, "start_points": start, "end_points": end, "input_shape": shape}

    def moved(self, images, transformation, interpolation):
        points = transformation["start_points"], transformation["end_points"]
        images = ops.cast(images, self.compute_dtype)
        found = ops.image.perspective_transform(images, *points, interpolation, self.fill_value, self.data_format)
        return ops.where(each(transformation["apply_perspective"], "bool"), found, images)

    def moved_boxes(self, xyxy, transformation, height, width):
        numbers = coordinates.homography(transformation["end_points"], transformation["start_points"])
        found = boxes.hulls(xyxy, lambda x, y: _projected(x, y, ops.cast(numbers, xyxy.dtype)))
        return ops.where(ops.reshape(transformation["apply_perspective"], (-1, 1, 1)), found, xyxy)


def _projected(x: Any, y: Any, numbers: Any) -> tuple[Any, Any]:
    """The points that the points x, y of shape (batch, boxes, 4) become by the numbers of `homography`."""
    a0, a1, a2, b0, b1, b2, c0, c1 = (ops.reshape(number, (-1, 1, 1)) for number in ops.unstack(numbers, axis=1))
    scale = c0 * x + c1 * y + 1.0
    return ops.divide(a0 * x + a1 * y + a2, scale), ops.divide(b0 * x + b1 * y + b2, scale)


class RandomElasticTransform(_Moving):
    """Distorts each image by smooth noise, with a random probability (Simard, Steinkraus and Platt, 2003).

    Args:
        factor: The probability of distorting an image, itself drawn from (lowest, highest); f means (0, f), and (1, 1) always
            distorts.
        scale: The strength for a batch, drawn from (lowest, highest); s means (0, s).
        interpolation: How values between pixels are computed.
        fill_mode: The values outside the image.
        fill_value: The value outside the image for 'constant'.
        value_range: The smallest and the largest value of a pixel, to which images are clipped.

    Example:
        >>> layers.RandomElasticTransform((1.0, 1.0), scale=0.5)(np.ones((2, 8, 8, 1))).shape
        (2, 8, 8, 1)
    """

    _FACTOR_BOUNDS = (0.0, 1.0)

    def __init__(
        self,
        factor: Part = 1.0,
        scale: Part = 1.0,
        interpolation: Interpolation = "bilinear",
        fill_mode: _DistortionFillMode = "reflect",
        fill_value: option.Number = 0.0,
        value_range: ValueRange = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        (height, width), count = self._size(shape), shape[0]
        chosen = self.chosen(count, seed)
        with sharding.within(None):  # one number for all images
            strength = self.uniform(seed, self.scale)
        # the images and their masks share the noise
        noise = random.normal((count, height, width, 2), 0.0, 1.0, self.compute_dtype, seed)
        return {"apply_transform": chosen, "distortion_factor": strength, "noise": noise, "input_shape": shape}

    def moved(self, images, transformation, interpolation):
        height, width = self._size(images.shape)
        strength, longest = transformation["distortion_factor"], 0.05 * min(height, width)
        sigma = ops.maximum(ops.multiply(strength, longest), 1e-3)
        size = int(6 * longest * self.scale[1]) | 1
        found = distorted(
            ops.cast(images, self.compute_dtype),
            ops.multiply(transformation["noise"], sigma),
            ops.multiply(strength, 0.1 * max(height, width)),
            sigma,
            size,
            (self.data_format, interpolation, self.fill_mode, self.fill_value),
        )
        return ops.where(each(transformation["apply_transform"], "bool"), found, images)

    def change(self, images, transformation):
        return ops.clip(super().change(images, transformation), *self.value_range)
