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
    """(x_train, y_train), (x_test, y_test): (n, 8) and (n,), shuffled by the seed; version: 'large', or 'small' (600)."""
    one_of("load_data", "version", version, ("large", "small"))
    rows = slice(None if version == "large" else _SMALL)
    with np.load(fetch(path, ORIGIN, SHA256), allow_pickle=False) as arrays:
        return split_shuffled(arrays["x"][rows], arrays["y"][rows], test_split, seed)


_lazy_names.attach(globals())
