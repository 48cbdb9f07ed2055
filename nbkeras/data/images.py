"""Converts images between files and arrays; needs the optional package pillow."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.annotations import one_of
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.user_errors import optional_import, warn
from nbkeras.ops.window import data_format_of

COLOR_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_PLAIN_GREYS = ("L", "I;16", "I")  # not converted, so that 16 bits are not lost


def _pillow() -> Any:
    """pillow's Image module; the ImportError names the package to install."""
    with optional_import("images in files need pillow", "images"):
        from PIL import Image
    return Image


@contextlib.contextmanager
def reading(path: Any) -> Iterator[None]:
    """Add the file's name to an error in the block."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while reading {path}")
        raise


def img_to_array(img, data_format: str | None = None, dtype=None) -> np.ndarray:
    """Convert an image to an array.

    Args:
        img: A pillow image, or an array of two or three axes.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        dtype: The dtype of the result; None for `config.floatx()`.

    Returns:
        An array (rows, columns, channels), or (channels, rows, columns).

    Raises:
        ValueError: for the wrong number of axes.

    Example:
        >>> image = keras.utils.array_to_img(np.zeros((2, 4, 3)))
        >>> keras.utils.img_to_array(image).shape
        (2, 4, 3)
    """
    image = np.asarray(img, dtype or config.floatx())
    if image.ndim not in (2, 3):
        raise ValueError(
            f"Unsupported image shape: {image.shape}, expected (rows, columns) or (rows, columns, channels)"
        )
    image = image[:, :, None] if image.ndim == 2 else image
    return image.transpose(2, 0, 1) if data_format_of("img_to_array", data_format) == "channels_first" else image


def array_to_img(x, data_format: str | None = None, scale: bool = True, dtype=None):
    """Convert an array to a pillow image; needs pillow.

    Args:
        x: An array of one image with 1, 3 or 4 channels.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        scale: Whether to stretch the values so that the smallest is 0 and the largest 255; otherwise they must be
            from 0 to 255.
        dtype: The dtype of the computation; None for `config.floatx()`.

    Returns:
        An image with mode L, RGB or RGBA; I for one channel with values above 255.

    Raises:
        ImportError: if pillow is not installed.
        ValueError: for the wrong number of axes or channels.

    Example:
        >>> image = keras.utils.array_to_img(np.arange(6.0).reshape(1, 6, 1))
        >>> image.size, image.mode, image.getpixel((5, 0))
        ((6, 1), 'L', 255)
    """
    pillow = _pillow()
    image = np.array(x, dtype or config.floatx())
    if image.ndim != 3:
        raise ValueError(f"array_to_img expects three axes (a single image), received shape {image.shape}")
    if data_format_of("array_to_img", data_format) == "channels_first":
        image = image.transpose(1, 2, 0)
    if image.shape[2] not in (1, 3, 4):
        raise ValueError(f"array_to_img expects 1, 3 or 4 channels, received {image.shape[2]} (shape {image.shape})")
    if scale:
        image = stretch(image)
    if image.shape[2] == 1:
        image = image[:, :, 0]
        return pillow.fromarray(image.astype(np.int32 if image.max() > 255 else np.uint8))
    return pillow.fromarray(image.astype(np.uint8))


def stretch(image: np.ndarray) -> np.ndarray:
    """Stretch values so that the smallest becomes 0 and the largest 255.

    Args:
        image: An array of floats.

    Returns:
        An array with the same shape; zeros if all values are equal.

    Example:
        >>> from nbkeras.preprocessing.image import stretch
        >>> stretch(np.array([1.0, 2.0, 6.0]))
        array([  0.,  51., 255.])
    """
    image = image - image.min()
    return image / image.max() * 255 if image.max() else image


def save_img(
    path, x, data_format: str | None = None, file_format: str | None = None, scale: bool = True, **kwargs
) -> None:
    """Write an array as an image file; needs pillow.

    Args:
        path: The name of the file, or a binary file to write.
        x: An array of one image with 1, 3 or 4 channels.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        file_format: The format, such as 'png'; None for the ending of path.
        scale: Whether to stretch the values to the range 0 to 255.
        **kwargs: Arguments of pillow's `Image.save`.

    Example:
        >>> keras.utils.save_img("black.png", np.zeros((2, 4, 3)))
        >>> keras.utils.load_img("black.png").size
        (4, 2)
    """
    if file_format is None and isinstance(path, str | os.PathLike):
        file_format = os.path.splitext(os.fspath(path))[1][1:]
    file_format = {"jpg": "jpeg"}.get((file_format or "").lower(), file_format)
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and file_format == "jpeg":
        warn("JPEG has no transparency: the image is saved without its fourth channel")
        image = image.convert("RGB")
    image.save(path, format=file_format or None, **kwargs)


def _opened(path: Any) -> Any:
    """The image in a file or an io.BytesIO, not decoded yet."""
    if not isinstance(path, io.BytesIO):
        with open(path, "rb", opener=ordinary_file) as file:
            path = io.BytesIO(file.read())
    return _pillow().open(path)


def decoded(path: Any, color_mode: str) -> np.ndarray:
    """The pixels of an image file as TensorFlow decodes them, uint8 (rows, columns, channels).

    Args:
        path: The name of the file, or an io.BytesIO.
        color_mode: 'rgb', 'rgba' or 'grayscale'.
    """
    with reading(path):
        image = _opened(path)
        is_gray = color_mode == "grayscale"
        if is_gray:
            image.draft("L", None)  # the brightness that a JPEG file has
        if image.mode.startswith("I"):
            pixels = np.right_shift(np.asarray(image), 8).astype(np.uint8)  # of 16 bits
            image = _pillow().fromarray(pixels)
        if is_gray and image.format == "PNG" and image.mode not in ("1", "L", "LA"):
            pixels = _gray_of_png(image)
        else:
            pixels = np.asarray(image.convert(COLOR_MODES[color_mode]))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _gray_of_png(image: Any) -> np.ndarray:
    """The gray values of a coloured image by libpng's formula, with the weights that TensorFlow gives it."""
    colors, steps = np.asarray(image.convert("RGBA"))[..., :3].astype(np.int64), np.arange(256) / 255
    gamma = image.info.get("gamma", 0.45455 if "srgb" in image.info else 1.0)
    if abs(gamma - 1) < 0.05:
        weighted, half, back = colors, 0, np.arange(256)
    else:  # the sum is one of light, not of the values in the file
        weighted = np.floor(255 * steps ** (1 / gamma) + 0.5).astype(np.int64)[colors]
        half, back = 1 << 14, np.floor(255 * steps**gamma + 0.5)
    mixed = back[(weighted @ (9797, 19234, 3737) + half) >> 15]
    is_gray = (colors[..., 0] == colors[..., 1]) & (colors[..., 0] == colors[..., 2])
    return np.where(is_gray, colors[..., 0], mixed).astype(np.uint8)


