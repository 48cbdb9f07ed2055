"""Layers that change the size of sequences, images and volumes without weights: padding, cropping, repeating."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import Layer
from nbkeras.engine.annotations import one_of
from nbkeras.engine.options import config_from
from nbkeras.layers.spatial import Spatial, check_lengths
from nbkeras.ops.resize import INTERPOLATIONS
from nbkeras.ops.window import sizes_of

# -------------------- padding and cropping --------------------


def _margins(layer: Layer, what: str, value: Any, rank: int) -> tuple[tuple[int, int], ...]:
    """((before, after), ...) from an integer, from one integer per axis, or from pairs; one axis takes a pair as such."""
    given = value if isinstance(value, list | tuple) else (value,) * rank
    pairs = (value,) if rank == 1 else given
    found = []
    for pair in pairs:
        sides = tuple(pair) if isinstance(pair, list | tuple) else (pair, pair)
        if len(sides) == 2 and all(isinstance(n, int | np.integer) and n >= 0 for n in sides):
            found.append((int(sides[0]), int(sides[1])))
    if len(found) != rank or len(pairs) != rank:
        raise ValueError(f"{type(layer).__name__}: {what} must be {_FORMS[rank]}, none negative, received {value!r}")
    return tuple(found)


_FORMS = {
    1: "an integer or (before, after)",
    2: "an integer, (rows, columns), or ((top, bottom), (left, right))",
    3: "an integer, (depth, rows, columns), or three pairs (before, after)",
}


class _ZeroPadding(Spatial):
    output_dtype = "input"

    def __init__(self, padding=1, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.padding = _margins(self, "padding", padding, self.rank)

    def call(self, inputs):
        widths = [(0, 0)] * (self.rank + 2)
        for axis, width in zip(self.space(), self.padding, strict=True):
            widths[axis] = width
        return ops.pad(inputs, widths)

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.padding, strict=True)
        return self.with_lengths(input_shape, [None if n is None else n + sum(width) for n, width in lengths])

    def get_config(self):
        return {**super().get_config(), "padding": _listed(self.padding)}


def _without_usual_format(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without data_format 'channels_last', the only one that Keras's layer has."""
    return {key: value for key, value in config.items() if (key, value) != ("data_format", "channels_last")}


def _listed(margins: tuple) -> list:
    pairs = [list(pair) for pair in margins]
    return pairs[0] if len(pairs) == 1 else pairs


class ZeroPadding1D(_ZeroPadding):
    """Zeros before and after sequences. padding: an integer, or (before, after)."""

    rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Zeros around images. padding: an integer, (rows, columns), or ((top, bottom), (left, right))."""


class ZeroPadding3D(_ZeroPadding):
    """Zeros around volumes. padding: an integer, (depth, rows, columns), or three pairs (before, after)."""

    rank = 3

    def __init__(self, padding=((1, 1), (1, 1), (1, 1)), data_format=None, **kwargs):
        super().__init__(padding, data_format, **kwargs)


class _Cropping(Spatial):
    output_dtype = "input"

    def __init__(self, cropping, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.cropping = _margins(self, "cropping", cropping, self.rank)

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # for its errors
        kept = [slice(None)] * (self.rank + 2)
        for axis, (before, after) in zip(self.space(), self.cropping, strict=True):
            kept[axis] = slice(before, inputs.shape[axis] - after)
        return inputs[tuple(kept)]

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.cropping, strict=True)
        kept = [None if n is None else n - sum(width) for n, width in lengths]
        check_lengths(self, input_shape, kept, f"cropping={self.cropping}")
        return self.with_lengths(input_shape, kept)

    def get_config(self):
        return {**super().get_config(), "cropping": _listed(self.cropping)}


class Cropping1D(_Cropping):
    """Steps cut off before and after sequences. cropping: an integer, or (before, after)."""

    rank = 1

    def __init__(self, cropping=(1, 1), data_format="channels_last", **kwargs):
        super().__init__(cropping, data_format, **kwargs)

    def get_config(self):
        return _without_usual_format(super().get_config())


class Cropping2D(_Cropping):
    """Edges cut off images. cropping: an integer, (rows, columns), or ((top, bottom), (left, right))."""

    def __init__(self, cropping=((0, 0), (0, 0)), data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(_Cropping):
    """Sides cut off volumes. cropping: an integer, (depth, rows, columns), or three pairs (before, after)."""

    rank = 3

    def __init__(self, cropping=((1, 1), (1, 1), (1, 1)), data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


# -------------------- growing --------------------


class _UpSampling(Spatial):
    output_dtype = "input"
    interpolation = "nearest"

    def __init__(self, size, data_format=None, **kwargs):
        super().__init__(data_format, **kwargs)
        self.size = sizes_of(type(self).__name__, "size", size, self.rank)

    def call(self, inputs):
        return ops.enlarge(inputs, self.size, self.interpolation, self.data_format)

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.size, strict=True)
        return self.with_lengths(input_shape, [None if n is None else n * factor for n, factor in lengths])

    def get_config(self):
        return {**super().get_config(), "size": self.size[0] if self.rank == 1 else list(self.size)}


class UpSampling1D(_UpSampling):
    """Repeats each step `size` times."""

    rank = 1

    def __init__(self, size=2, data_format="channels_last", **kwargs):
        super().__init__(size, data_format, **kwargs)

    def get_config(self):
        return _without_usual_format(super().get_config())


class UpSampling2D(_UpSampling):
    """Enlarges images by whole factors; size: (rows, columns).

    interpolation: 'nearest', 'bilinear', 'bicubic', 'lanczos3' or 'lanczos5'.
    """

    def __init__(self, size=(2, 2), data_format=None, interpolation="nearest", **kwargs):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = one_of("UpSampling2D", "interpolation", interpolation, INTERPOLATIONS)
        self.output_dtype = "input" if interpolation == "nearest" else "layer"

    get_config = config_from(__init__)


class UpSampling3D(_UpSampling):
    """Repeats each slice, row and column; size: an integer or (depth, rows, columns)."""

    rank = 3

    def __init__(self, size=(2, 2, 2), data_format=None, **kwargs):
        super().__init__(size, data_format, **kwargs)
