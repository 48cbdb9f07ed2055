"""Make tests/packages/data/zoo.npz: the outputs of nets of packages for Keras 2, computed by tf_keras.

pip install tensorflow-cpu tf_keras scikit-image h5py
pip install --no-deps keras-applications==1.0.8 image-classifiers==1.0.0 efficientnet==1.1.1 segmentation-models==1.0.1
python scripts/make_zoo_references.py
"""

import pathlib
import sys
import types

import numpy as np
import tf_keras

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "packages"


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    sys.modules["keras"] = tf_keras  # the packages import Keras 2
    for name in ("backend", "layers", "models", "utils"):
        sys.modules[f"keras.{name}"] = getattr(tf_keras, name)
    old = types.ModuleType("keras.utils.generic_utils")
    old.get_custom_objects = tf_keras.utils.get_custom_objects
    tf_keras.utils.generic_utils = sys.modules[old.__name__] = old
    import zoo

    found = {}
    for name in zoo.NAMES:
        found[name] = zoo.outputs(name, tf_keras).astype("float32")
        tf_keras.backend.clear_session()
        print(name, found[name][0, :3], flush=True)
    np.savez_compressed(FOLDER / "data" / "zoo.npz", **found)


if __name__ == "__main__":
    main()
