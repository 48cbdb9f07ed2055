"""Image ops, as in keras.ops.image: colours, sizes, patches, filters. For one image or a batch; data_format names the channels.

They are composed of other ops and differentiable like them. Ops that sample pixels at coordinates are in coordinates.py.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkeras.engine import lazy_names, load_budget
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, as_float, as_tensor, floats, op
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.contractions import tensordot
from nbkeras.ops.convolution import conv, depthwise_conv
from nbkeras.ops.coordinates import affine_transform as affine_transform
from nbkeras.ops.coordinates import as_batch
from nbkeras.ops.coordinates import map_coordinates as map_coordinates
from nbkeras.ops.coordinates import perspective_transform as perspective_transform
from nbkeras.ops.creation import eye
from nbkeras.ops.functions import saturate_cast
from nbkeras.ops.indexing import getitem, pad, take
from nbkeras.ops.products import outer
from nbkeras.ops.resize import INTERPOLATIONS, blend, sampling_weights
from nbkeras.ops.shape import broadcast_to, expand_dims, reshape, squeeze, stack, unstack
from nbkeras.ops.window import data_format_of, sizes_of


def _as(dtype: np.dtype, y: Tensor) -> Tensor:
    """A float result in the images' dtype; for an integer dtype it is rounded and clipped to the range."""
    return saturate_cast(elementwise.round(y), dtype) if dtype.kind in "iu" else as_tensor(y, dtype)


# -------------------- colours --------------------


@op
def rgb_to_grayscale(images, data_format: str | None = None) -> Tensor:
    """Grey images from red, green and blue: 0.2989 red + 0.587 green + 0.114 blue.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels);
            images of one channel stay unchanged.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A tensor of the images' dtype with one channel; integers are truncated.

    Raises:
        ValueError: unless there are 1 or 3 channels.

    Example:
        >>> ops.image.rgb_to_grayscale(np.array([[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])).numpy()[0, :, 0].round(3)
        array([0.299, 0.886])
    """
    x, back = as_batch("rgb_to_grayscale", images, data_format)
    if x.shape[3] not in (1, 3):
        raise ValueError(f"rgb_to_grayscale: expected 1 or 3 channels, received {x.shape[3]}")
    if x.shape[3] == 3:
        gray = tensordot(as_float(x), np.array([0.2989, 0.5870, 0.1140]), axes=1)
        x = as_tensor(expand_dims(gray, 3), x.dtype)
    return back(x)


def _planes(name: str, images: Any, data_format: str | None) -> tuple[list[Tensor], Callable[[Tensor], Tensor]]:
    x, back = as_batch(name, images, data_format)
    if x.dtype.kind != "f" or x.shape[3] != 3:
        raise ValueError(f"{name}: expected floats in 3 channels, received {x.dtype} in {x.shape[3]}")
    return unstack(x, axis=3), back


@op
def rgb_to_hsv(images, data_format: str | None = None) -> Tensor:
    """Hue, saturation and value of red, green and blue.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels),
            floats in 3 channels.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A tensor of the images' shape: hue (from 0 to 1: red is 0, green 1/3, blue 2/3), saturation, value.

    Raises:
        ValueError: if the images are not floats in 3 channels.

    Example:
        >>> ops.image.rgb_to_hsv(np.array([[[0.0, 0.5, 0.0], [0.0, 0.0, 1.0]]])).numpy().round(3)
        array([[[0.333, 1.   , 0.5  ],
                [0.667, 1.   , 1.   ]]])
    """
    (red, green, blue), back = _planes("rgb_to_hsv", images, data_format)
    value = elementwise.maximum(elementwise.maximum(red, green), blue)
    chroma = elementwise.subtract(value, elementwise.minimum(elementwise.minimum(red, green), blue))
    gray, black = elementwise.equal(chroma, 0), elementwise.less_equal(value, 0)
    saturation = elementwise.where(black, 0.0, elementwise.divide(chroma, elementwise.where(black, 1.0, value)))
    unit = elementwise.divide(1 / 6, elementwise.where(gray, 1.0, chroma))

    def turned(a: Tensor, b: Tensor, sixths: int) -> Tensor:
        return elementwise.add(elementwise.multiply(unit, elementwise.subtract(a, b)), sixths / 6)

    hue = elementwise.where(elementwise.equal(value, green), turned(blue, red, 2), turned(red, green, 4))
    hue = elementwise.where(elementwise.equal(value, red), turned(green, blue, 0), hue)
    hue = elementwise.where(gray, 0.0, elementwise.where(elementwise.less(hue, 0), elementwise.add(hue, 1), hue))
    return back(stack([hue, saturation, value], 3))


