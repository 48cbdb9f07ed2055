"""Keras 3's internal module `keras.src.layers.preprocessing.data_layer`: the base of layers for data pipelines."""

from typing import Any

from nbkeras import ops, random
from nbkeras.building.layer import Layer
from nbkeras.engine import settings


class _Backend:
    """The functions of a backend of Keras, in modules or directly: those of `keras.ops` and `keras.random`."""

    numpy = core = nn = math = ops
    image, linalg, random = ops.image, ops.linalg, random
    name = _backend = property(lambda self: settings.backend())

    def __getattr__(self, name: str) -> Any:
        return getattr(ops, name)


class DataLayer(Layer, registered=False):
    """A layer that computes with the functions of `self.backend`, in a model or in a data pipeline."""

    backend = _Backend()

    def convert_weight(self, weight: Any) -> Any:
        """The weight: there is one backend."""
        return weight

    def _get_seed_generator(self, backend: Any = None) -> Any:
        """The generator of random numbers that `__init__` made."""
        if not hasattr(self, "generator"):
            raise ValueError(f"{type(self).__name__} must set self.seed and self.generator in __init__ to draw numbers")
        return self.generator
