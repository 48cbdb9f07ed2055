"""The base classes of layers that change images, together with their boxes, masks and labels, and the options that they share.

A layer takes images, or a dict with 'images' and perhaps 'bounding_boxes', 'segmentation_masks' and 'labels'. It first draws a
transformation, by `get_random_transformation`, then applies it to each of them. Inside, everything has a batch axis.
"""

from __future__ import annotations

from typing import Annotated, Any, Unpack

from nbkeras import ops, random
from nbkeras.building.input_spec import DataFormat
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.engine import option, structures
from nbkeras.engine.annotations import briefly
from nbkeras.ops import boxes


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
FillMode = Annotated[str, option.choice("reflect", "wrap", "constant", "nearest")]
Interpolation = Annotated[str, option.choice("nearest", "bilinear")]
_FORMATS = f"{', '.join(map(repr, boxes.FORMATS))}, or None"
BoxFormat = Annotated[Any, option.kind(lambda *given: None if given[2] is None else boxes.format_of(*given), _FORMATS)]
_KINDS = ("images", "bounding_boxes", "labels", "segmentation_masks")


class BaseImagePreprocessingLayer(option.Declared, Layer, registered=False):
    """Base of layers that change images, and with them their bounding boxes, segmentation masks and labels.

    A subclass defines `transform_images`, the other `transform_` methods for what it takes, and `get_random_transformation` if
    it draws random numbers. These methods get a batch, also if the layer is called on a single image. The transformation is the
    same for all parts of the data.

    Args:
        factor (a number, two, or None): The strength of the change, kept as (lowest, highest); f means (-f, f). The class
            attribute `_FACTOR_BOUNDS` has its limits.
        bounding_box_format: The format of boxes, see `keras.utils.bounding_boxes.convert_format`. Calls with boxes need it.

    Call arguments:
        inputs: An image (height, width, channels), or a batch of images; channels first for 'channels_first'. Or a dict with
            them under 'images', and perhaps with 'bounding_boxes', a dict of 'boxes' (batch, boxes, 4) and 'labels' (batch,
            boxes), with 'segmentation_masks' (batch, height, width, 1) and with 'labels' (batch, classes).
        training: Whether to apply random changes. True by default if no model sets it.

    Output shape:
        The same structure.

    Example:
        >>> class Halved(layers.BaseImagePreprocessingLayer):
        ...     def transform_images(self, images, transformation, training=True):
        ...         return images / 2
        ...     def transform_labels(self, labels, transformation, training=True):
        ...         return labels
        >>> halved = Halved()({"images": np.ones((2, 4, 4, 3)), "labels": np.array([[1.0], [0.0]])})
        >>> float(halved["images"][0, 0, 0, 0]), halved["labels"].numpy().tolist()
        (0.5, [[1.0], [0.0]])
    """

    trains_by_default = True
    _USE_BASE_FACTOR = True  # this name and the next one are Keras's, because subclasses of users set them
    _FACTOR_BOUNDS: tuple[float, float] = (-1.0, 1.0)

    def __init__(
        self,
        factor: Any = None,
        bounding_box_format: BoxFormat = None,
        data_format: DataFormat = None,
        **kwargs: Unpack[LayerOptions],
    ):
        others = option.keep(self, locals())
        del others["factor"]
        super().__init__(**others)
        first = self.data_format == "channels_first"
        self.height_axis, self.width_axis, self.channel_axis = (-2, -1, -3) if first else (-3, -2, -1)
        if self._USE_BASE_FACTOR:
            self._set_factor(factor or 0.0)
        elif factor is not None:
            raise ValueError(f"{type(self).__name__} does not take a factor, received factor={briefly(factor)}")

    def _set_factor(self, factor: Any) -> None:
        self.factor = bounds(type(self).__name__, "factor", factor, *self._FACTOR_BOUNDS)

    def get_config(self):
        config = super().get_config()
        if self.bounding_box_format is None:
            del config["bounding_box_format"]
        return config

    def get_random_transformation(self, data, training=True, seed=None) -> Any:
        """Draw the random numbers that all parts of the data share. The default returns None.

        Args:
            data: The images, a batch, or the dict with them.
            training: Whether random changes apply.
            seed: A SeedGenerator or an integer; None for the layer's own generator.

        Returns:
            The transformation that the `transform_` methods get.
        """
        return None

    def transform_images(self, images, transformation, training=True) -> Any:
        """The changed images of a batch.

        Args:
            images: The images.
            transformation: The result of `get_random_transformation`.
            training: Whether random changes apply.
        """
        raise NotImplementedError(self._missing("images"))

    def transform_labels(self, labels, transformation, training=True) -> Any:
        """The changed labels of a batch.

        Args:
            labels: The labels.
            transformation: The result of `get_random_transformation`.
            training: Whether random changes apply.
        """
        raise NotImplementedError(self._missing("labels"))

    def transform_bounding_boxes(self, bounding_boxes, transformation, training=True) -> Any:
        """The changed boxes of a batch.

        Args:
            bounding_boxes: A dict of 'boxes' (batch, boxes, 4) and 'labels' (batch, boxes).
            transformation: The result of `get_random_transformation`.
            training: Whether random changes apply.
        """
        raise NotImplementedError(self._missing("bounding_boxes"))

    def transform_segmentation_masks(self, segmentation_masks, transformation, training=True) -> Any:
        """The changed masks of a batch.

        Args:
            segmentation_masks: The masks.
            transformation: The result of `get_random_transformation`.
            training: Whether random changes apply.
        """
        raise NotImplementedError(self._missing("segmentation_masks"))

    def _missing(self, kind: str) -> str:
        return f"{type(self).__name__} does not change {kind}: call it without them, or define transform_{kind} in a subclass"

    def call(self, inputs, training=None):
        data, single = self._checked(inputs)
        is_dict = isinstance(inputs, dict)
        transformation = self.get_random_transformation(data if is_dict else data["images"], training=training)
        found = dict(data)
        for kind in _KINDS:
            if kind in data:
                transform = getattr(self, f"transform_{kind}")
                changed = transform(data[kind], transformation=transformation, training=training)
                found[kind] = structures.map_leaves(lambda x: ops.squeeze(x, 0), changed) if single else changed
        return found if is_dict else found["images"]

    def _checked(self, inputs: Any) -> tuple[dict, bool]:
        """The data as a dict of batches, and whether the inputs are a single image."""
        data = dict(inputs) if isinstance(inputs, dict) else {"images": inputs}
        if len(getattr(data.get("images"), "shape", ())) not in (3, 4):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs an image of 3 axes or a batch of 4, or a dict with them under "
                f"'images', received {briefly(inputs)}"
            )
        single = data["images"].ndim == 3
        if "bounding_boxes" in data:
            data["bounding_boxes"] = self._checked_boxes(data["bounding_boxes"], single)
        if single:
            data |= {
                kind: structures.map_leaves(lambda x: ops.expand_dims(x, 0), data[kind])
                for kind in _KINDS
                if kind in data
            }
        return data, single

    def _checked_boxes(self, given: Any, single: bool) -> dict[str, Any]:
        """Boxes as float32; their labels need one number for each box."""
        if self.bounding_box_format is None:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} got bounding_boxes and has no bounding_box_format: make the layer with "
                "one, such as bounding_box_format='xyxy'"
            )
        if not isinstance(given, dict) or not {"boxes", "labels"} <= set(given):
            raise ValueError(f"bounding_boxes must be a dict with 'boxes' and 'labels', received {briefly(given)}")
        made = {"boxes": ops.cast(given["boxes"], "float32"), "labels": ops.convert_to_tensor(given["labels"])}
        shape, axes = made["boxes"].shape, 2 if single else 3
        if len(shape) != axes or shape[-1] != 4 or made["labels"].shape[: axes - 1] != shape[:-1]:
            raise ValueError(
                f"bounding_boxes need boxes ({'' if single else 'batch, '}boxes, 4) and a label for each, received boxes of "
                f"shape {shape} and labels of shape {made['labels'].shape}"
            )
        return {**given, **made}

    def _moved(self, bounding_boxes: dict, before: Any, after: Any, move: Any) -> dict[str, Any]:
        """Boxes after `move`, which gets boxes (xyxy) in pixels, clipped to the new images.

        before, after: the heights and widths of the images, (height, width).
        """
        form = self.bounding_box_format or "xyxy"
        found = boxes.convert_format(bounding_boxes, form, "xyxy", *before)
        found["boxes"] = move(found["boxes"])
        return boxes.convert_format(boxes.clip_to_image_size(found, *after), "xyxy", form, *after)

    def _size(self, shape: Any) -> tuple[int, int]:
        """(height, width) of images of a shape."""
        return shape[self.height_axis], shape[self.width_axis]


