"""CIFAR-100: 60,000 colour images of 32x32 pixels, 100 classes in 20 groups."""

from nbkeras.datasets import cifar
from nbkeras.datasets.origin import Split
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import one_of

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


def load_data(label_mode: str = "fine") -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test) as for CIFAR-10; label_mode: 'fine' for classes, 'coarse' for their groups."""
    one_of("load_data", "label_mode", label_mode, ("fine", "coarse"))
    return cifar.load_parts("cifar-100-python", ORIGIN, SHA256, (["train"], ["test"]), f"{label_mode}_labels")


_lazy_names.attach(globals())
