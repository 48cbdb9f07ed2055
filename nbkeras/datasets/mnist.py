"""MNIST: 70,000 handwritten digits of 28x28 pixels, downloaded as Keras's own mnist.npz."""

import os

import numpy as np

from nbkeras.datasets.origin import FOLDER, Split, fetch
from nbkeras.engine import lazy_names as _lazy_names

ORIGIN = FOLDER + "mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def load_data(path: str | os.PathLike = "mnist.npz") -> tuple[Split, Split]:
    """70,000 handwritten digits of 28x28 pixels. Downloaded once, checked each time.

    Args:
        path: The file's path in the folder `datasets` of the cache (KERAS_HOME or ~/.keras), or an absolute
            path.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 images (60000, 28, 28) and (10000, 28, 28) with values 0 to
        255, and uint8 labels 0 to 9.

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()  # doctest: +SKIP
    """
    with np.load(fetch(path, ORIGIN, SHA256), allow_pickle=False) as arrays:
        return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


_lazy_names.attach(globals())
