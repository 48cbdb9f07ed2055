"""Data sets of files with a folder for each class: images, texts and sounds."""

import os
import wave
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nbkeras import config, ops
from nbkeras.data.encoding import pad_sequences
from nbkeras.data.images import COLOR_MODES, decoded, img_to_array, load_img, reading
from nbkeras.data.selection import Selection
from nbkeras.engine import option
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.devices import device
from nbkeras.engine.outside import ordinary_file
from nbkeras.engine.progress import print_message
from nbkeras.ops.resize import INTERPOLATIONS

Array = np.ndarray
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def image_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size: int | Sequence[int] = (256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Batches of the images in a folder, with labels from its subfolders; needs pillow.

    Args:
        directory: The folder, with a subfolder for each class. Files: .bmp, .gif, .jpeg, .jpg, .png.
        labels: 'inferred' from the subfolders' names (without hidden ones), None, or a list of numbers in the
            order of the files' paths.
        label_mode: 'int', 'categorical' (one-hot), 'binary' (floats (batch, 1)), or None for no labels and all
            files below the folder.
        class_names: The subfolders to use, in this order; None for all, sorted.
        color_mode: 'rgb', 'rgba' or 'grayscale'.
        batch_size: The number of images per batch; None for single images.
        image_size: (height, width) to resize to, or one number for both.
        shuffle: Whether to shuffle the images in each epoch; otherwise they are sorted by path.
        seed: An integer for the same order in each run.
        validation_split: The fraction of the images for validation; needs subset.
        subset: 'training', 'validation', or 'both' for two data sets.
        interpolation: The method of resizing, as in `ops.image.resize`.
        follow_links: Whether to follow links to folders.
        crop_to_aspect_ratio: Whether to crop images to keep their aspect ratio.
        pad_to_aspect_ratio: Whether to pad images to keep their aspect ratio.
        data_format: 'channels_last', 'channels_first', or None for the configured one.
        format: 'tf' for the pixels that TensorFlow's decoders give, 'grain' for pillow's; batches are NumPy arrays.
        verbose: Whether the number of files is printed.

    Returns:
        A data set of batches (images, labels), or of images: float32 (batch, height, width, channels), from 0
        to 255. It has the attributes class_names and file_paths, and the methods take, skip, map and batch.

    Raises:
        ValueError: for invalid arguments, and for a folder without images.

    Example:
        >>> import os
        >>> for name in ("cats", "dogs"):
        ...     os.makedirs(f"pets/{name}")
        ...     for i in range(3):
        ...         keras.utils.save_img(f"pets/{name}/{i}.png", np.random.rand(8, 8, 3))
        >>> data = keras.utils.image_dataset_from_directory("pets", image_size=(4, 4), batch_size=6)
        Found 6 files belonging to 2 classes.
        >>> images, labels = data[0]
        >>> images.shape, sorted(labels.tolist()), data.class_names
        ((6, 4, 4, 3), [0, 0, 0, 1, 1, 1], ['cats', 'dogs'])
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or interpolation not in INTERPOLATIONS or (crop_to_aspect_ratio and pad_to_aspect_ratio):
        raise ValueError(
            f"expected image_size (height, width), interpolation one of {', '.join(INTERPOLATIONS)} and at most one way to "
            f"keep the ratio, received {briefly(size)}, {briefly(interpolation)}, crop_to_aspect_ratio="
            f"{briefly(crop_to_aspect_ratio)}, pad_to_aspect_ratio={briefly(pad_to_aspect_ratio)}"
        )
    one_of("image_dataset_from_directory", "color_mode", color_mode, COLOR_MODES)
    options = (interpolation, False, crop_to_aspect_ratio, pad_to_aspect_ratio)

    def read(path: str) -> Array:
        image = load_img(path, color_mode) if format == "grain" else decoded(path, color_mode)
        pixels = img_to_array(image, data_format, "float32")
        with device("cpu"):
            return ops.image.resize(pixels, size, *options, data_format=data_format).numpy()

    files = _Files(directory, labels, label_mode, class_names, _IMAGES, follow_links, verbose)
    return files.select(read, batch_size, shuffle, seed, validation_split, subset)


def text_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    format: str = "tf",
    verbose: bool = True,
) -> Any:
    """Batches of the texts in a folder, with labels from its subfolders.

    Args:
        directory: The folder, with a subfolder for each class. Files: .txt, in UTF-8.
        labels: 'inferred' from the subfolders' names (without hidden ones), None, or a list of numbers in the
            order of the files' paths.
        label_mode: 'int', 'categorical' (one-hot), 'binary' (floats (batch, 1)), or None for no labels and all
            files below the folder.
        class_names: The subfolders to use, in this order; None for all, sorted.
        batch_size: The number of texts per batch; None for single texts.
        max_length: The number of characters to keep of each text; None for all.
        shuffle: Whether to shuffle the texts in each epoch; otherwise they are sorted by path.
        seed: An integer for the same order in each run.
        validation_split: The fraction of the texts for validation; needs subset.
        subset: 'training', 'validation', or 'both' for two data sets.
        follow_links: Whether to follow links to folders.
        format: Accepted and ignored: batches are NumPy arrays.
        verbose: Whether the number of files is printed.

    Returns:
        A data set of batches (texts, labels), or of texts: NumPy arrays of Python strings.

    Raises:
        ValueError: for invalid arguments, and for a folder without texts.

    Example:
        >>> import os, pathlib
        >>> for name in ("bad", "good"):
        ...     os.makedirs(f"films/{name}")
        ...     _ = pathlib.Path(f"films/{name}/0.txt").write_text(f"a {name} film")
        >>> data = keras.utils.text_dataset_from_directory("films", shuffle=False)
        Found 2 files belonging to 2 classes.
        >>> data[0]
        (array(['a bad film', 'a good film'], dtype=object), array([0, 1], dtype=int32))
    """

    def read(path: str) -> Any:
        with reading(path), open(path, encoding="utf-8", newline="", opener=ordinary_file) as file:
            return file.read(-1 if max_length is None else max_length)

    files = _Files(directory, labels, label_mode, class_names, (".txt",), follow_links, verbose)
    return files.select(read, batch_size, shuffle, seed, validation_split, subset)


