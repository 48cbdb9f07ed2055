"""Converting images between files and arrays, by the optional package pillow."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.engine.annotations import one_of
from nbkeras.engine.user_errors import optional_import, warn
from nbkeras.ops.window import data_format_of

COLOR_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
_PLAIN_GREYS = ("L", "I;16", "I")  # not converted, so that 16 bits are not lost


def _pillow() -> Any:
    """pillow's Image module; the ImportError names the package to install."""
    with optional_import("images in files need pillow: pip install 'nbkeras[images]'"):
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
    """Convert a pillow image or an array to an array (rows, columns, channels) or (channels, rows, columns)."""
    image = np.asarray(img, dtype or config.floatx())
    if image.ndim not in (2, 3):
        raise ValueError(
            f"Unsupported image shape: {image.shape}, expected (rows, columns) or (rows, columns, channels)"
        )
    image = image[:, :, None] if image.ndim == 2 else image
    return image.transpose(2, 0, 1) if data_format_of("img_to_array", data_format) == "channels_first" else image


def array_to_img(x, data_format: str | None = None, scale: bool = True, dtype=None):
    """Convert an array with 1, 3 or 4 channels to a pillow image; scale: stretch its values to 0 to 255 first."""
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
    """The values, stretched so that the smallest becomes 0 and the largest 255."""
    image = image - image.min()
    return image / image.max() * 255 if image.max() else image


def save_img(
    path, x, data_format: str | None = None, file_format: str | None = None, scale: bool = True, **kwargs
) -> None:
    """Write an array as an image file; file_format: by default the path's ending. kwargs are passed to pillow."""
    if file_format is None and isinstance(path, str | os.PathLike):
        file_format = os.path.splitext(os.fspath(path))[1][1:]
    file_format = {"jpg": "jpeg"}.get((file_format or "").lower(), file_format)
    image = array_to_img(x, data_format, scale)
    if image.mode == "RGBA" and file_format == "jpeg":
        warn("JPEG has no transparency: the image is saved without its fourth channel")
        image = image.convert("RGB")
    image.save(path, format=file_format or None, **kwargs)


def load_img(
    path,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
):
    """Read a pillow image from a file (or BytesIO); target_size: (rows, columns) to resize to.

    keep_aspect_ratio: crop to the largest middle part with the target's proportions first. ValueError for unknown names.
    """
    pillow = _pillow()
    one_of("load_img", "color_mode", color_mode, COLOR_MODES)
    methods = {name.lower(): method for name, method in pillow.Resampling.__members__.items()}
    one_of("load_img", "interpolation", interpolation, sorted(methods))
    with reading(path):
        if not isinstance(path, io.BytesIO):
            with open(path, "rb") as file:
                path = io.BytesIO(file.read())
        image = pillow.open(path)
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
