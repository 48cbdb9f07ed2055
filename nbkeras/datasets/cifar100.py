"""CIFAR-100: 60,000 colour images of 32x32 pixels, 100 classes in 20 groups."""

from nbkeras.datasets import cifar
from nbkeras.datasets.origin import Split
from nbkeras.engine import lazy_names as _lazy_names

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


def load_data(label_mode: str = "fine") -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test) as for CIFAR-10; label_mode: 'fine' for classes, 'coarse' for their groups."""
    if label_mode not in ("fine", "coarse"):
        raise ValueError(f"label_mode must be 'fine' or 'coarse', received {label_mode!r}")
    return cifar.load_parts("cifar-100-python", ORIGIN, SHA256, (["train"], ["test"]), f"{label_mode}_labels")


_lazy_names.attach(globals())