@op
def hsv_to_rgb(images, data_format: str | None = None) -> Tensor:
    """Red, green and blue of hue, saturation and value.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels),
            floats in 3 channels: hue (from 0 to 1), saturation, value.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A tensor of the images' shape: red, green, blue.

    Raises:
        ValueError: if the images are not floats in 3 channels.

    Example:
        >>> ops.image.hsv_to_rgb(np.array([[[1 / 3, 1.0, 0.5], [0.0, 0.0, 1.0]]])).numpy().round(3)
        array([[[0. , 0.5, 0. ],
                [1. , 1. , 1. ]]])
    """
    (hue, saturation, value), back = _planes("hsv_to_rgb", images, data_format)
    sixths = elementwise.multiply(elementwise.mod(hue, 1.0), 6)

    def share(distance: Tensor) -> Tensor:
        return elementwise.clip(distance, 0.0, 1.0)

    def away(place: int) -> Tensor:
        return elementwise.absolute(elementwise.subtract(sixths, place))

    shares = [
        share(elementwise.subtract(away(3), 1)),
        share(elementwise.subtract(2, away(2))),
        share(elementwise.subtract(2, away(4))),
    ]
    rest = elementwise.subtract(1, saturation)
    planes = [elementwise.multiply(value, elementwise.add(rest, elementwise.multiply(saturation, s))) for s in shares]
    return back(stack(planes, 3))


# -------------------- sizes --------------------


@op
def resize(
    images,
    size,
    interpolation: str = "bilinear",
    antialias: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    data_format: str | None = None,
) -> Tensor:
    """Resize images.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels).
        size: (height, width) of the result.
        interpolation: 'nearest', 'bilinear', 'bicubic', 'lanczos3' or 'lanczos5'.
        antialias: Whether each pixel of a smaller image is the average of the pixels that it covers.
        crop_to_aspect_ratio: Whether the images are first cropped around the center to the new ratio of
            width to height.
        pad_to_aspect_ratio: Whether the images are first padded to the new ratio.
        fill_mode: Only 'constant'.
        fill_value: The value of padded pixels.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A tensor (..., height, width, channels) of the images' dtype; integers are rounded.

    Raises:
        ValueError: for an invalid size or interpolation, or if both ways to keep the ratio are chosen.

    Example:
        >>> image = np.array([[0.0, 1.0], [2.0, 3.0]]).reshape(2, 2, 1)
        >>> ops.image.resize(image, (4, 4), interpolation="nearest").numpy()[:, :, 0]
        array([[0., 0., 1., 1.],
               [0., 0., 1., 1.],
               [2., 2., 3., 3.],
               [2., 2., 3., 3.]])
        >>> ops.image.resize(np.ones((8, 32, 24, 3)), (16, 16)).shape
        (8, 16, 16, 3)
    """
    x, back = as_batch("resize", images, data_format)
    one_of("resize", "interpolation", interpolation, INTERPOLATIONS)
    is_size = isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(n, int | np.integer) for n in size)
    if not is_size or min(size) < 1 or fill_mode != "constant" or (crop_to_aspect_ratio and pad_to_aspect_ratio):
        raise ValueError(
            "resize: expected size (height, width), fill_mode 'constant' and at most one way to keep the ratio, received "
            f"{size}, {briefly(fill_mode)}, crop_to_aspect_ratio={briefly(crop_to_aspect_ratio)}, "
            f"pad_to_aspect_ratio={briefly(pad_to_aspect_ratio)}"
        )
    height, width = x.shape[1:3]
    if not height or not width:
        raise ValueError(
            f"resize: images need a height and a width of 1 or more, received shape {x.shape}, channels last"
        )
    as_high, as_wide = int(width * size[0] / size[1]), int(height * size[1] / size[0])
    if crop_to_aspect_ratio:
        rows, columns = max(min(height, as_high), 1), max(min(width, as_wide), 1)
        top, left = (height - rows) // 2, (width - columns) // 2
        x = getitem(x, (slice(None), slice(top, top + rows), slice(left, left + columns)))
    elif pad_to_aspect_ratio:
        top, left = (max(height, as_high) - height) // 2, (max(width, as_wide) - width) // 2
        x = pad(x, [(0, 0), (top, top), (left, left), (0, 0)], constant_values=fill_value)
    if interpolation == "nearest":
        for axis, new in enumerate(size, 1):
            length = x.shape[axis]
            load_budget.take_briefly(32 * new, f"resizing an axis to {new}")
            x = take(x, ((np.arange(new) + 0.5) * (length / new)).astype(np.int64), axis)
        return back(x)
    y = as_float(x)
    for axis, new in enumerate(size, 1):
        if new != x.shape[axis]:
            length = x.shape[axis]
            y = blend(y, sampling_weights(interpolation, length, new, new / length, 0.0, bool(antialias)), axis)
    return back(_as(x.dtype, y))