def audio_dataset_from_directory(
    directory: str | os.PathLike[str],
    labels: Any = "inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    output_sequence_length: int | None = None,
    ragged: bool = False,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """Batches of the sounds in a folder, with labels from its subfolders.

    Args:
        directory: The folder, with a subfolder for each class. Files: .wav with 16 bits per sample.
        labels: 'inferred' from the subfolders' names (without hidden ones), None, or a list of numbers in the
            order of the files' paths.
        label_mode: 'int', 'categorical' (one-hot), 'binary' (floats (batch, 1)), or None for no labels and all
            files below the folder.
        class_names: The subfolders to use, in this order; None for all, sorted.
        batch_size: The number of sounds per batch; None for single sounds.
        output_sequence_length: The number of samples to cut or pad (with zeros) to; None pads to the longest
            sound of a batch.
        ragged: Must be False: there are no ragged tensors.
        shuffle: Whether to shuffle the sounds in each epoch; otherwise they are sorted by path.
        seed: An integer for the same order in each run.
        validation_split: The fraction of the sounds for validation; needs subset.
        subset: 'training', 'validation', or 'both' for two data sets.
        follow_links: Whether to follow links to folders.
        verbose: Whether the number of files is printed.

    Returns:
        A data set of batches (sounds, labels), or of sounds: float32 from -1 to 1, (batch, samples, channels).
        Sounds keep the sampling rate of their files.

    Raises:
        ValueError: for invalid arguments, ragged=True, other kinds of .wav files, and a folder without sounds.

    Example:
        >>> import os, wave
        >>> os.makedirs("sounds/beep")
        >>> with wave.open("sounds/beep/0.wav", "wb") as file:
        ...     file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...     file.writeframes(np.array([0, 16384, -16384], "<i2").tobytes())
        >>> sounds, labels = keras.utils.audio_dataset_from_directory("sounds", verbose=False)[0]
        >>> sounds[0, :, 0], labels
        (array([ 0. ,  0.5, -0.5], dtype=float32), array([0], dtype=int32))
    """
    if option.flag_of("audio_dataset_from_directory", "ragged", ragged):
        raise ValueError("ragged=True: ragged tensors are not supported; sounds are padded to the longest of a batch")

    def read(path: str) -> Array:
        with reading(path), open(path, "rb", opener=ordinary_file) as content, wave.open(content) as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"the file has {8 * file.getsampwidth()} bits per sample, expected 16")
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        length = len(sound) if output_sequence_length is None else output_sequence_length
        result = np.zeros((length, sound.shape[1]), np.float32)
        result[: len(sound)] = sound[:length] / np.float32(32768)
        return result

    files = _Files(directory, labels, label_mode, class_names, (".wav",), follow_links, verbose)
    return files.select(read, batch_size, shuffle, seed, validation_split, subset)


