"""CIFAR-100: 60,000 colour images of 32x32 pixels, 100 classes in 20 groups."""

from nbkeras.datasets import cifar
from nbkeras.datasets.origin import Split
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import one_of

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


def load_data(label_mode: str = "fine") -> tuple[Split, Split]:
    """60,000 colour images of 32x32 pixels, 100 classes in 20 groups. Downloaded once, checked each time.

    Args:
        label_mode: 'fine' for class labels, 0 to 99; 'coarse' for group labels, 0 to 19.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 images (50000, 32, 32, 3) and (10000, 32, 32, 3), and uint8
        labels (n, 1). With the data format 'channels_first' images are (n, 3, 32, 32).

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.
        ValueError: for an unknown label_mode.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.cifar100.load_data("coarse")  # doctest: +SKIP
    """
    one_of("load_data", "label_mode", label_mode, ("fine", "coarse"))
    return cifar.load_parts("cifar-100-python", ORIGIN, SHA256, (["train"], ["test"]), f"{label_mode}_labels")


_lazy_names.attach(globals())
