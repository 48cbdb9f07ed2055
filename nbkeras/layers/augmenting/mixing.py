"""Layers that fill rectangles of images, and layers that mix the images of a batch: RandomErasing, CutMix, MixUp."""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops, random
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option, sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.dtypes import array_of
from nbkeras.layers.augmenting.images import Part, RandomImages, ValueRange, each


def _rectangles(layer: Any, shape: tuple, seed: Any, across: Any, down: Any) -> tuple[Any, Any]:
    """Masks of random rectangles, True inside, that broadcast with images, and the part of each image that its rectangle covers.

    across, down: the lengths of the sides as parts of the images' sides, one for each image.
    """
    inside, covered = None, None
    for axis, part in ((layer.width_axis, across), (layer.height_axis, down)):
        size = shape[axis]
        length = ops.multiply(part, float(size))
        start = ops.multiply(layer.uniform(seed, (0.0, 1.0), shape[0]), ops.subtract(float(size), length))
        place = ops.reshape(ops.arange(size, dtype=layer.dtype), [-1 if i == axis % 4 else 1 for i in range(4)])
        start, end = each(start, layer.dtype), each(ops.add(start, length), layer.dtype)
        within = ops.logical_and(ops.greater_equal(place, start), ops.less(place, end))
        inside = within if inside is None else ops.logical_and(inside, within)
        covered = part if covered is None else ops.multiply(covered, part)
    return inside, covered


class RandomErasing(RandomImages):
    """Fills a random rectangle of each image (Zhong et al., 2017).

    Args:
        factor: The probability of erasing an image, itself drawn from (lowest, highest); f means (0, f), and (1, 1)
            always erases.
        scale: Each side of the rectangle is sqrt(s) times the image's side; s is drawn for each from (lowest, highest); b
            means (0, b).
        fill_value (a number, one for each channel, or None): The new value; None for noise. It is clipped to `value_range`.

    Example:
        >>> layer = layers.RandomErasing((1.0, 1.0), scale=(0.25, 0.25), fill_value=0.0)  # half of each side
        >>> float(np.sum(layer(np.ones((4, 4, 1)))))
        12.0
    """

    _FACTOR_BOUNDS = (0.0, 1.0)

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

    def drawn(self, shape, seed):
        across, down = (ops.sqrt(self.uniform(seed, self.scale, shape[0])) for _ in range(2))
        inside, _ = _rectangles(self, shape, seed, across, down)
        if self.fill_value is None:
            filled = random.normal(shape, 0.0, float(self.value_range[1]), self.compute_dtype, seed)
        else:
            values = array_of(self.fill_value, self.compute_dtype)
            filled = ops.reshape(values, (-1, 1, 1)) if self.channel_axis == -3 else ops.convert_to_tensor(values)
        filled = ops.clip(filled, *self.value_range)
        return {"apply_erasing": self.chosen(shape[0], seed), "batch_masks": inside, "fill_value": filled}

    def change(self, images, transformation):
        chosen = ops.logical_and(transformation["batch_masks"], each(transformation["apply_erasing"], "bool"))
        return ops.where(chosen, ops.cast(transformation["fill_value"], self.compute_dtype), images)


class _Mixing(RandomImages):
    """Base of layers that mix each image with another one of the batch, and their labels in the same proportion."""

    def _mixed(self, values: Any, transformation: Any) -> Any:
        """Values of the images, mixed with those of the others."""
        values = ops.cast(values, self.compute_dtype)
        others = ops.take(values, transformation["permutation_order"], axis=0)
        weight = ops.cast(transformation["mix_weight"], self.compute_dtype)
        weight = ops.reshape(weight, (-1, *(1,) * (values.ndim - 1)))
        return ops.add(ops.multiply(weight, values), ops.multiply(ops.subtract(1.0, weight), others))

    def transform_labels(self, labels, transformation=None, training=True):
        if not training:
            return labels
        if len(ops.shape(labels)) < 2:
            raise ValueError(
                f"{type(self).__name__} mixes labels, which must be one-hot or probabilities (batch, classes), received "
                f"{briefly(labels)}: use ops.one_hot or utils.to_categorical"
            )
        return self._mixed(labels, transformation)

    def _order(self, count: int, seed: Any) -> Any:
        """A random order of the images."""
        return random.shuffle(ops.arange(count, dtype="int32"), seed=seed)


class CutMix(_Mixing):
    """Replaces a rectangle of each image by that of another one; labels are mixed by the areas (Yun et al., 2019).

    Args:
        factor: The parameter of the Beta distribution from which the area outside the rectangle is drawn, itself drawn for a
            batch from (lowest, highest); f means (0, f).

    Output shape:
        The inputs' shapes, in the layer's dtype. Labels must be one-hot or probabilities. Boxes are not accepted.

    Example:
        >>> data = {"images": np.ones((4, 8, 8, 3)), "labels": np.eye(4)}
        >>> mixed = layers.CutMix()(data)
        >>> bool(np.allclose(np.sum(mixed["labels"], axis=1), 1.0))
        True
    """

    _FACTOR_BOUNDS = (0.0, 1.0)

    def __init__(self, factor: Part = 1.0, seed=None, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        with sharding.within(None):  # one number for all images
            parameter = ops.add(self.uniform(seed, self.factor), 1e-6)
        weight = random.beta(shape[:1], parameter, parameter, self.compute_dtype, seed)
        side = ops.sqrt(ops.subtract(1.0, weight))
        inside, covered = _rectangles(self, shape, seed, side, side)
        kept = each(ops.subtract(1.0, covered), self.compute_dtype)
        return {"permutation_order": self._order(shape[0], seed), "batch_masks": inside, "mix_weight": kept}

    def change(self, images, transformation):
        others = ops.take(images, transformation["permutation_order"], axis=0)
        inside = ops.split(transformation["batch_masks"], [1], axis=self.channel_axis)[0]  # the same for all channels
        return ops.where(inside, others, images)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_images(segmentation_masks, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        raise NotImplementedError(self._missing("bounding_boxes"))


class MixUp(_Mixing):
    """Mixes each image with another one of the batch, and their labels; their boxes are put together (Zhang et al., 2018).

    Args:
        alpha: The parameter of the Beta distribution from which the weight of each image is drawn.

    Output shape:
        The inputs' shapes, in the layer's dtype, with twice the number of boxes. Labels must be one-hot or probabilities.

    Example:
        >>> data = {"images": np.ones((4, 8, 8, 3)), "labels": np.eye(4)}
        >>> mixed = layers.MixUp()(data)
        >>> bool(np.allclose(np.sum(mixed["labels"], axis=1), 1.0))
        True
    """

    def __init__(self, alpha: option.Above0 = 0.2, data_format=None, seed=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def drawn(self, shape, seed):
        weight = random.beta(shape[:1], self.alpha, self.alpha, self.compute_dtype, seed)
        return {"mix_weight": weight, "permutation_order": self._order(shape[0], seed)}

    def change(self, images, transformation):
        return self._mixed(images, transformation)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self._mixed(segmentation_masks, transformation) if training else segmentation_masks

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        if not training:
            return bounding_boxes
        order = transformation["permutation_order"]
        both = {
            key: ops.concatenate([bounding_boxes[key], ops.take(bounding_boxes[key], order, axis=0)], axis=1)
            for key in ("boxes", "labels")
        }
        return {**bounding_boxes, **both}
