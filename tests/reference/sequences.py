"""Sequences, masks and outputs for tests of recurrent layers and their wrappers."""

import numpy as np

from nbkeras.engine.tensor import Tensor

STEPS = 5


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def make_mask(batch=3):
    """A mask whose first row begins and ends masked."""
    mask = np.random.default_rng(1).random((batch, STEPS)) < 0.6
    mask[0] = [False, False, True, True, False]
    return mask


def value(output):
    """A layer's output, or the list of its outputs, as NumPy arrays."""
    return output.numpy() if isinstance(output, Tensor) else [value(each) for each in output]
