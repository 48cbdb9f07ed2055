"""`tf.image`: sizes, colours and random changes of images (height, width, channels), or of batches of them."""

from typing import Any

import numpy as np

from nbkeras import ops
from nbkeras import random as random_ops
from nbkeras.compat.tensorflow import random as tf_random
from nbkeras.compat.tensorflow.files import convert_image_dtype
from nbkeras.compat.tensorflow.spelling import spelled
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, as_float, as_tensor
from nbkeras.ops.coordinates import as_batch
from nbkeras.ops.resize import blend

_LAST = "channels_last"


class ResizeMethod:
    """The names of the methods of `tf.image.resize`."""

    AREA = "area"
    BICUBIC = "bicubic"
    BILINEAR = "bilinear"
    LANCZOS3 = "lanczos3"
    LANCZOS5 = "lanczos5"
    NEAREST_NEIGHBOR = "nearest"


_METHODS = [value for name, value in vars(ResizeMethod).items() if not name.startswith("_")]


def resize(
    images: Any,
    size: Any,
    method: str = "bilinear",
    preserve_aspect_ratio: bool = False,
    antialias: bool = False,
    name: Any = None,
) -> Tensor:
    """Images of another height and width, as floats unless the method is 'nearest'."""
    method = one_of("tf.image.resize", "method", method, _METHODS)
    images = as_tensor(images)
    height, width = target_size(images, size, preserve_aspect_ratio)
    if method == "nearest":
        return ops.image.resize(images, (height, width), "nearest", data_format=_LAST)
    images = as_float(images)
    if method != "area":
        return ops.image.resize(images, (height, width), method, antialias, data_format=_LAST)
    x, back = as_batch("tf.image.resize", images, _LAST)
    return back(blend(blend(x, _area(x.shape[1], height), 1), _area(x.shape[2], width), 2))


def target_size(images: Tensor, size: Any, preserve_aspect_ratio: bool) -> tuple[int, int]:
    """The height and width of resized images: `size`, or with one of them smaller, to keep the ratio of the images."""
    height, width = (int(each) for each in np.asarray(size))
    if not preserve_aspect_ratio:
        return height, width
    rows, columns = images.shape[-3:-1]
    scale = min(height / rows, width / columns)
    return round(rows * scale), round(columns * scale)


def _area(length: int, new: int) -> np.ndarray:
    """The weights (new, length) of averages over the parts that new elements cover."""
    ends = np.arange(new + 1) * (length / new)
    places = np.arange(length)
    shares = np.minimum(ends[1:, None], places + 1) - np.maximum(ends[:-1, None], places)
    return np.maximum(shares, 0) / (length / new)


def crop_and_resize(
    image: Any,
    boxes: Any,
    box_indices: Any,
    crop_size: Any,
    method: str = "bilinear",
    extrapolation_value: float = 0.0,
    name: Any = None,
) -> Tensor:
    """Parts of images in one size. A box is (y1, x1, y2, x2), where 0 and 1 are the first and the last row or column."""
    one_of("tf.image.crop_and_resize", "method", method, ("bilinear", "nearest"))
    images, boxes = as_float(image), np.asarray(boxes, np.float32)
    _, height, width, channels = images.shape
    places, inside = zip(
        *(
            _places(boxes[:, i], boxes[:, i + 2], n, int(new))
            for i, n, new in ((0, height, crop_size[0]), (1, width, crop_size[1]))
        ),
        strict=True,
    )
    rows, columns = places
    within = inside[0][:, :, None] & inside[1][:, None, :]
    start = np.asarray(box_indices, np.int64)[:, None, None] * (height * width)
    pixels = ops.reshape(images, (-1, channels))

    def at(row: np.ndarray, column: np.ndarray) -> Tensor:
        index = start + row.astype(np.int64)[:, :, None] * width + column.astype(np.int64)[:, None, :]
        return ops.take(pixels, index, 0)

    if method == "nearest":
        found = at(np.floor(rows + np.float32(0.5)), np.floor(columns + np.float32(0.5)))
    else:
        top, left = np.floor(rows), np.floor(columns)
        bottom, right = np.ceil(rows), np.ceil(columns)
        down, across = (rows - top)[:, :, None, None], (columns - left)[:, None, :, None]
        first = at(top, left) + (at(top, right) - at(top, left)) * across
        last = at(bottom, left) + (at(bottom, right) - at(bottom, left)) * across
        found = first + (last - first) * down
    return ops.where(within[..., None], found, as_tensor(extrapolation_value, found.dtype))


