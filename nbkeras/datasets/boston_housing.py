"""Boston housing: 506 districts with 13 features and the median price of each."""

import os

import numpy as np

from nbkeras.datasets.origin import FOLDER, Split, fetch, split_shuffled
from nbkeras.engine import lazy_names as _lazy_names

ORIGIN = FOLDER + "boston_housing.npz"
SHA256 = "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"


def load_data(
    path: str | os.PathLike = "boston_housing.npz", test_split: float = 0.2, seed: int = 113
) -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): float64 (n, 13) and (n,), shuffled by the seed; test_split: the test fraction."""
    with np.load(fetch(path, ORIGIN, SHA256), allow_pickle=False) as arrays:
        return split_shuffled(arrays["x"], arrays["y"], test_split, seed)


_lazy_names.attach(globals())
