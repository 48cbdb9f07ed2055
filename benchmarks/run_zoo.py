"""run_zoo.py FRAMEWORK NET: answers each line of its standard input with the seconds of 5 predictions of four images, in JSON.

FRAMEWORK: nbkeras or tf_keras. NET: see zoo.py.
"""

import contextlib
import importlib
import json
import os
import pathlib
import sys
import time
import types

import numpy as np

REPEATS = 5


def keras_of(framework: str) -> types.ModuleType:
    """The framework as the module `keras`, which the packages of nets import."""
    if framework == "nbkeras":
        importlib.import_module("nbkeras").install_as_keras(version=2)
        return importlib.import_module("keras")
    keras = importlib.import_module("tf_keras")
    sys.modules["keras"] = keras
    old = types.ModuleType("keras.utils.generic_utils")
    old.get_custom_objects = keras.utils.get_custom_objects
    keras.utils.generic_utils = sys.modules[old.__name__] = old
    for name in ("backend", "layers", "models", "utils"):
        sys.modules[f"keras.{name}"] = getattr(keras, name)
    return keras


def main() -> None:
    """Answer requests."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "packages"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    framework, name = sys.argv[1:]
    keras = keras_of(framework)
    zoo = importlib.import_module("zoo")
    with contextlib.redirect_stdout(sys.stderr):  # answers are on stdout, and segmentation_models prints
        model, size = zoo.net(name, keras, usual=True)
    x = np.random.default_rng(0).random((4, size, size, 3), np.float32)

    def seconds() -> float:
        start = time.perf_counter()
        model.predict(x, verbose=0)
        return time.perf_counter() - start

    print(json.dumps({"ready": True, "first": seconds()}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": [seconds() for _ in range(REPEATS)]}), flush=True)


if __name__ == "__main__":
    main()
