"""The address of Keras's data sets, and the download of their files."""

import json
import os

import numpy as np

from nbkeras.data.downloads import get_file
from nbkeras.engine.annotations import briefly
from nbkeras.engine.outside import ordinary_file

FOLDER = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
Split = tuple[np.ndarray, np.ndarray]


def fetch(path: str | os.PathLike, url: str, file_hash: str | None) -> str:
    """The checked file at `path`, absolute or below the cache's folder `datasets`; raises the same errors as `get_file`."""
    folder, name = os.path.split(os.path.expanduser(os.fspath(path)))
    return get_file(name, url, file_hash=file_hash, cache_subdir=os.path.join("datasets", folder))


def fetch_json(path: str | os.PathLike, url: str, file_hash: str) -> dict[str, int]:
    """The content of a checked JSON file."""
    with open(fetch(path, url, file_hash), encoding="utf-8", opener=ordinary_file) as file:
        return json.load(file)


def split_shuffled(x: np.ndarray, y: np.ndarray, test_split: float, seed: int) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): samples shuffled by the seed; the last fraction test_split is for testing."""
    if not 0 <= test_split < 1:
        raise ValueError(f"test_split must be from 0 up to 1 (exclusive), received {briefly(test_split)}")
    order = shuffled(len(x), seed)
    at = int(len(x) * (1 - test_split))
    return (x[order[:at]], y[order[:at]]), (x[order[at:]], y[order[at:]])


def shuffled(count: int, seed: int) -> np.ndarray:
    """The order of `count` samples that Keras's shuffling gives for this seed."""
    order = np.arange(count)
    np.random.RandomState(seed).shuffle(order)
    return order