def list_files(folder: str | os.PathLike[str], endings: tuple[str, ...], follow_links: bool = False) -> list[str]:
    """The sorted paths, relative to a folder, of the files below it with one of the endings."""
    return [
        os.path.relpath(os.path.join(root, name), folder)
        for root, _, names in sorted(os.walk(os.fspath(folder), followlinks=follow_links))
        for name in sorted(names)
        if name.lower().endswith(endings)
    ]


def list_classes(
    folder: str | os.PathLike[str],
    names: Iterable[str],
    endings: tuple[str, ...],
    follow_links: bool = False,
    part: Callable[[int], slice] = lambda count: slice(None),
) -> tuple[list[str], Array]:
    """The paths, relative to a folder, of the files in its subfolders `names`, and the index of each file's subfolder.

    part: a function from the number of files in a subfolder to the slice of files to take.
    """
    paths: list[str] = []
    numbers: list[int] = []
    for number, name in enumerate(names):
        found = list_files(os.path.join(folder, name), endings, follow_links)
        found = found[part(len(found))]
        paths += [os.path.join(name, path) for path in found]
        numbers += [number] * len(found)
    return paths, np.array(numbers, np.int32)


def list_folders(folder: str | os.PathLike[str]) -> list[str]:
    """The sorted names of a folder's subfolders."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


class _Files:
    """The files of a folder with their labels."""

    def __init__(
        self,
        directory: Any,
        labels: Any,
        label_mode: str | None,
        class_names: Sequence[str] | None,
        endings: tuple[str, ...],
        follow_links: bool,
        verbose: bool,
    ):
        one_of("a data set of a directory", "label_mode", label_mode, ("int", "categorical", "binary", None))
        if isinstance(labels, str) and labels != "inferred":
            raise ValueError(f"labels must be 'inferred', None or a list of numbers, received {briefly(labels)}")
        directory = os.fspath(directory)
        self.label_mode = label_mode
        self.class_names: list[str] | None = None
        self.labels: Array | None = None
        inferred = isinstance(labels, str) and label_mode is not None
        if class_names is not None and not inferred:
            raise ValueError("class_names are the names of subfolders: they need labels='inferred' and a label_mode")
        if inferred:
            folders = [name for name in list_folders(directory) if not name.startswith(".")]
            self.class_names = folders if class_names is None else list(class_names)
            if not set(self.class_names) <= set(folders):
                raise ValueError(f"class_names must be among the subfolders, {folders}, received {class_names}")
            found, self.labels = list_classes(directory, self.class_names, endings, follow_links)
        else:
            found = list_files(directory, endings, follow_links)
            if labels is not None and label_mode is not None:
                self.labels, self.class_names = _listed(labels, len(found), label_mode)
        if not found:
            raise ValueError(f"no files with the endings {', '.join(endings)} in {directory}")
        if label_mode == "binary" and self.class_names is not None and len(self.class_names) != 2:
            raise ValueError(f"label_mode='binary' needs two classes, received {self.class_names}")
        self.paths = [os.path.join(directory, path) for path in found]
        if verbose:
            known = "" if self.class_names is None else f" belonging to {len(self.class_names)} classes"
            print_message(f"Found {len(found)} files{known}.")

    def select(
        self, read: Callable[[str], Any], batch_size: int | None, shuffle: bool, seed: Any, fraction: Any, subset: Any
    ) -> Any:
        """The data set, or a list of two for subset='both'."""
        if (fraction is None) != (subset is None) or subset not in (None, "training", "validation", "both"):
            raise ValueError(
                "validation_split and subset ('training', 'validation' or 'both') belong together, received "
                f"{briefly(fraction)} and {briefly(subset)}"
            )
        if fraction is not None and not 0 < fraction < 1:
            raise ValueError(f"validation_split must be between 0 and 1, received {briefly(fraction)}")
        if subset in ("training", "validation") and shuffle and seed is None:
            raise ValueError("with shuffle and a subset give a seed, so that the two subsets have no file in common")
        seed = config.next_seed() % 2**32 if seed is None else seed
        rows = np.arange(len(self.paths))
        if shuffle:
            rows = np.random.RandomState(seed).permutation(rows)
        at = len(rows) if fraction is None else len(rows) - int(fraction * len(rows))
        parts = {"training": rows[:at], "validation": rows[at:]}
        names = ["training", "validation"] if subset == "both" else [subset or "training"]

        def take(rows: Array) -> Any:
            x = read(self.paths[rows]) if np.ndim(rows) == 0 else _stack([read(self.paths[row]) for row in rows])
            return x if self.labels is None else (x, self._targets(self.labels[rows]))

        datasets = []
        for name in names:
            if not len(parts[name]):
                raise ValueError(f"validation_split={fraction} of {len(rows)} files leaves none for {name}")
            dataset = Selection(take, parts[name], batch_size, shuffle and name == "training", seed)
            dataset.class_names = self.class_names
            dataset.file_paths = [self.paths[row] for row in parts[name]]
            datasets.append(dataset)
        return datasets if subset == "both" else datasets[0]

    def _targets(self, numbers: Array) -> Array:
        if self.label_mode == "categorical":
            return np.eye(len(self.class_names or []), dtype=np.float32)[numbers]
        return numbers[..., None].astype(np.float32) if self.label_mode == "binary" else numbers


def _listed(labels: Any, files: int, label_mode: str) -> tuple[Array, list[str]]:
    """The class numbers of a list of labels, and the class names."""
    if len(labels) != files:
        raise ValueError(f"labels must have a number for each of the {files} files, received {len(labels)}")
    numbers = np.asarray(labels, np.int32)
    names = [str(number) for number in sorted(set(numbers.tolist()))]
    if label_mode == "categorical" and not np.all((numbers >= 0) & (numbers < len(names))):
        raise ValueError(
            f"label_mode='categorical' needs labels from 0 to {len(names) - 1}, received {', '.join(names)}"
        )
    return numbers, names


def _stack(items: list) -> Array:
    """Stack texts or arrays into one array; arrays of different lengths are padded with zeros at their ends."""
    if isinstance(items[0], str):
        return np.array(items, object)
    if len({item.shape[1:] for item in items}) > 1:
        raise ValueError(
            f"the sounds of a batch have different numbers of channels: {sorted({i.shape[1] for i in items})}"
        )
    return pad_sequences(items, dtype=items[0].dtype, padding="post")
