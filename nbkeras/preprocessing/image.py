"""Random variations of images, and ImageDataGenerator, which combines them."""

import math
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.data.images import array_to_img as array_to_img
from nbkeras.data.images import img_to_array as img_to_array
from nbkeras.data.images import load_img as load_img
from nbkeras.data.images import save_img as save_img
from nbkeras.data.images import stretch as stretch
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import warn
from nbkeras.preprocessing.affine import apply_affine_transform as apply_affine_transform
from nbkeras.preprocessing.iterators import DataFrameIterator as DataFrameIterator
from nbkeras.preprocessing.iterators import DirectoryIterator as DirectoryIterator
from nbkeras.preprocessing.iterators import Iterator as Iterator
from nbkeras.preprocessing.iterators import NumpyArrayIterator as NumpyArrayIterator
from nbkeras.preprocessing.iterators import warn_of_channels

Array = np.ndarray


def smart_resize(x, size, interpolation: str = "bilinear", data_format: str = "channels_last") -> Any:
    """Crop images to their largest central part with the target's aspect ratio, then resize it.

    Args:
        x: An image (rows, columns, channels), or a batch of images; an array or a tensor.
        size: (height, width) of the result.
        interpolation: The method of resizing, as in `ops.image.resize`.
        data_format: 'channels_last' or 'channels_first'.

    Returns:
        An array for an array, a tensor for a tensor.

    Example:
        >>> from nbkeras.preprocessing.image import smart_resize
        >>> smart_resize(np.ones((10, 20, 3)), (5, 5)).shape
        (5, 5, 3)
    """
    y = ops.image.resize(x, size, interpolation, crop_to_aspect_ratio=True, data_format=data_format)
    return y.numpy() if isinstance(x, np.ndarray) else y


def random_rotation(
    x, rg, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
) -> Array:
    """Rotate an image by a random angle.

    Random numbers come from NumPy's global generator.

    Args:
        x: An array of one image, three axes.
        rg: The largest angle in either direction, in degrees.
        row_axis: The axis of rows.
        col_axis: The axis of columns.
        channel_axis: The axis of channels.
        fill_mode: How to fill points outside: 'nearest', 'constant', 'reflect' or 'wrap'.
        cval: The value outside for 'constant'.
        interpolation_order: 0 takes the nearest pixel, 1 interpolates linearly.

    Returns:
        An array with x's shape.

    Example:
        >>> from nbkeras.preprocessing.image import random_rotation
        >>> random_rotation(np.ones((4, 4, 3)), 30, row_axis=0, col_axis=1, channel_axis=2).shape
        (4, 4, 3)
    """
    theta = np.random.uniform(-rg, rg)
    return apply_affine_transform(
        x, theta, 0, 0, 0, 1, 1, row_axis, col_axis, channel_axis, fill_mode, cval, interpolation_order
    )


def random_shift(
    x, wrg, hrg, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
) -> Array:
    """Shift an image by a random distance.

    Random numbers come from NumPy's global generator.

    Args:
        x: An array of one image, three axes.
        wrg: The largest distance in either direction, as a fraction of the width.
        hrg: The largest distance in either direction, as a fraction of the height.
        row_axis: The axis of rows.
        col_axis: The axis of columns.
        channel_axis: The axis of channels.
        fill_mode: How to fill points outside: 'nearest', 'constant', 'reflect' or 'wrap'.
        cval: The value outside for 'constant'.
        interpolation_order: 0 takes the nearest pixel, 1 interpolates linearly.

    Returns:
        An array with x's shape.

    Example:
        >>> from nbkeras.preprocessing.image import random_shift
        >>> random_shift(np.ones((3, 4, 4)), 0.25, 0.25).shape
        (3, 4, 4)
    """
    ty = np.random.uniform(-hrg, hrg) * x.shape[row_axis]
    tx = np.random.uniform(-wrg, wrg) * x.shape[col_axis]
    return apply_affine_transform(
        x, 0, tx, ty, 0, 1, 1, row_axis, col_axis, channel_axis, fill_mode, cval, interpolation_order
    )


