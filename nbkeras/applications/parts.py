"""Blocks that networks share, and the arguments that their functions take."""

import functools
from types import SimpleNamespace
from typing import Any

from nbkeras import config, layers


class Options(SimpleNamespace):
    """The arguments of a network's function: `ARGUMENTS` of network.py has all names."""

    variant = ""  # the part of the name of Keras's file that depends on other arguments

    @property
    def pretrained(self) -> bool:
        """Whether Keras's own weights are asked for."""
        return isinstance(self.weights, str) and self.weights == "imagenet"

    @property
    def side(self) -> Any:
        """The side of a square image, else None."""
        shape = getattr(self.input_tensor, "shape", (None,))[1:] if self.input_shape is None else self.input_shape
        if not isinstance(shape, tuple | list) or len(shape) != 3:
            return None
        rows, columns = shape[1:] if channel_axis() == 1 else shape[:2]
        return rows if rows == columns else None


def applied(x: Any, *steps: Any) -> Any:
    """The output of layers that are called one after the other."""
    for step in steps:
        x = step(x)
    return x


def channel_axis() -> int:
    """The axis of the channels in a batch of images."""
    return 1 if config.image_data_format() == "channels_first" else -1


def conv(filters: int, kernel: Any, name: str | None = None, **options: Any) -> Any:
    """A convolution. Without options it keeps the sides of images, and has no bias."""
    return layers.Conv2D(filters, kernel, name=name, **{"padding": "same", "use_bias": False, **options})


def norm(name: str | None = None, **options: Any) -> Any:
    """Batch normalization of each channel."""
    return layers.BatchNormalization(axis=channel_axis(), name=name, **options)


def relu(name: str | None = None) -> Any:
    """The layer Activation('relu')."""
    return layers.Activation("relu", name=name)


def joined(tensors: list, name: str | None = None) -> Any:
    """The channels of all tensors."""
    return layers.Concatenate(axis=channel_axis(), name=name)(tensors)


def halving(x: Any, kernel: int, stride: int, name: str, padded: bool = True) -> tuple[list, str]:
    """The layers before a convolution, and its padding. With stride 2, zeros as in Keras's first networks if `padded`."""
    if stride == 1 or not padded:
        return [], "same"
    sides = x.shape[2:4] if channel_axis() == 1 else x.shape[1:3]
    zeros = tuple((kernel // 2 - (1 if side is None else 1 - side % 2), kernel // 2) for side in sides)
    return [layers.ZeroPadding2D(zeros, name=name)], "valid"


def rounded(filters: float) -> int:
    """A number of filters as a multiple of 8, at most a tenth less than asked for."""
    found = max(8, int(filters + 4) // 8 * 8)
    return found + 8 if found < 0.9 * filters else found


def pooled(x: Any, options: Options, names: tuple = (None, None)) -> Any:
    """The end of a network without classifier. names: of the layers for 'avg' and 'max'."""
    if options.pooling is None:
        return x
    kinds = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    return kinds[options.pooling](name=names[options.pooling == "max"])(x)


named = functools.partial(pooled, names=("avg_pool", "max_pool"))


def classified(x: Any, options: Options, mean: str | None = "avg_pool", dropout: float = 0.0, **dense: Any) -> Any:
    """The end of most networks: the mean of each channel, in a layer of this name, and a dense layer."""
    x = layers.GlobalAveragePooling2D(name=mean)(x)
    x = layers.Dropout(dropout, name="top_dropout")(x) if dropout else x
    return layers.Dense(options.classes, activation=options.classifier_activation, name="predictions", **dense)(x)
