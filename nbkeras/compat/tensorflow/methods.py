"""Methods of TensorFlow's tensors and data sets, set on nbkeras's classes while `tensorflow` means nbkeras."""

from collections.abc import Callable
from typing import Any

from nbkeras.building.graph import SymbolicTensor
from nbkeras.compat.keras2 import compiled
from nbkeras.compat.tensorflow.arrays import ensure_shape
from nbkeras.compat.tensorflow.data import Dataset, dataset_of
from nbkeras.compat.tensorflow.shapes import TensorShape
from nbkeras.data.selection import Selection
from nbkeras.engine.tensor import Tensor, Variable
from nbkeras.training.model import Model


class _Shaped:
    def get_shape(self) -> TensorShape:
        """The shape, as TensorFlow's type."""
        return TensorShape(self.shape)  # type: ignore[attr-defined]

    def set_shape(self, shape: Any) -> None:
        """Check the shape."""
        ensure_shape(self, shape)


class _OfVariables:
    def read_value(self) -> Tensor:
        """A tensor of the value."""
        return self.value  # type: ignore[attr-defined]


def _method(name: str) -> Callable:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(dataset_of(self), name)(*args, **kwargs)

    call.__name__ = name
    call.__doc__ = getattr(Dataset, name).__doc__
    return call


# Without `batch`: a Selection's own changes the size of its batches.
_NAMES = (
    "apply as_numpy_iterator cache concatenate enumerate filter flat_map interleave map padded_batch prefetch reduce repeat "
    "shard shuffle skip take unbatch window"
).split()
_OfSelections = type("_OfSelections", (), {name: _method(name) for name in _NAMES})

ADDED: dict[type, type] = {
    Tensor: _Shaped,
    Variable: _OfVariables,
    SymbolicTensor: _Shaped,
    Selection: _OfSelections,
    Model: compiled.Model,
}
