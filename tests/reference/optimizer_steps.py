"""Weights, gradients and steps of real Keras's optimizers: optimizer_steps.npz, which make_optimizers.py writes."""

import json
from pathlib import Path

import numpy as np

from nbkeras import optimizers
from nbkeras.kernels import optimizers as kernels
from nbkeras.kernels.loops.map import Map
from nbkeras.kernels.runtime import device

with np.load(Path(__file__).with_suffix(".npz")) as file:
    REFERENCE = dict(file)
SPEC = json.loads(str(REFERENCE["cases"]))
SHAPES = [tuple(shape) for shape in SPEC["shapes"]]


STEPS = {name: each for name, each in vars(kernels).items() if isinstance(each, Map) and "g" in each.inputs}
CONSTANTS = {
    "momentum": 0.9,
    "rho": 0.9,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-7,
    "l1": 0.1,
    "l2": 0.2,
    "l2_shrinkage": 0.3,
    "beta": 0.4,
    "learning_rate_power": -0.4,
    "warmup_steps": 5.0,
    "nesterov": False,
}


def launch(kernel, w, g, state, known, **constants):
    """Launch a step. known: the one-element arrays that it may read, and the decay; other constants differ from CONSTANTS."""
    values = CONSTANTS | known | constants
    kernels.launch(kernel, w, g, *state, *(values[name] for name in (*kernel.others, *kernel.numbers)))


def split(flat, dtype=np.float32):
    """The arrays of SHAPES that a flat array holds."""
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    return [p.reshape(s).astype(dtype) for p, s in zip(np.split(flat, np.cumsum(sizes)[:-1]), SHAPES, strict=True)]


def make(case):
    """The optimizer of a case."""
    name, config = SPEC["optimizers"][case]
    return optimizers.deserialize({"class_name": name, "config": config})


def runs_python(program):
    """Whether a replay on the CPU calls Python: before it, or for a launch."""
    launches = program.bind().steps
    return device.gpu() is None and (bool(program.before) or any(device.rows_of(*each) is None for each in launches))
