"""Write images.npz: what real Keras's layers of images give for image_cases.py.

KERAS_BACKEND=jax python tests/reference/make_images.py
"""

import keras
import numpy as np
from arrays import store
from image_cases import CASES


def main() -> None:
    saved = {
        name: np.asarray(getattr(keras.layers, kind)(**arguments)(inputs))
        for name, (kind, arguments, inputs) in CASES.items()
    }
    store("images.npz", saved)


if __name__ == "__main__":
    main()
