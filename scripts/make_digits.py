"""Make nbkeras/datasets/digits.npz from scikit-learn's copy of the UCI optical digits.

Run it in an environment with scikit-learn: `python scripts/make_digits.py`. Images and labels keep the order and the values
of that copy: 1,797 images of 8x8 pixels from 0 to 16.
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits

TARGET = pathlib.Path(__file__).parents[1] / "nbkeras" / "datasets" / "digits.npz"


def main() -> None:
    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    if not np.array_equal(images, bunch.images) or images.shape != (1797, 8, 8):
        raise SystemExit("scikit-learn's digits have changed: they are not 1,797 images of 8x8 integers")
    np.savez_compressed(TARGET, images=images, labels=labels)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