def random_shear(
    x, intensity, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
) -> Array:
    """Shear an image by a random angle.

    Random numbers come from NumPy's global generator.

    Args:
        x: An array of one image, three axes.
        intensity: The largest angle in either direction, in degrees.
        row_axis: The axis of rows.
        col_axis: The axis of columns.
        channel_axis: The axis of channels.
        fill_mode: How to fill points outside: 'nearest', 'constant', 'reflect' or 'wrap'.
        cval: The value outside for 'constant'.
        interpolation_order: 0 takes the nearest pixel, 1 interpolates linearly.

    Returns:
        An array with x's shape.

    Example:
        >>> from nbkeras.preprocessing.image import random_shear
        >>> random_shear(np.ones((3, 4, 4)), 20).shape
        (3, 4, 4)
    """
    shear = np.random.uniform(-intensity, intensity)
    return apply_affine_transform(
        x, 0, 0, 0, shear, 1, 1, row_axis, col_axis, channel_axis, fill_mode, cval, interpolation_order
    )


def random_zoom(
    x, zoom_range, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
) -> Array:
    """Zoom an image by two random factors, one for the rows and one for the columns.

    Random numbers come from NumPy's global generator.

    Args:
        x: An array of one image, three axes.
        zoom_range: (low, high), the range of the factors; below 1 the image gets larger.
        row_axis: The axis of rows.
        col_axis: The axis of columns.
        channel_axis: The axis of channels.
        fill_mode: How to fill points outside: 'nearest', 'constant', 'reflect' or 'wrap'.
        cval: The value outside for 'constant'.
        interpolation_order: 0 takes the nearest pixel, 1 interpolates linearly.

    Returns:
        An array with x's shape.

    Raises:
        ValueError: if zoom_range is not two numbers.

    Example:
        >>> from nbkeras.preprocessing.image import random_zoom
        >>> random_zoom(np.ones((3, 4, 4)), (0.5, 1.0)).shape
        (3, 4, 4)
    """
    low, high = _pair(zoom_range, "zoom_range")
    zx, zy = (1, 1) if low == high == 1 else np.random.uniform(low, high, 2)
    return apply_affine_transform(
        x, 0, 0, 0, 0, zx, zy, row_axis, col_axis, channel_axis, fill_mode, cval, interpolation_order
    )


def apply_channel_shift(x, intensity: float, channel_axis: int = 0) -> Array:
    """Add a number to an image, and clip the result to x's smallest and largest values.

    Args:
        x: An array of one image.
        intensity: The number to add.
        channel_axis: Accepted and ignored.

    Returns:
        An array with x's shape.

    Example:
        >>> from nbkeras.preprocessing.image import apply_channel_shift
        >>> apply_channel_shift(np.array([[[1.0, 2.0, 5.0]]]), 2.0)
        array([[[3., 4., 5.]]])
    """
    return np.clip(np.asarray(x) + intensity, np.min(x), np.max(x))


def random_channel_shift(x, intensity_range: float, channel_axis: int = 0) -> Array:
    """Add a random number to an image by `apply_channel_shift`.

    Args:
        x: An array of one image.
        intensity_range: The largest number to add or subtract.
        channel_axis: Accepted and ignored.

    Returns:
        An array with x's shape.

    Example:
        >>> from nbkeras.preprocessing.image import random_channel_shift
        >>> random_channel_shift(np.ones((2, 2, 3)), 10.0).shape
        (2, 2, 3)
    """
    return apply_channel_shift(x, np.random.uniform(-intensity_range, intensity_range))


def apply_brightness_shift(x, brightness: float, scale: bool = True, data_format: str | None = None) -> Array:
    """Multiply each pixel by a factor, in integers from 0 to 255; a fourth channel (opacity) stays unchanged.

    Args:
        x: An array of one image.
        brightness: The factor.
        scale: Whether to stretch the values to the range 0 to 255 first. Values outside this range are always
            stretched first; without scale the result is then stretched back.
        data_format: 'channels_last', 'channels_first', or None for the configured one.

    Returns:
        A float array with x's shape.

    Example:
        >>> from nbkeras.preprocessing.image import apply_brightness_shift
        >>> apply_brightness_shift(np.array([[[10.0, 20.0, 200.0]]]), 2.0, scale=False)
        array([[[ 20.,  40., 255.]]], dtype=float32)
    """
    x = np.asarray(x, config.floatx())
    low, high = x.min(), x.max()
    beyond = low < 0 or high > 255
    pixels = (stretch(x) if beyond or scale else x).astype(np.uint8)
    x = np.clip(np.trunc(pixels * np.float32(brightness)), 0, 255).astype(config.floatx())
    channels = 0 if (data_format or config.image_data_format()) == "channels_first" else -1
    if x.shape[channels] == 4:
        opacity = (slice(None),) * (2 if channels else 0) + (3,)
        x[opacity] = pixels[opacity]
    return x / 255 * (high - low) + low if beyond and not scale else x


