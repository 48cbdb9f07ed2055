"""Write tests/packages/data/kgcnn.npz and zea.npz: results of real Keras, which the checks of these packages compare with.

    KERAS_BACKEND=tensorflow python scripts/make_package_references_of_graphs.py kgcnn
    KERAS_BACKEND=jax python scripts/make_package_references_of_graphs.py zea

The environment must have Keras 3, the backend and the package. tests/packages/kgcnn_check.py and zea_check.py make the inputs.
"""

import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent.parent / "tests" / "packages"


def kgcnn() -> dict:
    """The outputs of the network of kgcnn's README."""
    import kgcnn_check

    network = kgcnn_check.with_weights(kgcnn_check.network())
    return {"outputs": network.predict(kgcnn_check.graphs(), verbose=0)}


def zea() -> dict:
    """The image of a pipeline."""
    import zea_check

    return {"image": zea_check.image()}


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    name = sys.argv[1]
    np.savez_compressed(FOLDER / "data" / f"{name}.npz", **{"kgcnn": kgcnn, "zea": zea}[name]())