_METHODS = {
    **dict.fromkeys(("linear", "bilinear", "trilinear", "triangle"), "bilinear"),
    **dict.fromkeys(("cubic", "bicubic", "tricubic"), "bicubic"),
    **{"lanczos3": "lanczos3", "lanczos5": "lanczos5"},
}


@op
def scale_and_translate(
    images, output_shape, scale, translation, spatial_dims, method: str, antialias: bool = True
) -> Tensor:
    """Scale and then shift axes of a tensor; positions outside are 0.

    Args:
        images: Floats of any shape; integers become floatx.
        output_shape: The shape of the result, a size for each axis.
        scale: A factor for each axis of `spatial_dims`. A tensor is read.
        translation: A distance, in elements of the result, for each axis of `spatial_dims`. A tensor is
            read.
        spatial_dims: The axes, counted from the end if negative.
        method: The interpolation: 'linear', 'cubic', 'lanczos3' or 'lanczos5'.
        antialias: Whether each element of a smaller axis is the average of the elements that it covers.

    Returns:
        A float tensor of output_shape.

    Raises:
        ValueError: if the numbers of axes do not fit, or for an unknown method.

    Example:
        >>> x = np.array([1.0, 2.0, 3.0])
        >>> ops.image.scale_and_translate(x, (4,), [1.0], [1.0], [0], "linear").numpy()
        array([0., 1., 2., 3.])
    """
    x = as_float(images)
    one_of("scale_and_translate", "method", method, _METHODS)
    factors, shifts = (
        np.asarray(each.numpy() if isinstance(each, Tensor) else each, float).reshape(-1)
        for each in (scale, translation)
    )
    dims = [axis % x.ndim for axis in spatial_dims]
    if not len(factors) == len(shifts) == len(dims) or len(output_shape) != x.ndim:
        raise ValueError(
            "scale_and_translate: expected one scale and translation for each of spatial_dims and a size for each axis; "
            f"received {len(factors)} scales, {len(shifts)} translations, {len(dims)} spatial_dims, {len(output_shape)} sizes"
        )
    for axis, factor, shift in zip(dims, factors, shifts, strict=True):
        weights = sampling_weights(
            _METHODS[method], x.shape[axis], output_shape[axis], float(factor), float(shift), bool(antialias)
        )
        x = blend(x, weights, axis)
    return x


def _sides(name: str, length: int, before: Any, after: Any, target: Any, sign: int) -> tuple[int, int]:
    """The sizes added (sign 1) or removed (sign -1) before and after a length, from two of before, after and target."""
    if (before, after, target).count(None) != 1:
        raise ValueError(
            f"{name}: give two of the size before, the size after and the target, received {(before, after, target)}"
        )
    if before is None:
        before = sign * (target - length) - after
    if after is None:
        after = sign * (target - length) - before
    if before < 0 or after < 0 or (sign < 0 and before + after >= length):
        raise ValueError(
            f"{name}: {before} before and {after} after do not fit an image of {length} and a target of {target}"
        )
    return before, after


