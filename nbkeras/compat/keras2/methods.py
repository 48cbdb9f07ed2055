"""Methods and attributes of Keras 2's classes that the current classes lack.

`keras2.install` sets the members of each class here on the nbkeras class of the same name until its stack is closed. A
method that replaces another one calls it by the name that this module imports.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.building import module
from nbkeras.compat.keras2 import compiled, updates
from nbkeras.engine import structures
from nbkeras.training import model


def _in_numpy(method: Callable) -> Callable:
    """The method, which returns NumPy's numbers of 32 bits, as Keras 2 did, instead of Python's."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return structures.map_leaves(np.float32, method(self, *args, **kwargs))

    return call


class Model(compiled.Model):
    """Members of Model."""

    test_on_batch = _in_numpy(model.Model.test_on_batch)
    train_on_batch = _in_numpy(model.Model.train_on_batch)

    def fit_generator(self, generator, steps_per_epoch=None, epochs=1, verbose=1, *args, **kwargs):
        """Only Keras 2 has this method: use `fit`, which takes a generator or Sequence."""
        kwargs.update(zip(_AFTER_VERBOSE, args, strict=False))
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, verbose=verbose, **kwargs)  # type: ignore

    def evaluate_generator(self, generator, steps=None, callbacks=None, *args, verbose=0, **kwargs):
        """Only Keras 2 has this method: use `evaluate`, which takes a generator or Sequence."""
        return self.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose, **kwargs)  # type: ignore

    def predict_generator(self, generator, steps=None, callbacks=None, *args, verbose=0, **kwargs):
        """Only Keras 2 has this method: use `predict`, which takes a generator or Sequence."""
        return self.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose, **kwargs)  # type: ignore

    def _make_train_function(self) -> None:
        """Make the optimizer's state, which may then be read and written; a step is recorded at its first batch."""
        if self.optimizer is not None and not self.optimizer.built:  # type: ignore[attr-defined]
            self.optimizer.build(self.trainable_weights)  # type: ignore[attr-defined]

    def _make_predict_function(self) -> None:
        """Do nothing: a step is recorded at its first batch, in any thread."""


_AFTER_VERBOSE = (
    "callbacks validation_data validation_steps validation_freq class_weight max_queue_size workers use_multiprocessing "
    "shuffle initial_epoch"
).split()


class Sequential:
    """Members of Sequential."""

    def predict_proba(self, x, batch_size=None, verbose=0):
        """Only Keras 2 has this method: use `predict`."""
        return self.predict(x, batch_size=batch_size, verbose=verbose)  # type: ignore[attr-defined]

    def predict_classes(self, x, batch_size=None, verbose=0) -> np.ndarray:
        """Only Keras 2 has this method: use `predict(x).argmax(-1)`, or `predict(x) > 0.5` if there is one output."""
        outputs = self.predict(x, batch_size=batch_size, verbose=verbose)  # type: ignore[attr-defined]
        return outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype("int32")


_add_weight, _add_loss = module.Module.add_weight, module.Module.add_loss
_found: Any = vars(module.Module)


class _OwnWeights(list):
    """A layer's own weights of one kind. What is appended becomes a weight of the layer."""

    def __init__(self, layer: Any, trainable: bool):
        super().__init__(each for each in layer._weights if each.declared_trainable == trainable)
        self._add = functools.partial(_add_variables, layer, trainable)

    def append(self, variable: Any) -> None:
        self.extend([variable])

    def extend(self, variables: Any) -> None:
        super().extend(variables)
        self._add(variables)

    def __iadd__(self, variables: Any) -> "_OwnWeights":  # type: ignore[override,misc]
        self.extend(variables)
        return self


def _add_variables(layer: Any, trainable: bool, variables: Any) -> None:
    """Make variables weights of a layer, unless they are."""
    for each in variables:
        each.trainable = each.declared_trainable = trainable
        if all(each is not known for known in layer._weights):
            layer._weights.append(each)


def _assignable(found: Any, trainable: bool) -> property:
    """A property with a list of weights. Assigning a list to it adds weights."""

    return property(found, lambda self, variables: _add_variables(self, trainable, variables))


class Module:
    """Members of every layer."""

    trainable_weights = _assignable(_found["trainable_weights"].fget, True)
    non_trainable_weights = _assignable(_found["non_trainable_weights"].fget, False)
    _trainable_weights = _assignable(lambda self: _OwnWeights(self, True), True)
    _non_trainable_weights = _assignable(lambda self: _OwnWeights(self, False), False)
    updates = _updates = property(lambda self: [])

    def add_update(self, updates, inputs=None) -> None:
        """Only Keras 2 needs this method; it does nothing: use `variable.assign`, which writes immediately."""

    def add_loss(self, losses, inputs=None) -> None:
        """`add_loss` with Keras 2's argument inputs, which has no effect: leave it out."""
        _add_loss(self, losses)  # type: ignore[arg-type]

    def get_losses_for(self, inputs) -> list:
        """Only Keras 2 has this method: use `losses`.

        The result has the losses of the last call; with inputs=None, the losses of the weights' regularizers.
        """
        if inputs is None:
            own = self.trainable_weights  # type: ignore[attr-defined]
            return [v.regularizer(v) for v in own if v.regularizer is not None]
        return [loss for each in self._all_layers() for loss in each._losses]  # type: ignore[attr-defined]

    def add_weight(self, *args, **kwargs) -> Any:
        """`add_weight`, also positional in Keras 2's order (name, shape, dtype, initializer, ...): use keyword arguments."""
        if args and (args[0] is None or isinstance(args[0], str)):
            order = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")
            kwargs, args = {**dict(zip(order, args, strict=False)), **kwargs}, ()
        return _add_weight(self, *args, **kwargs)  # type: ignore[arg-type]


class CallHistory:
    """Members of every layer."""

    inbound_nodes = property(lambda self: self._inbound_nodes)


class SymbolicTensor:
    """Members of symbolic tensors."""

    _keras_shape = property(lambda self: self.shape)
    _keras_history = property(lambda self: (self.node.layer, self.node.number, self.index))


class Node:
    """Members of the nodes of a graph."""

    input_tensors = property(lambda self: self.inputs)
    output_tensors = property(lambda self: structures.flatten(self.outputs))
    outbound_layer = property(lambda self: self.layer)
    inbound_layers = property(lambda self: [each.node.layer for each in self.inputs if each.node is not None])


class Metric:
    """Members of every metric; metrics were layers."""

    stateful = True


class Optimizer:
    """Members of every optimizer."""

    get_gradients = updates.get_gradients
    get_updates = updates.get_updates
