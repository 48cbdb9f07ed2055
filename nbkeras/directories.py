"""Data sets of files: a folder for each class, as `image_dataset_from_directory` and its siblings read them."""

import os
import wave
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbkeras import config
from nbkeras.images import img_to_array, load_img
from nbkeras.preprocessing.directory import list_files
from nbkeras.progress import print_message
from nbkeras.selection import Selection

Array = np.ndarray
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


def image_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    color_mode: str = "rgb",
    batch_size: int | None = 32,
    image_size=(256, 256),
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    interpolation: str = "bilinear",
    follow_links: bool = False,
    crop_to_aspect_ratio: bool = False,
    data_format: str | None = None,
    verbose: bool = True,
) -> Any:
    """Batches of (images, labels), or of images: float32, (batch, rows, columns, channels), resized by pillow.

    labels: 'inferred' from the subfolders' names, None, or a list of numbers in the order of the files' paths. label_mode:
    'int', 'categorical' (one-hot), 'binary' (float, (batch, 1)) or None. validation_split and subset: 'training', 'validation'
    or 'both' (two data sets). crop_to_aspect_ratio: cut the middle out instead of distorting. ValueError for arguments that
    do not fit and for a folder without images.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)

    def read(path: str) -> Array:
        with load_img(path, color_mode, size, interpolation, crop_to_aspect_ratio) as image:
            return img_to_array(image, data_format, "float32")

    files = _Files(directory, labels, label_mode, class_names, _IMAGES, follow_links, verbose)
    return files.select(read, batch_size, shuffle, seed, validation_split, subset)


def text_dataset_from_directory(
    directory,
    labels="inferred",
    label_mode: str | None = "int",
    class_names: Sequence[str] | None = None,
    batch_size: int | None = 32,
    max_length: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    validation_split: float | None = None,
    subset: str | None = None,
    follow_links: bool = False,
    verbose: bool = True,
) -> Any:
    """Batches of (texts, labels), or of texts: NumPy arrays of Python strings, of .txt files; arguments as of images.

    max_length: characters kept of each text.
    """

    def read(path: str) -> Any:
        with open(path, encoding="utf-8") as file:
            return file.read(-1 if max_length is None else max_length)

    files = _Files(directory, labels, label_mode, class_names, (".txt",), follow_links, verbose)
    return files.select(read, batch_size, shuffle, seed, validation_split, subset)


def audio_dataset_from_directory(
    directory,
    labels="inferred",
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
    """Batches of (sounds, labels), or of sounds: float32 from -1 to 1, (batch, samples, channels), of 16-bit .wav files.

    output_sequence_length: samples to cut or pad (with zeros) to; None pads to the longest of the batch. The sampling rate is
    left as it is. Other arguments as of images. ValueError for ragged=True and for other kinds of .wav files.
    """
    if ragged:
        raise ValueError("ragged=True: there are no ragged tensors; sounds are padded to the longest of a batch")

    def read(path: str) -> Array:
        with wave.open(path) as file:
            if file.getsampwidth() != 2:
                raise ValueError(f"{path} has {8 * file.getsampwidth()} bits per sample, expected 16")
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        length = len(sound) if output_sequence_length is None else output_sequence_length
        result = np.zeros((length, sound.shape[1]), np.float32)
        result[: len(sound)] = sound[:length] / np.float32(32768)
        return result

    files = _Files(directory, labels, label_mode, class_names, (".wav",), follow_links, verbose)
    return files.select(read, batch_size, shuffle, seed, validation_split, subset)


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
        if label_mode not in ("int", "categorical", "binary", None):
            raise ValueError(f"label_mode must be 'int', 'categorical', 'binary' or None, received {label_mode!r}")
        directory = os.fspath(directory)
        found = list_files(directory, endings, follow_links)
        self.directory = directory
        self.class_names: list[str] | None = None
        self.labels: Array | None = None
        if isinstance(labels, str):
            if labels != "inferred":
                raise ValueError(f"labels must be 'inferred', None or a list of numbers, received {labels!r}")
            folders = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
            if class_names is not None and sorted(class_names) != folders:
                raise ValueError(f"class_names must be the names of the subfolders, {folders}, received {class_names}")
            self.class_names = folders if class_names is None else list(class_names)
            found = [path for path in found if os.sep in path]
            self.labels = np.array([self.class_names.index(path.split(os.sep)[0]) for path in found], np.int32)
        elif labels is not None:
            if len(labels) != len(found):
                raise ValueError(
                    f"labels must have a number for each of the {len(found)} files, received {len(labels)}"
                )
            self.labels = np.asarray(labels, np.int32)
            self.class_names = [str(number) for number in sorted(set(self.labels.tolist()))]
        if not found:
            raise ValueError(f"no files with the endings {', '.join(endings)} in {directory}")
        if label_mode is None:
            self.labels = None
        if label_mode == "binary" and self.labels is not None and len(self.class_names or []) != 2:
            raise ValueError(f"label_mode='binary' needs two classes, received {self.class_names}")
        self.label_mode = label_mode
        self.paths = [os.path.join(directory, path) for path in found]
        if verbose:
            known = "" if self.labels is None else f" belonging to {len(self.class_names or [])} classes"
            print_message(f"Found {len(found)} files{known}.")

    def select(
        self, read: Callable[[str], Any], batch_size: int | None, shuffle: bool, seed: Any, fraction: Any, subset: Any
    ) -> Any:
        """The data set, or the two of subset='both'."""
        if (fraction is None) != (subset is None) or subset not in (None, "training", "validation", "both"):
            raise ValueError(
                "validation_split and subset ('training', 'validation' or 'both') belong together, received "
                f"{fraction!r} and {subset!r}"
            )
        if fraction is not None and not 0 < fraction < 1:
            raise ValueError(f"validation_split must be between 0 and 1, received {fraction!r}")
        if subset in ("training", "validation") and shuffle and seed is None:
            raise ValueError("with shuffle and a subset give a seed, so that the two subsets have no file in common")
        seed = config.next_seed() % 2**32 if seed is None else seed
        rows = np.arange(len(self.paths))
        if shuffle:
            rows = np.random.RandomState(seed).permutation(rows)
        at = len(rows) if fraction is None else len(rows) - int(fraction * len(rows))
        parts = {"training": rows[:at], "validation": rows[at:]}
        names = ["training", "validation"] if subset == "both" else [subset or "training"]
        made = []
        for name in names:
            if not len(parts[name]):
                raise ValueError(f"validation_split={fraction} of {len(rows)} files leaves none for {name}")
            each = Selection(self._taker(read), parts[name], batch_size, shuffle and name == "training", seed)
            each.class_names = self.class_names
            each.file_paths = [self.paths[row] for row in parts[name]]
            made.append(each)
        return made if subset == "both" else made[0]

    def _taker(self, read: Callable[[str], Any]) -> Callable[[Array], Any]:
        def take(rows: Array) -> Any:
            x = read(self.paths[rows]) if np.ndim(rows) == 0 else _stack([read(self.paths[row]) for row in rows])
            return x if self.labels is None else (x, self._targets(self.labels[rows]))

        return take

    def _targets(self, numbers: Array) -> Array:
        if self.label_mode == "categorical":
            return np.eye(len(self.class_names or []), dtype=np.float32)[numbers]
        return numbers[..., None].astype(np.float32) if self.label_mode == "binary" else numbers


def _stack(items: list) -> Array:
    """One array of texts, or of arrays that may differ in length (then with zeros at their ends)."""
    if isinstance(items[0], str):
        return np.array(items, object)
    longest = max(len(item) for item in items)
    batch = np.zeros((len(items), longest, *items[0].shape[1:]), items[0].dtype)
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = item
    return batch
