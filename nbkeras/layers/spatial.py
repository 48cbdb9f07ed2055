"""Spatial: the base of layers over sequences, images and volumes, with their axes and checks of lengths.

Also the kinds of their options, which depend on the layer's rank and paddings.
"""

from typing import Annotated, Any, Unpack

from nbkeras.building.input_spec import DataFormat
from nbkeras.building.layer import InputSpec, Layer, LayerOptions
from nbkeras.engine import option
from nbkeras.ops.window import padding_of, sizes_of


def _window_size(layer: Any, what: str, value: Any) -> tuple[int, ...]:
    return sizes_of(option.name_of(layer), what, value, layer.rank)


def _padding(layer: Any, what: str, value: Any) -> str:
    return padding_of(option.name_of(layer), value, layer.paddings)


WindowSize = Annotated[Any, option.Kind(_window_size, "a positive integer, or one for each axis")]
Padding = Annotated[str, option.Kind(_padding, "'valid' or 'same'; for sequences also 'causal' if the layer allows it")]


class Spatial(option.Declared, Layer, registered=False):
    """A layer over sequences (rank 1), images (2) or volumes (3), channels last or first.

    Input shape:
        1: (batch, steps, channels), or (batch, channels, steps) for 'channels_first'.
        2: (batch, rows, columns, channels), or (batch, channels, rows, columns) for 'channels_first'.
        3: (batch, depth, rows, columns, channels), or (batch, channels, depth, rows, columns) for 'channels_first'.
    """

    rank = 2
    paddings: tuple[str, ...] = ("valid", "same")

    def __init__(self, data_format: DataFormat = None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def channel_axis(self) -> int:
        """The axis of the channels: the last one, or 1 for 'channels_first'."""
        return 1 if self.data_format == "channels_first" else self.rank + 1

    def space(self) -> range:
        """The axes that are neither batch nor channels."""
        start = 2 if self.data_format == "channels_first" else 1
        return range(start, start + self.rank)

    def with_lengths(self, input_shape, lengths, channels=None) -> tuple:
        """The input's shape with new lengths, and new channels if given.

        Args:
            input_shape: The shape of the input.
            lengths: A size for each axis of `space`.
            channels: The number of channels; None for the input's.
        """
        shape = list(input_shape)
        for axis, length in zip(self.space(), lengths, strict=True):
            shape[axis] = length
        if channels is not None:
            shape[self.channel_axis()] = channels
        return tuple(shape)

    def lengths(self, input_shape) -> list:
        """The input's sizes on the axes that are neither batch nor channels.

        Args:
            input_shape: The shape of the input.

        Raises:
            ValueError: for a wrong number of axes.
        """
        if len(input_shape) != self.rank + 2:
            raise ValueError(
                f"layer {self.name!r} ({type(self).__name__}) needs inputs of {self.rank + 2} axes, received shape {input_shape}"
            )
        return [input_shape[axis] for axis in self.space()]


def check_lengths(layer: Layer, input_shape, lengths, what: str) -> None:
    """Raise ValueError if a length of the output is below 1; what: the option that is too large, for the
    message.
    """
    if any(length is not None and length < 1 for length in lengths):
        raise ValueError(
            f"layer {layer.name!r} ({type(layer).__name__}) with {what} leaves nothing of an input of shape "
            f"{tuple(input_shape)}: use a smaller size, padding='same' if available, or larger inputs"
        )
