"""The digits that are part of nbkeras: 1,797 real handwritten digits, 8x8 pixels, ten classes.

From "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998),
https://doi.org/10.24432/C50P49, licensed CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/); its test set, as
scikit-learn distributes it, stored here as 8-bit numbers by scripts/make_digits.py and otherwise unchanged.
"""

import pathlib

import numpy as np

from nbkeras.engine import lazy_names as _lazy_names

_TEST_EVERY = 6
Split = tuple[np.ndarray, np.ndarray]


def load_data() -> tuple[Split, Split]:
    """1,797 handwritten digits of 8x8 pixels. They are part of nbkeras: nothing is downloaded.

    The split is fixed: in each class, every sixth image in the order of the original file is for testing. This
    gives 1,501 images for training and 296 for testing, with equal shares of the classes. The same people wrote the
    digits of both parts.

    Returns:
        (x_train, y_train), (x_test, y_test): uint8 images (n, 8, 8) with values 0 to 16, and uint8 labels 0 to
        9.

    Example:
        >>> (x_train, y_train), (x_test, y_test) = keras.datasets.digits.load_data()
        >>> x_train.shape, x_test.shape, x_train.max().item()
        ((1501, 8, 8), (296, 8, 8), 16)
    """
    with np.load(pathlib.Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    for_test = np.zeros(len(labels), bool)
    for digit in range(10):
        for_test[np.flatnonzero(labels == digit)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return (images[~for_test], labels[~for_test]), (images[for_test], labels[for_test])


_lazy_names.attach(globals())
