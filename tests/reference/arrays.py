"""Arrays that tests of several files compute with."""

import numpy as np


def normal(*shape, seed=0, dtype="float64"):
    """Normal numbers that depend on the shape and the seed."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)