def _places(first: np.ndarray, last: np.ndarray, length: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """The positions of `new` elements from `first` to `last` of each box, (boxes, new), and whether they are inside."""
    end = np.float32(length - 1)
    if new > 1:
        step = (last - first) * end / np.float32(new - 1)
        at = first[:, None] * end + np.arange(new, dtype=np.float32) * step[:, None]
    else:
        at = (np.float32(0.5) * (first + last) * end)[:, None]
    inside = (at >= 0) & (at <= end)
    return np.where(inside, at, np.float32(0)), inside


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """Add a number to each pixel; for integers it is a share of the largest one."""
    return _in_floats(image, lambda x: x + delta)


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """Scale the distance of each pixel to the mean of its channel."""

    def adjusted(x: Tensor) -> Tensor:
        mean = ops.mean(x, (-3, -2), keepdims=True)
        return (x - mean) * contrast_factor + mean

    return _in_floats(images, adjusted)


def adjust_gamma(image: Any, gamma: float = 1, gain: float = 1) -> Tensor:
    """gain * pixel ** gamma."""
    return _in_floats(image, lambda x: gain * x**gamma)


def adjust_saturation(image: Any, saturation_factor: Any, name: Any = None) -> Tensor:
    """Scale the saturation of each pixel, up to 1."""

    def adjusted(x: Tensor) -> Tensor:
        hsv = rgb_to_hsv(x)
        return hsv_to_rgb(
            ops.concatenate([hsv[..., :1], ops.clip(hsv[..., 1:2] * saturation_factor, 0, 1), hsv[..., 2:]], -1)
        )

    return _in_floats(image, adjusted)


def adjust_hue(image: Any, delta: Any, name: Any = None) -> Tensor:
    """Turn the hue of each pixel; delta is from -1 to 1."""

    def adjusted(x: Tensor) -> Tensor:
        hsv = rgb_to_hsv(x)
        return hsv_to_rgb(ops.concatenate([ops.mod(hsv[..., :1] + delta, 1.0), hsv[..., 1:]], -1))

    return _in_floats(image, adjusted)


def _in_floats(image: Any, change: Any) -> Tensor:
    """A change of an image as floats, in its own dtype again."""
    image = as_tensor(image)
    return convert_image_dtype(
        change(convert_image_dtype(as_tensor(image), _floating(image))), image.dtype, saturate=True
    )


def _floating(image: Tensor) -> Any:
    return image.dtype if image.dtype.kind == "f" else np.float32


def central_crop(image: Any, central_fraction: float) -> Tensor:
    """The middle of an image, with a fraction of its height and width."""
    image = as_tensor(image)
    height, width = image.shape[-3:-1]
    top, left = (int((n - n * central_fraction) / 2) for n in (height, width))
    return image[..., top : height - top, left : width - left, :]


def crop_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Tensor:
    """The part of an image from a row and a column on."""
    image = as_tensor(image)
    bottom, right = offset_height + target_height, offset_width + target_width
    height, width = image.shape[-3:-1]
    if min(offset_height, offset_width) < 0 or bottom > height or right > width:
        raise ValueError(
            f"tf.image.crop_to_bounding_box: rows {offset_height} to {bottom} and columns {offset_width} to {right} do not lie "
            f"in an image of {height} x {width}"
        )
    return image[..., offset_height:bottom, offset_width:right, :]


def pad_to_bounding_box(
    image: Any, offset_height: int, offset_width: int, target_height: int, target_width: int
) -> Tensor:
    """An image with zeros around it, beginning at a row and a column."""
    image = as_tensor(image)
    height, width = image.shape[-3:-1]
    below, beside = target_height - height - offset_height, target_width - width - offset_width
    if min(offset_height, offset_width, below, beside) < 0:
        raise ValueError(
            f"tf.image.pad_to_bounding_box: an image of {height} x {width} at row {offset_height} and column {offset_width} does "
            f"not lie in {target_height} x {target_width}"
        )
    widths = [(0, 0)] * (image.ndim - 3) + [(offset_height, below), (offset_width, beside), (0, 0)]
    return ops.pad(image, widths)


def resize_with_crop_or_pad(image: Any, target_height: int, target_width: int) -> Tensor:
    """An image of a height and a width: cropped around the middle, or with zeros around it."""
    image = as_tensor(image)
    height, width = image.shape[-3:-1]
    rows, columns = min(height, target_height), min(width, target_width)
    image = crop_to_bounding_box(image, (height - rows) // 2, (width - columns) // 2, rows, columns)
    return pad_to_bounding_box(
        image, (target_height - rows) // 2, (target_width - columns) // 2, target_height, target_width
    )


def resize_with_pad(
    image: Any, target_height: int, target_width: int, method: str = "bilinear", antialias: bool = False
) -> Tensor:
    """An image of a height and a width, with its own ratio of both, and zeros around it."""
    image = as_tensor(image)
    height, width = image.shape[-3:-1]
    ratio = max(width / target_width, height / target_height)
    rows, columns = int(height / ratio), int(width / ratio)
    top, left = (max(0, n // 2) for n in (target_height - rows, target_width - columns))
    return pad_to_bounding_box(
        resize(image, (rows, columns), method, antialias=antialias), top, left, target_height, target_width
    )


def flip_left_right(image: Any) -> Tensor:
    """The columns in opposite order."""
    return ops.flip(image, -2)


def flip_up_down(image: Any) -> Tensor:
    """The rows in opposite order."""
    return ops.flip(image, -3)


def rot90(image: Any, k: int = 1, name: Any = None) -> Tensor:
    """Turn an image k times by 90 degrees, counter-clockwise."""
    return ops.rot90(image, k, (-3, -2))


def transpose(image: Any, name: Any = None) -> Tensor:
    """Rows and columns exchanged."""
    return ops.swapaxes(image, -3, -2)


def random_flip_left_right(image: Any, seed: Any = None) -> Tensor:
    """The columns of each image in opposite order, with a probability of one half."""
    return _some_flipped(image, -2, seed)


def random_flip_up_down(image: Any, seed: Any = None) -> Tensor:
    """The rows of each image in opposite order, with a probability of one half."""
    return _some_flipped(image, -3, seed)


def _some_flipped(image: Any, axis: int, seed: Any) -> Tensor:
    image = as_tensor(image)
    chosen = random_ops.uniform((*image.shape[:-3], 1, 1, 1), seed=seed) < 0.5
    return ops.where(chosen, ops.flip(image, axis), image)


def random_brightness(image: Any, max_delta: Any, seed: Any = None) -> Tensor:
    """`adjust_brightness` by a number up to max_delta, up or down."""
    return adjust_brightness(image, random_ops.uniform((), -max_delta, max_delta, seed=seed))


def random_contrast(image: Any, lower: float, upper: float, seed: Any = None) -> Tensor:
    """`adjust_contrast` by a factor between two."""
    return adjust_contrast(image, random_ops.uniform((), lower, upper, seed=seed))


def random_hue(image: Any, max_delta: Any, seed: Any = None) -> Tensor:
    """`adjust_hue` by a number up to max_delta, up or down."""
    return adjust_hue(image, random_ops.uniform((), -max_delta, max_delta, seed=seed))


def random_saturation(image: Any, lower: float, upper: float, seed: Any = None) -> Tensor:
    """`adjust_saturation` by a factor between two."""
    return adjust_saturation(image, random_ops.uniform((), lower, upper, seed=seed))


def random_crop(value: Any, size: Any, seed: Any = None, name: Any = None) -> Tensor:
    """A block of a size at a random place."""
    value, size = as_tensor(value), tuple(int(each) for each in np.asarray(size))
    room = [own - new for own, new in zip(value.shape, size, strict=True)]
    if min(room) < 0:
        raise ValueError(f"tf.image.random_crop: a tensor of shape {value.shape} has no part of shape {briefly(size)}")
    starts = [tf_random.uniform((), 0, n + 1, np.int32, seed) for n in room]
    return ops.slice(value, ops.stack(starts), size)


def per_image_standardization(image: Any) -> Tensor:
    """An image minus its mean, divided by its standard deviation."""
    x = as_float(image)
    axes = (-3, -2, -1)
    minimum = 1 / np.sqrt(np.prod(x.shape[-3:]))
    return (x - ops.mean(x, axes, keepdims=True)) / ops.maximum(ops.std(x, axes, keepdims=True), minimum)


def psnr(a: Any, b: Any, max_val: float, name: Any = None) -> Tensor:
    """The peak signal-to-noise ratio of each pair of images, in decibels."""
    error = ops.mean(ops.square(ops.subtract(as_float(a), as_float(b))), (-3, -2, -1))
    return 20 * np.log10(max_val) - 10 * ops.log10(error)


def total_variation(images: Any, name: Any = None) -> Tensor:
    """The sum of the differences between pixels beside each other."""
    x = as_tensor(images)
    axes = (-3, -2, -1)
    down, across = ops.abs(x[..., 1:, :, :] - x[..., :-1, :, :]), ops.abs(x[..., 1:, :] - x[..., :-1, :])
    return ops.sum(down, axes) + ops.sum(across, axes)


def grayscale_to_rgb(images: Any, name: Any = None) -> Tensor:
    """The grey channel three times."""
    return ops.repeat(images, 3, -1)


def hsv_to_rgb(images: Any, name: Any = None) -> Tensor:
    """Hue, saturation and value, from 0 to 1, as red, green and blue."""
    return ops.image.hsv_to_rgb(images, _LAST)


def rgb_to_grayscale(images: Any, name: Any = None) -> Tensor:
    """The brightness of each pixel."""
    return _in_floats(images, lambda x: ops.image.rgb_to_grayscale(x, _LAST))


def rgb_to_hsv(images: Any, name: Any = None) -> Tensor:
    """Red, green and blue, from 0 to 1, as hue, saturation and value."""
    return ops.image.rgb_to_hsv(images, _LAST)


def extract_patches(images: Any, sizes: Any, strides: Any, rates: Any, padding: str, name: Any = None) -> Tensor:
    """The patches of images, one in the last axis at each place. sizes, strides, rates: (1, rows, columns, 1)."""
    form = one_of("tf.image.extract_patches", "padding", padding, ("same", "valid"), any_case=True)
    inner = [tuple(map(int, each))[1:3] for each in (sizes, strides, rates)]
    return ops.image.extract_patches(images, inner[0], inner[1], inner[2], form, _LAST)


def sobel_edges(image: Any) -> Tensor:
    """The changes of each channel from row to row, and from column to column, in a new last axis."""
    x = as_float(image)
    padded = ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    down = padded[:, 2:] - padded[:, :-2]
    across = padded[:, :, 2:] - padded[:, :, :-2]
    rows = down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:]
    columns = across[:, :-2] + 2 * across[:, 1:-1] + across[:, 2:]
    return ops.stack([rows, columns], -1)


ssim = spelled(ops.image.ssim, "img1:image1 img2:image2 max_val filter_size filter_sigma k1 k2")
