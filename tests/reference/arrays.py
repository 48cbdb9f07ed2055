"""Arrays that tests of several files compute with, and the files of those that scripts made."""

import sys
from pathlib import Path

import numpy as np


def normal(*shape, seed=0, dtype="float64"):
    """Normal numbers that depend on the shape and the seed."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def assert_close(found, expected, **tolerances):
    """Assert that the arrays of a list are close to those of another one."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerances)


def store(name, found):
    """Write arrays by name into a file of this folder, and say by which libraries they were made."""
    path = Path(__file__).with_name(name)
    np.savez_compressed(path, **found)
    numbers = sum(np.size(array) for array in found.values())
    libraries = [sys.modules[each] for each in ("keras", "jax", "tensorflow", "torch") if each in sys.modules]
    made = ", ".join(f"{each.__name__} {each.__version__}" for each in libraries)
    print(f"{path}: {len(found)} arrays, {numbers} numbers, {path.stat().st_size} bytes, by {made}")
