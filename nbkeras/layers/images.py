"""Resizing and CenterCrop of images, and Pipeline, a sequence of layers as one layer."""

from __future__ import annotations

from nbkeras import ops
from nbkeras.building.layer import Layer
from nbkeras.building.layer import layers as registry
from nbkeras.engine.options import config_from
from nbkeras.ops.window import data_format_of, size_of


class Images(Layer, registered=False):
    """Base of image layers: takes an image or a batch, channels last or first; `change` gets a batch with channels last."""

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = data_format_of(type(self).__name__, data_format)

    def change(self, images):
        """The new images of a batch (batch, height, width, channels)."""
        raise NotImplementedError(f"{type(self).__name__} must define change(self, images)")

    def changed(self, images, **options):
        """`change` of an image or a batch in the layer's data format."""
        rank, first = len(images.shape), self.data_format == "channels_first"
        if rank not in (3, 4):
            raise ValueError(
                f"{type(self).__name__} {self.name!r} needs an image of 3 axes or a batch of 4, received shape {images.shape}"
            )
        batch = images if rank == 4 else ops.expand_dims(images, 0)
        batch = self.change(ops.moveaxis(batch, 1, 3) if first else batch, **options)
        batch = ops.moveaxis(batch, 3, 1) if first else batch
        return batch if rank == 4 else ops.squeeze(batch, 0)

    get_config = config_from(__init__)


class Resizing(Images):
    """Resizes images to (height, width) and keeps their dtype; see `ops.image.resize`."""

    def __init__(
        self,
        height,
        width,
        interpolation="bilinear",
        crop_to_aspect_ratio=False,
        pad_to_aspect_ratio=False,
        fill_mode="constant",
        fill_value=0.0,
        antialias=False,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format, **kwargs)
        name = type(self).__name__
        self.height, self.width = size_of(name, "height", height), size_of(name, "width", width)
        self.options = {
            "interpolation": interpolation,
            "crop_to_aspect_ratio": bool(crop_to_aspect_ratio),
            "pad_to_aspect_ratio": bool(pad_to_aspect_ratio),
            "fill_mode": fill_mode,
            "fill_value": fill_value,
            "antialias": bool(antialias),
        }

    def change(self, images):
        return ops.image.resize(images, (self.height, self.width), **self.options, data_format="channels_last")

    def call(self, inputs):
        return self.changed(inputs)

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width, **self.options}


def middle(images, height: int, width: int):
    """The central (height, width) of a batch; of smaller images the central part of that aspect ratio, resized."""
    rows, columns = images.shape[1] - height, images.shape[2] - width
    if rows < 0 or columns < 0:
        return ops.image.resize(images, (height, width), crop_to_aspect_ratio=True, data_format="channels_last")
    return images[:, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width]


class CenterCrop(Images):
    """Crops images to the central (height, width); smaller images are cropped to that aspect ratio and resized."""

    def __init__(self, height, width, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        name = type(self).__name__
        self.height, self.width = size_of(name, "height", height), size_of(name, "width", width)

    def change(self, images):
        return middle(images, self.height, self.width)

    def call(self, inputs):
        return self.changed(ops.cast(inputs, self.dtype))

    get_config = config_from(__init__)


class Pipeline(Layer):
    """A sequence of layers as one layer."""

    supports_masking = True
    trains_by_default = True

    def __init__(self, layers, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        if not isinstance(layers, list | tuple) or not all(isinstance(layer, Layer) for layer in layers):
            raise ValueError(f"Pipeline needs a list of layers, received {layers!r}")
        self.layers = list(layers)

    def call(self, inputs, training=None, mask=None):
        for layer in self.layers:
            options = {"training": training, "mask": mask}
            inputs = layer(inputs, **{name: value for name, value in options.items() if name in layer._call_takes})
            mask = getattr(inputs, "mask", None)
        return inputs

    def get_config(self):
        return {"name": self.name, "layers": [registry.serialize(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config):
        """A pipeline of new layers from `get_config`."""
        config = dict(config)
        return cls([registry.deserialize(each) for each in config.pop("layers")], **config)
