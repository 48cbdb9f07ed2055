"""Layers that spread the values of pixels evenly, by histograms."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.layers.augmenting.colors import _scaled
from nbkeras.layers.augmenting.images import Images, ValueRange


def _counts(places: Any, bins: int) -> Any:
    """The number of times that each of the numbers 0 to bins - 1 occurs in each row: (rows, bins), in floats."""
    rows, columns = places.shape
    starts = ops.multiply(ops.arange(rows, dtype="int32"), bins)
    flat = ops.reshape(ops.add(places, ops.expand_dims(starts, 1)), (rows * columns,))
    return ops.reshape(ops.segment_sum(ops.ones((rows * columns,)), flat, num_segments=rows * bins), (rows, bins))


def _shares(sums: Any, lowest: Any, whole: float) -> Any:
    """The share of pixels up to each value, without those up to the lowest one, from 0 to 255.

    sums: the numbers of pixels up to each value. lowest: the number to leave out. whole: the number of all pixels.
    """
    rest = ops.subtract(whole, lowest)
    parts = ops.divide(ops.multiply(ops.subtract(sums, lowest), 255.0), ops.where(ops.equal(rest, 0.0), 1.0, rest))
    return ops.clip(parts, 0.0, 255.0)


class Equalization(Images):
    """Spreads the values of each channel evenly over `value_range` in training: each value becomes its rank in the batch.

    Args:
        value_range: The smallest and the largest value of a pixel.
        bins: The number of values that are told apart.

    Example:
        >>> layers.Equalization()(np.array([[[10.0], [20.0], [20.0], [30.0]]])).numpy()[0, :, 0]
        array([  0., 170., 170., 255.], dtype=float32)
    """

    def __init__(
        self,
        value_range: ValueRange = (0, 255),
        bins: option.Size = 256,
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def change(self, images, transformation):
        axis, last = self.channel_axis % 4, self.bins - 1
        channels = ops.moveaxis(_scaled(images, self.value_range, (0, 255)), axis, 0)
        rows = ops.reshape(channels, (channels.shape[0], -1))
        found = ops.clip(ops.cast(ops.divide(ops.multiply(rows, float(last)), 255.0), "int32"), 0, last)
        counts = _counts(found, self.bins)
        sums, whole = ops.cumsum(counts, axis=-1), float(rows.shape[1])
        lowest = ops.min(ops.where(ops.greater(sums, 0.0), sums, whole), axis=-1, keepdims=True)
        table = ops.round(_shares(sums, lowest, whole))
        places = ops.cast(ops.clip(ops.multiply(ops.divide(rows, 255.0), float(last)), 0.0, float(last)), "int32")
        several = ops.less(ops.max(counts, axis=-1, keepdims=True), whole)
        equal = ops.where(several, ops.take_along_axis(table, places, axis=1), rows)
        return _scaled(ops.moveaxis(ops.reshape(equal, channels.shape), 0, axis), (0, 255), self.value_range)


def _grid(name: str, what: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name}: {what} must be two positive integers, received {briefly(value)}")
    return option.size_of(name, what, value[0]), option.size_of(name, what, value[1])


_Grid = Annotated[Any, option.kind(_grid, "two positive integers")]


class ContrastLimitedAdaptiveHistogramEqualization(Images):
    """Spreads the values of each channel evenly in each part of an image, and limits the contrast (CLAHE), also in inference.

    Between the centres of the parts, it interpolates (Pizer et al., 1987).

    Args:
        value_range: The smallest and the largest value of a pixel.
        clip_limit: How many times the mean of its histogram a value may count; what exceeds it is shared by all values. 0 for no
            limit.
        tile_grid_size: The numbers of parts down and across.

    Output shape:
        The inputs' shape and dtype.

    Example:
        >>> layer = layers.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(1, 1), clip_limit=0.0)
        >>> layer(np.array([[[10.0], [20.0], [20.0], [30.0]]])).numpy()[0, :, 0]
        array([ 63.75, 191.25, 191.25, 255.  ], dtype=float32)
    """

    def __init__(
        self,
        value_range: ValueRange = (0, 255),
        clip_limit: option.AtLeast0 = 4.0,
        tile_grid_size: _Grid = (8, 8),
        data_format=None,
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))

    def transform_images(self, images, transformation=None, training=True):
        given, first = ops.convert_to_tensor(images), self.data_format == "channels_first"
        x = ops.cast(ops.moveaxis(given, 1, 3) if first else given, "float32")
        x = _scaled(self._spread(_scaled(x, self.value_range, (0, 255))), (0, 255), self.value_range)
        return ops.cast(ops.moveaxis(x, 3, 1) if first else x, given.dtype)

    def _spread(self, images: Any) -> Any:
        """Images with channels last and values from 0 to 255."""
        count, height, width, channels = images.shape
        rows, columns = self.tile_grid_size
        high, wide = -(-height // rows), -(-width // columns)
        whole = high * wide
        more = [(0, 0), (0, high * rows - height), (0, wide * columns - width), (0, 0)]
        values = ops.cast(ops.clip(ops.pad(images, more, mode="symmetric"), 0.0, 255.0), "int32")
        tiles = ops.reshape(values, (count, rows, high, columns, wide, channels))
        tiles = ops.reshape(ops.transpose(tiles, (0, 1, 3, 5, 2, 4)), (-1, whole))
        counts = _counts(tiles, 256)
        if self.clip_limit > 0:
            kept = ops.minimum(counts, self.clip_limit * whole / 256)
            counts = ops.add(kept, ops.divide(ops.sum(ops.subtract(counts, kept), axis=-1, keepdims=True), 256.0))
        sums = ops.cumsum(counts, axis=-1)
        table = ops.reshape(_shares(sums, sums[:, :1], float(whole)), (-1,))
        batch, channel = np.arange(count)[:, None, None, None], np.arange(channels)
        found: Any = 0.0
        for down, down_weight in _neighbours(rows, high, height, (-1, 1, 1)):
            for across, across_weight in _neighbours(columns, wide, width, (-1, 1)):
                tile = ((batch * rows + down) * columns + across) * channels + channel
                entries = ops.add(tile.astype("int32") * 256, values[:, :height, :width])
                found = ops.add(found, ops.multiply(ops.take(table, entries), down_weight * across_weight))
        return found


def _neighbours(tiles: int, size: int, pixels: int, shape: tuple) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two nearest tiles of each pixel along an axis, and their weights, in arrays of a shape."""
    places = (np.arange(pixels, dtype="float32") - np.float32(size / 2)) / np.float32(size)
    low = np.floor(places)
    part = (places - low).reshape(shape)
    pair = ((low, 1 - part), (low + 1, part))
    return [(np.clip(each, 0, tiles - 1).astype("int64").reshape(shape), weight) for each, weight in pair]
