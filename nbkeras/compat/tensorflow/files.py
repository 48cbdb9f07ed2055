"""`tf.io`: files as bytes, and images in them."""

import io
from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.compat.tensorflow.dtypes import as_dtype
from nbkeras.compat.tensorflow.texts import StringTensor, as_strings, path_of
from nbkeras.data.images import decoded
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.engine.user_errors import optional_import

_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}  # Keras's name of an image with so many channels


def read_file(filename: Any, name: Any = None) -> StringTensor:
    """The bytes of a file, one string."""
    with open(path_of(filename), "rb", opener=ordinary_file) as file:
        return StringTensor(file.read())


def write_file(filename: Any, contents: Any, name: Any = None) -> None:
    """Write a string, or bytes, to a file."""
    with open(path_of(filename), "wb") as file:
        file.write(as_strings(contents).numpy())


def decode_image(
    contents: Any, channels: Any = None, dtype: Any = np.uint8, name: Any = None, expand_animations: bool = True
) -> Tensor:
    """An image of JPEG, PNG, BMP or GIF bytes as a tensor (height, width, channels); floats are from 0 to 1.

    channels: 1, 3 or 4; None or 0 for those of the file.
    """
    with optional_import("images in files need pillow", "images"):
        from PIL import Image, UnidentifiedImageError
    contents = as_strings(contents).numpy()
    try:
        image = Image.open(io.BytesIO(contents))
    except UnidentifiedImageError:
        raise ValueError(f"tf.io.decode_image: expected the bytes of an image, received {briefly(contents)}") from None
    mode = _MODES[channels or {"L": 1, "I;16": 1, "RGBA": 4}.get(image.mode, 3)]
    return convert_image_dtype(as_tensor(decoded(io.BytesIO(contents), mode)), dtype)


decode_bmp = decode_jpeg = decode_png = decode_image


def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: Any = None) -> Tensor:
    """Scale an image to the range of a dtype: floats from 0 to 1, integers from 0 to their largest number."""
    image = as_tensor(image)
    before, after = as_dtype(image.dtype), as_dtype(dtype)
    if before == after:
        return image
    if before.is_floating and after.is_floating:
        return ops.cast(image, after)
    if after.is_floating:
        return ops.cast(image, after) / before.max
    if before.is_floating:
        scaled = image * (after.max + 0.5)
        return ops.saturate_cast(scaled, after) if saturate else ops.cast(scaled, after)
    if before.max > after.max:
        return ops.cast(ops.floor_divide(image, (before.max + 1) // (after.max + 1)), after)
    return ops.cast(image, after) * ((after.max + 1) // (before.max + 1))
