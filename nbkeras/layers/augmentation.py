"""Layers that change each image at random in training: they move, rotate, zoom, shear, crop, flip or erase it.

A direct call runs in training mode, as in Keras. Bounding boxes and labels are not transformed.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Unpack

from nbkeras import ops, random
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of
from nbkeras.layers.images import Images, middle


def bounds(name: str, what: str, factor: Any, low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """A factor as a pair; a number f becomes (max(-f, low), f). ValueError for a factor outside [low, high]."""
    pair = list(factor) if isinstance(factor, list | tuple) else [factor, factor]
    is_pair = len(pair) == 2 and all(isinstance(each, int | float) for each in pair)
    pair = sorted(pair) if is_pair else pair
    if not is_pair or not (pair[0] <= high and pair[1] >= low):
        raise ValueError(f"{name}'s {what} must be a number from {low} to {high}, or two, received {briefly(factor)}")
    if isinstance(factor, list | tuple):
        return float(pair[0]), float(pair[1])
    return max(-abs(float(factor)), low), abs(float(factor))


def _value_range(name: str, what: str, limits: Any) -> tuple:
    is_pair = isinstance(limits, list | tuple) and len(limits) == 2
    if not is_pair or not all(isinstance(each, int | float) for each in limits) or limits[0] == limits[1]:
        raise ValueError(f"{name}'s {what} must be two numbers that differ, received {briefly(limits)}")
    return tuple(sorted(limits))


Factor = Annotated[Any, option.kind(bounds, "a number from -1 to 1, or two")]
Part = Annotated[Any, option.kind(bounds, "a number from 0 to 1, or two", 0.0)]
ValueRange = Annotated[Any, option.kind(_value_range, "two numbers")]
FlipMode = Annotated[str, option.choice("horizontal", "vertical", "horizontal_and_vertical")]
FillMode = Annotated[str, option.choice("reflect", "wrap", "constant", "nearest")]
Interpolation = Annotated[str, option.choice("nearest", "bilinear")]


class RandomImages(Images, registered=False):
    """Base of the random layers: `change` runs in training, otherwise only a cast; `draw` returns one random number per image.

    Call arguments:
        training: Whether to change the images; otherwise they are only cast. True by default if no model sets it.
    """

    trains_by_default = True

    def __init__(self, seed: option.Anything = None, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.seed_generator = self.add_seed_generator(seed)

    def draw(self, images, low: float, high: float):
        """Uniform random numbers, one for each image: shape (batch, 1, 1, 1).

        Args:
            images: The batch.
            low: The smallest number.
            high: The upper limit, excluded.
        """
        return random.uniform((images.shape[0], 1, 1, 1), low, high, self.dtype, self.seed_generator)

    def call(self, inputs, training=None):
        images = ops.cast(inputs, self.dtype)
        return self.changed(images) if training else images


class RandomFlip(RandomImages):
    """Mirrors each image with a probability of 1/2.

    Args:
        mode: The axes that are mirrored; 'horizontal_and_vertical' mirrors both together.

    Output shape:
        The inputs' shape, in the layer's dtype.

    Example:
        >>> image = np.array([[[1.0], [2.0]]])  # one row
        >>> flipped = layers.RandomFlip("horizontal")(np.stack([image] * 6))
        >>> flipped.numpy()[:, 0, :, 0].tolist()
        [[2.0, 1.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """

    def __init__(
        self, mode: FlipMode = "horizontal_and_vertical", seed=None, data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(**option.keep(self, locals()))

    def change(self, images):
        axes = [axis for axis, name in ((1, "vertical"), (2, "horizontal")) if name in self.mode]
        return ops.where(ops.less_equal(self.draw(images, 0.0, 1.0), 0.5), ops.flip(images, axes), images)


class RandomCrop(RandomImages):
    """Crops images at a random position, the same for all images of a batch.

    Images that are not larger, and all images outside training, are cropped at the centre, as by CenterCrop.

    Call arguments:
        training: Whether the position is random. True by default if no model sets it.

    Output shape:
        (height, width, channels), or a batch of these, in the layer's dtype.

    Example:
        >>> layers.RandomCrop(2, 2)(np.ones((4, 3, 3, 1))).shape
        (4, 2, 2, 1)
    """

    def __init__(
        self, height: option.Size, width: option.Size, seed=None, data_format=None, **kwargs: Unpack[LayerOptions]
    ):
        super().__init__(**option.keep(self, locals()))

    def change(self, images, training=True):
        """The cropped images of a batch.

        Args:
            training: Whether the position is random.
        """
        if not training or images.shape[1] <= self.height or images.shape[2] <= self.width:
            return middle(images, self.height, self.width)
        for axis, size in ((1, self.height), (2, self.width)):
            start = random.randint((), 0, images.shape[axis] - size + 1, seed=self.seed_generator)
            images = ops.take(images, ops.add(ops.arange(size, dtype="int32"), start), axis)
        return images

    def call(self, inputs, training=None):
        return self.changed(ops.cast(inputs, self.dtype), training=training)


class _Moved(RandomImages):
    """Base of layers that move pixels. fill_mode: the values outside the image; interpolation: the values between pixels."""

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

    def move(self, images, a0, a1, a2, b0, b1, b2):
        """The images whose pixel (x, y) comes from (a0 x + a1 y + a2, b0 x + b1 y + b2).

        Args:
            images: The batch.
            a0: A number, or one for each image, of shape (batch, 1, 1, 1), like the others.
            a1: See above.
            a2: See above.
            b0: See above.
            b1: See above.
            b2: See above.
        """
        count = images.shape[0]
        columns = [
            ops.reshape(ops.broadcast_to(ops.cast(number, self.dtype), (count, 1, 1, 1)), (count, 1))
            for number in (a0, a1, a2, b0, b1, b2, 0.0, 0.0)
        ]
        options = (self.interpolation, self.fill_mode, self.fill_value, "channels_last")
        return ops.image.affine_transform(images, ops.concatenate(columns, axis=1), *options)


class MovedOptions(LayerOptions, total=False):
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

    Output shape:
        The inputs' shape, in the layer's dtype.

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
        **kwargs: Unpack[MovedOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._down = bounds("RandomTranslation", "height_factor", height_factor)
        self._right = bounds("RandomTranslation", "width_factor", width_factor)

    def change(self, images):
        down = ops.multiply(self.draw(images, *self._down), float(images.shape[1]))
        right = ops.multiply(self.draw(images, *self._right), float(images.shape[2]))
        return self.move(images, 1.0, 0.0, ops.negative(right), 0.0, 1.0, ops.negative(down))


class RandomRotation(_Moved):
    """Rotates each image about its centre by a random angle.

    Args:
        factor: The angle, counter-clockwise, as a fraction of a full turn: drawn from (lowest, highest); f means (-f, f).

    Output shape:
        The inputs' shape, in the layer's dtype.

    Example:
        >>> image = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape((2, 2, 1))
        >>> layers.RandomRotation((0.25, 0.25))(image).numpy()[:, :, 0].round()
        array([[2., 4.],
               [1., 3.]], dtype=float32)
    """

    def __init__(self, factor: Factor, fill_mode="reflect", interpolation="bilinear", **kwargs: Unpack[MovedOptions]):
        super().__init__(**option.keep(self, locals()))

    def change(self, images):
        angle = ops.multiply(self.draw(images, *self.factor), 2 * math.pi)
        cosine, sine = ops.cos(angle), ops.sin(angle)
        x, y = (images.shape[2] - 1) / 2, (images.shape[1] - 1) / 2
        across = x - ops.multiply(cosine, x) + ops.multiply(sine, y)
        down = y - ops.multiply(sine, x) - ops.multiply(cosine, y)
        return self.move(images, cosine, ops.negative(sine), across, sine, cosine, down)


class RandomZoom(_Moved):
    """Zooms each image in (factors below 0) or out (above 0) by a random factor.

    Args:
        height_factor (a number from -1 to 1, or two): Drawn from (lowest, highest); f means (-f, f). -0.5 shows half of the
            rows, 1 shows twice the rows.
        width_factor (a number from -1 to 1, or two, or None): The same for columns; None for the rows' factor.

    Output shape:
        The inputs' shape, in the layer's dtype.

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
        **kwargs: Unpack[MovedOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._rows = bounds("RandomZoom", "height_factor", height_factor)
        self._columns = None if width_factor is None else bounds("RandomZoom", "width_factor", width_factor)

    def change(self, images):
        rows = self.draw(images, 1 + self._rows[0], 1 + self._rows[1])
        columns = rows
        if self._columns is not None:
            columns = self.draw(images, 1 + self._columns[0], 1 + self._columns[1])
        across, down = ((images.shape[axis] - 1) / 2 * (1.0 - zoom) for axis, zoom in ((2, columns), (1, rows)))
        return self.move(images, columns, 0.0, across, 0.0, rows, down)


class RandomShear(_Moved):
    """Shears each image: rows and columns move in proportion to their distance from the top and from the left.

    The factors are random, and so is the direction, which both share.

    Args:
        x_factor (a number from 0 to 1, or two): The factor for rows, drawn from (lowest, highest); f means (0, f).
        y_factor (a number from 0 to 1, or two): The factor for columns, like x_factor.

    Output shape:
        The inputs' shape, in the layer's dtype.

    Example:
        >>> layers.RandomShear(x_factor=0.3)(np.ones((2, 4, 4, 1))).shape
        (2, 4, 4, 1)
    """

    def __init__(
        self,
        x_factor: option.Anything = 0.0,
        y_factor: option.Anything = 0.0,
        interpolation="bilinear",
        fill_mode="reflect",
        **kwargs: Unpack[MovedOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self._across = bounds("RandomShear", "x_factor", x_factor, 0.0)
        self._down = bounds("RandomShear", "y_factor", y_factor, 0.0)

    def change(self, images):
        way = ops.cast(ops.where(ops.greater(self.draw(images, 0.0, 1.0), 0.5), -1.0, 1.0), self.dtype)
        down, across = (ops.multiply(self.draw(images, *limits), way) for limits in (self._down, self._across))
        return self.move(images, 1.0, across, 0.0, down, 1.0, 0.0)


class RandomErasing(RandomImages):
    """Fills a random rectangle of each image (Zhong et al., 2017).

    Args:
        factor: The probability of erasing an image, itself drawn from (lowest, highest); f means (0, f), and (1, 1)
            always erases.
        scale: Each side of the rectangle is sqrt(s) times the image's side; s is drawn for each from (lowest, highest); b
            means (0, b).
        fill_value (a number, one for each channel, or None): The new value; None for noise. It is clipped to `value_range`.

    Output shape:
        The inputs' shape, in the layer's dtype.

    Example:
        >>> layer = layers.RandomErasing((1.0, 1.0), scale=(0.25, 0.25), fill_value=0.0)  # half of each side
        >>> float(np.sum(layer(np.ones((4, 4, 1)))))
        12.0
    """

    def __init__(
        self,
        factor: Part = 1.0,
        scale: Part = (0.02, 0.33),
        fill_value: option.Anything = None,
        value_range: ValueRange = (0, 255),
        seed=None,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def change(self, images):
        inside = None
        for axis in (2, 1):
            size = float(images.shape[axis])
            length = ops.multiply(ops.sqrt(self.draw(images, *self.scale)), size)
            start = ops.multiply(self.draw(images, 0.0, 1.0), ops.subtract(size, length))
            shape = [-1 if i == axis else 1 for i in range(4)]
            place = ops.reshape(ops.arange(images.shape[axis], dtype=self.dtype), shape)
            within = ops.logical_and(ops.greater_equal(place, start), ops.less(place, ops.add(start, length)))
            inside = within if inside is None else ops.logical_and(inside, within)
        chosen = ops.less(self.draw(images, 0.0, 1.0), self.draw(images, *self.factor))
        if self.fill_value is None:
            noise = random.normal(images.shape, 0.0, 1.0, self.dtype, self.seed_generator)
            filled = ops.multiply(noise, float(self.value_range[1]))
        else:
            filled = ops.add(ops.zeros_like(images), array_of(self.fill_value, self.dtype))
        return ops.where(ops.logical_and(inside, chosen), ops.clip(filled, *self.value_range), images)
