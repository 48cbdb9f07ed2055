"""Keras's affine transforms (shift, rotate, shear and zoom images), by interpolation in NumPy."""

import numpy as np

from nbkeras.engine.annotations import briefly, one_of

_FILLS = ("nearest", "constant", "reflect", "wrap")


def apply_affine_transform(
    x,
    theta: float = 0,
    tx: float = 0,
    ty: float = 0,
    shear: float = 0,
    zx: float = 1,
    zy: float = 1,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    order: int = 1,
) -> np.ndarray:
    """Rotate, shift, shear and zoom an image.

    The pixel at p = (column, row) comes from M (p - c) + c, where c is the middle of the image and M is
    rotation, shift, shear and zoom in this order. (Keras uses the middle's column as its row, which is correct
    for square images only.)

    Args:
        x: An array of one image, three axes.
        theta: The angle of the rotation, in degrees.
        tx: The shift in columns.
        ty: The shift in rows.
        shear: The angle of the shear, in degrees.
        zx: The zoom of columns; below 1 the image gets larger.
        zy: The zoom of rows.
        row_axis: The axis of rows.
        col_axis: The axis of columns.
        channel_axis: The axis of channels, the first or the last.
        fill_mode: How to fill points outside, as in scipy.ndimage: 'nearest', 'constant', 'reflect' or
            'wrap'.
        cval: The value outside for 'constant'.
        order: 0 takes the nearest pixel, 1 interpolates linearly.

    Returns:
        An array with x's shape and dtype.

    Raises:
        ValueError: for wrong axes, modes and orders.

    Example:
        >>> from nbkeras.preprocessing.image import apply_affine_transform
        >>> image = np.array([[[1.0, 2.0, 3.0]]])  # (channels, rows, columns)
        >>> apply_affine_transform(image, tx=1, fill_mode="constant")
        array([[[2., 3., 0.]]])
    """
    x = np.asarray(x)
    if x.ndim != 3 or sorted((row_axis, col_axis, channel_axis)) != [0, 1, 2] or channel_axis == 1:
        raise ValueError(
            "apply_affine_transform expects an image of three axes with the channels first or last, received shape "
            f"{x.shape} with (row_axis, col_axis, channel_axis) = {briefly((row_axis, col_axis, channel_axis))}"
        )
    one_of("apply_affine_transform", "fill_mode", fill_mode, _FILLS)
    if order not in (0, 1):
        raise ValueError(f"interpolation order must be 0 (nearest pixel) or 1 (linear), received {briefly(order)}")
    if (theta, tx, ty, shear, zx, zy) == (0, 0, 0, 0, 1, 1):
        return x
    turn, slope = np.deg2rad(theta), np.deg2rad(shear)
    matrix = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    matrix = matrix @ np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
    matrix = matrix @ np.array([[1, -np.sin(slope), 0], [0, np.cos(slope), 0], [0, 0, 1]])
    matrix = matrix @ np.diag([zx, zy, 1])
    image = x.transpose(col_axis, row_axis, channel_axis)
    middle = (np.array(image.shape[:2]) - 1) / 2
    grid = np.indices(image.shape[:2]).reshape(2, -1) - middle[:, None]
    source = matrix[:2, :2] @ grid + (matrix[:2, 2] + middle)[:, None]
    moved = _sample(image, source, fill_mode, cval, order).reshape(image.shape)
    return moved.transpose(np.argsort((col_axis, row_axis, channel_axis)))


def _sample(image: np.ndarray, source: np.ndarray, fill_mode: str, cval: float, order: int) -> np.ndarray:
    """Pixels (n, channels) of an image (columns, rows, channels) at positions (2, n)."""
    sizes = np.array(image.shape[:2])[:, None]
    outside: np.ndarray = np.zeros(source.shape[1], bool)
    if fill_mode in ("constant", "wrap"):
        beyond = (source < 0) | (source > sizes - 1)
        if fill_mode == "constant":
            outside = np.any(beyond, axis=0)
        else:  # scipy's wrap: the last pixel coincides with the first, so the period is one less than the size
            source = np.where(beyond, np.mod(source, np.maximum(sizes - 1, 1)), source)
    low = np.floor(source + (0.5 if order == 0 else 0.0))
    if order == 0:
        pixels = image[tuple(_inside(low.astype(int), sizes, fill_mode))].astype(float)
    else:
        pixels = np.zeros((source.shape[1], image.shape[2]))
        for corner in np.ndindex(2, 2):
            step = np.array(corner)[:, None]
            weights = np.where(step == 1, source - low, 1 - (source - low)).prod(axis=0)
            pixels += weights[:, None] * image[tuple(_inside(low.astype(int) + step, sizes, fill_mode))]
    pixels[outside] = cval
    if image.dtype.kind in "iu":
        info = np.iinfo(image.dtype)
        pixels = np.clip(np.trunc(pixels + np.copysign(0.5, pixels)), info.min, info.max)
    return pixels.astype(image.dtype)


def _inside(index: np.ndarray, sizes: np.ndarray, fill_mode: str) -> np.ndarray:
    """Map positions beyond the edges to positions inside the image."""
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        index = np.mod(index, 2 * sizes)
        return np.where(index < sizes, index, 2 * sizes - 1 - index)
    return np.clip(index, 0, sizes - 1)