def random_brightness(x, brightness_range, scale: bool = True) -> Array:
    """Multiply each pixel by a random factor by `apply_brightness_shift`.

    Args:
        x: An array of one image.
        brightness_range: (low, high), the range of the factor.
        scale: Whether to stretch the values to the range 0 to 255 first.

    Returns:
        A float array with x's shape.

    Raises:
        ValueError: if brightness_range is not two numbers.

    Example:
        >>> from nbkeras.preprocessing.image import random_brightness
        >>> random_brightness(np.ones((2, 2, 3)), (0.5, 1.5)).shape
        (2, 2, 3)
    """
    return apply_brightness_shift(x, np.random.uniform(*_pair(brightness_range, "brightness_range")), scale)


def _pair(values, name: str) -> tuple[float, float]:
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != 2:
        raise ValueError(f"`{name}` should be a tuple or list of two floats. Received: {briefly(values)}")
    return tuple(values)  # type: ignore[return-value]


class ImageDataGenerator:
    """Batches of randomly varied and standardized images; see `flow`, `flow_from_directory` and `flow_from_dataframe`.

    Keras 3 has layers such as `RandomRotation` instead. Random numbers come from NumPy's global generator,
    drawn in Keras's order. Standardization has this order: preprocessing_function, rescale, the sample's mean and
    deviation, the mean and deviation of the data of `fit`, ZCA whitening. (Keras shifts rows by width_shift_range
    and columns by height_shift_range.)

    Args:
        featurewise_center: Whether to subtract the mean of the data of `fit`.
        samplewise_center: Whether to subtract each image's mean.
        featurewise_std_normalization: Whether to divide images by the standard deviation of the data of `fit`.
        samplewise_std_normalization: Whether to divide each image by its standard deviation.
        zca_whitening: Whether to whiten images by the data of `fit`.
        zca_epsilon: A small number that avoids a division by zero in whitening.
        rotation_range: The largest rotation in either direction, in degrees.
        width_shift_range: The largest shift of columns: a fraction of the width below 1, pixels from 1, or a
            list to choose from.
        height_shift_range: The largest shift of rows, in the same forms.
        brightness_range: (low, high), the range of a factor of all pixels; None for no change.
        shear_range: The largest shear in either direction, in degrees.
        zoom_range: (low, high), the range of the zoom (below 1 the image gets larger); or z for 1 - z to 1 + z.
        channel_shift_range: The largest number to add to all pixels, or to subtract.
        fill_mode: How to fill points outside: 'nearest', 'constant', 'reflect' or 'wrap'.
        cval: The value outside for 'constant'.
        horizontal_flip: Whether to mirror each image left to right with probability 1/2.
        vertical_flip: Whether to turn each image upside down with probability 1/2.
        rescale: A factor of all pixels; None for none.
        preprocessing_function: A function of an image, array to array, before rescale; None for none.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        validation_split: The fraction of the images for `subset='validation'`.
        interpolation_order: 0 takes the nearest pixel, 1 interpolates linearly.
        dtype: The dtype of the images; None for `config.floatx()`.

    Raises:
        ValueError: for an unknown data_format, and for invalid ranges and fractions.

    Example:
        >>> from nbkeras.preprocessing.image import ImageDataGenerator
        >>> generator = ImageDataGenerator(rescale=1 / 255, horizontal_flip=True)
        >>> x, y = next(generator.flow(np.full((8, 4, 4, 3), 255.0), np.arange(8), batch_size=4))
        >>> x.shape, x.max().item()
        ((4, 4, 4, 3), 1.0)
    """

    def __init__(
        self,
        featurewise_center: bool = False,
        samplewise_center: bool = False,
        featurewise_std_normalization: bool = False,
        samplewise_std_normalization: bool = False,
        zca_whitening: bool = False,
        zca_epsilon: float = 1e-6,
        rotation_range: float = 0,
        width_shift_range: Any = 0.0,
        height_shift_range: Any = 0.0,
        brightness_range=None,
        shear_range: float = 0.0,
        zoom_range: Any = 0.0,
        channel_shift_range: float = 0.0,
        fill_mode: str = "nearest",
        cval: float = 0.0,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        rescale: float | None = None,
        preprocessing_function=None,
        data_format: str | None = None,
        validation_split: float = 0.0,
        interpolation_order: int = 1,
        dtype=None,
    ):
        self.data_format = data_format or config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                f"`data_format` should be 'channels_last' or 'channels_first'. Received: {briefly(self.data_format)}"
            )
        last = self.data_format == "channels_last"
        self.channel_axis, self.row_axis, self.col_axis = (3, 1, 2) if last else (1, 2, 3)
        if validation_split and not 0 < validation_split < 1:
            raise ValueError(
                f"`validation_split` must be strictly between 0 and 1. Received: {briefly(validation_split)}"
            )
        self._validation_split = validation_split
        if isinstance(zoom_range, int | float | np.number):
            self.zoom_range = [1 - zoom_range, 1 + zoom_range]
        else:
            self.zoom_range = list(_pair(zoom_range, "zoom_range"))
        self.brightness_range = None if brightness_range is None else _pair(brightness_range, "brightness_range")
        self.rotation_range, self.shear_range = rotation_range, shear_range
        self.channel_shift_range = channel_shift_range
        self.width_shift_range, self.height_shift_range = width_shift_range, height_shift_range
        self.fill_mode, self.cval, self.interpolation_order = fill_mode, cval, interpolation_order
        self.horizontal_flip, self.vertical_flip = horizontal_flip, vertical_flip
        self.rescale, self.preprocessing_function = rescale, preprocessing_function
        self.dtype = dtype or config.floatx()
        self.zca_whitening, self.zca_epsilon = zca_whitening, zca_epsilon
        if zca_whitening and featurewise_std_normalization:
            warn("zca_whitening replaces featurewise_std_normalization")
            featurewise_std_normalization = False
        for name, needs, center in (
            ("zca_whitening", zca_whitening, featurewise_center),
            ("featurewise_std_normalization", featurewise_std_normalization, featurewise_center),
            ("samplewise_std_normalization", samplewise_std_normalization, samplewise_center),
        ):
            if needs and not center:
                kind = name.split("_")[0].replace("zca", "featurewise")
                warn(f"{name} implies {kind}_center=True")
        self.featurewise_center = featurewise_center or zca_whitening or featurewise_std_normalization
        self.samplewise_center = samplewise_center or samplewise_std_normalization
        self.featurewise_std_normalization = featurewise_std_normalization
        self.samplewise_std_normalization = samplewise_std_normalization
        self.mean: Any = None
        self.std: Any = None
        self.zca_whitening_matrix: Array | None = None

    # -------------------- batches --------------------

    def flow(
        self,
        x,
        y=None,
        batch_size: int = 32,
        shuffle: bool = True,
        sample_weight=None,
        seed: int | None = None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        ignore_class_split: bool = False,
        subset: str | None = None,
    ) -> NumpyArrayIterator:
        """Batches of an array of images.

        Args:
            x: An array of four axes; or [images, other arrays ...], whose other arrays stay unchanged.
            y: The targets; None for batches of images only.
            batch_size: The number of images per batch.
            shuffle: Whether to shuffle the images in each epoch.
            sample_weight: Weights of the samples, or None.
            seed: NumPy's global generator is seeded with seed + (batches so far) before each batch; None does
                not seed it.
            save_to_dir: A folder for the varied images; None does not save them.
            save_prefix: The start of their file names.
            save_format: The ending of their file names.
            ignore_class_split: Whether training and validation subsets may have different classes.
            subset: 'training' or 'validation', by validation_split; None for all.

        Returns:
            A NumpyArrayIterator of x, (x, y) or (x, y, sample_weight), without end.

        Example:
            >>> from nbkeras.preprocessing.image import ImageDataGenerator
            >>> generator = ImageDataGenerator(rescale=1 / 255, horizontal_flip=True)
            >>> x, y = next(generator.flow(np.full((4, 8, 8, 3), 255.0), np.arange(4), batch_size=2))
            >>> x.shape, x.max().item(), y.shape
            ((2, 8, 8, 3), 1.0, (2,))
        """
        given = option.given(locals())
        return NumpyArrayIterator(image_data_generator=self, data_format=self.data_format, dtype=self.dtype, **given)

    def flow_from_directory(self, directory, *args, **kwargs) -> DirectoryIterator:
        """Batches of the images in a folder's subfolders, one subfolder per class; needs pillow.

        Args:
            directory: The folder.
            *args: The arguments of DirectoryIterator from target_size on, without data_format and dtype.
            **kwargs: The same by name.

        Returns:
            A DirectoryIterator.
        """
        names = "target_size color_mode classes class_mode batch_size shuffle seed save_to_dir save_prefix save_format "
        names += "follow_links subset interpolation keep_aspect_ratio"
        return DirectoryIterator(directory, self, **self._arguments(names, args, kwargs))

    def flow_from_dataframe(self, dataframe, directory=None, *args, **kwargs) -> DataFrameIterator:
        """Batches of the images named in a pandas table; needs pillow.

        Args:
            dataframe: The table.
            directory: The folder of the files; None if the names are complete paths.
            *args: The arguments of DataFrameIterator from x_col on, without data_format, keep_aspect_ratio and
                dtype.
            **kwargs: The same by name.

        Returns:
            A DataFrameIterator.
        """
        names = "x_col y_col weight_col target_size color_mode classes class_mode batch_size shuffle seed save_to_dir "
        names += "save_prefix save_format subset interpolation validate_filenames"
        return DataFrameIterator(dataframe, directory, self, **self._arguments(names, args, kwargs))

    def _arguments(self, names: str, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of an iterator by name: positional and keyword arguments, and attributes of the generator."""
        places = names.split()
        if len(args) > len(places) or set(places[: len(args)]) & set(kwargs):
            raise TypeError(f"expected each of these once: {', '.join(places)}, received {args} and {kwargs}")
        own = {"data_format": self.data_format, "dtype": self.dtype}
        return own | dict(zip(places, args, strict=False)) | kwargs

    # -------------------- one image --------------------

    def vary(self, x: Array) -> Array:
        """Vary an image at random and standardize it.

        Args:
            x: An array of one image.
        """
        return self.standardize(self.random_transform(x))

    def standardize(self, x: Array) -> Array:
        """Apply preprocessing_function, rescale, centering, scaling and whitening.

        Args:
            x: An array of one image or several; it may be changed.

        Returns:
            An array with x's shape.
        """
        if self.preprocessing_function is not None:
            x = self.preprocessing_function(x)
        if self.rescale:
            x *= self.rescale
        if self.samplewise_center:
            x -= np.mean(x, keepdims=True)
        if self.samplewise_std_normalization:
            x /= np.std(x, keepdims=True) + 1e-6
        for wanted, fitted in (
            ("featurewise_center", "mean"),
            ("featurewise_std_normalization", "std"),
            ("zca_whitening", "zca_whitening_matrix"),
        ):
            if getattr(self, wanted) and getattr(self, fitted) is None:
                warn(f"{wanted} has no effect before `fit(images)` is called")
        if self.featurewise_center and self.mean is not None:
            x -= self.mean
        if self.featurewise_std_normalization and self.std is not None:
            x /= self.std + 1e-6
        if self.zca_whitening and self.zca_whitening_matrix is not None:
            x = (x.reshape(-1, math.prod(x.shape[-3:])) @ self.zca_whitening_matrix).reshape(x.shape)
        return x

    def get_random_transform(self, img_shape: tuple[int, ...], seed: int | None = None) -> dict[str, Any]:
        """Random parameters for `apply_transform`.

        Args:
            img_shape: The shape of the image.
            seed: The seed of NumPy's global generator; None does not seed it.

        Returns:
            A dict.
        """
        if seed is not None:
            np.random.seed(seed)
        theta = np.random.uniform(-self.rotation_range, self.rotation_range) if self.rotation_range else 0
        ty = _shift(self.height_shift_range, img_shape[self.row_axis - 1])
        tx = _shift(self.width_shift_range, img_shape[self.col_axis - 1])
        shear = np.random.uniform(-self.shear_range, self.shear_range) if self.shear_range else 0
        zx, zy = (1, 1) if self.zoom_range == [1, 1] else np.random.uniform(self.zoom_range[0], self.zoom_range[1], 2)
        flip_horizontal = (np.random.random() < 0.5) * self.horizontal_flip
        flip_vertical = (np.random.random() < 0.5) * self.vertical_flip
        reach = self.channel_shift_range
        affine = {"theta": theta, "tx": tx, "ty": ty, "shear": shear, "zx": zx, "zy": zy}
        return affine | {
            "flip_horizontal": flip_horizontal,
            "flip_vertical": flip_vertical,
            "channel_shift_intensity": np.random.uniform(-reach, reach) if reach else None,
            "brightness": None if self.brightness_range is None else np.random.uniform(*self.brightness_range),
        }

    def apply_transform(self, x: Array, transform_parameters: dict[str, Any]) -> Array:
        """Transform an image.

        Args:
            x: An array of one image.
            transform_parameters: A dict of theta, tx, ty, shear, zx, zy, flip_horizontal, flip_vertical,
                channel_shift_intensity and brightness; each is optional.

        Returns:
            An array with x's shape.
        """
        get = transform_parameters.get
        row, column, channel = self.row_axis - 1, self.col_axis - 1, self.channel_axis - 1
        theta, tx, ty, shear = (get(name, 0) for name in ("theta", "tx", "ty", "shear"))
        zx, zy = get("zx", 1), get("zy", 1)
        how = (self.fill_mode, self.cval, self.interpolation_order)
        x = apply_affine_transform(x, theta, tx, ty, shear, zx, zy, row, column, channel, *how)
        shift, brightness = get("channel_shift_intensity"), get("brightness")
        if shift is not None:
            x = apply_channel_shift(x, shift)
        if get("flip_horizontal", False):
            x = np.flip(x, column)
        if get("flip_vertical", False):
            x = np.flip(x, row)
        if brightness is not None:
            x = apply_brightness_shift(x, brightness, False, self.data_format)
        return x

    def random_transform(self, x: Array, seed: int | None = None) -> Array:
        """Vary an image at random.

        Args:
            x: An array of one image.
            seed: The seed of NumPy's global generator; None does not seed it.

        Returns:
            An array with x's shape.
        """
        return self.apply_transform(x, self.get_random_transform(x.shape, seed))

    # -------------------- statistics --------------------

    def fit(self, x, augment: bool = False, rounds: int = 1, seed: int | None = None) -> None:
        """Compute the mean, the deviation and the whitening matrix of images.

        Args:
            x: An array of four axes.
            augment: Whether to use varied copies of the images.
            rounds: The number of copies of each image.
            seed: The seed of NumPy's global generator; None does not seed it.

        Raises:
            ValueError: for the wrong number of axes.

        Example:
            >>> from nbkeras.preprocessing.image import ImageDataGenerator
            >>> generator = ImageDataGenerator(featurewise_center=True)
            >>> generator.fit(np.full((4, 8, 8, 1), 3.0))
            >>> generator.standardize(np.full((8, 8, 1), 5.0)).max().item()
            2.0
        """
        x = np.array(x, self.dtype)
        if x.ndim != 4:
            raise ValueError(f"Input to `.fit()` should have rank 4. Got array with shape: {x.shape}")
        warn_of_channels(x.shape, self.data_format)
        if seed is not None:
            np.random.seed(seed)
        if self.rescale:
            x *= self.rescale
        if augment:
            x = np.stack([self.random_transform(image) for _ in range(rounds) for image in x]).astype(self.dtype)
        axes = (0, self.row_axis, self.col_axis)
        if self.featurewise_center:
            self.mean = np.mean(x, axes, keepdims=True)[0]
            x = x - self.mean
        if self.featurewise_std_normalization:
            self.std = np.std(x, axes, keepdims=True)[0]
            x = x / (self.std + 1e-6)
        if self.zca_whitening:
            flat = x.reshape(len(x), -1)
            u, s, _ = (part.numpy() for part in ops.svd(flat.T, full_matrices=False))
            self.zca_whitening_matrix = (u * (np.sqrt(len(x)) / (s + self.zca_epsilon))) @ u.T


def _shift(reach: Any, size: int) -> float:
    """A random shift in pixels; reach: a fraction of the size (below 1), a number of pixels, or a list to choose from."""
    if not np.any(reach):
        return 0
    if np.ndim(reach) == 0 and not (isinstance(reach, int | np.integer) and reach > 0):
        moved = np.random.uniform(-reach, reach)
    else:  # NumPy's choice: from a list, or from the integers below a number
        moved = np.random.choice(reach) * np.random.choice([-1, 1])
    return moved * size if np.max(reach) < 1 else moved


_lazy_names.attach(globals())
