"""Names of the module `keras` of Keras 3 in addition to nbkeras's."""

from typing import Any

from nbkeras.building.layer import Layer as Operation  # noqa: F401 (ops on symbolic tensors, layers and models are layers here)
from nbkeras.models import Model

__version__ = "3.15.1"  # the version that docs/keras-parity.md compares with; packages check it


def version() -> str:
    """The version of Keras 3 whose names and behaviour nbkeras has."""
    return __version__


class Function:
    """Keras 3's `Function`: the outputs of a graph of symbolic tensors as a function of its inputs."""

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None):
        self._model = Model(inputs, outputs, name=name)
        self.name, self.inputs, self.outputs = self._model.name, self._model.inputs, self._model.outputs

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._model(*inputs, **options)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs for a shape of the inputs."""
        return self._model.compute_output_shape(input_shape)
