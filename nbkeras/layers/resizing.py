"""Layers that change the size of sequences, images and volumes without weights: padding, cropping, repeating."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

import numpy as np

from nbkeras import ops
from nbkeras.building.layer import LayerOptions
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.layers.spatial import Spatial, WindowSize, check_lengths
from nbkeras.ops.resize import INTERPOLATIONS

# -------------------- padding and cropping --------------------


def _margins(layer: Any, what: str, value: Any) -> tuple[tuple[int, int], ...]:
    """((before, after), ...) from an integer, from one integer per axis, or from pairs; one axis takes a plain pair."""
    rank = layer.rank
    given = value if isinstance(value, list | tuple) else (value,) * rank
    pairs = (value,) if rank == 1 else given
    found = []
    for pair in pairs:
        sides = tuple(pair) if isinstance(pair, list | tuple) else (pair, pair)
        if len(sides) == 2 and all(isinstance(n, int | np.integer) and n >= 0 for n in sides):
            found.append((int(sides[0]), int(sides[1])))
    if len(found) != rank or len(pairs) != rank:
        raise ValueError(
            f"{option.name_of(layer)}: {what} must be {_FORMS[rank]}, none negative, received {briefly(value)}"
        )
    return tuple(found)


_FORMS = {
    1: "an integer or (before, after)",
    2: "an integer, (rows, columns), or ((top, bottom), (left, right))",
    3: "an integer, (depth, rows, columns), or three pairs (before, after)",
}


def _listed(margins: tuple) -> list:
    pairs = [list(pair) for pair in margins]
    return pairs[0] if len(pairs) == 1 else pairs


_Margins = Annotated[Any, option.Kind(_margins, "an integer, one for each axis, or pairs (before, after)", _listed)]


class _ZeroPadding(Spatial):
    output_dtype = "input"

    def __init__(self, padding: _Margins = 1, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        widths = [(0, 0)] * (self.rank + 2)
        for axis, width in zip(self.space(), self.padding, strict=True):
            widths[axis] = width
        return ops.pad(inputs, widths)

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.padding, strict=True)
        return self.with_lengths(input_shape, [None if n is None else n + sum(width) for n, width in lengths])


def _without_usual_format(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without data_format 'channels_last', the only format of Keras's layer."""
    return {key: value for key, value in config.items() if (key, value) != ("data_format", "channels_last")}


class ZeroPadding1D(_ZeroPadding):
    """Adds zeros before and after sequences.

    Args:
        padding: The number of steps: one for both ends, or (before, after).

    Output shape:
        The same with before + steps + after steps; the dtype of the input.

    Example:
        >>> layers.ZeroPadding1D((1, 2))(np.ones((1, 2, 1))).numpy()[0, :, 0]
        array([0., 1., 1., 0., 0.], dtype=float32)
    """

    rank = 1


class ZeroPadding2D(_ZeroPadding):
    """Adds zeros around images.

    Args:
        padding: The number of pixels: one for all sides, (rows, columns), or ((top, bottom), (left, right)).

    Output shape:
        The same with more rows and columns; the dtype of the input.

    Example:
        >>> layers.ZeroPadding2D(((1, 0), (0, 2)))(np.ones((1, 1, 2, 1))).numpy()[0, :, :, 0]
        array([[0., 0., 0., 0.],
               [1., 1., 0., 0.]], dtype=float32)
    """


class ZeroPadding3D(_ZeroPadding, defaults={"padding": ((1, 1), (1, 1), (1, 1))}):
    """Adds zeros around volumes.

    Args:
        padding: The number of voxels: one for all sides, (depth, rows, columns), or three pairs (before, after).

    Output shape:
        The same with longer axes; the dtype of the input.

    Example:
        >>> layers.ZeroPadding3D(1)(np.ones((1, 2, 3, 4, 1))).shape
        (1, 4, 5, 6, 1)
    """

    rank = 3


class _Cropping(Spatial):
    output_dtype = "input"

    def __init__(self, cropping: _Margins = ((0, 0), (0, 0)), data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        self.compute_output_shape(inputs.shape)  # called for its errors
        kept = [slice(None)] * (self.rank + 2)
        for axis, (before, after) in zip(self.space(), self.cropping, strict=True):
            kept[axis] = slice(before, inputs.shape[axis] - after)
        return inputs[tuple(kept)]

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.cropping, strict=True)
        kept = [None if n is None else n - sum(width) for n, width in lengths]
        check_lengths(self, input_shape, kept, f"cropping={self.cropping}")
        return self.with_lengths(input_shape, kept)


