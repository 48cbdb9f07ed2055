"""Resizing and CenterCrop of images, and Pipeline, a sequence of layers as one layer."""

from __future__ import annotations

from typing import Any, Unpack

from nbkeras import ops
from nbkeras.building.input_spec import DataFormat
from nbkeras.building.layer import Layer, LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly


class Images(Layer, registered=False):
    """Base of image layers: accepts an image or a batch, channels last or first; `change` gets a batch with channels last.

    Call arguments:
        inputs: An image (height, width, channels), or a batch of images; channels first for 'channels_first'.
    """

    def __init__(self, data_format: DataFormat = None, **kwargs: Any):
        # in files of Keras: the format of boxes beside the images, which nbkeras does not take
        self.bounding_box_format = kwargs.pop("bounding_box_format", None)
        super().__init__(**option.keep(self, locals()))

    def get_config(self):
        config = super().get_config()
        if self.bounding_box_format is not None:
            config["bounding_box_format"] = self.bounding_box_format
        return config

    def call(self, inputs):
        return self.changed(ops.cast(inputs, self.dtype))

    def change(self, images):
        """The new images of a batch. Subclasses override it.

        Args:
            images: A tensor (batch, height, width, channels).
        """
        raise NotImplementedError(f"{type(self).__name__} must define change(self, images)")

    def changed(self, images, **options):
        """`change` of an image or a batch in the layer's data format.

        Args:
            images: A tensor of 3 or 4 axes.
            **options: Keywords of `change`.
        """
        rank, first = len(getattr(images, "shape", ())), self.data_format == "channels_first"
        if rank not in (3, 4):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs an image of 3 axes or a batch of 4, received {briefly(images)}"
            )
        batch = images if rank == 4 else ops.expand_dims(images, 0)
        batch = self.change(ops.moveaxis(batch, 1, 3) if first else batch, **options)
        batch = ops.moveaxis(batch, 3, 1) if first else batch
        return batch if rank == 4 else ops.squeeze(batch, 0)


class Resizing(Images):
    """Resizes images and keeps their dtype; see `ops.image.resize`.

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

    def change(self, images):
        return ops.image.resize(
            images,
            (self.height, self.width),
            interpolation=self.interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format="channels_last",
        )

    def call(self, inputs):
        return self.changed(inputs)


def middle(images, height: int, width: int):
    """The central (height, width) of a batch; smaller images are cropped to that aspect ratio and resized."""
    rows, columns = images.shape[1] - height, images.shape[2] - width
    if rows < 0 or columns < 0:
        return ops.image.resize(images, (height, width), crop_to_aspect_ratio=True, data_format="channels_last")
    return images[:, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width]


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

    def change(self, images):
        return middle(images, self.height, self.width)


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
