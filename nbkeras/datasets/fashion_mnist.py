"""Fashion-MNIST: 70,000 images of clothes, 28x28 pixels, ten classes."""

import gzip
import zlib

import numpy as np

from nbkeras.datasets.origin import FOLDER, Split, fetch
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.outside import ordinary_file

ORIGIN = FOLDER


def load_data() -> tuple[Split, Split]:
    """70,000 images of clothes, 28x28 pixels, ten classes. Downloaded once.

    Keras publishes no hashes of these files, so only the shapes are checked.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 images (60000, 28, 28) and (10000, 28, 28) with values 0 to
        255, and uint8 labels 0 to 9.

    Raises:
        ConnectionError: if a download fails.
        ValueError: if a file is damaged.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()  # doctest: +SKIP
    """
    return _part("train"), _part("t10k")


def _part(name: str) -> Split:
    labels = _read(f"{name}-labels-idx1-ubyte.gz", header=8)
    return _read(f"{name}-images-idx3-ubyte.gz", header=16).reshape(len(labels), 28, 28), labels


def _read(name: str, header: int) -> np.ndarray:
    path = fetch(f"fashion-mnist/{name}", ORIGIN + name, None)
    try:
        with open(path, "rb", opener=ordinary_file) as packed, gzip.open(packed) as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to download it again") from error


_lazy_names.attach(globals())
