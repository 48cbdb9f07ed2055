"""Makes tests/packages/data/bayesflow.npz: outputs of networks of BayesFlow that real Keras computes.

Run it where Keras, TensorFlow and BayesFlow are installed, and nbkeras is not needed:

    KERAS_BACKEND=tensorflow python scripts/make_bayesflow_reference.py
"""

import importlib.util
import pathlib

import numpy as np

PACKAGES = pathlib.Path(__file__).parents[1] / "tests" / "packages"

spec = importlib.util.spec_from_file_location("bayesflow_check", PACKAGES / "bayesflow_check.py")
check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check)
np.savez_compressed(PACKAGES / "data" / "bayesflow.npz", **check.results())