class Images(BaseImagePreprocessingLayer, registered=False):
    """Base of layers that change only the images, by `change`. Labels, boxes and masks stay.

    Output shape:
        The inputs' shape, in the layer's dtype.
    """

    _USE_BASE_FACTOR = False

    def change(self, images, transformation) -> Any:
        """The changed images of a batch. Subclasses override it.

        Args:
            images: The images, in the layer's dtype.
            transformation: The result of `get_random_transformation`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define change(self, images, transformation)")

    def transform_images(self, images, transformation=None, training=True):
        images = ops.cast(images, self.compute_dtype)
        return self.change(images, transformation) if training else images

    def transform_labels(self, labels, transformation=None, training=True):
        return labels

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        return bounding_boxes

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return segmentation_masks


class RandomImages(Images, registered=False):
    """Base of the random layers: `drawn` returns the transformation of a batch, by numbers of `seed`."""

    def __init__(self, seed: option.Anything = None, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.generator = self.add_seed_generator(seed)

    def drawn(self, shape: tuple, seed: Any) -> Any:
        """The transformation of a batch of images. Subclasses override it.

        Args:
            shape: The shape of the batch.
            seed: The source of random numbers.
        """
        raise NotImplementedError(f"{type(self).__name__} must define drawn(self, shape, seed)")

    def uniform(self, seed: Any, limits: tuple, *sizes: int) -> Any:
        """Uniform random numbers of the layer's dtype.

        Args:
            seed: The source of random numbers.
            limits: The smallest number, and the upper limit, excluded.
            *sizes: The sizes of the tensor.
        """
        low, high = limits
        return random.uniform(sizes, low, high, self.compute_dtype, seed)

    def chosen(self, count: int, seed: Any) -> Any:
        """Whether to change each image, (count,): with a probability drawn from `factor`.

        Args:
            count: The number of images.
            seed: The source of random numbers.
        """
        return ops.less(self.uniform(seed, (0.0, 1.0), count), self.uniform(seed, self.factor, count))

    def get_random_transformation(self, data, training=True, seed=None):
        if not training:
            return None
        shape = ops.shape(data["images"] if isinstance(data, dict) else data)
        return self.drawn(shape if len(shape) == 4 else (1, *shape), self.generator if seed is None else seed)


def each(numbers: Any, dtype: Any) -> Any:
    """One number for each image as a tensor (batch, 1, 1, 1)."""
    return ops.reshape(ops.cast(numbers, dtype), (-1, 1, 1, 1))