class Cropping1D(_Cropping, defaults={"cropping": (1, 1), "data_format": "channels_last"}):
    """Cuts steps off the ends of sequences.

    Args:
        cropping: The number of steps: one for both ends, or (before, after).

    Output shape:
        The same with fewer steps; the dtype of the input.

    Raises:
        ValueError: for a sequence that is cropped completely.

    Example:
        >>> layers.Cropping1D((1, 2))(np.arange(6).reshape((1, 6, 1))).numpy()[0, :, 0]
        array([1, 2, 3])
    """

    rank = 1

    def get_config(self):
        return _without_usual_format(super().get_config())


class Cropping2D(_Cropping):
    """Cuts edges off images.

    Args:
        cropping: The number of pixels: one for all sides, (rows, columns), or ((top, bottom), (left, right)).

    Output shape:
        The same with fewer rows and columns; the dtype of the input.

    Raises:
        ValueError: for images that is cropped completely.

    Example:
        >>> layers.Cropping2D(((1, 0), (0, 1)))(np.arange(6).reshape((1, 2, 3, 1))).numpy()[0, :, :, 0]
        array([[3, 4]])
    """


class Cropping3D(_Cropping, defaults={"cropping": ((1, 1), (1, 1), (1, 1))}):
    """Cuts sides off volumes.

    Args:
        cropping: The number of voxels: one for all sides, (depth, rows, columns), or three pairs (before, after).

    Output shape:
        The same with shorter axes; the dtype of the input.

    Raises:
        ValueError: for volumes that is cropped completely.

    Example:
        >>> layers.Cropping3D(1)(np.ones((1, 3, 4, 5, 1))).shape
        (1, 1, 2, 3, 1)
    """

    rank = 3


# -------------------- growing --------------------


(_kind,) = WindowSize.__metadata__
_Factors = Annotated[Any, _kind._replace(write=lambda size: size[0] if len(size) == 1 else list(size))]
_Interpolation = Annotated[str, option.choice(*INTERPOLATIONS)]


class _UpSampling(Spatial):
    output_dtype = "input"
    interpolation = "nearest"

    def __init__(self, size: _Factors = 2, data_format=None, **kwargs: Unpack[LayerOptions]):
        super().__init__(**option.keep(self, locals()))

    def call(self, inputs):
        return ops.enlarge(inputs, self.size, self.interpolation, self.data_format)

    def compute_output_shape(self, input_shape):
        lengths = zip(self.lengths(input_shape), self.size, strict=True)
        return self.with_lengths(input_shape, [None if n is None else n * factor for n, factor in lengths])


class UpSampling1D(_UpSampling, defaults={"data_format": "channels_last"}):
    """Repeats each step of sequences.

    Args:
        size: The number of repetitions.

    Output shape:
        The same with size * steps steps; the dtype of the input.

    Example:
        >>> layers.UpSampling1D(2)(np.array([[[1.0], [2.0]]])).numpy()[0, :, 0]
        array([1., 1., 2., 2.], dtype=float32)
    """

    rank = 1

    def get_config(self):
        return _without_usual_format(super().get_config())


class UpSampling2D(_UpSampling):
    """Enlarges images by integer factors.

    Args:
        size: The factor of rows and columns: one number, or (rows, columns).
        interpolation: How new pixels are computed. 'nearest' repeats pixels and keeps the dtype of the input.

    Output shape:
        The same with more rows and columns.

    Example:
        >>> layers.UpSampling2D((1, 2))(np.array([[1.0, 2.0], [3.0, 4.0]]).reshape((1, 2, 2, 1))).numpy()[0, :, :, 0]
        array([[1., 1., 2., 2.],
               [3., 3., 4., 4.]], dtype=float32)
    """

    def __init__(
        self,
        size: Any = (2, 2),
        data_format=None,
        interpolation: _Interpolation = "nearest",
        **kwargs: Unpack[LayerOptions],
    ):
        super().__init__(**option.keep(self, locals()))
        self.output_dtype = "input" if interpolation == "nearest" else "layer"


class UpSampling3D(_UpSampling, defaults={"size": (2, 2, 2)}):
    """Repeats each slice, row and column of volumes.

    Args:
        size: The number of repetitions: one number, or (depth, rows, columns).

    Output shape:
        The same with longer axes; the dtype of the input.

    Example:
        >>> layers.UpSampling3D((1, 2, 3))(np.ones((1, 2, 2, 2, 1))).shape
        (1, 2, 4, 6, 1)
    """

    rank = 3
