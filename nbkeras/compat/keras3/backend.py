"""Names of Keras 3's internal module `keras.src.backend` in addition to nbkeras.backend's."""

from collections.abc import Callable
from typing import Any

from nbkeras.building import graph
from nbkeras.building.graph import SymbolicTensor as KerasTensor  # noqa: F401
from nbkeras.engine.tensor import Tensor as Tensor
from nbkeras.engine.tensor import Variable as Variable
from nbkeras.ops import is_tensor as is_tensor

KerasVariable = Variable


def get_keras_mask(x: Any) -> Any:
    """The mask of a tensor, or None."""
    return getattr(x, "mask", None)


def set_keras_mask(x: Any, mask: Any) -> None:
    """Set the mask of a tensor."""
    x.mask = mask


def compute_output_spec(fn: Callable, *args: Any, **kwargs: Any) -> Any:
    """The results of a function as symbolic tensors, for symbolic tensors and others; nothing is computed."""
    return graph.infer(fn, args, kwargs)
