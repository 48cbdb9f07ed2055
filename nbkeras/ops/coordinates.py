"""Pixels sampled at computed coordinates: map_coordinates, and transforms of images by matrices and by corners.

Differentiable with respect to the pixels and, for bilinear interpolation, to the coordinates too.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, as_float, as_tensor, floats, op
from nbkeras.ops import elementwise
from nbkeras.ops.contractions import matmul
from nbkeras.ops.creation import ones, zeros
from nbkeras.ops.indexing import take
from nbkeras.ops.linalg import _solution
from nbkeras.ops.shape import concatenate, expand_dims, moveaxis, reshape, squeeze, stack, unstack
from nbkeras.ops.window import data_format_of

_ORDERS = {"nearest": 0, "bilinear": 1}


def _nearest(place: Tensor, size: int) -> Tensor:
    return elementwise.clip(place, 0, size - 1)


def _mirror(place: Tensor, size: int) -> Tensor:
    """Positions reflected at the edges; an edge element occurs once."""
    around = elementwise.mod(elementwise.add(place, size - 1), max(2 * (size - 1), 1))
    return elementwise.absolute(elementwise.subtract(around, size - 1))


def _reflect(place: Tensor, size: int) -> Tensor:
    """Positions reflected at the edges; an edge element occurs twice."""
    doubled = _mirror(elementwise.add(elementwise.multiply(place, 2), 1), 2 * size + 1)
    return elementwise.floor_divide(elementwise.subtract(doubled, 1), 2)


_FILLS: dict[str, Callable] = {
    "constant": _nearest,
    "nearest": _nearest,
    "wrap": elementwise.mod,
    "mirror": _mirror,
    "reflect": _reflect,
}


def _sampled(
    rows: Tensor, places: list[Tensor], sizes: tuple[int, ...], first: Any, order: int, mode: str, fill: Any
) -> Tensor:
    """Interpolated elements at positions of arrays.

    rows (count, channels): the arrays' elements. places: one float tensor for each axis, all of the same shape. sizes: an array's
    shape. first: the row where each array begins. The result has the positions' shape, then the channels.
    """
    choices = []
    for place, size in zip(places, sizes, strict=True):
        if order == 0:
            ends: list[tuple[Tensor, Any]] = [(_round_half_away(place), None)]
        else:
            low = elementwise.floor(place)
            part = elementwise.subtract(place, low)
            ends = [(low, elementwise.subtract(1, part)), (elementwise.add(low, 1), part)]
        found = []
        for end, weight in ends:
            position = as_tensor(end, np.int64)
            inside = elementwise.equal(position, _nearest(position, size))
            found.append((_FILLS[mode](position, size), inside, weight))
        choices.append(found)
    y: Any = None
    for corner in itertools.product(*choices):
        at = corner[0][0]
        for (place, _, _), size in zip(corner[1:], sizes[1:], strict=True):
            at = elementwise.add(elementwise.multiply(at, size), place)
        value = take(rows, elementwise.add(at, first), 0)
        for _, inside, _ in corner if mode == "constant" else ():
            value = elementwise.where(expand_dims(inside, -1), value, as_tensor(fill, rows.dtype))
        for _, _, weight in corner:
            value = value if weight is None else elementwise.multiply(value, expand_dims(weight, -1))
        y = value if y is None else elementwise.add(y, value)
    return y


def _round_half_away(x: Tensor) -> Tensor:
    """x rounded, halves away from 0."""
    rounded = elementwise.floor(elementwise.add(elementwise.absolute(x), 0.5))
    return elementwise.multiply(rounded, elementwise.sign(x))


@op
def map_coordinates(inputs, coordinates, order: int, fill_mode: str = "constant", fill_value: float = 0.0) -> Tensor:
    """Elements of a tensor at given coordinates, with interpolation.

    Args:
        inputs: Numbers of any shape, with n axes.
        coordinates: Floats (n, ...): the positions along each axis.
        order: 0 for the nearest element, 1 for linear interpolation.
        fill_mode: Values beyond the edges: 'constant' (fill_value), 'nearest' (the edge), 'wrap' (the tensor
            repeated), or its reflection with the edge once ('mirror') or twice ('reflect').
        fill_value: The value beyond the edges for 'constant'.

    Returns:
        A tensor (...) of inputs' dtype; integers are rounded. Differentiable in inputs and, with order 1, in
        coordinates.

    Raises:
        ValueError: if the coordinates do not fit, or for another order or fill mode.

    Example:
        >>> x = np.array([[0.0, 1.0], [2.0, 3.0]])
        >>> rows, columns = [0.0, 0.5, 1.0], [1.0, 0.5, 5.0]
        >>> ops.image.map_coordinates(x, [rows, columns], order=1, fill_mode="nearest").numpy()
        array([1. , 1.5, 3. ])
    """
    x, places = as_tensor(inputs), as_float(coordinates)
    one_of("map_coordinates", "fill_mode", fill_mode, _FILLS)
    if order not in (0, 1):
        raise ValueError(f"map_coordinates: order must be 0 or 1, received {briefly(order)}")
    if places.ndim < 2 or places.shape[0] != x.ndim:
        raise ValueError(f"map_coordinates: coordinates must have shape ({x.ndim}, ...), received {places.shape}")
    rows = reshape(as_float(x), (x.size, 1))
    y = squeeze(_sampled(rows, unstack(places), x.shape, 0, order, fill_mode, fill_value), -1)
    return as_tensor(_round_half_away(y), x.dtype) if x.dtype.kind in "iu" else y


def as_batch(name: str, images: Any, data_format: str | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The images as (batch, height, width, channels), and a function that converts a result back to the images' layout."""
    x, channels_first = as_tensor(images), data_format_of(name, data_format) == "channels_first"
    if x.ndim not in (3, 4):
        raise ValueError(f"{name}: expected an image of 3 axes or a batch of 4, received shape {x.shape}")
    single = x.ndim == 3

    def back(y: Tensor) -> Tensor:
        y = moveaxis(y, 3, 1) if channels_first else y
        return squeeze(y, 0) if single else y

    x = expand_dims(x, 0) if single else x
    return (moveaxis(x, 1, 3) if channels_first else x), back


