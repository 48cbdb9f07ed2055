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
    """506 districts of Boston with 13 features, and the median price of houses in each.

    Downloaded once, checked each time.

    Args:
        path: The file's path in the folder `datasets` of the cache (KERAS_HOME or ~/.keras), or an absolute
            path.
        test_split: The fraction of the districts for testing, from 0 up to 1 (exclusive).
        seed: The seed for shuffling the districts before the split.

    Returns:
        (x_train, y_train), (x_test, y_test): float64 (n, 13) and (n,).

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.boston_housing.load_data()  # doctest: +SKIP
    """
    with np.load(fetch(path, ORIGIN, SHA256), allow_pickle=False) as arrays:
        return split_shuffled(arrays["x"], arrays["y"], test_split, seed)


_lazy_names.attach(globals())
