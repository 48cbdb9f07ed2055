"""Names of TensorFlow 1 that packages for Keras 2 use, beside those of TensorFlow 2."""

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras.compat.tensorflow import image
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.engine.annotations import one_of
from nbkeras.engine.tensor import Tensor, as_float, as_tensor
from nbkeras.ops.coordinates import as_batch
from nbkeras.ops.resize import blend

extract_image_patches = spelled(image.extract_patches, "images ksizes:sizes strides rates padding")
_METHODS = ("bilinear", "nearest", "bicubic", "area")  # by TensorFlow's numbers


class ResizeMethod:
    """The numbers of the methods of `tf.compat.v1.image.resize`."""

    BILINEAR, NEAREST_NEIGHBOR, BICUBIC, AREA = range(4)


def resize(
    images: Any,
    size: Any,
    method: Any = ResizeMethod.BILINEAR,
    align_corners: bool = False,
    preserve_aspect_ratio: bool = False,
    name: Any = None,
) -> Tensor:
    """Images of another height and width. Pixels lie at whole numbers; with align_corners the last pixels keep their places.

    method: 'bilinear', 'nearest' or 'area', or its number.
    """
    method = _METHODS[method] if isinstance(method, int) and 0 <= method < len(_METHODS) else method
    one_of("tf.compat.v1.image.resize", "method", method, [each for each in _METHODS if each != "bicubic"])
    x = as_tensor(images)
    height, width = image.target_size(x, size, preserve_aspect_ratio)
    if method == "area":
        return image.resize(x, (height, width), "area")
    x, back = as_batch("tf.compat.v1.image.resize", x if method == "nearest" else as_float(x), "channels_last")
    for axis, new in ((1, height), (2, width)):
        length = x.shape[axis]
        step = (length - 1) / (new - 1) if align_corners and new > 1 else length / new
        places = np.arange(new, dtype=np.float32) * np.float32(step)
        if method == "nearest":
            near = np.floor(places + 0.5) if align_corners else np.floor(places)
            x = ops.take(x, np.minimum(near, length - 1).astype(np.int64), axis)
        else:
            distance = np.abs(np.minimum(places, length - 1)[:, None] - np.arange(length, dtype=np.float32))
            x = blend(x, np.maximum(1 - distance, 0), axis)
    return back(x)


def _resize_by(method: str) -> Any:
    def resized(
        images: Any, size: Any, align_corners: bool = False, name: Any = None, half_pixel_centers: bool = False
    ) -> Tensor:
        """`resize` by one method; half_pixel_centers: as `tf.image.resize` does it."""
        if half_pixel_centers:
            return image.resize(images, size, method)
        return resize(images, size, method, align_corners)

    return resized


resize_images = resize
resize_area, resize_bilinear, resize_nearest_neighbor = map(_resize_by, ("area", "bilinear", "nearest"))


def ctc_loss_v2(
    labels: Any,
    logits: Any,
    label_length: Any,
    logit_length: Any,
    logits_time_major: bool = True,
    unique: Any = None,
    blank_index: int | None = None,
    name: Any = None,
) -> Tensor:
    """The CTC loss of each sample, for dense labels; logits have shape (steps, samples, classes) if they are time major."""
    steps_second = ops.transpose(logits, (1, 0, 2)) if logits_time_major else ops.convert_to_tensor(logits)
    blank = (blank_index or 0) % steps_second.shape[-1]
    return ops.ctc_loss(labels, steps_second, label_length, logit_length, blank)
