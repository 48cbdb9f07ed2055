"""Layers that change the sizes of images: Resizing, CenterCrop, RandomCrop; MaxNumBoundingBoxes; Pipeline, layers as one."""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops, random
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.layers.augmenting.images import Images, RandomImages


class Resizing(Images):
    """Resizes images and keeps their dtype; see `ops.image.resize`. Masks get the nearest pixel.

    Args:
        interpolation (str): 'nearest', 'bilinear', 'bicubic', 'lanczos3' or 'lanczos5'.
        crop_to_aspect_ratio: Whether to crop to the new aspect ratio first.
        pad_to_aspect_ratio: Whether to pad to the new aspect ratio first.
        fill_mode (str): How padding is filled: 'constant'.
        fill_value: The value of the padding.
        antialias: Whether to smooth when shrinking.

    Output shape:
        (height, width, channels), or a batch of these; the dtype of the inputs.

    Example:
        >>> image = np.arange(16.0).reshape((4, 4, 1))
        >>> layers.Resizing(2, 2)(image).numpy()[:, :, 0]
        array([[ 2.5,  4.5],
               [10.5, 12.5]], dtype=float32)
    """

    def __init__(
        self,
        height: option.Size,
        width: option.Size,
        interpolation: option.Anything = "bilinear",
        crop_to_aspect_ratio: option.Flag = False,
        pad_to_aspect_ratio: option.Flag = False,
        fill_mode: option.Anything = "constant",
        fill_value: option.Number = 0.0,
        antialias: option.Flag = False,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def get_random_transformation(self, data, training=True, seed=None):
        return self._size(ops.shape(data["images"] if isinstance(data, dict) else data))

    def _resized(self, images: Any, interpolation: str) -> Any:
        return ops.image.resize(
            images,
            (self.height, self.width),
            interpolation=interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )

    def transform_images(self, images, transformation=None, training=True):
        return self._resized(images, self.interpolation)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self._resized(segmentation_masks, "nearest")

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        before, after = transformation, (self.height, self.width)
        ratios = [new / old for new, old in zip(after, before, strict=True)]
        if self.pad_to_aspect_ratio or self.crop_to_aspect_ratio:
            ratios = [min(ratios) if self.pad_to_aspect_ratio else max(ratios)] * 2
        # the rows and columns that are added before the first pixel, or removed there
        rest = [new - old * ratio for new, old, ratio in zip(after, before, ratios, strict=True)]
        top, left = (each // 2 if self.pad_to_aspect_ratio else -(-each // 2) for each in rest)
        given = ops.cast(bounding_boxes["boxes"], "float32")
        fillers = [ops.all(ops.equal(given, number), axis=-1, keepdims=True) for number in (-1.0, 0.0)]
        found = self._moved(
            bounding_boxes, before, after, lambda xyxy: ops.add(ops.multiply(xyxy, ratios[::-1] * 2), [left, top] * 2)
        )
        return {**found, "boxes": ops.where(ops.logical_or(*fillers), 0.0, found["boxes"])}


class CenterCrop(Images):
    """Crops images around the centre. Smaller images are cropped to the aspect ratio and resized.

    Output shape:
        (height, width, channels), or a batch of these, in the layer's dtype.

    Example:
        >>> image = np.arange(16.0).reshape((4, 4, 1))
        >>> layers.CenterCrop(2, 2)(image).numpy()[:, :, 0]
        array([[ 5.,  6.],
               [ 9., 10.]], dtype=float32)
    """

    def __init__(self, height: option.Size, width: option.Size, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def get_random_transformation(self, data, training=True, seed=None):
        return {"input_shape": ops.shape(data["images"] if isinstance(data, dict) else data)}

    def transform_images(self, images, transformation=None, training=True):
        return _cut(self, images, *_middle(self, ops.shape(images)), "bilinear")

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return _cut(self, segmentation_masks, *_middle(self, ops.shape(segmentation_masks)), "nearest")

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        before = self._size(transformation["input_shape"])
        return _cut_boxes(self, bounding_boxes, before, *_middle(self, transformation["input_shape"]))


def _middle(layer: Any, shape: Any) -> tuple[int, int, int, int]:
    """The part in the centre that a layer cuts: its first row and column, height and width."""
    height, width = layer._size(shape)
    rows, columns = layer.height, layer.width
    if height < rows or width < columns:  # the largest part of the new aspect ratio
        as_high, as_wide = int(width * layer.height / layer.width), int(height * layer.width / layer.height)
        rows, columns = max(min(height, as_high), 1), max(min(width, as_wide), 1)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def _cut(layer: Any, images: Any, top: Any, left: Any, rows: int, columns: int, interpolation: str) -> Any:
    """A part of images in the layer's dtype, resized to the layer's size if it is smaller."""
    images = ops.cast(images, layer.dtype)
    for axis, start, size in ((layer.height_axis, top, rows), (layer.width_axis, left, columns)):
        if isinstance(start, int):
            index = [slice(None)] * images.ndim
            index[axis] = slice(start, start + size)
            images = images[tuple(index)]
        else:
            images = ops.take(images, ops.add(ops.arange(size, dtype="int32"), start), axis)
    after = (layer.height, layer.width)
    if layer._size(images.shape) == after:
        return images
    return ops.image.resize(images, after, interpolation, data_format=layer.data_format)


def _cut_boxes(layer: Any, bounding_boxes: Any, before: Any, top: Any, left: Any, rows: int, columns: int) -> Any:
    """The boxes of `_cut`."""
    scales = [layer.width / columns, layer.height / rows] * 2
    starts = ops.stack([ops.cast(each, "float32") for each in (left, top) * 2])
    return layer._moved(
        bounding_boxes,
        before,
        (layer.height, layer.width),
        lambda xyxy: ops.multiply(ops.clip(ops.subtract(xyxy, starts), 0.0, [columns, rows] * 2), scales),
    )


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

    def get_random_transformation(self, data, training=True, seed=None):
        """The first row and column of the part, its height and width, and the height and width of the images.

        Args:
            data: The images, or the dict with them.
            training: Whether the position is random.
            seed: A SeedGenerator or an integer; None for the layer's own generator.
        """
        shape = ops.shape(data["images"] if isinstance(data, dict) else data)
        before, after = self._size(shape), (self.height, self.width)
        if not training or any(old <= new for old, new in zip(before, after, strict=True)):
            return *_middle(self, shape), *before
        seed = self.generator if seed is None else seed
        starts = [random.randint((), 0, old - new + 1, seed=seed) for old, new in zip(before, after, strict=True)]
        return *starts, *after, *before

    def _part(self, transformation: Any) -> tuple:
        """The six numbers of a transformation. Keras's has only the first two of them."""
        return *transformation, *((self.height, self.width) * 2)[len(transformation) - 2 :]

    def transform_images(self, images, transformation=None, training=True):
        return _cut(self, images, *self._part(transformation)[:4], "bilinear")

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return _cut(self, segmentation_masks, *self._part(transformation)[:4], "nearest")

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        *part, height, width = self._part(transformation)
        return _cut_boxes(self, bounding_boxes, (height, width), *part)


class MaxNumBoundingBoxes(Images):
    """Gives each image the same number of boxes: it drops boxes at the end, or appends boxes of `fill_value`.

    Args:
        max_number: The number of boxes.
        fill_value: The numbers and the label of the boxes that are appended.

    Output shape:
        The inputs' shapes, with `max_number` boxes for each image. Images and all other parts stay as they are.

    Example:
        >>> boxes = {"boxes": np.ones((1, 1, 4)), "labels": np.ones((1, 1), "int32")}
        >>> layer = layers.MaxNumBoundingBoxes(2, bounding_box_format="xyxy")
        >>> layer({"images": np.ones((1, 4, 4, 3)), "bounding_boxes": boxes})["bounding_boxes"]["labels"].numpy()
        array([[ 1, -1]], dtype=int32)
    """

    def __init__(
        self,
        max_number: option.Size,
        fill_value: option.Integer = -1,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def transform_images(self, images, transformation=None, training=True):
        return ops.convert_to_tensor(images)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        found = dict(bounding_boxes)
        for key in ("boxes", "labels"):
            kept = ops.convert_to_tensor(found[key])[:, : self.max_number]
            more = (0, self.max_number - kept.shape[1])
            widths = [(0, 0), more, *[(0, 0)] * (kept.ndim - 2)]
            found[key] = ops.pad(kept, widths, constant_values=self.fill_value)
        return found


class Pipeline(Layer):
    """A sequence of layers as one layer: a part of a model, or preprocessing of data.

    Args:
        layers (a list of layers): The layers, in order.

    Call arguments:
        inputs: The inputs of the first layer.
        training: Passed to the layers that accept it. True by default if no model sets it.
        mask: Passed to the first layer if it accepts it; each later layer gets the mask of its input.

    Raises:
        ValueError: for anything but a list of layers.

    Example:
        >>> pipeline = layers.Pipeline([layers.Rescaling(1 / 255), layers.Resizing(2, 2)])
        >>> pipeline(np.full((4, 4, 1), 255.0)).numpy()[:, :, 0]
        array([[1., 1.],
               [1., 1.]], dtype=float32)
    """

    supports_masking = True
    trains_by_default = True
    layers: list[Layer]

    def __init__(self, layers: option.Layers, name=None, **kwargs):
        super().__init__(**option.keep(self, locals()))
        if not isinstance(layers, list | tuple) or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"Pipeline needs a list of layers, received {briefly(layers)}")

    def call(self, inputs, training=None, mask=None):
        for layer in self.layers:
            options = {"training": training, "mask": mask}
            inputs = layer(inputs, **{name: value for name, value in options.items() if name in layer._call_takes})
            mask = getattr(inputs, "mask", None)
        return inputs

    def get_config(self):
        return {"name": self.name, "layers": super().get_config()["layers"]}