@op
def pad_images(
    images,
    top_padding: int | None = None,
    left_padding: int | None = None,
    bottom_padding: int | None = None,
    right_padding: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Pad images with zeros.

    Give two of top, bottom and target height, and two of left, right and target width.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels).
        top_padding: The number of rows above.
        left_padding: The number of columns to the left.
        bottom_padding: The number of rows below.
        right_padding: The number of columns to the right.
        target_height: The height of the result.
        target_width: The width of the result.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A tensor (..., new height, new width, channels) of the images' dtype.

    Raises:
        ValueError: unless two of three are given and fit.

    Example:
        >>> image = np.ones((8, 8, 3))
        >>> ops.image.pad_images(image, top_padding=1, bottom_padding=1, left_padding=2, target_width=12).shape
        (10, 12, 3)
    """
    x, back = as_batch("pad_images", images, data_format)
    rows = _sides("pad_images", x.shape[1], top_padding, bottom_padding, target_height, 1)
    columns = _sides("pad_images", x.shape[2], left_padding, right_padding, target_width, 1)
    return back(pad(x, [(0, 0), rows, columns, (0, 0)]))


@op
def crop_images(
    images,
    top_cropping: int | None = None,
    left_cropping: int | None = None,
    bottom_cropping: int | None = None,
    right_cropping: int | None = None,
    target_height: int | None = None,
    target_width: int | None = None,
    data_format: str | None = None,
) -> Tensor:
    """Crop images.

    Give two of top, bottom and target height, and two of left, right and target width.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels).
        top_cropping: The number of rows removed above.
        left_cropping: The number of columns removed to the left.
        bottom_cropping: The number of rows removed below.
        right_cropping: The number of columns removed to the right.
        target_height: The height of the result.
        target_width: The width of the result.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A tensor (..., new height, new width, channels) of the images' dtype.

    Raises:
        ValueError: if not two of three are given, or they do not fit.

    Example:
        >>> image = np.ones((8, 8, 3))
        >>> ops.image.crop_images(image, top_cropping=1, bottom_cropping=1, left_cropping=2, target_width=4).shape
        (6, 4, 3)
    """
    x, back = as_batch("crop_images", images, data_format)
    top, bottom = _sides("crop_images", x.shape[1], top_cropping, bottom_cropping, target_height, -1)
    left, right = _sides("crop_images", x.shape[2], left_cropping, right_cropping, target_width, -1)
    return back(getitem(x, (slice(None), slice(top, x.shape[1] - bottom), slice(left, x.shape[2] - right))))


# -------------------- patches --------------------


def _patches(
    name: str, rank: int, images: Any, size: Any, strides: Any, dilation: Any, padding: str, form: Any
) -> Tensor:
    """A convolution whose kernel is the identity: each element of a patch becomes a channel."""
    x = as_float(images)
    if x.ndim not in (rank + 1, rank + 2):
        raise ValueError(f"{name}: expected {rank + 1} axes or a batch of {rank + 2}, received shape {x.shape}")
    window = sizes_of(name, "size", size, rank)
    axis = -1 if data_format_of(name, form) == "channels_last" else -rank - 1
    count = math.prod(window) * x.shape[axis]
    kernel = reshape(eye(count, dtype=x.dtype), (*window, x.shape[axis], count))
    batch = x if x.ndim == rank + 2 else expand_dims(x, 0)
    y = conv(batch, kernel, strides or window, padding, form, dilation)
    return y if x.ndim == rank + 2 else squeeze(y, 0)


@op
def extract_patches(
    images, size, strides=None, dilation_rate: Any = 1, padding: str = "valid", data_format: str | None = None
) -> Tensor:
    """Patches of images (or volumes) as channels.

    Args:
        images: Floats (batch, height, width, channels), or one image without the batch axis; integers become
            floatx.
        size: The size of a patch: an integer, or a pair; three integers for volumes.
        strides: The distance from one patch to the next, as `size`; None for the size, so that patches do
            not overlap.
        dilation_rate: The distance between the elements of a patch, as `size`.
        padding: 'valid': only whole patches; 'same': zeros at the edges, for ceil(length / strides) patches.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor (batch, rows, columns, elements of a patch * channels).

    Raises:
        ValueError: if the shapes do not fit, or a patch is larger than the images.

    Example:
        >>> image = np.arange(16.0).reshape(4, 4, 1)
        >>> ops.image.extract_patches(image, 2).numpy()[0]  # the first row of patches
        array([[0., 1., 4., 5.],
               [2., 3., 6., 7.]])
    """
    rank = 3 if isinstance(size, list | tuple) and len(size) == 3 else 2
    return _patches("extract_patches", rank, images, size, strides, dilation_rate, padding, data_format)


@op
def extract_patches_3d(
    volumes, size, strides=None, dilation_rate: Any = 1, padding: str = "valid", data_format: str | None = None
) -> Tensor:
    """Patches of volumes as channels.

    Args:
        volumes: Floats (batch, depth, height, width, channels), or one volume without the batch axis;
            integers become floatx.
        size: The size of a patch: an integer, or three.
        strides: The distance from one patch to the next, as `size`; None for the size, so that patches do
            not overlap.
        dilation_rate: The distance between the elements of a patch, as `size`.
        padding: 'valid': only whole patches; 'same': zeros at the edges, for ceil(length / strides) patches.
        data_format: 'channels_last', 'channels_first' for (..., channels, depth, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor (batch, patches along each axis..., elements of a patch * channels).

    Raises:
        ValueError: if the shapes do not fit, or a patch is larger than the volumes.

    Example:
        >>> ops.image.extract_patches_3d(np.ones((2, 4, 8, 8, 3)), (2, 4, 4)).shape
        (2, 2, 2, 2, 96)
    """
    return _patches("extract_patches_3d", 3, volumes, size, strides, dilation_rate, padding, data_format)


# -------------------- filters --------------------


def _filtered(x: Tensor, kernel: Any, padding: str) -> Tensor:
    """Filter each channel of (batch, height, width, channels) by a matrix."""
    kernel = expand_dims(as_tensor(kernel, x.dtype), (2, 3))
    return depthwise_conv(x, broadcast_to(kernel, (*kernel.shape[:2], x.shape[3], 1)), 1, padding, "channels_last")


def _gaussian(size: int, sigma: Any, dtype: np.dtype) -> Tensor:
    """A normal distribution's density at `size` points around 0, scaled to a sum of 1."""
    load_budget.take_briefly(32 * size, f"a Gaussian of {size} points")
    places = elementwise.divide(np.arange(size, dtype=dtype) - (size - 1) / 2, as_tensor(sigma, dtype))
    y = elementwise.exp(elementwise.multiply(elementwise.square(as_tensor(places, dtype)), -0.5))
    return elementwise.divide(y, reduce.sum(y))


@op
def gaussian_blur(images, kernel_size: Any = (3, 3), sigma: Any = (1.0, 1.0), data_format: str | None = None) -> Tensor:
    """Blur images by a Gaussian; pixels outside count as 0.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels).
            Integers become floatx.
        kernel_size: The number of pixels (across, down) that are averaged.
        sigma: The standard deviations (across, down), in pixels.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor of the images' shape.

    Example:
        >>> image = np.zeros((3, 3, 1))
        >>> image[1, 1] = 1
        >>> ops.image.gaussian_blur(image).numpy()[:, :, 0].round(3)
        array([[0.075, 0.124, 0.075],
               [0.124, 0.204, 0.124],
               [0.075, 0.124, 0.075]])
    """
    x, back = as_batch("gaussian_blur", as_float(images), data_format)
    sigmas = unstack(sigma) if isinstance(sigma, Tensor) else sigma
    for what, pair in (("kernel_size", kernel_size), ("sigma", sigmas)):
        if not isinstance(pair, list | tuple | np.ndarray) or len(pair) != 2:
            raise ValueError(f"gaussian_blur: {what} must be two numbers, received {briefly(pair)}")
    across, down = (_gaussian(size, sigma, x.dtype) for size, sigma in zip(kernel_size, sigmas, strict=True))
    return back(_filtered(x, outer(down, across), "same"))


@op
def sobel_edges(images, data_format: str | None = None) -> Tensor:
    """The images' derivatives downwards and to the right, by Sobel's filter; pixels outside count as 0.

    Args:
        images: One image (height, width, channels), or a batch of them (batch, height, width, channels).
            Integers become floatx.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor of the images' shape with a new last axis of size 2: (downwards, to the right).

    Example:
        >>> image = np.tile([0.0, 1.0, 2.0], (3, 1)).reshape(3, 3, 1)  # brighter to the right
        >>> ops.image.sobel_edges(image).numpy()[1, 1, 0]  # 8 times the slope
        array([0., 8.])
    """
    x, back = as_batch("sobel_edges", as_float(images), data_format)
    right = np.outer([1, 2, 1], [-1, 0, 1])
    return stack([back(_filtered(x, kernel, "same")) for kernel in (right.T, right)], -1)


@op
def ssim(
    image1,
    image2,
    max_val: float = 1.0,
    filter_size: int = 11,
    filter_sigma: float = 1.5,
    k1: float = 0.01,
    k2: float = 0.03,
    data_format: str | None = None,
) -> Tensor:
    """The structural similarity of two images, from -1 to 1 (for equal images).

    Source: Wang, Bovik, Sheikh and Simoncelli, 2004.

    Args:
        image1: Floats (height, width, channels), or a batch of such images; integers become floatx.
        image2: Floats of the same shape.
        max_val: The largest difference of two values: 1 for values from 0 to 1, 255 for bytes.
        filter_size: The number of pixels across the window in which the images are compared.
        filter_sigma: The standard deviation of the window's weights, in pixels.
        k1: A small factor that avoids a division by zero where the images are dark.
        k2: A small factor that avoids a division by zero where the images are smooth.
        data_format: 'channels_last', 'channels_first' for (..., channels, height, width), or None for
            `config.image_data_format()`.

    Returns:
        A float tensor: one number for each image.

    Raises:
        ValueError: if the shapes differ, or the window is larger than the images.

    Example:
        >>> image = np.random.rand(16, 16, 1)
        >>> print(ops.image.ssim(image, image).numpy().round(3))
        1.0
        >>> bool(ops.image.ssim(image, 1 - image) < 0)
        True
    """
    first, second = floats(image1, image2)
    if first.shape != second.shape:
        raise ValueError(f"ssim: expected two images of the same shape, received {first.shape} and {second.shape}")
    (x, _), (y, _) = (as_batch("ssim", images, data_format) for images in (first, second))
    gaussian = _gaussian(filter_size, filter_sigma, x.dtype)
    kernel = outer(gaussian, gaussian)

    def blurred(a: Tensor, b: Tensor) -> Tensor:
        return _filtered(elementwise.multiply(a, b), kernel, "valid")

    def plus(a: Tensor, b: Tensor, constant: float) -> Tensor:
        return elementwise.add(elementwise.add(a, b), constant)

    one = as_tensor(1, x.dtype)
    mean_x, mean_y = blurred(x, one), blurred(y, one)
    square_x, square_y = elementwise.square(mean_x), elementwise.square(mean_y)
    product = elementwise.multiply(mean_x, mean_y)
    covariance = elementwise.subtract(blurred(x, y), product)
    variances = elementwise.subtract(blurred(x, x), square_x), elementwise.subtract(blurred(y, y), square_y)
    c1, c2 = (k1 * max_val) ** 2, (k2 * max_val) ** 2
    above = elementwise.multiply(plus(product, product, c1), plus(covariance, covariance, c2))
    below = elementwise.multiply(plus(square_x, square_y, c1), plus(*variances, c2))
    similarity = reduce.mean(elementwise.divide(above, below), (1, 2, 3))
    return similarity if first.ndim == 4 else squeeze(similarity, 0)


if TYPE_CHECKING:  # imported at first use
    from nbkeras.random.elastic_transform import elastic_transform as elastic_transform

lazy_names.attach(globals())
