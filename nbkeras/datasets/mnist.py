"""MNIST: 70,000 handwritten digits of 28x28 pixels, downloaded as Keras's own mnist.npz."""

import os

import numpy as np

from nbkeras.downloads import get_file

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
Split = tuple[np.ndarray, np.ndarray]


def load_data(path: str | os.PathLike = "mnist.npz") -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8 images (60000, 28, 28) and (10000, 28, 28), 0 to 255; uint8 labels.

    path: the file's place in the cache's folder `datasets` (KERAS_HOME or ~/.keras), or an absolute path. It is
    downloaded once, and checked each time. Errors are those of `utils.get_file`.
    """
    folder, name = os.path.split(os.path.expanduser(os.fspath(path)))
    file = get_file(name, ORIGIN, file_hash=SHA256, cache_subdir=os.path.join("datasets", folder))
    with np.load(file, allow_pickle=False) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])
