"""Write images.npz: what real Keras's layers of images give for image_cases.py.

KERAS_BACKEND=jax python tests/reference/make_images.py
"""

import pathlib

import keras
import numpy as np
from image_cases import CASES

OUT = pathlib.Path(__file__).with_name("images.npz")


def main() -> None:
    saved = {
        name: np.asarray(getattr(keras.layers, kind)(**arguments)(inputs))
        for name, (kind, arguments, inputs) in CASES.items()
    }
    np.savez_compressed(OUT, **saved)
    print(f"{OUT}: {OUT.stat().st_size} bytes, Keras {keras.__version__} on {keras.backend.backend()}")


if __name__ == "__main__":
    main()
