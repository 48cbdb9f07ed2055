"""Weights, gradients and steps of real Keras's optimizers: optimizer_steps.npz, which make_optimizers.py writes."""

import json
from pathlib import Path

import numpy as np

from nbkeras import optimizers

with np.load(Path(__file__).with_suffix(".npz")) as file:
    REFERENCE = dict(file)
SPEC = json.loads(str(REFERENCE["cases"]))
SHAPES = [tuple(shape) for shape in SPEC["shapes"]]


def split(flat, dtype=np.float32):
    """The arrays of SHAPES that a flat array holds."""
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    return [p.reshape(s).astype(dtype) for p, s in zip(np.split(flat, np.cumsum(sizes)[:-1]), SHAPES, strict=True)]


def make(case):
    """The optimizer of a case."""
    name, config = SPEC["optimizers"][case]
    return optimizers.deserialize({"class_name": name, "config": config})
