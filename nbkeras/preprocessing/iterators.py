"""Batches of images that an ImageDataGenerator varies: from arrays, folders, and tables of file names."""

import os
import threading
import types
from collections.abc import Iterator as Yields
from typing import Any, NamedTuple

import numpy as np

from nbkeras import config
from nbkeras.data.directories import list_classes, list_folders
from nbkeras.data.images import COLOR_MODES, array_to_img, img_to_array, load_img
from nbkeras.data.pydataset import PyDataset
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly
from nbkeras.engine.progress import print_message
from nbkeras.engine.user_errors import warn

Array = np.ndarray


class Iterator(PyDataset):
    """Batches of samples, by index (`iterator[i]`) or one after another without end.

    Subclasses define `_get_batches_of_transformed_samples(index_array)`.

    Args:
        n: The number of samples.
        batch_size: The number of samples per batch.
        shuffle: Whether to shuffle the samples in each epoch.
        seed: NumPy's global generator is seeded with seed + (batches so far) before each batch, as in Keras;
            None does not seed it.

    Example:
        >>> from nbkeras.preprocessing.image import Iterator
        >>> class Rows(Iterator):
        ...     def _get_batches_of_transformed_samples(self, index_array):
        ...         return index_array
        >>> rows = Rows(5, 2, False, None)
        >>> [next(rows).tolist() for _ in range(4)]
        [[0, 1], [2, 3], [4], [0, 1]]
    """

    white_list_formats = ("png", "jpg", "jpeg", "bmp", "ppm", "tif", "tiff")

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int | None, **kwargs):
        super().__init__(**kwargs)
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.batch_index = self.total_batches_seen = 0
        self.lock = threading.Lock()
        self.index_array: Array | None = None
        self.index_generator = self._flow_index()

    def _flow_index(self) -> Yields[Array]:
        """The row indices of one batch after another, without end."""
        while True:
            index = self.batch_index
            self.batch_index = (index + 1) % max(len(self), 1)
            yield self._rows(index, anew=index == 0)

    def _set_index_array(self) -> Array:
        self.index_array = np.random.permutation(self.n) if self.shuffle else np.arange(self.n)
        return self.index_array

    def _rows(self, index: int, anew: bool) -> Array:
        """The row indices of a batch."""
        if self.seed is not None:
            np.random.seed(self.seed + self.total_batches_seen)
        self.total_batches_seen += 1
        order = self._set_index_array() if anew or self.index_array is None else self.index_array
        return order[self.batch_size * index : self.batch_size * (index + 1)]

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise ValueError(f"asked for batch {index} of an iterator with {len(self)} batches")
        return self._get_batches_of_transformed_samples(self._rows(index, anew=False))

    def __iter__(self) -> Yields[Any]:
        return self

    def __next__(self) -> Any:
        """The next batch; after the last batch it starts again."""
        with self.lock:  # the code after it may run in several threads
            rows = next(self.index_generator)
        return self._get_batches_of_transformed_samples(rows)

    next = __next__

    def on_epoch_end(self) -> None:
        """Choose a new order, with shuffle."""
        self._set_index_array()

    def state_dict(self) -> dict[str, Any]:
        """The order and the position, for `BackupAndRestore`."""
        return {name: getattr(self, name) for name in ("index_array", "batch_index", "total_batches_seen")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position.

        Args:
            state: The result of `state_dict`.
        """
        vars(self).update(state)

    def reset(self) -> None:
        """Restart with the first batch."""
        self.batch_index = 0

    def _get_batches_of_transformed_samples(self, index_array: Array) -> Any:
        raise NotImplementedError(
            f"{type(self).__name__} must define _get_batches_of_transformed_samples(self, index_array)"
        )


class _Saving(NamedTuple):
    """The folder and the file names for saving images of batches; without a folder they are not saved."""

    folder: str | None
    prefix: str
    ending: str

    def write(self, images: Array, rows: Array, data_format: str) -> None:
        if self.folder:
            for image, row in zip(images, rows, strict=True):
                name = f"{self.prefix}_{row}_{np.random.randint(10**7)}.{self.ending}"
                array_to_img(image, data_format, scale=True).save(os.path.join(self.folder, name))


class NumpyArrayIterator(Iterator):
    """Batches x, (x, y) or (x, y, sample_weight) from an array of images; an ImageDataGenerator varies them.

    `ImageDataGenerator.flow` makes it.

    Args:
        x: An array of four axes; or [images, other arrays ...], whose other arrays stay unchanged.
        y: The targets; None for batches of images only.
        image_data_generator: The ImageDataGenerator.
        batch_size: The number of images per batch.
        shuffle: Whether to shuffle the images in each epoch.
        sample_weight: Weights of the samples, or None.
        seed: NumPy's global generator is seeded with seed + (batches so far) before each batch; None does not
            seed it.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        save_to_dir: A folder for the varied images; None does not save them.
        save_prefix: The start of their file names.
        save_format: The ending of their file names.
        subset: 'training' or 'validation', by the generator's validation_split; None for all.
        ignore_class_split: Whether the subsets may have different classes.
        dtype: The dtype of the images; None for `config.floatx()`.

    Raises:
        ValueError: for arrays that do not match, an unknown subset, and subsets with different classes.

    Example:
        >>> from nbkeras.preprocessing.image import ImageDataGenerator, NumpyArrayIterator
        >>> iterator = NumpyArrayIterator(np.ones((6, 4, 4, 3)), np.arange(6), ImageDataGenerator(), batch_size=4)
        >>> len(iterator), iterator[1][1]
        (2, array([4, 5]))
    """

    def __init__(
        self,
        x,
        y,
        image_data_generator,
        batch_size: int = 32,
        shuffle: bool = False,
        sample_weight=None,
        seed: int | None = None,
        data_format: str | None = None,
        save_to_dir: str | None = None,
        save_prefix: str = "",
        save_format: str = "png",
        subset: str | None = None,
        ignore_class_split: bool = False,
        dtype=None,
    ):
        self.dtype = dtype or config.floatx()
        self.data_format = data_format or config.image_data_format()
        others: list = []
        if isinstance(x, list | tuple):
            others = [np.asarray(array) for array in (x[1] if isinstance(x[1], list) else [x[1]])]
            x = x[0]
        if any(len(array) != len(x) for array in others):
            lengths = [len(x), *map(len, others)]
            raise ValueError(f"All of the arrays in `x` should have the same length, received {lengths} rows")
        for name, array in (("`y` (labels)", y), ("`sample_weight`", sample_weight)):
            if array is not None and len(array) != len(x):
                raise ValueError(
                    f"`x` (images tensor) and {name} should have the same length, received {len(x)} and {len(array)} rows"
                )
        part = _part(subset, len(x), image_data_generator)
        if subset is not None and y is not None and not ignore_class_split:
            at = int(len(x) * image_data_generator._validation_split)
            if not np.array_equal(np.unique(y[:at]), np.unique(y[at:])):
                raise ValueError(
                    "Training and validation subsets have different classes after the split: if the arrays are sorted by "
                    "label, shuffle them first"
                )
        self.x = np.asarray(x[part], self.dtype)
        self.x_misc = [array[part] for array in others]
        self.y = None if y is None else np.asarray(y)[part]
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight)[part]
        if self.x.ndim != 4:
            raise ValueError(
                f"NumpyArrayIterator expects images of rank 4, (samples, rows, columns, channels), received {self.x.shape}"
            )
        warn_of_channels(self.x.shape, self.data_format)
        self.image_data_generator = image_data_generator
        self._saving = _Saving(save_to_dir, save_prefix, save_format)
        super().__init__(len(self.x), batch_size, shuffle, seed)

    def _get_batches_of_transformed_samples(self, index_array: Array) -> Any:
        images = np.zeros((len(index_array), *self.x.shape[1:]), self.dtype)
        for place, row in enumerate(index_array):
            images[place] = self.image_data_generator.vary(self.x[row].copy())
        self._saving.write(images, index_array, self.data_format)
        x: Any = [images, *(array[index_array] for array in self.x_misc)] if self.x_misc else images
        if self.y is None:
            return x
        given = (self.y,) if self.sample_weight is None else (self.y, self.sample_weight)
        return (x, *(array[index_array] for array in given))


class FileIterator(Iterator):
    """Batches of images read from files: the base class of DirectoryIterator and DataFrameIterator.

    class_mode is the kind of targets: 'categorical' (rows of 0 and 1, for class numbers or lists of them), 'binary', 'sparse',
    'input', 'raw', 'multi_output' or None. filenames are relative to `directory`.
    """

    def __init__(
        self,
        filenames: list[str],
        labels: Any,
        class_indices: dict[str, int] | None,
        given: dict[str, Any],
        sample_weight: Array | None = None,
    ):
        """given: the arguments of a subclass by name."""
        how = types.SimpleNamespace(**given)
        if how.color_mode not in COLOR_MODES:
            raise ValueError(f"Invalid color mode: {briefly(how.color_mode)}, expected one of {sorted(COLOR_MODES)}")
        self.directory, self.filenames = how.directory or "", filenames
        self.filepaths = [os.path.join(self.directory, name) for name in filenames]
        self.labels, self.sample_weight, self.class_mode = labels, sample_weight, how.class_mode
        if class_indices is not None:
            self.class_indices, self.num_classes, self.classes = class_indices, len(class_indices), labels
        self.image_data_generator = how.image_data_generator
        self._saving = _Saving(how.save_to_dir, how.save_prefix, how.save_format)
        self.target_size, self.color_mode = (how.target_size[0], how.target_size[1]), how.color_mode
        self.data_format = how.data_format or config.image_data_format()
        self.interpolation, self.keep_aspect_ratio = how.interpolation, how.keep_aspect_ratio
        self.dtype = how.dtype or config.floatx()
        channels = (len(COLOR_MODES[how.color_mode]),)
        channels_first = self.data_format == "channels_first"
        self.image_shape = channels + self.target_size if channels_first else self.target_size + channels
        self.samples = len(filenames)
        super().__init__(self.samples, how.batch_size, how.shuffle, how.seed)

    def _get_batches_of_transformed_samples(self, index_array: Array) -> Any:
        images = np.zeros((len(index_array), *self.image_shape), self.dtype)
        for place, row in enumerate(index_array):
            with load_img(
                self.filepaths[row], self.color_mode, self.target_size, self.interpolation, self.keep_aspect_ratio
            ) as image:
                pixels = img_to_array(image, self.data_format)
            images[place] = pixels if self.image_data_generator is None else self.image_data_generator.vary(pixels)
        self._saving.write(images, index_array, self.data_format)
        if self.class_mode is None:
            return images
        targets = self._targets(images, index_array)
        return (images, targets) if self.sample_weight is None else (images, targets, self.sample_weight[index_array])

    def _targets(self, images: Array, index_array: Array) -> Any:
        if self.class_mode == "input":
            return images.copy()
        if self.class_mode == "multi_output":
            return [labels[index_array] for labels in self.labels]
        if self.class_mode == "raw":
            return self.labels[index_array]
        numbers = [self.labels[row] for row in index_array]
        if self.class_mode != "categorical":
            return np.array(numbers, self.dtype)
        rows = np.zeros((len(numbers), self.num_classes), self.dtype)
        for row, number in zip(rows, numbers, strict=True):
            row[number] = 1
        return rows


class DirectoryIterator(FileIterator):
    """Batches of the images in a folder's subfolders, one subfolder per class.

    `ImageDataGenerator.flow_from_directory` makes it.

    Args:
        directory: The folder.
        image_data_generator: An ImageDataGenerator that varies the images; None for none.
        target_size: (rows, columns) to resize to.
        color_mode: 'rgb', 'rgba' or 'grayscale'.
        classes: The subfolders to use, in this order; None for all, sorted.
        class_mode: 'categorical' (one-hot rows), 'binary' and 'sparse' (numbers), 'input' (the images), or None
            for no targets.
        batch_size: The number of images per batch.
        shuffle: Whether to shuffle the images in each epoch.
        seed: NumPy's global generator is seeded with seed + (batches so far) before each batch; None does not
            seed it.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        save_to_dir: A folder for the varied images; None does not save them.
        save_prefix: The start of their file names.
        save_format: The ending of their file names.
        follow_links: Whether to follow links to folders.
        subset: 'training' or 'validation', by the generator's validation_split; None for all.
        interpolation: The method of resizing, as in `load_img`.
        keep_aspect_ratio: Whether to crop to the target's aspect ratio before resizing.
        dtype: The dtype of the images; None for `config.floatx()`.

    Raises:
        ValueError: for an unknown class_mode, color_mode or subset.

    Example:
        >>> import os
        >>> for name in ("cats", "dogs"):
        ...     os.makedirs(f"pets/{name}")
        ...     keras.utils.save_img(f"pets/{name}/0.png", np.ones((8, 8, 3)))
        >>> from nbkeras.preprocessing.image import DirectoryIterator
        >>> x, y = DirectoryIterator("pets", None, target_size=(4, 4), shuffle=False)[0]
        Found 2 images belonging to 2 classes.
        >>> x.shape, y
        ((2, 4, 4, 3), array([[1., 0.],
               [0., 1.]], dtype=float32))
    """

    def __init__(
        self,
        directory,
        image_data_generator,
        target_size=(256, 256),
        color_mode="rgb",
        classes=None,
        class_mode="categorical",
        batch_size=32,
        shuffle=True,
        seed=None,
        data_format=None,
        save_to_dir=None,
        save_prefix="",
        save_format="png",
        follow_links=False,
        subset=None,
        interpolation="nearest",
        keep_aspect_ratio=False,
        dtype=None,
    ):
        given = option.given(locals())
        _check_mode(class_mode, ("categorical", "binary", "sparse", "input", None))
        names = list(classes or list_folders(directory))
        filenames, labels = list_classes(
            directory,
            names,
            self.white_list_formats,
            follow_links,
            lambda count: _part(subset, count, image_data_generator),
        )
        print_message(f"Found {len(labels)} images belonging to {len(names)} classes.")
        super().__init__(filenames, labels, {name: number for number, name in enumerate(names)}, given)


class DataFrameIterator(FileIterator):
    """Batches of the images named in a pandas table; `ImageDataGenerator.flow_from_dataframe` makes it.

    Args:
        dataframe: The table.
        directory: The folder of the files; None if the names are complete paths.
        image_data_generator: An ImageDataGenerator that varies the images; None for none.
        x_col: The column with the names of files.
        y_col: The column with the labels; with class_mode 'multi_output' a list of columns.
        weight_col: The column with weights of the samples; None for none.
        target_size: (rows, columns) to resize to.
        color_mode: 'rgb', 'rgba' or 'grayscale'.
        classes: The labels to use, in this order; None for all, sorted.
        class_mode: 'categorical' (one-hot rows for labels or lists of labels), 'binary' and 'sparse' (numbers for
            labels), 'raw' (the column's values), 'multi_output' (a list of columns' values), 'input' (the
            images), or None for no targets.
        batch_size: The number of images per batch.
        shuffle: Whether to shuffle the images in each epoch.
        seed: NumPy's global generator is seeded with seed + (batches so far) before each batch; None does not
            seed it.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        save_to_dir: A folder for the varied images; None does not save them.
        save_prefix: The start of their file names.
        save_format: The ending of their file names.
        subset: 'training' or 'validation', by the generator's validation_split; None for all.
        interpolation: The method of resizing, as in `load_img`.
        keep_aspect_ratio: Whether to crop to the target's aspect ratio before resizing.
        dtype: The dtype of the images; None for `config.floatx()`.
        validate_filenames: Whether to skip files that are not images, with a warning.

    Raises:
        TypeError: for columns of the wrong type.
        ValueError: for an unknown class_mode, color_mode or subset.

    Example:
        >>> import pandas
        >>> keras.utils.save_img("cat.png", np.ones((8, 8, 3)))
        >>> table = pandas.DataFrame({"filename": ["cat.png"], "class": ["cat"]})
        >>> from nbkeras.preprocessing.image import DataFrameIterator
        >>> x, y = DataFrameIterator(table, target_size=(4, 4))[0]
        Found 1 validated image filenames belonging to 1 classes.
        >>> x.shape, y
        ((1, 4, 4, 3), array([[1.]], dtype=float32))
    """

    def __init__(
        self,
        dataframe,
        directory=None,
        image_data_generator=None,
        x_col="filename",
        y_col="class",
        weight_col=None,
        target_size=(256, 256),
        color_mode="rgb",
        classes=None,
        class_mode="categorical",
        batch_size=32,
        shuffle=True,
        seed=None,
        data_format=None,
        save_to_dir=None,
        save_prefix="",
        save_format="png",
        subset=None,
        interpolation="nearest",
        keep_aspect_ratio=False,
        dtype=None,
        validate_filenames=True,
    ):
        given = option.given(locals())
        _check_mode(class_mode, ("binary", "categorical", "input", "multi_output", "raw", "sparse", None))
        names = list(dataframe[x_col])
        _check_texts(names, x_col, str)
        kept = np.ones(len(names), bool)
        if validate_filenames:
            kept = _are_images([os.path.join(directory or "", each) for each in names], self.white_list_formats, x_col)
        indices, labels = None, None
        if class_mode in ("binary", "categorical", "sparse"):
            indices, labels = _numbered(list(dataframe[y_col][kept]), y_col, classes, class_mode)
            kept[kept] = [number is not None for number in labels]
            labels = [number for number in labels if number is not None]
        rows = np.flatnonzero(kept)
        part = _part(subset, len(rows), image_data_generator)
        rows = rows[part]
        labels = _columns(dataframe, y_col, class_mode, rows) if labels is None else labels[part]
        weights = None if weight_col is None else dataframe[weight_col].to_numpy()[rows]
        if weights is not None and weights.dtype.kind not in "fiu":
            raise TypeError(f"the column weight_col={briefly(weight_col)} must hold numbers, received {weights.dtype}")
        known = "" if indices is None else f" belonging to {len(indices)} classes"
        print_message(f"Found {len(rows)} {'' if validate_filenames else 'non-'}validated image filenames{known}.")
        super().__init__([names[row] for row in rows], labels, indices, given, weights)


def _are_images(paths: list[str], endings: tuple[str, ...], column: str) -> np.ndarray:
    """Whether each path is an existing file with the ending of an image; warns if some are not."""
    found = np.array([path.lower().endswith(endings) and os.path.isfile(path) for path in paths], bool)
    if not found.all():
        warn(f"{np.sum(~found)} of the files named in {briefly(column)} are not images: they are skipped")
    return found


def _columns(dataframe: Any, y_col: Any, class_mode: str | None, rows: np.ndarray) -> Any:
    """The labels in rows of a table for class_mode 'multi_output' (a list) and 'raw' (an array); None for other modes."""
    if class_mode == "multi_output":
        if not isinstance(y_col, list | tuple):
            raise TypeError(f"class_mode='multi_output' needs a list of columns as y_col, received {briefly(y_col)}")
        return [np.array(list(dataframe[name]))[rows] for name in y_col]
    return dataframe[y_col].to_numpy()[rows] if class_mode == "raw" else None


def warn_of_channels(shape: tuple[int, ...], data_format: str) -> None:
    """Warn if the channels axis of images has an unusual size: the data format may be wrong."""
    channels = shape[3 if data_format == "channels_last" else 1]
    if channels not in (1, 3, 4):
        warn(f"images have 1, 3 or 4 channels; these, of shape {shape}, have {channels} with {data_format=}")


def _part(subset: str | None, samples: int, generator: Any) -> slice:
    """The samples of a subset; the first part, of size validation_split, is for validation."""
    if subset not in ("training", "validation", None):
        raise ValueError(f"Invalid subset name: {briefly(subset)}, expected 'training' or 'validation'")
    if subset is None:
        return slice(None)
    at = int(samples * generator._validation_split)
    return slice(0, at) if subset == "validation" else slice(at, None)


def _check_mode(class_mode: Any, allowed: tuple) -> None:
    if class_mode not in allowed:
        raise ValueError(f"Invalid class_mode: {briefly(class_mode)}, expected one of {allowed}")


def _check_texts(values: list, column: Any, kinds: Any) -> None:
    for value in values:
        if not isinstance(value, kinds):
            raise TypeError(f"the values of column {briefly(column)} must be strings, received {briefly(value)}")


def _numbered(values: list, column: Any, classes: Any, class_mode: str) -> tuple[dict[str, int], list]:
    """(class -> number, each row's class number). A row with a list gets a list of numbers, a row without a known class None."""
    sequence = list | tuple
    _check_texts(values, column, str | sequence if class_mode == "categorical" else str)
    given = {name for value in values for name in (value if isinstance(value, sequence) else [value])}
    indices = {name: number for number, name in enumerate(dict.fromkeys(classes or sorted(given)))}
    if class_mode == "binary" and len(indices) != 2:
        raise ValueError(f"class_mode='binary' needs two classes, received {list(indices)}")
    numbers = [
        [indices[name] for name in value if name in indices] or None
        if isinstance(value, sequence)
        else indices.get(value)
        for value in values
    ]
    return indices, numbers
