"""CIFAR-10: 60,000 colour images of 32x32 pixels, ten classes."""

from nbkeras.datasets import cifar
from nbkeras.datasets.origin import Split
from nbkeras.engine import lazy_names as _lazy_names

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def load_data() -> tuple[Split, Split]:
    """60,000 colour images of 32x32 pixels, ten classes. Downloaded once, checked each time.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 images (50000, 32, 32, 3) and (10000, 32, 32, 3), and uint8
        labels (n, 1). With the data format 'channels_first' images are (n, 3, 32, 32).

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()  # doctest: +SKIP
    """
    parts = ([f"data_batch_{i}" for i in range(1, 6)], ["test_batch"])
    return cifar.load_parts("cifar-10-batches-py", ORIGIN, SHA256, parts, "labels")


_lazy_names.attach(globals())
