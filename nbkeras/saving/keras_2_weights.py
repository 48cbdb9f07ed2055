"""Floor 3: weights with another layout in Keras 2: CuDNN layers and older optimizers."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Variable, assign_all
from nbkeras.engine.user_errors import warn
from nbkeras.saving import hdf5

Array = np.ndarray
# layers whose kernels Keras 2.3.1 flips in Theano's files
_FLIPPED = ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "ConvLSTM2DCell")


def arrays(
    group: Any, names: list[str], layer: Any, variables: list[Variable], theano: bool, skip_mismatch: bool
) -> list[tuple[Variable, Array]]:
    """The arrays of these names for a layer's weights. Raises ValueError if they do not fit.

    theano: the file's kernels are for convolutions, nbkeras's for correlations. skip_mismatch: warn about each array of
    another shape, and return the others.
    """
    if len(names) != len(variables):
        raise ValueError(f"it has {len(variables)} weights {[v.shape for v in variables]}, the file {len(names)}")
    flipped = {id(v) for each in layer._all_layers() if type(each).__name__ in _FLIPPED for v in each._own_weights()}
    found: list[tuple[Variable, Array]] = []
    for name, variable in zip(names, variables, strict=True):
        shape = hdf5.array_shape(group, name)
        before = [v.name for v, _ in found[-2:]]
        cudnn = before == ["kernel", "recurrent_kernel"] and _is_cudnn_bias(shape, variable.shape)
        if skip_mismatch and shape != variable.shape and not cudnn:
            warn(f"not loaded: {briefly(name)} has shape {shape} in the file, expected {variable.shape}")
            continue
        array = hdf5.read_array(group, name, shape if cudnn else variable.shape)
        if theano and id(variable) in flipped and array.ndim > 2:
            array = np.flip(array, tuple(range(array.ndim - 2)))
        found.append((variable, array))
        if cudnn:  # the two kernels before it have CuDNN's layout too
            found[-3:] = _from_cudnn(*found[-3:], variable.shape)  # type: ignore[call-arg]
    return found


def _is_cudnn_bias(stored: Any, wanted: tuple) -> bool:
    """Whether a stored bias is CuDNN's. LSTM: two biases of four gates, not their sum; GRU: both biases in one row."""
    if stored is None or len(stored) != 1:
        return False
    lstm = len(wanted) == 1 and stored[0] == 2 * wanted[0]
    return lstm or (len(wanted) == 2 and wanted[0] == 2 and stored[0] == 2 * wanted[1])


def _from_cudnn(kernel: tuple, recurrent: tuple, bias: tuple, shape: tuple) -> list[tuple[Variable, Array]]:
    """Convert CuDNN's arrays. Each gate's kernels are transposed, the input kernel keeps its shape; there are two biases."""
    gates = 4 if len(shape) == 1 else 3

    def by_gate(array: Array, change: Any) -> Array:
        return np.hstack([change(part) for part in np.hsplit(array, gates)])

    own = bias[1].reshape(2, -1)
    return [
        (kernel[0], by_gate(kernel[1], lambda k: k.T.reshape(k.shape, order="F"))),
        (recurrent[0], by_gate(recurrent[1], np.transpose)),
        (bias[0], own.sum(axis=0) if len(shape) == 1 else own),
    ]


def optimizer_arrays(optimizer: Any) -> list[tuple[str, Any]]:
    """(name, array) of an optimizer's state in tf_keras's layout: without the learning rate; SGD always has momenta."""
    left_out = (id(optimizer._learning_rate), id(getattr(optimizer, "_product", None)))
    found = [(v.path, v.numpy()) for v in optimizer.variables if id(v) not in left_out]
    if type(optimizer).__name__ == "SGD" and not optimizer.slots:
        found += [(f"SGD/m/{v.path}", np.zeros(v.shape, v.dtype)) for v in optimizer.trainable_variables]
    return found


def read_optimizer(group: Any, names: list[str], optimizer: Any, variables: list[Variable], new: bool) -> None:
    """Read an optimizer's state. With an unknown layout, warn and keep the optimizer new. new: tf.keras 2.11 or later.

    Keras 3 stores [iteration, learning rate, slots of the first variable, of the second, ...], tf_keras the same without the
    learning rate. Before tf.keras 2.11 the order was [iterations, first slots of all variables, second slots of all, ...]. Keras
    2.3 has Nadam's product after the iterations; before 2.3 RMSprop, Adagrad and Adadelta have no iterations.
    """
    optimizer.build(variables)
    shapes = [hdf5.array_shape(group, name) for name in names]
    slots = [v for v in optimizer.variables if v is not optimizer.iterations and v is not optimizer._learning_rate]
    product = getattr(optimizer, "_product", None)
    slots = [v for v in slots if v is not product]
    if not slots or shapes == [()]:  # plain SGD, or an untrained optimizer
        layouts = [[optimizer.iterations]] if shapes[:1] == [()] else []
    elif new:
        layouts = [optimizer.variables, [optimizer.iterations, *slots]]
    else:
        count = len(variables)
        names_of_slots = dict.fromkeys(name for _, name in optimizer._slots)
        by_name = [slot for kind in names_of_slots for (_, name), slot in optimizer._slots.items() if name == kind]
        layouts = [[optimizer.iterations, *by_name], by_name, optimizer.variables]
        if product is not None:
            layouts.append([optimizer.iterations, product, *by_name])
        if shapes[-count:] == [(1,)] * count and len(shapes) == 1 + len(by_name) + count:  # no amsgrad in Keras 2.3.1
            shapes = shapes[:-count]
    for layout in layouts:
        if shapes == [v.shape for v in layout] or not slots:
            values = [(v, hdf5.read_array(group, n, v.shape)) for v, n in zip(layout, names, strict=False)]
            assign_all(values)
            if product is not None:  # Nadam's product, which Keras 2 defines differently
                steps = np.arange(1, int(optimizer.iterations) + 1)
                product.assign(np.prod(optimizer.beta_1 * (1 - 0.5 * 0.96**steps)))
            return
    warn(
        f"the file's optimizer state, {len(names)} arrays, has an unknown layout: the optimizer starts from the beginning"
    )
