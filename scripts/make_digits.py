"""Makes nbkeras/datasets/digits.npz from scikit-learn's copy of the UCI optical digits.

Run in an environment that has scikit-learn: `python scripts/make_digits.py`. Images and labels are kept in the order
and with the values of that copy: 1,797 images of 8x8 pixels from 0 to 16.
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

TARGET = pathlib.Path(__file__).parents[1] / "nbkeras" / "datasets" / "digits.npz"


def main() -> None:
    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    if not np.array_equal(images, bunch.images) or images.shape != (1797, 8, 8):
        raise SystemExit("scikit-learn's digits are not the 1,797 images of whole numbers that they were")
    np.savez_compressed(TARGET, images=images, labels=labels)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
