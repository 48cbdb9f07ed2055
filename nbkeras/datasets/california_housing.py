"""California housing: 20,640 districts with 8 features and the median price of each."""

import os

import numpy as np

from nbkeras.datasets.origin import FOLDER, Split, fetch, split_shuffled
from nbkeras.engine import lazy_names as _lazy_names
from nbkeras.engine.annotations import one_of

ORIGIN = FOLDER + "california_housing.npz"
SHA256 = "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
_SMALL = 600


def load_data(
    version: str = "large",
    path: str | os.PathLike = "california_housing.npz",
    test_split: float = 0.2,
    seed: int = 113,
) -> tuple[Split, Split]:
    """20,640 districts of California with 8 features, and the median price of houses in each.

    Downloaded once, checked each time.

    Args:
        version: 'large' for all districts, 'small' for the first 600.
        path: The file's path in the folder `datasets` of the cache (KERAS_HOME or ~/.keras), or an absolute
            path.
        test_split: The fraction of the districts for testing, from 0 up to 1 (exclusive).
        seed: The seed for shuffling the districts before the split.

    Returns:
        (x_train, y_train), (x_test, y_test): arrays (n, 8) and (n,).

    Raises:
        ConnectionError: if the download fails. See `utils.get_file` for other errors.
        ValueError: for an unknown version.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.california_housing.load_data("small")  # doctest: +SKIP
    """
    one_of("load_data", "version", version, ("large", "small"))
    rows = slice(None if version == "large" else _SMALL)
    with np.load(fetch(path, ORIGIN, SHA256), allow_pickle=False) as arrays:
        return split_shuffled(arrays["x"][rows], arrays["y"][rows], test_split, seed)


_lazy_names.attach(globals())
