"""Methods and attributes that Keras 2's classes had and today's have not, written with today's.

`keras2.install` sets each class's on the class of that name; what it overrides is called as `super()` would.
"""

from typing import Any

import numpy as np

from nbkeras import module, nest
from nbkeras.backend import control
from nbkeras.compat import backend, model_yaml


class Model:
    """Of every model."""

    def fit_generator(self, generator, steps_per_epoch=None, epochs=1, verbose=1, *args, **kwargs):
        """`fit` of a generator or Sequence."""
        for name, value in zip(_AFTER_VERBOSE, args, strict=False):
            kwargs[name] = value
        return self.fit(generator, steps_per_epoch=steps_per_epoch, epochs=epochs, verbose=verbose, **kwargs)  # type: ignore

    def evaluate_generator(self, generator, steps=None, callbacks=None, *args, verbose=0, **kwargs):
        """`evaluate` of a generator or Sequence."""
        return self.evaluate(generator, steps=steps, callbacks=callbacks, verbose=verbose, **kwargs)  # type: ignore

    def predict_generator(self, generator, steps=None, callbacks=None, *args, verbose=0, **kwargs):
        """`predict` of a generator or Sequence."""
        return self.predict(generator, steps=steps, callbacks=callbacks, verbose=verbose, **kwargs)  # type: ignore

    to_yaml = model_yaml.to_yaml

    def _make_predict_function(self) -> None:
        """Nothing to do: a step is recorded at its first batch, from any thread."""

    _make_train_function = _make_test_function = _make_predict_function


_AFTER_VERBOSE = (
    "callbacks validation_data validation_steps validation_freq class_weight max_queue_size workers use_multiprocessing "
    "shuffle initial_epoch"
).split()


class Sequential:
    """Of a Sequential."""

    def predict_proba(self, x, batch_size=None, verbose=0):
        """`predict`."""
        return self.predict(x, batch_size=batch_size, verbose=verbose)  # type: ignore[attr-defined]

    def predict_classes(self, x, batch_size=None, verbose=0) -> np.ndarray:
        """The most probable class of each sample; of one output, whether it is over a half."""
        outputs = self.predict(x, batch_size=batch_size, verbose=verbose)  # type: ignore[attr-defined]
        return outputs.argmax(axis=-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype("int32")


_add_weight, _add_loss = module.Module.add_weight, module.Module.add_loss


def _assignable(found: Any, trainable: bool) -> property:
    """A list of weights that a layer may also set, to say which of its variables they are."""

    def assign(self, variables) -> None:
        for each in variables:
            each.trainable = each.declared_trainable = trainable
            if all(each is not known for known in self._weights):
                self._weights.append(each)

    return property(found.fget, assign)


class Module:
    """Of every layer."""

    trainable_weights = _assignable(module.Module.trainable_weights, True)
    non_trainable_weights = _assignable(module.Module.non_trainable_weights, False)
    updates = property(lambda self: [])

    def add_update(self, updates, inputs=None) -> None:
        """Nothing: what `K.update` and the like were asked to write is written."""

    def add_loss(self, losses, inputs=None) -> None:
        """`add_loss`; inputs: what the losses depend on, which makes no difference here."""
        _add_loss(self, losses)  # type: ignore[arg-type]

    def get_losses_for(self, inputs) -> list:
        """The losses that the last call added; for None, those of weights."""
        if inputs is None:
            own = self.trainable_weights  # type: ignore[attr-defined]
            return [v.regularizer(v) for v in own if v.regularizer is not None]
        return [loss for each in self._all_layers() for loss in each._losses]  # type: ignore[attr-defined]

    def add_weight(self, *args, **kwargs) -> Any:
        """`add_weight`, also in Keras 2's order: name, shape, dtype, initializer, regularizer, trainable, constraint."""
        if args and (args[0] is None or isinstance(args[0], str)):
            order = ("name", "shape", "dtype", "initializer", "regularizer", "trainable", "constraint")
            kwargs, args = {**dict(zip(order, args, strict=False)), **kwargs}, ()
        return _add_weight(self, *args, **kwargs)  # type: ignore[arg-type]


class CallHistory:
    """Of every layer."""

    inbound_nodes = property(lambda self: self._inbound_nodes)


class SymbolicTensor:
    """Of a tensor of a model that is being described."""

    _keras_shape = property(lambda self: self.shape)
    _keras_history = property(lambda self: (self.node.layer, self.node.number, self.index))


class Node:
    """Of a call of a layer on symbolic tensors."""

    input_tensors = property(lambda self: self.inputs)
    output_tensors = property(lambda self: nest.flatten(self.outputs))
    outbound_layer = property(lambda self: self.layer)
    inbound_layers = property(lambda self: [each.node.layer for each in self.inputs if each.node is not None])


class Metric:
    """Of every metric, which was a layer."""

    stateful = True


class State:
    """Of every optimizer."""

    def get_updates(self, loss=None, params=None, *given) -> list:
        """Updates for `K.function`: a step of the variables `params`. Also as params, constraints, loss, in this order."""
        if given:
            loss, params = given[0], loss
        return [backend.Step(self, control.gradients(loss, params), list(params))]
