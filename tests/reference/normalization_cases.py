"""Layers and inputs on which normalization.npz compares nbkeras with Keras; used by both sides."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """make(layers module) -> layer; x and mask from a generator; takes: the arguments of the layer's call."""

    make: Callable[[Any], Any]
    shape: tuple[int, ...]
    seed: int
    takes: tuple[str, ...] = ()
    masked: bool = False
    classes: int = 0  # integers below this number instead of floats

    def x(self, rng: np.random.Generator) -> np.ndarray:
        if self.classes:
            return rng.integers(0, self.classes, self.shape).astype("int32")
        return (3 * rng.standard_normal(self.shape) + 5).astype("float32")

    def mask(self, rng: np.random.Generator) -> np.ndarray | None:
        return rng.random(self.shape[:-1]) < 0.6 if self.masked else None


_TRAINING = ("training",)
CASES = {
    "batch": Case(lambda k: k.BatchNormalization(momentum=0.7), (7, 5), 1, _TRAINING),
    "batch_wide": Case(lambda k: k.BatchNormalization(epsilon=1e-2), (4, 6, 4, 3), 2, _TRAINING),
    "batch_first": Case(lambda k: k.BatchNormalization(axis=1, center=False), (4, 3, 2, 5), 3, _TRAINING),
    "batch_middle": Case(lambda k: k.BatchNormalization(axis=-2, scale=False), (4, 3, 5), 4, _TRAINING),
    "batch_masked": Case(lambda k: k.BatchNormalization(), (6, 4, 3), 5, _TRAINING, masked=True),
    "batch_renorm": Case(
        lambda k: k.BatchNormalization(momentum=0.7, renorm=True, renorm_momentum=0.6), (7, 5), 13, _TRAINING
    ),
    "batch_renorm_clipped": Case(
        lambda k: k.BatchNormalization(
            axis=1, scale=False, renorm=True, renorm_clipping={"rmax": 1.5, "rmin": 0.8, "dmax": 0.5}
        ),
        *((4, 3, 2, 5), 14, _TRAINING),
    ),
    "batch_renorm_masked": Case(
        lambda k: k.BatchNormalization(renorm=True, renorm_clipping={"rmax": 2.0}),
        (6, 4, 3),
        15,
        _TRAINING,
        masked=True,
    ),
    "layer": Case(lambda k: k.LayerNormalization(), (4, 3, 6), 6),
    "layer_axes": Case(lambda k: k.LayerNormalization(axis=[1, 3], scale=False), (2, 3, 4, 5), 7),
    "layer_middle": Case(lambda k: k.LayerNormalization(axis=1, center=False, epsilon=1e-2), (2, 5, 3), 8),
    "layer_rms_scaling": Case(lambda k: k.LayerNormalization(rms_scaling=True), (4, 3, 6), 9),
    "rms": Case(lambda k: k.RMSNormalization(), (4, 3, 6), 10),
    "rms_axes": Case(lambda k: k.RMSNormalization(axis=[1, 2]), (4, 3, 6), 11),
    "embedding": Case(lambda k: k.Embedding(7, 5), (6, 4), 12, classes=7),
}
