"""Floor 3: weights as Keras 2 laid them out, where that differs: of CuDNN's layers, and of its older optimizers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from nbkeras.saving import hdf5
from nbkeras.tensor import Variable

Array = np.ndarray


def arrays(group: Any, names: list[str], layer: Any, variables: list[Variable]) -> list[tuple[Variable, Array]]:
    """The arrays of these names for a layer's weights; ValueError where they do not fit."""
    if len(names) != len(variables):
        raise ValueError(f"it has {len(variables)} weights {[v.shape for v in variables]}, the file {len(names)}")
    found = []
    for number, (name, variable) in enumerate(zip(names, variables, strict=True)):
        shape = hdf5.array_shape(group, name)
        cudnn = _is_cudnn_bias(shape, variable.shape) and variable.name == "bias"
        array = hdf5.read_array(group, name, shape if cudnn else variable.shape)
        found.append((variable, array))
        if cudnn:  # the kernels before it are laid out as CuDNN wants them, too
            found[number - 2 :] = _from_cudnn(found[number - 2], found[number - 1], found[number], variable.shape)
    return found


def _is_cudnn_bias(stored: Any, wanted: tuple) -> bool:
    """LSTM: two biases of four gates in place of their sum; GRU: its two in one row."""
    if stored is None or len(stored) != 1:
        return False
    lstm = len(wanted) == 1 and stored[0] == 2 * wanted[0]
    return lstm or (len(wanted) == 2 and wanted[0] == 2 and stored[0] == 2 * wanted[1])


def _from_cudnn(kernel: tuple, recurrent: tuple, bias: tuple, shape: tuple) -> list[tuple[Variable, Array]]:
    """CuDNN keeps each gate's kernels transposed (the inputs' in the shape of the other), and two biases."""
    gates = 4 if len(shape) == 1 else 3

    def each(array: Array, change: Any) -> Array:
        return np.hstack([change(part) for part in np.hsplit(array, gates)])

    own = bias[1].reshape(2, -1)
    return [
        (kernel[0], each(kernel[1], lambda k: k.T.reshape(k.shape, order="F"))),
        (recurrent[0], each(recurrent[1], np.transpose)),
        (bias[0], own.sum(axis=0) if len(shape) == 1 else own),
    ]


def read_optimizer(group: Any, names: list[str], optimizer: Any, variables: list[Variable]) -> None:
    """An optimizer's state; a layout that is not known leaves it new, with a warning.

    Keras 2.11 and later, and Keras 3, keep [step count, learning rate, slots of the first variable, of the second, ...];
    before it was [step count, first slots of all variables, second slots of all, ...].
    """
    optimizer.build(variables)
    shapes = [hdf5.array_shape(group, name) for name in names]
    own = optimizer.variables
    slots = [v for v in own if v is not optimizer.iterations and v is not optimizer._learning_rate]
    several = len(slots) // len(variables) if variables else 0
    by_slot = [slot for first in range(several) for slot in slots[first::several]]
    for layout in (own, [optimizer.iterations, *by_slot], [optimizer.iterations, *slots]):
        if shapes == [v.shape for v in layout] and (layout is own or not _names_rate(names)):
            for variable, value in [
                (v, hdf5.read_array(group, n, v.shape)) for v, n in zip(layout, names, strict=True)
            ]:
                variable.assign(value)
            return
    warnings.warn(
        f"the file's optimizer state, {len(names)} arrays, is laid out in a way that is not known: the optimizer starts anew",
        stacklevel=5,
    )


def _names_rate(names: list[str]) -> bool:
    return any("learning_rate" in name for name in names)
