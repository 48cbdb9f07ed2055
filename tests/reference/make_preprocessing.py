"""Write preprocessing.npz: what real Keras's preprocessing layers give for preprocessing_cases.py.

KERAS_BACKEND=tensorflow python tests/reference/make_preprocessing.py
"""

import keras
import numpy as np
from arrays import store
from preprocessing_cases import CASES


def main() -> None:
    saved = {}
    for name, (kind, arguments, data, inputs) in CASES.items():
        layer = getattr(keras.layers, kind)(**arguments)
        if data is not None:
            layer.adapt(data)
        found = np.asarray(layer(inputs))
        if found.dtype == object:  # texts
            found = np.array([text.decode() for text in found.ravel()]).reshape(found.shape)
        saved[name] = found
        if hasattr(layer, "get_vocabulary"):
            saved[f"{name} vocabulary"] = np.array(layer.get_vocabulary())
        if kind == "Discretization":
            saved[f"{name} boundaries"] = np.array(layer.bin_boundaries)
    store("preprocessing.npz", saved)


if __name__ == "__main__":
    main()
