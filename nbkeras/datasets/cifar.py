"""The loader shared by CIFAR-10 and CIFAR-100: archives of pickled batches."""

import os

import numpy as np

from nbkeras import config
from nbkeras.data.downloads import get_file
from nbkeras.datasets import plain_pickle
from nbkeras.datasets.origin import Split


def load_parts(
    name: str, origin: str, file_hash: str, parts: tuple[list[str], list[str]], label_key: str
) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test) from the files of an archive.

    Images are uint8 in the configured data format, (n, 32, 32, 3) or (n, 3, 32, 32); labels are uint8 (n, 1).
    """
    archive = f"{name}-target"
    folder = os.path.join(get_file(archive, origin, file_hash=file_hash, extract=True), name)
    train, test = (_load([os.path.join(folder, file) for file in files], label_key) for files in parts)
    return train, test


def _load(paths: list[str], label_key: str) -> Split:
    batches = [plain_pickle.load(path, encoding="bytes") for path in paths]
    images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch[label_key.encode()] for batch in batches]).astype(np.uint8).reshape(-1, 1)
    return (images.transpose(0, 2, 3, 1) if config.image_data_format() == "channels_last" else images), labels