def load_img(
    path,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
):
    """Read an image from a file; needs pillow.

    Args:
        path: The name of the file, or an io.BytesIO.
        color_mode: 'rgb', 'rgba', or 'grayscale', which keeps 16 bits.
        target_size: (rows, columns) to resize to; None for the file's size.
        interpolation: The method of resizing: 'nearest', 'bilinear', 'bicubic', 'box', 'hamming' or 'lanczos'.
        keep_aspect_ratio: Whether to crop first, to the largest central part with the target's aspect ratio.

    Returns:
        A pillow image.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if pillow is not installed.
        ValueError: for an unknown color_mode or interpolation.

    Example:
        >>> keras.utils.save_img("gradient.png", np.arange(48.0).reshape(4, 12, 1))
        >>> image = keras.utils.load_img("gradient.png", color_mode="grayscale", target_size=(2, 6))
        >>> keras.utils.img_to_array(image).shape
        (2, 6, 1)
    """
    pillow = _pillow()
    one_of("load_img", "color_mode", color_mode, COLOR_MODES)
    methods = {name.lower(): method for name, method in pillow.Resampling.__members__.items()}
    one_of("load_img", "interpolation", interpolation, sorted(methods))
    with reading(path):
        image = _opened(path)
        image.load()
    if image.mode != COLOR_MODES[color_mode] and not (color_mode == "grayscale" and image.mode in _PLAIN_GREYS):
        image = image.convert(COLOR_MODES[color_mode])
    if target_size is None or image.size == (target_size[1], target_size[0]):
        return image
    height, width = target_size
    box = None
    if keep_aspect_ratio:
        columns = min(image.width, image.height * width // height)
        rows = min(image.height, image.width * height // width)
        left, top = (image.width - columns) // 2, (image.height - rows) // 2
        box = (left, top, left + columns, top + rows)
    return image.resize((width, height), methods[interpolation], box)