def moved(
    name: str, images: Any, data_format: str | None, interpolation: str, mode: str, fill: Any, places: Callable
) -> Tensor:
    """Images whose pixels come from the positions places(x, y, batch) -> (x, y), each (batch, height width)."""
    one_of(name, "fill_mode", mode, _FILLS)
    order = _ORDERS[one_of(name, "interpolation", interpolation, _ORDERS)]
    batch, back = as_batch(name, as_float(images), data_format)
    count, height, width, channels = batch.shape
    load_budget.take_briefly(32 * height * width, f"{name} of an image of {height} x {width}")
    down, across = (grid.reshape(1, -1).astype(batch.dtype) for grid in np.mgrid[:height, :width])
    columns, rows = places(as_tensor(across), as_tensor(down), count)
    starts = as_tensor(np.arange(count)[:, None] * (height * width))
    flat = reshape(batch, (count * height * width, channels))
    return back(reshape(_sampled(flat, [rows, columns], (height, width), starts, order, mode, fill), batch.shape))


def _projected(x: Tensor, y: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """(a0 x + a1 y + a2) / k and (b0 x + b1 y + b2) / k, k = c0 x + c1 y + 1, for numbers (batch, 8)."""
    matrix = reshape(concatenate([numbers, np.ones((numbers.shape[0], 1), numbers.dtype)], 1), (-1, 3, 3))
    points = concatenate([x, y, np.ones(x.shape, x.dtype)], 0)
    across, down, scale = unstack(matmul(matrix, points), axis=1)
    return elementwise.divide(across, scale), elementwise.divide(down, scale)


@op
def affine_transform(
    images,
    transform,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Transform images by a matrix: scale, rotate, shear, shift, and tilt.

        the pixel (x, y) comes from ((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k), with k = c0 x + c1 y + 1

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels);
            integers become floatx.
        transform: The numbers (a0, a1, a2, b0, b1, b2, c0, c1), or one such row for each image.
        interpolation: 'nearest' or 'bilinear'.
        fill_mode: Values beyond the edges: 'constant' (fill_value), 'nearest' (the edge), 'wrap' (the image
            repeated), or its reflection with the edge once ('mirror') or twice ('reflect').
        fill_value: The value beyond the edges for 'constant'.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor of the images' shape.

    Raises:
        ValueError: if the shapes do not fit, or for another interpolation or fill mode.

    Example:
        >>> image = np.array([[1.0, 2.0, 3.0]]).reshape(1, 3, 1)
        >>> shift = [1, 0, 1, 0, 1, 0, 0, 0]  # x comes from x + 1
        >>> ops.image.affine_transform(image, shift).numpy()[0, :, 0]
        array([2., 3., 0.])
    """
    images, numbers = floats(images, transform)
    if numbers.ndim not in (1, 2) or numbers.shape[-1] != 8:
        raise ValueError(f"affine_transform: transform must have shape (8,) or (batch, 8), received {numbers.shape}")
    numbers = reshape(numbers, (-1, 8))

    def places(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
        if numbers.shape[0] not in (1, count):
            raise ValueError(
                f"affine_transform: expected a transform for each of {count} images, received {numbers.shape}"
            )
        return _projected(x, y, numbers)

    return moved("affine_transform", images, data_format, interpolation, fill_mode, fill_value, places)


def homography(start_points: Any, end_points: Any) -> Tensor:
    """The numbers (batch, 8) of `affine_transform` that move four points (x, y) to four others, and images with them."""
    start, end = floats(start_points, end_points)
    start, end = (reshape(points, (-1, 4, 2)) for points in (start, end))
    sources = unstack(start, axis=2)
    x, y = unstack(end, axis=2)
    one, zero = ones(x.shape, x.dtype), zeros(x.shape, x.dtype)
    equations = []
    for source, row in zip(sources, ([x, y, one, zero, zero, zero], [zero, zero, zero, x, y, one]), strict=True):
        back = elementwise.negative(source)
        equations.append(stack([*row, elementwise.multiply(back, x), elementwise.multiply(back, y)], 2))
    op = "perspective_transform, equations of end_points"  # singular if three of the points are on one line
    return squeeze(_solution(op, concatenate(equations, 1), expand_dims(concatenate(sources, 1), -1)), -1)


@op
def perspective_transform(
    images,
    start_points,
    end_points,
    interpolation: str = "bilinear",
    fill_value: float = 0,
    data_format: str | None = None,
) -> Tensor:
    """Move four points of an image to four others; lines stay straight.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels);
            integers become floatx.
        start_points: Four points (x, y) of the image: (4, 2), or (batch, 4, 2).
        end_points: Where they are in the result, of the same shape.
        interpolation: 'nearest' or 'bilinear'.
        fill_value: The value beyond the edges.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor of the images' shape.

    Raises:
        ValueError: if the shapes do not fit, or for another interpolation.

    Example:
        >>> image = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1)
        >>> corners, mirrored = [[0, 0], [1, 0], [0, 1], [1, 1]], [[1, 0], [0, 0], [1, 1], [0, 1]]
        >>> ops.image.perspective_transform(image, corners, mirrored).numpy()[:, :, 0].round(3)
        array([[2., 1.],
               [4., 3.]])
    """
    images, start, end = floats(images, start_points, end_points)
    if start.shape != end.shape or start.shape[-2:] != (4, 2) or start.ndim not in (2, 3):
        raise ValueError(
            "perspective_transform: start_points and end_points must have the same shape, (4, 2) or (batch, 4, 2), received "
            f"{start.shape} and {end.shape}"
        )
    numbers = homography(start, end)

    def places(across: Tensor, down: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return _projected(across, down, numbers)

    return moved("perspective_transform", images, data_format, interpolation, "constant", fill_value, places)
